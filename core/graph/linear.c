/* linear.c: builders of products: matrices, convolutions, table look-ups. */
#include "graph/node.h"

#include <string.h>

static FmNode *
fail_pair(FmNode *a, FmNode *b, const char *what)
{
    g_autofree char *sa = fm_shape_format(&a->shape), *sb = fm_shape_format(&b->shape);

    fm_graph_fail(a->graph, FM_ERROR_SHAPE, "%s: shapes %s and %s do not fit", what, sa, sb);
    return NULL;
}

/* Give a and b the same rows, repeating the one that has fewer per batch row. */
static gboolean
align_rows(FmNode **a, FmNode **b)
{
    FmShape shape;

    if (!*a || !*b)
        return FALSE;
    if ((*a)->shape.rows < (*b)->shape.rows) {
        shape = (*a)->shape;
        shape.rows = (*b)->shape.rows;
        *a = fm_broadcast(*a, &shape);
    } else if ((*b)->shape.rows < (*a)->shape.rows) {
        shape = (*b)->shape;
        shape.rows = (*a)->shape.rows;
        *b = fm_broadcast(*b, &shape);
    }
    return *a && *b;
}

FmNode *
fm_matmul(FmNode *x, FmNode *w)
{
    FmShape shape;

    if (!x || !w)
        return NULL;
    if (x->shape.ndim < 1 || w->shape.ndim != 2 || w->shape.rows != 0 ||
        x->shape.dim[x->shape.ndim - 1] != w->shape.dim[0])
        return fail_pair(x, w, "matmul");
    shape = x->shape;
    shape.dim[shape.ndim - 1] = w->shape.dim[1];
    return fm__node_new(x->graph, FM_OP_MATMUL, &shape, (FmNode *[]){x, w}, 2, NULL, 0);
}

FmNode *
fm_matmul_reduce(FmNode *a, FmNode *b)
{
    FmShape shape = {.ndim = 2};
    gboolean fits;

    if (!align_rows(&a, &b))
        return NULL;
    fits = a->shape.ndim >= 1 && a->shape.ndim == b->shape.ndim;
    for (int i = 0; fits && i < a->shape.ndim - 1; i++)
        fits = a->shape.dim[i] == b->shape.dim[i];
    if (!fits)
        return fail_pair(a, b, "matmul_reduce");
    shape.dim[0] = a->shape.dim[a->shape.ndim - 1];
    shape.dim[1] = b->shape.dim[b->shape.ndim - 1];
    return fm__node_new(a->graph, FM_OP_MATMUL_REDUCE, &shape, (FmNode *[]){a, b}, 2, NULL, 0);
}

FmNode *
fm_matmul_batch(FmNode *a, FmNode *b, gboolean ta, gboolean tb)
{
    const FmAttrTrans attrs = {.a = ta != 0, .b = tb != 0};
    FmShape shape;
    gboolean fits;
    int n;

    if (!align_rows(&a, &b))
        return NULL;
    n = a->shape.ndim;
    fits = n >= 2 && n == b->shape.ndim;
    for (int i = 0; fits && i < n - 2; i++)
        fits = a->shape.dim[i] == b->shape.dim[i];
    if (!fits || a->shape.dim[ta ? n - 2 : n - 1] != b->shape.dim[tb ? n - 1 : n - 2])
        return fail_pair(a, b, "matmul_batch");
    shape = a->shape;
    shape.dim[n - 2] = a->shape.dim[ta ? n - 1 : n - 2];
    shape.dim[n - 1] = b->shape.dim[tb ? n - 2 : n - 1];
    return fm__node_new(a->graph, FM_OP_MATMUL_BATCH, &shape, (FmNode *[]){a, b}, 2, &attrs, sizeof attrs);
}

static size_t
conv_side(size_t side, size_t k, int stride, int pad)
{
    const size_t padded = side + 2 * (size_t)pad;

    return padded < k ? 0 : (padded - k) / (size_t)stride + 1;
}

static gboolean
conv_fits(const FmNode *x, const FmNode *w, int stride, int pad)
{
    return x->shape.ndim == 3 && w->shape.ndim == 4 && w->shape.rows == 0 && stride >= 1 && pad >= 0 && pad < 1024;
}

