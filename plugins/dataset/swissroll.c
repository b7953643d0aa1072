/* swissroll: the spiral of a Swiss roll, seen from its side.
 * Source: FFJORD's toy_data.py (Grathwohl et al. 2019, arXiv:1810.01367) */
#include <fmcore/dataset.h>

#include <math.h>

typedef struct Swissroll {
    FmMixture mixture; /* first: see FM_MIXTURE_SLOTS */
    double noise;      /* option */
} Swissroll;

static const FmOption swissroll_options[] = {
    FM_OPT_REAL(Swissroll, noise, 1.0, 0.0, 100.0, "standard deviation before division by 5"),
    FM_OPT_END,
};

static void
swissroll_curve(const void *self, size_t piece, double u, double x[2])
{
    const double a = 1.5 * G_PI * (1.0 + 2.0 * u);

    x[0] = a * cos(a) / 5.0;
    x[1] = a * sin(a) / 5.0;
}

static gboolean
swissroll_open(void *self, FmDataInfo *info, GError **error)
{
    Swissroll *s = self;

    *info = (FmDataInfo){.ndim = 1, .dim = {2}, .D = 2, .classes = 0};
    return fm_mixture_curves(&s->mixture, 1, FALSE, swissroll_curve, s, s->noise / 5.0, error);
}

/* One point; its class. */
static int
swissroll_point(const Swissroll *s, FmRng *rng, double *x)
{
    const double a = 1.5 * G_PI * (1.0 + 2.0 * fm_rng_uniform(rng));

    x[0] = (a * cos(a) + s->noise * fm_rng_normal(rng)) / 5.0;
    x[1] = (a * sin(a) + s->noise * fm_rng_normal(rng)) / 5.0;
    return 0;
}

static void
swissroll_draw(const void *self, FmKey key, guint64 row0, size_t n, double *x, int *y)
{
    for (size_t i = 0; i < n; i++) {
        FmRng rng = fm_rng(key, row0 + i);
        const int label = swissroll_point(self, &rng, x + 2 * i);

        if (y)
            y[i] = label;
    }
}

static const FmDatasetOps swissroll_ops = {.open = swissroll_open, .draw = swissroll_draw, FM_MIXTURE_DENSITY_SLOTS};

static const FmFact swissroll_facts[] = {
    {"ffjord", "a (cos a, sin a) / 5 with a uniform on 1.5 pi (1 + 2 u), noise 1.0 / 5"},
    {"density", "a mixture of Gaussians along the spiral, exact to 1e-10; none for noise below 0.1"},
    {NULL, NULL},
};

FM_PLUGIN_DECLARE(DATASET, swissroll, "swissroll", swissroll_ops, .self_size = sizeof(Swissroll),
                  .options = swissroll_options, .facts = swissroll_facts, .summary = "the spiral of a Swiss roll",
                  .source = "FFJORD's toy_data.py (Grathwohl et al. 2019, arXiv:1810.01367)");
