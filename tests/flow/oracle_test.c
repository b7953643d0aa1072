/* oracle_test.c: the closed-form net is exact: its flow has the data's density, its log-density
 * has the data's score, its errors have the size that was set. */
#include "suite.h"
#include "flow/exact.h"
#include "boxes_rows.h"
#include "setup.h"

#include <glib/gstdio.h>
#include <math.h>
#include <string.h>

enum { ROWS = 200 };

static FmRun *
oracle_run(const char *net, const char *dataset, const char *path, FmDtype dtype)
{
    return setup_run(net, dataset, path, "dopri5:rtol=1e-9,atol=1e-9", dtype);
}

static void
oracle_points(const FmRun *run, size_t n, double *x)
{
    g_autoptr(GError) error = NULL;

    ck_assert(fm_run_data(run, "all", 0, n, x, NULL, &error));
}

/* Paths that reach N(0, I) and the data exactly, or nearly (vp). */
static const struct {
    const char *dataset, *path;
    double tolerance;
} exact_cases[] = {{"8gaussians", "ot", 1e-6},
                   {"8gaussians", "cosine", 1e-6},
                   {"8gaussians", "poly:n=3", 1e-6},
                   {"mixture:k=5,dim=6,radius=2,sd=0.7", "ot", 1e-6},
                   {"gaussian:dim=3,mean=0.7,sd=1.9", "cosine", 1e-6},
                   {"moons", "ot", 1e-6},
                   {"swissroll", "cosine", 1e-6},
                   {"checkerboard", "ot", 1e-5},
                   {"8gaussians", "vp", 2e-2}};

START_TEST(its_flow_has_the_density_of_the_data)
{
    FmRun *run = oracle_run("oracle", exact_cases[_i].dataset, exact_cases[_i].path, FM_F64);
    g_autoptr(GError) error = NULL;
    g_autoptr(FmFlow) flow = fm_flow_from_run(run, &error);
    g_autofree double *x = g_new(double, ROWS * run->data.D), *got = g_new(double, ROWS), *want = g_new(double, ROWS);

    oracle_points(run, ROWS, x);
    ck_assert_msg(fm_flow_log_density(flow, ROWS, x, NULL, NULL, got, NULL, NULL, &error), "%s",
                  error ? error->message : "");
    fm_dataset_log_density(run->plugin[FM_KIND_DATASET], ROWS, x, want);
    for (int i = 0; i < ROWS; i++)
        ck_assert_double_eq_tol(got[i], want[i], exact_cases[_i].tolerance);
    g_clear_pointer(&flow, fm_flow_free);
    fm_run_free(run);
}
END_TEST

/* Velocity (n, D), log p_t (n) and its gradient (n, D) at one time, in double or single. */
static void
oracle_at(FmRun *run, size_t n, const double *x, double t, double *v, double *log_p, double *score)
{
    const size_t D = run->data.D, size = fm_dtype_size(run->config->dtype);
    const FmPlanOptions options = {.dtype = run->config->dtype};
    g_autoptr(GError) error = NULL;
    g_autoptr(FmGraph) graph = fm_graph_new();
    FmNode *xn = fm_input(graph, "x", 1, 1, &D), *tn = fm_input(graph, "t", 1, 0, NULL);
    FmNode *out[3] = {fm_net_velocity(run->plugin[FM_KIND_NET], graph, &run->net_info, xn, tn, NULL),
                      fm_net_log_density(run->plugin[FM_KIND_NET], graph, &run->net_info, xn, tn, NULL), NULL};

    ck_assert_ptr_nonnull(out[1]);
    ck_assert(fm_vjp(out[1], fm_scalar(graph, 1.0), &xn, 1, &out[2]));
    g_autoptr(FmPlan) plan = fm_plan_new(graph, out, 3, &options, &error);
    ck_assert_msg(plan != NULL, "%s", error ? error->message : "");
    g_autoptr(FmExec) exec = fm_exec_new(plan, NULL, 1, &error);
    void *typed[5];
    for (int i = 0; i < 5; i++)
        typed[i] = fm_alloc(n * D * size);
    fm_convert(FM_F64, x, run->config->dtype, typed[0], n * D);
    for (size_t r = 0; r < n; r++)
        fm_convert(FM_F64, &t, run->config->dtype, (char *)typed[1] + r * size, 1);
    const void *in[2];
    in[fm_plan_input_find(plan, "x")] = typed[0];
    in[fm_plan_input_find(plan, "t")] = typed[1];
    ck_assert(fm_exec_run(exec, n, in, NULL, NULL, typed + 2, (FmKey){0}, &error));
    fm_convert(run->config->dtype, typed[2], FM_F64, v, n * D);
    fm_convert(run->config->dtype, typed[3], FM_F64, log_p, n);
    fm_convert(run->config->dtype, typed[4], FM_F64, score, n * D);
    for (int i = 0; i < 5; i++)
        fm_free(typed[i]);
    g_clear_pointer(&exec, fm_exec_free);
}

