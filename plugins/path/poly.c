/* poly: x_t = t^n x1 + (1 - t^n) x0, the straight line at another speed.
 * Source: Lipman et al. 2024, arXiv:2412.06264, sec. 4.6 (polynomial scheduler). */
#include <fmcore/path.h>

#include <math.h>

typedef struct Poly {
    double n; /* option */
} Poly;

static const FmOption poly_options[] = {
    FM_OPT_REAL(Poly, n, 2.0, 1.0, 20.0, "exponent of t (1: the straight line)"),
    FM_OPT_END,
};

static void
poly_coefficients(const void *self, double t, FmAffine *c)
{
    const double n = ((const Poly *)self)->n, a = pow(t, n), da = n * pow(t, n - 1.0);

    *c = (FmAffine){.alpha = a, .dalpha = da, .sigma = 1.0 - a, .dsigma = -da};
}

static const FmPathOps poly_ops = {.coefficients = poly_coefficients};

FM_PLUGIN_DECLARE(PATH, poly, "poly", poly_ops, .self_size = sizeof(Poly), .options = poly_options,
                  .summary = "polynomial path", .source = "Lipman et al. 2024, arXiv:2412.06264");
