/* frechet: squared Frechet (2-Wasserstein) distance of the Gaussians with the samples' moments.
 *   |mp - mq|^2 + tr(Sp + Sq - 2 (Sp^1/2 Sq Sp^1/2)^1/2)
 * in the data's own columns (pixels for images) or in a named space of features; it is the Inception
 * distance FID in none of them.
 * Source: Dowson & Landau 1982, doi:10.1016/0047-259X(82)90077-X, eq. 16. Covariances may be singular.
 *
 * The bias is a + b / n. Both samples are cut into m disjoint parts and the m distances averaged: that
 * is on the line a + b m / n. `bias estimate` is the step from m = 1 to m = 2; extrapolate=M fits the
 * line through m = 1 .. M and reports it at 1/n = 0 (Chong & Forsyth 2020, arXiv:1911.07023, sec. 3, who
 * fit a line through random subsets).
 * Standard error in up to 64 columns: delta method, the variance of each row's influence, and, at P = Q, where that
 * vanishes, the variance of the quadratic form that the distance is there. In more, with extrapolation or for singular
 * covariances: jackknife over groups of rows left out in turn, t interval. */
#include <fmcore/array.h>
#include <fmcore/backend.h>
#include <fmcore/divergence.h>
#include <fmcore/features.h>
#include <fmcore/plan.h>

#include <math.h>
#include <string.h>

enum { FRECHET_LAW_D = 64, FRECHET_LAW_EACH = 8 /* rows a column */, FRECHET_LAW_ROWS = 256 /* of each sample */ };
enum { FRECHET_PARTS = 10, FRECHET_GROUPS = 100, FRECHET_ROWS = 2 /* a part needs so many */ };

typedef struct Frechet {
    char *features, *layer, *stack, *space; /* options */
    FmInts shape;
    double time;
    int extrapolate, groups;
} Frechet;

static const FmOption frechet_options[] = {
    FM_OPT_STRING(Frechet, features, "",
                  "run directory, or file.safetensors of a classifier; unset: the data's own columns"),
    FM_OPT_STRING(Frechet, layer, "", "of a run: the layer whose input is the feature; unset: the coarsest"),
    FM_OPT_REAL(Frechet, time, 1, 0.0, 1.0, "of a run: t at which the net is asked; 1: no noise is added"),
    FM_OPT_STRING(Frechet, stack, "", "of a classifier: its layers, 'conv1 relu maxpool2 flatten fc1 relu'"),
    FM_OPT_INTS(Frechet, shape, "", 1, 65536, "of a classifier: [height,width,channels] of a row"),
    FM_OPT_STRING(Frechet, space, "", "name of the space when the rows are features already"),
    FM_OPT_INT(Frechet, extrapolate, 0, 0, 10,
               "to infinite samples, by a line through 1 .. so many disjoint parts; 0, 1: not"),
    FM_OPT_INT(Frechet, groups, 10, 0, 100,
               "left out in turn for the error bar, where a jackknife gives it; 0: no error bar"),
    FM_OPT_END,
};

/* ---- the distance of some rows ---- */

/* Positions lo .. hi - 1 among the rows of a sample less group [skip, skip_end); order NULL: as they are. */
typedef struct FrechetRows {
    const guint64 *order;
    size_t lo, hi, skip, skip_end;
} FrechetRows;

static const double *
frechet_row(const FmSamples *s, const FrechetRows *r, size_t i)
{
    const size_t at = r->lo + i, k = at < r->skip ? at : at + (r->skip_end - r->skip);

    return s->x + (r->order ? r->order[k] : k) * s->D;
}

static size_t
frechet_count(const FrechetRows *r)
{
    return r->hi - r->lo;
}

static void
frechet_mean_row(const FmSamples *s, const FrechetRows *r, double *mean)
{
    const size_t D = s->D, n = frechet_count(r);

    memset(mean, 0, D * sizeof *mean);
    for (size_t i = 0; i < n; i++) {
        const double *x = frechet_row(s, r, i);

        for (size_t d = 0; d < D; d++)
            mean[d] += x[d] / (double)n;
    }
}

