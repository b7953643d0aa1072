/* velocity.c: the learned field, its divergence and the map of invertible nets as plans.
 * Exact divergence: forward mode with all unit vectors as tangents of one pass. Hutchinson's
 * estimate: the same plan with probes as tangents; Grathwohl et al. 2019, arXiv:1810.01367. */
#include "flow/velocity.h"

#include <string.h>

/* What the second output is. */
typedef enum VelocityKind {
    VELOCITY_DOTS,    /* sum_k e_k . J e_k with K tangents e given */
    VELOCITY_UNITS,   /* the same for the D unit vectors, which are constants */
    VELOCITY_PRODUCTS /* J e_k */
} VelocityKind;

FmNode *
fm__run_velocity(const FmRun *run, FmGraph *graph, FmNode *x, FmNode *t, FmNode *y)
{
    const gboolean same = run->repath.from == NULL;
    const FmRepathNodes at = same ? (FmRepathNodes){0} : fm__repath_nodes(&run->repath, t);
    FmNode *from_x = same ? x : fm_mul(x, at.inverse), *from_t = same ? t : at.t;
    FmNode *q = fm_net_velocity(run->plugin[FM_KIND_NET], graph, &run->net_info, from_x, from_t, y);
    FmNode *v = fm__predict_velocity(&run->predict, q, from_x, from_t);

    return same ? v : fm_add(fm_mul(x, at.a), fm_mul(v, at.b));
}

/* The velocity with classifier-free guidance w: v0 + w (v - v0), where v0 has no label. */
static FmNode *
velocity_guided(const FmRun *run, FmGraph *graph, FmNode *x, FmNode *t, double w)
{
    FmNode *y = run->net_info.classes > 0 ? fm_input_labels(graph, "y") : NULL;
    FmNode *v = fm__run_velocity(run, graph, x, t, y);

    if (y == NULL || w == 1.0)
        return v;
    FmNode *v0 = fm__run_velocity(run, graph, x, t, fm_input_labels(graph, "no label"));
    return fm_add(v0, fm_affine(fm_sub(v, v0), w, 0.0));
}

static FmVelocity *
velocity_compile(const FmRun *run, FmGraph *graph, FmNode *const *out, size_t n_out, size_t K, int threads,
                 GError **error)
{
    const FmPlanOptions options = {.dtype = run->config->dtype, .backend = run->plugin[FM_KIND_BACKEND]};
    FmVelocity *v = g_new0(FmVelocity, 1);

    v->plan = fm_plan_new(graph, out, n_out, &options, error);
    if (v->plan != NULL)
        v->exec = fm_exec_new(v->plan, run->params, threads, error);
    if (v->exec == NULL) {
        fm__velocity_free(v);
        return NULL;
    }
    v->D = run->data.D;
    v->K = K;
    v->flat = K > 0 && n_out == 1;
    v->dtype = run->config->dtype;
    v->size = fm_dtype_size(v->dtype);
    v->tile = fm_plan_tile(v->plan);
    v->in_x = fm_plan_input_find(v->plan, "x");
    v->in_t = fm_plan_input_find(v->plan, "t");
    v->in_y = fm_plan_input_find(v->plan, "y");
    v->in_e = fm_plan_input_find(v->plan, "e");
    v->in_none = fm_plan_input_find(v->plan, "no label");
    if (v->in_y >= 0 || v->in_none >= 0) {
        v->none = g_new(gint32, v->tile);
        for (size_t r = 0; r < v->tile; r++)
            v->none[r] = -1;
    }
    return v;
}

/* div v = sum_k d v_k / d x_k with one pass per unit vector. Each pass has the batch's rows, so what
 * the passes share with the value needs no repetition over tangents. NULL: v does not depend on x. */
static FmNode *
velocity_divergence(FmGraph *graph, FmNode *v, FmNode *x, const FmDataInfo *d)
{
    g_autofree double *unit = g_new0(double, d->D);
    FmNode *sum = NULL;

    for (size_t k = 0; k < d->D; k++) {
        unit[k] = 1.0;
        FmNode *e = fm_constant(graph, d->ndim, d->dim, unit);
        FmNode *je = e == NULL ? NULL : fm_jvp(v, x, e);
        unit[k] = 0.0;
        if (je == NULL)
            continue;
        const size_t rows = fm_node_shape(je)->rows; /* 0: the same in all rows */
        je = fm_reshape(fm_slice(fm_reshape(je, rows, 1, &d->D), 0, k, 1), rows, 0, NULL);
        sum = sum == NULL ? je : fm_add(sum, je);
    }
    return fm_broadcast(sum, &(FmShape){.rows = 1});
}

