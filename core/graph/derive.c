/* derive.c: reverse and forward mode as transformations of graphs. One table row per primitive; each
 * rule emits nodes of the same set, so derivatives of any order exist (Griewank & Walther 2008,
 * doi:10.1137/1.9780898717761, ch. 3). */
#include "graph/node.h"

#include <math.h>
#include <string.h>

/* Cotangents of the inputs from the cotangent of the node; NULL stays NULL (zero). */
typedef void (*VjpRule)(FmNode *y, FmNode *cot, FmNode **d);
/* Tangent of the node from those of its inputs; at least one is not NULL, NULL means zero. */
typedef FmNode *(*JvpRule)(FmNode *y, FmNode *const *d);

static FmNode *
sum_of(FmNode *a, FmNode *b)
{
    return a && b ? fm_add(a, b) : a ? a : b;
}

static FmNode *
product(FmNode *a, FmNode *b)
{
    return a && b ? fm_mul(a, b) : NULL;
}

/* ---- element-wise: the derivative in each input, NULL where it is zero ---- */

static FmNode *
unary_derivative(FmNode *y)
{
    FmNode *x = y->in[0];

    switch (y->op) {
    case FM_OP_ABS:
        return fm_sign(x);
    case FM_OP_EXP:
        return y;
    case FM_OP_LOG:
        return fm_recip(x);
    case FM_OP_LOG1P:
        return fm_recip(fm_affine(x, 1.0, 1.0));
    case FM_OP_SQRT:
        return fm_affine(fm_recip(y), 0.5, 0.0);
    case FM_OP_RSQRT:
        return fm_affine(fm_mul(fm_square(y), y), -0.5, 0.0);
    case FM_OP_RECIP:
        return fm_neg(fm_square(y));
    case FM_OP_SIN:
        return fm_cos(x);
    case FM_OP_COS:
        return fm_neg(fm_sin(x));
    case FM_OP_TANH:
        return fm_affine(fm_square(y), -1.0, 1.0);
    case FM_OP_SIGMOID:
        return fm_mul(y, fm_affine(y, -1.0, 1.0));
    case FM_OP_ERF:
        return fm_affine(fm_exp(fm_neg(fm_square(x))), 2.0 / sqrt(G_PI), 0.0);
    case FM_OP_POW: {
        const double p = ((const FmAttrPow *)(const void *)y->attrs.bytes)->exponent;

        return fm_affine(fm_pow(x, p - 1.0), p, 0.0);
    }
    default: /* SIGN */
        return NULL;
    }
}

static void
unary_vjp(FmNode *y, FmNode *cot, FmNode **d)
{
    d[0] = product(cot, unary_derivative(y));
}

static FmNode *
unary_jvp(FmNode *y, FmNode *const *d)
{
    return product(d[0], unary_derivative(y));
}

static FmNode *
scaled(FmNode *y, FmNode *d)
{
    return fm_affine(d, ((const FmAttrAffine *)(const void *)y->attrs.bytes)->scale, 0.0);
}

static void
affine_vjp(FmNode *y, FmNode *cot, FmNode **d)
{
    d[0] = scaled(y, cot);
}

static FmNode *
affine_jvp(FmNode *y, FmNode *const *d)
{
    return scaled(y, d[0]);
}

static void
add_vjp(FmNode *y, FmNode *cot, FmNode **d)
{
    d[0] = cot;
    d[1] = y->op == FM_OP_SUB ? fm_neg(cot) : cot;
}

static FmNode *
add_jvp(FmNode *y, FmNode *const *d)
{
    if (y->op == FM_OP_SUB)
        return d[0] && d[1] ? fm_sub(d[0], d[1]) : d[0] ? d[0] : fm_neg(d[1]);
    return sum_of(d[0], d[1]);
}

static void
mul_vjp(FmNode *y, FmNode *cot, FmNode **d)
{
    d[0] = fm_mul(cot, y->in[1]);
    d[1] = fm_mul(cot, y->in[0]);
}

