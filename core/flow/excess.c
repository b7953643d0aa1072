/* excess.c: the parts of a training loss, over draws of its own. */
#include "flow/excess.h"

#include "flow/exact.h"

#include <math.h>

typedef struct ExcessJob {
    const FmExact *field[2]; /* w, v */
    FmExactWorker **worker[2];
    size_t n, D, tile;
    const double *t, *xt, *ut; /* (n), (n, D), (n, D) */
    double *v[2]; /* (n, D) of both fields */
    gint failed;
} ExcessJob;

static void
excess_tile(void *ctx, int w, size_t i)
{
    ExcessJob *j = ctx;
    const size_t row0 = i * j->tile, n = MIN(j->tile, j->n - row0), at = row0 * j->D;

    for (int k = 0; k < 2; k++)
        if (!fm__exact_field_at(j->field[k], j->worker[k][w], w, n, j->xt + at, j->t + row0, j->v[k] + at))
            g_atomic_int_set(&j->failed, 1);
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
    if (!fm_dataset_draw(run->plugin[FM_KIND_DATASET], data, 0, n, x1, NULL, error))
        return FALSE;
    for (size_t i = 0; i < n; i++)
        t[i] = t0 + (t1 - t0) * t[i];
    for (size_t i = 0; i < n * D; i++)
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
excess_check(const FmFlow *flow, GError **error)
{
    const FmRun *run = flow->run;
    const char *what = fm__flow_is_map(flow)         ? "a map without time"
                       : run->net_info.classes > 0 ? "a conditional net"
                       : run->source != NULL       ? "a source of its own"
                       : !fm_path_is_affine(run->plugin[FM_KIND_PATH]) ? "a path that is not affine"
                                                                      : NULL;

    if (what == NULL)
        return TRUE;
    g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                "excess loss: the flow has %s, expected an unconditional velocity under an affine path "
                "from N(0, I)", what);
    return FALSE;
}

static gboolean
excess_workers(ExcessJob *j, int threads, GError **error)
{
    gboolean ok = TRUE;

    for (int k = 0; k < 2; k++) {
        j->worker[k] = g_new0(FmExactWorker *, threads);
        for (int w = 0; ok && w < threads; w++)
            ok = (j->worker[k][w] = fm__exact_worker_new(j->field[k], error)) != NULL;
    }
    return ok;
}

gboolean
fm_excess(FmFlow *flow, FmFlow *exact, size_t n, guint64 seed, int threads, FmExcess *out, GError **error)
{
    const FmRun *run = exact->run;
    const size_t D = run->data.D;

    if (!excess_check(flow, error) || !excess_check(exact, error))
        return FALSE;
    g_autoptr(FmExact) w = fm__exact_velocity_new(flow, threads, error);
    g_autoptr(FmExact) v = w != NULL ? fm__exact_velocity_new(exact, threads, error) : NULL;
    if (v == NULL)
        return FALSE;
    ExcessJob j = {.field = {w, v}, .n = n, .D = D, .tile = MIN(w->tile, v->tile)};
    double *space = fm__need("excess loss", n, 6 * D + 2, sizeof(double), error), t0, t1;
    gboolean ok = space != NULL && excess_draw(&j, run, seed, space, error) &&
                  excess_workers(&j, MAX(threads, 1), error);

    if (ok) {
        j.v[0] = space + n * (4 * D + 1);
        j.v[1] = j.v[0] + n * D;
        fm_parallel(MAX(threads, 1), (n + j.tile - 1) / j.tile, excess_tile, &j);
        ok = j.failed == 0;
        if (!ok)
            g_set_error_literal(error, FM_ERROR, FM_ERROR_DIVERGED,
                                "excess loss: the velocity field failed");
    }
    if (ok) {
        fm_path_interval(run->plugin[FM_KIND_PATH], &t0, &t1);
        excess_means(&j, t1 - t0, j.v[1] + n * D, out);
    }
    for (int k = 0; k < 2; k++) {
        for (int i = 0; j.worker[k] != NULL && i < MAX(threads, 1); i++)
            fm__exact_worker_free(j.worker[k][i]);
        g_free(j.worker[k]);
    }
    fm_free(space);
    return ok;
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
    return (FmNumber){floor->length * (double)D * loss - floor->value,
                      hypot(floor->se, floor->sd / sqrt(rows))};
}
