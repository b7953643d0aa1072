/* eltwise.c: element-wise operations, alone or as a program, in blocks that stay in the first cache.
 *
 * An operation by itself is a program of one instruction. Each block of the output runs through
 * all instructions; full-size inputs are read in place, broadcast ones are laid out per block. */
#include "cpu.h"

#include <fmcore/layer.h>
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

/* sigmoid, mul: s = sigmoid(h), y = h s. */
static gboolean
is_silu(const FmProgram *p, int i)
{
    const FmInstr *in = p->instr + i;

    return i + 2 <= p->n_instrs && in[0].op == FM_ELT_SIGMOID && in[1].op == FM_ELT_MUL &&
           in[1].src[0] == in[0].src[0] && in[1].src[1] == p->n_in + i;
}

/* The same and affine, mul, add, as an activation and its derivative are built:
 * q = 1 - s, r = y q, d = s + r. */
static gboolean
is_silu_with_slope(const FmProgram *p, int i)
{
    const FmInstr *in = p->instr + i;
    const int s = p->n_in + i, y = s + 1, q = s + 2, r = s + 3;

    return i + 5 <= p->n_instrs && is_silu(p, i) && in[2].op == FM_ELT_AFFINE && in[2].src[0] == s &&
           in[2].imm[0] == -1.0 && in[2].imm[1] == 1.0 && in[3].op == FM_ELT_MUL && in[3].src[0] == y &&
           in[3].src[1] == q && in[4].op == FM_ELT_ADD && in[4].src[0] == s && in[4].src[1] == r;
}

/* TRUE when instructions after the n at i, and outputs, read only those of the n whose bit is in `kept`. */
static gboolean
reads_only(const FmProgram *p, int i, int n, unsigned kept)
{
    const int first = p->n_in + i;

    for (int k = i + n; k < p->n_instrs; k++)
        for (int j = 0; j < elt_arity(p->instr[k].op); j++) {
            const int of = p->instr[k].src[j] - first;

            if (of >= 0 && of < n && !(kept >> of & 1u))
                return FALSE;
        }
    for (int k = 0; k < p->n_out; k++) {
        const int of = p->outs[k] - first;

        if (of >= 0 && of < n && !(kept >> of & 1u))
            return FALSE;
    }
    return TRUE;
}

/* Instructions at i that run as one pass: an activation, its derivative and the sum that it is of. Of their
 * results only y and d are written; d is 0 where there is no derivative, length 0 where i runs by itself. */
typedef struct Pass {
    guint8 length, y, d;
    gboolean is_sum;
} Pass;

/* The pass of an activation at i + sum. */
static Pass
find_activation(const FmProgram *p, int i, int sum)
{
    const guint8 y = (guint8)(sum + 1), d = (guint8)(sum + 4);

    if (is_silu_with_slope(p, i + sum) && reads_only(p, i, sum + 5, 1u << y | 1u << d))
        return (Pass){(guint8)(sum + 5), y, d, sum > 0};
    if (is_silu(p, i + sum) && reads_only(p, i, sum + 2, 1u << y))
        return (Pass){(guint8)(sum + 2), y, 0, sum > 0};
    return (Pass){0};
}

static Pass
find_pass(const FmProgram *p, int i)
{
    if (p->instr[i].op == FM_ELT_ADD && i + 1 < p->n_instrs && p->instr[i + 1].src[0] == p->n_in + i)
        return find_activation(p, i, 1);
    return find_activation(p, i, 0);
}

/* Give every instruction a block of scratch, reusing those whose value nobody reads again. The two
 * results of one pass have different ones. */
static void
assign_blocks(const FmProgram *p, const Pass *pass, guint8 *block)
{
    guint8 last[FM_MAX_INPUTS + FM_MAX_INSTRS] = {0};
    guint64 used = 0;

    for (int i = 0; i < p->n_instrs; i++)
        for (int k = 0; k < elt_arity(p->instr[i].op); k++)
            last[p->instr[i].src[k]] = (guint8)i;
    for (int k = 0; k < p->n_out; k++)
        last[p->outs[k]] = FM_MAX_INSTRS;
    for (int i = 0; i < p->n_instrs; i++)
        if (pass[i].d > 0)
            last[p->n_in + i + pass[i].y] = MAX(last[p->n_in + i + pass[i].y], (guint8)(i + pass[i].length));
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

#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)

#include "math_f32.inc"
#include "math_f64.inc"

#ifdef FM_CPU_LEVELS
#include <immintrin.h> /* here: inside a level its functions would belong to that level */
FM_BEGIN_AVX512
#include "activation_avx512.inc"
FM_END_LEVEL
FM_BEGIN_AVX2
#include "activation_avx2.inc"
FM_END_LEVEL
#endif
/* where activation_*.inc have kernels of their own */
#define OWN_SILU_f32_avx512 1
#define OWN_SILU_f32_avx2 1
#define OWN_ELU_f32_avx2 1
#define BLOCK (BLOCK_BYTES / sizeof(T))
#define NAME_OF eltwise
#define BODY "eltwise.inc"
#define KERNELS \
    CPU_ROW(abs, single_scratch), CPU_ROW(sign, single_scratch), CPU_ROW(exp, single_scratch), \
        CPU_ROW(log, single_scratch), CPU_ROW(log1p, single_scratch), CPU_ROW(sqrt, single_scratch), \
        CPU_ROW(rsqrt, single_scratch), CPU_ROW(recip, single_scratch), CPU_ROW(sin, single_scratch), \
        CPU_ROW(cos, single_scratch), CPU_ROW(tanh, single_scratch), CPU_ROW(sigmoid, single_scratch), \
        CPU_ROW(erf, single_scratch), CPU_ROW(affine, single_scratch), CPU_ROW(pow, single_scratch), \
        CPU_ROW(add, single_scratch), CPU_ROW(sub, single_scratch), CPU_ROW(mul, single_scratch), \
        CPU_ROW(div, single_scratch), CPU_ROW(maximum, single_scratch), CPU_ROW(greater, single_scratch), \
        CPU_ROW(equal, single_scratch), CPU_ROW(select, single_scratch), CPU_ROW(fused, fused_scratch), \
        CPU_ROW(elu, NULL), CPU_ROW(elu_slope, NULL)
#include "levels.inc"
