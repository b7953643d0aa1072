/* plan.h: parameters, compiled plans and their execution in tiles and lanes.
 *
 * A plan has three phases. Prologue: nodes computed from parameters alone, once each time these
 * change. Tiles: everything with a batch axis, run tile by tile, one thread per tile, forward and
 * backward in one go. Epilogue: what follows from batch reductions. The batch is dealt to a fixed
 * number of lanes; a lane adds up its tiles' reductions in order and the lanes are summed in a
 * fixed binary tree: results do not depend on the number of threads. */
#ifndef FMCORE_PLAN_H
#define FMCORE_PLAN_H

#include <fmcore/backend.h>
#include <fmcore/graph.h>

G_BEGIN_DECLS

/* ---- parameters ---- */

typedef struct FmParam {
    const char *name;
    int ndim;
    size_t dim[FM_MAX_NDIM];
    size_t size;        /* elements */
    size_t offset;      /* elements from the start of the store */
    gboolean trainable; /* FALSE: a buffer */
} FmParam;

/* Named weights of one dtype in one block; trainable parameters first, then buffers, each sorted
 * by order of declaration. Every parameter starts at a multiple of FM_ALIGN bytes (the gaps are
 * zero). */
typedef struct FmParams FmParams;

/* The parameters that `graph` declares, initialised from (seed, FM_STREAM_INIT). */
FmParams *fm_params_new(const FmGraph *graph, FmDtype dtype, guint64 seed, GError **error);
FmParams *fm_params_copy(const FmParams *params); /* NULL when memory is short */
void fm_params_free(FmParams *params);            /* NULL allowed */

FmDtype fm_params_dtype(const FmParams *params);                         /* FM_F32 or FM_F64 */
size_t fm_params_count(const FmParams *params);                          /* of parameters and buffers */
const FmParam *fm_params_nth(const FmParams *params, size_t i);          /* borrowed; i < count */
const FmParam *fm_params_find(const FmParams *params, const char *name); /* NULL: none */
void *fm_params_data(const FmParams *params, const FmParam *param);      /* its elements */
void *fm_params_block(const FmParams *params);                           /* the whole block */
size_t fm_params_trainable_size(const FmParams *params);                 /* elements of the block's first part */
size_t fm_params_size(const FmParams *params);                           /* elements of the block */
size_t fm_params_number(const FmParams *params);                         /* trainable weights, without gaps */

/* Set every weight and buffer whose name begins with `prefix` ("": all) from the safetensors file,
 * which holds them under the rest of their names. Errors: FM_ERROR_FILE, FM_ERROR_DATA, and
 * FM_ERROR_SHAPE for one that is missing or has another shape; earlier ones are then set. */
gboolean fm_params_load(FmParams *params, const char *prefix, const char *file, GError **error);

/* ---- plans ---- */

typedef struct FmPlan FmPlan;

typedef struct FmPlanOptions {
    FmDtype dtype;      /* FM_F32 or FM_F64 */
    FmPlugin *backend;  /* borrowed; NULL: the default backend */
    size_t tile;        /* batch rows of a tile; 0: chosen from the graph */
    size_t lanes;       /* 0: chosen from the batch (4, or 8 of many or small tiles) */
    gboolean no_fusion; /* TRUE: every primitive on its own (tests) */
    /* Rows that runs will have, for the choice of tile and lanes; 0: any. Other numbers work as well. */
    size_t batch;
} FmPlanOptions;

/* Compile the graph for these outputs. `outputs` and its names are copied; the graph may be freed
 * afterwards. Parameters are bound by name. A batch-reduced output (no batch axis, computed from
 * batched nodes) is a sum over the batch. Errors: the graph's own, FM_ERROR_UNSUPPORTED for a
 * batched node that depends on a batch reduction, or for an operation without a kernel. */
FmPlan *fm_plan_new(FmGraph *graph, FmNode *const *outputs, size_t n_outputs, const FmPlanOptions *options,
                    GError **error);
void fm_plan_free(FmPlan *plan); /* NULL allowed */

size_t fm_plan_tile(const FmPlan *plan);                           /* rows of a tile */
size_t fm_plan_n_inputs(const FmPlan *plan);                       /* leaves that a run must fill */
const char *fm_plan_input_name(const FmPlan *plan, size_t i);      /* borrowed */
const FmShape *fm_plan_input_shape(const FmPlan *plan, size_t i);  /* borrowed */
int fm_plan_input_find(const FmPlan *plan, const char *name);      /* -1: not an input of the plan */
size_t fm_plan_n_outputs(const FmPlan *plan);                      /* as many as it was made for */
const FmShape *fm_plan_output_shape(const FmPlan *plan, size_t i); /* borrowed */
double fm_plan_flops(const FmPlan *plan);                          /* multiply-adds counted as 2, per batch row */
size_t fm_plan_arena_size(const FmPlan *plan);                     /* bytes of one thread's arena */
char *fm_plan_dump(const FmPlan *plan);                            /* a readable listing; owned by the caller */

