/* neighbours_bytes.c: the scan by products of bytes. A row is kept twice: its columns, or (p, r) where the frame
 * has directions, as 7-bit integers times a step of the row, for products of all pairs, and its columns as integers
 * of up to 15 bits, for pairs whose bound by bytes is not above the query's limit; both with the length of what
 * rounding takes, so that bounds hold. Where the frame has directions (p, r) is kept in 15 bits as well, for a bound
 * between the two, and rows are put in the order of a tree of their leading coordinates: queries that follow each other
 * are near each other, and see the groups of rows with near centres first.
 *
 * The limit comes from a few pairs that are measured early: those with the least bounds so far, when 256, 1024,
 * 4096, ... rows have been seen. Two sums of two products of 7 bits fit in 16 bits, so that one addition in
 * 32 bits serves four products: Zen 3 makes 43 of them a cycle, and 16 in float. Four such sums fit where codes are
 * not all large, which a bound by lengths says of whole groups of rows: 51 a cycle. */
#include "flow/neighbours_query.h"

#include <fmcore/array.h>
#include <fmcore/backend.h>
#include <fmcore/cpu.h>
#include <fmcore/plan.h>

#include <stdlib.h>
#include <string.h>

FM_FAST_FILE

enum {
    BYTES_GROUP = 32,  /* rows whose products are made together */
    BYTES_QUERIES = 4, /* queries of them */
    BYTES_MOST = 63,   /* largest code */
    BYTES_SHIFT = 64,  /* makes a query's codes unsigned */
    BYTES_STEP = 8,    /* columns are padded to a multiple */
    BYTES_DEEP = 16,   /* columns whose products are summed in 16 bits, 8 of them in each sum, where none overflows */
    BYTES_FINE = 16,   /* the same of fine rows */
    BYTES_FINE_MOST = 16383,
    BYTES_COLUMNS = 1 << 16, /* more could overflow sums */
    BYTES_FIRST = 256,       /* rows before limits are looked for */
    BYTES_LEADING = 8,       /* coordinates that put rows in order, at most */
    BYTES_NEAR = 64          /* queries that see groups in one order, and rows before limits are looked for then */
};

struct NbBytes {
    size_t columns, fine_columns;
    gint8 *code;                  /* (groups of 16, columns / 4, 16, 4) */
    float *step;                  /* (n) twice the step of a row */
    gint32 *shift;                /* (n) BYTES_SHIFT sum of codes */
    float *sum, *norm;            /* (groups of 32) of 8 codes in one sum: largest |BYTES_SHIFT sum|, and length */
    gint16 *fine;                 /* (n, fine_columns) */
    float *fine_step, *fine_lost; /* (n) */
    /* With directions: */
    size_t mid_columns, leading;
    gint16 *mid;                /* (n, mid_columns) */
    float *mid_step, *mid_lost; /* (n) */
    double *centre;             /* (groups of 32, leading) means of coordinates */
};

/* A group of rows and how far its centre is. */
typedef struct Far {
    double d2;
    size_t group;
} Far;

struct NbBytesWork {
    Far *far;  /* (groups) */
    guint8 *a; /* (SCAN_CHUNK, columns) codes of queries */
    gint32 product[BYTES_QUERIES * BYTES_GROUP];
};

/* ---- rows ---- */

/* v (n) as integers of at most `most` times *step, with the squared length of what is lost. */
FM_INLINE void
quantise_any(size_t n, const double *v, int most, gint16 *to, float *step, double *lost_square)
{
    double largest = 0.0, lost = 0.0, inverse;

#pragma omp simd reduction(max : largest)
    for (size_t i = 0; i < n; i++)
        largest = fabs(v[i]) > largest ? fabs(v[i]) : largest;
    *step = (float)(largest / most);
    if (!(*step >= FLT_MIN && *step <= FLT_MAX))
        *step = 0.0f;
    inverse = *step > 0.0f ? 1.0 / (double)*step : 0.0;
#pragma omp simd reduction(+ : lost)
    for (size_t i = 0; i < n; i++) {
        const double whole = rint(v[i] * inverse), rest = v[i] - whole * (double)*step;

        to[i] = (gint16)(int)whole;
        lost += rest * rest;
    }
    *lost_square = lost;
}

FM_CPU_VARIANTS(quantise, (size_t n, const double *v, int most, gint16 *to, float *step, double *lost_square),
                (n, v, most, to, step, lost_square))