/* Its own formula for the divergence against tangents. */
static const char *const divergence_cases[][2] = {{"oracle:scale=1.3", "8gaussians"},
                                                  {"oracle:shift=0.2", "mixture:k=3,dim=5"},
                                                  {"oracle", "gaussian:dim=4,mean=1,sd=0.6"},
                                                  {"oracle:field=linear,a=a2", "gaussian:dim=3"}};

START_TEST(its_divergence_is_that_of_its_velocity)
{
    FmRun *run = oracle_run(divergence_cases[_i][0], divergence_cases[_i][1], "ot", FM_F64);
    const size_t D = run->data.D;
    g_autoptr(GError) error = NULL;
    g_autoptr(FmFlow) flow = fm_flow_from_run(run, &error);
    g_autoptr(FmExact) exact = fm__exact_new(flow, 1, &error);
    FmExactWorker *worker = fm__exact_worker_new(exact, &error);
    enum { N = 20 };
    g_autofree double *x = g_new(double, N *D), *v = g_new(double, N *D), *w = g_new(double, N *D);
    double own[N], tangents[N];

    oracle_points(run, N, x);
    ck_assert(fm_flow_velocity(flow, N, x, 0.7, NULL, v, tangents, &error));
    ck_assert(fm__exact_field(exact, worker, 0, N, x, 0.7, NULL, w, own));
    for (int i = 0; i < N; i++)
        ck_assert_double_eq_tol(own[i], tangents[i], 1e-10 * (1 + fabs(own[i])));
    fm__exact_worker_free(worker);
    g_clear_pointer(&exact, fm__exact_free);
    g_clear_pointer(&flow, fm_flow_free);
    fm_run_free(run);
}
END_TEST

/* At t = 1 of the straight path p_t is the data. */
START_TEST(its_log_density_has_the_score_of_the_data)
{
    FmRun *run = oracle_run("oracle", "8gaussians", "ot", _i == 0 ? FM_F64 : FM_F32);
    const double tolerance = _i == 0 ? 1e-11 : 2e-4;
    double x[2 * ROWS], v[2 * ROWS], log_p[ROWS], score[2 * ROWS], want[2 * ROWS], want_log[ROWS];

    oracle_points(run, ROWS, x);
    oracle_at(run, ROWS, x, 1.0, v, log_p, score);
    fm_dataset_score(run->plugin[FM_KIND_DATASET], ROWS, x, want);
    fm_dataset_log_density(run->plugin[FM_KIND_DATASET], ROWS, x, want_log);
    for (int i = 0; i < 2 * ROWS; i++)
        ck_assert_double_eq_tol(score[i], want[i], tolerance * (1.0 + fabs(want[i])));
    for (int i = 0; i < ROWS; i++)
        ck_assert_double_eq_tol(log_p[i], want_log[i], tolerance * (1.0 + fabs(want_log[i])));
    fm_run_free(run);
}
END_TEST

