/* ffi_test.c: foreign fields and data against their closed forms, in every way of calling them, and
 * the sentences of those that cannot be called. The library is field.c, built without our headers. */
#include "suite.h"
#include "flow/run.h"

#include <math.h>
#include <string.h>

#define LIBRARY FM_TEST_BUILDDIR "/tests/plugins/ffi/.libs/field.so"
#define FFI "ffi:library=" LIBRARY

static const double mean[2] = {0.7, -1.3}, sd[2] = {1.6, 0.45};
static const char data[] = FFI ",symbol=rows_from_normals,args=[n,z,x],noise=2,log_density=log_density";

static FmRun *
try_run(const char *dataset, const char *net, FmDtype dtype, GError **error)
{
    g_autoptr(FmConfig) c = fm_config_new();

    c->spec[FM_KIND_DATASET] = g_strdup(dataset);
    c->spec[FM_KIND_NET] = g_strdup(net);
    c->spec[FM_KIND_SOLVER] = g_strdup("dopri5:rtol=1e-9,atol=1e-9");
    c->dtype = dtype;
    c->threads = 2;
    c->steps = 3;
    c->batch_size = 50;
    return fm_run_new(c, error);
}

static FmRun *
run_of(const char *dataset, const char *net, FmDtype dtype)
{
    g_autoptr(GError) error = NULL;
    FmRun *run = try_run(dataset, net, dtype, &error);

    ck_assert_msg(run != NULL, "%s", error ? error->message : "");
    return run;
}

static double
slope(double t, int k)
{
    const double s2 = sd[k] * sd[k];

    return (t * s2 - (1 - t)) / (t * t * s2 + (1 - t) * (1 - t));
}

/* ---- fields ---- */

static const struct {
    const char *net;
    double tolerance; /* of the values: that of the function's own type */
} fields[] = {
    {FFI ",symbol=field,jvp=field_product,vjp=field_product", 1e-13},
    {FFI ",symbol=field,args=\"n, d, t, x, v\",thread_safe=yes", 1e-13},
    {FFI ",symbol=field_f32,args=[v:f32,time:f32,x:f32,n:size_t,1.0],returns=status", 2e-6},
    {FFI ",symbol=field_f32,real=f32,integer=i64,args=[v,time,x,n,1.0:f64],returns=status", 2e-6},
    {FFI ",symbol=field_columns,args=[n:long,&time,x,v],layout=columns", 1e-13},
    {FFI ",symbol=field_point,args=[x0,x1,t,v0,v1],per=sample", 1e-13},
};

START_TEST(every_way_of_calling_gives_the_field)
{
    enum { N = 70 };
    FmRun *run = run_of(data, fields[_i].net, FM_F64);
    g_autoptr(FmFlow) flow = fm_flow_from_run(run, NULL);
    g_autoptr(GError) error = NULL;
    double x[2 * N], v[2 * N];

    for (int i = 0; i < 2 * N; i++)
        x[i] = 2.385 * sin(1.7 * i);
    for (double t = 0.0; t <= 1.0; t += 0.2385) {
        ck_assert(fm_flow_velocity(flow, N, x, t, NULL, v, NULL, &error));
        for (int i = 0; i < N; i++)
            for (int k = 0; k < 2; k++)
                ck_assert_double_eq_tol(v[2 * i + k], mean[k] + slope(t, k) * (x[2 * i + k] - t * mean[k]),
                                        20 * fields[_i].tolerance);
    }
    fm_flow_free(g_steal_pointer(&flow));
    fm_run_free(run);
}
END_TEST

/* Adaptive steps give each sample its own time, which functions of one time for all must respect:
 * x(1) = m + s x(0) exactly. */
