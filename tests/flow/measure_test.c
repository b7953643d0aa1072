/* measure_test.c: densities of samples as the solver's steps make them, and what is said about the
 * error of a likelihood. */
#include "suite.h"
#include "flow/integrate.h"

#include <math.h>
#include <string.h>

/* A run in double whose net has its first weights times `gain`: a strongly bent field. */
static FmRun *
random_run(const char *dataset, const char *net, double gain)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(FmConfig) c = fm_config_new();

    c->spec[FM_KIND_DATASET] = g_strdup(dataset);
    c->spec[FM_KIND_NET] = g_strdup(net);
    c->dtype = FM_F64;
    c->threads = 2;
    FmRun *run = fm_run_new(c, &error);
    ck_assert_msg(run != NULL, "%s", error ? error->message : "");
    for (size_t i = 0; i < fm_params_size(run->params); i++)
        ((double *)fm_params_block(run->params))[i] *= gain;
    return run;
}

static FmFlow *
flow_of(FmRun *run)
{
    g_autoptr(GError) error = NULL;
    FmFlow *flow = fm_flow_from_run(run, &error);

    ck_assert_msg(flow != NULL, "%s", error ? error->message : "");
    return flow;
}

static void
set_solver(FmFlow *flow, const char *spec)
{
    g_autoptr(GError) error = NULL;

    ck_assert_msg(fm_flow_set_solver(flow, spec, &error), "%s", error ? error->message : "");
}

static const FmLikelihood of_the_map = {.trace = FM_TRACE_MAP};
static const FmLikelihood of_the_flow = {.trace = FM_TRACE_EXACT};

static void
sample(FmFlow *flow, size_t n, const double *x0, const FmLikelihood *how, double *x, double *log_q)
{
    g_autoptr(GError) error = NULL;

    ck_assert_msg(fm_flow_sample_density(flow, n, 3, x0, NULL, how, x, log_q, NULL, NULL, &error), "%s",
                  error ? error->message : "");
}

static void
density(FmFlow *flow, size_t n, const double *x, const FmLikelihood *how, double *log_q)
{
    g_autoptr(GError) error = NULL;

    ck_assert_msg(fm_flow_log_density(flow, n, x, NULL, how, log_q, NULL, NULL, &error), "%s",
                  error ? error->message : "");
}

static const struct {
    const char *name;
    int order;
} fixed[] = {{"euler", 1}, {"midpoint", 2}, {"heun2", 2}, {"heun3", 3}, {"rk4", 4}};

/* In one dimension: log p0 - log |dx/dx0| by central differences of the samples themselves. */
START_TEST(density_of_the_map_is_its_derivative)
{
    enum { N = 9 };
    FmRun *run = random_run("gaussian:dim=1,mean=0.7,sd=1.9", "mlp:width=16,depth=2", 2.2);
    g_autoptr(FmFlow) flow = flow_of(run);
    g_autofree char *spec = g_strdup_printf("%s:step=0.23", fixed[_i].name);
    const double h = 1e-5;
    double x0[3 * N], x[3 * N], log_q[3 * N], ode[3 * N], apart = 0.0;

    for (int i = 0; i < N; i++)
        for (int k = 0; k < 3; k++)
            x0[3 * i + k] = -2.1 + 0.53 * i + h * (k - 1);
    set_solver(flow, spec);
    sample(flow, 3 * N, x0, &of_the_map, x, log_q);
    sample(flow, 3 * N, x0, &of_the_flow, x, ode);
    for (int i = 0; i < N; i++) {
        const double z = x0[3 * i + 1], slope = (x[3 * i + 2] - x[3 * i]) / (2.0 * h);
        const double want = -0.5 * z * z - 0.5 * log(2.0 * G_PI) - log(fabs(slope));

        ck_assert_double_eq_tol(log_q[3 * i + 1], want, 1e-8);
        apart = fmax(apart, fabs(ode[3 * i + 1] - want));
    }
    ck_assert_double_gt(apart, 1e-6); /* the differential equation's density is another one */
    g_clear_pointer(&flow, fm_flow_free);
    fm_run_free(run);
}
END_TEST

