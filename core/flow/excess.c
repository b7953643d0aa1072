/* excess.c: the parts of a training loss, over draws of its own. */
#include "flow/excess.h"

#include "flow/exact.h"

#include <math.h>

typedef struct ExcessJob {
    const FmExact *field[2]; /* w, v; v NULL: that of the rows */
    const FmFinite *rows;
    FmExactWorker **worker[2];
    FmFiniteWorker **row_worker;
    int threads;
    size_t n, D, tile;
    const double *t, *xt, *ut; /* (n), (n, D), (n, D) */
    gint32 *y;                 /* (n) labels, for the rows' field alone */
    double *v[2];              /* (n, D) of both fields */
    gint failed;
} ExcessJob;

static void
excess_tile(void *ctx, int w, size_t i)
{
    ExcessJob *j = ctx;
    const size_t row0 = i * j->tile, n = MIN(j->tile, j->n - row0), at = row0 * j->D;

    for (int k = j->v[0] == j->v[1]; k < 2; k++) {
        if (j->field[k] == NULL)
            fm__finite_velocity(j->rows, j->row_worker[w], n, j->xt + at, j->t + row0, j->y + row0, j->v[k] + at);
        else if (!fm__exact_field_at(j->field[k], j->worker[k][w], w, n, j->xt + at, j->t + row0, j->y + row0,
                                     j->v[k] + at))
            g_atomic_int_set(&j->failed, 1);
    }
}

/* t uniform over the interval, x_t and u_t of independent pairs. space: (n, 4 D + 1). */
static gboolean
excess_draw(ExcessJob *j, const FmRun *run, guint64 seed, double *space, GError **error)
{
    const FmPlugin *path = run->plugin[FM_KIND_PATH];
    const FmKey time = {.seed = seed, .stream = FM_STREAM_TIME, .step = G_MAXUINT32},
                noise = {.seed = seed, .stream = FM_STREAM_EVAL, .step = 11},
                data = {.seed = seed, .stream = FM_STREAM_EVAL, .step = 12},
                own = {.seed = seed, .stream = FM_STREAM_EVAL, .step = 13};
    const size_t n = j->n, D = j->D;
    double *t = space, *x0 = t + n, *x1 = x0 + n * D, *xt = x1 + n * D, *ut = xt + n * D;
    double t0, t1;

    fm_path_interval(path, &t0, &t1);
    fm_fill_uniform_f64(time, 0, n, 1, t);
    fm_fill_normal_f64(noise, 0, n, D, x0);
    for (size_t i = 0; i < n; i++)
        t[i] = t0 + (t1 - t0) * t[i];
    if (j->rows != NULL)
        fm__finite_draw(j->rows, data, n, x1, j->y);
    else if (!fm_dataset_draw(run->plugin[FM_KIND_DATASET], data, 0, n, x1, NULL, error))
        return FALSE;
    for (size_t i = 0; j->rows == NULL && i < n * D; i++)
        x1[i] = (x1[i] - run->shift[i % D]) / run->scale[i % D];
    fm_path_sample(path, n, D, t, x0, x1, own, 0, xt, ut);
    j->t = t;
    j->xt = xt;
    j->ut = ut;
    return TRUE;
}

static double
square_distance(const double *a, const double *b, size_t D)
{
    double sum = 0.0;

    for (size_t d = 0; d < D; d++)
        sum += (a[d] - b[d]) * (a[d] - b[d]);
    return sum;
}

/* value (n) is scratch. */
static void
excess_means(const ExcessJob *j, double length, double *value, FmExcess *out)
{
    const size_t n = j->n, D = j->D;
    FmNumber *const part[4] = {&out->loss, &out->variance, &out->excess, &out->eps2};

    *out = (FmExcess){.n = n, .length = length};
    for (int k = 0; k < 4; k++) {
        for (size_t i = 0; i < n; i++) {
            const double *w = j->v[0] + i * D, *v = j->v[1] + i * D, *u = j->ut + i * D;

            value[i] = k == 0   ? square_distance(w, u, D)
                       : k == 1 ? square_distance(v, u, D)
                       : k == 2 ? square_distance(w, u, D) - square_distance(v, u, D)
                                : square_distance(w, v, D);
            value[i] *= length;
        }
        *part[k] = fm__mean(value, n);
    }
}

static gboolean
excess_check(const FmFlow *flow, gboolean labels, GError **error)
{
    const FmRun *run = flow->run;
    const char *what = fm__flow_is_map(flow)                           ? "a map without time"
                       : !labels && run->net_info.classes > 0          ? "a conditional net"
                       : run->source != NULL                           ? "a source of its own"
                       : !fm_path_is_affine(run->plugin[FM_KIND_PATH]) ? "a path that is not affine"
                                                                       : NULL;

    if (what == NULL)
        return TRUE;
    g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                "excess loss: the flow has %s, expected an unconditional velocity (of finite data: with labels, "
                "too) under an affine path from N(0, I)",
                what);
    return FALSE;
}

