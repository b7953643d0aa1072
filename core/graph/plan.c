/* plan.c: from a graph to steps in order, each with a kernel, and a place for every value. */
#include "graph/plan_private.h"

#include <string.h>

/* What is known about the graph while it is compiled. */
typedef struct Compile {
    FmGraph *graph;
    FmPlan *plan;
    FmNode **alias; /* per node: the node that holds its elements */
    gboolean *live, *is_output;
    FmPhase *phase;
    guint *group;    /* per node: id of the last member of its pass */
    guint *value;    /* per node: its value + 1, 0: none */
    gboolean failed; /* *error is set */
    GError **error;
} Compile;

static const FmKernel *
kernel_of(const Compile *c, const FmNode *node)
{
    const FmKernel *kernel;

    if (node->op == FM_OP_EXTERNAL || node->op == FM_OP_EXTERNAL_VJP || node->op == FM_OP_EXTERNAL_JVP)
        return fm__external_kernel(node->op, c->plan->dtype);
    kernel = fm_backend_kernel(c->plan->backend, fm__node_kernel_name(node), c->plan->dtype);
    if (!kernel && node->op == FM_OP_COMPOSITE)
        kernel = c->plan->dtype == FM_F32 ? node->composite->kernel_f32 : node->composite->kernel_f64;
    return kernel;
}

static gboolean
is_leaf(const FmNode *node)
{
    return node->op == FM_OP_INPUT || node->op == FM_OP_PARAM || node->op == FM_OP_CONSTANT;
}

/* Aliases: what runs no kernel of its own stands for another node. */
static void
find_aliases(Compile *c)
{
    for (guint id = 0; id < c->graph->nodes->len; id++) {
        FmNode *node = c->graph->nodes->pdata[id];

        c->alias[id] = node;
        if (node->op == FM_OP_RESHAPE || node->op == FM_OP_STOP_GRADIENT)
            c->alias[id] = c->alias[node->in[0]->id];
        else if (node->op == FM_OP_COMPOSITE && !kernel_of(c, node))
            c->alias[id] = c->alias[node->expansion->id];
    }
}

static void
find_live(Compile *c, FmNode *const *outputs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        c->live[c->alias[outputs[i]->id]->id] = TRUE;
        c->is_output[c->alias[outputs[i]->id]->id] = TRUE;
    }
    for (guint id = c->graph->nodes->len; id-- > 0;) {
        const FmNode *node = c->graph->nodes->pdata[id];

        for (guint i = 0; c->live[id] && i < node->n_in; i++)
            c->live[c->alias[node->in[i]->id]->id] = TRUE;
    }
}

static gboolean
find_phases(Compile *c)
{
    for (guint id = 0; id < c->graph->nodes->len; id++) {
        const FmNode *node = c->graph->nodes->pdata[id];
        gboolean late = FALSE;

        if (!c->live[id])
            continue;
        for (guint i = 0; i < node->n_in; i++) {
            const guint in = c->alias[node->in[i]->id]->id;
            const FmNode *source = c->graph->nodes->pdata[in];

            late = late || c->phase[in] == FM_PHASE_EPILOGUE || fm__node_reduces_batch(source);
        }
        if (late && (node->shape.rows > 0 || fm__node_reduces_batch(node))) {
            g_set_error(c->error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                        "operation '%s' on rows of the batch depends on a sum over the batch, expected "
                        "such sums to feed only values without a batch axis",
                        fm__node_kernel_name(node));
            return FALSE;
        }
        c->phase[id] = late                                              ? FM_PHASE_EPILOGUE
                       : node->shape.rows > 0 || node->op == FM_OP_INPUT ? FM_PHASE_TILE
                                                                         : FM_PHASE_PROLOGUE;
        /* Unbatched values computed from unbatched inputs belong to the tile as well. */
        for (guint i = 0; !late && i < node->n_in; i++)
            if (c->phase[c->alias[node->in[i]->id]->id] == FM_PHASE_TILE)
                c->phase[id] = FM_PHASE_TILE;
    }
    return TRUE;
}

/* ---- values ---- */