static FmNode *
mul_jvp(FmNode *y, FmNode *const *d)
{
    return sum_of(product(d[0], y->in[1]), product(d[1], y->in[0]));
}

static void
div_vjp(FmNode *y, FmNode *cot, FmNode **d)
{
    d[0] = fm_div(cot, y->in[1]);
    d[1] = fm_neg(fm_mul(d[0], y));
}

static FmNode *
div_jvp(FmNode *y, FmNode *const *d)
{
    FmNode *top = d[1] ? fm_neg(fm_mul(d[1], y)) : NULL;

    return fm_div(sum_of(d[0], top), y->in[1]);
}

static FmNode *
zero(const FmNode *like)
{
    return fm_scalar(like->graph, 0.0);
}

static FmNode *
choose(FmNode *mask, FmNode *a, FmNode *b)
{
    return fm_select(mask, a ? a : zero(mask), b ? b : zero(mask));
}

static void
maximum_vjp(FmNode *y, FmNode *cot, FmNode **d)
{
    FmNode *mask = fm_greater(y->in[0], y->in[1]);

    d[0] = choose(mask, cot, NULL);
    d[1] = choose(mask, NULL, cot);
}

static FmNode *
maximum_jvp(FmNode *y, FmNode *const *d)
{
    return choose(fm_greater(y->in[0], y->in[1]), d[0], d[1]);
}

static void
select_vjp(FmNode *y, FmNode *cot, FmNode **d)
{
    d[1] = choose(y->in[0], cot, NULL);
    d[2] = choose(y->in[0], NULL, cot);
}

static FmNode *
select_jvp(FmNode *y, FmNode *const *d)
{
    return d[1] || d[2] ? choose(y->in[0], d[1], d[2]) : NULL;
}

/* ---- shape ---- */

static void
reshape_vjp(FmNode *y, FmNode *cot, FmNode **d)
{
    const FmShape *s = &y->in[0]->shape;

    d[0] = fm_reshape(cot, s->rows, s->ndim, s->dim);
}

static FmNode *
reshape_jvp(FmNode *y, FmNode *const *d)
{
    const size_t from = y->in[0]->shape.rows, rows = d[0]->shape.rows;

    return fm_reshape(d[0], from > 0 ? rows * y->shape.rows / from : rows, y->shape.ndim, y->shape.dim);
}

static void
permute_vjp(FmNode *y, FmNode *cot, FmNode **d)
{
    const FmAttrPermute *attrs = (const void *)y->attrs.bytes;
    int inverse[FM_MAX_NDIM];

    for (int i = 0; i < y->shape.ndim; i++)
        inverse[attrs->perm[i]] = i;
    d[0] = fm_permute(cot, inverse);
}

static FmNode *
permute_jvp(FmNode *y, FmNode *const *d)
{
    const FmAttrPermute *attrs = (const void *)y->attrs.bytes;
    int perm[FM_MAX_NDIM];

    for (int i = 0; i < y->shape.ndim; i++)
        perm[i] = attrs->perm[i];
    return fm_permute(d[0], perm);
}

static void
identity_vjp(FmNode *y, FmNode *cot, FmNode **d)
{
    d[0] = cot; /* reduced to the input's shape by the caller */
}

static FmNode *
identity_jvp(FmNode *y, FmNode *const *d)
{
    return d[0]; /* broadcast to the node's shape by the caller */
}

static void
slice_vjp(FmNode *y, FmNode *cot, FmNode **d)
{
    const FmAttrSlice *s = (const void *)y->attrs.bytes;

    d[0] = fm_pad(cot, s->axis, s->start, s->after);
}

static FmNode *
slice_jvp(FmNode *y, FmNode *const *d)
{
    const FmAttrSlice *s = (const void *)y->attrs.bytes;

    return fm_slice(d[0], s->axis, s->start, y->shape.dim[s->axis]);
}

