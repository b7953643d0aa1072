/* attention.c: softmax and self-attention as composites.
 *
 * Of (B, T, 3 C), T tokens with queries, keys and values of `heads` heads of width d = C / heads:
 * softmax(q k^T / sqrt(d)) v, (B, T, C). The gradient, also one composite, computes the
 * probabilities again, so that nothing of size T x T is kept. Source: Vaswani et al. 2017,
 * arXiv:1706.03762; recomputation: Dao et al. 2022, arXiv:2205.14135. */
#include "graph/layer_private.h"

#include <math.h>

static unsigned
last_axis(const FmNode *x)
{
    return 1u << (fm_node_shape(x)->ndim - 1);
}

/* ---- softmax ---- */

static FmNode *
softmax_expand(FmGraph *graph, FmNode *const *in, const void *attrs)
{
    /* Any shift gives the same value, so the maximum is not differentiated. */
    FmNode *top = fm_stop_gradient(fm_max(in[0], last_axis(in[0]), TRUE));
    FmNode *e = fm_exp(fm_sub(in[0], top));

    return e ? fm_div(e, fm_sum(e, last_axis(e), TRUE)) : NULL;
}

/* y (d - sum y d): the Jacobian diag(y) - y y^T is symmetric and serves both modes. */
static FmNode *
softmax_jacobian(FmNode *y, FmNode *d)
{
    return y && d ? fm_mul(y, fm_sub(d, fm_sum(fm_mul(y, d), last_axis(y), TRUE))) : NULL;
}

static void
softmax_vjp(FmGraph *graph, FmNode *const *in, FmNode *out, FmNode *cot, const void *attrs, FmNode **d_in)
{
    d_in[0] = softmax_jacobian(out, cot);
}

static FmNode *
softmax_jvp(FmGraph *graph, FmNode *const *in, FmNode *out, FmNode *const *tangents, const void *attrs)
{
    return softmax_jacobian(out, tangents[0]);
}

static const FmComposite softmax = {
    .name = "softmax", .expand = softmax_expand, .vjp = softmax_vjp, .jvp = softmax_jvp};

FmNode *
fm_softmax(FmNode *x)
{
    if (!x)
        return NULL;
    if (fm_node_shape(x)->ndim < 1) {
        fm_graph_fail(fm_node_graph(x), FM_ERROR_SHAPE,
                      "softmax: its input has no axis beside the batch, expected at least one");
        return NULL;
    }
    return fm_composite(fm_node_graph(x), &softmax, &x, 1, NULL, 0);
}

/* ---- q, k and v in one array ---- */

typedef struct Heads {
    size_t rows, T, heads, d;
    gboolean split; /* (B, T, 3, heads, d), else (B, T, heads, 3, d) */
} Heads;

static Heads
heads_of(const FmNode *qkv, const FmAttrAttention *attrs)
{
    const FmShape *s = fm_node_shape(qkv);

    return (Heads){.rows = s->rows,
                   .T = s->dim[0],
                   .heads = attrs->heads,
                   .d = s->dim[1] / 3 / attrs->heads,
                   .split = attrs->split != 0};
}

/* Part i (q, k, v) as (B, heads, T, d). */
static FmNode *
heads_part(const Heads *h, FmNode *qkv, size_t i)
{
    const size_t wide[4] = {h->T, h->split ? 3 : h->heads, h->split ? h->heads : 3, h->d};
    FmNode *x = fm_slice(fm_reshape(qkv, h->rows, 4, wide), h->split ? 1 : 2, i, 1);

    return fm_permute(fm_reshape(x, h->rows, 3, (size_t[]){h->T, h->heads, h->d}), (int[]){1, 0, 2});
}

/* The inverse: three of (B, heads, T, d) as (B, T, 3 C). */
static FmNode *
heads_join(const Heads *h, FmNode *const *x)
{
    const size_t wide[4] = {h->T, h->split ? 1 : h->heads, h->split ? h->heads : 1, h->d};
    FmNode *part[3], *all;

    for (size_t i = 0; i < 3; i++)
        part[i] = fm_reshape(fm_permute(x[i], (int[]){1, 0, 2}), h->rows, 4, wide);
    all = fm_concat(part, 3, h->split ? 1 : 2);
    return fm_reshape(all, h->rows, 2, (size_t[]){h->T, 3 * h->heads * h->d});
}

/* (B, heads, T, d) and (B, T, C) */
static FmNode *
heads_merge(const Heads *h, FmNode *x)
{
    return fm_reshape(fm_permute(x, (int[]){1, 0, 2}), h->rows, 2, (size_t[]){h->T, h->heads * h->d});
}

