/* gaussian-kl: KL between the Gaussians with the samples' means and covariances, in nats.
 *   KL = 1/2 [tr(Sq^-1 Sp) + u^T Sq^-1 u - d + log det Sq / det Sp],  u = mp - mq
 * Source: closed form (Kullback 1959, sec. 9.1). Standard error: delta method, the variance of the
 * influence of each row, plus the variance of the estimate at P = Q, where the influence vanishes: d (d + 3) / 4 (1/n +
 * 1/m)^2 for many rows (Wilks). Equals KL(P||Q) for Gaussians only. */
#include <fmcore/array.h>
#include <fmcore/backend.h>
#include <fmcore/divergence.h>

#include <math.h>
#include <string.h>

/* Mean and lower Cholesky factor of the covariance (divided by n - 1). */
typedef struct GaussianFit {
    double *mean, *chol; /* (D), (D, D) owned, one allocation */
    double logdet;
    gboolean singular;
} GaussianFit;

static gboolean
gaussian_fit(GaussianFit *f, const FmSamples *s)
{
    const size_t D = s->D;

    f->mean = fm_alloc((2 * D + D * D) * sizeof(double));
    if (f->mean == NULL)
        return FALSE;
    f->chol = f->mean + D;
    for (size_t i = 0; i < s->n; i++)
        for (size_t d = 0; d < D; d++)
            f->mean[d] += s->x[i * D + d] / (double)s->n;
    for (size_t i = 0; i < s->n; i++) {
        double *u = f->chol + D * D;

        for (size_t d = 0; d < D; d++)
            u[d] = s->x[i * D + d] - f->mean[d];
        for (size_t a = 0; a < D; a++)
            for (size_t b = 0; b <= a; b++)
                f->chol[a * D + b] += u[a] * u[b] / ((double)s->n - 1.0);
    }
    for (size_t a = 0; a < D; a++)
        for (size_t b = a + 1; b < D; b++)
            f->chol[a * D + b] = f->chol[b * D + a];
    double *sd = f->chol + D * D; /* the row is free */
    for (size_t d = 0; d < D; d++)
        sd[d] = sqrt(f->chol[d * D + d]);
    f->singular = s->n <= D || !fm_linalg_cholesky(D, f->chol);
    for (size_t d = 0; d < D && !f->singular; d++) {
        const double pivot = f->chol[d * D + d];

        f->singular = !(pivot > 1e-7 * sd[d] && pivot > 1e-12 * fabs(f->mean[d])); /* what rounding leaves */
        f->logdet += 2.0 * log(pivot);
    }
    return TRUE;
}

/* x = L^-1 x */
static void
gaussian_forward(size_t D, const double *L, double *x)
{
    for (size_t i = 0; i < D; i++) {
        for (size_t j = 0; j < i; j++)
            x[i] -= L[i * D + j] * x[j];
        x[i] /= L[i * D + i];
    }
}

/* x = L^-T x */
static void
gaussian_backward(size_t D, const double *L, double *x)
{
    for (size_t i = D; i-- > 0;) {
        for (size_t j = i + 1; j < D; j++)
            x[i] -= L[j * D + i] * x[j];
        x[i] /= L[i * D + i];
    }
}

static double
gaussian_dot(size_t D, const double *a, const double *b)
{
    double sum = 0.0;

    for (size_t d = 0; d < D; d++)
        sum += a[d] * b[d];
    return sum;
}

/* Variance over rows of the influence. P's: 1/2 z^T (Sq^-1 - Sp^-1) z + g.z; Q's: 1/2 z^T Sq^-1 z -
 * 1/2 (w^T Sp w + (u.w)^2) - g.z with w = Sq^-1 z; z the centred row, g = Sq^-1 u. */
static double
gaussian_influence(const FmSamples *s, const GaussianFit *p, const GaussianFit *q, const double *u, const double *g,
                   gboolean of_p, double *z)
{
    const size_t D = s->D;
    const double *mean = of_p ? p->mean : q->mean;
    double *w = z + D, sum = 0.0, sum2 = 0.0;

    for (size_t i = 0; i < s->n; i++) {
        double value, linear;

        for (size_t d = 0; d < D; d++)
            w[d] = z[d] = s->x[i * D + d] - mean[d];
        linear = gaussian_dot(D, g, z);
        gaussian_forward(D, q->chol, w);
        value = gaussian_dot(D, w, w);
        if (of_p) {
            gaussian_forward(D, p->chol, z);
            value = 0.5 * (value - gaussian_dot(D, z, z)) + linear;
        } else {
            const double uw = (gaussian_backward(D, q->chol, w), gaussian_dot(D, u, w));
            double quad = uw * uw;

            for (size_t b = 0; b < D; b++) { /* |Lp^T w|^2 */
                double t = 0.0;

                for (size_t a = b; a < D; a++)
                    t += p->chol[a * D + b] * w[a];
                quad += t * t;
            }
            value = 0.5 * (value - quad) - linear;
        }
        sum += value;
        sum2 += value * value;
    }
    return MAX(0.0, sum2 / (double)s->n - pow(sum / (double)s->n, 2.0));
}

