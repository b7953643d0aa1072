/* mnist: hand-written digits, IDX files, gz or not: (N, 28, 28, 1) in [0, 1], labels 0 .. 9.
 * Source: LeCun, Cortes & Burges, "The MNIST database"; format: big-endian u32 magic 0x803 (images)
 * or 0x801 (labels), sizes, then bytes. */
#include <fmcore/dataset.h>
#include <fmcore/io.h>

#include <string.h>

typedef struct Mnist {
    char *dir; /* options */
    gboolean flip;
    GBytes *image[2], *label[2]; /* train (may be missing), test */
    size_t n[2];
    size_t height, width;
} Mnist;

static const FmOption mnist_options[] = {
    FM_OPT_STRING(Mnist, dir, "", "folder of the full set; unset: the 10,000 test images that ship"),
    FM_OPT_BOOL(Mnist, flip, no, "mirror images left to right at random while training"),
    FM_OPT_END,
};

static guint32
mnist_word(const guchar *p)
{
    return (guint32)p[0] << 24 | (guint32)p[1] << 16 | (guint32)p[2] << 8 | p[3];
}

/* The file `stem` in dir, plain or compressed; NULL when there is none. */
static char *
mnist_find(const char *dir, const char *stem)
{
    static const char *const endings[] = {".gz", ""};

    for (size_t i = 0; i < G_N_ELEMENTS(endings); i++) {
        g_autofree char *name = g_strconcat(stem, endings[i], NULL);
        char *file = g_build_filename(dir, name, NULL);

        if (g_file_test(file, G_FILE_TEST_IS_REGULAR))
            return file;
        g_free(file);
    }
    return NULL;
}

/* The folder that holds the shipped images. */
static char *
mnist_default_dir(void)
{
    g_auto(GStrv) roots = fm_dataset_roots();

    for (char **root = roots; *root; root++) {
        g_autofree char *dir = g_build_filename(*root, "mnist", NULL);
        g_autofree char *file = mnist_find(dir, "t10k-images-idx3-ubyte");

        if (file)
            return g_steal_pointer(&dir);
    }
    return NULL;
}

static gboolean
mnist_bad(const char *file, const char *why, GError **error)
{
    g_set_error(error, FM_ERROR, FM_ERROR_DATA, "dataset 'mnist': '%s' %s", file, why);
    return FALSE;
}

static gboolean
mnist_images(Mnist *m, int part, const char *file, GError **error)
{
    guchar head[16];
    guint64 most;
    gsize need;

    if (!fm_read_head(file, head, sizeof head, &most, error))
        return FALSE;
    if (mnist_word(head) != 0x803)
        return mnist_bad(file, "is no IDX file of images, expected magic 0x803", error);
    m->n[part] = mnist_word(head + 4);
    if ((m->height && m->height != mnist_word(head + 8)) || (m->width && m->width != mnist_word(head + 12)))
        return mnist_bad(file, "has images of another size than the other part", error);
    m->height = mnist_word(head + 8);
    m->width = mnist_word(head + 12);
    if (m->n[part] == 0 || m->height == 0 || m->width == 0 || m->height > 4096 || m->width > 4096 ||
        !fm_size_mul(m->n[part], m->height * m->width, 1, &need) || need > most)
        return mnist_bad(file, "is truncated or its header lies about its size", error);
    m->image[part] = fm_read_file(file, need + sizeof head, error);
    if (m->image[part] && g_bytes_get_size(m->image[part]) != need + sizeof head)
        return mnist_bad(file, "is truncated or its header lies about its size", error);
    return m->image[part] != NULL;
}

static gboolean
mnist_labels(Mnist *m, int part, const char *file, GError **error)
{
    const guchar *p;
    gsize size;

    m->label[part] = fm_read_file(file, 8 + m->n[part], error);
    if (!m->label[part])
        return FALSE;
    p = g_bytes_get_data(m->label[part], &size);
    if (size < 8 || mnist_word(p) != 0x801 || mnist_word(p + 4) != m->n[part] || size - 8 != m->n[part])
        return mnist_bad(file, "is no IDX file of as many labels as there are images", error);
    for (gsize i = 8; i < size; i++)
        if (p[i] > 9)
            return mnist_bad(file, "holds a label above 9", error);
    return TRUE;
}

static gboolean
mnist_part(Mnist *m, int part, const char *dir, gboolean required, GError **error)
{
    const char *const stem = part == 0 ? "train" : "t10k";
    g_autofree char *image_stem = g_strconcat(stem, "-images-idx3-ubyte", NULL);
    g_autofree char *label_stem = g_strconcat(stem, "-labels-idx1-ubyte", NULL);
    g_autofree char *image = mnist_find(dir, image_stem), *label = mnist_find(dir, label_stem);

    if (!image && !required)
        return TRUE;
    if (!image || !label) {
        g_set_error(error, FM_ERROR, FM_ERROR_FILE, "dataset 'mnist': folder '%s' holds no %s or %s (.gz)", dir,
                    image_stem, label_stem);
        return FALSE;
    }
    return mnist_images(m, part, image, error) && mnist_labels(m, part, label, error);
}

static gboolean
mnist_open(void *self, FmDataInfo *info, GError **error)
{
    Mnist *m = self;
    g_autofree char *dir = m->dir ? g_strdup(m->dir) : mnist_default_dir();

    if (!dir) {
        g_set_error(error, FM_ERROR, FM_ERROR_FILE,
                    "dataset 'mnist': the images that ship with fmcore were not found; give mnist:dir=");
        return FALSE;
    }
    if (!mnist_part(m, 0, dir, FALSE, error) || !mnist_part(m, 1, dir, m->n[0] == 0, error))
        return FALSE;
    *info = (FmDataInfo){.ndim = 3,
                         .dim = {m->height, m->width, 1},
                         .D = m->height * m->width,
                         .rows = m->n[0] + m->n[1],
                         .classes = 10,
                         .levels = 256,
                         .test_rows = m->n[0] > 0 ? m->n[1] : 0};
    return TRUE;
}

static gboolean
mnist_read(const void *self, const size_t *rows, size_t n, double *x, int *y, GError **error)
{
    const Mnist *m = self;
    const size_t D = m->height * m->width;

    for (size_t i = 0; i < n; i++) {
        const int part = rows[i] >= m->n[0];
        const size_t row = rows[i] - (part ? m->n[0] : 0);
        const guchar *p = (const guchar *)g_bytes_get_data(m->image[part], NULL) + 16 + row * D;

        for (size_t d = 0; d < D; d++)
            x[i * D + d] = p[d] / 255.0;
        if (y)
            y[i] = ((const guchar *)g_bytes_get_data(m->label[part], NULL))[8 + row];
    }
    return TRUE;
}

static void
mnist_clear(void *self)
{
    Mnist *m = self;

    for (int part = 0; part < 2; part++) {
        g_clear_pointer(&m->image[part], g_bytes_unref);
        g_clear_pointer(&m->label[part], g_bytes_unref);
    }
}

static const FmDatasetOps mnist_ops = {.open = mnist_open, .read = mnist_read, .clear = mnist_clear};

FM_PLUGIN_DECLARE(DATASET, mnist, "mnist", mnist_ops, .self_size = sizeof(Mnist), .options = mnist_options,
                  .summary = "hand-written digits, 28 x 28 x 1",
                  .source = "LeCun, Cortes & Burges, The MNIST database");