FM_INLINE void
dot_any(size_t n, const gint16 *a, const gint16 *b, gint32 *sum)
{
    gint32 s = 0;

#pragma omp simd reduction(+ : s)
    for (size_t i = 0; i < n; i++)
        s += (gint32)a[i] * b[i];
    *sum = s;
}

FM_CPU_VARIANTS(dot, (size_t n, const gint16 *a, const gint16 *b, gint32 *sum), (n, a, b, sum))

/* The place of columns 4 c .. 4 c + 3 of row i. */
static inline gint8 *
code_at(const NbBytes *b, size_t i, size_t c)
{
    return b->code + ((i / NB_LEAF * (b->columns / 4) + c) * NB_LEAF + i % NB_LEAF) * 4;
}

typedef struct BytesBuild {
    FmNeighbours *s;
    int fine_most, mid_most;
    double *leading, *toward; /* (n, leading) coordinates that put rows in order, (leading, D) their directions */
    double *v;                /* (threads, BYTES_GROUP, D) rows of a group, */
    double *p;                /* (threads, BYTES_GROUP, d) their coordinates, */
    double *z;                /* (threads, d + 1) and (p, r) of one */
    gint16 *whole;            /* (threads, columns) */
} BytesBuild;

/* z (p, r) of a row with coordinates p and squared length `square`. */
static void
append_rest(size_t d, const double *p, double square, double *z)
{
    double sum = 0.0;

    memcpy(z, p, d * sizeof *z);
    for (size_t c = 0; c < d; c++)
        sum += p[c] * p[c];
    z[d] = sqrt(MAX(square - sum, 0.0));
}

/* The largest |BYTES_SHIFT sum| and length of 8 codes that meet in one sum of BYTES_DEEP columns, if larger. */
static void
widest_sums(size_t columns, const gint16 *code, float *sum, float *norm)
{
    int most = 0, longest = 0;

    for (size_t c = 0; c + BYTES_DEEP <= columns; c += BYTES_DEEP)
        for (size_t pair = 0; pair < 4; pair += 2) {
            int s = 0, square = 0;

            for (size_t l = c + pair; l < c + BYTES_DEEP; l += 4) {
                s += code[l] + code[l + 1];
                square += code[l] * code[l] + code[l + 1] * code[l + 1];
            }
            most = MAX(most, abs(s));
            longest = MAX(longest, square);
        }
    *sum = MAX(*sum, (float)(BYTES_SHIFT * most));
    *norm = MAX(*norm, nb_length_up(longest));
}

/* Bytes of row i, z (columns before padding). */
static void
build_codes(const FmNeighbours *s, size_t i, size_t columns, const double *z, gint16 *whole)
{
    NbBytes *b = s->bytes;
    double lost_square;
    int sum = 0;

    quantise(columns, z, BYTES_MOST, whole, &b->step[i], &lost_square);
    s->lost[i] = nb_length_up(lost_square);
    b->step[i] *= 2.0f;
    for (size_t c = 0; c < b->columns; c += 4) {
        gint8 *to = code_at(b, i, c / 4);

        for (size_t l = 0; l < 4; l++) {
            to[l] = (gint8)whole[c + l];
            sum += whole[c + l];
        }
    }
    b->shift[i] = BYTES_SHIFT * sum;
    widest_sums(b->columns, whole, &b->sum[i / BYTES_GROUP], &b->norm[i / BYTES_GROUP]);
}

