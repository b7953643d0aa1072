/* neighbours.h: distances to nearest neighbours, exact, for estimators that rest on them.
 *
 * Two searches: a k-d tree (few columns), and a scan over all rows, which selects by products in low
 * precision with bounds of their rounding and decides in double (many columns). Both give the same
 * distances to rounding, and the same bytes for any number of threads. */
#ifndef FMCORE_NEIGHBOURS_H
#define FMCORE_NEIGHBOURS_H

#include <fmcore/error.h>

#include <stddef.h>

G_BEGIN_DECLS

typedef struct FmNeighbours FmNeighbours; /* an index over the rows of one set */

typedef enum FmSearch { FM_SEARCH_AUTO, FM_SEARCH_TREE, FM_SEARCH_SCAN } FmSearch;

#define FM_NEIGHBOURS_MAX 128 /* neighbours of one search */

/* An index over rows row[0 .. n - 1] (NULL: 0 .. n - 1) of x (.., D), finite. x and row are borrowed and
 * outlive it. 1 <= n < 2^32, D >= 1. Memory: tree 8 to 9 D n bytes and as much while it is built; scan
 * 2 D n bytes where the processor multiplies tiles of bfloat16, 3 D n where it has AVX2 and D >= 96, else
 * O(n); of equal rows one is kept. Errors: FM_ERROR_MEMORY.
 * search: AUTO takes the one that is quicker for k neighbours of each row, by what the tree computes for some
 * of them and by measured costs; it is the same in every run (core/flow/neighbours_choice.c). 1 <= k <=
 * FM_NEIGHBOURS_MAX; nothing else looks at it.
 * like: NULL, or an index of equal D that will be searched together with this one: the search is then
 * its, and work is shared (borrowed for the call). The caller owns the result. */
FmNeighbours *fm_neighbours_new(size_t n, size_t D, const double *x, const guint32 *row, FmSearch search, size_t k,
                                const FmNeighbours *like, int threads, GError **error);
FmSearch fm_neighbours_method(const FmNeighbours *index); /* FM_SEARCH_TREE or FM_SEARCH_SCAN */
void fm_neighbours_free(FmNeighbours *index);             /* NULL allowed */

/* Squared distances d2 (rows of `queries`, k), ascending, from each row of `queries` to its k nearest rows
 * of `index`; INFINITY where there are fewer. With index == queries a row does not count for itself.
 * Both are the same index, or one was made `like` the other. 1 <= k <= FM_NEIGHBOURS_MAX. Memory: O(threads).
 * Cost: tree about n log n in few columns; scan n m D. Errors: FM_ERROR_MEMORY. */
gboolean fm_neighbours_search(const FmNeighbours *index, const FmNeighbours *queries, size_t k, int threads, double *d2,
                              GError **error);

/* For n rows row[i] of `queries`: the number of rows of `index` within squared distance d2[i], its bound included,
 * in count[i], with the largest of their squared distances in last[i] (0: none); or the least positive squared
 * distance in d2[i] (INFINITY: none). A row does not count for itself. Distances are computed as in the search, so
 * that ties are ties. Cost of a row: tree about log n and its number; scan as a search, and D for each row counted.
 * Errors: FM_ERROR_MEMORY. */
gboolean fm_neighbours_within(const FmNeighbours *index, const FmNeighbours *queries, size_t n, const guint32 *row,
                              const double *d2, int threads, size_t *count, double *last, GError **error);
gboolean fm_neighbours_positive(const FmNeighbours *index, const FmNeighbours *queries, size_t n, const guint32 *row,
                                int threads, double *d2, GError **error);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(FmNeighbours, fm_neighbours_free)

G_END_DECLS
#endif
