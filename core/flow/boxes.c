/* boxes.c: log-density, score and entropy of a mixture of boxes with normal noise. In each coordinate x = b + sd z, z
 * normal and cut to [w, w + h] from the nearer edge of a box of width h sd; see oracle_boxes.c, whose formulas
 * these are at t = 1. */
#include "flow/boxes.h"
#include "flow/quadrature.h"

#include <fmcore/dataset.h>

#include <math.h>

static const int cut_nodes[FM__CUT_RULES] = {4, 8, FM__CUT_NODES};
/* Up to which exponent and length each is exact to 1e-13. */
static const double cut_range[FM__CUT_RULES] = {0.5, 4.0, INFINITY}, cut_length[FM__CUT_RULES] = {0.2, 1.2, INFINITY};

void
fm__cut_rule(FmCutRule *rule)
{
    for (int i = 0; i < FM__CUT_RULES; i++)
        fm_gauss_legendre(cut_nodes[i], rule->x[i], rule->w[i]);
}

static double
phi(double z)
{
    return exp(-0.5 * z * z) / sqrt(2.0 * G_PI);
}

/* Mills's ratio Q(w) / phi(w) for w >= FAR by its asymptotic series (Abramowitz & Stegun 26.2.12), to 1e-13. */
#define FAR 10.0
static double
mills(double w)
{
    const double q = 1.0 / (w * w);
    double sum = 1.0;

    for (int k = 13; k > 0; k--)
        sum = 1.0 - (2 * k - 1) * q * sum;
    return sum / w;
}

/* S(m), the mean of exp(-m y - y^2 / 2) over |y| < h / 2, and S'(m): the sum of He_2k(m) (h / 2)^2k / (2k + 1)!,
 * He_n' = n He_n-1; to 1e-13. */
#define SERIES_REACH 1.0 /* of m h */
#define SERIES_WIDTH 0.2 /* of h */
static double
series(double m, double h, double *slope)
{
    const double b = 0.5 * h, x = m * b, bb = b * b;
    double before = 1.0, now = x, sum = 1.0, factor = 1.0;

    *slope = 0.0;
    for (int n = 1; n < 12; n += 2) { /* odd, even: He_n(m) b^n */
        const double odd = now, even = x * odd - n * bb * before;

        factor /= (n + 1) * (n + 2);
        sum += even * factor;
        *slope += (n + 1) * b * odd * factor;
        before = even;
        now = x * even - (n + 1) * bb * odd;
    }
    return sum;
}

/* w >= FAR, by the difference of two tails. */
static double
cut_tails(double w, double h, double *mean)
{
    const double left = exp(-h * (w + 0.5 * h)), sum = mills(w) - left * mills(w + h);

    *mean = (1.0 - left) / sum - w;
    return -0.5 * w * w - 0.5 * log(2.0 * G_PI) + log(sum / h);
}

/* Integrals of exp(-w y - y^2 / 2) from the nearer edge on; behind L it is below 4e-17. */
static double
cut_integral(const FmCutRule *rule, double w, double h, double *mean)
{
    const double L = MIN(h, 76.0 / (w + sqrt(w * w + 76.0))), range = L * (fabs(w) + 0.5 * L);
    double sum = 0.0, first = 0.0;
    int which = 0;

    while (range > cut_range[which] || L > cut_length[which])
        which++;
    for (int i = 0; i < cut_nodes[which]; i++) {
        const double y = L * rule->x[which][i], f = rule->w[which][i] * exp(-y * (w + 0.5 * y));

        sum += f;
        first += f * y;
    }
    *mean = first / sum;
    return -0.5 * w * w - 0.5 * log(2.0 * G_PI) + log(sum * (L / h));
}

double
fm__cut_normal(const FmCutRule *rule, double m, double h, double *off)
{
    const double sign = m < 0.0 ? -1.0 : 1.0, w = fabs(m) - 0.5 * h, u = w + h;
    double mean, log_p; /* mean: behind the nearer edge */

    if (h < SERIES_WIDTH && fabs(m) * h < SERIES_REACH) {
        const double sum = series(m, h, &mean);

        if (off != NULL)
            *off = -mean / sum;
        return -0.5 * m * m - 0.5 * log(2.0 * G_PI) + log(sum);
    }
    if (h > 3.0 && w < 1.0) {
        const double P = 0.5 * (erf(u * G_SQRT2 / 2.0) - erf(w * G_SQRT2 / 2.0));

        mean = (phi(w) - phi(u)) / P - w;
        log_p = log(P / h);
    } else {
        log_p = w >= FAR && h * w > 0.5 ? cut_tails(w, h, &mean) : cut_integral(rule, w, h, &mean);
    }
    if (off != NULL)
        *off = sign * (mean - 0.5 * h);
    return log_p;
}

void
fm_boxes_log_density(const FmBoxes *b, size_t n, const double *x, double *log_p, double *score)
{
    const size_t K = b->K, D = b->D;
    g_autofree double *l = g_new(double, K), *z = g_new(double, K *D);
    FmCutRule rule;

    fm__cut_rule(&rule);
    for (size_t i = 0; i < n; i++) {
        double top = -INFINITY, sum = 0.0;

        for (size_t k = 0; k < K; k++) {
            l[k] = log(b->weight[k]);
            for (size_t d = 0; d < D; d++) {
                const size_t at = k * D + d;
                const double m = (x[i * D + d] - 0.5 * (b->lo[at] + b->hi[at])) / b->sd;

                l[k] += fm__cut_normal(&rule, m, (b->hi[at] - b->lo[at]) / b->sd, &z[at]) - log(b->sd);
                z[at] += m;
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
    double *out = g_new(double, b->K *side);
    FmCutRule rule;

    fm__cut_rule(&rule);
    for (size_t k = 0; k < b->K; k++)
        for (size_t i = 0; i < side; i++) {
            const size_t at = k * b->D + d;
            const double x = lo + h * ((double)i + 0.5), m = (x - 0.5 * (b->lo[at] + b->hi[at])) / b->sd;

            out[k * side + i] = exp(fm__cut_normal(&rule, m, (b->hi[at] - b->lo[at]) / b->sd, NULL)) / b->sd;
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
