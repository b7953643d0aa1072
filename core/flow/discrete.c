/* discrete.c: the density of samples as a solver with fixed steps makes them.
 * n steps of a Runge-Kutta method are a map x0 -> x1. Its derivative is what the same method makes
 * of the variational equation dM/dt = (dv/dx) M, M(0) = I, along with x (Hairer, Norsett & Wanner,
 * Solving Ordinary Differential Equations I, doi:10.1007/978-3-540-78862-1, sec. II.6), so that
 * log q(x1) = log p0(x0) - log|det M| holds to rounding, at any number of steps. */
#include "flow/integrate.h"

#include <math.h>
#include <string.h>

/* LU with partial pivoting in place, a (D, D): log|det a|; -INFINITY when singular. */
static double
discrete_factor(size_t D, double *a, size_t *pivot)
{
    double log_det = 0.0;

    for (size_t k = 0; k < D; k++) {
        size_t p = k;

        for (size_t i = k + 1; i < D; i++)
            if (fabs(a[i * D + k]) > fabs(a[p * D + k]))
                p = i;
        pivot[k] = p;
        for (size_t j = 0; p != k && j < D; j++) {
            const double swap = a[k * D + j];
            a[k * D + j] = a[p * D + j];
            a[p * D + j] = swap;
        }
        if (a[k * D + k] == 0.0)
            return -INFINITY;
        log_det += log(fabs(a[k * D + k]));
        for (size_t i = k + 1; i < D; i++) {
            const double factor = a[i * D + k] /= a[k * D + k];
            for (size_t j = k + 1; j < D; j++)
                a[i * D + j] -= factor * a[k * D + j];
        }
    }
    return log_det;
}

/* b (D) becomes the solution of a b' = b, from discrete_factor()'s a. */
static void
discrete_solve(size_t D, const double *a, const size_t *pivot, double *b)
{
    for (size_t k = 0; k < D; k++) {
        const double swap = b[k];
        b[k] = b[pivot[k]];
        b[pivot[k]] = swap;
    }
    for (size_t i = 0; i < D; i++)
        for (size_t j = 0; j < i; j++)
            b[i] -= a[i * D + j] * b[j];
    for (size_t i = D; i-- > 0;) {
        for (size_t j = i + 1; j < D; j++)
            b[i] -= a[i * D + j] * b[j];
        b[i] /= a[i * D + i];
    }
}

/* What both directions work on: rows of (x, M) and the numbers of one row in double. */
typedef struct Discrete {
    FmFlow *flow;
    FmDtype dtype;
    size_t D, W, size, n;
    char *state;      /* (n, W) in the run's dtype */
    double *jacobian; /* (D, D) of one row: a[d][k] = d x_d / d x0_k */
    size_t *pivot;    /* (D) */
} Discrete;

static gboolean
discrete_init(Discrete *d, FmFlow *flow, size_t n, GError **error)
{
    const size_t D = flow->run->data.D;

    if (fm_solver_is_adaptive(flow->solver)) {
        g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                    "likelihood 'map': solver '%s' chooses its steps by the state, expected one with "
                    "fixed steps (option step)",
                    fm_plugin_name(flow->solver));
        return FALSE;
    }
    if (fm__flow_velocity_products(flow, error) == NULL)
        return FALSE;
    *d = (Discrete){.flow = flow, .dtype = flow->run->config->dtype, .D = D, .W = D + D * D, .n = n};
    d->size = fm_dtype_size(d->dtype);
    d->state = fm__need("likelihood 'map'", n, d->W, d->size, error);
    if (d->state == NULL)
        return FALSE;
    d->jacobian = g_new(double, D *D);
    d->pivot = g_new(size_t, D);
    return TRUE;
}

static void
discrete_clear(Discrete *d)
{
    fm_free(d->state);
    g_free(d->jacobian);
    g_free(d->pivot);
}

/* M = I in rows 0 .. n - 1. */
static void
discrete_identity(Discrete *d, size_t n)
{
    for (size_t r = 0; r < n; r++)
        for (size_t i = 0; i < d->D * d->D; i++) {
            const double value = i % (d->D + 1) == 0 ? 1.0 : 0.0;
            fm_convert(FM_F64, &value, d->dtype, d->state + (r * d->W + d->D + i) * d->size, 1);
        }
}