/* mean (D) and cov (D, D) of the rows; xt (D, n) scratch. */
static void
frechet_moments(const FmSamples *s, const FrechetRows *r, double *mean, double *cov, double *xt)
{
    const size_t D = s->D, n = frechet_count(r);

    frechet_mean_row(s, r, mean);
    for (size_t i = 0; i < n; i++) {
        const double *x = frechet_row(s, r, i);

        for (size_t d = 0; d < D; d++)
            xt[d * n + i] = x[d] - mean[d];
    }
    fm_linalg_gemm_f64(TRUE, D, D, n, 1.0 / ((double)n - 1.0), xt, xt, 0.0, cov);
}

/* The distance of the fits to two sets of rows. `work` as frechet_room() says. */
static gboolean
frechet_distance(const FmSamples *p, const FrechetRows *rp, const FmSamples *q, const FrechetRows *rq, double *work,
                 double *value)
{
    const size_t D = p->D;
    double *mp = work, *mq = mp + D, *w = mq + D, *Sp = w + D, *Sq = Sp + D * D, *product = Sq + D * D,
           *inner = product + D * D, *xt = inner + D * D, sum = 0.0;

    frechet_moments(p, rp, mp, Sp, xt);
    frechet_moments(q, rq, mq, Sq, xt);
    for (size_t d = 0; d < D; d++)
        sum += (mp[d] - mq[d]) * (mp[d] - mq[d]) + Sp[d * D + d] + Sq[d * D + d];
    if (!fm_linalg_eigen(D, Sp, w))
        return FALSE;
    for (size_t i = 0; i < D; i++) /* A = diag(sqrt w) V, so that Sp = A^T A */
        for (size_t d = 0; d < D; d++)
            Sp[i * D + d] *= sqrt(MAX(w[i], 0.0));
    fm_linalg_gemm_f64(FALSE, D, D, D, 1.0, Sp, Sq, 0.0, product);
    fm_linalg_gemm_f64(TRUE, D, D, D, 1.0, product, Sp, 0.0, inner); /* A Sq A^T */
    for (size_t i = 0; i < D; i++)
        for (size_t j = 0; j < i; j++)
            inner[i * D + j] = inner[j * D + i] = 0.5 * (inner[i * D + j] + inner[j * D + i]);
    if (!fm_linalg_eigen(D, inner, w))
        return FALSE;
    for (size_t d = 0; d < D; d++)
        sum -= 2.0 * sqrt(MAX(w[d], 0.0));
    *value = sum;
    return TRUE;
}

/* `count` centred rows from `first` on over sqrt(n - 1), (count, D), so that S = X^T X for all n; returns their part of
 * tr S. */
static double
frechet_centre(const FmSamples *s, const FrechetRows *r, size_t first, size_t count, const double *mean, double *X)
{
    const size_t D = s->D;
    const double weight = 1.0 / sqrt((double)frechet_count(r) - 1.0);
    double trace = 0.0;

    for (size_t i = 0; i < count; i++) {
        const double *x = frechet_row(s, r, first + i);

        for (size_t d = 0; d < D; d++) {
            X[i * D + d] = weight * (x[d] - mean[d]);
            trace += X[i * D + d] * X[i * D + d];
        }
    }
    return trace;
}

/* The same distance where one sample, s, has fewer rows than columns, and the other, l, no fewer; without a matrix of
 * (D, D): the eigenvalues of Sp Sq other than 0 are those of K K^T, K = Xs Xl^T, which is summed over blocks of at most
 * D rows of l. `work` as frechet_room() says. */
