/* dataset.c: opening data sets and reading their rows, with every check in one place. */
#include "plugin/instance.h"

#include <fmcore/array.h>
#include <fmcore/dataset.h>
#include <fmcore/io.h>
#include <math.h>
#include <string.h>

static const FmDatasetOps *
dataset_ops(const FmPlugin *dataset)
{
    return fm_plugin_ops(dataset);
}

/* What `open` found; NULL before. */
static const FmDataInfo *
opened(const FmPlugin *dataset)
{
    return dataset->core_data;
}

static gboolean
info_is_sound(const FmDataInfo *info, const FmDatasetOps *ops)
{
    size_t D = 1;

    if (info->ndim != 1 && info->ndim != 3)
        return FALSE;
    for (int i = 0; i < info->ndim; i++)
        if (info->dim[i] == 0 || !fm_size_mul(D, info->dim[i], 1, &D))
            return FALSE;
    return D == info->D && (info->rows > 0 ? ops->read != NULL : ops->draw != NULL) && info->test_rows <= info->rows;
}

char **
fm_dataset_roots(void)
{
    const char *own = g_getenv("FMCORE_DATA_PATH");
    const char *const roots[] = {own ? own : "", FM_DATA_DIR, "data", NULL};

    return g_strdupv((char **)(*roots[0] ? roots : roots + 1));
}

gboolean
fm_dataset_open(FmPlugin *dataset, FmDataInfo *info, GError **error)
{
    FmDataInfo *found;

    g_return_val_if_fail(fm_plugin_kind(dataset) == FM_KIND_DATASET, FALSE);
    if (!opened(dataset)) {
        found = g_new0(FmDataInfo, 1);
        if (!dataset_ops(dataset)->open(fm_plugin_self(dataset), found, error)) {
            g_free(found);
            return FALSE;
        }
        if (!info_is_sound(found, dataset_ops(dataset))) {
            g_set_error(error, FM_ERROR, FM_ERROR_DATA,
                        "dataset '%s' has no rows or no dimensions, expected at least one of each",
                        fm_plugin_name(dataset));
            g_free(found);
            return FALSE;
        }
        dataset->core_data = found;
        dataset->core_free = g_free;
    }
    *info = *opened(dataset);
    return TRUE;
}

/* rows NULL: the rows of a family from row0 on */
static gboolean
all_finite(const FmPlugin *dataset, const size_t *rows, guint64 row0, size_t n, const double *x, GError **error)
{
    const size_t D = opened(dataset)->D;

    for (size_t i = 0; i < n * D; i++)
        if (!isfinite(x[i])) {
            g_set_error(error, FM_ERROR, FM_ERROR_DATA,
                        "dataset '%s': row %" G_GUINT64_FORMAT " holds a value that is not finite",
                        fm_plugin_name(dataset), rows ? (guint64)rows[i / D] : row0 + i / D);
            return FALSE;
        }
    return TRUE;
}

gboolean
fm_dataset_read(const FmPlugin *dataset, const size_t *rows, size_t n, double *x, int *y, GError **error)
{
    g_return_val_if_fail(opened(dataset) && dataset_ops(dataset)->read, FALSE);
    for (size_t i = 0; i < n; i++)
        g_return_val_if_fail(rows[i] < opened(dataset)->rows, FALSE);
    return dataset_ops(dataset)->read(fm_plugin_self(dataset), rows, n, x, y, error) &&
           all_finite(dataset, rows, 0, n, x, error);
}

gboolean
fm_dataset_draw(const FmPlugin *dataset, FmKey key, guint64 row0, size_t n, double *x, int *y, GError **error)
{
    const FmDataInfo *info = opened(dataset);

    g_return_val_if_fail(info != NULL, FALSE);
    if (info->rows == 0) {
        dataset_ops(dataset)->draw(fm_plugin_self(dataset), key, row0, n, x, y);
        return all_finite(dataset, NULL, row0, n, x, error);
    }
    for (size_t i = 0; i < n; i++) {
        FmRng rng = fm_rng(key, row0 + i);
        const size_t row = (size_t)(fm_rng_uniform(&rng) * (double)info->rows);

        if (!fm_dataset_read(dataset, &row, 1, x + i * info->D, y ? y + i : NULL, error))
            return FALSE;
    }
    return TRUE;
}

