/* cmd_selftest.c: prove this installation on closed forms. */
#include "cli/cli.h"

#include <math.h>
#include <stdio.h>

/* ---- solvers, on dx/dt = x cos t, x(0) = 1: x = exp(sin t) ---- */

static gboolean
growth_eval(void *ctx, size_t n, const size_t *row, const double *t, const void *x, void *dxdt)
{
    for (size_t i = 0; i < n; i++)
        ((double *)dxdt)[i] = ((const double *)x)[i] * cos(t[i]);
    return TRUE;
}

/* Error at t = 1 when [0, 1] is cut in `parts` and each is one call of fm_solve(); NAN: failed. */
static double
solve_error(const FmPlugin *solver, int parts)
{
    FmSolve solve = {.solver = solver, .field = {.eval = growth_eval}, .dtype = FM_F64, .n = 1, .D = 1, .t1 = 1};
    void *work = fm_alloc(fm_solve_work(&solve));
    double x = 1;
    FmSolveStat stat;

    for (int i = 0; i < parts; i++) {
        solve.t0 = (double)i / parts;
        solve.t1 = (double)(i + 1) / parts;
        if (!work || !fm_solve(&solve, &x, &stat, work) || stat.status != FM_SOLVE_OK)
            x = NAN;
    }
    fm_free(work);
    return fabs(x - exp(sin(1.0)));
}

/* The error with steps of 1 / parts; an adaptive solver is held to one step per part. */
static gboolean
step_error(const FmPluginDesc *desc, gboolean adaptive, int parts, double *out, GError **error)
{
    g_autofree char *spec = adaptive
                                ? g_strdup_printf("%s:rtol=0.5,atol=1000,step_first=%.17g", desc->name, 1.0 / parts)
                                : g_strdup_printf("%s:step=%.17g", desc->name, 1.0 / parts);
    g_autoptr(FmPlugin) solver = fm_plugin_new(FM_KIND_SOLVER, spec, error);

    if (!solver)
        return FALSE;
    *out = solve_error(solver, parts);
    return TRUE;
}

static gboolean
check_solver(GArray *checks, const FmPluginDesc *desc, GError **error)
{
    g_autoptr(FmPlugin) plain = fm_plugin_new(FM_KIND_SOLVER, desc->name, error), tight = NULL;
    g_autofree char *name = g_strdup_printf("order of %s", desc->name);
    g_autofree char *accuracy = g_strdup_printf("error of %s at rtol 1e-6", desc->name);
    g_autofree char *spec = g_strdup_printf("%s:rtol=1e-6,atol=1e-6", desc->name);
    double coarse, fine;

    if (!plain)
        return FALSE;
    /* few steps where many would leave nothing but rounding */
    const int parts = fm_solver_tableau(plain)->order > 5 ? 3 : 16;
    if (!step_error(desc, fm_solver_is_adaptive(plain), parts, &coarse, error) ||
        !step_error(desc, fm_solver_is_adaptive(plain), 2 * parts, &fine, error))
        return FALSE;
    checks_add(checks, name, log2(coarse / fine), fm_solver_tableau(plain)->order, 0.3);
    if (!fm_solver_is_adaptive(plain))
        return TRUE;
    if (!(tight = fm_plugin_new(FM_KIND_SOLVER, spec, error)))
        return FALSE;
    checks_add(checks, accuracy, solve_error(tight, 1), 0, 1e-4);
    return TRUE;
}

static gboolean
check_solvers(GArray *checks, FmKey key, GError **error)
{
    g_autoptr(FmPlugin) fine = fm_plugin_new(FM_KIND_SOLVER, "dopri5:rtol=1e-9,atol=1e-9", error);

    fm_registry_load_all();
    if (!fine)
        return FALSE;
    for (size_t i = 0; i < fm_registry_count(FM_KIND_SOLVER); i++)
        if (!check_solver(checks, fm_registry_nth(FM_KIND_SOLVER, i), error))
            return FALSE;
    checks_add(checks, "error of dopri5 at rtol 1e-9", solve_error(fine, 1), 0, 1e-7);
    return TRUE;
}

/* ---- derivatives, on a small random mlp in two dimensions ---- */

enum { ROWS = 4, MAX_PARAMS = 64 };

typedef struct Net {
    FmPlugin *plugin;
    FmGraph *graph;
    FmParams *params;
    FmPlan *plan;
    FmExec *exec;
    FmNode *x, *v;
} Net;

static void
net_clear(Net *net)
{
    fm_exec_free(net->exec);
    fm_plan_free(net->plan);
    fm_params_free(net->params);
    fm_graph_free(net->graph);
    fm_plugin_free(net->plugin);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Net, net_clear)

