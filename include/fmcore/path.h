/* path.h: the probability path from noise x0 (t = 0) to data x1 (t = 1).
 *
 * Affine paths give coefficients and the core does the rest:
 *   x_t = alpha x1 + sigma x0 + gamma z,     u_t = dalpha x1 + dsigma x0 + dgamma z. */
#ifndef FMCORE_PATH_H
#define FMCORE_PATH_H

#include <fmcore/plugin.h>
#include <fmcore/random.h>

G_BEGIN_DECLS

/* Coefficients at one t and their derivatives in t. */
typedef struct FmAffine {
    double alpha, dalpha;
    double sigma, dsigma;
    double gamma, dgamma; /* extra noise z ~ N(0, I); 0 for deterministic paths */
} FmAffine;

typedef struct FmPathOps {
    /* exactly one of */
    void (*coefficients)(const void *self, double t, FmAffine *c); /* affine, t in [0, 1] */
    /* not affine: x_t and its conditional velocity u_t for n rows, each with its own t */
    gboolean (*sample)(const void *self, size_t n, size_t D, const double *t, const double *x0, const double *x1,
                       FmKey key, guint64 row0, double *xt, double *ut);
    /* optional */
    double t_min, t_max;                                       /* interval on which the path is used; both 0: [0, 1] */
    gboolean (*prepare)(void *self, size_t D, GError **error); /* NULL: nothing to do */
    void (*clear)(void *self);                                 /* NULL: owns nothing; takes a half-prepared self */
} FmPathOps;

/* Once, before it is used, for points of D values. */
gboolean fm_path_prepare(FmPlugin *path, size_t D, GError **error);
gboolean fm_path_is_affine(const FmPlugin *path); /* it has coefficients */

/* Coefficients at t in [0, 1]. Thread-safe. The path must be affine. */
void fm_path_coefficients(const FmPlugin *path, double t, FmAffine *c);

/* x_t and u_t, both (n, D), for rows with times t (n). z of row r comes from fm_rng(key, row0+r).
 * xt, ut may not overlap the inputs. Thread-safe. */
gboolean fm_path_sample(const FmPlugin *path, size_t n, size_t D, const double *t, const double *x0, const double *x1,
                        FmKey key, guint64 row0, double *xt, double *ut);

/* The interval of t on which training and integration take place. */
void fm_path_interval(const FmPlugin *path, double *t_min, double *t_max);

G_END_DECLS
#endif