static void
pad_vjp(FmNode *y, FmNode *cot, FmNode **d)
{
    const FmAttrSlice *s = (const void *)y->attrs.bytes;

    d[0] = fm_slice(cot, s->axis, s->start, y->in[0]->shape.dim[s->axis]);
}

static FmNode *
pad_jvp(FmNode *y, FmNode *const *d)
{
    const FmAttrSlice *s = (const void *)y->attrs.bytes;

    return fm_pad(d[0], s->axis, s->start, s->after);
}

static void
concat_vjp(FmNode *y, FmNode *cot, FmNode **d)
{
    const int axis = ((const FmAttrAxis *)(const void *)y->attrs.bytes)->axis;
    size_t start = 0;

    for (guint i = 0; i < y->n_in; i++) {
        d[i] = fm_slice(cot, axis, start, y->in[i]->shape.dim[axis]);
        start += y->in[i]->shape.dim[axis];
    }
}

/* Parts without a tangent become padding. */
static FmNode *
concat_jvp(FmNode *y, FmNode *const *d)
{
    const int axis = ((const FmAttrAxis *)(const void *)y->attrs.bytes)->axis;
    FmNode *sum = NULL;
    size_t start = 0;
    gboolean all = TRUE;

    for (guint i = 0; i < y->n_in; i++)
        all = all && d[i];
    if (all)
        return fm_concat(d, y->n_in, axis);
    for (guint i = 0; i < y->n_in; i++) {
        const size_t length = y->in[i]->shape.dim[axis];

        if (d[i])
            sum = sum_of(sum, fm_pad(d[i], axis, start, y->shape.dim[axis] - start - length));
        start += length;
    }
    return sum;
}

/* ---- reductions: the caller broadcasts cotangents and keeps tangents' rows ---- */

static void
sum_vjp(FmNode *y, FmNode *cot, FmNode **d)
{
    d[0] = fm_broadcast(cot, &y->in[0]->shape);
}

static unsigned
reduced_axes(const FmNode *y)
{
    return ((const FmAttrReduce *)(const void *)y->attrs.bytes)->axes;
}

static FmNode *
sum_jvp(FmNode *y, FmNode *const *d)
{
    return fm_sum(d[0], reduced_axes(y), TRUE);
}

static void
max_vjp(FmNode *y, FmNode *cot, FmNode **d)
{
    d[0] = fm_mul(cot, fm_equal(y->in[0], y));
}

static FmNode *
max_jvp(FmNode *y, FmNode *const *d)
{
    return fm_sum(fm_mul(d[0], fm_equal(y->in[0], y)), reduced_axes(y), TRUE);
}

static FmNode *
sum_rows_jvp(FmNode *y, FmNode *const *d)
{
    return fm_sum_rows(d[0]);
}

static FmNode *
sum_batch_jvp(FmNode *y, FmNode *const *d)
{
    return fm_sum_batch(d[0]);
}

/* ---- products ---- */

static void
matmul_vjp(FmNode *y, FmNode *cot, FmNode **d)
{
    d[0] = fm_matmul(cot, fm_transpose(y->in[1]));
    d[1] = fm_matmul_reduce(y->in[0], cot);
}

static FmNode *
matmul_jvp(FmNode *y, FmNode *const *d)
{
    return sum_of(d[0] ? fm_matmul(d[0], y->in[1]) : NULL, d[1] ? fm_matmul(y->in[0], d[1]) : NULL);
}

static void
matmul_reduce_vjp(FmNode *y, FmNode *cot, FmNode **d)
{
    d[0] = fm_matmul(y->in[1], fm_transpose(cot));
    d[1] = fm_matmul(y->in[0], cot);
}

static FmNode *
matmul_reduce_jvp(FmNode *y, FmNode *const *d)
{
    return sum_of(d[0] ? fm_matmul_reduce(d[0], y->in[1]) : NULL, d[1] ? fm_matmul_reduce(y->in[0], d[1]) : NULL);
}

