/* features_stack.c: a chain of layers over weights of a safetensors file, with PyTorch's names, layouts and
 * conventions, written in words: "conv1 relu maxpool2 flatten fc1 relu". */
#include "flow/features_private.h"
#include "io/safetensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Stack {
    const FmTensors *file;
    FmGraph *graph;
    FmNode *x; /* so far: (H, W, C) or (C) */
} Stack;

static void
stack_fail(const Stack *s, int code, const char *word, const char *what)
{
    fm_graph_fail(s->graph, code, "features of '%s', word '%s': %s", fm__tensors_name(s->file), word, what);
}

static const FmTensor *
tensor_of(const FmTensors *file, const char *name, const char *suffix)
{
    g_autofree char *full = g_strconcat(name, suffix, NULL);

    return fm__tensors_find(file, full);
}

/* A parameter for the tensor, or NULL where there is no tensor. */
static FmNode *
stack_param(const Stack *s, const char *name, const char *suffix)
{
    const FmTensor *t = tensor_of(s->file, name, suffix);

    return t ? fm_param(s->graph, t->name, t->ndim, t->dim, (FmInit){.kind = FM_INIT_ZEROS}) : NULL;
}

/* ---- settings of a word: NAME:key=value ---- */

/* The value of `key` among part[1 ..], or `otherwise`; what is no number is NAN. */
static double
setting(char *const *part, const char *key, double otherwise)
{
    for (size_t i = 1; part[i]; i++)
        if (g_str_has_prefix(part[i], key) && part[i][strlen(key)] == '=') {
            const char *text = part[i] + strlen(key) + 1;
            char *end;
            const double v = g_ascii_strtod(text, &end);

            return *end || end == text ? NAN : v;
        }
    return otherwise;
}

/* Every setting is one of the two that the word knows. */
static gboolean
settings_known(const Stack *s, const char *word, char *const *part, const char *a, const char *b)
{
    for (size_t i = 1; part[i]; i++) {
        const char *equals = strchr(part[i], '=');
        const size_t n = equals ? (size_t)(equals - part[i]) : 0;
        g_autofree char *what = NULL;

        if (n > 0 &&
            ((strlen(a) == n && strncmp(part[i], a, n) == 0) || (strlen(b) == n && strncmp(part[i], b, n) == 0)))
            continue;
        what = *a ? g_strdup_printf("'%s' is no setting, expected %s=NUMBER or %s=NUMBER", part[i], a, b)
                  : g_strdup_printf("'%s' is no setting, expected none", part[i]);
        stack_fail(s, FM_ERROR_OPTION, word, what);
        return FALSE;
    }
    return TRUE;
}

/* ---- layers ---- */

static FmNode *
stack_linear(const Stack *s, const char *word, char *const *part)
{
    const FmShape *shape = fm_node_shape(s->x);
    const size_t has = shape->dim[shape->ndim - 1], want = tensor_of(s->file, part[0], ".weight")->dim[1];

    if (!settings_known(s, word, part, "", ""))
        return NULL;
    if (has != want) {
        g_autofree char *what =
            g_strdup_printf("what comes before has %zu values on its last axis, expected %zu", has, want);

        stack_fail(s, FM_ERROR_SHAPE, word, what);
        return NULL;
    }
    return fm_matmul(s->x, fm_transpose(stack_param(s, part[0], ".weight")));
}

static FmNode *
stack_conv(const Stack *s, const char *word, char *const *part, const FmTensor *weight)
{
    const double stride = setting(part, "stride", 1), pad = setting(part, "pad", 0);

    if (!settings_known(s, word, part, "stride", "pad"))
        return NULL;
    if (!(stride >= 1 && stride <= 64 && stride == floor(stride) && pad >= 0 && pad <= 64 && pad == floor(pad))) {
        stack_fail(s, FM_ERROR_OPTION, word, "expected whole numbers, stride 1 to 64 and pad 0 to 64");
        return NULL;
    }
    if (weight->dim[2] != weight->dim[3] || fm_node_shape(s->x)->ndim != 3) {
        stack_fail(s, FM_ERROR_SHAPE, word, "expected a square kernel and images (H, W, C) before it");
        return NULL;
    }
    if (fm_node_shape(s->x)->dim[2] != weight->dim[1]) {
        g_autofree char *what = g_strdup_printf("the images before it have %zu channels, expected %zu",
                                                fm_node_shape(s->x)->dim[2], weight->dim[1]);

        stack_fail(s, FM_ERROR_SHAPE, word, what);
        return NULL;
    }
    return fm_conv2d(s->x, stack_param(s, part[0], ".weight"), (int)stride, (int)pad);
}