static void
build_group(void *ctx, int worker, size_t group)
{
    const BytesBuild *job = ctx;
    const FmNeighbours *s = job->s;
    const NbFrame *f = s->frame;
    NbBytes *b = s->bytes;
    const size_t D = s->D, d = f->directions, begin = group * BYTES_GROUP, end = MIN(begin + BYTES_GROUP, s->n);
    double *v = job->v + (size_t)worker * BYTES_GROUP * D, *p = job->p + (size_t)worker * BYTES_GROUP * d,
           *z = job->z + (size_t)worker * (d + 1), square[BYTES_GROUP], lost_square;
    gint16 *whole = job->whole + (size_t)worker * b->columns;

    b->sum[group] = b->norm[group] = 0.0f;
    for (size_t i = begin; i < end; i++) {
        double *row = v + (i - begin) * D;

        square[i - begin] = nb_frame_row(f, D, nb_row(s, i), row);
        s->square[i] = (float)square[i - begin];
        s->length[i] = nb_length_up(square[i - begin]);
        quantise(D, row, job->fine_most, b->fine + i * b->fine_columns, &b->fine_step[i], &lost_square);
        b->fine_lost[i] = nb_length_up(lost_square);
    }
    if (d > 0)
        fm_linalg_gemm_f64(TRUE, end - begin, d, D, 1.0, v, f->basis, 0.0, p);
    for (size_t i = begin; i < end; i++) {
        if (d > 0) {
            append_rest(d, p + (i - begin) * d, square[i - begin], z);
            quantise(d + 1, z, job->mid_most, b->mid + i * b->mid_columns, &b->mid_step[i], &lost_square);
            b->mid_lost[i] = nb_length_up(lost_square);
        }
        build_codes(s, i, d > 0 ? d + 1 : D, d > 0 ? z : v + (i - begin) * D, whole);
    }
    for (size_t i = end; i < (group + 1) * BYTES_GROUP; i++)
        s->square[i] = INFINITY; /* no row: never a candidate */
}

/* Leading coordinates of a group of rows. */
static void
lead_group(void *ctx, int worker, size_t group)
{
    const BytesBuild *job = ctx;
    const FmNeighbours *s = job->s;
    const size_t D = s->D, L = s->bytes->leading, begin = group * BYTES_GROUP, end = MIN(begin + BYTES_GROUP, s->n);
    double *v = job->v + (size_t)worker * BYTES_GROUP * D;

    for (size_t i = begin; i < end; i++)
        nb_frame_row(s->frame, D, nb_row(s, i), v + (i - begin) * D);
    fm_linalg_gemm_f64(TRUE, end - begin, L, D, 1.0, v, job->toward, 0.0, job->leading + begin * L);
}

/* centre: means over groups of rows in the order of the tree's leaves. */
static void
find_centres(const FmNeighbours *tree, size_t groups, double *centre)
{
    const size_t L = tree->D;

    for (size_t g = 0; g < groups; g++) {
        const size_t begin = g * BYTES_GROUP, end = MIN(begin + BYTES_GROUP, tree->n);

        for (size_t c = 0; c < L; c++) {
            double sum = 0.0;

            for (size_t i = begin; i < end; i++)
                sum += tree->x[tree->id[i] * L + c];
            centre[g * L + c] = sum / (double)(end - begin);
        }
    }
}

/* Near rows to near places: leaves of a tree of leading coordinates. */
static gboolean
order_rows(BytesBuild *job, size_t groups, int threads)
{
    FmNeighbours *s = job->s;
    NbBytes *b = s->bytes;
    FmNeighbours tree = {.n = s->n, .D = b->leading};
    gboolean ok;

    b->centre = fm_alloc(groups * b->leading * sizeof *b->centre);
    job->leading = fm_alloc(s->n * b->leading * sizeof *job->leading);
    job->toward = fm_alloc(b->leading * s->D * sizeof *job->toward);
    ok = b->centre && job->leading && job->toward;
    if (ok) {
        nb_frame_leading(s->frame, s->D, b->leading, job->toward);
        fm_parallel(threads, groups, lead_group, job);
        tree.x = job->leading;
        ok = nb_tree_build(&tree, threads);
    }
    if (ok) {
        find_centres(&tree, groups, b->centre);
        ok = nb_equal_order(s, tree.id);
    }
    nb_tree_clear(&tree);
    fm_free(job->leading);
    fm_free(job->toward);
    return ok;
}

/* Rows of (p, r) in 15 bits. */
static gboolean
alloc_mid(NbBytes *b, size_t n)
{
    b->mid = fm_alloc(n * b->mid_columns * sizeof *b->mid);
    b->mid_step = fm_alloc(n * sizeof *b->mid_step);
    b->mid_lost = fm_alloc(n * sizeof *b->mid_lost);
    return b->mid && b->mid_step && b->mid_lost;
}

/* The largest code whose products with others do not overflow a sum of so many. */
static int
most_code(size_t columns)
{
    return (int)MIN(sqrt(2147483647.0 / (double)columns), BYTES_FINE_MOST);
}

