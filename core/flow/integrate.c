/* integrate.c: many rows through the learned field, tile by tile, one thread to a tile.
 * The state of a row is x (D), or (x, l) with dl/dt = -div v (instantaneous change of variables,
 * Chen et al. 2018, arXiv:1806.07366); the error norm of the solver covers all columns. */
#include "flow/integrate.h"

#include <math.h>
#include <string.h>

void *
fm__need(const char *who, size_t a, size_t b, size_t size, GError **error)
{
    size_t bytes = 0;
    void *memory = fm_size_mul(a, b, size, &bytes) ? fm_alloc(bytes) : NULL;

    if (memory == NULL)
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY,
                    "%s: %" G_GSIZE_FORMAT " x %" G_GSIZE_FORMAT " numbers do not fit into memory, ask for fewer rows",
                    who, a, b);
    return memory;
}

/* What one worker owns while it integrates: buffers of one tile. */
typedef struct IntegrateWorker {
    void *solve_work, *x, *t, *v, *div, *e, *probes;
    gint32 *y;
} IntegrateWorker;

typedef struct Integrate {
    const FmIntegration *p;
    const FmVelocity *velocity, *plain; /* plain: without divergence; NULL when not needed */
    size_t D, W, K, tile, size, chunks; /* chunks: passes of K unit vectors */
    double t0, t1;
    IntegrateWorker *worker;
    gint failed; /* set by any thread */
} Integrate;

/* The evaluation of one tile: which worker, which rows of the whole. */
typedef struct IntegrateTile {
    Integrate *all;
    IntegrateWorker *own;
    int worker;
    size_t row0;
} IntegrateTile;

static void
integrate_store(FmDtype dtype, void *out, size_t i, double value)
{
    if (dtype == FM_F32)
        ((float *)out)[i] = (float)value;
    else
        ((double *)out)[i] = value;
}

static double
integrate_load(FmDtype dtype, const void *in, size_t i)
{
    return dtype == FM_F32 ? (double)((const float *)in)[i] : ((const double *)in)[i];
}

/* Unit vectors k0 .. k0 + K - 1 for each of n rows: e (n, K, D); those past D are zero. */
static void
integrate_unit_vectors(const FmVelocity *v, size_t n, size_t k0, void *e)
{
    memset(e, 0, n * v->K * v->D * v->size);
    for (size_t r = 0; r < n; r++)
        for (size_t k = 0; k < v->K && k0 + k < v->D; k++)
            integrate_store(v->dtype, e, (r * v->K + k) * v->D + k0 + k, 1.0);
}

/* v and div of one tile; probes are gathered by row since finished rows have left. */
static gboolean
integrate_divergence(IntegrateTile *tile, size_t n, const size_t *row)
{
    Integrate *a = tile->all;
    IntegrateWorker *o = tile->own;
    const FmVelocity *v = a->velocity;
    const gboolean exact = a->p->how->trace == FM_TRACE_EXACT;
    const size_t width = a->K * a->D * a->size;

    if (exact && a->chunks > 1)
        integrate_unit_vectors(v, n, 0, o->e);
    if (!exact)
        for (size_t r = 0; r < n; r++)
            memcpy((char *)o->e + r * width, (char *)o->probes + row[r] * width, width);
    if (!fm__velocity_eval(v, tile->worker, n, o->x, o->t, o->y, o->e, o->v, o->div))
        return FALSE;
    for (size_t c = 1; exact && c < a->chunks; c++) {
        void *part = (char *)o->div + c * a->tile * a->size;

        integrate_unit_vectors(v, n, c * a->K, o->e);
        if (!fm__velocity_eval(v, tile->worker, n, o->x, o->t, o->y, o->e, o->v, part))
            return FALSE;
        for (size_t r = 0; r < n; r++)
            integrate_store(v->dtype, o->div, r,
                            integrate_load(v->dtype, o->div, r) + integrate_load(v->dtype, part, r));
    }
    return TRUE;
}

/* Times and labels of the active rows. */
static void
integrate_conditions(const IntegrateTile *tile, size_t n, const size_t *row, const double *t)
{
    const Integrate *a = tile->all;

    fm_convert(FM_F64, t, a->velocity->dtype, tile->own->t, n);
    if (a->p->labels != NULL)
        for (size_t r = 0; r < n; r++)
            tile->own->y[r] = a->p->labels[tile->row0 + row[r]];
}

