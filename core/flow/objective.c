/* objective.c: the inputs and nets that a training loss is built from. */
#include "flow/loss.h"
#include "graph/node.h"

#include <string.h>

FmLoss *
fm__loss_new(FmGraph *graph, FmPlugin *net, const FmNetInfo *info)
{
    FmLoss *loss = g_new0(FmLoss, 1);

    loss->graph = graph;
    loss->net = net;
    loss->info = *info;
    loss->info.training = TRUE;
    loss->others = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)fm_plugin_free);
    return loss;
}

void
fm__loss_free(FmLoss *loss)
{
    if (!loss)
        return;
    g_hash_table_destroy(loss->others);
    g_free(loss);
}

FmGraph *
fm_loss_graph(const FmLoss *loss)
{
    return loss->graph;
}

static FmNode *
point_input(FmLoss *loss, const char *name)
{
    return fm_input(loss->graph, name, 1, loss->info.data->ndim, loss->info.data->dim);
}

FmNode *
fm_loss_x0(FmLoss *loss)
{
    return point_input(loss, "x0");
}

FmNode *
fm_loss_x1(FmLoss *loss)
{
    return point_input(loss, "x1");
}

FmNode *
fm_loss_xt(FmLoss *loss)
{
    return point_input(loss, "xt");
}

FmNode *
fm_loss_ut(FmLoss *loss)
{
    return point_input(loss, "ut");
}

FmNode *
fm_loss_t(FmLoss *loss)
{
    return fm_input(loss->graph, "t", 1, 0, NULL);
}

FmNode *
fm_loss_coefficient(FmLoss *loss, const char *name)
{
    static const char *const names[] = {"alpha", "dalpha", "sigma", "dsigma", "gamma", "dgamma", NULL};

    if (g_strv_contains(names, name))
        return fm_input(loss->graph, name, 1, 0, NULL);
    fm_graph_fail(loss->graph, FM_ERROR_UNSUPPORTED,
                  "objective: coefficient '%s' was asked for, expected alpha, dalpha, sigma, dsigma, "
                  "gamma or dgamma",
                  name);
    return NULL;
}

/* The net called `name`, opened on its first use; NULL and the graph's error. */
static FmPlugin *
loss_net(FmLoss *loss, const char *name, const char *spec)
{
    g_autofree char *own = fm_plugin_spec(loss->net);
    g_autoptr(GError) error = NULL;
    FmPlugin *net = g_hash_table_lookup(loss->others, name);

    if (net)
        return net;
    net = fm_plugin_new(FM_KIND_NET, spec ? spec : own, &error);
    if (!net || !fm_net_prepare(net, &loss->info, &error)) {
        fm_graph_fail(loss->graph, error->code, "%s", error->message);
        fm_plugin_free(net);
        return NULL;
    }
    g_hash_table_insert(loss->others, g_strdup(name), net);
    return net;
}

/* Parameters under `prefix` become buffers. */
static void
freeze(FmGraph *graph, const char *prefix)
{
    for (guint i = 0; i < graph->nodes->len; i++) {
        FmNode *node = graph->nodes->pdata[i];

        if (node->op == FM_OP_PARAM && g_str_has_prefix(node->name, prefix))
            node->trainable = FALSE;
    }
}

static FmPrediction
loss_prediction(const FmLoss *loss)
{
    return loss->predict ? loss->predict->what : FM_PREDICT_V;
}

/* What the model's own net gives at (x, t). */
static FmNode *
loss_raw(FmLoss *loss, FmNode *x, FmNode *t)
{
    FmNode *y = loss->info.classes > 0 ? fm_input_labels(loss->graph, "y") : NULL;

    fm_graph_set_prefix(loss->graph, "");
    return fm_net_velocity(loss->net, loss->graph, &loss->info, x, t, y);
}

FmNode *
fm_loss_output(FmLoss *loss)
{
    FmNode *q = loss_raw(loss, fm_loss_xt(loss), fm_loss_t(loss));

    /* sigma times the score is minus the noise: a target of one size at all times. */
    return q && loss_prediction(loss) == FM_PREDICT_SCORE ? fm_mul(fm_loss_coefficient(loss, "sigma"), q) : q;
}

FmNode *
fm_loss_target(FmLoss *loss)
{
    switch (loss_prediction(loss)) {
    case FM_PREDICT_EPS:
        return fm_loss_x0(loss);
    case FM_PREDICT_X1:
        return fm_loss_x1(loss);
    case FM_PREDICT_SCORE:
        return fm_neg(fm_loss_x0(loss));
    default:
        return fm_loss_ut(loss);
    }
}

FmNode *
fm_loss_velocity(FmLoss *loss, const char *name, const char *spec, gboolean frozen, FmNode *x, FmNode *t)
{
    const gboolean own = strcmp(name, "model") == 0;
    g_autofree char *prefix = own ? g_strdup("") : g_strconcat(name, "/", NULL);
    FmNode *y = loss->info.classes > 0 ? fm_input_labels(loss->graph, "y") : NULL;
    FmPlugin *net = own ? loss->net : loss_net(loss, name, spec);
    FmNode *v;

    if (!net)
        return NULL;
    fm_graph_set_prefix(loss->graph, prefix);
    v = fm_net_velocity(net, loss->graph, &loss->info, x, t, y);
    fm_graph_set_prefix(loss->graph, "");
    v = own ? fm__predict_velocity(loss->predict, v, x, t) : v;
    if (!frozen)
        return v;
    /* The model's own weights are trained by the rest of the loss: its value alone is frozen. */
    if (own)
        return fm_stop_gradient(v);
    freeze(loss->graph, prefix);
    return v;
}

FmNode *
fm_loss_forward(FmLoss *loss, FmNode *x, FmNode **log_det)
{
    return fm_net_forward(loss->net, loss->graph, &loss->info, x, log_det);
}

FmNode *
fm_objective_loss(FmPlugin *objective, FmLoss *loss)
{
    const FmObjectiveOps *ops = fm_plugin_ops(objective);
    const FmShape wanted = {.rows = 1};
    FmNode *value;

    if (ops->needs_invertible && !fm_net_is_invertible(loss->net)) {
        fm_graph_fail(loss->graph, FM_ERROR_UNSUPPORTED,
                      "objective '%s' needs an invertible net, one with a map and its inverse, and net "
                      "'%s' is none",
                      fm_plugin_name(objective), fm_plugin_name(loss->net));
        return NULL;
    }
    value = ops->loss(fm_plugin_self(objective), loss);
    if (value && !fm_shape_equal(fm_node_shape(value), &wanted)) {
        g_autofree char *has = fm_shape_format(fm_node_shape(value));

        fm_graph_fail(loss->graph, FM_ERROR_SHAPE, "objective '%s' built a loss of shape %s, expected (B)",
                      fm_plugin_name(objective), has);
        return NULL;
    }
    if (!value)
        fm_graph_fail(loss->graph, FM_ERROR_PLUGIN, "objective '%s' built no loss", fm_plugin_name(objective));
    return fm_graph_ok(loss->graph, NULL) ? value : NULL;
}

gboolean
fm_objective_calibrate(FmPlugin *objective, FmParams *params, const FmNetInfo *info, GError **error)
{
    const FmObjectiveOps *ops = fm_plugin_ops(objective);

    return !ops->calibrate || ops->calibrate(fm_plugin_self(objective), params, info, error);
}
