/* excess.c: eps^2 of a flow whose data have an exact field: as a metric, and for the training log. */
#include "cli/cli.h"
#include "flow/excess.h"

#include <math.h>
#include <string.h>

enum {
    EXCESS_ROWS = 10000, /* of the metric */
    FINITE_ROWS = 200,   /* of the metric where draws are dear, at least */
    FLOOR_ROWS = 50000,  /* of the log: its error stays under that of a line */
    FLOOR_LEAST = 5000
};
#define FINITE_WORK 0x1p32 /* multiplications of the exact field: one to three seconds of two cores */
#define BOX_WORK 200.0     /* of a box's coordinate: a rule's nodes */

/* The field that is learned, where it is known: of drawn data another flow's, of finite data that of their rows. */
typedef struct Truth {
    Side exact;
    FmFinite *rows;
    size_t n;      /* draws that are affordable; 0: no field is known or none is affordable */
    char why[128]; /* not computed, and why; empty: there is nothing to compute */
} Truth;

static void
truth_clear(Truth *truth)
{
    side_clear(&truth->exact);
    fm_finite_free(truth->rows);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Truth, truth_clear)

/* Is the exact field of independent pairs what this run learns? */
static gboolean
excess_applies(const FmRun *run)
{
    return run->plugin[FM_KIND_DATASET] && !run->source && (run->net_info.classes == 0 || run->data.rows > 0) &&
           !fm_net_is_invertible(run->plugin[FM_KIND_NET]) && fm_path_is_affine(run->plugin[FM_KIND_PATH]) &&
           strcmp(fm_plugin_name(run->plugin[FM_KIND_COUPLING]), "independent") == 0;
}

/* `most` draws, or as many as FINITE_WORK allows where one costs `each`. */
static void
truth_afford(Truth *truth, double each, size_t least, size_t most)
{
    const double n = FINITE_WORK / MAX(each, 1.0);

    truth->n = n < (double)least ? 0 : (size_t)MIN(n, (double)most);
    if (truth->n == 0)
        g_snprintf(truth->why, sizeof truth->why,
                   "not computed: the exact field costs %.2g multiplications a point, expected at most %.2g", each,
                   FINITE_WORK / (double)least);
}

/* An error that says that there is no exact field is none. */
static gboolean
truth_none(Truth *truth, GError *why, gboolean tell, GError **error)
{
    if (!g_error_matches(why, FM_ERROR, FM_ERROR_UNSUPPORTED)) {
        g_propagate_error(error, why);
        return FALSE;
    }
    if (tell)
        g_snprintf(truth->why, sizeof truth->why, "not computed: %s", why->message);
    g_error_free(why);
    return TRUE;
}

static gboolean
truth_open(Truth *truth, const FmRun *run, size_t least, size_t most, GError **error)
{
    GError *why = NULL;

    if (!excess_applies(run))
        return TRUE;
    if (run->data.rows > 0) {
        truth->rows = fm_finite_new(run, &why);
        if (!truth->rows)
            return truth_none(truth, why, TRUE, error);
        truth_afford(truth, fm_finite_work(truth->rows), least, most);
        return TRUE;
    }
    const FmBoxes *boxes = fm_dataset_boxes(run->plugin[FM_KIND_DATASET]);
    g_autofree char *solver = fm_plugin_spec(run->plugin[FM_KIND_SOLVER]);
    if (!side_field(&truth->exact, "oracle", run, -1, run->config->threads, solver, &why))
        return truth_none(truth, why, FALSE, error);
    truth_afford(truth, boxes ? BOX_WORK * (double)(boxes->K * boxes->D) : 0.0, least, most);
    return TRUE;
}

/* n draws, of the flow or, when NULL, of the exact field itself. */
static gboolean
truth_excess(const Truth *truth, FmRun *run, FmFlow *flow, FmExcess *x, GError **error)
{
    const guint64 seed = (guint64)run->config->seed;
    const int threads = run->config->threads;

    return truth->rows
               ? fm_excess_rows(flow, truth->rows, truth->n, seed, threads, x, error)
               : fm_excess(flow ? flow : truth->exact.flow, truth->exact.flow, truth->n, seed, threads, x, error);
}

static void
excess_describe(FmEstimate *e, const FmRun *run, const FmExcess *x)
{
    const gboolean all = fm_params_count(run->params) == 0;

    *e = (FmEstimate){.value = x->eps2.value, .se = x->eps2.se, .n = x->n, .unit = ""};
    fm_estimate_text(e, "what",
                     run->data.rows == 0    ? "eps^2 = int E|w - v|^2 dt, v exact"
                     : run->data.levels > 1 ? "eps^2 = int E|w - v|^2 dt, v of the rows with uniform noise"
                                            : "eps^2 = int E|w - v|^2 dt, v of the rows as points");
    if (run->data.rows > 0)
        fm_estimate_text(e, "rows", all ? "all" : "of the training");
    fm_estimate_number(e, "loss", x->loss.value);
    fm_estimate_number(e, "conditional_variance", x->variance.value);
    fm_estimate_number(e, "conditional_variance_se", x->variance.se);
    fm_estimate_number(e, "loss_minus_variance", x->excess.value);
    fm_estimate_number(e, "loss_minus_variance_se", x->excess.se);
}

gboolean
excess_metric(FmRun *run, FmFlow *flow, GArray *metrics, GError **error)
{
    const double start = cli_seconds();
    g_auto(Truth) truth = {.n = 0};
    FmEstimate e = {.value = NAN, .se = NAN, .unit = ""};
    FmExcess x;

    if (!truth_open(&truth, run, FINITE_ROWS, EXCESS_ROWS, error))
        return FALSE;
    if (truth.n == 0 && !truth.why[0])
        return TRUE;
    if (truth.n > 0 && !truth_excess(&truth, run, flow, &x, error))
        return FALSE;
    if (truth.n > 0)
        excess_describe(&e, run, &x);
    else
        g_strlcpy(e.why, truth.why, sizeof e.why);
    metrics_add(metrics, "excess-loss", &e, cli_seconds() - start);
    return TRUE;
}

gboolean
excess_floor(FmRun *run, GError **error)
{
    g_auto(Truth) truth = {.n = 0};
    FmExcess x;

    if (strcmp(fm_plugin_name(run->plugin[FM_KIND_OBJECTIVE]), "cfm") != 0 || run->config->prediction != FM_PREDICT_V ||
        run->config->time_sampling == FM_TIME_LOGIT_NORMAL)
        return TRUE;
    if (!truth_open(&truth, run, FLOOR_LEAST, FLOOR_ROWS, error))
        return FALSE;
    if (truth.n == 0)
        return TRUE;
    if (!truth_excess(&truth, run, NULL, &x, error))
        return FALSE;
    run->floor = fm_excess_floor(&x);
    return TRUE;
}
