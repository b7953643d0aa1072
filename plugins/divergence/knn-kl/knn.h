/* knn.h: what the two searches and the estimator of knn-kl share. */
#ifndef FMCORE_PLUGINS_KNN_H
#define FMCORE_PLUGINS_KNN_H

#include <fmcore/array.h>
#include <fmcore/backend.h>
#include <fmcore/divergence.h>
#include <fmcore/plan.h>

#include <math.h>
#include <string.h>

enum {
    KNN_TREE_D = 8, /* widest data for the tree: above, a scan was quicker (20,000 points) */
    KNN_K_MAX = 100,
    KNN_LIST = KNN_K_MAX + 1,
    KNN_CHUNK = 64 /* queries of one work item */
};

/* The nearest so far. */
typedef struct KnnBest {
    size_t n, size;      /* entries; wanted */
    double d2[KNN_LIST]; /* ascending */
    size_t at[KNN_LIST];
} KnnBest;

/* ---- reference points: a k-d tree (D <= KNN_TREE_D) or centred copies for the scan ---- */

typedef struct KnnNode {
    double split;
    guint32 axis;       /* G_MAXUINT32: leaf */
    guint32 begin, end; /* points of the node */
    guint32 right;      /* the left child follows its parent */
} KnnNode;

typedef struct KnnSet {
    size_t n, D;
    double *x;     /* (n, D) owned, in tree order */
    guint32 *id;   /* (n) owned: the caller's row */
    KnnNode *node; /* owned; NULL: scan */
    guint32 n_nodes;
    /* scan only */
    float *near, *norm; /* (n, D) less a common centre, (n) their squares; owned */
    double norm_max;    /* largest of the norms, rounded up */
} KnnSet;

/* A set over rows row[0 .. n - 1] of x (row NULL: all); centre (D): of the scan's copies. */
gboolean knn_set_init(KnnSet *s, size_t n, size_t D, const double *x, const guint32 *row,
                      const double *centre, GError **error);
void knn_set_clear(KnnSet *s);

/* ---- tree.c ---- */

void knn_tree_build(KnnSet *s);
size_t knn_tree_nodes(size_t n); /* room for so many */
/* The best->size nearest to x; `skip`: the id that does not count, or G_MAXUINT32. */
void knn_tree_search(const KnnSet *s, const double *x, guint32 skip, KnnBest *best);

/* ---- scan.c ---- */

/* Scratch of one worker. */
typedef struct KnnScan KnnScan;
KnnScan *knn_scan_new(void);
void knn_scan_free(KnnScan *scan); /* NULL allowed */
/* The best[i].size nearest of `s` to rows begin + i of `p`, i below end - begin <= KNN_CHUNK; a row
 * of the same set does not count for itself. */
void knn_scan_search(KnnScan *scan, const KnnSet *s, const KnnSet *p, size_t begin, size_t end,
                     KnnBest *best);

/* ---- small things ---- */

static inline double
knn_worst(const KnnBest *b)
{
    return b->n < b->size ? INFINITY : b->d2[b->n - 1];
}

static inline void
knn_insert(KnnBest *b, double d2, size_t at)
{
    size_t i;

    if (!(d2 < knn_worst(b)))
        return;
    i = b->n < b->size ? b->n++ : b->n - 1;
    for (; i > 0 && b->d2[i - 1] > d2; i--) {
        b->d2[i] = b->d2[i - 1];
        b->at[i] = b->at[i - 1];
    }
    b->d2[i] = d2;
    b->at[i] = at;
}

static inline double
knn_distance2(size_t D, const double *a, const double *b)
{
    double sum = 0.0;

    for (size_t d = 0; d < D; d++)
        sum += (a[d] - b[d]) * (a[d] - b[d]);
    return sum;
}

#endif
