/* eltwise.c: element-wise operations, alone or as a program, in blocks that stay in the first cache.
 *
 * An operation by itself is a program of one instruction. Each block of the output runs through
 * all instructions; full-size inputs are read in place, broadcast ones are laid out per block. */
#include "cpu.h"

#include <math.h>
#include <string.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3", "no-math-errno", "no-trapping-math", "fp-contract=fast")
#define IVDEP _Pragma("GCC ivdep")
#else
#define IVDEP
#endif

#define BLOCK_BYTES 4096

/* An input against the output's axes: dim[] from the outermost, stride 0 where it repeats. */
typedef struct Operand {
    int n;
    size_t dim[FM_MAX_NDIM + 2], stride[FM_MAX_NDIM + 2];
    enum { OPERAND_FULL, OPERAND_SCALAR, OPERAND_PERIODIC, OPERAND_GENERAL } kind;
} Operand;

static void
operand_push(Operand *o, size_t dim, size_t stride)
{
    if (dim == 1)
        return;
    if (o->n > 0) {
        const int last = o->n - 1;

        if (o->stride[last] == dim * stride) {
            o->dim[last] *= dim;
            o->stride[last] = stride;
            return;
        }
    }
    o->dim[o->n] = dim;
    o->stride[o->n++] = stride;
}

/* Where `in` repeats within `out`, axes merged where possible. */
static Operand
operand_of(const FmView *in, const FmView *out, size_t block)
{
    const FmShape *si = in->shape, *so = out->shape;
    const size_t size = cpu_size(si);
    size_t stride[FM_MAX_NDIM] = {0}, s = 1;
    Operand o = {0};

    for (int i = si->ndim - 1; i >= 0; i--) {
        stride[i + so->ndim - si->ndim] = si->dim[i] == 1 ? 0 : s;
        s *= si->dim[i];
    }
    operand_push(&o, in->rows, size);
    operand_push(&o, out->rows / in->rows, 0);
    for (int i = 0; i < so->ndim; i++)
        operand_push(&o, so->dim[i], stride[i]);
    if (o.n == 0 || (o.n == 1 && o.stride[0] == 0))
        o.kind = o.n == 0 ? OPERAND_FULL : OPERAND_SCALAR;
    else if (o.n == 1)
        o.kind = OPERAND_FULL;
    else if (o.n == 2 && o.stride[0] == 0 && o.stride[1] == 1 && o.dim[1] <= block)
        o.kind = OPERAND_PERIODIC;
    else
        o.kind = OPERAND_GENERAL;
    return o;
}

static int
elt_arity(int op)
{
    return op < FM_ELT_ADD ? 1 : op < FM_ELT_SELECT ? 2 : 3;
}

/* Registers, of a block each, and two blocks for each input's layout. */
static size_t
single_scratch(const FmKernelShapes *shapes)
{
    return (2 * shapes->n_in + 1) * BLOCK_BYTES;
}

static size_t
fused_scratch(const FmKernelShapes *shapes)
{
    const FmProgram *p = shapes->attrs;

    return (2u * p->n_in + p->n_instrs) * (size_t)BLOCK_BYTES;
}

/* Give every instruction a block of scratch, reusing those whose value nobody reads again. */
static void
assign_blocks(const FmProgram *p, guint8 *block)
{
    guint8 last[FM_MAX_INPUTS + FM_MAX_INSTRS] = {0};
    guint64 used = 0;

    for (int i = 0; i < p->n_instrs; i++)
        for (int k = 0; k < elt_arity(p->instr[i].op); k++)
            last[p->instr[i].src[k]] = (guint8)i;
    for (int k = 0; k < p->n_out; k++)
        last[p->outs[k]] = FM_MAX_INSTRS;
    for (int i = 0; i < p->n_instrs; i++) {
        int b = 0;

        /* A result may take the block of an operand that it is the last to read. */
        for (int k = 0; k < elt_arity(p->instr[i].op); k++) {
            const int src = p->instr[i].src[k];

            if (src >= p->n_in && last[src] == i)
                used &= ~((guint64)1 << block[src - p->n_in]);
        }
        while (used >> b & 1)
            b++;
        block[i] = (guint8)b;
        if (last[p->n_in + i] > i)
            used |= (guint64)1 << b;
    }
}

#define T float
#define NAME(x) x##_f32
#define SUFFIX _f32
#define BLOCK (BLOCK_BYTES / sizeof(float))
#include "math_f32.inc"
#include "eltwise.inc"
#undef T
#undef NAME
#undef SUFFIX
#undef BLOCK
#define T double
#define NAME(x) x##_f64
#define SUFFIX _f64
#define BLOCK (BLOCK_BYTES / sizeof(double))
#include "math_f64.inc"
#include "eltwise.inc"
#undef T
#undef NAME
#undef SUFFIX
#undef BLOCK

#define ROW(op) \
    {#op, {.run = op##_f32, .scratch = single_scratch}, {.run = op##_f64, .scratch = single_scratch}}

const CpuEntry cpu_eltwise_table[] = {
    ROW(neg),  ROW(abs),     ROW(sign), ROW(exp),    ROW(log), ROW(log1p), ROW(sqrt),
    ROW(rsqrt), ROW(recip),  ROW(sin),  ROW(cos),    ROW(tanh), ROW(sigmoid), ROW(erf),
    ROW(affine), ROW(pow),   ROW(add),  ROW(sub),    ROW(mul), ROW(div),   ROW(maximum),
    ROW(greater), ROW(equal), ROW(select),
    {"fused", {.run = fused_f32, .scratch = fused_scratch}, {.run = fused_f64, .scratch = fused_scratch}},
    {NULL},
};
