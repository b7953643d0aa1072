/* excess_test.c: loss = conditional variance + eps^2: against closed forms, errors that were set, and
 * in the training log. */
#include "suite.h"
#include "flow/excess.h"
#include "flow/quadrature.h"
#include "setup.h"

#include <glib/gstdio.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static FmExcess
excess_of(const char *net, const char *dataset, const char *path, size_t n, guint64 seed)
{
    Setup w = setup_flow(net, dataset, path), v = setup_flow("oracle", dataset, path);
    g_autoptr(GError) error = NULL;
    FmExcess x;

    ck_assert_msg(fm_excess(w.flow, v.flow, n, seed, 2, &x, &error), "%s", error ? error->message : "");
    setup_clear(&w);
    setup_clear(&v);
    return x;
}

/* Shift and noise are of one length at every point: eps^2 is D times their square. */
static const struct {
    const char *net, *dataset, *path;
    double eps2, tolerance;
} cases[] = {{"oracle", "8gaussians", "ot", 0.0, 1e-30},
             {"oracle", "checkerboard", "cosine", 0.0, 1e-30},
             {"oracle:shift=0.2", "8gaussians", "ot", 2 * 0.04, 1e-12},
             {"oracle:noise=0.3", "mixture:dim=5,radius=2", "cosine", 5 * 0.09, 1e-12},
             {"oracle:shift=0.2", "8gaussians", "vp", 2 * 0.04, 1e-4}}; /* its interval ends before 1 */

START_TEST(eps2_is_what_was_set)
{
    const FmExcess x = excess_of(cases[_i].net, cases[_i].dataset, cases[_i].path, 4000, 5);

    ck_assert_double_eq_tol(x.eps2.value, cases[_i].eps2 * x.length, cases[_i].tolerance);
    ck_assert_double_eq_tol(x.excess.value, x.eps2.value, 4.5 * x.excess.se + 1e-12);
    ck_assert_double_eq_tol(x.loss.value - x.variance.value, x.excess.value, 1e-9);
    ck_assert_double_gt(x.variance.value, 0.1);
    if (cases[_i].eps2 == 0)
        ck_assert_double_eq(x.excess.value, 0.0);
}
END_TEST

/* Rows of a file are points of equal weight: their exact field has excess 0, a shifted one what was set, and a
 * net's loss parts into both. */
static const struct {
    const char *net;
    double eps2; /* NAN: not known */
} finite_cases[] = {{"oracle", 0.0}, {"oracle:shift=0.2", 3 * 0.04}, {"mlp:width=16,depth=2", NAN}};

START_TEST(finite_data_have_an_excess)
{
    enum { N = 300, D = 3 };
    g_autofree char *dir = g_dir_make_tmp("fmcore-XXXXXX", NULL), *file = g_build_filename(dir, "x.csv", NULL),
                    *spec = g_strdup_printf("csv:file=%s", file);
    GString *text = g_string_new(NULL);
    double x[N * D];

    fm_fill_normal_f64((FmKey){.seed = 4, .stream = FM_STREAM_USER}, 0, N, D, x);
    for (int i = 0; i < N * D; i++)
        g_string_append_printf(text, "%.17g%s", x[i], i % D == D - 1 ? "\n" : ",");
    ck_assert(g_file_set_contents(file, text->str, -1, NULL));
    g_string_free(text, TRUE);
    Setup w = setup_flow(finite_cases[_i].net, spec, "ot");
    g_autoptr(FmFinite) f = fm_finite_new(w.run, NULL);
    FmExcess e;
    ck_assert(fm_excess_rows(w.flow, f, 3000, 6, 2, &e, NULL));
    ck_assert_double_eq_tol(e.excess.value, e.eps2.value, 4.5 * e.excess.se + 1e-12);
    ck_assert_double_gt(e.variance.value, 0.1);
    if (isnan(finite_cases[_i].eps2))
        ck_assert_double_gt(e.eps2.value, 20 * e.eps2.se);
    else
        ck_assert_double_eq_tol(e.eps2.value, finite_cases[_i].eps2, 1e-12);
    setup_clear(&w);
    g_unlink(file);
    g_rmdir(dir);
}
END_TEST

/* Data N(m, s^2) under ot: u = x1 - x0 and x_t = t x1 + (1 - t) x0 are jointly normal. */
START_TEST(the_conditional_variance_is_that_of_normal_data)
{
    const double s2 = 1.7 * 1.7;
    const FmExcess x = excess_of("oracle", "gaussian:dim=3,mean=0.6,sd=1.7", "ot", 20000, 2);
    double at[16], weight[16], want = 0;

    fm_gauss_legendre(16, at, weight);
    for (int i = 0; i < 16; i++) {
        const double t = at[i], cov = t * s2 - (1 - t), var = t * t * s2 + (1 - t) * (1 - t);

        want += 3 * weight[i] * (s2 + 1 - cov * cov / var);
    }
    ck_assert_double_eq_tol(x.variance.value, want, 4.5 * x.variance.se);
    ck_assert_double_lt(x.variance.se, 0.02 * want);
}
END_TEST

/* 95 % intervals hold the truth. A shift has the same length everywhere: the excess is random by its
 * cross term alone. */
