/* run.c: one experiment: plugins opened, defaults resolved, data split and standardised. */
#include "flow/run.h"

#include "flow/defaults.h"
#include "flow/loss.h"
#include "flow/state.h"
#include "flow/velocity.h"
#include "graph/node.h"

#include <math.h>
#include <string.h>

enum { RUN_MOMENT_DRAWS = 10000 }; /* rows behind the standardisation of infinite data */

/* ---- splits ---- */

void
fm__run_split(FmRun *run)
{
    const size_t rows = run->data.rows, own = run->data.test_rows;
    const size_t pool = rows - own;

    run->n_valid = pool / 20;
    run->n_test = own > 0 ? own : pool / 20;
    run->n_train = rows - run->n_valid - run->n_test;
}

size_t
fm__run_row(const FmRun *run, FmSplit split, guint64 i)
{
    const size_t own = run->data.test_rows, pool = run->data.rows - own;
    /* The same for every seed: no run may train on what another one holds out. */
    const FmKey key = {.seed = 0, .stream = FM_STREAM_SPLIT};
    guint64 at = i;

    if (split == FM__SPLIT_ALL)
        return (size_t)i;
    if (split == FM__SPLIT_TEST && own > 0)
        return (size_t)(pool + i);
    if (split == FM__SPLIT_VALID)
        at += run->n_train;
    else if (split == FM__SPLIT_TEST)
        at += run->n_train + run->n_valid;
    return (size_t)fm_permute_index(key, pool, at);
}

static FmSplit
run_split_of(const char *name)
{
    return g_str_equal(name, "train")   ? FM__SPLIT_TRAIN
           : g_str_equal(name, "valid") ? FM__SPLIT_VALID
           : g_str_equal(name, "test")  ? FM__SPLIT_TEST
                                        : FM__SPLIT_ALL;
}

size_t
fm_run_split_rows(const FmRun *run, const char *split)
{
    const size_t rows[] = {run->n_train, run->n_valid, run->n_test, run->data.rows};

    return run->data.rows == 0 ? 0 : rows[run_split_of(split)];
}

/* Why there is none: opened once more, to hear it. */
static gboolean
run_no_dataset(const FmRun *run, GError **error)
{
    const char *spec = run->config->spec[FM_KIND_DATASET];
    g_autoptr(FmPlugin) dataset = NULL;
    FmDataInfo info;

    if (spec == NULL) {
        g_set_error_literal(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                            "run: its data set is not known, so no rows can be read");
        return FALSE;
    }
    dataset = fm_plugin_new(FM_KIND_DATASET, spec, error);
    if (dataset != NULL && fm_dataset_open(dataset, &info, error))
        g_set_error(error, FM_ERROR, FM_ERROR_DATA, "dataset '%s' could not be opened before", spec);
    return FALSE;
}

gboolean
fm_run_data(const FmRun *run, const char *split, guint64 first, size_t n, double *x, int *y, GError **error)
{
    const FmPlugin *dataset = run->plugin[FM_KIND_DATASET];
    const FmSplit which = run_split_of(split);

    if (dataset == NULL)
        return run_no_dataset(run, error);
    if (run->data.rows == 0) {
        const FmKey key = {.seed = (guint64)run->config->seed, .stream = FM_STREAM_EVAL, .step = (guint64)which};
        return fm_dataset_draw(dataset, key, first, n, x, y, error);
    }
    const size_t have = fm_run_split_rows(run, split);
    if (first > have || n > have - first) {
        g_set_error(error, FM_ERROR, FM_ERROR_DATA,
                    "dataset '%s': rows %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT
                    " of split '%s' were asked for, it has %" G_GSIZE_FORMAT,
                    fm_plugin_name(dataset), first, first + n - 1, split, have);
        return FALSE;
    }
    g_autofree size_t *rows = g_try_new(size_t, n + 1);
    if (rows == NULL) {
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "%" G_GSIZE_FORMAT " rows do not fit into memory", n);
        return FALSE;
    }
    for (size_t r = 0; r < n; r++)
        rows[r] = fm__run_row(run, which, first + r);
    return fm_dataset_read(dataset, rows, n, x, y, error);
}

/* ---- opening ---- */

static gboolean
run_open(FmRun *run, FmKind kind, GError **error)
{
    if (run->plugin[kind] == NULL && run->config->spec[kind] != NULL)
        run->plugin[kind] = kind == FM_KIND_BACKEND ? fm_backend_new(run->config->spec[kind], error)
                                                    : fm_plugin_new(kind, run->config->spec[kind], error);
    return run->plugin[kind] != NULL;
}

