/* step_test.c: what a written first step says is what the step did. */
#include "suite.h"
#include "tree.h"

#include <fmcore/io.h>

#include "flow/run.h"

#include <math.h>

static FmArray *
load(const char *dir, const char *name)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *file = g_build_filename(dir, name, NULL);
    FmArray *array = fm_array_load(file, &error);
    FmArray *wide = array ? fm_array_convert(array, FM_F64, &error) : NULL;

    ck_assert_msg(wide != NULL, "%s: %s", name, error ? error->message : "");
    fm_array_free(array);
    return wide;
}

/* sum of (v - u)^2 over all numbers, and of v - u over rows for each dimension. */
static double
squares(FmRun *run, const FmArray *xt, const FmArray *t, const FmArray *ut, double *sum)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(FmFlow) flow = fm_flow_from_run(run, &error);
    const size_t D = run->data.D;
    double total = 0, x[2], v[2];

    ck_assert(flow != NULL && D == 2);
    for (size_t r = 0; r < fm_array_rows(xt); r++) {
        for (size_t d = 0; d < D; d++)
            x[d] = ((double *)xt->data)[r * D + d] * run->scale[d] + run->shift[d];
        ck_assert(fm_flow_velocity(flow, 1, x, ((double *)t->data)[r], NULL, v, NULL, &error));
        for (size_t d = 0; d < D; d++) {
            const double gap = v[d] / run->scale[d] - ((double *)ut->data)[r * D + d];

            total += gap * gap;
            sum[d] += gap;
        }
    }
    return total;
}

/* The loss is the mean of (v - u)^2, and its gradient in the last bias 2 / (B D) sum (v - u). */
START_TEST(written_step_is_the_step)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *dir = g_dir_make_tmp("fmcore-XXXXXX", NULL);
    g_autoptr(FmConfig) c = fm_config_new();
    double loss = 0, sum[2] = {0, 0};

    c->spec[FM_KIND_DATASET] = g_strdup("moons");
    c->spec[FM_KIND_NET] = g_strdup("mlp:width=16,depth=2");
    c->dtype = FM_F64;
    c->batch_size = 100; /* not a multiple of the tile */
    c->threads = 2;
    FmRun *run = fm_run_new(c, &error);
    ck_assert(run != NULL && dir != NULL);
    ck_assert_msg(fm_run_write_step(run, dir, &loss, &error), "%s", error ? error->message : "");
    ck_assert_ptr_null(run->dir);

    g_autoptr(FmArray) xt = load(dir, "xt.npy"), t = load(dir, "t.npy"), ut = load(dir, "ut.npy");
    g_autoptr(FmArray) g = load(dir, "gradient.layers.2.bias.npy");
    ck_assert_uint_eq(fm_array_rows(xt), 100);
    const double total = squares(run, xt, t, ut, sum);
    ck_assert_double_eq_tol(loss, total / 200.0, 1e-12 * loss);
    ck_assert_uint_eq(fm_array_size(g), 2);
    for (int d = 0; d < 2; d++)
        ck_assert_double_eq_tol(((double *)g->data)[d], 2.0 / 200.0 * sum[d], 1e-12);
    fm_run_free(run);

    run = fm_run_load(dir, &error); /* the weights are there, too */
    ck_assert_msg(run != NULL, "%s", error ? error->message : "");
    sum[0] = sum[1] = 0;
    ck_assert_double_eq_tol(squares(run, xt, t, ut, sum), total, 1e-12 * total);
    fm_run_free(run);
    remove_tree(dir);
}
END_TEST

static gboolean
ten(void *ctx, double ms)
{
    ck_assert(ms >= 0);
    return ++*(int *)ctx < 10;
}

START_TEST(as_many_steps_as_asked)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(FmConfig) c = fm_config_new();
    int steps = 0;
    double flops = 0;

    c->spec[FM_KIND_DATASET] = g_strdup("moons");
    c->spec[FM_KIND_NET] = g_strdup("mlp:width=16,depth=1");
    c->batch_size = 32;
    FmRun *run = fm_run_new(c, &error);
    ck_assert(run != NULL);
    ck_assert(fm_run_bench_step(run, ten, &steps, &flops, NULL, &error));
    ck_assert_int_eq(steps, 10);
    /* forward 2 (3 16 + 16 2), the same for the weights' gradients, 2 (16 2) for the hidden layer's */
    ck_assert_double_ge(flops, 32 * (2.0 * 2 * (48 + 32) + 2 * 32));
    fm_run_free(run);
}
END_TEST

int
main(void)
{
    return run_tests("step", 0, {written_step_is_the_step}, {as_many_steps_as_asked});
}
