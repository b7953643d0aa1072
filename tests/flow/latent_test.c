/* latent_test.c: p-values of what a flow encodes: the distribution functions against scipy's, uniform where z
 * is N(0, I), small where it is not. */
#include "suite.h"
#include "flow/latent.h"
#include "setup.h"

#include <fmcore/random.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Written by tests/references/latent.py (scipy 1.17.1). */
static const double chi_squared[][3] = {{1, 0.29999999999999999, 0.583882420770365},
                                        {2, 3.7000000000000002, 0.157237166313628},
                                        {3, 40, 1.06550903342558e-08},
                                        {10, 2.5, 0.990875720781605},
                                        {10, 25, 0.00534550548713407},
                                        {784, 700, 0.985563220815059},
                                        {784, 850.5, 0.0493859986482953},
                                        {10000, 10123, 0.191901641362815},
                                        {2000000, 1998000, 0.841344786425696},
                                        {2000000, 2003000, 0.0668611042358977}};
static const double kolmogorov[][3] = {
    {50, 0.050000000000000003, 0.999023809846188},   {50, 0.11, 0.54390079659073},
    {50, 0.20000000000000001, 0.0314387777695324},   {200, 0.040000000000000001, 0.893287811704365},
    {200, 0.070000000000000007, 0.268233271531598},  {200, 0.12, 0.00574576060198281},
    {5000, 0.010500000000000001, 0.635919209544517}, {5000, 0.02, 0.0361394139532564}};

START_TEST(distribution_functions_are_right)
{
    for (size_t i = 0; i < G_N_ELEMENTS(chi_squared); i++)
        ck_assert_double_eq_tol(fm__chi_squared_above(chi_squared[i][0], chi_squared[i][1]), chi_squared[i][2],
                                1e-8 * chi_squared[i][2]);
    ck_assert_double_eq(fm__chi_squared_above(3, 0.0), 1.0);
    ck_assert_double_eq(fm__chi_squared_above(3, INFINITY), 0.0);
    for (size_t i = 0; i < G_N_ELEMENTS(kolmogorov); i++) /* Stephens' correction is an approximation */
        ck_assert_double_eq_tol(fm__kolmogorov_above((size_t)kolmogorov[i][0], kolmogorov[i][1]), kolmogorov[i][2],
                                0.002 + 0.02 * kolmogorov[i][2]);
    const double u[3] = {0.1, 0.5, 0.7};
    ck_assert_double_eq_tol(fm__kolmogorov_distance(3, u), 0.3, 1e-15);
    /* both series where one takes over from the other */
    ck_assert_double_eq_tol(fm__kolmogorov_above(100000000, 1.1799999e-4),
                            fm__kolmogorov_above(100000000, 1.1800001e-4), 1e-5);
}
END_TEST

static int
ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Is v (n) a sample of the uniform distribution, as far as one seed in a thousand goes? */
static void
assert_uniform(const char *what, size_t n, double *v)
{
    qsort(v, n, sizeof *v, ascending);
    const double p = fm__kolmogorov_above(n, fm__kolmogorov_distance(n, v));

    ck_assert_msg(p > 1e-3, "%s: p-values are not uniform, p = %g; median %g", what, p, v[n / 2]);
}

enum { SEEDS = 200, ROWS = 200 };

/* Normal rows in several dimensions. */
static const size_t dims[] = {1, 2, 7};

START_TEST(p_values_are_uniform_for_normal_rows)
{
    const size_t D = dims[_i];
    double p[FM_LATENT_N_TESTS][SEEDS];
    g_autofree double *z = g_new(double, ROWS *D);
    FmLatent l;

    for (int seed = 0; seed < SEEDS; seed++) {
        fm_fill_normal_f64((FmKey){.seed = (guint64)seed, .stream = FM_STREAM_USER}, 0, ROWS, D, z);
        for (size_t i = 0; i < ROWS * D; i++)
            z[i] *= 1.3;
        fm_latent_test(ROWS, D, z, 1.3, &l);
        ck_assert_uint_eq(l.n, ROWS);
        for (int k = 0; k < FM_LATENT_N_TESTS; k++)
            p[k][seed] = l.p[k];
    }
    for (int k = 0; k < FM_LATENT_N_TESTS; k++)
        assert_uniform(fm_latent_names[k], SEEDS, p[k]);
}
END_TEST

