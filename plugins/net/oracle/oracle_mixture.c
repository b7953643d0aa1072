/* oracle_mixture.c: the marginal velocity and log-density of a Gaussian mixture under an affine path.
 * With data sum_k w_k N(m_k, s_k^2) and x_t = alpha x1 + sigma x0 + gamma z, component k of p_t is
 *   N(alpha m_k, var_k),  var_k = alpha^2 s_k^2 + sigma^2 + gamma^2,
 * and the velocity is the conditional mean of u_t, by linear regression within a component:
 *   v = sum_k r_k [ dalpha m_k + (alpha dalpha s_k^2 + sigma dsigma + gamma dgamma) / var_k
 *                   (x - alpha m_k) ],   r_k = responsibility of k at x. */
#include "oracle.h"

#include <math.h>

FmNode *
oracle_column(FmNode *column, int which)
{
    return fm_slice(column, 0, (size_t)which, 1);
}

FmNode *
oracle_wide(FmNode *column, int which)
{
    return fm_reshape(oracle_column(column, which), 1, 2, (size_t[]){1, 1});
}

/* s_k^2 in the model's units, in the smallest shape that broadcasts to (K, D): (1, 1), (1, D) or
 * (K, D). */
static FmNode *
variances(FmGraph *graph, const FmMixture *m, const double *scale, FmShape *shape)
{
    g_autofree double *v = g_new(double, m->K * m->D);
    gboolean same_d = TRUE, same_k = TRUE;

    for (size_t i = 0; i < m->K * m->D; i++) {
        v[i] = m->sd[i] / (scale ? scale[i % m->D] : 1.0);
        v[i] *= v[i];
        same_d = same_d && v[i] == v[0];
        same_k = same_k && v[i] == v[i % m->D];
    }
    *shape = (FmShape){.ndim = 2, .dim = {same_k ? 1 : m->K, same_d ? 1 : m->D}};
    return fm_constant(graph, 2, shape->dim, v);
}

static FmNode *
means(FmGraph *graph, const FmMixture *m, const FmNetInfo *info)
{
    g_autofree double *v = g_new(double, m->K * m->D);

    for (size_t i = 0; i < m->K * m->D; i++)
        v[i] = (m->mean[i] - (info->shift ? info->shift[i % m->D] : 0.0)) / (info->scale ? info->scale[i % m->D] : 1.0);
    return fm_constant(graph, 2, (size_t[]){m->K, m->D}, v);
}

/* With v_k affine of slope c_k and g_k = -(x - alpha m_k) / var_k the score of component k,
 * div v = sum_k r_k [ sum_d c_kd + g_k . (v_k - v) ]. `steep` is -g_k; slope repeats `times` times. */
static FmNode *
divergence(FmNode *r, FmNode *slope, FmNode *steep, FmNode *v, FmNode *mean_v, double times)
{
    const FmShape *s = fm_node_shape(mean_v);
    FmNode *apart = fm_sub(v, fm_reshape(mean_v, 1, 2, (size_t[]){1, s ? s->dim[0] : 0}));
    FmNode *trace = fm_affine(fm_sum(slope, 2u, TRUE), times, 0.0); /* (B, K, 1) or (B, 1, 1) */
    FmNode *turn = fm_sum(fm_mul(steep, apart), 2u, TRUE);

    return fm_sum(fm_mul(r, fm_sub(trace, turn)), 3u, FALSE);
}

FmNode *
oracle_mixture(FmGraph *graph, const FmMixture *m, const FmNetInfo *info, FmNode *x, FmNode *column, FmNode **log_p,
               FmNode **div)
{
    const size_t K = m->K, D = m->D;
    g_autofree double *log_w = g_new(double, K);
    FmShape s_shape;
    FmNode *mean = means(graph, m, info), *s2 = variances(graph, m, info->scale, &s_shape);

    for (size_t k = 0; k < K; k++)
        log_w[k] = log(m->weight[k]);
    /* (B, K, D), or fewer where the standard deviations agree */
    FmNode *var = fm_add(fm_mul(oracle_wide(column, ORACLE_ALPHA2), s2), oracle_wide(column, ORACLE_VAR));
    FmNode *inverse = fm_recip(var);
    FmNode *diff = fm_sub(fm_reshape(x, 1, 2, (size_t[]){1, D}), fm_mul(oracle_wide(column, ORACLE_ALPHA), mean));
    FmNode *square = fm_sum(fm_mul(fm_square(diff), inverse), 2u, FALSE); /* (B, K) */
    FmNode *log_var =
        fm_affine(fm_sum(fm_log(var), 2u, FALSE), s_shape.dim[1] == D ? 1.0 : (double)D, 0.0); /* (B, K) or (B, 1) */
    FmNode *l = fm_add(fm_affine(fm_add(square, log_var), -0.5, 0.0), fm_constant(graph, 1, &K, log_w));
    FmNode *top = fm_stop_gradient(fm_max(l, 1u, TRUE));
    FmNode *e = fm_exp(fm_sub(l, top)), *sum = fm_sum(e, 1u, TRUE);
    FmNode *slope =
        fm_mul(fm_add(fm_mul(oracle_wide(column, ORACLE_ALPHA_DALPHA), s2), oracle_wide(column, ORACLE_COV)), inverse);
    FmNode *v = fm_add(fm_mul(oracle_wide(column, ORACLE_DALPHA), mean), fm_mul(slope, diff));
    FmNode *r = fm_reshape(fm_div(e, sum), 1, 2, (size_t[]){K, 1});

    if (log_p)
        *log_p = fm_affine(fm_reshape(fm_add(top, fm_log(sum)), 1, 0, NULL), 1.0, -0.5 * (double)D * log(2.0 * G_PI));
    FmNode *mean_v = fm_sum(fm_mul(r, v), 1u, FALSE);
    if (div)
        *div = divergence(r, slope, fm_mul(diff, inverse), v, mean_v, s_shape.dim[1] == D ? 1.0 : (double)D);
    return mean_v;
}