/* The net's velocity as a graph and its parameters, drawn anew: no layer starts at zero. */
static gboolean
net_build(Net *net, FmKey key, GError **error)
{
    static const FmDataInfo data = {.ndim = 1, .dim = {2}, .D = 2};
    const FmNetInfo info = {.data = &data};
    FmNode *t;

    if (!(net->plugin = fm_plugin_new(FM_KIND_NET, "mlp:width=16,depth=2", error)) ||
        !fm_net_prepare(net->plugin, &info, error))
        return FALSE;
    net->graph = fm_graph_new();
    net->x = fm_input(net->graph, "x", 1, 1, data.dim);
    t = fm_input(net->graph, "t", 1, 0, NULL);
    net->v = fm_net_velocity(net->plugin, net->graph, &info, net->x, t, NULL);
    if (!fm_graph_ok(net->graph, error) || !(net->params = fm_params_new(net->graph, FM_F64, key.seed, error)))
        return FALSE;
    for (size_t i = 0; i < fm_params_count(net->params); i++) {
        const FmParam *p = fm_params_nth(net->params, i);
        double *w = fm_params_data(net->params, p);

        fm_fill_normal_f64(key, i, 1, p->size, w);
        for (size_t j = 0; j < p->size; j++)
            w[j] *= 0.5;
    }
    return TRUE;
}

static gboolean
net_compile(Net *net, FmNode *const *outputs, size_t n, GError **error)
{
    const FmPlanOptions options = {.dtype = FM_F64};

    return fm_graph_ok(net->graph, error) && (net->plan = fm_plan_new(net->graph, outputs, n, &options, error)) &&
           (net->exec = fm_exec_new(net->plan, net->params, 1, error));
}

static gboolean
net_run(Net *net, const double *x, void *const *out, FmKey key, GError **error)
{
    static const double t[ROWS] = {0.1, 0.35, 0.6, 0.85};
    double e[ROWS * 4];
    const void *in[3] = {NULL};
    const double *const value[3] = {x, t, e};
    static const char *const names[3] = {"x", "t", "e"};

    for (size_t i = 0; i < ROWS * 4; i++)
        e[i] = i % 4 == 0 || i % 4 == 3; /* the identity, row after row */
    for (size_t i = 0; i < 3; i++)
        if (fm_plan_input_find(net->plan, names[i]) >= 0)
            in[fm_plan_input_find(net->plan, names[i])] = value[i];
    return fm_exec_run(net->exec, ROWS, in, NULL, NULL, out, key, error);
}

static gboolean
check_divergence(GArray *checks, FmKey key, GError **error)
{
    const double h = 1e-5;
    const size_t two = 2;
    g_auto(Net) net = {0};
    FmNode *e, *je, *outputs[2];
    double x[2 * ROWS], moved[2 * ROWS], v[2][2 * ROWS], div[ROWS], unused[ROWS], expected = 0;

    if (!net_build(&net, key, error))
        return FALSE;
    e = fm_input(net.graph, "e", 2, 1, &two);
    je = fm_jvp(net.v, net.x, e);
    outputs[0] = net.v;
    outputs[1] = fm_sum_rows(fm_sum(fm_mul(e, je), 1, FALSE));
    fm_fill_normal_f64(key, 1000, ROWS, 2, x);
    if (!net_compile(&net, outputs, 2, error) || !net_run(&net, x, (void *[]){v[0], div}, key, error))
        return FALSE;
    for (size_t d = 0; d < 2; d++) {
        for (int side = 0; side < 2; side++) {
            for (size_t i = 0; i < 2 * ROWS; i++)
                moved[i] = x[i] + (i % 2 == d ? (side ? h : -h) : 0);
            if (!net_run(&net, moved, (void *[]){v[side], unused}, key, error))
                return FALSE;
        }
        for (size_t i = 0; i < ROWS; i++)
            expected += (v[1][2 * i + d] - v[0][2 * i + d]) / (2 * h);
    }
    checks_add(checks, "divergence of a random mlp", div[0] + div[1] + div[2] + div[3], expected,
               1e-6 * MAX(1, fabs(expected)));
    return TRUE;
}

/* outputs[0]: the loss; then its gradient in each trainable parameter it depends on (used). */
static size_t
gradient_outputs(Net *net, FmNode **outputs, const FmParam **used)
{
    FmNode *wrt[MAX_PARAMS], *d[MAX_PARAMS] = {NULL};
    const FmParam *p[MAX_PARAMS];
    size_t n = 0, n_used = 0;

    outputs[0] = fm_sum_batch(fm_sum(fm_square(net->v), 1, FALSE));
    for (size_t i = 0; i < fm_params_count(net->params) && n < MAX_PARAMS; i++) {
        p[n] = fm_params_nth(net->params, i);
        if (p[n]->trainable) {
            wrt[n] = fm_param(net->graph, p[n]->name, p[n]->ndim, p[n]->dim, (FmInit){0});
            n++;
        }
    }
    fm_vjp(outputs[0], NULL, wrt, n, d); /* an error stays in the graph */
    for (size_t i = 0; i < n; i++)
        if (d[i]) {
            used[n_used++] = p[i];
            outputs[n_used] = d[i];
        }
    return n_used;
}

