/* layer.c: layers composed of graph nodes, with PyTorch's names, layouts and initial values.
 * nn.Linear and nn.Conv2d draw weight and bias from U(-k, k), k = 1/sqrt(fan_in), which is what
 * kaiming_uniform_(a = sqrt 5) amounts to. */
#include "graph/layer_private.h"

#include <math.h>

FmNode *
fm__layer_param(FmGraph *graph, const char *name, const char *suffix, int ndim, const size_t *dim, FmInit init)
{
    g_autofree char *full = g_strconcat(name, suffix, NULL);

    return fm_param(graph, full, ndim, dim, init);
}

static FmInit
uniform_fan_in(size_t fan_in)
{
    return (FmInit){.kind = FM_INIT_UNIFORM, .scale = 1.0 / sqrt((double)fan_in)};
}

static const FmInit init_zeros = {.kind = FM_INIT_ZEROS};

/* ---- linear and convolution ---- */

static FmNode *
linear(FmNode *x, const char *name, size_t out, gboolean zero)
{
    const FmShape *s;
    FmNode *w, *b;
    FmInit init;
    size_t in;

    if (!x)
        return NULL;
    s = fm_node_shape(x);
    if (s->ndim < 1) {
        fm_graph_fail(fm_node_graph(x), FM_ERROR_SHAPE,
                      "linear '%s': its input has no axis beside the batch, expected at least one", name);
        return NULL;
    }
    in = s->dim[s->ndim - 1];
    init = zero ? init_zeros : uniform_fan_in(in);
    w = fm__layer_param(fm_node_graph(x), name, ".weight", 2, (size_t[]){out, in}, init);
    b = fm__layer_param(fm_node_graph(x), name, ".bias", 1, &out, init);
    return fm_add(fm_matmul(x, fm_transpose(w)), b);
}

FmNode *
fm_linear(FmNode *x, const char *name, size_t out)
{
    return linear(x, name, out, FALSE);
}

FmNode *
fm_linear_zero(FmNode *x, const char *name, size_t out)
{
    return linear(x, name, out, TRUE);
}

static FmNode *
conv(FmNode *x, const char *name, size_t out, size_t k, int stride, int pad, gboolean zero)
{
    const FmShape *s;
    FmNode *w, *b;
    FmInit init;

    if (!x)
        return NULL;
    s = fm_node_shape(x);
    if (s->ndim != 3) {
        g_autofree char *text = fm_shape_format(s);

        fm_graph_fail(fm_node_graph(x), FM_ERROR_SHAPE,
                      "convolution '%s': its input has the shape %s, expected (B, H, W, C)", name, text);
        return NULL;
    }
    init = zero ? init_zeros : uniform_fan_in(s->dim[2] * k * k);
    w = fm__layer_param(fm_node_graph(x), name, ".weight", 4, (size_t[]){out, s->dim[2], k, k}, init);
    b = fm__layer_param(fm_node_graph(x), name, ".bias", 1, &out, init);
    return fm_add(fm_conv2d(x, w, stride, pad), b);
}

FmNode *
fm_conv(FmNode *x, const char *name, size_t out, size_t k, int stride, int pad)
{
    return conv(x, name, out, k, stride, pad, FALSE);
}

FmNode *
fm_conv_zero(FmNode *x, const char *name, size_t out, size_t k, int stride, int pad)
{
    return conv(x, name, out, k, stride, pad, TRUE);
}

/* ---- time and labels ---- */

FmNode *
fm_timestep_embedding(FmNode *t, size_t dim, double max_period, double scale)
{
    const size_t half = dim / 2;
    g_autofree double *freq = g_new(double, MAX(half, 1));
    FmNode *angle, *parts[2], *y;

    if (!t)
        return NULL;
    if (half == 0) {
        fm_graph_fail(fm_node_graph(t), FM_ERROR_SHAPE,
                      "timestep embedding: %zu features were asked for, expected at least 2", dim);
        return NULL;
    }
    for (size_t i = 0; i < half; i++)
        freq[i] = scale * exp(-log(max_period) * (double)i / (double)half);
    angle = fm_mul(t, fm_constant(fm_node_graph(t), 1, &half, freq));
    parts[0] = fm_cos(angle);
    parts[1] = fm_sin(angle);
    y = fm_concat(parts, 2, 0);
    return fm_pad(y, 0, 0, dim % 2);
}

FmNode *
fm_embedding(FmNode *labels, const char *name, size_t classes, size_t dim)
{
    const FmInit init = {.kind = FM_INIT_NORMAL, .scale = 1.0};

    if (!labels)
        return NULL;
    return fm_gather(fm__layer_param(fm_node_graph(labels), name, ".weight", 2, (size_t[]){classes, dim}, init),
                     labels);
}

/* ---- resampling and dropout ---- */

static gboolean
is_image(FmNode *x, const char *who)
{
    const FmShape *s = fm_node_shape(x);

    if (s->ndim == 3)
        return TRUE;
    fm_graph_fail(fm_node_graph(x), FM_ERROR_SHAPE, "%s: its input has %d axes beside the batch, expected (B, H, W, C)",
                  who, s->ndim);
    return FALSE;
}

FmNode *
fm_upsample2(FmNode *x)
{
    FmShape s, wide;

    if (!x || !is_image(x, "upsampling"))
        return NULL;
    s = *fm_node_shape(x);
    wide = (FmShape){.rows = s.rows, .ndim = 5, .dim = {s.dim[0], 2, s.dim[1], 2, s.dim[2]}};
    x = fm_reshape(x, s.rows, 5, (size_t[]){s.dim[0], 1, s.dim[1], 1, s.dim[2]});
    return x ? fm_reshape(fm_broadcast(x, &wide), s.rows, 3, (size_t[]){2 * s.dim[0], 2 * s.dim[1], s.dim[2]}) : NULL;
}

FmNode *
fm_avg_pool2(FmNode *x)
{
    FmShape s;

    if (!x || !is_image(x, "average pooling"))
        return NULL;
    s = *fm_node_shape(x);
    /* An odd last row or column is dropped, as nn.AvgPool2d does. */
    x = fm_slice(fm_slice(x, 0, 0, s.dim[0] / 2 * 2), 1, 0, s.dim[1] / 2 * 2);
    x = fm_reshape(x, s.rows, 5, (size_t[]){s.dim[0] / 2, 2, s.dim[1] / 2, 2, s.dim[2]});
    return fm_mean(x, 1u << 1 | 1u << 3, FALSE);
}

FmNode *
fm_dropout(FmNode *x, double p, guint32 stream, gboolean training)
{
    FmNode *u, *keep;

    if (!x || !training || p <= 0.0)
        return x;
    if (p >= 1.0 || fm_node_shape(x)->rows == 0) {
        fm_graph_fail(fm_node_graph(x), FM_ERROR_SHAPE,
                      "dropout: the probability is %g, expected 0 <= p < 1 and an input with a batch "
                      "axis",
                      p);
        return NULL;
    }
    u = fm_random(fm_node_graph(x), FM_RANDOM_UNIFORM, stream, fm_node_shape(x));
    keep = fm_greater(u, fm_scalar(fm_node_graph(x), p));
    return fm_mul(x, fm_affine(keep, 1.0 / (1.0 - p), 0.0));
}
