/* net.c: calls into net plugins, checked against the shapes they were given. */
#include <fmcore/net.h>

static const FmNetOps *
net_ops(const FmPlugin *net)
{
    return fm_plugin_ops(net);
}

gboolean
fm_net_is_invertible(const FmPlugin *net)
{
    return net_ops(net)->forward != NULL && net_ops(net)->inverse != NULL;
}

gboolean
fm_net_prepare(FmPlugin *net, const FmNetInfo *info, GError **error)
{
    const FmNetOps *ops = net_ops(net);

    if (!ops->velocity && !fm_net_is_invertible(net)) {
        g_set_error(error, FM_ERROR, FM_ERROR_PLUGIN,
                    "net '%s' offers neither a velocity nor a map with its inverse, expected one", fm_plugin_name(net));
        return FALSE;
    }
    return !ops->prepare || ops->prepare(fm_plugin_self(net), info, error);
}

/* `y` if it has the wanted shape; else NULL and the graph's error. */
static FmNode *
checked(const FmPlugin *net, FmGraph *graph, const char *what, FmNode *y, const FmShape *wanted)
{
    if (!y) {
        fm_graph_fail(graph, FM_ERROR_PLUGIN, "net '%s' built no %s and gave no reason", fm_plugin_name(net), what);
        return NULL;
    }
    if (!fm_shape_equal(fm_node_shape(y), wanted)) {
        g_autofree char *has = fm_shape_format(fm_node_shape(y));
        g_autofree char *wants = fm_shape_format(wanted);

        fm_graph_fail(graph, FM_ERROR_SHAPE, "net '%s' built a %s of shape %s, expected %s", fm_plugin_name(net), what,
                      has, wants);
        return NULL;
    }
    return fm_graph_ok(graph, NULL) ? y : NULL;
}

static gboolean
one_per_row(const FmNode *node)
{
    return fm_node_shape(node)->rows >= 1 && fm_node_shape(node)->ndim == 0;
}

FmNode *
fm_net_velocity(FmPlugin *net, FmGraph *graph, const FmNetInfo *info, FmNode *x, FmNode *t, FmNode *y)
{
    const FmNetOps *ops = net_ops(net);

    if (!x || !t)
        return NULL;
    if (!ops->velocity) {
        fm_graph_fail(graph, FM_ERROR_UNSUPPORTED,
                      "net '%s' is an invertible map and has no velocity, expected an objective for maps",
                      fm_plugin_name(net));
        return NULL;
    }
    if (!one_per_row(t) || (y && !one_per_row(y)) || (info->classes > 0) != (y != NULL)) {
        fm_graph_fail(graph, FM_ERROR_SHAPE,
                      "net '%s': time must be (B), and labels (B) must be there exactly when the "
                      "net is conditional (it has %zu classes)",
                      fm_plugin_name(net), info->classes);
        return NULL;
    }
    return checked(net, graph, "velocity", ops->velocity(fm_plugin_self(net), graph, info, x, t, y), fm_node_shape(x));
}

typedef FmNode *(*NetScalar)(void *self, FmGraph *graph, const FmNetInfo *info, FmNode *x, FmNode *t, FmNode *y);

/* One number a row that a net may offer. */
static FmNode *
net_scalar(FmPlugin *net, NetScalar scalar, const char *what, FmGraph *graph, const FmNetInfo *info, FmNode *x,
           FmNode *t, FmNode *y)
{
    if (!x || !t || !scalar)
        return NULL;
    const FmShape rows = {.rows = fm_node_shape(x)->rows};
    FmNode *node = scalar(fm_plugin_self(net), graph, info, x, t, y);
    return node ? checked(net, graph, what, node, &rows) : NULL;
}

FmNode *
fm_net_log_density(FmPlugin *net, FmGraph *graph, const FmNetInfo *info, FmNode *x, FmNode *t, FmNode *y)
{
    return net_scalar(net, net_ops(net)->log_density, "log-density", graph, info, x, t, y);
}

FmNode *
fm_net_divergence(FmPlugin *net, FmGraph *graph, const FmNetInfo *info, FmNode *x, FmNode *t, FmNode *y)
{
    return net_scalar(net, net_ops(net)->divergence, "divergence", graph, info, x, t, y);
}

double
fm_net_density_end(const FmPlugin *net)
{
    const FmNetOps *ops = net_ops(net);

    return ops->density_end ? ops->density_end(fm_plugin_self(net)) : 1.0;
}

gboolean
fm_net_gaussian(const FmPlugin *net, const FmNetInfo *info, double t, double *mean, double *sd)
{
    const FmNetOps *ops = net_ops(net);

    return ops->gaussian && ops->gaussian(fm_plugin_self(net), info, t, mean, sd);
}

typedef FmNode *(*NetMap)(void *self, FmGraph *graph, const FmNetInfo *info, FmNode *x, FmNode **log_det);

static FmNode *
net_map(FmPlugin *net, NetMap map, FmGraph *graph, const FmNetInfo *info, FmNode *x, FmNode **log_det)
{
    FmShape rows;
    FmNode *y;

    *log_det = NULL;
    if (!x)
        return NULL;
    if (!map) {
        fm_graph_fail(graph, FM_ERROR_UNSUPPORTED,
                      "net '%s' is no invertible map, expected a net with a map and its inverse", fm_plugin_name(net));
        return NULL;
    }
    y = map(fm_plugin_self(net), graph, info, x, log_det);
    y = checked(net, graph, "map", y, fm_node_shape(x));
    rows = (FmShape){.rows = fm_node_shape(x)->rows};
    *log_det = y ? checked(net, graph, "log-determinant", *log_det, &rows) : NULL;
    return *log_det ? y : NULL;
}

FmNode *
fm_net_forward(FmPlugin *net, FmGraph *graph, const FmNetInfo *info, FmNode *x, FmNode **log_det)
{
    return net_map(net, net_ops(net)->forward, graph, info, x, log_det);
}

FmNode *
fm_net_inverse(FmPlugin *net, FmGraph *graph, const FmNetInfo *info, FmNode *z, FmNode **log_det)
{
    return net_map(net, net_ops(net)->inverse, graph, info, z, log_det);
}

gboolean
fm_net_calibrate(FmPlugin *net, FmParams *params, const FmNetInfo *info, const double *x, size_t n, GError **error)
{
    const FmNetOps *ops = net_ops(net);

    return !ops->calibrate || ops->calibrate(fm_plugin_self(net), params, info, x, n, error);
}
