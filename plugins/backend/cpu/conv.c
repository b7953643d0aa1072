/* conv.c: convolutions of (B, H, W, C) images by im2col and GEMM.
 *
 * A column matrix has one row per output pixel and the taps (i, j, c) as columns; weights are kept
 * as (kh kw I, O) to match. 1 x 1 filters of stride 1 need no columns. */
#include "cpu.h"

#include <string.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3")
#endif

typedef struct Conv {
    size_t B, H, W, I, Ho, Wo, O, kh, kw, stride, pad;
    size_t taps;    /* kh kw I */
    gboolean plain; /* the image is its own column matrix */
} Conv;

static Conv
conv_of(const FmShape *x, const FmShape *w, const FmShape *y, const FmAttrConv *at, size_t B)
{
    Conv c = {.B = B,
              .H = x->dim[0],
              .W = x->dim[1],
              .I = x->dim[2],
              .Ho = y->dim[0],
              .Wo = y->dim[1],
              .O = y->dim[2],
              .kh = w->dim[2],
              .kw = w->dim[3],
              .stride = (size_t)at->stride,
              .pad = (size_t)at->pad};

    c.taps = c.kh * c.kw * c.I;
    c.plain = c.kh == 1 && c.kw == 1 && c.stride == 1 && c.pad == 0;
    return c;
}

#define T float
#define NAME(x) x##_f32
#include "conv.inc"
#undef T
#undef NAME
#define T double
#define NAME(x) x##_f64
#include "conv.inc"
#undef T
#undef NAME

#define KERNELS(op, suffix) \
    { \
        .run = op##_##suffix, .scratch = op##_scratch_##suffix, .pack_size = op##_pack_size_##suffix, \
        .pack = conv_pack_##suffix \
    }
#define KERNEL_REDUCE(op, suffix) \
    { \
        .run = op##_##suffix, .scratch = op##_scratch_##suffix \
    }

/* What the faster kernels fall back to for shapes that they do not take. */
const FmKernel cpu_im2col_conv2d = KERNELS(conv2d, f32);
const FmKernel cpu_im2col_conv2d_input = KERNELS(conv2d_input, f32);
const FmKernel cpu_im2col_conv2d_weight = KERNEL_REDUCE(conv2d_weight, f32);

/* in double; cpu_lookup() knows the others */
const CpuEntry cpu_conv_table[] = {
    {"conv2d", {NULL}, KERNELS(conv2d, f64)},
    {"conv2d_input", {NULL}, KERNELS(conv2d_input, f64)},
    {"conv2d_weight", {NULL}, KERNEL_REDUCE(conv2d_weight, f64)},
    {NULL},
};
