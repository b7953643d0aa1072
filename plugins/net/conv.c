/* conv: the ADM U-Net, with the modules, names and weight layouts of guided-diffusion and of
 * torchcfm's UNetModelWrapper, whose weights give the same velocities. Images are (B, H, W, C)
 * here, convolution weights (O, I, k, k) as there. Per level of `mult`: `blocks` residual blocks
 * of channels * mult channels, with attention at chosen image sides, then a halving; mirrored on
 * the way up with skip connections. Time enters every residual block through an mlp of sinusoidal
 * features of t in [0, 1].
 * Source: Dhariwal & Nichol 2021, arXiv:2105.05233; github.com/openai/guided-diffusion, unet.py. */
#include <fmcore/layer.h>
#include <fmcore/net.h>

typedef struct Conv {
    int channels, blocks, heads, head_channels, groups;
    FmInts mult, attention;
    double dropout;
    gboolean scale_shift, resblock_updown, new_attention_order;
} Conv;

static const FmOption conv_options[] = {
    FM_OPT_INT(Conv, channels, 16, 1, 4096, "channels at the full resolution (times mult[0])"),
    FM_OPT_INTS(Conv, mult, "[1,1,2]", 1, 64, "channel multiplier of each level"),
    FM_OPT_INT(Conv, blocks, 1, 1, 16, "residual blocks of a level"),
    FM_OPT_INTS(Conv, attention, "[7]", 1, 4096,
                "image sides s that get attention, at the reduction width / s rounded down; the "
                "middle always has it"),
    FM_OPT_INT(Conv, heads, 1, 1, 256, "attention heads"),
    FM_OPT_INT(Conv, head_channels, 0, 0, 4096, "channels of a head, instead of heads (0: unset)"),
    FM_OPT_INT(Conv, groups, 8, 1, 4096, "groups of the normalisations (32 in ADM)"),
    FM_OPT_REAL(Conv, dropout, 0.0, 0.0, 0.99, "dropout in residual blocks while training"),
    FM_OPT_BOOL(Conv, scale_shift, no, "time scales and shifts (use_scale_shift_norm)"),
    FM_OPT_BOOL(Conv, resblock_updown, no, "residual blocks resample, not plain convolutions"),
    FM_OPT_BOOL(Conv, new_attention_order, no, "q, k and v are split before the heads"),
    FM_OPT_END,
};

/* One forward pass under construction. */
typedef struct ConvBuild {
    const Conv *self;
    FmGraph *graph;
    const FmNetInfo *info;
    FmNode *emb;      /* (B, 4 channels) */
    guint32 dropouts; /* so far: each has its own random stream */
    char module[64];  /* "input_blocks.3" */
    int sub;          /* position within the module */
} ConvBuild;

/* "MODULE.SUB" of the next part of the module; owned. */
static char *
conv_next(ConvBuild *b)
{
    return g_strdup_printf("%s.%d", b->module, b->sub++);
}

static FmNode *
conv_resample(FmNode *x, int direction)
{
    return direction > 0 ? fm_upsample2(x) : direction < 0 ? fm_avg_pool2(x) : x;
}

static FmNode *
conv_named(FmNode *x, const char *name, const char *part, size_t out, size_t k, gboolean zero)
{
    g_autofree char *full = g_strconcat(name, part, NULL);

    return zero ? fm_conv_zero(x, full, out, k, 1, (int)k / 2) : fm_conv(x, full, out, k, 1, (int)k / 2);
}

static FmNode *
conv_norm(ConvBuild *b, FmNode *x, const char *name, const char *part, gboolean silu)
{
    g_autofree char *full = g_strconcat(name, part, NULL);

    return fm_group_norm(x, full, (size_t)b->self->groups, silu);
}

