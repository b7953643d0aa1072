/* exec.c: run a plan over a batch in tiles and lanes. Nothing is allocated while it runs. */
#include "graph/plan_private.h"

#include <fmcore/cpu.h>
#include <omp.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

FM_FAST_FILE

enum {
    SUM_PIECE = 8192, /* bytes of a lane summed at a time */
    SUM_PARALLEL = 1 << 17,
    PACK_PARALLEL = 1 << 17, /* from how many bytes on threads pay */
};

typedef struct Meter Meter;

struct FmExec {
    FmPlan *plan;
    const FmParams *params;
    int threads;
    const void **param_data; /* per name of the plan */
    char *fixed;
    char **arena; /* per worker */
    char **lane;  /* as many as runs of the planned batch use, at least one a worker */
    int n_lanes;
    const void **inputs; /* per worker and input: where the tile's rows are */
    Meter *meter;        /* per worker; NULL: nobody asked for a profile */
    gint64 wall_ns;
};

/* ---- profile ---- */

/* What one worker has spent. */
struct Meter {
    gint64 ns[FM_N_WORKS];
    double flops[FM_N_WORKS];
    guint64 calls[FM_N_WORKS];
    char apart[FM_ALIGN]; /* workers do not share lines of the cache */
};

static const char *const work_names[FM_N_WORKS] = {
    [FM_WORK_FEED] = "feed",           [FM_WORK_COUPLING] = "coupling", [FM_WORK_ELEMENTWISE] = "elementwise",
    [FM_WORK_GEMM] = "gemm",           [FM_WORK_CONV] = "convolution",  [FM_WORK_COMPOSITE] = "composite",
    [FM_WORK_MOVE] = "move",           [FM_WORK_EXTERNAL] = "external", [FM_WORK_LANES] = "lanes",
    [FM_WORK_OPTIMIZER] = "optimizer",
};

const char *
fm_work_name(FmWork work)
{
    g_return_val_if_fail((unsigned)work < FM_N_WORKS, "");
    return work_names[work];
}

static gint64
now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (gint64)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Time since *since goes to `work`; *since becomes now. */
static void
meter_add(Meter *meter, FmWork work, gint64 *since, double flops)
{
    const gint64 now = now_ns();

    meter->ns[work] += now - *since;
    meter->flops[work] += flops;
    meter->calls[work]++;
    *since = now;
}

void
fm_exec_profile_start(FmExec *exec)
{
    if (!exec->meter)
        exec->meter = g_new(Meter, exec->threads);
    memset(exec->meter, 0, (gsize)exec->threads * sizeof *exec->meter);
    exec->wall_ns = 0;
}

void
fm_exec_profile_read(const FmExec *exec, FmProfile *profile)
{
    *profile = (FmProfile){.threads = exec->threads, .wall = (double)exec->wall_ns * 1e-9};
    for (int w = 0; exec->meter && w < exec->threads; w++)
        for (int k = 0; k < FM_N_WORKS; k++) {
            profile->seconds[k] += (double)exec->meter[w].ns[k] * 1e-9;
            profile->flops[k] += exec->meter[w].flops[k];
            profile->calls[k] += exec->meter[w].calls[k];
        }
}

/* ---- lanes ---- */

/* Lanes for a batch of n rows, 0: a batch of any size: a function of plan and batch alone. Processors are seldom
 * equally fast, since others use them too: of four lanes on two of them the slower one's second is waited for. Eight
 * of smaller tiles cost a net of width 64 more than that: 5 %. */
