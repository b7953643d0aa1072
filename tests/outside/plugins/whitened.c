/* whitened: a net with buffers of its own, built outside the tree. `norm.mean` and `norm.sd` are set
 * by calibrate from the first batch, `frequencies` are random and fixed; all are saved with the weights.
 *   h = [(x - mean) / sd, t, cos(t f), sin(t f)] */
#include <fmcore/fmcore.h>
#include <math.h>

enum { FREQUENCIES = 6, WIDTH = 24 };

static FmNode *
whitened_velocity(void *self, FmGraph *graph, const FmNetInfo *info, FmNode *x, FmNode *t, FmNode *y)
{
    const size_t D = info->data->D, F = FREQUENCIES;
    const FmShape shape = *fm_node_shape(x);
    FmNode *mean = fm_buffer(graph, "norm.mean", 1, &D, (FmInit){FM_INIT_CONSTANT, 7.0});
    FmNode *sd = fm_buffer(graph, "norm.sd", 1, &D, (FmInit){FM_INIT_CONSTANT, 7.0});
    FmNode *f = fm_buffer(graph, "frequencies", 1, &F, (FmInit){FM_INIT_NORMAL, 3.0});
    FmNode *flat = fm_reshape(x, shape.rows, 1, &D);
    FmNode *time = fm_reshape(t, fm_node_shape(t)->rows, 1, (const size_t[]){1});
    FmNode *angle = fm_mul(time, f);
    FmNode *parts[] = {fm_div(fm_sub(flat, mean), sd), time, fm_cos(angle), fm_sin(angle)};
    FmNode *h = fm_silu(fm_linear(fm_concat(parts, 4, 0), "layers.0", WIDTH));

    return fm_reshape(fm_linear(h, "layers.1", D), shape.rows, shape.ndim, shape.dim);
}

static void
whitened_set(FmParams *params, const char *name, size_t i, double value)
{
    char *data = fm_params_data(params, fm_params_find(params, name));

    fm_convert(FM_F64, &value, fm_params_dtype(params), data + i * fm_dtype_size(fm_params_dtype(params)), 1);
}

static gboolean
whitened_calibrate(void *self, FmParams *params, const FmNetInfo *info, const double *x, size_t n, GError **error)
{
    const size_t D = info->data->D;

    for (size_t d = 0; d < D; d++) {
        double mean = 0.0, square = 0.0;

        for (size_t i = 0; i < n; i++)
            mean += x[i * D + d] / (double)n;
        for (size_t i = 0; i < n; i++)
            square += (x[i * D + d] - mean) * (x[i * D + d] - mean) / (double)n;
        whitened_set(params, "norm.mean", d, mean);
        whitened_set(params, "norm.sd", d, sqrt(square) + 1e-3);
    }
    return TRUE;
}

static const FmNetOps whitened_ops = {.velocity = whitened_velocity, .calibrate = whitened_calibrate};

FM_PLUGIN_DECLARE(NET, whitened, "whitened", whitened_ops, .summary = "a net that keeps buffers",
                  .source = "a test of fmcore's interfaces");
