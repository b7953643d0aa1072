/* mixture: k Gaussians on a circle in the first two axes, the other axes normal about 0.
 * Source: closed form */
#include <fmcore/dataset.h>

#include <math.h>

typedef struct Mixture {
    int k, dim; /* options */
    double radius, sd;
    FmMixture mixture;
    double *numbers; /* weights, means, standard deviations */
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
    const double radius = m->radius;

    m->numbers = g_new(double, K * (1 + 2 * D));
    for (size_t k = 0; k < K; k++) {
        m->numbers[k] = 1.0 / (double)K;
        for (size_t d = 0; d < D; d++) {
            m->numbers[K + k * D + d] = 0.0;
            m->numbers[K + (K + k) * D + d] = d < 2 ? m->sd : 1.0;
        }
        m->numbers[K + k * D] = radius * cos(2.0 * G_PI * (double)k / (double)K);
        if (D > 1)
            m->numbers[K + k * D + 1] = radius * sin(2.0 * G_PI * (double)k / (double)K);
    }
    m->mixture = (FmMixture){.K = K, .D = D, .weight = m->numbers, .mean = m->numbers + K,
                             .sd = m->numbers + K + K * D};
    *info = (FmDataInfo){.ndim = 1, .dim = {D}, .D = D, .classes = K};
    return TRUE;
}

static void
mixture_draw(const void *self, FmKey key, guint64 row0, size_t n, double *x, int *y)
{
    fm_mixture_draw(&((const Mixture *)self)->mixture, key, row0, n, x, y);
}

static void
mixture_log_density(const void *self, size_t n, const double *x, double *log_p)
{
    fm_mixture_log_density(&((const Mixture *)self)->mixture, n, x, log_p);
}

static double
mixture_entropy(const void *self)
{
    return fm_mixture_entropy(&((const Mixture *)self)->mixture);
}

static void
mixture_score(const void *self, size_t n, const double *x, double *score)
{
    fm_mixture_score(&((const Mixture *)self)->mixture, n, x, score);
}

static const FmMixture *
mixture_mixture(const void *self)
{
    return &((const Mixture *)self)->mixture;
}

static void
mixture_clear(void *self)
{
    g_free(((Mixture *)self)->numbers);
}

static const FmDatasetOps mixture_ops = {.open = mixture_open,
    .draw = mixture_draw,
    .log_density = mixture_log_density,
    .entropy = mixture_entropy,
    .score = mixture_score,
    .mixture = mixture_mixture,
    .clear = mixture_clear};

FM_PLUGIN_DECLARE(DATASET, mixture, "mixture", mixture_ops, .self_size = sizeof(Mixture),
                  .options = mixture_options, .summary = "Gaussians on a circle, any number and dimension",
                  .source = "closed form");
