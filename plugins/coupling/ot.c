/* ot: exact optimal transport between the batch's noise and data, squared Euclidean cost, each
 * point used once. Source: Tong et al. 2024, arXiv:2302.00482, sec. 3.2; Pooladian et al. 2023,
 * arXiv:2304.14772. */
#include <fmcore/array.h>
#include <fmcore/coupling.h>

typedef struct Ot {
    size_t n, D; /* what the buffers are for; they stay from batch to batch */
    double *cost, *scratch;
    void *work;
} Ot;

static void
ot_clear(void *self)
{
    Ot *s = self;

    g_clear_pointer(&s->cost, fm_free);
    g_clear_pointer(&s->scratch, fm_free);
    g_clear_pointer(&s->work, fm_free);
    s->n = s->D = 0;
}

static gboolean
ot_reserve(Ot *s, size_t n, size_t D, GError **error)
{
    size_t bytes;

    if (n == s->n && D == s->D)
        return TRUE;
    ot_clear(s);
    if (n < G_MAXINT32 && fm_size_mul(n, n, sizeof *s->cost, &bytes)) {
        s->cost = fm_alloc(bytes);
        s->work = fm_alloc(fm_assignment_work(n));
        s->scratch = fm_alloc(fm_distances2_work(n, n, D) * sizeof *s->scratch);
    }
    if (s->cost == NULL || s->work == NULL || s->scratch == NULL) {
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY,
                    "coupling 'ot': the costs of %zu x %zu pairs do not fit in memory", n, n);
        return FALSE;
    }
    s->n = n;
    s->D = D;
    return TRUE;
}

static void
ot_refuse(const Ot *s, GError **error)
{
    for (size_t k = 0; k < s->n * s->n; k++)
        if (!isfinite(s->cost[k])) {
            g_set_error(error, FM_ERROR, FM_ERROR_DIVERGED,
                        "coupling 'ot': the distance of noise row %zu and data row %zu is not "
                        "finite",
                        k / s->n, k % s->n);
            return;
        }
    g_set_error(error, FM_ERROR, FM_ERROR_DIVERGED,
                "coupling 'ot': the sum of all %zu x %zu squared distances overflows, expected "
                "data of moderate size",
                s->n, s->n);
}

static gboolean
ot_pair(void *self, const FmPool *pool, FmPairs *pairs, GError **error)
{
    Ot *s = self;
    const size_t n = pool->n0;

    if (pool->n0 != pool->n1 || pairs->B != n) {
        g_set_error(error, FM_ERROR, FM_ERROR_SHAPE,
                    "coupling 'ot' was given %zu noise and %zu data rows, expected as many of both", pool->n0,
                    pool->n1);
        return FALSE;
    }
    if (!ot_reserve(s, n, pool->D, error))
        return FALSE;
    fm_distances2(n, pool->x0, n, pool->x1, pool->D, s->scratch, s->cost);
    if (!isfinite(fm_assignment(n, s->cost, pairs->i1, s->work))) {
        ot_refuse(s, error);
        return FALSE;
    }
    for (size_t i = 0; i < n; i++)
        pairs->i0[i] = i;
    return TRUE;
}

static const FmCouplingOps ot_ops = {.pair = ot_pair, .clear = ot_clear};

FM_PLUGIN_DECLARE(COUPLING, ot, "ot", ot_ops, .self_size = sizeof(Ot),
                  .summary = "exact optimal transport within the batch",
                  .source = "Tong et al. 2024, arXiv:2302.00482; Pooladian et al. 2023, "
                            "arXiv:2304.14772");