static size_t
lanes_of(const FmPlan *plan, size_t n)
{
    const size_t tiles = n > 0 ? (n + plan->tile - 1) / plan->tile : G_MAXSIZE;
    const size_t lanes = tiles >= 16 || plan->tile < 32 ? 8 : 4;

    return MIN(plan->lanes > 0 ? plan->lanes : lanes, tiles);
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
        if (!p || p->size != fm_shape_size(&value->shape) || fm_params_dtype(exec->params) != exec->plan->dtype) {
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
    exec->n_lanes = MAX(lanes_of(plan, plan->batch), (size_t)exec->threads);
    if (!bind_params(exec, error)) {
        fm_exec_free(exec);
        return NULL;
    }
    exec->fixed = fm_alloc(plan->fixed_size);
    exec->arena = blocks_new(exec->threads, plan->arena_size);
    exec->lane = blocks_new(exec->n_lanes, plan->lane_size);
    exec->inputs = g_new0(const void *, (gsize)exec->threads *(plan->inputs->len + 1));
    if (!exec->fixed || !exec->arena[exec->threads - 1] || !exec->lane[exec->n_lanes - 1]) {
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "a plan that needs %zu bytes a thread does not fit in memory",
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
    g_free(exec->meter);
    g_free(exec);
}

/* ---- steps ---- */

/* The memory one run of steps works on. */
typedef struct Frame {
    FmExec *exec;
    const void *const *inputs;
    char *arena, *lane;
    Meter *meter; /* NULL: none */
    size_t n;     /* batch rows */
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
    args->scratch = step->scratch == 0                 ? NULL
                    : step->phase == FM_PHASE_PROLOGUE ? f->exec->fixed + step->scratch_offset
                    : step->phase == FM_PHASE_EPILOGUE ? f->lane + step->scratch_offset
                                                       : f->arena + step->scratch_offset;
}

static gboolean
run_phase(const Frame *f, FmPhase phase)
{
    const FmPlan *plan = f->exec->plan;
    gint64 since = f->meter ? now_ns() : 0;
    guint first = 0;

    for (int p = 0; p < (int)phase; p++)
        first += plan->n_steps[p];
    for (guint k = first; k < first + plan->n_steps[phase]; k++) {
        const FmStep *step = fm__plan_step(plan, k);
        FmKernelArgs args;

        fill_args(f, step, &args);
        if (!step->kernel->run(&args))
            return FALSE;
        if (f->meter)
            meter_add(f->meter, step->work, &since, step->flops * (double)f->n);
    }
    return TRUE;
}

static Meter *
meter_of(const FmExec *exec, int worker)
{
    return exec->meter ? &exec->meter[worker] : NULL;
}

/* Steps outside tiles: one row. */
static Frame
lone_frame(FmExec *exec, int worker)
{
    return (Frame){.exec = exec,
                   .arena = exec->arena[worker],
                   .lane = exec->lane[worker],
                   .n = 1,
                   .inputs = exec->inputs,
                   .meter = meter_of(exec, worker)};
}

/* The i-th of the plan's packed operands. */
static void
pack_operand(void *ctx, int worker, size_t i)
{
    FmExec *exec = ctx;
    const FmStep *step = fm__plan_step(exec->plan, g_array_index(exec->plan->packed, guint, i));
    const Frame f = lone_frame(exec, worker);
    gint64 since = f.meter ? now_ns() : 0;
    FmKernelArgs args;

    fill_args(&f, step, &args);
    args.n = exec->plan->tile;
    (step->transposed ? step->kernel->pack_transposed : step->kernel->pack)(&args, exec->fixed + step->packed_offset);
    if (f.meter)
        meter_add(f.meter, step->work, &since, 0.0);
}

void
fm_exec_refresh(FmExec *exec)
{
    const FmPlan *plan = exec->plan;
    const Frame f = lone_frame(exec, 0);
    const int before = omp_get_max_threads();
    const gint64 begun = f.meter ? now_ns() : 0;

    omp_set_num_threads(1);
    run_phase(&f, FM_PHASE_PROLOGUE);
    omp_set_num_threads(before);
    fm_parallel(plan->fixed_size < PACK_PARALLEL ? 1 : exec->threads, plan->packed->len, pack_operand, exec);
    if (f.meter)
        exec->wall_ns += now_ns() - begun;
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
    atomic_int bound; /* a worker whose inputs are bound: those without batch axis are all the same */
} Batch;

/* Bytes of an input's batch row; labels are I32 whatever the dtype, unbatched inputs do not move. */
static size_t
input_stride(const FmPlan *plan, const FmValue *v)
{
    return v->labels ? sizeof(gint32) : v->shape.rows == 0 ? 0 : fm_shape_size(&v->shape) * fm_dtype_size(plan->dtype);
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

const void *
fm_exec_output(const FmExec *exec, size_t i)
{
    const Frame f = {.exec = (FmExec *)exec, .lane = exec->lane[0]};
    const FmValue *v;

    g_return_val_if_fail(i < exec->plan->outputs->len, NULL);
    v = fm__plan_value(exec->plan, g_array_index(exec->plan->outputs, FmRef, i).value);
    return v->place == FM_PLACE_INPUT || v->place == FM_PLACE_ARENA ? NULL : value_data(&f, v);
}

static void
run_tile(Batch *b, int worker, size_t tile, char *lane, gboolean accumulate)
{
    const size_t T = b->exec->plan->tile;
    const Frame f = {.exec = b->exec,
                     .inputs = b->exec->inputs + (gsize)worker * (b->exec->plan->inputs->len + 1),
                     .arena = b->exec->arena[worker],
                     .lane = lane,
                     .meter = meter_of(b->exec, worker),
                     .n = MIN(T, b->n - tile * T),
                     .accumulate = accumulate,
                     .key = b->key,
                     .row0 = tile * T};

    gint64 since = f.meter ? now_ns() : 0;

    bind_inputs(b, worker, f.row0, f.n);
    atomic_store_explicit(&b->bound, worker, memory_order_relaxed);
    if (f.meter && b->feed)
        meter_add(f.meter, FM_WORK_FEED, &since, 0.0);
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

#define ADD(NAME, T) \
    FM_INLINE void NAME##_any(T *restrict a, const T *restrict b, size_t n) \
    { \
        for (size_t i = 0; i < n; i++) \
            a[i] += b[i]; \
    } \
    FM_CPU_VARIANTS(NAME, (T *restrict a, const T *restrict b, size_t n), (a, b, n))
ADD(add_f32, float)
ADD(add_f64, double)

/* One piece of all lanes in a fixed binary tree: (0+1)+(2+3), ... */
static void
sum_piece(void *ctx, int worker, size_t piece)
{
    const Batch *b = ctx;
    const FmPlan *plan = b->exec->plan;
    const size_t at = piece * SUM_PIECE, bytes = MIN((size_t)SUM_PIECE, plan->reduced_size - at);

    for (size_t step = 1; step < b->lanes; step *= 2)
        for (size_t lane = 0; lane + step < b->lanes; lane += 2 * step) {
            void *to = b->exec->lane[lane] + at;
            const void *from = b->exec->lane[lane + step] + at;

            if (plan->dtype == FM_F32)
                add_f32(to, from, bytes / sizeof(float));
            else
                add_f64(to, from, bytes / sizeof(double));
        }
}

static void
sum_lanes(Batch *b)
{
    const size_t bytes = b->exec->plan->reduced_size;

    fm_parallel(bytes < SUM_PARALLEL ? 1 : b->exec->threads, (bytes + SUM_PIECE - 1) / SUM_PIECE, sum_piece, b);
}

gboolean
fm_exec_run(FmExec *exec, size_t n, const void *const *in, FmFeed feed, void *ctx, void *const *out, FmKey key,
            GError **error)
{
    const FmPlan *plan = exec->plan;
    Batch b = {.exec = exec, .n = n, .in = in, .feed = feed, .ctx = ctx, .out = out, .key = key};
    Frame end = {.exec = exec, .lane = exec->lane[0], .n = 1, .key = key, .meter = meter_of(exec, 0)};
    const gint64 begun = end.meter ? now_ns() : 0;
    gint64 since;

    b.tiles = (n + plan->tile - 1) / plan->tile;
    if (plan->lane_size == 0) {
        fm_parallel(exec->threads, b.tiles, run_free_tile, &b);
    } else {
        b.lanes = b.tiles > 0 ? MIN(lanes_of(plan, n), lanes_of(plan, plan->batch)) : 1;
        if (b.tiles == 0)
            memset(exec->lane[0], 0, plan->reduced_size);
        fm_parallel(exec->threads, b.lanes, run_lane, &b);
        since = end.meter ? now_ns() : 0;
        sum_lanes(&b);
        if (end.meter)
            meter_add(end.meter, FM_WORK_LANES, &since, 0.0);
    }
    if (b.tiles == 0) /* no rows, but inputs without batch axis */
        bind_inputs(&b, 0, 0, 0);
    end.inputs = exec->inputs + (gsize)atomic_load(&b.bound) * (plan->inputs->len + 1);
    end.arena = exec->arena[atomic_load(&b.bound)];
    if (atomic_load(&b.failed) || !run_phase(&end, FM_PHASE_EPILOGUE)) {
        g_set_error(error, FM_ERROR, FM_ERROR_DIVERGED, "an operation of the plan failed while it ran");
        return FALSE;
    }
    since = end.meter ? now_ns() : 0;
    copy_outputs(&end, out, FALSE);
    if (end.meter) {
        meter_add(end.meter, FM_WORK_LANES, &since, 0.0);
        exec->wall_ns += since - begun;
    }
    return TRUE;
}

gboolean
fm_exec_tile(FmExec *exec, int w, size_t n, const void *const *in, void *const *out, FmKey key, guint64 row0)
{
    Frame f = {.exec = exec,
               .inputs = in,
               .arena = exec->arena[w],
               .lane = exec->lane[w],
               .n = n,
               .key = key,
               .row0 = row0,
               .meter = meter_of(exec, w)};

    g_return_val_if_fail(w < exec->threads && n <= exec->plan->tile, FALSE);
    if (!run_phase(&f, FM_PHASE_TILE) || !run_phase(&f, FM_PHASE_EPILOGUE))
        return FALSE;
    f.row0 = 0; /* outputs are the tile's own */
    copy_outputs(&f, out, TRUE);
    copy_outputs(&f, out, FALSE);
    return TRUE;
}
