/* csv: rows of a text file.
 * Source: RFC 4180; columns separated by commas, semicolons or blanks */
#include <fmcore/dataset.h>
#include <fmcore/io.h>

#include <math.h>
#include <string.h>

typedef struct Csv {
    char *file; /* option */
    FmArray *x; /* doubles */
} Csv;

static const FmOption csv_options[] = {
    FM_OPT_STRING(Csv, file, "", "the file to read; required"),
    FM_OPT_END,
};

static gboolean
csv_open(void *self, FmDataInfo *info, GError **error)
{
    Csv *s = self;
    g_autoptr(FmArray) raw = NULL;

    if (!s->file) {
        g_set_error(error, FM_ERROR, FM_ERROR_OPTION, "dataset 'csv' needs a file: csv:file=NAME");
        return FALSE;
    }
    raw = fm_array_load(s->file, error);
    if (!raw)
        return FALSE;
    if (raw->ndim < 1 || fm_array_size(raw) == 0 || (raw->ndim != 1 && raw->ndim != 2 && raw->ndim != 4)) {
        g_set_error(error, FM_ERROR, FM_ERROR_SHAPE,
                    "dataset 'csv': '%s' has %d axes or no rows, expected (N), (N, D) or (N, H, W, C)",
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
csv_read(const void *self, const size_t *rows, size_t n, double *x, int *y, GError **error)
{
    const FmArray *a = ((const Csv *)self)->x;
    const size_t D = fm_array_width(a);

    for (size_t i = 0; i < n; i++)
        memcpy(x + i * D, (const double *)a->data + rows[i] * D, D * sizeof *x);
    return TRUE;
}

static void
csv_clear(void *self)
{
    g_clear_pointer(&((Csv *)self)->x, fm_array_free);
}

static const FmDatasetOps csv_ops = {
    .open = csv_open, .read = csv_read, .clear = csv_clear};

FM_PLUGIN_DECLARE(DATASET, csv, "csv", csv_ops, .self_size = sizeof(Csv),
                  .options = csv_options, .summary = "rows of numbers in a text file", .source = "RFC 4180; columns separated by commas, semicolons or blanks");