/* A net's units are those of a standardised run: the field there is the affine image. */
START_TEST(it_follows_the_runs_units)
{
    const double shift[2] = {0.3, -0.8}, scale[2] = {1.7, 0.6};
    FmRun *run = oracle_run("oracle", "8gaussians", "ot", FM_F64);
    double data[2 * ROWS], x[2 * ROWS], v[2 * ROWS], log_p[ROWS], score[2 * ROWS], want[ROWS];

    oracle_points(run, ROWS, data);
    run->net_info.shift = shift;
    run->net_info.scale = scale;
    for (int i = 0; i < 2 * ROWS; i++)
        x[i] = (data[i] - shift[i % 2]) / scale[i % 2];
    oracle_at(run, ROWS, x, 1.0, v, log_p, score);
    fm_dataset_log_density(run->plugin[FM_KIND_DATASET], ROWS, data, want);
    for (int i = 0; i < ROWS; i++)
        ck_assert_double_eq_tol(log_p[i], want[i] + log(scale[0] * scale[1]), 1e-11);
    fm_run_free(run);
}
END_TEST

static const struct {
    const char *net;
    double factor, exponent; /* a(0.3) and the integral of a over [0, 0.3] */
} linear_cases[] = {{"oracle:field=linear,a=a1", 0.809016994374947, 0.1312120294260629},
                    {"oracle:field=linear,a=a2,beta=0.1", 0.585316954888546, 0.1525009575738206},
                    {"oracle:field=linear,a=a3", -0.2, -0.105},
                    {"oracle:field=linear,a=-0.37", -0.37, -0.111}};

/* Boxes inside and out to 40 standard deviations, where differences of erf have no digits. */
START_TEST(boxes_are_exact_far_out)
{
    FmRun *run = oracle_run("oracle", "checkerboard", "ot", FM_F64);

    for (size_t i = 0; i < G_N_ELEMENTS(boxes_rows); i++) {
        const double *row = boxes_rows[i];
        double got[5], v[2], log_p, score[2];

        oracle_at(run, 1, row + 1, row[0], v, &log_p, score);
        memcpy(got, (double[]){log_p, score[0], score[1], v[0], v[1]}, sizeof got);
        for (int k = 0; k < 5; k++)
            ck_assert_msg(fabs(got[k] - row[3 + k]) < 1e-11 * (1 + fabs(row[3 + k])),
                          "t %g, x %g %g, number %d: %.15g, expected %.15g", row[0], row[1], row[2], k, got[k],
                          row[3 + k]);
    }
    fm_run_free(run);
}
END_TEST

/* p_t of spirals by brute force: Simpson's rule over the angle with jitter and noise in closed form. */
static double
spirals_density(double alpha, double s, const double x[2])
{
    enum { STEPS = 20000 };
    const double W = alpha / 6, A = 3 * G_PI;
    double sum = 0;

    for (int i = 0; i <= STEPS; i++) {
        const double r = (double)i / STEPS, a = A * r, p[2] = {-cos(a) * a / 3, sin(a) * a / 3};
        double both[2] = {1, 1};

        for (int m = 0; m < 2; m++)
            for (int d = 0; d < 2; d++) {
                const double lo = alpha * (m == 0 ? p[d] : -p[d] - 1.0 / 6);
                both[m] *= 0.5 * (erf((x[d] - lo) / (s * G_SQRT2)) - erf((x[d] - lo - W) / (s * G_SQRT2))) / W;
            }
        sum += (i == 0 || i == STEPS ? 1 : i % 2 ? 4 : 2) * 2 * r * 0.5 * (both[0] + both[1]);
    }
    return sum / (3.0 * STEPS);
}

/* log p_t and score at two times, the data's own at t = 1, and the flow's density, which says that the velocity
 * is the one that carries p_t. */
