/* repath.c: times and factors that turn one affine path into another. */
#include "flow/repath.h"

#include <math.h>
#include <string.h>

/* Wronskian of alpha and sigma: positive where alpha / sigma rises. */
static double
repath_rise(const FmAffine *c)
{
    return c->dalpha * c->sigma - c->dsigma * c->alpha;
}

static gboolean
repath_check(const FmPlugin *path, GError **error)
{
    enum { PROBES = 256 };
    const char *why = fm_path_is_affine(path) ? NULL : "it is not affine";
    double t0, t1;

    fm_path_interval(path, &t0, &t1);
    for (int i = 0; !why && i <= PROBES; i++) {
        FmAffine c;

        fm_path_coefficients(path, t0 + (t1 - t0) * i / PROBES, &c);
        why = c.gamma != 0.0 || c.dgamma != 0.0 ? "it has noise of its own"
              : !(repath_rise(&c) >= -1e-12)    ? "its ratio of data to noise does not rise everywhere"
                                                : NULL;
    }
    if (!why)
        return TRUE;
    g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                "path '%s': %s, expected an affine path x_t = alpha x1 + sigma x0 such as ot, to go along another "
                "one than the trained",
                fm_plugin_name(path), why);
    return FALSE;
}

/* Move t0 to where the old path has begun to move. */
static void
repath_leave_rest(FmRepath *p)
{
    enum { PROBES = 256, HALVINGS = 40 };
    const double slowest = 1e-2, step = (p->t1 - p->t0) / PROBES;
    double lo = p->t0, hi = p->t0;
    FmAffine c;

    fm_path_coefficients(p->from, lo, &c);
    if (repath_rise(&c) >= slowest)
        return;
    for (int i = 1; i < PROBES && repath_rise(&c) < slowest; i++) {
        lo = hi;
        fm_path_coefficients(p->from, hi = p->t0 + step * i, &c);
    }
    for (int i = 0; i < HALVINGS; i++) {
        const double middle = 0.5 * (lo + hi);

        fm_path_coefficients(p->from, middle, &c);
        *(repath_rise(&c) < slowest ? &lo : &hi) = middle;
    }
    p->t0 = hi;
    p->rests = TRUE;
}

gboolean
fm__repath_init(FmRepath *p, FmPlugin *from, const FmPlugin *to, GError **error)
{
    if (!repath_check(from, error) || !repath_check(to, error))
        return FALSE;
    *p = (FmRepath){.from = from, .to = to};
    fm_path_interval(from, &p->t0, &p->t1);
    repath_leave_rest(p);
    return TRUE;
}

/* alpha(t) sigma' - sigma(t) alpha', which rises with t and is 0 where the ratios agree. */
static double
repath_gap(const FmAffine *from, const FmAffine *to)
{
    return from->alpha * to->sigma - from->sigma * to->alpha;
}

/* The old path's coefficients where its ratio is that of `to`, by Newton's method within a bracket. -1, 1: the
 * ratio is before or behind the interval, whose end is given; else 0. */
static int
repath_match(const FmRepath *p, const FmAffine *to, double *t, FmAffine *c)
{
    enum { ITERATIONS = 100 };
    const double tiny = 1e-14 * hypot(to->alpha, to->sigma);
    double lo = p->t0, hi = p->t1;

    fm_path_coefficients(p->from, *t = lo, c);
    if (repath_gap(c, to) >= -tiny)
        return repath_gap(c, to) > tiny ? -1 : 0;
    fm_path_coefficients(p->from, *t = hi, c);
    if (repath_gap(c, to) <= tiny)
        return repath_gap(c, to) < -tiny ? 1 : 0;
    *t = 0.5 * (lo + hi);
    for (int i = 0; i < ITERATIONS; i++) {
        fm_path_coefficients(p->from, *t, c);
        const double gap = repath_gap(c, to), slope = c->dalpha * to->sigma - c->dsigma * to->alpha;

        if (fabs(gap) <= 1e-16 * fabs(slope) || hi - lo <= 1e-16)
            break;
        if (gap > 0.0)
            hi = *t;
        else
            lo = *t;
        *t -= gap / slope;
        if (!(*t > lo && *t < hi))
            *t = 0.5 * (lo + hi);
    }
    fm_path_coefficients(p->from, *t, c);
    return 0;
}

FmRepathAt
fm__repath_at(const FmRepath *p, double r)
{
    FmAffine to, c;
    double t;

    fm_path_coefficients(p->to, r, &to);
    const int beyond = repath_match(p, &to, &t, &c);
    if (beyond > 0 || (beyond < 0 && !p->rests)) {
        const double of = beyond < 0 ? to.sigma : to.alpha, d = beyond < 0 ? to.dsigma : to.dalpha;

        return (FmRepathAt){.t = t, .a = d / of, .inverse = (beyond < 0 ? c.sigma : c.alpha) / of, .b = 0.0};
    }
    /* (alpha', sigma') = s (alpha, sigma); its derivative in r gives both rates. */
    const double s = (to.alpha * c.alpha + to.sigma * c.sigma) / (c.alpha * c.alpha + c.sigma * c.sigma);
    const double rise = MAX(repath_rise(&c), 1e-6);
    return (FmRepathAt){.t = t,
                        .a = (c.dalpha * to.dsigma - c.dsigma * to.dalpha) / (rise * s),
                        .inverse = 1.0 / s,
                        .b = (to.dalpha * c.sigma - to.dsigma * c.alpha) / rise};
}

/* ---- the graph ---- */

enum { REPATH_T, REPATH_A, REPATH_INVERSE, REPATH_B, REPATH_COLUMNS };

/* An FmExternal: x is only there to give the shape (n, REPATH_COLUMNS). */
static gboolean
repath_value(void *self, size_t n, const double *x, const double *r, double *y)
{
    for (size_t i = 0; i < n; i++) {
        double *row = y + i * REPATH_COLUMNS;

        if (i > 0 && r[i] == r[i - 1]) {
            memcpy(row, row - REPATH_COLUMNS, REPATH_COLUMNS * sizeof *row);
            continue;
        }
        const FmRepathAt at = fm__repath_at(self, r[i]);
        row[REPATH_T] = at.t;
        row[REPATH_A] = at.a;
        row[REPATH_INVERSE] = at.inverse;
        row[REPATH_B] = at.b;
    }
    return TRUE;
}

FmRepathNodes
fm__repath_nodes(const FmRepath *p, FmNode *r)
{
    static const FmExternal external = {.value = repath_value, .thread_safe = TRUE};
    const FmShape shape = {.rows = 1, .ndim = 1, .dim = {REPATH_COLUMNS}};
    FmNode *wide = fm_broadcast(fm_reshape(r, 1, 1, (size_t[]){1}), &shape), *column[REPATH_COLUMNS];

    wide = fm_stop_gradient(fm_external(wide, r, &external, (void *)p));
    for (size_t i = 0; i < REPATH_COLUMNS; i++)
        column[i] = fm_reshape(fm_slice(wide, 0, i, 1), 1, 0, NULL);
    return (FmRepathNodes){column[REPATH_T], column[REPATH_A], column[REPATH_INVERSE], column[REPATH_B]};
}