static FmVelocity *
velocity_new(const FmRun *run, double guidance, size_t K, VelocityKind kind, int threads, GError **error)
{
    const FmDataInfo *d = &run->data;
    g_autoptr(FmGraph) graph = fm_graph_new();
    FmNode *x = fm_input(graph, "x", 1, d->ndim, d->dim);
    FmNode *t = fm_input(graph, "t", 1, 0, NULL);
    FmNode *out[2] = {velocity_guided(run, graph, x, t, guidance)};
    size_t n_out = 1;

    if (!fm_graph_ok(graph, error))
        return NULL;
    if (kind == VELOCITY_UNITS) {
        FmNode *div = velocity_divergence(graph, out[0], x, d);

        if (!fm_graph_ok(graph, error))
            return NULL;
        if (div != NULL)
            out[n_out++] = div;
    } else if (K > 0) {
        FmNode *e = fm_input(graph, "e", K, d->ndim, d->dim);
        FmNode *je = fm_jvp(out[0], x, e);

        if (!fm_graph_ok(graph, error))
            return NULL;
        if (je != NULL && kind == VELOCITY_PRODUCTS) {
            out[n_out++] = je;
        } else if (je != NULL) {
            FmNode *dot = fm_sum(fm_mul(e, je), (1u << d->ndim) - 1u, FALSE);
            out[n_out++] = K == 1 ? dot : fm_sum_rows(dot);
        }
    }
    FmVelocity *v = velocity_compile(run, graph, out, n_out, K, threads, error);
    if (v != NULL)
        v->n_second = K == 0 ? 0 : kind == VELOCITY_PRODUCTS ? K * v->D : 1;
    return v;
}

FmVelocity *
fm__velocity_new(const FmRun *run, double guidance, size_t K, int threads, GError **error)
{
    return velocity_new(run, guidance, K, VELOCITY_DOTS, threads, error);
}

FmVelocity *
fm__velocity_exact_new(const FmRun *run, double guidance, int threads, GError **error)
{
    enum { UNROLLED = 16 }; /* beyond it one pass for all: larger products, fewer operations */
    const size_t D = run->data.D;

    return velocity_new(run, guidance, MIN(D, FM__MAX_TANGENTS), D <= UNROLLED ? VELOCITY_UNITS : VELOCITY_DOTS,
                        threads, error);
}

FmVelocity *
fm__velocity_products_new(const FmRun *run, double guidance, size_t K, int threads, GError **error)
{
    return velocity_new(run, guidance, K, VELOCITY_PRODUCTS, threads, error);
}

void
fm__velocity_free(FmVelocity *velocity)
{
    if (velocity == NULL)
        return;
    fm_exec_free(velocity->exec);
    fm_plan_free(velocity->plan);
    g_free(velocity->none);
    g_free(velocity);
}

gboolean
fm__velocity_eval(const FmVelocity *v, int w, size_t n, const void *x, const void *t, const gint32 *y, const void *e,
                  void *out, void *div)
{
    const FmKey key = {0};
    const void *in[FM_MAX_INPUTS] = {NULL};
    void *results[2];

    for (size_t r = 0; r < n; r += v->tile) {
        const size_t rows = MIN(v->tile, n - r);

        if (v->in_x >= 0)
            in[v->in_x] = (const char *)x + r * v->D * v->size;
        if (v->in_t >= 0)
            in[v->in_t] = (const char *)t + r * v->size;
        if (v->in_y >= 0)
            in[v->in_y] = y != NULL ? y + r : v->none;
        if (v->in_none >= 0)
            in[v->in_none] = v->none;
        if (v->in_e >= 0)
            in[v->in_e] = (const char *)e + r * v->K * v->D * v->size;
        results[0] = (char *)out + r * v->D * v->size;
        results[1] = div == NULL ? NULL : (char *)div + r * v->n_second * v->size;
        if (!fm_exec_tile(v->exec, w, rows, in, results, key, r))
            return FALSE;
        if (v->flat)
            memset(results[1], 0, rows * v->n_second * v->size);
    }
    return TRUE;
}

FmMap *
fm__map_new(const FmRun *run, gboolean forward, int threads, GError **error)
{
    const FmDataInfo *d = &run->data;
    const FmPlanOptions options = {.dtype = run->config->dtype, .backend = run->plugin[FM_KIND_BACKEND]};
    g_autoptr(FmGraph) graph = fm_graph_new();
    FmNode *x = fm_input(graph, "x", 1, d->ndim, d->dim);
    FmNode *out[2] = {NULL, NULL};

    out[0] = (forward ? fm_net_forward : fm_net_inverse)(run->plugin[FM_KIND_NET], graph, &run->net_info, x, &out[1]);
    if (!fm_graph_ok(graph, error))
        return NULL;
    FmMap *map = g_new0(FmMap, 1);
    map->plan = fm_plan_new(graph, out, 2, &options, error);
    if (map->plan != NULL)
        map->exec = fm_exec_new(map->plan, run->params, threads, error);
    if (map->exec == NULL) {
        fm__map_free(map);
        return NULL;
    }
    map->in_x = fm_plan_input_find(map->plan, "x");
    return map;
}

void
fm__map_free(FmMap *map)
{
    if (map == NULL)
        return;
    fm_exec_free(map->exec);
    fm_plan_free(map->plan);
    g_free(map);
}
