/* train_test.c: training repeats bit by bit over threads and resumption, survives kill -9, and
 * likelihoods of a linear field agree with the closed form. */
#include "suite.h"
#include "tree.h"
#include "flow/run.h"

#include <glib/gstdio.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static FmConfig *
small_config(void)
{
    FmConfig *c = fm_config_new();

    c->spec[FM_KIND_DATASET] = g_strdup("moons");
    c->spec[FM_KIND_NET] = g_strdup("mlp:width=16,depth=2");
    c->steps = 200;
    c->batch_size = 100;
    c->threads = 2;
    c->log_every = 20;
    return c;
}

static FmRun *
run_of(FmConfig *c)
{
    g_autoptr(GError) error = NULL;
    FmRun *run = fm_run_new(c, &error);

    ck_assert_msg(run != NULL, "%s", error ? error->message : "");
    return run;
}

static void
train(FmRun *run, FmTrainResult *result)
{
    g_autoptr(GError) error = NULL;

    ck_assert_msg(fm_run_train(run, NULL, NULL, result, &error), "%s", error ? error->message : "");
    g_array_unref(result->loss_curve);
}

static char *
trained_digest(FmConfig *c, FmTrainResult *result)
{
    FmRun *run = run_of(c);

    train(run, result);
    char *digest = fm_params_digest(run->params);
    fm_run_free(run);
    return digest;
}

static const char *const couplings[] = {"independent", "ot"};

START_TEST(threads_do_not_matter)
{
    g_autofree char *want = NULL;

    for (int threads = 1; threads <= 3; threads++) {
        g_autoptr(FmConfig) c = small_config();
        FmTrainResult result;
        c->threads = threads;
        c->spec[FM_KIND_COUPLING] = g_strdup(couplings[_i]);
        g_autofree char *got = trained_digest(c, &result);
        ck_assert(isfinite(result.loss_last) && result.loss_last < result.loss_first);
        ck_assert_uint_eq(result.steps, 200);
        if (want == NULL)
            want = g_steal_pointer(&got);
        else
            ck_assert_str_eq(want, got);
    }
}
END_TEST

/* The last loss is of the steps since the line of the log before: 3 of 17, or all 7 when the last step has a line. */
START_TEST(the_last_loss_says_its_rows)
{
    static const int stop[] = {17, 14};
    g_autoptr(FmConfig) c = small_config();
    FmTrainResult result;

    c->log_every = 7;
    c->stop_after = stop[_i];
    g_free(trained_digest(c, &result));
    ck_assert(isfinite(result.loss_last));
    ck_assert_uint_eq(result.loss_rows, (guint64)(_i == 0 ? 3 : 7) * (guint64)c->batch_size);
}
END_TEST

/* Images: convolutions of both sorts, attention, tiles and a remainder. */
START_TEST(threads_do_not_matter_to_images)
{
    static const int threads[] = {1, 2, 3, 8};
    g_autofree char *want = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++) {
        g_autoptr(FmConfig) c = small_config();
        FmTrainResult result;

        g_free(c->spec[FM_KIND_DATASET]);
        g_free(c->spec[FM_KIND_NET]);
        c->spec[FM_KIND_DATASET] = g_strdup("mnist");
        c->spec[FM_KIND_NET] = g_strdup("conv:channels=12,mult=[1,2],groups=4,attention=[14]");
        c->steps = 3;
        c->batch_size = 13;
        c->threads = threads[i];
        g_autofree char *got = trained_digest(c, &result);
        ck_assert(isfinite(result.loss_last));
        if (want == NULL)
            want = g_steal_pointer(&got);
        else
            ck_assert_str_eq(want, got);
    }
}
END_TEST

/* Steps a second are of this part of the training alone, and the way goes to where it stops. */
static gboolean
see_rate(const FmProgress *p, void *first)
{
    ck_assert_uint_eq(p->steps, 150);
    ck_assert_double_eq_tol(p->steps_per_second * p->seconds, (double)(p->step - *(guint64 *)first), 1e-6);
    return TRUE;
}

