/* stepper.c: explicit Runge-Kutta steps over a tile of rows, each with its own time and step size.
 *
 * A round tries one step of every active row. Rows that finish are written to the caller and
 * replaced by the last active row, so that the field sees active rows only. */
#include "flow/stepper.h"

#include <math.h>
#include <string.h>

/* ---- set-up ---- */

static gboolean
stepper_needs_end(const FmSolve *p, const FmTableau *tab)
{
    return p->n_out > 0 && tab->dense == NULL && !tab->fsal;
}

/* Does stage j enter the solution, its error estimate or dense output? */
static gboolean
stepper_counts(const FmSolve *p, const FmTableau *tab, int j)
{
    gboolean counts = tab->b[j] != 0.0 || (tab->e != NULL && tab->e[j] != 0.0);

    if (p->n_out > 0 && tab->dense == NULL) /* Hermite takes both ends */
        counts = counts || j == 0;
    else if (p->n_out > 0)
        for (int l = 0; l < tab->dense_degree; l++)
            counts = counts || tab->dense[(size_t)j * tab->dense_degree + l] != 0.0;
    return counts;
}

/* Buffers of k: the first step size needs two. */
static int
stepper_n_k(const FmSolve *p, const FmTableau *tab)
{
    return MAX(tab->stages + (stepper_needs_end(p, tab) ? 1 : 0), 2);
}

static size_t
stepper_round(size_t bytes)
{
    return (bytes + FM_ALIGN - 1) / FM_ALIGN * FM_ALIGN;
}

size_t
fm__stepper_work(const FmSolve *p)
{
    const int n_k = stepper_n_k(p, fm_solver_tableau(p->solver));
    const size_t tile = stepper_round(p->n * p->D * fm_dtype_size(p->dtype));

    return 3 * stepper_round(p->n * 8) + stepper_round(p->n * sizeof(FmStepRow)) + (size_t)(4 + n_k) * tile;
}

G_STATIC_ASSERT(sizeof(size_t) <= 8);

static void *
stepper_take(char **work, size_t bytes)
{
    void *memory = *work;

    *work += stepper_round(bytes);
    return memory;
}

void
fm__stepper_init(FmStepper *s, const FmSolve *p, void *x, FmSolveStat *stat, void *work)
{
    const FmTableau *tab = fm_solver_tableau(p->solver);
    const size_t tile = p->n * p->D * fm_dtype_size(p->dtype);
    const int n_k = stepper_n_k(p, tab);
    char *w = work;

    *s = (FmStepper){.p = p, .tab = tab, .x_out = x, .stat = stat, .m = p->n};
    s->kernels = p->dtype == FM_F32 ? &fm__step_kernels_f32 : &fm__step_kernels_f64;
    if (fm_solver_is_adaptive(p->solver))
        s->adaptive = fm_plugin_self(p->solver);
    else
        s->step = ((const FmFixedOptions *)fm_plugin_self(p->solver))->step;
    s->dir = p->t1 < p->t0 ? -1.0 : 1.0;
    s->uniform = s->adaptive == NULL || s->adaptive->stepping == 1;
    s->end_stage = stepper_needs_end(p, tab);
    s->last = s->end_stage ? tab->stages : tab->fsal ? tab->stages - 1 : -1;
    s->width = p->error_width > 0 && p->error_width < p->D ? p->error_width : p->D;
    s->row_bytes = p->D * fm_dtype_size(p->dtype);
    s->row = stepper_take(&w, p->n * 8);
    s->t_stage = stepper_take(&w, p->n * 8);
    s->pick = stepper_take(&w, p->n * 8);
    s->rows = stepper_take(&w, p->n * sizeof(FmStepRow));
    s->x = stepper_take(&w, tile);
    s->y = stepper_take(&w, tile);
    s->h = stepper_take(&w, tile);
    s->e = stepper_take(&w, tile);
    for (int i = 0; i < n_k; i++)
        s->k[i] = stepper_take(&w, tile);
    for (int j = 0; j < tab->stages; j++)
        s->counts[j] = stepper_counts(p, tab, j);
    if (s->last > 0 || s->adaptive != NULL)
        s->counts[0] = TRUE; /* it comes from the step before, or chooses the first one */
    if (s->last > 0)
        s->counts[s->last] = TRUE;
    memcpy(s->x, x, tile);
    for (size_t i = 0; i < p->n; i++) {
        s->row[i] = i;
        s->rows[i] = (FmStepRow){.t = p->t0, .err_prev = 1.0};
        stat[i] = (FmSolveStat){.status = FM_SOLVE_OK, .t = p->t0};
    }
}