static gboolean
frechet_distance_of_few(const FmSamples *s, const FrechetRows *rs, const FmSamples *l, const FrechetRows *rl,
                        double *work, double *value)
{
    const size_t D = s->D, a = frechet_count(rs), b = frechet_count(rl), most = MIN(b, D);
    double *ms = work, *ml = ms + D, *Xs = ml + D, *Xl = Xs + a * D, *K = Xl + most * D, *square = K + a * most,
           *w = square + a * a, sum;

    frechet_mean_row(s, rs, ms);
    frechet_mean_row(l, rl, ml);
    sum = frechet_centre(s, rs, 0, a, ms, Xs);
    for (size_t d = 0; d < D; d++)
        sum += (ms[d] - ml[d]) * (ms[d] - ml[d]);
    for (size_t first = 0; first < b; first += most) {
        const size_t count = MIN(most, b - first);

        sum += frechet_centre(l, rl, first, count, ml, Xl);
        fm_linalg_gemm_f64(TRUE, a, count, D, 1.0, Xs, Xl, 0.0, K);
        fm_linalg_gemm_f64(TRUE, a, a, count, 1.0, K, K, first > 0 ? 1.0 : 0.0, square);
    }
    if (!fm_linalg_eigen(a, square, w))
        return FALSE;
    for (size_t i = 0; i < a; i++)
        sum -= 2.0 * sqrt(MAX(w[i], 0.0));
    *value = sum;
    return TRUE;
}

static gboolean
frechet_is_few(size_t D, const FrechetRows *rp, const FrechetRows *rq)
{
    return MIN(frechet_count(rp), frechet_count(rq)) < D;
}

/* Numbers that the distance of such rows needs as scratch. */
static size_t
frechet_room(size_t D, const FrechetRows *rp, const FrechetRows *rq)
{
    const size_t np = frechet_count(rp), nq = frechet_count(rq), few = MIN(np, nq), block = MIN(MAX(np, nq), D);

    return frechet_is_few(D, rp, rq) ? 2 * D + (few + block) * D + few * block + few * few + few
                                     : 3 * D + 4 * D * D + D * MAX(np, nq);
}

/* ---- distances of parts, in parallel ---- */

/* One distance: part `part` of `parts` of what is left without group `group` (-1: of all). */
typedef struct FrechetTask {
    int group;
    size_t part, parts;
    double value; /* NAN: eigenvalues that did not converge */
} FrechetTask;

typedef struct FrechetJob {
    const FmSamples *p, *q;
    guint64 *order_p, *order_q; /* keyed permutations */
    size_t groups, n_tasks, work_size;
    FrechetTask *task;
    double *work; /* (threads, work_size) */
} FrechetJob;

static FrechetRows
frechet_part(size_t n, const guint64 *order, size_t groups, const FrechetTask *t)
{
    FrechetRows r = {.order = t->group < 0 && t->parts == 1 ? NULL : order};
    size_t left = n;

    if (t->group >= 0) {
        r.skip = (size_t)t->group * n / groups;
        r.skip_end = ((size_t)t->group + 1) * n / groups;
        left -= r.skip_end - r.skip;
    } else
        r.skip = r.skip_end = n;
    r.lo = t->part * left / t->parts;
    r.hi = (t->part + 1) * left / t->parts;
    return r;
}

static void
frechet_run_task(void *ctx, int worker, size_t i)
{
    FrechetJob *job = ctx;
    FrechetTask *t = &job->task[i];
    const FrechetRows a = frechet_part(job->p->n, job->order_p, job->groups, t),
                      b = frechet_part(job->q->n, job->order_q, job->groups, t);
    double *room = job->work + (size_t)worker * job->work_size;
    gboolean ok;

    if (!frechet_is_few(job->p->D, &a, &b))
        ok = frechet_distance(job->p, &a, job->q, &b, room, &t->value);
    else if (frechet_count(&a) <= frechet_count(&b))
        ok = frechet_distance_of_few(job->p, &a, job->q, &b, room, &t->value);
    else
        ok = frechet_distance_of_few(job->q, &b, job->p, &a, room, &t->value);
    if (!ok)
        t->value = NAN;
}

