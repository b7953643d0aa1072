/* w2: 2-Wasserstein distance of two samples (not squared) by exact assignment of as many rows.
 *   W2 = sqrt(min over matchings of mean |x_i - y_match(i)|^2)
 * The empirical distance lies above the distributions' own: by O(n^(-1/d)) when these are close,
 * less when they are far apart. Standard error around the estimator's mean, from the matching's
 * potentials f, g: var(W2^2) = var f(X) / n + var g(Y) / n (del Barrio & Loubes 2019,
 * doi:10.1214/18-AOP1275, theorem 4.1), then the delta method; P = Q is outside of its assumptions
 * and gives a wide bar. Source: Villani 2009, doi:10.1007/978-3-540-71050-9, definition 6.1. */
#include <fmcore/array.h>
#include <fmcore/coupling.h>
#include <fmcore/divergence.h>

#include <math.h>
#include <string.h>

typedef struct W2 {
    int rows; /* option */
} W2;

static const FmOption w2_options[] = {
    FM_OPT_INT(W2, rows, 2000, 2, 10000,
               "most rows used of each sample (memory 20 bytes times its square)"),
    FM_OPT_END,
};

/* n rows of s, a random subset by `key` when there are more. */
static void
w2_subset(const FmSamples *s, size_t n, FmKey key, double *x)
{
    for (size_t i = 0; i < n; i++) {
        const size_t r = n < s->n ? fm_permute_index(key, s->n, i) : i;

        memcpy(x + i * s->D, s->x + r * s->D, s->D * sizeof *x);
    }
}

static double
w2_variance(size_t n, const double *v)
{
    double mean = 0.0, sum = 0.0;

    for (size_t i = 0; i < n; i++)
        mean += v[i] / (double)n;
    for (size_t i = 0; i < n; i++)
        sum += (v[i] - mean) * (v[i] - mean);
    return sum / ((double)n - 1.0);
}

/* Value and error from the costs; potential (n) scratch, work: of the assignment. */
static void
w2_solve(size_t n, const double *cost, size_t *to, double *potential, void *work, FmEstimate *out)
{
    const double total = fm_assignment(n, cost, to, work);
    const double *v = work;
    double var;

    if (!isfinite(total)) {
        g_strlcpy(out->why, "squared distances of the samples overflow", sizeof out->why);
        return;
    }
    out->value = sqrt(MAX(total, 0.0) / (double)n);
    for (size_t i = 0; i < n; i++)
        potential[i] = cost[i * n + to[i]] - v[to[i]];
    var = (w2_variance(n, potential) + w2_variance(n, v)) / (double)n;
    out->se = out->value > 0.0 ? sqrt(var) / (2.0 * out->value) : 0.0;
}

static gboolean
w2_estimate(const void *self, const FmSamples *p, const FmSamples *q, FmKey key, int threads,
            FmEstimate *out, GError **error)
{
    const FmKey other = {.seed = key.seed, .stream = key.stream, .step = key.step + 1};
    const size_t n = MIN(MIN(p->n, q->n), (size_t)((const W2 *)self)->rows), D = p->D;
    double *x = fm_alloc(2 * n * D * sizeof *x), *cost = fm_alloc(n * n * sizeof *cost);
    double *scratch = fm_alloc(MAX(fm_distances2_work(n, n, D), n) * sizeof *scratch);
    void *work = fm_alloc(fm_assignment_work(n));
    size_t *to = fm_alloc(n * sizeof *to);
    const gboolean ok = x && cost && scratch && work && to;

    out->n = n;
    out->unit = "of the data";
    fm_estimate_text(out, "se", "around the estimator's own mean");
    if (!ok)
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY,
                    "divergence 'w2': the costs of %zu x %zu pairs do not fit in memory", n, n);
    else {
        w2_subset(p, n, key, x);
        w2_subset(q, n, other, x + n * D);
        fm_distances2(n, x, n, x + n * D, D, scratch, cost);
        w2_solve(n, cost, to, scratch, work, out);
    }
    fm_free(x);
    fm_free(cost);
    fm_free(scratch);
    fm_free(work);
    fm_free(to);
    return ok;
}

static const FmDivergenceOps w2_ops = {.estimate = w2_estimate};

static const FmFact w2_facts[] = {
    {"bias", "upwards, of order n^(-1/d) near P = Q; compare only at equal sample sizes"},
    {"error", "around the estimator's own mean (del Barrio & Loubes 2019); wide near P = Q"},
    {"rows", "as many of both samples; a random subset by the seed of what is more"},
    {NULL, NULL},
};

FM_PLUGIN_DECLARE(DIVERGENCE, w2, "w2", w2_ops, .self_size = sizeof(W2), .options = w2_options,
                  .summary = "2-Wasserstein distance (not squared) by exact assignment",
                  .source = "Villani 2009, doi:10.1007/978-3-540-71050-9, definition 6.1",
                  .facts = w2_facts);