/* ---- execution ---- */

/* A plan bound to parameters with room for `threads` workers. Not shared between threads: it
 * starts its own. */
typedef struct FmExec FmExec;

/* `params` (of the plan's dtype, borrowed, outlives the exec) may be NULL when the plan has none.
 * threads >= 1. Errors: FM_ERROR_SHAPE when a parameter is missing or has another shape. */
FmExec *fm_exec_new(FmPlan *plan, const FmParams *params, int threads, GError **error);
void fm_exec_free(FmExec *exec); /* NULL allowed */

/* Recompute the prologue; call after the parameters changed (fm_exec_new() has done it once). */
void fm_exec_refresh(FmExec *exec);

/* Fills the inputs of one tile: rows row0 .. row0 + n - 1 of the batch, in[i] (n * rows, ...) in
 * the plan's dtype (I32 for labels). Called from worker threads. */
typedef void (*FmFeed)(void *ctx, int worker, guint64 row0, size_t n, void *const *in);

/* Run the plan over a batch of n rows. Inputs come from arrays in[i] (whole batch; entry NULL
 * where feed fills it) or from `feed` (NULL: all from arrays). Outputs go to out[i]: (n * rows,
 * ...) or the sum over the batch. `key` and row numbers from 0 seed random nodes. Nothing is
 * allocated. Same bytes for any number of threads. Errors: FM_ERROR_DIVERGED when an external
 * function fails. */
gboolean fm_exec_run(FmExec *exec, size_t n, const void *const *in, FmFeed feed, void *ctx, void *const *out, FmKey key,
                     GError **error);

/* Output i, one without batch axis, where fm_exec_run() leaves it: the same place every time, valid
 * until the next run or refresh. NULL for a batched output, and for one that depends on the inputs
 * without any sum over the batch. */
const void *fm_exec_output(const FmExec *exec, size_t i);

/* Run the plan on one tile, n <= fm_plan_tile(), in the calling thread with worker w's arena
 * (w < threads); batch reductions are those of the tile. For solvers, which keep a tile to
 * themselves through a whole trajectory. Safe to call at once for different w. */
gboolean fm_exec_tile(FmExec *exec, int w, size_t n, const void *const *in, void *const *out, FmKey key, guint64 row0);

/* ---- where the time goes ---- */

/* Classes of work. */
typedef enum FmWork {
    FM_WORK_FEED,     /* data, random numbers, path points: the exec's feed, and random nodes */
    FM_WORK_COUPLING, /* pairing a whole batch; counted by the trainer */
    FM_WORK_ELEMENTWISE,
    FM_WORK_GEMM,      /* products and their packing */
    FM_WORK_CONV,      /* convolutions and their packing */
    FM_WORK_COMPOSITE, /* attention, normalisation and other composites with kernels */
    FM_WORK_MOVE,      /* reductions and everything that only moves elements */
    FM_WORK_EXTERNAL,  /* user functions */
    FM_WORK_LANES,     /* sums over lanes, copies of outputs */
    FM_WORK_OPTIMIZER, /* clipping, update, moving average; counted by the trainer */
    FM_N_WORKS
} FmWork;

typedef struct FmProfile {
    double seconds[FM_N_WORKS]; /* of all threads together */
    double flops[FM_N_WORKS];   /* multiply-adds counted as 2; 0 where they are not counted */
    guint64 calls[FM_N_WORKS];
    double wall; /* seconds inside fm_exec_run(), fm_exec_refresh() and what the trainer adds */
    int threads;
} FmProfile;

const char *fm_work_name(FmWork work); /* "feed", "gemm", "convolution", ... */

/* Count from zero from now on; costs two clock readings an operation. Without it, nothing. */
void fm_exec_profile_start(FmExec *exec);
/* What was counted since; counting goes on. All zero before fm_exec_profile_start(). */
void fm_exec_profile_read(const FmExec *exec, FmProfile *profile);

/* Call work(ctx, worker, i) for i = 0 .. n - 1 from up to `threads` threads, items handed out in
 * order from an atomic counter; worker < threads, and no two at once are the same. Inside, OpenMP
 * and BLAS are single-threaded. A call from inside an item, or while another thread is in a call,
 * runs in the calling thread alone. Threads are kept, asleep, for the next call; a child of fork()
 * starts its own. */
void fm_parallel(int threads, size_t n, void (*work)(void *ctx, int worker, size_t i), void *ctx);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(FmGraph, fm_graph_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FmParams, fm_params_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FmPlan, fm_plan_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FmExec, fm_exec_free)

G_END_DECLS
#endif
