/* activation.c: element-wise non-linearities in forms that neither overflow nor cancel, with
 * PyTorch's constants. */
#include <fmcore/layer.h>
#include <math.h>

const char *const fm_activation_names[] = {"silu", "relu",     "tanh", "gelu",     "selu",
                                           "elu",  "softplus", "sin",  "identity", NULL};

/* s + x s (1 - s) with s = sigmoid(x). */
static FmNode *
silu_derivative(FmNode *x)
{
    FmNode *s = fm_sigmoid(x);

    return fm_add(s, fm_mul(fm_mul(x, s), fm_affine(s, -1.0, 1.0)));
}

/* The derivative is built beside the value: a plan that needs it computes both in one pass. */
static FmNode *
silu_expand(FmGraph *graph, FmNode *const *in, const void *attrs)
{
    FmNode *y = fm_mul(in[0], fm_sigmoid(in[0]));

    silu_derivative(in[0]);
    return y;
}

static void
silu_vjp(FmGraph *graph, FmNode *const *in, FmNode *out, FmNode *cot, const void *attrs, FmNode **d_in)
{
    d_in[0] = fm_mul(cot, silu_derivative(in[0]));
}

static FmNode *
silu_jvp(FmGraph *graph, FmNode *const *in, FmNode *out, FmNode *const *tangents, const void *attrs)
{
    return tangents[0] ? fm_mul(tangents[0], silu_derivative(in[0])) : NULL;
}

static const FmComposite silu = {.name = "silu", .expand = silu_expand, .vjp = silu_vjp, .jvp = silu_jvp};

FmNode *
fm_silu(FmNode *x)
{
    return x ? fm_composite(fm_node_graph(x), &silu, &x, 1, NULL, 0) : NULL;
}

/* max(x, 0) + log(1 + e^-|x|). Its derivative is the sigmoid; the expansion's own has a jump at 0
 * where both parts are kinked, hence the rules. */
static FmNode *
softplus_expand(FmGraph *graph, FmNode *const *in, const void *attrs)
{
    return fm_add(fm_maximum(in[0], fm_scalar(graph, 0.0)), fm_log1p(fm_exp(fm_neg(fm_abs(in[0])))));
}

static void
softplus_vjp(FmGraph *graph, FmNode *const *in, FmNode *out, FmNode *cot, const void *attrs, FmNode **d_in)
{
    d_in[0] = fm_mul(cot, fm_sigmoid(in[0]));
}

static FmNode *
softplus_jvp(FmGraph *graph, FmNode *const *in, FmNode *out, FmNode *const *tangents, const void *attrs)
{
    return tangents[0] ? fm_mul(tangents[0], fm_sigmoid(in[0])) : NULL;
}

static const FmComposite softplus = {
    .name = "softplus", .expand = softplus_expand, .vjp = softplus_vjp, .jvp = softplus_jvp};

FmNode *
fm_softplus(FmNode *x)
{
    return x ? fm_composite(fm_node_graph(x), &softplus, &x, 1, NULL, 0) : NULL;
}

/* ELU and SELU: a->scale x above 0, a->below (e^x - 1) else. The branch not taken may overflow: no derivative
 * passes through it. */
static FmNode *
elu_expand(FmGraph *graph, FmNode *const *in, const void *attrs)
{
    const FmAttrElu *a = attrs;

    return fm_select(fm_greater(in[0], fm_scalar(graph, 0.0)), fm_affine(in[0], a->scale, 0.0),
                     fm_affine(fm_exp(in[0]), a->below, -a->below));
}

/* Below 0 a->below e^x, which is y + a->below. */
static FmNode *
elu_slope_expand(FmGraph *graph, FmNode *const *y, const void *attrs)
{
    const FmAttrElu *a = attrs;

    return fm_select(fm_greater(y[0], fm_scalar(graph, 0.0)), fm_scalar(graph, a->scale),
                     fm_affine(y[0], 1.0, a->below));
}

static const FmComposite elu_slope = {.name = "elu_slope", .expand = elu_slope_expand};

static void
elu_vjp(FmGraph *graph, FmNode *const *in, FmNode *out, FmNode *cot, const void *attrs, FmNode **d_in)
{
    d_in[0] = fm_mul(cot, fm_composite(graph, &elu_slope, &out, 1, attrs, sizeof(FmAttrElu)));
}

static FmNode *
elu_jvp(FmGraph *graph, FmNode *const *in, FmNode *out, FmNode *const *tangents, const void *attrs)
{
    return tangents[0] ? fm_mul(tangents[0], fm_composite(graph, &elu_slope, &out, 1, attrs, sizeof(FmAttrElu))) : NULL;
}

static const FmComposite elu_composite = {.name = "elu", .expand = elu_expand, .vjp = elu_vjp, .jvp = elu_jvp};

static FmNode *
elu(FmNode *x, double alpha, double scale)
{
    const FmAttrElu a = {.scale = scale, .below = scale * alpha};

    return fm_composite(fm_node_graph(x), &elu_composite, &x, 1, &a, sizeof a);
}

static FmNode *
gelu(FmNode *x)
{
    return fm_mul(x, fm_affine(fm_erf(fm_affine(x, M_SQRT1_2, 0.0)), 0.5, 0.5));
}

FmNode *
fm_activation(FmNode *x, FmActivation kind)
{
    if (!x)
        return NULL;
    switch (kind) {
    case FM_ACT_SILU:
        return fm_silu(x);
    case FM_ACT_RELU:
        return fm_maximum(x, fm_scalar(fm_node_graph(x), 0.0));
    case FM_ACT_TANH:
        return fm_tanh(x);
    case FM_ACT_GELU:
        return gelu(x);
    case FM_ACT_SELU: /* Klambauer et al. 2017, arXiv:1706.02515 */
        return elu(x, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946);
    case FM_ACT_ELU:
        return elu(x, 1.0, 1.0);
    case FM_ACT_SOFTPLUS:
        return fm_softplus(x);
    case FM_ACT_SIN:
        return fm_sin(x);
    case FM_ACT_IDENTITY:
        return x;
    }
    fm_graph_fail(fm_node_graph(x), FM_ERROR_UNSUPPORTED, "activation %d is not known", (int)kind);
    return NULL;
}
