/* sliced-w2: sliced 2-Wasserstein distance (not squared): root of the mean, over random directions,
 * of the squared one-dimensional distances int (F^-1(u) - G^-1(u))^2 du, exact also for samples of
 * unequal size. Source: Bonneel et al. 2015, doi:10.1007/s10851-014-0506-3, eq. 8 and 9.
 *
 * Standard error around the estimator's mean: var f(X) / n + var g(Y) / m with f, g the one-dimensional
 * potentials, 2 (x - T(x)) their derivatives, averaged over the L directions (near P = Q too much: how much is
 * found by dealing the rows of both samples anew); plus b / L, where b is the variance over directions of a
 * direction's expected distance; then the delta method. With w the mean variance of one direction's distance
 * and c the mean covariance of two, the variance seen over directions is b + w - c, and the first part
 * w / L + (1 - 1 / L) c. */
#include <fmcore/array.h>
#include <fmcore/divergence.h>
#include <fmcore/plan.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SLICED_LANES = 8 }; /* fixed: sums do not depend on threads */

#define SLICED_SHARE 0.5 /* the square is a quadratic functional at P = Q */

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
    SlicedSide side[2], dealt[2]; /* the samples, and as large ones of their pooled rows */
    double *direction;            /* (D) */
} SlicedLane;

