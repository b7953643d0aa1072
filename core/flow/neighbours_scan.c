/* neighbours_scan.c: nearest rows by distances to all. Low precision selects, double decides: bounds of
 *   f = |y|^2 - 2 x.y
 * come from blocks of a matrix product, in bfloat16 where the processor multiplies tiles of it, in bytes
 * (neighbours_bytes.c) where it has vectors of them and in float elsewhere; a row is measured in double when
 * its lower bound is not above the k-th least upper bound. Rows whose candidates overflow are searched again
 * in float, then by differences: wrong they cannot be. */
#include "flow/neighbours_query.h"

#include <fmcore/array.h>
#include <fmcore/backend.h>
#include <fmcore/cpu.h>
#include <fmcore/plan.h>

#include <stdlib.h>
#include <string.h>

FM_FAST_FILE

enum {
    SCAN_ROWS = 64,   /* of them in one product of floats; 32 in one of bfloat16 */
    SCAN_WIDTH = 256, /* rows in one product */
    SCAN_LOOK = 64,   /* of them looked at together */
    SCAN_BYTES = 96,  /* columns from which bytes select faster than floats: 10,000 normal rows, Zen 3 */
    SCAN_K = 32,      /* columns of a tile */
    SCAN_TILE = NB_LEAF * SCAN_K
};

FM_INLINE void
distance_any(size_t D, const double *a, const double *b, double *d2)
{
    double sum[8] = {0}, rest = 0.0;
    size_t d = 0;

    for (; d + 8 <= D; d += 8)
        for (size_t l = 0; l < 8; l++)
            sum[l] += (a[d + l] - b[d + l]) * (a[d + l] - b[d + l]);
    for (; d < D; d++)
        rest += (a[d] - b[d]) * (a[d] - b[d]);
    *d2 = ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7])) + rest;
}

FM_CPU_VARIANTS(distance, (size_t D, const double *a, const double *b, double *d2), (D, a, b, d2))

double
nb_distance(size_t D, const double *a, const double *b)
{
    double d2;

    distance(D, a, b, &d2);
    return d2;
}

/* ---- rows in low precision ---- */

/* Values 32 c .. 32 c + n - 1 of a row in the frame, rounded to bfloat16: to the nearest, ties to even; what is
 * not normal becomes 0, as the tiles take it. Adds to 8 partial sums of what is lost. */
FM_INLINE void
round_columns_any(size_t n, const double *x, guint16 *to, double *lost_square)
{
    double v[SCAN_K] = {0}, lost[SCAN_K];
    guint32 bits[SCAN_K];
    float f[SCAN_K];

    for (size_t c = 0; c < n; c++)
        v[c] = x[c];
    for (size_t c = 0; c < SCAN_K; c++)
        f[c] = (float)v[c];
    memcpy(bits, f, sizeof bits);
    for (size_t c = 0; c < SCAN_K; c++) {
        bits[c] = (bits[c] & 0x7f800000u) == 0 ? 0 : (bits[c] + 0x7fffu + (bits[c] >> 16 & 1u)) & 0xffff0000u;
        to[c] = (guint16)(bits[c] >> 16);
    }
    memcpy(f, bits, sizeof bits);
    for (size_t c = 0; c < SCAN_K; c++)
        lost[c] = v[c] - (double)f[c];
    for (size_t c = 0; c < SCAN_K; c += 8)
        for (size_t l = 0; l < 8; l++)
            lost_square[l] += lost[c + l] * lost[c + l];
}

FM_CPU_VARIANTS(round_columns, (size_t n, const double *x, guint16 *to, double *lost_square), (n, x, to, lost_square))

/* Row v of the frame in bfloat16 as row r of a block, in the order of the second factor. The squared length of what
 * is lost. */
static double
pack_row(const FmNeighbours *s, const double *v, size_t r, guint16 *to)
{
    double lost_square[8] = {0}, sum = 0.0;

    for (size_t d = 0; d < s->D; d += SCAN_K, to += SCAN_TILE) {
        guint16 h[SCAN_K];

        round_columns(MIN((size_t)SCAN_K, s->D - d), v + d, h, lost_square);
        for (size_t p = 0; p < SCAN_K / 2; p++)
            memcpy(to + (p * NB_LEAF + r) * 2, h + 2 * p, 2 * sizeof *h);
    }
    for (size_t l = 0; l < 8; l++)
        sum += lost_square[l];
    return sum;
}

