/* scan.c: nearest rows by distances to all, in high dimension. Single precision selects, double
 * decides: |y|^2 - 2 x.y of centred copies comes from blocks of a matrix product, every row that
 * could be among the nearest within the bound of its rounding is measured again by differences.
 *
 * |fl(x.y) - x.y| <= (D + 2) u |x| |y| with u = 2^-24, in any order of summation, the rounding of x
 * and y included (Higham 2002, doi:10.1137/1.9780898718027, sec. 3.1); likewise for |y|^2. */
#include "knn.h"

#include <float.h>

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) &&       \
    !defined(__SANITIZE_ADDRESS__)
#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CLONES
#endif

enum {
    SCAN_COLUMNS = 1024, /* reference points of one matrix product */
    SCAN_BLOCK = 64,     /* of them looked at together */
    SCAN_SPARE = 412,    /* candidates beyond k + 1 */
    SCAN_ROOM = KNN_LIST + SCAN_SPARE
};

/* One query's candidates: all rows that came within `limit` when they were seen. */
typedef struct Candidates {
    size_t n, n_least, size;
    float least[KNN_LIST]; /* the `size` smallest values, ascending */
    float margin, limit;   /* limit: the last of `least` + margin */
    gboolean overflow;     /* too many: the row is searched by differences */
    guint32 at[SCAN_ROOM];
    float value[SCAN_ROOM];
} Candidates;

struct KnnScan {
    float tile[KNN_CHUNK * SCAN_COLUMNS];
    Candidates candidates[KNN_CHUNK];
};

KnnScan *
knn_scan_new(void)
{
    return fm_alloc(sizeof(KnnScan));
}

void
knn_scan_free(KnnScan *scan)
{
    fm_free(scan);
}

/* The first j >= from with row[j] + norm[j] <= limit; n: none. */
CLONES static size_t
next_within(size_t n, const float *row, const float *norm, float limit, size_t from)
{
    for (; from < n && from % SCAN_BLOCK != 0; from++)
        if (row[from] + norm[from] <= limit)
            return from;
    for (; from + SCAN_BLOCK <= n; from += SCAN_BLOCK) {
        int any = 0;

#pragma omp simd reduction(| : any)
        for (size_t l = 0; l < SCAN_BLOCK; l++)
            any |= row[from + l] + norm[from + l] <= limit;
        if (any)
            break;
    }
    while (from < n && !(row[from] + norm[from] <= limit))
        from++;
    return from;
}

/* Drop candidates that a lower limit has left behind. */
static void
candidates_prune(Candidates *c)
{
    size_t kept = 0;

    for (size_t i = 0; i < c->n; i++)
        if (c->value[i] <= c->limit) {
            c->value[kept] = c->value[i];
            c->at[kept++] = c->at[i];
        }
    c->n = kept;
}

static void
candidates_add(Candidates *c, float value, size_t at)
{
    if (c->n_least < c->size || value < c->least[c->size - 1]) {
        size_t i = c->n_least < c->size ? c->n_least++ : c->size - 1;

        for (; i > 0 && c->least[i - 1] > value; i--)
            c->least[i] = c->least[i - 1];
        c->least[i] = value;
        if (c->n_least == c->size)
            c->limit = c->least[c->size - 1] + c->margin;
    }
    if (c->n == SCAN_ROOM)
        candidates_prune(c);
    if (c->n == SCAN_ROOM) {
        c->overflow = TRUE;
        c->limit = -INFINITY;
        return;
    }
    c->value[c->n] = value;
    c->at[c->n++] = (guint32)at;
}

/* Twice the bound of the rounding of |y|^2 - 2 x.y, rounded up. */
static float
scan_margin(const KnnSet *s, double norm2)
{
    const double u = 0x1p-24, D = (double)s->D, y = sqrt(s->norm_max),
                 x = sqrt(norm2) * (1.0 + 1e-6);
    const double bound = u * ((D + 4.0) * (y * y + 2.0 * x * y) + 2.0 * (y * y + 2.0 * x * y));

    return (float)(2.0 * bound * (1.0 + 1e-6));
}

/* The nearest among the candidates, or among all rows, in double. */
static void
scan_decide(const Candidates *c, const KnnSet *s, const KnnSet *p, size_t i, KnnBest *best)
{
    const double *x = p->x + i * p->D;

    if (!c->overflow) {
        for (size_t l = 0; l < c->n; l++)
            if (c->value[l] <= c->limit)
                knn_insert(best, knn_distance2(p->D, x, s->x + c->at[l] * s->D), c->at[l]);
        return;
    }
    for (size_t j = 0; j < s->n; j++)
        if (s != p || j != i)
            knn_insert(best, knn_distance2(p->D, x, s->x + j * s->D), j);
}

void
knn_scan_search(KnnScan *scan, const KnnSet *s, const KnnSet *p, size_t begin, size_t end,
                KnnBest *best)
{
    const size_t D = p->D;

    for (size_t i = begin; i < end; i++) {
        Candidates *c = &scan->candidates[i - begin];

        c->n = c->n_least = 0;
        c->size = best[i - begin].size;
        c->margin = scan_margin(s, (double)p->norm[i]);
        c->limit = FLT_MAX;
        /* values beyond single precision cannot be told apart */
        c->overflow = !(s->norm_max < 1e30 && p->norm_max < 1e30);
        if (c->overflow)
            c->limit = -INFINITY;
    }
    for (size_t at = 0; at < s->n; at += SCAN_COLUMNS) {
        const size_t width = MIN((size_t)SCAN_COLUMNS, s->n - at);

        fm_linalg_gemm_f32(TRUE, end - begin, width, D, -2.0f, p->near + begin * D,
                           s->near + at * D, 0.0f, scan->tile);
        for (size_t i = begin; i < end; i++) {
            Candidates *c = &scan->candidates[i - begin];
            const float *row = scan->tile + (i - begin) * width, *norm = s->norm + at;

            for (size_t j = next_within(width, row, norm, c->limit, 0); j < width;
                 j = next_within(width, row, norm, c->limit, j + 1))
                if (s != p || at + j != i)
                    candidates_add(c, row[j] + norm[j], at + j);
        }
    }
    for (size_t i = begin; i < end; i++)
        scan_decide(&scan->candidates[i - begin], s, p, i, &best[i - begin]);
}