static gboolean
excess_workers(ExcessJob *j, GError **error)
{
    gboolean ok = TRUE;

    for (int k = 0; k < 2; k++) {
        j->worker[k] = g_new0(FmExactWorker *, j->threads);
        for (int w = 0; ok && j->field[k] != NULL && w < j->threads; w++)
            ok = (j->worker[k][w] = fm__exact_worker_new(j->field[k], error)) != NULL;
    }
    j->row_worker = g_new0(FmFiniteWorker *, j->threads);
    for (int w = 0; ok && j->rows != NULL && w < j->threads; w++)
        ok = (j->row_worker[w] = fm__finite_worker_new(j->rows, error)) != NULL;
    return ok;
}

static void
excess_workers_free(ExcessJob *j)
{
    for (int w = 0; j->row_worker != NULL && w < j->threads; w++) {
        fm__exact_worker_free(j->worker[0][w]);
        fm__exact_worker_free(j->worker[1][w]);
        fm__finite_worker_free(j->row_worker[w]);
    }
    g_free(j->worker[0]);
    g_free(j->worker[1]);
    g_free(j->row_worker);
}

/* j's fields and rows, n, D and threads are set. */
static gboolean
excess_measure(ExcessJob *j, const FmRun *run, guint64 seed, FmExcess *out, GError **error)
{
    const size_t n = j->n, D = j->D;
    double *space = fm__need("excess loss", n, 6 * D + 2, sizeof(double), error), t0, t1;
    gboolean ok = space != NULL && (j->y = fm__need("excess loss", n, 1, sizeof *j->y, error)) != NULL &&
                  excess_draw(j, run, seed, space, error) && excess_workers(j, error);

    if (ok) {
        j->v[1] = space + n * (5 * D + 1);
        j->v[0] = j->field[0] == j->field[1] ? j->v[1] : j->v[1] - n * D;
        fm_parallel(j->threads, (n + j->tile - 1) / j->tile, excess_tile, j);
        ok = j->failed == 0;
        if (!ok)
            g_set_error_literal(error, FM_ERROR, FM_ERROR_DIVERGED, "excess loss: the velocity field failed");
    }
    if (ok) {
        fm_path_interval(run->plugin[FM_KIND_PATH], &t0, &t1);
        excess_means(j, t1 - t0, j->v[1] + n * D, out);
    }
    excess_workers_free(j);
    fm_free(j->y);
    fm_free(space);
    return ok;
}

gboolean
fm_excess(FmFlow *flow, FmFlow *exact, size_t n, guint64 seed, int threads, FmExcess *out, GError **error)
{
    if (!excess_check(flow, FALSE, error) || !excess_check(exact, FALSE, error))
        return FALSE;
    g_autoptr(FmExact) w = fm__exact_velocity_new(flow, threads, error);
    g_autoptr(FmExact) v = w != NULL ? fm__exact_velocity_new(exact, threads, error) : NULL;
    if (v == NULL)
        return FALSE;
    ExcessJob j = {
        .field = {w, v}, .n = n, .D = exact->run->data.D, .tile = MIN(w->tile, v->tile), .threads = MAX(threads, 1)};
    return excess_measure(&j, exact->run, seed, out, error);
}

gboolean
fm_excess_rows(FmFlow *flow, const FmFinite *rows, size_t n, guint64 seed, int threads, FmExcess *out, GError **error)
{
    const FmRun *run = fm__finite_run(rows);

    if (flow != NULL && !excess_check(flow, TRUE, error))
        return FALSE;
    g_autoptr(FmExact) w = flow != NULL ? fm__exact_velocity_new(flow, threads, error) : NULL;
    if (flow != NULL && w == NULL)
        return FALSE;
    ExcessJob j = {.field = {w, NULL},
                   .rows = rows,
                   .n = n,
                   .D = run->data.D,
                   .tile = w != NULL ? w->tile : 64,
                   .threads = MAX(threads, 1)};
    return excess_measure(&j, run, seed, out, error);
}

FmFloor
fm_excess_floor(const FmExcess *e)
{
    return (FmFloor){.value = e->variance.value,
                     .se = e->variance.se,
                     .sd = e->variance.se * sqrt((double)e->n),
                     .length = e->length};
}

FmNumber
fm_excess_of_loss(const FmFloor *floor, size_t D, double loss, double rows)
{
    return (FmNumber){floor->length * (double)D * loss - floor->value, hypot(floor->se, floor->sd / sqrt(rows))};
}
