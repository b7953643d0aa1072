/* mmd: squared maximum mean discrepancy with Gaussian kernels, unbiased, so it may be negative.
 *   E k(x, x') + E k(y, y') - 2 E k(x, y),  k(x, y) = mean over s of exp(-|x - y|^2 / (2 s^2))
 * Bandwidths s: given, or the median distance of pairs of the pooled sample.
 * Source: Gretton et al. 2012, JMLR 13:723, eq. 3 and sec. 8 (median heuristic). */
#include <fmcore/divergence.h>

#include <math.h>
#include <stdlib.h>

enum { MMD_MEDIAN_PAIRS = 4000, MMD_MAX = 16 };

typedef struct Mmd {
    FmReals bandwidth; /* option */
    int rows;          /* option */
} Mmd;

static const FmOption mmd_options[] = {
    FM_OPT_REALS(Mmd, bandwidth, "", 1e-300, 1e300, "kernel widths [s1,s2,...]; unset: the median distance"),
    FM_OPT_INT(Mmd, rows, 5000, 2, 1000000, "most rows used of each sample (time grows squared)"),
    FM_OPT_END,
};

typedef struct MmdKernel {
    size_t n;
    double rate[MMD_MAX]; /* 1 / (2 s^2) */
} MmdKernel;

static void
mmd_kernel(const void *self, size_t n, double *v)
{
    const MmdKernel *k = self;

    for (size_t i = 0; i < n; i++) {
        double sum = 0.0;

        for (size_t j = 0; j < k->n; j++)
            sum += exp(-k->rate[j] * v[i]);
        v[i] = sum / (double)k->n;
    }
}

static int
mmd_compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Median distance of random pairs of distinct rows of the pooled sample; where that is 0, of the pairs that differ;
 * 0 when none does. */
static double
mmd_median(const FmSamples *p, const FmSamples *q, FmKey key)
{
    double d2[MMD_MEDIAN_PAIRS];
    FmRng rng = fm_rng(key, 0);
    const guint32 n = (guint32)MIN(p->n + q->n, (size_t)G_MAXUINT32);

    for (size_t i = 0; i < MMD_MEDIAN_PAIRS; i++) {
        const size_t a = fm_rng_below(&rng, n);
        const size_t b = (a + 1 + fm_rng_below(&rng, n - 1)) % n;
        const double *x = a < p->n ? p->x + a * p->D : q->x + (a - p->n) * p->D;
        const double *y = b < p->n ? p->x + b * p->D : q->x + (b - p->n) * p->D;

        d2[i] = 0.0;
        for (size_t d = 0; d < p->D; d++)
            d2[i] += (x[d] - y[d]) * (x[d] - y[d]);
    }
    qsort(d2, MMD_MEDIAN_PAIRS, sizeof *d2, mmd_compare);
    size_t equal = 0;
    while (equal < MMD_MEDIAN_PAIRS && d2[equal] == 0.0)
        equal++;
    if (equal <= MMD_MEDIAN_PAIRS / 2)
        equal = 0;
    else if (equal == MMD_MEDIAN_PAIRS)
        return 0.0;
    return sqrt(d2[equal + (MMD_MEDIAN_PAIRS - equal) / 2]);
}

static gboolean
mmd_estimate(const void *self, const FmSamples *p, const FmSamples *q, FmKey key, int threads, FmEstimate *out,
             GError **error)
{
    const Mmd *mmd = self;
    MmdKernel kernel = {.n = MAX(mmd->bandwidth.n, 1)};
    double width[MMD_MAX];

    if (kernel.n > MMD_MAX) {
        g_set_error(error, FM_ERROR, FM_ERROR_OPTION,
                    "divergence 'mmd': option 'bandwidth' has %zu entries, expected at most %d", kernel.n, MMD_MAX);
        return FALSE;
    }
    for (size_t j = 0; j < kernel.n; j++) {
        double s = mmd->bandwidth.n ? mmd->bandwidth.v[j] : mmd_median(p, q, key);

        if (s == 0.0) /* no pair differs */
            s = 1.0;
        width[j] = s;
        kernel.rate[j] = MIN(0.5 / (s * s), G_MAXDOUBLE); /* not infinite: 0 times it is 0 */
    }
    if (!fm_estimate_pairs(p, q, (size_t)mmd->rows, key, mmd_kernel, &kernel, threads, out, error))
        return FALSE;
    for (size_t j = 0; j < kernel.n; j++)
        fm_estimate_number(out, kernel.n == 1 ? "bandwidth" : "bandwidths", width[j]);
    return TRUE;
}

static const FmDivergenceOps mmd_ops = {
    .estimate = mmd_estimate,
    .zero_when_equal = TRUE,
    .n_min = 4,
};

static const FmFact mmd_facts[] = {
    {"bias", "none for given bandwidths; the estimate may be negative"},
    {"value", "squared MMD; several bandwidths: the mean of their kernels"},
    {NULL, NULL},
};

FM_PLUGIN_DECLARE(DIVERGENCE, mmd, "mmd", mmd_ops, .self_size = sizeof(Mmd), .options = mmd_options,
                  .summary = "squared maximum mean discrepancy, Gaussian kernels, unbiased",
                  .source = "Gretton et al. 2012, JMLR 13:723, eq. 3", .facts = mmd_facts);