static guint
value_new(FmPlan *plan, const FmShape *shape, FmPlace place, size_t index, size_t offset)
{
    const FmValue v = {.shape = *shape, .place = place, .index = index, .offset = offset, .first = -1};

    g_array_append_val(plan->values, v);
    return plan->values->len - 1;
}

static size_t
aligned(size_t bytes)
{
    return (bytes + FM_ALIGN - 1) / FM_ALIGN * FM_ALIGN;
}

static size_t
value_bytes(const FmPlan *plan, const FmShape *shape, size_t n)
{
    return aligned(fm_shape_size(shape) * (shape->rows > 0 ? n : 1) * fm_dtype_size(plan->dtype));
}

/* Take `bytes` at the end of a region. */
static size_t
claim(size_t *region, size_t bytes)
{
    const size_t at = *region;

    *region += aligned(bytes);
    return at;
}

static size_t
name_index(GPtrArray *names, const char *name)
{
    g_ptr_array_add(names, g_strdup(name));
    return names->len - 1;
}

static gboolean
constant_store(Compile *c, FmNode *node, FmValue *v)
{
    FmPlan *plan = c->plan;
    const size_t n = fm_shape_size(&node->shape);
    const size_t old = plan->constants_size;
    char *grown;

    v->offset = claim(&plan->constants_size, n * fm_dtype_size(plan->dtype));
    grown = fm_alloc(plan->constants_size);
    if (!grown) {
        g_set_error(c->error, FM_ERROR, FM_ERROR_MEMORY, "%zu constants do not fit in memory", n);
        return FALSE;
    }
    if (old > 0)
        memcpy(grown, plan->constants, old);
    fm_free(plan->constants);
    plan->constants = grown;
    fm_convert(FM_F64, node->constant, plan->dtype, grown + v->offset, n);
    return TRUE;
}

/* The value that holds a node's elements; made on first use. */
static guint
value_of(Compile *c, FmNode *node)
{
    FmPlan *plan = c->plan;
    FmPlace place = FM_PLACE_ARENA;
    size_t index = 0, offset = 0;
    guint v;

    if (c->value[node->id])
        return c->value[node->id] - 1;
    if (node->op == FM_OP_INPUT) {
        place = FM_PLACE_INPUT;
        index = name_index(plan->input_names, node->name);
    } else if (node->op == FM_OP_PARAM) {
        place = FM_PLACE_PARAM;
        index = name_index(plan->param_names, node->name);
    } else if (node->op == FM_OP_CONSTANT) {
        place = FM_PLACE_CONSTANT;
    } else if (c->phase[node->id] == FM_PHASE_PROLOGUE) {
        place = FM_PLACE_FIXED; /* offset set once it is known who is left */
    } else if (fm__node_reduces_batch(node)) {
        place = FM_PLACE_LANE;
        offset = claim(&plan->lane_size, value_bytes(plan, &node->shape, 0));
    } else if (c->phase[node->id] == FM_PHASE_EPILOGUE) {
        place = FM_PLACE_LANE; /* offset set once the reductions have theirs */
        offset = G_MAXSIZE;
    }
    v = value_new(plan, &node->shape, place, index, offset);
    if (place == FM_PLACE_CONSTANT && !constant_store(c, node, fm__plan_value(plan, v)))
        c->failed = TRUE;
    fm__plan_value(plan, v)->labels = node->labels;
    if (place == FM_PLACE_INPUT)
        g_array_append_val(plan->inputs, v);
    c->value[node->id] = v + 1;
    return v;
}

static FmRef
ref_of(Compile *c, FmNode *node)
{
    return (FmRef){.value = value_of(c, c->alias[node->id]), .shape = node->shape};
}

/* ---- steps ---- */

static const void *
keep(FmPlan *plan, const void *data, size_t size)
{
    void *copy = g_malloc0(MAX(size, sizeof(double)));

    memcpy(copy, data, size);
    g_ptr_array_add(plan->attrs, copy);
    return copy;
}