static gboolean
run_same_plugin(FmKind kind, const char *mine, const char *wanted)
{
    g_autoptr(FmPlugin) a = mine != NULL ? fm_plugin_new(kind, mine, NULL) : NULL;
    g_autoptr(FmPlugin) b = fm_plugin_new(kind, wanted, NULL);

    if (a == NULL || b == NULL)
        return g_strcmp0(mine, wanted) == 0;
    g_autofree char *sa = fm_plugin_spec(a), *sb = fm_plugin_spec(b);
    return g_str_equal(sa, sb);
}

/* A net may bring the run's data set and path as options of these names. */
static gboolean
run_take_from_net(FmRun *run, FmKind kind, GError **error)
{
    const FmPlugin *net = run->plugin[FM_KIND_NET];
    char **own = &run->config->spec[kind];
    const FmOption *o = fm_plugin_desc(net)->options;

    while (o != NULL && o->name != NULL && !(o->type == FM_OPTION_PLUGIN && g_str_equal(o->name, fm_kind_name(kind))))
        o++;
    const char *wanted = o == NULL || o->name == NULL
                             ? NULL
                             : *(char *const *)(const void *)((const char *)fm_plugin_self(net) + o->offset);
    if (wanted == NULL)
        return TRUE;
    if (*own == NULL)
        *own = g_strdup(wanted);
    if (run_same_plugin(kind, *own, wanted))
        return TRUE;
    g_set_error(error, FM_ERROR, FM_ERROR_USAGE, "net '%s': its %s is '%s' and the run's is '%s', expected the same",
                fm_plugin_name(net), fm_kind_name(kind), wanted, *own);
    return FALSE;
}

static gboolean
run_open_data(FmRun *run, GError **error)
{
    if (run->config->spec[FM_KIND_NET] != NULL &&
        (!run_open(run, FM_KIND_NET, error) || !run_take_from_net(run, FM_KIND_DATASET, error) ||
         !run_take_from_net(run, FM_KIND_PATH, error)))
        return FALSE;
    fm__config_choose_dataset(run->config);
    if (!run_open(run, FM_KIND_DATASET, error) || !fm_dataset_open(run->plugin[FM_KIND_DATASET], &run->data, error))
        return FALSE;
    if (run->data.rows > 0)
        fm__run_split(run);
    return TRUE;
}

static gboolean
run_open_source(FmRun *run, GError **error)
{
    if (run->config->source == NULL)
        return TRUE;
    run->source = fm_plugin_new(FM_KIND_DATASET, run->config->source, error);
    if (run->source == NULL || !fm_dataset_open(run->source, &run->source_data, error))
        return FALSE;
    if (run->source_data.D != run->data.D) {
        g_set_error(error, FM_ERROR, FM_ERROR_SHAPE,
                    "source '%s' has %" G_GSIZE_FORMAT " dimensions, expected the data's %" G_GSIZE_FORMAT,
                    fm_plugin_name(run->source), run->source_data.D, run->data.D);
        return FALSE;
    }
    return TRUE;
}

/* All plugins but data and source; the configuration is complete afterwards. */
static gboolean
run_open_parts(FmRun *run, GError **error)
{
    static const FmKind kinds[] = {FM_KIND_BACKEND, FM_KIND_COUPLING, FM_KIND_PATH, FM_KIND_OPTIMIZER, FM_KIND_SOLVER};
    FmConfig *c = run->config;
    const gboolean own_optimizer = c->spec[FM_KIND_OPTIMIZER] != NULL && c->lr < 0;

    fm__config_resolve(c, &run->data);
    if (!run_open(run, FM_KIND_NET, error))
        return FALSE;
    const FmNetOps *net = fm_plugin_ops(run->plugin[FM_KIND_NET]);
    fm__config_choose_objective(c, net->velocity != NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (!run_open(run, kinds[i], error))
            return FALSE;
    if (!run_open(run, FM_KIND_OBJECTIVE, error))
        return FALSE;
    const FmOptimizerOps *optimizer = fm_plugin_ops(run->plugin[FM_KIND_OPTIMIZER]);
    /* The table's rates are for methods that divide by a second moment; others bring their own. */
    if (own_optimizer && optimizer->moments < 2)
        c->lr = optimizer->default_lr;
    if (c->conditional && run->data.classes == 0) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                    "option --conditional gives labels to the net, and data set '%s' has none",
                    fm_plugin_name(run->plugin[FM_KIND_DATASET]));
        return FALSE;
    }
    run->net_info = (FmNetInfo){.data = &run->data,
                                .classes = c->conditional ? run->data.classes : 0,
                                .dataset = run->plugin[FM_KIND_DATASET],
                                .source = run->source,
                                .path = run->plugin[FM_KIND_PATH],
                                .shift = run->shift,
                                .scale = run->scale};
    return fm_path_prepare(run->plugin[FM_KIND_PATH], run->data.D, error) &&
           fm__predict_init(&run->predict, (FmPrediction)c->prediction, run->plugin[FM_KIND_NET],
                            run->plugin[FM_KIND_PATH], run->source != NULL, error) &&
           fm_coupling_prepare(run->plugin[FM_KIND_COUPLING], run->data.D, error) &&
           fm_net_prepare(run->plugin[FM_KIND_NET], &run->net_info, error);
}