/* ---- rows leave ---- */

static char *
stepper_out(const FmStepper *s, size_t i, size_t j)
{
    return (char *)s->p->out + (s->row[i] * s->p->n_out + j) * s->row_bytes;
}

static void
stepper_write(FmStepper *s, size_t i, FmSolveStatus status)
{
    const size_t r = s->row[i];

    memcpy(s->x_out + r * s->row_bytes, s->x + i * s->row_bytes, s->row_bytes);
    s->stat[r].t = s->rows[i].t;
    s->stat[r].status = status;
    for (; s->rows[i].next_out < s->p->n_out; s->rows[i].next_out++)
        memcpy(stepper_out(s, i, s->rows[i].next_out), s->x + i * s->row_bytes, s->row_bytes);
}

/* Row i is done; the last active row takes its place. */
static void
stepper_retire(FmStepper *s, size_t i, FmSolveStatus status)
{
    const size_t last = s->m - 1, b = s->row_bytes;

    stepper_write(s, i, status);
    if (i != last) {
        memcpy(s->x + i * b, s->x + last * b, b);
        memcpy(s->k[0] + i * b, s->k[0] + last * b, b);
        s->rows[i] = s->rows[last];
        s->row[i] = s->row[last];
    }
    s->m--;
}

/* ---- stages ---- */

static gboolean
stepper_field(FmStepper *s, size_t n, const size_t *row, const void *y, void *k, gboolean counts)
{
    const FmField *f = &s->p->field;

    return (counts || f->eval_part == NULL ? f->eval : f->eval_part)(f->ctx, n, row, s->t_stage, y, k);
}

gboolean
fm__stepper_eval(FmStepper *s, const void *y, int i, gboolean counts)
{
    for (size_t j = 0; j < s->m; j++)
        s->stat[s->row[j]].nfe++;
    return stepper_field(s, s->m, s->row, y, s->k[i], counts);
}

/* k[0] where it is missing. Rows that keep theirs (rejected steps) are left out. */
static gboolean
stepper_first_stage(FmStepper *s)
{
    const size_t b = s->row_bytes;
    size_t n = 0;

    for (size_t i = 0; i < s->m; i++)
        if (!s->rows[i].has_k1)
            s->pick[n++] = i;
    if (n == 0)
        return TRUE;
    if (n == s->m) {
        for (size_t i = 0; i < s->m; i++) {
            s->t_stage[i] = s->rows[i].t;
            s->rows[i].has_k1 = TRUE;
        }
        return fm__stepper_eval(s, s->x, 0, s->counts[0]);
    }
    /* y and k[1] are free now: gather, evaluate, scatter; pick turns into row numbers meanwhile */
    for (size_t j = 0; j < n; j++) {
        const size_t i = s->pick[j];

        memcpy(s->y + j * b, s->x + i * b, b);
        s->t_stage[j] = s->rows[i].t;
        s->pick[j] = s->row[i];
        s->stat[s->row[i]].nfe++;
    }
    if (!stepper_field(s, n, s->pick, s->y, s->k[1], s->counts[0]))
        return FALSE;
    for (size_t i = 0, j = 0; i < s->m; i++)
        if (!s->rows[i].has_k1) {
            memcpy(s->k[0] + i * b, s->k[1] + j++ * b, b);
            s->rows[i].has_k1 = TRUE;
        }
    return TRUE;
}

/* out = x + h sum_j w[j] k[j] for all active rows; zero weights cost nothing. */
static void
stepper_combine(FmStepper *s, void *out, const void *x, int n, const double *w)
{
    const void *k[FM_MAX_STAGES];
    double c[FM_MAX_STAGES];
    int m = 0;

    for (int j = 0; j < n; j++)
        if (w[j] != 0.0) {
            c[m] = w[j];
            k[m++] = s->k[j];
        }
    s->kernels->combine(s->m * s->p->D, out, x, s->h, m, c, k);
}

