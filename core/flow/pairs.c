/* pairs.c: U-statistics over all pairs of rows of two samples (MMD, energy distance).
 *
 * a_i = mean_j k(x_i, x_j) - mean_j k(x_i, y_j) and b_j likewise. Hoeffding's decomposition of the kernel,
 * k(x, x') = mean + g(x) + g(x') + h(x, x'), gives
 *   value = mean k(x, x') + mean k(y, y') - 2 mean k(x, y)
 *   first order   4 var(a) / n + 4 var(b) / m                                    0 for P = Q
 *   second order  2 v_xx / n(n-1) + 2 v_yy / m(m-1) + 4 v_xy / n m,  v = var h
 * Each v is the variance of the kernel's values less those of its row and column means; the row means are
 * means of finitely many values, so that var(a) has v_xx / (n-1) + v_xy / m too much, which is taken out
 * (Serfling 1980, sec. 5.2; Gretton et al. 2012, JMLR 13:723, sec. 3 and 6; Sutherland & Deka 2019,
 * arXiv:1906.02104). */
#include <fmcore/array.h>
#include <fmcore/backend.h>
#include <fmcore/divergence.h>
#include <fmcore/plan.h>

#include <math.h>
#include <string.h>

enum { PAIRS_ROWS = 32, PAIRS_COLUMNS = 512, PAIRS_GEMM_D = 16, PAIRS_SCALE = 128 /* rows of each sample */ };

/* One sample's side: sums of kernel values of each of its rows against both samples. */
typedef struct PairsSide {
    size_t n;
    double *x, *norm;                    /* (n, D), (n) */
    double *own, *other, *own2, *other2; /* (n) sums and sums of squares */
    double own_mean, other_mean;         /* of the kernel over all pairs */
} PairsSide;

typedef struct Pairs {
    size_t D;
    PairsSide side[2];
    double *tile; /* (threads, PAIRS_ROWS, PAIRS_COLUMNS) */
    FmPairKernel kernel;
    const void *self;
    size_t chunks0; /* work items of side 0 */
} Pairs;

/* Squared distances of rows begin .. end - 1 of `a` to columns c .. c + width - 1 of `b`. */
static void
pairs_distances(const Pairs *s, const PairsSide *a, size_t begin, size_t end, const PairsSide *b, size_t c,
                size_t width, double *tile)
{
    const size_t D = s->D;

    if (D >= PAIRS_GEMM_D)
        fm_linalg_gemm_f64(TRUE, end - begin, width, D, -2.0, a->x + begin * D, b->x + c * D, 0.0, tile);
    for (size_t i = begin; i < end; i++) {
        double *row = tile + (i - begin) * width;
        const double *x = a->x + i * D;

        if (D >= PAIRS_GEMM_D) {
            for (size_t j = 0; j < width; j++)
                row[j] = fmax(0.0, row[j] + a->norm[i] + b->norm[c + j]);
            continue;
        }
        for (size_t j = 0; j < width; j++) {
            const double *y = b->x + (c + j) * D;
            double sum = 0.0;

            for (size_t d = 0; d < D; d++)
                sum += (x[d] - y[d]) * (x[d] - y[d]);
            row[j] = sum;
        }
    }
}

static void
pairs_chunk(void *ctx, int worker, size_t item)
{
    const Pairs *s = ctx;
    const int me = item >= s->chunks0;
    const size_t chunk = me ? item - s->chunks0 : item;
    const PairsSide *a = &s->side[me];
    const size_t begin = chunk * PAIRS_ROWS, end = MIN(begin + PAIRS_ROWS, a->n);
    double *tile = s->tile + (size_t)worker * PAIRS_ROWS * PAIRS_COLUMNS;

    for (int o = 0; o < 2; o++) {
        const PairsSide *b = &s->side[o];
        double *sum = o == me ? a->own : a->other, *sum2 = o == me ? a->own2 : a->other2;

        for (size_t c = 0; c < b->n; c += PAIRS_COLUMNS) {
            const size_t width = MIN(PAIRS_COLUMNS, b->n - c);

            pairs_distances(s, a, begin, end, b, c, width, tile);
            s->kernel(s->self, (end - begin) * width, tile);
            for (size_t i = begin; i < end; i++)
                for (size_t j = 0; j < width; j++) {
                    const double k = tile[(i - begin) * width + j];

                    if (o == me && c + j == i)
                        continue;
                    sum[i] += k;
                    sum2[i] += k * k;
                }
        }
    }
}

