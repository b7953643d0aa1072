/* random_test.c: many numbers at a time are those of one generator a row, and normals are normal. */
#include "suite.h"

#include <fmcore/dataset.h>
#include <fmcore/random.h>

#include <math.h>

static const FmKey key = {.seed = 7, .stream = FM_STREAM_USER, .step = 3};

START_TEST(rows_are_those_of_the_generator)
{
    enum { N = 300, MOST = 24 };
    double uniform[N * MOST], normal[N * MOST];

    for (size_t D = 1; D <= MOST; D++) { /* rows of whole Philox calls and others */
        fm_fill_uniform_f64(key, 11, N, D, uniform);
        fm_fill_normal_f64(key, 11, N, D, normal);
        for (size_t r = 0; r < N; r++) {
            FmRng rng = fm_rng(key, 11 + r), again = fm_rng(key, 11 + r);

            for (size_t d = 0; d < D; d++)
                ck_assert_double_eq(uniform[r * D + d], fm_rng_uniform(&rng));
            for (size_t d = 0; d < D; d += 2) /* a pair has one cosine and one sine of two uniforms */
                ck_assert_double_eq_tol(normal[r * D + d], fm_rng_normal(&again), 1e-14);
        }
    }
}
END_TEST

START_TEST(normals_and_circles_are_libm_s)
{
    enum { N = 1 << 16 };
    g_autofree double *u = g_new(double, N), *v = g_new(double, N), *z = g_new(double, N);
    g_autofree double *c = g_new(double, N), *s = g_new(double, N);

    fm_fill_uniform_f64(key, 0, N, 1, u);
    fm_fill_uniform_f64(key, N, N, 1, v);
    /* corners: 0, the largest number below 1, the borders of quadrants */
    for (int i = 0; i < 64; i++) {
        u[i] = i % 4 == 0 ? 0.0 : i % 4 == 1 ? 1.0 - 0x1p-53 : i % 4 == 2 ? 0x1p-53 : 0.5;
        v[i] = i < 32 ? i / 4 * 0.125 : fmax(0.0, nextafter(i / 4 % 8 * 0.125, i & 1 ? 0.0 : 1.0));
    }
    fm_uniforms_to_normals(N, u, v, z);
    fm_circle_points(N, v, c, s);
    for (int i = 0; i < N; i++) {
        const double r = sqrt(-2.0 * log(1.0 - u[i])), turn = 2.0 * G_PI * v[i];

        ck_assert_double_eq_tol(z[i], r * cos(turn), 8e-16 * (1.0 + r));
        ck_assert_double_eq_tol(c[i], cos(turn), 1e-15);
        ck_assert_double_eq_tol(s[i], sin(turn), 1e-15);
    }
}
END_TEST

/* The means over n normals of z, z^2, z^4 and z z' for neighbours, in standard errors. */
START_TEST(normals_are_normal)
{
    enum { N = 1 << 20 };
    g_autofree double *z = g_new(double, N);
    double m1 = 0, m2 = 0, m4 = 0, pair = 0;

    fm_fill_normal_f64(key, 0, N / 4, 4, z);
    for (int i = 0; i < N; i++) {
        m1 += z[i];
        m2 += z[i] * z[i];
        m4 += z[i] * z[i] * z[i] * z[i];
        pair += z[i] * z[i ^ 1];
    }
    const double root = sqrt(N);
    ck_assert_double_le(fabs(m1 / root), 4);
    ck_assert_double_le(fabs((m2 - N) / root / sqrt(2.0)), 4);
    ck_assert_double_le(fabs((m4 - 3.0 * N) / root / sqrt(96.0)), 4);
    ck_assert_double_le(fabs(pair / root / sqrt(2.0)), 4);
}
END_TEST

/* Rows in blocks, and rows too wide for a block, are drawn from the same uniforms. */
START_TEST(mixture_draws_row_by_row)
{
    enum { N = 200 };
    static const size_t columns[] = {2, 300, 1100}; /* many rows at a time, one, and value by value */

    for (size_t i = 0; i < G_N_ELEMENTS(columns); i++) {
        const size_t D = columns[i];
        FmMixture m = {0};
        g_autofree double *x = g_new(double, N *D);
        int y[N];

        ck_assert(fm_mixture_ring(&m, 8, D, 5.0, 0.7, NULL));
        fm_mixture_draw(&m, key, 5, N, x, y);
        for (size_t r = 0; r < N; r++) {
            FmRng rng = fm_rng(key, 5 + r);
            const int k = (int)floor(8.0 * fm_rng_uniform(&rng));

            ck_assert_int_eq(y[r], k);
            for (size_t d = 0; d < D; d++)
                ck_assert_double_eq_tol(
                    x[r * D + d], m.mean[(size_t)k * D + d] + m.sd[(size_t)k * D + d] * fm_rng_normal(&rng), 1e-13);
        }
        fm_mixture_clear(&m);
    }
}
END_TEST

int
main(void)
{
    return run_tests("random", 0, {rows_are_those_of_the_generator}, {normals_and_circles_are_libm_s},
                     {normals_are_normal}, {mixture_draws_row_by_row});
}