static double
node_flops(const FmNode *node)
{
    const double size = (double)fm_shape_size(&node->shape);
    const FmShape *a = node->n_in > 0 ? &node->in[0]->shape : NULL;

    switch (node->op) {
    case FM_OP_MATMUL:
    case FM_OP_MATMUL_BATCH: {
        const FmAttrTrans *s = (const void *)node->attrs.bytes;
        const int k = node->op == FM_OP_MATMUL_BATCH && s->a ? a->ndim - 2 : a->ndim - 1;

        return 2.0 * size * (double)a->dim[k];
    }
    case FM_OP_MATMUL_REDUCE:
        return 2.0 * (double)fm_shape_size(a) * (double)node->shape.dim[1];
    case FM_OP_CONV2D: {
        const FmShape *w = &node->in[1]->shape;

        return 2.0 * size * (double)(w->dim[1] * w->dim[2] * w->dim[3]);
    }
    case FM_OP_CONV2D_INPUT: {
        const FmShape *w = &node->in[1]->shape;

        return 2.0 * (double)fm_shape_size(a) * (double)(w->dim[1] * w->dim[2] * w->dim[3]);
    }
    case FM_OP_CONV2D_WEIGHT:
        return 2.0 * (double)fm_shape_size(&node->in[1]->shape) *
               (double)(node->shape.dim[1] * node->shape.dim[2] * node->shape.dim[3]);
    default:
        return fm__op_elt(node->op) >= 0 ? size : 0.0;
    }
}

/* The operations of a composite's expansion, each counted once. */
static double
expansion_flops(const FmNode *node, GHashTable *seen)
{
    double flops = 0.0;

    if (!g_hash_table_add(seen, (gpointer)node))
        return 0.0;
    if (node->op == FM_OP_COMPOSITE)
        return expansion_flops(node->expansion, seen);
    for (guint i = 0; i < node->n_in; i++)
        flops += expansion_flops(node->in[i], seen);
    return flops + node_flops(node);
}

static double
step_flops(const FmNode *node)
{
    g_autoptr(GHashTable) seen = NULL;

    if (node->op != FM_OP_COMPOSITE)
        return node_flops(node);
    seen = g_hash_table_new(NULL, NULL);
    for (guint i = 0; i < node->n_in; i++) {
        FmNode *in = node->in[i];

        /* A reshape of a reshape starts at what holds the elements. */
        g_hash_table_add(seen, in);
        while (in->op == FM_OP_RESHAPE) {
            in = in->in[0];
            g_hash_table_add(seen, in);
        }
    }
    return expansion_flops(node->expansion, seen);
}

static FmWork
work_of(const FmNode *node)
{
    switch (node->op) {
    case FM_OP_MATMUL:
    case FM_OP_MATMUL_REDUCE:
    case FM_OP_MATMUL_BATCH:
        return FM_WORK_GEMM;
    case FM_OP_CONV2D:
    case FM_OP_CONV2D_INPUT:
    case FM_OP_CONV2D_WEIGHT:
        return FM_WORK_CONV;
    case FM_OP_COMPOSITE:
        return FM_WORK_COMPOSITE;
    case FM_OP_EXTERNAL:
    case FM_OP_EXTERNAL_VJP:
    case FM_OP_EXTERNAL_JVP:
        return FM_WORK_EXTERNAL;
    case FM_OP_RANDOM:
        return FM_WORK_FEED;
    default:
        return fm__op_elt(node->op) >= 0 ? FM_WORK_ELEMENTWISE : FM_WORK_MOVE;
    }
}

static void
finish_step(Compile *c, FmStep *step, const FmNode *node)
{
    step->work = work_of(node);
    step->flops += step_flops(node);
    if (step->phase == FM_PHASE_TILE)
        c->plan->flops += step->flops;
    g_array_append_val(c->plan->steps, *step);
    c->plan->n_steps[step->phase]++;
}

