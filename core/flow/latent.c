/* latent.c: tests of normality of what a flow encodes. */
#include "flow/latent.h"

#include <glib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LATENT_MAX_D = 64 /* of the covariance's test */, LATENT_ROWS_A_COLUMN = 10 };

const char *const fm_latent_names[] = {"p_mean", "p_scale", "p_covariance", "p_radius", "p_coordinates"};

/* ---- distribution functions ---- */

/* Regularised incomplete gamma functions: the series of P below a + 1, the continued fraction of Q above
 * (Abramowitz & Stegun 6.5.29 and 6.5.31, the latter by Lentz's method). */
double
fm__chi_squared_above(double degrees, double x)
{
    const double a = 0.5 * degrees, z = 0.5 * x, tiny = 1e-300;

    if (!(z > 0.0))
        return isnan(x) ? NAN : 1.0;
    if (isinf(x))
        return 0.0;
    const double scale = exp(a * log(z) - z - lgamma(a));
    if (z < a + 1.0) {
        double term = 1.0 / a, sum = term;

        for (double k = a + 1.0; term > 1e-17 * sum; k++)
            sum += term *= z / k;
        return CLAMP(1.0 - scale * sum, 0.0, 1.0);
    }
    double b = z + 1.0 - a, c = 1.0 / tiny, d = 1.0 / b, h = d;
    for (int k = 1; k < 1000000; k++) {
        const double an = -k * (k - a);

        b += 2.0;
        d = an * d + b;
        d = 1.0 / (fabs(d) < tiny ? tiny : d);
        c = b + an / c;
        c = fabs(c) < tiny ? tiny : c;
        h *= c * d;
        if (fabs(c * d - 1.0) < 1e-16)
            break;
    }
    return CLAMP(scale * h, 0.0, 1.0);
}

/* Kolmogorov's series with Stephens' correction for finite n (1970, JRSS B 32:115); for small arguments the
 * equivalent theta series, which converges there. */
double
fm__kolmogorov_above(size_t n, double distance)
{
    const double root = sqrt((double)n), x = (root + 0.12 + 0.11 / root) * distance;
    double sum = 0.0;

    if (x < 0.2)
        return 1.0; /* to 1e-12 */
    if (x < 1.18) {
        for (int k = 1; k <= 20; k++)
            sum += exp(-(2 * k - 1) * (2 * k - 1) * G_PI * G_PI / (8.0 * x * x));
        return CLAMP(1.0 - sqrt(2.0 * G_PI) / x * sum, 0.0, 1.0);
    }
    for (int k = 1; k <= 20; k++)
        sum += (k % 2 ? 2.0 : -2.0) * exp(-2.0 * k * k * x * x);
    return CLAMP(sum, 0.0, 1.0);
}

double
fm__kolmogorov_distance(size_t n, const double *u)
{
    double worst = 0.0;

    for (size_t i = 0; i < n; i++) {
        worst = MAX(worst, (double)(i + 1) / (double)n - u[i]);
        worst = MAX(worst, u[i] - (double)i / (double)n);
    }
    return worst;
}

static int
ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* ---- the tests ---- */

typedef struct Latent {
    size_t n, D;
    const double *z; /* (n, D), finite */
    double *square;  /* (n) |z|^2 */
    double *u;       /* (n D) scratch */
} Latent;

static void
latent_moments(const Latent *l, FmLatent *out)
{
    const double n = (double)l->n, D = (double)l->D;
    double sum = 0.0, mean2 = 0.0;

    for (size_t d = 0; d < l->D; d++) {
        double mean = 0.0;

        for (size_t i = 0; i < l->n; i++)
            mean += l->z[i * l->D + d] / n;
        mean2 += mean * mean;
    }
    for (size_t i = 0; i < l->n; i++)
        sum += l->square[i];
    const double above = fm__chi_squared_above(n * D, sum);
    out->mean = sqrt(mean2 / D);
    out->scale = sum / (n * D);
    out->p[FM_LATENT_MEAN] = fm__chi_squared_above(D, n * mean2);
    out->p[FM_LATENT_SCALE] = 2.0 * MIN(above, 1.0 - above);
}