FM_INLINE void
round_row_any(size_t n, const double *v, float *to, double *lost_square)
{
    double lost = 0.0;

#pragma omp simd reduction(+ : lost)
    for (size_t i = 0; i < n; i++) {
        to[i] = (float)v[i];
        lost += (v[i] - (double)to[i]) * (v[i] - (double)to[i]);
    }
    *lost_square = lost;
}

FM_CPU_VARIANTS(round_row, (size_t n, const double *v, float *to, double *lost_square), (n, v, to, lost_square))

/* Row x in the frame v (D) and in float. */
static Lengths
float_row(const FmNeighbours *s, const double *x, double *v, float *to)
{
    Lengths l = {.square = nb_frame_row(s->frame, s->D, x, v)};

    round_row(s->D, v, to, &l.lost_square);
    return l;
}

typedef struct ScanBuild {
    FmNeighbours *s;
    double *v; /* (threads, D) */
} ScanBuild;

/* Blocks of 16 rows. */
static void
build_block(void *ctx, int worker, size_t block)
{
    const ScanBuild *job = ctx;
    FmNeighbours *s = job->s;
    const size_t begin = block * NB_LEAF, end = MIN(begin + NB_LEAF, s->n);
    double *v = job->v + (size_t)worker * s->D;

    for (size_t i = begin; i < end; i++) {
        const double square = nb_frame_row(s->frame, s->D, nb_row(s, i), v);

        s->length[i] = nb_length_up(square);
        s->square[i] = (float)square;
        if (s->pack)
            s->lost[i] = nb_length_up(pack_row(s, v, i - begin, s->pack + block * s->columns * SCAN_TILE));
    }
}

gboolean
nb_scan_begin(FmNeighbours *s, const FmNeighbours *like, size_t directions)
{
    const gboolean usable = nb_bytes_usable(s->D);

    s->frame = nb_frame_new(s, like ? like->frame : NULL, usable ? directions : 0);
    if (!s->frame)
        return FALSE;
    s->select_bytes = like ? like->select_bytes
                           : usable && !(nb_bf16_usable() && s->frame->directions == 0) &&
                                 (directions != NB_MEASURED || s->frame->directions > 0 || s->D >= SCAN_BYTES);
    return TRUE;
}

double
nb_scan_bytes_cost(const FmNeighbours *s)
{
    return s->select_bytes ? nb_frame_cost(s) : 0.0;
}

gboolean
nb_scan_build(FmNeighbours *s, int threads)
{
    const size_t blocks = (s->n + NB_LEAF - 1) / NB_LEAF;
    const size_t room = (s->n + SCAN_LOOK - 1) / SCAN_LOOK * SCAN_LOOK; /* groups of bytes are whole */

    s->length = fm_alloc(room * sizeof *s->length);
    s->square = fm_alloc(room * sizeof *s->square);
    if (!s->length || !s->square)
        return FALSE;
    if (s->select_bytes) {
        if (!nb_bytes_build(s, threads))
            return FALSE;
    } else {
        s->columns = (s->D + SCAN_K - 1) / SCAN_K;
        if (nb_bf16_usable() && s->frame->directions == 0) {
            s->lost = fm_alloc(s->n * sizeof *s->lost);
            s->pack = fm_alloc(blocks * s->columns * SCAN_TILE * sizeof *s->pack);
            if (!s->lost || !s->pack)
                return FALSE;
        }
        ScanBuild job = {.s = s, .v = fm_alloc((size_t)threads * s->D * sizeof *job.v)};

        if (!job.v)
            return FALSE;
        fm_parallel(threads, blocks, build_block, &job);
        fm_free(job.v);
    }
    for (size_t i = 0; i < s->n; i++)
        s->far |= !(s->square[i] < (float)SCAN_FAR);
    return TRUE;
}

/* ---- bounds from products ---- */

/* *mask: bit j is set where square[j] - 2 product[j] <= limit, j < n <= SCAN_LOOK. */
FM_INLINE void
within_any(size_t n, const float *product, const float *square, float limit, guint64 *mask)
{
    int any = 0;

    *mask = 0;
    if (n == SCAN_LOOK) {
#pragma omp simd reduction(| : any)
        for (size_t j = 0; j < SCAN_LOOK; j++)
            any |= square[j] - 2.0f * product[j] <= limit;
        if (!any)
            return;
    }
    for (size_t j = 0; j < n; j++)
        *mask |= (guint64)(square[j] - 2.0f * product[j] <= limit) << j;
}