/* Mean distance over points of the two densities at n steps. */
static double
gap(FmFlow *flow, const char *name, int n, const double *x, size_t rows, const double *exact)
{
    g_autofree char *spec = g_strdup_printf("%s:step=%.17g", name, 1.0 / n);
    g_autofree double *log_q = g_new(double, rows);
    double sum = 0.0;

    set_solver(flow, spec);
    density(flow, rows, x, &of_the_map, log_q);
    for (size_t r = 0; r < rows; r++)
        sum += fabs(log_q[r] - exact[r]) / (double)rows;
    return sum;
}

START_TEST(gap_to_the_flow_falls_at_the_order)
{
    enum { N = 40 };
    FmRun *run = random_run("moons", "mlp:width=16,depth=2", 2.0);
    g_autoptr(FmFlow) flow = flow_of(run);
    const int n = fixed[_i].order == 1 ? 64 : fixed[_i].order == 2 ? 24 : 12;
    double x[2 * N], exact[N], log_q[N];

    set_solver(flow, "dopri8:rtol=1e-12,atol=1e-12");
    sample(flow, N, NULL, &of_the_flow, x, log_q);
    density(flow, N, x, &of_the_flow, exact);
    const double coarse = gap(flow, fixed[_i].name, n, x, N, exact);
    const double fine = gap(flow, fixed[_i].name, 2 * n, x, N, exact);
    ck_assert_msg(fabs(log2(coarse / fine) - fixed[_i].order) < 0.3, "%s: %g to %g, order %g", fixed[_i].name, coarse,
                  fine, log2(coarse / fine));
    g_clear_pointer(&flow, fm_flow_free);
    fm_run_free(run);
}
END_TEST

/* Samples' own densities and those found from the points by inverting the steps. */
START_TEST(steps_are_inverted)
{
    enum { N = 200 };
    FmRun *run = random_run("gaussian:dim=5", "mlp:width=24,depth=2", 1.7);
    g_autoptr(FmFlow) flow = flow_of(run);
    g_autoptr(GError) error = NULL;
    static double x[5 * N], z[5 * N], log_q[N], again[N];
    FmSolveSummary summary;

    set_solver(flow, "heun2:step=0.125");
    sample(flow, N, NULL, &of_the_map, x, log_q);
    ck_assert(fm_flow_log_density(flow, N, x, NULL, &of_the_map, again, z, &summary, &error));
    ck_assert_uint_eq(summary.failed, 0);
    ck_assert_double_eq(summary.nfe_mean, 16.0);
    for (size_t r = 0; r < N; r++)
        ck_assert_double_eq_tol(again[r], log_q[r], 1e-9);
    fm_flow_set_threads(flow, 1);
    static double alone[N];
    ck_assert(fm_flow_log_density(flow, N, x, NULL, &of_the_map, alone, z, NULL, &error));
    ck_assert_mem_eq(alone, again, sizeof alone);
    set_solver(flow, "dopri5");
    ck_assert(!fm_flow_log_density(flow, N, x, NULL, &of_the_map, again, z, NULL, &error));
    ck_assert(g_error_matches(error, FM_ERROR, FM_ERROR_UNSUPPORTED));
    g_clear_pointer(&flow, fm_flow_free);
    fm_run_free(run);
}
END_TEST

