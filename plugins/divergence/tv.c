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

/* Mean of the terms of one sample; *var: variance of that mean. Returns FALSE with a reason when a
 * density is 0 at a row of its own sample. */
static gboolean
tv_mean(const FmSamples *s, const double *own, const double *other, double *mean, double *var,
        FmEstimate *out)
{
    double sum = 0.0;

    *mean = 0.0;
    for (size_t i = 0; i < s->n; i++) {
        const double before = *mean, v = tv_term(own[i], other[i]);

        if (own[i] == -INFINITY) {
            g_snprintf(out->why, sizeof out->why, "a density is 0 at row %zu of its own sample", i);
            return FALSE;
        }
        *mean += (v - before) / ((double)i + 1.0);
        sum += (v - before) * (v - *mean);
    }
    *var = sum / ((double)s->n - 1.0) / (double)s->n;
    return TRUE;
}

static gboolean
tv_estimate(const void *self, const FmSamples *p, const FmSamples *q, FmKey key, int threads,
            FmEstimate *out, GError **error)
{
    double a, b, va, vb;

    out->unit = "";
    out->n = p->n;
    if (!tv_mean(p, p->log_p, p->log_q, &a, &va, out) ||
        !tv_mean(q, q->log_q, q->log_p, &b, &vb, out))
        return TRUE; /* `why` says it */
    out->value = 0.5 * (a + b);
    out->se = 0.5 * sqrt(va + vb);
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

FM_PLUGIN_DECLARE(
    DIVERGENCE, tv, "tv", tv_ops,
    .summary = "total variation distance from log-densities at both samples",
    .source = "Levin & Peres, Markov Chains and Mixing Times, doi:10.1090/mbk/107, prop. 4.2",
    .facts = tv_facts);
