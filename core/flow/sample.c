/* sample.c: noise to data: samples with their log-densities, trajectories, the field itself. */
#include "flow/integrate.h"

#include <math.h>
#include <string.h>

gboolean
fm__sample_start(FmFlow *flow, size_t n, size_t W, guint64 seed, const double *x0, void *out, GError **error)
{
    const size_t D = flow->run->data.D;
    const FmDtype dtype = flow->run->config->dtype;
    const FmKey key = {.seed = seed, .stream = FM_STREAM_SAMPLE};
    const double sd = fm__base_sd(flow);
    enum { ROWS = 64 };
    double *rows = fm__need("sample", MIN(n, ROWS), D, sizeof(double), error);
    float *single = fm__need("sample", MIN(n, ROWS), D, sizeof(float), error);
    gboolean ok = rows != NULL && single != NULL;

    for (size_t r = 0; ok && r < n; r += ROWS) {
        const size_t m = MIN((size_t)ROWS, n - r);

        if (x0 != NULL)
            memcpy(rows, x0 + r * D, m * D * sizeof(double));
        else if (flow->run->source != NULL)
            ok = fm_dataset_draw(flow->run->source, key, r, m, rows, NULL, error);
        else if (dtype == FM_F64)
            fm_fill_normal_f64(key, r, m, D, rows);
        else {
            fm_fill_normal_f32(key, r, m, D, single);
            fm_convert(FM_F32, single, FM_F64, rows, m * D);
        }
        if (x0 == NULL && sd != 1.0)
            for (size_t i = 0; i < m * D; i++)
                rows[i] *= sd;
        for (size_t i = 0; i < m; i++)
            fm_convert(FM_F64, rows + i * D, dtype, (char *)out + (r + i) * W * fm_dtype_size(dtype), D);
    }
    fm_free(rows);
    fm_free(single);
    return ok;
}

void
fm__sample_to_data(const FmRun *run, size_t n, size_t W, const void *state, double *x)
{
    const size_t D = run->data.D, size = fm_dtype_size(run->config->dtype);

    for (size_t r = 0; r < n; r++) {
        fm_convert(run->config->dtype, (const char *)state + r * W * size, FM_F64, x + r * D, D);
        for (size_t d = 0; d < D; d++)
            x[r * D + d] = x[r * D + d] * run->scale[d] + run->shift[d];
    }
}

gboolean
fm__sample_base(FmFlow *flow, size_t n, size_t W, const void *state, double *log_q, GError **error)
{
    const size_t D = flow->run->data.D, size = fm_dtype_size(flow->run->config->dtype);
    double *z = fm__need("sample", 1, D, sizeof(double), error);
    gboolean ok = z != NULL;

    for (size_t r = 0; ok && r < n; r++) {
        fm_convert(flow->run->config->dtype, (const char *)state + r * W * size, FM_F64, z, D);
        ok = fm__base_log_density(flow, 1, z, log_q + r, error);
    }
    fm_free(z);
    return ok;
}

/* Samples of an invertible net: one pass of its inverse. */
static gboolean
sample_map(FmFlow *flow, size_t n, void *state, double *x, double *log_q, FmSolveStat *stat, GError **error)
{
    const FmMap *map = fm__flow_map(flow, FALSE, error);
    const FmDtype dtype = flow->run->config->dtype;
    const size_t D = flow->run->data.D, size = fm_dtype_size(dtype);
    const FmKey key = {0};

    if (map == NULL)
        return FALSE;
    void *out = fm__need("sample", n, D, size, error);
    void *log_det = fm__need("sample", n, 1, size, error);
    const void *in[FM_MAX_INPUTS] = {NULL};
    void *results[2] = {out, log_det};
    if (map->in_x >= 0)
        in[map->in_x] = state;
    const gboolean ok =
        out != NULL && log_det != NULL && fm_exec_run(map->exec, n, in, NULL, NULL, results, key, error);
    for (size_t r = 0; ok && r < n; r++) {
        double l = 0;
        fm_convert(dtype, (char *)log_det + r * size, FM_F64, &l, 1);
        if (log_q != NULL)
            log_q[r] -= l;
        stat[r] = (FmSolveStat){.status = FM_SOLVE_OK, .nfe = 1, .accepted = 1, .t = 1.0};
    }
    if (ok)
        fm__sample_to_data(flow->run, n, D, out, x);
    fm_free(out);
    fm_free(log_det);
    return ok;
}

