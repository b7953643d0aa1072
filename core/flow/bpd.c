/* bpd.c: log-likelihood of quantised images by dequantisation, and what probes do to it.
 * Uniform dequantisation: Theis et al. 2016, arXiv:1511.01844, sec. 3.1; K draws: Burda et al. 2016,
 * arXiv:1509.00519.
 *
 * Hutchinson's estimate puts noise e_k with mean 0 into the log-density l_k of draw k. With the
 * weights w_k = exp l_k / sum exp l_j,
 *     E log mean exp(l_k + e_k) - log mean exp l_k = E log sum w_k exp e_k,
 * which is 0 when all draws of an image share their noise, and about (1 - sum w_k^2) var / 2 > 0,
 * an optimistic bias, when they do not. So the K draws of an image share one set of probes. What
 * differs between draws all the same is measured with a second set. */
#include "flow/integrate.h"

#include <math.h>
#include <string.h>

enum { BPD_STEPS = 1 << 20 }; /* of the stream, apart from its other users */

static gboolean
bpd_check(const FmFlow *flow, int K, GError **error)
{
    if (flow->run->data.levels >= 2 && K >= 1)
        return TRUE;
    g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                K >= 1 ? "bpd: the data are continuous; bits per dimension are for quantised images"
                       : "bpd: 0 draws of the dequantisation noise, expected at least 1");
    return FALSE;
}

static void
bpd_add(FmSolveSummary *total, const FmSolveSummary *one)
{
    total->nfe_total += one->nfe_total;
    total->accepted += one->accepted;
    total->rejected += one->rejected;
    total->failed += one->failed;
    if (one->nfe_max > total->nfe_max) {
        total->nfe_max = one->nfe_max;
        total->stiffest = one->stiffest;
    }
}

/* log q (K, n) of K dequantisations of each image; the probes are those of how->key. */
static gboolean
bpd_draws(FmFlow *flow, size_t n, const double *x, const int *labels, const FmLikelihood *how, int K, double *log_q,
          FmSolveSummary *total, GError **error)
{
    const int levels = flow->run->data.levels;
    const size_t D = flow->run->data.D;
    FmKey key = {.seed = how->key.seed, .stream = FM_STREAM_EVAL};
    double *noisy = fm__need("bpd", n, D, sizeof(double), error);
    gboolean ok = noisy != NULL;

    *total = (FmSolveSummary){0};
    for (size_t k = 0; ok && k < (size_t)K; k++) {
        FmSolveSummary one;

        key.step = BPD_STEPS + k;
        fm_fill_uniform_f64(key, 0, n, D, noisy);
        for (size_t i = 0; i < n * D; i++)
            noisy[i] = (x[i] * (levels - 1) + noisy[i]) / levels;
        ok = fm_flow_log_density(flow, n, noisy, labels, how, log_q + k * n, NULL, &one, error);
        if (ok)
            bpd_add(total, &one);
    }
    total->nfe_mean = n > 0 ? (double)total->nfe_total / ((double)n * (double)K) : 0.0;
    fm_free(noisy);
    return ok;
}

/* log mean exp of K values, `stride` apart. */
static double
log_mean_exp(const double *l, size_t K, size_t stride)
{
    double top = -INFINITY, sum = 0;

    for (size_t k = 0; k < K; k++)
        top = MAX(top, l[k * stride]);
    for (size_t k = 0; k < K; k++)
        sum += exp(l[k * stride] - top);
    return top + log(sum / (double)K);
}

gboolean
fm_flow_bpd(FmFlow *flow, size_t n, const double *x, const int *labels, const FmLikelihood *how, int K, double *nll,
            FmSolveSummary *summary, GError **error)
{
    const FmLikelihood fallback = fm__default_likelihood(flow);
    FmSolveSummary total;

    if (!bpd_check(flow, K, error))
        return FALSE;
    double *log_q = fm__need("bpd", n, (size_t)K, sizeof(double), error);
    const gboolean ok =
        log_q != NULL && bpd_draws(flow, n, x, labels, how != NULL ? how : &fallback, K, log_q, &total, error);
    for (size_t r = 0; ok && r < n; r++)
        nll[r] = (double)flow->run->data.D * log(flow->run->data.levels) - log_mean_exp(log_q + r, (size_t)K, n);
    if (ok && summary != NULL)
        *summary = total;
    fm_free(log_q);
    return ok;
}

/* ---- the solver's error ---- */

typedef struct Bpd {
    FmFlow *flow;
    size_t n;
    const double *x;
    const int *labels;
    const FmLikelihood *how;
    int K;
} Bpd;

