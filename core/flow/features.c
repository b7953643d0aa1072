/* features.c: rows of data as activations of a net; the layers of a run are found in its graph. */
#include "flow/features_private.h"
#include "graph/node.h"

#include <math.h>
#include <string.h>

enum { FEATURES_BLOCK = 2048 /* rows of one run of the plan */ };

/* ---- the layers of a graph ---- */

/* A layer: a product or convolution of something that depends on the data with a weight. */
typedef struct Layer {
    const char *weight; /* "layers.0.weight" */
    FmNode *input;
    size_t positions; /* pixels or tokens of one row of the input */
} Layer;

/* depends[id]: the node's value depends on that of `x`. */
static gboolean *
nodes_behind(const FmGraph *graph, const FmNode *x)
{
    gboolean *depends = g_new0(gboolean, graph->nodes->len);

    for (guint i = 0; i < graph->nodes->len; i++) {
        const FmNode *node = graph->nodes->pdata[i];

        depends[i] = node == x;
        for (guint k = 0; k < node->n_in; k++)
            depends[i] = depends[i] || depends[node->in[k]->id];
    }
    return depends;
}

/* The name of the parameter that a weight operand is, transposed or reshaped; NULL: it is none. */
static const char *
weight_name(const FmNode *node)
{
    while (node->op != FM_OP_PARAM && node->n_in == 1)
        node = node->in[0];
    return node->op == FM_OP_PARAM && g_str_has_suffix(node->name, ".weight") ? node->name : NULL;
}

static GArray *
layers_of(const FmGraph *graph, const FmNode *x)
{
    g_autofree gboolean *depends = nodes_behind(graph, x);
    GArray *layers = g_array_new(FALSE, FALSE, sizeof(Layer));

    for (guint i = 0; i < graph->nodes->len; i++) {
        const FmNode *node = graph->nodes->pdata[i];
        Layer l = {.positions = 1};

        if ((node->op != FM_OP_MATMUL && node->op != FM_OP_CONV2D) || !depends[node->in[0]->id])
            continue;
        l.weight = weight_name(node->in[1]);
        l.input = node->in[0];
        for (int d = 0; d + 1 < l.input->shape.ndim; d++)
            l.positions *= l.input->shape.dim[d];
        if (l.weight && l.input->shape.rows == 1 && l.input->shape.ndim >= 1)
            g_array_append_val(layers, l);
    }
    return layers;
}

static gboolean
is_layer(const Layer *l, const char *name)
{
    const size_t n = strlen(name);

    return strncmp(l->weight, name, n) == 0 && strcmp(l->weight + n, ".weight") == 0;
}

/* The layer called `name`, or of those with the fewest positions the last. */
static const Layer *
choose_layer(const GArray *layers, const char *name, const char *who, GError **error)
{
    const Layer *best = NULL;
    g_autoptr(GString) known = g_string_new(NULL);

    for (guint i = 0; i < layers->len; i++) {
        const Layer *l = &g_array_index(layers, Layer, i);

        if (name ? is_layer(l, name) : !best || l->positions <= best->positions)
            best = l;
        if (i < 8 || i + 4 > layers->len)
            g_string_append_printf(known, "%s%.*s", i ? ", " : "", (int)strlen(l->weight) - 7, l->weight);
        else if (i == 8)
            g_string_append(known, ", ...");
    }
    if (best)
        return best;
    if (name && layers->len > 0)
        g_set_error(error, FM_ERROR, FM_ERROR_OPTION, "features of '%s': no layer is called '%s', expected one of: %s",
                    who, name, known->str);
    else
        g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                    "features of '%s': its net has no linear or convolutional layers, expected a net with "
                    "weights, such as mlp or conv",
                    who);
    return NULL;
}

/* ---- the object ---- */

void
fm_features_free(FmFeatures *f)
{
    if (f == NULL)
        return;
    fm_exec_free(f->exec);
    fm_plan_free(f->plan);
    fm_params_free(f->params);
    fm_run_free(f->run);
    g_free(f->name);
    g_free(f->digest);
    g_free(f);
}

