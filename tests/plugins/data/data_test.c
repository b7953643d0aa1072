/* data_test.c: conformance of every data set, path and coupling in the registry; the assignment
 * against exhaustive search. */
#include "suite.h"

#include <fmcore/fmcore.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

static FmPlugin *
made(FmKind kind, const char *name)
{
    GError *error = NULL;
    FmPlugin *plugin = fm_plugin_new(kind, name, &error);

    ck_assert_msg(plugin != NULL, "%s", error ? error->message : "");
    return plugin;
}

START_TEST(path_coefficients_have_the_derivatives_they_state)
{
    g_autoptr(FmPlugin) path = made(FM_KIND_PATH, fm_registry_nth(FM_KIND_PATH, (size_t)_i)->name);

    for (double t = 0.037; t < 0.98; t += 0.1) {
        const double h = 1e-6;
        FmAffine lo, c, hi;

        fm_path_coefficients(path, t - h, &lo);
        fm_path_coefficients(path, t, &c);
        fm_path_coefficients(path, t + h, &hi);
        ck_assert_double_eq_tol(c.dalpha, (hi.alpha - lo.alpha) / (2 * h), 1e-7);
        ck_assert_double_eq_tol(c.dsigma, (hi.sigma - lo.sigma) / (2 * h), 1e-7);
    }
}
END_TEST

START_TEST(path_goes_from_noise_to_data)
{
    g_autoptr(FmPlugin) path = made(FM_KIND_PATH, fm_registry_nth(FM_KIND_PATH, (size_t)_i)->name);
    double t0, t1;
    FmAffine a, b;

    fm_path_interval(path, &t0, &t1);
    fm_path_coefficients(path, t0, &a);
    fm_path_coefficients(path, t1, &b);
    ck_assert_double_le(fabs(a.alpha), 0.01);
    ck_assert_double_eq_tol(a.sigma, 1.0, 1e-4);
    ck_assert_double_eq_tol(b.alpha, 1.0, 1e-4);
    ck_assert_double_le(fabs(b.sigma), 0.01);
}
END_TEST

/* Data sets that need a file or an option are opened by tests of their own. */
static FmPlugin *
opened(int i, FmDataInfo *info)
{
    const char *name = fm_registry_nth(FM_KIND_DATASET, (size_t)i)->name;
    FmPlugin *dataset = made(FM_KIND_DATASET, name);

    if (fm_dataset_open(dataset, info, NULL))
        return dataset;
    fm_plugin_free(dataset);
    return NULL;
}

START_TEST(rows_do_not_depend_on_how_they_are_asked_for)
{
    const FmKey key = {.seed = 11, .stream = FM_STREAM_USER, .step = 3};
    FmDataInfo info;
    g_autoptr(FmPlugin) dataset = opened(_i, &info);
    g_autofree double *all = NULL, *one = NULL;

    if (!dataset)
        return;
    all = g_new(double, 9 * info.D);
    one = g_new(double, info.D);
    ck_assert(fm_dataset_draw(dataset, key, 5, 9, all, NULL, NULL));
    for (size_t r = 0; r < 9; r++) {
        ck_assert(fm_dataset_draw(dataset, key, 5 + r, 1, one, NULL, NULL));
        ck_assert_mem_eq(one, all + r * info.D, info.D * sizeof *one);
    }
}
END_TEST

