/* moons: two interleaved half circles with normal noise.
 * Source: FFJORD's toy_data.py (Grathwohl et al. 2019, arXiv:1810.01367); scikit-learn's make_moons */
#include <fmcore/dataset.h>

#include <math.h>

typedef struct Moons {
    FmMixture mixture; /* first: see FM_MIXTURE_SLOTS */
    double noise; /* options */
    int variant; /* 0 ffjord, 1 torchcfm, 2 sklearn */
} Moons;

static const char *const variants[] = {"ffjord", "torchcfm", "sklearn", NULL};

static const FmOption moons_options[] = {
    FM_OPT_REAL_AUTO(Moons, noise, 0.0, 10.0, "standard deviation before scaling (auto: the variant's)"),
    FM_OPT_CHOICE(Moons, variant, variants, "ffjord", "whose scale, shift and noise"),
    FM_OPT_END,
};

/* scale and shift: ffjord 2x + (-1, -0.2), noise 0.1; torchcfm 3x - 1, noise 0.2. */
static const double scale[] = {2.0, 3.0, 1.0}, noise[] = {0.1, 0.2, 0.1};
static const double shift[][2] = {{-1.0, -0.2}, {-1.0, -1.0}, {0.0, 0.0}};

/* Before scaling. */
static double
moons_noise(const Moons *s)
{
    return isnan(s->noise) ? noise[s->variant] : s->noise;
}

/* A half circle at angle a, before scaling. */
static void
moons_half(size_t inner, double a, double p[2])
{
    p[0] = inner ? 1.0 - cos(a) : cos(a);
    p[1] = inner ? 0.5 - sin(a) : sin(a);
}

static void
moons_curve(const void *self, size_t inner, double u, double x[2])
{
    const Moons *s = self;
    double p[2];

    moons_half(inner, G_PI * u, p);
    for (int d = 0; d < 2; d++)
        x[d] = scale[s->variant] * p[d] + shift[s->variant][d];
}

static gboolean
moons_open(void *self, FmDataInfo *info, GError **error)
{
    Moons *s = self;

    *info = (FmDataInfo){.ndim = 1, .dim = {2}, .D = 2, .classes = 2};
    return fm_mixture_curves(&s->mixture, 2, FALSE, moons_curve, s, scale[s->variant] * moons_noise(s), error);
}

/* One point; its class. */
static int
moons_point(const Moons *s, FmRng *rng, double *x)
{
    const int inner = fm_rng_uniform(rng) < 0.5;
    double p[2];

    moons_half((size_t)inner, G_PI * fm_rng_uniform(rng), p);
    for (int d = 0; d < 2; d++)
        x[d] = scale[s->variant] * (p[d] + moons_noise(s) * fm_rng_normal(rng)) + shift[s->variant][d];
    return inner;
}

static void
moons_draw(const void *self, FmKey key, guint64 row0, size_t n, double *x, int *y)
{
    for (size_t i = 0; i < n; i++) {
        FmRng rng = fm_rng(key, row0 + i);
        const int label = moons_point(self, &rng, x + 2 * i);

        if (y)
            y[i] = label;
    }
}

static const FmDatasetOps moons_ops = {.open = moons_open, .draw = moons_draw, FM_MIXTURE_DENSITY_SLOTS};

static const FmFact moons_facts[] = {
    {"ffjord", "make_moons(noise 0.1) * 2 + (-1, -0.2)"},
    {"torchcfm", "make_moons(noise 0.2) * 3 - 1"},
    {"sklearn", "make_moons(noise 0.1)"},
    {"density", "a mixture of Gaussians along the half circles, exact to 1e-10; none for noise below 0.005"},
    {NULL, NULL},
};

FM_PLUGIN_DECLARE(DATASET, moons, "moons", moons_ops, .self_size = sizeof(Moons),
                  .options = moons_options, .facts = moons_facts, .summary = "two interleaved half circles",
                  .source = "FFJORD's toy_data.py (Grathwohl et al. 2019, arXiv:1810.01367); scikit-learn's make_moons");
