/* rings: four concentric rings.
 * Source: FFJORD's toy_data.py (Grathwohl et al. 2019, arXiv:1810.01367) */
#include <fmcore/dataset.h>

#include <math.h>

typedef struct Rings {
    FmMixture mixture;   /* first: see FM_MIXTURE_SLOTS */
    double noise, scale; /* options */
} Rings;

static const FmOption rings_options[] = {
    FM_OPT_REAL(Rings, noise, 0.08, 0.0, 10.0, "standard deviation after scaling"),
    FM_OPT_POSITIVE(Rings, scale, 3.0, 1e6, "radius of the outermost ring"),
    FM_OPT_END,
};

static void
rings_curve(const void *self, size_t ring, double u, double x[2])
{
    const double r = ((const Rings *)self)->scale * (1.0 - 0.25 * (double)ring);

    x[0] = r * cos(2.0 * G_PI * u);
    x[1] = r * sin(2.0 * G_PI * u);
}

static gboolean
rings_open(void *self, FmDataInfo *info, GError **error)
{
    Rings *s = self;

    *info = (FmDataInfo){.ndim = 1, .dim = {2}, .D = 2, .classes = 4};
    return fm_mixture_curves(&s->mixture, 4, TRUE, rings_curve, s, s->noise, error);
}

/* One point; its class. */
static int
rings_point(const Rings *s, FmRng *rng, double *x)
{
    const int ring = (int)fm_rng_below(rng, 4);
    const double a = 2.0 * G_PI * fm_rng_uniform(rng), r = s->scale * (1.0 - 0.25 * ring);

    x[0] = r * cos(a) + s->noise * fm_rng_normal(rng);
    x[1] = r * sin(a) + s->noise * fm_rng_normal(rng);
    return ring;
}

static void
rings_draw(const void *self, FmKey key, guint64 row0, size_t n, double *x, int *y)
{
    for (size_t i = 0; i < n; i++) {
        FmRng rng = fm_rng(key, row0 + i);
        const int label = rings_point(self, &rng, x + 2 * i);

        if (y)
            y[i] = label;
    }
}

static const FmDatasetOps rings_ops = {.open = rings_open, .draw = rings_draw, FM_MIXTURE_DENSITY_SLOTS};

static const FmFact rings_facts[] = {
    {"ffjord", "radii 3, 2.25, 1.5, 0.75, equal weights, noise 0.08"},
    {"density", "a mixture of Gaussians along the rings, exact to 1e-10; none for noise below 0.02"},
    {NULL, NULL},
};

FM_PLUGIN_DECLARE(DATASET, rings, "rings", rings_ops, .self_size = sizeof(Rings), .options = rings_options,
                  .facts = rings_facts, .summary = "four concentric rings",
                  .source = "FFJORD's toy_data.py (Grathwohl et al. 2019, arXiv:1810.01367)");