/* log|S| (D, D) by Cholesky in place; NAN when S is not positive definite. */
static double
log_determinant(size_t D, double *S)
{
    double sum = 0.0;

    for (size_t j = 0; j < D; j++)
        for (size_t i = j; i < D; i++) {
            double v = S[i * D + j];

            for (size_t k = 0; k < j; k++)
                v -= S[i * D + k] * S[j * D + k];
            if (i == j && !(v > 0.0))
                return NAN;
            S[i * D + j] = i == j ? sqrt(v) : v / S[j * D + j];
            if (i == j)
                sum += log(v);
        }
    return sum;
}

/* n (tr S - log|S| - D) with S = z' z / n about the known mean 0, and Bartlett's correction
 * (Muirhead 1982, Aspects of Multivariate Statistical Theory, thm 8.4.9). */
static double
latent_covariance(const Latent *l)
{
    const size_t D = l->D;
    const double n = (double)l->n, d = (double)D;

    if (D > LATENT_MAX_D || l->n < LATENT_ROWS_A_COLUMN * D)
        return NAN;
    g_autofree double *S = g_new0(double, D *D);
    double trace = 0.0;
    for (size_t i = 0; i < l->n; i++)
        for (size_t a = 0; a < D; a++)
            for (size_t b = 0; b <= a; b++)
                S[a * D + b] += l->z[i * D + a] * l->z[i * D + b] / n;
    for (size_t a = 0; a < D; a++)
        trace += S[a * D + a];
    const double ratio = n * (trace - log_determinant(D, S) - d);
    return fm__chi_squared_above(0.5 * d * (d + 1.0),
                                 ratio * (1.0 - (2.0 * d * d + 3.0 * d - 1.0) / (6.0 * n * (d + 1.0))));
}

static void
latent_shapes(const Latent *l, FmLatent *out)
{
    const size_t all = l->n * l->D;

    for (size_t i = 0; i < l->n; i++)
        l->u[i] = 1.0 - fm__chi_squared_above((double)l->D, l->square[i]);
    qsort(l->u, l->n, sizeof *l->u, ascending);
    out->radius = fm__kolmogorov_distance(l->n, l->u);
    out->p[FM_LATENT_RADIUS] = fm__kolmogorov_above(l->n, out->radius);
    for (size_t i = 0; i < all; i++)
        l->u[i] = 0.5 * erfc(-l->z[i] / G_SQRT2);
    qsort(l->u, all, sizeof *l->u, ascending);
    out->p[FM_LATENT_COORDINATES] = fm__kolmogorov_above(all, fm__kolmogorov_distance(all, l->u));
}

/* Finite rows of z / sd to `to`, their |.|^2 to `square`; how many. */
static size_t
latent_rows(size_t n, size_t D, const double *z, double sd, double *to, double *square)
{
    size_t kept = 0;

    for (size_t i = 0; i < n; i++) {
        double sum = 0.0;

        for (size_t d = 0; d < D; d++) {
            to[kept * D + d] = z[i * D + d] / sd;
            sum += to[kept * D + d] * to[kept * D + d];
        }
        square[kept] = sum;
        kept += isfinite(sum) ? 1 : 0;
    }
    return kept;
}

void
fm_latent_test(size_t n, size_t D, const double *z, double sd, FmLatent *out)
{
    g_autofree double *rows = g_try_new(double, n *D + 1), *u = g_try_new(double, n *D + 1),
                      *square = g_try_new(double, n + 1);
    int tests = 0;

    *out = (FmLatent){.combined = NAN, .mean = NAN, .scale = NAN, .radius = NAN};
    for (int k = 0; k < FM_LATENT_N_TESTS; k++)
        out->p[k] = NAN;
    if (!rows || !u || !square)
        return;
    const Latent l = {.n = latent_rows(n, D, z, sd, rows, square), .D = D, .z = rows, .square = square, .u = u};
    out->n = l.n;
    out->skipped = n - l.n;
    if (l.n < 2)
        return;
    latent_moments(&l, out);
    out->p[FM_LATENT_COVARIANCE] = latent_covariance(&l);
    latent_shapes(&l, out);
    out->combined = 1.0;
    for (int k = 0; k < FM_LATENT_N_TESTS; k++)
        if (!isnan(out->p[k])) {
            out->combined = MIN(out->combined, out->p[k]);
            tests++;
        }
    out->combined = MIN(1.0, tests * out->combined);
}
