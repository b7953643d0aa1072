/* entropy.c: Kozachenko & Leonenko's estimator,
 *   H = psi(n) - psi(k) + log c_D + (D / n) sum_i log r_i,
 * r_i the distance of row i to its k-th neighbour and c_D the volume of the unit ball.
 * Source: Kozachenko & Leonenko 1987, Probl. Inf. Transm. 23:95; Kraskov et al. 2004,
 * doi:10.1103/PhysRevE.69.066138, eq. 20. */
#include "flow/entropy.h"

#include <fmcore/divergence.h>
#include <fmcore/plan.h>

#include <math.h>

enum { ENTROPY_BLOCK = 64, ENTROPY_MAX_K = 64, ENTROPY_PARTS = 10 };

typedef struct Entropy {
    size_t n, D;
    int k;
    const double *x;
    double *square; /* (n) squared distance to the k-th neighbour */
} Entropy;

static void
neighbour_of(const Entropy *e, size_t i)
{
    double best[ENTROPY_MAX_K]; /* ascending */
    const double *a = e->x + i * e->D;

    for (int j = 0; j < e->k; j++)
        best[j] = INFINITY;
    for (size_t r = 0; r < e->n; r++) {
        const double *b = e->x + r * e->D;
        double sum = 0;
        int at = e->k - 1;

        for (size_t d = 0; d < e->D; d++)
            sum += (a[d] - b[d]) * (a[d] - b[d]);
        if (sum >= best[at] || r == i)
            continue;
        for (; at > 0 && best[at - 1] > sum; at--)
            best[at] = best[at - 1];
        best[at] = sum;
    }
    e->square[i] = best[e->k - 1];
}

static void
neighbour_block(void *ctx, int worker, size_t block)
{
    const Entropy *e = ctx;
    const size_t end = MIN(e->n, (block + 1) * ENTROPY_BLOCK);

    for (size_t i = block * ENTROPY_BLOCK; i < end; i++)
        neighbour_of(e, i);
}

/* psi(m) of a whole number: harmonic numbers. */
static double
digamma(size_t m)
{
    double sum = -0.57721566490153286061;

    for (size_t i = 1; i < m; i++)
        sum += 1.0 / (double)i;
    return sum;
}

/* The estimate from e->n rows; *equal is a row with k equals, or n. */
static double
entropy_of(Entropy *e, int threads, size_t *equal)
{
    const double D = (double)e->D;
    double mean = 0;

    *equal = e->n;
    fm_parallel(threads, (e->n + ENTROPY_BLOCK - 1) / ENTROPY_BLOCK, neighbour_block, e);
    for (size_t i = e->n; i-- > 0;) {
        if (e->square[i] == 0)
            *equal = i;
        mean += 0.5 * D * log(e->square[i]) / (double)e->n;
    }
    return digamma(e->n) - digamma((size_t)e->k) + 0.5 * D * log(G_PI) - lgamma(0.5 * D + 1.0) + mean;
}

gboolean
fm_entropy_knn(size_t n, size_t D, const double *x, int k, int threads, double *value, double *se,
               GError **error)
{
    g_autofree double *square = g_try_new(double, n);
    Entropy e = {.n = n, .D = D, .k = k, .x = x, .square = square};
    double part[ENTROPY_PARTS];
    size_t equal;

    g_return_val_if_fail(k >= 1 && k <= ENTROPY_MAX_K && n / ENTROPY_PARTS > (size_t)k, FALSE);
    if (!square) {
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "entropy: %zu rows do not fit in memory", n);
        return FALSE;
    }
    *value = entropy_of(&e, threads, &equal);
    if (equal < n) {
        g_set_error(error, FM_ERROR, FM_ERROR_DATA,
                    "entropy: row %zu has %d equals, expected fewer than k = %d", equal, k, k);
        return FALSE;
    }
    for (size_t b = 0; b < ENTROPY_PARTS; b++) {
        e.x = x + b * n / ENTROPY_PARTS * D;
        e.n = (b + 1) * n / ENTROPY_PARTS - b * n / ENTROPY_PARTS;
        part[b] = entropy_of(&e, threads, &equal);
    }
    *se = fm_estimate_block_se(part, ENTROPY_PARTS);
    return TRUE;
}
