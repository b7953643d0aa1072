/* optimizer.c: calls into optimizer plugins. */
#include <fmcore/optimizer.h>
#include <math.h>

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

/* The same loop for both types; constants are rounded once, outside of it. */
#define DEFINE_TWO_MOMENTS(T, suffix, root)                                                        \
    static void two_moments_##suffix(const FmTwoMoments *how, const FmUpdate *u)                   \
    {                                                                                              \
        const double bias1 = 1.0 - pow(how->beta1, (double)u->step);                               \
        const double bias2 = 1.0 - pow(how->beta2, (double)u->step);                               \
        const T b1 = (T)how->beta1, c1 = (T)(1.0 - how->beta1), scale = (T)u->grad_scale;          \
        const T b2 = (T)how->beta2, c2 = (T)(1.0 - how->beta2), eps = (T)how->eps;                 \
        const T rate = (T)(u->lr / bias1), unbias = (T)(1.0 / sqrt(bias2));                        \
        const T penalty = (T)how->penalty, keep = (T)how->keep;                                    \
        const T *restrict grad = u->grad;                                                          \
        T *restrict p = u->param, *restrict m = u->moment[0], *restrict v = u->moment[1];          \
                                                                                                   \
        for (size_t i = 0; i < u->n; i++) {                                                        \
            const T g = scale * grad[i] + penalty * p[i];                                          \
            m[i] = b1 * m[i] + c1 * g;                                                             \
            v[i] = b2 * v[i] + c2 * g * g;                                                         \
            p[i] = keep * p[i] - rate * m[i] / (root(v[i]) * unbias + eps);                        \
        }                                                                                          \
    }

DEFINE_TWO_MOMENTS(float, f32, sqrtf)
DEFINE_TWO_MOMENTS(double, f64, sqrt)

void
fm_update_two_moments(const FmTwoMoments *how, const FmUpdate *u)
{
    if (u->dtype == FM_F32)
        two_moments_f32(how, u);
    else
        two_moments_f64(how, u);
}