START_TEST(density_agrees_with_entropy_and_score)
{
    enum { N = 20000 };
    const FmKey key = {.seed = 5, .stream = FM_STREAM_USER};
    FmDataInfo info;
    g_autoptr(FmPlugin) dataset = opened(_i, &info);
    g_autofree double *x = NULL, *log_p = NULL;
    double mean = 0.0, square = 0.0, h, se;

    if (!dataset || !fm_dataset_has_density(dataset))
        return;
    x = g_new(double, N *info.D);
    log_p = g_new(double, N);
    ck_assert(fm_dataset_draw(dataset, key, 0, N, x, NULL, NULL));
    fm_dataset_log_density(dataset, N, x, log_p);
    for (size_t i = 0; i < N; i++) {
        mean -= log_p[i] / N;
        square += log_p[i] * log_p[i] / N;
    }
    h = fm_dataset_entropy(dataset);
    se = sqrt(MAX(square - mean * mean, 0.0) / N);
    ck_assert_double_eq_tol(mean, h, 4.0 * se + 1e-9);
    for (size_t i = 0; i < 20; i++) {
        double score[2], up[2], lp[2];

        if (info.D != 2 || !fm_dataset_score(dataset, 1, x + 2 * i, score))
            break;
        for (int d = 0; d < 2; d++) {
            memcpy(up, x + 2 * i, sizeof up);
            up[d] += 1e-5;
            fm_dataset_log_density(dataset, 1, up, &lp[0]);
            up[d] -= 2e-5;
            fm_dataset_log_density(dataset, 1, up, &lp[1]);
            ck_assert_double_eq_tol(score[d], (lp[0] - lp[1]) / 2e-5, 1e-4 * (1.0 + fabs(score[d])));
        }
    }
}
END_TEST

START_TEST(entropies_are_the_published_ones)
{
    g_autoptr(FmPlugin) eight = made(FM_KIND_DATASET, "8gaussians");
    g_autoptr(FmPlugin) board = made(FM_KIND_DATASET, "checkerboard");
    g_autoptr(FmPlugin) tent = made(FM_KIND_DATASET, "bspline:degree=1,dim=3,width=2.385");
    FmDataInfo info;

    ck_assert(fm_dataset_open(eight, &info, NULL) && fm_dataset_open(board, &info, NULL) &&
              fm_dataset_open(tent, &info, NULL));
    ck_assert_double_eq_tol(fm_dataset_entropy(eight), 2.8319, 5e-5);
    ck_assert_double_eq_tol(fm_dataset_entropy(board), 3.4657, 5e-5);
    ck_assert_double_eq_tol(fm_dataset_entropy(tent), 3 * (0.5 + log(2.385)), 1e-7);
}
END_TEST

/* Curves as their data sets draw them, u on [0, 1], each piece equally likely; noise as standard deviation. */
static void
curve_moons(int inner, double u, double x[2])
{
    const double a = G_PI * u;

    x[0] = 2.0 * (inner ? 1.0 - cos(a) : cos(a)) - 1.0;
    x[1] = 2.0 * (inner ? 0.5 - sin(a) : sin(a)) - 0.2;
}

static void
curve_circles(int inner, double u, double x[2])
{
    x[0] = (inner ? 1.5 : 3.0) * cos(2 * G_PI * u);
    x[1] = (inner ? 1.5 : 3.0) * sin(2 * G_PI * u);
}

static void
curve_rings(int ring, double u, double x[2])
{
    x[0] = 0.75 * (4 - ring) * cos(2 * G_PI * u);
    x[1] = 0.75 * (4 - ring) * sin(2 * G_PI * u);
}

static void
curve_roll(int piece, double u, double x[2])
{
    const double a = 1.5 * G_PI * (1.0 + 2.0 * u);

    x[0] = a * cos(a) / 5.0;
    x[1] = a * sin(a) / 5.0;
}

static const struct {
    const char *name;
    int pieces;
    double sd;
    void (*curve)(int piece, double u, double x[2]);
} curves[] = {{"moons", 2, 0.2, curve_moons},    {"circles", 2, 0.24, curve_circles},
              {"rings", 4, 0.08, curve_rings},   {"rings:noise=0.03", 4, 0.03, curve_rings},
              {"swissroll", 1, 0.2, curve_roll}, {"moons:noise=0.02", 2, 0.04, curve_moons}};