START_TEST(spirals_are_exact)
{
    enum { AT = 6 };
    FmRun *run = setup_run("oracle", "spirals", "ot", "dopri5:rtol=1e-7,atol=1e-7", FM_F64);
    g_autoptr(GError) error = NULL;
    g_autoptr(FmFlow) flow = fm_flow_from_run(run, &error);
    const double times[2] = {0.6, 1.0}, h = 1e-4;
    double x[2 * AT], v[2 * AT], log_p[AT], score[2 * AT], own[AT], own_score[2 * AT], got[AT];

    oracle_points(run, AT, x);
    for (int k = 0; k < 2; k++) {
        const double t = times[k], s = hypot(0.1 * t, 1 - t);

        oracle_at(run, AT, x, t, v, log_p, score);
        for (int i = 0; i < AT; i++) {
            ck_assert_double_eq_tol(log_p[i], log(spirals_density(t, s, x + 2 * i)), 1e-9);
            for (int d = 0; d < 2; d++) {
                double y[2][2] = {{x[2 * i], x[2 * i + 1]}, {x[2 * i], x[2 * i + 1]}};

                y[0][d] -= h;
                y[1][d] += h;
                ck_assert_double_eq_tol(score[2 * i + d],
                                        (log(spirals_density(t, s, y[1])) - log(spirals_density(t, s, y[0]))) / (2 * h),
                                        1e-4 * (1 + fabs(score[2 * i + d])));
            }
        }
    }
    fm_dataset_log_density(run->plugin[FM_KIND_DATASET], AT, x, own);
    ck_assert(fm_dataset_score(run->plugin[FM_KIND_DATASET], AT, x, own_score));
    ck_assert(fm_flow_log_density(flow, AT, x, NULL, NULL, got, NULL, NULL, &error));
    for (int i = 0; i < 2 * AT; i++)
        ck_assert_double_eq_tol(own_score[i], score[i], 1e-9 * (1 + fabs(score[i])));
    for (int i = 0; i < AT; i++) {
        ck_assert_double_eq_tol(own[i], log_p[i], 1e-10);
        ck_assert_double_eq_tol(got[i], own[i], 1e-5);
    }
    g_clear_pointer(&flow, fm_flow_free);
    fm_run_free(run);
}
END_TEST

/* Score and divergence against fourth-order differences of log p_t and v, on a line that leaves the board
 * and crosses the switches between the formulas. */
START_TEST(derivatives_far_out_are_those_of_the_values)
{
    enum { AT = 60 };
    static const double times[] = {0.1, 0.6, 0.9};
    static const double weight[4] = {1.0 / 12, -8.0 / 12, 8.0 / 12, -1.0 / 12};
    FmRun *run = oracle_run("oracle", "checkerboard", "ot", FM_F64);
    g_autoptr(GError) error = NULL;
    g_autoptr(FmFlow) flow = fm_flow_from_run(run, &error);
    const double t = times[_i], s = 1 - t, h = 1e-3 * s;
    double v[2], score[2], div, moved_v[2], moved_score[2], moved_p, log_p;

    for (int i = 0; i < AT; i++) {
        const double x[2] = {4 * t + s * (0.7 * i - 3), -0.5 * t - 0.3 * s * i};
        double grad[2] = {0, 0}, trace = 0;

        oracle_at(run, 1, x, t, v, &log_p, score);
        ck_assert(fm_flow_velocity(flow, 1, x, t, NULL, v, &div, &error));
        for (int d = 0; d < 2; d++)
            for (int k = 0; k < 4; k++) {
                double y[2] = {x[0], x[1]};

                y[d] += h * (k < 2 ? k - 2 : k - 1);
                oracle_at(run, 1, y, t, moved_v, &moved_p, moved_score);
                grad[d] += weight[k] * moved_p / h;
                trace += weight[k] * moved_v[d] / h;
            }
        for (int d = 0; d < 2; d++)
            ck_assert_msg(fabs(score[d] - grad[d]) < 1e-8 * (1 / s + fabs(grad[d])), "score %g at %g %g, expected %g",
                          score[d], x[0], x[1], grad[d]);
        ck_assert_msg(fabs(div - trace) < 1e-7 * (1 / s + fabs(trace)), "div %g at %g %g, expected %g", div, x[0], x[1],
                      trace);
    }
    g_clear_pointer(&flow, fm_flow_free);
    fm_run_free(run);
}
END_TEST

