/* norm.c: group and layer normalisation and their derivatives as composites.
 *
 * x (B, P, C), P pixels, C channels in G groups; xhat = (x - mean) rstd, z = w xhat + b, and y = z
 * or silu(z). With g = cot dy/dz, the sums S1 = sum_P g xhat and S0 = sum_P g give everything:
 *   dw = sum_B S1    db = sum_B S0
 *   dx = rstd (w g - mean(w g) - xhat mean(w g xhat)),    means over a group, from w S0 and w S1
 * Each part is a composite, so that a backend can run it in one pass over the pixels, with an
 * expansion that is differentiated further. Source: Wu & He 2018, arXiv:1803.08494. */
#include "graph/layer_private.h"

static const FmInit init_zeros = {.kind = FM_INIT_ZEROS};
static const FmInit init_ones = {.kind = FM_INIT_CONSTANT, .scale = 1.0};

typedef struct NormShape {
    FmShape x; /* (B, ..., C) */
    size_t P, C, G;
} NormShape;

static NormShape
norm_shape(const FmNode *x, const FmAttrGroupNorm *attrs)
{
    NormShape n = {.x = *fm_node_shape(x), .G = attrs->groups};

    n.C = n.x.dim[n.x.ndim - 1];
    n.P = fm_shape_size(&n.x) / (n.C * MAX(n.x.rows, 1));
    return n;
}

/* (B, P, G, C / G) */
static FmNode *
norm_split(const NormShape *n, FmNode *x)
{
    return fm_reshape(x, n->x.rows, 3, (size_t[]){n->P, n->G, n->C / n->G});
}

/* Row i of (B, 2, G) as (B, 1, G, 1), to go with norm_split(). */
static FmNode *
norm_row(const NormShape *n, FmNode *pair, size_t i)
{
    return fm_reshape(fm_slice(pair, 0, i, 1), n->x.rows, 3, (size_t[]){1, n->G, 1});
}

/* Two values of N numbers a row as (B, 2, N). */
static FmNode *
norm_pair(const NormShape *n, FmNode *a, FmNode *b, size_t N)
{
    FmNode *part[2] = {fm_reshape(a, n->x.rows, 2, (size_t[]){1, N}), fm_reshape(b, n->x.rows, 2, (size_t[]){1, N})};

    return fm_concat(part, 2, 0);
}

/* in = x: mean and 1 / sqrt(variance + eps) of each group, (B, 2, G) */
static FmNode *
stats_expand(FmGraph *graph, FmNode *const *in, const void *attrs_)
{
    const FmAttrGroupNorm *attrs = attrs_;
    const NormShape n = norm_shape(in[0], attrs);
    FmNode *x = norm_split(&n, in[0]);
    FmNode *mean = fm_mean(x, 5u, TRUE);
    FmNode *var = fm_mean(fm_square(fm_sub(x, mean)), 5u, TRUE);

    return norm_pair(&n, mean, fm_rsqrt(fm_affine(var, 1.0, attrs->eps)), n.G);
}

static const FmComposite stats = {.name = "group_norm_stats", .expand = stats_expand};

/* xhat in the shape of x. */
static FmNode *
normalised(const NormShape *n, FmNode *x, FmNode *s)
{
    FmNode *d = fm_sub(norm_split(n, x), norm_row(n, s, 0));

    return fm_reshape(fm_mul(d, norm_row(n, s, 1)), n->x.rows, n->x.ndim, n->x.dim);
}

/* in = (x, stats, w, b): y */
static FmNode *
apply_expand(FmGraph *graph, FmNode *const *in, const void *attrs_)
{
    const FmAttrGroupNorm *attrs = attrs_;
    const NormShape n = norm_shape(in[0], attrs);
    FmNode *z = fm_add(fm_mul(normalised(&n, in[0], in[1]), in[2]), in[3]);

    return attrs->silu ? fm_silu(z) : z;
}

static const FmComposite apply = {.name = "group_norm_apply", .expand = apply_expand};

/* in = (x, stats, w, b, cot): g = cot dy/dz, in the shape of x */
static FmNode *
pre_activation(FmNode *const *in, FmNode *xhat, const FmAttrGroupNorm *attrs)
{
    FmNode *z, *s;

    if (!attrs->silu)
        return in[4];
    z = fm_add(fm_mul(xhat, in[2]), in[3]);
    s = fm_sigmoid(z);
    return fm_mul(in[4], fm_mul(s, fm_affine(fm_mul(z, fm_affine(s, -1.0, 1.0)), 1.0, 1.0)));
}

/* in = (x, stats, w, b, cot): S1 and S0, (B, 2, C) */
static FmNode *
sums_expand(FmGraph *graph, FmNode *const *in, const void *attrs_)
{
    const NormShape n = norm_shape(in[0], attrs_);
    FmNode *xhat = normalised(&n, in[0], in[1]);
    FmNode *g = pre_activation(in, xhat, attrs_);
    const size_t flat[2] = {n.P, n.C};

    return norm_pair(&n, fm_sum(fm_reshape(fm_mul(g, xhat), n.x.rows, 2, flat), 1u, TRUE),
                     fm_sum(fm_reshape(g, n.x.rows, 2, flat), 1u, TRUE), n.C);
}

static const FmComposite sums = {.name = "group_norm_sums", .expand = sums_expand};

