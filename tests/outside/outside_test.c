/* outside_test.c: a program outside the tree that tries the plugins beside it through the installed
 * headers and library. Arguments: DIR, which holds the runs `teacher`, `student` and `whitened`. */
#include <fmcore/fmcore.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures;

#define CHECK(what, condition) \
    do { \
        if (!(condition)) { \
            printf("FAIL: %s (%s)\n", what, #condition); \
            failures++; \
        } \
    } while (0)

static void
need(gboolean ok, GError *error)
{
    if (!ok) {
        printf("FAIL: %s\n", error ? error->message : "no reason given");
        exit(1);
    }
}

enum { N = 19, D = 2 };
static const FmDataInfo info = {.ndim = 1, .dim = {D}, .D = D};

/* ---- a composite with its own kernel ---- */

typedef struct Values {
    double v[N * D], dx[N * D], tangent[N * D], dw[32 * (D + 1)];
} Values;

/* Velocity, its gradients in x and in the first weight, and its derivative along x -> e. */
static void
gated(const char *spec, const char *backend, const double *x, Values *out, gboolean *has_kernel)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(FmPlugin) net = fm_plugin_new(FM_KIND_NET, spec, &error);
    g_autoptr(FmPlugin) kernels = fm_backend_new(backend, &error);
    const FmNetInfo net_info = {.data = &info};
    g_autoptr(FmGraph) graph = fm_graph_new();
    FmNode *in = fm_input(graph, "x", 1, 1, info.dim), *t = fm_input(graph, "t", 1, 0, NULL);
    FmNode *e = fm_constant(graph, 1, (const size_t[]){D}, (const double[]){0.385, -1.2});
    FmNode *v, *loss, *d[2], *outputs[4];

    need(net && kernels && fm_net_prepare(net, &net_info, &error), error);
    v = fm_net_velocity(net, graph, &net_info, in, t, NULL);
    loss = fm_sum_batch(fm_sum(fm_square(v), 1, FALSE));
    need(fm_vjp(loss, NULL,
                (FmNode *[]){
                    in, fm_param(graph, "layers.0.weight", 2, (const size_t[]){32, D + 1}, (FmInit){FM_INIT_ZEROS, 0})},
                2, d),
         NULL);
    outputs[0] = v;
    outputs[1] = d[0];
    outputs[2] = fm_jvp(v, in, fm_broadcast(e, fm_node_shape(in)));
    outputs[3] = d[1];
    need(fm_graph_ok(graph, &error), error);
    g_autoptr(FmParams) params = fm_params_new(graph, FM_F64, 5, &error);
    const FmPlanOptions options = {.dtype = FM_F64, .backend = kernels};
    g_autoptr(FmPlan) plan = fm_plan_new(graph, outputs, 4, &options, &error);
    need(plan != NULL, error);
    g_autoptr(FmExec) exec = fm_exec_new(plan, params, 2, &error);
    double times[N];
    const void *inputs[FM_MAX_INPUTS] = {NULL};
    void *results[] = {out->v, out->dx, out->tangent, out->dw};
    g_autofree char *dump = fm_plan_dump(plan);

    for (int i = 0; i < N; i++)
        times[i] = (i + 0.5) / N;
    inputs[fm_plan_input_find(plan, "x")] = x;
    inputs[fm_plan_input_find(plan, "t")] = times;
    need(fm_exec_run(exec, N, inputs, NULL, NULL, results, (FmKey){0}, &error), error);
    *has_kernel = strstr(dump, "outside_softsign") != NULL;
}

static double
gap(const double *a, const double *b, size_t n)
{
    double most = 0.0;

    for (size_t i = 0; i < n; i++)
        most = fmax(most, fabs(a[i] - b[i]));
    return most;
}

