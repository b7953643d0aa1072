/* ot: exact optimal transport between the batch's noise and data, squared Euclidean cost, each point
 * used once.
 * Source: Tong et al. 2024, arXiv:2302.00482, sec. 3.2; Pooladian et al. 2023, arXiv:2304.14772. */
#include <fmcore/array.h>
#include <fmcore/coupling.h>

typedef struct Ot {
    size_t n; /* the buffers' size */
    double *cost;
    void *work;
} Ot;

static gboolean
ot_grow(Ot *s, size_t n, GError **error)
{
    size_t bytes;

    if (n <= s->n)
        return TRUE;
    fm_free(s->cost);
    fm_free(s->work);
    s->n = 0;
    s->cost = fm_size_mul(n, n, sizeof(double), &bytes) ? fm_alloc(bytes) : NULL;
    s->work = fm_alloc(fm_assignment_work(n));
    if (!s->cost || !s->work) {
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY,
                    "coupling 'ot': the costs of %zu x %zu pairs do not fit in memory", n, n);
        return FALSE;
    }
    s->n = n;
    return TRUE;
}

static gboolean
ot_pair(void *self, const FmPool *pool, FmPairs *pairs, GError **error)
{
    Ot *s = self;
    const size_t n = pool->n0, D = pool->D;

    if (pool->n0 != pool->n1 || pairs->B != n) {
        g_set_error(error, FM_ERROR, FM_ERROR_SHAPE,
                    "coupling 'ot' was given %zu noise and %zu data rows, expected as many of both", pool->n0,
                    pool->n1);
        return FALSE;
    }
    if (!ot_grow(s, n, error))
        return FALSE;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            const double *a = pool->x0 + i * D, *b = pool->x1 + j * D;
            double sum = 0.0;

            for (size_t d = 0; d < D; d++)
                sum += (a[d] - b[d]) * (a[d] - b[d]);
            if (!isfinite(sum)) {
                g_set_error(error, FM_ERROR, FM_ERROR_DIVERGED,
                            "coupling 'ot': the distance of noise row %zu and data row %zu is not finite", i,
                            j);
                return FALSE;
            }
            s->cost[i * n + j] = sum;
        }
    for (size_t i = 0; i < n; i++)
        pairs->i0[i] = i;
    fm_assignment(n, s->cost, pairs->i1, s->work);
    return TRUE;
}

static void
ot_clear(void *self)
{
    Ot *s = self;

    fm_free(s->cost);
    fm_free(s->work);
}

static const FmCouplingOps ot_ops = {.pair = ot_pair, .clear = ot_clear};

FM_PLUGIN_DECLARE(COUPLING, ot, "ot", ot_ops, .self_size = sizeof(Ot),
                  .summary = "exact optimal transport within the batch",
                  .source = "Tong et al. 2024, arXiv:2302.00482; Pooladian et al. 2023, arXiv:2304.14772");