START_TEST(samples_follow_the_closed_form)
{
    enum { N = 100 };
    FmRun *run = run_of(data, fields[_i].net, FM_F64);
    g_autoptr(FmFlow) flow = fm_flow_from_run(run, NULL);
    g_autoptr(GError) error = NULL;
    double x0[2 * N], x[2 * N];

    for (int i = 0; i < 2 * N; i++)
        x0[i] = 3.0 * sin(0.77 * i * i);
    ck_assert_msg(fm_flow_sample(flow, N, 0, x0, NULL, x, NULL, NULL, NULL, &error), "%s", error ? error->message : "");
    for (int i = 0; i < N; i++)
        for (int k = 0; k < 2; k++)
            ck_assert_double_eq_tol(x[2 * i + k], mean[k] + sd[k] * x0[2 * i + k], 1e-7 + 10 * fields[_i].tolerance);
    fm_flow_free(g_steal_pointer(&flow));
    fm_run_free(run);
}
END_TEST

START_TEST(products_make_divergence_and_density_exact)
{
    enum { N = 40 };
    FmRun *run = run_of(data, fields[0].net, _i == 0 ? FM_F32 : FM_F64);
    const double tolerance = _i == 0 ? 1e-4 : 1e-7;
    g_autoptr(FmFlow) flow = fm_flow_from_run(run, NULL);
    g_autoptr(GError) error = NULL;
    double x[2 * N], v[2 * N], div[N], log_q[N], log_p[N];

    ck_assert(fm_flow_set_solver(flow, _i == 0 ? "dopri5:rtol=1e-6,atol=1e-6" : "dopri5:rtol=1e-9,atol=1e-9", &error));
    for (int i = 0; i < 2 * N; i++)
        x[i] = mean[i % 2] + sd[i % 2] * sin(1.3 * i);
    ck_assert(fm_flow_velocity(flow, N, x, 0.385, NULL, v, div, &error));
    ck_assert_msg(fm_flow_log_density(flow, N, x, NULL, NULL, log_q, NULL, NULL, &error), "%s",
                  error ? error->message : "");
    fm_dataset_log_density(run->plugin[FM_KIND_DATASET], N, x, log_p);
    for (int i = 0; i < N; i++) {
        ck_assert_double_eq_tol(div[i], slope(0.385, 0) + slope(0.385, 1), _i == 0 ? 1e-6 : 1e-13);
        ck_assert_double_eq_tol(log_q[i], log_p[i], tolerance);
    }
    fm_flow_free(g_steal_pointer(&flow));
    fm_run_free(run);
}
END_TEST

START_TEST(what_is_missing_is_refused)
{
    FmRun *run = run_of(data, FFI ",symbol=field", FM_F64);
    g_autoptr(FmFlow) flow = fm_flow_from_run(run, NULL);
    g_autoptr(GError) no_jvp = NULL, no_training = NULL;
    FmTrainResult result;
    double x[2] = {0.3, 0.4}, log_q;

    ck_assert(!fm_flow_log_density(flow, 1, x, NULL, NULL, &log_q, NULL, NULL, &no_jvp));
    ck_assert(g_error_matches(no_jvp, FM_ERROR, FM_ERROR_UNSUPPORTED));
    ck_assert(strstr(no_jvp->message, "Jacobian-vector product") != NULL);
    ck_assert(!fm_run_train(run, NULL, NULL, &result, &no_training));
    ck_assert(g_error_matches(no_training, FM_ERROR, FM_ERROR_UNSUPPORTED));
    ck_assert(strstr(no_training->message, "no weights") != NULL);
    g_array_unref(result.loss_curve);
    fm_flow_free(g_steal_pointer(&flow));
    fm_run_free(run);
}
END_TEST

