/* mlp: a fully connected velocity. Its input is the concatenation of the point (B, D), features
 * of the time (B, F) and, for a conditional net, the one-hot label (B, classes):
 *   h_0 = [x, features(t), onehot(y)],  h_i+1 = act(W_i h_i + b_i),  v = W h + b
 * Images are flattened and the velocity is given their shape again. With width=64,depth=3,
 * activation=selu,time=raw it is torchcfm's MLP(time_varying=True). */
#include <fmcore/layer.h>
#include <fmcore/net.h>

typedef struct Mlp {
    int width, depth, activation, time, frequencies;
} Mlp;

enum { MLP_TIME_RAW, MLP_TIME_FOURIER };
static const char *const mlp_times[] = {"raw", "fourier", NULL};

static const FmOption mlp_options[] = {
    FM_OPT_INT(Mlp, width, 64, 1, 65536, "units of a hidden layer"),
    FM_OPT_INT(Mlp, depth, 3, 0, 64, "hidden layers"),
    FM_OPT_CHOICE(Mlp, activation, fm_activation_names, "silu", "non-linearity after a hidden layer"),
    FM_OPT_CHOICE(Mlp, time, mlp_times, "raw", "features of t: t itself, or t with cosines and sines of 2 pi k t"),
    FM_OPT_INT(Mlp, frequencies, 8, 1, 1024, "k = 1 .. frequencies, for time=fourier"),
    FM_OPT_END,
};

/* (B, 1) or (B, 1 + 2 frequencies) */
static FmNode *
mlp_time_features(const Mlp *self, FmGraph *graph, FmNode *t)
{
    const size_t K = (size_t)self->frequencies;
    FmNode *raw = fm_reshape(t, fm_node_shape(t)->rows, 1, (size_t[]){1});
    g_autofree double *omega = NULL;
    FmNode *angle;

    if (self->time == MLP_TIME_RAW)
        return raw;
    omega = g_new(double, K);
    for (size_t k = 0; k < K; k++)
        omega[k] = 2.0 * G_PI * (double)(k + 1);
    angle = fm_mul(raw, fm_constant(graph, 1, &K, omega));
    return fm_concat((FmNode *[]){raw, fm_cos(angle), fm_sin(angle)}, 3, 0);
}

/* (B, classes) */
static FmNode *
mlp_one_hot(FmGraph *graph, FmNode *y, size_t classes)
{
    g_autofree double *identity = g_new0(double, classes *classes);

    for (size_t i = 0; i < classes; i++)
        identity[i * classes + i] = 1.0;
    return fm_gather(fm_constant(graph, 2, (size_t[]){classes, classes}, identity), y);
}

static gboolean
mlp_prepare(void *self, const FmNetInfo *info, GError **error)
{
    if (info->classes <= 4096)
        return TRUE;
    g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                "net 'mlp': there are %zu classes, expected at most 4096 for a one-hot input", info->classes);
    return FALSE;
}

static FmNode *
mlp_velocity(void *self_, FmGraph *graph, const FmNetInfo *info, FmNode *x, FmNode *t, FmNode *y)
{
    const Mlp *self = self_;
    const FmShape shape = *fm_node_shape(x);
    const size_t D = fm_shape_size(&shape) / shape.rows;
    FmNode *parts[3] = {fm_reshape(x, shape.rows, 1, &D), mlp_time_features(self, graph, t), NULL};
    size_t n_parts = 2;
    FmNode *h;

    if (y)
        parts[n_parts++] = mlp_one_hot(graph, y, info->classes);
    h = fm_concat(parts, n_parts, 0);
    for (int i = 0; i <= self->depth; i++) {
        g_autofree char *name = g_strdup_printf("layers.%d", i);

        if (i < self->depth)
            h = fm_activation(fm_linear(h, name, (size_t)self->width), (FmActivation)self->activation);
        else
            h = fm_linear(h, name, D);
    }
    return fm_reshape(h, shape.rows, shape.ndim, shape.dim);
}

/* torchcfm.models.MLP is an nn.Sequential called net with an activation after each layer. */
#define MLP_ALIAS(theirs, ours) \
    {"net." #theirs ".weight", "layers." #ours ".weight"}, \
    { \
        "net." #theirs ".bias", "layers." #ours ".bias" \
    }

static const FmWeightAlias mlp_aliases[] = {
    MLP_ALIAS(0, 0),  MLP_ALIAS(2, 1),  MLP_ALIAS(4, 2),  MLP_ALIAS(6, 3),  MLP_ALIAS(8, 4),
    MLP_ALIAS(10, 5), MLP_ALIAS(12, 6), MLP_ALIAS(14, 7), MLP_ALIAS(16, 8), {NULL, NULL},
};

static const FmNetOps mlp_ops = {
    .velocity = mlp_velocity,
    .prepare = mlp_prepare,
    .time_features = "time=raw: t; time=fourier: t, cos(2 pi k t), sin(2 pi k t), k = 1..frequencies",
    .aliases = mlp_aliases,
};

static const FmFact mlp_facts[] = {
    {"input", "[x, features(t), one-hot label]"},
    {"weights", "layers.0.weight (out, in), layers.0.bias, ..."},
    {"foreign weights", "torchcfm.models.MLP: activation=selu,time=raw"},
    {NULL, NULL},
};

FM_PLUGIN_DECLARE(NET, mlp, "mlp", mlp_ops, .self_size = sizeof(Mlp), .options = mlp_options, .facts = mlp_facts,
                  .summary = "fully connected net on [x, t]",
                  .source = "as in torchcfm, Tong et al. 2023, arXiv:2302.00482");
