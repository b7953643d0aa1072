/* gaussian: N(mean, sd^2 I) in any dimension; the same mean in each. */
#include <fmcore/dataset.h>

typedef struct Gaussian {
    int dim; /* options */
    double mean, sd;
    FmMixture mixture; /* one component */
    double *numbers;
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

    g->numbers = g_new(double, 2 * D + 1);
    for (size_t d = 0; d < D; d++) {
        g->numbers[d] = g->mean;
        g->numbers[D + d] = g->sd;
    }
    g->numbers[2 * D] = 1.0;
    g->mixture = (FmMixture){.K = 1, .D = D, .mean = g->numbers, .sd = g->numbers + D,
                             .weight = g->numbers + 2 * D};
    *info = (FmDataInfo){.ndim = 1, .dim = {D}, .D = D};
    return TRUE;
}

static void
gaussian_draw(const void *self, FmKey key, guint64 row0, size_t n, double *x, int *y)
{
    fm_mixture_draw(&((const Gaussian *)self)->mixture, key, row0, n, x, NULL);
}

static void
gaussian_log_density(const void *self, size_t n, const double *x, double *log_p)
{
    fm_mixture_log_density(&((const Gaussian *)self)->mixture, n, x, log_p);
}

static double
gaussian_entropy(const void *self)
{
    const Gaussian *g = self;

    return g->dim * (0.5 * log(2.0 * G_PI * G_E) + log(g->sd));
}

static void
gaussian_score(const void *self, size_t n, const double *x, double *score)
{
    fm_mixture_score(&((const Gaussian *)self)->mixture, n, x, score);
}

static const FmMixture *
gaussian_mixture(const void *self)
{
    return &((const Gaussian *)self)->mixture;
}

static void
gaussian_clear(void *self)
{
    g_free(((Gaussian *)self)->numbers);
}

static const FmDatasetOps gaussian_ops = {.open = gaussian_open,
                                          .draw = gaussian_draw,
                                          .log_density = gaussian_log_density,
                                          .entropy = gaussian_entropy,
                                          .score = gaussian_score,
                                          .mixture = gaussian_mixture,
                                          .clear = gaussian_clear};

FM_PLUGIN_DECLARE(DATASET, gaussian, "gaussian", gaussian_ops, .self_size = sizeof(Gaussian),
                  .options = gaussian_options, .summary = "isotropic Gaussian in any dimension",
                  .source = "closed form");
