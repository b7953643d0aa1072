/* mc-kl: KL(P||Q) as the mean of log p - log q over P's sample, in nats.
 * Needs both log-densities. Unbiased; standard error of a mean.
 * Source: definition (Kullback & Leibler 1951, doi:10.1214/aoms/1177729694, eq. 2.4). */
#include <fmcore/divergence.h>

#include <math.h>

static gboolean
mc_kl_estimate(const void *self, const FmSamples *p, const FmSamples *q, FmKey key, int threads, FmEstimate *out,
               GError **error)
{
    double mean = 0.0, sum = 0.0;

    out->unit = "nats";
    out->n = p->n;
    for (size_t i = 0; i < p->n; i++) {
        const double ratio = p->log_p[i] - p->log_q[i], old = mean;

        if (!isfinite(ratio)) {
            g_snprintf(out->why, sizeof out->why,
                       p->log_p[i] == -INFINITY ? "the first density is 0 at its own row %zu"
                                                : "infinite: the second density is 0 at row %zu",
                       i);
            return TRUE;
        }
        mean += (ratio - mean) / ((double)i + 1.0);
        sum += (ratio - old) * (ratio - mean);
    }
    out->value = mean;
    out->se = sqrt(sum / ((double)p->n - 1.0) / (double)p->n);
    return TRUE;
}

static const FmDivergenceOps mc_kl_ops = {
    .estimate = mc_kl_estimate,
    .needs_density = TRUE,
    .zero_when_equal = TRUE,
};

static const FmFact mc_kl_facts[] = {
    {"bias", "none when the log-densities are exact"},
    {NULL, NULL},
};

FM_PLUGIN_DECLARE(DIVERGENCE, mc_kl, "mc-kl", mc_kl_ops,
                  .summary = "Kullback-Leibler divergence from log-densities at P's sample",
                  .source = "Kullback & Leibler 1951, doi:10.1214/aoms/1177729694, eq. 2.4", .facts = mc_kl_facts);