START_TEST(progress_is_of_what_is_left)
{
    g_autofree char *dir = g_dir_make_tmp("fmcore-XXXXXX", NULL);
    g_autoptr(FmConfig) c = small_config();
    FmTrainResult result = {0};
    guint64 first = 0;

    c->stop_after = 77;
    FmRun *run = run_of(c);
    run->dir = g_strdup(dir);
    train(run, &result);
    first = result.steps;
    run->config->stop_after = 150;
    ck_assert(fm_run_train(run, see_rate, &first, &result, NULL));
    ck_assert_uint_eq(result.steps, 150);
    g_clear_pointer(&result.loss_curve, g_array_unref);
    fm_run_free(run);
    remove_tree(dir);
}
END_TEST

START_TEST(resume_is_bit_identical)
{
    g_autofree char *dir = g_dir_make_tmp("fmcore-XXXXXX", NULL);
    g_autoptr(FmConfig) c = small_config();
    g_autoptr(GError) error = NULL;
    FmTrainResult result;

    c->dtype = _i == 0 ? FM_F32 : FM_F64;
    g_autofree char *want = trained_digest(c, &result);
    c->stop_after = 77;
    FmRun *run = run_of(c);
    run->dir = g_strdup(dir);
    train(run, &result);
    ck_assert_uint_eq(result.steps, 77);
    fm_run_free(run);
    run = fm_run_load(dir, &error);
    ck_assert_msg(run != NULL, "%s", error ? error->message : "");
    g_autoptr(FmConfig) more = fm_config_new();
    ck_assert(fm_run_override(run, more, FALSE, &error));
    ck_assert_msg(fm_run_resume(run, &error), "%s", error ? error->message : "");
    train(run, &result);
    ck_assert_uint_eq(result.steps, 200);
    g_autofree char *got = fm_params_digest(run->params);
    ck_assert_str_eq(want, got);
    fm_run_free(run);
    remove_tree(dir);
}
END_TEST

/* Train for ever in `dir`, writing the checkpoint after every step: the victim of kill -9. */
static int
victim(const char *dir)
{
    g_autoptr(FmConfig) c = small_config();
    FmTrainResult result;

    c->steps = 1000000;
    c->save_every = 1;
    FmRun *run = fm_run_new(c, NULL);
    if (run == NULL)
        return 1;
    run->dir = g_strdup(dir);
    return !fm_run_train(run, NULL, NULL, &result, NULL);
}

START_TEST(kill_leaves_a_checkpoint)
{
    g_autofree char *dir = g_dir_make_tmp("fmcore-XXXXXX", NULL);
    g_autofree char *checkpoint = g_build_filename(dir, "checkpoint.safetensors", NULL);
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    FmRng rng = fm_rng((FmKey){.seed = 3, .stream = FM_STREAM_USER}, 0);

    for (int i = 0; i < 20; i++) {
        char *argv[] = {self, (char *)"victim", dir, NULL};
        GPid pid;
        g_autoptr(GError) error = NULL;

        ck_assert(g_spawn_async(NULL, argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, &pid, NULL));
        for (int wait = 0; i == 0 && wait < 5000 && access(checkpoint, R_OK) != 0; wait++)
            g_usleep(2000);
        g_usleep(20000 + fm_rng_below(&rng, 60000));
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        FmRun *run = fm_run_load(dir, &error);
        ck_assert_msg(run != NULL, "%s", error ? error->message : "");
        ck_assert_msg(fm_run_resume(run, &error), "%s", error ? error->message : "");
        fm_run_free(run);
    }
    remove_tree(dir);
}
END_TEST

/* ---- a linear field: v = A x + b, set into the weights of an mlp without non-linearity ---- */

static const double field_a[2][2] = {{0.385, 0.9}, {-0.23, -0.571}};
static const double field_b[2] = {0.31, -0.72};
static const double field_shift[2] = {0.3, -1.1}, field_scale[2] = {2.385, 0.7};

static void
set_weight(FmRun *run, const char *name, size_t at, double value)
{
    const FmParam *p = fm_params_find(run->params, name);

    ck_assert_msg(p != NULL && at < p->size, "%s", name);
    ((double *)fm_params_data(run->params, p))[at] = value;
}

