/* adam: adaptive moments; weight decay is an L2 penalty, added to the gradient.
 *   g = grad_scale grad + weight_decay param
 *   m = beta1 m + (1 - beta1) g      v = beta2 v + (1 - beta2) g^2
 *   param -= lr / (1 - beta1^step) m / (sqrt(v) / sqrt(1 - beta2^step) + eps)
 * the arithmetic of torch.optim.Adam. */
#include <fmcore/cpu.h>
#include <fmcore/optimizer.h>

FM_FAST_FILE

typedef struct Adam {
    double beta1, beta2, eps;
} Adam;

static const FmOption adam_options[] = {
    FM_OPT_REAL(Adam, beta1, 0.9, 0.0, 0.999999, "decay of the mean of gradients"),
    FM_OPT_REAL(Adam, beta2, 0.999, 0.0, 0.999999, "decay of the mean of squared gradients"),
    FM_OPT_POSITIVE(Adam, eps, 1e-8, 1.0, "added to the root of the second moment"),
    FM_OPT_END,
};

/* The same loop for both types; constants are rounded once, outside of it. */
#define DEFINE_UPDATE(T, suffix, root)                                                             \
    FM_INLINE void adam_update_##suffix##_any(const Adam *self, const FmUpdate *u)                 \
    {                                                                                              \
        const double bias1 = 1.0 - pow(self->beta1, (double)u->step);                              \
        const double bias2 = 1.0 - pow(self->beta2, (double)u->step);                              \
        const T b1 = (T)self->beta1, c1 = (T)(1.0 - self->beta1), scale = (T)u->grad_scale;        \
        const T b2 = (T)self->beta2, c2 = (T)(1.0 - self->beta2), eps = (T)self->eps;              \
        const T rate = (T)(u->lr / bias1), unbias = (T)(1.0 / sqrt(bias2));                        \
        const T decay = (T)u->weight_decay;                                                        \
        const T *restrict grad = u->grad;                                                          \
        T *restrict p = u->param, *restrict m = u->moment[0], *restrict v = u->moment[1];          \
                                                                                                   \
        for (size_t i = 0; i < u->n; i++) {                                                        \
            const T g = scale * grad[i] + decay * p[i];                                            \
            m[i] = b1 * m[i] + c1 * g;                                                             \
            v[i] = b2 * v[i] + c2 * g * g;                                                         \
            p[i] = p[i] - rate * m[i] / (root(v[i]) * unbias + eps);                               \
        }                                                                                          \
    }                                                                                              \
    FM_CPU_VARIANTS(adam_update_##suffix, (const Adam *self, const FmUpdate *u), (self, u))

DEFINE_UPDATE(float, f32, sqrtf)
DEFINE_UPDATE(double, f64, sqrt)

static void
adam_update(const void *self, const FmUpdate *u)
{
    if (u->dtype == FM_F32)
        adam_update_f32(self, u);
    else
        adam_update_f64(self, u);
}

static const FmOptimizerOps adam_ops = {.update = adam_update, .moments = 2, .default_lr = 1e-3};

FM_PLUGIN_DECLARE(OPTIMIZER, adam, "adam", adam_ops, .self_size = sizeof(Adam),
                  .options = adam_options,
                  .summary = "adaptive moments, weight decay as an L2 penalty",
                  .source = "Kingma & Ba 2015, arXiv:1412.6980, algorithm 1");
