/* oracle_boxes.c: the marginal velocity and log-density of a mixture of uniform boxes under an affine
 * path (checkerboard). In each coordinate, with x = alpha x1 + s z and x1 uniform on [lo, hi] of
 * middle c and width W, z is a normal cut to [m - h/2, m + h/2] with
 *   m = (x - alpha c) / s,   h = alpha W / s,
 * of probability P. Write z = m + h xi: then x1 = c - W xi, so one number, E xi in [-1/2, 1/2], gives
 *   E x1 = c - W E xi,   E z = m + h E xi,   v = dalpha E x1 + ds E z.
 * Wide boxes (h > 3) have P = [erf(u/sqrt2) - erf(w/sqrt2)] / 2 and E z = (phi(w) - phi(u)) / P at the
 * ends u, w. Narrow ones would cancel and take P = h phi(m) int exp(-m h xi - h^2 xi^2 / 2) dxi by
 * Gauss and Legendre's rule, which also holds at alpha = 0. Beyond about 7 s outside of all boxes erf
 * has no digits left and the field is only finite. */
#include "oracle.h"

#include <math.h>

enum { NODES = 24 };
#define NARROW 3.0 /* h below which the rule is used */
#define SMALLEST 1e-30 /* of P */

/* Nodes in [-1/2, 1/2] and weights that sum to 1, by Newton's iteration on the Legendre polynomial. */
static void
legendre(double *node, double *weight)
{
    for (int i = 0; i < NODES; i++) {
        double x = cos(G_PI * (i + 0.75) / (NODES + 0.5)), slope = 1.0;

        for (int it = 0; it < 50; it++) {
            double p0 = 1.0, p1 = x;

            for (int k = 2; k <= NODES; k++) {
                const double p2 = ((2 * k - 1) * x * p1 - (k - 1) * p0) / k;

                p0 = p1;
                p1 = p2;
            }
            slope = NODES * (x * p1 - p0) / (x * x - 1.0);
            x -= p1 / slope;
        }
        node[i] = 0.5 * x;
        weight[i] = 1.0 / ((1.0 - x * x) * slope * slope);
    }
}

static FmNode *
smaller(FmNode *x, double most)
{
    return fm_neg(fm_maximum(fm_neg(x), fm_scalar(fm_node_graph(x), -most)));
}

/* exp(-x^2 / 2) / sqrt(2 pi) */
static FmNode *
normal(FmNode *x)
{
    return fm_affine(fm_exp(fm_affine(fm_square(x), -0.5, 0.0)), 1.0 / sqrt(2.0 * G_PI), 0.0);
}

/* E xi and log(P / h), (B, K, D), of wide boxes; h is at least NARROW. */
static FmNode *
wide_box(FmNode *m, FmNode *h, FmNode **log_p)
{
    FmGraph *graph = fm_node_graph(m);
    FmNode *u = fm_add(m, fm_affine(h, 0.5, 0.0)), *w = fm_sub(m, fm_affine(h, 0.5, 0.0));
    FmNode *P = fm_sub(fm_erf(fm_affine(u, G_SQRT2 / 2, 0.0)), fm_erf(fm_affine(w, G_SQRT2 / 2, 0.0)));

    P = fm_maximum(fm_affine(P, 0.5, 0.0), fm_scalar(graph, SMALLEST));
    *log_p = fm_sub(fm_log(P), fm_log(h));
    return fm_div(fm_sub(fm_div(fm_sub(normal(w), normal(u)), P), m), h);
}

/* The same of narrow boxes; h is at most NARROW. */
static FmNode *
narrow_box(FmNode *m, FmNode *h, size_t K, size_t D, FmNode **log_p)
{
    FmGraph *graph = fm_node_graph(m);
    double node[NODES], weight[NODES];

    legendre(node, weight);
    FmNode *xi = fm_constant(graph, 1, (size_t[]){NODES}, node);
    FmNode *b = fm_constant(graph, 1, (size_t[]){NODES}, weight);
    FmNode *m4 = fm_reshape(m, 1, 3, (size_t[]){K, D, 1}), *h4 = fm_reshape(h, 1, 3, (size_t[]){K, D, 1});
    FmNode *hx = fm_mul(h4, xi);
    FmNode *e = fm_neg(fm_mul(hx, fm_add(m4, fm_affine(hx, 0.5, 0.0))));
    FmNode *top = fm_stop_gradient(fm_max(e, 4u, TRUE));
    FmNode *f = fm_mul(fm_exp(fm_sub(e, top)), b);
    FmNode *i0 = fm_sum(f, 4u, FALSE), *i1 = fm_sum(fm_mul(f, xi), 4u, FALSE);

    *log_p = fm_add(fm_affine(fm_square(m), -0.5, -0.5 * log(2.0 * G_PI)),
                    fm_add(fm_log(i0), fm_reshape(top, 1, 2, (size_t[]){K, D})));
    return fm_div(i1, i0);
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

FmNode *
oracle_boxes(FmGraph *graph, const FmBoxes *boxes, const FmNetInfo *info, FmNode *x, FmNode *column,
             FmNode **log_p)
{
    const size_t K = boxes->K, D = boxes->D;
    g_autofree double *log_w = g_new(double, K);
    FmNode *c, *W, *log_narrow, *log_wide;

    for (size_t k = 0; k < K; k++)
        log_w[k] = log(boxes->weight[k]);
    middles(graph, boxes, info, &c, &W);
    FmNode *var = fm_maximum(oracle_wide(column, ORACLE_VAR), fm_scalar(graph, 1e-24));
    FmNode *inverse = fm_rsqrt(var);
    FmNode *m = fm_mul(fm_sub(fm_reshape(x, 1, 2, (size_t[]){1, D}),
                              fm_mul(oracle_wide(column, ORACLE_ALPHA), c)), inverse);
    FmNode *h = fm_mul(fm_mul(oracle_wide(column, ORACLE_ALPHA), W), inverse);
    FmNode *is_wide = fm_greater(h, fm_scalar(graph, NARROW));
    FmNode *xi_narrow = narrow_box(m, smaller(h, NARROW), K, D, &log_narrow);
    FmNode *xi_wide = wide_box(m, fm_maximum(h, fm_scalar(graph, NARROW)), &log_wide);
    FmNode *xi = fm_select(is_wide, xi_wide, xi_narrow);
    FmNode *log_f = fm_sub(fm_select(is_wide, log_wide, log_narrow), fm_affine(fm_log(var), 0.5, 0.0));
    FmNode *l = fm_add(fm_sum(log_f, 2u, FALSE), fm_constant(graph, 1, &K, log_w)); /* (B, K) */
    FmNode *top = fm_stop_gradient(fm_max(l, 1u, TRUE));
    FmNode *e = fm_exp(fm_sub(l, top)), *sum = fm_sum(e, 1u, TRUE);
    FmNode *r = fm_reshape(fm_div(e, sum), 1, 2, (size_t[]){K, 1});
    FmNode *x1 = fm_sub(c, fm_mul(W, xi)), *z = fm_add(m, fm_mul(h, xi));
    FmNode *v = fm_add(fm_mul(oracle_wide(column, ORACLE_DALPHA), x1),
                       fm_mul(fm_mul(oracle_wide(column, ORACLE_COV), inverse), z));

    if (log_p)
        *log_p = fm_reshape(fm_add(top, fm_log(sum)), 1, 0, NULL);
    return fm_sum(fm_mul(r, v), 1u, FALSE);
}