FM_CPU_VARIANTS(within, (size_t n, const float *product, const float *square, float limit, guint64 *mask),
                (n, product, square, limit, mask))

/* ---- the search ---- */

typedef struct ScanJob {
    const FmNeighbours *s, *q;
    size_t n, k, chunk;   /* n queries */
    const guint32 *row;   /* (n) of q; NULL: its rows */
    const NbBalls *balls; /* count within them; NULL: find the k nearest */
    gboolean different;   /* equal rows count once */
    double *d2;           /* (n, k), in the order of `row` or in which rows were given */
    struct ScanWork {
        Query *query;   /* (chunk) */
        guint16 *a;     /* (chunk, columns 32) bfloat16 */
        double *v;      /* (D) one row in the frame */
        float *x, *y;   /* (chunk, D), (SCAN_WIDTH, D) floats */
        float *lost;    /* (SCAN_WIDTH): e_y of floats */
        float *product; /* (SCAN_ROWS, SCAN_WIDTH) */
        NbBytesWork *bytes;
    } * work; /* (threads) */
} ScanJob;

/* Of each SCAN_LOOK rows of a block. */
typedef struct BlockLargest {
    Largest look[SCAN_WIDTH / SCAN_LOOK];
} BlockLargest;

static BlockLargest
block_largest(const FmNeighbours *s, size_t at, size_t n, const float *lost)
{
    BlockLargest m = {0};

    for (size_t j = 0; j < n; j += SCAN_LOOK)
        m.look[j / SCAN_LOOK] = largest(s, at + j, MIN((size_t)SCAN_LOOK, n - j), lost + j);
    return m;
}

/* Candidates of a query among rows at .. at + n - 1 from their products with it. */
static void
take_products(const ScanJob *job, Query *q, size_t at, size_t n, const BlockLargest *m, const float *product,
              const float *lost)
{
    const FmNeighbours *s = job->s;
    const float *square = s->square + at, *length = s->length + at;

    for (size_t j = 0; j < n; j += SCAN_LOOK) {
        const Largest *l = &m->look[j / SCAN_LOOK];
        guint64 mask;

        within(MIN((size_t)SCAN_LOOK, n - j), product + j, square + j,
               q->limit + half_width(&q->margin, l->square, l->length, l->lost), &mask);
        for (; mask; mask &= mask - 1) {
            const size_t i = j + (size_t)__builtin_ctzll(mask);
            const float width = half_width(&q->margin, square[i], length[i], lost[i]),
                        f = square[i] - 2.0f * product[i];

            if (f - width <= q->limit && (s != job->q || at + i != q->row))
                query_add(q, job->k, f - width, f + width, at + i);
        }
    }
}

/* Row r of a block of pairs as row i of a block in the order of the first factor. */
static void
unpair_row(size_t columns, const guint16 *from, size_t r, guint16 *to, size_t i)
{
    for (size_t c = 0; c < columns; c++, from += SCAN_TILE, to += SCAN_TILE)
        for (size_t p = 0; p < SCAN_K / 2; p++)
            memcpy(to + i * SCAN_K + 2 * p, from + (p * NB_LEAF + r) * 2, 2 * sizeof *to);
}

/* A query's row in bfloat16 and its lengths. */
static void
query_row(const ScanJob *job, Query *query, size_t i, guint16 *to)
{
    const FmNeighbours *s = job->s, *q = job->q;
    const size_t row = query->row;
    const Lengths l = {.square = (double)q->square[row], .lost_square = (double)q->lost[row] * (double)q->lost[row]};

    unpair_row(s->columns, q->pack + row / NB_LEAF * s->columns * SCAN_TILE, row % NB_LEAF, to, i);
    query_begin(query, s, &l);
}

static void
products_bf16(const ScanJob *job, struct ScanWork *w, Query *const *query, size_t n)
{
    const FmNeighbours *s = job->s;
    const size_t row = s->columns * SCAN_K, step = s->columns * SCAN_TILE;

    memset(w->a, 0, (n + 31) / 32 * 32 * row * sizeof *w->a);
    for (size_t i = 0; i < n; i++)
        query_row(job, query[i], i % NB_LEAF, w->a + i / NB_LEAF * step);
    nb_bf16_begin();
    for (size_t at = 0; at < s->n; at += SCAN_WIDTH) {
        const size_t width = MIN((size_t)SCAN_WIDTH, s->n - at), blocks = (width + NB_LEAF - 1) / NB_LEAF;
        const BlockLargest m = block_largest(s, at, width, s->lost + at);

        for (size_t i = 0; i < n; i += 32) {
            nb_bf16_product(s->columns, blocks, w->a + i / NB_LEAF * step, s->pack + at / NB_LEAF * step, w->product);
            for (size_t r = i; r < MIN(i + 32, n); r++)
                take_products(job, query[r], at, width, &m, w->product + (r - i) * blocks * NB_LEAF, s->lost + at);
        }
    }
    nb_bf16_end();
}

