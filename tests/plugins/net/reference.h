/* reference.h: the numbers that tests/references/torch_nets.py also computes with. */
#ifndef FMCORE_TESTS_NET_REFERENCE_H
#define FMCORE_TESTS_NET_REFERENCE_H

#include <check.h>
#include <fmcore/plugin.h>
#include <math.h>

static inline double
wave(const char *name, size_t i)
{
    double phase = 0.0;

    for (const char *c = name; *c; c++)
        phase += (unsigned char)*c;
    return sin(0.7 * phase + 1.3 * (double)i + 0.2 * (double)(i % 7));
}

static inline void
close_to(const char *what, const double *a, const double *b, size_t n, double tolerance)
{
    double scale = 1e-300;

    for (size_t i = 0; i < n; i++)
        scale = fmax(scale, fabs(b[i]));
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(fabs(a[i] - b[i]) <= tolerance * scale, "%s[%zu]: %.17g, expected %.17g", what, i, a[i], b[i]);
}

static inline FmPlugin *
open_plugin(FmKind kind, const char *spec)
{
    GError *error = NULL;
    FmPlugin *p = fm_plugin_new(kind, spec, &error);

    ck_assert_msg(p != NULL, "%s", error ? error->message : "?");
    return p;
}

#endif
