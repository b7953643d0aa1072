/* interval.c: 95 % intervals of estimates whose law is skewed where P and Q are nearly equal.
 *
 * There such an estimate is a quadratic form in nearly normal numbers, V - bias = sum_j l_j ((z_j + d_j)^2 - 1) with
 * the true value T = sum_j l_j d_j^2 >= 0. One scale s stands for all l_j:
 *   (V - bias) / s + f  ~  chi-squared of f degrees of freedom and noncentrality T / s,  f = second / (2 s^2),
 * which has its mean, its variance second + 4 s T and, at T = 0 with s = sum l_j^3 / sum l_j^2, its third cumulant
 * (Patnaik 1949, doi:10.1093/biomet/36.1-2.202). Away from 0 the first-order variance says what s is; it becomes
 * the normal law there. The interval holds the T for which V lies between the law's 2.5 % and 97.5 % points, which
 * are those of Sankaran's third approximation (1963, doi:10.1093/biomet/50.1-2.199). Small T are never above an
 * interval: there the other end takes the whole 5 %, so that it is 95 % of the intervals that hold them, not 97.5 %.
 * Where T = 0 is in it, P = Q is not excluded, and the lower end is 0, without the bias. */
#include <fmcore/backend.h>
#include <fmcore/divergence.h>

#include <math.h>

#define TWO_SIDED 1.959964 /* normal quantile at 97.5 % */
#define ONE_SIDED 1.644854 /* at 95 % */
#define LEAST 0.5          /* below so many sd under the bias the upper end stays, or the interval would become empty */

typedef struct Law {
    double s, f; /* scale, degrees of freedom */
} Law;

/* The normal number that belongs to V - bias = v when the truth is T; falls with T. */
static double
law_normal(const Law *law, double v, double T)
{
    const double nc = T / law->s, mean = law->f + nc, wide = law->f + 2.0 * nc;
    const double h = 1.0 - 2.0 * mean * (law->f + 3.0 * nc) / (3.0 * wide * wide);
    const double p = wide / (mean * mean), m = (h - 1.0) * (1.0 - 3.0 * h);
    const double x = MAX(v / law->s + law->f, 0.0) / mean;

    return (pow(x, h) - 1.0 - h * p * (h - 1.0 - 0.5 * (2.0 - h) * m * p)) / (h * sqrt(2.0 * p) * (1.0 + 0.5 * m * p));
}

/* T >= 0 at which v is the law's point `z`; 0 when there is none. */
static double
law_truth(const Law *law, double v, double z, double step)
{
    double lo = 0.0, hi = MAX(v, 0.0) + step;

    if (law_normal(law, v, 0.0) <= z)
        return 0.0;
    for (int i = 0; i < 200 && law_normal(law, v, hi) > z; i++)
        hi *= 2.0;
    for (int i = 0; i < 100 && hi - lo > 1e-12 * hi; i++) {
        const double middle = 0.5 * (lo + hi);

        if (law_normal(law, v, middle) > z)
            lo = middle;
        else
            hi = middle;
    }
    return 0.5 * (lo + hi);
}

void
fm_estimate_interval(FmEstimate *e, double bias, double first, double second, double scale)
{
    const double v = e->value - bias, sd = sqrt(second);

    if (!isfinite(v) || !(second > 0.0) || !isfinite(second))
        return;
    /* between `scale` at V = bias and what the first order says far away */
    const double near_equal = CLAMP(scale, 1e-3 * sd, sd * G_SQRT2 / 2.0);
    const double s = (0.25 * MAX(first, 0.0) + near_equal * sd) / (MAX(v, 0.0) + sd);
    const Law law = {.s = s, .f = second / (2.0 * s * s)};
    const double always = law_truth(&law, -LEAST * sd, -TWO_SIDED, sd); /* no upper end is below */
    const double low = MAX(law_truth(&law, v, TWO_SIDED, sd), MIN(law_truth(&law, v, ONE_SIDED, sd), always));

    fm_estimate_number(e, "low", low > 0.0 ? bias + low : 0.0);
    fm_estimate_number(e, "high", bias + law_truth(&law, MAX(v, -LEAST * sd), -TWO_SIDED, sd));
}

/* The diagonal, h of a row with itself, is no draw of h and left out; the sums over what is left stand for those over
 * all. */
double
fm_estimate_scale(size_t n, double *a, double *work)
{
    double square = 0.0, cube = 0.0;

    for (size_t i = 0; i < n; i++)
        a[i * n + i] = 0.0;
    fm_linalg_gemm_f64(FALSE, n, n, n, 1.0, a, a, 0.0, work);
    for (size_t i = 0; i < n * n; i++) {
        square += a[i] * a[i];
        cube += work[i] * a[i];
    }
    return n > 2 && square > 0.0 ? cube / square * (double)n / ((double)n - 2.0) : 0.0;
}
