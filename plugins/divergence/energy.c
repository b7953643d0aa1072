/* energy: energy distance, unbiased (a U-statistic), so small values may be negative.
 *   2 E|X - Y| - E|X - X'| - E|Y - Y'|
 * Source: Szekely & Rizzo 2013, doi:10.1016/j.jspi.2013.03.018, eq. 2. */
#include <fmcore/divergence.h>

#include <math.h>

typedef struct Energy {
    int rows; /* option */
} Energy;

static const FmOption energy_options[] = {
    FM_OPT_INT(Energy, rows, 5000, 2, 1000000, "most rows used of each sample (time grows squared)"),
    FM_OPT_END,
};

static void
energy_kernel(const void *self, size_t n, double *v)
{
    for (size_t i = 0; i < n; i++)
        v[i] = -sqrt(v[i]);
}

static gboolean
energy_estimate(const void *self, const FmSamples *p, const FmSamples *q, FmKey key, int threads, FmEstimate *out,
                GError **error)
{
    return fm_estimate_pairs(p, q, (size_t)((const Energy *)self)->rows, key, energy_kernel, NULL, threads, out, error);
}

static const FmDivergenceOps energy_ops = {
    .estimate = energy_estimate,
    .zero_when_equal = TRUE,
    .n_min = 4,
};

static const FmFact energy_facts[] = {
    {"bias", "none; the estimate may be negative"},
    {"unit", "of the data; a squared statistical distance"},
    {NULL, NULL},
};

FM_PLUGIN_DECLARE(DIVERGENCE, energy, "energy", energy_ops, .self_size = sizeof(Energy), .options = energy_options,
                  .summary = "energy distance, unbiased",
                  .source = "Szekely & Rizzo 2013, doi:10.1016/j.jspi.2013.03.018", .facts = energy_facts);
