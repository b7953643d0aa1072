/* score.c: the gradient of a flow's log-density at given points, in double. */
#include "flow/exact.h"

#include <math.h>

typedef struct ScoreJob {
    const FmExact *exact;
    FmExactWorker **worker;
    const double *x; /* (n, D), the model's units */
    const int *labels;
    double *log_q, *score;
    FmSolveStat *stat;
    size_t n;
    gint failed;
} ScoreJob;

static void
score_tile(void *ctx, int worker, size_t i)
{
    ScoreJob *j = ctx;
    const size_t row0 = i * j->exact->tile, n = MIN(j->exact->tile, j->n - row0);
    const size_t D = j->exact->D;

    if (!fm__exact_density(j->exact, j->worker[worker], worker, n, j->x + row0 * D, j->exact->t1,
                           j->labels != NULL ? j->labels + row0 : NULL, j->log_q + row0, j->score + row0 * D,
                           j->stat + row0))
        g_atomic_int_set(&j->failed, 1);
}

/* From data units and back: d log q / dx_data = (d log q / dx_model) / scale. */
static gboolean
score_run(ScoreJob *j, const FmRun *run, const double *x, int threads, GError **error)
{
    const size_t D = j->exact->D, tiles = (j->n + j->exact->tile - 1) / j->exact->tile;
    double *model = fm__need("score", j->n, D, sizeof(double), error);
    gboolean ok = model != NULL;

    for (size_t i = 0; ok && i < j->n * D; i++)
        model[i] = (x[i] - run->shift[i % D]) / run->scale[i % D];
    j->x = model;
    j->worker = g_new0(FmExactWorker *, threads);
    for (int w = 0; ok && w < threads; w++)
        ok = (j->worker[w] = fm__exact_worker_new(j->exact, error)) != NULL;
    /* Say here what a worker could not: a source without density or score. */
    ok = ok && (j->exact->closed || j->exact->closed_at_end ||
                fm__exact_base(j->exact, MIN(j->n, 1), model, j->log_q, j->score, error));
    if (ok) {
        fm_parallel(threads, tiles, score_tile, j);
        ok = j->failed == 0;
        if (!ok)
            g_set_error_literal(error, FM_ERROR, FM_ERROR_DIVERGED,
                                "score: the velocity field failed while integrating");
    }
    for (int w = 0; w < threads; w++)
        fm__exact_worker_free(j->worker[w]);
    g_free(j->worker);
    fm_free(model);
    return ok;
}

gboolean
fm_flow_score(FmFlow *flow, size_t n, const double *x, const int *labels, double *log_q, double *score,
              FmSolveSummary *summary, GError **error)
{
    const FmRun *run = flow->run;
    const size_t D = run->data.D;

    if (!fm__flow_check_labels(flow, "score", n, labels, error) || !fm__flow_check_rows(flow, "score", n, x, error))
        return FALSE;
    if (fm__flow_is_map(flow) && run->source != NULL) {
        g_set_error_literal(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                            "score: maps are differentiated from N(0, I), expected a run without --source");
        return FALSE;
    }
    if (run->net_info.classes > 0 && labels == NULL && n > 0) {
        g_set_error_literal(error, FM_ERROR, FM_ERROR_DATA,
                            "score: the net is conditional and no labels were given, expected one for each row");
        return FALSE;
    }
    if (flow->guidance != 1.0) {
        g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED, "score: the flow is guided with weight %g, expected 1",
                    flow->guidance);
        return FALSE;
    }
    g_autoptr(FmExact) exact = fm__exact_new(flow, flow->threads, error);
    if (exact == NULL)
        return FALSE;
    double *own = log_q != NULL ? log_q : fm__need("score", MAX(n, 1), 1, sizeof(double), error);
    FmSolveStat *stat = fm__need("score", MAX(n, 1), 1, sizeof *stat, error);
    ScoreJob job = {.exact = exact, .labels = labels, .log_q = own, .score = score, .stat = stat, .n = n};
    const gboolean ok = own != NULL && stat != NULL && score_run(&job, run, x, flow->threads, error);

    if (ok) {
        const double log_det = fm__log_det_scale(flow);

        for (size_t r = 0; r < n; r++)
            own[r] -= log_det;
        for (size_t i = 0; i < n * D; i++)
            score[i] /= run->scale[i % D];
        if (summary != NULL)
            fm__summarise(stat, n, summary);
    }
    if (own != log_q)
        fm_free(own);
    fm_free(stat);
    return ok;
}

/* Edges are closed within 1e-12 of a unit at t = 1: outside of them a log-density is below -1e17. */
#define DENSITY_ZERO -1e15

gboolean
fm_flow_has_formula(const FmFlow *flow)
{
    return flow->run->data.rows == 0 && fm__exact_is_closed(flow); /* rows as points have no density at t = 1 */
}

gboolean
fm_flow_formula_density(FmFlow *flow, size_t n, const double *x, double *log_q, double *score, GError **error)
{
    const size_t D = flow->run->data.D;
    double *own = score != NULL ? score : fm__need("density", n, D, sizeof(double), error);
    const gboolean ok = own != NULL && fm_flow_score(flow, n, x, NULL, log_q, own, NULL, error);

    for (size_t i = 0; ok && i < n; i++) {
        if (log_q[i] >= DENSITY_ZERO)
            continue;
        log_q[i] = -INFINITY;
        for (size_t d = 0; d < D; d++)
            own[i * D + d] = NAN;
    }
    if (own != score)
        fm_free(own);
    return ok;
}

gboolean
fm_flow_grid_density(FmFlow *flow, size_t n, const double *x, const FmLikelihood *how, double *log_q, GError **error)
{
    /* a map's steps have another density than the field's */
    if ((how != NULL && how->trace == FM_TRACE_MAP) || !fm_flow_has_formula(flow))
        return fm_flow_log_density(flow, n, x, NULL, how, log_q, NULL, NULL, error);
    return fm_flow_formula_density(flow, n, x, log_q, NULL, error);
}
