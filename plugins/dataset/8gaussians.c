/* 8gaussians: eight Gaussians on a circle; repositories differ in radius and width.
 * Source: FFJORD's toy_data.py (Grathwohl et al. 2019, arXiv:1810.01367); torchcfm */
#include <fmcore/dataset.h>

#include <math.h>

typedef struct Eight {
    int variant; /* option: 0 ffjord, 1 torchcfm */
    FmMixture mixture;
    double *numbers; /* weights, means, standard deviations */
} Eight;

static const char *const variants[] = {"ffjord", "torchcfm", NULL};

static const FmOption eight_options[] = {
    FM_OPT_CHOICE(Eight, variant, variants, "ffjord", "whose constants"),
    FM_OPT_END,
};

static gboolean
eight_open(void *self, FmDataInfo *info, GError **error)
{
    Eight *m = self;
    const size_t K = 8, D = 2;
    /* ffjord: radius 4, sd 0.5, all divided by 1.414; torchcfm: radius 5, variance 0.1. */
    const double radius = m->variant == 0 ? 4.0 / 1.414 : 5.0;
    const double sd = m->variant == 0 ? 0.5 / 1.414 : sqrt(0.1);

    m->numbers = g_new(double, K * (1 + 2 * D));
    for (size_t k = 0; k < K; k++) {
        m->numbers[k] = 1.0 / (double)K;
        for (size_t d = 0; d < D; d++) {
            m->numbers[K + k * D + d] = 0.0;
            m->numbers[K + (K + k) * D + d] = sd;
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
eight_draw(const void *self, FmKey key, guint64 row0, size_t n, double *x, int *y)
{
    fm_mixture_draw(&((const Eight *)self)->mixture, key, row0, n, x, y);
}

static void
eight_log_density(const void *self, size_t n, const double *x, double *log_p)
{
    fm_mixture_log_density(&((const Eight *)self)->mixture, n, x, log_p);
}

static double
eight_entropy(const void *self)
{
    return fm_mixture_entropy(&((const Eight *)self)->mixture);
}

static void
eight_score(const void *self, size_t n, const double *x, double *score)
{
    fm_mixture_score(&((const Eight *)self)->mixture, n, x, score);
}

static const FmMixture *
eight_mixture(const void *self)
{
    return &((const Eight *)self)->mixture;
}

static void
eight_clear(void *self)
{
    g_free(((Eight *)self)->numbers);
}

static const FmDatasetOps eight_ops = {.open = eight_open,
    .draw = eight_draw,
    .log_density = eight_log_density,
    .entropy = eight_entropy,
    .score = eight_score,
    .mixture = eight_mixture,
    .clear = eight_clear};

static const FmFact eight_facts[] = {
    {"ffjord", "radius 4, sd 0.5, all divided by 1.414; entropy 2.8319 nats"},
    {"torchcfm", "radius 5, variance 0.1"},
    {NULL, NULL},
};

FM_PLUGIN_DECLARE(DATASET, 8gaussians, "8gaussians", eight_ops, .self_size = sizeof(Eight),
                  .options = eight_options, .facts = eight_facts, .summary = "eight Gaussians on a circle",
                  .source = "FFJORD's toy_data.py (Grathwohl et al. 2019, arXiv:1810.01367); torchcfm");
