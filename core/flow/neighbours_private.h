/* neighbours_private.h: the index and its two searches. */
#ifndef FMCORE_CORE_FLOW_NEIGHBOURS_PRIVATE_H
#define FMCORE_CORE_FLOW_NEIGHBOURS_PRIVATE_H

#include <fmcore/cpu.h>
#include <fmcore/neighbours.h>

#include <math.h>

enum { NB_LEAF = 16 /* points of a leaf of the tree, and of a block of the scan */ };

#define SCAN_FAR 1e30 /* squared length in the frame beyond which floats cannot tell rows apart */

typedef struct NbFrame NbFrame;
typedef struct NbBytes NbBytes;

struct FmNeighbours {
    size_t n, D;     /* n: of rows that differ, over which everything below runs */
    const double *x; /* borrowed */
    const guint32 *row;
    gboolean tree;
    size_t rows;     /* as many were given */
    guint32 *of;     /* (rows) place of a row among those that differ; NULL: all differ and are in order, */
    guint32 *kept;   /* (n) and so are these: `row` */
    guint32 *first;  /* (n) which of those given it is, the first of equal ones */
    guint32 *weight; /* (n) how many rows are equal to it; NULL: one */
    /* Tree. Node 0 has all leaves; a node with L > 1 leaves has the first (L + 1) / 2 in its left child,
     * which follows it, so that positions say everything; leaf l has points 16 l .. 16 l + 15. */
    size_t leaves;
    double *leaf; /* (leaves, D, 16), INFINITY beyond the last point */
    double *box;  /* (2 leaves - 1, 2, D): lower and upper corner of a node's points */
    guint32 *id;  /* (leaves, 16): row of a point */
    guint32 *at;  /* (n): 16 times leaf plus place of a row */
    /* Scan. Lengths are those of rows in the frame. */
    NbFrame *frame;         /* owned */
    gboolean select_bytes;  /* products are to be of bytes */
    gboolean far;           /* a row is too long for floats */
    float *length, *square; /* (n) |y| and |y|^2, up and down by their rounding */
    float *lost;            /* (n) |y - y'|, rounded up, y' a row of `pack` or of bytes; NULL: neither */
    guint16 *pack;          /* (blocks, columns, 16, 16, 2): bfloat16 in the order of nb_bf16_product() */
    size_t columns;         /* ceil(D / 32) */
    NbBytes *bytes;         /* owned; NULL: not used */
};

/* fm_neighbours_new() with a scan in so many directions (tests). */
FmNeighbours *fm__neighbours_scan_new(size_t n, size_t D, const double *x, size_t directions, int threads);

static inline const double *
nb_row(const FmNeighbours *s, size_t i)
{
    return s->x + (s->row ? s->row[i] : i) * s->D;
}

/* Which of those given row i is. */
static inline size_t
nb_given(const FmNeighbours *s, size_t i)
{
    return s->first ? s->first[i] : i;
}

/* Rows equal to row i, itself among them. */
static inline size_t
nb_weight(const FmNeighbours *s, size_t i)
{
    return s->weight ? s->weight[i] : 1;
}

/* A length from its square, in float and not less. */
FM_INLINE float
nb_length_up(double square)
{
    return (float)(sqrt(square) * (1.0 + 1e-6));
}

/* Insert v into ascending b (k), dropping the last. */
FM_INLINE void
nb_insert(size_t k, double *b, double v)
{
    size_t i = k - 1;

    if (!(v < b[i]))
        return;
    for (; i > 0 && b[i - 1] > v; i--)
        b[i] = b[i - 1];
    b[i] = v;
}

/* v once for each of `weight` rows. */
static inline void
nb_insert_weighted(size_t k, double *b, double v, size_t weight)
{
    for (size_t c = MIN(weight, k); c > 0; c--)
        nb_insert(k, b, v);
}

/* b (k) before a search for row i: empty but for rows equal to it. */
static inline void
nb_insert_first(size_t k, double *b, gboolean self, const FmNeighbours *s, size_t i)
{
    for (size_t c = 0; c < k; c++)
        b[c] = self && c + 1 < nb_weight(s, i) ? 0.0 : INFINITY;
}

/* Rows of `queries` and balls about them, or all rows. */
typedef struct NbBalls {
    size_t n;
    const guint32 *row; /* (n) */
    const double *d2;   /* (n) squared radii */
    size_t *count;      /* (n) rows within, */
    double *last;       /* (n) and the largest of their squared distances */
} NbBalls;

/* ---- neighbours_equal.c ---- */

/* Keep one of equal rows; take row order[i] as row i. FALSE: no memory. */
gboolean nb_equal_find(FmNeighbours *s, int threads);
gboolean nb_equal_order(FmNeighbours *s, const guint32 *order);

/* ---- neighbours_tree.c ---- */

gboolean nb_tree_build(FmNeighbours *s, int threads);
void nb_tree_clear(FmNeighbours *s);
void nb_tree_search(const FmNeighbours *s, const FmNeighbours *q, size_t k, int threads, double *d2);
/* What the search for the rows of one leaf among all computes: nodes of whose children the distances to 16 queries
 * are taken, and queries, one by one, that need a leaf's 16 distances. */