START_TEST(gradients_pass_through_the_vjp)
{
    g_autoptr(GError) error = NULL;

    for (int with = 0; with < 2; with++) {
        g_autoptr(FmPlugin) net = fm_plugin_new(FM_KIND_NET, with ? fields[0].net : FFI ",symbol=field", NULL);
        const FmDataInfo info = {.ndim = 1, .dim = {2}, .D = 2};
        const FmNetInfo net_info = {.data = &info};
        g_autoptr(FmGraph) graph = fm_graph_new();
        FmNode *x = fm_input(graph, "x", 1, 1, info.dim), *t = fm_input(graph, "t", 1, 0, NULL);
        FmNode *y, *dx = NULL;
        const FmPlanOptions options = {.dtype = FM_F64};

        ck_assert(fm_net_prepare(net, &net_info, &error));
        y = fm_sum(fm_net_velocity(net, graph, &net_info, x, t, NULL), 1, FALSE);
        ck_assert(fm_vjp(fm_sum_batch(y), NULL, &x, 1, &dx) == with);
        if (!with) {
            ck_assert(!fm_graph_ok(graph, &error) && strstr(error->message, "vector-Jacobian"));
            g_clear_error(&error);
            continue;
        }
        g_autoptr(FmPlan) plan = fm_plan_new(graph, &dx, 1, &options, &error);
        g_autoptr(FmExec) exec = fm_exec_new(plan, NULL, 1, &error);
        const double points[6] = {1, 2, 3, 4, 5, 6}, times[3] = {0.1, 0.5, 0.9};
        const void *in[2] = {NULL};
        double g[6];
        void *out[] = {g};

        for (size_t i = 0; i < fm_plan_n_inputs(plan); i++)
            in[i] = strcmp(fm_plan_input_name(plan, i), "x") == 0 ? points : times;
        ck_assert(fm_exec_run(exec, 3, in, NULL, NULL, out, (FmKey){0}, &error));
        for (int i = 0; i < 6; i++)
            ck_assert_double_eq_tol(g[i], slope(times[i / 2], i % 2), 1e-14);
        fm_exec_free(g_steal_pointer(&exec));
        fm_plan_free(g_steal_pointer(&plan));
    }
}
END_TEST

/* ---- data ---- */

static FmPlugin *
open_data(const char *spec, FmDataInfo *info)
{
    g_autoptr(GError) error = NULL;
    FmPlugin *p = fm_plugin_new(FM_KIND_DATASET, spec, &error);

    ck_assert_msg(p && fm_dataset_open(p, info, &error), "%s", error ? error->message : "");
    return p;
}

static const char *const draws[] = {
    FFI ",symbol=rows_from_normals,args=[n,z,x],noise=2",
    FFI ",symbol=rows_from_seed,args=[n,d,seed:long,row:long,x,y],classes=2",
    FFI ",symbol=one_from_seed,args=[seed,x:f32],per=sample",
    FFI ",symbol=rows_by_number,rows=200",
};

/* A row is a function of (key, row): it does not depend on the batch in which it is drawn. */
START_TEST(rows_do_not_depend_on_their_batch)
{
    enum { N = 60 };
    FmDataInfo info;
    g_autoptr(FmPlugin) p = open_data(draws[_i], &info);
    const FmKey key = {.seed = 3, .stream = FM_STREAM_DATA, .step = 17};
    double x[2 * N], part[2 * N], other[2 * N], sum = 0;
    int y[N];

    ck_assert(fm_dataset_draw(p, key, 1000, N, x, info.classes ? y : NULL, NULL));
    for (size_t r = 0; r < N; r += 7)
        ck_assert(fm_dataset_draw(p, key, 1000 + r, MIN(7, N - r), part + 2 * r, NULL, NULL));
    ck_assert_mem_eq(x, part, sizeof x);
    ck_assert(fm_dataset_draw(p, (FmKey){.seed = 4, .stream = FM_STREAM_DATA, .step = 17}, 1000, N, other, NULL, NULL));
    for (int i = 0; i < 2 * N; i++)
        sum += fabs(x[i] - other[i]);
    ck_assert(sum > 1.0);
    for (int i = 0; info.classes && i < N; i++)
        ck_assert_int_eq(y[i], x[2 * i] > 0.5);
}
END_TEST

