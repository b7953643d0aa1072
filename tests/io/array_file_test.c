/* array_file_test.c: round trips, files cut at every byte, headers that lie, archives as NumPy
 * writes them, compressed files that inflate without end, disks that are full. */
#include "suite.h"
#include "io/array_file.h"

#include <glib/gstdio.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <zlib.h>

static FmArray *
parse_npy(const char *name, const void *bytes, size_t size, GError **error)
{
    g_autoptr(FmReader) r = fm__reader_memory(name, bytes, size);

    return fm__npy_read(r, error);
}

static FmArray *
parse_csv(const char *name, const char *bytes, size_t size, GError **error)
{
    g_autoptr(FmReader) r = fm__reader_memory(name, bytes, size);

    return fm__csv_read(r, error);
}

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

        ck_assert_ptr_null(parse_npy("cut", cut, n, &error));
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
        got = i % 2 ? parse_csv("m", copy, n, &error) : parse_npy("m", copy, n, &error);
        ck_assert((got != NULL) != (error != NULL));
    }
    g_unlink(path);
    g_rmdir(dir);
}
END_TEST

START_TEST(csv_reads_tables)
{
    const char *text = "x,y\r\n# note\r\n1.5,2\r\n-3; 4e2 # end\r\n";
    g_autoptr(FmArray) a = parse_csv("t", text, strlen(text), NULL);

    ck_assert_ptr_nonnull(a);
    ck_assert_uint_eq(a->dim[0], 2);
    ck_assert_double_eq(((double *)a->data)[3], 400.0);
    ck_assert_ptr_null(parse_csv("t", "1 2\n3\n", 6, NULL));
}
END_TEST

/* numpy.savez_compressed(f, a=[[2.385, -7.25], [1e-30, 3], [0.125, -0.5]],
 *                        ones=ones((64, 2), float32)), NumPy 2. */
static const guint8 numpy_npz[] = {
    80,  75,  3,   4,   45,  0,   0,   0,   8,   0,   0,   0,   33,  0,   53,  117, 214, 89,  255, 255, 255, 255, 255,
    255, 255, 255, 5,   0,   20,  0,   97,  46,  110, 112, 121, 1,   0,   16,  0,   176, 0,   0,   0,   0,   0,   0,
    0,   102, 0,   0,   0,   0,   0,   0,   0,   155, 236, 23,  234, 27,  16,  201, 200, 80,  198, 80,  173, 158, 146,
    90,  156, 92,  164, 110, 165, 160, 110, 147, 102, 161, 174, 163, 160, 158, 150, 95,  84,  82,  148, 152, 23,  159,
    95,  148, 146, 10,  18,  119, 75,  204, 41,  78,  5,   138, 23,  103, 36,  22,  164, 2,   249, 26,  198, 58,  10,
    70,  154, 58,  10,  181, 10,  100, 3,   46,  145, 117, 238, 15,  171, 68,  152, 29,  24,  192, 64,  246, 192, 130,
    67,  175, 255, 121, 123, 108, 177, 132, 240, 57,  160, 226, 7,   236, 33,  244, 131, 253, 0,   80,  75,  3,   4,
    45,  0,   0,   0,   8,   0,   0,   0,   33,  0,   239, 187, 199, 119, 255, 255, 255, 255, 255, 255, 255, 255, 8,
    0,   20,  0,   111, 110, 101, 115, 46,  110, 112, 121, 1,   0,   16,  0,   128, 2,   0,   0,   0,   0,   0,   0,
    79,  0,   0,   0,   0,   0,   0,   0,   155, 236, 23,  234, 27,  16,  201, 200, 80,  198, 80,  173, 158, 146, 90,
    156, 92,  164, 110, 165, 160, 110, 147, 102, 162, 174, 163, 160, 158, 150, 95,  84,  82,  148, 152, 23,  159, 95,
    148, 146, 10,  18,  119, 75,  204, 41,  78,  5,   138, 23,  103, 36,  22,  164, 2,   249, 26,  102, 38,  58,  10,
    70,  154, 58,  10,  181, 10,  228, 2,   46,  6,   134, 6,   251, 81,  60,  114, 49,  0,   80,  75,  1,   2,   45,
    3,   45,  0,   0,   0,   8,   0,   0,   0,   33,  0,   53,  117, 214, 89,  102, 0,   0,   0,   176, 0,   0,   0,
    5,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   128, 1,   0,   0,   0,   0,   97,  46,  110, 112, 121,
    80,  75,  1,   2,   45,  3,   45,  0,   0,   0,   8,   0,   0,   0,   33,  0,   239, 187, 199, 119, 79,  0,   0,
    0,   128, 2,   0,   0,   8,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   128, 1,   157, 0,   0,   0,
    111, 110, 101, 115, 46,  110, 112, 121, 80,  75,  5,   6,   0,   0,   0,   0,   2,   0,   2,   0,   105, 0,   0,
    0,   38,  1,   0,   0,   0,   0,
};