static gboolean
emit_single(Compile *c, FmNode *node)
{
    FmStep step = {.kernel = kernel_of(c, node),
                   .name = fm__node_kernel_name(node),
                   .phase = c->phase[node->id],
                   .n_in = node->n_in,
                   .n_out = 1};

    if (!step.kernel) {
        g_set_error(c->error, FM_ERROR, FM_ERROR_UNSUPPORTED, "backend '%s' has no kernel for '%s' in %s",
                    fm_plugin_name(c->plan->backend), step.name, fm_dtype_name(c->plan->dtype));
        return FALSE;
    }
    for (guint i = 0; i < node->n_in; i++)
        step.in[i] = ref_of(c, node->in[i]);
    step.out[0] = ref_of(c, node);
    step.attrs = node->attrs_size > 0 ? keep(c->plan, node->attrs.bytes, node->attrs_size) : NULL;
    step.reduces = fm__node_reduces_batch(node);
    step.random = node->op == FM_OP_RANDOM;
    if (step.random)
        step.stream = ((const FmAttrRandom *)step.attrs)->stream;
    finish_step(c, &step, node);
    return TRUE;
}

static FmInstr
instruction(const FmNode *node)
{
    FmInstr instr = {.op = (guint8)fm__op_elt(node->op)};

    if (node->op == FM_OP_AFFINE) {
        const FmAttrAffine *a = (const void *)node->attrs.bytes;

        instr.imm[0] = a->scale;
        instr.imm[1] = a->shift;
    } else if (node->op == FM_OP_POW) {
        instr.imm[0] = ((const FmAttrPow *)(const void *)node->attrs.bytes)->exponent;
    }
    return instr;
}

/* The register of an operand: an input of the pass, or an earlier instruction. Instructions are
 * numbered from FM_MAX_INPUTS until the number of inputs is known. */
static guint8
operand(Compile *c, FmStep *step, FmProgram *program, const guint8 *made, FmNode *in)
{
    FmRef ref;

    if (made[in->id] != G_MAXUINT8)
        return made[in->id];
    ref = ref_of(c, in);
    for (guint i = 0; i < step->n_in; i++)
        if (step->in[i].value == ref.value && fm_shape_equal(&step->in[i].shape, &ref.shape))
            return (guint8)i;
    step->in[step->n_in] = ref;
    program->n_in++;
    return (guint8)step->n_in++;
}

static gboolean
read_outside(const Compile *c, const FmNode *member)
{
    const guint last = c->group[member->id];

    if (c->is_output[member->id])
        return TRUE;
    for (guint id = member->id + 1; id < c->graph->nodes->len; id++) {
        const FmNode *reader = c->graph->nodes->pdata[id];

        if (!c->live[id])
            continue;
        for (guint i = 0; i < reader->n_in; i++)
            if (c->alias[reader->in[i]->id] == member && (c->group[id] != last || reader->in[i] != member))
                return TRUE;
    }
    return FALSE;
}

static void
emit_fused(Compile *c, GPtrArray *members)
{
    FmStep step = {.name = "fused",
                   .phase = FM_PHASE_TILE,
                   .kernel = fm_backend_kernel(c->plan->backend, "fused", c->plan->dtype)};
    FmProgram program = {0};
    g_autofree guint8 *made = g_malloc(c->graph->nodes->len);

    memset(made, G_MAXUINT8, c->graph->nodes->len);
    for (guint m = 0; m < members->len; m++) {
        FmNode *node = members->pdata[m];
        FmInstr instr = instruction(node);

        for (guint i = 0; i < node->n_in; i++)
            instr.src[i] = operand(c, &step, &program, made, node->in[i]);
        program.instr[program.n_instrs] = instr;
        made[node->id] = (guint8)(FM_MAX_INPUTS + program.n_instrs++);
        if (m + 1 < members->len)
            step.flops += node_flops(node);
    }
    for (guint m = 0; m < members->len; m++) {
        FmNode *node = members->pdata[m];

        if (read_outside(c, node)) {
            step.out[step.n_out] = ref_of(c, node);
            program.outs[step.n_out++] = (guint8)(made[node->id] - FM_MAX_INPUTS + program.n_in);
        }
    }
    for (guint k = 0; k < program.n_instrs; k++)
        for (int s = 0; s < 3; s++)
            if (program.instr[k].src[s] >= FM_MAX_INPUTS)
                program.instr[k].src[s] = (guint8)(program.instr[k].src[s] - FM_MAX_INPUTS + program.n_in);
    program.n_out = (guint16)step.n_out;
    step.attrs = keep(c->plan, &program, sizeof program);
    finish_step(c, &step, members->pdata[members->len - 1]);
}