typedef struct SlicedJob {
    size_t L;
    FmKey key;
    double *value, *equal; /* (L) of the samples, of dealt ones */
    double *within[2];     /* (L) variance of a direction's distance from its potentials: of the samples, of dealt */
    size_t *place;         /* (n + m): the row of dealt[0], or n + that of dealt[1], that a pooled row is */
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

/* Both sorted samples as the sorted `dealt` ones. */
static void
sliced_deal(const SlicedJob *job, SlicedLane *lane)
{
    const SlicedSide *a = &lane->side[0], *b = &lane->side[1];
    const size_t n = a->s->n, m = b->s->n;
    size_t count[2] = {0};

    for (size_t i = 0, j = 0; i + j < n + m;) {
        const gboolean first = j == m || (i < n && a->point[i].x <= b->point[j].x);
        const SlicedPoint p = first ? a->point[i++] : b->point[j++];
        const size_t place = job->place[first ? p.row : n + p.row];
        SlicedSide *to = &lane->dealt[place >= n];

        to->image[count[place >= n]] = 0.0;
        to->point[count[place >= n]++] = (SlicedPoint){.x = p.x, .row = place >= n ? place - n : place};
    }
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

/* f' = 2 (x - T(x)), by the trapezoidal rule from the smallest point on. Returns var f / n. */
static double
sliced_potential(SlicedSide *side)
{
    double f = 0.0, mean = 0.0, sum = 0.0;
    const size_t n = side->s->n;

    for (size_t i = 0; i < n; i++) {
        const double before = mean;

        if (i > 0)
            f += (side->point[i].x - side->point[i - 1].x) *
                 (side->point[i].x + side->point[i - 1].x - side->image[i] - side->image[i - 1]);
        side->sum[side->point[i].row] += f;
        mean += (f - before) / ((double)i + 1.0);
        sum += (f - before) * (f - mean);
    }
    return sum / ((double)n - 1.0) / (double)n;
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
        sliced_deal(job, lane);
        job->equal[l] = sliced_couple(&lane->dealt[0], &lane->dealt[1]);
        for (int i = 0; i < 2; i++) {
            job->within[0][l] += sliced_potential(&lane->side[i]);
            job->within[1][l] += sliced_potential(&lane->dealt[i]);
        }
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

/* Variance of the potentials of both samples, or of both dealt ones; sums those of all lanes. */
static double
sliced_potentials(SlicedJob *job, gboolean dealt)
{
    double var = 0.0, unused;

    for (int i = 0; i < 2; i++) {
        SlicedSide *all = dealt ? &job->lane[0].dealt[i] : &job->lane[0].side[i];
        const size_t n = all->s->n;

        for (size_t l = 1; l < SLICED_LANES; l++) {
            const SlicedLane *lane = &job->lane[l];

            for (size_t r = 0; r < n; r++)
                all->sum[r] += (dealt ? lane->dealt[i] : lane->side[i]).sum[r];
        }
        for (size_t r = 0; r < n; r++)
            all->sum[r] /= (double)job->L;
        var += sliced_variance(n, all->sum, &unused) / (double)n;
    }
    return var;
}

static void
sliced_finish(SlicedJob *job, FmEstimate *out)
{
    const double L = (double)job->L;
    double square, equal, within, within_equal, se, w, c, b;
    const double seen = sliced_variance(job->L, job->value, &square);

    sliced_variance(job->L, job->equal, &equal);
    sliced_variance(job->L, job->within[0], &within);
    sliced_variance(job->L, job->within[1], &within_equal);
    se = fm_estimate_se_transport(sliced_potentials(job, FALSE), sliced_potentials(job, TRUE), SLICED_SHARE);
    w = pow(fm_estimate_se_transport(within, within_equal, SLICED_SHARE), 2.0);
    c = (se * se - w / L) / (1.0 - 1.0 / L);
    b = MAX(seen - w + c, 0.0);
    fm_estimate_number(out, "projections", (double)job->L);
    fm_estimate_root(out, square, sqrt(b / L + se * se), equal);
    if (isfinite(out->se))
        fm_estimate_number(out, "se of projections", sqrt(b / L) / (2.0 * out->value));
}

static gboolean
sliced_side_init(SlicedSide *side, const FmSamples *s)
{
    side->s = s;
    side->point = fm_alloc(s->n * sizeof *side->point);
    side->image = fm_alloc(s->n * sizeof(double));
    side->sum = fm_alloc(s->n * sizeof(double));
    return side->point && side->image && side->sum;
}

static void
sliced_side_clear(SlicedSide *side)
{
    fm_free(side->point);
    fm_free(side->image);
    fm_free(side->sum);
}

static gboolean
sliced_init(SlicedJob *job, const FmSamples *p, const FmSamples *q)
{
    const FmKey deal = {.seed = job->key.seed, .stream = job->key.stream, .step = job->key.step + 1};
    gboolean ok;

    job->value = fm_alloc(job->L * sizeof(double));
    job->equal = fm_alloc(job->L * sizeof(double));
    job->place = fm_alloc((p->n + q->n) * sizeof *job->place);
    for (int i = 0; i < 2; i++)
        job->within[i] = fm_alloc(job->L * sizeof(double));
    ok = job->value && job->equal && job->place && job->within[0] && job->within[1];
    for (size_t r = 0; job->place && r < p->n + q->n; r++)
        job->place[r] = fm_permute_index(deal, p->n + q->n, r);
    for (int l = 0; l < SLICED_LANES; l++) {
        SlicedLane *lane = &job->lane[l];

        ok = (lane->direction = fm_alloc(p->D * sizeof(double))) != NULL && ok;
        for (int i = 0; i < 2; i++) {
            ok = sliced_side_init(&lane->side[i], i ? q : p) && ok;
            ok = sliced_side_init(&lane->dealt[i], i ? q : p) && ok;
        }
    }
    return ok;
}

static gboolean
sliced_w2_estimate(const void *self, const FmSamples *p, const FmSamples *q, FmKey key, int threads, FmEstimate *out,
                   GError **error)
{
    SlicedJob job = {.L = (size_t)((const SlicedW2 *)self)->projections, .key = key};
    const gboolean ok = sliced_init(&job, p, q);

    out->n = p->n;
    out->unit = "of the data";
    if (!ok)
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "divergence 'sliced-w2': no memory for %zu and %zu rows", p->n,
                    q->n);
    else {
        fm_parallel(threads, SLICED_LANES, sliced_lane, &job);
        sliced_finish(&job, out);
    }
    for (int l = 0; l < SLICED_LANES; l++) {
        fm_free(job.lane[l].direction);
        for (int i = 0; i < 2; i++) {
            sliced_side_clear(&job.lane[l].side[i]);
            sliced_side_clear(&job.lane[l].dealt[i]);
        }
    }
    fm_free(job.value);
    fm_free(job.equal);
    fm_free(job.within[0]);
    fm_free(job.within[1]);
    fm_free(job.place);
    return ok;
}

static const FmDivergenceOps sliced_ops = {.estimate = sliced_w2_estimate};

static const FmFact sliced_facts[] = {
    {"bias", "upwards; the square by O(1/n) near P = Q"},
    {"error", "directions and samples, around the estimator's own mean, lowered near P = Q"},
    {NULL, NULL},
};

FM_PLUGIN_DECLARE(DIVERGENCE, sliced_w2, "sliced-w2", sliced_ops, .self_size = sizeof(SlicedW2),
                  .options = sliced_options,
                  .summary = "sliced 2-Wasserstein distance (not squared), random directions",
                  .source = "Bonneel et al. 2015, doi:10.1007/s10851-014-0506-3, eq. 8 and 9", .facts = sliced_facts);
