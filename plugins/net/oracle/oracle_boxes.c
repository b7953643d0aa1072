/* oracle_boxes.c: the marginal velocity and log-density of a mixture of uniform boxes, sharp
 * (checkerboard) or blurred by normal noise, under an affine path. In each coordinate x1 = b + e g with b
 * uniform on a box of middle c and width W and g normal, so that x = alpha b + S z, z normal,
 *   S^2 = alpha^2 e^2 + s^2,   s^2 = sigma^2 + gamma^2,
 * and z is cut to [m - h/2, m + h/2], of probability P, with
 *   m = (x - alpha c) / S,   h = alpha W / S,   z = m + h xi,   b = c - W xi.
 * By regression of the path's derivative on b and z
 *   v = dalpha E b + (alpha dalpha e^2 + sigma dsigma + gamma dgamma) / S E z.
 * With w = |m| - h/2, where the nearer edge lies:
 *   wide boxes (h > 3) with x inside or near (w < 1) have P = [erf(u/sqrt2) - erf(w/sqrt2)] / 2 and
 *     E z = (phi(w) - phi(u)) / P at both ends, u = |m| + h/2;
 *   else both would cancel, and P = phi(w) int_0^L exp(-w y - y^2 / 2) dy, z = +-(w + y), by Gauss and
 *     Legendre's rule over L = h or less: behind w L + L^2 / 2 = 38 the integrand is below 4e-17 of its
 *     start. It holds at alpha = 0 and at any distance from the box, to 1e-12. */
#include "oracle.h"

#include <fmcore/dataset.h>
#include <math.h>

enum { NODES = 24 };
#define NARROW 3.0 /* h up to which the rule is used */
#define NEAR 1.0   /* w from which it is used for wide boxes, too */
#define SLACK 1.0  /* what is not used is cut off this far behind: no infinity, and no kink at the switch */
#define REACH 76.0 /* w L + L^2 / 2 is half of it */

static FmNode *
at_least(FmNode *x, double least)
{
    return fm_maximum(x, fm_scalar(fm_node_graph(x), least));
}

static FmNode *
at_most(FmNode *x, double most)
{
    return fm_neg(at_least(fm_neg(x), -most));
}

/* exp(-x^2 / 2) / sqrt(2 pi) */
static FmNode *
normal(FmNode *x)
{
    return fm_affine(fm_exp(fm_affine(fm_square(x), -0.5, 0.0)), 1.0 / sqrt(2.0 * G_PI), 0.0);
}

/* What one coordinate of a box says of x, all (B, K, D), for m >= 0. */
typedef struct Cut {
    FmNode *log_p; /* log(P / h) */
    FmNode *z;     /* E z */
    FmNode *y;     /* (E z - w) / h in [0, 1]: how far behind the nearer edge */
} Cut;

/* x inside of a wide box or near to it. */
static Cut
wide_cut(FmNode *w, FmNode *h)
{
    h = at_least(h, NARROW - SLACK);
    w = at_most(w, NEAR + SLACK);
    FmNode *u = fm_add(w, h);
    FmNode *P =
        fm_affine(fm_sub(fm_erf(fm_affine(u, G_SQRT2 / 2, 0.0)), fm_erf(fm_affine(w, G_SQRT2 / 2, 0.0))), 0.5, 0.0);
    FmNode *z = fm_div(fm_sub(normal(w), normal(u)), P);

    return (Cut){fm_sub(fm_log(P), fm_log(h)), z, fm_div(fm_sub(z, w), h)};
}

/* A narrow box, or x far outside. L and h do not carry derivatives in x: L only says where to stop. */
static Cut
far_cut(FmNode *w, FmNode *h, size_t K, size_t D)
{
    FmGraph *graph = fm_node_graph(w);
    double node[NODES], weight[NODES];

    fm_gauss_legendre(NODES, node, weight);
    w = at_least(w, -0.5 * NARROW - SLACK);
    FmNode *far = fm_stop_gradient(w);
    FmNode *reach = fm_affine(fm_recip(fm_add(far, fm_sqrt(fm_affine(fm_square(far), 1.0, REACH)))), REACH, 0.0);
    FmNode *part = at_most(fm_div(reach, at_least(h, 1e-30)), 1.0), *L = fm_mul(part, h); /* L / h, L */
    FmNode *xi = fm_constant(graph, 1, (size_t[]){NODES}, node);
    FmNode *b = fm_constant(graph, 1, (size_t[]){NODES}, weight);
    FmNode *y = fm_mul(fm_reshape(L, 1, 3, (size_t[]){K, D, 1}), xi);
    FmNode *e = fm_mul(y, fm_add(fm_reshape(w, 1, 3, (size_t[]){K, D, 1}), fm_affine(y, 0.5, 0.0)));
    FmNode *f = fm_mul(fm_exp(fm_neg(e)), b);
    FmNode *i0 = fm_sum(f, 4u, FALSE), *mean = fm_div(fm_sum(fm_mul(f, xi), 4u, FALSE), i0);
    FmNode *log_phi = fm_affine(fm_square(w), -0.5, -0.5 * log(2.0 * G_PI));

    return (Cut){fm_add(log_phi, fm_add(fm_log(i0), fm_log(part))), fm_add(w, fm_mul(L, mean)), fm_mul(part, mean)};
}

