/* params.c: named weights in one aligned block. */
#include "graph/node.h"

#include <fmcore/plan.h>
#include <string.h>

struct FmParams {
    FmDtype dtype;
    GArray *list;           /* FmParam: trainable ones first */
    size_t size, trainable; /* elements */
    void *block;
};

static guint64
name_hash(const char *name)
{
    guint64 h = G_GUINT64_CONSTANT(14695981039346656037);

    for (; *name; name++)
        h = (h ^ (guchar)*name) * G_GUINT64_CONSTANT(1099511628211);
    return h & G_GUINT64_CONSTANT(0xffffffffffff);
}

static void
init_param(const FmParams *params, const FmParam *p, FmInit init, guint64 seed)
{
    const FmKey key = {.seed = seed, .stream = FM_STREAM_INIT, .step = name_hash(p->name)};
    g_autofree double *v = g_new0(double, p->size);

    switch (init.kind) {
    case FM_INIT_ZEROS:
        break;
    case FM_INIT_CONSTANT:
        for (size_t i = 0; i < p->size; i++)
            v[i] = init.scale;
        break;
    case FM_INIT_UNIFORM:
        fm_fill_uniform_f64(key, 0, 1, p->size, v);
        for (size_t i = 0; i < p->size; i++)
            v[i] = init.scale * (2.0 * v[i] - 1.0);
        break;
    case FM_INIT_NORMAL:
        fm_fill_normal_f64(key, 0, 1, p->size, v);
        for (size_t i = 0; i < p->size; i++)
            v[i] *= init.scale;
        break;
    }
    fm_convert(FM_F64, v, params->dtype, fm_params_data(params, p), p->size);
}

static void
collect(FmParams *params, const FmGraph *graph, gboolean trainable, GPtrArray *nodes)
{
    const size_t align = FM_ALIGN / fm_dtype_size(params->dtype);

    for (guint i = 0; i < graph->nodes->len; i++) {
        FmNode *node = graph->nodes->pdata[i];
        FmParam p = {.trainable = trainable, .offset = params->size};

        if (node->op != FM_OP_PARAM || node->trainable != trainable)
            continue;
        p.name = g_intern_string(node->name);
        p.ndim = node->shape.ndim;
        memcpy(p.dim, node->shape.dim, sizeof p.dim);
        p.size = fm_shape_size(&node->shape);
        params->size += (p.size + align - 1) / align * align;
        g_array_append_val(params->list, p);
        g_ptr_array_add(nodes, node);
    }
}

FmParams *
fm_params_new(const FmGraph *graph, FmDtype dtype, guint64 seed, GError **error)
{
    g_autoptr(GPtrArray) nodes = g_ptr_array_new();
    FmParams *params;

    if (!fm_graph_ok(graph, error))
        return NULL;
    params = g_new0(FmParams, 1);
    params->dtype = dtype;
    params->list = g_array_new(FALSE, FALSE, sizeof(FmParam));
    collect(params, graph, TRUE, nodes);
    params->trainable = params->size;
    collect(params, graph, FALSE, nodes);
    params->block = fm_alloc(params->size * fm_dtype_size(dtype));
    if (!params->block) {
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "%zu weights do not fit in memory", params->size);
        fm_params_free(params);
        return NULL;
    }
    for (guint i = 0; i < nodes->len; i++)
        init_param(params, fm_params_nth(params, i), ((FmNode *)nodes->pdata[i])->init, seed);
    return params;
}

FmParams *
fm_params_copy(const FmParams *params)
{
    FmParams *copy = g_new(FmParams, 1);

    *copy = *params;
    copy->list = g_array_copy(params->list);
    copy->block = fm_alloc(params->size * fm_dtype_size(params->dtype));
    if (!copy->block) {
        fm_params_free(copy);
        return NULL;
    }
    memcpy(copy->block, params->block, params->size * fm_dtype_size(params->dtype));
    return copy;
}

void
fm_params_free(FmParams *params)
{
    if (!params)
        return;
    g_array_unref(params->list);
    fm_free(params->block);
    g_free(params);
}

FmDtype
fm_params_dtype(const FmParams *params)
{
    return params->dtype;
}

size_t
fm_params_count(const FmParams *params)
{
    return params->list->len;
}

const FmParam *
fm_params_nth(const FmParams *params, size_t i)
{
    g_return_val_if_fail(i < params->list->len, NULL);
    return &g_array_index(params->list, FmParam, i);
}

const FmParam *
fm_params_find(const FmParams *params, const char *name)
{
    for (guint i = 0; i < params->list->len; i++)
        if (strcmp(fm_params_nth(params, i)->name, name) == 0)
            return fm_params_nth(params, i);
    return NULL;
}

void *
fm_params_data(const FmParams *params, const FmParam *param)
{
    return (char *)params->block + param->offset * fm_dtype_size(params->dtype);
}

void *
fm_params_block(const FmParams *params)
{
    return params->block;
}

size_t
fm_params_trainable_size(const FmParams *params)
{
    return params->trainable;
}

size_t
fm_params_size(const FmParams *params)
{
    return params->size;
}

size_t
fm_params_number(const FmParams *params)
{
    size_t n = 0;

    for (guint i = 0; i < params->list->len; i++)
        n += fm_params_nth(params, i)->trainable ? fm_params_nth(params, i)->size : 0;
    return n;
}
