/* exec.c: run a plan over a batch in tiles and lanes. Nothing is allocated while it runs. */
#include "graph/plan_private.h"

#include <omp.h>
#include <stdatomic.h>
#include <string.h>

#define MAX_LANES 8

struct FmExec {
    FmPlan *plan;
    const FmParams *params;
    int threads;
    const void **param_data; /* per name of the plan */
    char *fixed;
    char **arena; /* per worker */
    char **lane; /* MAX(MAX_LANES, threads) blocks */
    int n_lanes;
    const void **inputs; /* per worker and input: where the tile's rows are */
};

/* ---- parallel loops ---- */

void
fm_parallel(int threads, size_t n, void (*work)(void *ctx, int worker, size_t i), void *ctx)
{
    atomic_size_t next = 0;

    if (threads <= 1 || n <= 1) {
        const int before = omp_get_max_threads();

        omp_set_num_threads(1);
        for (size_t i = 0; i < n; i++)
            work(ctx, 0, i);
        omp_set_num_threads(before);
        return;
    }
#pragma omp parallel num_threads((int)MIN((size_t)threads, n))
    {
        const int worker = omp_get_thread_num();

        /* Libraries called inside must not start teams of their own. */
        omp_set_num_threads(1);
        for (size_t i; (i = atomic_fetch_add(&next, 1)) < n;)
            work(ctx, worker, i);
    }
}

/* ---- binding ---- */

static gboolean
bind_params(FmExec *exec, GError **error)
{
    GPtrArray *names = exec->plan->param_names;

    exec->param_data = g_new0(const void *, names->len + 1);
    for (guint v = 0; v < exec->plan->values->len; v++) {
        const FmValue *value = fm__plan_value(exec->plan, v);
        const char *name;
        const FmParam *p;

        if (value->place != FM_PLACE_PARAM)
            continue;
        name = names->pdata[value->index];
        p = exec->params ? fm_params_find(exec->params, name) : NULL;
        if (!p || p->size != fm_shape_size(&value->shape) ||
            fm_params_dtype(exec->params) != exec->plan->dtype) {
            g_autofree char *shape = fm_shape_format(&value->shape);

            g_set_error(error, FM_ERROR, FM_ERROR_SHAPE,
                        p ? "weight '%s' has another shape or dtype than the net's %s"
                          : "weight '%s' of shape %s is missing",
                        name, shape);
            return FALSE;
        }
        exec->param_data[value->index] = fm_params_data(exec->params, p);
    }
    return TRUE;
}

static char **
blocks_new(int n, size_t bytes)
{
    char **blocks = g_new0(char *, n + 1);

    for (int i = 0; i < n; i++) {
        blocks[i] = fm_alloc(bytes);
        if (!blocks[i])
            return blocks;
    }
    return blocks;
}

static void
blocks_free(char **blocks, int n)
{
    for (int i = 0; blocks && i < n; i++)
        fm_free(blocks[i]);
    g_free(blocks);
}

FmExec *
fm_exec_new(FmPlan *plan, const FmParams *params, int threads, GError **error)
{
    FmExec *exec = g_new0(FmExec, 1);

    exec->plan = plan;
    exec->params = params;
    exec->threads = MAX(threads, 1);
    exec->n_lanes = MAX(MAX_LANES, exec->threads);
    if (!bind_params(exec, error)) {
        fm_exec_free(exec);
        return NULL;
    }
    exec->fixed = fm_alloc(plan->fixed_size);
    exec->arena = blocks_new(exec->threads, plan->arena_size);
    exec->lane = blocks_new(exec->n_lanes, plan->lane_size);
    exec->inputs = g_new0(const void *, (gsize)exec->threads * (plan->inputs->len + 1));
    if (!exec->fixed || !exec->arena[exec->threads - 1] || !exec->lane[exec->n_lanes - 1]) {
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY,
                    "a plan that needs %zu bytes a thread does not fit in memory",
                    plan->arena_size + plan->lane_size);
        fm_exec_free(exec);
        return NULL;
    }
    fm_exec_refresh(exec);
    return exec;
}

void
fm_exec_free(FmExec *exec)
{
    if (!exec)
        return;
    blocks_free(exec->arena, exec->threads);
    blocks_free(exec->lane, exec->n_lanes);
    fm_free(exec->fixed);
    g_free(exec->param_data);
    g_free(exec->inputs);
    g_free(exec);
}

/* ---- steps ---- */

/* The memory one run of steps works on. */
typedef struct Frame {
    FmExec *exec;
    const void *const *inputs;
    char *arena, *lane;
    size_t n; /* batch rows */
    gboolean accumulate;
    FmKey key;
    guint64 row0;
} Frame;

