/* oracle_data.c: the marginal velocity and log-density of a finite data set under an affine path: a
 * mixture of N points m_i of equal weight and no width, in blocks of rows by matrix products with a
 * running maximum (Milakov & Gimelshein 2018, arXiv:1805.02867). With var = sigma^2 + gamma^2
 *   l_i = (alpha x . m_i - alpha^2 |m_i|^2 / 2) / var,   r = softmax(l),   x1 = sum_i r_i m_i,
 *   log p_t = logsumexp(l) - log N - |x|^2 / (2 var) - D/2 log(2 pi var),
 *   v = dalpha x1 + c (x - alpha x1),  c = (sigma dsigma + gamma dgamma) / var,
 *   div v = c D + (dalpha - c alpha) alpha / var (sum_i r_i |m_i|^2 - |x1|^2). */
#include "oracle.h"

#include <fmcore/dataset.h>
#include <math.h>

enum { BLOCK = 2048 };

/* Running sums over the blocks, each (B, ...). */
typedef struct Blocks {
    FmNode *top, *sum, *mean, *square; /* (B, 1), (B, 1), (B, D), (B, 1) */
} Blocks;

/* Rows first .. first + n - 1 in the model's units as (n, D), and their squares (n, 1). */
static gboolean
read_block(FmGraph *graph, const FmNetInfo *info, size_t first, size_t n, FmNode **rows, FmNode **square)
{
    const size_t D = info->data->D;
    g_autofree size_t *index = g_new(size_t, n);
    g_autofree double *x = g_try_new(double, n *D), *s = g_new0(double, n);
    g_autoptr(GError) error = NULL;

    for (size_t i = 0; i < n; i++)
        index[i] = first + i;
    if (!x || !fm_dataset_read(info->dataset, index, n, x, NULL, &error)) {
        fm_graph_fail(graph, FM_ERROR_DATA, "net 'oracle': %s",
                      error ? error->message : "the data do not fit into memory");
        return FALSE;
    }
    for (size_t i = 0; i < n * D; i++) {
        x[i] = (x[i] - (info->shift ? info->shift[i % D] : 0.0)) / (info->scale ? info->scale[i % D] : 1.0);
        s[i / D] += x[i] * x[i];
    }
    *rows = fm_constant(graph, 2, (size_t[]){n, D}, x);
    *square = fm_constant(graph, 2, (size_t[]){n, 1}, s);
    return TRUE;
}

static void
add_block(Blocks *b, FmNode *x, FmNode *rows, FmNode *square, FmNode *slope, FmNode *half)
{
    FmNode *l = fm_sub(fm_mul(fm_matmul(x, fm_transpose(rows)), slope),
                       fm_mul(fm_reshape(square, 0, 1, fm_node_shape(square)->dim), half)); /* (B, n) */
    FmNode *own = fm_stop_gradient(fm_max(l, 1u, TRUE));
    FmNode *top = b->top ? fm_maximum(b->top, own) : own;
    FmNode *e = fm_exp(fm_sub(l, top));
    FmNode *sum = fm_sum(e, 1u, TRUE), *mean = fm_matmul(e, rows), *sq = fm_matmul(e, square);

    if (b->top) {
        FmNode *shrink = fm_exp(fm_sub(b->top, top));

        sum = fm_add(fm_mul(b->sum, shrink), sum);
        mean = fm_add(fm_mul(b->mean, shrink), mean);
        sq = fm_add(fm_mul(b->square, shrink), sq);
    }
    *b = (Blocks){top, sum, mean, sq};
}

FmNode *
oracle_finite(FmGraph *graph, const FmNetInfo *info, FmNode *x, FmNode *column, FmNode **log_p, FmNode **div)
{
    const size_t N = info->data->rows, D = info->data->D;
    FmNode *alpha = oracle_column(column, ORACLE_ALPHA), *var = oracle_column(column, ORACLE_VAR);
    FmNode *inverse = fm_recip(var), *slope = fm_mul(alpha, inverse);
    FmNode *half = fm_affine(fm_mul(oracle_column(column, ORACLE_ALPHA2), inverse), 0.5, 0.0);
    Blocks b = {NULL, NULL, NULL, NULL};

    for (size_t first = 0; first < N; first += BLOCK) {
        FmNode *rows = NULL, *square = NULL;

        if (!read_block(graph, info, first, MIN((size_t)BLOCK, N - first), &rows, &square))
            return NULL;
        add_block(&b, x, rows, square, slope, half);
    }
    FmNode *x1 = fm_div(b.mean, b.sum), *c = fm_mul(oracle_column(column, ORACLE_COV), inverse);
    FmNode *dalpha = oracle_column(column, ORACLE_DALPHA);
    if (log_p) {
        FmNode *own = fm_mul(fm_sum(fm_square(x), 1u, TRUE), fm_affine(inverse, 0.5, 0.0));
        FmNode *width = fm_affine(fm_log(var), 0.5 * (double)D, 0.5 * (double)D * log(2.0 * G_PI) + log((double)N));

        *log_p = fm_reshape(fm_sub(fm_sub(fm_add(b.top, fm_log(b.sum)), own), width), 1, 0, NULL);
    }
    if (div) {
        FmNode *spread = fm_sub(fm_div(b.square, b.sum), fm_sum(fm_square(x1), 1u, TRUE));
        FmNode *gain = fm_mul(fm_sub(dalpha, fm_mul(c, alpha)), slope);

        *div = fm_reshape(fm_add(fm_affine(c, (double)D, 0.0), fm_mul(gain, spread)), 1, 0, NULL);
    }
    return fm_add(fm_mul(dalpha, x1), fm_mul(c, fm_sub(x, fm_mul(alpha, x1))));
}
