/* mixture.c: drawing from and evaluating mixtures of Gaussians with diagonal covariance. */
#include "flow/quadrature.h"

#include <fmcore/dataset.h>

#include <math.h>

enum { DRAW_VALUES = 2048 }; /* uniforms at a time: of 1,023 columns, 40 KiB with what is made of them */

static size_t
pick(const FmMixture *m, double u)
{
    size_t k = 0;

    while (k + 1 < m->K && u >= m->weight[k])
        u -= m->weight[k++];
    return k;
}

/* Any number of columns, one row at a time. */
static void
draw_rows(const FmMixture *m, FmKey key, guint64 row0, size_t n, double *x, int *y)
{
    for (size_t i = 0; i < n; i++) {
        FmRng rng = fm_rng(key, row0 + i);
        const size_t k = pick(m, fm_rng_uniform(&rng));

        for (size_t d = 0; d < m->D; d++)
            x[i * m->D + d] = m->mean[k * m->D + d] + m->sd[k * m->D + d] * fm_rng_normal(&rng);
        if (y)
            y[i] = (int)k;
    }
}

/* The same numbers for as many rows at a time as fit: of a training step of width 64 the row-wise
 * form took a fifth. */
static void
draw_blocks(const FmMixture *m, FmKey key, guint64 row0, size_t n, double *x, int *y)
{
    const size_t D = m->D, W = 2 * D + 1, rows = DRAW_VALUES / W;
    double w[DRAW_VALUES], u[DRAW_VALUES / 2], v[DRAW_VALUES / 2], z[DRAW_VALUES / 2];

    for (size_t first = 0; first < n; first += rows) {
        const size_t take = MIN(rows, n - first);

        fm_fill_uniform_f64(key, row0 + first, take, W, w);
        for (size_t i = 0; i < take; i++)
            for (size_t d = 0; d < D; d++) {
                u[i * D + d] = w[i * W + 1 + 2 * d];
                v[i * D + d] = w[i * W + 2 + 2 * d];
            }
        fm_uniforms_to_normals(take * D, u, v, z);
        for (size_t i = 0; i < take; i++) {
            const size_t k = pick(m, w[i * W]);

            for (size_t d = 0; d < D; d++)
                x[(first + i) * D + d] = m->mean[k * D + d] + m->sd[k * D + d] * z[i * D + d];
            if (y)
                y[first + i] = (int)k;
        }
    }
}

void
fm_mixture_draw(const FmMixture *m, FmKey key, guint64 row0, size_t n, double *x, int *y)
{
    if (2 * m->D + 1 <= DRAW_VALUES)
        draw_blocks(m, key, row0, n, x, y);
    else
        draw_rows(m, key, row0, n, x, y);
}

/* log(weight_k / prod_d (sqrt(2 pi) sd_kd)) of every component; owned by the caller. */
static double *
log_heights(const FmMixture *m)
{
    double *height = g_new(double, m->K);

    for (size_t k = 0; k < m->K; k++) {
        height[k] = log(m->weight[k]) - 0.5 * (double)m->D * log(2.0 * G_PI);
        for (size_t d = 0; d < m->D; d++)
            height[k] -= log(m->sd[k * m->D + d]);
    }
    return height;
}

/* log(weight_k N(x; mean_k, sd_k)) of every component to l (K); their log-sum-exp. */
static double
components(const FmMixture *m, const double *height, const double *x, double *l)
{
    double top = -INFINITY, sum = 0.0;

    for (size_t k = 0; k < m->K; k++) {
        l[k] = height[k];
        for (size_t d = 0; d < m->D; d++) {
            const double z = (x[d] - m->mean[k * m->D + d]) / m->sd[k * m->D + d];

            l[k] -= 0.5 * z * z;
        }
        top = MAX(top, l[k]);
    }
    for (size_t k = 0; k < m->K; k++)
        sum += exp(l[k] - top);
    return top + log(sum);
}

void
fm_mixture_log_density(const FmMixture *m, size_t n, const double *x, double *log_p)
{
    g_autofree double *height = log_heights(m), *l = g_new(double, m->K);

    for (size_t i = 0; i < n; i++)
        log_p[i] = components(m, height, x + i * m->D, l);
}

void
fm_mixture_score(const FmMixture *m, size_t n, const double *x, double *score)
{
    g_autofree double *height = log_heights(m), *l = g_new(double, m->K);

    for (size_t i = 0; i < n; i++) {
        const double *xi = x + i * m->D;
        const double total = components(m, height, xi, l);

        for (size_t d = 0; d < m->D; d++)
            score[i * m->D + d] = 0.0;
        for (size_t k = 0; k < m->K; k++) {
            const double r = exp(l[k] - total);

            for (size_t d = 0; d < m->D; d++) {
                const double sd = m->sd[k * m->D + d];

                score[i * m->D + d] -= r * (xi[d] - m->mean[k * m->D + d]) / (sd * sd);
            }
        }
    }
}