/* ---- standardisation ---- */

static void
run_identity(FmRun *run)
{
    g_free(run->shift);
    g_free(run->scale);
    run->shift = g_new0(double, run->data.D);
    run->scale = g_new(double, run->data.D);
    for (size_t d = 0; d < run->data.D; d++)
        run->scale[d] = 1.0;
}

/* Mean and standard deviation of each dimension, by Welford's updates over blocks of rows. */
static gboolean
run_measure(FmRun *run, GError **error)
{
    enum { BLOCK = 1000 };
    const size_t D = run->data.D;
    const size_t n = run->data.rows > 0 ? run->n_train : RUN_MOMENT_DRAWS;
    const FmKey key = {.seed = (guint64)run->config->seed, .stream = FM_STREAM_SPLIT};
    g_autofree double *x = g_try_new(double, BLOCK *D), *m2 = g_new0(double, D);
    gboolean ok = x != NULL;

    for (size_t r0 = 0; ok && r0 < n; r0 += BLOCK) {
        const size_t m = MIN((size_t)BLOCK, n - r0);

        ok = run->data.rows > 0 ? fm_run_data(run, "train", r0, m, x, NULL, error)
                                : fm_dataset_draw(run->plugin[FM_KIND_DATASET], key, r0, m, x, NULL, error);
        for (size_t r = 0; ok && r < m; r++)
            for (size_t d = 0; d < D; d++) {
                const double delta = x[r * D + d] - run->shift[d];

                run->shift[d] += delta / (double)(r0 + r + 1);
                m2[d] += delta * (x[r * D + d] - run->shift[d]);
            }
    }
    for (size_t d = 0; d < D; d++) {
        const double sd = sqrt(m2[d] / (double)MAX(n, 1));
        run->scale[d] = sd > 1e-12 * (1.0 + fabs(run->shift[d])) ? sd / run->config->scale : 1.0;
    }
    return ok;
}

static gboolean
run_standardise(FmRun *run, GError **error)
{
    const FmNetOps *net = fm_plugin_ops(run->plugin[FM_KIND_NET]);

    run_identity(run);
    run->net_info.shift = run->shift;
    run->net_info.scale = run->scale;
    if (run->source != NULL || net->data_units)
        return TRUE; /* noise and data share the data's own units */
    if (run->data.ndim != 3)
        return run_measure(run, error);
    for (size_t d = 0; d < run->data.D; d++) { /* [0, 1] to [-scale, scale] */
        run->shift[d] = 0.5;
        run->scale[d] = 0.5 / run->config->scale;
    }
    return TRUE;
}

/* ---- weights ---- */

FmNode *
fm__run_loss(const FmRun *run, FmGraph **graph, GError **error)
{
    *graph = fm_graph_new();
    g_autoptr(FmLoss) loss = fm__loss_new(*graph, run->plugin[FM_KIND_NET], &run->net_info);
    loss->predict = &run->predict;
    FmNode *rows = fm_objective_loss(run->plugin[FM_KIND_OBJECTIVE], loss);

    if (fm_graph_ok(*graph, error) && rows != NULL)
        return rows;
    fm_graph_free(*graph);
    *graph = NULL;
    return NULL;
}

/* A file that holds at most `most` weights must not make a net of any size. */
static gboolean
run_weights_fit(const FmGraph *graph, size_t most, GError **error)
{
    size_t want = 0;

    for (guint i = 0; i < graph->nodes->len; i++) {
        const FmNode *node = g_ptr_array_index(graph->nodes, i);
        if (node->op == FM_OP_PARAM && strchr(node->name, '/') == NULL) /* of the model itself */
            want += fm_shape_size(&node->shape);
    }
    if (want <= most)
        return TRUE;
    g_set_error(error, FM_ERROR, FM_ERROR_SHAPE,
                "the net has %" G_GSIZE_FORMAT " weights, the file with them holds at most %" G_GSIZE_FORMAT, want,
                most);
    return FALSE;
}

