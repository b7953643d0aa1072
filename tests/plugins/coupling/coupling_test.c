/* coupling_test.c: exact assignment against scipy and brute force; what every coupling promises. */
#include "suite.h"

#include <fmcore/fmcore.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Numerical Recipes' 64-bit generator: tests/references/assignment.py draws the same. */
static void
uniforms(guint64 seed, size_t n, double *out)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * G_GUINT64_CONSTANT(6364136223846793005) + G_GUINT64_CONSTANT(1442695040888963407);
        out[i] = (double)(seed >> 11) / 9007199254740992.0;
    }
}

static void
make_costs(const char *kind, size_t n, guint64 seed, double *cost)
{
    double *u = fm_alloc(4 * n * sizeof *u), *work;

    if (!g_str_equal(kind, "points")) {
        uniforms(seed, n * n, cost);
        for (size_t k = 0; k < n * n && g_str_equal(kind, "digits"); k++)
            cost[k] = floor(10.0 * cost[k]);
        fm_free(u);
        return;
    }
    uniforms(seed, 4 * n, u);
    for (size_t k = 2 * n; k < 4 * n; k++)
        u[k] = 0.5 + 3.0 * u[k] * u[k];
    work = fm_alloc(fm_distances2_work(n, n, 2) * sizeof *work);
    fm_distances2(n, u, n, u + 2 * n, 2, work, cost);
    fm_free(work);
    fm_free(u);
}

/* The matching's cost; fails when `to` is no permutation. */
static double
assign(size_t n, const double *cost, size_t *to)
{
    void *work = fm_alloc(fm_assignment_work(n));
    g_autofree guint8 *seen = g_new0(guint8, n + 1);
    const double total = fm_assignment(n, cost, to, work);
    double sum = 0.0;

    fm_free(work);
    for (size_t i = 0; i < n && isfinite(total); i++) {
        ck_assert_uint_lt(to[i], n);
        ck_assert_int_eq(seen[to[i]]++, 0);
        sum += cost[i * n + to[i]];
    }
    if (isfinite(total))
        ck_assert_double_eq_tol(sum, total, 1e-12 * (1.0 + fabs(total)));
    return total;
}

static const struct {
    const char *kind;
    size_t n;
    double optimum;
} scipy_rows[] = {
    /* Written by tests/references/assignment.py (scipy 1.17.1). */
    {"uniform", 3, 0.39356760111982214},
    {"uniform", 16, 1.9795173230085239},
    {"uniform", 37, 1.5205071839483129},
    {"uniform", 128, 1.668164328098567},
    {"uniform", 256, 1.7024734109119355},
    {"digits", 3, 3},
    {"digits", 16, 11},
    {"digits", 37, 1},
    {"digits", 128, 0},
    {"digits", 256, 0},
    {"points", 3, 8.9117616210565043},
    {"points", 16, 41.615065405085502},
    {"points", 37, 99.629709655604429},
    {"points", 128, 388.88400453368399},
    {"points", 256, 728.64601498562638},
};

START_TEST(assignment_costs_what_scipy_finds)
{
    const size_t n = scipy_rows[_i].n;
    double *cost = fm_alloc(n * n * sizeof *cost);
    g_autofree size_t *to = g_new(size_t, n), *other = g_new(size_t, n);

    make_costs(scipy_rows[_i].kind, n, 1000 + n, cost);
    ck_assert_double_eq_tol(assign(n, cost, to), scipy_rows[_i].optimum, 1e-13 * (1.0 + scipy_rows[_i].optimum));
    /* constants of rows and columns and a power of two change no matching */
    for (size_t k = 0; k < n * n; k++)
        cost[k] = 1024.0 * cost[k];
    assign(n, cost, other);
    ck_assert_mem_eq(to, other, n * sizeof *to);
    fm_free(cost);
}
END_TEST

/* The least cost over all permutations, by recursion. */
static double
brute_force(size_t n, const double *cost, size_t row, unsigned used)
{
    double least = row == n ? 0.0 : INFINITY;

    for (size_t j = 0; row < n && j < n; j++)
        if ((used >> j & 1u) == 0)
            least = MIN(least, cost[row * n + j] + brute_force(n, cost, row + 1, used | 1u << j));
    return least;
}

START_TEST(assignment_equals_brute_force)
{
    double cost[64];
    size_t to[8];

    for (guint64 seed = 0; seed < 40; seed++)
        for (size_t n = 1; n <= 7 + (seed < 3); n++) {
            uniforms(seed * 97 + n, n * n, cost);
            for (size_t k = 0; k < n * n; k++)
                cost[k] = seed % 2 ? floor(4.0 * cost[k]) - 2.0 : 2.385 * cost[k] - 1.0;
            ck_assert_double_eq_tol(assign(n, cost, to), brute_force(n, cost, 0, 0), 1e-13);
        }
}
END_TEST

