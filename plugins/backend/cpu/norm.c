/* norm.c: group normalisation in passes over the pixels: statistics, value, and its derivatives.
 *
 * An image of P pixels and C channels is a run of P C numbers whose coefficients repeat every C:
 * they are laid out for a span of several pixels, so that inner loops are long whatever C is. Sums
 * are in T over at most NORM_RUN spans, then in double. Formulas: core/graph/norm.c. */
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

#define NORM_RUN 32

typedef struct NormDims {
    size_t P, C, G;
    size_t span; /* a multiple of C */
} NormDims;

/* At least 256 numbers a span. */
static NormDims
norm_dims(const FmShape *x, const FmAttrGroupNorm *attrs)
{
    NormDims d = {.C = x->dim[x->ndim - 1], .G = attrs->groups};

    d.P = cpu_size(x) / d.C;
    d.span = d.C * MIN((256 + d.C - 1) / d.C, d.P);
    return d;
}

/* Room for 6 spans of T, 4 of double. */
static size_t
norm_scratch(const FmKernelShapes *s)
{
    const NormDims d = norm_dims(s->in[0], s->attrs);

    return 10 * cpu_align(d.span * sizeof(double));
}

#include "math_f32.inc"
#include "math_f64.inc"

#define NAME_OF norm
#define BODY "norm.inc"
#define KERNELS \
    CPU_ROW(group_norm_stats, norm_scratch), CPU_ROW(group_norm_apply, norm_scratch), \
        CPU_ROW(group_norm_sums, norm_scratch), CPU_ROW(group_norm_dx, norm_scratch)
#include "levels.inc"
