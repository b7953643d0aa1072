/* adamw: adaptive moments; weight decay is decoupled, param *= 1 - lr weight_decay first:
 * fm_update_two_moments() that keeps so much; the arithmetic of torch.optim.AdamW. */
#include <fmcore/optimizer.h>

typedef struct AdamW {
    double beta1, beta2, eps;
} AdamW;

static const FmOption adamw_options[] = {
    FM_OPT_REAL(AdamW, beta1, 0.9, 0.0, 0.999999, "decay of the mean of gradients"),
    FM_OPT_REAL(AdamW, beta2, 0.999, 0.0, 0.999999, "decay of the mean of squared gradients"),
    FM_OPT_POSITIVE(AdamW, eps, 1e-8, 1.0, "added to the root of the second moment"),
    FM_OPT_END,
};

static void
adamw_update(const void *self, const FmUpdate *u)
{
    const AdamW *s = self;
    const FmTwoMoments how = {
        .beta1 = s->beta1, .beta2 = s->beta2, .eps = s->eps, .penalty = 0.0, .keep = 1.0 - u->lr * u->weight_decay};

    fm_update_two_moments(&how, u);
}

static const FmOptimizerOps adamw_ops = {.update = adamw_update, .moments = 2, .default_lr = 1e-3};

FM_PLUGIN_DECLARE(OPTIMIZER, adamw, "adamw", adamw_ops, .self_size = sizeof(AdamW), .options = adamw_options,
                  .summary = "adaptive moments, decoupled weight decay",
                  .source = "Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2");
