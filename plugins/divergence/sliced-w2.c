/* sliced-w2: sliced 2-Wasserstein distance (not squared): root of the mean, over random directions,
 * of the squared one-dimensional distances int (F^-1(u) - G^-1(u))^2 du, exact also for samples of
 * unequal size. Source: Bonneel et al. 2015, doi:10.1007/s10851-014-0506-3, eq. 8 and 9.
 *
 * Standard error around the estimator's mean: variance over directions / their number, plus var
 * f(X) / n + var g(Y) / m with f, g the one-dimensional potentials, 2 (x - T(x)) their derivatives,
 * averaged over the directions; then the delta method. */
#include <fmcore/array.h>
#include <fmcore/divergence.h>
#include <fmcore/plan.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SLICED_LANES = 8 }; /* fixed: sums do not depend on threads */

typedef struct SlicedW2 {
    int projections; /* option */
} SlicedW2;

static const FmOption sliced_options[] = {
    FM_OPT_INT(SlicedW2, projections, 200, 2, 100000, "random directions"),
    FM_OPT_END,
};

/* A projected value and its row. */
typedef struct SlicedPoint {
    double x;
    size_t row;
} SlicedPoint;

/* One sample's part of a lane: sorted projections, means of the other side's quantiles that go with
 * them, and potentials summed over the lane's directions. */
typedef struct SlicedSide {
    const FmSamples *s;
    SlicedPoint *point;  /* (n) */
    double *image, *sum; /* (n) */
} SlicedSide;

typedef struct SlicedLane {
    SlicedSide side[2];
    double *direction; /* (D) */
} SlicedLane;

typedef struct SlicedJob {
    size_t L;
    FmKey key;
    double *value; /* (L) */
    SlicedLane lane[SLICED_LANES];
} SlicedJob;

static int
sliced_compare(const void *a, const void *b)
{
    const SlicedPoint *p = a, *q = b;

    return p->x != q->x ? (p->x > q->x) - (p->x < q->x) : (p->row > q->row) - (p->row < q->row);
}

static void
sliced_project(SlicedSide *side, const double *direction)
{
    const size_t D = side->s->D;

    for (size_t i = 0; i < side->s->n; i++) {
        double sum = 0.0;

        for (size_t d = 0; d < D; d++)
            sum += direction[d] * side->s->x[i * D + d];
        side->point[i] = (SlicedPoint){.x = sum, .row = i};
        side->image[i] = 0.0;
    }
    qsort(side->point, side->s->n, sizeof *side->point, sliced_compare);
}

/* The quantile coupling: mass 1/n a point here, 1/m there, in order. Integer bookkeeping in units
 * of 1 / (n m), so that equal sizes pair row with row. */
static double
sliced_couple(SlicedSide *a, SlicedSide *b)
{
    const size_t n = a->s->n, m = b->s->n;
    double sum = 0.0;

    for (size_t i = 0, j = 0, left_a = m, left_b = n; i < n && j < m;) {
        const size_t take = MIN(left_a, left_b);
        const double x = a->point[i].x, y = b->point[j].x;

        sum += (double)take / ((double)n * (double)m) * (x - y) * (x - y);
        a->image[i] += (double)take / (double)m * y;
        b->image[j] += (double)take / (double)n * x;
        left_a -= take;
        left_b -= take;
        if (left_a == 0) {
            i++;
            left_a = m;
        }
        if (left_b == 0) {
            j++;
            left_b = n;
        }
    }
    return sum;
}

/* f' = 2 (x - T(x)), by the trapezoidal rule from the smallest point on. */
static void
sliced_potential(SlicedSide *side)
{
    double f = 0.0;

    for (size_t i = 0; i < side->s->n; i++) {
        if (i > 0)
            f += (side->point[i].x - side->point[i - 1].x) *
                 (side->point[i].x + side->point[i - 1].x - side->image[i] - side->image[i - 1]);
        side->sum[side->point[i].row] += f;
    }
}

static void
sliced_lane(void *ctx, int worker, size_t at)
{
    SlicedJob *job = ctx;
    SlicedLane *lane = &job->lane[at];
    const size_t D = lane->side[0].s->D;

    for (size_t l = at; l < job->L; l += SLICED_LANES) {
        double norm = 0.0;

        fm_fill_normal_f64(job->key, l, 1, D, lane->direction);
        for (size_t d = 0; d < D; d++)
            norm += lane->direction[d] * lane->direction[d];
        for (size_t d = 0; d < D; d++)
            lane->direction[d] /= sqrt(norm);
        for (int i = 0; i < 2; i++)
            sliced_project(&lane->side[i], lane->direction);
        job->value[l] = sliced_couple(&lane->side[0], &lane->side[1]);
        for (int i = 0; i < 2; i++)
            sliced_potential(&lane->side[i]);
    }
}

