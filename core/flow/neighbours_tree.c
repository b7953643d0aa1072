/* neighbours_tree.c: a k-d tree, split at the median of the widest side, whose leaves of 16 points are
 * searched for all 16 points of a query's leaf together: nodes are visited once for the group, those with the
 * least sum of distances first, while any of its points needs them, and distances are computed 16 at a time.
 *
 * Friedman, Bentley & Finkel 1977, doi:10.1145/355744.355745; groups of queries: Gray & Moore 2000,
 * "N-body problems in statistical learning" (NIPS 13).
 *
 * A distance to a box is summed over axes like one to a point, and rounding is monotonic: it never
 * exceeds the distance to a point of the box, and nothing is lost by comparing the two. */
#include "flow/neighbours_private.h"

#include <fmcore/array.h>
#include <fmcore/cpu.h>
#include <fmcore/plan.h>

#include <math.h>
#include <string.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3", "no-math-errno", "no-trapping-math", "fp-contract=off")
#endif

enum {
    TREE_STACK = 64, /* one entry a level is left behind: more than 32 cannot be */
    TREE_TASKS = 64, /* subtrees that are built at once */
    TREE_LIST = 8    /* distances of the shortest list of neighbours: one vector of AVX-512 */
};

/* ---- the nodes that positions imply ---- */

typedef struct TreeNode {
    size_t node, first, leaves; /* its number, its first leaf, how many */
} TreeNode;

static inline TreeNode
left_of(TreeNode t)
{
    return (TreeNode){t.node + 1, t.first, (t.leaves + 1) / 2};
}

static inline TreeNode
right_of(TreeNode t)
{
    const size_t left = (t.leaves + 1) / 2;

    return (TreeNode){t.node + 2 * left, t.first + left, t.leaves - left};
}

/* ---- building ---- */

/* Points in the order in which they become leaves: rows (n, D) and their numbers. */
typedef struct TreeBuild {
    FmNeighbours *s;
    double *x;
    guint32 *id;
    size_t grain; /* nodes with fewer leaves are whole tasks */
    TreeNode task[2 * TREE_TASKS];
    size_t tasks;
} TreeBuild;

static inline void
build_swap(const TreeBuild *b, size_t i, size_t j)
{
    const size_t D = b->s->D;
    const guint32 id = b->id[i];

    b->id[i] = b->id[j];
    b->id[j] = id;
    for (size_t d = 0; d < D; d++) {
        const double x = b->x[i * D + d];

        b->x[i * D + d] = b->x[j * D + d];
        b->x[j * D + d] = x;
    }
}

/* Hoare's quickselect: afterwards points before `mid` are <= point mid on `axis`, those after >=. */
static void
build_select(const TreeBuild *b, size_t begin, size_t end, size_t mid, size_t axis)
{
    const size_t D = b->s->D;
    const double *x = b->x + axis;
    size_t lo = begin, hi = end - 1;

    while (lo < hi) {
        const double u = x[lo * D], v = x[(lo + hi) / 2 * D], w = x[hi * D];
        const double pivot = MAX(MIN(u, v), MIN(MAX(u, v), w));
        size_t i = lo, j = hi;

        for (;;) {
            while (x[i * D] < pivot)
                i++;
            while (x[j * D] > pivot)
                j--;
            if (i >= j)
                break;
            build_swap(b, i++, j--);
        }
        if (i == j && x[i * D] <= pivot)
            j = i; /* point j belongs to the left part */
        if (mid <= j)
            hi = j == hi ? hi - 1 : j;
        else
            lo = j + 1;
    }
}

static void
build_leaf(const TreeBuild *b, size_t leaf, size_t begin, size_t end)
{
    FmNeighbours *s = b->s;
    double *to = s->leaf + leaf * s->D * NB_LEAF;

    for (size_t l = 0; l < NB_LEAF; l++) {
        const gboolean there = begin + l < end;

        for (size_t d = 0; d < s->D; d++)
            to[d * NB_LEAF + l] = there ? b->x[(begin + l) * s->D + d] : INFINITY;
        s->id[leaf * NB_LEAF + l] = there ? b->id[begin + l] : G_MAXUINT32;
        if (there)
            s->at[b->id[begin + l]] = (guint32)(leaf * NB_LEAF + l);
    }
}

