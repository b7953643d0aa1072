/* circles: two concentric circles with normal noise.
 * Source: FFJORD's toy_data.py (Grathwohl et al. 2019, arXiv:1810.01367) */
#include <fmcore/dataset.h>

#include <math.h>

typedef struct Circles {
    FmMixture mixture;           /* first: see FM_MIXTURE_SLOTS */
    double factor, noise, scale; /* options */
} Circles;

static const FmOption circles_options[] = {
    FM_OPT_REAL(Circles, factor, 0.5, 0.0, 1.0, "radius of the inner circle"),
    FM_OPT_REAL(Circles, noise, 0.08, 0.0, 10.0, "standard deviation before scaling"),
    FM_OPT_POSITIVE(Circles, scale, 3.0, 1e6, "scale of everything"),
    FM_OPT_END,
};

static void
circles_curve(const void *self, size_t inner, double u, double x[2])
{
    const Circles *s = self;
    const double r = s->scale * (inner ? s->factor : 1.0);

    x[0] = r * cos(2.0 * G_PI * u);
    x[1] = r * sin(2.0 * G_PI * u);
}

static gboolean
circles_open(void *self, FmDataInfo *info, GError **error)
{
    Circles *s = self;

    *info = (FmDataInfo){.ndim = 1, .dim = {2}, .D = 2, .classes = 2};
    return fm_mixture_curves(&s->mixture, 2, TRUE, circles_curve, s, s->scale * s->noise, error);
}

/* One point; its class. */
static int
circles_point(const Circles *s, FmRng *rng, double *x)
{
    const int inner = fm_rng_uniform(rng) < 0.5;
    const double a = 2.0 * G_PI * fm_rng_uniform(rng), r = inner ? s->factor : 1.0;

    x[0] = s->scale * (r * cos(a) + s->noise * fm_rng_normal(rng));
    x[1] = s->scale * (r * sin(a) + s->noise * fm_rng_normal(rng));
    return inner;
}

static void
circles_draw(const void *self, FmKey key, guint64 row0, size_t n, double *x, int *y)
{
    for (size_t i = 0; i < n; i++) {
        FmRng rng = fm_rng(key, row0 + i);
        const int label = circles_point(self, &rng, x + 2 * i);

        if (y)
            y[i] = label;
    }
}

static const FmDatasetOps circles_ops = {.open = circles_open, .draw = circles_draw, FM_MIXTURE_DENSITY_SLOTS};

static const FmFact circles_facts[] = {
    {"ffjord", "make_circles(factor 0.5, noise 0.08) * 3"},
    {"density", "a mixture of Gaussians along the circles, exact to 1e-10; none for noise below 0.004"},
    {NULL, NULL},
};

FM_PLUGIN_DECLARE(DATASET, circles, "circles", circles_ops, .self_size = sizeof(Circles), .options = circles_options,
                  .facts = circles_facts, .summary = "two concentric circles",
                  .source = "FFJORD's toy_data.py (Grathwohl et al. 2019, arXiv:1810.01367)");