static gboolean
emit_all(Compile *c)
{
    for (int phase = 0; phase < FM_N_PHASES; phase++)
        for (guint id = 0; id < c->graph->nodes->len; id++) {
            FmNode *node = c->graph->nodes->pdata[id];
            g_autoptr(GPtrArray) members = NULL;

            if (!c->live[id] || is_leaf(node) || (int)c->phase[id] != phase || c->group[id] != id)
                continue;
            members = fm__group_members(c->graph, c->group, id);
            if (members->len > 1)
                emit_fused(c, members);
            else if (!emit_single(c, node))
                return FALSE;
        }
    return TRUE;
}

/* ---- memory ---- */

void
fm__step_shapes(const FmStep *step, size_t n, FmKernelShapes *s)
{
    *s = (FmKernelShapes){.n = n, .n_in = step->n_in, .out = &step->out[0].shape, .attrs = step->attrs};
    for (guint i = 0; i < step->n_in; i++)
        s->in[i] = &step->in[i].shape;
}

/* Unbatched operands may be packed when they do not change between refreshes. */
static gboolean
may_pack(const FmPlan *plan, const FmStep *step)
{
    if (step->phase != FM_PHASE_TILE || !step->kernel->pack_size || !step->kernel->pack)
        return FALSE;
    for (guint i = 0; i < step->n_in; i++) {
        const FmPlace place = fm__plan_value(plan, step->in[i].value)->place;

        if (step->in[i].shape.rows == 0 && place != FM_PLACE_PARAM && place != FM_PLACE_FIXED &&
            place != FM_PLACE_CONSTANT)
            return FALSE;
    }
    return TRUE;
}

static void
find_lifetimes(FmPlan *plan)
{
    const gint n = (gint)plan->steps->len;

    for (gint k = 0; k < n; k++) {
        const FmStep *step = fm__plan_step(plan, k);

        for (guint i = 0; i < step->n_in; i++)
            fm__plan_value(plan, step->in[i].value)->last = k;
        for (guint i = 0; i < step->n_out; i++) {
            fm__plan_value(plan, step->out[i].value)->first = k;
            fm__plan_value(plan, step->out[i].value)->last = k;
        }
    }
    for (guint i = 0; i < plan->outputs->len; i++)
        fm__plan_value(plan, g_array_index(plan->outputs, FmRef, i).value)->last = n;
}

typedef struct Block {
    size_t offset, end;
    gint last;
} Block;

/* The lowest place for `bytes` that no live block overlaps; blocks are sorted by offset. */
static size_t
place_block(GArray *blocks, size_t bytes, gint last)
{
    Block b = {.offset = 0, .last = last};
    guint at = 0;

    for (; at < blocks->len; at++) {
        const Block *other = &g_array_index(blocks, Block, at);

        if (b.offset + bytes <= other->offset)
            break;
        b.offset = MAX(b.offset, other->end);
    }
    b.end = b.offset + bytes;
    g_array_insert_val(blocks, at, b);
    return b.offset;
}

