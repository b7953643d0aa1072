/* neighbours_test.c: every search for nearest rows against the definition. */
#include "suite.h"
#include "flow/neighbours_private.h"

#include <fmcore/array.h>
#include <fmcore/cpu.h>
#include <fmcore/random.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NORMAL, TIES, OFFSET, TINY, PLANE, CONSTANT, SMOOTH, OUTLIER, REPEATED, TWO_VALUED, SIGNS, N_KINDS };

/* Rows (n, D) of one kind. */
static double *
draw(int kind, guint64 stream, size_t n, size_t D)
{
    const FmKey key = {.seed = 5, .stream = FM_STREAM_USER, .step = 100 + stream};
    double *x = fm_alloc(n * D * sizeof *x), *z = fm_alloc(n * 8 * sizeof *z);

    fm_fill_normal_f64(key, 0, n, D, x);
    fm_fill_normal_f64((FmKey){.seed = 6, .stream = FM_STREAM_USER, .step = stream}, 0, n, 8, z);
    for (size_t i = 0; i < n; i++)
        for (size_t d = 0; d < D; d++) {
            double *v = x + i * D + d, mix = 0.0;

            for (size_t c = 0; c < 8; c++)
                mix += z[i * 8 + c] * sin(0.7 * (double)(d + 1) * (double)(c + 1));
            switch (kind) {
            case TIES:
                *v = rint(*v);
                break;
            case OFFSET:
                *v += 1e6;
                break;
            case TINY:
                *v *= 1e-9;
                break;
            case PLANE:
                *v = z[i * 8] * sin((double)d + 0.3) + z[i * 8 + 1] * cos(1.7 * (double)d);
                break;
            case CONSTANT:
                if (d % 3)
                    *v = 2.385;
                break;
            case SMOOTH:
                *v = mix + 0.05 * *v;
                break;
            case OUTLIER:
                if (i == n / 2)
                    *v *= 1e18;
                break;
            case REPEATED: /* in both samples, by stream, some of the same */
                *v = sin((double)((i % 9 + 4 * stream) * 31 + d));
                break;
            case TWO_VALUED:
                *v = *v > 1.5;
                break;
            case SIGNS: /* all bytes are large */
                *v = *v > 0.0 ? 1.0 : -1.0;
                break;
            default:
                break;
            }
        }
    fm_free(z);
    return x;
}

static int
by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double
square_distance(size_t D, const double *x, const double *y)
{
    double sum = 0.0;

    for (size_t d = 0; d < D; d++)
        sum += (x[d] - y[d]) * (x[d] - y[d]);
    return sum;
}

static double
least_positive(size_t n, const double *y, const double *x, size_t D)
{
    double least = INFINITY;

    for (size_t j = 0; j < n; j++) {
        const double d2 = square_distance(D, x, y + j * D);

        if (d2 > 0.0 && d2 < least)
            least = d2;
    }
    return least;
}

/* d2 (m, k) by the definition. self: a row does not count for itself. */
static void
define(size_t n, const double *y, size_t m, const double *x, size_t D, gboolean self, size_t k, double *d2)
{
    double *all = fm_alloc((n + k) * sizeof *all);

    for (size_t i = 0; i < m; i++) {
        size_t found = 0;

        for (size_t j = 0; j < n; j++) {
            if (!self || i != j)
                all[found++] = square_distance(D, x + i * D, y + j * D);
        }
        for (size_t j = 0; j < k; j++)
            all[found + j] = INFINITY;
        qsort(all, found, sizeof *all, by_value);
        memcpy(d2 + i * k, all, k * sizeof *d2);
    }
    fm_free(all);
}

static void
check_equal(const char *what, size_t n, size_t k, size_t most, const double *ours, const double *truth)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < k; j++) {
            const double a = ours[i * k + j], b = truth[i * most + j];

            ck_assert_msg(a == b || fabs(a - b) <= 1e-12 * b, "%s: row %zu, neighbour %zu of %zu: %.17g, not %.17g",
                          what, i, j, k, a, b);
        }
}

/* Balls that end at neighbours 1 and 6 of (m, most) `near`, and the least positive distances, against rows one by one.
 */