static FmNode *
heads_unmerge(const Heads *h, FmNode *x)
{
    return fm_permute(fm_reshape(x, h->rows, 3, (size_t[]){h->T, h->heads, h->d}), (int[]){1, 0, 2});
}

static FmNode *
probabilities(FmNode *q, FmNode *k, size_t d)
{
    return fm_softmax(fm_affine(fm_matmul_batch(q, k, FALSE, TRUE), 1.0 / sqrt((double)d), 0.0));
}

static FmNode *
attention_expand(FmGraph *graph, FmNode *const *in, const void *attrs)
{
    const Heads h = heads_of(in[0], attrs);
    FmNode *p = probabilities(heads_part(&h, in[0], 0), heads_part(&h, in[0], 1), h.d);

    return heads_merge(&h, fm_matmul_batch(p, heads_part(&h, in[0], 2), FALSE, FALSE));
}

/* in = (qkv, cot): the gradient of qkv */
static FmNode *
attention_vjp_expand(FmGraph *graph, FmNode *const *in, const void *attrs)
{
    const Heads h = heads_of(in[0], attrs);
    FmNode *q = heads_part(&h, in[0], 0), *k = heads_part(&h, in[0], 1);
    FmNode *v = heads_part(&h, in[0], 2), *c = heads_unmerge(&h, in[1]);
    FmNode *p = probabilities(q, k, h.d);
    FmNode *ds = softmax_jacobian(p, fm_matmul_batch(c, v, FALSE, TRUE)), *d[3];

    if (!ds)
        return NULL;
    ds = fm_affine(ds, 1.0 / sqrt((double)h.d), 0.0);
    d[0] = fm_matmul_batch(ds, k, FALSE, FALSE);
    d[1] = fm_matmul_batch(ds, q, TRUE, FALSE);
    d[2] = fm_matmul_batch(p, c, TRUE, FALSE);
    return heads_join(&h, d);
}

static const FmComposite attention_vjp_composite = {.name = "attention_vjp", .expand = attention_vjp_expand};

static void
attention_vjp(FmGraph *graph, FmNode *const *in, FmNode *out, FmNode *cot, const void *attrs, FmNode **d_in)
{
    d_in[0] =
        fm_composite(graph, &attention_vjp_composite, (FmNode *[]){in[0], cot}, 2, attrs, sizeof(FmAttrAttention));
}

static const FmComposite attention = {.name = "attention", .expand = attention_expand, .vjp = attention_vjp};

FmNode *
fm_attention_qkv(FmNode *qkv, size_t heads, gboolean split)
{
    const FmAttrAttention attrs = {.heads = (guint32)heads, .split = split != 0};
    const FmShape *s;

    if (!qkv)
        return NULL;
    s = fm_node_shape(qkv);
    if (s->ndim != 2 || heads == 0 || s->dim[1] % (3 * heads) != 0) {
        g_autofree char *text = fm_shape_format(s);

        fm_graph_fail(fm_node_graph(qkv), FM_ERROR_SHAPE,
                      "attention: its input has the shape %s for %zu heads, expected (B, tokens, "
                      "3 channels) with channels that the heads divide",
                      text, heads);
        return NULL;
    }
    return fm_composite(fm_node_graph(qkv), &attention, &qkv, 1, &attrs, sizeof attrs);
}

FmNode *
fm_attention(FmNode *q, FmNode *k, FmNode *v)
{
    const FmShape *s;
    Heads h;

    if (!q || !k || !v)
        return NULL;
    s = fm_node_shape(q);
    if (s->ndim != 3 || fm_node_shape(k)->ndim != 3 || fm_node_shape(v)->ndim != 3) {
        fm_graph_fail(fm_node_graph(q), FM_ERROR_SHAPE, "attention: q, k and v must be (B, heads, tokens, d)");
        return NULL;
    }
    if (!fm_shape_equal(s, fm_node_shape(k)) || !fm_shape_equal(s, fm_node_shape(v)))
        return fm_matmul_batch(probabilities(q, k, s->dim[2]), v, FALSE, FALSE);
    h = (Heads){.rows = s->rows, .T = s->dim[1], .heads = s->dim[0], .d = s->dim[2], .split = TRUE};
    return heads_unmerge(&h, fm_attention_qkv(heads_join(&h, (FmNode *[]){q, k, v}), h.heads, TRUE));
}
