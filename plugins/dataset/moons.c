/* moons: two interleaved half circles with normal noise.
 * Source: FFJORD's toy_data.py (Grathwohl et al. 2019, arXiv:1810.01367); scikit-learn's make_moons */
#include <fmcore/dataset.h>

#include <math.h>

typedef struct Moons {
    FmMixture mixture; /* first: see FM_MIXTURE_SLOTS */
    double noise;      /* options */
    int variant;       /* 0 ffjord, 1 torchcfm, 2 sklearn */
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

/* A half circle at the angle whose cosine is c and sine s, before scaling. */
static void
moons_half(size_t inner, double c, double s, double p[2])
{
    p[0] = inner ? 1.0 - c : c;
    p[1] = inner ? 0.5 - s : s;
}

static void
moons_curve(const void *self, size_t inner, double u, double x[2])
{
    const Moons *s = self;
    double p[2];

    moons_half(inner, cos(G_PI * u), sin(G_PI * u), p);
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

/* Uniforms of a row: which half, where on it, and two for each coordinate's noise; so many rows at a time as
 * fill a few blocks of numbers. */
enum { MOONS_UNIFORMS = 6, MOONS_ROWS = 64 };

static void
moons_draw_some(const Moons *s, FmKey key, guint64 row0, size_t n, double *x, int *y)
{
    double w[MOONS_ROWS * MOONS_UNIFORMS], turn[MOONS_ROWS], c[MOONS_ROWS], si[MOONS_ROWS];
    double u[2 * MOONS_ROWS], v[2 * MOONS_ROWS], z[2 * MOONS_ROWS];

    fm_fill_uniform_f64(key, row0, n, MOONS_UNIFORMS, w);
    for (size_t i = 0; i < n; i++) {
        const double *of = w + i * MOONS_UNIFORMS;

        turn[i] = 0.5 * of[1];
        for (size_t d = 0; d < 2; d++) {
            u[2 * i + d] = of[2 + 2 * d];
            v[2 * i + d] = of[3 + 2 * d];
        }
    }
    fm_circle_points(n, turn, c, si);
    fm_uniforms_to_normals(2 * n, u, v, z);
    for (size_t i = 0; i < n; i++) {
        const int inner = w[i * MOONS_UNIFORMS] < 0.5;
        double p[2];

        moons_half((size_t)inner, c[i], si[i], p);
        for (size_t d = 0; d < 2; d++)
            x[2 * i + d] = scale[s->variant] * (p[d] + moons_noise(s) * z[2 * i + d]) + shift[s->variant][d];
        if (y)
            y[i] = inner;
    }
}

static void
moons_draw(const void *self, FmKey key, guint64 row0, size_t n, double *x, int *y)
{
    for (size_t first = 0; first < n; first += MOONS_ROWS)
        moons_draw_some(self, key, row0 + first, MIN((size_t)MOONS_ROWS, n - first), x + 2 * first,
                        y ? y + first : NULL);
}

static const FmDatasetOps moons_ops = {.open = moons_open, .draw = moons_draw, FM_MIXTURE_DENSITY_SLOTS};

static const FmFact moons_facts[] = {
    {"ffjord", "make_moons(noise 0.1) * 2 + (-1, -0.2)"},
    {"torchcfm", "make_moons(noise 0.2) * 3 - 1"},
    {"sklearn", "make_moons(noise 0.1)"},
    {"density", "a mixture of Gaussians along the half circles, exact to 1e-10; none for noise below 0.005"},
    {NULL, NULL},
};

FM_PLUGIN_DECLARE(
    DATASET, moons, "moons", moons_ops, .self_size = sizeof(Moons), .options = moons_options, .facts = moons_facts,
    .summary = "two interleaved half circles",
    .source = "FFJORD's toy_data.py (Grathwohl et al. 2019, arXiv:1810.01367); scikit-learn's make_moons");