START_TEST(assignment_of_degenerate_costs)
{
    enum { N = 97 };
    double *cost = fm_alloc(N * N * sizeof *cost);
    size_t to[N];

    /* all equal, also negative and huge */
    for (int s = 0; s < 3; s++) {
        const double c = s == 0 ? 0.0 : s == 1 ? -3.25 : 1e290;

        for (size_t k = 0; k < N * N; k++)
            cost[k] = c;
        ck_assert_double_eq_tol(assign(N, cost, to), N * c, 1e-12 * fabs(N * c) + 1e-300);
    }
    /* rank one, a_i b_j: sorted against sorted backwards; one row of enormous costs beside it */
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < N; j++)
            cost[i * N + j] = (double)((i * 31) % N) * (double)((j * 17) % N);
    double expected = 0.0;
    for (size_t i = 0; i < N; i++)
        expected += (double)i * (double)(N - 1 - i);
    ck_assert_double_eq_tol(assign(N, cost, to), expected, 1e-9);
    for (size_t j = 0; j < N; j++)
        cost[j] = 1e200 * (double)(j + 1);
    ck_assert_double_eq_tol(assign(N, cost, to), 1e200, 1e188);
    ck_assert_uint_eq(to[0], 0);
    /* refused: no number, infinite, a sum that overflows */
    cost[N + 3] = NAN;
    ck_assert(isnan(assign(N, cost, to)));
    cost[N + 3] = INFINITY;
    ck_assert(isnan(assign(N, cost, to)));
    for (size_t k = 0; k < N * N; k++)
        cost[k] = 1e308;
    ck_assert(isnan(assign(N, cost, to)));
    fm_free(cost);
}
END_TEST

START_TEST(distances_in_few_and_many_dimensions)
{
    static const size_t dims[] = {1, 2, 15, 16, 40};
    const size_t D = dims[_i], n = 33, m = 20;
    const FmKey key = {.seed = 5, .stream = FM_STREAM_USER};
    double *x = fm_alloc((n + m) * D * sizeof *x), *y = x + n * D, *out = fm_alloc(n * m * sizeof *out);
    double *work = fm_alloc(fm_distances2_work(n, m, D) * sizeof *work);

    fm_fill_normal_f64(key, 0, n + m, D, x);
    for (size_t k = 0; k < (n + m) * D; k++)
        x[k] += 1e6; /* far from the origin: products of raw values would lose ten digits */
    fm_distances2(n, x, m, y, D, work, out);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < m; j++) {
            double sum = 0.0;

            for (size_t d = 0; d < D; d++)
                sum += (x[i * D + d] - y[j * D + d]) * (x[i * D + d] - y[j * D + d]);
            ck_assert_double_eq_tol(out[i * m + j], sum, 1e-12 * (double)D);
        }
    fm_free(x);
    fm_free(out);
    fm_free(work);
}
END_TEST

/* ---- plugins ---- */

/* A pool of n rows in D dimensions and room for its pairs. */
typedef struct Batch {
    FmPool pool;
    FmPairs pairs;
    double *x;
} Batch;

static Batch
batch_new(guint64 seed, size_t n, size_t D)
{
    const FmKey key = {.seed = seed, .stream = FM_STREAM_USER};
    Batch b = {.x = fm_alloc(2 * n * D * sizeof(double))};

    fm_fill_normal_f64(key, 0, 2 * n, D, b.x);
    for (size_t k = n * D; k < 2 * n * D; k++)
        b.x[k] = 1.5 + 0.7 * b.x[k] * b.x[k];
    b.pool = (FmPool){.n0 = n, .n1 = n, .D = D, .x0 = b.x, .x1 = b.x + n * D, .key = key};
    b.pairs = (FmPairs){.B = n, .i0 = g_new(size_t, n), .i1 = g_new(size_t, n), .weight = g_new(double, n)};
    return b;
}

static void
batch_clear(Batch *b)
{
    fm_free(b->x);
    g_free(b->pairs.i0);
    g_free(b->pairs.i1);
    g_free(b->pairs.weight);
}

static double
pairs_cost(const Batch *b)
{
    const size_t D = b->pool.D;
    double sum = 0.0;

    for (size_t k = 0; k < b->pairs.B; k++)
        for (size_t d = 0; d < D; d++)
            sum += pow(b->pool.x0[b->pairs.i0[k] * D + d] - b->pool.x1[b->pairs.i1[k] * D + d], 2.0);
    return sum;
}

