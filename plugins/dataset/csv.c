/* csv: rows of a text file.
 * Source: RFC 4180; columns separated by commas, semicolons or blanks */
#include <fmcore/dataset.h>

typedef struct Csv {
    char *file; /* option */
    FmArray *rows;
} Csv;

static const FmOption csv_options[] = {
    FM_OPT_STRING(Csv, file, "", "the file to read; required"),
    FM_OPT_END,
};

static gboolean
csv_open(void *self, FmDataInfo *info, GError **error)
{
    Csv *s = self;

    s->rows = fm_dataset_rows_load("dataset 'csv'", s->file, info, error);
    return s->rows != NULL;
}

static gboolean
csv_read(const void *self, const size_t *rows, size_t n, double *x, int *y, GError **error)
{
    fm_dataset_rows_read(((const Csv *)self)->rows, rows, n, x);
    return TRUE;
}

static void
csv_clear(void *self)
{
    g_clear_pointer(&((Csv *)self)->rows, fm_array_free);
}

static const FmDatasetOps csv_ops = {.open = csv_open, .read = csv_read, .clear = csv_clear};

FM_PLUGIN_DECLARE(DATASET, csv, "csv", csv_ops, .self_size = sizeof(Csv), .options = csv_options,
                  .summary = "rows of numbers in a text file",
                  .source = "RFC 4180; columns separated by commas, semicolons or blanks");