gboolean
nb_bytes_build(FmNeighbours *s, int threads)
{
    const size_t groups = (s->n + BYTES_GROUP - 1) / BYTES_GROUP, n = groups * BYTES_GROUP;
    const size_t d = s->frame->directions;
    NbBytes *b = s->bytes = g_new0(NbBytes, 1);
    BytesBuild job = {.s = s, .fine_most = most_code(s->D), .mid_most = most_code(d + 1)};

    b->columns = ((d > 0 ? d + 1 : s->D) + BYTES_STEP - 1) / BYTES_STEP * BYTES_STEP;
    b->fine_columns = (s->D + BYTES_FINE - 1) / BYTES_FINE * BYTES_FINE;
    b->mid_columns = (d + BYTES_FINE) / BYTES_FINE * BYTES_FINE;
    b->leading = MIN(d, (size_t)BYTES_LEADING);
    b->code = fm_alloc(n * b->columns);
    b->step = fm_alloc(n * sizeof *b->step);
    b->shift = fm_alloc(n * sizeof *b->shift);
    b->sum = fm_alloc(groups * sizeof *b->sum);
    b->norm = fm_alloc(groups * sizeof *b->norm);
    b->fine = fm_alloc(s->n * b->fine_columns * sizeof *b->fine);
    b->fine_step = fm_alloc(s->n * sizeof *b->fine_step);
    b->fine_lost = fm_alloc(s->n * sizeof *b->fine_lost);
    s->lost = fm_alloc(n * sizeof *s->lost);
    job.v = fm_alloc((size_t)threads * BYTES_GROUP * s->D * sizeof *job.v);
    job.p = fm_alloc(((size_t)threads * BYTES_GROUP * d + 1) * sizeof *job.p);
    job.z = fm_alloc((size_t)threads * (d + 1) * sizeof *job.z);
    job.whole = fm_alloc((size_t)threads * b->columns * sizeof *job.whole);
    gboolean ok = b->code && b->step && b->shift && b->sum && b->norm && b->fine && b->fine_step && b->fine_lost &&
                  s->lost && job.v && job.p && job.z && job.whole;
    if (d > 0)
        ok = ok && alloc_mid(b, s->n) && order_rows(&job, groups, threads);
    if (ok)
        fm_parallel(threads, groups, build_group, &job);
    fm_free(job.v);
    fm_free(job.p);
    fm_free(job.z);
    fm_free(job.whole);
    return ok;
}

void
nb_bytes_free(NbBytes *b)
{
    if (b == NULL)
        return;
    fm_free(b->code);
    fm_free(b->step);
    fm_free(b->shift);
    fm_free(b->sum);
    fm_free(b->norm);
    fm_free(b->fine);
    fm_free(b->fine_step);
    fm_free(b->fine_lost);
    fm_free(b->mid);
    fm_free(b->mid_step);
    fm_free(b->mid_lost);
    fm_free(b->centre);
    g_free(b);
}

NbBytesWork *
nb_bytes_work_new(const FmNeighbours *s)
{
    NbBytesWork *w = g_new0(NbBytesWork, 1);

    w->a = fm_alloc(SCAN_CHUNK * s->bytes->columns);
    w->far = fm_alloc((s->n + BYTES_GROUP - 1) / BYTES_GROUP * sizeof *w->far);
    if (w->a && w->far)
        return w;
    nb_bytes_work_free(w);
    return NULL;
}

size_t
nb_bytes_chunk(const NbBytes *b)
{
    return b->centre ? BYTES_NEAR : SCAN_CHUNK;
}

void
nb_bytes_work_free(NbBytesWork *w)
{
    if (w) {
        fm_free(w->a);
        fm_free(w->far);
    }
    g_free(w);
}

/* ---- products ---- */

/* A group of rows: codes, squared lengths, twice the steps, shifts. */
typedef struct BytesRows {
    const gint8 *code;
    const float *square, *step;
    const gint32 *shift;
} BytesRows;

#ifdef FM_CPU_LEVELS
#include <immintrin.h>
FM_BEGIN_AVX2

/* Sums of 16 bits (16) of a query's codes a (n) with those of 16 rows, added to those of 32 bits. */
FM_INLINE void
add_products(size_t n, const guint8 *a, const __m256i *b, __m256i *low, __m256i *high)
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i l = _mm256_setzero_si256(), h = l;