START_TEST(linear_fields_are_closed)
{
    FmRun *run = oracle_run(linear_cases[_i].net, "gaussian:dim=3", "ot", FM_F64);
    const double A = linear_cases[_i].exponent;
    const double x[3] = {0.4, -1.3, 2.385}, square = 0.16 + 1.69 + 2.385 * 2.385;
    double v[3], log_p, score[3], mean[3], sd[3];

    oracle_at(run, 1, x, 0.3, v, &log_p, score);
    ck_assert_double_eq_tol(log_p, -0.5 * square * exp(-2 * A) - 3 * A - 1.5 * log(2 * G_PI), 1e-12);
    for (int d = 0; d < 3; d++) {
        ck_assert_double_eq_tol(v[d], linear_cases[_i].factor * x[d], 1e-12);
        ck_assert_double_eq_tol(score[d], -x[d] * exp(-2 * A), 1e-12);
    }
    ck_assert(fm_net_gaussian(run->plugin[FM_KIND_NET], &run->net_info, 0.3, mean, sd));
    ck_assert_double_eq_tol(sd[1], exp(A), 1e-12);
    ck_assert_double_eq(mean[1], 0.0);
    fm_run_free(run);
}
END_TEST

/* The same function as text gives the same field; without the library a sentence says so. */
START_TEST(expressions_equal_names)
{
    g_autoptr(FmConfig) c = fm_config_new();
    g_autoptr(GError) error = NULL;

    c->spec[FM_KIND_NET] = g_strdup("oracle:field=linear,a=0.3*sin(2*pi*t)+0.2,beta=0.1");
    c->spec[FM_KIND_DATASET] = g_strdup("gaussian:dim=1");
    c->dtype = FM_F64;
    FmRun *run = fm_run_new(c, &error);
    if (run == NULL) {
        ck_assert_msg(strstr(error->message, "libmatheval") != NULL, "%s", error->message);
        return;
    }
    double x = 1.5, v, log_p, score;
    oracle_at(run, 1, &x, 0.3, &v, &log_p, &score);
    ck_assert_double_eq_tol(v, linear_cases[1].factor * x, 1e-12);
    ck_assert_double_eq_tol(score, -x * exp(-2 * linear_cases[1].exponent), 1e-12);
    fm_run_free(run);
}
END_TEST

/* What an option of the field may not be, and what the sentence says. */
static const struct {
    const char *net, *says;
} bad_options[] = {{"oracle:field=linear,a=", "expected"},
                   {"oracle:field=linear,a=2;3", "expected"},
                   {"oracle:field=linear,a=step(t-0.3)", "jumps"},
                   {"oracle:field=linear,a=1/(t-0.6)", "jumps"},
                   {"oracle:field=linear,a=1/t", "inf at t = 0"},
                   {"oracle:a=a2", "field=linear"},
                   {"oracle:beta=0.1", "field=linear"},
                   {"oracle:scale=", "expected"}};

START_TEST(a_bad_option_is_refused_in_a_sentence)
{
    g_autoptr(FmConfig) c = fm_config_new();
    g_autoptr(GError) error = NULL;

    c->spec[FM_KIND_NET] = g_strdup(bad_options[_i].net);
    c->spec[FM_KIND_DATASET] = g_strdup("gaussian:dim=1");
    ck_assert_ptr_null(fm_run_new(c, &error));
    ck_assert_msg(strstr(error->message, bad_options[_i].says) != NULL || strstr(error->message, "libmatheval") != NULL,
                  "%s", error->message);
}
END_TEST

/* |w - v|^2 of shift and noise is D times their square at every point. */
static const struct {
    const char *options;
    double square;
    size_t dim;
} error_cases[] = {{"shift=0.2", 0.04, 2}, {"noise=0.3", 0.09, 2}, {"noise=0.3", 0.09, 5}, {"shift=a3", 0.01, 3}};

