/* optimizer.c: calls into optimizer plugins, and the loop that adaptive ones share. */
#include <fmcore/cpu.h>
#include <fmcore/optimizer.h>
#include <math.h>

FM_FAST_FILE /* roots and quotients are rounded the same way at every level */

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

/* The constants of one update; rounded to the weights' type once. */
typedef struct Moments {
    double beta1, beta2, eps, scale, penalty, keep;
    double rate, unbias; /* lr / (1 - beta1^step), 1 / sqrt(1 - beta2^step) */
} Moments;

#define TWO_MOMENTS(NAME, T, ROOT) \
    FM_INLINE void NAME##_any(const Moments *how, size_t n, const T *restrict grad, T *restrict p, T *restrict m, \
                              T *restrict v) \
    { \
        const T b1 = (T)how->beta1, c1 = (T)(1.0 - how->beta1), scale = (T)how->scale; \
        const T b2 = (T)how->beta2, c2 = (T)(1.0 - how->beta2), eps = (T)how->eps; \
        const T rate = (T)how->rate, unbias = (T)how->unbias; \
        const T penalty = (T)how->penalty, keep = (T)how->keep; \
        for (size_t i = 0; i < n; i++) { \
            const T g = scale * grad[i] + penalty * p[i]; \
            const T mean = b1 * m[i] + c1 * g, square = b2 * v[i] + c2 * g * g; \
            m[i] = mean; \
            v[i] = square; \
            p[i] = keep * p[i] - rate * mean / (ROOT(square) * unbias + eps); \
        } \
    } \
    FM_CPU_VARIANTS( \
        NAME, (const Moments *how, size_t n, const T *restrict grad, T *restrict p, T *restrict m, T *restrict v), \
        (how, n, grad, p, m, v))

TWO_MOMENTS(two_moments_f32, float, sqrtf)
TWO_MOMENTS(two_moments_f64, double, sqrt)

void
fm_update_two_moments(const FmTwoMoments *how, const FmUpdate *u)
{
    const double bias1 = 1.0 - pow(how->beta1, (double)u->step);
    const double bias2 = 1.0 - pow(how->beta2, (double)u->step);
    const Moments c = {.beta1 = how->beta1,
                       .beta2 = how->beta2,
                       .eps = how->eps,
                       .scale = u->grad_scale,
                       .penalty = how->penalty,
                       .keep = how->keep,
                       .rate = u->lr / bias1,
                       .unbias = 1.0 / sqrt(bias2)};

    if (u->dtype == FM_F32)
        two_moments_f32(&c, u->n, u->grad, u->param, u->moment[0], u->moment[1]);
    else
        two_moments_f64(&c, u->n, u->grad, u->param, u->moment[0], u->moment[1]);
}
