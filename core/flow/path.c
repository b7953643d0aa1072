/* path.c: coefficients and samples of probability paths. */
#include <fmcore/path.h>

static const FmPathOps *
path_ops(const FmPlugin *path)
{
    return fm_plugin_ops(path);
}

gboolean
fm_path_prepare(FmPlugin *path, size_t D, GError **error)
{
    g_return_val_if_fail(fm_plugin_kind(path) == FM_KIND_PATH, FALSE);
    return path_ops(path)->prepare ? path_ops(path)->prepare(fm_plugin_self(path), D, error) : TRUE;
}

gboolean
fm_path_is_affine(const FmPlugin *path)
{
    return path_ops(path)->coefficients != NULL;
}

void
fm_path_coefficients(const FmPlugin *path, double t, FmAffine *c)
{
    g_return_if_fail(fm_path_is_affine(path));
    *c = (FmAffine){0};
    path_ops(path)->coefficients(fm_plugin_self(path), t, c);
}

static void
affine_row(const FmAffine *c, size_t D, const double *x0, const double *x1, FmRng *z, double *xt, double *ut)
{
    const gboolean noisy = c->gamma != 0.0 || c->dgamma != 0.0;

    for (size_t d = 0; d < D; d++) {
        xt[d] = c->alpha * x1[d] + c->sigma * x0[d];
        ut[d] = c->dalpha * x1[d] + c->dsigma * x0[d];
        if (noisy) {
            const double e = fm_rng_normal(z);

            xt[d] += c->gamma * e;
            ut[d] += c->dgamma * e;
        }
    }
}

gboolean
fm_path_sample(const FmPlugin *path, size_t n, size_t D, const double *t, const double *x0, const double *x1, FmKey key,
               guint64 row0, double *xt, double *ut)
{
    if (!fm_path_is_affine(path))
        return path_ops(path)->sample(fm_plugin_self(path), n, D, t, x0, x1, key, row0, xt, ut);
    for (size_t i = 0; i < n; i++) {
        FmRng z = fm_rng(key, row0 + i);
        FmAffine c;

        fm_path_coefficients(path, t[i], &c);
        affine_row(&c, D, x0 + i * D, x1 + i * D, &z, xt + i * D, ut + i * D);
    }
    return TRUE;
}

void
fm_path_interval(const FmPlugin *path, double *t_min, double *t_max)
{
    const FmPathOps *ops = path_ops(path);
    const gboolean whole = ops->t_min == 0.0 && ops->t_max == 0.0;

    *t_min = ops->t_min;
    *t_max = whole ? 1.0 : ops->t_max;
}