/* (x - mean) / sqrt(var + 1e-5) [weight + bias], each of the last axis. */
static FmNode *
stack_batch_norm(const Stack *s, const char *word, char *const *part)
{
    FmNode *var = stack_param(s, part[0], ".running_var"), *w = stack_param(s, part[0], ".weight"), *y;

    if (!settings_known(s, word, part, "", ""))
        return NULL;
    if (!var) {
        stack_fail(s, FM_ERROR_DATA, word, "the file has its running_mean and no running_var, expected both");
        return NULL;
    }
    y = fm_mul(fm_sub(s->x, stack_param(s, part[0], ".running_mean")), fm_rsqrt(fm_affine(var, 1.0, 1e-5)));
    return w ? fm_mul(y, w) : y;
}

/* The layer that the file has under part[0]. */
static FmNode *
stack_layer(const Stack *s, const char *word, char *const *part)
{
    const FmTensor *w = tensor_of(s->file, part[0], ".weight");
    FmNode *y, *bias;

    if (tensor_of(s->file, part[0], ".running_mean"))
        y = stack_batch_norm(s, word, part);
    else if (w && w->ndim == 2)
        y = stack_linear(s, word, part);
    else if (w && w->ndim == 4)
        y = stack_conv(s, word, part, w);
    else {
        stack_fail(s, FM_ERROR_OPTION, word,
                   w ? "its weight is neither of a linear layer (2 axes) nor of a convolution (4 axes)"
                     : "expected a layer of the file, an activation such as relu, maxpoolN, avgpoolN, mean, "
                       "flatten or normalize");
        return NULL;
    }
    bias = stack_param(s, part[0], ".bias");
    return bias ? fm_add(y, bias) : y;
}

/* ---- words without weights ---- */

/* Blocks of n x n pixels without overlap: the largest or the mean of each. */
static FmNode *
stack_pool(const Stack *s, const char *word, gboolean largest)
{
    const FmShape *shape = fm_node_shape(s->x);
    char *end;
    const size_t n = (size_t)g_ascii_strtoull(word + strlen("maxpool"), &end, 10);
    size_t H, W;
    FmNode *x;

    if (shape->ndim != 3 || *end || n < 1 || shape->dim[0] < n || shape->dim[1] < n) {
        stack_fail(s, FM_ERROR_SHAPE, word, "expected a number from 1 to the side of the images before it");
        return NULL;
    }
    H = shape->dim[0] / n;
    W = shape->dim[1] / n;
    x = fm_slice(fm_slice(s->x, 0, 0, H * n), 1, 0, W * n);
    x = fm_reshape(x, 1, 5, (size_t[]){H, n, W, n, shape->dim[2]});
    return (largest ? fm_max : fm_mean)(x, 1u << 1 | 1u << 3, FALSE);
}

static FmNode *
stack_flatten(const Stack *s)
{
    const FmShape *shape = fm_node_shape(s->x);
    const size_t size = fm_shape_size(shape);

    return fm_reshape(shape->ndim == 3 ? fm_permute(s->x, (int[]){2, 0, 1}) : s->x, 1, 1, &size);
}

static FmNode *
stack_normalize(const Stack *s, const char *word, char *const *part)
{
    const double mean = setting(part, "mean", 0), std = setting(part, "std", 1);

    if (!settings_known(s, word, part, "mean", "std"))
        return NULL;
    if (!(isfinite(mean) && std > 0 && isfinite(std))) {
        stack_fail(s, FM_ERROR_OPTION, word, "expected finite numbers and std above 0");
        return NULL;
    }
    return fm_affine(s->x, 1.0 / std, -mean / std);
}

