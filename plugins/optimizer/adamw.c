/* adamw: adaptive moments; weight decay is decoupled, param *= 1 - lr weight_decay first.
 *   g = grad_scale grad
 *   m = beta1 m + (1 - beta1) g      v = beta2 v + (1 - beta2) g^2
 *   param -= lr / (1 - beta1^step) m / (sqrt(v) / sqrt(1 - beta2^step) + eps)
 * the arithmetic of torch.optim.AdamW. */
#include <fmcore/cpu.h>
#include <fmcore/optimizer.h>

FM_FAST_FILE

typedef struct AdamW {
    double beta1, beta2, eps;
} AdamW;

static const FmOption adamw_options[] = {
    FM_OPT_REAL(AdamW, beta1, 0.9, 0.0, 0.999999, "decay of the mean of gradients"),
    FM_OPT_REAL(AdamW, beta2, 0.999, 0.0, 0.999999, "decay of the mean of squared gradients"),
    FM_OPT_POSITIVE(AdamW, eps, 1e-8, 1.0, "added to the root of the second moment"),
    FM_OPT_END,
};

/* The same loop for both types; constants are rounded once, outside of it. */
#define DEFINE_UPDATE(T, suffix, root)                                                             \
    FM_INLINE void adamw_update_##suffix##_any(const AdamW *self, const FmUpdate *u)               \
    {                                                                                              \
        const double bias1 = 1.0 - pow(self->beta1, (double)u->step);                              \
        const double bias2 = 1.0 - pow(self->beta2, (double)u->step);                              \
        const T b1 = (T)self->beta1, c1 = (T)(1.0 - self->beta1), scale = (T)u->grad_scale;        \
        const T b2 = (T)self->beta2, c2 = (T)(1.0 - self->beta2), eps = (T)self->eps;              \
        const T rate = (T)(u->lr / bias1), unbias = (T)(1.0 / sqrt(bias2));                        \
        const T keep = (T)(1.0 - u->lr * u->weight_decay);                                         \
        const T *restrict grad = u->grad;                                                          \
        T *restrict p = u->param, *restrict m = u->moment[0], *restrict v = u->moment[1];          \
                                                                                                   \
        for (size_t i = 0; i < u->n; i++) {                                                        \
            const T g = scale * grad[i];                                                           \
            m[i] = b1 * m[i] + c1 * g;                                                             \
            v[i] = b2 * v[i] + c2 * g * g;                                                         \
            p[i] = keep * p[i] - rate * m[i] / (root(v[i]) * unbias + eps);                        \
        }                                                                                          \
    }                                                                                              \
    FM_CPU_VARIANTS(adamw_update_##suffix, (const AdamW *self, const FmUpdate *u), (self, u))

DEFINE_UPDATE(float, f32, sqrtf)
DEFINE_UPDATE(double, f64, sqrt)

static void
adamw_update(const void *self, const FmUpdate *u)
{
    if (u->dtype == FM_F32)
        adamw_update_f32(self, u);
    else
        adamw_update_f64(self, u);
}

static const FmOptimizerOps adamw_ops = {.update = adamw_update, .moments = 2, .default_lr = 1e-3};

FM_PLUGIN_DECLARE(OPTIMIZER, adamw, "adamw", adamw_ops, .self_size = sizeof(AdamW),
                  .options = adamw_options, .summary = "adaptive moments, decoupled weight decay",
                  .source = "Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2");