/* Samples of a differential equation; log_q holds log p0 of the starting points. */
static gboolean
sample_solve(FmFlow *flow, size_t n, size_t W, void *state, const int *labels, const FmLikelihood *how, double *x,
             double *log_q, FmSolveStat *stat, GError **error)
{
    const FmDtype dtype = flow->run->config->dtype;
    const size_t D = flow->run->data.D, size = fm_dtype_size(dtype);
    const FmIntegration problem = {.flow = flow,
                                   .how = log_q != NULL ? how : NULL,
                                   .forward = TRUE,
                                   .n = n,
                                   .labels = labels,
                                   .state = state,
                                   .stat = stat};

    if (!fm__integrate(&problem, error))
        return FALSE;
    fm__sample_to_data(flow->run, n, W, state, x);
    for (size_t r = 0; log_q != NULL && r < n; r++) {
        double l = 0;
        fm_convert(dtype, (char *)state + (r * W + D) * size, FM_F64, &l, 1);
        log_q[r] = stat[r].status == FM_SOLVE_OK ? log_q[r] + l : NAN;
    }
    return TRUE;
}

/* Samples, and log_q in the model's units when not NULL. */
static gboolean
sample_rows(FmFlow *flow, size_t n, guint64 seed, const double *x0, const int *labels, const FmLikelihood *how,
            double *x, double *log_q, FmSolveStat *stat, GError **error)
{
    const gboolean map = fm__flow_is_map(flow);
    const size_t D = flow->run->data.D, W = log_q != NULL && !map ? D + 1 : D;

    if (log_q != NULL && !map && how->trace == FM_TRACE_MAP)
        return fm__discrete_sample(flow, n, seed, x0, labels, x, log_q, stat, error);
    void *state = fm__need("sample", n, W, fm_dtype_size(flow->run->config->dtype), error);
    const gboolean ok = state != NULL && fm__sample_start(flow, n, W, seed, x0, state, error) &&
                        (log_q == NULL || fm__sample_base(flow, n, W, state, log_q, error)) &&
                        (map ? sample_map(flow, n, state, x, log_q, stat, error)
                             : sample_solve(flow, n, W, state, labels, how, x, log_q, stat, error));
    fm_free(state);
    return ok;
}

gboolean
fm_flow_sample_density(FmFlow *flow, size_t n, guint64 seed, const double *x0, const int *labels,
                       const FmLikelihood *how, double *x, double *log_q, FmSolveStat *stat, FmSolveSummary *summary,
                       GError **error)
{
    const FmLikelihood fallback = fm__default_likelihood(flow);

    if (!fm__flow_check_labels(flow, "sample", n, labels, error) ||
        (x0 != NULL && !fm__flow_check_rows(flow, "sample: x0", n, x0, error)))
        return FALSE;
    FmSolveStat *own = stat != NULL ? stat : fm__need("sample", n, 1, sizeof *own, error);
    const gboolean ok =
        own != NULL && sample_rows(flow, n, seed, x0, labels, how != NULL ? how : &fallback, x, log_q, own, error);
    if (ok && log_q != NULL) {
        const double log_det = fm__log_det_scale(flow);
        for (size_t r = 0; r < n; r++)
            log_q[r] -= log_det;
    }
    if (ok && summary != NULL)
        fm__summarise(own, n, summary);
    if (own != stat)
        fm_free(own);
    return ok;
}

gboolean
fm_flow_sample(FmFlow *flow, size_t n, guint64 seed, const double *x0, const int *labels, double *x, double *log_q,
               FmSolveStat *stat, FmSolveSummary *summary, GError **error)
{
    return fm_flow_sample_density(flow, n, seed, x0, labels, NULL, x, log_q, stat, summary, error);
}

static gboolean
sample_check_times(const FmFlow *flow, const char *who, size_t k, const double *t, GError **error)
{
    for (size_t i = 0; i < k; i++)
        if (!(t[i] >= 0.0 && t[i] <= 1.0) || (i > 0 && t[i] < t[i - 1])) {
            g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                        "%s: time %" G_GSIZE_FORMAT " is %g, expected ascending times in [0, 1]", who, i, t[i]);
            return FALSE;
        }
    if (fm__flow_is_map(flow)) {
        g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                    "%s: net '%s' is a map from noise to data without a velocity", who,
                    fm_plugin_name(flow->run->plugin[FM_KIND_NET]));
        return FALSE;
    }
    return TRUE;
}

