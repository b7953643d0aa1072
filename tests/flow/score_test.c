/* score_test.c: the gradient of a flow's log-density against differences of the log-density, on
 * fields that bend strongly, and against closed forms. */
#include "suite.h"
#include "flow/exact.h"
#include "setup.h"

#include <math.h>
#include <string.h>

static FmRun *
score_run(const char *net, const char *dataset, FmDtype dtype, double blow)
{
    FmRun *run = setup_run(net, dataset, NULL, "dopri5:rtol=1e-10,atol=1e-10", dtype);

    for (size_t i = 0; dtype == FM_F64 && i < fm_params_size(run->params); i++)
        ((double *)fm_params_block(run->params))[i] *= blow;
    return run;
}

static double
log_density(FmFlow *flow, const double *x)
{
    const FmLikelihood exact = {.trace = FM_TRACE_EXACT};
    g_autoptr(GError) error = NULL;
    double l;

    ck_assert_msg(fm_flow_log_density(flow, 1, x, NULL, &exact, &l, NULL, NULL, &error), "%s",
                  error ? error->message : "");
    return l;
}

/* Fourth-order central difference in coordinate d. */
static double
slope(FmFlow *flow, const double *x, size_t D, size_t d)
{
    const double h = 2e-3;
    g_autofree double *y = g_memdup2(x, D * sizeof *x);
    double at[4];

    for (int i = 0; i < 4; i++) {
        y[d] = x[d] + h * (i < 2 ? i - 2 : i - 1);
        at[i] = log_density(flow, y);
    }
    return (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * h);
}

static const struct {
    const char *net, *dataset;
    double blow; /* factor of the initial weights */
} nets[] = {{"mlp:width=32,depth=2", "moons", 3.0},
            {"mlp:width=24,depth=2,activation=tanh", "gaussian:dim=5,mean=0.4,sd=1.3", 3.0},
            {"oracle:scale=1.2,rotate=0.4,noise=0.5", "8gaussians", 1.0},
            {"realnvp", "moons", 2.0}};

START_TEST(scores_are_gradients_of_log_densities)
{
    FmRun *run = score_run(nets[_i].net, nets[_i].dataset, FM_F64, nets[_i].blow);
    const size_t D = run->data.D;
    g_autoptr(GError) error = NULL;
    g_autoptr(FmFlow) flow = fm_flow_from_run(run, &error);
    enum { N = 5 };
    g_autofree double *x = g_new(double, N *D), *score = g_new(double, N *D), *l = g_new(double, N);
    double bent = 0;

    ck_assert(fm_run_data(run, "all", 0, N, x, NULL, &error));
    ck_assert_msg(fm_flow_score(flow, N, x, NULL, l, score, NULL, &error), "%s", error ? error->message : "");
    for (size_t r = 0; r < N; r++) {
        double norm = 0;
        for (size_t d = 0; d < D; d++)
            norm += score[r * D + d] * score[r * D + d];
        norm = sqrt(norm);
        bent = MAX(bent, norm);
        ck_assert_double_eq_tol(l[r], log_density(flow, x + r * D), 1e-7);
        for (size_t d = 0; d < D; d++)
            ck_assert_double_eq_tol(score[r * D + d], slope(flow, x + r * D, D, d), 1e-6 * MAX(norm, 1.0));
    }
    ck_assert_double_gt(bent, 1.0);
    g_clear_pointer(&flow, fm_flow_free);
    fm_run_free(run);
}
END_TEST

/* More dimensions than tangents of one pass; the closed form is the data's own. */
START_TEST(many_dimensions_take_several_passes)
{
    FmRun *run = score_run("oracle:scale=1.0000000001", "mixture:k=3,dim=70,radius=1", FM_F64, 1.0);
    g_autoptr(GError) error = NULL;
    g_autoptr(FmFlow) flow = fm_flow_from_run(run, &error);
    enum { N = 3, D = 70 };
    double x[N * D], score[N * D], want[N * D], l[N], want_l[N];

    ck_assert(fm_flow_set_solver(flow, "dopri5:rtol=1e-7,atol=1e-7", &error));
    ck_assert(fm_run_data(run, "all", 0, N, x, NULL, &error));
    ck_assert(fm_flow_score(flow, N, x, NULL, l, score, NULL, &error));
    fm_dataset_score(run->plugin[FM_KIND_DATASET], N, x, want);
    fm_dataset_log_density(run->plugin[FM_KIND_DATASET], N, x, want_l);
    for (int i = 0; i < N * D; i++)
        ck_assert_double_eq_tol(score[i], want[i], 1e-4);
    for (int i = 0; i < N; i++)
        ck_assert_double_eq_tol(l[i], want_l[i], 1e-4);
    g_clear_pointer(&flow, fm_flow_free);
    fm_run_free(run);
}
END_TEST

