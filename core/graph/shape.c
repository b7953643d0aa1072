/* shape.c: builders of nodes that move elements: reshape, permute, broadcast, slice, pad, concat. */
#include "graph/node.h"

#include <string.h>

static FmNode *
fail_shape(FmNode *x, const char *what)
{
    g_autofree char *s = fm_shape_format(&x->shape);

    fm_graph_fail(x->graph, FM_ERROR_SHAPE, "%s of shape %s", what, s);
    return NULL;
}

FmNode *
fm_reshape(FmNode *x, size_t rows, int ndim, const size_t *dim)
{
    FmShape shape = {.rows = rows, .ndim = ndim};

    if (!x)
        return NULL;
    if (ndim < 0 || ndim > FM_MAX_NDIM || (rows == 0) != (x->shape.rows == 0))
        return fail_shape(x, "reshape: too many axes, or a batch axis lost or added,");
    for (int i = 0; i < ndim; i++)
        shape.dim[i] = dim[i];
    if (fm_shape_size(&shape) != fm_shape_size(&x->shape))
        return fail_shape(x, "reshape: another number of elements was asked for than those");
    if (x->op == FM_OP_RESHAPE)
        x = x->in[0];
    if (fm_shape_equal(&shape, &x->shape))
        return x;
    return fm__node_new(x->graph, FM_OP_RESHAPE, &shape, &x, 1, NULL, 0);
}

FmNode *
fm_permute(FmNode *x, const int *perm)
{
    FmAttrPermute attrs = {{0}};
    FmShape shape;
    unsigned seen = 0;
    gboolean identity = TRUE;

    if (!x)
        return NULL;
    shape = x->shape;
    for (int i = 0; i < shape.ndim; i++) {
        if (perm[i] < 0 || perm[i] >= shape.ndim || (seen >> perm[i] & 1u))
            return fail_shape(x, "permute: not a permutation of the axes");
        seen |= 1u << perm[i];
        attrs.perm[i] = perm[i];
        shape.dim[i] = x->shape.dim[perm[i]];
        identity = identity && perm[i] == i;
    }
    if (identity)
        return x;
    if (x->op == FM_OP_PERMUTE) {
        const FmAttrPermute *inner = (const void *)x->attrs.bytes;
        int both[FM_MAX_NDIM];

        for (int i = 0; i < shape.ndim; i++)
            both[i] = inner->perm[perm[i]];
        return fm_permute(x->in[0], both);
    }
    /* (a^T b)^T is b^T a: the gradient of a transposed weight comes out in the weight's layout. */
    if (x->op == FM_OP_MATMUL_REDUCE)
        return fm_matmul_reduce(x->in[1], x->in[0]);
    return fm__node_new(x->graph, FM_OP_PERMUTE, &shape, &x, 1, &attrs, sizeof attrs);
}

FmNode *
fm_transpose(FmNode *x)
{
    int perm[FM_MAX_NDIM];

    if (!x)
        return NULL;
    if (x->shape.ndim < 2)
        return fail_shape(x, "transpose: fewer than two axes in a node");
    for (int i = 0; i < x->shape.ndim; i++)
        perm[i] = i;
    perm[x->shape.ndim - 1] = x->shape.ndim - 2;
    perm[x->shape.ndim - 2] = x->shape.ndim - 1;
    return fm_permute(x, perm);
}

FmNode *
fm_broadcast(FmNode *x, const FmShape *shape)
{
    if (!x || fm_shape_equal(&x->shape, shape))
        return x;
    if (x->shape.ndim > shape->ndim || (x->shape.rows > 1 && x->shape.rows != shape->rows) ||
        x->shape.rows > shape->rows)
        return fail_shape(x, "broadcast: fewer axes or rows were asked for than those");
    for (int i = 1; i <= x->shape.ndim; i++) {
        const size_t d = x->shape.dim[x->shape.ndim - i];

        if (d != 1 && d != shape->dim[shape->ndim - i])
            return fail_shape(x, "broadcast: lengths do not fit those");
    }
    return fm__node_new(x->graph, FM_OP_BROADCAST, shape, &x, 1, NULL, 0);
}

FmNode *
fm_slice(FmNode *x, int axis, size_t start, size_t length)
{
    FmAttrSlice attrs = {.axis = axis, .start = start};
    FmShape shape;

    if (!x)
        return NULL;
    shape = x->shape;
    if (axis < 0 || axis >= shape.ndim || length == 0 || start > shape.dim[axis] || length > shape.dim[axis] - start)
        return fail_shape(x, "slice: out of range of a node");
    attrs.after = shape.dim[axis] - start - length;
    if (length == shape.dim[axis])
        return x;
    shape.dim[axis] = length;
    return fm__node_new(x->graph, FM_OP_SLICE, &shape, &x, 1, &attrs, sizeof attrs);
}

FmNode *
fm_pad(FmNode *x, int axis, size_t before, size_t after)
{
    const FmAttrSlice attrs = {.axis = axis, .start = before, .after = after};
    FmShape shape;

    if (!x)
        return NULL;
    shape = x->shape;
    if (axis < 0 || axis >= shape.ndim || before > G_MAXINT32 || after > G_MAXINT32)
        return fail_shape(x, "pad: no such axis in a node");
    if (before + after == 0)
        return x;
    shape.dim[axis] += before + after;
    return fm__node_new(x->graph, FM_OP_PAD, &shape, &x, 1, &attrs, sizeof attrs);
}