static FmArray *
parse_npz(const guint8 *bytes, size_t size, const char *name, GError **error)
{
    return fm__npz_read("t.npz", bytes, size, name, error);
}

START_TEST(npz_as_numpy_writes_it)
{
    static const double want[6] = {2.385, -7.25, 1e-30, 3.0, 0.125, -0.5};
    g_autoptr(GError) error = NULL, none = NULL, which = NULL;
    g_autoptr(FmArray) a = parse_npz(numpy_npz, sizeof numpy_npz, "a", &error);
    g_autoptr(FmArray) ones = parse_npz(numpy_npz, sizeof numpy_npz, "ones.npy", &error);

    ck_assert_ptr_nonnull(a);
    ck_assert_ptr_nonnull(ones);
    ck_assert_int_eq(a->dtype, FM_F64);
    ck_assert_mem_eq(a->data, want, sizeof want);
    ck_assert_int_eq(ones->dtype, FM_F32);
    for (int i = 0; i < 128; i++)
        ck_assert_float_eq(((float *)ones->data)[i], 1.0f);
    ck_assert_ptr_null(parse_npz(numpy_npz, sizeof numpy_npz, "b", &none));
    ck_assert_ptr_nonnull(strstr(none->message, "a, ones"));
    ck_assert_ptr_null(parse_npz(numpy_npz, sizeof numpy_npz, NULL, &which));
    ck_assert_ptr_nonnull(strstr(which->message, "FILE.npz:NAME"));
}
END_TEST

START_TEST(npz_that_is_damaged)
{
    static const double want[6] = {2.385, -7.25, 1e-30, 3.0, 0.125, -0.5};

    /* Cut anywhere: refused. One byte changed: refused, or it was one that does not matter. */
    for (size_t n = 0; n < sizeof numpy_npz; n++) {
        g_autoptr(GError) error = NULL;

        ck_assert_ptr_null(parse_npz(numpy_npz, n, "a", &error));
        ck_assert_ptr_nonnull(error);
    }
    for (size_t i = 0; i < sizeof numpy_npz; i++) {
        g_autofree guint8 *copy = g_memdup2(numpy_npz, sizeof numpy_npz);
        g_autoptr(FmArray) got = NULL;
        g_autoptr(GError) error = NULL;

        copy[i] ^= 0x15;
        got = parse_npz(copy, sizeof numpy_npz, "a", &error);
        ck_assert((got != NULL) != (error != NULL));
        if (got)
            ck_assert_mem_eq(got->data, want, sizeof want);
    }
}
END_TEST