static void *
value_data(const Frame *f, const FmValue *v)
{
    switch (v->place) {
    case FM_PLACE_INPUT:
        return (void *)f->inputs[v->index];
    case FM_PLACE_PARAM:
        return (void *)f->exec->param_data[v->index];
    case FM_PLACE_CONSTANT:
        return (char *)f->exec->plan->constants + v->offset;
    case FM_PLACE_FIXED:
        return f->exec->fixed + v->offset;
    case FM_PLACE_LANE:
        return f->lane + v->offset;
    default:
        return f->arena + v->offset;
    }
}

static FmView
view(const Frame *f, const FmRef *ref)
{
    return (FmView){.data = value_data(f, fm__plan_value(f->exec->plan, ref->value)),
                    .shape = &ref->shape,
                    .rows = ref->shape.rows > 0 ? f->n * ref->shape.rows : 1};
}

static void
fill_args(const Frame *f, const FmStep *step, FmKernelArgs *args)
{
    args->n = f->n;
    args->n_in = step->n_in;
    for (guint i = 0; i < step->n_in; i++)
        args->in[i] = view(f, &step->in[i]);
    args->out = view(f, &step->out[0]);
    for (guint k = 1; k < step->n_out; k++)
        args->in[step->n_in + k - 1] = view(f, &step->out[k]);
    args->attrs = step->attrs;
    args->packed = step->packed > 0 ? f->exec->fixed + step->packed_offset : NULL;
    args->accumulate = step->reduces && f->accumulate;
    args->key = f->key;
    if (step->random)
        args->key.stream = step->stream;
    args->row0 = f->row0;
    args->scratch = step->scratch == 0                      ? NULL
                    : step->phase == FM_PHASE_PROLOGUE ? f->exec->fixed + step->scratch_offset
                    : step->phase == FM_PHASE_EPILOGUE ? f->lane + step->scratch_offset
                                                       : f->arena + step->scratch_offset;
}

static gboolean
run_phase(const Frame *f, FmPhase phase)
{
    const FmPlan *plan = f->exec->plan;
    guint first = 0;

    for (int p = 0; p < (int)phase; p++)
        first += plan->n_steps[p];
    for (guint k = first; k < first + plan->n_steps[phase]; k++) {
        const FmStep *step = fm__plan_step(plan, k);
        FmKernelArgs args;

        fill_args(f, step, &args);
        if (!step->kernel->run(&args))
            return FALSE;
    }
    return TRUE;
}

void
fm_exec_refresh(FmExec *exec)
{
    const FmPlan *plan = exec->plan;
    const Frame f = {.exec = exec, .arena = exec->arena[0], .lane = exec->lane[0], .n = 1,
                     .inputs = exec->inputs};
    const int before = omp_get_max_threads();

    omp_set_num_threads(1);
    run_phase(&f, FM_PHASE_PROLOGUE);
    for (guint k = 0; k < plan->steps->len; k++) {
        const FmStep *step = fm__plan_step(plan, k);
        FmKernelArgs args;

        if (step->packed == 0)
            continue;
        fill_args(&f, step, &args);
        args.n = plan->tile;
        step->kernel->pack(&args, exec->fixed + step->packed_offset);
    }
    omp_set_num_threads(before);
}

/* ---- batches ---- */

typedef struct Batch {
    FmExec *exec;
    size_t n, tiles, lanes;
    const void *const *in;
    FmFeed feed;
    void *ctx;
    void *const *out;
    FmKey key;
    atomic_bool failed;
} Batch;

/* Bytes of an input's batch row; labels are I32 whatever the dtype, unbatched inputs do not move. */
static size_t
input_stride(const FmPlan *plan, const FmValue *v)
{
    return v->labels            ? sizeof(gint32)
           : v->shape.rows == 0 ? 0
                                : fm_shape_size(&v->shape) * fm_dtype_size(plan->dtype);
}

static void
bind_inputs(const Batch *b, int worker, guint64 row0, size_t n)
{
    const FmPlan *plan = b->exec->plan;
    const guint n_in = plan->inputs->len;
    const void **at = b->exec->inputs + (gsize)worker * (n_in + 1);

    for (guint i = 0; i < n_in; i++) {
        const FmValue *v = fm__plan_value(plan, g_array_index(plan->inputs, guint, i));

        at[i] = b->in && b->in[i] ? (const char *)b->in[i] + row0 * input_stride(plan, v)
                                  : b->exec->arena[worker] + v->offset;
    }
    if (b->feed)
        b->feed(b->ctx, worker, row0, n, (void *const *)at);
}