static gboolean
discrete_forward(Discrete *d, size_t n, const int *labels, FmSolveStat *stat, GError **error)
{
    const FmIntegration problem = {
        .flow = d->flow, .tangents = TRUE, .forward = TRUE, .n = n, .labels = labels, .state = d->state, .stat = stat};

    discrete_identity(d, n);
    return fm__integrate(&problem, error);
}

/* log|det M| of row r, whose factors stay in d->jacobian. */
static double
discrete_log_det(Discrete *d, size_t r)
{
    const size_t D = d->D;
    double column[FM__MAX_TANGENTS];

    for (size_t k = 0; k < D; k++) { /* tangent k is column k */
        fm_convert(d->dtype, d->state + (r * d->W + (k + 1) * D) * d->size, FM_F64, column, D);
        for (size_t i = 0; i < D; i++)
            d->jacobian[i * D + k] = column[i];
    }
    return discrete_factor(D, d->jacobian, d->pivot);
}

gboolean
fm__discrete_sample(FmFlow *flow, size_t n, guint64 seed, const double *x0, const int *labels, double *x, double *log_q,
                    FmSolveStat *stat, GError **error)
{
    Discrete d = {0};

    if (!discrete_init(&d, flow, n, error))
        return FALSE;
    const gboolean ok = fm__sample_start(flow, n, d.W, seed, x0, d.state, error) &&
                        fm__sample_base(flow, n, d.W, d.state, log_q, error) &&
                        discrete_forward(&d, n, labels, stat, error);
    if (ok)
        fm__sample_to_data(flow->run, n, d.W, d.state, x);
    for (size_t r = 0; ok && r < n; r++)
        log_q[r] = stat[r].status == FM_SOLVE_OK ? log_q[r] - discrete_log_det(&d, r) : NAN;
    discrete_clear(&d);
    return ok;
}

/* ---- the inverse: x0 with map(x0) = x, by Newton's method with step halving ---- */

/* Per row: the point, where it should arrive, and how the search goes. */
typedef struct Newton {
    size_t n, active;
    double *x, *z, *step; /* (n, D) target, origin, last step */
    double *residual;     /* (n) largest component of map(z) - x; INFINITY before the first */
    double *log_det;      /* (n); NAN until found */
    size_t *row;          /* (n) rows still searched */
    int *labels;          /* (n) of the rows searched, or NULL */
    guint32 *nfe;         /* (n) of the map */
} Newton;

static gboolean
newton_init(Newton *w, const Discrete *d, size_t n, gboolean labels, GError **error)
{
    const char *who = "likelihood 'map'";

    w->n = w->active = n;
    if ((w->x = fm__need(who, n, d->D, sizeof(double), error)) == NULL ||
        (w->z = fm__need(who, n, d->D, sizeof(double), error)) == NULL ||
        (w->step = fm__need(who, n, d->D, sizeof(double), error)) == NULL ||
        (w->residual = fm__need(who, n, 1, sizeof(double), error)) == NULL ||
        (w->log_det = fm__need(who, n, 1, sizeof(double), error)) == NULL ||
        (w->row = fm__need(who, n, 1, sizeof(size_t), error)) == NULL ||
        (w->nfe = fm__need(who, n, 1, sizeof(guint32), error)) == NULL ||
        (labels && (w->labels = fm__need(who, n, 1, sizeof(int), error)) == NULL))
        return FALSE;
    for (size_t r = 0; r < n; r++) {
        w->row[r] = r;
        w->residual[r] = INFINITY;
        w->log_det[r] = NAN;
        w->nfe[r] = 0;
    }
    memset(w->step, 0, n * d->D * sizeof(double));
    return TRUE;
}

static void
newton_clear(Newton *w)
{
    fm_free(w->x);
    fm_free(w->z);
    fm_free(w->step);
    fm_free(w->residual);
    fm_free(w->log_det);
    fm_free(w->row);
    fm_free(w->nfe);
    fm_free(w->labels);
}