/* The density by Simpson's rule of many steps, at points about the curve and up to five noises from it. */
START_TEST(densities_along_curves_are_exact)
{
    enum { N = 60, STEPS = 20000 };
    g_autoptr(FmPlugin) dataset = fm_plugin_new(FM_KIND_DATASET, curves[_i].name, NULL);
    FmDataInfo info;
    double x[2 * N], at[2], log_p[N];
    const double s2 = curves[_i].sd * curves[_i].sd;

    ck_assert(fm_dataset_open(dataset, &info, NULL));
    ck_assert(fm_dataset_draw(dataset, (FmKey){.seed = 9, .stream = FM_STREAM_USER}, 0, N, x, NULL, NULL));
    for (int i = 0; i < N; i++) {
        x[2 * i] += (i % 3) * curves[_i].sd;
        x[2 * i + 1] -= (i % 4) * curves[_i].sd;
    }
    fm_dataset_log_density(dataset, N, x, log_p);
    for (int i = 0; i < N; i++) {
        double p = 0.0;

        for (int piece = 0; piece < curves[_i].pieces; piece++)
            for (int j = 0; j <= STEPS; j++) {
                const double w = (j == 0 || j == STEPS ? 1.0 : j % 2 ? 4.0 : 2.0) / (3.0 * STEPS);

                curves[_i].curve(piece, (double)j / STEPS, at);
                p += w / curves[_i].pieces / (2 * G_PI * s2) *
                     exp(-0.5 * (pow(x[2 * i] - at[0], 2) + pow(x[2 * i + 1] - at[1], 2)) / s2);
            }
        ck_assert_double_eq_tol(log_p[i], log(p), 1e-10);
    }
}
END_TEST

/* A curve without noise has no density, one with very little no mixture: said, and not computed. */
START_TEST(curves_without_noise_have_no_density)
{
    static const char *const thin[] = {"moons:noise=0", "circles:noise=1e-4", "rings:noise=0", "swissroll:noise=0"};
    g_autoptr(FmPlugin) dataset = fm_plugin_new(FM_KIND_DATASET, thin[_i], NULL);
    FmDataInfo info;
    double x[2] = {0.1, 0.2}, score[2];

    ck_assert(fm_dataset_open(dataset, &info, NULL));
    ck_assert(!fm_dataset_has_density(dataset));
    ck_assert(!fm_dataset_score(dataset, 1, x, score));
    ck_assert_ptr_null(fm_dataset_mixture(dataset));
    ck_assert(isnan(fm_dataset_entropy(dataset)));
}
END_TEST

/* Shares, spread and log-density of components that differ. */
START_TEST(mixture_takes_weights_and_widths_of_components)
{
    enum { N = 40000, K = 3 };
    static const double weight[K] = {0.1, 0.3, 0.6}, sd[K] = {0.02, 0.5, 1.0};
    const FmKey key = {.seed = 2, .stream = FM_STREAM_USER};
    g_autoptr(FmPlugin) dataset =
        fm_plugin_new(FM_KIND_DATASET, "mixture:k=3,dim=3,radius=2,weights=[1,3,6],sds=[0.02,0.5,1]", NULL);
    g_autofree double *x = g_new(double, 3 * N), *log_p = g_new(double, N);
    g_autofree int *y = g_new(int, N);
    double count[K] = {0}, square[K] = {0};
    FmDataInfo info;

    ck_assert(dataset && fm_dataset_open(dataset, &info, NULL));
    ck_assert(fm_dataset_draw(dataset, key, 0, N, x, y, NULL));
    fm_dataset_log_density(dataset, N, x, log_p);
    for (size_t i = 0; i < N; i++) {
        double p = 0.0;

        for (size_t k = 0; k < K; k++) {
            const double angle = 2.0 * G_PI * (double)k / K, a = x[3 * i] - 2.0 * cos(angle),
                         b = x[3 * i + 1] - 2.0 * sin(angle), z = x[3 * i + 2];

            p += weight[k] * exp(-0.5 * ((a * a + b * b) / (sd[k] * sd[k]) + z * z)) / (sd[k] * sd[k]);
            if (y[i] == (int)k) {
                count[k]++;
                square[k] += 0.5 * (a * a + b * b);
            }
        }
        ck_assert_double_eq_tol(log_p[i], log(p) - 1.5 * log(2.0 * G_PI), 1e-9);
    }
    for (size_t k = 0; k < K; k++) {
        ck_assert_double_eq_tol(count[k] / N, weight[k], 4.0 * sqrt(weight[k] * (1.0 - weight[k]) / N));
        ck_assert_double_eq_tol(square[k] / count[k] / (sd[k] * sd[k]), 1.0, 4.0 / sqrt(count[k]));
    }
}
END_TEST

