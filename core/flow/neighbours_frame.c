/* neighbours_frame.c: the frame in which a scan sees rows, and a subspace that holds most of their variance.
 *
 * With B (d, D) of orthonormal rows, p = B x and r = |x - B' p|,
 *   |p_x - p_y|^2 + (r_x - r_y)^2 <= |x - y|^2,
 * because remainders' lengths differ by no more than remainders (Cauchy-Schwarz). B comes from a sample of rows by
 * a randomised range finder with one power iteration (Halko, Martinsson & Tropp 2011, doi:10.1137/090771806,
 * alg. 4.4) and the eigenvectors of the sample's covariance within it; d is the one that costs least on rows
 * beside that sample; they are then mixed by a cosine transform, which any B may be. Nothing but time rests on the
 * choice, and its random numbers are fixed.
 *
 * Rounding: B is scaled so that it lengthens nothing. With delta >= |B B' - I|, the r^2 = |x|^2 - |p|^2 that is
 * computed exceeds the remainder's by at most 10 delta |x|^2, delta holding every rounding of sums in double too;
 * (p, r) is then within blur |x|, blur = sqrt(10 delta), of vectors for which the inequality holds. */
#include "flow/neighbours_private.h"

#include <fmcore/array.h>
#include <fmcore/backend.h>
#include <fmcore/cpu.h>
#include <fmcore/random.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

FM_FAST_FILE

enum {
    FRAME_SAMPLE = 64,  /* rows that choose the centre */
    FRAME_FIT = 512,    /* rows that choose directions, */
    FRAME_TEST = 256,   /* and others that say how many */
    FRAME_QUERIES = 64, /* of the latter */
    FRAME_MOST = 96,    /* directions */
    FRAME_STEP = 16,    /* numbers of them that are tried */
    FRAME_COLUMNS = 64, /* fewer columns are left as they are */
    FRAME_K = 5
};

/* Cost of a query beside one product of a column in bytes, measured on Zen 3: 784 columns of normal rows and of
 * images. A column of a candidate's fine integers; what else a candidate takes; what else a pair takes. */
#define COST_COLUMN 13.0
#define COST_CANDIDATE 10000.0
#define COST_PAIR 16.0
#define COST_PROJECT 4.0 /* one multiply-add in double */

FM_INLINE void
dot_any(size_t n, const double *a, const double *b, double *sum)
{
    double s = 0.0;

#pragma omp simd reduction(+ : s)
    for (size_t i = 0; i < n; i++)
        s += a[i] * b[i];
    *sum = s;
}

FM_CPU_VARIANTS(dot, (size_t n, const double *a, const double *b, double *sum), (n, a, b, sum))

FM_INLINE void
centre_row_any(size_t n, const double *x, const double *centre, double scale, double *to, double *square)
{
    double sum = 0.0;

#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) {
        to[i] = (x[i] - centre[i]) * scale;
        sum += to[i] * to[i];
    }
    *square = sum;
}

FM_CPU_VARIANTS(centre_row, (size_t n, const double *x, const double *centre, double scale, double *to, double *square),
                (n, x, centre, scale, to, square))

double
nb_frame_row(const NbFrame *f, size_t D, const double *x, double *to)
{
    double square;

    centre_row(D, x, f->centre, f->scale, to, &square);
    return square;
}

/* Means of columns, near which products cancel least, and 1 / a power of two near the longest row: of some
 * rows, because nothing but speed rests on them. */
static void
choose_centre(const FmNeighbours *s, NbFrame *f)
{
    const size_t rows = MIN(s->n, (size_t)FRAME_SAMPLE), step = s->n / rows;
    double most = 0.0;
    int e;

    for (size_t i = 0; i < rows; i++)
        for (size_t d = 0; d < s->D; d++)
            f->centre[d] += nb_row(s, i * step)[d] / (double)rows;
    for (size_t i = 0; i < rows; i++)
        for (size_t d = 0; d < s->D; d++)
            most = MAX(most, fabs(nb_row(s, i * step)[d] - f->centre[d]));
    frexp(most, &e);
    f->scale = most > 0.0 ? ldexp(1.0, CLAMP(-e, -1000, 1000)) : 1.0;
}

/* ---- directions ---- */

