/* oracle_perturb.c: a known error on a known field, so that eps^2 = E|v - w|^2 is set and not
 * estimated: shift adds a constant to every coordinate (eps^2 = D shift^2) and noise adds a smooth
 * field of constant length: pairs sqrt(2) (cos psi, sin psi), psi = omega . x + phi (eps^2 = D noise^2). */
#include "oracle.h"

#include <math.h>

gboolean
oracle_is_perturbed(const Oracle *self)
{
    return !oracle_function_is(&self->f_scale, 1.0) || !oracle_function_is(&self->f_shift, 0.0) ||
           !oracle_function_is(&self->f_rotate, 0.0) || !oracle_function_is(&self->f_noise, 0.0);
}

/* The first two coordinates turned by the angle of column ROTATE. */
static FmNode *
rotated(FmNode *v, FmNode *column, size_t D)
{
    FmNode *angle = oracle_column(column, ORACLE_ROTATE);
    FmNode *c = fm_cos(angle), *s = fm_sin(angle);
    FmNode *v0 = fm_slice(v, 0, 0, 1), *v1 = fm_slice(v, 0, 1, 1);
    FmNode *parts[3] = {fm_sub(fm_mul(c, v0), fm_mul(s, v1)), fm_add(fm_mul(s, v0), fm_mul(c, v1)),
                        D > 2 ? fm_slice(v, 0, 2, D - 2) : NULL};

    return fm_concat(parts, D > 2 ? 3 : 2, 0);
}

/* (B, D) with |n|^2 = D everywhere; an odd last coordinate is 1. */
static FmNode *
unit_noise(FmGraph *graph, FmNode *x, size_t D)
{
    const size_t P = D / 2;
    const FmKey key = {.seed = 1, .stream = FM_STREAM_USER};
    const double one = 1.0;
    g_autofree double *omega = g_new(double, MAX(P, 1) * D), *phi = g_new(double, MAX(P, 1));
    FmNode *parts[3],
        *last = fm_broadcast(fm_constant(graph, 1, (size_t[]){1}, &one), &(FmShape){.rows = 1, .ndim = 1, .dim = {1}});

    if (P == 0)
        return last;
    fm_fill_normal_f64(key, 0, D, P, omega); /* (D, P) */
    fm_fill_uniform_f64(key, D, 1, P, phi);
    for (size_t i = 0; i < P; i++)
        phi[i] *= 2.0 * G_PI;
    FmNode *psi = fm_add(fm_matmul(x, fm_constant(graph, 2, (size_t[]){D, P}, omega)), fm_constant(graph, 1, &P, phi));
    parts[0] = fm_affine(fm_cos(psi), G_SQRT2, 0.0);
    parts[1] = fm_affine(fm_sin(psi), G_SQRT2, 0.0);
    parts[2] = last;
    return fm_concat(parts, D % 2 ? 3 : 2, 0);
}

FmNode *
oracle_perturb(const Oracle *self, FmGraph *graph, FmNode *x, FmNode *column, FmNode *v)
{
    const size_t D = x ? fm_node_shape(x)->dim[0] : 0;

    if (!oracle_function_is(&self->f_scale, 1.0))
        v = fm_mul(v, oracle_column(column, ORACLE_SCALE));
    if (!oracle_function_is(&self->f_rotate, 0.0))
        v = rotated(v, column, D);
    if (!oracle_function_is(&self->f_shift, 0.0))
        v = fm_add(v, oracle_column(column, ORACLE_SHIFT));
    if (!oracle_function_is(&self->f_noise, 0.0))
        v = fm_add(v, fm_mul(unit_noise(graph, x, D), oracle_column(column, ORACLE_NOISE)));
    return v;
}
