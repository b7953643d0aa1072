/* flow.c: the embedding API's object: parts made when first needed, checks shared by its calls. */
#include "flow/integrate.h"

#include <math.h>
#include <string.h>

FmFlow *
fm_flow_from_run(FmRun *run, GError **error)
{
    FmFlow *flow = g_new0(FmFlow, 1);

    flow->run = run;
    flow->threads = MAX(1, run->config->threads);
    flow->guidance = 1.0;
    flow->solver = fm_plugin_new(FM_KIND_SOLVER, run->config->spec[FM_KIND_SOLVER], error);
    if (flow->solver == NULL) {
        fm_flow_free(flow);
        return NULL;
    }
    return flow;
}

FmFlow *
fm_flow_load(const char *run_dir, GError **error)
{
    FmRun *run = fm_run_load(run_dir, error);

    if (run == NULL)
        return NULL;
    FmFlow *flow = fm_flow_from_run(run, error);
    if (flow == NULL)
        fm_run_free(run);
    else
        flow->owner = TRUE;
    return flow;
}

static void
flow_drop_plans(FmFlow *flow)
{
    g_clear_pointer(&flow->plain, fm__velocity_free);
    g_clear_pointer(&flow->exact, fm__velocity_free);
    g_clear_pointer(&flow->probed, fm__velocity_free);
    g_clear_pointer(&flow->products, fm__velocity_free);
    g_clear_pointer(&flow->forward, fm__map_free);
    g_clear_pointer(&flow->inverse, fm__map_free);
}

void
fm_flow_free(FmFlow *flow)
{
    if (flow == NULL)
        return;
    flow_drop_plans(flow);
    fm_plugin_free(flow->solver);
    if (flow->owner)
        fm_run_free(flow->run);
    g_free(flow);
}

size_t
fm_flow_dim(const FmFlow *flow)
{
    return flow->run->data.D;
}

const FmDataInfo *
fm_flow_data_info(const FmFlow *flow)
{
    return &flow->run->data;
}

guint64
fm_flow_parameters(const FmFlow *flow)
{
    return fm_params_number(flow->run->params);
}

gboolean
fm_flow_set_solver(FmFlow *flow, const char *spec, GError **error)
{
    FmPlugin *solver = fm_plugin_new(FM_KIND_SOLVER, spec, error);

    if (solver == NULL)
        return FALSE;
    fm_plugin_free(flow->solver);
    flow->solver = solver;
    return TRUE;
}

void
fm_flow_set_threads(FmFlow *flow, int threads)
{
    if (threads < 1 || threads == flow->threads)
        return;
    flow->threads = threads;
    flow_drop_plans(flow);
}

gboolean
fm_flow_set_guidance(FmFlow *flow, double w, GError **error)
{
    const FmRun *run = flow->run;

    if (!isfinite(w)) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE, "guidance: the weight is %g, expected a finite number", w);
        return FALSE;
    }
    if (w != 1.0 && (run->net_info.classes == 0 || run->config->label_dropout <= 0)) {
        g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                    "guidance: net '%s' was trained %s, expected a conditional net whose labels were "
                    "dropped now and then (--conditional yes --label-dropout 0.1)",
                    fm_plugin_name(run->plugin[FM_KIND_NET]),
                    run->net_info.classes == 0 ? "without labels" : "with every label");
        return FALSE;
    }
    if (w != flow->guidance)
        flow_drop_plans(flow);
    flow->guidance = w;
    return TRUE;
}

static gboolean
flow_can_change_path(const FmFlow *flow, GError **error)
{
    const FmRun *run = flow->run;

    if (!fm__flow_is_map(flow) && run->source == NULL)
        return TRUE;
    g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                "path: %s, expected a velocity from N(0, I) to go along another path than the trained",
                run->source != NULL ? "the flow has a source of its own" : "the net is a map without time");
    return FALSE;
}

gboolean
fm_flow_set_path(FmFlow *flow, const char *spec, GError **error)
{
    FmRun *run = flow->run;
    FmPlugin *own = run->repath.from != NULL ? run->repath.from : run->plugin[FM_KIND_PATH], *path;
    FmRepath repath;

    if (!flow_can_change_path(flow, error) || (path = fm_plugin_new(FM_KIND_PATH, spec, error)) == NULL)
        return FALSE;
    if (!fm_path_prepare(path, run->data.D, error) || !fm__repath_init(&repath, own, path, error)) {
        fm_plugin_free(path);
        return FALSE;
    }
    flow_drop_plans(flow);
    if (run->repath.from != NULL)
        fm_plugin_free(run->plugin[FM_KIND_PATH]);
    run->plugin[FM_KIND_PATH] = path;
    run->repath = repath;
    return TRUE;
}

gboolean
fm__flow_is_map(const FmFlow *flow)
{
    return fm_net_is_invertible(flow->run->plugin[FM_KIND_NET]);
}

gboolean
fm__flow_check_labels(const FmFlow *flow, const char *who, size_t n, const int *labels, GError **error)
{
    const size_t classes = flow->run->net_info.classes;

    if (classes == 0 && labels != NULL) {
        g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                    "%s: labels were given, and net '%s' was trained without them", who,
                    fm_plugin_name(flow->run->plugin[FM_KIND_NET]));
        return FALSE;
    }
    if (classes > 0 && labels == NULL && n > 0 && flow->run->config->label_dropout <= 0) {
        g_set_error(error, FM_ERROR, FM_ERROR_DATA,
                    "%s: net '%s' wants a label for every row, 0 to %" G_GSIZE_FORMAT ", and none were given", who,
                    fm_plugin_name(flow->run->plugin[FM_KIND_NET]), classes - 1);
        return FALSE;
    }
    for (size_t i = 0; labels != NULL && i < n; i++)
        if (labels[i] < 0 || (size_t)labels[i] >= classes) {
            g_set_error(error, FM_ERROR, FM_ERROR_DATA,
                        "%s: the label of row %" G_GSIZE_FORMAT " is %d, expected 0 to %" G_GSIZE_FORMAT, who, i,
                        labels[i], classes - 1);
            return FALSE;
        }
    return TRUE;
}

