/* tv: total variation distance from log-densities at both samples.
 *   TV = 1/2 int |p - q| = E_P (1 - q/p)+ = E_Q (1 - p/q)+; the value is the mean of the two
 * Source: Levin & Peres, Markov Chains and Mixing Times, doi:10.1090/mbk/107, prop. 4.2. */
#include <fmcore/divergence.h>

#include <math.h>

/* One row: own and other log-density at it. */
static double
tv_term(double own, double other)
{
    return other >= own ? 0.0 : -expm1(other - own);
}

static gboolean
tv_estimate(const void *self, const FmSamples *p, const FmSamples *q, FmKey key, int threads, FmEstimate *out,
            GError **error)
{
    out->unit = "";
    fm_estimate_symmetric(p, q, tv_term, out);
    return TRUE;
}

static const FmDivergenceOps tv_ops = {
    .estimate = tv_estimate,
    .needs_density = TRUE,
    .zero_when_equal = TRUE,
};

static const FmFact tv_facts[] = {
    {"bias", "none when the log-densities are exact"},
    {"range", "0 to 1"},
    {NULL, NULL},
};

FM_PLUGIN_DECLARE(DIVERGENCE, tv, "tv", tv_ops,
                  .summary = "total variation distance from log-densities at both samples",
                  .source = "Levin & Peres, Markov Chains and Mixing Times, doi:10.1090/mbk/107, prop. 4.2",
                  .facts = tv_facts);
