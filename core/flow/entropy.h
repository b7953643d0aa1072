/* entropy.h: differential entropy from a sample alone. */
#ifndef FMCORE_CORE_FLOW_ENTROPY_H
#define FMCORE_CORE_FLOW_ENTROPY_H

#include <fmcore/error.h>
#include <stddef.h>

/* Kozachenko & Leonenko's estimate from distances to k-th neighbours, in nats, of x (n, D); *se is from
 * ten disjoint blocks of rows, because distances to neighbours depend on each other. Biased by
 * boundaries: +0.034 for FFJORD's checkerboard at n = 10,000, k = 5. 1 <= k <= 64, n >= 10 (k + 1);
 * time of fm_neighbours_search(), O(n (D + k)) memory; same bytes for any `threads`. Errors: FM_ERROR_DATA when k + 1
 * rows are equal (the distribution has no density). */
gboolean fm_entropy_knn(size_t n, size_t D, const double *x, int k, int threads, double *value, double *se,
                        GError **error);

#endif