/* Room for the distances of m = 1 .. parts parts of everything and, for each group, of what it leaves. */
static gboolean
frechet_job_init(FrechetJob *job, size_t whole_parts, size_t group_parts, FmKey key, int threads)
{
    const FmKey other = {.seed = key.seed, .stream = key.stream, .step = key.step + 1};
    const size_t most = whole_parts * (whole_parts + 1) / 2 + job->groups * group_parts * (group_parts + 1) / 2;

    job->task = fm_alloc(most * sizeof *job->task);
    job->order_p = fm_alloc((job->p->n + job->q->n) * sizeof *job->order_p);
    if (!job->task || !job->order_p)
        return FALSE;
    job->order_q = job->order_p + job->p->n;
    for (size_t i = 0; i < job->p->n; i++)
        job->order_p[i] = fm_permute_index(key, job->p->n, i);
    for (size_t i = 0; i < job->q->n; i++)
        job->order_q[i] = fm_permute_index(other, job->q->n, i);
    for (int g = -1; g < (int)job->groups; g++)
        for (size_t m = 1; m <= (g < 0 ? whole_parts : group_parts); m++)
            for (size_t part = 0; part < m; part++)
                job->task[job->n_tasks++] = (FrechetTask){.group = g, .part = part, .parts = m};
    for (size_t i = 0; i < job->n_tasks; i++) {
        const FrechetRows a = frechet_part(job->p->n, job->order_p, job->groups, &job->task[i]),
                          b = frechet_part(job->q->n, job->order_q, job->groups, &job->task[i]);

        job->work_size = MAX(job->work_size, frechet_room(job->p->D, &a, &b));
    }
    job->work = fm_alloc((size_t)threads * job->work_size * sizeof *job->work);
    return job->work != NULL;
}

static void
frechet_job_clear(FrechetJob *job)
{
    fm_free(job->work);
    fm_free(job->task);
    fm_free(job->order_p);
}

/* ---- the law near P = Q ---- */

/* P and Q near each other have in the axes of S = (Sp + Sq) / 2, with variances a_i, the distance
 *   |mp - mq|^2 + sum_ij (Sp - Sq)_ij^2 / (2 (a_i + a_j)) = |mean f(x) - mean f(y)|^2,
 * f(x) = (x_i, x_i x_j / sqrt(2 (a_i + a_j))) of the centred row. Away from there each row's influence is
 *   2 (mp - mq).x + x^T (I - T) x,  and  -2 (mp - mq).y + y^T (I - T^-1) y,
 * T = A^-1 (A Sq A^T)^1/2 A^-T with Sp = A^T A, the matrix that takes N(0, Sp) to N(0, Sq). */
typedef struct FrechetLaw {
    size_t D;
    double *mean[2], *cov[2];          /* (D), (D, D) */
    double *axes, *a;                  /* (D, D) rows, (D) */
    double *map[2], *gain;             /* x^T T x = sum gain (map[0] x)^2, y^T T^-1 y = sum (map[1] y)^2 / gain */
    double *x, *z;                     /* (D) a row, centred and turned */
    double first, second, bias, scale; /* what fm_estimate_interval() takes */
} FrechetLaw;

static void
frechet_multiply(size_t D, const double *rows, const double *x, double *out)
{
    for (size_t i = 0; i < D; i++) {
        out[i] = 0.0;
        for (size_t d = 0; d < D; d++)
            out[i] += rows[i * D + d] * x[d];
    }
}

