/* files.c: points in and out, and the run's directory. */
#include "cli/cli.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>

FmArray *
cli_load_points(const char *file, size_t D, GError **error)
{
    g_autoptr(FmArray) raw = fm_array_load(file, error);
    FmArray *points;
    size_t width, bad;

    if (!raw)
        return NULL;
    width = raw->ndim <= 1 ? 1 : fm_array_width(raw);
    if (raw->ndim == 0 || fm_array_rows(raw) == 0 || width == 0) {
        g_set_error(error, FM_ERROR, FM_ERROR_DATA, "'%s' holds no rows, expected at least one",
                    file);
        return NULL;
    }
    if (D > 0 && width != D) {
        g_set_error(error, FM_ERROR, FM_ERROR_SHAPE, "'%s' has %zu values a row, expected %zu", file,
                    width, D);
        return NULL;
    }
    points = fm_array_convert(raw, FM_F64, error);
    if (!points)
        return NULL;
    bad = fm_array_first_nonfinite(points);
    if (bad < fm_array_size(points)) {
        g_set_error(error, FM_ERROR, FM_ERROR_DATA, "'%s' holds a value that is not finite in row %zu",
                    file, bad / width);
        g_clear_pointer(&points, fm_array_free);
    }
    return points;
}

gboolean
cli_save_points(const char *file, const FmDataInfo *info, FmDtype dtype, size_t n, size_t D,
                const double *x, GError **error)
{
    size_t dim[4] = {n, D};
    int ndim = D > 1 ? 2 : 1;
    FmArray *array;
    gboolean ok;

    if (info && info->ndim > 1) {
        ndim = info->ndim + 1;
        memcpy(dim + 1, info->dim, (size_t)info->ndim * sizeof dim[0]);
    }
    array = fm_array_new(dtype, ndim, dim, error);
    if (!array)
        return FALSE;
    fm_convert(FM_F64, x, dtype, array->data, n * D);
    ok = fm_array_save(array, file, error);
    fm_array_free(array);
    return ok;
}

gboolean
cli_parse_labels(const char *text, size_t n, size_t classes, int **labels, GError **error)
{
    g_auto(GStrv) part = NULL;
    guint count;

    *labels = NULL;
    if (!text)
        return TRUE;
    part = g_strsplit(text, ",", -1);
    count = g_strv_length(part);
    *labels = g_new(int, n);
    for (size_t i = 0; i < n; i++) {
        guint64 label = 0;

        if (!g_ascii_string_to_unsigned(part[i % count], 10, 0, MAX(classes, 1) - 1, &label, NULL)) {
            g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                        "option --labels holds '%s', expected class numbers from 0 to %zu",
                        part[i % count], MAX(classes, 1) - 1);
            g_clear_pointer(labels, g_free);
            return FALSE;
        }
        (*labels)[i] = (int)label;
    }
    return TRUE;
}

static gboolean
dir_is_empty(const char *dir)
{
    GDir *d = g_dir_open(dir, 0, NULL);
    gboolean empty;

    if (!d)
        return TRUE;
    empty = g_dir_read_name(d) == NULL;
    g_dir_close(d);
    return empty;
}

static gboolean
make_dir(const char *dir, GError **error)
{
    if (g_mkdir_with_parents(dir, 0755) == 0)
        return TRUE;
    g_set_error(error, FM_ERROR, FM_ERROR_FILE, "cannot create directory '%s': %s", dir,
                g_strerror(errno));
    return FALSE;
}

char *
cli_run_dir(const Cli *cli, GError **error)
{
    if (cli->out) {
        if (g_file_test(cli->out, G_FILE_TEST_EXISTS) && !g_file_test(cli->out, G_FILE_TEST_IS_DIR)) {
            g_set_error(error, FM_ERROR, FM_ERROR_USAGE, "--out '%s' is a file, expected a directory",
                        cli->out);
            return NULL;
        }
        if (!cli->force && !dir_is_empty(cli->out)) {
            g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                        "directory '%s' is not empty; --force writes into it all the same", cli->out);
            return NULL;
        }
        return make_dir(cli->out, error) ? g_strdup(cli->out) : NULL;
    }
    if (!make_dir("runs", error))
        return NULL;
    for (int i = 1; i < 1000000; i++) {
        char name[32];

        g_snprintf(name, sizeof name, "runs/%04d", i);
        if (g_mkdir(name, 0755) == 0)
            return g_strdup(name);
        if (errno != EEXIST) {
            g_set_error(error, FM_ERROR, FM_ERROR_FILE, "cannot create directory '%s': %s", name,
                        g_strerror(errno));
            return NULL;
        }
    }
    g_set_error(error, FM_ERROR, FM_ERROR_FILE, "directory 'runs' holds too many runs; give --out");
    return NULL;
}
