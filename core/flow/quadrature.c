/* quadrature.c: integrals of sampled curves by local interpolation, and Gauss-Legendre rules. */
#include "flow/quadrature.h"

#include <fmcore/dataset.h>

#include <math.h>
#include <string.h>

enum { NODES = 8 };

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

static double
grid_pace(const FmGrid *g, size_t j)
{
    return g->pace != NULL ? g->pace[j * g->every] : 1.0;
}

FmGrid
fm__grid_coarse(const FmGrid *g)
{
    return (FmGrid){.T = g->T / 2 + 1, .every = 2 * g->every, .h = 2.0 * g->h, .pace = g->pace};
}

void
fm__cumulate_all(const FmGrid *g, size_t n, const double *y, double *out)
{
    const size_t m = MIN(g->T, (size_t)NODES);
    double weight[NODES][NODES];

    interval_weights(m, weight);
    memset(out, 0, n * sizeof *out);
    for (size_t j = 0; j + 1 < g->T; j++) {
        const size_t middle = m / 2 - 1, first = MIN(j > middle ? j - middle : 0, g->T - m);
        double *next = out + (j + 1) * n;

        memcpy(next, out + j * n, n * sizeof *out);
        for (size_t k = 0; k < m; k++) {
            const double w = g->h * weight[j - first][k] * grid_pace(g, first + k);
            const double *at = y + (first + k) * g->every * n;

            for (size_t i = 0; i < n; i++)
                next[i] += w * at[i];
        }
    }
}

void
fm__cumulate(const FmGrid *g, const double *y, double *out)
{
    fm__cumulate_all(g, 1, y, out);
}

void
fm__integral_weights(const FmGrid *g, double *weight)
{
    const size_t m = MIN(g->T, (size_t)NODES);
    double part[NODES][NODES];

    interval_weights(m, part);
    memset(weight, 0, g->T * sizeof *weight);
    for (size_t j = 0; j + 1 < g->T; j++) {
        const size_t middle = m / 2 - 1, first = MIN(j > middle ? j - middle : 0, g->T - m);

        for (size_t k = 0; k < m; k++)
            weight[first + k] += g->h * part[j - first][k] * grid_pace(g, first + k);
    }
}

double
fm__integral(const FmGrid *g, const double *y, double *halved)
{
    g_autofree double *c = g_new(double, g->T);

    fm__cumulate(g, y, c);
    const double whole = c[g->T - 1];
    if (halved != NULL)
        *halved = NAN;
    if (halved != NULL && g->T % 2 == 1 && g->T >= 5) {
        const FmGrid coarse = fm__grid_coarse(g);

        fm__cumulate(&coarse, y, c);
        *halved = fabs(whole - c[coarse.T - 1]);
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