/* Places in the arena for tiles of n rows; returns its size. */
static size_t
assign_arena(FmPlan *plan, size_t n)
{
    g_autoptr(GArray) blocks = g_array_new(FALSE, FALSE, sizeof(Block));
    size_t size = 0;

    for (guint i = 0; i < plan->inputs->len; i++) { /* room for a feed's inputs, all along */
        FmValue *v = fm__plan_value(plan, g_array_index(plan->inputs, guint, i));

        v->offset = place_block(blocks, value_bytes(plan, &v->shape, n), G_MAXINT);
    }
    for (guint k = 0; k < plan->steps->len; k++) {
        FmStep *step = fm__plan_step(plan, k);
        FmKernelShapes shapes;

        for (guint i = blocks->len; i-- > 0;)
            if (g_array_index(blocks, Block, i).last < (gint)k)
                g_array_remove_index(blocks, i);
        if (step->phase != FM_PHASE_TILE)
            continue;
        for (guint i = 0; i < step->n_out; i++) {
            FmValue *v = fm__plan_value(plan, step->out[i].value);

            if (v->place == FM_PLACE_ARENA)
                v->offset = place_block(blocks, value_bytes(plan, &v->shape, n), v->last);
        }
        fm__step_shapes(step, n, &shapes);
        step->scratch = step->kernel->scratch ? step->kernel->scratch(&shapes) : 0;
        if (step->scratch > 0)
            step->scratch_offset = place_block(blocks, aligned(step->scratch), (gint)k);
        for (guint i = 0; i < blocks->len; i++)
            size = MAX(size, g_array_index(blocks, Block, i).end);
    }
    for (guint i = 0; i < blocks->len; i++)
        size = MAX(size, g_array_index(blocks, Block, i).end);
    return size;
}

/* Scratch of the phases that run outside tiles, packed operands, and the epilogue's values. */
static void
assign_rest(FmPlan *plan)
{
    plan->reduced_size = plan->lane_size;
    for (guint k = 0; k < plan->steps->len; k++) {
        FmStep *step = fm__plan_step(plan, k);
        FmValue *out = fm__plan_value(plan, step->out[0].value);
        FmKernelShapes shapes;

        fm__step_shapes(step, plan->tile, &shapes);
        if (step->phase == FM_PHASE_PROLOGUE)
            out->offset = claim(&plan->fixed_size, value_bytes(plan, &out->shape, 0));
        if (step->phase == FM_PHASE_EPILOGUE)
            out->offset = claim(&plan->lane_size, value_bytes(plan, &out->shape, 0));
        if (step->phase != FM_PHASE_TILE && step->kernel->scratch) {
            step->scratch = step->kernel->scratch(&shapes);
            step->scratch_offset =
                claim(step->phase == FM_PHASE_EPILOGUE ? &plan->lane_size : &plan->fixed_size, step->scratch);
        }
        if (may_pack(plan, step)) {
            step->packed = step->kernel->pack_size(&shapes);
            step->packed_offset = claim(&plan->fixed_size, step->packed);
            if (step->packed > 0)
                g_array_append_val(plan->packed, k);
        }
    }
}

/* Bytes of all weights that the plan reads. */
static size_t
weight_bytes(const FmPlan *plan)
{
    size_t bytes = 0;

    for (guint i = 0; i < plan->values->len; i++) {
        const FmValue *v = fm__plan_value(plan, i);

        bytes += v->place == FM_PLACE_PARAM ? value_bytes(plan, &v->shape, 0) : 0;
    }
    return bytes;
}

static gboolean
has_images(const FmPlan *plan)
{
    for (guint k = 0; k < plan->steps->len; k++)
        if (fm__plan_step(plan, k)->work == FM_WORK_CONV)
            return TRUE;
    return FALSE;
}

/* A tile's values should stay in the second-level cache, and there should be enough tiles for several
 * lanes. Weights that do not fit there themselves are read once a tile: many rows must share that
 * (512x4, batch 4096, two threads: 80 ms with tiles of 32, 74 with 64, 66 with 128 or 256; its samples on
 * two Zen 3 cores: 2.28 s with 32, 2.23 with 64, 2.31 with 128). */
static size_t
choose_tile(FmPlan *plan, gboolean reduces, size_t batch)
{
    const size_t target = (size_t)1 << 20;
    /* rows of many positions, which share the weights already: more operations than 16 a weight */
    const gboolean images = has_images(plan) || (plan->flops > 2e7 && plan->flops * (double)fm_dtype_size(plan->dtype) >
                                                                          16.0 * (double)weight_bytes(plan));
    const gboolean wide = !images && weight_bytes(plan) > target;
    const size_t least = images ? 2 : !wide ? 16 : reduces ? 128 : 64;
    size_t tile = reduces && !wide ? 64 : 128;

    while (tile > least && assign_arena(plan, tile) > target)
        tile /= 2;
    while (wide && batch > 0 && tile > 16 && batch / tile < 4)
        tile /= 2;
    return tile;
}

