/* coupling.c: pairs of noise and data. */
#include <fmcore/coupling.h>

static const FmCouplingOps *
coupling_ops(const FmPlugin *coupling)
{
    return fm_plugin_ops(coupling);
}

gboolean
fm_coupling_prepare(FmPlugin *coupling, size_t D, GError **error)
{
    const FmCouplingOps *ops = coupling_ops(coupling);

    return ops->prepare ? ops->prepare(fm_plugin_self(coupling), D, error) : TRUE;
}

gboolean
fm_coupling_row_wise(const FmPlugin *coupling)
{
    return coupling_ops(coupling)->row_wise;
}

size_t
fm_coupling_pool_size(const FmPlugin *coupling, size_t B)
{
    const FmCouplingOps *ops = coupling_ops(coupling);

    return ops->pool_size ? MAX(ops->pool_size(fm_plugin_self(coupling), B), B) : B;
}

gboolean
fm_coupling_pair(FmPlugin *coupling, const FmPool *pool, FmPairs *pairs, GError **error)
{
    for (size_t b = 0; b < pairs->B; b++)
        pairs->weight[b] = 1.0;
    if (!coupling_ops(coupling)->pair(fm_plugin_self(coupling), pool, pairs, error))
        return FALSE;
    for (size_t b = 0; b < pairs->B; b++)
        if (pairs->i0[b] >= pool->n0 || pairs->i1[b] >= pool->n1) {
            g_set_error(error, FM_ERROR, FM_ERROR_DATA,
                        "coupling '%s' chose pair (%zu, %zu) of pools of %zu and %zu rows", fm_plugin_name(coupling),
                        pairs->i0[b], pairs->i1[b], pool->n0, pool->n1);
            return FALSE;
        }
    return TRUE;
}
