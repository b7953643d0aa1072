/* graph.c: nodes, their sharing, leaves and the sticky error. */
#include "graph/node.h"

#include <stdarg.h>
#include <string.h>

const char *const fm__op_names[FM_N_OPS] = {
#define FM_OP_NAME(id, name, elt) name,
    FM_OP_LIST(FM_OP_NAME)
#undef FM_OP_NAME
};

static const gint8 op_elts[FM_N_OPS] = {
#define FM_OP_ELT(id, name, elt) elt,
    FM_OP_LIST(FM_OP_ELT)
#undef FM_OP_ELT
};

int
fm__op_elt(FmOp op)
{
    return op_elts[op];
}

gboolean
fm__node_reduces_batch(const FmNode *node)
{
    switch (node->op) {
    case FM_OP_SUM_BATCH:
    case FM_OP_MATMUL_REDUCE:
    case FM_OP_CONV2D_WEIGHT:
    case FM_OP_SCATTER_ADD:
        return node->in[0]->shape.rows > 0;
    default:
        return FALSE;
    }
}

const char *
fm__node_kernel_name(const FmNode *node)
{
    return node->op == FM_OP_COMPOSITE ? node->composite->name : fm__op_names[node->op];
}

/* ---- shapes ---- */

size_t
fm_shape_size(const FmShape *shape)
{
    size_t size = shape->rows > 0 ? shape->rows : 1;

    for (int i = 0; i < shape->ndim; i++)
        size *= shape->dim[i];
    return size;
}

gboolean
fm_shape_equal(const FmShape *a, const FmShape *b)
{
    if (a->rows != b->rows || a->ndim != b->ndim)
        return FALSE;
    for (int i = 0; i < a->ndim; i++)
        if (a->dim[i] != b->dim[i])
            return FALSE;
    return TRUE;
}

char *
fm_shape_format(const FmShape *shape)
{
    GString *s = g_string_new("(");

    if (shape->rows == 1)
        g_string_append(s, "B");
    else if (shape->rows > 1)
        g_string_append_printf(s, "%zuB", shape->rows);
    for (int i = 0; i < shape->ndim; i++)
        g_string_append_printf(s, "%s%zu", i > 0 || shape->rows > 0 ? ", " : "", shape->dim[i]);
    g_string_append(s, ")");
    return g_string_free(s, FALSE);
}

/* ---- sharing of equal nodes ---- */

static guint
node_hash(gconstpointer key)
{
    const FmNode *node = key;
    guint h = 2166136261u ^ (guint)node->op;

    for (guint i = 0; i < node->n_in; i++)
        h = (h ^ node->in[i]->id) * 16777619u;
    for (gsize i = 0; i < node->attrs_size; i++)
        h = (h ^ (guchar)node->attrs.bytes[i]) * 16777619u;
    return (h ^ (guint)fm_shape_size(&node->shape)) * 16777619u;
}

static gboolean
node_equal(gconstpointer a_, gconstpointer b_)
{
    const FmNode *a = a_, *b = b_;

    return a->op == b->op && a->n_in == b->n_in && a->composite == b->composite && a->attrs_size == b->attrs_size &&
           fm_shape_equal(&a->shape, &b->shape) && memcmp(a->in, b->in, a->n_in * sizeof a->in[0]) == 0 &&
           memcmp(a->attrs.bytes, b->attrs.bytes, a->attrs_size) == 0;
}

static void
node_free(gpointer data)
{
    FmNode *node = data;

    g_free(node->name);
    g_free(node->constant);
    g_free(node);
}

FmGraph *
fm_graph_new(void)
{
    FmGraph *graph = g_new0(FmGraph, 1);

    graph->nodes = g_ptr_array_new_with_free_func(node_free);
    graph->shared = g_hash_table_new(node_hash, node_equal);
    graph->names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    graph->prefix = g_strdup("");
    return graph;
}

void
fm_graph_free(FmGraph *graph)
{
    if (!graph)
        return;
    g_hash_table_destroy(graph->shared);
    g_hash_table_destroy(graph->names);
    g_ptr_array_free(graph->nodes, TRUE);
    g_free(graph->prefix);
    g_clear_error(&graph->error);
    g_free(graph);
}

gboolean
fm_graph_ok(const FmGraph *graph, GError **error)
{
    if (!graph->error)
        return TRUE;
    if (error)
        *error = g_error_copy(graph->error);
    return FALSE;
}