/* `weights`: the file that they will be loaded from, or NULL. */
static gboolean
run_init_weights(FmRun *run, const char *weights, GError **error)
{
    FmGraph *graph = NULL;
    size_t most = G_MAXSIZE;

    if ((weights != NULL && !fm__model_room(weights, &most, error)) || fm__run_loss(run, &graph, error) == NULL)
        return FALSE;
    if (!run_weights_fit(graph, most, error)) {
        fm_graph_free(graph);
        return FALSE;
    }
    run->params = fm_params_new(graph, run->config->dtype, (guint64)run->config->seed, error);
    fm_graph_free(graph);
    return run->params != NULL;
}

/* Nets that set weights from data see the first rows of training, standardised. */
static gboolean
run_calibrate(FmRun *run, GError **error)
{
    const FmNetOps *ops = fm_plugin_ops(run->plugin[FM_KIND_NET]);
    const size_t D = run->data.D;
    size_t n = 256;

    if (ops->calibrate == NULL)
        return TRUE;
    if (run->data.rows > 0)
        n = MIN(n, run->n_train);
    g_autofree double *x = g_try_new(double, n *D);
    if (x == NULL || !fm_run_data(run, "train", 0, n, x, NULL, error))
        return FALSE;
    for (size_t i = 0; i < n * D; i++)
        x[i] = (x[i] - run->shift[i % D]) / run->scale[i % D];
    return fm_net_calibrate(run->plugin[FM_KIND_NET], run->params, &run->net_info, x, n, error);
}

static FmRun *
run_blank(const FmConfig *config)
{
    FmRun *run = g_new0(FmRun, 1);

    run->config = fm_config_copy(config);
    return run;
}

/* What an earlier run may hold and a new one would not use. */
static gboolean
run_uses_all(const FmConfig *c, GError **error)
{
    if (c->conditional || !(c->label_dropout > 0))
        return TRUE;
    g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                "option --label-dropout is %g and the net gets no labels, expected --conditional yes or 0",
                c->label_dropout);
    return FALSE;
}

FmRun *
fm_run_new(const FmConfig *config, GError **error)
{
    FmRun *run = run_blank(config);

    if (run->config->seed < 0)
        run->config->seed = 0;
    if (run_open_data(run, error) && run_open_source(run, error) && run_open_parts(run, error) &&
        run_uses_all(run->config, error) && run_standardise(run, error) && run_init_weights(run, NULL, error) &&
        run_calibrate(run, error) &&
        fm_objective_calibrate(run->plugin[FM_KIND_OBJECTIVE], run->params, &run->net_info, error))
        return run;
    fm_run_free(run);
    return NULL;
}

/* The data set's points against those that the run was trained with. */
static gboolean
run_same_shape(const FmRun *run, const FmDataInfo *saved, GError **error)
{
    const FmDataInfo *now = &run->data;

    if (now->ndim == saved->ndim && memcmp(now->dim, saved->dim, (size_t)saved->ndim * sizeof *saved->dim) == 0)
        return TRUE;
    g_set_error(error, FM_ERROR, FM_ERROR_SHAPE,
                "dataset '%s' has points of %" G_GSIZE_FORMAT " values in %d axes, the run was trained "
                "with %" G_GSIZE_FORMAT " in %d",
                run->config->spec[FM_KIND_DATASET], now->D, now->ndim, saved->D, saved->ndim);
    return FALSE;
}

gboolean
fm_run_set_dataset(FmRun *run, const char *spec, GError **error)
{
    FmPlugin *dataset = fm_plugin_new(FM_KIND_DATASET, spec, error);
    const FmDataInfo saved = run->data;

    if (dataset == NULL)
        return FALSE;
    fm_plugin_free(run->plugin[FM_KIND_DATASET]);
    run->plugin[FM_KIND_DATASET] = dataset;
    run->net_info.dataset = dataset;
    g_free(run->config->spec[FM_KIND_DATASET]);
    run->config->spec[FM_KIND_DATASET] = g_strdup(spec);
    return run_open_data(run, error) && run_same_shape(run, &saved, error);
}

FmRun *
fm_run_load(const char *dir, GError **error)
{
    return fm_run_load_as(dir, NULL, error);
}

