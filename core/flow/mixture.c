/* mixture.c: drawing from and evaluating mixtures of Gaussians with diagonal covariance. */
#include <fmcore/dataset.h>

#include <math.h>

void
fm_mixture_draw(const FmMixture *m, FmKey key, guint64 row0, size_t n, double *x, int *y)
{
    for (size_t i = 0; i < n; i++) {
        FmRng rng = fm_rng(key, row0 + i);
        double u = fm_rng_uniform(&rng);
        size_t k = 0;

        while (k + 1 < m->K && u >= m->weight[k])
            u -= m->weight[k++];
        for (size_t d = 0; d < m->D; d++)
            x[i * m->D + d] = m->mean[k * m->D + d] + m->sd[k * m->D + d] * fm_rng_normal(&rng);
        if (y)
            y[i] = (int)k;
    }
}

/* log(weight_k N(x; mean_k, sd_k)). */
static double
component(const FmMixture *m, size_t k, const double *x)
{
    double s = log(m->weight[k]) - 0.5 * (double)m->D * log(2.0 * G_PI);

    for (size_t d = 0; d < m->D; d++) {
        const double z = (x[d] - m->mean[k * m->D + d]) / m->sd[k * m->D + d];

        s -= 0.5 * z * z + log(m->sd[k * m->D + d]);
    }
    return s;
}

static double
log_density(const FmMixture *m, const double *x)
{
    double top = -INFINITY, sum = 0.0;

    for (size_t k = 0; k < m->K; k++)
        top = MAX(top, component(m, k, x));
    for (size_t k = 0; k < m->K; k++)
        sum += exp(component(m, k, x) - top);
    return top + log(sum);
}

void
fm_mixture_log_density(const FmMixture *m, size_t n, const double *x, double *log_p)
{
    for (size_t i = 0; i < n; i++)
        log_p[i] = log_density(m, x + i * m->D);
}

void
fm_mixture_score(const FmMixture *m, size_t n, const double *x, double *score)
{
    for (size_t i = 0; i < n; i++) {
        const double *xi = x + i * m->D;
        const double total = log_density(m, xi);

        for (size_t d = 0; d < m->D; d++)
            score[i * m->D + d] = 0.0;
        for (size_t k = 0; k < m->K; k++) {
            const double r = exp(component(m, k, xi) - total);

            for (size_t d = 0; d < m->D; d++) {
                const double sd = m->sd[k * m->D + d];

                score[i * m->D + d] -= r * (xi[d] - m->mean[k * m->D + d]) / (sd * sd);
            }
        }
    }
}

double
fm_mixture_entropy(const FmMixture *m)
{
    const int side = 600;
    double lo[2] = {INFINITY, INFINITY}, hi[2] = {-INFINITY, -INFINITY}, h = 0.0;

    if (m->D != 2)
        return NAN;
    for (size_t k = 0; k < m->K; k++)
        for (size_t d = 0; d < 2; d++) {
            lo[d] = MIN(lo[d], m->mean[2 * k + d] - 8.0 * m->sd[2 * k + d]);
            hi[d] = MAX(hi[d], m->mean[2 * k + d] + 8.0 * m->sd[2 * k + d]);
        }
    for (int i = 0; i < side; i++)
        for (int j = 0; j < side; j++) {
            const double x[2] = {lo[0] + (hi[0] - lo[0]) * (i + 0.5) / side,
                                 lo[1] + (hi[1] - lo[1]) * (j + 0.5) / side};
            const double l = log_density(m, x);

            h -= exp(l) * l;
        }
    return h * (hi[0] - lo[0]) * (hi[1] - lo[1]) / ((double)side * side);
}

/* ---- a ring of components, and data sets that are a mixture ---- */

gboolean
fm_mixture_ring(FmMixture *m, size_t K, size_t D, double radius, double sd, GError **error)
{
    size_t count;
    double *v = fm_size_mul(K, 1 + 2 * D, 1, &count) ? g_try_new(double, count) : NULL;

    if (!v) {
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY,
                    "a mixture of %zu components in %zu dimensions does not fit in memory", K, D);
        return FALSE;
    }
    for (size_t k = 0; k < K; k++) {
        const double angle = 2.0 * G_PI * (double)k / (double)K;

        v[k] = 1.0 / (double)K;
        for (size_t d = 0; d < D; d++) {
            v[K + k * D + d] = d == 0 ? radius * cos(angle) : d == 1 ? radius * sin(angle) : 0.0;
            v[K + (K + k) * D + d] = d < 2 ? sd : 1.0;
        }
    }
    *m = (FmMixture){.K = K, .D = D, .weight = v, .mean = v + K, .sd = v + K + K * D};
    return TRUE;
}

void
fm_mixture_clear(FmMixture *m)
{
    g_free((double *)m->weight);
    *m = (FmMixture){0};
}

void
fm_mixture_slot_draw(const void *self, FmKey key, guint64 row0, size_t n, double *x, int *y)
{
    fm_mixture_draw(self, key, row0, n, x, y);
}

void
fm_mixture_slot_log_density(const void *self, size_t n, const double *x, double *log_p)
{
    fm_mixture_log_density(self, n, x, log_p);
}

double
fm_mixture_slot_entropy(const void *self)
{
    return fm_mixture_entropy(self);
}

void
fm_mixture_slot_score(const void *self, size_t n, const double *x, double *score)
{
    fm_mixture_score(self, n, x, score);
}

const FmMixture *
fm_mixture_slot_mixture(const void *self)
{
    return self;
}

void
fm_mixture_slot_clear(void *self)
{
    fm_mixture_clear(self);
}