static void
composite(void)
{
    static const char *const backends[] = {"cpu", "reference"};
    double x[N * D], moved[N * D];
    Values fused, primitive, ahead, behind;
    gboolean kernel, plain;

    for (int i = 0; i < N * D; i++)
        x[i] = 2.385 * sin(1.1 * i);
    for (int b = 0; b < 2; b++) {
        gated("gated", backends[b], x, &fused, &kernel);
        gated("gated:composite=no", backends[b], x, &primitive, &plain);
        CHECK("the composite's own kernel is planned", kernel && !plain);
        CHECK("kernel and expansion agree", gap(fused.v, primitive.v, N * D) < 1e-13);
        CHECK("its vjp and the expansion's agree", gap(fused.dx, primitive.dx, N * D) < 1e-12);
        CHECK("gradients of weights agree", gap(fused.dw, primitive.dw, 32 * (D + 1)) < 1e-11);
        CHECK("tangents agree", gap(fused.tangent, primitive.tangent, N * D) < 1e-12);
    }
    for (int sign = -1; sign <= 1; sign += 2) {
        for (int i = 0; i < N * D; i++)
            moved[i] = x[i] + sign * 1e-6 * (i % D ? -1.2 : 0.385);
        gated("gated", "cpu", moved, sign < 0 ? &behind : &ahead, &kernel);
    }
    for (int i = 0; i < N * D; i++)
        ahead.v[i] = (ahead.v[i] - behind.v[i]) / 2e-6;
    CHECK("tangents are finite differences", gap(ahead.v, fused.tangent, N * D) < 1e-8);
}

/* ---- a coupling ---- */

static void
coupling(void)
{
    enum { B = 12 };
    g_autoptr(GError) error = NULL;
    g_autoptr(FmPlugin) c = fm_plugin_new(FM_KIND_COUPLING, "by-class:pool=5,classes=3", &error);
    size_t n, i0[B], i1[B];
    double weight[B], x0[5 * B * D], x1[5 * B * D];
    int y1[5 * B];
    gboolean used0[5 * B] = {FALSE}, used1[5 * B] = {FALSE};
    FmPairs pairs = {.B = B, .i0 = i0, .i1 = i1, .weight = weight};

    need(c && fm_coupling_prepare(c, D, &error), error);
    n = fm_coupling_pool_size(c, B);
    CHECK("the pool is larger than the batch", n == 5 * B);
    for (size_t i = 0; i < n; i++)
        y1[i] = (int)(i * i % 3);
    fm_fill_normal_f64((FmKey){.seed = 1}, 0, n, D, x0);
    fm_fill_normal_f64((FmKey){.seed = 2}, 0, n, D, x1);
    const FmPool pool = {.n0 = n, .n1 = n, .D = D, .x0 = x0, .x1 = x1, .y1 = y1};
    CHECK("squares have no remainder 2", !fm_coupling_pair(c, &pool, &pairs, &error));
    g_clear_error(&error);
    for (size_t i = 0; i < n; i++)
        y1[i] = (int)(i * 7 % 3);
    need(fm_coupling_pair(c, &pool, &pairs, &error), error);
    for (size_t b = 0; b < B; b++) {
        CHECK("labels are taken in turn", y1[i1[b]] == (int)(b % 3));
        CHECK("no row is used twice", !used0[i0[b]] && !used1[i1[b]]);
        used0[i0[b]] = used1[i1[b]] = TRUE;
    }
}

/* ---- two nets, one frozen ---- */

static void
distillation(const char *dir)
{
    static const char *const names[] = {"teacher", "student"};
    g_autoptr(GError) error = NULL;
    double x[N * D], v[2][N * D], size = 0.0, apart = 0.0;

    for (int i = 0; i < N * D; i++)
        x[i] = 1.2 * sin(0.9 * i);
    for (int k = 0; k < 2; k++) {
        g_autofree char *run = g_build_filename(dir, names[k], NULL);
        g_autoptr(FmFlow) flow = fm_flow_load(run, &error);

        need(flow && fm_flow_velocity(flow, N, x, 0.4, NULL, v[k], NULL, &error), error);
    }
    for (int i = 0; i < N * D; i++) {
        size += v[0][i] * v[0][i];
        apart += (v[0][i] - v[1][i]) * (v[0][i] - v[1][i]);
    }
    printf("the student is %.1f %% of the teacher away\n", 100 * sqrt(apart / size));
    CHECK("the student has learned the teacher's field", sqrt(apart / size) < 0.25);
    CHECK("the student is another net", apart > 0);
}