static FmRun *
linear_run(void)
{
    g_autoptr(FmConfig) c = small_config();

    g_free(c->spec[FM_KIND_NET]);
    c->spec[FM_KIND_NET] = g_strdup("mlp:width=2,depth=1,activation=identity,time=raw");
    c->spec[FM_KIND_SOLVER] = g_strdup("dopri5:rtol=1e-10,atol=1e-10");
    c->dtype = FM_F64;
    FmRun *run = run_of(c);
    memset(fm_params_block(run->params), 0, fm_params_size(run->params) * sizeof(double));
    for (size_t i = 0; i < 2; i++) {
        run->shift[i] = field_shift[i];
        run->scale[i] = field_scale[i];
        set_weight(run, "layers.0.weight", i * 3 + i, 1.0); /* (2, x y t): the identity */
        set_weight(run, "layers.1.bias", i, field_b[i]);
        for (size_t j = 0; j < 2; j++)
            set_weight(run, "layers.1.weight", i * 2 + j, field_a[i][j]);
    }
    return run;
}

/* x1 = e^A x0 + (sum_k A^k / (k+1)!) b by the series. */
static void
linear_solution(const double x0[2], double x1[2])
{
    double p[2] = {x0[0], x0[1]}, q[2] = {field_b[0], field_b[1]};

    x1[0] = p[0] + q[0];
    x1[1] = p[1] + q[1];
    for (int k = 1; k < 30; k++) {
        const double pn[2] = {field_a[0][0] * p[0] + field_a[0][1] * p[1], field_a[1][0] * p[0] + field_a[1][1] * p[1]};
        const double qn[2] = {field_a[0][0] * q[0] + field_a[0][1] * q[1], field_a[1][0] * q[0] + field_a[1][1] * q[1]};
        for (int i = 0; i < 2; i++) {
            p[i] = pn[i] / k;
            q[i] = qn[i] / (k + 1);
            x1[i] += p[i] + q[i];
        }
    }
}

START_TEST(likelihood_of_a_linear_field)
{
    enum { N = 200 };
    g_autoptr(GError) error = NULL;
    FmRun *run = linear_run();
    g_autoptr(FmFlow) flow = fm_flow_from_run(run, &error);
    const double trace = field_a[0][0] + field_a[1][1];
    double x0[N * 2], x[N * 2], z[N * 2], log_q[N], again[N], v[N * 2], div[N];
    FmSolveSummary summary;

    ck_assert_msg(flow != NULL, "%s", error ? error->message : "");
    fm_fill_normal_f64((FmKey){.seed = 9, .stream = FM_STREAM_USER}, 0, N, 2, x0);
    ck_assert(fm_flow_sample(flow, N, 0, x0, NULL, x, log_q, NULL, &summary, &error));
    ck_assert_uint_eq(summary.failed, 0);
    ck_assert(fm_flow_log_density(flow, N, x, NULL, NULL, again, z, NULL, &error));
    for (size_t r = 0; r < N; r++) {
        const double *n = x0 + 2 * r;
        const double want =
            -0.5 * (n[0] * n[0] + n[1] * n[1]) - log(2 * G_PI) - trace - log(field_scale[0] * field_scale[1]);
        double end[2];
        linear_solution(n, end);
        for (size_t d = 0; d < 2; d++) {
            ck_assert_double_eq_tol(x[2 * r + d], end[d] * field_scale[d] + field_shift[d], 1e-7);
            ck_assert_double_eq_tol(z[2 * r + d], n[d], 1e-7);
        }
        ck_assert_double_eq_tol(log_q[r], want, 1e-7);
        ck_assert_double_eq_tol(again[r], want, 1e-7);
    }
    ck_assert(fm_flow_velocity(flow, N, x, 0.385, NULL, v, div, &error));
    for (size_t r = 0; r < N; r++) {
        const double m[2] = {(x[2 * r] - field_shift[0]) / field_scale[0],
                             (x[2 * r + 1] - field_shift[1]) / field_scale[1]};
        for (size_t d = 0; d < 2; d++)
            ck_assert_double_eq_tol(v[2 * r + d],
                                    field_scale[d] * (field_a[d][0] * m[0] + field_a[d][1] * m[1] + field_b[d]), 1e-10);
        ck_assert_double_eq_tol(div[r], trace, 1e-12);
    }
    g_clear_pointer(&flow, fm_flow_free);
    fm_run_free(run);
}
END_TEST