size_t
fm_features_in(const FmFeatures *features)
{
    return features->n_in;
}

size_t
fm_features_out(const FmFeatures *features)
{
    return features->n_out;
}

const char *
fm_features_name(const FmFeatures *features)
{
    return features->name;
}

const char *
fm_features_digest(const FmFeatures *features)
{
    return features->digest;
}

gboolean
fm__features_compile(FmFeatures *f, FmGraph *graph, FmNode *node, FmPlugin *backend, int threads, GError **error)
{
    const FmPlanOptions options = {.dtype = f->dtype, .backend = backend};
    const FmParams *params = f->params ? f->params : f->run->params;

    if (node && fm_node_shape(node)->ndim > 1)
        node = fm_mean(node, (1u << (fm_node_shape(node)->ndim - 1)) - 1u, FALSE);
    if (!fm_graph_ok(graph, error))
        return FALSE;
    f->n_out = fm_shape_size(fm_node_shape(node));
    f->threads = threads;
    f->digest = fm_params_digest(params);
    f->plan = fm_plan_new(graph, &node, 1, &options, error);
    f->exec = f->plan ? fm_exec_new(f->plan, params, threads, error) : NULL;
    if (!f->exec)
        return FALSE;
    f->in_x = fm_plan_input_find(f->plan, "x");
    f->in_t = fm_plan_input_find(f->plan, "t");
    f->in_y = fm_plan_input_find(f->plan, "y");
    return TRUE;
}

/* ---- of a run ---- */

static gboolean
check_time(const FmRun *run, const char *dir, double time, GError **error)
{
    const gboolean map = fm_net_is_invertible(run->plugin[FM_KIND_NET]);

    if (!(time >= 0.0 && time <= 1.0)) {
        g_set_error(error, FM_ERROR, FM_ERROR_OPTION, "features of '%s': the time is %g, expected 0 to 1", dir, time);
        return FALSE;
    }
    if (time == 1.0 || (!map && run->source == NULL))
        return TRUE;
    g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED, "features of '%s': the time is %g, expected 1 for %s", dir, time,
                map ? "an invertible net" : "a source other than N(0, I)");
    return FALSE;
}

FmFeatures *
fm_features_run(const char *dir, const char *layer, double time, int threads, GError **error)
{
    g_autoptr(FmFeatures) f = g_new0(FmFeatures, 1);
    g_autoptr(FmGraph) graph = fm_graph_new();
    g_autoptr(GArray) layers = NULL;
    const Layer *chosen;
    FmNode *x, *t, *y, *log_det;

    g_return_val_if_fail(threads >= 1, NULL);
    f->run = fm_run_load(dir, error);
    if (!f->run || !check_time(f->run, dir, time, error))
        return NULL;
    f->time = time;
    f->dtype = f->run->config->dtype;
    f->n_in = f->run->data.D;
    x = fm_input(graph, "x", 1, f->run->data.ndim, f->run->data.dim);
    t = fm_input(graph, "t", 1, 0, NULL);
    y = f->run->net_info.classes > 0 ? fm_input_labels(graph, "y") : NULL;
    if (fm_net_is_invertible(f->run->plugin[FM_KIND_NET]))
        fm_net_forward(f->run->plugin[FM_KIND_NET], graph, &f->run->net_info, x, &log_det);
    else
        fm_net_velocity(f->run->plugin[FM_KIND_NET], graph, &f->run->net_info, x, t, y);
    if (!fm_graph_ok(graph, error))
        return NULL;
    layers = layers_of(graph, x);
    chosen = choose_layer(layers, layer, dir, error);
    if (!chosen)
        return NULL;
    f->name = g_strdup_printf("input of '%.*s', t = %g", (int)strlen(chosen->weight) - 7, chosen->weight, time);
    if (!fm__features_compile(f, graph, chosen->input, f->run->plugin[FM_KIND_BACKEND], threads, error))
        return NULL;
    return g_steal_pointer(&f);
}

/* ---- evaluation ---- */

