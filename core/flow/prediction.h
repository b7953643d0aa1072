/* prediction.h: nets that learn the score, the noise or the data instead of the velocity. */
#ifndef FMCORE_CORE_FLOW_PREDICTION_H
#define FMCORE_CORE_FLOW_PREDICTION_H

#include <fmcore/net.h>
#include <fmcore/path.h>

typedef enum FmPrediction {
    FM_PREDICT_V,     /* u_t */
    FM_PREDICT_SCORE, /* grad log p_t(x), for a Gaussian source */
    FM_PREDICT_EPS,   /* x0 */
    FM_PREDICT_X1     /* x1 */
} FmPrediction;

/* What a net learns, and the affine path by which it becomes a velocity; zeros: a velocity. */
typedef struct FmPredict {
    FmPrediction what;
    const FmPlugin *path; /* borrowed */
    double t0, t1;        /* where the conversion is regular */
} FmPredict;

/* Fill *p, or say why this net, path or source does not allow it (FM_ERROR_UNSUPPORTED). */
gboolean fm__predict_init(FmPredict *p, FmPrediction what, const FmPlugin *net, const FmPlugin *path,
                          gboolean own_source, GError **error);

/* v = a(t) x + b(t) q at one time. */
void fm__predict_coefficients(const FmPredict *p, double t, double *a, double *b);

/* The velocity of a net whose output is q at (x, t); p outlives the plans. NULL passes. */
FmNode *fm__predict_velocity(const FmPredict *p, FmNode *q, FmNode *x, FmNode *t);

#endif