/* Split one node; FALSE: it is a leaf. */
static gboolean
build_split(const TreeBuild *b, TreeNode t)
{
    FmNeighbours *s = b->s;
    const size_t D = s->D, begin = t.first * NB_LEAF, end = MIN((t.first + t.leaves) * NB_LEAF, s->n);
    double *lo = s->box + t.node * 2 * D, *hi = lo + D;
    size_t axis = 0;

    memcpy(lo, b->x + begin * D, D * sizeof *lo);
    memcpy(hi, b->x + begin * D, D * sizeof *hi);
    for (size_t i = begin + 1; i < end; i++)
        for (size_t d = 0; d < D; d++) {
            const double v = b->x[i * D + d];

            lo[d] = MIN(lo[d], v);
            hi[d] = MAX(hi[d], v);
        }
    if (t.leaves == 1) {
        build_leaf(b, t.first, begin, end);
        return FALSE;
    }
    for (size_t d = 1; d < D; d++)
        if (hi[d] - lo[d] > hi[axis] - lo[axis])
            axis = d;
    build_select(b, begin, end, right_of(t).first * NB_LEAF, axis);
    return TRUE;
}

static void
build_all(const TreeBuild *b, TreeNode t)
{
    if (!build_split(b, t))
        return;
    build_all(b, left_of(t));
    build_all(b, right_of(t));
}

/* The upper levels; what lies below becomes tasks. */
static void
build_top(TreeBuild *b, TreeNode t)
{
    if (t.leaves <= b->grain) {
        b->task[b->tasks++] = t;
        return;
    }
    build_split(b, t);
    build_top(b, left_of(t));
    build_top(b, right_of(t));
}

static void
build_task(void *ctx, int worker, size_t i)
{
    const TreeBuild *b = ctx;

    build_all(b, b->task[i]);
}

gboolean
nb_tree_build(FmNeighbours *s, int threads)
{
    const size_t n = s->n, D = s->D;
    TreeBuild b = {.s = s};

    s->leaves = (n + NB_LEAF - 1) / NB_LEAF;
    s->leaf = fm_alloc(s->leaves * D * NB_LEAF * sizeof *s->leaf);
    s->box = fm_alloc((2 * s->leaves - 1) * 2 * D * sizeof *s->box);
    s->id = fm_alloc(s->leaves * NB_LEAF * sizeof *s->id);
    s->at = fm_alloc(n * sizeof *s->at);
    b.x = fm_alloc(n * D * sizeof *b.x);
    b.id = fm_alloc(n * sizeof *b.id);
    const gboolean ok = s->leaf && s->box && s->id && s->at && b.x && b.id;
    if (ok) {
        for (size_t i = 0; i < n; i++) {
            memcpy(b.x + i * D, nb_row(s, i), D * sizeof *b.x);
            b.id[i] = (guint32)i;
        }
        b.grain = MAX((s->leaves + TREE_TASKS - 1) / TREE_TASKS, 8);
        build_top(&b, (TreeNode){0, 0, s->leaves});
        fm_parallel(threads, b.tasks, build_task, &b);
    }
    fm_free(b.x);
    fm_free(b.id);
    return ok;
}

void
nb_tree_clear(FmNeighbours *s)
{
    g_clear_pointer(&s->leaf, fm_free);
    g_clear_pointer(&s->box, fm_free);
    g_clear_pointer(&s->id, fm_free);
    g_clear_pointer(&s->at, fm_free);
}

/* ---- searching ---- */

/* The points of one leaf of the queries and what they found. */
typedef struct TreeGroup {
    const double *x; /* (D, 16) */
    size_t list;     /* length of a list: k, at least TREE_LIST */
    size_t k;
    double *best;          /* (16, list) ascending */
    const guint32 *weight; /* how often a row counts; NULL: once */
    double worst[NB_LEAF]; /* best[k - 1] of each; -INFINITY: no query */
    NbCount count;
} TreeGroup;

/* In one order at every level, so that the way through the tree is the same. */
FM_INLINE double
group_sum(const double *sum)
{
    double t[8], u[4];

    for (size_t l = 0; l < 8; l++)
        t[l] = sum[l] + sum[l + 8];
    for (size_t l = 0; l < 4; l++)
        u[l] = t[l] + t[l + 4];
    return (u[0] + u[2]) + (u[1] + u[3]);
}

