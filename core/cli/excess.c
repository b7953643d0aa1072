/* excess.c: eps^2 of a flow whose data have an exact field: as a metric, and for the training log. */
#include "cli/cli.h"
#include "flow/excess.h"

#include <math.h>
#include <string.h>

enum {
    EXCESS_ROWS = 10000, /* of the metric */
    FINITE_ROWS = 500, /* of the metric of finite data, at least */
    FLOOR_ROWS = 50000 /* of the log: its error stays under that of a line */
};
#define FINITE_WORK 0x1p32 /* draws x rows (or nodes of boxes) x dimensions: about a second of two cores */

/* Is the exact field of independent pairs what this run learns? */
static gboolean
excess_applies(const FmRun *run)
{
    return run->plugin[FM_KIND_DATASET] && !run->source && run->net_info.classes == 0 &&
           !fm_net_is_invertible(run->plugin[FM_KIND_NET]) && fm_path_is_affine(run->plugin[FM_KIND_PATH]) &&
           strcmp(fm_plugin_name(run->plugin[FM_KIND_COUPLING]), "independent") == 0;
}

/* Draws, `most` or fewer where each costs a pass over many rows or boxes. 0: not one, the run learns
 * another field or has too many rows. */
static size_t
excess_rows(const FmRun *run, size_t most)
{
    if (!excess_applies(run))
        return 0;
    const FmBoxes *boxes = fm_dataset_boxes(run->plugin[FM_KIND_DATASET]);
    const double each = boxes ? 200.0 * (double)boxes->K : (double)run->data.rows; /* a rule's nodes a box */

    if (each == 0.0)
        return most;
    const double n = FINITE_WORK / (each * (double)run->data.D);
    return n < FINITE_ROWS ? 0 : (size_t)MIN(n, (double)most);
}

/* The exact field beside a run, for n draws; *side stays empty where there are none or the data have no field. */
static gboolean
exact_open(Side *side, const FmRun *run, size_t n, GError **error)
{
    g_autofree char *solver = n > 0 ? fm_plugin_spec(run->plugin[FM_KIND_SOLVER]) : NULL;
    g_autoptr(GError) why = NULL;

    if (!solver || side_field(side, "oracle", run, -1, run->config->threads, solver, &why))
        return TRUE;
    if (g_error_matches(why, FM_ERROR, FM_ERROR_UNSUPPORTED)) {
        side_clear(side);
        return TRUE;
    }
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

gboolean
excess_metric(FmRun *run, FmFlow *flow, GArray *metrics, GError **error)
{
    const double start = cli_seconds();
    const size_t n = excess_rows(run, EXCESS_ROWS);
    g_auto(Side) exact = {NULL, NULL};
    FmExcess x;

    if (!exact_open(&exact, run, n, error))
        return FALSE;
    if (!exact.flow)
        return TRUE;
    if (!fm_excess(flow, exact.flow, n, (guint64)run->config->seed, run->config->threads, &x, error))
        return FALSE;
    FmEstimate e = {.value = x.eps2.value, .se = x.eps2.se, .n = x.n, .unit = ""};
    fm_estimate_text(&e, "what", run->data.rows > 0 ? "eps^2 = int E|w - v|^2 dt, v that of all rows as points"
                                                    : "eps^2 = int E|w - v|^2 dt, v exact");
    fm_estimate_number(&e, "loss", x.loss.value);
    fm_estimate_number(&e, "conditional_variance", x.variance.value);
    fm_estimate_number(&e, "conditional_variance_se", x.variance.se);
    fm_estimate_number(&e, "loss_minus_variance", x.excess.value);
    fm_estimate_number(&e, "loss_minus_variance_se", x.excess.se);
    metrics_add(metrics, "excess-loss", &e, cli_seconds() - start);
    return TRUE;
}

gboolean
excess_floor(FmRun *run, GError **error)
{
    g_auto(Side) exact = {NULL, NULL};
    FmExcess x;

    /* A finite data set's field is that of all its rows, and training sees only some. */
    if (run->data.rows > 0 || strcmp(fm_plugin_name(run->plugin[FM_KIND_OBJECTIVE]), "cfm") != 0 ||
        run->config->prediction != FM_PREDICT_V || run->config->time_sampling == FM_TIME_LOGIT_NORMAL)
        return TRUE;
    const size_t n = excess_rows(run, FLOOR_ROWS);
    if (!exact_open(&exact, run, n, error))
        return FALSE;
    if (!exact.flow)
        return TRUE;
    if (!fm_excess(exact.flow, exact.flow, n, (guint64)run->config->seed, run->config->threads, &x, error))
        return FALSE;
    run->floor = fm_excess_floor(&x);
    return TRUE;
}