FmNode *
fm_conv2d(FmNode *x, FmNode *w, int stride, int pad)
{
    const FmAttrConv attrs = {.stride = stride, .pad = pad};
    FmShape shape;

    if (!x || !w)
        return NULL;
    if (!conv_fits(x, w, stride, pad) || x->shape.dim[2] != w->shape.dim[1])
        return fail_pair(x, w, "conv2d");
    shape = x->shape;
    shape.dim[0] = conv_side(x->shape.dim[0], w->shape.dim[2], stride, pad);
    shape.dim[1] = conv_side(x->shape.dim[1], w->shape.dim[3], stride, pad);
    shape.dim[2] = w->shape.dim[0];
    if (shape.dim[0] == 0 || shape.dim[1] == 0)
        return fail_pair(x, w, "conv2d: the filter is larger than the image");
    return fm__node_new(x->graph, FM_OP_CONV2D, &shape, (FmNode *[]){x, w}, 2, &attrs, sizeof attrs);
}

FmNode *
fm_conv2d_input(FmNode *dy, FmNode *w, size_t H, size_t W, int stride, int pad)
{
    const FmAttrConv attrs = {.stride = stride, .pad = pad};
    FmShape shape;

    if (!dy || !w)
        return NULL;
    if (!conv_fits(dy, w, stride, pad) || dy->shape.dim[2] != w->shape.dim[0] ||
        dy->shape.dim[0] != conv_side(H, w->shape.dim[2], stride, pad) ||
        dy->shape.dim[1] != conv_side(W, w->shape.dim[3], stride, pad))
        return fail_pair(dy, w, "conv2d_input");
    shape = (FmShape){.rows = dy->shape.rows, .ndim = 3, .dim = {H, W, w->shape.dim[1]}};
    return fm__node_new(dy->graph, FM_OP_CONV2D_INPUT, &shape, (FmNode *[]){dy, w}, 2, &attrs, sizeof attrs);
}

FmNode *
fm_conv2d_weight(FmNode *x, FmNode *dy, size_t kh, size_t kw, int stride, int pad)
{
    const FmAttrConv attrs = {.stride = stride, .pad = pad};
    FmShape shape;

    if (!align_rows(&x, &dy))
        return NULL;
    if (x->shape.ndim != 3 || dy->shape.ndim != 3 || stride < 1 || pad < 0 ||
        dy->shape.dim[0] != conv_side(x->shape.dim[0], kh, stride, pad) ||
        dy->shape.dim[1] != conv_side(x->shape.dim[1], kw, stride, pad))
        return fail_pair(x, dy, "conv2d_weight");
    shape = (FmShape){.ndim = 4, .dim = {dy->shape.dim[2], x->shape.dim[2], kh, kw}};
    return fm__node_new(x->graph, FM_OP_CONV2D_WEIGHT, &shape, (FmNode *[]){x, dy}, 2, &attrs, sizeof attrs);
}

FmNode *
fm_gather(FmNode *table, FmNode *labels)
{
    FmShape shape;

    if (!table || !labels)
        return NULL;
    if (table->shape.rows != 0 || table->shape.ndim < 1 || !labels->labels)
        return fail_pair(table, labels, "gather: expected a table without batch axis and labels");
    shape = (FmShape){.rows = labels->shape.rows, .ndim = table->shape.ndim - 1};
    memcpy(shape.dim, table->shape.dim + 1, (size_t)shape.ndim * sizeof shape.dim[0]);
    return fm__node_new(table->graph, FM_OP_GATHER, &shape, (FmNode *[]){table, labels}, 2, NULL, 0);
}

FmNode *
fm_scatter_add(FmNode *x, FmNode *labels, size_t N)
{
    FmShape shape;

    if (!x || !labels)
        return NULL;
    if (x->shape.rows != labels->shape.rows || x->shape.ndim >= FM_MAX_NDIM || N == 0 || !labels->labels)
        return fail_pair(x, labels, "scatter_add: expected batched rows and labels");
    shape = (FmShape){.ndim = x->shape.ndim + 1, .dim = {N}};
    memcpy(shape.dim + 1, x->shape.dim, (size_t)x->shape.ndim * sizeof shape.dim[0]);
    return fm__node_new(x->graph, FM_OP_SCATTER_ADD, &shape, (FmNode *[]){x, labels}, 2, NULL, 0);
}
