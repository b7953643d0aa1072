/* spirals: two spirals, one the mirror of the other.
 * Source: FFJORD's toy_data.py (Grathwohl et al. 2019, arXiv:1810.01367) */
#include <fmcore/dataset.h>

#include <math.h>

typedef struct Spirals {
    double noise; /* option */
} Spirals;

static const FmOption spirals_options[] = {
    FM_OPT_REAL(Spirals, noise, 0.1, 0.0, 10.0, "standard deviation of the points"),
    FM_OPT_END,
};

static gboolean
spirals_open(void *self, FmDataInfo *info, GError **error)
{
    *info = (FmDataInfo){.ndim = 1, .dim = {2}, .D = 2, .classes = 2};
    return TRUE;
}

/* One point; its class. */
static int
spirals_point(const Spirals *s, FmRng *rng, double *x)
{
    const double a = sqrt(fm_rng_uniform(rng)) * 540.0 * 2.0 * G_PI / 360.0;
    const int mirrored = fm_rng_uniform(rng) < 0.5;
    const double sign = mirrored ? -1.0 : 1.0;
    const double p[2] = {-cos(a) * a + 0.5 * fm_rng_uniform(rng), sin(a) * a + 0.5 * fm_rng_uniform(rng)};

    for (int d = 0; d < 2; d++)
        x[d] = sign * p[d] / 3.0 + s->noise * fm_rng_normal(rng);
    return mirrored;
}

static void
spirals_draw(const void *self, FmKey key, guint64 row0, size_t n, double *x, int *y)
{
    for (size_t i = 0; i < n; i++) {
        FmRng rng = fm_rng(key, row0 + i);
        const int label = spirals_point(self, &rng, x + 2 * i);

        if (y)
            y[i] = label;
    }
}

static const FmDatasetOps spirals_ops = {.open = spirals_open, .draw = spirals_draw};

static const FmFact spirals_facts[] = {
    {"ffjord", "540 degrees, 0.5 of uniform jitter, divided by 3, noise 0.1"},
    {"density", "none in closed form, nor an oracle: uniform jitter and noise together"},
    {NULL, NULL},
};

FM_PLUGIN_DECLARE(DATASET, spirals, "spirals", spirals_ops, .self_size = sizeof(Spirals),
                  .options = spirals_options, .facts = spirals_facts, .summary = "two spirals",
                  .source = "FFJORD's toy_data.py (Grathwohl et al. 2019, arXiv:1810.01367)");