static void
copy_outputs(const Frame *f, void *const *out, gboolean batched)
{
    const FmPlan *plan = f->exec->plan;

    for (guint i = 0; i < plan->outputs->len; i++) {
        const FmRef *ref = &g_array_index(plan->outputs, FmRef, i);
        const FmValue *v = fm__plan_value(plan, ref->value);
        const size_t bytes = fm_shape_size(&ref->shape) * fm_dtype_size(plan->dtype);

        if (!out[i] || (ref->shape.rows > 0) != batched)
            continue;
        if (batched)
            memcpy((char *)out[i] + f->row0 * bytes, value_data(f, v), f->n * bytes);
        else
            memcpy(out[i], value_data(f, v), bytes);
    }
}

static void
run_tile(Batch *b, int worker, size_t tile, char *lane, gboolean accumulate)
{
    const size_t T = b->exec->plan->tile;
    const Frame f = {.exec = b->exec,
                     .inputs = b->exec->inputs + (gsize)worker * (b->exec->plan->inputs->len + 1),
                     .arena = b->exec->arena[worker],
                     .lane = lane,
                     .n = MIN(T, b->n - tile * T),
                     .accumulate = accumulate,
                     .key = b->key,
                     .row0 = tile * T};

    bind_inputs(b, worker, f.row0, f.n);
    if (!run_phase(&f, FM_PHASE_TILE))
        atomic_store(&b->failed, TRUE);
    else
        copy_outputs(&f, b->out, TRUE);
}

static size_t
lane_start(const Batch *b, size_t lane)
{
    return lane * b->tiles / b->lanes;
}

static void
run_lane(void *ctx, int worker, size_t lane)
{
    Batch *b = ctx;

    for (size_t t = lane_start(b, lane); t < lane_start(b, lane + 1); t++)
        run_tile(b, worker, t, b->exec->lane[lane], t > lane_start(b, lane));
}

static void
run_free_tile(void *ctx, int worker, size_t tile)
{
    Batch *b = ctx;

    run_tile(b, worker, tile, b->exec->lane[worker], FALSE);
}

#define ADD(T) \
    for (size_t i = 0; i < plan->reduced_size / sizeof(T); i++) \
    ((T *)(void *)a)[i] += ((const T *)(const void *)b)[i]

static void
add_block(const FmPlan *plan, char *a, const char *b)
{
    if (plan->dtype == FM_F32)
        ADD(float);
    else
        ADD(double);
}

/* Lanes in a fixed binary tree: (0+1)+(2+3), ... */
static void
sum_lanes(const Batch *b)
{
    for (size_t step = 1; step < b->lanes; step *= 2)
        for (size_t lane = 0; lane + step < b->lanes; lane += 2 * step)
            add_block(b->exec->plan, b->exec->lane[lane], b->exec->lane[lane + step]);
}

gboolean
fm_exec_run(FmExec *exec, size_t n, const void *const *in, FmFeed feed, void *ctx, void *const *out,
            FmKey key, GError **error)
{
    const FmPlan *plan = exec->plan;
    Batch b = {.exec = exec, .n = n, .in = in, .feed = feed, .ctx = ctx, .out = out, .key = key};
    const Frame end = {.exec = exec, .arena = exec->arena[0], .lane = exec->lane[0], .n = 1,
                       .inputs = exec->inputs, .key = key};

    b.tiles = (n + plan->tile - 1) / plan->tile;
    if (plan->lane_size == 0) {
        fm_parallel(exec->threads, b.tiles, run_free_tile, &b);
    } else {
        b.lanes = plan->lanes > 0 ? MIN(plan->lanes, MAX_LANES) : b.tiles >= 64 ? 8 : 4;
        b.lanes = MIN(b.lanes, MAX(b.tiles, 1));
        if (b.tiles == 0)
            memset(exec->lane[0], 0, plan->reduced_size);
        fm_parallel(exec->threads, b.lanes, run_lane, &b);
        sum_lanes(&b);
    }
    if (atomic_load(&b.failed) || !run_phase(&end, FM_PHASE_EPILOGUE)) {
        g_set_error(error, FM_ERROR, FM_ERROR_DIVERGED, "an operation of the plan failed while it ran");
        return FALSE;
    }
    copy_outputs(&end, out, FALSE);
    return TRUE;
}

gboolean
fm_exec_tile(FmExec *exec, int w, size_t n, const void *const *in, void *const *out, FmKey key,
             guint64 row0)
{
    Frame f = {.exec = exec, .inputs = in, .arena = exec->arena[w], .lane = exec->lane[w], .n = n,
               .key = key, .row0 = row0};

    g_return_val_if_fail(w < exec->threads && n <= exec->plan->tile, FALSE);
    if (!run_phase(&f, FM_PHASE_TILE) || !run_phase(&f, FM_PHASE_EPILOGUE))
        return FALSE;
    f.row0 = 0; /* outputs are the tile's own */
    copy_outputs(&f, out, TRUE);
    copy_outputs(&f, out, FALSE);
    return TRUE;
}
