/* 8gaussians: eight Gaussians on a circle; repositories differ in radius and width.
 * Source: FFJORD's toy_data.py (Grathwohl et al. 2019, arXiv:1810.01367); torchcfm */
#include <fmcore/dataset.h>

typedef struct Eight {
    FmMixture mixture; /* first: see FM_MIXTURE_SLOTS */
    int variant;       /* option: 0 ffjord, 1 torchcfm */
} Eight;

static const char *const variants[] = {"ffjord", "torchcfm", NULL};

static const FmOption eight_options[] = {
    FM_OPT_CHOICE(Eight, variant, variants, "ffjord", "whose constants"),
    FM_OPT_END,
};

static gboolean
eight_open(void *self, FmDataInfo *info, GError **error)
{
    Eight *s = self;
    /* torchcfm asks for a variance of 0.1 and hands its root to MultivariateNormal as the covariance. */
    const double radius = s->variant == 0 ? 4.0 / 1.414 : 5.0;
    const double sd = s->variant == 0 ? 0.5 / 1.414 : sqrt(sqrt(0.1));

    *info = (FmDataInfo){.ndim = 1, .dim = {2}, .D = 2, .classes = 8};
    return fm_mixture_ring(&s->mixture, 8, 2, radius, sd, error);
}

static const FmDatasetOps eight_ops = {.open = eight_open, FM_MIXTURE_SLOTS};

static const FmFact eight_facts[] = {
    {"ffjord", "radius 4, sd 0.5, all divided by 1.414; entropy 2.8319 nats"},
    {"torchcfm", "radius 5, variance sqrt(0.1) an axis (its covariance is the root of the variance asked for)"},
    {NULL, NULL},
};

FM_PLUGIN_DECLARE(DATASET, 8gaussians, "8gaussians", eight_ops, .self_size = sizeof(Eight), .options = eight_options,
                  .facts = eight_facts, .summary = "eight Gaussians on a circle",
                  .source = "FFJORD's toy_data.py (Grathwohl et al. 2019, arXiv:1810.01367); torchcfm");
