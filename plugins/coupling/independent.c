/* independent: noise and data drawn independently, pair b is (b, b).
 * Source: Lipman et al. 2023, arXiv:2210.02747. */
#include <fmcore/coupling.h>

static gboolean
independent_pair(void *self, const FmPool *pool, FmPairs *pairs, GError **error)
{
    for (size_t b = 0; b < pairs->B; b++)
        pairs->i0[b] = pairs->i1[b] = b;
    return TRUE;
}

static const FmCouplingOps independent_ops = {.pair = independent_pair, .row_wise = TRUE};

FM_PLUGIN_DECLARE(COUPLING, independent, "independent", independent_ops,
                  .summary = "noise and data drawn independently", .source = "Lipman et al. 2023, arXiv:2210.02747");