static void
matmul_batch_vjp(FmNode *y, FmNode *cot, FmNode **d)
{
    const FmAttrTrans *s = (const void *)y->attrs.bytes;
    FmNode *a = y->in[0], *b = y->in[1];

    d[0] = s->a ? fm_matmul_batch(b, cot, s->b, TRUE) : fm_matmul_batch(cot, b, FALSE, !s->b);
    d[1] = s->b ? fm_matmul_batch(cot, a, TRUE, s->a) : fm_matmul_batch(a, cot, !s->a, FALSE);
}

static FmNode *
matmul_batch_jvp(FmNode *y, FmNode *const *d)
{
    const FmAttrTrans *s = (const void *)y->attrs.bytes;

    return sum_of(d[0] ? fm_matmul_batch(d[0], y->in[1], s->a, s->b) : NULL,
                  d[1] ? fm_matmul_batch(y->in[0], d[1], s->a, s->b) : NULL);
}

static const FmAttrConv *
conv_attrs(const FmNode *y)
{
    return (const void *)y->attrs.bytes;
}

static void
conv2d_vjp(FmNode *y, FmNode *cot, FmNode **d)
{
    const FmAttrConv *s = conv_attrs(y);
    const FmShape *x = &y->in[0]->shape, *w = &y->in[1]->shape;

    d[0] = fm_conv2d_input(cot, y->in[1], x->dim[0], x->dim[1], s->stride, s->pad);
    d[1] = fm_conv2d_weight(y->in[0], cot, w->dim[2], w->dim[3], s->stride, s->pad);
}

static FmNode *
conv2d_jvp(FmNode *y, FmNode *const *d)
{
    const FmAttrConv *s = conv_attrs(y);

    return sum_of(d[0] ? fm_conv2d(d[0], y->in[1], s->stride, s->pad) : NULL,
                  d[1] ? fm_conv2d(y->in[0], d[1], s->stride, s->pad) : NULL);
}

static void
conv2d_input_vjp(FmNode *y, FmNode *cot, FmNode **d)
{
    const FmAttrConv *s = conv_attrs(y);
    const FmShape *w = &y->in[1]->shape;

    d[0] = fm_conv2d(cot, y->in[1], s->stride, s->pad);
    d[1] = fm_conv2d_weight(cot, y->in[0], w->dim[2], w->dim[3], s->stride, s->pad);
}

static FmNode *
conv2d_input_jvp(FmNode *y, FmNode *const *d)
{
    const FmAttrConv *s = conv_attrs(y);
    const size_t H = y->shape.dim[0], W = y->shape.dim[1];

    return sum_of(d[0] ? fm_conv2d_input(d[0], y->in[1], H, W, s->stride, s->pad) : NULL,
                  d[1] ? fm_conv2d_input(y->in[0], d[1], H, W, s->stride, s->pad) : NULL);
}

static void
conv2d_weight_vjp(FmNode *y, FmNode *cot, FmNode **d)
{
    const FmAttrConv *s = conv_attrs(y);
    const FmShape *x = &y->in[0]->shape;

    d[0] = fm_conv2d_input(y->in[1], cot, x->dim[0], x->dim[1], s->stride, s->pad);
    d[1] = fm_conv2d(y->in[0], cot, s->stride, s->pad);
}

static FmNode *
conv2d_weight_jvp(FmNode *y, FmNode *const *d)
{
    const FmAttrConv *s = conv_attrs(y);
    const size_t kh = y->shape.dim[2], kw = y->shape.dim[3];

    return sum_of(d[0] ? fm_conv2d_weight(d[0], y->in[1], kh, kw, s->stride, s->pad) : NULL,
                  d[1] ? fm_conv2d_weight(y->in[0], d[1], kh, kw, s->stride, s->pad) : NULL);
}

static void
gather_vjp(FmNode *y, FmNode *cot, FmNode **d)
{
    d[0] = fm_scatter_add(cot, y->in[1], y->in[0]->shape.dim[0]);
}

static FmNode *
gather_jvp(FmNode *y, FmNode *const *d)
{
    return d[0] ? fm_gather(d[0], y->in[1]) : NULL;
}