START_TEST(standard_errors_cover)
{
    enum { SEEDS = 100 };
    Setup w = setup_flow("oracle:shift=0.2", "8gaussians", "ot"),
          scaled = setup_flow("oracle:scale=1.1", "8gaussians", "ot"), v = setup_flow("oracle", "8gaussians", "ot");
    g_autoptr(GError) error = NULL;
    FmExcess x, truth;
    int covered[2] = {0, 0};

    ck_assert(fm_excess(scaled.flow, v.flow, 100000, 12345, 2, &truth, &error));
    for (guint64 seed = 0; seed < SEEDS; seed++) {
        ck_assert(fm_excess(w.flow, v.flow, 300, seed, 2, &x, &error));
        covered[0] += fabs(x.excess.value - 0.08) < 1.96 * x.excess.se;
        ck_assert(fm_excess(scaled.flow, v.flow, 300, seed, 2, &x, &error));
        covered[1] += fabs(x.eps2.value - truth.eps2.value) < 1.96 * x.eps2.se;
    }
    for (int k = 0; k < 2; k++) {
        ck_assert_int_ge(covered[k], 89);
        ck_assert_int_le(covered[k], 100);
    }
    setup_clear(&w);
    setup_clear(&scaled);
    setup_clear(&v);
}
END_TEST

START_TEST(threads_do_not_matter)
{
    Setup w = setup_flow("mlp:width=16,depth=2", "8gaussians", "ot"), v = setup_flow("oracle", "8gaussians", "ot");
    g_autoptr(GError) error = NULL;
    FmExcess one, two;

    ck_assert(fm_excess(w.flow, v.flow, 777, 3, 1, &one, &error));
    ck_assert(fm_excess(w.flow, v.flow, 777, 3, 2, &two, &error));
    ck_assert_mem_eq(&one, &two, sizeof one);
    setup_clear(&w);
    setup_clear(&v);
}
END_TEST

static double
number_after(const char *line, const char *name)
{
    g_autofree char *key = g_strdup_printf("\"%s\":", name);
    const char *at = strstr(line, key);

    ck_assert_msg(at != NULL, "%s is not in %s", name, line);
    return g_ascii_strtod(at + strlen(key), NULL);
}

/* The log of a run with a known floor carries eps^2. With a rate of almost 0 the weights stay, and
 * the log's eps^2 is that of the net as it is, within the log's own standard error. */
START_TEST(the_training_log_carries_eps2)
{
    g_autofree char *dir = g_dir_make_tmp("fmcore-XXXXXX", NULL), *file = g_build_filename(dir, "metrics.jsonl", NULL),
                    *text = NULL;
    Setup w = setup_flow("mlp:width=16,depth=2", "8gaussians", "ot"), v = setup_flow("oracle", "8gaussians", "ot");
    g_autoptr(GError) error = NULL;
    FmTrainResult result = {0};
    FmExcess x;

    ck_assert(fm_excess(w.flow, v.flow, 40000, 3, 2, &x, &error));
    w.run->floor = fm_excess_floor(&x);
    w.run->dir = g_strdup(dir);
    w.run->config->lr = 1e-12;
    w.run->config->steps = w.run->config->log_every = 50;
    ck_assert_msg(fm_run_train(w.run, NULL, NULL, &result, &error), "%s", error ? error->message : "");
    g_array_unref(result.loss_curve);
    ck_assert(g_file_get_contents(file, &text, NULL, NULL));
    const double excess = number_after(text, "excess"), se = number_after(text, "excess_se");
    ck_assert_double_eq_tol(excess, 2 * number_after(text, "loss") - x.variance.value, 1e-9);
    ck_assert_double_gt(se, x.variance.se);
    ck_assert_double_eq_tol(excess, x.eps2.value, 4.5 * hypot(se, x.loss.se));
    ck_assert_double_gt(x.eps2.value, 20 * se); /* so that the line above can fail */
    setup_clear(&w);
    setup_clear(&v);
    g_autoptr(GDir) files = g_dir_open(dir, 0, NULL);
    for (const char *name; (name = g_dir_read_name(files));) {
        g_autofree char *path = g_build_filename(dir, name, NULL);
        g_unlink(path);
    }
    g_rmdir(dir);
}
END_TEST

START_TEST(what_has_no_excess_is_refused_in_a_sentence)
{
    Setup map = setup_flow("realnvp", "8gaussians", "ot"), v = setup_flow("oracle", "8gaussians", "ot");
    g_autoptr(GError) error = NULL;
    FmExcess x;

    ck_assert(!fm_excess(map.flow, v.flow, 10, 0, 1, &x, &error));
    ck_assert_ptr_nonnull(strstr(error->message, "map without time"));
    setup_clear(&map);
    setup_clear(&v);
}
END_TEST

int
main(void)
{
    return run_tests("excess", 120, {eps2_is_what_was_set, G_N_ELEMENTS(cases)},
                     {finite_data_have_an_excess, G_N_ELEMENTS(finite_cases)},
                     {the_conditional_variance_is_that_of_normal_data}, {standard_errors_cover},
                     {threads_do_not_matter}, {the_training_log_carries_eps2},
                     {what_has_no_excess_is_refused_in_a_sentence});
}