/* FALSE: a covariance is singular. work (2, D, D). */
static gboolean
frechet_law_maps(FrechetLaw *l, double *work)
{
    const size_t D = l->D;
    double *A = l->map[1], *inverse = l->map[0], *w = l->gain, *product = work, *U = work + D * D;

    for (size_t i = 0; i < D * D; i++)
        l->axes[i] = 0.5 * (l->cov[0][i] + l->cov[1][i]);
    memcpy(A, l->cov[0], D * D * sizeof *A);
    if (!fm_linalg_eigen(D, l->axes, l->a) || !fm_linalg_eigen(D, A, w))
        return FALSE;
    for (size_t i = 0; i < D; i++) {
        if (!(w[i] > 1e-10 * w[D - 1]) || !(l->a[i] > 0.0))
            return FALSE;
        for (size_t d = 0; d < D; d++) {
            inverse[i * D + d] = A[i * D + d] / sqrt(w[i]);
            A[i * D + d] *= sqrt(w[i]);
        }
    }
    fm_linalg_gemm_f64(FALSE, D, D, D, 1.0, A, l->cov[1], 0.0, product);
    fm_linalg_gemm_f64(TRUE, D, D, D, 1.0, product, A, 0.0, U);
    for (size_t i = 0; i < D; i++)
        for (size_t j = 0; j < i; j++)
            U[i * D + j] = U[j * D + i] = 0.5 * (U[i * D + j] + U[j * D + i]);
    if (!fm_linalg_eigen(D, U, w))
        return FALSE;
    memcpy(product, inverse, D * D * sizeof *product);
    fm_linalg_gemm_f64(FALSE, D, D, D, 1.0, U, product, 0.0, inverse);
    memcpy(product, A, D * D * sizeof *product);
    fm_linalg_gemm_f64(FALSE, D, D, D, 1.0, U, product, 0.0, A);
    for (size_t i = 0; i < D; i++) {
        if (!(w[i] > 1e-10 * w[D - 1]))
            return FALSE;
        w[i] = sqrt(w[i]);
    }
    return TRUE;
}

/* Adds one sample's part to the variance of first order and to the bias. */
static void
frechet_law_rows(FrechetLaw *l, const FmSamples *s, int which)
{
    const size_t D = l->D;
    const double n = (double)s->n;
    double sum = 0.0, sum2 = 0.0, length = 0.0, mean = 0.0;

    for (size_t r = 0; r < s->n; r++) {
        double value = 0.0;

        for (size_t d = 0; d < D; d++) {
            l->x[d] = s->x[r * D + d] - l->mean[which][d];
            value += l->x[d] * (l->x[d] + (which ? -2.0 : 2.0) * (l->mean[0][d] - l->mean[1][d]));
        }
        frechet_multiply(D, l->map[which], l->x, l->z);
        for (size_t i = 0; i < D; i++)
            value -= l->z[i] * l->z[i] * (which ? 1.0 / l->gain[i] : l->gain[i]);
        sum += value / n;
        sum2 += value * value / n;
        frechet_multiply(D, l->axes, l->x, l->z);
        for (size_t i = 0; i < D; i++) {
            const double square = l->z[i] * l->z[i];

            length += square / n;
            for (size_t j = 0; j <= i; j++)
                length += square * l->z[j] * l->z[j] / ((j < i ? 1.0 : 2.0) * (l->a[i] + l->a[j]) * n);
        }
    }
    for (size_t i = 0; i < D; i++) { /* the covariance in the axes, row by row */
        frechet_multiply(D, l->cov[which], l->axes + i * D, l->x);
        frechet_multiply(D, l->axes, l->x, l->z);
        for (size_t j = 0; j < D; j++)
            mean += l->z[j] * l->z[j] / (2.0 * (l->a[i] + l->a[j]));
    }
    l->first += MAX(sum2 - sum * sum, 0.0) / n;
    l->bias += (length - mean) / n;
}

/* f of the first rows of one sample, less its mean and times the root of the row's weight: (rows, F). */
static void
frechet_law_features(FrechetLaw *l, const FmSamples *s, int which, size_t rows, double *f)
{
    const size_t D = l->D, F = D + D * (D + 1) / 2;
    const double weight = 1.0 / sqrt((double)s->n * (double)rows);

    for (size_t r = 0; r < rows; r++) {
        double *at = f + r * F;

        for (size_t d = 0; d < D; d++)
            l->x[d] = s->x[r * D + d] - l->mean[which][d];
        frechet_multiply(D, l->axes, l->x, at);
        for (size_t i = 0, k = D; i < D; i++)
            for (size_t j = 0; j <= i; j++)
                at[k++] = at[i] * at[j] / sqrt((j < i ? 1.0 : 2.0) * (l->a[i] + l->a[j]));
    }
    for (size_t k = 0; k < F; k++) {
        double mean = 0.0;

        for (size_t r = 0; r < rows; r++)
            mean += f[r * F + k] / (double)rows;
        for (size_t r = 0; r < rows; r++)
            f[r * F + k] = weight * (f[r * F + k] - mean);
    }
}

