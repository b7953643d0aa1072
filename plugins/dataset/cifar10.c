/* cifar10: small colour images, binary version, gz or not: (N, 32, 32, 3) in [0, 1], labels 0 .. 9.
 * Source: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images". A record is a
 * label byte, then 1,024 bytes each of red, green and blue, row-major. */
#include <fmcore/dataset.h>
#include <fmcore/io.h>

#define SIDE 32
#define PLANE (SIDE * SIDE)
#define RECORD (1 + 3 * PLANE)
#define MAX_PARTS 6
#define MAX_BYTES ((size_t)100000 * RECORD) /* ten times an original file */

typedef struct Cifar10 {
    char *dir; /* options */
    gboolean flip;
    GBytes *part[MAX_PARTS];
    size_t n[MAX_PARTS];
    int parts;
} Cifar10;

static const FmOption cifar10_options[] = {
    FM_OPT_STRING(Cifar10, dir, "", "folder with data_batch_1.bin ... test_batch.bin; required"),
    FM_OPT_BOOL(Cifar10, flip, no, "mirror images left to right at random while training"),
    FM_OPT_END,
};

static gboolean
cifar10_part(Cifar10 *c, const char *file, GError **error)
{
    const guchar *p;
    gsize size;

    c->part[c->parts] = fm_read_file(file, MAX_BYTES, error);
    if (!c->part[c->parts])
        return FALSE;
    p = g_bytes_get_data(c->part[c->parts], &size);
    c->n[c->parts] = size / RECORD;
    if (size == 0 || size % RECORD != 0) {
        g_set_error(error, FM_ERROR, FM_ERROR_DATA,
                    "dataset 'cifar10': '%s' holds %zu bytes, expected a multiple of %d", file, size, RECORD);
        return FALSE;
    }
    for (size_t i = 0; i < c->n[c->parts]; i++)
        if (p[i * RECORD] > 9) {
            g_set_error(error, FM_ERROR, FM_ERROR_DATA,
                        "dataset 'cifar10': record %zu of '%s' has label %d, expected 0 to 9", i, file, p[i * RECORD]);
            return FALSE;
        }
    c->parts++;
    return TRUE;
}

/* Adds `stem`, with or without .gz, when it is there. */
static gboolean
cifar10_add(Cifar10 *c, const char *stem, GError **error)
{
    g_autofree char *plain = g_build_filename(c->dir, stem, NULL);
    g_autofree char *packed = g_strconcat(plain, ".gz", NULL);
    const char *file = g_file_test(plain, G_FILE_TEST_IS_REGULAR)    ? plain
                       : g_file_test(packed, G_FILE_TEST_IS_REGULAR) ? packed
                                                                     : NULL;

    return file ? cifar10_part(c, file, error) : TRUE;
}

static gboolean
cifar10_open(void *self, FmDataInfo *info, GError **error)
{
    static const char *const tests[] = {"test_batch.bin", "test_batch_first1000.bin"};
    Cifar10 *c = self;
    size_t train = 0, test = 0;
    int train_parts;

    if (!c->dir) {
        g_set_error(error, FM_ERROR, FM_ERROR_OPTION, "dataset 'cifar10' needs a folder: cifar10:dir=NAME");
        return FALSE;
    }
    for (int k = 1; k <= 5; k++) {
        g_autofree char *stem = g_strdup_printf("data_batch_%d.bin", k);

        if (!cifar10_add(c, stem, error))
            return FALSE;
    }
    train_parts = c->parts;
    for (size_t k = 0; k < G_N_ELEMENTS(tests) && c->parts == train_parts; k++)
        if (!cifar10_add(c, tests[k], error))
            return FALSE;
    for (int k = 0; k < c->parts; k++)
        *(k < train_parts ? &train : &test) += c->n[k];
    if (c->parts == 0) {
        g_set_error(error, FM_ERROR, FM_ERROR_FILE,
                    "dataset 'cifar10': folder '%s' holds no data_batch_1.bin or the like (.gz)", c->dir);
        return FALSE;
    }
    *info = (FmDataInfo){.ndim = 3,
                         .dim = {SIDE, SIDE, 3},
                         .D = 3 * PLANE,
                         .rows = train + test,
                         .classes = 10,
                         .levels = 256,
                         .test_rows = train > 0 ? test : 0};
    return TRUE;
}

static gboolean
cifar10_read(const void *self, const size_t *rows, size_t n, double *x, int *y, GError **error)
{
    const Cifar10 *c = self;

    for (size_t i = 0; i < n; i++) {
        size_t row = rows[i];
        const guchar *p;
        int k = 0;

        while (row >= c->n[k])
            row -= c->n[k++];
        p = (const guchar *)g_bytes_get_data(c->part[k], NULL) + row * RECORD;
        for (size_t d = 0; d < 3 * PLANE; d++)
            x[i * 3 * PLANE + d] = p[1 + d % 3 * PLANE + d / 3] / 255.0;
        if (y)
            y[i] = p[0];
    }
    return TRUE;
}

static void
cifar10_clear(void *self)
{
    Cifar10 *c = self;

    for (int k = 0; k < MAX_PARTS; k++)
        g_clear_pointer(&c->part[k], g_bytes_unref);
}

static const FmDatasetOps cifar10_ops = {.open = cifar10_open, .read = cifar10_read, .clear = cifar10_clear};

FM_PLUGIN_DECLARE(DATASET, cifar10, "cifar10", cifar10_ops, .self_size = sizeof(Cifar10), .options = cifar10_options,
                  .summary = "small colour images, 32 x 32 x 3",
                  .source = "Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images");
