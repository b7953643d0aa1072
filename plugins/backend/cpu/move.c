/* move.c: operations that only move elements: permute, broadcast, slice, pad, concat, gather and
 * scatter_add, and the random numbers. */
#include "cpu.h"

#include <string.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3")
#endif

/* A strided read: dim[] of the contiguous result, stride[] in the source. */
typedef struct Walk {
    int n;
    size_t dim[FM_MAX_NDIM + 2], stride[FM_MAX_NDIM + 2];
} Walk;

static void
walk_push(Walk *walk, size_t dim, size_t stride)
{
    if (dim == 1)
        return;
    if (walk->n > 0 && walk->stride[walk->n - 1] == dim * stride) {
        walk->dim[walk->n - 1] *= dim;
        walk->stride[walk->n - 1] = stride;
        return;
    }
    walk->dim[walk->n] = dim;
    walk->stride[walk->n++] = stride;
}

/* A row's axes around `axis`: how many blocks, and elements in one step of the axis. */
static void
around(const FmShape *shape, int axis, size_t *before, size_t *after)
{
    *before = *after = 1;
    for (int i = 0; i < axis; i++)
        *before *= shape->dim[i];
    for (int i = axis + 1; i < shape->ndim; i++)
        *after *= shape->dim[i];
}

#define JOIN_(a, b, c) a##b##c
#define JOIN(a, b, c) JOIN_(a, b, c)

#ifdef FM_CPU_LEVELS
FM_BEGIN_AVX512
#define LEVEL _avx512
#include "move_types.inc"
#undef LEVEL
FM_END_LEVEL
FM_BEGIN_AVX2
#define LEVEL _avx2
#include "move_types.inc"
#undef LEVEL
FM_END_LEVEL
#endif
#define LEVEL _base
#include "move_types.inc"

const CpuEntry *
cpu_move_table(void)
{
    switch (fm_cpu_level()) {
#ifdef FM_CPU_LEVELS
    case FM_CPU_AVX512:
        return move_table_avx512;
    case FM_CPU_AVX2:
        return move_table_avx2;
#endif
    default:
        return move_table_base;
    }
}
