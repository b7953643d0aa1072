/* gaussian: N(mean, sd^2 I) in any dimension; the same mean in each. */
#include <fmcore/dataset.h>

typedef struct Gaussian {
    FmMixture mixture; /* one component; first: see FM_MIXTURE_SLOTS */
    int dim;           /* options */
    double mean, sd;
} Gaussian;

static const FmOption gaussian_options[] = {
    FM_OPT_INT(Gaussian, dim, 2, 1, 100000, "dimension"),
    FM_OPT_REAL(Gaussian, mean, 0.0, -1e6, 1e6, "mean of every coordinate"),
    FM_OPT_POSITIVE(Gaussian, sd, 1.0, 1e6, "standard deviation of every coordinate"),
    FM_OPT_END,
};

static gboolean
gaussian_open(void *self, FmDataInfo *info, GError **error)
{
    Gaussian *g = self;
    const size_t D = (size_t)g->dim;

    if (!fm_mixture_ring(&g->mixture, 1, D, 0.0, g->sd, error))
        return FALSE;
    for (size_t d = 0; d < D; d++) {
        ((double *)g->mixture.mean)[d] = g->mean;
        ((double *)g->mixture.sd)[d] = g->sd;
    }
    *info = (FmDataInfo){.ndim = 1, .dim = {D}, .D = D};
    return TRUE;
}

static double
gaussian_entropy(const void *self)
{
    const Gaussian *g = self;

    return g->dim * (0.5 * log(2.0 * G_PI * G_E) + log(g->sd));
}

static const FmDatasetOps gaussian_ops = {.open = gaussian_open,
                                          .draw = fm_mixture_slot_draw,
                                          .log_density = fm_mixture_slot_log_density,
                                          .entropy = gaussian_entropy,
                                          .score = fm_mixture_slot_score,
                                          .mixture = fm_mixture_slot_mixture,
                                          .clear = fm_mixture_slot_clear};

FM_PLUGIN_DECLARE(DATASET, gaussian, "gaussian", gaussian_ops, .self_size = sizeof(Gaussian),
                  .options = gaussian_options, .summary = "isotropic Gaussian in any dimension",
                  .source = "closed form");
