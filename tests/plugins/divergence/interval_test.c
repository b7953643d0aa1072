/* interval_test.c: 95 % intervals hold the estimator's mean on both sides; their law against scipy's. */
#include "estimators.h"

/* Ends of the 95 % interval: `low` and `high` where there are such, else value +- 1.96 se; FALSE: the latter. */
static gboolean
interval(const FmEstimate *e, double *low, double *high)
{
    gboolean own = FALSE;

    *low = e->value - 1.96 * e->se;
    *high = e->value + 1.96 * e->se;
    for (size_t i = 0; i < e->n_details; i++) {
        own = own || strcmp(e->detail[i].name, "low") == 0;
        if (strcmp(e->detail[i].name, "low") == 0)
            *low = e->detail[i].number;
        if (strcmp(e->detail[i].name, "high") == 0)
            *high = e->detail[i].number;
    }
    return own;
}

/* Intervals cover the estimator's own mean in 90 to 99 % of 600 seeds: biased estimators, P = Q (N(0, 1.37^2)), and a
 * little away from it, where the law is skewed. Those with ends of their own have no bars wider than 1.5 standard
 * deviations, and miss on neither side in more than 8 %. */
START_TEST(intervals_cover_the_own_mean)
{
    static const struct {
        const char *spec;
        size_t n, D;
        double mean, sd;
    } row[] = {
        {"w2", 60, 1, 1.0, 1.1},
        {"w2", 60, 3, 1.0, 1.1},
        {"sliced-w2:projections=40", 80, 3, 1.0, 1.1},
        {"grid-kl", 1000, 1, 0.3, 1.1},
        {"grid-kl:smooth=1", 1000, 1, 0.3, 1.1},
        {"grid-kl", 1000, 2, 0.0, 1.37},
        {"knn-kl", 400, 5, 0.3, 1.1},
        {"w2", 60, 1, 0.0, 1.37},
        {"w2", 60, 3, 0.0, 1.37},
        {"w2", 60, 10, 0.0, 1.37},
        {"sliced-w2:projections=40", 80, 3, 0.0, 1.37},
        {"gaussian-kl", 300, 1, 0.0, 1.37},
        {"gaussian-kl", 300, 1, 0.2, 1.37},
        {"gaussian-kl", 300, 3, 0.0, 1.37},
        {"gaussian-kl", 300, 3, 0.3, 1.5},
        {"gaussian-kl", 40, 10, 0.0, 1.37},
        {"gaussian-kl", 30, 2, 0.0, 1.37},
        {"gaussian-kl", 40, 10, 0.3, 1.37},
        {"mmd:bandwidth=[1.37]", 100, 1, 0.0, 1.37},
        {"mmd:bandwidth=[1.37]", 100, 1, 0.25, 1.37},
        {"mmd:bandwidth=[1.37]", 100, 4, 0.0, 1.37},
        {"mmd:bandwidth=[1.37]", 100, 1, 2.0, 1.37},
        {"energy", 100, 1, 0.0, 1.37},
        {"energy", 100, 1, 0.2, 1.37},
        {"energy", 100, 1, 0.35, 1.37},
        {"energy", 100, 4, 0.0, 1.37},
        {"energy", 100, 1, 2.0, 1.37},
        {"frechet", 200, 1, 0.0, 1.37},
        {"frechet", 200, 1, 0.3, 1.37},
        {"frechet", 200, 2, 0.0, 1.37},
        {"frechet", 200, 3, 0.4, 1.1},
    };
    const size_t n = row[_i].n, D = row[_i].D, seeds = 600;
    g_autoptr(FmPlugin) d = open_plugin(row[_i].spec);
    double value[600], low[600], high[600], mean = 0.0, square = 0.0, bar = 0.0;
    int below = 0, above = 0, own = 0;

    for (size_t s = 0; s < seeds; s++) {
        double *x = draw(1000 + s, n, D, row[_i].mean, row[_i].sd);
        double *y = draw(50000 + s, n, D, 0.0, 1.37);
        const FmSamples p = samples(x, n, D), q = samples(y, n, D);
        const FmEstimate e = estimate(d, &p, &q, 1);

        value[s] = e.value;
        own += interval(&e, &low[s], &high[s]);
        mean += e.value / (double)seeds;
        bar += e.se / (double)seeds;
        fm_free(x);
        fm_free(y);
    }
    for (size_t s = 0; s < seeds; s++) {
        below += high[s] < MAX(mean, 0.0); /* no divergence is below 0 */
        above += low[s] > MAX(mean, 0.0);
        square += (value[s] - mean) * (value[s] - mean) / (double)seeds;
    }
    const int missed = below + above;
    g_autofree char *what = g_strdup_printf("%s, %zu columns, mean %g: %d below, %d above of 600, se %g, sd %g",
                                            row[_i].spec, D, row[_i].mean, below, above, bar, sqrt(square));
    ck_assert_msg(missed >= 6 && missed <= 60, "%s", what);
    ck_assert_msg(own == 0 || (own == 600 && bar < 1.5 * sqrt(square) && MAX(below, above) <= 48), "%s", what);
}
END_TEST

