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

#define T float
#define NAME(x) x##_f32
#define FILL(kind) fm_fill_##kind##_f32
#include "move.inc"
#undef T
#undef NAME
#undef FILL
#define T double
#define NAME(x) x##_f64
#define FILL(kind) fm_fill_##kind##_f64
#include "move.inc"
#undef T
#undef NAME
#undef FILL

#define ROW(op) {#op, {.run = op##_f32}, {.run = op##_f64}}

const CpuEntry cpu_move_table[] = {
    ROW(permute), ROW(broadcast), ROW(slice),       ROW(pad),
    ROW(concat),  ROW(gather),    ROW(scatter_add), ROW(random),
    {NULL},
};