START_TEST(errors_have_the_size_that_was_set)
{
    const size_t D = error_cases[_i].dim;
    g_autofree char *data = g_strdup_printf("mixture:dim=%zu", D);
    g_autofree char *net = g_strdup_printf("oracle:%s", error_cases[_i].options);
    FmRun *run[2] = {oracle_run("oracle", data, "ot", FM_F64), oracle_run(net, data, "ot", FM_F64)};
    g_autofree double *x = g_new(double, ROWS *D), *v = g_new(double, 2 * ROWS * D);
    g_autoptr(GError) error = NULL;

    oracle_points(run[0], ROWS, x);
    for (int k = 0; k < 2; k++) {
        g_autoptr(FmFlow) flow = fm_flow_from_run(run[k], &error);
        ck_assert(fm_flow_velocity(flow, ROWS, x, 0.4, NULL, v + (size_t)k * ROWS * D, NULL, &error));
    }
    for (size_t r = 0; r < ROWS; r++) {
        double square = 0;
        for (size_t d = 0; d < D; d++)
            square += pow(v[r * D + d] - v[(ROWS + r) * D + d], 2);
        ck_assert_double_eq_tol(square, (double)D * error_cases[_i].square, 1e-10);
    }
    for (int k = 0; k < 2; k++)
        fm_run_free(run[k]);
}
END_TEST

START_TEST(scale_and_rotation_act_on_the_velocity)
{
    FmRun *plain = oracle_run("oracle", "8gaussians", "ot", FM_F64);
    FmRun *turned = oracle_run("oracle:scale=1.1,rotate=0.3", "8gaussians", "ot", FM_F64);
    g_autoptr(GError) error = NULL;
    g_autoptr(FmFlow) a = fm_flow_from_run(plain, &error), b = fm_flow_from_run(turned, &error);
    const double x[2] = {0.7, -1.2};
    double v[2], w[2];

    ck_assert(fm_flow_velocity(a, 1, x, 0.6, NULL, v, NULL, &error));
    ck_assert(fm_flow_velocity(b, 1, x, 0.6, NULL, w, NULL, &error));
    ck_assert_double_eq_tol(w[0], 1.1 * (cos(0.3) * v[0] - sin(0.3) * v[1]), 1e-12);
    ck_assert_double_eq_tol(w[1], 1.1 * (sin(0.3) * v[0] + cos(0.3) * v[1]), 1e-12);
    g_clear_pointer(&a, fm_flow_free);
    g_clear_pointer(&b, fm_flow_free);
    fm_run_free(plain);
    fm_run_free(turned);
}
END_TEST

/* Finite data: velocity and log-density against sums over the rows in plain loops, in f64 and f32;
 * the divergence against tangents; more rows than one block. */
