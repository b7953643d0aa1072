/* realnvp: affine couplings with masks. With a binary mask m, y = m x + (1 - m) (x exp(s) + h),
 * where (s, h) is an mlp of m x; log|det dy/dx| = sum of (1 - m) s. The log-scale is
 * s = bound tanh(a / bound), so that no layer can scale by more than e^bound. Layer 2 j masks the
 * coordinates whose index has bit j (modulo the number of bits) clear, layer 2 j + 1 the others:
 * after two log2 D layers every pair of coordinates has been apart. The last linear map of each
 * layer starts at zero and the whole map at the identity. Points (B, D); images are flattened.
 * Source: Dinh et al. 2017, arXiv:1605.08803, eqs. 7 to 9. */
#include <fmcore/layer.h>
#include <fmcore/net.h>

typedef struct RealNvp {
    int layers, width, depth;
    double bound;
} RealNvp;

static const FmOption realnvp_options[] = {
    FM_OPT_INT(RealNvp, layers, 8, 1, 256, "coupling layers"),
    FM_OPT_INT(RealNvp, width, 64, 1, 65536, "units of a hidden layer"),
    FM_OPT_INT(RealNvp, depth, 2, 1, 64, "hidden layers of each coupling"),
    FM_OPT_POSITIVE(RealNvp, bound, 2.0, 20.0, "largest log-scale of one layer"),
    FM_OPT_END,
};

static gboolean
realnvp_prepare(void *self, const FmNetInfo *info, GError **error)
{
    if (info->data->D >= 2 && info->classes == 0)
        return TRUE;
    g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                "net 'realnvp': the data have %zu dimensions and %zu classes to condition on, "
                "expected at least 2 dimensions and no classes",
                info->data->D, info->classes);
    return FALSE;
}

/* (D): 1 where layer i leaves a coordinate alone; `flip` gives 1 - m. */
static FmNode *
realnvp_mask(FmGraph *graph, size_t D, int i, gboolean flip)
{
    g_autofree double *m = g_new(double, D);
    size_t bits = 1;

    while (((size_t)1 << bits) < D)
        bits++;
    for (size_t d = 0; d < D; d++)
        m[d] = (((d >> ((size_t)i / 2 % bits)) ^ (size_t)i ^ (flip ? 0u : 1u)) & 1u) ? 1.0 : 0.0;
    return fm_constant(graph, 1, &D, m);
}

/* (1 - m) s and (1 - m) h of layer i from the coordinates that it leaves alone, both (B, D). */
static void
realnvp_coupling(const RealNvp *self, FmGraph *graph, FmNode *x, size_t D, int i, FmNode **s, FmNode **h)
{
    FmNode *moved = realnvp_mask(graph, D, i, TRUE);
    FmNode *a = fm_mul(x, realnvp_mask(graph, D, i, FALSE));

    for (int j = 0; j <= self->depth; j++) {
        g_autofree char *name = g_strdup_printf("couplings.%d.layers.%d", i, j);

        a = j < self->depth ? fm_silu(fm_linear(a, name, (size_t)self->width)) : fm_linear_zero(a, name, 2 * D);
    }
    *s = fm_affine(fm_tanh(fm_affine(fm_slice(a, 0, 0, D), 1.0 / self->bound, 0.0)), self->bound, 0.0);
    *s = fm_mul(*s, moved);
    *h = fm_mul(fm_slice(a, 0, D, D), moved);
}

/* Where m = 1 the masked s and h are 0, so x exp(s) + h is x itself there. */
static FmNode *
realnvp_forward(void *self_, FmGraph *graph, const FmNetInfo *info, FmNode *x, FmNode **log_det)
{
    const RealNvp *self = self_;
    const FmShape shape = *fm_node_shape(x);
    const size_t D = info->data->D;

    *log_det = NULL;
    x = fm_reshape(x, shape.rows, 1, &D);
    for (int i = 0; i < self->layers; i++) {
        FmNode *s, *h;

        realnvp_coupling(self, graph, x, D, i, &s, &h);
        x = fm_add(fm_mul(x, fm_exp(s)), h);
        s = fm_sum(s, 1u, FALSE);
        *log_det = *log_det ? fm_add(*log_det, s) : s;
    }
    return fm_reshape(x, shape.rows, shape.ndim, shape.dim);
}

static FmNode *
realnvp_inverse(void *self_, FmGraph *graph, const FmNetInfo *info, FmNode *z, FmNode **log_det)
{
    const RealNvp *self = self_;
    const FmShape shape = *fm_node_shape(z);
    const size_t D = info->data->D;
    FmNode *sum = NULL;

    z = fm_reshape(z, shape.rows, 1, &D);
    for (int i = self->layers - 1; i >= 0; i--) {
        FmNode *s, *h;

        realnvp_coupling(self, graph, z, D, i, &s, &h);
        z = fm_mul(fm_sub(z, h), fm_exp(fm_neg(s)));
        s = fm_sum(s, 1u, FALSE);
        sum = sum ? fm_add(sum, s) : s;
    }
    *log_det = fm_neg(sum);
    return fm_reshape(z, shape.rows, shape.ndim, shape.dim);
}

static const FmNetOps realnvp_ops = {
    .prepare = realnvp_prepare,
    .forward = realnvp_forward,
    .inverse = realnvp_inverse,
};

FM_PLUGIN_DECLARE(NET, realnvp, "realnvp", realnvp_ops, .self_size = sizeof(RealNvp), .options = realnvp_options,
                  .summary = "invertible map of masked affine couplings, trained by objective ml",
                  .source = "Dinh et al. 2017, arXiv:1605.08803");
