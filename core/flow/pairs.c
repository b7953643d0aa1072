/* pairs.c: U-statistics over all pairs of rows of two samples (MMD, energy distance).
 *
 * With z pooled over both samples, a_i = mean_j k(x_i, x_j) - mean_j k(x_i, y_j) and b_j likewise:
 *   value = mean k(x, x') + mean k(y, y') - 2 mean k(x, y)
 *   se^2  = 4 var(a) / n + 4 var(b) / m                                first order, 0 for P = Q
 *         + 2 v_xx / n(n-1) + 2 v_yy / m(m-1) + 4 v_xy / n m           second order
 * v: variance of the kernel's values after their row means are taken out (Serfling 1980, sec. 5.2;
 * Gretton et al. 2012, JMLR 13:723, sec. 3 and 6). */
#include <fmcore/array.h>
#include <fmcore/backend.h>
#include <fmcore/divergence.h>
#include <fmcore/plan.h>

#include <math.h>
#include <string.h>

enum { PAIRS_ROWS = 32, PAIRS_COLUMNS = 512, PAIRS_GEMM_D = 16 };

/* One sample's side: sums of kernel values of each of its rows against both samples. */
typedef struct PairsSide {
    size_t n;
    double *x, *norm;                    /* (n, D), (n) */
    double *own, *other, *own2, *other2; /* (n) sums and sums of squares */
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
pairs_distances(const Pairs *s, const PairsSide *a, size_t begin, size_t end, const PairsSide *b,
                size_t c, size_t width, double *tile)
{
    const size_t D = s->D;

    if (D >= PAIRS_GEMM_D)
        fm_linalg_gemm_f64(TRUE, end - begin, width, D, -2.0, a->x + begin * D, b->x + c * D, 0.0,
                           tile);
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

static double
pairs_mean(size_t n, const double *v)
{
    double sum = 0.0;

    for (size_t i = 0; i < n; i++)
        sum += v[i];
    return sum / (double)n;
}

/* The value and its error from the sums. */
static void
pairs_finish(const Pairs *s, FmEstimate *out)
{
    double value = 0.0, variance = 0.0;

    for (int me = 0; me < 2; me++) {
        const PairsSide *a = &s->side[me];
        const double n = (double)a->n, m = (double)s->side[!me].n;
        double mean = 0.0, var = 0.0, own = 0.0, cross = 0.0;

        for (size_t i = 0; i < a->n; i++) {
            const double u = a->own[i] / (n - 1.0), v = a->other[i] / m;

            mean += (u - v) / n;
            own += a->own2[i] / (n - 1.0) - u * u;
            cross += a->other2[i] / m - v * v;
        }
        for (size_t i = 0; i < a->n; i++) {
            const double d = a->own[i] / (n - 1.0) - a->other[i] / m - mean;

            var += d * d / (n - 1.0);
        }
        value += pairs_mean(a->n, a->own) / (n - 1.0) - pairs_mean(a->n, a->other) / m;
        variance += 4.0 * var / n + 2.0 * own / (n * n * (n - 1.0)) + 2.0 * cross / (n * n * m);
    }
    out->value = value;
    out->se = sqrt(variance);
    out->n = s->side[0].n;
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
fm_estimate_pairs(const FmSamples *p, const FmSamples *q, size_t rows, FmKey key,
                  FmPairKernel kernel, const void *self, int threads, FmEstimate *out,
                  GError **error)
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
    ok = ok && pairs_side_init(&s.side[0], p, rows, key, shift) &&
         pairs_side_init(&s.side[1], q, rows, other, shift);
    if (!ok)
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "no memory for pairs of %zu and %zu rows",
                    MIN(p->n, rows), MIN(q->n, rows));
    else {
        s.chunks0 = (s.side[0].n + PAIRS_ROWS - 1) / PAIRS_ROWS;
        fm_parallel(threads, s.chunks0 + (s.side[1].n + PAIRS_ROWS - 1) / PAIRS_ROWS, pairs_chunk,
                    &s);
        pairs_finish(&s, out);
    }
    for (int i = 0; i < 2; i++) {
        fm_free(s.side[i].x);
        fm_free(s.side[i].norm);
    }
    fm_free(s.tile);
    fm_free(shift);
    return ok;
}
