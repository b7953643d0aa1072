/* reduce.c: sum, max, sum_rows and sum_batch as one pass over the input.
 *
 * The input is seen as axes that alternate between kept and reduced. It streams by once; each
 * output has an accumulator in double. */
#include "cpu.h"

#include <math.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3", "no-trapping-math")
#endif

typedef struct Axes {
    int n;
    size_t dim[FM_MAX_NDIM + 2];
    gboolean reduced[FM_MAX_NDIM + 2];
} Axes;

static void
axes_push(Axes *axes, size_t dim, gboolean reduced)
{
    if (dim == 1)
        return;
    if (axes->n > 0 && axes->reduced[axes->n - 1] == reduced) {
        axes->dim[axes->n - 1] *= dim;
        return;
    }
    axes->dim[axes->n] = dim;
    axes->reduced[axes->n++] = reduced;
}

static size_t
reduce_scratch(const FmKernelShapes *shapes)
{
    return cpu_rows(shapes->out, shapes->n) * cpu_size(shapes->out) * sizeof(double);
}

#define NAME_OF reduce
#define BODY "reduce.inc"
#define KERNELS \
    CPU_ROW(sum, reduce_scratch), CPU_ROW(max, reduce_scratch), CPU_ROW(sum_rows, reduce_scratch), \
        CPU_ROW(sum_batch, reduce_scratch)
#include "levels.inc"