typedef struct Evaluation {
    const FmFeatures *f;
    const double *x; /* the block's rows */
    guint64 row0;    /* the first of them */
    FmKey key;
    double *scratch; /* (threads, tile, 4 D + 1): x1, x0, x_t, u_t, t */
} Evaluation;

static void
store(FmDtype dtype, size_t n, const double *from, void *to)
{
    if (dtype == FM_F64)
        memcpy(to, from, n * sizeof(double));
    else
        for (size_t i = 0; i < n; i++)
            ((float *)to)[i] = (float)from[i];
}

static void
feed(void *ctx, int worker, guint64 row0, size_t n, void *const *in)
{
    const Evaluation *e = ctx;
    const FmFeatures *f = e->f;
    const size_t D = f->n_in, tile = fm_plan_tile(f->plan);
    double *x1 = e->scratch + (size_t)worker * tile * (4 * D + 1), *x0 = x1 + tile * D, *xt = x0 + tile * D,
           *ut = xt + tile * D, *t = ut + tile * D;

    for (size_t i = 0; i < n; i++) {
        for (size_t d = 0; d < D; d++) {
            const double v = e->x[(row0 + i) * D + d];

            x1[i * D + d] = f->run ? (v - f->run->shift[d]) / f->run->scale[d] : v;
        }
        t[i] = f->time;
    }
    if (f->run && f->time < 1.0) {
        const FmKey noise = {.seed = e->key.seed, .stream = FM_STREAM_NOISE, .step = e->key.step};

        fm_fill_normal_f64(e->key, e->row0 + row0, n, D, x0);
        fm_path_sample(f->run->plugin[FM_KIND_PATH], n, D, t, x0, x1, noise, e->row0 + row0, xt, ut);
    }
    if (f->in_x >= 0)
        store(f->dtype, n * D, f->run && f->time < 1.0 ? xt : x1, in[f->in_x]);
    if (f->in_t >= 0)
        store(f->dtype, n, t, in[f->in_t]);
    for (size_t i = 0; f->in_y >= 0 && i < n; i++)
        ((gint32 *)in[f->in_y])[i] = -1; /* no class: a lookup gives 0 */
}

static gboolean
evaluate_block(Evaluation *e, size_t n, void *out, double *y, GError **error)
{
    const FmFeatures *f = e->f;
    const void *in[FM_MAX_INPUTS] = {NULL};

    if (!fm_exec_run(f->exec, n, in, feed, e, &out, e->key, error))
        return FALSE;
    for (size_t i = 0; i < n * f->n_out; i++) {
        y[i] = f->dtype == FM_F64 ? ((double *)out)[i] : (double)((float *)out)[i];
        if (!isfinite(y[i])) {
            g_set_error(error, FM_ERROR, FM_ERROR_DIVERGED,
                        "features, %s: value %zu of row %" G_GUINT64_FORMAT " is %g, expected finite numbers", f->name,
                        i % f->n_out, e->row0 + i / f->n_out, y[i]);
            return FALSE;
        }
    }
    return TRUE;
}

gboolean
fm_features_eval(FmFeatures *f, size_t n, const double *x, FmKey key, double *y, GError **error)
{
    const size_t rows = MIN(n, (size_t)FEATURES_BLOCK);
    Evaluation e = {.f = f, .key = key};
    void *out = fm_alloc(rows * f->n_out * fm_dtype_size(f->dtype));
    gboolean ok;

    e.scratch = fm_alloc((size_t)f->threads * fm_plan_tile(f->plan) * (4 * f->n_in + 1) * sizeof(double));
    ok = out != NULL && e.scratch != NULL;
    if (!ok)
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "features: no memory for %zu rows of %zu values", rows, f->n_out);
    for (size_t r = 0; ok && r < n; r += rows) {
        e.x = x + r * f->n_in;
        e.row0 = r;
        ok = evaluate_block(&e, MIN(rows, n - r), out, y + r * f->n_out, error);
    }
    fm_free(out);
    fm_free(e.scratch);
    return ok;
}