/* The weights of the quadratic form: second = 2 sum l^2, and their scale. */
static gboolean
frechet_law_weights(FrechetLaw *l, const FmSamples *p, const FmSamples *q)
{
    const size_t F = l->D + l->D * (l->D + 1) / 2, n = MIN(p->n, FRECHET_LAW_ROWS), m = MIN(q->n, FRECHET_LAW_ROWS),
                 N = n + m;
    double *f = fm_alloc((N * F + 2 * N * N) * sizeof *f), *a = f + N * F;

    if (f == NULL)
        return FALSE;
    frechet_law_features(l, p, 0, n, f);
    frechet_law_features(l, q, 1, m, f + n * F);
    fm_linalg_gemm_f64(TRUE, N, N, F, 1.0, f, f, 0.0, a);
    l->scale = fm_estimate_scale(N, a, a + N * N);
    for (size_t i = 0; i < N * N; i++) /* the diagonal is 0 by now */
        l->second += 2.0 * a[i] * a[i] * (double)N / ((double)N - 1.0);
    l->first -= 2.0 * l->second; /* noise of the influence */
    fm_free(f);
    return TRUE;
}

/* FALSE: no memory, or a covariance that is singular. */
static gboolean
frechet_law(const FmSamples *p, const FmSamples *q, FrechetLaw *law)
{
    const FrechetRows all_p = {.hi = p->n, .skip = p->n, .skip_end = p->n},
                      all_q = {.hi = q->n, .skip = q->n, .skip_end = q->n};
    const size_t D = p->D, n = MAX(p->n, q->n);
    double *work = fm_alloc((6 * D + 7 * D * D + MAX(D * n, 2 * D * D)) * sizeof *work), *at = work;
    FrechetLaw l = {.D = D};
    double **narrow[] = {&l.mean[0], &l.mean[1], &l.a, &l.gain, &l.x, &l.z},
           **square[] = {&l.cov[0], &l.cov[1], &l.axes, &l.map[0], &l.map[1]};

    for (size_t i = 0; work && i < G_N_ELEMENTS(narrow); i++, at += D)
        *narrow[i] = at;
    for (size_t i = 0; work && i < G_N_ELEMENTS(square); i++, at += D * D)
        *square[i] = at;
    if (work) {
        frechet_moments(p, &all_p, l.mean[0], l.cov[0], at);
        frechet_moments(q, &all_q, l.mean[1], l.cov[1], at);
    }
    gboolean ok = work && frechet_law_maps(&l, at);
    if (ok) {
        frechet_law_rows(&l, p, 0);
        frechet_law_rows(&l, q, 1);
        ok = frechet_law_weights(&l, p, q);
    }
    *law = l;
    fm_free(work);
    return ok;
}

/* ---- from distances to the estimate ---- */

/* Mean distance of m parts without group g. */
static double
frechet_mean(const FrechetJob *job, int group, size_t parts)
{
    double sum = 0.0;

    for (size_t i = 0; i < job->n_tasks; i++)
        if (job->task[i].group == group && job->task[i].parts == parts)
            sum += job->task[i].value;
    return sum / (double)parts;
}

/* The least-squares line through (m, mean distance of m parts), m = 1 .. parts, at m = 0; for one part
 * the distance itself. */
static double
frechet_intercept(const FrechetJob *job, int group, size_t parts)
{
    const double M = (double)parts, centre = 0.5 * (M + 1.0);
    double mean = 0.0, slope = 0.0;

    if (parts == 1)
        return frechet_mean(job, group, 1);
    for (size_t m = 1; m <= parts; m++) {
        const double v = frechet_mean(job, group, m);

        mean += v / M;
        slope += ((double)m - centre) * v * 12.0 / (M * (M * M - 1.0));
    }
    return mean - centre * slope;
}

