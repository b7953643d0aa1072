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

/* Mean of the terms of one sample; *var: variance of that mean. Returns FALSE with a reason when a
 * density is 0 at a row of its own sample. */
static gboolean
jensen_shannon_mean(const FmSamples *s, const double *own, const double *other, double *mean,
                    double *var, FmEstimate *out)
{
    double sum = 0.0;

    *mean = 0.0;
    for (size_t i = 0; i < s->n; i++) {
        const double before = *mean, v = jensen_shannon_term(own[i], other[i]);

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
jensen_shannon_estimate(const void *self, const FmSamples *p, const FmSamples *q, FmKey key,
                        int threads, FmEstimate *out, GError **error)
{
    double a, b, va, vb;

    out->unit = "nats";
    out->n = p->n;
    if (!jensen_shannon_mean(p, p->log_p, p->log_q, &a, &va, out) ||
        !jensen_shannon_mean(q, q->log_q, q->log_p, &b, &vb, out))
        return TRUE; /* `why` says it */
    out->value = 0.5 * (a + b);
    out->se = 0.5 * sqrt(va + vb);
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
