/* repath_test.c: the exact field of one path, followed along another, is the exact field of the other: field,
 * divergence, samples and log-densities, for every pair of affine paths. */
#include "suite.h"
#include "setup.h"

#include <math.h>
#include <string.h>

static const char *const paths[] = {"ot", "cosine", "poly:n=3", "vp"};
enum { PATHS = G_N_ELEMENTS(paths), ROWS = 64 };

static Setup
along(const char *net, const char *from, const char *to, FmDtype dtype)
{
    g_autoptr(GError) error = NULL;
    const char *solver = dtype == FM_F64 ? "dopri5:rtol=1e-10,atol=1e-10" : "dopri5:rtol=1e-5,atol=1e-5";
    Setup s = {setup_run(net, "8gaussians", from, solver, dtype), NULL};

    s.flow = fm_flow_from_run(s.run, &error);
    ck_assert_msg(s.flow != NULL, "%s", error ? error->message : "");
    ck_assert_msg(to == NULL || fm_flow_set_path(s.flow, to, &error), "%s", error ? error->message : "");
    return s;
}

/* Inside of the interval of vp; at both ends of the others. poly rests at t = 0: its field there is that of a
 * nearby time. */
START_TEST(the_field_is_that_of_the_other_path)
{
    const char *from = paths[_i / PATHS], *to = paths[_i % PATHS];
    const gboolean whole = strcmp(from, "vp") != 0 && strcmp(to, "vp") != 0;
    Setup a = along("oracle", from, to, FM_F64), b = along("oracle", to, NULL, FM_F64);
    g_autoptr(GError) error = NULL;
    double x[2 * ROWS], v[2][2 * ROWS], div[2][ROWS];

    for (int i = 0; i < 2 * ROWS; i++)
        x[i] = 3 * sin(1.7 * i + 0.3);
    for (double t = whole ? 0 : 0.2; t <= 1; t += whole ? 0.125 : 0.11) {
        const double tolerance = t == 0 && strncmp(from, "poly", 4) == 0 ? 5e-3 : 1e-8;

        ck_assert(fm_flow_velocity(a.flow, ROWS, x, t, NULL, v[0], div[0], &error));
        ck_assert(fm_flow_velocity(b.flow, ROWS, x, t, NULL, v[1], div[1], &error));
        for (int i = 0; i < 2 * ROWS; i++)
            ck_assert_msg(fabs(v[0][i] - v[1][i]) < tolerance * (1 + fabs(v[1][i])),
                          "%s along %s, t %g: %.12g, expected %.12g", from, to, t, v[0][i], v[1][i]);
        for (int i = 0; i < ROWS; i++)
            ck_assert_msg(fabs(div[0][i] - div[1][i]) < 10 * tolerance * (1 + fabs(div[1][i])),
                          "%s along %s, t %g: div %.12g, expected %.12g", from, to, t, div[0][i], div[1][i]);
    }
    setup_clear(&a);
    setup_clear(&b);
}
END_TEST

static void
draw(const Setup *s, double *x, double *log_q)
{
    g_autoptr(GError) error = NULL;

    ck_assert_msg(fm_flow_sample(s->flow, ROWS, 5, NULL, NULL, x, log_q, NULL, NULL, &error), "%s",
                  error ? error->message : "");
}

/* The samples of a flow trained on the other path, and, where both begin at N(0, I), of the flow itself. What vp
 * leaves out at its ends is 1e-5. */
START_TEST(samples_agree)
{
    const char *from = paths[_i / PATHS], *to = paths[_i % PATHS];
    const gboolean from_vp = strcmp(from, "vp") == 0, to_vp = strcmp(to, "vp") == 0;
    Setup s[3] = {along("oracle", from, to, FM_F64), along("oracle", to, NULL, FM_F64),
                  along("oracle", from, NULL, FM_F64)};
    double x[3][2 * ROWS], l[3][ROWS];

    for (int k = 0; k < 3; k++)
        draw(&s[k], x[k], l[k]);
    for (int k = 1; k < 3; k++) {
        if (from_vp != to_vp && (k == 2) == to_vp)
            continue; /* these two do not begin at the same base */
        const double tolerance = from_vp != to_vp && k == 2 ? 1e-4 : 2e-7;
        for (int i = 0; i < 2 * ROWS; i++)
            ck_assert_msg(fabs(x[0][i] - x[k][i]) < tolerance, "%s along %s, against %d: %.10g, expected %.10g", from,
                          to, k, x[0][i], x[k][i]);
        for (int i = 0; i < ROWS; i++)
            ck_assert_msg(fabs(l[0][i] - l[k][i]) < 20 * tolerance,
                          "%s along %s, against %d: log q %.10g, expected %.10g", from, to, k, l[0][i], l[k][i]);
    }
    for (int k = 0; k < 3; k++)
        setup_clear(&s[k]);
}
END_TEST

/* A learned field in single precision with another prediction; and back to the path of the training. */
START_TEST(there_and_back)
{
    Setup a = along("mlp:width=16,depth=2", "ot", NULL, FM_F32);
    g_autoptr(GError) error = NULL;
    double x[3][2 * ROWS], l[3][ROWS];

    draw(&a, x[0], l[0]);
    ck_assert(fm_flow_set_path(a.flow, "cosine", &error));
    draw(&a, x[1], l[1]);
    ck_assert(fm_flow_set_path(a.flow, "poly:n=2", &error) && fm_flow_set_path(a.flow, "ot", &error));
    draw(&a, x[2], l[2]);
    for (int i = 0; i < 2 * ROWS; i++) {
        ck_assert_double_eq_tol(x[1][i], x[0][i], 1e-3);
        ck_assert_double_eq_tol(x[2][i], x[0][i], 1e-3);
    }
    for (int i = 0; i < ROWS; i++)
        ck_assert_double_eq_tol(l[1][i], l[0][i], 1e-2);
    setup_clear(&a);
}
END_TEST

START_TEST(what_cannot_change_is_refused)
{
    static const char *const cases[][3] = {{"realnvp", "cosine", "a map"}, {"oracle", "cosin", "cosine"}};
    g_autoptr(GError) error = NULL;
    Setup a = along(cases[_i][0], "ot", NULL, FM_F64);

    ck_assert(!fm_flow_set_path(a.flow, cases[_i][1], &error));
    ck_assert_msg(strstr(error->message, cases[_i][2]) != NULL, "%s", error->message);
    setup_clear(&a);
}
END_TEST

int
main(void)
{
    return run_tests("repath", 120, {the_field_is_that_of_the_other_path, PATHS * PATHS},
                     {samples_agree, PATHS * PATHS}, {there_and_back}, {what_cannot_change_is_refused, 2});
}
