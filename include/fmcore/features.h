/* features.h: a named map from rows of data to features, for distances between distributions. */
#ifndef FMCORE_FEATURES_H
#define FMCORE_FEATURES_H

#include <fmcore/error.h>
#include <fmcore/option.h>
#include <fmcore/random.h>

G_BEGIN_DECLS

typedef struct FmFeatures FmFeatures;

/* Activations inside the net of a run, in the run's dtype.
 * layer   the linear or convolutional layer (the name of its weight without ".weight") whose input
 *         is the feature, averaged over positions or tokens; NULL: of the layers with the fewest
 *         positions the last: the input of the last layer of an mlp, the coarsest level of a U-Net
 * time    in [0, 1]: the net sees x_t of its own path; at 1 that is x and no noise is drawn
 * Invertible nets: layers of the map from data to noise, `time` must be 1. A net with classes is
 * asked without one. Errors: those of opening a run; FM_ERROR_OPTION for a layer that is not there,
 * with the names of some that are. The caller owns the result. */
FmFeatures *fm_features_run(const char *dir, const char *layer, double time, int threads, GError **error);

/* Activations of a classifier, or any chain of layers, whose weights lie in a safetensors file under
 * PyTorch's names and layouts; in float, or in double when all weights are double.
 * stack   words in order of application, the output of the last is the feature:
 *           NAME[:stride=N][:pad=N]   the file's NAME.weight and, if there, NAME.bias: linear (2 axes)
 *                                     or convolution (4 axes, square); with NAME.running_mean: batch
 *                                     normalisation as in evaluation (eps 1e-5)
 *           relu silu tanh gelu selu elu softplus
 *           maxpoolN avgpoolN         N x N blocks without overlap; what does not fill one is left out
 *           mean                      over all positions
 *           flatten                   in the order (C, H, W), as PyTorch does
 *           normalize[:mean=R][:std=R]
 *         NULL: the file's metadata "stack", else, when all weights are linear layers, these in the
 *         file's order of names with ReLU between them, without the last
 * shape   (H, W, C) of a row, n_shape 3; n_shape 0: square images, when the first layer convolves
 * D       values of a row
 * Errors: FM_ERROR_FILE, FM_ERROR_DATA, FM_ERROR_OPTION for a word that is none, FM_ERROR_SHAPE. */
FmFeatures *fm_features_stack(const char *file, const char *stack, const int *shape, size_t n_shape, size_t D,
                              int threads, GError **error);
void fm_features_free(FmFeatures *features); /* NULL allowed */

size_t fm_features_in(const FmFeatures *features);        /* values of a row of data */
size_t fm_features_out(const FmFeatures *features);       /* values of its features */
const char *fm_features_name(const FmFeatures *features); /* "input of 'layers.4', t = 1"; borrowed */
/* sha256 of the weights' bytes in name order, hex; borrowed. */
const char *fm_features_digest(const FmFeatures *features);

/* Features y (n, out) of rows x (n, in) in the data's own units; `key`: of the noise at time < 1,
 * one row per row. Same bytes for any number of threads. One call at a time. */
gboolean fm_features_eval(FmFeatures *features, size_t n, const double *x, FmKey key, double *y, GError **error);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(FmFeatures, fm_features_free)

G_END_DECLS
#endif