gboolean
fm__flow_check_rows(const FmFlow *flow, const char *who, size_t n, const double *x, GError **error)
{
    const size_t D = flow->run->data.D;

    for (size_t i = 0; i < n * D; i++)
        if (!isfinite(x[i])) {
            g_set_error(error, FM_ERROR, FM_ERROR_DATA,
                        "%s: row %" G_GSIZE_FORMAT ", column %" G_GSIZE_FORMAT " is %g, expected finite numbers", who,
                        i / D, i % D, x[i]);
            return FALSE;
        }
    return TRUE;
}

/* ---- plans, made when first needed; weights may have moved since the last call ---- */

static const FmVelocity *
flow_velocity(FmFlow *flow, FmVelocity **slot, size_t K, GError **error)
{
    if (*slot != NULL && (*slot)->K != K)
        g_clear_pointer(slot, fm__velocity_free);
    if (*slot == NULL)
        *slot = fm__velocity_new(flow->run, flow->guidance, K, flow->threads, error);
    else
        fm_exec_refresh((*slot)->exec);
    return *slot;
}

const FmVelocity *
fm__flow_velocity_plain(FmFlow *flow, GError **error)
{
    return flow_velocity(flow, &flow->plain, 0, error);
}

const FmVelocity *
fm__flow_velocity_exact(FmFlow *flow, GError **error)
{
    if (flow->exact == NULL)
        flow->exact = fm__velocity_exact_new(flow->run, flow->guidance, flow->threads, error);
    else
        fm_exec_refresh(flow->exact->exec);
    return flow->exact;
}

const FmVelocity *
fm__flow_velocity_probed(FmFlow *flow, int probes, GError **error)
{
    if (probes < 1 || probes > FM__MAX_TANGENTS) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE, "likelihood: %d probes, expected 1 to %d", probes,
                    FM__MAX_TANGENTS);
        return NULL;
    }
    return flow_velocity(flow, &flow->probed, (size_t)probes, error);
}

const FmVelocity *
fm__flow_velocity_products(FmFlow *flow, GError **error)
{
    const size_t D = flow->run->data.D;

    if (D > FM__MAX_TANGENTS) {
        g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                    "likelihood 'map': points have %" G_GSIZE_FORMAT
                    " values, expected at most %d, because it carries the whole Jacobian",
                    D, FM__MAX_TANGENTS);
        return NULL;
    }
    if (flow->products == NULL)
        flow->products = fm__velocity_products_new(flow->run, flow->guidance, D, flow->threads, error);
    else
        fm_exec_refresh(flow->products->exec);
    return flow->products;
}

const FmMap *
fm__flow_map(FmFlow *flow, gboolean forward, GError **error)
{
    FmMap **slot = forward ? &flow->forward : &flow->inverse;

    if (*slot == NULL)
        *slot = fm__map_new(flow->run, forward, flow->threads, error);
    else
        fm_exec_refresh((*slot)->exec);
    return *slot;
}

/* ---- the base distribution ---- */

double
fm__base_sd(const FmFlow *flow)
{
    const FmPlugin *path = flow->run->plugin[FM_KIND_PATH];
    double t0, t1;
    FmAffine c;

    if (fm__flow_is_map(flow) || flow->run->source != NULL || !fm_path_is_affine(path))
        return 1.0;
    fm_path_interval(path, &t0, &t1);
    fm_path_coefficients(path, t0, &c);
    return sqrt(c.alpha * c.alpha + c.sigma * c.sigma);
}

double
fm__log_det_scale(const FmFlow *flow)
{
    double sum = 0;

    for (size_t d = 0; d < flow->run->data.D; d++)
        sum += log(flow->run->scale[d]);
    return sum;
}

gboolean
fm__base_log_density(const FmFlow *flow, size_t n, const double *z, double *log_p, GError **error)
{
    const FmPlugin *source = flow->run->source;
    const size_t D = flow->run->data.D;
    const double sd = fm__base_sd(flow);

    if (source != NULL && !fm_dataset_has_density(source)) {
        g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                    "source '%s' has no log-density in closed form, so the flow from it has none "
                    "either; train without --source",
                    fm_plugin_name(source));
        return FALSE;
    }
    if (source != NULL) {
        fm_dataset_log_density(source, n, z, log_p);
        return TRUE;
    }
    for (size_t r = 0; r < n; r++) {
        double q = 0;
        for (size_t d = 0; d < D; d++)
            q += z[r * D + d] * z[r * D + d];
        log_p[r] = -0.5 * q / (sd * sd) - (double)D * (log(sd) + 0.5 * log(2.0 * G_PI));
    }
    return TRUE;
}

FmLikelihood
fm__default_likelihood(const FmFlow *flow)
{
    enum { EXACT_UP_TO = 32 };

    return (FmLikelihood){.trace = flow->run->data.D <= EXACT_UP_TO ? FM_TRACE_EXACT : FM_TRACE_HUTCHINSON,
                          .probes = 1,
                          .key = {.seed = (guint64)flow->run->config->seed, .stream = FM_STREAM_PROBE}};
}