void
fm_graph_fail(FmGraph *graph, int code, const char *format, ...)
{
    va_list args;

    if (graph->error)
        return;
    va_start(args, format);
    graph->error = g_error_new_valist(FM_ERROR, code, format, args);
    va_end(args);
}

const FmShape *
fm_node_shape(const FmNode *node)
{
    return &node->shape;
}

FmGraph *
fm_node_graph(const FmNode *node)
{
    return node->graph;
}

static gboolean
op_is_shared(FmOp op)
{
    return op != FM_OP_INPUT && op != FM_OP_PARAM && op != FM_OP_CONSTANT;
}

FmNode *
fm__node_new(FmGraph *graph, FmOp op, const FmShape *shape, FmNode *const *in, guint n_in, const void *attrs,
             gsize attrs_size)
{
    FmNode probe = {.graph = graph, .op = op, .shape = *shape, .n_in = n_in};
    FmNode *node;

    if (graph->error)
        return NULL;
    for (guint i = 0; i < n_in; i++) {
        if (!in[i])
            return NULL;
        if (in[i]->graph != graph) {
            fm_graph_fail(graph, FM_ERROR_SHAPE, "%s: its inputs belong to different graphs", fm__op_names[op]);
            return NULL;
        }
        probe.in[i] = in[i];
    }
    if (attrs_size > 0)
        memcpy(probe.attrs.bytes, attrs, attrs_size);
    probe.attrs_size = attrs_size;
    if (op_is_shared(op) && op != FM_OP_COMPOSITE) {
        node = g_hash_table_lookup(graph->shared, &probe);
        if (node)
            return node;
    }
    node = g_new(FmNode, 1);
    *node = probe;
    node->id = graph->nodes->len;
    g_ptr_array_add(graph->nodes, node);
    if (op_is_shared(op) && op != FM_OP_COMPOSITE)
        g_hash_table_add(graph->shared, node);
    return node;
}

/* ---- leaves ---- */

static gboolean
shape_set(FmGraph *graph, const char *name, FmShape *shape, size_t rows, int ndim, const size_t *dim)
{
    size_t total = MAX(rows, 1);

    if (ndim < 0 || ndim > FM_MAX_NDIM) {
        fm_graph_fail(graph, FM_ERROR_SHAPE, "'%s' has %d axes, expected 0 to %d", name, ndim, FM_MAX_NDIM);
        return FALSE;
    }
    *shape = (FmShape){.rows = rows, .ndim = ndim};
    for (int i = 0; i < ndim; i++) {
        if (dim[i] == 0 || !fm_size_mul(total, dim[i], sizeof(double), &(size_t){0})) {
            fm_graph_fail(graph, FM_ERROR_SHAPE,
                          "'%s': axis %d has length %zu, expected at least 1 and a size that fits "
                          "in memory",
                          name, i, dim[i]);
            return FALSE;
        }
        shape->dim[i] = dim[i];
        total *= dim[i];
    }
    return TRUE;
}

static FmNode *
named_leaf(FmGraph *graph, FmOp op, const char *name, const FmShape *shape)
{
    FmNode *node = g_hash_table_lookup(graph->names, name);

    if (!node) {
        node = fm__node_new(graph, op, shape, NULL, 0, NULL, 0);
        if (!node)
            return NULL;
        node->name = g_strdup(name);
        g_hash_table_insert(graph->names, g_strdup(name), node);
    } else if (node->op != op || !fm_shape_equal(&node->shape, shape)) {
        g_autofree char *has = fm_shape_format(&node->shape), *wants = fm_shape_format(shape);

        fm_graph_fail(graph, FM_ERROR_SHAPE, "'%s' is declared as %s %s and again as %s %s", name,
                      fm__op_names[node->op], has, fm__op_names[op], wants);
        return NULL;
    }
    return node;
}

FmNode *
fm_input(FmGraph *graph, const char *name, size_t rows, int ndim, const size_t *dim)
{
    FmShape shape;

    return shape_set(graph, name, &shape, rows, ndim, dim) ? named_leaf(graph, FM_OP_INPUT, name, &shape) : NULL;
}

FmNode *
fm_input_labels(FmGraph *graph, const char *name)
{
    FmNode *node = fm_input(graph, name, 1, 0, NULL);

    if (node)
        node->labels = TRUE;
    return node;
}

