/* plan_test.c: plans: fusion changes nothing, threads change no byte, wrong graphs are refused. */
#include "suite.h"

#include <fmcore/fmcore.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define N 333 /* several tiles and a remainder */
#define D 7

static const FmKey key = {.seed = 3, .stream = FM_STREAM_USER};

/* sum over the batch of a small expression, and its gradient in the weight; y is one of its rows. */
static FmPlan *
expression(FmDtype dtype, gboolean no_fusion, FmPlugin *backend, FmGraph **graph)
{
    const size_t dim[2] = {D, D};
    g_autoptr(GError) error = NULL;
    FmNode *x, *w, *a, *out[3];
    FmPlan *plan;

    *graph = fm_graph_new();
    x = fm_input(*graph, "x", 1, 1, dim);
    w = fm_param(*graph, "w", 2, dim, (FmInit){FM_INIT_NORMAL, 0.3});
    a = fm_tanh(fm_matmul(x, w));
    /* A value read once as it is and once behind stop_gradient. */
    out[0] = fm_add(fm_mul(a, fm_stop_gradient(a)), fm_sigmoid(fm_affine(a, 2.385, -0.4)));
    out[1] = fm_sum_batch(fm_sum(fm_square(out[0]), 1, FALSE));
    ck_assert(fm_vjp(out[1], NULL, &w, 1, &out[2]));
    plan = fm_plan_new(*graph, out, 3, &(FmPlanOptions){.dtype = dtype, .backend = backend, .no_fusion = no_fusion},
                       &error);
    ck_assert_msg(plan != NULL, "%s", error ? error->message : "");
    return plan;
}

typedef struct Result {
    double y[N * D], loss, gradient[D * D];
} Result;

static void
run(Result *r, gboolean no_fusion, const char *backend, int threads)
{
    FmGraph *graph;
    g_autoptr(FmPlugin) instance = backend ? fm_backend_new(backend, NULL) : NULL;
    FmPlan *plan = expression(FM_F64, no_fusion, instance, &graph);
    FmParams *params = fm_params_new(graph, FM_F64, 1, NULL);
    FmExec *exec = fm_exec_new(plan, params, threads, NULL);
    static double x[N * D];
    const void *const in[] = {x};
    void *const out[] = {r->y, &r->loss, r->gradient};

    fm_fill_normal_f64(key, 0, N, D, x);
    ck_assert(fm_exec_run(exec, N, in, NULL, NULL, out, key, NULL));
    fm_exec_free(exec);
    fm_params_free(params);
    fm_plan_free(plan);
    fm_graph_free(graph);
}

START_TEST(fusion_and_backends_agree)
{
    static Result fused, plain, reference;

    run(&fused, FALSE, NULL, 1);
    run(&plain, TRUE, NULL, 1);
    run(&reference, FALSE, "reference", 1);
    for (size_t i = 0; i < N * D; i++) {
        ck_assert_double_eq_tol(fused.y[i], plain.y[i], 1e-14);
        ck_assert_double_eq_tol(fused.y[i], reference.y[i], 1e-12);
    }
    ck_assert_double_eq_tol(fused.loss, reference.loss, 1e-9 * fabs(reference.loss));
    for (size_t i = 0; i < D * D; i++)
        ck_assert_double_eq_tol(fused.gradient[i], reference.gradient[i], 1e-9);
}
END_TEST

START_TEST(threads_change_no_byte)
{
    static Result one, many;

    run(&one, FALSE, NULL, 1);
    for (int threads = 2; threads <= 8; threads += threads == 2 ? 1 : 5) {
        memset(&many, 0, sizeof many);
        run(&many, FALSE, NULL, threads);
        ck_assert_mem_eq(&one, &many, sizeof one);
    }
}
END_TEST

START_TEST(rows_that_need_a_sum_over_rows_are_refused)
{
    g_autoptr(FmGraph) graph = fm_graph_new();
    g_autoptr(GError) error = NULL;
    const size_t dim = D;
    FmNode *x = fm_input(graph, "x", 1, 1, &dim);
    FmNode *centred = fm_sub(x, fm_sum_batch(x));

    ck_assert_ptr_null(fm_plan_new(graph, &centred, 1, &(FmPlanOptions){.dtype = FM_F32}, &error));
    ck_assert_int_eq(error->code, FM_ERROR_UNSUPPORTED);
}
END_TEST

START_TEST(shapes_that_do_not_fit_are_said_once)
{
    g_autoptr(FmGraph) graph = fm_graph_new();
    g_autoptr(GError) error = NULL;
    const size_t three = 3, four = 4;
    FmNode *a = fm_input(graph, "a", 1, 1, &three), *b = fm_input(graph, "b", 1, 1, &four);

    ck_assert_ptr_null(fm_exp(fm_add(a, b)));
    ck_assert(!fm_graph_ok(graph, &error));
    ck_assert_ptr_nonnull(strstr(error->message, "(B, 3)"));
}
END_TEST

