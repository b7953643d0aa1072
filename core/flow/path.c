/* path.c: calls into path plugins; x_t and u_t of affine paths from their coefficients. */
#include <fmcore/path.h>

static const FmPathOps *
path_ops(const FmPlugin *path)
{
    return fm_plugin_ops(path);
}

gboolean
fm_path_prepare(FmPlugin *path, size_t D, GError **error)
{
    return path_ops(path)->prepare == NULL ||
           path_ops(path)->prepare(fm_plugin_self(path), D, error);
}

gboolean
fm_path_is_affine(const FmPlugin *path)
{
    return path_ops(path)->coefficients != NULL;
}

void
fm_path_coefficients(const FmPlugin *path, double t, FmAffine *c)
{
    *c = (FmAffine){0};
    path_ops(path)->coefficients(fm_plugin_self(path), t, c);
}

void
fm_path_interval(const FmPlugin *path, double *t_min, double *t_max)
{
    const FmPathOps *ops = path_ops(path);
    const gboolean whole = ops->t_min == 0 && ops->t_max == 0;

    *t_min = ops->t_min;
    *t_max = whole ? 1.0 : ops->t_max;
}

gboolean
fm_path_sample(const FmPlugin *path, size_t n, size_t D, const double *t, const double *x0,
               const double *x1, FmKey key, guint64 row0, double *xt, double *ut)
{
    if (!fm_path_is_affine(path))
        return path_ops(path)->sample(fm_plugin_self(path), n, D, t, x0, x1, key, row0, xt, ut);
    for (size_t r = 0; r < n; r++) {
        FmRng rng = fm_rng(key, row0 + r);
        FmAffine c;

        fm_path_coefficients(path, t[r], &c);
        for (size_t i = r * D; i < (r + 1) * D; i++) {
            const double z = c.gamma != 0 || c.dgamma != 0 ? fm_rng_normal(&rng) : 0.0;
            xt[i] = c.alpha * x1[i] + c.sigma * x0[i] + c.gamma * z;
            ut[i] = c.dalpha * x1[i] + c.dsigma * x0[i] + c.dgamma * z;
        }
    }
    return TRUE;
}
