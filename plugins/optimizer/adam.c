/* adam: adaptive moments; weight decay is an L2 penalty, added to the gradient:
 * fm_update_two_moments() with penalty weight_decay; the arithmetic of torch.optim.Adam. */
#include <fmcore/optimizer.h>

typedef struct Adam {
    double beta1, beta2, eps;
} Adam;

static const FmOption adam_options[] = {
    FM_OPT_REAL(Adam, beta1, 0.9, 0.0, 0.999999, "decay of the mean of gradients"),
    FM_OPT_REAL(Adam, beta2, 0.999, 0.0, 0.999999, "decay of the mean of squared gradients"),
    FM_OPT_POSITIVE(Adam, eps, 1e-8, 1.0, "added to the root of the second moment"),
    FM_OPT_END,
};

static void
adam_update(const void *self, const FmUpdate *u)
{
    const Adam *s = self;
    const FmTwoMoments how = {
        .beta1 = s->beta1, .beta2 = s->beta2, .eps = s->eps, .penalty = u->weight_decay, .keep = 1.0};

    fm_update_two_moments(&how, u);
}

static const FmOptimizerOps adam_ops = {.update = adam_update, .moments = 2, .default_lr = 1e-3};

FM_PLUGIN_DECLARE(OPTIMIZER, adam, "adam", adam_ops, .self_size = sizeof(Adam), .options = adam_options,
                  .summary = "adaptive moments, weight decay as an L2 penalty",
                  .source = "Kingma & Ba 2015, arXiv:1412.6980, algorithm 1");
