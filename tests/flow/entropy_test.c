/* entropy_test.c: Kozachenko and Leonenko's estimate against closed forms, and its error's coverage. */
#include "suite.h"
#include "flow/entropy.h"

#include <fmcore/fmcore.h>

#include <math.h>
#include <stdlib.h>

static double
estimate(const char *spec, guint64 seed, size_t n, double *truth, double *se)
{
    g_autoptr(FmPlugin) data = fm_plugin_new(FM_KIND_DATASET, spec, NULL);
    const FmKey key = {.seed = seed, .stream = FM_STREAM_USER};
    g_autofree double *x = NULL;
    FmDataInfo info;
    double value;

    ck_assert(data != NULL && fm_dataset_open(data, &info, NULL));
    x = g_new(double, n *info.D);
    ck_assert(fm_dataset_draw(data, key, 0, n, x, NULL, NULL));
    ck_assert(fm_entropy_knn(n, info.D, x, 5, 2, &value, se, NULL));
    *truth = fm_dataset_entropy(data);
    return value;
}

/* Where density changes within the distance of k neighbours the estimate is biased: its intervals
 * then cover its own mean, and the bias stays below what is tabulated here (n = 1000, k = 5). */
static const struct {
    const char *spec;
    double bias;
} cases[] = {{"gaussian:dim=1,sd=2.385", 0.01}, {"gaussian:dim=3,sd=0.7", 0.08}, {"8gaussians", 0.07}};

/* -gamma, -gamma - 2 log 2, and a harmonic number. */
START_TEST(digamma_of_known_values)
{
    const double gamma = 0.57721566490153286061;
    double sum = -gamma;

    for (int i = 1; i < 20; i++)
        sum += 1.0 / i;
    ck_assert_double_eq_tol(fm_digamma(1.0), -gamma, 1e-13);
    ck_assert_double_eq_tol(fm_digamma(0.5), -gamma - 2.0 * G_LN2, 1e-13);
    ck_assert_double_eq_tol(fm_digamma(20.0), sum, 1e-13);
}
END_TEST

START_TEST(covers_its_mean)
{
    double value[100], se[100], truth, mean = 0;
    int covered = 0;

    for (guint64 seed = 0; seed < 100; seed++) {
        value[seed] = estimate(cases[_i].spec, seed, 1000, &truth, &se[seed]);
        mean += value[seed] / 100;
    }
    ck_assert_double_le(fabs(mean - truth), cases[_i].bias);
    for (int i = 0; i < 100; i++)
        covered += fabs(value[i] - mean) < 1.96 * se[i];
    ck_assert_msg(covered >= 90 && covered <= 99, "%s: %d of 100 intervals, mean %g, truth %g", cases[_i].spec, covered,
                  mean, truth);
}
END_TEST

START_TEST(equal_rows_are_refused)
{
    double x[60], value, se;
    g_autoptr(GError) error = NULL;

    for (int i = 0; i < 60; i++)
        x[i] = i < 4 ? 2.385 : sqrt(i);
    ck_assert(!fm_entropy_knn(60, 1, x, 3, 1, &value, &se, &error));
    ck_assert(g_error_matches(error, FM_ERROR, FM_ERROR_DATA));
    ck_assert(fm_entropy_knn(60, 1, x, 4, 1, &value, &se, NULL) && isfinite(value) && se > 0);
}
END_TEST

int
main(void)
{
    return run_tests("entropy", 120, {covers_its_mean, 3}, {digamma_of_known_values}, {equal_rows_are_refused});
}
