/* likelihood.c: log-densities of points, and the solver's part of their error.
 * Change of variables along the flow: Chen et al. 2018, arXiv:1806.07366; probes fixed along a
 * trajectory: Grathwohl et al. 2019, arXiv:1810.01367. */
#include "flow/integrate.h"

#include <math.h>
#include <string.h>

void
fm__data_to_model(const FmRun *run, size_t n, size_t W, const double *x, void *state)
{
    const size_t D = run->data.D, size = fm_dtype_size(run->config->dtype);

    for (size_t r = 0; r < n; r++)
        for (size_t d = 0; d < W; d++) {
            const double value = d < D ? (x[r * D + d] - run->shift[d]) / run->scale[d] : 0.0;
            fm_convert(FM_F64, &value, run->config->dtype, (char *)state + (r * W + d) * size, 1);
        }
}

/* log q = log p0(z) + log|det dz/dx| with z = f(x): one pass of an invertible net. z (n, D) in the
 * run's dtype and log_det (n) are written. */
static gboolean
likelihood_map(FmFlow *flow, size_t n, void *state, double *log_det, FmSolveStat *stat, GError **error)
{
    const FmMap *map = fm__flow_map(flow, TRUE, error);
    const FmDtype dtype = flow->run->config->dtype;
    const size_t D = flow->run->data.D, size = fm_dtype_size(dtype);
    const FmKey key = {0};

    if (map == NULL)
        return FALSE;
    void *z = fm__need("likelihood", n, D, size, error);
    void *l = z == NULL ? NULL : fm__need("likelihood", n, 1, size, error);
    const void *in[FM_MAX_INPUTS] = {NULL};
    void *results[2] = {z, l};
    if (map->in_x >= 0)
        in[map->in_x] = state;
    const gboolean ok = l != NULL && fm_exec_run(map->exec, n, in, NULL, NULL, results, key, error);
    if (ok) {
        memcpy(state, z, n * D * size);
        fm_convert(dtype, l, FM_F64, log_det, n);
        for (size_t r = 0; r < n; r++)
            stat[r] = (FmSolveStat){.status = FM_SOLVE_OK, .nfe = 1, .accepted = 1};
    }
    fm_free(z);
    fm_free(l);
    return ok;
}

/* The same by integrating (x, l) from data to noise: l(0) = int_0^1 div v dt with l(1) = 0. */
static gboolean
likelihood_solve(FmFlow *flow, size_t n, void *state, const int *labels, const FmLikelihood *how, double *log_det,
                 FmSolveStat *stat, GError **error)
{
    const size_t D = flow->run->data.D, size = fm_dtype_size(flow->run->config->dtype);
    const FmIntegration problem = {.flow = flow, .how = how, .n = n, .labels = labels, .state = state, .stat = stat};

    if (!fm__integrate(&problem, error))
        return FALSE;
    for (size_t r = 0; r < n; r++) {
        double l = 0;
        fm_convert(flow->run->config->dtype, (char *)state + (r * (D + 1) + D) * size, FM_F64, &l, 1);
        log_det[r] = stat[r].status == FM_SOLVE_OK ? -l : NAN;
    }
    return TRUE;
}

gboolean
fm_flow_log_density(FmFlow *flow, size_t n, const double *x, const int *labels, const FmLikelihood *how, double *log_q,
                    double *z, FmSolveSummary *summary, GError **error)
{
    const FmDtype dtype = flow->run->config->dtype;
    const gboolean map = fm__flow_is_map(flow);
    const FmLikelihood fallback = fm__default_likelihood(flow);
    const FmLikelihood *way = how != NULL ? how : &fallback;
    const gboolean discrete = !map && way->trace == FM_TRACE_MAP;
    const size_t D = flow->run->data.D, W = map ? D : D + 1, size = fm_dtype_size(dtype);

    if (!fm__flow_check_labels(flow, "density", n, labels, error) || !fm__flow_check_rows(flow, "density", n, x, error))
        return FALSE;
    void *state = fm__need("density", n, W, size, error);
    double *noise = state == NULL ? NULL : fm__need("density", n, D, sizeof(double), error);
    double *base = noise == NULL ? NULL : fm__need("density", n, 1, sizeof(double), error);
    FmSolveStat *stat = base == NULL ? NULL : fm__need("density", n, 1, sizeof *stat, error);
    gboolean ok = stat != NULL;
    if (ok && discrete) {
        ok = fm__discrete_log_density(flow, n, x, labels, log_q, noise, stat, error);
    } else if (ok) {
        fm__data_to_model(flow->run, n, W, x, state);
        ok = map ? likelihood_map(flow, n, state, log_q, stat, error)
                 : likelihood_solve(flow, n, state, labels, way, log_q, stat, error);
    }
    for (size_t r = 0; ok && !discrete && r < n; r++)
        fm_convert(dtype, (char *)state + r * W * size, FM_F64, noise + r * D, D);
    ok = ok && fm__base_log_density(flow, n, noise, base, error);
    if (ok) {
        const double log_det = fm__log_det_scale(flow);
        for (size_t r = 0; r < n; r++)
            log_q[r] += base[r] - log_det;
        if (z != NULL)
            memcpy(z, noise, n * D * sizeof(double));
        if (summary != NULL)
            fm__summarise(stat, n, summary);
    }
    fm_free(state);
    fm_free(noise);
    fm_free(base);
    fm_free(stat);
    return ok;
}