static void
check_balls(const char *what, const FmNeighbours *index, size_t n, const double *y, const FmNeighbours *queries,
            size_t m, const double *x, size_t D, size_t k, const double *near)
{
    const size_t step = m > 60 ? 7 : 1, some = (m + step - 1) / step, total = some + some / 2; /* some asked twice */
    guint32 *row = g_new(guint32, total);
    double *d2 = g_new(double, total), *last = g_new(double, total), *positive = g_new(double, total);
    size_t *count = g_new(size_t, total);

    for (size_t i = 0; i < total; i++) {
        row[i] = (guint32)(step * (i < some ? i : 2 * (i - some)));
        d2[i] = near[row[i] * k + (row[i] % 2 ? 0 : MIN(k - 1, 5))];
    }
    ck_assert(fm_neighbours_within(index, queries, total, row, d2, 2, count, last, NULL));
    ck_assert(fm_neighbours_positive(index, queries, total, row, 2, positive, NULL));
    for (size_t i = 0; i < total; i++) {
        const double least = least_positive(n, y, x + row[i] * D, D);
        size_t below = 0, above = 0;

        for (size_t j = 0; j < n; j++) {
            const double v = square_distance(D, x + row[i] * D, y + j * D);

            if (index == queries && j == row[i])
                continue;
            below += v < d2[i] * (1.0 - 1e-12);
            above += v <= d2[i] * (1.0 + 1e-12);
        }
        ck_assert_msg(count[i] >= below && count[i] <= above && (isinf(d2[i]) || last[i] == d2[i]),
                      "%s: row %u: %zu rows within %g, the last at %g; %zu to %zu expected", what, row[i], count[i],
                      d2[i], last[i], below, above);
        ck_assert_msg(least == positive[i] || fabs(least - positive[i]) <= 1e-12 * least,
                      "%s: row %u: least positive distance %g, not %g", what, row[i], positive[i], least);
    }
    g_free(row);
    g_free(d2);
    g_free(last);
    g_free(positive);
    g_free(count);
}

/* Searches: the tree, the scan as it is chosen, and the scan in a number of directions. */
static const struct {
    const char *name;
    FmSearch search;
    size_t directions;
} methods[] = {{"tree", FM_SEARCH_TREE, 0},         {"scan", FM_SEARCH_SCAN, NB_MEASURED},
               {"columns", FM_SEARCH_SCAN, 0},      {"1 direction", FM_SEARCH_SCAN, 1},
               {"7 directions", FM_SEARCH_SCAN, 7}, {"64 directions", FM_SEARCH_SCAN, 64}};

static FmNeighbours *
open_index(size_t method, size_t n, size_t D, const double *x)
{
    if (methods[method].directions != NB_MEASURED && methods[method].search == FM_SEARCH_SCAN)
        return fm__neighbours_scan_new(n, D, x, methods[method].directions, 2);
    return fm_neighbours_new(n, D, x, NULL, methods[method].search, 1, NULL, 2, NULL);
}

static void
check_rows(int kind, size_t n, size_t D)
{
    enum { MOST = FM_NEIGHBOURS_MAX };
    const size_t m = n / 2 + 1, ks[] = {6, n < 40 ? MOST : 1}; /* the largest k: fewer rows than that */
    double *y = draw(kind, 1, n, D), *x = draw(kind, 2, m, D);
    double *within = fm_alloc(n * MOST * sizeof *within), *across = fm_alloc(m * MOST * sizeof *across);
    double *one = fm_alloc(n * MOST * sizeof *one), *two = fm_alloc(n * MOST * sizeof *two);

    define(n, y, n, y, D, TRUE, MOST, within);
    define(n, y, m, x, D, FALSE, MOST, across);
    for (size_t t = 0; t < G_N_ELEMENTS(methods); t++) {
        g_autoptr(FmNeighbours) index = open_index(t, n, D, y);
        g_autoptr(FmNeighbours) queries =
            index ? fm_neighbours_new(m, D, x, NULL, FM_SEARCH_AUTO, 1, index, 2, NULL) : NULL;
        g_autofree char *what = g_strdup_printf("kind %d, %zu rows of %zu, %s", kind, n, D, methods[t].name);

        ck_assert(index && queries);
        for (size_t c = 0; c < G_N_ELEMENTS(ks); c++) {
            const size_t k = ks[c];

            ck_assert(fm_neighbours_search(index, index, k, 1, one, NULL));
            if (c == 0) {
                ck_assert(fm_neighbours_search(index, index, k, 2, two, NULL));
                ck_assert(memcmp(one, two, n * k * sizeof *one) == 0);
            }
            check_equal(what, n, k, MOST, one, within);
            if (c == 0)
                check_balls(what, index, n, y, index, n, y, D, k, one);
            ck_assert(fm_neighbours_search(index, queries, k, 2, one, NULL));
            check_equal(what, m, k, MOST, one, across);
            if (c == 0)
                check_balls(what, index, n, y, queries, m, x, D, k, one);
        }
    }
    fm_free(y);
    fm_free(x);
    fm_free(within);
    fm_free(across);
    fm_free(one);
    fm_free(two);
}