/* Columns of n rows: `width` numbers from rows of `from` to rows of `to` numbers. */
static void
integrate_columns(FmDtype dtype, size_t n, size_t width, size_t from, const void *in, size_t to, void *out)
{
    if (dtype == FM_F32) {
        const float *x = in;
        float *y = out;

        for (size_t r = 0; r < n; r++, x += from, y += to)
            for (size_t d = 0; d < width; d++)
                y[d] = x[d];
    } else {
        const double *x = in;
        double *y = out;

        for (size_t r = 0; r < n; r++, x += from, y += to)
            for (size_t d = 0; d < width; d++)
                y[d] = x[d];
    }
}

/* (v, J e_1, ..., J e_D) at (x, e_1, ..., e_D). */
static gboolean
integrate_products(const IntegrateTile *tile, size_t n, const void *x, void *dxdt)
{
    const Integrate *a = tile->all;
    const IntegrateWorker *o = tile->own;
    const FmDtype dtype = a->velocity->dtype;
    const size_t D = a->D, square = D * D, at = D * a->size;

    integrate_columns(dtype, n, D, a->W, x, D, o->x);
    integrate_columns(dtype, n, square, a->W, (const char *)x + at, square, o->e);
    if (!fm__velocity_eval(a->velocity, tile->worker, n, o->x, o->t, o->y, o->e, o->v, o->div))
        return FALSE;
    integrate_columns(dtype, n, D, D, o->v, a->W, dxdt);
    integrate_columns(dtype, n, square, square, o->div, a->W, (char *)dxdt + at);
    return TRUE;
}

static gboolean
integrate_eval(void *ctx, size_t n, const size_t *row, const double *t, const void *x, void *dxdt)
{
    IntegrateTile *tile = ctx;
    Integrate *a = tile->all;
    IntegrateWorker *o = tile->own;
    const FmDtype dtype = a->velocity->dtype;

    integrate_conditions(tile, n, row, t);
    if (a->p->how == NULL)
        return a->p->tangents ? integrate_products(tile, n, x, dxdt)
                              : fm__velocity_eval(a->velocity, tile->worker, n, x, o->t, o->y, NULL, dxdt, NULL);
    integrate_columns(dtype, n, a->D, a->W, x, a->D, o->x);
    if (!integrate_divergence(tile, n, row))
        return FALSE;
    const double scale = a->p->how->trace == FM_TRACE_EXACT ? -1.0 : -1.0 / (double)a->K;
    integrate_columns(dtype, n, a->D, a->D, o->v, a->W, dxdt);
    for (size_t r = 0; r < n; r++)
        integrate_store(dtype, dxdt, r * a->W + a->D, scale * integrate_load(dtype, o->div, r));
    return TRUE;
}

/* The same without the divergence, for stages whose divergence counts nowhere. */
static gboolean
integrate_eval_part(void *ctx, size_t n, const size_t *row, const double *t, const void *x, void *dxdt)
{
    IntegrateTile *tile = ctx;
    Integrate *a = tile->all;
    IntegrateWorker *o = tile->own;
    const FmDtype dtype = a->velocity->dtype;

    integrate_conditions(tile, n, row, t);
    integrate_columns(dtype, n, a->D, a->W, x, a->D, o->x);
    if (!fm__velocity_eval(a->plain, tile->worker, n, o->x, o->t, o->y, NULL, o->v, NULL))
        return FALSE;
    integrate_columns(dtype, n, a->D, a->D, o->v, a->W, dxdt);
    for (size_t r = 0; r < n; r++)
        integrate_store(dtype, dxdt, r * a->W + a->D, 0.0);
    return TRUE;
}

static void
integrate_fill_probes(const Integrate *a, const IntegrateTile *tile, size_t n)
{
    const FmLikelihood *how = a->p->how;
    const size_t width = a->K * a->D;

    if (a->velocity->dtype == FM_F32)
        (how->gaussian ? fm_fill_normal_f32 : fm_fill_rademacher_f32)(how->key, tile->row0, n, width,
                                                                      tile->own->probes);
    else
        (how->gaussian ? fm_fill_normal_f64 : fm_fill_rademacher_f64)(how->key, tile->row0, n, width,
                                                                      tile->own->probes);
}

static FmSolve
integrate_problem(const Integrate *a, size_t n)
{
    return (FmSolve){.solver = a->p->flow->solver,
                     .field = {.eval = integrate_eval, .eval_part = a->plain != NULL ? integrate_eval_part : NULL},
                     .dtype = a->velocity->dtype,
                     .n = n,
                     .D = a->W,
                     .t0 = a->t0,
                     .t1 = a->t1,
                     .n_out = a->p->n_out,
                     .t_out = a->p->t_out};
}