/* w += h times a unit direction; the result: gradient . direction. */
static double
move_weights(Net *net, const FmParam *const *used, void *const *grad, size_t n, FmKey key, double h)
{
    const double unit = 1 / sqrt((double)fm_params_number(net->params));
    double dot = 0;

    for (size_t i = 0; i < n; i++) {
        g_autofree double *d = g_new(double, used[i]->size);
        double *w = fm_params_data(net->params, used[i]);

        fm_fill_rademacher_f64(key, 2000 + i, 1, used[i]->size, d);
        for (size_t j = 0; j < used[i]->size; j++) {
            w[j] += h * unit * d[j];
            dot += ((double *)grad[i])[j] * unit * d[j];
        }
    }
    fm_exec_refresh(net->exec);
    return dot;
}

static gboolean
check_gradient(GArray *checks, FmKey key, GError **error)
{
    const double h = 1e-5;
    g_auto(Net) net = {0};
    FmNode *outputs[MAX_PARAMS + 1];
    const FmParam *used[MAX_PARAMS];
    void *out[MAX_PARAMS + 1];
    const double step[3] = {h, -2 * h, h};
    double x[2 * ROWS], loss, at[3], slope[3];
    gboolean ok = TRUE;
    size_t n;

    if (!net_build(&net, key, error))
        return FALSE;
    n = gradient_outputs(&net, outputs, used);
    if (!net_compile(&net, outputs, n + 1, error))
        return FALSE;
    fm_fill_normal_f64(key, 1000, ROWS, 2, x);
    out[0] = &loss;
    for (size_t i = 0; i < n; i++)
        out[i + 1] = g_new0(double, used[i]->size);
    for (int k = 0; ok && k < 3; k++) {
        ok = net_run(&net, x, out, key, error);
        at[k] = loss;
        slope[k] = move_weights(&net, used, out + 1, n, key, step[k]);
    }
    for (size_t i = 0; i < n; i++)
        g_free(out[i + 1]);
    if (ok)
        checks_add(checks, "gradient of a random mlp", slope[0], (at[1] - at[2]) / (2 * h),
                   1e-6 * MAX(1, fabs(slope[0])));
    return ok;
}

/* ---- random numbers and estimates ---- */

static gboolean
check_philox(GArray *checks, FmKey key, GError **error)
{
    static const guint32 known[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}, zero[4];
    guint32 out[4], equal = 0;

    fm_philox(zero, zero, out);
    for (int i = 0; i < 4; i++)
        equal += out[i] == known[i];
    checks_add(checks, "words of Philox 4x32-10 as published", equal, 4, 0);
    return TRUE;
}

static gboolean
check_knn(GArray *checks, FmKey key, GError **error)
{
    const size_t n = 4000;
    g_autoptr(FmPlugin) knn = fm_plugin_new(FM_KIND_DIVERGENCE, "knn-kl", error);
    g_autofree double *x = g_new(double, 4 * n);
    const FmSamples p = {.n = n, .D = 2, .x = x}, q = {.n = n, .D = 2, .x = x + 2 * n};
    FmEstimate e = {0};

    fm_fill_normal_f64(key, 3000, 2 * n, 2, x);
    for (size_t i = 2 * n; i < 4 * n; i++)
        x[i] += 0.5;
    if (!knn || !fm_divergence_estimate(knn, &p, &q, key, 1, &e, error))
        return FALSE;
    checks_add(checks, "knn-kl of two Gaussians", e.value, 0.25, 4 * e.se);
    return TRUE;
}

static gboolean
check_entropy(GArray *checks, FmKey key, GError **error)
{
    const size_t n = 20000;
    g_autoptr(FmPlugin) data = fm_plugin_new(FM_KIND_DATASET, "8gaussians", error);
    g_autofree double *x = g_new(double, 2 * n), *log_p = g_new(double, n);
    FmDataInfo info;
    double mean = 0, square = 0;

    if (!data || !fm_dataset_open(data, &info, error) || !fm_dataset_draw(data, key, 0, n, x, NULL, error))
        return FALSE;
    fm_dataset_log_density(data, n, x, log_p);
    for (size_t i = 0; i < n; i++) {
        mean -= log_p[i] / (double)n;
        square += log_p[i] * log_p[i] / (double)n;
    }
    checks_add(checks, "entropy of 8gaussians", mean, fm_dataset_entropy(data),
               4 * sqrt((square - mean * mean) / (double)n));
    return TRUE;
}

int
cmd_selftest(Cli *cli, GError **error)
{
    static gboolean (*const all[])(GArray *, FmKey, GError **) = {check_philox,   check_solvers, check_divergence,
                                                                  check_gradient, check_knn,     check_entropy};
    const FmKey key = {.seed = (guint64)MAX(cli->config->seed, 0), .stream = FM_STREAM_USER};
    g_autoptr(GArray) checks = checks_new();
    g_autoptr(JsonBuilder) json = json_builder_new();
    g_autofree char *text = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(all); i++)
        if (!all[i](checks, key, error))
            return -1;
    out_header(json, cli, "ok");
    checks_json(json, checks);
    text = out_finish(json);
    if (cli->json)
        puts(text);
    else
        checks_print(checks);
    return checks_hold(checks) ? 0 : 3;
}
