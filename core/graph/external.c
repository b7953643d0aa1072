/* external.c: kernels of external nodes: a user's function in double, whatever the plan's dtype. */
#include "graph/plan_private.h"

#include <string.h>

static GMutex serial; /* for functions that are not thread-safe */

/* Rows of the result, and the doubles that all buffers together take. */
static size_t
external_scratch(const FmKernelShapes *s)
{
    const size_t K = MAX(s->out->rows, 1), D = fm_shape_size(s->out) / K;

    return s->n * K * (3 * D + 1) * sizeof(double);
}

/* The rows of `in` as double, each repeated so that there are `rows`: in `space`, or where they are. */
static const double *
widen(FmDtype dtype, const FmView *in, size_t rows, size_t D, double *space)
{
    const size_t size = fm_dtype_size(dtype), repeat = rows / in->rows;

    if (repeat == 1 && dtype == FM_F64)
        return in->data;
    if (repeat == 1)
        fm_convert(dtype, in->data, FM_F64, space, rows * D);
    for (size_t r = 0; repeat > 1 && r < rows; r++)
        fm_convert(dtype, (const char *)in->data + r / repeat * D * size, FM_F64, space + r * D, D);
    return space;
}

static gboolean
call(FmOp op, const FmAttrExternal *s, size_t n, const double *x, const double *t, const double *d, double *y)
{
    switch (op) {
    case FM_OP_EXTERNAL_VJP:
        return s->external->vjp(s->self, n, x, t, d, y);
    case FM_OP_EXTERNAL_JVP:
        return s->external->jvp(s->self, n, x, t, d, y);
    default:
        return s->external->value(s->self, n, x, t, y);
    }
}

static gboolean
external_run(const FmKernelArgs *a, FmOp op, FmDtype dtype)
{
    const FmAttrExternal *s = a->attrs;
    const size_t K = MAX(a->out.shape->rows, 1), D = fm_shape_size(a->out.shape) / K;
    const size_t rows = a->n * K;
    double *space = a->scratch, *y = dtype == FM_F64 ? a->out.data : space + rows * (2 * D + 1);
    const double *x = widen(dtype, &a->in[0], rows, D, space), *t = widen(dtype, &a->in[1], rows, 1, space + rows * D);
    const double *d = op != FM_OP_EXTERNAL ? widen(dtype, &a->in[2], rows, D, space + rows * (D + 1)) : NULL;
    gboolean ok;

    if (!s->external->thread_safe)
        g_mutex_lock(&serial);
    ok = call(op, s, rows, x, t, d, y);
    if (!s->external->thread_safe)
        g_mutex_unlock(&serial);
    if (dtype != FM_F64)
        fm_convert(FM_F64, y, dtype, a->out.data, rows * D);
    return ok;
}

#define RUN(name, OP, DT) \
    static gboolean name(const FmKernelArgs *a) \
    { \
        return external_run(a, FM_OP_##OP, DT); \
    }

RUN(value_f32, EXTERNAL, FM_F32)
RUN(value_f64, EXTERNAL, FM_F64)
RUN(vjp_f32, EXTERNAL_VJP, FM_F32)
RUN(vjp_f64, EXTERNAL_VJP, FM_F64)
RUN(jvp_f32, EXTERNAL_JVP, FM_F32)
RUN(jvp_f64, EXTERNAL_JVP, FM_F64)

const FmKernel *
fm__external_kernel(FmOp op, FmDtype dtype)
{
    static const FmKernel kernels[3][2] = {
        {{.run = value_f32, .scratch = external_scratch}, {.run = value_f64, .scratch = external_scratch}},
        {{.run = vjp_f32, .scratch = external_scratch}, {.run = vjp_f64, .scratch = external_scratch}},
        {{.run = jvp_f32, .scratch = external_scratch}, {.run = jvp_f64, .scratch = external_scratch}},
    };

    return &kernels[op - FM_OP_EXTERNAL][dtype == FM_F64];
}