/* Mean and variance (divided by n - 1) of v / divisor; with less: of v / divisor - less / other. */
static double
pairs_variance(size_t n, const double *v, double divisor, const double *less, double other, double *mean)
{
    double sum = 0.0;

    *mean = 0.0;
    for (size_t i = 0; i < n; i++)
        *mean += (v[i] / divisor - (less ? less[i] / other : 0.0)) / (double)n;
    for (size_t i = 0; i < n; i++) {
        const double d = v[i] / divisor - (less ? less[i] / other : 0.0) - *mean;

        sum += d * d;
    }
    return sum / ((double)n - 1.0);
}

/* var h from the sum of all squares of `count` kernel values, their mean, the variances of their row and
 * column means, and `noise`, the part of var h that these contain. */
static double
pairs_second(double squares, double count, double mean, double rows, double columns, double noise)
{
    const double all = MAX(0.0, squares / count - mean * mean);

    return noise < 1.0 ? CLAMP((all - rows - columns) / (1.0 - noise), 0.0, all) : all;
}

static double
pairs_sum(size_t n, const double *v)
{
    double sum = 0.0;

    for (size_t i = 0; i < n; i++)
        sum += v[i];
    return sum;
}

/* h of rows i of `a` and j of `b` from the kernel's value. */
static double
pairs_centred(const PairsSide *a, size_t i, const PairsSide *b, size_t j, double k)
{
    const gboolean same = a == b;
    const double n = (double)a->n, m = (double)b->n;
    const double row = same ? a->own[i] / (n - 1.0) : a->other[i] / m;
    const double column = same ? b->own[j] / (n - 1.0) : b->other[j] / n;

    return k - row - column + (same ? a->own_mean : a->other_mean);
}

/* fm_estimate_scale() of the first rows of both samples. FALSE: no memory. */
static gboolean
pairs_scale(const Pairs *s, double *scale)
{
    const size_t part[2] = {MIN(s->side[0].n, PAIRS_SCALE), MIN(s->side[1].n, PAIRS_SCALE)}, n = part[0] + part[1];
    double *a = fm_alloc(2 * n * n * sizeof *a), *tile = s->tile;

    for (int i = 0; a != NULL && i < 4; i++) {
        const size_t p = i / 2, q = i % 2;
        const PairsSide *of = &s->side[p], *to = &s->side[q];
        const double w = 1.0 / sqrt((double)part[p] * (double)of->n * (double)part[q] * (double)to->n);

        for (size_t r = 0; r < part[p]; r++) {
            pairs_distances(s, of, r, r + 1, to, 0, part[q], tile);
            s->kernel(s->self, part[q], tile);
            for (size_t c = 0; c < part[q]; c++)
                a[(p * part[0] + r) * n + q * part[0] + c] = w * pairs_centred(of, r, to, c, tile[c]);
        }
    }
    *scale = a != NULL ? fm_estimate_scale(n, a, a + n * n) : 0.0;
    fm_free(a);
    return a != NULL;
}