#ifdef FM_CPU_LEVELS
#include <immintrin.h>
FM_BEGIN_AVX512
#define LANES 8
#define VECTOR __m512d
#define OP(name) _mm512_##name##_pd
#define BELOW(a, b) (unsigned)_mm512_cmp_pd_mask(a, b, _CMP_LT_OQ)
#define LEVEL(name) name##_avx512
#include "flow/neighbours_visit.inc"
#undef LANES
#undef VECTOR
#undef OP
#undef BELOW
#undef LEVEL
FM_END_LEVEL
FM_BEGIN_AVX2
#define LANES 4
#define VECTOR __m256d
#define OP(name) _mm256_##name##_pd
#define BELOW(a, b) (unsigned)_mm256_movemask_pd(_mm256_cmp_pd(a, b, _CMP_LT_OQ))
#define LEVEL(name) name##_avx2
#include "flow/neighbours_visit.inc"
#undef LANES
#undef VECTOR
#undef OP
#undef BELOW
#undef LEVEL
FM_END_LEVEL
#endif
#define LEVEL(name) name##_base
#include "flow/neighbours_visit.inc"
#undef LEVEL

/* Everything nearer than what the group has. self: its own leaf, or G_MAXSIZE. */
FM_CPU_DISPATCH(group_search, (const FmNeighbours *s, size_t self, TreeGroup *g), (s, self, g))

typedef struct TreeSearch {
    const FmNeighbours *s, *q;
    size_t k;
    const guint32 *place; /* (n of q) place of a row's answer, G_MAXUINT32: it is not asked; NULL: all are, in order */
    gboolean different;   /* equal rows count once */
    double *d2;
} TreeSearch;

/* Where the answer for row id of q goes. */
static inline guint32
answer_place(const TreeSearch *job, guint32 id)
{
    return id == G_MAXUINT32 ? id : job->place ? job->place[id] : (guint32)nb_given(job->q, id);
}

enum {
    TREE_CHUNK = 8, /* leaves of queries of one work item, */
    TREE_BALLS = 64 /* and balls */
};

/* The neighbours of those rows of a leaf that are asked. best: room for 16 lists. */
static TreeGroup
search_leaf(const TreeSearch *job, size_t leaf, double *best)
{
    const FmNeighbours *s = job->s, *q = job->q;
    const guint32 *id = q->id + leaf * NB_LEAF;
    TreeGroup g = {.x = q->leaf + leaf * s->D * NB_LEAF,
                   .list = MAX(job->k, (size_t)TREE_LIST),
                   .k = job->k,
                   .best = best,
                   .weight = job->different ? NULL : s->weight};

    for (size_t l = 0; l < NB_LEAF; l++) {
        const gboolean asked = answer_place(job, id[l]) != G_MAXUINT32;

        nb_insert_first(g.list, best + l * g.list, asked && s == q && !job->different, s, id[l]);
        g.worst[l] = asked ? best[l * g.list + job->k - 1] : -INFINITY;
    }
    group_search(s, s == q ? leaf : G_MAXSIZE, &g);
    return g;
}

static void
search_chunk(void *ctx, int worker, size_t chunk)
{
    const TreeSearch *job = ctx;
    const FmNeighbours *q = job->q;
    const size_t end = MIN((chunk + 1) * TREE_CHUNK, q->leaves);
    double best[NB_LEAF * FM_NEIGHBOURS_MAX];

    for (size_t leaf = chunk * TREE_CHUNK; leaf < end; leaf++) {
        const guint32 *id = q->id + leaf * NB_LEAF;
        const TreeGroup g = search_leaf(job, leaf, best);

        for (size_t l = 0; l < NB_LEAF; l++)
            if (answer_place(job, id[l]) != G_MAXUINT32)
                memcpy(job->d2 + answer_place(job, id[l]) * job->k, best + l * g.list, job->k * sizeof *best);
    }
}

static void
search_all(TreeSearch *job, int threads)
{
    fm_parallel(threads, (job->q->leaves + TREE_CHUNK - 1) / TREE_CHUNK, search_chunk, job);
}

void
nb_tree_search(const FmNeighbours *s, const FmNeighbours *q, size_t k, int threads, double *d2)
{
    search_all(&(TreeSearch){.s = s, .q = q, .k = k, .d2 = d2}, threads);
}

gboolean
nb_tree_different(const FmNeighbours *s, const FmNeighbours *q, size_t n, const guint32 *row, size_t k, int threads,
                  double *d2)
{
    guint32 *place = fm_alloc(q->n * sizeof *place);

    if (!place)
        return FALSE;
    memset(place, 0xff, q->n * sizeof *place);
    for (size_t i = 0; i < n; i++)
        place[row[i]] = (guint32)i;
    search_all(&(TreeSearch){.s = s, .q = q, .k = k, .place = place, .different = TRUE, .d2 = d2}, threads);
    fm_free(place);
    return TRUE;
}

