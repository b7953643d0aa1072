/* estimators.h: what the tests of divergences share. */
#ifndef FMCORE_TESTS_ESTIMATORS_H
#define FMCORE_TESTS_ESTIMATORS_H

#include "suite.h"

#include <fmcore/fmcore.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const FmKey key0 = {.seed = 17, .stream = FM_STREAM_EVAL};

static FmPlugin *
open_plugin(const char *spec)
{
    GError *error = NULL;
    FmPlugin *d = fm_plugin_new(FM_KIND_DIVERGENCE, spec, &error);

    ck_assert_msg(d != NULL, "%s: %s", spec, error ? error->message : "no message");
    return d;
}

/* n rows of N(mean (1, .., 1), sd^2 I) */
static double *
draw(guint64 seed, size_t n, size_t D, double mean, double sd)
{
    double *x = fm_alloc(n * D * sizeof *x);

    fm_fill_normal_f64((FmKey){.seed = seed, .stream = FM_STREAM_USER}, 0, n, D, x);
    for (size_t i = 0; i < n * D; i++)
        x[i] = mean + sd * x[i];
    return x;
}

static FmEstimate
estimate(FmPlugin *d, const FmSamples *p, const FmSamples *q, int threads)
{
    FmEstimate e;
    GError *error = NULL;

    ck_assert_msg(fm_divergence_estimate(d, p, q, key0, threads, &e, &error), "%s",
                  error ? error->message : "no message");
    return e;
}

static FmSamples
samples(const double *x, size_t n, size_t D)
{
    return (FmSamples){.n = n, .D = D, .x = x};
}

#endif