START_TEST(values_are_the_functions)
{
    FmDataInfo info;
    const FmKey key = {.seed = 3, .stream = FM_STREAM_DATA, .step = 17};
    g_autoptr(FmPlugin) normals = open_data(data, &info);
    g_autoptr(FmPlugin) table = open_data(draws[3], &info);
    const size_t rows[3] = {199, 0, 17};
    double x[6], log_p;

    ck_assert(info.rows == 200 && info.D == 2 && !fm_dataset_has_density(table));
    ck_assert(fm_dataset_read(table, rows, 3, x, NULL, NULL));
    for (int i = 0; i < 6; i++)
        ck_assert_double_eq_tol(x[i], sin(0.37 * (double)rows[i / 2] + i % 2), 1e-15);
    ck_assert(fm_dataset_draw(normals, key, 5, 3, x, NULL, NULL));
    for (int i = 0; i < 3; i++) {
        FmRng rng = fm_rng(key, 5 + (guint64)i);

        for (int skip = 0; skip < 2; skip++)
            fm_rng_u32(&rng); /* the seed */
        for (int skip = 0; skip < 2; skip++)
            fm_rng_uniform(&rng); /* u */
        for (int k = 0; k < 2; k++)
            ck_assert_double_eq_tol(x[2 * i + k], mean[k] + sd[k] * fm_rng_normal(&rng), 1e-15);
    }
    ck_assert(fm_dataset_has_density(normals));
    fm_dataset_log_density(normals, 1, mean, &log_p);
    ck_assert_double_eq_tol(log_p, -log(2 * G_PI * sd[0] * sd[1]), 1e-14);
}
END_TEST

START_TEST(a_net_learns_foreign_data)
{
    FmRun *run = run_of(draws[_i], "mlp:width=8,depth=1", FM_F32);
    g_autoptr(GError) error = NULL;
    FmTrainResult result;

    ck_assert_msg(fm_run_train(run, NULL, NULL, &result, &error), "%s", error ? error->message : "");
    ck_assert(isfinite(result.loss_last));
    g_array_unref(result.loss_curve);
    fm_run_free(run);
}
END_TEST

/* ---- what cannot be called ---- */

#define NET "mlp:width=4,depth=1"
static const struct {
    const char *dataset, *net, *says;
    int code;
} refused[] = {
    {data, "ffi:symbol=field", "it needs library=FILE and symbol=NAME", FM_ERROR_OPTION},
    {data, "ffi:library=/nowhere/field.so,symbol=field", "'/nowhere/field.so' cannot be read", FM_ERROR_FILE},
    {data, "ffi:library=nowhere.so,symbol=field", "a path has a '/'", FM_ERROR_FILE},
    {data, "ffi:library=" FM_TEST_SRCDIR "/README.md,symbol=field", "README.md", FM_ERROR_FILE},
    {data, FFI ",symbol=fields", "has no function 'fields'", FM_ERROR_FILE},
    {data, FFI ",symbol=not_a_function", "has no function 'not_a_function'", FM_ERROR_FILE},
    {data, FFI ",symbol=field,args=[n,q,x]", "is called 'q', expected", FM_ERROR_OPTION},
    {data, FFI ",symbol=field,args=[n,d,t,x]", "writes nothing: 'v'", FM_ERROR_OPTION},
    {data, FFI ",symbol=field,args=[]", "writes nothing", FM_ERROR_OPTION},
    {data, FFI ",symbol=field,args=[n,,v]", "empty argument", FM_ERROR_OPTION},
    {data, FFI ",symbol=field,args=[n:f16,v]", "is of type 'f16'", FM_ERROR_OPTION},
    {data, FFI ",symbol=field,args=[&x,v]", "is a pointer already", FM_ERROR_OPTION},
    {data, FFI ",symbol=field,args=[x,v,v:f32]", "another type than before", FM_ERROR_OPTION},
    {data, FFI ",symbol=field,args=[1.2.3,v]", "'1.2.3'", FM_ERROR_OPTION},
    {data, FFI ",symbol=field,args=[x0,v]", "per=sample", FM_ERROR_OPTION},
    {data, FFI ",symbol=field,returns=value,args=[x]", "per=sample", FM_ERROR_OPTION},
    {data, FFI ",symbol=field_point,per=sample,args=[x0,x2,t,v0,v1]", "column 2 of 2", FM_ERROR_OPTION},
    {data, FFI ",symbol=field_point,per=sample,returns=value,args=[x0]", "has 2 values", FM_ERROR_OPTION},
    {data, FFI ",symbol=field,jvp=none_such", "has no function 'none_such'", FM_ERROR_FILE},
    {FFI ",symbol=rows_fail,args=[n,x]", NET, "need 'seed', 'u' or 'z'", FM_ERROR_OPTION},
    {FFI ",symbol=rows_fail,args=[n,z,x]", NET, "expected noise=N", FM_ERROR_OPTION},
    {FFI ",symbol=rows_fail,args=[n,seed,x]", NET, "needs 'row'", FM_ERROR_OPTION},
    {FFI ",symbol=rows_fail,args=[n,rows,x]", NET, "'rows' is for finite data", FM_ERROR_OPTION},
    {FFI ",symbol=rows_fail,args=[n,seed,x],rows=9", NET, "finite data take no seed", FM_ERROR_OPTION},
    {FFI ",symbol=rows_fail,args=[n,x],rows=9", NET, "finite data need 'rows'", FM_ERROR_OPTION},
    {FFI ",symbol=rows_fail,args=[n,z,y],noise=2", NET, "'x' is not among", FM_ERROR_OPTION},
    {FFI ",symbol=rows_fail,args=[n,z,x],noise=2,classes=3", NET, "'y' is not among", FM_ERROR_OPTION},
    {FFI ",symbol=rows_fail,args=[n,z,x],noise=2,shape=[1,2]", NET, "[D] or [H,W,C]", FM_ERROR_OPTION},
    {FFI ",symbol=rows_fail,args=[n,z,x],noise=2,returns=status", NET, "not finite", FM_ERROR_DATA},
    {FFI ",symbol=rows_not_finite,args=[n,z,x],noise=2", NET, "not finite", FM_ERROR_DATA},
    {FFI ",symbol=wrong_labels,args=[n,z,x,y],noise=2,classes=3", NET, "gave label 5, expected 0 to 2", FM_ERROR_DATA},
};