/* log(P / h), E z and E xi at m, h, each (B, K, D). The sign of m is a constant: |m| would have no
 * second derivative at 0. */
static void
cut_box(FmNode *m, FmNode *h, size_t K, size_t D, FmNode **log_p, FmNode **z, FmNode **xi)
{
    FmGraph *graph = fm_node_graph(m);
    FmNode *sign = fm_select(fm_greater(fm_scalar(graph, 0.0), m), fm_scalar(graph, -1.0), fm_scalar(graph, 1.0));
    FmNode *w = fm_sub(fm_mul(sign, m), fm_affine(h, 0.5, 0.0));
    FmNode *is_wide = fm_mul(fm_greater(h, fm_scalar(graph, NARROW)), fm_greater(fm_scalar(graph, NEAR), w));
    const Cut wide = wide_cut(w, h), far = far_cut(w, h, K, D);

    *log_p = fm_select(is_wide, wide.log_p, far.log_p);
    *z = fm_mul(sign, fm_select(is_wide, wide.z, far.z));
    *xi = fm_mul(sign, fm_affine(fm_select(is_wide, wide.y, far.y), 1.0, -0.5));
}

/* c and W of every box in the model's units, (K, D). */
static void
middles(FmGraph *graph, const FmBoxes *boxes, const FmNetInfo *info, FmNode **c, FmNode **W)
{
    const size_t n = boxes->K * boxes->D;
    g_autofree double *middle = g_new(double, n), *width = g_new(double, n);

    for (size_t i = 0; i < n; i++) {
        const double scale = info->scale ? info->scale[i % boxes->D] : 1.0;
        const double shift = info->shift ? info->shift[i % boxes->D] : 0.0;

        middle[i] = (0.5 * (boxes->lo[i] + boxes->hi[i]) - shift) / scale;
        width[i] = (boxes->hi[i] - boxes->lo[i]) / scale;
    }
    *c = fm_constant(graph, 2, (size_t[]){boxes->K, boxes->D}, middle);
    *W = fm_constant(graph, 2, (size_t[]){boxes->K, boxes->D}, width);
}

/* e^2, the blur's variance in the model's units, (1, D). */
static FmNode *
blur(FmGraph *graph, const FmBoxes *boxes, const FmNetInfo *info)
{
    g_autofree double *v = g_new(double, boxes->D);

    for (size_t d = 0; d < boxes->D; d++)
        v[d] = pow(boxes->sd / (info->scale ? info->scale[d] : 1.0), 2.0);
    return fm_constant(graph, 2, (size_t[]){1, boxes->D}, v);
}

FmNode *
oracle_boxes(FmGraph *graph, const FmBoxes *boxes, const FmNetInfo *info, FmNode *x, FmNode *column, FmNode **log_p)
{
    const size_t K = boxes->K, D = boxes->D;
    g_autofree double *log_w = g_new(double, K);
    FmNode *c, *W, *log_f, *z, *xi;

    for (size_t k = 0; k < K; k++)
        log_w[k] = log(boxes->weight[k]);
    middles(graph, boxes, info, &c, &W);
    FmNode *var = oracle_wide(column, ORACLE_VAR), *cov = oracle_wide(column, ORACLE_COV); /* of S z */
    if (boxes->sd > 0.0) {
        FmNode *e2 = blur(graph, boxes, info);

        var = fm_add(fm_mul(oracle_wide(column, ORACLE_ALPHA2), e2), var);
        cov = fm_add(fm_mul(oracle_wide(column, ORACLE_ALPHA_DALPHA), e2), cov);
    }
    var = at_least(var, 1e-24);
    FmNode *inverse = fm_rsqrt(var);
    FmNode *m =
        fm_mul(fm_sub(fm_reshape(x, 1, 2, (size_t[]){1, D}), fm_mul(oracle_wide(column, ORACLE_ALPHA), c)), inverse);
    FmNode *h = fm_mul(fm_mul(oracle_wide(column, ORACLE_ALPHA), W), inverse);
    cut_box(m, h, K, D, &log_f, &z, &xi);
    log_f = fm_sub(log_f, fm_affine(fm_log(var), 0.5, 0.0));
    FmNode *l = fm_add(fm_sum(log_f, 2u, FALSE), fm_constant(graph, 1, &K, log_w)); /* (B, K) */
    FmNode *top = fm_stop_gradient(fm_max(l, 1u, TRUE));
    FmNode *e = fm_exp(fm_sub(l, top)), *sum = fm_sum(e, 1u, TRUE);
    FmNode *r = fm_reshape(fm_div(e, sum), 1, 2, (size_t[]){K, 1});
    FmNode *v =
        fm_add(fm_mul(oracle_wide(column, ORACLE_DALPHA), fm_sub(c, fm_mul(W, xi))), fm_mul(fm_mul(cov, inverse), z));

    if (log_p)
        *log_p = fm_reshape(fm_add(top, fm_log(sum)), 1, 0, NULL);
    return fm_sum(fm_mul(r, v), 1u, FALSE);
}
