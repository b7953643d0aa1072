/* gated: a net with an operation of its own, built outside the tree.
 *   softsign(x) = x / (1 + k |x|),   k the sharpness
 * as a composite: an expansion into primitives, kernels for both dtypes and a rule for its vjp. */
#include <fmcore/fmcore.h>
#include <math.h>

typedef struct Gated {
    int width;
    double sharpness;
    gboolean composite;
} Gated;

static const FmOption gated_options[] = {
    FM_OPT_INT(Gated, width, 32, 1, 4096, "units of the hidden layers"),
    FM_OPT_POSITIVE(Gated, sharpness, 1.5, 100, "k"),
    FM_OPT_BOOL(Gated, composite, yes, "the fused operation instead of primitives"),
    FM_OPT_END,
};

/* 1 / (1 + k |x|) */
static FmNode *
gated_damping(FmNode *x, double k)
{
    return fm_recip(fm_affine(fm_abs(x), k, 1.0));
}

static FmNode *
softsign_expand(FmGraph *graph, FmNode *const *in, const void *attrs)
{
    return fm_mul(in[0], gated_damping(in[0], *(const double *)attrs));
}

static void
softsign_vjp(FmGraph *graph, FmNode *const *in, FmNode *out, FmNode *cot, const void *attrs, FmNode **d_in)
{
    d_in[0] = fm_mul(cot, fm_square(gated_damping(in[0], *(const double *)attrs)));
}

#define SOFTSIGN_KERNEL(name, T, ABS) \
    static gboolean name(const FmKernelArgs *a) \
    { \
        const size_t n = a->n * fm_shape_size(a->out.shape); \
        const T k = (T) * (const double *)a->attrs, *x = a->in[0].data; \
        T *y = a->out.data; \
\
        for (size_t i = 0; i < n; i++) \
            y[i] = x[i] / (1 + k * ABS(x[i])); \
        return TRUE; \
    }
SOFTSIGN_KERNEL(softsign_f32, float, fabsf)
SOFTSIGN_KERNEL(softsign_f64, double, fabs)

static const FmKernel softsign_kernel_f32 = {.run = softsign_f32}, softsign_kernel_f64 = {.run = softsign_f64};
static const FmComposite softsign = {.name = "outside_softsign",
                                     .expand = softsign_expand,
                                     .vjp = softsign_vjp,
                                     .kernel_f32 = &softsign_kernel_f32,
                                     .kernel_f64 = &softsign_kernel_f64};

static FmNode *
gated_softsign(const Gated *s, FmGraph *graph, FmNode *x)
{
    if (!x)
        return NULL;
    return s->composite ? fm_composite(graph, &softsign, &x, 1, &s->sharpness, sizeof s->sharpness)
                        : softsign_expand(graph, &x, &s->sharpness);
}

static FmNode *
gated_velocity(void *self, FmGraph *graph, const FmNetInfo *info, FmNode *x, FmNode *t, FmNode *y)
{
    const Gated *s = self;
    const FmShape shape = *fm_node_shape(x);
    FmNode *flat = fm_reshape(x, shape.rows, 1, &info->data->D);
    FmNode *time = fm_reshape(t, fm_node_shape(t)->rows, 1, (const size_t[]){1});
    FmNode *h = fm_concat((FmNode *[]){flat, time}, 2, 0);

    h = gated_softsign(s, graph, fm_linear(h, "layers.0", (size_t)s->width));
    h = gated_softsign(s, graph, fm_linear(h, "layers.1", (size_t)s->width));
    return fm_reshape(fm_linear(h, "layers.2", info->data->D), shape.rows, shape.ndim, shape.dim);
}

static const FmNetOps gated_ops = {.velocity = gated_velocity};

FM_PLUGIN_DECLARE(NET, gated, "gated", gated_ops, .self_size = sizeof(Gated), .options = gated_options,
                  .summary = "a net with its own composite operation", .source = "a test of fmcore's interfaces");