static void
scatter_add_vjp(FmNode *y, FmNode *cot, FmNode **d)
{
    d[0] = fm_gather(cot, y->in[1]);
}

static FmNode *
scatter_add_jvp(FmNode *y, FmNode *const *d)
{
    return d[0] ? fm_scatter_add(d[0], y->in[1], y->shape.dim[0]) : NULL;
}

static FmNode *
external_derivative(FmNode *y, FmOp op, FmNode *d)
{
    const FmAttrExternal *s = (const void *)y->attrs.bytes;
    FmNode *in[3] = {y->in[0], y->in[1], d};
    FmShape shape = y->in[0]->shape;

    if (op == FM_OP_EXTERNAL_JVP ? !s->external->jvp : !s->external->vjp) {
        fm_graph_fail(y->graph, FM_ERROR_UNSUPPORTED, "external function: it offers no %s product, which %s needs",
                      op == FM_OP_EXTERNAL_JVP ? "Jacobian-vector" : "vector-Jacobian",
                      op == FM_OP_EXTERNAL_JVP ? "an exact divergence" : "training");
        return NULL;
    }
    shape.rows = d->shape.rows;
    return fm__node_new(y->graph, op, &shape, in, 3, s, sizeof *s);
}

static void
external_vjp(FmNode *y, FmNode *cot, FmNode **d)
{
    d[0] = external_derivative(y, FM_OP_EXTERNAL_VJP, cot);
}

static FmNode *
external_jvp(FmNode *y, FmNode *const *d)
{
    return d[0] ? external_derivative(y, FM_OP_EXTERNAL_JVP, d[0]) : NULL;
}

static void
refused_vjp(FmNode *y, FmNode *cot, FmNode **d)
{
    fm_graph_fail(y->graph, FM_ERROR_UNSUPPORTED,
                  "external function: second derivatives were asked for, expected first ones only");
}

static FmNode *
refused_jvp(FmNode *y, FmNode *const *d)
{
    refused_vjp(y, NULL, NULL);
    return NULL;
}

static const struct {
    VjpRule vjp; /* NULL: all derivatives are zero */
    JvpRule jvp;
} rules[FM_N_OPS] = {
    [FM_OP_ABS] = {unary_vjp, unary_jvp},
    [FM_OP_EXP] = {unary_vjp, unary_jvp},
    [FM_OP_LOG] = {unary_vjp, unary_jvp},
    [FM_OP_LOG1P] = {unary_vjp, unary_jvp},
    [FM_OP_SQRT] = {unary_vjp, unary_jvp},
    [FM_OP_RSQRT] = {unary_vjp, unary_jvp},
    [FM_OP_RECIP] = {unary_vjp, unary_jvp},
    [FM_OP_SIN] = {unary_vjp, unary_jvp},
    [FM_OP_COS] = {unary_vjp, unary_jvp},
    [FM_OP_TANH] = {unary_vjp, unary_jvp},
    [FM_OP_SIGMOID] = {unary_vjp, unary_jvp},
    [FM_OP_ERF] = {unary_vjp, unary_jvp},
    [FM_OP_AFFINE] = {affine_vjp, affine_jvp},
    [FM_OP_POW] = {unary_vjp, unary_jvp},
    [FM_OP_ADD] = {add_vjp, add_jvp},
    [FM_OP_SUB] = {add_vjp, add_jvp},
    [FM_OP_MUL] = {mul_vjp, mul_jvp},
    [FM_OP_DIV] = {div_vjp, div_jvp},
    [FM_OP_MAXIMUM] = {maximum_vjp, maximum_jvp},
    [FM_OP_SELECT] = {select_vjp, select_jvp},
    [FM_OP_RESHAPE] = {reshape_vjp, reshape_jvp},
    [FM_OP_PERMUTE] = {permute_vjp, permute_jvp},
    [FM_OP_BROADCAST] = {identity_vjp, identity_jvp},
    [FM_OP_SLICE] = {slice_vjp, slice_jvp},
    [FM_OP_PAD] = {pad_vjp, pad_jvp},
    [FM_OP_CONCAT] = {concat_vjp, concat_jvp},
    [FM_OP_SUM] = {sum_vjp, sum_jvp},
    [FM_OP_MAX] = {max_vjp, max_jvp},
    [FM_OP_SUM_ROWS] = {sum_vjp, sum_rows_jvp},
    [FM_OP_SUM_BATCH] = {sum_vjp, sum_batch_jvp},
    [FM_OP_MATMUL] = {matmul_vjp, matmul_jvp},
    [FM_OP_MATMUL_REDUCE] = {matmul_reduce_vjp, matmul_reduce_jvp},
    [FM_OP_MATMUL_BATCH] = {matmul_batch_vjp, matmul_batch_jvp},
    [FM_OP_CONV2D] = {conv2d_vjp, conv2d_jvp},
    [FM_OP_CONV2D_INPUT] = {conv2d_input_vjp, conv2d_input_jvp},
    [FM_OP_CONV2D_WEIGHT] = {conv2d_weight_vjp, conv2d_weight_jvp},
    [FM_OP_GATHER] = {gather_vjp, gather_jvp},
    [FM_OP_SCATTER_ADD] = {scatter_add_vjp, scatter_add_jvp},
    [FM_OP_EXTERNAL] = {external_vjp, external_jvp},
    [FM_OP_EXTERNAL_VJP] = {refused_vjp, refused_jvp},
    [FM_OP_EXTERNAL_JVP] = {refused_vjp, refused_jvp},
};