START_TEST(mixture_refuses_lists_of_another_length)
{
    static const char *const specs[] = {"mixture:k=3,weights=[1,2]", "mixture:k=2,sds=[0.1,0.2,0.3]"};
    g_autoptr(FmPlugin) dataset = fm_plugin_new(FM_KIND_DATASET, specs[_i], NULL);
    g_autoptr(GError) error = NULL;
    FmDataInfo info;

    ck_assert_ptr_nonnull(dataset);
    ck_assert(!fm_dataset_open(dataset, &info, &error));
    ck_assert_int_eq(error->code, FM_ERROR_USAGE);
    ck_assert_ptr_nonnull(strstr(error->message, "expected one for each of"));
}
END_TEST

START_TEST(mnist_holds_what_its_authors_counted)
{
    static const int counts[10] = {980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009};
    g_autoptr(FmPlugin) mnist = made(FM_KIND_DATASET, "mnist");
    FmDataInfo info;
    g_autofree double *x = g_new(double, 784);
    int found[10] = {0}, label;
    double mean = 0.0;

    ck_assert(fm_dataset_open(mnist, &info, NULL));
    ck_assert_uint_eq(info.rows, 10000);
    ck_assert_uint_eq(info.D, 784);
    for (size_t row = 0; row < info.rows; row++) {
        ck_assert(fm_dataset_read(mnist, &row, 1, x, &label, NULL));
        found[label]++;
        for (size_t d = 0; d < 784; d++)
            mean += x[d] / 784.0 / 10000.0;
    }
    ck_assert_mem_eq(found, counts, sizeof counts);
    ck_assert_double_eq_tol(mean, 0.132515, 1e-6);
}
END_TEST

START_TEST(missing_files_are_said)
{
    static const char *const specs[] = {"npy", "csv:file=/nowhere.csv", "cifar10:dir=/nowhere", "mnist:dir=/nowhere"};

    for (size_t i = 0; i < G_N_ELEMENTS(specs); i++) {
        g_autoptr(FmPlugin) dataset = made(FM_KIND_DATASET, specs[i]);
        g_autoptr(GError) error = NULL;
        FmDataInfo info;

        ck_assert(!fm_dataset_open(dataset, &info, &error));
        ck_assert_msg(error && strlen(error->message) > 10, "%s", specs[i]);
    }
}
END_TEST

/* ---- assignment ---- */

static double
best_of_all(size_t n, const double *cost, size_t row, unsigned used)
{
    double best = INFINITY;

    if (row == n)
        return 0.0;
    for (size_t j = 0; j < n; j++)
        if (!(used >> j & 1u))
            best = MIN(best, cost[row * n + j] + best_of_all(n, cost, row + 1, used | 1u << j));
    return best;
}

START_TEST(assignment_is_the_best_of_all)
{
    for (size_t n = 1; n <= 7; n++)
        for (guint64 seed = 0; seed < 60; seed++) {
            const FmKey key = {.seed = seed, .stream = FM_STREAM_USER, .step = n};
            double cost[49], total = 0.0;
            size_t to[7];
            unsigned used = 0;
            g_autofree char *work = g_malloc(fm_assignment_work(n));

            fm_fill_uniform_f64(key, 0, 1, n * n, cost);
            for (size_t i = 0; i < n * n && seed % 3 == 0; i++)
                cost[i] = floor(4.0 * cost[i]); /* many ties */
            ck_assert_double_eq_tol(fm_assignment(n, cost, to, work), best_of_all(n, cost, 0, 0), 1e-12);
            for (size_t i = 0; i < n; i++) {
                used |= 1u << to[i];
                total += cost[i * n + to[i]];
            }
            ck_assert_uint_eq(used, (1u << n) - 1);
            ck_assert_double_eq_tol(total, best_of_all(n, cost, 0, 0), 1e-12);
        }
}
END_TEST