static void
frechet_finish(const FrechetJob *job, size_t whole_parts, size_t parts, FmEstimate *out)
{
    const double G = (double)job->groups, whole = frechet_mean(job, -1, 1);
    double pseudo[FRECHET_GROUPS];

    out->value = frechet_intercept(job, -1, parts);
    if (!isfinite(out->value)) {
        out->value = NAN;
        g_strlcpy(out->why, "the eigenvalues of a covariance did not converge", sizeof out->why);
        return;
    }
    if (parts > 1) {
        fm_estimate_number(out, "extrapolated from parts", (double)parts);
        fm_estimate_number(out, "at all rows", whole);
    }
    if (whole_parts > 1)
        fm_estimate_number(out, parts > 1 ? "bias of that" : "bias estimate", frechet_mean(job, -1, 2) - whole);
    for (size_t g = 0; g < job->groups; g++)
        pseudo[g] = G * out->value - (G - 1.0) * frechet_intercept(job, (int)g, parts);
    if (job->groups > 0)
        out->se = fm_estimate_block_se(pseudo, job->groups);
    if (!isfinite(out->se))
        out->se = NAN;
}

/* The estimate from rows in the space where they are compared. */
static gboolean
frechet_compare(const Frechet *f, const FmSamples *p, const FmSamples *q, FmKey key, int threads, FmEstimate *out,
                GError **error)
{
    const size_t n = MIN(p->n, q->n), parts = MAX(1, (size_t)f->extrapolate);
    size_t whole_parts = MAX(parts, n / 2 >= FRECHET_ROWS ? 2 : 1);
    FrechetJob job = {.p = p, .q = q, .groups = (size_t)f->groups};
    FrechetLaw law;
    gboolean ok, by_law;

    if (parts > 1 && n / parts < 2 * FRECHET_ROWS) {
        g_set_error(error, FM_ERROR, FM_ERROR_DATA,
                    "divergence 'frechet': %zu rows in %zu parts, expected at least %d rows a part", n, parts,
                    2 * FRECHET_ROWS);
        return FALSE;
    }
    if (job.groups == 1 || job.groups > n / FRECHET_ROWS)
        job.groups = 0;
    by_law =
        job.groups > 0 && parts == 1 && p->D <= FRECHET_LAW_D && n > FRECHET_LAW_EACH * p->D && frechet_law(p, q, &law);
    if (by_law)
        job.groups = 0;
    fm_estimate_number(out, "columns", (double)p->D);
    ok = frechet_job_init(&job, whole_parts, parts, key, threads);
    if (!ok)
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "divergence 'frechet': no memory for %zu x %zu values",
                    MAX(p->n, q->n), p->D);
    else {
        fm_parallel(threads, job.n_tasks, frechet_run_task, &job);
        frechet_finish(&job, whole_parts, parts, out);
        if (by_law && isfinite(out->value)) {
            out->se = sqrt(MAX(law.first, 0.0) + law.second);
            fm_estimate_interval(out, law.bias, law.first, law.second, law.scale);
        } else if (isnan(out->se))
            fm_estimate_text(out, "error bar",
                             f->groups > 1    ? "none: too few rows"
                             : f->groups == 1 ? "none: groups=1"
                                              : "none: groups=0");
        if (n / whole_parts <= p->D)
            fm_estimate_text(out, "covariances",
                             n <= p->D ? "singular: no more rows than columns"
                                       : "of parts, singular: no more rows than columns");
    }
    frechet_job_clear(&job);
    return ok;
}

/* ---- the space ---- */

static FmFeatures *
frechet_open(const Frechet *f, size_t D, int threads, GError **error)
{
    const gboolean file = g_str_has_suffix(f->features, ".safetensors");
    const char *wrong = f->space                  ? "space"
                        : file && f->layer        ? "layer"
                        : !file && f->stack       ? "stack"
                        : !file && f->shape.n > 0 ? "shape"
                                                  : NULL;
    FmFeatures *features;

    if (wrong) {
        g_set_error(error, FM_ERROR, FM_ERROR_OPTION,
                    "divergence 'frechet': option '%s' was given beside features of a %s, expected %s", wrong,
                    file ? "classifier" : "run", file ? "stack and shape" : "layer and time");
        return NULL;
    }
    features = file ? fm_features_stack(f->features, f->stack, f->shape.v, f->shape.n, D, threads, error)
                    : fm_features_run(f->features, f->layer, f->time, threads, error);
    if (features && fm_features_in(features) != D) {
        g_set_error(error, FM_ERROR, FM_ERROR_SHAPE,
                    "divergence 'frechet': rows have %zu values, and those of '%s' %zu, expected the same", D,
                    f->features, fm_features_in(features));
        g_clear_pointer(&features, fm_features_free);
    }
    return features;
}