START_TEST(finite_data_are_exact)
{
    enum { N = 2500, D = 3, AT = 6 };
    static const double times[] = {0.0, 0.35, 0.8};
    g_autofree char *dir = g_dir_make_tmp("fmcore-XXXXXX", NULL), *file = g_build_filename(dir, "x.csv", NULL),
                    *spec = g_strdup_printf("csv:file=%s", file);
    g_autofree double *m = g_new(double, N *D);
    GString *text = g_string_new(NULL);
    FmDataInfo info;
    g_autoptr(GError) error = NULL;

    fm_fill_normal_f64((FmKey){.seed = 3, .stream = FM_STREAM_USER}, 0, N, D, m);
    for (int i = 0; i < N * D; i++)
        g_string_append_printf(text, "%.17g%s", m[i], i % D == D - 1 ? "\n" : ",");
    ck_assert(g_file_set_contents(file, text->str, -1, NULL));
    g_string_free(text, TRUE);
    FmRun *run = oracle_run("oracle", spec, "ot", _i < 3 ? FM_F64 : FM_F32);
    g_autoptr(FmFlow) flow = fm_flow_from_run(run, &error);
    g_autoptr(FmExact) exact = fm__exact_new(flow, 1, &error);
    FmExactWorker *worker = fm__exact_worker_new(exact, &error);
    const double t = times[_i % 3], tolerance = _i < 3 ? 1e-10 : 2e-4;
    double x[AT * D], v[AT * D], log_p[AT], score[AT * D], own[AT], tangents[AT], w[AT * D];

    ck_assert(fm_dataset_open(run->plugin[FM_KIND_DATASET], &info, &error));
    for (int i = 0; i < AT * D; i++)
        x[i] = 0.3 * (double)(i % 5) - 0.6 + 0.01 * (double)i;
    oracle_at(run, AT, x, t, v, log_p, score);
    for (int r = 0; r < AT; r++) {
        double sum = 0, mean[D] = {0};
        const double sigma = 1 - t;
        for (int i = 0; i < N; i++) {
            double square = 0;
            for (int d = 0; d < D; d++)
                square += pow(x[r * D + d] - t * m[i * D + d], 2);
            const double e = exp(-0.5 * square / (sigma * sigma));
            sum += e;
            for (int d = 0; d < D; d++)
                mean[d] += e * m[i * D + d];
        }
        ck_assert_double_eq_tol(log_p[r], log(sum / N) - 1.5 * log(2 * G_PI * sigma * sigma),
                                tolerance * (1 + fabs(log_p[r])));
        for (int d = 0; d < D; d++) {
            const double want = (mean[d] / sum - x[r * D + d]) / sigma;
            ck_assert_double_eq_tol(v[r * D + d], want, tolerance * (1 + fabs(want)));
        }
    }
    ck_assert(fm__exact_field(exact, worker, 0, AT, x, t, NULL, w, own));
    ck_assert(fm_flow_velocity(flow, AT, x, t, NULL, w, tangents, &error));
    for (int r = 0; r < AT; r++)
        ck_assert_double_eq_tol(own[r], tangents[r], 50 * tolerance * (1 + fabs(own[r])));
    fm__exact_worker_free(worker);
    g_clear_pointer(&exact, fm__exact_free);
    g_clear_pointer(&flow, fm_flow_free);
    fm_run_free(run);
    g_unlink(file);
    g_rmdir(dir);
}
END_TEST

static const struct {
    const char *net, *dataset, *says;
} refused[] = {{"oracle", "pinwheel", "closed form"},
               {"oracle", "spirals:noise=0", "moons, circles, rings, swissroll"},
               {"oracle", "rings:noise=0", "with these options"},
               {"oracle:field=linear,a=sqrt(t-1)", "gaussian", "net 'oracle': option 'a'"},
               {"oracle:scale=b+1", "8gaussians", "option 'scale'"},
               {"oracle:rotate=0.1", "gaussian:dim=1", "rotate"},
               {"oracle:dataset=gaussian", "8gaussians", "expected the same"}};

START_TEST(what_it_cannot_do_is_refused_in_a_sentence)
{
    g_autoptr(FmConfig) c = fm_config_new();
    g_autoptr(GError) error = NULL;

    c->spec[FM_KIND_NET] = g_strdup(refused[_i].net);
    c->spec[FM_KIND_DATASET] = g_strdup(refused[_i].dataset);
    ck_assert_ptr_null(fm_run_new(c, &error));
    ck_assert_ptr_nonnull(error);
    ck_assert_msg(strstr(error->message, refused[_i].says) != NULL, "%s", error->message);
}
END_TEST

int
main(void)
{
    return run_tests(
        "oracle", 120, {its_flow_has_the_density_of_the_data, G_N_ELEMENTS(exact_cases)},
        {its_log_density_has_the_score_of_the_data, 2},
        {its_divergence_is_that_of_its_velocity, G_N_ELEMENTS(divergence_cases)}, {finite_data_are_exact, 6},
        {it_follows_the_runs_units}, {boxes_are_exact_far_out}, {spirals_are_exact},
        {derivatives_far_out_are_those_of_the_values, 3}, {linear_fields_are_closed, G_N_ELEMENTS(linear_cases)},
        {expressions_equal_names}, {a_bad_option_is_refused_in_a_sentence, G_N_ELEMENTS(bad_options)},
        {errors_have_the_size_that_was_set, G_N_ELEMENTS(error_cases)}, {scale_and_rotation_act_on_the_velocity},
        {what_it_cannot_do_is_refused_in_a_sentence, G_N_ELEMENTS(refused)});
}