static void
integrate_tile(void *ctx, int worker, size_t i)
{
    Integrate *a = ctx;
    IntegrateTile tile = {.all = a, .own = &a->worker[worker], .worker = worker, .row0 = i * a->tile};
    const size_t n = MIN(a->tile, a->p->n - tile.row0);
    FmSolve solve = integrate_problem(a, n);

    solve.field.ctx = &tile;
    if (a->p->out != NULL)
        solve.out = (char *)a->p->out + tile.row0 * a->p->n_out * a->W * a->size;
    if (a->p->how != NULL && a->p->how->trace == FM_TRACE_HUTCHINSON)
        integrate_fill_probes(a, &tile, n);
    if (!fm_solve(&solve, (char *)a->p->state + tile.row0 * a->W * a->size, a->p->stat + tile.row0,
                  tile.own->solve_work))
        g_atomic_int_set(&a->failed, 1);
}

static gboolean
integrate_worker_init(const Integrate *a, IntegrateWorker *o, GError **error)
{
    const FmSolve solve = integrate_problem(a, a->tile);
    const char *who = "solver";
    const gboolean div = a->p->how != NULL || a->p->tangents;
    const gboolean probes = a->p->how != NULL && a->p->how->trace == FM_TRACE_HUTCHINSON;

    if ((o->solve_work = fm__need(who, fm_solve_work(&solve), 1, 1, error)) == NULL ||
        (o->t = fm__need(who, a->tile, 1, a->size, error)) == NULL ||
        (o->y = fm__need(who, a->tile, 1, sizeof(gint32), error)) == NULL)
        return FALSE;
    if (!div)
        return TRUE;
    if ((o->x = fm__need(who, a->tile, a->D, a->size, error)) == NULL ||
        (o->v = fm__need(who, a->tile, a->D, a->size, error)) == NULL ||
        (o->div = fm__need(who, a->tile, MAX(a->chunks, a->velocity->n_second), a->size, error)) == NULL ||
        (o->e = fm__need(who, a->tile, a->K * a->D, a->size, error)) == NULL ||
        (probes && (o->probes = fm__need(who, a->tile, a->K * a->D, a->size, error)) == NULL))
        return FALSE;
    if (!probes)
        integrate_unit_vectors(a->velocity, a->tile, 0, o->e);
    return TRUE;
}

static void
integrate_worker_clear(IntegrateWorker *o)
{
    fm_free(o->solve_work);
    fm_free(o->x);
    fm_free(o->t);
    fm_free(o->v);
    fm_free(o->div);
    fm_free(o->e);
    fm_free(o->probes);
    fm_free(o->y);
}

/* One step size for all rows means that all rows are one tile. */
static gboolean
integrate_whole_batch(const FmPlugin *solver)
{
    return fm_solver_is_adaptive(solver) && ((const FmAdaptiveOptions *)fm_plugin_self(solver))->stepping == 1;
}

/* Rows of one stepper. When samples finish at different times, a stepper over several tiles of the
 * plan keeps these full; enough steppers for the threads remain. Depends on n alone. */
static size_t
integrate_rows(const Integrate *a, size_t n)
{
    enum { STEPPERS = 32, MOST = 8 };
    const size_t tile = a->velocity->tile, tiles = (n + tile - 1) / tile;

    if (integrate_whole_batch(a->p->flow->solver))
        return MAX(n, 1);
    return fm_solver_is_adaptive(a->p->flow->solver) ? tile * CLAMP(tiles / STEPPERS, 1, MOST) : tile;
}

int
fm__free_stages(const FmPlugin *solver)
{
    const FmTableau *tab = fm_solver_tableau(solver);
    int n = 0;

    for (int j = 0; j < tab->stages; j++) {
        /* the first choose step sizes or come from the step before, the last go to the next */
        const gboolean kept =
            (j == 0 && (tab->fsal || fm_solver_is_adaptive(solver))) || (j == tab->stages - 1 && tab->fsal);

        n += !kept && tab->b[j] == 0.0 && (tab->e == NULL || tab->e[j] == 0.0);
    }
    return n;
}

static gboolean
integrate_setup(Integrate *a, const FmIntegration *p, GError **error)
{
    FmFlow *f = p->flow;

    a->p = p;
    a->velocity = p->tangents                       ? fm__flow_velocity_products(f, error)
                  : p->how == NULL                  ? fm__flow_velocity_plain(f, error)
                  : p->how->trace == FM_TRACE_EXACT ? fm__flow_velocity_exact(f, error)
                                                    : fm__flow_velocity_probed(f, p->how->probes, error);
    if (a->velocity == NULL)
        return FALSE;
    if (p->how != NULL && fm__free_stages(f->solver) > 0 && (a->plain = fm__flow_velocity_plain(f, error)) == NULL)
        return FALSE;
    a->D = f->run->data.D;
    a->W = p->tangents ? a->D + a->D * a->D : p->how == NULL ? a->D : a->D + 1;
    a->K = a->velocity->K;
    a->chunks = p->how != NULL && p->how->trace == FM_TRACE_EXACT ? (a->D + a->K - 1) / a->K : 1;
    a->size = a->velocity->size;
    a->tile = integrate_rows(a, p->n);
    fm_path_interval(f->run->plugin[FM_KIND_PATH], &a->t0, &a->t1);
    if (!p->forward) {
        const double swap = a->t0;
        a->t0 = a->t1;
        a->t1 = swap;
    }
    return TRUE;
}

