/* bspline: a product of cardinal B-splines, a density of known smoothness.
 *   x_j = width (u_1 + ... + u_{p+1} - (p+1)/2), u uniform: density N_p, piecewise polynomial of degree p
 * N_p has p - 1 continuous derivatives and a bounded p-th one: Hoelder smoothness s = p, the target of
 * the rates n^(-s/(2s+d)).
 * Source: de Boor 1978, A Practical Guide to Splines, ch. IX-X; Curry & Schoenberg 1966,
 * doi:10.1007/BF02788653. */
#include <fmcore/dataset.h>

#include <math.h>

enum { BSPLINE_MAX_DEGREE = 8, BSPLINE_ENTROPY_POINTS = 20000 };

typedef struct Bspline {
    int dim, degree; /* options */
    double width;
} Bspline;

static const FmOption bspline_options[] = {
    FM_OPT_INT(Bspline, dim, 2, 1, 64, "dimension"),
    FM_OPT_INT(Bspline, degree, 2, 1, 8, "degree of the spline, its smoothness s"),
    FM_OPT_POSITIVE(Bspline, width, 1.0, 1e6, "distance of two knots"),
    FM_OPT_END,
};

static gboolean
bspline_open(void *self, FmDataInfo *info, GError **error)
{
    const size_t D = (size_t)((const Bspline *)self)->dim;

    *info = (FmDataInfo){.ndim = 1, .dim = {D}, .D = D};
    return TRUE;
}

static void
bspline_draw(const void *self, FmKey key, guint64 row0, size_t n, double *x, int *y)
{
    const Bspline *s = self;

    for (size_t i = 0; i < n; i++) {
        FmRng rng = fm_rng(key, row0 + i);

        for (int d = 0; d < s->dim; d++) {
            double sum = -0.5 * (s->degree + 1);

            for (int k = 0; k <= s->degree; k++)
                sum += fm_rng_uniform(&rng);
            x[i * (size_t)s->dim + (size_t)d] = s->width * sum;
        }
    }
}

/* N_p(u) with support [0, p + 1], by the recurrence in the degree. */
static double
bspline_value(int p, double u)
{
    double b[BSPLINE_MAX_DEGREE + 1];

    for (int j = 0; j <= p; j++)
        b[j] = u >= j && u < j + 1 ? 1.0 : 0.0;
    for (int k = 1; k <= p; k++)
        for (int j = 0; j <= p - k; j++)
            b[j] = ((u - j) * b[j] + (k + 1 - (u - j)) * b[j + 1]) / k;
    return b[0];
}

static void
bspline_log_density(const void *self, size_t n, const double *x, double *log_p)
{
    const Bspline *s = self;

    for (size_t i = 0; i < n; i++) {
        log_p[i] = -s->dim * log(s->width);
        for (int d = 0; d < s->dim; d++)
            log_p[i] +=
                log(bspline_value(s->degree, x[i * (size_t)s->dim + (size_t)d] / s->width + 0.5 * (s->degree + 1)));
    }
}

/* N_p'(u) = N_{p-1}(u) - N_{p-1}(u - 1). */
static void
bspline_score(const void *self, size_t n, const double *x, double *score)
{
    const Bspline *s = self;
    const int p = s->degree;

    for (size_t i = 0; i < n * (size_t)s->dim; i++) {
        const double u = x[i] / s->width + 0.5 * (p + 1);

        score[i] = (bspline_value(p - 1, u) - bspline_value(p - 1, u - 1.0)) / bspline_value(p, u) / s->width;
    }
}

/* The midpoint rule: f log f is smooth inside each knot interval and vanishes at the ends; to
 * about 1e-8 nats. */
static double
bspline_entropy(const void *self)
{
    const Bspline *s = self;
    const double h = (s->degree + 1.0) / BSPLINE_ENTROPY_POINTS;
    double sum = 0;

    for (int i = 0; i < BSPLINE_ENTROPY_POINTS; i++) {
        const double f = bspline_value(s->degree, (i + 0.5) * h);

        sum -= f > 0 ? f * log(f) * h : 0.0;
    }
    return s->dim * (sum + log(s->width));
}

static const FmDatasetOps bspline_ops = {.open = bspline_open,
                                         .draw = bspline_draw,
                                         .log_density = bspline_log_density,
                                         .entropy = bspline_entropy,
                                         .score = bspline_score};

static const FmFact bspline_facts[] = {
    {"smoothness", "Hoelder s = degree: s - 1 continuous derivatives and a bounded s-th"},
    {"entropy", "dim (H(N_degree) + log width): degree 1 has 1/2 nat a dimension"},
    {NULL, NULL},
};

FM_PLUGIN_DECLARE(DATASET, bspline, "bspline", bspline_ops, .self_size = sizeof(Bspline), .options = bspline_options,
                  .facts = bspline_facts, .summary = "product of B-splines: a density of known smoothness",
                  .source = "de Boor 1978, A Practical Guide to Splines");