START_TEST(hutchinson_is_unbiased)
{
    enum { N = 2000 };
    FmRun *run = linear_run();
    g_autoptr(GError) error = NULL;
    g_autoptr(FmFlow) flow = fm_flow_from_run(run, &error);
    static double x[N * 2], exact[N], estimate[N];
    const FmLikelihood how = {
        .trace = FM_TRACE_HUTCHINSON, .gaussian = _i == 1, .probes = 3, .key = {.seed = 5, .stream = FM_STREAM_PROBE}};
    double mean = 0, square = 0;

    ck_assert(fm_flow_sample(flow, N, 1, NULL, NULL, x, NULL, NULL, NULL, &error));
    ck_assert(fm_flow_log_density(flow, N, x, NULL, NULL, exact, NULL, NULL, &error));
    ck_assert(fm_flow_log_density(flow, N, x, NULL, &how, estimate, NULL, NULL, &error));
    for (size_t r = 0; r < N; r++) {
        mean += (estimate[r] - exact[r]) / N;
        square += (estimate[r] - exact[r]) * (estimate[r] - exact[r]) / N;
    }
    ck_assert(square > 1e-4); /* the probes are at work */
    ck_assert(fabs(mean) < 4 * sqrt(square / N));
    g_clear_pointer(&flow, fm_flow_free);
    fm_run_free(run);
}
END_TEST

START_TEST(bad_input_is_refused)
{
    FmRun *run = linear_run();
    g_autoptr(GError) error = NULL;
    g_autoptr(FmFlow) flow = fm_flow_from_run(run, &error);
    const double bad[4] = {0, 1, NAN, 2};
    const int labels[2] = {0, 1};
    double out[4];

    ck_assert(!fm_flow_log_density(flow, 2, bad, NULL, NULL, out, NULL, NULL, &error));
    ck_assert(g_error_matches(error, FM_ERROR, FM_ERROR_DATA));
    g_clear_error(&error);
    ck_assert(!fm_flow_sample(flow, 2, 0, NULL, labels, out, NULL, NULL, NULL, &error));
    g_clear_error(&error);
    ck_assert(!fm_flow_velocity(flow, 1, bad, 1.5, NULL, out, NULL, &error));
    g_clear_error(&error);
    ck_assert(fm_flow_sample(flow, 0, 0, NULL, NULL, out, NULL, NULL, NULL, &error));
    ck_assert(fm_flow_log_density(flow, 0, bad, NULL, NULL, out, NULL, NULL, &error));
    g_clear_pointer(&flow, fm_flow_free);
    fm_run_free(run);
}
END_TEST

/* ---- classifier-free guidance ---- */

static void
guided(FmFlow *flow, double w, size_t n, const double *x, const int *y, double *v, double *div)
{
    g_autoptr(GError) error = NULL;

    ck_assert_msg(fm_flow_set_guidance(flow, w, &error), "%s", error ? error->message : "");
    ck_assert(fm_flow_velocity(flow, n, x, 0.6, y, v, div, NULL));
}

static FmRun *
conditional_run(double dropout)
{
    g_autoptr(FmConfig) c = small_config();

    c->dtype = FM_F64;
    c->steps = 300;
    c->conditional = 1;
    c->label_dropout = dropout;
    FmRun *run = run_of(c);
    FmTrainResult result;
    train(run, &result);
    return run;
}

