/* optimizer.c: calls into optimizer plugins. */
#include <fmcore/optimizer.h>

void
fm_optimizer_update(const FmPlugin *optimizer, const FmUpdate *u)
{
    const FmOptimizerOps *ops = fm_plugin_ops(optimizer);

    g_return_if_fail(u->dtype == FM_F32 || u->dtype == FM_F64);
    g_return_if_fail(u->step >= 1);
    ops->update(fm_plugin_self(optimizer), u);
}

int
fm_optimizer_moments(const FmPlugin *optimizer)
{
    return ((const FmOptimizerOps *)fm_plugin_ops(optimizer))->moments;
}