/* ---- the transformations ---- */

/* Does a derivative pass through node->in[i]? Not into labels or behind zero derivatives. */
static gboolean
passes(const FmNode *node)
{
    return node->op == FM_OP_COMPOSITE || rules[node->op].vjp != NULL;
}

/* depends[id]: node id depends on one of wrt through operations with a derivative. */
static gboolean *
dependents(const FmGraph *graph, FmNode *const *wrt, size_t n)
{
    gboolean *depends = g_new0(gboolean, graph->nodes->len);

    for (size_t i = 0; i < n; i++)
        if (wrt[i])
            depends[wrt[i]->id] = TRUE;
    for (guint id = 0; id < graph->nodes->len; id++) {
        const FmNode *node = graph->nodes->pdata[id];

        for (guint i = 0; passes(node) && !depends[id] && i < node->n_in; i++)
            depends[id] = depends[node->in[i]->id];
    }
    return depends;
}

static void
accumulate(FmNode **cot, const FmNode *node, FmNode *part)
{
    cot[node->id] = sum_of(cot[node->id], fm_sum_to(part, &node->shape));
}

/* Hand the node's cotangent on to what it was computed from. */
static void
back_through(FmNode *node, const gboolean *depends, FmNode **cot)
{
    FmNode *d[FM_MAX_INPUTS] = {NULL};

    if (node->op == FM_OP_COMPOSITE && !node->composite->vjp) {
        accumulate(cot, node->expansion, cot[node->id]);
        return;
    }
    if (node->op == FM_OP_COMPOSITE)
        node->composite->vjp(node->graph, node->in, node, cot[node->id], node->attrs.bytes, d);
    else
        rules[node->op].vjp(node, cot[node->id], d);
    for (guint i = 0; i < node->n_in; i++)
        if (d[i] && depends[node->in[i]->id])
            accumulate(cot, node->in[i], d[i]);
}