static double
sliced_variance(size_t n, const double *v, double *mean)
{
    double sum = 0.0;

    *mean = 0.0;
    for (size_t i = 0; i < n; i++)
        *mean += v[i] / (double)n;
    for (size_t i = 0; i < n; i++)
        sum += (v[i] - *mean) * (v[i] - *mean);
    return sum / ((double)n - 1.0);
}

static void
sliced_finish(SlicedJob *job, FmEstimate *out)
{
    double square, var = sliced_variance(job->L, job->value, &square) / (double)job->L, unused;

    fm_estimate_number(out, "projections", (double)job->L);
    out->value = sqrt(square);
    if (square > 0.0)
        fm_estimate_number(out, "se of projections", sqrt(var) / (2.0 * out->value));
    for (int i = 0; i < 2; i++) {
        SlicedSide *all = &job->lane[0].side[i];
        const size_t n = all->s->n;

        for (size_t l = 1; l < SLICED_LANES; l++)
            for (size_t r = 0; r < n; r++)
                all->sum[r] += job->lane[l].side[i].sum[r];
        for (size_t r = 0; r < n; r++)
            all->sum[r] /= (double)job->L;
        var += sliced_variance(n, all->sum, &unused) / (double)n;
    }
    out->se = square > 0.0 ? sqrt(var) / (2.0 * out->value) : 0.0;
}

static gboolean
sliced_init(SlicedJob *job, const FmSamples *p, const FmSamples *q)
{
    gboolean ok = (job->value = fm_alloc(job->L * sizeof(double))) != NULL;

    for (int l = 0; l < SLICED_LANES; l++) {
        SlicedLane *lane = &job->lane[l];

        ok = (lane->direction = fm_alloc(p->D * sizeof(double))) != NULL && ok;
        for (int i = 0; i < 2; i++) {
            SlicedSide *side = &lane->side[i];

            side->s = i ? q : p;
            side->point = fm_alloc(side->s->n * sizeof *side->point);
            side->image = fm_alloc(side->s->n * sizeof(double));
            side->sum = fm_alloc(side->s->n * sizeof(double));
            ok = ok && side->point && side->image && side->sum;
        }
    }
    return ok;
}

static gboolean
sliced_w2_estimate(const void *self, const FmSamples *p, const FmSamples *q, FmKey key, int threads,
                   FmEstimate *out, GError **error)
{
    SlicedJob job = {.L = (size_t)((const SlicedW2 *)self)->projections, .key = key};
    const gboolean ok = sliced_init(&job, p, q);

    out->n = p->n;
    out->unit = "of the data";
    if (!ok)
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY,
                    "divergence 'sliced-w2': no memory for %zu and %zu rows", p->n, q->n);
    else {
        fm_parallel(threads, SLICED_LANES, sliced_lane, &job);
        sliced_finish(&job, out);
    }
    for (int l = 0; l < SLICED_LANES; l++) {
        fm_free(job.lane[l].direction);
        for (int i = 0; i < 2; i++) {
            fm_free(job.lane[l].side[i].point);
            fm_free(job.lane[l].side[i].image);
            fm_free(job.lane[l].side[i].sum);
        }
    }
    fm_free(job.value);
    return ok;
}

static const FmDivergenceOps sliced_ops = {.estimate = sliced_w2_estimate};

static const FmFact sliced_facts[] = {
    {"bias", "upwards; the square by O(1/n) near P = Q"},
    {"error", "directions and samples, around the estimator's own mean; wide near P = Q"},
    {NULL, NULL},
};

FM_PLUGIN_DECLARE(DIVERGENCE, sliced_w2, "sliced-w2", sliced_ops, .self_size = sizeof(SlicedW2),
                  .options = sliced_options,
                  .summary = "sliced 2-Wasserstein distance (not squared), random directions",
                  .source = "Bonneel et al. 2015, doi:10.1007/s10851-014-0506-3, eq. 8 and 9",
                  .facts = sliced_facts);