/* Both samples as features; the estimate of these. */
static gboolean
frechet_in_space(const Frechet *f, const FmSamples *p, const FmSamples *q, FmKey key, int threads, FmEstimate *out,
                 GError **error)
{
    g_autoptr(FmFeatures) features = frechet_open(f, p->D, threads, error);
    const FmKey noise = {.seed = key.seed, .stream = key.stream, .step = key.step + 2},
                noise_q = {.seed = key.seed, .stream = key.stream, .step = key.step + 3};
    FmSamples a = *p, b = *q;
    double *x, *y;
    char weights[64];
    gboolean ok;

    if (!features)
        return FALSE;
    a.D = b.D = fm_features_out(features);
    x = fm_alloc(a.n * a.D * sizeof *x);
    y = fm_alloc(b.n * b.D * sizeof *y);
    a.x = x;
    b.x = y;
    ok = x && y;
    if (!ok)
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "divergence 'frechet': no memory for %zu x %zu features",
                    a.n + b.n, a.D);
    fm_estimate_text(out, "features", fm_features_name(features));
    g_snprintf(weights, sizeof weights, "sha256 %.32s...", fm_features_digest(features));
    fm_estimate_text(out, "weights", weights);
    ok = ok && fm_features_eval(features, p->n, p->x, noise, x, error) &&
         fm_features_eval(features, q->n, q->x, noise_q, y, error) &&
         frechet_compare(f, &a, &b, key, threads, out, error);
    fm_free(x);
    fm_free(y);
    return ok;
}

static gboolean
frechet_estimate(const void *self, const FmSamples *p, const FmSamples *q, FmKey key, int threads, FmEstimate *out,
                 GError **error)
{
    const Frechet *f = self;

    out->n = p->n;
    if (f->features)
        return frechet_in_space(f, p, q, key, threads, out, error);
    if (f->layer || f->stack || f->shape.n > 0 || f->time != 1.0) {
        g_set_error(error, FM_ERROR, FM_ERROR_OPTION,
                    "divergence 'frechet': option '%s' was given without 'features', expected a run or a file "
                    "there",
                    f->layer         ? "layer"
                    : f->stack       ? "stack"
                    : f->shape.n > 0 ? "shape"
                                     : "time");
        return FALSE;
    }
    fm_estimate_text(out, "features", f->space ? f->space : "the data's own columns (pixels for images)");
    return frechet_compare(f, p, q, key, threads, out, error);
}

static const FmDivergenceOps frechet_ops = {.estimate = frechet_estimate};

static const FmFact frechet_facts[] = {
    {"bias", "upwards, a + b / n: `bias estimate`, from halves; extrapolate=4 removes it; small only when "
             "a part has several times more rows than columns"},
    {"error", "delta method and `low`, `high` up to 64 columns; else jackknife, t interval; without the bias"},
    {"features", "named in the result; not the Inception distance FID, whatever they are"},
    {NULL, NULL},
};

FM_PLUGIN_DECLARE(DIVERGENCE, frechet, "frechet", frechet_ops, .self_size = sizeof(Frechet), .options = frechet_options,
                  .summary = "squared Frechet distance of the samples' Gaussians, in a named feature space",
                  .source = "Dowson & Landau 1982, doi:10.1016/0047-259X(82)90077-X, eq. 16; "
                            "Chong & Forsyth 2020, arXiv:1911.07023 (extrapolation)",
                  .facts = frechet_facts);