gboolean
fm_vjp(FmNode *y, FmNode *cotangent, FmNode *const *wrt, size_t n, FmNode **d_wrt)
{
    g_autofree gboolean *depends = NULL;
    g_autofree FmNode **cot = NULL;
    FmGraph *graph;

    if (!y)
        return FALSE;
    graph = y->graph;
    if (!cotangent && fm_shape_size(&y->shape) == 1 && y->shape.rows == 0)
        cotangent = fm_scalar(graph, 1.0);
    if (!cotangent || graph->error)
        return FALSE;
    depends = dependents(graph, wrt, n);
    cot = g_new0(FmNode *, y->id + 1);
    cot[y->id] = fm_broadcast(cotangent, &y->shape);
    for (guint id = y->id + 1; id-- > 0;) {
        FmNode *node = graph->nodes->pdata[id];

        if (cot[id] && depends[id] && passes(node))
            back_through(node, depends, cot);
    }
    for (size_t i = 0; i < n; i++)
        d_wrt[i] = wrt[i] && wrt[i]->id <= y->id ? cot[wrt[i]->id] : NULL;
    return graph->error == NULL;
}

/* needed[id]: y is computed from node id. */
static gboolean *
ancestors(const FmGraph *graph, const FmNode *y)
{
    gboolean *needed = g_new0(gboolean, graph->nodes->len);

    needed[y->id] = TRUE;
    for (guint id = y->id + 1; id-- > 0;) {
        const FmNode *node = graph->nodes->pdata[id];

        if (!needed[id])
            continue;
        for (guint i = 0; i < node->n_in; i++)
            needed[node->in[i]->id] = TRUE;
        if (node->op == FM_OP_COMPOSITE && !node->composite->jvp)
            needed[node->expansion->id] = TRUE;
    }
    return needed;
}

/* Operations through which a tangent without a batch axis (of a constant direction) may go before
 * it meets values of the batch: what it costs is then paid once and not for every row. */
static gboolean
takes_constant_tangent(const FmNode *node)
{
    return fm__op_elt(node->op) >= 0 || node->op == FM_OP_CONCAT || node->op == FM_OP_PAD || node->op == FM_OP_SLICE ||
           node->op == FM_OP_PERMUTE || node->op == FM_OP_MATMUL || node->op == FM_OP_BROADCAST ||
           (node->op == FM_OP_RESHAPE && node->in[0]->shape.rows == node->shape.rows);
}

/* The tangent of `node` with the node's own axes, or NULL for zero. */
static FmNode *
forward_through(FmNode *node, FmNode *const *tangent)
{
    FmNode *d[FM_MAX_INPUTS] = {NULL}, *dy;
    gboolean any = FALSE;
    FmShape shape = node->shape;

    for (guint i = 0; i < node->n_in; i++) {
        d[i] = tangent[node->in[i]->id];
        any = any || d[i];
        if (d[i] && d[i]->shape.rows == 0 && node->in[i]->shape.rows > 0 &&
            (node->op != FM_OP_COMPOSITE || node->composite->jvp) && !takes_constant_tangent(node))
            d[i] = fm_broadcast(d[i], &node->in[i]->shape);
    }
    if (!any)
        return NULL;
    if (node->op == FM_OP_COMPOSITE && !node->composite->jvp)
        dy = tangent[node->expansion->id];
    else if (node->op == FM_OP_COMPOSITE)
        dy = node->composite->jvp(node->graph, node->in, node, d, node->attrs.bytes);
    else
        dy = rules[node->op].jvp(node, d);
    if (!dy)
        return NULL;
    shape.rows = dy->shape.rows == 0 ? 0 : MAX(shape.rows, dy->shape.rows);
    return fm_broadcast(dy, &shape);
}

FmNode *
fm_jvp(FmNode *y, FmNode *x, FmNode *dx)
{
    g_autofree gboolean *needed = NULL;
    g_autofree FmNode **tangent = NULL;
    FmGraph *graph;

    if (!y || !x || !dx || y->graph->error)
        return NULL;
    graph = y->graph;
    needed = ancestors(graph, y);
    tangent = g_new0(FmNode *, MAX(y->id, x->id) + 1);
    tangent[x->id] = dx;
    for (guint id = x->id + 1; id <= y->id; id++) {
        FmNode *node = graph->nodes->pdata[id];

        if (needed[id] && passes(node))
            tangent[id] = forward_through(node, tangent);
    }
    return tangent[y->id];
}