static void
record_outputs(Compile *c, FmNode *const *outputs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const FmRef ref = ref_of(c, outputs[i]);

        g_array_append_val(c->plan->outputs, ref);
    }
}

static FmPlan *
plan_alloc(const FmPlanOptions *options, FmPlugin *backend)
{
    FmPlan *plan = g_new0(FmPlan, 1);

    plan->dtype = options->dtype;
    plan->backend = backend;
    plan->lanes = options->lanes;
    plan->batch = options->batch;
    plan->values = g_array_new(FALSE, FALSE, sizeof(FmValue));
    plan->steps = g_array_new(FALSE, FALSE, sizeof(FmStep));
    plan->input_names = g_ptr_array_new_with_free_func(g_free);
    plan->param_names = g_ptr_array_new_with_free_func(g_free);
    plan->inputs = g_array_new(FALSE, FALSE, sizeof(guint));
    plan->outputs = g_array_new(FALSE, FALSE, sizeof(FmRef));
    plan->attrs = g_ptr_array_new_with_free_func(g_free);
    plan->packed = g_array_new(FALSE, FALSE, sizeof(guint));
    return plan;
}

static gboolean
compile(Compile *c, FmNode *const *outputs, size_t n_outputs, const FmPlanOptions *options)
{
    gboolean reduces = FALSE;

    find_aliases(c);
    find_live(c, outputs, n_outputs);
    if (!find_phases(c))
        return FALSE;
    for (guint id = 0; id < c->graph->nodes->len; id++)
        c->group[id] = id;
    if (!options->no_fusion && fm_backend_kernel(c->plan->backend, "fused", c->plan->dtype))
        fm__fuse(c->graph, c->live, c->alias, c->phase, c->is_output, c->group);
    if (!emit_all(c))
        return FALSE;
    record_outputs(c, outputs, n_outputs);
    if (c->failed)
        return FALSE;
    fm__pack_from_weights(c->plan);
    find_lifetimes(c->plan);
    for (guint k = 0; k < c->plan->steps->len; k++)
        reduces = reduces || fm__plan_step(c->plan, k)->reduces;
    c->plan->tile = options->tile > 0 ? options->tile : choose_tile(c->plan, reduces, options->batch);
    c->plan->arena_size = assign_arena(c->plan, c->plan->tile);
    assign_rest(c->plan);
    return TRUE;
}

FmPlan *
fm_plan_new(FmGraph *graph, FmNode *const *outputs, size_t n_outputs, const FmPlanOptions *options, GError **error)
{
    FmPlugin *backend = options->backend ? options->backend : fm_backend_default(error);
    const guint n = graph->nodes->len;
    g_autofree FmNode **alias = g_new0(FmNode *, n);
    g_autofree gboolean *live = g_new0(gboolean, n), *is_output = g_new0(gboolean, n);
    g_autofree FmPhase *phase = g_new0(FmPhase, n);
    g_autofree guint *group = g_new0(guint, n), *value = g_new0(guint, n);
    Compile c = {graph, NULL, alias, live, is_output, phase, group, value, FALSE, error};

    if (!backend || !fm_graph_ok(graph, error))
        return NULL;
    for (size_t i = 0; i < n_outputs; i++)
        if (!outputs[i]) {
            g_set_error(error, FM_ERROR, FM_ERROR_SHAPE, "plan: output %zu is missing", i);
            return NULL;
        }
    c.plan = plan_alloc(options, backend);
    if (!compile(&c, outputs, n_outputs, options))
        g_clear_pointer(&c.plan, fm_plan_free);
    return c.plan;
}

void
fm_plan_free(FmPlan *plan)
{
    if (!plan)
        return;
    g_array_unref(plan->values);
    g_array_unref(plan->steps);
    g_ptr_array_unref(plan->input_names);
    g_ptr_array_unref(plan->param_names);
    g_array_unref(plan->inputs);
    g_array_unref(plan->outputs);
    g_ptr_array_unref(plan->attrs);
    g_array_unref(plan->packed);
    fm_free(plan->constants);
    g_free(plan);
}
