/* circles: two concentric circles with normal noise.
 * Source: FFJORD's toy_data.py (Grathwohl et al. 2019, arXiv:1810.01367) */
#include <fmcore/dataset.h>

#include <math.h>

typedef struct Circles {
    double factor, noise, scale; /* options */
} Circles;

static const FmOption circles_options[] = {
    FM_OPT_REAL(Circles, factor, 0.5, 0.0, 1.0, "radius of the inner circle"),
    FM_OPT_REAL(Circles, noise, 0.08, 0.0, 10.0, "standard deviation before scaling"),
    FM_OPT_POSITIVE(Circles, scale, 3.0, 1e6, "scale of everything"),
    FM_OPT_END,
};

static gboolean
circles_open(void *self, FmDataInfo *info, GError **error)
{
    *info = (FmDataInfo){.ndim = 1, .dim = {2}, .D = 2, .classes = 2};
    return TRUE;
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

static const FmDatasetOps circles_ops = {.open = circles_open, .draw = circles_draw};

static const FmFact circles_facts[] = {
    {"ffjord", "make_circles(factor 0.5, noise 0.08) * 3"},
    {"density", "not given in closed form here"},
    {NULL, NULL},
};

FM_PLUGIN_DECLARE(DATASET, circles, "circles", circles_ops, .self_size = sizeof(Circles),
                  .options = circles_options, .facts = circles_facts, .summary = "two concentric circles",
                  .source = "FFJORD's toy_data.py (Grathwohl et al. 2019, arXiv:1810.01367)");
