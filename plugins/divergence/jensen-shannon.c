/* jensen-shannon: Jensen-Shannon divergence from log-densities at both samples, in nats.
 *   JS = 1/2 E_P log 2p/(p+q) + 1/2 E_Q log 2q/(p+q)
 * Source: Lin 1991, doi:10.1109/18.61115. */
#include <fmcore/divergence.h>

#include <math.h>

/* One row: own and other log-density at it. */
static double
jensen_shannon_term(double own, double other)
{
    const double r = other - own; /* log 2 / (1 + e^r), without overflow */

    return r > 0.0 ? G_LN2 - r - log1p(exp(-r)) : G_LN2 - log1p(exp(r));
}

static gboolean
jensen_shannon_estimate(const void *self, const FmSamples *p, const FmSamples *q, FmKey key, int threads,
                        FmEstimate *out, GError **error)
{
    out->unit = "nats";
    fm_estimate_symmetric(p, q, jensen_shannon_term, out);
    return TRUE;
}

static const FmDivergenceOps jensen_shannon_ops = {
    .estimate = jensen_shannon_estimate,
    .needs_density = TRUE,
    .zero_when_equal = TRUE,
};

static const FmFact jensen_shannon_facts[] = {
    {"bias", "none when the log-densities are exact"},
    {"range", "0 to log 2 = 0.693"},
    {NULL, NULL},
};

FM_PLUGIN_DECLARE(DIVERGENCE, jensen_shannon, "jensen-shannon", jensen_shannon_ops,
                  .summary = "Jensen-Shannon divergence from log-densities at both samples",
                  .source = "Lin 1991, doi:10.1109/18.61115", .facts = jensen_shannon_facts);
