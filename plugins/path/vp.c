/* vp: variance-preserving diffusion path with linear beta, time turned so that t = 1 is data:
 *   alpha = exp(-T(s) / 2), sigma = sqrt(1 - alpha^2), s = 1 - t, T(s) = b0 s + (b1 - b0) s^2 / 2.
 * At t = 0 a trace of data is left: alpha(0) = exp(-(b0 + b1) / 4) = 0.0066 by default. dsigma has a
 * pole at t = 1, so the path ends at t = 1 - 1e-5.
 * Source: Lipman et al. 2023, arXiv:2210.02747, eq. 19; Song et al. 2021, arXiv:2011.13456. */
#include <fmcore/path.h>

#include <math.h>

typedef struct Vp {
    double beta_min, beta_max; /* options */
} Vp;

static const FmOption vp_options[] = {
    FM_OPT_POSITIVE(Vp, beta_min, 0.1, 100.0, "rate of noise at the data's end"),
    FM_OPT_POSITIVE(Vp, beta_max, 20.0, 1000.0, "rate of noise at the noise's end"),
    FM_OPT_END,
};

static void
vp_coefficients(const void *self, double t, FmAffine *c)
{
    const Vp *v = self;
    const double s = 1.0 - t, beta = v->beta_min + s * (v->beta_max - v->beta_min);
    const double T = v->beta_min * s + 0.5 * s * s * (v->beta_max - v->beta_min);
    const double alpha = exp(-0.5 * T), sigma = sqrt(-expm1(-T));

    /* dT/dt = -beta */
    *c = (FmAffine){
        .alpha = alpha, .dalpha = 0.5 * beta * alpha, .sigma = sigma, .dsigma = -0.5 * beta * alpha * alpha / sigma};
}

static const FmPathOps vp_ops = {.coefficients = vp_coefficients, .t_min = 0.0, .t_max = 1.0 - 1e-5};

static const FmFact vp_facts[] = {
    {"interval", "t from 0 to 1 - 1e-5: dsigma has a pole at t = 1"},
    {"base", "N(0, I) up to alpha(0) = exp(-(beta_min + beta_max) / 4), 0.0066 by default"},
    {NULL, NULL},
};

FM_PLUGIN_DECLARE(PATH, vp, "vp", vp_ops, .self_size = sizeof(Vp), .options = vp_options, .facts = vp_facts,
                  .summary = "variance-preserving diffusion path, linear beta",
                  .source = "Lipman et al. 2023, arXiv:2210.02747; Song et al. 2021, arXiv:2011.13456");