/* ResBlock: x + conv(silu(norm(conv(silu(norm x)) + emb))); direction 1 enlarges, -1 shrinks. */
static FmNode *
conv_res_block(ConvBuild *b, FmNode *x, size_t out, int direction)
{
    static const guint32 stream0 = 0x8000; /* above those of the core and of users */
    const gboolean scaled = b->self->scale_shift;
    g_autofree char *name = conv_next(b);
    g_autofree char *emb_name = g_strconcat(name, ".emb_layers.1", NULL);
    FmNode *h, *e;

    if (!x)
        return NULL;
    h = conv_resample(conv_norm(b, x, name, ".in_layers.0", TRUE), direction);
    x = conv_resample(x, direction);
    h = conv_named(h, name, ".in_layers.2", out, 3, FALSE);
    e = fm_linear(fm_silu(b->emb), emb_name, scaled ? 2 * out : out);
    if (!h || !e)
        return NULL;
    /* (B, E) to (B, 1, 1, E) */
    e = fm_reshape(e, fm_node_shape(e)->rows, 3, (size_t[]){1, 1, scaled ? 2 * out : out});
    if (scaled) {
        h = conv_norm(b, h, name, ".out_layers.0", FALSE);
        h = fm_mul(h, fm_affine(fm_slice(e, 2, 0, out), 1.0, 1.0));
        h = fm_silu(fm_add(h, fm_slice(e, 2, out, out)));
    } else {
        h = conv_norm(b, fm_add(h, e), name, ".out_layers.0", TRUE);
    }
    h = fm_dropout(h, b->self->dropout, stream0 + b->dropouts++, b->info->training);
    h = conv_named(h, name, ".out_layers.3", out, 3, TRUE);
    if (x && fm_node_shape(x)->dim[2] != out)
        x = conv_named(x, name, ".skip_connection", out, 1, FALSE);
    return fm_add(x, h);
}

/* A 1 x 1 convolution over tokens, stored (out, in, 1) as nn.Conv1d does: x (B, T, in). */
static FmNode *
conv_tokens(FmNode *x, const char *name, const char *part, size_t out, gboolean zero)
{
    g_autofree char *weight = g_strconcat(name, part, ".weight", NULL);
    g_autofree char *bias = g_strconcat(name, part, ".bias", NULL);
    FmInit init = {.kind = FM_INIT_ZEROS};
    FmGraph *graph;
    FmNode *w, *c;
    size_t in;

    if (!x)
        return NULL;
    graph = fm_node_graph(x);
    in = fm_node_shape(x)->dim[1];
    if (!zero)
        init = (FmInit){.kind = FM_INIT_UNIFORM, .scale = 1.0 / sqrt((double)in)};
    w = fm_param(graph, weight, 3, (size_t[]){out, in, 1}, init);
    c = fm_param(graph, bias, 1, &out, init);
    w = fm_reshape(w, 0, 2, (size_t[]){out, in});
    return fm_add(fm_matmul(x, fm_transpose(w)), c);
}

/* AttentionBlock: x + proj_out(attention(qkv(norm x))) over the T = H W pixels. */
static FmNode *
conv_attention(ConvBuild *b, FmNode *x)
{
    const Conv *self = b->self;
    g_autofree char *name = conv_next(b);
    FmNode *h, *qkv;
    size_t C, T, heads;
    FmShape s;

    if (!x)
        return NULL;
    s = *fm_node_shape(x);
    C = s.dim[2];
    T = s.dim[0] * s.dim[1];
    heads = self->head_channels > 0 ? C / (size_t)self->head_channels : (size_t)self->heads;
    if (heads == 0 || C % heads != 0 || (self->head_channels > 0 && C % (size_t)self->head_channels != 0)) {
        fm_graph_fail(b->graph, FM_ERROR_OPTION,
                      "net 'conv': %zu channels at '%s' do not split into heads=%d or "
                      "head_channels=%d, expected a divisor",
                      C, name, self->heads, self->head_channels);
        return NULL;
    }
    h = fm_reshape(conv_norm(b, x, name, ".norm", FALSE), s.rows, 2, (size_t[]){T, C});
    qkv = conv_tokens(h, name, ".qkv", 3 * C, FALSE);
    h = fm_attention_qkv(qkv, heads, self->new_attention_order);
    h = conv_tokens(h, name, ".proj_out", C, TRUE);
    return fm_add(x, fm_reshape(h, s.rows, 3, s.dim));
}