START_TEST(couplings_pair_what_is_there)
{
    const FmPluginDesc *desc = fm_registry_nth(FM_KIND_COUPLING, (size_t)_i);
    g_autoptr(GError) error = NULL;
    g_autoptr(FmPlugin) c = fm_plugin_new(FM_KIND_COUPLING, desc->name, &error);
    Batch b = batch_new(3, 40, 3);
    double weight = 0.0;

    ck_assert_ptr_nonnull(c);
    ck_assert(fm_coupling_prepare(c, 3, &error));
    ck_assert(fm_coupling_pair(c, &b.pool, &b.pairs, &error));
    for (size_t k = 0; k < 40; k++)
        weight += b.pairs.weight[k] / 40.0;
    ck_assert_double_eq_tol(weight, 1.0, 1e-12);
    batch_clear(&b);
}
END_TEST

START_TEST(ot_is_optimal_and_the_same_each_time)
{
    g_autoptr(FmPlugin) ot = fm_plugin_new(FM_KIND_COUPLING, "ot", NULL);
    static const size_t dims[] = {1, 2, 30};
    const size_t D = dims[_i], n = 64;
    Batch b = batch_new(7, n, D), again = batch_new(7, n, D), small = batch_new(8, 5, D);
    double *cost = fm_alloc(n * n * sizeof *cost);
    double *work = fm_alloc(fm_distances2_work(n, n, D) * sizeof *work);
    g_autofree size_t *to = g_new(size_t, n);
    GError *error = NULL;

    ck_assert(fm_coupling_pair(ot, &b.pool, &b.pairs, &error));
    fm_distances2(n, b.pool.x0, n, b.pool.x1, D, work, cost);
    ck_assert_double_eq_tol(pairs_cost(&b), assign(n, cost, to), 1e-9);
    /* buffers of another size in between leave no trace */
    ck_assert(fm_coupling_pair(ot, &small.pool, &small.pairs, &error));
    ck_assert(fm_coupling_pair(ot, &again.pool, &again.pairs, &error));
    ck_assert_mem_eq(b.pairs.i1, again.pairs.i1, n * sizeof(size_t));
    fm_free(cost);
    fm_free(work);
    batch_clear(&b);
    batch_clear(&again);
    batch_clear(&small);
}
END_TEST

START_TEST(ot_refuses_bad_rows)
{
    g_autoptr(FmPlugin) ot = fm_plugin_new(FM_KIND_COUPLING, "ot", NULL);
    static const size_t dims[] = {2, 30};
    Batch b = batch_new(7, 20, dims[_i]);
    GError *error = NULL;

    b.x[3 * b.pool.D + 1] = NAN;
    ck_assert(!fm_coupling_pair(ot, &b.pool, &b.pairs, &error));
    ck_assert(g_error_matches(error, FM_ERROR, FM_ERROR_DIVERGED));
    ck_assert_ptr_nonnull(strstr(error->message, "noise row 3 and data row 0"));
    g_clear_error(&error);
    b.x[3 * b.pool.D + 1] = 3e153;
    ck_assert(!fm_coupling_pair(ot, &b.pool, &b.pairs, &error));
    ck_assert_ptr_nonnull(strstr(error->message, "overflows"));
    g_clear_error(&error);
    b.pool.n1 = 19;
    ck_assert(!fm_coupling_pair(ot, &b.pool, &b.pairs, &error));
    ck_assert(g_error_matches(error, FM_ERROR, FM_ERROR_SHAPE));
    g_clear_error(&error);
    batch_clear(&b);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("couplings");
    TCase *t = tcase_create("assignment"), *p = tcase_create("plugins");

    fm_registry_load_all();
    if (fm_registry_count(FM_KIND_COUPLING) < 2) {
        g_printerr("found fewer than 2 couplings\n");
        return 1;
    }
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, assignment_costs_what_scipy_finds, 0, G_N_ELEMENTS(scipy_rows));
    tcase_add_test(t, assignment_equals_brute_force);
    tcase_add_test(t, assignment_of_degenerate_costs);
    tcase_add_loop_test(t, distances_in_few_and_many_dimensions, 0, 5);
    tcase_add_loop_test(p, couplings_pair_what_is_there, 0, (int)fm_registry_count(FM_KIND_COUPLING));
    tcase_add_loop_test(p, ot_is_optimal_and_the_same_each_time, 0, 3);
    tcase_add_loop_test(p, ot_refuses_bad_rows, 0, 2);
    suite_add_tcase(suite, t);
    suite_add_tcase(suite, p);
    return run_suite(suite, CK_FORK);
}