/* The error that a finer solve predicts is the error there is. */
START_TEST(solver_error_is_estimated)
{
    static const char *const specs[] = {"euler:step=0.02", "midpoint:step=0.05",         "heun3:step=0.1",
                                        "rk4:step=0.2",    "dopri5:rtol=1e-4,atol=1e-4", "bosh3:rtol=1e-5,atol=1e-5"};
    enum { N = 60 };
    FmRun *run = random_run("moons", "mlp:width=16,depth=2", 2.0);
    g_autoptr(FmFlow) flow = flow_of(run);
    g_autoptr(GError) error = NULL;
    double x[2 * N], exact[N], log_q[N], difference[N], off = 0.0, square = 0.0;

    set_solver(flow, "dopri8:rtol=1e-12,atol=1e-12");
    sample(flow, N, NULL, &of_the_flow, x, log_q);
    density(flow, N, x, &of_the_flow, exact);
    set_solver(flow, specs[_i]);
    density(flow, N, x, &of_the_flow, log_q);
    ck_assert(fm_flow_log_density_error(flow, N, x, NULL, &of_the_flow, log_q, difference, &error));
    for (size_t r = 0; r < N; r++) {
        off += pow(exact[r] - log_q[r] - difference[r], 2.0);
        square += pow(exact[r] - log_q[r], 2.0);
    }
    ck_assert_msg(off < 0.2 * 0.2 * square, "%s: rms error %g, estimate off by %g", specs[_i], sqrt(square / N),
                  sqrt(off / N));
    /* the solver is the one that was set */
    density(flow, N, x, &of_the_flow, exact);
    ck_assert_mem_eq(exact, log_q, sizeof exact);
    if (_i < 4) { /* the map's density has no such error */
        ck_assert(fm_flow_log_density_error(flow, N, x, NULL, &of_the_map, log_q, difference, &error));
        for (size_t r = 0; r < N; r++)
            ck_assert_double_eq(difference[r], 0.0);
    }
    g_clear_pointer(&flow, fm_flow_free);
    fm_run_free(run);
}
END_TEST

/* ---- probes and dequantisation ---- */

/* Two draws of one weight: E log((e^a + e^b) / 2) - mean = E log cosh(sd Z / sqrt 2), by a sum over
 * a fine grid of Z. */
START_TEST(bias_of_independent_noise)
{
    const FmKey key = {.seed = 5, .stream = FM_STREAM_USER};
    const double l[2] = {-3.7, -3.7}, sd[4] = {0.1, 0.5, 1.3, 3.0};
    double far[20];

    for (int i = 0; i < 4; i++) {
        double want = 0.0;

        for (double z = -9.0; z < 9.0; z += 1e-3)
            want += 1e-3 * exp(-0.5 * z * z) / sqrt(2.0 * G_PI) * log(cosh(sd[i] * z * M_SQRT1_2));
        ck_assert_double_eq_tol(fm__noise_bias(2, l, sd[i], key), want, 0.12 * want);
    }
    for (int k = 0; k < 20; k++)
        far[k] = k == 7 ? 1.0 : -80.0; /* one draw has all the weight: nothing to choose from */
    ck_assert_double_eq_tol(fm__noise_bias(20, far, 3.0, key), 0.0, 1e-9);
    memset(far, 0, sizeof far);
    ck_assert_double_gt(fm__noise_bias(20, far, 3.0, key), 2.0); /* 3 nats at sd 3 */
    ck_assert_double_lt(fm__noise_bias(20, far, 3.0, key), 3.5);
    ck_assert_double_eq(fm__noise_bias(1, far, 3.0, key), 0.0);
}
END_TEST

static void
set_weight(FmRun *run, const char *name, size_t at, double value)
{
    ((double *)fm_params_data(run->params, fm_params_find(run->params, name)))[at] = value;
}

/* v = A x with a Rademacher probe e: e.A e = tr A + (A01 + A10) e0 e1, so that a log-density has
 * noise of +- s, s = |A01 + A10|, and the same noise in all draws that share the probe. */