START_TEST(philox_gives_the_published_words)
{
    static const guint32 counters[3][4] = {{0}, {~0u, ~0u, ~0u, ~0u}, {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}};
    static const guint32 keys[3][2] = {{0}, {~0u, ~0u}, {0xa4093822, 0x299f31d0}};
    static const guint32 words[3][4] = {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
                                        {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
                                        {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}};

    for (int i = 0; i < 3; i++) {
        guint32 out[4];

        fm_philox(counters[i], keys[i], out);
        ck_assert_mem_eq(out, words[i], sizeof out);
    }
}
END_TEST

START_TEST(normals_have_the_moments_of_a_normal)
{
    enum { M = 100000 };
    g_autofree float *z = g_new(float, M);
    double m[4] = {0.0};

    fm_fill_normal_f32(key, 0, M / 100, 100, z);
    for (size_t i = 0; i < M; i++)
        for (int k = 0; k < 4; k++)
            m[k] += pow(z[i], k + 1) / M;
    ck_assert_double_eq_tol(m[0], 0.0, 4.0 * sqrt(1.0 / M));
    ck_assert_double_eq_tol(m[1], 1.0, 4.0 * sqrt(2.0 / M));
    ck_assert_double_eq_tol(m[2], 0.0, 4.0 * sqrt(15.0 / M));
    ck_assert_double_eq_tol(m[3], 3.0, 4.0 * sqrt(96.0 / M));
}
END_TEST

START_TEST(permutations_meet_every_index_once)
{
    enum { M = 1237 };
    int seen[M] = {0};

    for (guint64 i = 0; i < M; i++)
        seen[fm_permute_index(key, M, i)]++;
    for (size_t i = 0; i < M; i++)
        ck_assert_int_eq(seen[i], 1);
}
END_TEST

/* loss = scale * sum_batch(x) with `scale` an input without batch axis, read after the sum: any worker
 * may have been the one to bind it. */
START_TEST(inputs_without_batch_axis_reach_the_end)
{
    const size_t one = 1;
    g_autoptr(FmGraph) graph = fm_graph_new();
    FmNode *x = fm_input(graph, "x", 1, 1, &one), *scale = fm_input(graph, "scale", 0, 1, &one);
    FmNode *out[2] = {fm_mul(fm_sum_batch(x), scale), fm_affine(scale, 2.0, 1.0)};
    g_autoptr(FmPlan) plan = fm_plan_new(graph, out, 2, &(FmPlanOptions){.dtype = FM_F64, .tile = 8}, NULL);
    g_autoptr(FmExec) exec = fm_exec_new(plan, NULL, 8, NULL);
    double data[N], sum, shifted, factor = 0;
    const void *in[2];

    in[fm_plan_input_find(plan, "x")] = data;
    in[fm_plan_input_find(plan, "scale")] = &factor;
    for (size_t i = 0; i < N; i++)
        data[i] = 0.5;
    for (size_t n = 1; n < N; n += 1 + n / 3)
        for (int round = 0; round < 20; round++) {
            factor = 2.385 + round;
            ck_assert(fm_exec_run(exec, n, in, NULL, NULL, (void *[]){&sum, &shifted}, key, NULL));
            ck_assert_double_eq_tol(sum, 0.5 * (double)n * factor, 1e-9);
            ck_assert_double_eq_tol(shifted, 2.0 * factor + 1.0, 1e-12);
        }
}
END_TEST

/* The sum over n rows of tanh(x) on 1 and 16 threads. */
static void
check_sums(const FmPlanOptions *options, size_t n, const double *x)
{
    const size_t dim[2] = {D, D};
    g_autoptr(FmGraph) graph = fm_graph_new();
    FmNode *in = fm_input(graph, "x", 1, 1, dim), *out = fm_sum_batch(fm_tanh(in));
    g_autoptr(FmPlan) plan = fm_plan_new(graph, &out, 1, options, NULL);
    double sum[2][D];

    for (int i = 0; i < 2; i++) {
        g_autoptr(FmExec) exec = fm_exec_new(plan, NULL, i == 0 ? 1 : 16, NULL);

        ck_assert(fm_exec_run(exec, n, (const void *[]){x}, NULL, NULL, (void *[]){sum[i]}, key, NULL));
    }
    ck_assert_mem_eq(sum[0], sum[1], sizeof sum[0]);
    for (size_t d = 0; d < D; d++) {
        double want = 0;

        for (size_t r = 0; r < n; r++)
            want += tanh(x[r * D + d]);
        ck_assert_double_eq_tol(sum[0][d], want, 1e-11);
    }
}

/* Lanes as asked for, also more than tiles and more than usual; the batch is a hint only. */
START_TEST(lanes_and_batch_hint)
{
    static const size_t rows[] = {1, 31, 96, 97, 128, 129, 256, 257, N};
    g_autofree double *x = g_new(double, N *D);

    fm_fill_normal_f64(key, 0, N, D, x);
    for (size_t lanes = 0; lanes <= 40; lanes += 8)
        for (size_t batch = 0; batch <= 20; batch += 10)
            check_sums(&(FmPlanOptions){.dtype = FM_F64, .tile = 10, .lanes = lanes, .batch = batch}, N, x);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
        for (size_t batch = 0; batch <= 1000; batch += 50)
            check_sums(&(FmPlanOptions){.dtype = FM_F64, .tile = 32, .batch = batch}, rows[i], x);
}
END_TEST

int
main(void)
{
    return run_tests("plan", 120, {fusion_and_backends_agree}, {threads_change_no_byte},
                     {inputs_without_batch_axis_reach_the_end}, {lanes_and_batch_hint},
                     {rows_that_need_a_sum_over_rows_are_refused}, {shapes_that_do_not_fit_are_said_once},
                     {philox_gives_the_published_words}, {normals_have_the_moments_of_a_normal},
                     {permutations_meet_every_index_once});
}