typedef struct Sample {
    size_t D, fit, test; /* rows of each */
    double *x;           /* (fit + test, D) */
    double *p;           /* (FRAME_FIT, FRAME_MOST) coordinates, */
    double *turned;      /* and transposed or multiplied */
    double *y;           /* (FRAME_MOST, D) */
    double *square;      /* (FRAME_QUERIES, test) */
} Sample;

static void
transpose(size_t rows, size_t columns, const double *from, double *to)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++)
            to[j * rows + i] = from[i * columns + j];
}

/* Rows of y (l, D) orthonormal, twice by Gram and Schmidt; what depends on others is dropped. The number left. */
static size_t
orthonormal(size_t l, size_t D, double *y)
{
    size_t kept = 0;

    for (size_t i = 0; i < l; i++) {
        double *v = y + kept * D, before, after, c;

        memmove(v, y + i * D, D * sizeof *v);
        dot(D, v, v, &before);
        for (int pass = 0; pass < 2; pass++)
            for (size_t j = 0; j < kept; j++) {
                dot(D, v, y + j * D, &c);
                for (size_t d = 0; d < D; d++)
                    v[d] -= c * y[j * D + d];
            }
        dot(D, v, v, &after);
        if (!(after > 1e-18 * before) || !(after > 1e-200) || !isfinite(after))
            continue;
        for (size_t d = 0; d < D; d++)
            v[d] /= sqrt(after);
        kept++;
    }
    return kept;
}

/* Directions of the fitted rows, largest variance first, in y; how many. */
static size_t
find_directions(Sample *s)
{
    const FmKey key = {.seed = 20110217, .stream = FM_STREAM_USER};
    const size_t D = s->D, m = s->fit;
    size_t l = MIN(MIN((size_t)FRAME_MOST, m), D);
    g_autofree double *covariance = NULL, *w = NULL, *basis = NULL;

    fm_fill_normal_f64(key, 0, l, m, s->turned);
    for (int power = 0; power < 2; power++) {
        fm_linalg_gemm_f64(FALSE, l, D, m, 1.0, s->turned, s->x, 0.0, s->y);
        l = orthonormal(l, D, s->y);
        if (l == 0)
            return 0;
        fm_linalg_gemm_f64(TRUE, m, l, D, 1.0, s->x, s->y, 0.0, s->p);
        transpose(m, l, s->p, s->turned);
    }
    covariance = g_new(double, l *l);
    w = g_new(double, l);
    basis = g_new(double, l *D);
    fm_linalg_gemm_f64(TRUE, l, l, m, 1.0, s->turned, s->turned, 0.0, covariance);
    if (!fm_linalg_eigen(l, covariance, w))
        return 0;
    fm_linalg_gemm_f64(FALSE, l, D, l, 1.0, covariance, s->y, 0.0, basis);
    for (size_t i = 0; i < l; i++)
        memcpy(s->y + i * D, basis + (l - 1 - i) * D, D * sizeof *basis);
    return l;
}

static int
by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Candidates of a query among the tested rows by their first d coordinates p (test, l) in bytes, a mean. */
static double
count_candidates(const Sample *s, size_t l, size_t d, const double *length2)
{
    const size_t n = s->test;
    double count = 0.0, rest[FRAME_TEST], lost[FRAME_TEST];

    for (size_t i = 0; i < n; i++) {
        double sum, most;

        dot(d, s->p + i * l, s->p + i * l, &sum);
        rest[i] = sqrt(MAX(length2[i] - sum, 0.0));
        most = 3.0 * sqrt(sum / (double)d); /* of directions that are mixed */
        lost[i] = MAX(most, rest[i]) / (63.0 * sqrt(12.0)) * sqrt((double)d + 1.0);
    }
    for (size_t i = 0; i < MIN(n, (size_t)FRAME_QUERIES); i++) {
        double sorted[FRAME_TEST];

        memcpy(sorted, s->square + i * n, n * sizeof *sorted);
        qsort(sorted, n, sizeof *sorted, by_value);
        const double limit = sorted[FRAME_K]; /* the first is the row itself */

        for (size_t j = 0; j < n; j++) {
            double low = (rest[i] - rest[j]) * (rest[i] - rest[j]);

            for (size_t c = 0; c < d; c++)
                low += (s->p[i * l + c] - s->p[j * l + c]) * (s->p[i * l + c] - s->p[j * l + c]);
            low -= 2.0 * (sqrt(length2[i]) * lost[j] + sqrt(length2[j]) * lost[i]);
            count += j != i && low <= limit;
        }
    }
    return count / (double)MIN(n, (size_t)FRAME_QUERIES);
}

