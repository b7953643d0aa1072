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
