/* spirals: two spirals, one the mirror of the other.
 * Source: FFJORD's toy_data.py (Grathwohl et al. 2019, arXiv:1810.01367) */
#include <fmcore/dataset.h>

#include <math.h>

#define SPIRALS_TURNS (540.0 * 2.0 * G_PI / 360.0) /* largest angle */
#define SPIRALS_JITTER 0.5                         /* before the division by 3 */

typedef struct Spirals {
    double noise;  /* option */
    FmBoxes boxes; /* jitter and noise about nodes of the curve; owned; K = 0: noise too small */
} Spirals;

static const FmOption spirals_options[] = {
    FM_OPT_REAL(Spirals, noise, 0.1, 0.0, 10.0, "standard deviation of the points"),
    FM_OPT_END,
};

static void
spirals_curve(double a, double p[2])
{
    p[0] = -cos(a) * a;
    p[1] = sin(a) * a;
}

/* The angle is A sqrt(u), u uniform. In q with a = sqrt(1 + kappa q) - 1 the curve is smooth and nearly of
 * constant speed, kappa / 6 or less, and a has the density 2 a / A^2: Gauss and Legendre's nodes in q,
 * 0.6 of the noise or less apart, make the data a mixture of boxes with noise, as fm_mixture_curves() does. */
static gboolean
spirals_nodes(Spirals *s, GError **error)
{
    enum { MOST = 4096 };
    const double A = SPIRALS_TURNS, kappa = (A + 1.0) * (A + 1.0) - 1.0, W = SPIRALS_JITTER / 3.0;
    const double need = 0.5 * G_PI * (kappa / 6.0) / (0.6 * s->noise) + 16.0;

    if (!(need < MOST / 2))
        return TRUE;
    const size_t n = (size_t)ceil(need), K = 2 * n;
    g_autofree double *q = g_new(double, n), *w = g_new(double, n);
    double *v = g_try_new(double, 5 * K);
    if (!v) {
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "a mixture of %zu boxes does not fit in memory", K);
        return FALSE;
    }
    double *weight = v, *lo = v + K, *hi = v + 3 * K;
    fm_gauss_legendre((int)n, q, w);
    for (size_t i = 0; i < n; i++) {
        const double a = sqrt(1.0 + kappa * q[i]) - 1.0;
        double p[2];

        spirals_curve(a, p);
        for (size_t m = 0; m < 2; m++) { /* the spiral and its mirror */
            const size_t k = 2 * i + m;

            weight[k] = 0.5 * w[i] * (2.0 * a / (A * A)) * (0.5 * kappa / (1.0 + a));
            for (int d = 0; d < 2; d++) {
                lo[2 * k + d] = m == 0 ? p[d] / 3.0 : -p[d] / 3.0 - W;
                hi[2 * k + d] = lo[2 * k + d] + W;
            }
        }
    }
    s->boxes = (FmBoxes){.K = K, .D = 2, .weight = weight, .lo = lo, .hi = hi, .sd = s->noise};
    return TRUE;
}

static gboolean
spirals_open(void *self, FmDataInfo *info, GError **error)
{
    *info = (FmDataInfo){.ndim = 1, .dim = {2}, .D = 2, .classes = 2};
    return spirals_nodes(self, error);
}

static void
spirals_clear(void *self)
{
    Spirals *s = self;

    g_free((double *)s->boxes.weight);
    s->boxes = (FmBoxes){0};
}

/* One point; its class. */
static int
spirals_point(const Spirals *s, FmRng *rng, double *x)
{
    const double a = sqrt(fm_rng_uniform(rng)) * SPIRALS_TURNS;
    const int mirrored = fm_rng_uniform(rng) < 0.5;
    const double sign = mirrored ? -1.0 : 1.0;
    double p[2];

    spirals_curve(a, p);
    for (int d = 0; d < 2; d++)
        p[d] += SPIRALS_JITTER * fm_rng_uniform(rng);
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

static const FmBoxes *
spirals_boxes(const void *self)
{
    const Spirals *s = self;

    return s->boxes.K > 0 ? &s->boxes : NULL;
}

static gboolean
spirals_has_density(const void *self)
{
    return spirals_boxes(self) != NULL;
}

static void
spirals_log_density(const void *self, size_t n, const double *x, double *log_p)
{
    fm_boxes_log_density(spirals_boxes(self), n, x, log_p, NULL);
}

static double
spirals_entropy(const void *self)
{
    const FmBoxes *boxes = spirals_boxes(self);

    return boxes ? fm_boxes_entropy(boxes) : NAN;
}

static void
spirals_score(const void *self, size_t n, const double *x, double *score)
{
    g_autofree double *log_p = g_new(double, n + 1);

    fm_boxes_log_density(spirals_boxes(self), n, x, log_p, score);
}

static const FmDatasetOps spirals_ops = {.open = spirals_open,
                                         .draw = spirals_draw,
                                         .clear = spirals_clear,
                                         .boxes = spirals_boxes,
                                         .log_density = spirals_log_density,
                                         .score = spirals_score,
                                         .entropy = spirals_entropy,
                                         .has_density = spirals_has_density};

static const FmFact spirals_facts[] = {
    {"ffjord", "540 degrees, 0.5 of uniform jitter, divided by 3, noise 0.1"},
    {"density", "a mixture of boxes with noise along the spirals, exact to 1e-10; none for noise below 0.024"},
    {NULL, NULL},
};

FM_PLUGIN_DECLARE(DATASET, spirals, "spirals", spirals_ops, .self_size = sizeof(Spirals), .options = spirals_options,
                  .facts = spirals_facts, .summary = "two spirals",
                  .source = "FFJORD's toy_data.py (Grathwohl et al. 2019, arXiv:1810.01367)");