/* The value and its error from the sums. */
static gboolean
pairs_finish(Pairs *s, FmEstimate *out)
{
    PairsSide *x = &s->side[0], *y = &s->side[1];
    const double n[2] = {(double)x->n, (double)y->n};
    double value = 0.0, first = 0.0, second = 0.0, mean, scale, v[2], v_xy;
    const double rows = pairs_variance(x->n, x->other, n[1], NULL, 1.0, &mean);
    const double columns = pairs_variance(y->n, y->other, n[0], NULL, 1.0, &mean);

    x->other_mean = y->other_mean = mean;
    v_xy = pairs_second(pairs_sum(x->n, x->other2), n[0] * n[1], mean, rows, columns, 1.0 / n[0] + 1.0 / n[1]);
    for (int i = 0; i < 2; i++) {
        PairsSide *a = &s->side[i];
        const double own = pairs_variance(a->n, a->own, n[i] - 1.0, NULL, 1.0, &a->own_mean);

        mean = a->own_mean;
        v[i] = pairs_second(pairs_sum(a->n, a->own2), n[i] * (n[i] - 1.0), mean, own, own, 2.0 / (n[i] - 1.0));
        first +=
            4.0 / n[i] *
            (pairs_variance(a->n, a->own, n[i] - 1.0, a->other, n[!i], &mean) - v[i] / (n[i] - 1.0) - v_xy / n[!i]);
        second += 2.0 * v[i] / (n[i] * (n[i] - 1.0));
        value += mean;
    }
    second += 4.0 * v_xy / (n[0] * n[1]);
    out->value = value;
    out->se = sqrt(second + MAX(first, 0.0));
    out->n = x->n;
    if (!pairs_scale(s, &scale))
        return FALSE;
    fm_estimate_interval(out, 0.0, first, second, scale);
    return TRUE;
}

static gboolean
pairs_side_init(PairsSide *side, const FmSamples *from, size_t rows, FmKey key, const double *shift)
{
    const size_t D = from->D;

    side->n = MIN(from->n, rows);
    side->x = fm_alloc(side->n * D * sizeof(double));
    side->norm = fm_alloc(5 * side->n * sizeof(double));
    if (side->x == NULL || side->norm == NULL)
        return FALSE;
    side->own = side->norm + side->n;
    side->other = side->own + side->n;
    side->own2 = side->other + side->n;
    side->other2 = side->own2 + side->n;
    for (size_t i = 0; i < side->n; i++) {
        const size_t r = side->n < from->n ? fm_permute_index(key, from->n, i) : i;

        for (size_t d = 0; d < D; d++) {
            /* near the origin: |x|^2 + |y|^2 - 2 x.y cancels less */
            const double x = from->x[r * D + d] - shift[d];

            side->x[i * D + d] = x;
            side->norm[i] += x * x;
        }
    }
    return TRUE;
}

gboolean
fm_estimate_pairs(const FmSamples *p, const FmSamples *q, size_t rows, FmKey key, FmPairKernel kernel, const void *self,
                  int threads, FmEstimate *out, GError **error)
{
    const FmKey other = {.seed = key.seed, .stream = key.stream, .step = key.step + 1};
    Pairs s = {.D = p->D, .kernel = kernel, .self = self};
    double *shift = fm_alloc(p->D * sizeof(double));
    gboolean ok;

    s.tile = fm_alloc((size_t)threads * PAIRS_ROWS * PAIRS_COLUMNS * sizeof(double));
    ok = shift != NULL && s.tile != NULL;
    for (size_t i = 0; ok && i < q->n; i++)
        for (size_t d = 0; d < q->D; d++)
            shift[d] += q->x[i * q->D + d] / (double)q->n;
    ok = ok && pairs_side_init(&s.side[0], p, rows, key, shift) && pairs_side_init(&s.side[1], q, rows, other, shift);
    if (ok) {
        s.chunks0 = (s.side[0].n + PAIRS_ROWS - 1) / PAIRS_ROWS;
        fm_parallel(threads, s.chunks0 + (s.side[1].n + PAIRS_ROWS - 1) / PAIRS_ROWS, pairs_chunk, &s);
        ok = pairs_finish(&s, out);
    }
    if (!ok)
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "no memory for pairs of %zu and %zu rows", MIN(p->n, rows),
                    MIN(q->n, rows));
    for (int i = 0; i < 2; i++) {
        fm_free(s.side[i].x);
        fm_free(s.side[i].norm);
    }
    fm_free(s.tile);
    fm_free(shift);
    return ok;
}