/* Mean of the estimate for normal rows at P = Q: by E Sq^-1 = (m - 1) / (m - d - 2) S^-1 and E log det of a Wishart
 * matrix (Muirhead 1982, doi:10.1002/9780470316559, sec. 3.2). d (d + 3) / 4 (1/n + 1/m) for many rows; infinite for m
 * <= d + 2. */
static double
gaussian_bias(double d, double n, double m)
{
    if (m <= d + 2.0)
        return INFINITY;
    const double inverse = (m - 1.0) / (m - d - 2.0);
    double sum = d * (inverse - 1.0) + (1.0 / n + 1.0 / m) * d * inverse - d * log((m - 1.0) / (n - 1.0));

    for (double i = 1.0; i <= d; i++)
        sum += fm_digamma(0.5 * (m - i)) - fm_digamma(0.5 * (n - i));
    return 0.5 * sum;
}

/* The standard error, and the ends of the interval, from the variance `var` by the influences. For few rows the law at
 * P = Q is wider than that of many by the square of the ratio of their means, and more skewed by the third power
 * (measured at P = Q, 1 to 32 columns: 0.88 to 1.04 of the standard deviation from 30 rows on, 0.8 with 10). */
static void
gaussian_error(double d, double n, double m, double var, FmEstimate *out)
{
    const double rate = 1.0 / n + 1.0 / m, many = 0.25 * d * (d + 3.0) * rate, bias = gaussian_bias(d, n, m),
                 q = bias / many;
    const double second = many * rate * pow(q, 4.0),
                 first = var - 2.0 * second; /* the influence's noise is twice that */

    if (!isfinite(bias)) {
        fm_estimate_text(out, "error bar", "none: the estimate has no mean with so few rows");
        return;
    }
    fm_estimate_number(out, "bias when equal", bias);
    out->se = sqrt(MAX(first, 0.0) + second);
    fm_estimate_interval(out, bias, first, second, 0.5 * rate * pow(q, 3.0));
}

/* value and se from two fits that are not singular; scratch (4, D). */
static void
gaussian_finish(const FmSamples *p, const FmSamples *q, const GaussianFit *a, const GaussianFit *b, double *scratch,
                FmEstimate *out)
{
    const size_t D = p->D;
    double *u = scratch, *g = u + D, *z = g + D, trace = 0.0, var;

    for (size_t c = 0; c < D; c++) { /* |Lq^-1 Lp|^2, column by column */
        for (size_t d = 0; d < D; d++)
            z[d] = d < c ? 0.0 : a->chol[d * D + c];
        gaussian_forward(D, b->chol, z);
        trace += gaussian_dot(D, z, z);
    }
    for (size_t d = 0; d < D; d++)
        g[d] = u[d] = a->mean[d] - b->mean[d];
    gaussian_forward(D, b->chol, g);
    out->value = 0.5 * (trace + gaussian_dot(D, g, g) - (double)D + b->logdet - a->logdet);
    gaussian_backward(D, b->chol, g);
    var = gaussian_influence(p, a, b, u, g, TRUE, z) / (double)p->n +
          gaussian_influence(q, a, b, u, g, FALSE, z) / (double)q->n;
    gaussian_error((double)D, (double)p->n, (double)q->n, var, out);
}

static gboolean
gaussian_kl_estimate(const void *self, const FmSamples *p, const FmSamples *q, FmKey key, int threads, FmEstimate *out,
                     GError **error)
{
    GaussianFit a = {0}, b = {0};
    double *scratch = fm_alloc(4 * p->D * sizeof(double));
    const gboolean ok = scratch != NULL && gaussian_fit(&a, p) && gaussian_fit(&b, q);

    out->unit = "nats";
    out->n = p->n;
    if (!ok)
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY,
                    "divergence 'gaussian-kl': no memory for covariances of %zu columns", p->D);
    else if (a.singular || b.singular)
        g_snprintf(out->why, sizeof out->why, "the covariance of the %s sample is singular",
                   b.singular ? "second" : "first");
    else
        gaussian_finish(p, q, &a, &b, scratch, out);
    fm_free(scratch);
    fm_free(a.mean);
    fm_free(b.mean);
    return ok;
}

static const FmDivergenceOps gaussian_kl_ops = {
    .estimate = gaussian_kl_estimate,
    .zero_when_equal = TRUE,
};

static const FmFact gaussian_kl_facts[] = {
    {"bias", "upwards: about d (d + 3) / 4 (1/n + 1/m) near P = Q (printed with the result, for normal rows)"},
    {"assumes", "only means and covariances are compared"},
    {NULL, NULL},
};

FM_PLUGIN_DECLARE(DIVERGENCE, gaussian_kl, "gaussian-kl", gaussian_kl_ops,
                  .summary = "Kullback-Leibler divergence of the Gaussians with the samples' moments",
                  .source = "Kullback 1959, Information Theory and Statistics, sec. 9.1", .facts = gaussian_kl_facts);
