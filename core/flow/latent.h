/* latent.h: is z = phi^-1(x) of held-out data N(0, I)? Tests of the flow that need no density of the data.
 * Internal to the program. */
#ifndef FMCORE_CORE_FLOW_LATENT_H
#define FMCORE_CORE_FLOW_LATENT_H

#include <stddef.h>

/* Each p-value is uniform on (0, 1) when z is N(0, I): exactly for mean and scale, to a few parts in n for the
 * others. NAN: too few rows for this one. */
typedef enum FmLatentTest {
    FM_LATENT_MEAN,        /* n |mean z|^2 is chi-squared, D */
    FM_LATENT_SCALE,       /* sum |z|^2 is chi-squared, n D; two-sided */
    FM_LATENT_COVARIANCE,  /* likelihood ratio for E z z' = I, chi-squared, D (D + 1) / 2 */
    FM_LATENT_RADIUS,      /* |z|^2 of the rows against chi-squared, D: Kolmogorov */
    FM_LATENT_COORDINATES, /* all n D numbers against N(0, 1): Kolmogorov */
    FM_LATENT_N_TESTS
} FmLatentTest;
extern const char *const fm_latent_names[]; /* "p_mean", ... */

typedef struct FmLatent {
    size_t n, skipped; /* rows used; rows that are not finite */
    double p[FM_LATENT_N_TESTS];
    double combined; /* smallest p times the number of tests, at most 1 */
    double mean;     /* |mean z| / sqrt(D): 0 */
    double scale;    /* mean of |z|^2 / D: 1 */
    double radius;   /* largest distance of the distribution functions of |z|^2: 0 */
} FmLatent;

/* z (n, D) / sd is to be N(0, I). Needs n >= 2 finite rows, else all is NAN. */
void fm_latent_test(size_t n, size_t D, const double *z, double sd, FmLatent *out);

/* P(X > x) of a chi-squared X with `degrees` degrees of freedom. */
double fm__chi_squared_above(double degrees, double x);
/* P(D_n > distance) of Kolmogorov's statistic of n points. */
double fm__kolmogorov_above(size_t n, double distance);
/* Kolmogorov's statistic of u (n) in ascending order against the uniform distribution. */
double fm__kolmogorov_distance(size_t n, const double *u);

#endif