START_TEST(draws_of_an_image_share_their_probes)
{
    enum { N = 400, K = 8 };
    const double a[2][2] = {{0.3, 1.1}, {0.7, -0.2}}, s = 1.8;
    FmRun *run = random_run("moons", "mlp:width=2,depth=1,activation=identity", 0.0);
    g_autoptr(FmFlow) flow = flow_of(run);
    g_autoptr(GError) error = NULL;
    const FmLikelihood probed = {
        .trace = FM_TRACE_HUTCHINSON, .probes = 1, .key = {.seed = 8, .stream = FM_STREAM_PROBE}};
    const FmLikelihood whole = {.trace = FM_TRACE_EXACT, .key = probed.key}; /* same draws */
    static double x[2 * N], exact[N], noisy[N];
    FmProbeNoise noise;
    double mean = 0.0, square = 0.0, bias = 0.0, pairs = 1.0;

    for (size_t i = 0; i < 2; i++) {
        run->shift[i] = 0.0;
        run->scale[i] = 1.0;
        set_weight(run, "layers.0.weight", i * 3 + i, 1.0);
        for (size_t j = 0; j < 2; j++)
            set_weight(run, "layers.1.weight", i * 2 + j, a[i][j]);
    }
    run->data.levels = 256;
    set_solver(flow, "rk4:step=0.05");
    fm_fill_uniform_f64((FmKey){.seed = 1, .stream = FM_STREAM_USER}, 0, N, 2, x);
    for (size_t i = 0; i < 2 * N; i++)
        x[i] = floor(256.0 * x[i]) / 255.0;
    ck_assert(fm_flow_bpd(flow, N, x, NULL, &whole, K, exact, NULL, &error));
    ck_assert(fm_flow_bpd(flow, N, x, NULL, &probed, K, noisy, NULL, &error));
    for (size_t r = 0; r < N; r++) { /* each off by s or -s exactly */
        ck_assert_double_eq_tol(fabs(noisy[r] - exact[r]), s, 1e-6);
        mean += (noisy[r] - exact[r]) / N;
    }
    ck_assert_double_lt(fabs(mean), 4.0 * s / sqrt(N));
    /* with a probe set per draw the mean would be off by E log mean exp of K signs */
    for (int k = 0; k <= K; k++) {
        bias += pairs / pow(2.0, K) * log((k * exp(s) + (K - k) * exp(-s)) / K);
        pairs *= (double)(K - k) / (k + 1);
    }
    ck_assert_double_gt(bias, 0.9);
    ck_assert_double_gt(bias, 6.0 * s / sqrt(N)); /* so the test above would see it */
    ck_assert(fm_flow_probe_noise(flow, N, x, NULL, &probed, K, &noise, &error));
    ck_assert_double_eq_tol(noise.sd, s, 0.15 * s);
    ck_assert_double_lt(noise.sd_within, 1e-6);
    ck_assert_double_lt(fabs(noise.bias), 1e-6);
    ck_assert(fm_flow_probe_noise(flow, N, x, NULL, &whole, K, &noise, &error));
    ck_assert_double_eq(noise.sd, 0.0);
    ck_assert(fm_flow_bpd_error(flow, N, x, NULL, &whole, K, exact, noisy, &error));
    for (size_t r = 0; r < N; r++) {
        square += noisy[r] * noisy[r] / N;
        ck_assert_double_lt(fabs(noisy[r]), 1e-4);
    }
    ck_assert_double_gt(square, 0.0);
    g_clear_pointer(&flow, fm_flow_free);
    fm_run_free(run);
}
END_TEST

/* ---- the integral of the density ---- */

START_TEST(a_gaussian_has_mass_one)
{
    static const struct {
        const char *spec;
        size_t D, points;
    } cases[] = {{"gaussian:dim=1,mean=3,sd=2.385", 1, 64},
                 {"gaussian:dim=2,mean=-1,sd=0.7", 2, 40},
                 {"gaussian:dim=3,sd=1.3", 3, 24}};
    FmRun *run = random_run(cases[_i].spec, "mlp:width=4,depth=1", 0.0); /* v = 0 */
    g_autoptr(FmFlow) flow = flow_of(run);
    g_autoptr(GError) error = NULL;
    FmDensityMass m;

    set_solver(flow, "rk4:step=0.5");
    ck_assert(fm_flow_density_mass(flow, &of_the_flow, cases[_i].points, &m, &error));
    ck_assert_double_eq_tol(m.value, 1.0, 1e-4); /* what lies 4 and more deviations out is left */
    ck_assert_double_lt(m.grid_error, 2e-3);
    ck_assert_double_lt(m.tail, 2e-3);
    ck_assert_uint_eq(m.failed, 0);
    ck_assert(!fm_flow_density_mass(flow, &of_the_flow, 7, &m, &error));
    ck_assert(g_error_matches(error, FM_ERROR, FM_ERROR_USAGE));
    g_clear_pointer(&flow, fm_flow_free);
    fm_run_free(run);
}
END_TEST