static void
products_float(const ScanJob *job, struct ScanWork *w, Query *const *query, size_t n)
{
    const FmNeighbours *s = job->s;
    const size_t D = s->D;

    for (size_t i = 0; i < n; i++) {
        const Lengths l = float_row(s, nb_row(job->q, query[i]->row), w->v, w->x + i * D);

        query_begin(query[i], s, &l);
    }
    for (size_t at = 0; at < s->n; at += SCAN_WIDTH) {
        const size_t width = MIN((size_t)SCAN_WIDTH, s->n - at);

        for (size_t j = 0; j < width; j++) {
            const Lengths l = float_row(s, nb_row(s, at + j), w->v, w->y + j * D);

            w->lost[j] = nb_length_up(l.lost_square);
        }
        const BlockLargest m = block_largest(s, at, width, w->lost);

        for (size_t i = 0; i < n; i += SCAN_ROWS) {
            const size_t rows = MIN((size_t)SCAN_ROWS, n - i);

            fm_linalg_gemm_f32(TRUE, rows, width, D, 1.0f, w->x + i * D, w->y, 0.0f, w->product);
            for (size_t r = i; r < i + rows; r++)
                take_products(job, query[r], at, width, &m, w->product + (r - i) * width, w->lost);
        }
    }
}

static int
by_bound(const void *a, const void *b)
{
    const float x = ((const Candidate *)a)->low, y = ((const Candidate *)b)->low;

    return (x > y) - (x < y);
}

/* Row j of the nearest of a query. */
static void
insert_row(const ScanJob *job, const Query *q, size_t j, double *d2)
{
    const FmNeighbours *s = job->s;

    nb_insert_weighted(job->k, d2, nb_distance(s->D, nb_row(job->q, q->row), nb_row(s, j)),
                       job->different ? 1 : nb_weight(s, j));
}

/* The nearest among the candidates, or among all rows, in double. */
static void
decide(const ScanJob *job, Query *q, double *d2)
{
    const FmNeighbours *s = job->s;
    const size_t k = job->k;
    const double scale2 = s->frame->scale * s->frame->scale;

    nb_insert_first(k, d2, s == job->q && !job->different, s, q->row);
    if (q->overflow) {
        for (size_t j = 0; j < s->n; j++)
            if (s != job->q || j != q->row)
                insert_row(job, q, j, d2);
        return;
    }
    q->n = candidates_prune(q->candidate, q->n, q->limit);
    qsort(q->candidate, q->n, sizeof *q->candidate, by_bound);
    for (size_t i = 0; i < q->n; i++) {
        if ((double)q->candidate[i].low + q->square * (1.0 - 3e-7) > d2[k - 1] * scale2 * (1.0 + 1e-12))
            return; /* nor is any that follows nearer */
        if (i + 1 < q->n)
            nb_fetch(nb_row(s, q->candidate[i + 1].at), s->D * sizeof(double));
        insert_row(job, q, q->candidate[i].at, d2);
    }
}

/* How many of the candidates, or of all rows, are within ball i. */
static void
decide_ball(const ScanJob *job, const Query *q, size_t i)
{
    const FmNeighbours *s = job->s;
    const gboolean self = s == job->q;
    const double *x = nb_row(job->q, q->row);
    size_t count = self ? nb_weight(s, q->row) - 1 : 0;
    double last = 0.0;

    for (size_t c = 0; c < (q->overflow ? s->n : q->n); c++) {
        const size_t j = q->overflow ? c : q->candidate[c].at;

        if (self && j == q->row)
            continue;
        const double d2 = nb_distance(s->D, x, nb_row(s, j));

        if (d2 > q->ball)
            continue;
        count += nb_weight(s, j);
        last = MAX(last, d2);
    }
    job->balls->count[i] = count;
    job->balls->last[i] = last;
}