gboolean
fm_dataset_has_density(const FmPlugin *dataset)
{
    const FmDatasetOps *ops = dataset_ops(dataset);

    return ops->log_density && (!ops->has_density || ops->has_density(fm_plugin_self(dataset)));
}

void
fm_dataset_log_density(const FmPlugin *dataset, size_t n, const double *x, double *log_p)
{
    g_return_if_fail(fm_dataset_has_density(dataset));
    dataset_ops(dataset)->log_density(fm_plugin_self(dataset), n, x, log_p);
}

double
fm_dataset_entropy(const FmPlugin *dataset)
{
    return dataset_ops(dataset)->entropy ? dataset_ops(dataset)->entropy(fm_plugin_self(dataset)) : NAN;
}

gboolean
fm_dataset_score(const FmPlugin *dataset, size_t n, const double *x, double *score)
{
    if (!dataset_ops(dataset)->score || !fm_dataset_has_density(dataset))
        return FALSE;
    dataset_ops(dataset)->score(fm_plugin_self(dataset), n, x, score);
    return TRUE;
}

const FmMixture *
fm_dataset_mixture(const FmPlugin *dataset)
{
    return dataset_ops(dataset)->mixture ? dataset_ops(dataset)->mixture(fm_plugin_self(dataset)) : NULL;
}

/* ---- rows of array files ---- */

static gboolean
is_image_bytes(const FmArray *a)
{
    return a->dtype == FM_U8 && a->ndim == 4;
}

FmArray *
fm_dataset_rows_load(const char *who, const char *file, FmDataInfo *info, GError **error)
{
    g_autoptr(FmArray) a = NULL;
    size_t width, bad;

    if (!file) {
        g_set_error(error, FM_ERROR, FM_ERROR_OPTION, "%s needs a file, expected file=NAME", who);
        return NULL;
    }
    a = fm_array_load(file, error);
    if (!a)
        return NULL;
    if (fm_array_size(a) == 0 || (a->ndim != 1 && a->ndim != 2 && a->ndim != 4)) {
        g_set_error(error, FM_ERROR, FM_ERROR_SHAPE,
                    "%s: '%s' has %d axes or no rows, expected (N), (N, D) or (N, H, W, C)", who, file, a->ndim);
        return NULL;
    }
    width = fm_array_width(a);
    bad = fm_array_first_nonfinite(a);
    if (bad < fm_array_size(a)) {
        g_set_error(error, FM_ERROR, FM_ERROR_DATA, "%s: row %zu of '%s' holds a value that is not finite", who,
                    bad / width, file);
        return NULL;
    }
    *info = (FmDataInfo){.ndim = a->ndim == 4 ? 3 : 1,
                         .dim = {width},
                         .D = width,
                         .rows = fm_array_rows(a),
                         .levels = is_image_bytes(a) ? 256 : 0};
    if (a->ndim == 4)
        memcpy(info->dim, a->dim + 1, 3 * sizeof info->dim[0]);
    return g_steal_pointer(&a);
}

void
fm_dataset_rows_read(const FmArray *a, const size_t *rows, size_t n, double *x)
{
    const size_t D = fm_array_width(a), size = fm_dtype_size(a->dtype);

    for (size_t i = 0; i < n; i++)
        fm_convert(a->dtype, (const char *)a->data + rows[i] * D * size, FM_F64, x + i * D, D);
    for (size_t i = 0; is_image_bytes(a) && i < n * D; i++)
        x[i] /= 255.0;
}

const FmBoxes *
fm_dataset_boxes(const FmPlugin *dataset)
{
    return dataset_ops(dataset)->boxes ? dataset_ops(dataset)->boxes(fm_plugin_self(dataset)) : NULL;
}
