/* likelihood.c: log-densities of points, and of quantised images by dequantisation.
 * Change of variables along the flow: Chen et al. 2018, arXiv:1806.07366; probes fixed along a
 * trajectory: Grathwohl et al. 2019, arXiv:1810.01367; uniform dequantisation: Theis et al. 2016,
 * arXiv:1511.01844, sec. 3.1; K draws: Burda et al. 2016, arXiv:1509.00519. */
#include "flow/integrate.h"

#include <math.h>
#include <string.h>

/* (n, D) data to the first D of W columns in the model's units; the other column is 0. */
static void
likelihood_to_model(const FmRun *run, size_t n, size_t W, const double *x, void *state)
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
likelihood_map(FmFlow *flow, size_t n, void *state, double *log_det, FmSolveStat *stat,
               GError **error)
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
    const gboolean ok =
        l != NULL && fm_exec_run(map->exec, n, in, NULL, NULL, results, key, error);
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
likelihood_solve(FmFlow *flow, size_t n, void *state, const int *labels, const FmLikelihood *how,
                 double *log_det, FmSolveStat *stat, GError **error)
{
    const size_t D = flow->run->data.D, size = fm_dtype_size(flow->run->config->dtype);
    const FmIntegration problem = {
        .flow = flow, .how = how, .n = n, .labels = labels, .state = state, .stat = stat};

    if (!fm__integrate(&problem, error))
        return FALSE;
    for (size_t r = 0; r < n; r++) {
        double l = 0;
        fm_convert(flow->run->config->dtype, (char *)state + (r * (D + 1) + D) * size, FM_F64, &l,
                   1);
        log_det[r] = stat[r].status == FM_SOLVE_OK ? -l : NAN;
    }
    return TRUE;
}

gboolean
fm_flow_log_density(FmFlow *flow, size_t n, const double *x, const int *labels,
                    const FmLikelihood *how, double *log_q, double *z, FmSolveSummary *summary,
                    GError **error)
{
    const FmDtype dtype = flow->run->config->dtype;
    const gboolean map = fm__flow_is_map(flow);
    const size_t D = flow->run->data.D, W = map ? D : D + 1, size = fm_dtype_size(dtype);
    const FmLikelihood fallback = fm__default_likelihood(flow);

    if (!fm__flow_check_labels(flow, "density", n, labels, error) ||
        !fm__flow_check_rows(flow, "density", n, x, error))
        return FALSE;
    void *state = fm__need("density", n, W, size, error);
    double *noise = state == NULL ? NULL : fm__need("density", n, D, sizeof(double), error);
    double *base = noise == NULL ? NULL : fm__need("density", n, 1, sizeof(double), error);
    FmSolveStat *stat = base == NULL ? NULL : fm__need("density", n, 1, sizeof *stat, error);
    gboolean ok = stat != NULL;
    if (ok) {
        likelihood_to_model(flow->run, n, W, x, state);
        ok = map ? likelihood_map(flow, n, state, log_q, stat, error)
                 : likelihood_solve(flow, n, state, labels, how != NULL ? how : &fallback, log_q,
                                    stat, error);
    }
    for (size_t r = 0; ok && r < n; r++)
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

gboolean
fm_flow_bpd(FmFlow *flow, size_t n, const double *x, const int *labels, const FmLikelihood *how,
            int K, double *nll, FmSolveSummary *summary, GError **error)
{
    const int levels = flow->run->data.levels;
    const size_t D = flow->run->data.D;
    FmLikelihood each = how != NULL ? *how : fm__default_likelihood(flow);
    FmKey key = {.seed = each.key.seed, .stream = FM_STREAM_EVAL};

    if (levels < 2 || K < 1) {
        g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                    levels < 2 ? "bpd: the data are continuous; bits per dimension are for "
                                 "quantised images"
                               : "bpd: 0 draws of the dequantisation noise, expected at least 1");
        return FALSE;
    }
    double *noisy = fm__need("bpd", n, D, sizeof(double), error);
    double *log_q = noisy == NULL ? NULL : fm__need("bpd", n, (size_t)K, sizeof(double), error);
    gboolean ok = log_q != NULL;
    enum { BPD_STEPS = 1 << 20 }; /* apart from other users of the stream */
    FmSolveSummary total = {0}, one;
    for (size_t k = 0; ok && k < (size_t)K; k++) {
        key.step = BPD_STEPS + k;
        fm_fill_uniform_f64(key, 0, n, D, noisy);
        for (size_t i = 0; i < n * D; i++)
            noisy[i] = (x[i] * (levels - 1) + noisy[i]) / levels;
        each.key.step = k;
        ok = fm_flow_log_density(flow, n, noisy, labels, &each, log_q + k * n, NULL, &one, error);
        total.nfe_total += one.nfe_total;
        total.accepted += one.accepted;
        total.rejected += one.rejected;
        total.failed += one.failed;
        if (one.nfe_max > total.nfe_max) {
            total.nfe_max = one.nfe_max;
            total.stiffest = one.stiffest;
        }
    }
    for (size_t r = 0; ok && r < n; r++) {
        double top = -INFINITY, sum = 0;
        for (size_t k = 0; k < (size_t)K; k++)
            top = MAX(top, log_q[k * n + r]);
        for (size_t k = 0; k < (size_t)K; k++)
            sum += exp(log_q[k * n + r] - top);
        nll[r] = (double)D * log(levels) - (top + log(sum / (double)K));
    }
    total.nfe_mean = n > 0 ? (double)total.nfe_total / ((double)n * (double)K) : 0.0;
    if (ok && summary != NULL)
        *summary = total;
    fm_free(noisy);
    fm_free(log_q);
    return ok;
}