static void
scan_chunk(void *ctx, int worker, size_t chunk)
{
    const ScanJob *job = ctx;
    struct ScanWork *w = &job->work[worker];
    const size_t begin = chunk * job->chunk, end = MIN(begin + job->chunk, job->n);
    Query *query[SCAN_CHUNK];
    size_t n = 0;

    for (size_t i = begin; i < end; i++) {
        query[n] = &w->query[i - begin];
        query[n]->ball = job->balls ? job->balls->d2[i] : -1.0;
        query[n++]->row = job->row ? job->row[i] : i;
    }
    if (job->s->pack || job->s->bytes) {
        if (job->s->bytes)
            nb_bytes_scan(job->s, job->q, job->k, w->bytes, query, n);
        else
            products_bf16(job, w, query, n);
        n = 0;
        for (size_t i = 0; i < end - begin; i++)
            if (w->query[i].overflow)
                query[n++] = &w->query[i];
    }
    if (n > 0)
        products_float(job, w, query, n);
    for (size_t i = begin; i < end; i++)
        if (job->balls)
            decide_ball(job, &w->query[i - begin], i);
        else
            decide(job, &w->query[i - begin], job->d2 + (job->row ? i : nb_given(job->q, i)) * job->k);
}

double
nb_scan_positive(const FmNeighbours *s, const FmNeighbours *q, size_t i)
{
    double least = INFINITY;

    for (size_t j = 0; j < s->n; j++) {
        const double d2 = nb_distance(s->D, nb_row(q, i), nb_row(s, j));

        if (d2 > 0.0 && d2 < least)
            least = d2;
    }
    return least;
}

static gboolean
work_init(ScanJob *job, int threads)
{
    const FmNeighbours *s = job->s;
    gboolean ok = TRUE;

    job->work = g_new0(struct ScanWork, threads);
    for (int t = 0; t < threads; t++) {
        struct ScanWork *w = &job->work[t];

        w->query = fm_alloc(job->chunk * sizeof *w->query);
        w->a = s->pack ? fm_alloc(job->chunk * s->columns * SCAN_K * sizeof *w->a) : NULL;
        w->bytes = s->bytes ? nb_bytes_work_new(s) : NULL;
        w->v = fm_alloc(s->D * sizeof *w->v);
        w->x = fm_alloc(job->chunk * s->D * sizeof *w->x);
        w->y = fm_alloc(SCAN_WIDTH * s->D * sizeof *w->y);
        w->lost = fm_alloc(SCAN_WIDTH * sizeof *w->lost);
        w->product = fm_alloc(SCAN_ROWS * SCAN_WIDTH * sizeof *w->product);
        ok = ok && w->query && !w->a == !s->pack && !w->bytes == !s->bytes && w->v && w->x && w->y && w->lost &&
             w->product;
    }
    return ok;
}

static void
work_clear(ScanJob *job, int threads)
{
    for (int t = 0; t < threads; t++) {
        struct ScanWork *w = &job->work[t];

        fm_free(w->query);
        fm_free(w->a);
        nb_bytes_work_free(w->bytes);
        fm_free(w->v);
        fm_free(w->x);
        fm_free(w->y);
        fm_free(w->lost);
        fm_free(w->product);
    }
    g_free(job->work);
}

static gboolean
scan(ScanJob *job, int threads)
{
    gboolean ok;

    /* few queries: smaller items, so that every thread has some */
    job->chunk = CLAMP(job->n / (4 * (size_t)threads) / 32 * 32, 32,
                       job->s->bytes ? nb_bytes_chunk(job->s->bytes) : (size_t)SCAN_CHUNK);
    ok = work_init(job, threads);
    if (ok)
        fm_parallel(threads, (job->n + job->chunk - 1) / job->chunk, scan_chunk, job);
    work_clear(job, threads);
    return ok;
}

gboolean
nb_scan_search(const FmNeighbours *s, const FmNeighbours *q, size_t k, int threads, double *d2)
{
    return scan(&(ScanJob){.s = s, .q = q, .n = q->n, .k = k, .d2 = d2}, threads);
}

gboolean
nb_scan_different(const FmNeighbours *s, const FmNeighbours *q, size_t n, const guint32 *row, size_t k, int threads,
                  double *d2)
{
    return scan(&(ScanJob){.s = s, .q = q, .n = n, .row = row, .k = k, .d2 = d2, .different = TRUE}, threads);
}

gboolean
nb_scan_within(const FmNeighbours *s, const FmNeighbours *q, const NbBalls *balls, int threads)
{
    return scan(&(ScanJob){.s = s, .q = q, .n = balls->n, .row = balls->row, .k = 1, .balls = balls}, threads);
}
