/* backend.c: where kernels come from, and dense algebra for plugins that are no kernels. */
#include <fmcore/backend.h>

#include <math.h>
#include <string.h>

static GMutex default_lock;
static FmPlugin *default_backend;

const FmKernel *
fm_backend_kernel(const FmPlugin *backend, const char *op, FmDtype dtype)
{
    const FmBackendOps *ops = fm_plugin_ops(backend);

    return ops->lookup(fm_plugin_self(backend), op, dtype);
}

FmPlugin *
fm_backend_new(const char *spec, GError **error)
{
    g_autoptr(FmPlugin) backend = fm_plugin_new(FM_KIND_BACKEND, spec, error);
    const FmBackendOps *ops = backend ? fm_plugin_ops(backend) : NULL;

    if (!backend || (ops->prepare && !ops->prepare(fm_plugin_self(backend), error)))
        return NULL;
    return g_steal_pointer(&backend);
}

FmPlugin *
fm_backend_default(GError **error)
{
    FmPlugin *backend;

    g_mutex_lock(&default_lock);
    if (!default_backend)
        default_backend = fm_backend_new("cpu", NULL);
    if (!default_backend)
        default_backend = fm_backend_new("reference", error);
    backend = default_backend;
    g_mutex_unlock(&default_lock);
    return backend;
}

/* ---- dense algebra ---- */

static const FmBackendOps *
algebra(const void **self)
{
    FmPlugin *backend = fm_backend_default(NULL);

    *self = backend ? fm_plugin_self(backend) : NULL;
    return backend ? fm_plugin_ops(backend) : NULL;
}

gboolean
fm_linalg_cholesky(size_t n, double *a)
{
    const void *self;
    const FmBackendOps *ops = algebra(&self);

    if (ops && ops->cholesky)
        return ops->cholesky(self, n, a) == 0;
    for (size_t j = 0; j < n; j++)
        for (size_t i = j; i < n; i++) {
            double s = a[i * n + j];

            for (size_t k = 0; k < j; k++)
                s -= a[i * n + k] * a[j * n + k];
            if (i == j && !(s > 0.0))
                return FALSE;
            a[i * n + j] = i == j ? sqrt(s) : s / a[j * n + j];
        }
    return TRUE;
}

/* One sweep of cyclic Jacobi rotations; the sum of squares off the diagonal before it.
 * Golub & Van Loan 2013, sec. 8.5. v holds eigenvectors in rows. */
static double
jacobi_sweep(size_t n, double *a, double *v)
{
    double off = 0.0;

    for (size_t p = 0; p < n; p++)
        for (size_t q = p + 1; q < n; q++) {
            const double apq = a[p * n + q];
            const double theta = 0.5 * (a[q * n + q] - a[p * n + p]);
            double t, c, s;

            off += apq * apq;
            if (apq == 0.0)
                continue;
            t = apq / (theta + copysign(sqrt(theta * theta + apq * apq), theta));
            c = 1.0 / sqrt(1.0 + t * t);
            s = t * c;
            for (size_t k = 0; k < n; k++) {
                const double x = a[k * n + p], y = a[k * n + q];

                a[k * n + p] = c * x - s * y;
                a[k * n + q] = s * x + c * y;
            }
            for (size_t k = 0; k < n; k++) {
                const double x = a[p * n + k], y = a[q * n + k], vx = v[p * n + k], vy = v[q * n + k];

                a[p * n + k] = c * x - s * y;
                a[q * n + k] = s * x + c * y;
                v[p * n + k] = c * vx - s * vy;
                v[q * n + k] = s * vx + c * vy;
            }
        }
    return off;
}

static void
sort_pairs(size_t n, double *v, double *w)
{
    for (size_t i = 1; i < n; i++)
        for (size_t j = i; j > 0 && w[j] < w[j - 1]; j--) {
            const double t = w[j];

            w[j] = w[j - 1];
            w[j - 1] = t;
            for (size_t k = 0; k < n; k++) {
                const double x = v[j * n + k];

                v[j * n + k] = v[(j - 1) * n + k];
                v[(j - 1) * n + k] = x;
            }
        }
}

gboolean
fm_linalg_eigen(size_t n, double *a, double *w)
{
    const void *self;
    const FmBackendOps *ops = algebra(&self);
    g_autofree double *v = NULL;
    double total = 0.0;

    if (ops && ops->eigen)
        return ops->eigen(self, n, a, w) == 0;
    v = g_new0(double, n *n);
    for (size_t i = 0; i < n; i++)
        v[i * n + i] = 1.0;
    for (size_t i = 0; i < n * n; i++)
        total += a[i] * a[i];
    for (int sweep = 0; sweep < 60 && jacobi_sweep(n, a, v) > 1e-30 * total; sweep++)
        ;
    for (size_t i = 0; i < n; i++)
        w[i] = a[i * n + i];
    sort_pairs(n, v, w);
    memcpy(a, v, n * n * sizeof *a);
    return TRUE;
}

#define PLAIN_GEMM(T) \
    for (size_t i = 0; i < m; i++) \
        for (size_t j = 0; j < n; j++) { \
            double s = 0.0; \
\
            for (size_t l = 0; l < k; l++) \
                s += (double)a[i * k + l] * (double)(tb ? b[j * k + l] : b[l * n + j]); \
            c[i * n + j] = (T)(alpha * s + (beta == 0 ? 0 : beta * c[i * n + j])); \
        }

void
fm_linalg_gemm_f64(gboolean tb, size_t m, size_t n, size_t k, double alpha, const double *a, const double *b,
                   double beta, double *c)
{
    const void *self;
    const FmBackendOps *ops = algebra(&self);

    if (ops && ops->gemm_f64)
        ops->gemm_f64(self, tb, m, n, k, alpha, a, b, beta, c);
    else
        PLAIN_GEMM(double)
}

void
fm_linalg_gemm_f32(gboolean tb, size_t m, size_t n, size_t k, float alpha, const float *a, const float *b, float beta,
                   float *c)
{
    const void *self;
    const FmBackendOps *ops = algebra(&self);

    if (ops && ops->gemm_f32)
        ops->gemm_f32(self, tb, m, n, k, alpha, a, b, beta, c);
    else
        PLAIN_GEMM(float)
}