/* The result of one word, or NULL after a failure. */
static FmNode *
stack_word(const Stack *s, const char *word)
{
    g_auto(GStrv) part = g_strsplit(word, ":", -1);
    const FmShape *shape = fm_node_shape(s->x);

    if (tensor_of(s->file, part[0], ".weight") || tensor_of(s->file, part[0], ".running_mean"))
        return stack_layer(s, word, part);
    if (strcmp(part[0], "normalize") == 0)
        return stack_normalize(s, word, part);
    for (int a = 0; fm_activation_names[a]; a++)
        if (strcmp(word, fm_activation_names[a]) == 0)
            return fm_activation(s->x, (FmActivation)a);
    if (g_str_has_prefix(word, "maxpool") || g_str_has_prefix(word, "avgpool"))
        return stack_pool(s, word, word[0] == 'm');
    if (strcmp(word, "flatten") == 0)
        return stack_flatten(s);
    if (strcmp(word, "mean") == 0)
        return shape->ndim == 1 ? s->x : fm_mean(s->x, (1u << (shape->ndim - 1)) - 1u, FALSE);
    return stack_layer(s, word, part);
}

/* ---- the whole ---- */

/* As in `ls -v`: numbers inside names count as numbers. */
static int
by_natural_order(const void *pa, const void *pb)
{
    const char *a = *(char *const *)pa, *b = *(char *const *)pb;

    for (; *a && *b; a++, b++) {
        if (g_ascii_isdigit(*a) && g_ascii_isdigit(*b)) {
            char *ea, *eb;
            const guint64 x = g_ascii_strtoull(a, &ea, 10), y = g_ascii_strtoull(b, &eb, 10);

            if (x != y)
                return x < y ? -1 : 1;
            a = ea - 1;
            b = eb - 1;
        } else if (*a != *b)
            return *a < *b ? -1 : 1;
    }
    return (*a != 0) - (*b != 0);
}

/* Linear layers alone: all but the last with ReLU after each; NULL: the file has others. Owned. */
static char *
stack_of_linear(const FmTensors *file)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    GString *text = g_string_new(NULL);

    for (size_t i = 0; i < fm__tensors_count(file); i++) {
        const FmTensor *t = fm__tensors_nth(file, i);

        if (g_str_has_suffix(t->name, ".weight") && t->ndim == 2)
            g_ptr_array_add(names, g_strndup(t->name, strlen(t->name) - strlen(".weight")));
        else if (!g_str_has_suffix(t->name, ".bias"))
            return g_string_free(text, TRUE), NULL;
    }
    if (names->len < 2)
        return g_string_free(text, TRUE), NULL;
    g_ptr_array_sort(names, by_natural_order);
    for (guint i = 0; i + 1 < names->len; i++)
        g_string_append_printf(text, "%s%s relu", i ? " " : "", (char *)names->pdata[i]);
    return g_string_free(text, FALSE);
}

/* The words asked for, those of the file, or those of linear layers. Owned; NULL: an error. */
static char *
stack_text(const FmTensors *file, const char *stack, GError **error)
{
    const char *meta = fm__tensors_meta(file, "stack");
    char *text = stack || meta ? g_strdup(stack ? stack : meta) : stack_of_linear(file);

    if (!text)
        g_set_error(error, FM_ERROR, FM_ERROR_OPTION,
                    "features of '%s': its layers are not all linear, expected them in words, such as "
                    "stack='conv1 relu maxpool2 flatten fc1 relu'",
                    fm__tensors_name(file));
    return text;
}

