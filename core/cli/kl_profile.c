/* kl_profile.c: `kl RUN`: how the density q_t of one flow comes to its end: KL(q_t||q_T), T = 1 unless --until says
 * less, and, where it is finite, KL(q_t||data), at each time of a grid. */
#include "cli/kl.h"
#include "io/plot.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Both comparisons along the same trajectories; data NULL: `why` says it. */
typedef struct Way {
    FmKl *end, *data;
    char why[200];
} Way;

static void
way_clear(Way *p)
{
    fm_kl_free(p->end);
    fm_kl_free(p->data);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Way, way_clear)

static gboolean
way_measure(const Cli *cli, Way *p, FmFlow *flow, FmKlOptions o, GError **error)
{
    g_autoptr(GError) why = NULL;

    o.still = FM_KL_END;
    p->end = kl_measure(cli, "KL(q_t||q_T)", flow, flow, &o, error);
    if (!p->end)
        return FALSE;
    o.still = FM_KL_DATA;
    p->data = kl_measure(cli, "KL(q_t||data)", flow, flow, &o, &why);
    if (p->data)
        return TRUE;
    if (!g_error_matches(why, FM_ERROR, FM_ERROR_UNSUPPORTED)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    g_strlcpy(p->why, why->message, sizeof p->why);
    return TRUE;
}

/* The first time at which the curve has fallen to `part` of its start, by straight lines between the
 * grid's times; NAN: never, or there is nothing to fall. */
static double
time_of_part(const FmKl *kl, double part)
{
    const double *v = kl->value[FM_KL_RATIO], level = part * v[0];

    if (!(v[0] > 0))
        return NAN;
    for (size_t j = 1; j < kl->T; j++)
        if (v[j] <= level)
            return kl->t[j - 1] + (kl->t[j] - kl->t[j - 1]) * (v[j - 1] - level) / (v[j - 1] - v[j]);
    return NAN;
}

/* ---- numbers ---- */

static void
add_comparison(GArray *m, const FmKl *kl, const char *what, const char *of)
{
    const size_t end = kl->T - 1;
    g_autofree char *start = g_strdup_printf("%s-start", what), *last = g_strdup_printf("%s-last", what),
                    *differ = g_strdup_printf("%s-routes-differ", what),
                    *residual = g_strdup_printf("%s-residual", what);

    kl_add(m, kl, start, (FmNumber){kl->value[FM_KL_RATIO][0], kl->se[FM_KL_RATIO][0]}, "nats", of);
    kl_add(m, kl, last, (FmNumber){kl->value[FM_KL_RATIO][end], kl->se[FM_KL_RATIO][end]}, "nats", of);
    kl_add(m, kl, differ, (FmNumber){kl->value[FM_KL_DIFFERENCE][end], kl->se[FM_KL_DIFFERENCE][end]}, "nats",
           "mean of log-ratios minus evolution identity, paired, at the end");
    kl_add(m, kl, residual, (FmNumber){kl->residual_max, NAN}, "nats", "largest of all trajectories and times");
}

/* A time of the way to the end. */
static void
add_time(GArray *m, const FmKl *kl, const char *name, double t, const char *what)
{
    if (isnan(t))
        kl_add_none(m, name, "KL(q_0||q_T) of these trajectories is not above 0");
    else
        kl_add(m, kl, name, (FmNumber){t, NAN}, "", what);
}

static GArray *
way_metrics(const Way *p, double seconds)
{
    GArray *m = metrics_new();

    add_comparison(m, p->end, "kl-to-end", "KL(q_t||q_T)");
    add_time(m, p->end, "half-time", time_of_part(p->end, 0.5), "t at which half of KL(q_0||q_T) is left");
    add_time(m, p->end, "one-percent-time", time_of_part(p->end, 0.01), "t at which 1 % of it is left");
    if (p->data)
        add_comparison(m, p->data, "kl-to-data", "KL(q_t||data)");
    else
        kl_add_none(m, "kl-to-data-last", p->why);
    g_array_index(m, Metric, 0).seconds = seconds;
    return m;
}

static char *
way_words(const Way *p)
{
    const FmKl *kl = p->end;
    const size_t end = kl->T - 1;
    GString *s = g_string_new(NULL);

    g_string_append_printf(s, "KL(q_t||q_T), T = %.6g, is %.5g +- %.2g nats at t = %g", kl->t[end],
                           kl->value[FM_KL_RATIO][0], kl->se[FM_KL_RATIO][0], kl->t[0]);
    if (kl->value[FM_KL_RATIO][0] > 0)
        g_string_append_printf(s, ", half of that at t = %.3g and 1 %% at t = %.3g", time_of_part(kl, 0.5),
                               time_of_part(kl, 0.01));
    if (p->data)
        g_string_append_printf(s, "; KL(q_t||data) ends at %.5g +- %.2g", p->data->value[FM_KL_RATIO][end],
                               p->data->se[FM_KL_RATIO][end]);
    g_string_append_printf(s, "; the evolution identity agrees within %.2g se at all times; pathwise residual %.1g",
                           kl->z_max, kl->residual_max);
    fm_kl_residual_words(s, kl);
    return g_string_free(s, FALSE);
}

/* ---- output ---- */

static void
row_numbers(JsonBuilder *b, const FmKl *kl, const char *name, size_t j)
{
    static const struct {
        const char *what;
        FmKlCurve curve;
    } columns[] = {{"", FM_KL_RATIO}, {"_evolution", FM_KL_EVOLUTION}, {"_rate", FM_KL_INTEGRAND}};

    for (size_t c = 0; c < G_N_ELEMENTS(columns); c++) {
        g_autofree char *value = g_strconcat(name, columns[c].what, NULL), *se = g_strconcat(value, "_se", NULL);

        out_real(b, value, kl->value[columns[c].curve][j]);
        out_real(b, se, kl->se[columns[c].curve][j]);
    }
    if (kl->exact) {
        g_autofree char *exact = g_strconcat(name, "_exact", NULL);

        out_real(b, exact, kl->exact[j]);
    }
}

static char *
way_json(Cli *cli, const Side *side, const Way *p, GArray *metrics, const char *words, const char *dir)
{
    g_autoptr(JsonBuilder) b = json_builder_new();

    out_header(b, cli, "ok");
    out_text(b, "run", dir);
    kl_side_json(b, "q", cli->args->pdata[0], side->run);
    kl_common_json(b, cli, p->end);
    metrics_json(b, metrics);
    out_array(b, "rows");
    for (size_t j = 0; j < p->end->T; j++) {
        json_builder_begin_object(b);
        out_real(b, "t", p->end->t[j]);
        row_numbers(b, p->end, "kl_to_end", j);
        if (p->data)
            row_numbers(b, p->data, "kl_to_data", j);
        out_real(b, "entropy", p->end->value[FM_KL_ENTROPY][j]);
        out_real(b, "entropy_se", p->end->se[FM_KL_ENTROPY][j]);
        json_builder_end_object(b);
    }
    json_builder_end_array(b);
    return kl_end_json(b, words);
}

static void
way_print(const Way *p, GArray *metrics, const char *words)
{
    const FmKl *kl = p->end;
    const size_t step = MAX((kl->T - 1) / 20, 1);

    printf("%8s %24s %24s %22s", "t", "KL(q_t||q_T)", "by evolution", "entropy of q_t");
    printf(p->data ? " %24s\n" : "\n", "KL(q_t||data)");
    for (size_t j = 0; j < kl->T; j += step) {
        printf("%8.4f %13.5g +- %7.1e %13.5g +- %7.1e %11.5g +- %7.1e", kl->t[j], kl->value[FM_KL_RATIO][j],
               kl->se[FM_KL_RATIO][j], kl->value[FM_KL_EVOLUTION][j], kl->se[FM_KL_EVOLUTION][j],
               kl->value[FM_KL_ENTROPY][j], kl->se[FM_KL_ENTROPY][j]);
        if (p->data)
            printf(" %13.5g +- %7.1e", p->data->value[FM_KL_RATIO][j], p->data->se[FM_KL_RATIO][j]);
        putchar('\n');
    }
    metrics_print(metrics);
    puts(words);
}

static gboolean
way_draw(const Way *p, const char *dir, GError **error)
{
    const FmKl *kl = p->end;
    g_autofree char *file = g_build_filename(dir, "kl.svg", NULL);
    const double *t = kl->t;
    FmCurve top[3], low[2];
    size_t n_top = 0, n_low = 0;

    top[n_top++] = (FmCurve){"KL(q_t || q_T)", t, kl->value[FM_KL_RATIO], kl->se[FM_KL_RATIO], kl->T};
    low[n_low++] = (FmCurve){"to the end", t, kl->value[FM_KL_INTEGRAND], kl->se[FM_KL_INTEGRAND], kl->T};
    if (p->data) {
        top[n_top++] = (FmCurve){"KL(q_t || data)", t, p->data->value[FM_KL_RATIO], p->data->se[FM_KL_RATIO], kl->T};
        low[n_low++] =
            (FmCurve){"to the data", t, p->data->value[FM_KL_INTEGRAND], p->data->se[FM_KL_INTEGRAND], kl->T};
    }
    if (kl->exact)
        top[n_top++] = (FmCurve){"closed form", t, kl->exact, NULL, kl->T};
    const FmPanel panels[] = {{"the flow on its way", "nats", top, n_top, 0},
                              {"its rate", "nats per unit of t", low, n_low, 0}};

    return fm_plot_panels(file, "t (0 noise, 1 data)", panels, 2, error);
}

gboolean
kl_profile(Cli *cli, const Side *side, const FmKlOptions *options, const char *dir, GError **error)
{
    const double start = cli_seconds();
    g_auto(Way) p = {NULL, NULL, ""};

    if (!way_measure(cli, &p, side->flow, *options, error))
        return FALSE;
    g_autoptr(GArray) metrics = way_metrics(&p, cli_seconds() - start);
    g_autofree char *words = way_words(&p), *json = way_json(cli, side, &p, metrics, words, dir);
    if (!way_draw(&p, dir, error) || !kl_write(cli, dir, json, error))
        return FALSE;
    if (!cli->json)
        way_print(&p, metrics, words);
    return TRUE;
}