/* in = (x, stats, w, b, cot, sums): dx */
static FmNode *
dx_expand(FmGraph *graph, FmNode *const *in, const void *attrs_)
{
    const NormShape n = norm_shape(in[0], attrs_);
    FmNode *xhat = normalised(&n, in[0], in[1]);
    FmNode *g = pre_activation(in, xhat, attrs_);
    FmNode *m = fm_mul(in[5], in[2]), *d;

    m = fm_sum(fm_reshape(m, n.x.rows, 3, (size_t[]){2, n.G, n.C / n.G}), 4u, FALSE);
    m = fm_affine(m, 1.0 / (double)(n.P * (n.C / n.G)), 0.0);
    d = fm_mul(norm_split(&n, xhat), norm_row(&n, m, 0));
    d = fm_sub(fm_sub(norm_split(&n, fm_mul(g, in[2])), norm_row(&n, m, 1)), d);
    return fm_reshape(fm_mul(d, norm_row(&n, in[1], 1)), n.x.rows, n.x.ndim, n.x.dim);
}

static const FmComposite dx = {.name = "group_norm_dx", .expand = dx_expand};

/* in = (x, w, b) */
static FmNode *
group_norm_expand(FmGraph *graph, FmNode *const *in, const void *attrs)
{
    FmNode *s = fm_composite(graph, &stats, in, 1, attrs, sizeof(FmAttrGroupNorm));

    return fm_composite(graph, &apply, (FmNode *[]){in[0], s, in[1], in[2]}, 4, attrs, sizeof(FmAttrGroupNorm));
}

static void
group_norm_vjp(FmGraph *graph, FmNode *const *in, FmNode *out, FmNode *cot, const void *attrs, FmNode **d_in)
{
    const FmShape *w = fm_node_shape(in[1]);
    FmNode *part[6] = {in[0], NULL, in[1], in[2], cot}, *total;

    part[1] = fm_composite(graph, &stats, in, 1, attrs, sizeof(FmAttrGroupNorm));
    part[5] = fm_composite(graph, &sums, part, 5, attrs, sizeof(FmAttrGroupNorm));
    d_in[0] = fm_composite(graph, &dx, part, 6, attrs, sizeof(FmAttrGroupNorm));
    total = fm_sum_batch(part[5]);
    for (size_t i = 0; i < 2; i++)
        d_in[1 + i] = fm_reshape(fm_slice(total, 0, i, 1), 0, w->ndim, w->dim);
}

static const FmComposite group_norm = {.name = "group_norm", .expand = group_norm_expand, .vjp = group_norm_vjp};

FmNode *
fm_group_norm(FmNode *x, const char *name, size_t groups, gboolean silu)
{
    const FmAttrGroupNorm attrs = {.groups = (guint32)groups, .silu = silu != 0, .eps = 1e-5};
    FmNode *in[3] = {x};
    const FmShape *s;
    size_t C;

    if (!x)
        return NULL;
    s = fm_node_shape(x);
    C = s->ndim < 1 ? 0 : s->dim[s->ndim - 1];
    if (groups == 0 || C == 0 || C % groups != 0) {
        fm_graph_fail(fm_node_graph(x), FM_ERROR_SHAPE,
                      "group norm '%s': %zu channels were given in %zu groups, expected a number of "
                      "groups that divides the channels",
                      name, C, groups);
        return NULL;
    }
    in[1] = fm__layer_param(fm_node_graph(x), name, ".weight", 1, &C, init_ones);
    in[2] = fm__layer_param(fm_node_graph(x), name, ".bias", 1, &C, init_zeros);
    return fm_composite(fm_node_graph(x), &group_norm, in, 3, &attrs, sizeof attrs);
}

/* One group per token: batched tokens become rows of the composite. */
FmNode *
fm_layer_norm(FmNode *x, const char *name)
{
    const FmAttrGroupNorm attrs = {.groups = 1, .silu = 0, .eps = 1e-5};
    FmNode *in[3], *y;
    FmShape s;
    size_t C, tokens;

    if (!x)
        return NULL;
    s = *fm_node_shape(x);
    if (s.ndim < 1) {
        fm_graph_fail(fm_node_graph(x), FM_ERROR_SHAPE,
                      "layer norm '%s': its input has no axis beside the batch, expected at least one", name);
        return NULL;
    }
    C = s.dim[s.ndim - 1];
    in[1] = fm__layer_param(fm_node_graph(x), name, ".weight", 1, &C, init_ones);
    in[2] = fm__layer_param(fm_node_graph(x), name, ".bias", 1, &C, init_zeros);
    if (s.rows == 0) {
        const unsigned last = 1u << (s.ndim - 1);
        FmNode *d = fm_sub(x, fm_mean(x, last, TRUE));

        y = fm_rsqrt(fm_affine(fm_mean(fm_square(d), last, TRUE), 1.0, attrs.eps));
        return fm_add(fm_mul(fm_mul(d, y), in[1]), in[2]);
    }
    tokens = fm_shape_size(&s) / C;
    in[0] = fm_reshape(x, tokens, 1, &C);
    y = fm_composite(fm_node_graph(x), &group_norm, in, 3, &attrs, sizeof attrs);
    return fm_reshape(y, s.rows, s.ndim, s.dim);
}