typedef struct NbCount {
    size_t nodes, queries;
} NbCount;
NbCount nb_tree_count(const FmNeighbours *s, size_t leaf, size_t k);
void nb_tree_within(const FmNeighbours *s, const FmNeighbours *q, const NbBalls *balls, int threads);
/* The least positive distance among all. */
double nb_tree_positive(const FmNeighbours *s, const FmNeighbours *q, size_t i);
/* Squared distances (n, k) of n rows of q to the nearest rows that differ, equal ones once. */
gboolean nb_tree_different(const FmNeighbours *s, const FmNeighbours *q, size_t n, const guint32 *row, size_t k,
                           int threads, double *d2);

/* ---- neighbours_choice.c ---- */

enum { NB_SAMPLE = 1024 /* rows */ };

/* TRUE where k neighbours of the rows of s are found in less time by its tree, which is built, than by a scan of
 * those of `scan` in its frame; where that is not set, in any. */
gboolean nb_tree_pays(const FmNeighbours *s, size_t k, const FmNeighbours *scan);
/* *pays is FALSE where the tree of a sample of the rows of s, more than NB_SAMPLE, takes longer than the scan of all.
 * FALSE: no memory. */
gboolean nb_sample_pays(const FmNeighbours *s, size_t k, int threads, gboolean *pays);

/* ---- neighbours_frame.c: rows less a centre, times a power of two that brings them near 1 ---- */

struct NbFrame {
    double *centre; /* (D) */
    double scale;
    size_t directions; /* of a subspace, d; 0: none */
    double *basis;     /* (d, D), mixed */
    double blur;       /* |x| times this: how far (p, r) is from where the inequality holds */
    double cost;       /* of a query with these directions, in products of a column in bytes; 0: none were looked for */
};

#define NB_MEASURED G_MAXSIZE /* directions: as many as cost least */

/* Of the rows of s, with so many directions or fewer, or a copy of another's. NULL: no memory. */
NbFrame *nb_frame_new(const FmNeighbours *s, const NbFrame *like, size_t directions);
/* What a query of s takes by products of bytes, in products of a column; and the least that any frame of n rows of
 * D columns would make it, 0 where bytes are not used. */
double nb_frame_cost(const FmNeighbours *s);
double nb_frame_least(size_t n, size_t D);
/* to (D) = (x - centre) scale; its squared length. */
double nb_frame_row(const NbFrame *f, size_t D, const double *x, double *to);
/* to (n, D): the directions of largest variance, n <= d. */
void nb_frame_leading(const NbFrame *f, size_t D, size_t n, double *to);
gboolean nb_frame_equal(size_t D, const NbFrame *a, const NbFrame *b);
void nb_frame_free(NbFrame *f); /* NULL allowed */

/* ---- neighbours_bytes.c: products of bytes (AVX2) ---- */

/* TRUE where the processor has them and D columns cannot overflow. */
gboolean nb_bytes_usable(size_t D);
/* Rows of s, whose frame is set, in bytes, and their lengths; where the frame has directions, in an order in which near
 * rows follow each other. */
gboolean nb_bytes_build(FmNeighbours *s, int threads);
void nb_bytes_free(NbBytes *b); /* NULL allowed */
/* Queries of one work item, at most. */
size_t nb_bytes_chunk(const NbBytes *b);

/* ---- neighbours_scan.c ---- */

/* The frame of an index, before it is built. like: NULL, or an index whose frame is to be used. directions: as in
 * nb_frame_new(). */
gboolean nb_scan_begin(FmNeighbours *s, const FmNeighbours *like, size_t directions);
/* What a query will take, in products of a column in bytes; 0: it will not use bytes. */
double nb_scan_bytes_cost(const FmNeighbours *s);
gboolean nb_scan_build(FmNeighbours *s, int threads);
gboolean nb_scan_search(const FmNeighbours *s, const FmNeighbours *q, size_t k, int threads, double *d2);
gboolean nb_scan_different(const FmNeighbours *s, const FmNeighbours *q, size_t n, const guint32 *row, size_t k,
                           int threads, double *d2);
gboolean nb_scan_within(const FmNeighbours *s, const FmNeighbours *q, const NbBalls *balls, int threads);
double nb_scan_positive(const FmNeighbours *s, const FmNeighbours *q, size_t i);
/* As the scan decides: eight partial sums. */
double nb_distance(size_t D, const double *a, const double *b);

/* ---- neighbours_bf16.c: products of bfloat16 by tiles (AMX), two to the tenth multiply-adds a cycle ---- */

/* TRUE where the processor and the system have them; a thread calls begin before and end after products. */
gboolean nb_bf16_usable(void);
void nb_bf16_begin(void);
void nb_bf16_end(void);
/* c (32, 16 blocks) = a b^T, sums in float: a (2, columns, 16, 32) two blocks of 16 rows, b (blocks, columns,
 * 16, 16, 2) blocks of 16 rows with values 2 p, 2 p + 1 of row r at (p, r). */
void nb_bf16_product(size_t columns, size_t blocks, const guint16 *a, const guint16 *b, float *c);

#endif