static gboolean
bpd_again(void *ctx, double *value, GError **error)
{
    const Bpd *b = ctx;

    return fm_flow_bpd(b->flow, b->n, b->x, b->labels, b->how, b->K, value, NULL, error);
}

gboolean
fm_flow_bpd_error(FmFlow *flow, size_t n, const double *x, const int *labels, const FmLikelihood *how, int K,
                  const double *nll, double *difference, GError **error)
{
    Bpd again = {flow, n, x, labels, how, K};

    if (!fm__flow_is_map(flow) && (how == NULL || how->trace != FM_TRACE_MAP))
        return fm__solver_error(flow, n, nll, difference, bpd_again, &again, error);
    memset(difference, 0, n * sizeof(double));
    return TRUE;
}

/* ---- the probes ---- */

double
fm__noise_bias(size_t K, const double *l, double sd, FmKey key)
{
    enum { DRAWS = 400 };
    g_autofree double *e = g_new(double, K), *noisy = g_new(double, K);
    const double clean = log_mean_exp(l, K, 1);
    double sum = 0.0;

    if (K < 2 || !(sd > 0.0))
        return 0.0;
    for (guint64 i = 0; i < DRAWS; i++) { /* antithetic pairs; the first order has mean 0 */
        fm_fill_normal_f64(key, i, 1, K, e);
        for (int sign = -1; sign <= 1; sign += 2) {
            double first = 0.0, weights = 0.0;

            for (size_t k = 0; k < K; k++) {
                noisy[k] = l[k] + sign * sd * e[k];
                first += exp(l[k] - clean) * sign * sd * e[k];
                weights += exp(l[k] - clean);
            }
            sum += log_mean_exp(noisy, K, 1) - clean - first / weights;
        }
    }
    return sum / (2.0 * DRAWS);
}

/* Noise from log-densities a, b (K, n) of two sets of probes: b = a + noise - noise'. */
static void
noise_measure(size_t n, size_t K, const double *a, const double *b, FmKey key, FmProbeNoise *noise)
{
    g_autofree double *l = g_new(double, K);
    double all = 0.0, within = 0.0;

    for (size_t r = 0; r < n; r++) {
        double mean = 0.0;

        for (size_t k = 0; k < K; k++) {
            const double d = a[k * n + r] - b[k * n + r];
            mean += d / (double)K;
            all += 0.5 * d * d / (double)(n * K);
        }
        for (size_t k = 0; K > 1 && k < K; k++) {
            const double d = a[k * n + r] - b[k * n + r] - mean;
            within += 0.5 * d * d / (double)(n * (K - 1));
        }
    }
    *noise = (FmProbeNoise){.sd = sqrt(all), .sd_within = sqrt(within)};
    for (size_t r = 0; r < n; r++) {
        for (size_t k = 0; k < K; k++)
            l[k] = a[k * n + r];
        key.step = r;
        noise->bias += fm__noise_bias(K, l, noise->sd_within, key) / (double)n;
    }
}

gboolean
fm_flow_probe_noise(FmFlow *flow, size_t n, const double *x, const int *labels, const FmLikelihood *how, int K,
                    FmProbeNoise *noise, GError **error)
{
    const FmLikelihood fallback = fm__default_likelihood(flow);
    const FmLikelihood *first = how != NULL ? how : &fallback;
    FmLikelihood other = *first;
    FmSolveSummary unused;

    *noise = (FmProbeNoise){0};
    if (first->trace != FM_TRACE_HUTCHINSON || fm__flow_is_map(flow) || n == 0)
        return TRUE;
    if (K > 0 && !bpd_check(flow, K, error))
        return FALSE;
    const size_t draws = (size_t)MAX(K, 1);
    other.key.step += BPD_STEPS; /* another set of probes */
    double *a = fm__need("probes", n, 2 * draws, sizeof(double), error);
    double *b = a == NULL ? NULL : a + n * draws;
    gboolean ok = a != NULL;
    if (ok && K > 0)
        ok = bpd_draws(flow, n, x, labels, first, K, a, &unused, error) &&
             bpd_draws(flow, n, x, labels, &other, K, b, &unused, error);
    else if (ok)
        ok = fm_flow_log_density(flow, n, x, labels, first, a, NULL, NULL, error) &&
             fm_flow_log_density(flow, n, x, labels, &other, b, NULL, NULL, error);
    if (ok)
        noise_measure(n, draws, a, b, (FmKey){.seed = first->key.seed, .stream = FM_STREAM_EVAL}, noise);
    fm_free(a);
    return ok;
}
