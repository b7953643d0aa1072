/* quadrature.c: integrals of sampled curves by local interpolation, and Gauss-Legendre rules. */
#include "flow/quadrature.h"

#include <fmcore/dataset.h>

#include <math.h>
#include <string.h>

enum { NODES = 6 };

/* Newton's method on the Legendre polynomial, from Chebyshev's guess (Press et al., Numerical
 * Recipes, sec. 4.6.1). */
void
fm_gauss_legendre(int n, double *x, double *w)
{
    for (int i = 0; i < n; i++) {
        double z = cos(G_PI * (i + 0.75) / (n + 0.5)), slope = 1.0;

        for (int step = 0; step < 100; step++) {
            double p = 1.0, before = 0.0;

            for (int k = 0; k < n; k++) {
                const double next = ((2 * k + 1) * z * p - k * before) / (k + 1);
                before = p;
                p = next;
            }
            slope = n * (z * p - before) / (z * z - 1.0);
            const double move = p / slope;
            z -= move;
            if (fabs(move) < 1e-15)
                break;
        }
        x[n - 1 - i] = 0.5 * (1.0 + z);
        w[n - 1 - i] = 1.0 / ((1.0 - z * z) * slope * slope);
    }
}

/* weight[u][k]: of node k for the interval [u, u + 1] between m nodes 0 .. m - 1. */
static void
interval_weights(size_t m, double weight[NODES][NODES])
{
    double x[NODES], w[NODES];

    fm_gauss_legendre(NODES, x, w);
    for (size_t u = 0; u + 1 < m; u++)
        for (size_t k = 0; k < m; k++) {
            weight[u][k] = 0.0;
            for (int i = 0; i < NODES; i++) {
                double l = 1.0;

                for (size_t j = 0; j < m; j++)
                    if (j != k)
                        l *= ((double)u + x[i] - (double)j) / ((double)k - (double)j);
                weight[u][k] += w[i] * l;
            }
        }
}

void
fm__cumulate_all(size_t T, double h, size_t n, const double *y, size_t stride, double *out)
{
    const size_t m = MIN(T, (size_t)NODES);
    double weight[NODES][NODES];

    interval_weights(m, weight);
    memset(out, 0, n * sizeof *out);
    for (size_t j = 0; j + 1 < T; j++) {
        const size_t middle = m / 2 - 1, first = MIN(j > middle ? j - middle : 0, T - m);
        double *next = out + (j + 1) * n;

        memcpy(next, out + j * n, n * sizeof *out);
        for (size_t k = 0; k < m; k++) {
            const double w = h * weight[j - first][k], *at = y + (first + k) * stride;

            for (size_t i = 0; i < n; i++)
                next[i] += w * at[i];
        }
    }
}

void
fm__cumulate(size_t T, double h, const double *y, double *out)
{
    fm__cumulate_all(T, h, 1, y, 1, out);
}

void
fm__integral_weights(size_t T, double h, double *weight)
{
    const size_t m = MIN(T, (size_t)NODES);
    double part[NODES][NODES];

    interval_weights(m, part);
    memset(weight, 0, T * sizeof *weight);
    for (size_t j = 0; j + 1 < T; j++) {
        const size_t middle = m / 2 - 1, first = MIN(j > middle ? j - middle : 0, T - m);

        for (size_t k = 0; k < m; k++)
            weight[first + k] += h * part[j - first][k];
    }
}

double
fm__integral(size_t T, double h, const double *y, double *halved)
{
    g_autofree double *c = g_new(double, T);

    fm__cumulate(T, h, y, c);
    const double whole = c[T - 1];
    if (halved != NULL)
        *halved = NAN;
    if (halved != NULL && T % 2 == 1 && T >= 5) {
        fm__cumulate_all(T / 2 + 1, 2.0 * h, 1, y, 2, c);
        *halved = fabs(whole - c[T / 2]);
    }
    return whole;
}

/* Rows of a matrix product. */
double
fm__product_entropy(size_t K, const double *weight, size_t side, const double *a, const double *b)
{
    g_autofree double *row = g_new(double, side);
    double H = 0.0;

    for (size_t i = 0; i < side; i++) {
        for (size_t j = 0; j < side; j++)
            row[j] = 0.0;
        for (size_t k = 0; k < K; k++) {
            const double w = weight[k] * a[k * side + i];
            const double *by = b + k * side;

            for (size_t j = 0; w > 1e-30 && j < side; j++)
                row[j] += w * by[j];
        }
        for (size_t j = 0; j < side; j++)
            H -= row[j] > 0.0 ? row[j] * log(row[j]) : 0.0;
    }
    return H;
}