/* A run in single precision is measured in double, from the same weights, for any threads. */
START_TEST(single_precision_is_measured_in_double)
{
    FmRun *run = score_run("mlp:width=32,depth=2", "moons", FM_F32, 1.0);
    g_autoptr(GError) error = NULL;
    enum { N = 300 };
    double x[2 * N], score[2][2 * N], l[2][N];

    ck_assert(fm_run_data(run, "all", 0, N, x, NULL, &error));
    for (int k = 0; k < 2; k++) {
        g_autoptr(FmFlow) flow = fm_flow_from_run(run, &error);
        fm_flow_set_threads(flow, k + 1);
        ck_assert(fm_flow_set_solver(flow, "dopri5:rtol=1e-6,atol=1e-6", &error));
        ck_assert(fm_flow_score(flow, N, x, NULL, l[k], score[k], NULL, &error));
    }
    ck_assert_mem_eq(score[0], score[1], sizeof score[0]);
    ck_assert_mem_eq(l[0], l[1], sizeof l[0]);
    fm_run_free(run);
}
END_TEST

/* Without grad(div v) the score is wrong: the plans do contain it. */
START_TEST(dropping_the_divergence_is_noticed)
{
    FmRun *run = score_run("mlp:width=32,depth=2", "moons", FM_F64, 3.0);
    g_autoptr(GError) error = NULL;
    g_autoptr(FmFlow) flow = fm_flow_from_run(run, &error);
    g_autoptr(FmExact) exact = fm__exact_new(flow, 1, &error);
    FmExactWorker *worker = fm__exact_worker_new(exact, &error);
    double state[2][5] = {{0.4, -0.3, -1.0, -0.4, 0.3}, {0.4, -0.3, -1.0, -0.4, 0.3}};

    for (int k = 0; k < 2; k++) {
        exact->drop = k == 1;
        ck_assert(fm__exact_carry(exact, worker, 0, 1, state[k], 0.0, 1.0, NULL, NULL));
    }
    ck_assert_double_eq_tol(state[0][0], state[1][0], 1e-7);
    ck_assert_double_gt(fabs(state[0][3] - state[1][3]), 1e-2 * fabs(state[0][3]));
    fm__exact_worker_free(worker);
    g_clear_pointer(&exact, fm__exact_free);
    g_clear_pointer(&flow, fm_flow_free);
    fm_run_free(run);
}
END_TEST

/* By formula where there is one, also outside of a board's squares, where every solver takes all its steps; else, and
 * for fields with an error, what the solver says. */
START_TEST(grids_take_the_formula)
{
    static const struct {
        const char *net, *dataset;
        gboolean formula;
    } cases[] = {{"oracle", "checkerboard", TRUE},
                 {"oracle", "8gaussians", TRUE},
                 {"oracle:scale=1.1", "8gaussians", FALSE},
                 {"mlp:width=8,depth=1", "8gaussians", FALSE}};
    const double x[] = {0.7, 0.9,  2.6,
                        0.3, -1.3, 0.4}; /* the board's sides are 2: inside of a square, outside, outside */
    Setup s = setup_flow(cases[_i].net, cases[_i].dataset, "ot");
    const FmPlugin *data = s.run->plugin[FM_KIND_DATASET];
    g_autoptr(GError) error = NULL;
    const double tolerance = cases[_i].formula ? 1e-9 : 1e-15; /* else the same numbers */
    double grid[3], want[3];

    ck_assert(fm_flow_grid_density(s.flow, 3, x, NULL, grid, &error));
    if (cases[_i].formula)
        fm_dataset_log_density(data, 3, x, want);
    else
        ck_assert(fm_flow_log_density(s.flow, 3, x, NULL, NULL, want, NULL, NULL, &error));
    for (int i = 0; i < 3; i++)
        if (isfinite(want[i]))
            ck_assert_double_eq_tol(grid[i], want[i], tolerance);
        else
            ck_assert_double_eq(exp(grid[i]), 0.0);
    ck_assert(isfinite(want[0]));
    if (cases[_i].formula) {
        double again[3], score[6];

        ck_assert(fm_flow_formula_density(s.flow, 3, x, again, score, &error));
        ck_assert(memcmp(again, grid, sizeof grid) == 0);
        for (int i = 0; i < 6; i++)
            ck_assert(isfinite(score[i]) == isfinite(grid[i / 2]));
    }
    setup_clear(&s);
}
END_TEST

int
main(void)
{
    return run_tests("score", 120, {scores_are_gradients_of_log_densities, G_N_ELEMENTS(nets)},
                     {many_dimensions_take_several_passes}, {single_precision_is_measured_in_double},
                     {dropping_the_divergence_is_noticed}, {grids_take_the_formula, 4});
}
