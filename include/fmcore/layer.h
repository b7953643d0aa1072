/* layer.h: layers, functions that compose graph nodes. Names follow PyTorch's modules: a layer
 * called "layers.0" declares "layers.0.weight" and "layers.0.bias" with PyTorch's default
 * initialisation unless it says otherwise. NULL in, NULL out: see graph.h on errors. */
#ifndef FMCORE_LAYER_H
#define FMCORE_LAYER_H

#include <fmcore/graph.h>

G_BEGIN_DECLS

/* Element-wise non-linearities by name; used as an option's choices. */
typedef enum FmActivation {
    FM_ACT_SILU,
    FM_ACT_RELU,
    FM_ACT_TANH,
    FM_ACT_GELU,
    FM_ACT_SELU,
    FM_ACT_ELU,
    FM_ACT_SOFTPLUS,
    FM_ACT_SIN,
    FM_ACT_IDENTITY
} FmActivation;
extern const char *const fm_activation_names[]; /* "silu", "relu", ..., NULL */

FmNode *fm_activation(FmNode *x, FmActivation kind); /* one of these, element by element */
FmNode *fm_silu(FmNode *x);                          /* x sigmoid(x) */
FmNode *fm_softplus(FmNode *x);                      /* log(1 + e^x), stable */
FmNode *fm_softmax(FmNode *x);                       /* over the last axis */

/* x (..., I) W^T + b: (..., out); "NAME.weight" (out, I), "NAME.bias" (out). */
FmNode *fm_linear(FmNode *x, const char *name, size_t out);
/* The same with all weights zero at first (torch's zero_module). */
FmNode *fm_linear_zero(FmNode *x, const char *name, size_t out);

/* x (B, H, W, I) to (B, H', W', out); "NAME.weight" (out, I, k, k), "NAME.bias" (out). */
FmNode *fm_conv(FmNode *x, const char *name, size_t out, size_t k, int stride, int pad);
FmNode *fm_conv_zero(FmNode *x, const char *name, size_t out, size_t k, int stride, int pad);

/* Group normalisation of (B, ..., C) over all axes but the batch, in groups of C / groups
 * channels; eps 1e-5, biased variance; "NAME.weight", "NAME.bias" (C). `silu`: SiLU follows. */
FmNode *fm_group_norm(FmNode *x, const char *name, size_t groups, gboolean silu);
/* Attributes of the composites of group normalisation. A backend may offer kernels for the whole,
 * "group_norm" (x, weight, bias), or for its parts, with G groups and stats = (mean, 1/sqrt(var + eps))
 * of each: "group_norm_stats" (x) to (B, 2, G); "group_norm_apply" (x, stats, weight, bias);
 * "group_norm_sums" (x, stats, weight, bias, cot) to (B, 2, C), the gradients of weight and bias of
 * each row; "group_norm_dx" (x, stats, weight, bias, cot, sums), the gradient of x.
 * The composites "softmax" (x) and "softplus" (x) have no attributes. "elu" (x), with FmAttrElu, is scale x
 * above 0 and below (e^x - 1) else; "elu_slope" (y) its derivative, of the value: scale above 0, y + below else. */
typedef struct FmAttrGroupNorm {
    guint32 groups, silu;
    double eps;
} FmAttrGroupNorm;
typedef struct FmAttrElu {
    double scale, below;
} FmAttrElu;
/* Layer normalisation over the last axis with weights, eps 1e-5. */
FmNode *fm_layer_norm(FmNode *x, const char *name);

/* softmax(q k^T / sqrt(d)) v for (B, heads, tokens, d). */
FmNode *fm_attention(FmNode *q, FmNode *k, FmNode *v);
/* The same of qkv (B, tokens, 3 C) with C = heads d, to (B, tokens, C): channels are (heads, 3, d),
 * or (3, heads, d) when `split`. Nothing of tokens x tokens is kept for the gradient. */
FmNode *fm_attention_qkv(FmNode *qkv, size_t heads, gboolean split);
/* Attributes of the composites "attention" (qkv) and "attention_vjp" (qkv, cot), the gradient. */
typedef struct FmAttrAttention {
    guint32 heads, split;
} FmAttrAttention;

/* Sinusoidal features of t (B): (B, dim). freq_i = max_period^(-i/half): [cos | sin] as in ADM's
 * timestep_embedding. t is multiplied by `scale` first. */
FmNode *fm_timestep_embedding(FmNode *t, size_t dim, double max_period, double scale);

/* Nearest-neighbour enlargement of (B, H, W, C) by 2. */
FmNode *fm_upsample2(FmNode *x);
/* Mean over 2 x 2 blocks. */
FmNode *fm_avg_pool2(FmNode *x);

/* "NAME.weight" (classes, dim) looked up by labels (B): (B, dim); N(0, 1) as in PyTorch. */
FmNode *fm_embedding(FmNode *labels, const char *name, size_t classes, size_t dim);

/* x with each element kept with probability 1 - p and scaled by 1/(1 - p); `training` FALSE or
 * p = 0: x itself. Counter-based: the mask is a function of (key, row). */
FmNode *fm_dropout(FmNode *x, double p, guint32 stream, gboolean training);

G_END_DECLS
#endif
