/* kl_exact.c: two Gaussians with diagonal covariance that affine fields carry along: KL, eps_t^2, S_t
 * and their integrals in closed form and by Gauss-Legendre quadrature between the grid's times. */
#include "flow/kl_private.h"
#include "flow/quadrature.h"

#include <math.h>

enum { POINTS = 6 }; /* of the rule in one interval of the grid */

typedef struct Closed {
    const FmKlPair *pair;
    size_t D;
    FmExactWorker *p, *q;
    double *mean, *sd, *mean_q, *sd_q; /* (D) in p's units */
    double *x, *v, *w;                 /* (2, D): at the mean and one unit away in every coordinate */
} Closed;

typedef struct ClosedAt {
    double kl, product, eps2, gap2;
} ClosedAt;

static gboolean
closed_gaussians(Closed *c, double t)
{
    const FmRun *p = c->pair->p->flow->run, *q = c->pair->q->flow->run;

    const double at = c->pair->still == FM_KL_END ? c->pair->t1 : t;

    if (c->pair->still == FM_KL_DATA || !fm_net_gaussian(p->plugin[FM_KIND_NET], &p->net_info, t, c->mean, c->sd) ||
        !fm_net_gaussian(q->plugin[FM_KIND_NET], &q->net_info, at, c->mean_q, c->sd_q))
        return FALSE;
    for (size_t d = 0; d < c->D; d++) {
        c->mean_q[d] = (c->mean_q[d] - c->pair->b[d]) / c->pair->a[d];
        c->sd_q[d] /= c->pair->a[d];
    }
    return TRUE;
}

/* The fields are affine and act on each coordinate alone: two points fix them. */
static gboolean
closed_fields(Closed *c, double t)
{
    const FmKlPair *pair = c->pair;
    const size_t D = c->D;

    for (size_t i = 0; i < 2 * D; i++)
        c->x[i] = c->mean[i % D] + (double)(i / D);
    if (!fm__exact_field(pair->p, c->p, 0, 2, c->x, t, NULL, c->v, NULL))
        return FALSE;
    for (size_t i = 0; i < 2 * D; i++)
        c->x[i] = pair->a[i % D] * c->x[i] + pair->b[i % D];
    if (!fm__exact_field(pair->q, c->q, 0, 2, c->x, t, NULL, c->w, NULL))
        return FALSE;
    for (size_t i = 0; i < 2 * D; i++)
        c->w[i] = pair->still == FM_KL_MOVING ? c->w[i] / pair->a[i % D] : 0.0;
    return TRUE;
}

static gboolean
closed_at(Closed *c, double t, ClosedAt *out)
{
    const size_t D = c->D;

    *out = (ClosedAt){0};
    if (!closed_gaussians(c, t) || !closed_fields(c, t))
        return FALSE;
    for (size_t d = 0; d < D; d++) {
        const double vp = c->sd[d] * c->sd[d], vq = c->sd_q[d] * c->sd_q[d];
        const double shift = c->mean[d] - c->mean_q[d];
        /* V - W = e0 + e1 u and s_p - s_q = g0 + g1 u at x = mean + u */
        const double e0 = c->v[d] - c->w[d], e1 = (c->v[D + d] - c->w[D + d]) - e0;
        const double g0 = shift / vq, g1 = 1.0 / vq - 1.0 / vp;

        out->kl += 0.5 * (vp / vq - 1.0 - log(vp / vq)) + 0.5 * shift * shift / vq;
        out->product += e0 * g0 + e1 * g1 * vp;
        out->eps2 += e0 * e0 + e1 * e1 * vp;
        out->gap2 += g0 * g0 + g1 * g1 * vp;
    }
    return TRUE;
}

static gboolean
closed_integrate(FmKl *kl, Closed *c)
{
    double x[POINTS], w[POINTS], sharp = 0, eps2 = 0, gap2 = 0;
    ClosedAt at;

    fm_gauss_legendre(POINTS, x, w);
    for (size_t j = 0; j < kl->T; j++) {
        const double t = kl->t[j], h = j + 1 < kl->T ? kl->t[j + 1] - t : 0.0;

        if (!closed_at(c, t, &at))
            return FALSE;
        kl->exact[j] = at.kl;
        kl->exact_integrand[j] = at.product;
        for (int k = 0; k < POINTS && j + 1 < kl->T; k++) {
            if (!closed_at(c, t + x[k] * h, &at))
                return FALSE;
            sharp += w[k] * h * sqrt(at.eps2 * at.gap2);
            eps2 += w[k] * h * at.eps2;
            gap2 += w[k] * h * at.gap2;
        }
    }
    kl->exact_eps2 = eps2;
    kl->exact_gap2 = gap2;
    kl->exact_sharp = kl->exact[0] + sharp;
    kl->exact_bound = kl->exact[0] + sqrt(eps2 * gap2);
    kl->eps2 = (FmNumber){eps2, 0.0};
    kl->gap2 = (FmNumber){gap2, 0.0};
    kl->sharp = (FmNumber){kl->exact_sharp, 0.0};
    kl->bound = (FmNumber){kl->exact_bound, 0.0};
    kl->kl = (FmNumber){kl->exact[kl->T - 1], 0.0};
    kl->alignment = eps2 * gap2 > 0 ? (kl->kl.value - kl->exact[0]) / sqrt(eps2 * gap2) : NAN;
    return TRUE;
}

gboolean
fm__kl_closed_form(FmKl *kl, const FmKlPair *pair, GError **error)
{
    const size_t D = kl->D;
    g_autofree double *space = g_new(double, 10 * D);
    Closed c = {.pair = pair,
                .D = D,
                .mean = space,
                .sd = space + D,
                .mean_q = space + 2 * D,
                .sd_q = space + 3 * D,
                .x = space + 4 * D,
                .v = space + 6 * D,
                .w = space + 8 * D};

    if (!closed_gaussians(&c, pair->t0))
        return TRUE;
    c.p = fm__exact_worker_new(pair->p, error);
    c.q = c.p != NULL ? fm__exact_worker_new(pair->q, error) : NULL;
    gboolean ok = c.q != NULL;
    if (ok) {
        kl->exact = g_new0(double, kl->T);
        kl->exact_integrand = g_new0(double, kl->T);
        ok = closed_integrate(kl, &c);
        if (!ok)
            g_set_error_literal(error, FM_ERROR, FM_ERROR_DIVERGED, "kl: a closed form could not be evaluated");
    }
    fm__exact_worker_free(c.p);
    fm__exact_worker_free(c.q);
    return ok;
}