START_TEST(npz_round_trip)
{
    g_autoptr(FmArray) a = example(FM_F32), b = NULL, c = NULL;
    g_autofree char *dir = g_dir_make_tmp("fmcore-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "a.npz", NULL);
    g_autofree char *named = g_strconcat(path, ":arr_0", NULL);

    ck_assert(fm_array_save(a, path, NULL));
    b = fm_array_load(path, NULL);
    c = fm_array_load(named, NULL);
    ck_assert_ptr_nonnull(b);
    ck_assert_ptr_nonnull(c);
    ck_assert_mem_eq(a->data, b->data, 6 * sizeof(float));
    ck_assert_mem_eq(a->data, c->data, 6 * sizeof(float));
    g_unlink(path);
    g_rmdir(dir);
}
END_TEST

/* gzip of `head` and then `zeros` zero bytes, or nines in the shape of text. */
static void
write_gz(const char *path, const void *head, size_t size, size_t zeros)
{
    static const char block[4096] = {0};
    gzFile gz = gzopen(path, "wb1");

    ck_assert_int_eq(gzwrite(gz, head, (unsigned)size), (int)size);
    for (; zeros > 0; zeros -= MIN(zeros, sizeof block))
        gzwrite(gz, block, (unsigned)MIN(zeros, sizeof block));
    gzclose(gz);
}

/* A header that claims little before much, and one that claims much before little, cost neither
 * memory nor time. */
START_TEST(gzip_bombs)
{
    static const char small[] = "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 2), }";
    static const char large[] = "{'descr': '<f8', 'fortran_order': False, 'shape': (200000, 200000)}";
    const char *text = _i == 0 ? small : large;
    g_autofree char *dir = g_dir_make_tmp("fmcore-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "a.npy.gz", NULL);
    g_autoptr(GString) head = g_string_new_len("\x93NUMPY\x01\0", 8);
    g_autoptr(GError) error = NULL, bounded = NULL;
    struct rusage before, after;

    g_string_append_c(head, (char)strlen(text));
    g_string_append_c(head, 0);
    g_string_append(head, text);
    write_gz(path, head->str, head->len, _i == 0 ? (size_t)100 << 20 : 1000);
    getrusage(RUSAGE_SELF, &before);
    ck_assert_ptr_null(fm_array_load(path, &error));
    ck_assert_int_eq(error->code, FM_ERROR_DATA);
    ck_assert_ptr_null(fm_read_file(path, 999, &bounded));
    getrusage(RUSAGE_SELF, &after);
    ck_assert_int_le(after.ru_maxrss - before.ru_maxrss, 40 << 10); /* KiB */
    g_unlink(path);
    g_rmdir(dir);
}
END_TEST

START_TEST(gzip_cut_short)
{
    g_autoptr(FmArray) a = example(FM_F64);
    g_autofree char *dir = g_dir_make_tmp("fmcore-XXXXXX", NULL), *bytes = NULL, *packed = NULL;
    g_autofree char *plain = g_build_filename(dir, "a.npy", NULL);
    g_autofree char *path = g_build_filename(dir, "a.npy.gz", NULL);
    gsize size;

    ck_assert(fm_array_save(a, plain, NULL));
    ck_assert(g_file_get_contents(plain, &bytes, &size, NULL));
    write_gz(path, bytes, size, 0);
    ck_assert(g_file_get_contents(path, &packed, &size, NULL));
    for (gsize n = 0; n <= size; n++) {
        g_autoptr(FmArray) got = NULL;
        g_autoptr(GError) error = NULL;

        ck_assert(g_file_set_contents(path, packed, (gssize)n, NULL));
        got = fm_array_load(path, &error);
        ck_assert((got != NULL) == (n == size));
        ck_assert((got != NULL) != (error != NULL));
    }
    g_unlink(plain);
    g_unlink(path);
    g_rmdir(dir);
}
END_TEST

/* A file that cannot be written whole leaves the one before it, and nothing beside it. */
START_TEST(full_disk_keeps_the_old_file)
{
    g_autoptr(FmArray) a = fm_array_new(FM_F64, 1, (const size_t[]){4000}, NULL);
    g_autofree char *dir = g_dir_make_tmp("fmcore-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, _i == 0 ? "a.npy" : _i == 1 ? "a.csv" : "a.npz", NULL);
    g_autofree char *bytes = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(GDir) left = NULL;
    gsize size;

    ck_assert(g_file_set_contents(path, "earlier", -1, NULL));
    signal(SIGXFSZ, SIG_IGN); /* in this test's own process */
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &(struct rlimit){1000, 1000}), 0);
    ck_assert(!fm_array_save(a, path, &error));
    ck_assert_int_eq(error->code, FM_ERROR_FILE);
    ck_assert(g_file_get_contents(path, &bytes, &size, NULL));
    ck_assert_str_eq(bytes, "earlier");
    left = g_dir_open(dir, 0, NULL);
    ck_assert_ptr_nonnull(g_dir_read_name(left));
    ck_assert_ptr_null(g_dir_read_name(left));
    g_unlink(path);
    g_rmdir(dir);
}
END_TEST

START_TEST(csv_says_what_is_wrong)
{
    static const struct {
        const char *text, *says;
    } bad[] = {{"1,2\n3\n", "line 2 has 1 numbers"},
               {"1,,2\n", "line 1 has an empty field"},
               {"1,2,\n", "empty field"},
               {"1,x\n", "line 1 has something else"},
               {"a,b\nc,d\n", "line 2"},
               {"", "no numbers"},
               {"# only this\n", "no numbers"},
               {"1 2\n3 4z\n", "line 2"},
               {"a,b\n1;2\n3,4;5\n", "line 3"}};

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;

        ck_assert_ptr_null(parse_csv("t", bad[i].text, strlen(bad[i].text), &error));
        ck_assert_msg(strstr(error->message, bad[i].says) != NULL, "%s", error->message);
    }
}
END_TEST

START_TEST(csv_of_many_lines)
{
    g_autoptr(GString) text = g_string_new("\xef\xbb\xbfid, value\n");
    g_autoptr(FmArray) a = NULL;

    for (int i = 0; i < 40000; i++) /* several blocks */
        g_string_append_printf(text, "%d, %d.5\r\n", i, i);
    g_string_truncate(text, text->len - 2);
    a = parse_csv("t", text->str, text->len, NULL);
    ck_assert_ptr_nonnull(a);
    ck_assert_uint_eq(a->dim[0], 40000);
    ck_assert_double_eq(((double *)a->data)[2 * 39999 + 1], 39999.5);
    ck_assert_double_eq(((double *)a->data)[2 * 9001], 9001);
}
END_TEST

int
main(void)
{
    return run_tests("array files", 0, {round_trip_and_truncation, FM_N_DTYPES}, {mutations_do_not_crash},
                     {csv_reads_tables}, {csv_says_what_is_wrong}, {csv_of_many_lines}, {npz_as_numpy_writes_it},
                     {npz_that_is_damaged}, {npz_round_trip}, {gzip_bombs, 2}, {gzip_cut_short},
                     {full_disk_keeps_the_old_file, 3});
}