/* All parts get the batch axis that any of them has. */
static gboolean
concat_align(FmNode *const *x, size_t n, FmNode **aligned)
{
    size_t rows = 0;

    for (size_t i = 0; i < n; i++) {
        if (!x[i])
            return FALSE;
        rows = MAX(rows, x[i]->shape.rows);
    }
    for (size_t i = 0; i < n; i++) {
        FmShape shape = x[i]->shape;

        shape.rows = rows;
        aligned[i] = fm_broadcast(x[i], &shape);
        if (!aligned[i])
            return FALSE;
    }
    return TRUE;
}

FmNode *
fm_concat(FmNode *const *x, size_t n, int axis)
{
    const FmAttrAxis attrs = {.axis = axis};
    FmNode *part[FM_MAX_INPUTS];
    FmShape shape;

    if (n == 0 || n > FM_MAX_INPUTS || !concat_align(x, n, part))
        return NULL;
    shape = part[0]->shape;
    if (axis < 0 || axis >= shape.ndim)
        return fail_shape(part[0], "concat: no such axis in a node");
    for (size_t i = 1; i < n; i++) {
        FmShape other = part[i]->shape;

        if (other.ndim != shape.ndim)
            return fail_shape(part[i], "concat: another number of axes in a node");
        shape.dim[axis] += other.dim[axis];
        other.dim[axis] = shape.dim[axis];
        if (!fm_shape_equal(&other, &shape))
            return fail_shape(part[i], "concat: lengths that do not fit the first part's in a node");
    }
    return n == 1 ? part[0] : fm__node_new(part[0]->graph, FM_OP_CONCAT, &shape, part, (guint)n, &attrs, sizeof attrs);
}

FmNode *
fm_stop_gradient(FmNode *x)
{
    return x ? fm__node_new(x->graph, FM_OP_STOP_GRADIENT, &x->shape, &x, 1, NULL, 0) : NULL;
}

/* ---- reductions ---- */

static FmNode *
reduce(FmOp op, FmNode *x, unsigned axes, gboolean keep)
{
    const FmAttrReduce attrs = {.axes = axes};
    FmShape shape, squeezed;
    FmNode *node;

    if (!x)
        return NULL;
    if (axes >> x->shape.ndim)
        return fail_shape(x, "reduction: no such axis in a node");
    shape = x->shape;
    squeezed = (FmShape){.rows = shape.rows};
    for (int i = 0; i < shape.ndim; i++) {
        if (axes >> i & 1u)
            shape.dim[i] = 1;
        else
            squeezed.dim[squeezed.ndim++] = shape.dim[i];
    }
    node = fm_shape_equal(&shape, &x->shape) ? x : fm__node_new(x->graph, op, &shape, &x, 1, &attrs, sizeof attrs);
    return keep || !node ? node : fm_reshape(node, squeezed.rows, squeezed.ndim, squeezed.dim);
}

FmNode *
fm_sum(FmNode *x, unsigned axes, gboolean keep)
{
    return reduce(FM_OP_SUM, x, axes, keep);
}

FmNode *
fm_max(FmNode *x, unsigned axes, gboolean keep)
{
    return reduce(FM_OP_MAX, x, axes, keep);
}

FmNode *
fm_mean(FmNode *x, unsigned axes, gboolean keep)
{
    double n = 1.0;

    if (!x)
        return NULL;
    for (int i = 0; i < x->shape.ndim; i++)
        if (axes >> i & 1u)
            n *= (double)x->shape.dim[i];
    return fm_affine(fm_sum(x, axes, keep), 1.0 / n, 0.0);
}

FmNode *
fm_sum_rows(FmNode *x)
{
    FmShape shape;

    if (!x || x->shape.rows <= 1)
        return x;
    shape = x->shape;
    shape.rows = 1;
    return fm__node_new(x->graph, FM_OP_SUM_ROWS, &shape, &x, 1, NULL, 0);
}

FmNode *
fm_sum_batch(FmNode *x)
{
    FmShape shape;

    if (!x || x->shape.rows == 0)
        return x;
    shape = x->shape;
    shape.rows = 0;
    return fm__node_new(x->graph, FM_OP_SUM_BATCH, &shape, &x, 1, NULL, 0);
}

FmNode *
fm_sum_to(FmNode *x, const FmShape *shape)
{
    unsigned axes = 0;
    int extra;

    if (!x || fm_shape_equal(&x->shape, shape))
        return x;
    extra = x->shape.ndim - shape->ndim;
    if (extra < 0)
        return fail_shape(x, "sum_to: more axes were asked for than those");
    for (int i = 0; i < x->shape.ndim; i++)
        if (i < extra || (shape->dim[i - extra] == 1 && x->shape.dim[i] != 1))
            axes |= 1u << i;
    x = fm_sum(x, axes, TRUE);
    if (shape->rows == 0)
        x = fm_sum_batch(x);
    else if (shape->rows == 1)
        x = fm_sum_rows(x);
    return x ? fm_reshape(x, x->shape.rows, shape->ndim, shape->dim) : NULL;
}