FmRun *
fm_run_load_as(const char *dir, const FmDtype *dtype, GError **error)
{
    g_autoptr(FmConfig) config = fm_config_new();
    g_autofree char *ini = g_build_filename(dir, "config.ini", NULL);
    g_autofree char *model = g_build_filename(dir, "model.safetensors", NULL);
    g_autofree char *text = NULL;
    g_autoptr(GError) inner = NULL;

    if (!g_file_get_contents(ini, &text, NULL, &inner)) {
        g_set_error(error, FM_ERROR, FM_ERROR_FILE, "'%s' is not a run directory: '%s': %s", dir, ini,
                    fm_error_reason(inner));
        return NULL;
    }
    if (!fm_config_parse(config, text, ini, error))
        return NULL;
    if (dtype != NULL)
        config->dtype = *dtype;
    FmRun *run = run_blank(config);
    run->dir = g_strdup(dir);
    if (!fm__model_load_info(run, error))
        goto fail;
    if (run->config->spec[FM_KIND_DATASET] != NULL) {
        const FmDataInfo saved = run->data;

        if (!run_open_data(run, NULL)) {
            g_clear_pointer(&run->plugin[FM_KIND_DATASET], fm_plugin_free);
            run->data = saved;
        } else if (!run_same_shape(run, &saved, error)) {
            goto fail;
        }
    }
    if (run_open_source(run, error) && run_open_parts(run, error) && run_init_weights(run, model, error) &&
        fm__model_load_weights(run, model, FALSE, error))
        return run;
fail:
    fm_run_free(run);
    return NULL;
}

FmRun *
fm_run_import(const FmConfig *config, const FmDataInfo *data, const char *weights, GError **error)
{
    FmRun *run = run_blank(config);

    run->data = *data;
    if (run->config->seed < 0)
        run->config->seed = 0;
    run_identity(run);
    if (run_open_source(run, error) && run_open_parts(run, error) && run_init_weights(run, weights, error) &&
        fm__model_load_weights(run, weights, TRUE, error))
        return run;
    fm_run_free(run);
    return NULL;
}

gboolean
fm_run_save(const FmRun *run, GError **error)
{
    g_autofree char *ini = g_build_filename(run->dir, "config.ini", NULL);
    g_autofree char *text = fm_config_format(run->config);

    return fm_write_file(ini, text, strlen(text), error) && fm__model_save(run, error);
}

void
fm_run_free(FmRun *run)
{
    if (run == NULL)
        return;
    fm__train_state_free(run->state);
    fm_params_free(run->params);
    for (int k = 0; k < FM_N_KINDS; k++)
        fm_plugin_free(run->plugin[k]);
    fm_plugin_free(run->repath.from);
    fm_plugin_free(run->source);
    fm_config_free(run->config);
    g_free(run->shift);
    g_free(run->scale);
    g_free(run->dir);
    g_free(run);
}

/* ---- what may change after training began ---- */

static gboolean
run_override_plugin(FmRun *run, FmKind kind, const char *wanted, GError **error)
{
    char **own = &run->config->spec[kind];

    if (wanted == NULL)
        return TRUE;
    if (kind == FM_KIND_SOLVER || kind == FM_KIND_BACKEND) {
        FmPlugin *plugin = fm_plugin_new(kind, wanted, error);

        if (plugin == NULL)
            return FALSE;
        fm_plugin_free(run->plugin[kind]);
        run->plugin[kind] = plugin;
        g_free(*own);
        *own = g_strdup(wanted);
        return TRUE;
    }
    if (run_same_plugin(kind, *own, wanted))
        return TRUE;
    g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                "resume: --%s is '%s' and the run's own is '%s', which cannot change after training "
                "began",
                fm_kind_name(kind), wanted, *own != NULL ? *own : "unset");
    return FALSE;
}

gboolean
fm_run_override(FmRun *run, const FmConfig *config, gboolean force, GError **error)
{
    FmConfig *own = run->config;
    const gboolean horizon = own->schedule == FM_SCHEDULE_CONSTANT && fm_config_given(config, "steps");

    for (int k = 0; k < FM_N_KINDS; k++)
        if (k != FM_KIND_DIVERGENCE && !run_override_plugin(run, (FmKind)k, config->spec[k], error))
            return FALSE;
    if (config->source != NULL && !run_same_plugin(FM_KIND_DATASET, own->source, config->source)) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                    "resume: --source is '%s' and the run's own is '%s', which cannot change after "
                    "training began",
                    config->source, own->source != NULL ? own->source : "N(0, I)");
        return FALSE;
    }
    own->stop_after = -1; /* the limits of the first part do not bind the next */
    own->max_seconds = -1;
    if (horizon)
        own->steps = config->steps;
    if (!fm__config_override(own, config, force, error))
        return FALSE;
    if (config->divergences->len > 0) {
        g_ptr_array_set_size(own->divergences, 0);
        for (guint i = 0; i < config->divergences->len; i++)
            g_ptr_array_add(own->divergences, g_strdup(g_ptr_array_index(config->divergences, i)));
    }
    return TRUE;
}
