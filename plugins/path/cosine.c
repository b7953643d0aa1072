/* cosine: x_t = sin(pi t / 2) x1 + cos(pi t / 2) x0, a quarter turn of constant speed.
 * Source: Albergo & Vanden-Eijnden 2023, arXiv:2209.15571, trigonometric interpolant. */
#include <fmcore/path.h>

#include <math.h>

static void
cosine_coefficients(const void *self, double t, FmAffine *c)
{
    const double a = 0.5 * G_PI;

    *c = (FmAffine){.alpha = sin(a * t), .dalpha = a * cos(a * t), .sigma = cos(a * t), .dsigma = -a * sin(a * t)};
}

static const FmPathOps cosine_ops = {.coefficients = cosine_coefficients};

FM_PLUGIN_DECLARE(PATH, cosine, "cosine", cosine_ops, .summary = "trigonometric path of constant variance",
                  .source = "Albergo & Vanden-Eijnden 2023, arXiv:2209.15571");