static double
candidate_cost(size_t D)
{
    return COST_COLUMN * (double)D + COST_CANDIDATE;
}

/* Of a query among n rows with all columns as they are. */
static double
columns_cost(size_t n, size_t D)
{
    return (double)n * ((double)D + COST_PAIR) + 4.0 * FRAME_K * candidate_cost(D);
}

/* How many of l directions cost least for n rows, and their *best cost; 0: all columns as they are do. */
static size_t
choose_number(Sample *s, size_t n, size_t l, double *best)
{
    const size_t D = s->D, queries = MIN(s->test, (size_t)FRAME_QUERIES);
    const double *x = s->x + s->fit * D, each = candidate_cost(D);
    double length2[FRAME_TEST];
    size_t chosen = 0;

    *best = columns_cost(n, D);

    fm_linalg_gemm_f64(TRUE, queries, s->test, D, 1.0, x, x, 0.0, s->square);
    for (size_t j = 0; j < s->test; j++)
        dot(D, x + j * D, x + j * D, &length2[j]);
    for (size_t i = 0; i < queries; i++)
        for (size_t j = 0; j < s->test; j++)
            s->square[i * s->test + j] = length2[i] + length2[j] - 2.0 * s->square[i * s->test + j];
    fm_linalg_gemm_f64(TRUE, s->test, l, D, 1.0, x, s->y, 0.0, s->p);
    for (size_t d = MIN(l, (size_t)FRAME_STEP); d <= l; d = d < l ? MIN(d + FRAME_STEP, l) : l + 1) {
        const double cost = (double)n * ((double)d + 1.0 + COST_PAIR) +
                            2.0 * count_candidates(s, l, d, length2) * each + COST_PROJECT * (double)D * (double)d;

        if (cost < *best) {
            *best = cost;
            chosen = d;
        }
    }
    return chosen;
}

/* The orthonormal cosine transform of d values, entry (j, i). */
static double
cosine(size_t d, size_t j, size_t i)
{
    return sqrt((j > 0 ? 2.0 : 1.0) / (double)d) * cos(G_PI * ((double)i + 0.5) * (double)j / (double)d);
}

/* The first d directions of the sample, mixed so that coordinates are of like size: fewer bits are lost in bytes. */
static gboolean
mix_directions(Sample *s, size_t d)
{
    const size_t D = s->D;
    double *transform = fm_alloc(d * d * sizeof *transform), *mixed = fm_alloc(d * D * sizeof *mixed);
    const gboolean ok = transform && mixed;

    if (ok) {
        for (size_t j = 0; j < d; j++)
            for (size_t i = 0; i < d; i++)
                transform[j * d + i] = cosine(d, j, i);
        fm_linalg_gemm_f64(FALSE, d, D, d, 1.0, transform, s->y, 0.0, mixed);
        memcpy(s->y, mixed, d * D * sizeof *mixed);
    }
    fm_free(transform);
    fm_free(mixed);
    return ok;
}

void
nb_frame_leading(const NbFrame *f, size_t D, size_t n, double *to)
{
    memset(to, 0, n * D * sizeof *to);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < f->directions; j++) {
            const double c = cosine(f->directions, j, i);

            for (size_t k = 0; k < D; k++)
                to[i * D + k] += c * f->basis[j * D + k];
        }
}

/* Take the first d directions of the sample. */
static gboolean
keep_directions(NbFrame *f, Sample *s, size_t d)
{
    const size_t D = s->D;
    g_autofree double *product = g_new(double, d *d + 1);
    double delta = 0.0;

    if (d == 0)
        return TRUE;
    if (!mix_directions(s, d))
        return FALSE;
    fm_linalg_gemm_f64(TRUE, d, d, D, 1.0, s->y, s->y, 0.0, product);
    for (size_t i = 0; i < d; i++)
        for (size_t j = 0; j < d; j++)
            delta += (product[i * d + j] - (i == j)) * (product[i * d + j] - (i == j));
    delta = sqrt(delta) + 4.0 * (double)d * ((double)D + 8.0) * 0x1p-53;
    if (!(delta < 0.01))
        return TRUE; /* rows that are not finite, or too long: not for this search */
    f->basis = fm_alloc(d * D * sizeof *f->basis);
    if (!f->basis)
        return FALSE;
    for (size_t i = 0; i < d * D; i++)
        f->basis[i] = s->y[i] * (1.0 - delta);
    f->blur = sqrt(10.0 * delta);
    f->directions = d;
    return TRUE;
}

