/* boxes.c: log-density, score and entropy of a mixture of boxes with normal noise. In each coordinate x = b + sd z, z
 * normal and cut to [w, w + h] from the nearer edge of a box of width h sd; see oracle_boxes.c, whose formulas
 * these are at t = 1. */
#include "flow/quadrature.h"

#include <fmcore/dataset.h>

#include <math.h>

enum { NODES = 24 };

typedef struct Rule {
    double x[NODES], w[NODES];
} Rule;

static double
phi(double z)
{
    return exp(-0.5 * z * z) / sqrt(2.0 * G_PI);
}

/* log(P / h) of x at m from the middle of a box of width h, in standard deviations; *z: E z. */
static double
cut(const Rule *rule, double m, double h, double *z)
{
    const double sign = m < 0.0 ? -1.0 : 1.0, w = fabs(m) - 0.5 * h, u = w + h;
    double sum = 0.0, mean = 0.0;

    if (h > 3.0 && w < 1.0) {
        const double P = 0.5 * (erf(u * G_SQRT2 / 2.0) - erf(w * G_SQRT2 / 2.0));

        *z = sign * (phi(w) - phi(u)) / P;
        return log(P / h);
    }
    const double L = MIN(h, 76.0 / (w + sqrt(w * w + 76.0)));
    for (int i = 0; i < NODES; i++) {
        const double y = L * rule->x[i], f = rule->w[i] * exp(-y * (w + 0.5 * y));

        sum += f;
        mean += f * y;
    }
    *z = sign * (w + mean / sum);
    return -0.5 * w * w - 0.5 * log(2.0 * G_PI) + log(sum * L / h);
}

void
fm_boxes_log_density(const FmBoxes *b, size_t n, const double *x, double *log_p, double *score)
{
    const size_t K = b->K, D = b->D;
    g_autofree double *l = g_new(double, K), *z = g_new(double, K *D);
    Rule rule;

    fm_gauss_legendre(NODES, rule.x, rule.w);
    for (size_t i = 0; i < n; i++) {
        double top = -INFINITY, sum = 0.0;

        for (size_t k = 0; k < K; k++) {
            l[k] = log(b->weight[k]);
            for (size_t d = 0; d < D; d++) {
                const size_t at = k * D + d;
                const double m = (x[i * D + d] - 0.5 * (b->lo[at] + b->hi[at])) / b->sd;

                l[k] += cut(&rule, m, (b->hi[at] - b->lo[at]) / b->sd, &z[at]) - log(b->sd);
            }
            top = MAX(top, l[k]);
        }
        for (size_t k = 0; k < K; k++)
            sum += exp(l[k] - top);
        log_p[i] = top + log(sum);
        for (size_t d = 0; score && d < D; d++) {
            double mean = 0.0;

            for (size_t k = 0; k < K; k++)
                mean += exp(l[k] - log_p[i]) * z[k * D + d];
            score[i * D + d] = -mean / b->sd;
        }
    }
}

/* The density of every box along axis d at the middles of `side` cells of width h from lo: (K, side); owned. */
static double *
axis_densities(const FmBoxes *b, size_t d, size_t side, double lo, double h)
{
    double *out = g_new(double, b->K *side), z;
    Rule rule;

    fm_gauss_legendre(NODES, rule.x, rule.w);
    for (size_t k = 0; k < b->K; k++)
        for (size_t i = 0; i < side; i++) {
            const size_t at = k * b->D + d;
            const double x = lo + h * ((double)i + 0.5), m = (x - 0.5 * (b->lo[at] + b->hi[at])) / b->sd;

            out[k * side + i] = exp(cut(&rule, m, (b->hi[at] - b->lo[at]) / b->sd, &z)) / b->sd;
        }
    return out;
}

/* Three cells a standard deviation: the midpoint rule's error is then below 1e-30 of a component. */
double
fm_boxes_entropy(const FmBoxes *b)
{
    enum { CELLS = 3, MOST = 3000 };
    double lo[2] = {INFINITY, INFINITY}, hi[2] = {-INFINITY, -INFINITY};

    if (b->D != 2 || b->K == 0 || b->sd <= 0.0)
        return NAN;
    for (size_t k = 0; k < 2 * b->K; k++) {
        lo[k % 2] = MIN(lo[k % 2], b->lo[k] - 8.0 * b->sd);
        hi[k % 2] = MAX(hi[k % 2], b->hi[k] + 8.0 * b->sd);
    }
    const double cells = CELLS * MAX(hi[0] - lo[0], hi[1] - lo[1]) / b->sd;
    if (cells > MOST)
        return NAN;
    const size_t side = (size_t)cells + 1;
    const double hx = (hi[0] - lo[0]) / (double)side, hy = (hi[1] - lo[1]) / (double)side;
    g_autofree double *x = axis_densities(b, 0, side, lo[0], hx), *y = axis_densities(b, 1, side, lo[1], hy);
    return fm__product_entropy(b->K, b->weight, side, x, y) * hx * hy;
}
