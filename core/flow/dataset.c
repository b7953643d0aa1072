/* dataset.c: calls into data set plugins, checked. What `open` found stays with the instance. */
#include "plugin/instance.h"

#include <fmcore/array.h>
#include <fmcore/dataset.h>
#include <math.h>

static const FmDatasetOps *
dataset_ops(const FmPlugin *dataset)
{
    return fm_plugin_ops(dataset);
}

static gboolean
dataset_check_info(const FmPlugin *dataset, const FmDataInfo *info, GError **error)
{
    const gboolean axes = info->ndim == 1 || info->ndim == 3;
    size_t product = 1;

    for (int i = 0; axes && i < info->ndim; i++)
        if (!fm_size_mul(product, info->dim[i], 1, &product))
            product = 0;
    if (axes && product > 0 && product == info->D && info->test_rows <= info->rows &&
        (info->rows > 0 || dataset_ops(dataset)->draw != NULL))
        return TRUE;
    g_set_error(error, FM_ERROR, FM_ERROR_DATA,
                "dataset '%s': %" G_GSIZE_FORMAT " rows of %" G_GSIZE_FORMAT
                " values on %d axes, expected rows that are vectors (D) or images (H, W, C)",
                fm_plugin_name(dataset), info->rows, info->D, info->ndim);
    return FALSE;
}

gboolean
fm_dataset_open(FmPlugin *dataset, FmDataInfo *info, GError **error)
{
    if (dataset->core_data == NULL) {
        g_autofree FmDataInfo *found = g_new0(FmDataInfo, 1);

        if (!dataset_ops(dataset)->open(dataset->self, found, error) ||
            !dataset_check_info(dataset, found, error))
            return FALSE;
        dataset->core_data = g_steal_pointer(&found);
        dataset->core_free = g_free;
    }
    *info = *(const FmDataInfo *)dataset->core_data;
    return TRUE;
}

gboolean
fm_dataset_read(const FmPlugin *dataset, const size_t *rows, size_t n, double *x, int *y,
                GError **error)
{
    const FmDataInfo *info = dataset->core_data;

    g_return_val_if_fail(info != NULL && dataset_ops(dataset)->read != NULL, FALSE);
    for (size_t r = 0; r < n; r++)
        if (rows[r] >= info->rows) {
            g_set_error(error, FM_ERROR, FM_ERROR_DATA,
                        "dataset '%s': row %" G_GSIZE_FORMAT " was asked for, it has %"
                        G_GSIZE_FORMAT, fm_plugin_name(dataset), rows[r], info->rows);
            return FALSE;
        }
    if (!dataset_ops(dataset)->read(dataset->self, rows, n, x, y, error))
        return FALSE;
    for (size_t i = 0; i < n * info->D; i++)
        if (!isfinite(x[i])) {
            g_set_error(error, FM_ERROR, FM_ERROR_DATA,
                        "dataset '%s': row %" G_GSIZE_FORMAT ", column %" G_GSIZE_FORMAT
                        " is %g, expected finite numbers", fm_plugin_name(dataset),
                        rows[i / info->D], i % info->D, x[i]);
            return FALSE;
        }
    return TRUE;
}

gboolean
fm_dataset_draw(const FmPlugin *dataset, FmKey key, guint64 row0, size_t n, double *x, int *y,
                GError **error)
{
    const FmDataInfo *info = dataset->core_data;

    g_return_val_if_fail(info != NULL, FALSE);
    if (dataset_ops(dataset)->draw != NULL) {
        dataset_ops(dataset)->draw(dataset->self, key, row0, n, x, y);
        return TRUE;
    }
    for (size_t r = 0; r < n; r++) {
        FmRng rng = fm_rng(key, row0 + r);
        const size_t row = MIN((size_t)(fm_rng_uniform(&rng) * (double)info->rows), info->rows - 1);

        if (!fm_dataset_read(dataset, &row, 1, x + r * info->D, y != NULL ? y + r : NULL, error))
            return FALSE;
    }
    return TRUE;
}

gboolean
fm_dataset_has_density(const FmPlugin *dataset)
{
    return dataset_ops(dataset)->log_density != NULL;
}

void
fm_dataset_log_density(const FmPlugin *dataset, size_t n, const double *x, double *log_p)
{
    g_return_if_fail(fm_dataset_has_density(dataset));
    dataset_ops(dataset)->log_density(dataset->self, n, x, log_p);
}

double
fm_dataset_entropy(const FmPlugin *dataset)
{
    return dataset_ops(dataset)->entropy != NULL ? dataset_ops(dataset)->entropy(dataset->self) : NAN;
}

gboolean
fm_dataset_score(const FmPlugin *dataset, size_t n, const double *x, double *score)
{
    if (dataset_ops(dataset)->score == NULL)
        return FALSE;
    dataset_ops(dataset)->score(dataset->self, n, x, score);
    return TRUE;
}

const FmMixture *
fm_dataset_mixture(const FmPlugin *dataset)
{
    return dataset_ops(dataset)->mixture != NULL ? dataset_ops(dataset)->mixture(dataset->self)
                                                 : NULL;
}