START_TEST(what_cannot_be_called_is_refused)
{
    g_autoptr(GError) error = NULL;

    ck_assert(try_run(refused[_i].dataset, refused[_i].net, FM_F64, &error) == NULL);
    ck_assert_msg(strstr(error->message, refused[_i].says) != NULL, "%s", error->message);
    ck_assert_msg(g_error_matches(error, FM_ERROR, refused[_i].code), "%s", error->message);
}
END_TEST

START_TEST(a_failing_field_ends_a_solve)
{
    FmRun *run = run_of(data, FFI ",symbol=field_fails,returns=status", FM_F64);
    g_autoptr(FmFlow) flow = fm_flow_from_run(run, NULL);
    g_autoptr(GError) error = NULL;
    double x[2];

    ck_assert(!fm_flow_sample(flow, 1, 0, NULL, NULL, x, NULL, NULL, NULL, &error));
    ck_assert(g_error_matches(error, FM_ERROR, FM_ERROR_DIVERGED));
    fm_flow_free(g_steal_pointer(&flow));
    fm_run_free(run);
}
END_TEST

/* A function of libm, which nobody wrote for this. */
START_TEST(libm_is_a_field)
{
    FmRun *run =
        run_of("gaussian:dim=1", "ffi:library=libm.so.6,symbol=sin,args=[x0],per=sample,returns=value", FM_F64);
    g_autoptr(FmFlow) flow = fm_flow_from_run(run, NULL);
    g_autoptr(GError) error = NULL;
    double x[3] = {0.3, 1.7, -2.0}, v[3];

    ck_assert(fm_flow_velocity(flow, 3, x, 0.5, NULL, v, NULL, &error));
    for (int i = 0; i < 3; i++)
        ck_assert_double_eq_tol(v[i], sin(x[i]), 1e-15);
    fm_flow_free(g_steal_pointer(&flow));
    fm_run_free(run);
}
END_TEST

int
main(void)
{
    return run_tests("ffi", 60, {every_way_of_calling_gives_the_field, G_N_ELEMENTS(fields)},
                     {samples_follow_the_closed_form, G_N_ELEMENTS(fields)},
                     {products_make_divergence_and_density_exact, 2}, {what_is_missing_is_refused},
                     {gradients_pass_through_the_vjp}, {rows_do_not_depend_on_their_batch, G_N_ELEMENTS(draws)},
                     {values_are_the_functions}, {a_net_learns_foreign_data, G_N_ELEMENTS(draws)},
                     {what_cannot_be_called_is_refused, G_N_ELEMENTS(refused)}, {a_failing_field_ends_a_solve},
                     {libm_is_a_field});
}