/* One try of row r, which lies in place i: TRUE ends the search. */
static gboolean
newton_judge(Newton *w, Discrete *d, size_t i, size_t r, double tol)
{
    const size_t D = d->D;
    double *z = w->z + r * D, *step = w->step + r * D, off[FM__MAX_TANGENTS];
    double worst = 0.0, scale = 1.0;

    fm_convert(d->dtype, d->state + i * d->W * d->size, FM_F64, off, D);
    for (size_t k = 0; k < D; k++) {
        off[k] -= w->x[r * D + k];
        worst = fmax(worst, fabs(off[k]));
        scale = fmax(scale, fabs(w->x[r * D + k]));
        if (isnan(off[k]))
            worst = INFINITY;
    }
    if (!(worst < w->residual[r])) { /* too far: half the step from where it was */
        double length = 0.0;

        for (size_t k = 0; k < D; k++) {
            step[k] *= 0.5;
            z[k] += step[k];
            length = fmax(length, fabs(step[k]));
        }
        return length < 0.01 * tol; /* as near as it gets */
    }
    w->residual[r] = worst;
    w->log_det[r] = discrete_log_det(d, i);
    if (worst <= tol * scale)
        return TRUE;
    if (isinf(w->log_det[r]))
        return FALSE;
    discrete_solve(D, d->jacobian, d->pivot, off);
    for (size_t k = 0; k < D; k++) {
        step[k] = off[k];
        z[k] -= step[k];
    }
    return FALSE;
}

/* Search all rows; those without an origin keep a large residual. */
static gboolean
newton_run(Newton *w, Discrete *d, const int *labels, FmSolveStat *stat, double tol, GError **error)
{
    enum { TRIES = 60 };

    for (int try = 0; try < TRIES && w->active > 0; try++) {
        size_t left = 0;

        for (size_t i = 0; i < w->active; i++) {
            fm_convert(FM_F64, w->z + w->row[i] * d->D, d->dtype, d->state + i * d->W * d->size, d->D);
            if (labels != NULL)
                w->labels[i] = labels[w->row[i]];
        }
        if (!discrete_forward(d, w->active, labels != NULL ? w->labels : NULL, stat, error))
            return FALSE;
        for (size_t i = 0; i < w->active; i++) {
            const size_t r = w->row[i];

            w->nfe[r] = stat[i].nfe; /* of one sample, not of the search */
            if (!newton_judge(w, d, i, r, tol))
                w->row[left++] = r;
        }
        w->active = left;
    }
    return TRUE;
}

/* The flow backwards is where the search begins. */
static gboolean
newton_start(Newton *w, Discrete *d, const double *x, const int *labels, FmSolveStat *stat, GError **error)
{
    const FmIntegration back = {.flow = d->flow, .n = w->n, .labels = labels, .state = d->state, .stat = stat};

    fm__data_to_model(d->flow->run, w->n, d->D, x, d->state);
    fm_convert(d->dtype, d->state, FM_F64, w->x, w->n * d->D);
    if (!fm__integrate(&back, error))
        return FALSE;
    fm_convert(d->dtype, d->state, FM_F64, w->z, w->n * d->D);
    return TRUE;
}

gboolean
fm__discrete_log_density(FmFlow *flow, size_t n, const double *x, const int *labels, double *log_q, double *z,
                         FmSolveStat *stat, GError **error)
{
    Discrete d = {0};
    Newton w = {0};
    const double tol = flow->run->config->dtype == FM_F32 ? 2e-6 : 1e-12;
    const gboolean ok = discrete_init(&d, flow, n, error) && newton_init(&w, &d, n, labels != NULL, error) &&
                        newton_start(&w, &d, x, labels, stat, error) && newton_run(&w, &d, labels, stat, tol, error);

    for (size_t r = 0; ok && r < n; r++) {
        double scale = 1.0;
        for (size_t k = 0; k < d.D; k++)
            scale = fmax(scale, fabs(w.x[r * d.D + k]));
        const gboolean found = w.residual[r] <= 10.0 * tol * scale; /* rounding in the map */
        log_q[r] = found ? -w.log_det[r] : NAN;
        memcpy(z + r * d.D, w.z + r * d.D, d.D * sizeof(double));
        stat[r] = (FmSolveStat){.status = found ? FM_SOLVE_OK : FM_SOLVE_NOT_FINITE, .nfe = w.nfe[r], .accepted = 1};
    }
    newton_clear(&w);
    discrete_clear(&d);
    return ok;
}
