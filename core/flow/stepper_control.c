/* stepper_control.c: how large the first step and the next step are.
 *
 * pi: factor = 0.9 err^-(1/k - 0.75 b) err_prev^b, b = 0.2 / k, k = 1 + the lower of the two orders
 *     of the pair, within [0.2, 10]; no growth right after a rejection (Hairer & Wanner, Solving
 *     Ordinary Differential Equations II, sec. IV.2, and their code DOPRI5).
 * i:  factor = min(10, max(0.9 err^-1/order, 0.2, or 1 when err < 1)), torchdiffeq's
 *     `_optimal_step_size`.
 * First step: torchdiffeq's `_select_initial_step`, i.e. Hairer, Norsett & Wanner I, sec. II.4. */
#include "flow/stepper.h"

#include <math.h>

static const double control_safety = 0.9, control_min = 0.2, control_max = 10.0;

double
fm__step_factor(int control, int order, int k, double err, double err_prev, gboolean was_rejected)
{
    double factor, b = 0.2 / k;

    if (!isfinite(err))
        return control_min;
    if (control == 1) {
        if (err == 0.0)
            return control_max;
        factor = MAX(control_safety / pow(err, 1.0 / order), err < 1.0 ? 1.0 : control_min);
        return MIN(factor, control_max);
    }
    err = MAX(err, 1e-10);
    if (err > 1.0) /* rejected: the history says nothing about this step */
        return CLAMP(control_safety * pow(err, -1.0 / k), control_min, control_safety);
    factor = control_safety * pow(err, -(1.0 / k - 0.75 * b)) * pow(MAX(err_prev, 1e-4), b);
    return CLAMP(factor, control_min, was_rejected ? 1.0 : control_max);
}

/* Root mean squares from per-row sums of squares; batch stepping: of all rows together. */
static void
control_rms(FmStepper *s, double *sum)
{
    double total = 0.0;

    for (size_t i = 0; i < s->m; i++) {
        total += sum[i];
        sum[i] = sqrt(sum[i] / s->width);
    }
    if (s->uniform)
        for (size_t i = 0; i < s->m; i++)
            sum[i] = sqrt(total / ((double)s->width * s->m));
}

gboolean
fm__stepper_first(FmStepper *s)
{
    const FmAdaptiveOptions *o = s->adaptive;
    const size_t D = s->p->D;
    const double exponent = 1.0 / s->tab->order, span = fabs(s->p->t1 - s->p->t0);
    double *sum = (double *)s->pick; /* (n) scratch */

    /* d0 into err, d1 into err_prev, h0 into h */
    for (size_t i = 0; i < s->m; i++)
        sum[i] = s->kernels->norm(s->width, s->x + i * s->row_bytes, NULL, s->x + i * s->row_bytes,
                                  o->rtol, o->atol);
    control_rms(s, sum);
    for (size_t i = 0; i < s->m; i++)
        s->rows[i].err = sum[i];
    for (size_t i = 0; i < s->m; i++)
        sum[i] = s->kernels->norm(s->width, s->k[0] + i * s->row_bytes, NULL,
                                  s->x + i * s->row_bytes, o->rtol, o->atol);
    control_rms(s, sum);
    for (size_t i = 0; i < s->m; i++) {
        FmStepRow *r = &s->rows[i];
        const void *k = s->k[0] + i * s->row_bytes;
        double c;

        r->err_prev = sum[i];
        r->h = r->err < 1e-5 || r->err_prev < 1e-5 ? 1e-6 : 0.01 * r->err / r->err_prev;
        r->h = MIN(r->h, span); /* the field may not exist beyond t1 */
        c = s->dir * r->h;
        s->kernels->combine(D, s->y + i * s->row_bytes, s->x + i * s->row_bytes, 1, &c, &k);
        s->t_stage[i] = r->t + c;
    }
    if (!fm__stepper_eval(s, s->y, 1))
        return FALSE;
    for (size_t i = 0; i < s->m; i++)
        sum[i] = s->kernels->norm(s->width, s->k[1] + i * s->row_bytes, s->k[0] + i * s->row_bytes,
                                  s->x + i * s->row_bytes, o->rtol, o->atol);
    control_rms(s, sum);
    for (size_t i = 0; i < s->m; i++) {
        FmStepRow *r = &s->rows[i];
        const double d1 = r->err_prev, d2 = sum[i] / r->h;
        const double h1 =
            d1 <= 1e-15 && d2 <= 1e-15 ? MAX(1e-6, r->h * 1e-3) : pow(0.01 / MAX(d1, d2), exponent);

        r->h = isfinite(h1) && h1 > 0.0 ? MIN(100.0 * r->h, h1) : r->h;
        r->h = CLAMP(r->h, MIN(o->step_min, span), span);
        r->err_prev = 1.0;
    }
    return TRUE;
}
