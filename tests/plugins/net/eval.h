/* eval.h: a graph evaluated node by node in double with the reference backend: no plan, no tiles,
 * no fusion. Leaves are given by a callback. For tests of nets and derivatives. */
#ifndef FMCORE_TESTS_EVAL_H
#define FMCORE_TESTS_EVAL_H

#include "graph/node.h"

#include <check.h>
#include <math.h>
#include <string.h>

/* Fill the leaf `node` (input or parameter) of `size` elements; labels are int32. */
typedef void (*EvalLeaf)(void *ctx, const FmNode *node, size_t size, void *out);

typedef struct Eval {
    size_t n; /* batch rows */
    const FmBackendOps *ops;
    FmPlugin *backend;
    GPtrArray *buffers; /* double *, by node id; NULL: not needed yet */
    GPtrArray *owned;
    EvalLeaf leaf;
    void *ctx;
} Eval;

static inline void
eval_open(Eval *e, size_t n, EvalLeaf leaf, void *ctx)
{
    GError *error = NULL;

    *e = (Eval){.n = n, .leaf = leaf, .ctx = ctx};
    e->backend = fm_plugin_new(FM_KIND_BACKEND, "reference", &error);
    ck_assert_msg(e->backend != NULL, "%s", error ? error->message : "?");
    e->ops = fm_plugin_ops(e->backend);
    e->buffers = g_ptr_array_new();
    e->owned = g_ptr_array_new_with_free_func(fm_free);
}

static inline void
eval_forget(Eval *e)
{
    g_ptr_array_set_size(e->buffers, 0);
    g_ptr_array_set_size(e->owned, 0);
}

static inline void
eval_close(Eval *e)
{
    g_ptr_array_free(e->buffers, TRUE);
    g_ptr_array_free(e->owned, TRUE);
    fm_plugin_free(e->backend);
}

static inline size_t
eval_rows(const Eval *e, const FmShape *s)
{
    return s->rows > 0 ? e->n * s->rows : 1;
}

/* Elements of a node for the whole batch. */
static inline size_t
eval_size(const Eval *e, const FmNode *node)
{
    return (node->shape.rows > 0 ? e->n : 1) * fm_shape_size(&node->shape);
}

static inline double *
eval_alloc(Eval *e, size_t size)
{
    double *p = fm_alloc(MAX(size, 1) * sizeof *p);

    ck_assert_ptr_nonnull(p);
    g_ptr_array_add(e->owned, p);
    return p;
}

static inline void
eval_kernel(Eval *e, FmNode *node)
{
    const char *op = fm__node_kernel_name(node);
    const FmKernel *kernel = e->ops->lookup(fm_plugin_self(e->backend), op, FM_F64);
    FmKernelArgs args = {.n = e->n, .n_in = node->n_in, .attrs = node->attrs.bytes};
    FmKernelShapes shapes = {.n = e->n, .n_in = node->n_in, .out = &node->shape, .attrs = node->attrs.bytes};

    ck_assert_msg(kernel != NULL, "no kernel for %s", op);
    for (guint i = 0; i < node->n_in; i++) {
        const FmNode *in = node->in[i];

        args.in[i] = (FmView){e->buffers->pdata[in->id], &in->shape, eval_rows(e, &in->shape)};
        shapes.in[i] = &in->shape;
    }
    args.out = (FmView){e->buffers->pdata[node->id], &node->shape, eval_rows(e, &node->shape)};
    if (kernel->scratch)
        args.scratch = eval_alloc(e, kernel->scratch(&shapes) / sizeof(double) + 1);
    args.key = (FmKey){.seed = 7};
    ck_assert(kernel->run(&args));
}

/* The value of `node`; borrowed until eval_forget(). */
static inline double *
eval(Eval *e, FmNode *node)
{
    const gboolean alias = node->op == FM_OP_RESHAPE || node->op == FM_OP_STOP_GRADIENT;

    if (e->buffers->len < node->graph->nodes->len)
        g_ptr_array_set_size(e->buffers, (gint)node->graph->nodes->len);
    if (e->buffers->pdata[node->id])
        return e->buffers->pdata[node->id];
    if (node->op == FM_OP_COMPOSITE || alias) {
        double *value = eval(e, alias ? node->in[0] : node->expansion);

        return e->buffers->pdata[node->id] = value;
    }
    for (guint i = 0; i < node->n_in; i++)
        eval(e, node->in[i]);
    e->buffers->pdata[node->id] = eval_alloc(e, eval_size(e, node));
    if (node->op == FM_OP_INPUT || node->op == FM_OP_PARAM)
        e->leaf(e->ctx, node, eval_size(e, node), e->buffers->pdata[node->id]);
    else if (node->op == FM_OP_CONSTANT)
        memcpy(e->buffers->pdata[node->id], node->constant, eval_size(e, node) * sizeof(double));
    else
        eval_kernel(e, node);
    return e->buffers->pdata[node->id];
}

#endif