/* All stages of one step and the solution at its end in y. */
static gboolean
stepper_try(FmStepper *s)
{
    const FmTableau *tab = s->tab;

    if (!stepper_first_stage(s))
        return FALSE;
    s->kernels->spread(s->m, s->p->D, s->h, s->rows);
    for (int j = 1; j < tab->stages; j++) {
        for (size_t i = 0; i < s->m; i++) {
            const FmStepRow *r = &s->rows[i];

            s->t_stage[i] = tab->c[j] == 1.0 ? r->t_new : r->t + tab->c[j] * (r->t_new - r->t);
        }
        stepper_combine(s, s->y, s->x, j, tab->a + (size_t)j * tab->stages);
        if (!fm__stepper_eval(s, s->y, j, s->counts[j]))
            return FALSE;
    }
    if (!tab->fsal) /* else the last stage's state is the solution */
        stepper_combine(s, s->y, s->x, tab->stages, tab->b);
    if (!s->end_stage)
        return TRUE;
    for (size_t i = 0; i < s->m; i++)
        s->t_stage[i] = s->rows[i].t_new;
    return fm__stepper_eval(s, s->y, s->last, TRUE);
}

/* ---- a step ends ---- */

/* Error norms of the step in rows[].err; fixed steps: 0, or NaN when the state is not finite. */
static void
stepper_errors(FmStepper *s)
{
    const FmAdaptiveOptions *o = s->adaptive;
    const size_t D = s->p->D;
    double *sum = (double *)s->pick, total = 0.0; /* (m) scratch */

    if (o == NULL) {
        for (size_t i = 0; i < s->m; i++)
            s->rows[i].err = s->kernels->finite(D, s->y + i * s->row_bytes) ? 0.0 : NAN;
        return;
    }
    stepper_combine(s, s->e, NULL, s->tab->stages, s->tab->e);
    s->kernels->ratio(s->m * D, s->e, s->x, s->y, o->rtol, o->atol);
    s->kernels->squares(s->m, D, s->width, s->e, sum);
    for (size_t i = 0; i < s->m; i++) {
        if (s->width < D && !s->kernels->finite(D, s->y + i * s->row_bytes))
            sum[i] = NAN;
        total += sum[i];
        s->rows[i].err = sqrt(sum[i] / (double)s->width);
    }
    if (s->uniform)
        for (size_t i = 0; i < s->m; i++)
            s->rows[i].err = sqrt(total / ((double)s->width * (double)s->m));
}

/* Output times inside the step just accepted, x -> y. */
static void
stepper_dense(FmStepper *s, size_t i)
{
    const FmTableau *tab = s->tab;
    FmStepRow *r = &s->rows[i];
    const double h = r->t_new - r->t;
    const size_t at = i * s->row_bytes, D = s->p->D;

    for (; r->next_out < s->p->n_out; r->next_out++) {
        const double t = s->p->t_out[r->next_out], theta = (t - r->t) / h;
        char *out = stepper_out(s, i, r->next_out);
        const void *k[FM_MAX_STAGES];
        double c[FM_MAX_STAGES];

        if (s->dir * (t - r->t_new) > 0.0)
            return;
        if (theta >= 1.0) {
            memcpy(out, s->y + at, s->row_bytes);
            continue;
        }
        if (tab->dense == NULL) {
            s->kernels->hermite(D, out, theta, h, s->x + at, s->y + at, s->k[0] + at, s->k[s->last] + at);
            continue;
        }
        for (int j = 0; j < tab->stages; j++) {
            const double *b = tab->dense + (size_t)j * tab->dense_degree;

            c[j] = 0.0;
            for (int l = tab->dense_degree - 1; l >= 0; l--)
                c[j] = (c[j] + b[l]) * theta;
            k[j] = s->k[j] + at;
        }
        s->kernels->combine(D, out, s->x + at, s->h + at, tab->stages, c, k);
    }
}

static void
stepper_accept(FmStepper *s, size_t i)
{
    FmStepRow *r = &s->rows[i];
    const size_t at = i * s->row_bytes;

    stepper_dense(s, i);
    memcpy(s->x + at, s->y + at, s->row_bytes);
    if (s->last > 0)
        memcpy(s->k[0] + at, s->k[s->last] + at, s->row_bytes);
    r->has_k1 = s->last > 0;
    r->t = r->t_new;
    s->stat[s->row[i]].accepted++;
}