/* ---- the solver's own error ---- */

/* The flow's solver with a finer step or tolerance; owned. The difference of two results, finer
 * minus coarse, times *factor estimates the coarse one's error: Richardson's extrapolation for
 * fixed steps; for adaptive ones the error goes with the tolerance. */
static FmPlugin *
likelihood_finer(const FmFlow *flow, double *factor, GError **error)
{
    const FmPlugin *solver = flow->solver;
    FmPlugin *fine = fm_plugin_new(FM_KIND_SOLVER, fm_plugin_name(solver), error);

    if (fine == NULL)
        return NULL;
    if (!fm_solver_is_adaptive(solver)) {
        FmFixedOptions *o = fm_plugin_self(fine);
        const double gain = pow(2.0, fm_solver_tableau(solver)->order);

        *o = *(const FmFixedOptions *)fm_plugin_self(solver);
        o->step *= 0.5;
        *factor = gain / (gain - 1.0);
        return fine;
    }
    /* in float the estimate of a step's error is rounding below about 1e-6 */
    const double least = flow->run->config->dtype == FM_F32 ? 1e-6 : 1e-13;
    FmAdaptiveOptions *o = fm_plugin_self(fine);
    *o = *(const FmAdaptiveOptions *)fm_plugin_self(solver);
    const double part = MAX(0.01, MIN(least / MAX(o->rtol, o->atol), 0.5));
    o->rtol *= part;
    o->atol *= part;
    *factor = 1.0 / (1.0 - part);
    return fine;
}

/* Run `solve` with the finer solver, and turn value (n) into the estimated error of `coarse`. */
gboolean
fm__solver_error(FmFlow *flow, size_t n, const double *coarse, double *value,
                 gboolean (*solve)(void *ctx, double *value, GError **error), void *ctx, GError **error)
{
    FmPlugin *before = flow->solver;
    double factor = 1.0;
    FmPlugin *fine = likelihood_finer(flow, &factor, error);

    if (fine == NULL)
        return FALSE;
    flow->solver = fine;
    const gboolean ok = solve(ctx, value, error);
    flow->solver = before;
    fm_plugin_free(fine);
    for (size_t r = 0; ok && r < n; r++)
        value[r] = factor * (value[r] - coarse[r]);
    return ok;
}

typedef struct LogDensity {
    FmFlow *flow;
    size_t n;
    const double *x;
    const int *labels;
    const FmLikelihood *how;
} LogDensity;

static gboolean
log_density_again(void *ctx, double *value, GError **error)
{
    const LogDensity *l = ctx;

    return fm_flow_log_density(l->flow, l->n, l->x, l->labels, l->how, value, NULL, NULL, error);
}

gboolean
fm_flow_log_density_error(FmFlow *flow, size_t n, const double *x, const int *labels, const FmLikelihood *how,
                          const double *log_q, double *difference, GError **error)
{
    LogDensity again = {flow, n, x, labels, how};

    if (!fm__flow_is_map(flow) && (how == NULL || how->trace != FM_TRACE_MAP))
        return fm__solver_error(flow, n, log_q, difference, log_density_again, &again, error);
    memset(difference, 0, n * sizeof(double)); /* no equation is solved approximately */
    return TRUE;
}
