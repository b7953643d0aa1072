/* ot: straight-line conditional path with minimum noise.
 *   x_t = (1 - (1 - s) t) x0 + t x1        u_t = x1 - (1 - s) x0
 * Source: Lipman et al. 2023, arXiv:2210.02747, sec. 4.1, example II. */
#include <fmcore/path.h>

typedef struct Ot {
    double sigma_min; /* option */
} Ot;

static const FmOption ot_options[] = {
    FM_OPT_REAL(Ot, sigma_min, 0.0, 0.0, 1.0, "noise left at t = 1 (0: straight line)"),
    FM_OPT_END,
};

static void
ot_coefficients(const void *self, double t, FmAffine *c)
{
    const double k = 1.0 - ((const Ot *)self)->sigma_min;

    *c = (FmAffine){.alpha = t, .dalpha = 1.0, .sigma = 1.0 - k * t, .dsigma = -k};
}

static const FmPathOps ot_ops = {.coefficients = ot_coefficients};

FM_PLUGIN_DECLARE(PATH, ot, "ot", ot_ops, .self_size = sizeof(Ot), .options = ot_options,
                  .summary = "straight-line (optimal transport) conditional path",
                  .source = "Lipman et al. 2023, arXiv:2210.02747");