/* Accept or reject row i, choose its next step, retire it when it is done. */
static void
stepper_judge(FmStepper *s, size_t i)
{
    const FmAdaptiveOptions *o = s->adaptive;
    FmStepRow *r = &s->rows[i];
    FmSolveStat *stat = &s->stat[s->row[i]];
    const double tried = fabs(r->t_new - r->t);
    const int k = 1 + MIN(s->tab->order, s->tab->order_embedded);
    const gboolean accepted = r->err <= 1.0; /* FALSE for NaN */

    if (accepted)
        stepper_accept(s, i);
    else if (o == NULL) {
        stepper_retire(s, i, FM_SOLVE_NOT_FINITE);
        return;
    } else
        stat->rejected++;
    if (r->t == s->p->t1) {
        stepper_retire(s, i, FM_SOLVE_OK);
        return;
    }
    if (o == NULL)
        return;
    r->h = tried * fm__step_factor(o->control, s->tab->order, k, r->err, r->err_prev, r->was_rejected);
    r->was_rejected = !accepted;
    if (accepted)
        r->err_prev = r->err;
    if (r->h < o->step_min || r->t + s->dir * r->h == r->t)
        stepper_retire(s, i, isfinite(r->err) ? FM_SOLVE_STEP_SIZE : FM_SOLVE_NOT_FINITE);
    else if (stat->accepted + stat->rejected >= (guint32)o->max_steps)
        stepper_retire(s, i, FM_SOLVE_MAX_STEPS);
}

/* Where the next step of row i ends; the last one ends at t1 exactly. */
static void
stepper_plan(FmStepper *s, size_t i)
{
    const double t1 = s->p->t1;
    FmStepRow *r = &s->rows[i];

    if (s->adaptive == NULL) {
        /* a multiple of the step, not a sum: no drift */
        const double n = (double)s->stat[s->row[i]].accepted + 1.0;

        r->t_new = s->p->t0 + s->dir * n * s->step;
        if (s->dir * (t1 - r->t_new) < 1e-9 * s->step || r->t_new == r->t)
            r->t_new = t1;
    } else {
        /* pi: a last step may be 1 % longer rather than leave a sliver (DOPRI5) */
        const double reach = s->adaptive->control == 0 ? 1.01 * r->h : r->h;

        r->t_new = s->dir * (t1 - r->t) <= reach ? t1 : r->t + s->dir * r->h;
    }
}

/* Rows that cannot start, output at t0, first step sizes. */
static gboolean
stepper_start(FmStepper *s)
{
    const FmSolve *p = s->p;

    for (size_t i = s->m; i-- > 0;) {
        for (; s->rows[i].next_out < p->n_out && s->dir * (p->t_out[s->rows[i].next_out] - p->t0) <= 0.0;
             s->rows[i].next_out++)
            memcpy(stepper_out(s, i, s->rows[i].next_out), s->x + i * s->row_bytes, s->row_bytes);
        if (!s->kernels->finite(p->D, s->x + i * s->row_bytes))
            stepper_retire(s, i, FM_SOLVE_NOT_FINITE);
        else if (p->t0 == p->t1)
            stepper_retire(s, i, FM_SOLVE_OK);
    }
    if (s->m == 0 || s->adaptive == NULL)
        return TRUE;
    if (!stepper_first_stage(s))
        return FALSE;
    for (size_t i = s->m; i-- > 0;)
        if (!s->kernels->finite(p->D, s->k[0] + i * s->row_bytes))
            stepper_retire(s, i, FM_SOLVE_NOT_FINITE);
    if (s->m == 0)
        return TRUE;
    if (isnan(s->adaptive->step_first))
        return fm__stepper_first(s);
    for (size_t i = 0; i < s->m; i++)
        s->rows[i].h = s->adaptive->step_first;
    return TRUE;
}

gboolean
fm__stepper_run(FmStepper *s)
{
    gboolean ok = stepper_start(s);

    while (ok && s->m > 0) {
        for (size_t i = 0; i < s->m; i++)
            stepper_plan(s, i);
        ok = stepper_try(s);
        if (!ok)
            break;
        stepper_errors(s);
        for (size_t i = s->m; i-- > 0;)
            stepper_judge(s, i);
    }
    for (size_t i = 0; i < s->m; i++) /* the field failed */
        stepper_write(s, i, FM_SOLVE_NOT_FINITE);
    return ok;
}
