/* entropy.c: Kozachenko & Leonenko's estimator,
 *   H = psi(n) - psi(k) + log c_D + (D / n) sum_i log r_i,
 * r_i the distance of row i to its k-th neighbour and c_D the volume of the unit ball.
 * Source: Kozachenko & Leonenko 1987, Probl. Inf. Transm. 23:95; Kraskov et al. 2004,
 * doi:10.1103/PhysRevE.69.066138, eq. 20. */
#include "flow/entropy.h"

#include <fmcore/array.h>
#include <fmcore/divergence.h>
#include <fmcore/neighbours.h>

#include <math.h>

enum { ENTROPY_MAX_K = 64, ENTROPY_PARTS = 10 };

/* The estimate from n rows; *equal is a row with k equals, or n. d2: room for (n, k). */
static gboolean
entropy_of(size_t n, size_t columns, const double *x, size_t k, int threads, double *d2, double *value, size_t *equal,
           GError **error)
{
    g_autoptr(FmNeighbours) rows = fm_neighbours_new(n, columns, x, NULL, FM_SEARCH_AUTO, k, NULL, threads, error);
    const double D = (double)columns;
    double mean = 0;

    if (!rows || !fm_neighbours_search(rows, rows, k, threads, d2, error))
        return FALSE;
    *equal = n;
    for (size_t i = n; i-- > 0;) {
        const double square = d2[i * k + k - 1];

        if (square == 0)
            *equal = i;
        mean += 0.5 * D * log(square) / (double)n;
    }
    *value = fm_digamma((double)n) - fm_digamma((double)k) + 0.5 * D * log(G_PI) - lgamma(0.5 * D + 1.0) + mean;
    return TRUE;
}

gboolean
fm_entropy_knn(size_t n, size_t D, const double *x, int k, int threads, double *value, double *se, GError **error)
{
    double *d2, part[ENTROPY_PARTS];
    size_t equal;
    gboolean ok;

    g_return_val_if_fail(k >= 1 && k <= ENTROPY_MAX_K && n / ENTROPY_PARTS > (size_t)k, FALSE);
    d2 = fm_alloc(n * (size_t)k * sizeof *d2);
    ok = d2 != NULL;
    if (!ok)
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "entropy: %zu rows do not fit in memory", n);
    ok = ok && entropy_of(n, D, x, (size_t)k, threads, d2, value, &equal, error);
    if (ok && equal < n) {
        g_set_error(error, FM_ERROR, FM_ERROR_DATA, "entropy: row %zu has %d equals, expected fewer than k = %d", equal,
                    k, k);
        ok = FALSE;
    }
    for (size_t b = 0; ok && b < ENTROPY_PARTS; b++) {
        const size_t begin = b * n / ENTROPY_PARTS, end = (b + 1) * n / ENTROPY_PARTS;

        ok = entropy_of(end - begin, D, x + begin * D, (size_t)k, threads, d2, &part[b], &equal, error);
    }
    if (ok)
        *se = fm_estimate_block_se(part, ENTROPY_PARTS);
    fm_free(d2);
    return ok;
}
