/* latent.c: the metric "latent-test" of encoded points. */
#include "cli/cli.h"
#include "flow/integrate.h"
#include "flow/latent.h"

#include <math.h>

enum { LATENT_LEAST = 20 }; /* rows */

void
latent_metric(const FmFlow *flow, size_t n, const double *z, GArray *metrics)
{
    const double start = cli_seconds();
    FmLatent l;

    if (flow->run->source || n < LATENT_LEAST)
        return;
    fm_latent_test(n, flow->run->data.D, z, fm__base_sd(flow), &l);
    FmEstimate e = {.value = l.combined, .se = NAN, .n = l.n, .unit = "p-value"};
    if (isnan(l.combined))
        g_strlcpy(e.why, "fewer than two rows were encoded", sizeof e.why);
    fm_estimate_text(&e, "what", "z against N(0, I)");
    fm_estimate_number(&e, "scale", l.scale);
    fm_estimate_number(&e, "mean", l.mean);
    fm_estimate_number(&e, "radius_distance", l.radius);
    for (int k = 0; k < FM_LATENT_N_TESTS; k++)
        if (!isnan(l.p[k]))
            fm_estimate_number(&e, fm_latent_names[k], l.p[k]);
    if (l.skipped > 0)
        fm_estimate_number(&e, "failed", (double)l.skipped);
    metrics_add(metrics, "latent-test", &e, cli_seconds() - start);
}