static FmNode *
param_new(FmGraph *graph, const char *name, int ndim, const size_t *dim, FmInit init, gboolean trainable)
{
    g_autofree char *full = g_strconcat(graph->prefix, name, NULL);
    FmShape shape;
    FmNode *node;

    if (!shape_set(graph, full, &shape, 0, ndim, dim))
        return NULL;
    node = named_leaf(graph, FM_OP_PARAM, full, &shape);
    if (node) {
        node->init = init;
        node->trainable = trainable;
    }
    return node;
}

FmNode *
fm_param(FmGraph *graph, const char *name, int ndim, const size_t *dim, FmInit init)
{
    return param_new(graph, name, ndim, dim, init, TRUE);
}

FmNode *
fm_buffer(FmGraph *graph, const char *name, int ndim, const size_t *dim, FmInit init)
{
    return param_new(graph, name, ndim, dim, init, FALSE);
}

void
fm_graph_set_prefix(FmGraph *graph, const char *prefix)
{
    g_free(graph->prefix);
    graph->prefix = g_strdup(prefix);
}

FmNode *
fm_constant(FmGraph *graph, int ndim, const size_t *dim, const double *value)
{
    FmShape shape;
    FmNode *node;

    if (!shape_set(graph, "constant", &shape, 0, ndim, dim))
        return NULL;
    /* Constants are few: a linear search keeps equal ones shared. */
    for (guint i = 0; i < graph->nodes->len; i++) {
        node = graph->nodes->pdata[i];
        if (node->op == FM_OP_CONSTANT && fm_shape_equal(&node->shape, &shape) &&
            memcmp(node->constant, value, fm_shape_size(&shape) * sizeof *value) == 0)
            return graph->error ? NULL : node;
    }
    node = fm__node_new(graph, FM_OP_CONSTANT, &shape, NULL, 0, NULL, 0);
    if (node)
        node->constant = g_memdup2(value, fm_shape_size(&shape) * sizeof *value);
    return node;
}

FmNode *
fm_scalar(FmGraph *graph, double value)
{
    return fm_constant(graph, 0, NULL, &value);
}

FmNode *
fm_random(FmGraph *graph, FmRandomKind kind, guint32 stream, const FmShape *shape)
{
    const FmAttrRandom attrs = {.kind = kind, .stream = stream};

    if (shape->rows == 0) {
        fm_graph_fail(graph, FM_ERROR_SHAPE,
                      "random: a node without batch axis was asked for, "
                      "expected rows of at least 1");
        return NULL;
    }
    return fm__node_new(graph, FM_OP_RANDOM, shape, NULL, 0, &attrs, sizeof attrs);
}

/* ---- composites and external functions ---- */

FmNode *
fm_composite(FmGraph *graph, const FmComposite *composite, FmNode *const *in, size_t n, const void *attrs,
             size_t attrs_size)
{
    FmNode *expansion, *node;

    if (n > FM_MAX_INPUTS || attrs_size > FM_MAX_ATTRS) {
        fm_graph_fail(graph, FM_ERROR_SHAPE,
                      "composite '%s' has %zu inputs and %zu bytes of attributes, expected at most "
                      "%d and %d",
                      composite->name, n, attrs_size, FM_MAX_INPUTS, FM_MAX_ATTRS);
        return NULL;
    }
    for (size_t i = 0; i < n; i++)
        if (!in[i])
            return NULL;
    expansion = composite->expand(graph, in, attrs);
    if (!expansion)
        return NULL;
    for (guint i = expansion->id + 1; i < graph->nodes->len; i++) {
        node = graph->nodes->pdata[i];
        if (node->op == FM_OP_COMPOSITE && node->expansion == expansion && node->composite == composite)
            return node;
    }
    node = fm__node_new(graph, FM_OP_COMPOSITE, &expansion->shape, in, (guint)n, attrs, attrs_size);
    if (node) {
        node->composite = composite;
        node->expansion = expansion;
    }
    return node;
}

FmNode *
fm_external(FmNode *x, FmNode *t, const FmExternal *external, void *self)
{
    const FmAttrExternal attrs = {.external = external, .self = self};

    if (!x || !t)
        return NULL;
    if (x->shape.rows != 1 || t->shape.rows != 1 || t->shape.ndim != 0) {
        fm_graph_fail(x->graph, FM_ERROR_SHAPE,
                      "external function: x and t must have one row per batch row and t no axis");
        return NULL;
    }
    return fm__node_new(x->graph, FM_OP_EXTERNAL, &x->shape, (FmNode *[]){x, t}, 2, &attrs, sizeof attrs);
}
