/* mixture: k Gaussians on a circle in the first two axes, the other axes normal about 0.
 * Source: closed form */
#include <fmcore/dataset.h>

typedef struct Mixture {
    FmMixture mixture; /* first: see FM_MIXTURE_SLOTS */
    int k, dim; /* options */
    double radius, sd;
} Mixture;

static const FmOption mixture_options[] = {
    FM_OPT_INT(Mixture, k, 8, 1, 10000, "components"),
    FM_OPT_INT(Mixture, dim, 2, 1, 10000, "dimension"),
    FM_OPT_REAL(Mixture, radius, 4.0, 0.0, 1e6, "radius of the circle of means"),
    FM_OPT_POSITIVE(Mixture, sd, 0.5, 1e6, "standard deviation in the first two axes; 1 in others"),
    FM_OPT_END,
};

static gboolean
mixture_open(void *self, FmDataInfo *info, GError **error)
{
    Mixture *m = self;
    const size_t K = (size_t)m->k, D = (size_t)m->dim;

    *info = (FmDataInfo){.ndim = 1, .dim = {D}, .D = D, .classes = K};
    return fm_mixture_ring(&m->mixture, K, D, m->radius, m->sd, error);
}

static const FmDatasetOps mixture_ops = {.open = mixture_open, FM_MIXTURE_SLOTS};

FM_PLUGIN_DECLARE(DATASET, mixture, "mixture", mixture_ops, .self_size = sizeof(Mixture),
                  .options = mixture_options, .summary = "Gaussians on a circle, any number and dimension",
                  .source = "closed form");