static gboolean
conv_attends(const ConvBuild *b, size_t reduction)
{
    for (size_t i = 0; i < b->self->attention.n; i++)
        if (b->info->data->dim[1] / (size_t)b->self->attention.v[i] == reduction)
            return TRUE;
    return FALSE;
}

static void
conv_begin(ConvBuild *b, const char *list, int i)
{
    g_snprintf(b->module, sizeof b->module, "%s.%d", list, i);
    b->sub = 0;
}

/* Downsample or Upsample with a convolution: "MODULE.SUB.op" or "MODULE.SUB.conv". */
static FmNode *
conv_change_side(ConvBuild *b, FmNode *h, size_t C, int direction)
{
    g_autofree char *name = NULL, *full = NULL;

    if (b->self->resblock_updown)
        return conv_res_block(b, h, C, direction);
    name = conv_next(b);
    full = g_strconcat(name, direction > 0 ? ".conv" : ".op", NULL);
    return direction > 0 ? fm_conv(fm_upsample2(h), full, C, 3, 1, 1) : fm_conv(h, full, C, 3, 2, 1);
}

static FmNode *
conv_time(ConvBuild *b, FmNode *t, FmNode *y)
{
    const size_t C = (size_t)b->self->channels;
    FmNode *emb = fm_timestep_embedding(t, C, 10000.0, 1.0);

    emb = fm_silu(fm_linear(emb, "time_embed.0", 4 * C));
    emb = fm_linear(emb, "time_embed.2", 4 * C);
    return y ? fm_add(emb, fm_embedding(y, "label_emb", b->info->classes, 4 * C)) : emb;
}

/* The way down: the results that the way up will read, last first. */
static FmNode *
conv_down(ConvBuild *b, FmNode *x, FmNode **skips, size_t *n_skips)
{
    const Conv *self = b->self;
    const size_t C = (size_t)self->channels;
    size_t reduction = 1;
    FmNode *h;
    int module = 0;

    conv_begin(b, "input_blocks", module++);
    h = conv_named(x, b->module, ".0", C * (size_t)self->mult.v[0], 3, FALSE);
    skips[(*n_skips)++] = h;
    for (size_t level = 0; level < self->mult.n; level++) {
        const size_t out = C * (size_t)self->mult.v[level];

        for (int i = 0; i < self->blocks; i++) {
            conv_begin(b, "input_blocks", module++);
            h = conv_res_block(b, h, out, 0);
            if (conv_attends(b, reduction))
                h = conv_attention(b, h);
            skips[(*n_skips)++] = h;
        }
        if (level + 1 < self->mult.n) {
            conv_begin(b, "input_blocks", module++);
            h = conv_change_side(b, h, out, -1);
            skips[(*n_skips)++] = h;
            reduction *= 2;
        }
    }
    return h;
}

static FmNode *
conv_middle(ConvBuild *b, FmNode *h, size_t out)
{
    g_snprintf(b->module, sizeof b->module, "middle_block");
    b->sub = 0;
    h = conv_res_block(b, h, out, 0);
    h = conv_attention(b, h);
    return conv_res_block(b, h, out, 0);
}

static FmNode *
conv_up(ConvBuild *b, FmNode *h, FmNode **skips, size_t n_skips)
{
    const Conv *self = b->self;
    size_t reduction = (size_t)1 << (self->mult.n - 1);
    int module = 0;

    for (size_t level = self->mult.n; level-- > 0;) {
        const size_t out = (size_t)self->channels * (size_t)self->mult.v[level];

        for (int i = 0; i <= self->blocks; i++) {
            conv_begin(b, "output_blocks", module++);
            h = fm_concat((FmNode *[]){h, skips[--n_skips]}, 2, 2);
            h = conv_res_block(b, h, out, 0);
            if (conv_attends(b, reduction))
                h = conv_attention(b, h);
            if (level > 0 && i == self->blocks) {
                h = conv_change_side(b, h, out, 1);
                reduction /= 2;
            }
        }
    }
    return h;
}

