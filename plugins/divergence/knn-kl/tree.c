/* tree.c: a k-d tree, split at the median of the widest side.
 * Friedman, Bentley & Finkel 1977, doi:10.1145/355744.355745; incremental distances: Arya & Mount
 * 1993, doi:10.1109/DCC.1993.253111. */
#include "knn.h"

enum { KNN_LEAF = 12 /* points of a leaf */ };

size_t
knn_tree_nodes(size_t n)
{
    return 2 * (n / (KNN_LEAF / 2) + 1);
}

static void
knn_swap(KnnSet *s, size_t i, size_t j)
{
    const guint32 id = s->id[i];

    s->id[i] = s->id[j];
    s->id[j] = id;
    for (size_t d = 0; d < s->D; d++) {
        const double x = s->x[i * s->D + d];

        s->x[i * s->D + d] = s->x[j * s->D + d];
        s->x[j * s->D + d] = x;
    }
}

/* Hoare's quickselect: afterwards rows before `mid` are <= row mid on `axis`, rows after >=. */
static void
knn_select(KnnSet *s, size_t begin, size_t end, size_t mid, size_t axis)
{
    const size_t D = s->D;
    size_t lo = begin, hi = end - 1;

    while (lo < hi) {
        const double a = s->x[lo * D + axis], b = s->x[(lo + hi) / 2 * D + axis],
                     c = s->x[hi * D + axis];
        const double pivot = MAX(MIN(a, b), MIN(MAX(a, b), c));
        size_t i = lo, j = hi;

        for (;;) {
            while (s->x[i * D + axis] < pivot)
                i++;
            while (s->x[j * D + axis] > pivot)
                j--;
            if (i >= j)
                break;
            knn_swap(s, i++, j--);
        }
        if (i == j && s->x[i * D + axis] <= pivot)
            j = i; /* row j belongs to the left part */
        if (mid <= j)
            hi = j == hi ? hi - 1 : j;
        else
            lo = j + 1;
    }
}

static guint32
knn_build(KnnSet *s, size_t begin, size_t end)
{
    const guint32 me = s->n_nodes++;
    KnnNode *node = &s->node[me];
    double widest = 0.0;
    size_t axis = 0, mid;

    *node = (KnnNode){.axis = G_MAXUINT32, .begin = (guint32)begin, .end = (guint32)end};
    if (end - begin <= KNN_LEAF)
        return me;
    for (size_t d = 0; d < s->D; d++) {
        double lo = INFINITY, hi = -INFINITY;

        for (size_t i = begin; i < end; i++) {
            lo = MIN(lo, s->x[i * s->D + d]);
            hi = MAX(hi, s->x[i * s->D + d]);
        }
        if (hi - lo > widest) {
            widest = hi - lo;
            axis = d;
        }
    }
    if (widest == 0.0) /* all the same point */
        return me;
    mid = begin + (end - begin) / 2;
    knn_select(s, begin, end, mid, axis);
    node->axis = (guint32)axis;
    node->split = s->x[mid * s->D + axis];
    knn_build(s, begin, mid);
    node->right = knn_build(s, mid, end);
    return me;
}

void
knn_tree_build(KnnSet *s)
{
    knn_build(s, 0, s->n);
}

/* Depth first, nearer child first. offset: squared distance to the node's box per axis; d2: their
 * sum (Arya & Mount 1993). `skip`: the id that does not count, or G_MAXUINT32. */
static void
knn_visit(const KnnSet *s, guint32 at, const double *x, guint32 skip, double *offset, double d2,
          KnnBest *best)
{
    const KnnNode *node = &s->node[at];
    double delta, old, far;
    gboolean left;

    if (node->axis == G_MAXUINT32) {
        for (guint32 i = node->begin; i < node->end; i++)
            if (s->id[i] != skip)
                knn_insert(best, knn_distance2(s->D, x, s->x + i * s->D), i);
        return;
    }
    delta = x[node->axis] - node->split;
    left = delta < 0.0;
    knn_visit(s, left ? at + 1 : node->right, x, skip, offset, d2, best);
    old = offset[node->axis];
    far = d2 - old + delta * delta;
    /* a hair below: the bound is rounded otherwise than the distances */
    if (far * (1.0 - 1e-12) < knn_worst(best)) {
        offset[node->axis] = delta * delta;
        knn_visit(s, left ? node->right : at + 1, x, skip, offset, far, best);
        offset[node->axis] = old;
    }
}

void
knn_tree_search(const KnnSet *s, const double *x, guint32 skip, KnnBest *best)
{
    double offset[KNN_TREE_D] = {0};

    knn_visit(s, 0, x, skip, offset, 0.0, best);
}