#pragma GCC unroll 4
    for (size_t c = 0; c < n / 4; c++) {
        gint32 four;

        memcpy(&four, a + 4 * c, sizeof four);
        const __m256i u = _mm256_set1_epi32(four);

        l = _mm256_add_epi16(l, _mm256_maddubs_epi16(u, _mm256_loadu_si256(b + 2 * c)));
        h = _mm256_add_epi16(h, _mm256_maddubs_epi16(u, _mm256_loadu_si256(b + 2 * c + 1)));
        __asm__("" : "+x"(l), "+x"(h)); /* sums in another order would need more registers than there are */
    }
    *low = _mm256_add_epi32(*low, _mm256_madd_epi16(l, ones));
    *high = _mm256_add_epi32(*high, _mm256_madd_epi16(h, ones));
}

/* product (4, 32) of four queries' codes a (4, columns) with the group's; deep: sums of BYTES_DEEP columns fit in 16
 * bits. */
static void
multiply(size_t columns, gboolean deep, const guint8 *a, const gint8 *b, gint32 *product)
{
    const size_t columns_deep = deep ? columns / BYTES_DEEP * BYTES_DEEP : 0;

    for (size_t half = 0; half < 2; half++, b += columns * NB_LEAF) {
        __m256i low[BYTES_QUERIES], high[BYTES_QUERIES];

        for (size_t r = 0; r < BYTES_QUERIES; r++)
            low[r] = high[r] = _mm256_setzero_si256();
        for (size_t k = 0; k < columns_deep; k += BYTES_DEEP)
#pragma GCC unroll 4
            for (size_t r = 0; r < BYTES_QUERIES; r++)
                add_products(BYTES_DEEP, a + r * columns + k, (const __m256i *)(b + k * NB_LEAF), &low[r], &high[r]);
        for (size_t k = columns_deep; k < columns; k += BYTES_STEP)
#pragma GCC unroll 4
            for (size_t r = 0; r < BYTES_QUERIES; r++)
                add_products(BYTES_STEP, a + r * columns + k, (const __m256i *)(b + k * NB_LEAF), &low[r], &high[r]);
        for (size_t r = 0; r < BYTES_QUERIES; r++) {
            gint32 *to = product + r * BYTES_GROUP + half * NB_LEAF;

            _mm256_storeu_si256((__m256i *)to, low[r]);
            _mm256_storeu_si256((__m256i *)(to + 8), high[r]);
        }
    }
}

/* Bit j: f of row j of the group, by its product with the query, is at most `bound`. */
static guint32
within(const BytesRows *y, const gint32 *product, float step, float bound)
{
    const __m256 s = _mm256_set1_ps(step), most = _mm256_set1_ps(bound);
    guint32 mask = 0;

    for (unsigned j = 0; j < BYTES_GROUP; j += 8) {
        const __m256i p = _mm256_sub_epi32(_mm256_loadu_si256((const __m256i *)(product + j)),
                                           _mm256_loadu_si256((const __m256i *)(y->shift + j)));
        const __m256 f =
            _mm256_sub_ps(_mm256_loadu_ps(y->square + j),
                          _mm256_mul_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(p), s), _mm256_loadu_ps(y->step + j)));

        mask |= (guint32)_mm256_movemask_ps(_mm256_cmp_ps(f, most, _CMP_LE_OQ)) << j;
    }
    return mask;
}
FM_END_LEVEL

gboolean
nb_bytes_usable(size_t D)
{
    return fm_cpu_level() >= FM_CPU_AVX2 && D <= BYTES_COLUMNS;
}

#else

static void
multiply(size_t columns, gboolean deep, const guint8 *a, const gint8 *b, gint32 *product)
{
}

static guint32
within(const BytesRows *y, const gint32 *product, float step, float bound)
{
    return 0;
}

gboolean
nb_bytes_usable(size_t D)
{
    return FALSE;
}

#endif

/* ---- limits and candidates ---- */

typedef struct BytesScan {
    const FmNeighbours *s, *q;
    size_t k;
} BytesScan;

/* Bounds of a row from fine integers. */
static void
refine(const BytesScan *job, Query *query, size_t at)
{
    const NbBytes *s = job->s->bytes, *q = job->q->bytes;
    const float square = job->s->square[at];
    const float width = half_width(&query->margin, square, job->s->length[at], s->fine_lost[at]);
    gint32 sum;
    float f;

    dot(s->fine_columns, q->fine + query->row * s->fine_columns, s->fine + at * s->fine_columns, &sum);
    f = square - 2.0f * ((float)sum * q->fine_step[query->row] * s->fine_step[at]);
    if (f - width <= query->limit)
        query_add(query, job->k, f - width, f + width, at);
}

