/* sides.c: the two distributions that are compared: runs, or closed-form fields. */
#include "cli/cli.h"

#include <string.h>

static gboolean
is_run(const char *text)
{
    return strchr(text, ':') == NULL && g_file_test(text, G_FILE_TEST_IS_DIR);
}

/* The field's net as a run of its own; what it does not name comes from `other`, or N(0, I). */
static FmRun *
field_run(const char *spec, const FmRun *other, gint64 dim, GError **error)
{
    g_autoptr(FmConfig) c = fm_config_new();
    g_autoptr(FmPlugin) net = fm_plugin_new(FM_KIND_NET, spec, error);
    static const FmKind kinds[] = {FM_KIND_DATASET, FM_KIND_PATH},
                        tools[] = {FM_KIND_OPTIMIZER, FM_KIND_SOLVER, FM_KIND_BACKEND};

    if (!net)
        return NULL;
    for (size_t i = 0; other && i < G_N_ELEMENTS(tools); i++) /* no plugin is opened that nobody asked for */
        c->spec[tools[i]] = g_strdup(other->config->spec[tools[i]]);
    c->spec[FM_KIND_NET] = g_strdup(spec);
    c->dtype = FM_F64;
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        const FmOption *o = fm_plugin_desc(net)->options;
        const char *own = NULL;

        for (; o && o->name; o++)
            if (o->type == FM_OPTION_PLUGIN && strcmp(o->name, fm_kind_name(kinds[i])) == 0)
                own = *(char *const *)(const void *)((const char *)fm_plugin_self(net) + o->offset);
        if (own)
            continue;
        if (other && other->config->spec[kinds[i]])
            c->spec[kinds[i]] = g_strdup(other->config->spec[kinds[i]]);
        else if (kinds[i] == FM_KIND_DATASET)
            c->spec[kinds[i]] = g_strdup_printf("gaussian:dim=%d", dim > 0 ? (int)dim : 2);
    }
    FmRun *run = fm_run_new(c, error);
    if (!run || !run->params || fm_params_count(run->params) == 0)
        return run;
    g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                "'%s' is a net with weights and nobody has trained them, expected a run or a closed form such as "
                "oracle:dataset=8gaussians,path=ot",
                spec);
    fm_run_free(run);
    return NULL;
}

/* The units of a trained run are those in which its field was learned. */
static void
share_units(FmRun *run, const FmRun *other)
{
    if (other->data.D != run->data.D)
        return;
    memcpy(run->shift, other->shift, run->data.D * sizeof(double));
    memcpy(run->scale, other->scale, run->data.D * sizeof(double));
}

/* A name without options may be a run that is not there. */
static gboolean
is_net(const char *text)
{
    return strchr(text, ':') || (!strchr(text, '/') && fm_registry_find(FM_KIND_NET, text, NULL));
}

static gboolean
missing(const char *text, GError **error)
{
    g_set_error(error, FM_ERROR, FM_ERROR_FILE,
                "'%s' is neither a run directory nor a net with options such as "
                "oracle:dataset=8gaussians,path=ot",
                text);
    return FALSE;
}

gboolean
side_run(Side *side, FmRun *run, int threads, const char *solver, GError **error)
{
    side->run = run;
    side->flow = fm_flow_from_run(run, error);
    if (!side->flow || !fm_flow_set_solver(side->flow, solver, error))
        return FALSE;
    fm_flow_set_threads(side->flow, threads);
    return TRUE;
}

gboolean
side_field(Side *side, const char *spec, const FmRun *other, gint64 dim, int threads, const char *solver,
           GError **error)
{
    FmRun *run = field_run(spec, other, dim, error);

    if (!run)
        return FALSE;
    if (other)
        share_units(run, other);
    return side_run(side, run, threads, solver, error);
}

gboolean
sides_open(Side side[], char *const text[], int n, gint64 dim, int threads, const char *solver, GError **error)
{
    for (int k = 0; k < n; k++) {
        FmRun *run = is_run(text[k]) ? fm_run_load(text[k], error) : NULL;

        if (is_run(text[k]) && (!run || !side_run(&side[k], run, threads, solver, error)))
            return FALSE;
    }
    for (int k = 0; k < n; k++) {
        if (side[k].run)
            continue;
        if (!is_net(text[k]))
            return missing(text[k], error);
        if (!side_field(&side[k], text[k], n > 1 && is_run(text[1 - k]) ? side[1 - k].run : NULL, dim, threads, solver,
                        error))
            return FALSE;
        if (dim > 0 && side[k].run->data.D != (size_t)dim) {
            g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                        "option --dim is %d and the data of '%s' have %zu dimensions, expected the same", (int)dim,
                        text[k], side[k].run->data.D);
            return FALSE;
        }
    }
    return TRUE;
}

void
side_clear(Side *side)
{
    g_clear_pointer(&side->flow, fm_flow_free);
    g_clear_pointer(&side->run, fm_run_free);
}

void
sides_clear(Side side[2])
{
    side_clear(&side[0]);
    side_clear(&side[1]);
}
