/* npy: rows of a NumPy file, or of one array of a .npz archive (file=NAME.npz:ARRAY).
 * Source: NEP 1, the NumPy array format */
#include <fmcore/dataset.h>

typedef struct Npy {
    char *file; /* options */
    gboolean flip;
    FmArray *rows;
} Npy;

static const FmOption npy_options[] = {
    FM_OPT_STRING(Npy, file, "", "the .npy or .npz file to read; required"),
    FM_OPT_BOOL(Npy, flip, no, "mirror images left to right at random while training"),
    FM_OPT_END,
};

static gboolean
npy_open(void *self, FmDataInfo *info, GError **error)
{
    Npy *s = self;

    s->rows = fm_dataset_rows_load("dataset 'npy'", s->file, info, error);
    return s->rows != NULL;
}

static gboolean
npy_read(const void *self, const size_t *rows, size_t n, double *x, int *y, GError **error)
{
    fm_dataset_rows_read(((const Npy *)self)->rows, rows, n, x);
    return TRUE;
}

static void
npy_clear(void *self)
{
    g_clear_pointer(&((Npy *)self)->rows, fm_array_free);
}

static const FmDatasetOps npy_ops = {.open = npy_open, .read = npy_read, .clear = npy_clear};

FM_PLUGIN_DECLARE(DATASET, npy, "npy", npy_ops, .self_size = sizeof(Npy), .options = npy_options,
                  .summary = "rows of a .npy or .npz file: (N, D) points or (N, H, W, C) images",
                  .source = "NEP 1, the NumPy array format");
