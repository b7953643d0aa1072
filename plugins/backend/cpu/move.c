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

#define NAME_OF move
#define BODY "move.inc"
#define KERNELS \
    CPU_ROW(permute, NULL), CPU_ROW(broadcast, NULL), CPU_ROW(slice, NULL), CPU_ROW(pad, NULL), CPU_ROW(concat, NULL), \
        CPU_ROW(gather, NULL), CPU_ROW(scatter_add, NULL), CPU_ROW(random, NULL)
#include "levels.inc"
