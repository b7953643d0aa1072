/* mixture: k Gaussians on a circle in the first two axes, the other axes normal about 0.
 * Source: closed form */
#include <fmcore/dataset.h>

typedef struct Mixture {
    FmMixture mixture; /* first: see FM_MIXTURE_SLOTS */
    int k, dim;        /* options */
    double radius, sd;
    FmReals sds, weights;
} Mixture;

static const FmOption mixture_options[] = {
    FM_OPT_INT(Mixture, k, 8, 1, 10000, "components"),
    FM_OPT_INT(Mixture, dim, 2, 1, 10000, "dimension"),
    FM_OPT_REAL(Mixture, radius, 4.0, 0.0, 1e6, "radius of the circle of means"),
    FM_OPT_POSITIVE(Mixture, sd, 0.5, 1e6, "standard deviation in the first two axes; 1 in others"),
    FM_OPT_REALS(Mixture, sds, "", 1e-300, 1e6, "the same, one for each component; instead of `sd`"),
    FM_OPT_REALS(Mixture, weights, "", 1e-300, 1e300,
                 "chances of the components, up to a factor; equal when not given"),
    FM_OPT_END,
};

/* An option that has one entry for each component, or none. */
static gboolean
fits(const Mixture *m, const char *name, const FmReals *list, GError **error)
{
    if (list->n == 0 || list->n == (size_t)m->k)
        return TRUE;
    g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                "dataset 'mixture': option '%s' has %zu entries, expected one for each of %d components", name, list->n,
                m->k);
    return FALSE;
}

/* The lists' numbers into the mixture that owns them. */
static void
apply(Mixture *m)
{
    const size_t K = m->mixture.K, D = m->mixture.D;
    double *weight = (double *)m->mixture.weight, *sd = (double *)m->mixture.sd, total = 0.0;

    for (size_t k = 0; k < m->weights.n; k++)
        total += m->weights.v[k] / (double)K;
    for (size_t k = 0; k < m->weights.n; k++)
        weight[k] = m->weights.v[k] / (double)K / total;
    for (size_t k = 0; k < m->sds.n; k++)
        for (size_t d = 0; d < MIN(D, 2); d++)
            sd[k * D + d] = m->sds.v[k];
}

static gboolean
mixture_open(void *self, FmDataInfo *info, GError **error)
{
    Mixture *m = self;
    const size_t K = (size_t)m->k, D = (size_t)m->dim;

    *info = (FmDataInfo){.ndim = 1, .dim = {D}, .D = D, .classes = K};
    if (!fits(m, "sds", &m->sds, error) || !fits(m, "weights", &m->weights, error) ||
        !fm_mixture_ring(&m->mixture, K, D, m->radius, m->sd, error))
        return FALSE;
    apply(m);
    return TRUE;
}

static const FmDatasetOps mixture_ops = {.open = mixture_open, FM_MIXTURE_SLOTS};

FM_PLUGIN_DECLARE(DATASET, mixture, "mixture", mixture_ops, .self_size = sizeof(Mixture), .options = mixture_options,
                  .summary = "Gaussians on a circle, any number and dimension", .source = "closed form");