/* Edges that lie alike on the grid and on every other cell are not taken for no error. */
START_TEST(the_grid_error_of_a_density_with_edges_holds)
{
    static const size_t points[] = {16, 32, 64, 128, 200};
    FmRun *run = random_run("checkerboard", "oracle", 0.0);
    g_autoptr(FmFlow) flow = flow_of(run);
    g_autoptr(GError) error = NULL;
    FmDensityMass m;

    ck_assert(fm_flow_density_mass(flow, &of_the_flow, points[_i], &m, &error));
    ck_assert_msg(fabs(m.value - 1.0) <= m.grid_error + m.tail, "mass %g, grid error %g, tail %g", m.value,
                  m.grid_error, m.tail);
    g_clear_pointer(&flow, fm_flow_free);
    fm_run_free(run);
}
END_TEST

START_TEST(a_trained_flow_has_mass_one)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(FmConfig) c = fm_config_new();
    FmTrainResult result;
    FmDensityMass m, wrong;

    c->spec[FM_KIND_DATASET] = g_strdup("moons");
    c->spec[FM_KIND_NET] = g_strdup("mlp:width=32,depth=2");
    c->steps = 500;
    c->batch_size = 128;
    c->threads = 2;
    FmRun *run = fm_run_new(c, &error);
    ck_assert_msg(run != NULL, "%s", error ? error->message : "");
    ck_assert(fm_run_train(run, NULL, NULL, &result, &error));
    g_array_unref(result.loss_curve);
    g_autoptr(FmFlow) flow = flow_of(run);
    ck_assert(fm_flow_density_mass(flow, &of_the_flow, 80, &m, &error));
    ck_assert_msg(fabs(m.value - 1.0) < m.grid_error + m.tail + 2e-3, "mass %g, grid error %g, tail %g", m.value,
                  m.grid_error, m.tail);
    ck_assert_double_lt(m.grid_error, 0.02);
    /* a likelihood that is wrong is seen: the flow's density of coarse steps does not add up */
    set_solver(flow, "euler:step=0.25");
    ck_assert(fm_flow_density_mass(flow, &of_the_flow, 80, &wrong, &error));
    ck_assert_double_gt(fabs(wrong.value - 1.0), 0.02);
    g_clear_pointer(&flow, fm_flow_free);
    fm_run_free(run);
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("measure");
    TCase *c = tcase_create("measure");

    tcase_set_timeout(c, 120);
    tcase_add_loop_test(c, density_of_the_map_is_its_derivative, 0, (int)G_N_ELEMENTS(fixed));
    tcase_add_loop_test(c, gap_to_the_flow_falls_at_the_order, 0, (int)G_N_ELEMENTS(fixed));
    tcase_add_test(c, steps_are_inverted);
    tcase_add_loop_test(c, solver_error_is_estimated, 0, 6);
    tcase_add_test(c, bias_of_independent_noise);
    tcase_add_test(c, draws_of_an_image_share_their_probes);
    tcase_add_loop_test(c, a_gaussian_has_mass_one, 0, 3);
    tcase_add_loop_test(c, the_grid_error_of_a_density_with_edges_holds, 0, 5);
    tcase_add_test(c, a_trained_flow_has_mass_one);
    suite_add_tcase(s, c);
    return run_suite(s, CK_NOFORK); /* worker threads do not survive a fork */
}
