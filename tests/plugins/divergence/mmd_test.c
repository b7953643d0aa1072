/* mmd_test.c: kernel widths at the ends of what they may be. */
#include "estimators.h"

static double
detail(const FmEstimate *e, const char *name)
{
    for (size_t i = 0; i < e->n_details; i++)
        if (strcmp(e->detail[i].name, name) == 0)
            return e->detail[i].number;
    return NAN;
}

/* A width of almost nothing: a row is like its equals alone, one of the 2 N - 1 others of its own sample and none of
 * the other. */
START_TEST(a_narrow_kernel_counts_equal_rows)
{
    enum { N = 20 };
    static const char *const spec[] = {"mmd:bandwidth=[1e-200]", "mmd:bandwidth=[1e-300]", "mmd:bandwidth=[1e-5]"};
    g_autoptr(FmPlugin) d = open_plugin(spec[_i]);
    double x[2 * N], y[2 * N];

    for (size_t i = 0; i < 2 * N; i++) {
        x[i] = 2.385 * (double)(i / 2);
        y[i] = x[i] + 0.77;
    }
    const FmSamples p = samples(x, 2 * N, 1), q = samples(y, 2 * N, 1);
    const FmEstimate e = estimate(d, &p, &q, 2);

    ck_assert_double_eq_tol(e.value, 2.0 / (2.0 * N - 1.0), 1e-12);
    ck_assert(isfinite(e.se));
}
END_TEST

/* Most rows agree, so that the median distance is 0: the width comes from pairs that differ, and goes with the
 * data's unit. */
START_TEST(the_width_follows_the_unit_where_most_rows_agree)
{
    enum { N = 200 };
    g_autoptr(FmPlugin) d = open_plugin("mmd");
    double width[2], value[2];

    for (int k = 0; k < 2; k++) {
        const double unit = k ? 1e-6 : 1.0;
        double *x = draw(1, N, 2, 3.0 * unit, 1.37 * unit), *y = draw(2, N, 2, 4.0 * unit, 1.37 * unit);

        for (size_t i = 0; i < N * 2; i++)
            if (i / 2 % 10 != 0)
                x[i] = y[i] = 0.0;
        const FmSamples p = samples(x, N, 2), q = samples(y, N, 2);
        const FmEstimate e = estimate(d, &p, &q, 1);

        width[k] = detail(&e, "bandwidth");
        value[k] = e.value;
        fm_free(x);
        fm_free(y);
    }
    ck_assert_double_eq_tol(width[1], 1e-6 * width[0], 1e-9 * width[0]);
    ck_assert_double_gt(width[0], 2.0);
    ck_assert_double_lt(width[0], 8.0);
    ck_assert_double_eq_tol(value[1], value[0], 1e-9);
}
END_TEST

int
main(void)
{
    fm_registry_load_all();
    return run_tests("mmd", 60, {a_narrow_kernel_counts_equal_rows, 3},
                     {the_width_follows_the_unit_where_most_rows_agree});
}