/* A better bound than that of bytes: of (p, r) in 15 bits. */
static float
middle_bound(const BytesScan *job, const Query *query, size_t at)
{
    const FmNeighbours *y = job->s;
    const NbBytes *s = y->bytes, *q = job->q->bytes;
    gint32 sum;

    dot(s->mid_columns, q->mid + query->row * s->mid_columns, s->mid + at * s->mid_columns, &sum);
    return y->square[at] - 2.0f * ((float)sum * q->mid_step[query->row] * s->mid_step[at]) -
           half_width(&query->mid, y->square[at], y->length[at], s->mid_lost[at]);
}

/* c (k) a heap with the largest bound first, but for c[i]. */
static void
sift_down(Candidate *c, size_t k, size_t i)
{
    const Candidate v = c[i];

    for (size_t child; (child = 2 * i + 1) < k; i = child) {
        child += child + 1 < k && c[child + 1].low > c[child].low;
        if (!(c[child].low > v.low))
            break;
        c[i] = c[child];
    }
    c[i] = v;
}

/* The k < n candidates with the least bounds to the front. */
static void
select_least(Candidate *c, size_t n, size_t k)
{
    for (size_t i = k / 2; i-- > 0;)
        sift_down(c, k, i);
    for (size_t i = k; i < n; i++)
        if (c[i].low < c[0].low) {
            const Candidate t = c[0];

            c[0] = c[i];
            c[i] = t;
            sift_down(c, k, 0);
        }
}

/* Measure raw candidates: all within reach, or the k most promising, and forget those that are not. */
static void
tighten(const BytesScan *job, Query *q, gboolean all)
{
    const size_t fine = job->s->bytes->fine_columns;
    size_t n = q->n_raw = candidates_prune(q->raw, q->n_raw, q->limit + q->reach);

    if (!all && n > job->k) {
        select_least(q->raw, n, job->k);
        n = job->k;
    }
    for (size_t i = 0; i < n; i++) {
        if (i + 1 < n)
            nb_fetch(job->s->bytes->fine + q->raw[i + 1].at * fine, fine * sizeof(gint16));
        if (q->raw[i].low <= q->limit + q->reach)
            refine(job, q, q->raw[i].at);
    }
    q->n_raw -= n;
    memmove(q->raw, q->raw + n, q->n_raw * sizeof *q->raw);
    q->n_raw = candidates_prune(q->raw, q->n_raw, q->limit + q->reach);
}

static void
take_row(const BytesScan *job, Query *q, float low, size_t at)
{
    if (q->n_raw == SCAN_ROOM) {
        tighten(job, q, FALSE);
        if (q->n_raw > SCAN_ROOM / 2)
            tighten(job, q, TRUE);
    }
    if (low <= q->limit + q->reach)
        q->raw[q->n_raw++] = (Candidate){.low = low, .at = (guint32)at};
}

/* ---- the scan ---- */

static void
begin_query(const BytesScan *job, Query *query, guint8 *a)
{
    const FmNeighbours *q = job->q;
    const NbBytes *b = q->bytes;
    const size_t row = query->row;
    const double lost = (double)q->lost[row], fine = (double)b->fine_lost[row], blur = q->frame->blur;

    query_begin(query, job->s, &(Lengths){.square = (double)q->square[row], .lost_square = fine * fine});
    query->coarse = scan_margin(q->D, &(Lengths){.square = (double)q->square[row], .lost_square = lost * lost});
    query->coarse.square += (float)(4.0 * blur * (1.0 + 1e-5));
    if (b->mid) {
        const double mid = (double)b->mid_lost[row];

        query->mid = scan_margin(q->D, &(Lengths){.square = (double)q->square[row], .lost_square = mid * mid});
        query->mid.square += (float)(4.0 * blur * (1.0 + 1e-5));
    }
    query->reach = (float)(5.0 * blur * (1.0 + 1e-5)) * q->square[row];
    query->step = 0.5f * b->step[row];
    for (size_t c = 0; c < b->columns; c += 4) {
        const gint8 *from = code_at(b, row, c / 4);

        for (size_t l = 0; l < 4; l++)
            a[c + l] = (guint8)(from[l] + BYTES_SHIFT);
    }
}