/* The teacher's weights in the student's checkpoint are the teacher's own; its model has none. */
static void
frozen_weights(const char *dir)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *own = g_build_filename(dir, "teacher", "model.safetensors", NULL);
    g_autofree char *copy = g_build_filename(dir, "student", "checkpoint.safetensors", NULL);
    g_autofree char *model = g_build_filename(dir, "student", "model.safetensors", NULL);
    FmParams *params[2] = {NULL, NULL};
    g_autofree char *text = NULL;
    gsize length = 0;

    for (int k = 0; k < 2; k++) {
        g_autoptr(FmGraph) graph = fm_graph_new();
        g_autoptr(FmPlugin) net = fm_plugin_new(FM_KIND_NET, "mlp:width=16,depth=2", &error);
        const FmNetInfo net_info = {.data = &info};

        need(net && fm_net_prepare(net, &net_info, &error), error);
        if (k == 1)
            fm_graph_set_prefix(graph, "raw/teacher/");
        fm_net_velocity(net, graph, &net_info, fm_input(graph, "x", 1, 1, info.dim), fm_input(graph, "t", 1, 0, NULL),
                        NULL);
        params[k] = fm_params_new(graph, FM_F32, 77, &error);
        need(params[k] && fm_params_load(params[k], "", k ? copy : own, &error), error);
    }
    CHECK("the teacher was frozen",
          fm_params_size(params[0]) == fm_params_size(params[1]) &&
              memcmp(fm_params_block(params[0]), fm_params_block(params[1]), 4 * fm_params_size(params[0])) == 0);
    need(g_file_get_contents(model, &text, &length, &error), error);
    CHECK("the model holds the student alone", g_strstr_len(text, (gssize)length, "teacher/") == NULL);
    fm_params_free(params[0]);
    fm_params_free(params[1]);
}

/* ---- buffers ---- */

static void
buffers(const char *dir)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *model = g_build_filename(dir, "whitened", "model.safetensors", NULL);
    g_autoptr(FmPlugin) net = fm_plugin_new(FM_KIND_NET, "whitened", &error);
    g_autoptr(FmGraph) graph = fm_graph_new();
    const FmNetInfo net_info = {.data = &info};

    need(net && fm_net_prepare(net, &net_info, &error), error);
    fm_net_velocity(net, graph, &net_info, fm_input(graph, "x", 1, 1, info.dim), fm_input(graph, "t", 1, 0, NULL),
                    NULL);
    g_autoptr(FmParams) params = fm_params_new(graph, FM_F64, 0, &error);
    need(params != NULL, error);
    const double *mean = fm_params_data(params, fm_params_find(params, "norm.mean"));
    const double *sd = fm_params_data(params, fm_params_find(params, "norm.sd"));
    const double *f = fm_params_data(params, fm_params_find(params, "frequencies"));
    CHECK("buffers begin as they were declared", mean[0] == 7.0 && sd[1] == 7.0);
    CHECK("buffers are no weights", !fm_params_find(params, "norm.mean")->trainable &&
                                        fm_params_number(params) == 24 * (2 + 1 + 12) + 24 + 24 * 2 + 2);
    const float first = (float)f[0];
    need(fm_params_load(params, "", model, &error), error);
    for (int d = 0; d < D; d++)
        CHECK("the saved buffers are the calibrated ones",
              fabs(mean[d]) < 0.5 && mean[d] != 0.0 && fabs(sd[d] - 2.0) < 0.5);
    CHECK("random buffers follow the seed and are not trained", f[0] == first);
    CHECK("a missing tensor is refused", !fm_params_load(params, "norm.", model, &error));
    CHECK("the reason is a sentence", strstr(error->message, "has no tensor 'mean'") != NULL);
}

int
main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    composite();
    coupling();
    distillation(argv[1]);
    frozen_weights(argv[1]);
    buffers(argv[1]);
    return failures != 0;
}