/* Cells of the midpoint rule along one axis and each component's density in them: out (K, side). */
static double *
axis_densities(const FmMixture *m, size_t d, size_t side, double lo, double h)
{
    double *out = g_new(double, m->K *side);

    for (size_t k = 0; k < m->K; k++)
        for (size_t i = 0; i < side; i++) {
            const double sd = m->sd[2 * k + d], z = (lo + h * ((double)i + 0.5) - m->mean[2 * k + d]) / sd;

            out[k * side + i] = exp(-0.5 * z * z) / (sqrt(2.0 * G_PI) * sd);
        }
    return out;
}

double
fm_mixture_entropy(const FmMixture *m)
{
    double lo[2] = {INFINITY, INFINITY}, hi[2] = {-INFINITY, -INFINITY}, least = INFINITY;

    if (m->D != 2 || m->K == 0)
        return NAN;
    for (size_t k = 0; k < m->K; k++)
        for (size_t d = 0; d < 2; d++) {
            lo[d] = MIN(lo[d], m->mean[2 * k + d] - 8.0 * m->sd[2 * k + d]);
            hi[d] = MAX(hi[d], m->mean[2 * k + d] + 8.0 * m->sd[2 * k + d]);
            least = MIN(least, m->sd[2 * k + d]);
        }
    /* Two cells a standard deviation leave an error of exp(-2 (2 pi)^2 / 4) or less in a Gaussian. */
    const double cells = 2.0 * MAX(hi[0] - lo[0], hi[1] - lo[1]) / least;
    if (cells > 3000.0)
        return NAN;
    const size_t side = (size_t)MAX(cells, 600.0);
    const double hx = (hi[0] - lo[0]) / (double)side, hy = (hi[1] - lo[1]) / (double)side;
    g_autofree double *a = axis_densities(m, 0, side, lo[0], hx), *b = axis_densities(m, 1, side, lo[1], hy);
    return fm__product_entropy(m->K, m->weight, side, a, b) * hx * hy;
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

/* Points of all curves at the nodes of a rule for u on [0, 1]. */
static void
curve_nodes(FmMixture *m, size_t pieces, const size_t *nodes, gboolean closed, FmMixtureCurve curve, const void *self,
            double sd)
{
    double *weight = (double *)m->weight, *mean = (double *)m->mean, *width = (double *)m->sd;

    for (size_t p = 0, k = 0; p < pieces; p++) {
        g_autofree double *u = g_new(double, nodes[p]), *w = g_new(double, nodes[p]);

        if (!closed)
            fm_gauss_legendre((int)nodes[p], u, w);
        for (size_t i = 0; i < nodes[p]; i++, k++) {
            weight[k] = (closed ? 1.0 / (double)nodes[p] : w[i]) / (double)pieces;
            curve(self, p, closed ? (double)i / (double)nodes[p] : u[i], mean + 2 * k);
            width[2 * k] = width[2 * k + 1] = sd;
        }
    }
}

gboolean
fm_mixture_curves(FmMixture *m, size_t pieces, gboolean closed, FmMixtureCurve curve, const void *self, double sd,
                  GError **error)
{
    enum { PROBES = 512, MOST = 4096 };
    const double apart = 0.6 * sd; /* between neighbours where they are farthest */
    g_autofree size_t *nodes = g_new(size_t, pieces);
    size_t K = 0;

    *m = (FmMixture){.D = 2};
    for (size_t p = 0; p < pieces; p++) {
        double speed = 0.0;

        for (int i = 0; i < PROBES; i++) {
            double a[2], b[2];

            curve(self, p, (double)i / PROBES, a);
            curve(self, p, (double)(i + 1) / PROBES, b);
            speed = MAX(speed, PROBES * hypot(b[0] - a[0], b[1] - a[1]));
        }
        const double need = (closed ? 1.0 : 0.5 * G_PI) * speed / apart + 16.0;
        if (!(need < MOST))
            return TRUE;
        nodes[p] = (size_t)ceil(need);
        K += nodes[p];
    }
    if (K > MOST)
        return TRUE;
    double *v = g_try_new(double, 5 * K);
    if (!v) {
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "a mixture of %zu components does not fit in memory", K);
        return FALSE;
    }
    *m = (FmMixture){.K = K, .D = 2, .weight = v, .mean = v + K, .sd = v + 3 * K};
    curve_nodes(m, pieces, nodes, closed, curve, self, sd);
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
    return fm_mixture_slot_has_density(self) ? self : NULL;
}

gboolean
fm_mixture_slot_has_density(const void *self)
{
    return ((const FmMixture *)self)->K > 0;
}

void
fm_mixture_slot_clear(void *self)
{
    fm_mixture_clear(self);
}