START_TEST(ot_coupling_shortens_the_pairs)
{
    enum { B = 128 };
    g_autoptr(FmPlugin) ot = made(FM_KIND_COUPLING, "ot");
    double x0[2 * B], x1[2 * B], weight[B], before = 0.0, after = 0.0;
    size_t i0[B], i1[B];
    FmPairs pairs = {.B = B, .i0 = i0, .i1 = i1, .weight = weight};
    const FmPool pool = {.n0 = B, .n1 = B, .D = 2, .x0 = x0, .x1 = x1};
    int used[B] = {0};

    fm_fill_normal_f64((FmKey){.seed = 1, .stream = FM_STREAM_USER}, 0, B, 2, x0);
    fm_fill_normal_f64((FmKey){.seed = 2, .stream = FM_STREAM_USER}, 0, B, 2, x1);
    ck_assert(fm_coupling_pair(ot, &pool, &pairs, NULL));
    for (size_t b = 0; b < B; b++) {
        used[i1[b]]++;
        for (size_t d = 0; d < 2; d++) {
            before += pow(x0[2 * b + d] - x1[2 * b + d], 2);
            after += pow(x0[2 * i0[b] + d] - x1[2 * i1[b] + d], 2);
        }
    }
    for (size_t b = 0; b < B; b++)
        ck_assert_int_eq(used[b], 1);
    ck_assert_double_lt(after, 0.25 * before);
}
END_TEST

/* One's own folder goes before the installed one and the one that lies here. */
START_TEST(shipped_data_are_looked_for_in_order)
{
    g_setenv("FMCORE_DATA_PATH", "/some/where", TRUE);
    g_auto(GStrv) own = fm_dataset_roots();
    g_setenv("FMCORE_DATA_PATH", "", TRUE);
    g_auto(GStrv) empty = fm_dataset_roots();
    g_unsetenv("FMCORE_DATA_PATH");
    g_auto(GStrv) none = fm_dataset_roots();

    ck_assert_uint_eq(g_strv_length(own), 3);
    ck_assert_str_eq(own[0], "/some/where");
    ck_assert_ptr_nonnull(strstr(own[1], "/fmcore"));
    ck_assert_str_eq(own[2], "data");
    ck_assert(g_strv_equal((const char *const *)empty, (const char *const *)none));
    ck_assert(g_strv_equal((const char *const *)none, (const char *const *)own + 1));
}
END_TEST

int
main(void)
{
    fm_registry_load_all();
    return run_tests(
        "data", 120, {path_coefficients_have_the_derivatives_they_state, (int)fm_registry_count(FM_KIND_PATH)},
        {path_goes_from_noise_to_data, (int)fm_registry_count(FM_KIND_PATH)},
        {rows_do_not_depend_on_how_they_are_asked_for, (int)fm_registry_count(FM_KIND_DATASET)},
        {density_agrees_with_entropy_and_score, (int)fm_registry_count(FM_KIND_DATASET)},
        {entropies_are_the_published_ones}, {densities_along_curves_are_exact, G_N_ELEMENTS(curves)},
        {curves_without_noise_have_no_density, 4}, {mixture_takes_weights_and_widths_of_components},
        {mixture_refuses_lists_of_another_length, 2}, {mnist_holds_what_its_authors_counted}, {missing_files_are_said},
        {shipped_data_are_looked_for_in_order}, {assignment_is_the_best_of_all}, {ot_coupling_shortens_the_pairs});
}