static gboolean
conv_check_groups(const Conv *self, GError **error)
{
    const int G = self->groups, C = self->channels;

    for (size_t i = 0; i < self->mult.n; i++) {
        if (C * self->mult.v[i] % G == 0)
            continue;
        g_set_error(error, FM_ERROR, FM_ERROR_OPTION,
                    "net 'conv': groups=%d does not divide the %d channels of level %zu, expected "
                    "a common divisor of channels times mult",
                    G, C * self->mult.v[i], i);
        return FALSE;
    }
    return TRUE;
}

static gboolean
conv_prepare(void *self_, const FmNetInfo *info, GError **error)
{
    const Conv *self = self_;
    const FmDataInfo *data = info->data;
    size_t unit;

    if (data->ndim != 3) {
        g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                    "net 'conv': the data are vectors of %zu values, expected images (H, W, C)", data->D);
        return FALSE;
    }
    if (self->mult.n < 1 || self->mult.n > 16 || self->channels < 2) {
        g_set_error(error, FM_ERROR, FM_ERROR_OPTION,
                    "net 'conv': mult has %zu levels and channels is %d, expected 1 to 16 levels "
                    "and at least 2 channels",
                    self->mult.n, self->channels);
        return FALSE;
    }
    unit = (size_t)1 << (self->mult.n - 1);
    if (data->dim[0] % unit != 0 || data->dim[1] % unit != 0) {
        g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                    "net 'conv': images of %zu x %zu cannot be halved %zu times, expected sides "
                    "that %zu divides or fewer entries of mult",
                    data->dim[0], data->dim[1], self->mult.n - 1, unit);
        return FALSE;
    }
    return conv_check_groups(self, error);
}

static FmNode *
conv_velocity(void *self_, FmGraph *graph, const FmNetInfo *info, FmNode *x, FmNode *t, FmNode *y)
{
    const Conv *self = self_;
    ConvBuild b = {.self = self, .graph = graph, .info = info};
    FmNode *skips[16 * 17 + 1];
    size_t n_skips = 0;
    FmNode *h;

    b.emb = conv_time(&b, t, y);
    h = conv_down(&b, x, skips, &n_skips);
    h = conv_middle(&b, h, (size_t)self->channels * (size_t)self->mult.v[self->mult.n - 1]);
    h = conv_up(&b, h, skips, n_skips);
    h = fm_group_norm(h, "out.0", (size_t)self->groups, TRUE);
    return fm_conv_zero(h, "out.2", fm_node_shape(x)->dim[2], 3, 1, 1);
}

static const FmNetOps conv_ops = {
    .velocity = conv_velocity,
    .prepare = conv_prepare,
    .tile = 4,
    .time_features = "[cos(f_i t) | sin(f_i t)], f_i = 10000^(-i/half), i = 0 .. half - 1 "
                     "(timestep_embedding of t in [0, 1])",
};

static const FmFact conv_facts[] = {
    {"weights", "names and layouts of torchcfm's UNetModel (groups=32 there)"},
    {"images", "(B, H, W, C); convolution weights (out, in, k, k)"},
    {"default", "0.06 GFLOP for a forward pass of 28 x 28 x 1"},
    {NULL, NULL},
};

FM_PLUGIN_DECLARE(NET, conv, "conv", conv_ops, .self_size = sizeof(Conv), .options = conv_options, .facts = conv_facts,
                  .summary = "the ADM U-Net for images", .source = "Dhariwal & Nichol 2021, arXiv:2105.05233");
