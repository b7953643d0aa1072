/* sgd: gradient descent with momentum; weight decay is an L2 penalty, added to the gradient.
 *   g = grad_scale grad + weight_decay param
 *   m = g at the first step, then momentum m + g
 *   param -= lr m, or lr (g + momentum m) with nesterov
 * the arithmetic of torch.optim.SGD without dampening. */
#include <fmcore/cpu.h>
#include <fmcore/optimizer.h>

FM_FAST_FILE

typedef struct Sgd {
    double momentum;
    gboolean nesterov;
} Sgd;

static const FmOption sgd_options[] = {
    FM_OPT_REAL(Sgd, momentum, 0.9, 0.0, 0.999999, "decay of the accumulated gradient"),
    FM_OPT_BOOL(Sgd, nesterov, no, "look ahead along the momentum"),
    FM_OPT_END,
};

/* The moment is zero before the first step, so momentum m + g is g there. Without nesterov the
 * step is m = 0 g + 1 m, with it g + momentum m. */
#define DEFINE_UPDATE(T, suffix) \
    FM_INLINE void sgd_update_##suffix##_any(const Sgd *self, const FmUpdate *u) \
    { \
        const T mu = (T)self->momentum, scale = (T)u->grad_scale, rate = (T)u->lr; \
        const T decay = (T)u->weight_decay; \
        const T of_g = self->nesterov ? 1 : 0, of_m = self->nesterov ? mu : 1; \
        const T *restrict grad = u->grad; \
        T *restrict p = u->param, *restrict m = u->moment[0]; \
\
        for (size_t i = 0; i < u->n; i++) { \
            const T g = scale * grad[i] + decay * p[i]; \
            m[i] = mu * m[i] + g; \
            p[i] = p[i] - rate * (of_g * g + of_m * m[i]); \
        } \
    } \
    FM_CPU_VARIANTS(sgd_update_##suffix, (const Sgd *self, const FmUpdate *u), (self, u))

DEFINE_UPDATE(float, f32)
DEFINE_UPDATE(double, f64)

static void
sgd_update(const void *self, const FmUpdate *u)
{
    if (u->dtype == FM_F32)
        sgd_update_f32(self, u);
    else
        sgd_update_f64(self, u);
}

static const FmOptimizerOps sgd_ops = {.update = sgd_update, .moments = 1, .default_lr = 1e-2};

FM_PLUGIN_DECLARE(OPTIMIZER, sgd, "sgd", sgd_ops, .self_size = sizeof(Sgd), .options = sgd_options,
                  .summary = "gradient descent with momentum",
                  .source = "Sutskever et al. 2013, as in torch.optim.SGD");
