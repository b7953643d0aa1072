/* prediction_test.c: on every affine path, noise, data and score of a pair give its velocity; runs that
 * learn them train, load and sample. */
#include "suite.h"
#include "flow/run.h"

#include <glib/gstdio.h>
#include <math.h>

static const char *const names[] = {"v", "score", "eps", "x1"};

START_TEST(conversion_is_exact_for_each_pair)
{
    g_autoptr(GError) error = NULL;
    const char *name = fm_registry_nth(FM_KIND_PATH, (size_t)_i)->name;
    g_autoptr(FmPlugin) path = fm_plugin_new(FM_KIND_PATH, name, &error);
    g_autoptr(FmPlugin) net = fm_plugin_new(FM_KIND_NET, "mlp", &error);
    const double x0 = -0.731, x1 = 2.385;

    ck_assert(path && net && fm_path_prepare(path, 1, &error));
    for (int what = FM_PREDICT_SCORE; what <= FM_PREDICT_X1; what++) {
        FmPredict p;

        if (!fm__predict_init(&p, (FmPrediction)what, net, path, FALSE, NULL)) {
            FmAffine c = {.gamma = 1};

            if (fm_path_is_affine(path))
                fm_path_coefficients(path, 0.5, &c);
            ck_assert(c.gamma != 0 || c.dgamma != 0); /* refused for a reason */
            continue;
        }
        for (double t = p.t0; t <= p.t1; t += 0.137 * (p.t1 - p.t0)) {
            FmAffine c;
            double a, b, q;

            fm_path_coefficients(path, t, &c);
            fm__predict_coefficients(&p, t, &a, &b);
            q = what == FM_PREDICT_SCORE ? -x0 / c.sigma : what == FM_PREDICT_EPS ? x0 : x1;
            ck_assert_double_eq_tol(a * (c.alpha * x1 + c.sigma * x0) + b * q, c.dalpha * x1 + c.dsigma * x0, 1e-9);
        }
    }
}
END_TEST

static FmRun *
trained(const char *prediction, const char *dir, double *first, double *last)
{
    g_autoptr(FmConfig) c = fm_config_new();
    g_autoptr(GError) error = NULL;
    FmTrainResult result;
    FmRun *run;

    c->spec[FM_KIND_DATASET] = g_strdup("gaussian:mean=1.5,sd=0.5");
    c->spec[FM_KIND_NET] = g_strdup("mlp:width=32,depth=2");
    c->steps = 6000;
    c->batch_size = 128;
    c->threads = 2;
    ck_assert(fm_config_set(c, "prediction", prediction, "prediction", &error));
    run = fm_run_new(c, &error);
    ck_assert_msg(run != NULL, "%s", error ? error->message : "");
    run->dir = g_strdup(dir);
    ck_assert(fm_run_train(run, NULL, NULL, &result, &error));
    *first = result.loss_first;
    *last = result.loss_last;
    g_array_unref(result.loss_curve);
    return run;
}

START_TEST(each_prediction_learns_the_same_distribution)
{
    enum { N = 2000 };
    g_autofree char *dir = g_dir_make_tmp("fmcore-XXXXXX", NULL);
    g_autofree double *x = g_new(double, 2 * N), *y = g_new(double, 2 * N);
    g_autoptr(GError) error = NULL;
    double first, last, sum = 0, square = 0;
    FmRun *run = trained(names[_i], dir, &first, &last);
    FmFlow *flow = fm_flow_from_run(run, &error);
    g_autoptr(FmFlow) loaded = fm_flow_load(dir, &error);

    ck_assert(isfinite(last) && last < first);
    ck_assert_msg(flow && loaded, "%s", error ? error->message : "");
    ck_assert(fm_flow_sample(flow, N, 5, NULL, NULL, x, NULL, NULL, NULL, &error));
    ck_assert(fm_flow_sample(loaded, N, 5, NULL, NULL, y, NULL, NULL, NULL, &error));
    ck_assert_mem_eq(x, y, 2 * N * sizeof *x);
    for (int i = 0; i < 2 * N; i++)
        sum += x[i] / (2 * N);
    for (int i = 0; i < 2 * N; i++)
        square += (x[i] - sum) * (x[i] - sum) / (2 * N);
    ck_assert_double_eq_tol(sum, 1.5, 0.05);
    ck_assert_double_eq_tol(sqrt(square), 0.5, 0.1); /* noise is learnt worst: 0.44 */
    fm_flow_free(flow);
    fm_run_free(run);
    for (int i = 0; i < 4; i++) {
        static const char *const files[] = {"config.ini", "model.safetensors", "checkpoint.safetensors",
                                            "metrics.jsonl"};
        g_autofree char *file = g_build_filename(dir, files[i], NULL);

        ck_assert_int_eq(g_unlink(file), 0);
    }
    g_rmdir(dir);
}
END_TEST

int
main(void)
{
    fm_registry_load_all();
    return run_tests("prediction", 60, {conversion_is_exact_for_each_pair, (int)fm_registry_count(FM_KIND_PATH)},
                     {each_prediction_learns_the_same_distribution, 4});
}
