/* divergence.h: compare distributions P (data, first) and Q (model, second). */
#ifndef FMCORE_DIVERGENCE_H
#define FMCORE_DIVERGENCE_H

#include <fmcore/plugin.h>
#include <fmcore/random.h>

G_BEGIN_DECLS

/* Samples of one distribution and, where known, log-densities of P and of Q at these points. */
typedef struct FmSamples {
    size_t n, D;
    const double *x;             /* (n, D) */
    const double *log_p, *log_q; /* (n) or NULL, nats */
} FmSamples;

#define FM_MAX_DETAILS 16

/* A number beside the value: a bandwidth, a bias estimate, a p-value. */
typedef struct FmDetail {
    char name[32];
    double number;
    char text[64]; /* used instead of the number when not empty */
} FmDetail;

typedef struct FmEstimate {
    double value;     /* NAN with a reason in `why` when it is infinite or undefined */
    double se;        /* standard error; NAN: not random or not known */
    size_t n;         /* sample size behind it */
    const char *unit; /* "nats", "" ...; static */
    char why[128];
    size_t n_details;
    FmDetail detail[FM_MAX_DETAILS];
} FmEstimate;

typedef struct FmDivergenceOps {
    /* required */
    gboolean (*estimate)(const void *self, const FmSamples *p, const FmSamples *q, FmKey key, int threads,
                         FmEstimate *out, GError **error);
    /* optional */
    gboolean needs_density;   /* TRUE: log_p and log_q must be there */
    gboolean zero_when_equal; /* TRUE: the population value of D(P, P) is 0 (conformance) */
    size_t n_min;             /* smallest sample size; 0: 2 */
    gboolean (*prepare)(void *self, GError **error);
    void (*clear)(void *self);
} FmDivergenceOps;

/* Estimate D(P, Q). Checks: equal D, enough rows, finite values, densities where needed.
 * `key` drives any subsampling; the result does not depend on `threads`. */
gboolean fm_divergence_estimate(FmPlugin *divergence, const FmSamples *p, const FmSamples *q, FmKey key, int threads,
                                FmEstimate *out, GError **error);

/* psi(x), the derivative of log Gamma, for x > 0, to 1e-13 (Abramowitz & Stegun 6.3.5 and 6.3.18). */
double fm_digamma(double x);

/* Append a detail; silently dropped when there are FM_MAX_DETAILS. */
void fm_estimate_number(FmEstimate *e, const char *name, double number);
void fm_estimate_text(FmEstimate *e, const char *name, const char *text);

/* ---- for estimators ---- */

/* Standard error of the mean of n values from disjoint blocks, widened by t(0.975, n - 1) / 1.96
 * so that +- 1.96 of it is a t interval. NAN for n < 2. */
double fm_estimate_block_se(const double *value, size_t n);

/* Appends `low` and `high`, a 95 % interval for the estimator's own mean, to an estimate that is skewed where P
 * and Q are nearly equal: quadratic in nearly normal numbers there, so that its mean is `bias` or more. `low` is 0
 * where P = Q is not excluded. Call it with the value written.
 * bias    its mean for P = Q: 0 for U-statistics
 * first   variance of first order, free of the noise of its own estimate: about 0 for P = Q, may be negative
 * second  variance for P = Q; not positive: nothing is appended
 * scale   sum l^3 / sum l^2 of the weights l of the quadratic form (fm_estimate_scale()) */
void fm_estimate_interval(FmEstimate *e, double bias, double first, double second, double scale);

/* That scale from n rows with weights w_i: a (n, n) = sqrt(w_i w_j) h(x_i, x_j), h the kernel less its row and
 * column means, is overwritten on its diagonal; work (n, n). 0 for n < 3. */
double fm_estimate_scale(size_t n, double *a, double *work);

/* Standard error of a squared transport distance from the variance of its potentials, var f(X) / n +
 * var g(Y) / m, and from `equal`, the same when the rows of both samples are pooled and dealt anew. The formula
 * is an upper bound (Efron & Stein 1981, doi:10.1214/aos/1176345462), close where P and Q are far apart. At
 * P = Q it is too much by `share` of `equal`, which is taken out, down to 3/4 share * equal: 1/2 for functionals that
 * are quadratic there (one column; averages over directions). 0 <= share <= 1/2. */
double fm_estimate_se_transport(double variance, double equal, double share);

/* value = sqrt(square), se = that of the square / (2 value). square_equal is the square where the rows of both samples
 * are pooled and dealt anew, and `value when equal` its root; below a quarter of that no independent samples
 * come: they share rows or were drawn in pairs, no bar holds, and `error bar` says so. */
void fm_estimate_root(FmEstimate *e, double square, double se, double square_equal);

/* value = 1/2 [mean over P of term(log p, log q) + mean over Q of term(log q, log p)] and the
 * standard error of independent samples; out->n, or out->why when a density is 0 at a row of its
 * own sample. Total variation and Jensen-Shannon are of this form. Needs both log-densities. */
void fm_estimate_symmetric(const FmSamples *p, const FmSamples *q, double (*term)(double own, double other),
                           FmEstimate *out);

/* Distances in place to kernel values: v (n) holds squared Euclidean distances. */
typedef void (*FmPairKernel)(const void *self, size_t n, double *v);

/* U-statistic of E k(x, x') + E k(y, y') - 2 E k(x, y) (Gretton et al. 2012, JMLR 13:723, eq. 3),
 * unbiased, O((n + m)^2 D) time, O(n + m) memory. At most `rows` rows of each sample are used, a
 * random subset by `key` when there are more. se: first- and second-order terms of Hoeffding's
 * decomposition, so that it also holds for P = Q. n: rows used of the first sample. Same bytes
 * for any `threads`. Errors: FM_ERROR_MEMORY. */
gboolean fm_estimate_pairs(const FmSamples *p, const FmSamples *q, size_t rows, FmKey key, FmPairKernel kernel,
                           const void *self, int threads, FmEstimate *out, GError **error);

G_END_DECLS
#endif
