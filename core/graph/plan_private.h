/* plan_private.h: a compiled plan: values with a place, steps in order. */
#ifndef FMCORE_CORE_GRAPH_PLAN_PRIVATE_H
#define FMCORE_CORE_GRAPH_PLAN_PRIVATE_H

#include "graph/node.h"

#include <fmcore/plan.h>

typedef enum FmPhase { FM_PHASE_PROLOGUE, FM_PHASE_TILE, FM_PHASE_EPILOGUE, FM_N_PHASES } FmPhase;

/* Where a value's elements are while the plan runs. */
typedef enum FmPlace {
    FM_PLACE_INPUT,    /* index: of the input */
    FM_PLACE_PARAM,    /* index: of the parameter's name */
    FM_PLACE_CONSTANT, /* offset into the plan's constants */
    FM_PLACE_FIXED,    /* offset into the exec's memory: results of the prologue */
    FM_PLACE_ARENA,    /* offset into the worker's arena */
    FM_PLACE_LANE      /* offset into the lane's block: batch reductions and the epilogue */
} FmPlace;

typedef struct FmValue {
    FmShape shape;
    FmPlace place;
    size_t index;
    size_t offset;    /* bytes */
    gboolean labels;  /* an input of I32, whatever the dtype */
    gint first, last; /* steps between which an arena value lives */
} FmValue;

/* A value seen under some shape (reshape is no operation). */
typedef struct FmRef {
    guint value;
    FmShape shape;
} FmRef;

typedef struct FmStep {
    const FmKernel *kernel;
    const char *name;
    FmPhase phase;
    guint n_in, n_out; /* n_out > 1 for fused steps only */
    FmRef in[FM_MAX_INPUTS], out[FM_MAX_INPUTS];
    const void *attrs; /* owned by the plan */
    size_t scratch;    /* bytes at the plan's tile, 0: none */
    size_t scratch_offset;
    size_t packed;        /* bytes, 0: none */
    size_t packed_offset; /* into the exec's memory */
    gboolean transposed;  /* in[1] is the weight whose transpose is packed; only packing reads it */
    gboolean reduces, random;
    FmWork work;
    double flops; /* per batch row */
    guint32 stream;
} FmStep;

struct FmPlan {
    FmDtype dtype;
    FmPlugin *backend;
    size_t tile, lanes, batch; /* batch: rows that runs will have, 0: unknown */
    GArray *values;            /* FmValue */
    GArray *steps;             /* FmStep, by phase and then in order */
    guint n_steps[FM_N_PHASES];
    GPtrArray *input_names, *param_names; /* char * */
    GArray *inputs;                       /* guint: values */
    GArray *outputs;                      /* FmRef */
    GPtrArray *attrs;                     /* owned blocks */
    GArray *packed;                       /* guint: steps with a packed operand */
    void *constants;
    size_t constants_size, fixed_size, arena_size, lane_size, reduced_size;
    double flops;
};

#define fm__plan_value(plan, i) (&g_array_index((plan)->values, FmValue, i))
#define fm__plan_step(plan, i) (&g_array_index((plan)->steps, FmStep, i))

/* fuse.c: group[id] of each node: the id of the group's last member; a node by itself is its own
 * group. `live` marks nodes that run, alias[] resolves nodes that do not. */
void fm__fuse(FmGraph *graph, const gboolean *live, FmNode *const *alias, const FmPhase *phase,
              const gboolean *is_output, guint *group);

/* Members of the group that ends with `last`, ascending; owned by the caller. */
GPtrArray *fm__group_members(FmGraph *graph, const guint *group, guint last);

/* plan.c: what a step's kernel may ask, for tiles of n rows. */
void fm__step_shapes(const FmStep *step, size_t n, FmKernelShapes *shapes);

/* pack.c: steps that pack a transposed weight do so from the weight; transposes that nobody reads any
 * more go. Before lifetimes and places are assigned. */
void fm__pack_from_weights(FmPlan *plan);

/* external.c: the kernels of external nodes. */
const FmKernel *fm__external_kernel(FmOp op, FmDtype dtype);

#endif