/* Sankaran's approximation is within 4 % of a standard deviation, and of the end, from 1.5 degrees of freedom on. */
START_TEST(interval_is_that_of_the_law)
{
    static const struct {
        double scale, degrees, v, low, high;
    } row[] = {
#include "interval_rows.h"
    };
    const double s = row[_i].scale, second = 2.0 * s * s * row[_i].degrees, sd = sqrt(second), bias = 0.7;
    const double v = row[_i].v * sd, first = 4.0 * s * MAX(v, 0.0);
    FmEstimate e = {.value = bias + v};
    double low, high;

    fm_estimate_interval(&e, bias, first, second, s);
    ck_assert(interval(&e, &low, &high));
    low = low > 0.0 ? (low - bias) / sd : 0.0; /* 0: P = Q is not excluded */
    high = (high - bias) / sd;
    ck_assert_msg(fabs(low - row[_i].low) < 0.04 * MAX(1.0, row[_i].low), "low %g, scipy %g", low, row[_i].low);
    ck_assert_msg(fabs(high - row[_i].high) < 0.04 * MAX(1.0, row[_i].high), "high %g, scipy %g", high, row[_i].high);
}
END_TEST

/* No variance at P = Q, or no value: no ends. */
START_TEST(interval_needs_a_law)
{
    FmEstimate flat = {.value = 1.2}, undefined = {.value = NAN};

    fm_estimate_interval(&flat, 0.1, 1.0, 0.0, 0.5);
    fm_estimate_interval(&undefined, 0.1, 1.0, 1.0, 0.5);
    ck_assert_uint_eq(flat.n_details + undefined.n_details, 0);
}
END_TEST

/* Three rows with the weights l = 2, 1 and 1 of orthogonal axes, by many copies of these: sum l^3 / sum l^2 = 10 / 6.
 */
START_TEST(scale_of_known_weights)
{
    enum { N = 600 };
    static const double l[3] = {2.0, 1.0, 1.0};
    double *a = fm_alloc(2 * N * N * sizeof *a);

    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < N; j++)
            a[i * N + j] = i % 3 == j % 3 ? l[i % 3] / (N / 3) : 0.0;
    ck_assert_double_eq_tol(fm_estimate_scale(N, a, a + N * N), 10.0 / 6.0, 0.02);
    ck_assert_double_eq(fm_estimate_scale(2, a, a + N * N), 0.0);
    fm_free(a);
}
END_TEST

/* Distances of samples that share their rows, but for little: no bar that divides by nothing. */
START_TEST(paired_samples_have_no_bar)
{
    g_autoptr(FmPlugin) d = open_plugin(_i ? "sliced-w2" : "w2");
    double *x = draw(61, 100, 2, 0.3, 1.37), *y = draw(62, 100, 2, 0.0, 1e-4);
    const FmSamples p = samples(x, 100, 2), q = samples(y, 100, 2);
    FmEstimate e;

    for (size_t i = 0; i < 200; i++)
        y[i] += x[i];
    e = estimate(d, &p, &q, 1);
    ck_assert(e.value > 1e-5 && e.value < 3e-4 && isnan(e.se));
    ck_assert_ptr_nonnull(strstr(e.detail[e.n_details - 1].text, "nearer than independent ones"));
    e = estimate(d, &p, &p, 1);
    ck_assert(e.value == 0.0 && isnan(e.se));
    fm_free(x);
    fm_free(y);
}
END_TEST

int
main(void)
{
    fm_registry_load_all();
    return run_tests("intervals", 120, {intervals_cover_the_own_mean, 31}, {interval_is_that_of_the_law, 24},
                     {interval_needs_a_law}, {scale_of_known_weights}, {paired_samples_have_no_bar, 2});
}