START_TEST(guidance_is_linear_in_its_weight)
{
    enum { N = 5 };
    const double x[2 * N] = {0.1, 0.2, -1.0, 0.5, 1.5, -0.5, 0.0, 0.0, 2.0, 0.3};
    const int y[N] = {0, 1, 0, 1, 1}, other[N] = {1, 0, 1, 0, 0};
    double v[4][2 * N], div[4][N], apart = 0;
    FmRun *run = conditional_run(0.2);
    g_autoptr(FmFlow) flow = fm_flow_from_run(run, NULL);

    guided(flow, 1.0, N, x, y, v[0], div[0]);
    guided(flow, 0.0, N, x, y, v[1], div[1]);
    guided(flow, 0.0, N, x, other, v[2], div[2]);
    guided(flow, 2.5, N, x, y, v[3], div[3]);
    for (int i = 0; i < 2 * N; i++) {
        ck_assert_double_eq(v[1][i], v[2][i]); /* without label: the label does not matter */
        ck_assert_double_eq_tol(v[3][i], v[1][i] + 2.5 * (v[0][i] - v[1][i]), 1e-12);
        apart = fmax(apart, fabs(v[0][i] - v[1][i]));
    }
    ck_assert_double_gt(apart, 0.05);
    for (int i = 0; i < N; i++)
        ck_assert_double_eq_tol(div[3][i], div[1][i] + 2.5 * (div[0][i] - div[1][i]), 1e-11);
    fm_run_free(run);
}
END_TEST

/* The field without label is trained on both moons: its flow has the data's mean, that of a label
 * the moon's own: y of make_moons is 2/pi and 1/2 - 2/pi on average, here twice that - 0.2. */
START_TEST(guidance_finds_classes)
{
    enum { N = 400 };
    g_autofree double *x = g_new(double, 2 * N);
    FmRun *run = conditional_run(0.2);
    g_autoptr(FmFlow) flow = fm_flow_from_run(run, NULL);
    int labels[N] = {0};
    double mean[2] = {0, 0};

    for (int w = 0; w < 2; w++) {
        ck_assert(fm_flow_set_guidance(flow, w, NULL));
        ck_assert(fm_flow_sample(flow, N, 1, NULL, labels, x, NULL, NULL, NULL, NULL));
        for (int i = 0; i < N; i++)
            mean[w] += x[2 * i + 1] / N;
    }
    ck_assert_double_eq_tol(mean[0], 0.3, 0.2);
    ck_assert_double_eq_tol(mean[1], 4.0 / G_PI - 0.2, 0.2);
    fm_run_free(run);
}
END_TEST

START_TEST(guidance_needs_dropped_labels)
{
    g_autoptr(GError) error = NULL;
    FmRun *run = conditional_run(0.0);
    g_autoptr(FmFlow) flow = fm_flow_from_run(run, NULL);

    ck_assert(fm_flow_set_guidance(flow, 1.0, NULL));
    ck_assert(!fm_flow_set_guidance(flow, 2.0, &error));
    ck_assert_msg(strstr(error->message, "with every label") != NULL, "%s", error->message);
    fm_run_free(run);
}
END_TEST

int
main(int argc, char **argv)
{
    Suite *s = suite_create("train");
    TCase *c = tcase_create("train");

    if (argc == 3 && g_str_equal(argv[1], "victim"))
        return victim(argv[2]);
    tcase_set_timeout(c, 120);
    tcase_add_test(c, threads_do_not_matter_to_images);
    tcase_add_loop_test(c, threads_do_not_matter, 0, (int)G_N_ELEMENTS(couplings));
    tcase_add_loop_test(c, the_last_loss_says_its_rows, 0, 2);
    tcase_add_loop_test(c, resume_is_bit_identical, 0, 2);
    tcase_add_test(c, progress_is_of_what_is_left);
    tcase_add_test(c, kill_leaves_a_checkpoint);
    tcase_add_test(c, likelihood_of_a_linear_field);
    tcase_add_loop_test(c, hutchinson_is_unbiased, 0, 2);
    tcase_add_test(c, bad_input_is_refused);
    tcase_add_test(c, guidance_is_linear_in_its_weight);
    tcase_add_test(c, guidance_finds_classes);
    tcase_add_test(c, guidance_needs_dropped_labels);
    suite_add_tcase(s, c);
    return run_suite(s, CK_NOFORK); /* OpenMP does not survive a fork */
}
