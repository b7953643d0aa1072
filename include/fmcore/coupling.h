/* coupling.h: which noise goes with which data point. */
#ifndef FMCORE_COUPLING_H
#define FMCORE_COUPLING_H

#include <fmcore/plugin.h>
#include <fmcore/random.h>

G_BEGIN_DECLS

/* Pools of rows to choose from; labels are NULL when the data has none. */
typedef struct FmPool {
    size_t n0, n1, D;
    const double *x0;   /* (n0, D) noise */
    const double *x1;   /* (n1, D) data */
    const int *y0, *y1; /* (n0), (n1) or NULL */
    FmKey key;          /* randomness of this batch */
} FmPool;

/* B pairs: i0[b] below n0 goes with i1[b] below n1; weights average 1 (preset to 1). */
typedef struct FmPairs {
    size_t B;
    size_t *i0, *i1; /* (B), written */
    double *weight;  /* (B), preset to 1 */
} FmPairs;

typedef struct FmCouplingOps {
    /* required */
    gboolean (*pair)(void *self, const FmPool *pool, FmPairs *pairs, GError **error);
    /* optional */
    size_t (*pool_size)(const void *self, size_t B); /* rows of each pool; NULL: B */
    gboolean row_wise; /* TRUE: pairs row b with row b; the core need not gather the batch */
    gboolean (*prepare)(void *self, size_t D, GError **error); /* NULL: nothing to do */
    void (*clear)(void *self);                                 /* NULL: owns nothing */
} FmCouplingOps;

/* Choose the pairs; indices are checked to be in range. One instance per thread. */
gboolean fm_coupling_pair(FmPlugin *coupling, const FmPool *pool, FmPairs *pairs, GError **error);
size_t fm_coupling_pool_size(const FmPlugin *coupling, size_t B);
gboolean fm_coupling_row_wise(const FmPlugin *coupling);
gboolean fm_coupling_prepare(FmPlugin *coupling, size_t D, GError **error);

/* Minimum-cost perfect matching of a square cost matrix (n, n), row-major: to[i] is the column of
 * row i. Exact to the rounding of double, ties to the same pairs on every machine; O(n^3) at worst.
 * work: fm_assignment_work(n) bytes, FM_ALIGN aligned (about 4 n^2); nothing is allocated. Returns
 * the total cost; `work` then begins with the columns' potentials v (n doubles): row i's least
 * cost[i][j] - v[j] is at to[i]. NAN, with `to` unspecified, when a cost is not finite or their sum
 * overflows.
 * Bertsekas 1988, doi:10.1007/BF02186476; Jonker & Volgenant 1987, doi:10.1007/BF02278710. */
double fm_assignment(size_t n, const double *cost, size_t *to, void *work);
size_t fm_assignment_work(size_t n);

/* Squared Euclidean distances of rows of x (n, D) to rows of y (m, D): out (n, m). By differences
 * in few dimensions, else by a matrix product of centred copies (rounding near 1e-16 of the
 * largest distance). work: fm_distances2_work() doubles. */
void fm_distances2(size_t n, const double *x, size_t m, const double *y, size_t D, double *work, double *out);
size_t fm_distances2_work(size_t n, size_t m, size_t D);

G_END_DECLS
#endif