static const char *const levels[] = {"avx512", "base"}; /* the processor's own, and plain */
static const size_t columns[] = {1, 2, 3, 4, 5, 17, 100, 784}, sizes[] = {1, 7, 31, 33, 257};

START_TEST(searches_are_exact)
{
    const int kind = _i % N_KINDS, level = _i / N_KINDS;

    g_setenv("FMCORE_CPU", levels[level], TRUE);
    for (size_t d = 0; d < G_N_ELEMENTS(columns); d += level ? 3 : 1)
        for (size_t s = 0; s < G_N_ELEMENTS(sizes); s++)
            check_rows(kind, sizes[s], columns[d]);
}
END_TEST

/* Enough rows for limits to be found early and for directions to be counted; candidates overflow. */
START_TEST(many_rows_are_exact)
{
    check_rows(_i, 900, _i % 2 ? 200 : 80);
}
END_TEST

/* Rows near a subspace are searched in it; rows that fill the space are not. */
START_TEST(directions_are_used_where_they_pay)
{
    const size_t n = 2000, D = 160;
    double *x = draw(_i ? SMOOTH : NORMAL, 1, n, D);
    g_autoptr(FmNeighbours) index = fm_neighbours_new(n, D, x, NULL, FM_SEARCH_SCAN, 1, NULL, 2, NULL);

    ck_assert(index != NULL);
    if (_i && fm_cpu_level() >= FM_CPU_AVX2)
        ck_assert_uint_le(index->frame->directions - 1, 95); /* 1 .. 96 */
    else
        ck_assert_uint_eq(index->frame->directions, 0);
    fm_free(x);
}
END_TEST

/* The choice rests on the rows: on how many directions they have, not on how many columns. */
START_TEST(the_quicker_search_is_chosen)
{
    static const struct {
        int kind;
        size_t n, D;
        FmSearch search;
    } cases[] = {{NORMAL, 4000, 2, FM_SEARCH_TREE},   {NORMAL, 4000, 40, FM_SEARCH_SCAN},
                 {PLANE, 4000, 40, FM_SEARCH_TREE},   {NORMAL, 2000, 160, FM_SEARCH_SCAN},
                 {NORMAL, 9000, 160, FM_SEARCH_SCAN}, /* by a second sample */
                 {PLANE, 4000, 160, FM_SEARCH_TREE}};
    double *x = draw(cases[_i].kind, 1, cases[_i].n, cases[_i].D);

    for (int threads = 1; threads <= 2; threads++) {
        g_autoptr(FmNeighbours) index =
            fm_neighbours_new(cases[_i].n, cases[_i].D, x, NULL, FM_SEARCH_AUTO, 6, NULL, threads, NULL);

        ck_assert(index != NULL);
        ck_assert_int_eq((int)fm_neighbours_method(index), (int)cases[_i].search);
    }
    fm_free(x);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("neighbours");
    TCase *t = tcase_create("searches");

    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, searches_are_exact, 0, N_KINDS * (int)G_N_ELEMENTS(levels));
    tcase_add_loop_test(t, many_rows_are_exact, 0, N_KINDS);
    tcase_add_loop_test(t, directions_are_used_where_they_pay, 0, 2);
    tcase_add_loop_test(t, the_quicker_search_is_chosen, 0, 6);
    suite_add_tcase(suite, t);
    return run_suite(suite, CK_FORK);
}