/* Encodings of fresh data by an exact flow, seed by seed; and by one whose velocity is 0.4 too large. */
START_TEST(p_values_are_uniform_for_an_exact_flow)
{
    Setup exact = setup_flow("oracle", "8gaussians", "ot"), wrong = setup_flow("oracle:shift=0.4", "8gaussians", "ot");
    double p[FM_LATENT_N_TESTS][SEEDS], x[2 * ROWS], z[2 * ROWS], log_q[ROWS];
    g_autoptr(GError) error = NULL;
    FmLatent l;

    ck_assert(fm_flow_set_solver(exact.flow, "dopri5:rtol=1e-6,atol=1e-6", &error));
    for (int seed = 0; seed < SEEDS; seed++) {
        const FmKey key = {.seed = (guint64)seed, .stream = FM_STREAM_USER};

        ck_assert(fm_dataset_draw(exact.run->plugin[FM_KIND_DATASET], key, 0, ROWS, x, NULL, &error));
        ck_assert(fm_flow_log_density(exact.flow, ROWS, x, NULL, NULL, log_q, z, NULL, &error));
        fm_latent_test(ROWS, 2, z, 1.0, &l);
        for (int k = 0; k < FM_LATENT_N_TESTS; k++)
            p[k][seed] = l.p[k];
        if (seed % 20 != 0)
            continue;
        ck_assert(fm_flow_log_density(wrong.flow, ROWS, x, NULL, NULL, log_q, z, NULL, &error));
        fm_latent_test(ROWS, 2, z, 1.0, &l);
        ck_assert_double_lt(l.combined, 0.01);
    }
    for (int k = 0; k < FM_LATENT_N_TESTS; k++)
        assert_uniform(fm_latent_names[k], SEEDS, p[k]);
    setup_clear(&exact);
    setup_clear(&wrong);
}
END_TEST

/* Each way of being wrong is seen by the test that is made for it. */
START_TEST(errors_are_noticed)
{
    enum { N = 2000, D = 2 };
    double z[N * D], y[N * D];
    FmLatent l;

    fm_fill_normal_f64((FmKey){.seed = 4, .stream = FM_STREAM_USER}, 0, N, D, z);
    for (int i = 0; i < N * D; i++)
        y[i] = z[i] + 0.1;
    fm_latent_test(N, D, y, 1.0, &l);
    ck_assert_double_lt(l.p[FM_LATENT_MEAN], 1e-6);
    ck_assert_double_eq_tol(l.mean, 0.1, 0.02);
    for (int i = 0; i < N * D; i++)
        y[i] = z[i] * 0.93;
    fm_latent_test(N, D, y, 1.0, &l);
    ck_assert_double_lt(l.p[FM_LATENT_SCALE], 1e-6);
    ck_assert_double_eq_tol(l.scale, 0.93 * 0.93, 0.03);
    for (int i = 0; i < N; i++) { /* correlation 0.2 of normal coordinates */
        y[2 * i] = z[2 * i];
        y[2 * i + 1] = 0.2 * z[2 * i] + sqrt(0.96) * z[2 * i + 1];
    }
    fm_latent_test(N, D, y, 1.0, &l);
    ck_assert_double_lt(l.p[FM_LATENT_COVARIANCE], 1e-6);
    ck_assert_double_gt(l.p[FM_LATENT_COORDINATES], 0.01);
    for (int i = 0; i < N; i++) { /* the same |z| in all rows, moments as they should be */
        const double a = atan2(z[2 * i + 1], z[2 * i]);
        y[2 * i] = G_SQRT2 * cos(a);
        y[2 * i + 1] = G_SQRT2 * sin(a);
    }
    fm_latent_test(N, D, y, 1.0, &l);
    ck_assert_double_lt(l.p[FM_LATENT_RADIUS], 1e-6);
    ck_assert_double_lt(l.p[FM_LATENT_COORDINATES], 1e-6);
    ck_assert_double_gt(l.p[FM_LATENT_MEAN], 1e-3);
    y[7] = NAN;
    fm_latent_test(N, D, y, 1.0, &l);
    ck_assert_uint_eq(l.skipped, 1);
    ck_assert_uint_eq(l.n, N - 1);
    fm_latent_test(15, D, y, 1.0, &l);
    ck_assert(isnan(l.p[FM_LATENT_COVARIANCE]) && !isnan(l.p[FM_LATENT_MEAN]));
}
END_TEST

int
main(void)
{
    return run_tests("latent", 120, {distribution_functions_are_right},
                     {p_values_are_uniform_for_normal_rows, G_N_ELEMENTS(dims)},
                     {p_values_are_uniform_for_an_exact_flow}, {errors_are_noticed});
}