static gboolean
choose_directions(const FmNeighbours *n, NbFrame *f, size_t directions)
{
    const gboolean any = directions == NB_MEASURED;
    const size_t most = FRAME_FIT + FRAME_TEST, rows = MIN(n->n, most);
    Sample s = {.D = n->D, .test = any ? rows / 3 : 0};
    gboolean ok;

    s.fit = MIN(rows - s.test, (size_t)FRAME_FIT);
    s.x = fm_alloc((s.fit + s.test) * s.D * sizeof *s.x);
    s.p = fm_alloc(FRAME_FIT * FRAME_MOST * sizeof *s.p);
    s.turned = fm_alloc(FRAME_FIT * FRAME_MOST * sizeof *s.turned);
    s.y = fm_alloc(FRAME_MOST * s.D * sizeof *s.y);
    s.square = fm_alloc(FRAME_QUERIES * FRAME_TEST * sizeof *s.square);
    ok = s.x && s.p && s.turned && s.y && s.square;
    if (ok) {
        size_t l;

        for (size_t i = 0, fit = 0, test = 0; i < s.fit + s.test; i++) { /* every third is tested */
            const gboolean tested = test < s.test && (i % 3 == 2 || fit == s.fit);

            nb_frame_row(f, s.D, nb_row(n, i * n->n / (s.fit + s.test)), s.x + (tested ? s.fit + test++ : fit++) * s.D);
        }
        l = find_directions(&s);
        ok = keep_directions(f, &s, any ? (l > 0 ? choose_number(&s, n->n, l, &f->cost) : 0) : MIN(l, directions));
    }
    fm_free(s.x);
    fm_free(s.p);
    fm_free(s.turned);
    fm_free(s.y);
    fm_free(s.square);
    return ok;
}

/* ---- the frame ---- */

static gboolean
copy_frame(NbFrame *f, const NbFrame *like, size_t D)
{
    memcpy(f->centre, like->centre, D * sizeof *f->centre);
    f->scale = like->scale;
    f->blur = like->blur;
    f->cost = like->cost;
    f->directions = like->directions;
    if (like->directions == 0)
        return TRUE;
    f->basis = fm_alloc(like->directions * D * sizeof *f->basis);
    if (f->basis)
        memcpy(f->basis, like->basis, like->directions * D * sizeof *f->basis);
    return f->basis != NULL;
}

NbFrame *
nb_frame_new(const FmNeighbours *s, const NbFrame *like, size_t directions)
{
    NbFrame *f = g_new0(NbFrame, 1);
    gboolean ok;

    f->centre = fm_alloc(s->D * sizeof *f->centre);
    ok = f->centre != NULL;
    if (ok && like)
        ok = copy_frame(f, like, s->D);
    else if (ok) {
        choose_centre(s, f);
        if (directions == NB_MEASURED ? s->D >= FRAME_COLUMNS && s->n >= FRAME_FIT + FRAME_TEST : directions > 0)
            ok = choose_directions(s, f, directions);
    }
    if (!ok)
        g_clear_pointer(&f, nb_frame_free);
    return f;
}

double
nb_frame_cost(const FmNeighbours *s)
{
    return s->frame->directions > 0 && s->frame->cost > 0.0 ? s->frame->cost : columns_cost(s->n, s->D);
}

double
nb_frame_least(size_t n, size_t D)
{
    return nb_bytes_usable(D) && D >= FRAME_COLUMNS ? (double)n * (FRAME_STEP + 1.0 + COST_PAIR) : 0.0;
}

gboolean
nb_frame_equal(size_t D, const NbFrame *a, const NbFrame *b)
{
    return a == b || (a->scale == b->scale && a->directions == b->directions &&
                      memcmp(a->centre, b->centre, D * sizeof *a->centre) == 0 &&
                      (a->directions == 0 || memcmp(a->basis, b->basis, a->directions * D * sizeof *a->basis) == 0));
}

void
nb_frame_free(NbFrame *f)
{
    if (f == NULL)
        return;
    fm_free(f->centre);
    fm_free(f->basis);
    g_free(f);
}
