/* reference: every operation as plain loops, sums in double; what other backends are tested by.
 * Shapes and attributes: backend.h; meaning of each operation: graph.h. Nothing here is shared
 * with another backend, and nothing is fast. */
#include <fmcore/backend.h>

#include <math.h>
#include <string.h>

typedef struct ReferenceEntry {
    const char *op; /* NULL closes the table */
    FmKernel kernel;
} ReferenceEntry;

/* Elements of one row of a view: the product of the axes, without K. */
static size_t
reference_size(const FmShape *shape)
{
    size_t size = 1;

    for (int i = 0; i < shape->ndim; i++)
        size *= shape->dim[i];
    return size;
}

/* A sum in double for each element of the output. */
static size_t
reference_doubles(const FmKernelShapes *shapes)
{
    return MAX(shapes->out->rows * shapes->n, 1) * reference_size(shapes->out) * sizeof(double);
}

#define T float
#define NAME(x) reference_##x##_f32
#define FILL(kind) fm_fill_##kind##_f32
#include "reference.inc"
#undef T
#undef NAME
#undef FILL

#define T double
#define NAME(x) reference_##x##_f64
#define FILL(kind) fm_fill_##kind##_f64
#include "reference.inc"
#undef T
#undef NAME
#undef FILL

static const FmKernel *
reference_lookup(const void *self, const char *op, FmDtype dtype)
{
    const ReferenceEntry *e;

    if (dtype != FM_F32 && dtype != FM_F64)
        return NULL;
    for (e = dtype == FM_F32 ? reference_table_f32 : reference_table_f64; e->op != NULL; e++)
        if (strcmp(e->op, op) == 0)
            return &e->kernel;
    return NULL;
}

static const char *
reference_describe(const void *self)
{
    return "plain loops, sums in double";
}

static const FmBackendOps reference_ops = {
    .lookup = reference_lookup,
    .describe = reference_describe,
};

FM_PLUGIN_DECLARE(BACKEND, reference, "reference", reference_ops,
                  .summary = "plain loops for every operation: slow, to test other backends by",
                  .source = "include/fmcore/graph.h");
