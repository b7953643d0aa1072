/* array_file_test.c: round trips, files cut at every byte, headers that lie. */
#include "io/array_file.h"

#include <check.h>
#include <glib/gstdio.h>
#include <math.h>
#include <string.h>

static FmArray *
example(FmDtype dtype)
{
    const size_t dim[2] = {3, 2};
    const double values[6] = {2.385, -7.25, 1e-30, 3.0, NAN, INFINITY};
    FmArray *array = fm_array_new(dtype, 2, dim, NULL);

    if (dtype == FM_F32 || dtype == FM_F64)
        fm_convert(FM_F64, values, dtype, array->data, 6);
    else
        memset(array->data, 7, 6 * fm_dtype_size(dtype));
    return array;
}

START_TEST(round_trip_and_truncation)
{
    const FmDtype dtype = (FmDtype)_i;
    g_autoptr(FmArray) a = example(dtype);
    g_autofree char *dir = g_dir_make_tmp("fmcore-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "a.npy", NULL), *bytes = NULL;
    g_autoptr(FmArray) b = NULL;
    gsize size;

    ck_assert(fm_array_save(a, path, NULL));
    b = fm_array_load(path, NULL);
    ck_assert_ptr_nonnull(b);
    ck_assert_int_eq(b->dtype, dtype);
    ck_assert_uint_eq(b->dim[0], 3);
    ck_assert_uint_eq(b->dim[1], 2);
    ck_assert_mem_eq(a->data, b->data, 6 * fm_dtype_size(dtype));
    ck_assert(g_file_get_contents(path, &bytes, &size, NULL));
    for (gsize n = 0; n < size; n++) {
        g_autofree guint8 *cut = g_memdup2(bytes, n);
        g_autoptr(GError) error = NULL;

        ck_assert_ptr_null(fm_npy_parse("cut", cut, n, &error));
        ck_assert_ptr_nonnull(error);
    }
    g_unlink(path);
    g_rmdir(dir);
}
END_TEST

START_TEST(mutations_do_not_crash)
{
    g_autoptr(FmArray) a = example(FM_F64);
    g_autoptr(GRand) random = g_rand_new_with_seed(2385);
    const char *csv = "x,y\n1.5,2\n# note\n-3;4e2\n";
    g_autofree char *dir = g_dir_make_tmp("fmcore-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "a.npy", NULL), *bytes = NULL;
    gsize size;

    ck_assert(fm_array_save(a, path, NULL));
    ck_assert(g_file_get_contents(path, &bytes, &size, NULL));
    for (int i = 0; i < 2000; i++) {
        const char *from = i % 2 ? csv : bytes;
        const gsize n = i % 2 ? strlen(csv) : size;
        g_autofree char *copy = g_memdup2(from, n);
        g_autoptr(FmArray) got = NULL;
        g_autoptr(GError) error = NULL;

        for (int k = 0; k < 3; k++)
            copy[g_rand_int_range(random, 0, (gint32)n)] = (char)g_rand_int_range(random, 0, 256);
        got = i % 2 ? fm_csv_parse("m", copy, n, &error)
                    : fm_npy_parse("m", (const guint8 *)copy, n, &error);
        ck_assert((got != NULL) != (error != NULL));
    }
    g_unlink(path);
    g_rmdir(dir);
}
END_TEST

START_TEST(csv_reads_tables)
{
    const char *text = "x,y\r\n# note\r\n1.5,2\r\n-3; 4e2 # end\r\n";
    g_autoptr(FmArray) a = fm_csv_parse("t", text, strlen(text), NULL);

    ck_assert_ptr_nonnull(a);
    ck_assert_uint_eq(a->dim[0], 2);
    ck_assert_double_eq(((double *)a->data)[3], 400.0);
    ck_assert_ptr_null(fm_csv_parse("t", "1 2\n3\n", 6, NULL));
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("array files");
    TCase *tcase = tcase_create("all");
    SRunner *runner;
    int failed;

    tcase_add_loop_test(tcase, round_trip_and_truncation, 0, FM_N_DTYPES);
    tcase_add_test(tcase, mutations_do_not_crash);
    tcase_add_test(tcase, csv_reads_tables);
    suite_add_tcase(suite, tcase);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