gboolean
fm_flow_trajectory(FmFlow *flow, size_t n, guint64 seed, const double *x0, const int *labels, size_t k, const double *t,
                   double *out, GError **error)
{
    const FmDtype dtype = flow->run->config->dtype;
    const size_t D = flow->run->data.D, size = fm_dtype_size(dtype);
    double t0, t1;

    if (!sample_check_times(flow, "trajectory", k, t, error) ||
        !fm__flow_check_labels(flow, "trajectory", n, labels, error) ||
        (x0 != NULL && !fm__flow_check_rows(flow, "trajectory: x0", n, x0, error)))
        return FALSE;
    fm_path_interval(flow->run->plugin[FM_KIND_PATH], &t0, &t1);
    g_autofree double *within = g_new(double, k + 1); /* the path's interval may be narrower */
    for (size_t i = 0; i < k; i++)
        within[i] = CLAMP(t[i], t0, t1);
    void *state = fm__need("trajectory", n, D, size, error);
    void *dense = state == NULL ? NULL : fm__need("trajectory", n, k * D, size, error);
    FmSolveStat *stat = dense == NULL ? NULL : fm__need("trajectory", n, 1, sizeof *stat, error);
    const FmIntegration problem = {.flow = flow,
                                   .forward = TRUE,
                                   .n = n,
                                   .labels = labels,
                                   .state = state,
                                   .stat = stat,
                                   .n_out = k,
                                   .t_out = within,
                                   .out = dense};
    const gboolean ok =
        stat != NULL && fm__sample_start(flow, n, D, seed, x0, state, error) && fm__integrate(&problem, error);
    if (ok)
        fm__sample_to_data(flow->run, n * k, D, dense, out);
    fm_free(state);
    fm_free(dense);
    fm_free(stat);
    return ok;
}

/* v (n, D) at one time through the plain plan. */
static gboolean
sample_plain_velocity(FmFlow *flow, size_t n, const void *x, double t, const int *labels, void *v, GError **error)
{
    const FmVelocity *velocity = fm__flow_velocity_plain(flow, error);
    const FmKey key = {0};
    const void *in[FM_MAX_INPUTS] = {NULL};
    void *results[1] = {v};

    if (velocity == NULL)
        return FALSE;
    void *times = fm__need("velocity", n, 1, velocity->size, error);
    gint32 *none = times == NULL ? NULL : fm__need("velocity", n, 1, sizeof *none, error);
    if (none == NULL) {
        fm_free(times);
        return FALSE;
    }
    for (size_t r = 0; r < n; r++) {
        fm_convert(FM_F64, &t, velocity->dtype, (char *)times + r * velocity->size, 1);
        none[r] = -1;
    }
    if (velocity->in_x >= 0)
        in[velocity->in_x] = x;
    if (velocity->in_t >= 0)
        in[velocity->in_t] = times;
    if (velocity->in_y >= 0)
        in[velocity->in_y] = labels != NULL ? labels : none;
    if (velocity->in_none >= 0)
        in[velocity->in_none] = none;
    const gboolean ok = fm_exec_run(velocity->exec, n, in, NULL, NULL, results, key, error);
    fm_free(times);
    fm_free(none);
    return ok;
}

gboolean
fm_flow_velocity(FmFlow *flow, size_t n, const double *x, double t, const int *labels, double *v, double *divergence,
                 GError **error)
{
    const FmRun *run = flow->run;
    const FmDtype dtype = run->config->dtype;
    const size_t D = run->data.D, size = fm_dtype_size(dtype);

    if (!sample_check_times(flow, "velocity", 1, &t, error) ||
        !fm__flow_check_labels(flow, "velocity", n, labels, error) ||
        !fm__flow_check_rows(flow, "velocity", n, x, error))
        return FALSE;
    if (n == 0)
        return TRUE;
    void *xm = fm__need("velocity", n, D, size, error);
    void *vm = xm == NULL ? NULL : fm__need("velocity", n, D, size, error);
    void *div = vm == NULL ? NULL : fm__need("velocity", n, 1, size, error);
    gboolean ok = div != NULL;
    for (size_t i = 0; ok && i < n * D; i++) {
        const double model = (x[i] - run->shift[i % D]) / run->scale[i % D];
        fm_convert(FM_F64, &model, dtype, (char *)xm + i * size, 1);
    }
    if (ok)
        ok = divergence != NULL ? fm__exact_divergence(flow, n, xm, t, labels, vm, div, error)
                                : sample_plain_velocity(flow, n, xm, t, labels, vm, error);
    if (ok) {
        fm_convert(dtype, vm, FM_F64, v, n * D);
        for (size_t i = 0; i < n * D; i++)
            v[i] *= run->scale[i % D];
        if (divergence != NULL)
            fm_convert(dtype, div, FM_F64, divergence, n);
    }
    fm_free(xm);
    fm_free(vm);
    fm_free(div);
    return ok;
}