/* Candidates of one query in a group, from products. */
static void
take_group(const BytesScan *job, Query *q, const BytesRows *y, size_t at, const Largest *m, const gint32 *product)
{
    const FmNeighbours *s = job->s;
    const float width = half_width(&q->coarse, m->square, m->length, m->lost);

    for (guint32 mask = within(y, product, q->step, q->limit + q->reach + width); mask; mask &= mask - 1) {
        const size_t j = (size_t)__builtin_ctz(mask), i = at + j;
        const float f = y->square[j] - (float)(product[j] - y->shift[j]) * q->step * y->step[j];
        float low = f - half_width(&q->coarse, y->square[j], s->length[i], s->lost[i]);

        if (!(low <= q->limit + q->reach) || i >= s->n || (s == job->q && i == q->row))
            continue;
        if (s->bytes->mid && q->limit < FLT_MAX)
            low = MAX(low, middle_bound(job, q, i));
        if (low <= q->limit + q->reach)
            take_row(job, q, low, i);
    }
}

static int
by_distance(const void *a, const void *b)
{
    const Far *x = a, *y = b;

    return x->d2 != y->d2 ? (x->d2 > y->d2) - (x->d2 < y->d2) : (x->group > y->group) - (x->group < y->group);
}

/* Groups of rows, those near the queries first where rows are in order. */
static void
order_groups(const BytesScan *job, Query *const *query, size_t n, size_t groups, Far *far)
{
    const NbBytes *s = job->s->bytes, *q = job->q->bytes;
    double x[BYTES_LEADING] = {0};

    for (size_t g = 0; g < groups; g++)
        far[g] = (Far){.group = g};
    if (!s->centre)
        return;
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < s->leading; c++)
            x[c] += q->centre[query[i]->row / BYTES_GROUP * s->leading + c] / (double)n;
    for (size_t g = 0; g < groups; g++)
        for (size_t c = 0; c < s->leading; c++)
            far[g].d2 += (s->centre[g * s->leading + c] - x[c]) * (s->centre[g * s->leading + c] - x[c]);
    qsort(far, groups, sizeof *far, by_distance);
}

/* Candidates of all queries in the group of rows at .. norm: at least the length of 8 codes of a query in one sum. */
static void
scan_group(const BytesScan *job, NbBytesWork *w, Query *const *query, size_t n, float norm, size_t at)
{
    const FmNeighbours *s = job->s;
    const NbBytes *b = s->bytes;
    const BytesRows y = {
        .code = b->code + at * b->columns, .square = s->square + at, .step = b->step + at, .shift = b->shift + at};
    const Largest m = largest(s, at, MIN((size_t)BYTES_GROUP, s->n - at), s->lost + at);
    const gboolean deep = b->sum[at / BYTES_GROUP] + b->norm[at / BYTES_GROUP] * norm <= 32000.0f;

    for (size_t i = 0; i < n; i += BYTES_QUERIES) {
        multiply(b->columns, deep, w->a + i * b->columns, y.code, w->product);
        for (size_t r = i; r < MIN(i + BYTES_QUERIES, n); r++)
            take_group(job, query[r], &y, at, &m, w->product + (r - i) * BYTES_GROUP);
    }
}

void
nb_bytes_scan(const FmNeighbours *s, const FmNeighbours *q, size_t k, NbBytesWork *w, Query *const *query, size_t n)
{
    const BytesScan job = {.s = s, .q = q, .k = k};
    const size_t groups = (s->n + BYTES_GROUP - 1) / BYTES_GROUP;
    size_t next = (s->bytes->centre ? BYTES_NEAR : BYTES_FIRST) / BYTES_GROUP;
    float norm = 0.0f;

    for (size_t i = 0; i < n; i++) {
        begin_query(&job, query[i], w->a + i * s->bytes->columns);
        norm = MAX(norm, q->bytes->norm[query[i]->row / BYTES_GROUP]);
    }
    order_groups(&job, query, n, groups, w->far);
    for (size_t g = 0; g < groups; g++) {
        scan_group(&job, w, query, n, norm, w->far[g].group * BYTES_GROUP);
        if (g + 1 == next) {
            for (size_t i = 0; i < n; i++)
                tighten(&job, query[i], FALSE);
            next *= 4;
        }
    }
    for (size_t i = 0; i < n; i++) {
        tighten(&job, query[i], FALSE); /* so that the limit is low before all are measured */
        tighten(&job, query[i], TRUE);
    }
}
