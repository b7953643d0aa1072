/* elementwise.c: builders of element-wise nodes and their broadcasting. */
#include "graph/node.h"

#include <string.h>

/* The common shape of a and b, NumPy's rule on the right-aligned axes; rows 0 and 1 stretch. */
static gboolean
shapes_broadcast(FmGraph *graph, const char *what, const FmShape *a, const FmShape *b, FmShape *out)
{
    gboolean fits = a->rows == b->rows || MIN(a->rows, b->rows) <= 1;

    out->rows = MAX(a->rows, b->rows);
    out->ndim = MAX(a->ndim, b->ndim);
    for (int i = 1; i <= out->ndim; i++) {
        const size_t da = i <= a->ndim ? a->dim[a->ndim - i] : 1;
        const size_t db = i <= b->ndim ? b->dim[b->ndim - i] : 1;

        fits = fits && (da == db || da == 1 || db == 1);
        out->dim[out->ndim - i] = MAX(da, db);
    }
    if (!fits) {
        g_autofree char *sa = fm_shape_format(a), *sb = fm_shape_format(b);

        fm_graph_fail(graph, FM_ERROR_SHAPE, "%s: shapes %s and %s do not broadcast", what, sa, sb);
    }
    return fits;
}

static FmNode *
unary(FmOp op, FmNode *x)
{
    return x ? fm__node_new(x->graph, op, &x->shape, &x, 1, NULL, 0) : NULL;
}

/* An operand that was only stretched is used as it was, where another one keeps the shape: kernels
 * stretch while they load. */
static void
skip_broadcasts(const FmShape *shape, FmNode **in, guint n)
{
    for (guint i = 0; i < n; i++) {
        FmNode *const stretched = in[i];
        FmShape without = {0};

        if (stretched->op != FM_OP_BROADCAST)
            continue;
        in[i] = stretched->in[0];
        without = in[0]->shape;
        for (guint j = 1; j < n; j++) {
            FmShape wider = {0};

            shapes_broadcast(stretched->graph, "broadcast", &without, &in[j]->shape, &wider);
            without = wider;
        }
        if (!fm_shape_equal(&without, shape))
            in[i] = stretched;
    }
}

static FmNode *
nary(FmOp op, FmNode **in, guint n)
{
    FmShape shape = {0};

    for (guint i = 0; i < n; i++)
        if (!in[i])
            return NULL;
    shape = in[0]->shape;
    for (guint i = 1; i < n; i++) {
        FmShape wider = {0};

        if (!shapes_broadcast(in[0]->graph, fm__op_names[op], &shape, &in[i]->shape, &wider))
            return NULL;
        shape = wider;
    }
    skip_broadcasts(&shape, in, n);
    return fm__node_new(in[0]->graph, op, &shape, in, n, NULL, 0);
}

static FmNode *
binary(FmOp op, FmNode *a, FmNode *b)
{
    return nary(op, (FmNode *[]){a, b}, 2);
}

/* TRUE when x is a constant scalar that leaves the shape of `other` alone. */
static gboolean
is_scalar(const FmNode *x)
{
    return x && x->op == FM_OP_CONSTANT && x->shape.ndim == 0;
}

FmNode *
fm_affine(FmNode *x, double scale, double shift)
{
    FmAttrAffine attrs = {.scale = scale, .shift = shift};

    if (!x || (scale == 1.0 && shift == 0.0))
        return x;
    if (x->op == FM_OP_AFFINE && (shift == 0.0 || scale == 1.0)) {
        const FmAttrAffine *inner = (const void *)x->attrs.bytes;

        /* Exact when one of the two only scales or only shifts by nothing. */
        if (inner->shift == 0.0 && shift == 0.0)
            return fm_affine(x->in[0], scale * inner->scale, 0.0);
    }
    return fm__node_new(x->graph, FM_OP_AFFINE, &x->shape, &x, 1, &attrs, sizeof attrs);
}

FmNode *
fm_add(FmNode *a, FmNode *b)
{
    if (is_scalar(a) && b)
        return fm_affine(b, 1.0, a->constant[0]);
    if (is_scalar(b) && a)
        return fm_affine(a, 1.0, b->constant[0]);
    return binary(FM_OP_ADD, a, b);
}

FmNode *
fm_sub(FmNode *a, FmNode *b)
{
    if (is_scalar(b) && a)
        return fm_affine(a, 1.0, -b->constant[0]);
    if (is_scalar(a) && b)
        return fm_affine(b, -1.0, a->constant[0]);
    return binary(FM_OP_SUB, a, b);
}

FmNode *
fm_mul(FmNode *a, FmNode *b)
{
    if (is_scalar(a) && b)
        return fm_affine(b, a->constant[0], 0.0);
    if (is_scalar(b) && a)
        return fm_affine(a, b->constant[0], 0.0);
    return binary(FM_OP_MUL, a, b);
}

FmNode *
fm_div(FmNode *a, FmNode *b)
{
    return binary(FM_OP_DIV, a, b);
}

FmNode *
fm_maximum(FmNode *a, FmNode *b)
{
    return binary(FM_OP_MAXIMUM, a, b);
}

FmNode *
fm_greater(FmNode *a, FmNode *b)
{
    return binary(FM_OP_GREATER, a, b);
}

FmNode *
fm_equal(FmNode *a, FmNode *b)
{
    return binary(FM_OP_EQUAL, a, b);
}

FmNode *
fm_select(FmNode *mask, FmNode *a, FmNode *b)
{
    return nary(FM_OP_SELECT, (FmNode *[]){mask, a, b}, 3);
}

FmNode *
fm_pow(FmNode *x, double exponent)
{
    const FmAttrPow attrs = {.exponent = exponent};

    if (!x || exponent == 1.0)
        return x;
    if (exponent == 2.0)
        return fm_square(x);
    return fm__node_new(x->graph, FM_OP_POW, &x->shape, &x, 1, &attrs, sizeof attrs);
}

FmNode *
fm_neg(FmNode *x)
{
    return fm_affine(x, -1.0, 0.0);
}

FmNode *
fm_square(FmNode *x)
{
    return binary(FM_OP_MUL, x, x);
}

#define UNARY(name, OP) \
    FmNode *fm_##name(FmNode *x) \
    { \
        return unary(FM_OP_##OP, x); \
    }

UNARY(abs, ABS)
UNARY(sign, SIGN)
UNARY(exp, EXP)
UNARY(log, LOG)
UNARY(log1p, LOG1P)
UNARY(sqrt, SQRT)
UNARY(rsqrt, RSQRT)
UNARY(recip, RECIP)
UNARY(sin, SIN)
UNARY(cos, COS)
UNARY(tanh, TANH)
UNARY(sigmoid, SIGMOID)
UNARY(erf, ERF)