NbCount
nb_tree_count(const FmNeighbours *s, size_t leaf, size_t k)
{
    const TreeSearch job = {.s = s, .q = s, .k = k};
    double best[NB_LEAF * FM_NEIGHBOURS_MAX];

    return search_leaf(&job, leaf, best).count;
}

/* ---- balls: one point at a time ---- */

/* Squared distance of a point to a box (2, D). */
static inline double
box_distance(size_t D, const double *x, const double *box)
{
    double sum = 0.0;

    for (size_t d = 0; d < D; d++) {
        const double gap = MAX(MAX(x[d] - box[D + d], box[d] - x[d]), 0.0);

        sum += gap * gap;
    }
    return sum;
}

/* sum (16): squared distances of x to a leaf's points, summed as in the search. */
FM_INLINE void
leaf_distances_any(size_t D, const double *leaf, const double *x, double *sum)
{
    double s[NB_LEAF] = {0};

    for (size_t d = 0; d < D; d++)
        for (size_t l = 0; l < NB_LEAF; l++)
            s[l] += (leaf[d * NB_LEAF + l] - x[d]) * (leaf[d * NB_LEAF + l] - x[d]);
    memcpy(sum, s, sizeof s);
}

FM_CPU_VARIANTS(leaf_distances, (size_t D, const double *leaf, const double *x, double *sum), (D, leaf, x, sum))

/* Counts rows within d2 of x. */
typedef struct TreeBall {
    const FmNeighbours *s;
    const double *x; /* (D) */
    guint32 skip;    /* leaf and place that do not count, or G_MAXUINT32 */
    double d2, last; /* last: the largest that was counted */
    size_t count;    /* rows */
} TreeBall;

static void
ball_visit(TreeBall *b, TreeNode t)
{
    const FmNeighbours *s = b->s;
    const size_t D = s->D, first = t.first * NB_LEAF;
    double sum[NB_LEAF];

    if (box_distance(D, b->x, s->box + t.node * 2 * D) > b->d2)
        return;
    if (t.leaves > 1) {
        ball_visit(b, left_of(t));
        ball_visit(b, right_of(t));
        return;
    }
    leaf_distances(D, s->leaf + first * D, b->x, sum);
    for (size_t l = 0; l < NB_LEAF && s->id[first + l] != G_MAXUINT32; l++) {
        if (!(sum[l] <= b->d2) || first + l == b->skip)
            continue;
        b->count += nb_weight(s, s->id[first + l]);
        b->last = MAX(b->last, sum[l]);
    }
}

double
nb_tree_positive(const FmNeighbours *s, const FmNeighbours *q, size_t i)
{
    double least = INFINITY, sum[NB_LEAF];

    for (size_t leaf = 0; leaf < s->leaves; leaf++) {
        leaf_distances(s->D, s->leaf + leaf * s->D * NB_LEAF, nb_row(q, i), sum);
        for (size_t l = 0; l < NB_LEAF; l++)
            if (sum[l] > 0.0 && sum[l] < least)
                least = sum[l];
    }
    return least;
}

typedef struct TreeWithin {
    const FmNeighbours *s, *q;
    const NbBalls *balls;
} TreeWithin;

static void
within_chunk(void *ctx, int worker, size_t chunk)
{
    const TreeWithin *job = ctx;
    const FmNeighbours *s = job->s, *q = job->q;
    const NbBalls *balls = job->balls;
    const size_t end = MIN((chunk + 1) * TREE_BALLS, balls->n);

    for (size_t i = chunk * TREE_BALLS; i < end; i++) {
        const guint32 row = balls->row[i];
        TreeBall b = {.s = s,
                      .x = nb_row(q, row),
                      .skip = s == q ? q->at[row] : G_MAXUINT32,
                      .d2 = balls->d2[i],
                      .count = s == q ? nb_weight(s, row) - 1 : 0};

        ball_visit(&b, (TreeNode){0, 0, s->leaves});
        balls->count[i] = b.count;
        balls->last[i] = b.last;
    }
}

void
nb_tree_within(const FmNeighbours *s, const FmNeighbours *q, const NbBalls *balls, int threads)
{
    TreeWithin job = {.s = s, .q = q, .balls = balls};

    fm_parallel(threads, (balls->n + TREE_BALLS - 1) / TREE_BALLS, within_chunk, &job);
}
