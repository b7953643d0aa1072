/* npy: rows of a NumPy file.
 * Source: NEP 1, the NumPy array format */
#include <fmcore/dataset.h>
#include <fmcore/io.h>

#include <math.h>
#include <string.h>

typedef struct Npy {
    char *file; /* option */
    FmArray *x; /* doubles */
} Npy;

static const FmOption npy_options[] = {
    FM_OPT_STRING(Npy, file, "", "the file to read; required"),
    FM_OPT_END,
};

static gboolean
npy_open(void *self, FmDataInfo *info, GError **error)
{
    Npy *s = self;
    g_autoptr(FmArray) raw = NULL;

    if (!s->file) {
        g_set_error(error, FM_ERROR, FM_ERROR_OPTION, "dataset 'npy' needs a file: npy:file=NAME");
        return FALSE;
    }
    raw = fm_array_load(s->file, error);
    if (!raw)
        return FALSE;
    if (raw->ndim < 1 || fm_array_size(raw) == 0 || (raw->ndim != 1 && raw->ndim != 2 && raw->ndim != 4)) {
        g_set_error(error, FM_ERROR, FM_ERROR_SHAPE,
                    "dataset 'npy': '%s' has %d axes or no rows, expected (N), (N, D) or (N, H, W, C)",
                    s->file, raw->ndim);
        return FALSE;
    }
    s->x = fm_array_convert(raw, FM_F64, error);
    if (!s->x)
        return FALSE;
    *info = (FmDataInfo){.ndim = raw->ndim == 4 ? 3 : 1, .dim = {fm_array_width(raw)},
                         .D = fm_array_width(raw), .rows = fm_array_rows(raw)};
    if (raw->ndim == 4)
        memcpy(info->dim, raw->dim + 1, 3 * sizeof info->dim[0]);
    return TRUE;
}

static gboolean
npy_read(const void *self, const size_t *rows, size_t n, double *x, int *y, GError **error)
{
    const FmArray *a = ((const Npy *)self)->x;
    const size_t D = fm_array_width(a);

    for (size_t i = 0; i < n; i++)
        memcpy(x + i * D, (const double *)a->data + rows[i] * D, D * sizeof *x);
    return TRUE;
}

static void
npy_clear(void *self)
{
    g_clear_pointer(&((Npy *)self)->x, fm_array_free);
}

static const FmDatasetOps npy_ops = {
    .open = npy_open, .read = npy_read, .clear = npy_clear};

FM_PLUGIN_DECLARE(DATASET, npy, "npy", npy_ops, .self_size = sizeof(Npy),
                  .options = npy_options, .summary = "rows of a .npy file: (N, D) points or (N, H, W, C) images", .source = "NEP 1, the NumPy array format");