gboolean
fm__integrate(const FmIntegration *problem, GError **error)
{
    Integrate a = {0};

    if (!integrate_setup(&a, problem, error))
        return FALSE;
    const size_t tiles = (problem->n + a.tile - 1) / a.tile;
    const int threads = (int)MIN((size_t)problem->flow->threads, MAX(tiles, 1));
    gboolean ok = TRUE;
    a.worker = g_new0(IntegrateWorker, threads);
    for (int w = 0; ok && w < threads; w++)
        ok = integrate_worker_init(&a, &a.worker[w], error);
    if (ok) {
        fm_parallel(threads, tiles, integrate_tile, &a);
        ok = a.failed == 0;
        if (!ok)
            g_set_error(error, FM_ERROR, FM_ERROR_DIVERGED, "solver '%s': the velocity field failed while integrating",
                        fm_plugin_name(problem->flow->solver));
    }
    for (int w = 0; w < threads; w++)
        integrate_worker_clear(&a.worker[w]);
    g_free(a.worker);
    return ok;
}

/* ---- the field at one time ---- */

typedef struct IntegrateAt {
    Integrate all;
    const char *x;
    double t;
    char *v, *div;
} IntegrateAt;

static void
integrate_at(void *ctx, int worker, size_t i)
{
    IntegrateAt *at = ctx;
    Integrate *a = &at->all;
    IntegrateTile tile = {.all = a, .own = &a->worker[worker], .worker = worker, .row0 = i * a->tile};
    const size_t n = MIN(a->tile, a->p->n - tile.row0), first = tile.row0 * a->D * a->size;

    for (size_t r = 0; r < n; r++) {
        integrate_store(a->velocity->dtype, tile.own->t, r, at->t);
        if (a->p->labels != NULL)
            tile.own->y[r] = a->p->labels[tile.row0 + r];
    }
    memcpy(tile.own->x, at->x + first, n * a->D * a->size);
    if (!integrate_divergence(&tile, n, NULL)) {
        g_atomic_int_set(&a->failed, 1);
        return;
    }
    memcpy(at->v + first, tile.own->v, n * a->D * a->size);
    memcpy(at->div + tile.row0 * a->size, tile.own->div, n * a->size);
}

gboolean
fm__exact_divergence(FmFlow *flow, size_t n, const void *x, double t, const int *labels, void *v, void *div,
                     GError **error)
{
    const FmLikelihood how = {.trace = FM_TRACE_EXACT};
    const FmIntegration p = {.flow = flow, .how = &how, .forward = TRUE, .n = n, .labels = labels};
    IntegrateAt at = {.x = x, .t = t, .v = v, .div = div};

    if (!integrate_setup(&at.all, &p, error))
        return FALSE;
    at.all.tile = at.all.velocity->tile;
    const size_t tiles = (n + at.all.tile - 1) / at.all.tile;
    const int threads = (int)MIN((size_t)flow->threads, MAX(tiles, 1));
    gboolean ok = TRUE;
    at.all.worker = g_new0(IntegrateWorker, threads);
    for (int w = 0; ok && w < threads; w++)
        ok = integrate_worker_init(&at.all, &at.all.worker[w], error);
    if (ok) {
        fm_parallel(threads, tiles, integrate_at, &at);
        ok = at.all.failed == 0;
        if (!ok)
            g_set_error_literal(error, FM_ERROR, FM_ERROR_DIVERGED, "the velocity field failed at the given points");
    }
    for (int w = 0; w < threads; w++)
        integrate_worker_clear(&at.all.worker[w]);
    g_free(at.all.worker);
    return ok;
}

void
fm__summarise(const FmSolveStat *stat, size_t n, FmSolveSummary *summary)
{
    *summary = (FmSolveSummary){0};
    for (size_t i = 0; i < n; i++) {
        summary->nfe_total += stat[i].nfe;
        summary->accepted += stat[i].accepted;
        summary->rejected += stat[i].rejected;
        summary->failed += stat[i].status != FM_SOLVE_OK;
        if (stat[i].nfe > summary->nfe_max) {
            summary->nfe_max = stat[i].nfe;
            summary->stiffest = i;
        }
    }
    summary->nfe_mean = n > 0 ? (double)summary->nfe_total / (double)n : 0.0;
}