/* Axes of a row: those given, or a square image where the first layer is a convolution, or D numbers. */
static gboolean
stack_shape(const FmTensors *file, char *const *words, const int *shape, size_t n_shape, size_t D, FmShape *row,
            GError **error)
{
    size_t C = 0, side;

    *row = (FmShape){.rows = 1, .ndim = 1, .dim = {D}};
    if (n_shape == 3) {
        for (int d = 0; d < 3; d++)
            row->dim[d] = (size_t)shape[d];
        row->ndim = 3;
    }
    for (size_t i = 0; n_shape == 0 && words[i] && C == 0; i++) {
        g_auto(GStrv) part = g_strsplit(words[i], ":", 2);
        const FmTensor *w = tensor_of(file, part[0], ".weight");

        if (w && w->ndim != 4)
            break;
        C = w ? w->dim[1] : 0;
    }
    side = C ? (size_t)lround(sqrt((double)D / (double)C)) : 0;
    if (C)
        *row = (FmShape){.rows = 1, .ndim = 3, .dim = {side, side, C}};
    if (fm_shape_size(row) == D && (n_shape == 0 || n_shape == 3))
        return TRUE;
    g_set_error(error, FM_ERROR, FM_ERROR_SHAPE, "features of '%s': rows have %zu values, which are not %s",
                fm__tensors_name(file), D,
                n_shape ? "as many as the shape says, expected three numbers: height, width, channels"
                        : "square images of its first layer's channels, expected shape=[H,W,C]");
    return FALSE;
}

/* What the result is called: "net.safetensors, after 'fc1 relu'": the last layer and what follows. */
static char *
stack_name(const FmTensors *file, char *const *words)
{
    g_autofree char *base = g_path_get_basename(fm__tensors_name(file)), *tail = NULL;
    const guint n = g_strv_length((char **)words);
    guint from = n;

    while (from > 0) {
        g_auto(GStrv) part = g_strsplit(words[--from], ":", 2);

        if (tensor_of(file, part[0], ".weight"))
            break;
    }
    tail = g_strjoinv(" ", (char **)words + from);
    return g_strdup_printf("%s, after '%s'", base, tail);
}

static FmDtype
stack_dtype(const FmTensors *file)
{
    for (size_t i = 0; i < fm__tensors_count(file); i++)
        if (strcmp(fm__tensors_nth(file, i)->dtype, "F64") != 0)
            return FM_F32;
    return FM_F64;
}

/* words[] without the empty ones; owned. */
static char **
stack_words(const char *text)
{
    g_auto(GStrv) all = g_strsplit_set(text, " \t\n", -1);
    GPtrArray *words = g_ptr_array_new();

    for (size_t i = 0; all[i]; i++)
        if (*all[i])
            g_ptr_array_add(words, g_strdup(all[i]));
    g_ptr_array_add(words, NULL);
    return (char **)g_ptr_array_free(words, FALSE);
}

FmFeatures *
fm_features_stack(const char *file, const char *stack, const int *shape, size_t n_shape, size_t D, int threads,
                  GError **error)
{
    g_autoptr(FmTensors) tensors = fm__tensors_open(file, error);
    g_autofree char *text = tensors ? stack_text(tensors, stack, error) : NULL;
    g_auto(GStrv) words = text ? stack_words(text) : NULL;
    g_autoptr(FmGraph) graph = fm_graph_new();
    g_autoptr(FmFeatures) f = g_new0(FmFeatures, 1);
    Stack s = {.file = tensors, .graph = graph};
    FmPlugin *backend;
    FmShape row;

    g_return_val_if_fail(threads >= 1, NULL);
    if (!words || !stack_shape(tensors, words, shape, n_shape, D, &row, error))
        return NULL;
    if (!words[0]) {
        g_set_error(error, FM_ERROR, FM_ERROR_OPTION, "features of '%s': the stack has no words, expected layers",
                    file);
        return NULL;
    }
    f->time = 1.0;
    f->n_in = D;
    f->dtype = stack_dtype(tensors);
    f->name = stack_name(tensors, words);
    s.x = fm_input(graph, "x", 1, row.ndim, row.dim);
    for (size_t i = 0; words[i] && s.x; i++)
        s.x = stack_word(&s, words[i]);
    if (!fm_graph_ok(graph, error))
        return NULL;
    backend = fm_backend_default(error);
    f->params = backend ? fm_params_new(graph, f->dtype, 0, error) : NULL;
    if (!f->params || !fm_params_load(f->params, "", file, error) ||
        !fm__features_compile(f, graph, s.x, backend, threads, error))
        return NULL;
    return g_steal_pointer(&f);
}
