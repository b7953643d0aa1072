/* optimizer.h: from gradients to new parameters. */
#ifndef FMCORE_OPTIMIZER_H
#define FMCORE_OPTIMIZER_H

#include <fmcore/array.h>
#include <fmcore/plugin.h>

G_BEGIN_DECLS

#define FM_MAX_MOMENTS 4

/* One block of parameters, in the run's dtype; blocks are independent and may run in parallel. */
typedef struct FmUpdate {
    FmDtype dtype; /* FM_F32 or FM_F64 */
    size_t n;
    void *param;                  /* (n), updated */
    const void *grad;             /* (n), multiplied by grad_scale when read */
    void *moment[FM_MAX_MOMENTS]; /* (n) each, zero before the first step */
    double grad_scale;            /* clipping */
    double lr;                    /* after warm-up and schedule */
    double weight_decay;
    guint64 step; /* 1 for the first */
} FmUpdate;

typedef struct FmOptimizerOps {
    /* required */
    void (*update)(const void *self, const FmUpdate *u);
    int moments; /* state arrays per parameter, 0 .. FM_MAX_MOMENTS */
    double default_lr;
    /* optional */
    void (*clear)(void *self);
} FmOptimizerOps;

/* New parameters and moments of one block from its gradient. Thread-safe for different blocks. */
void fm_optimizer_update(const FmPlugin *optimizer, const FmUpdate *u);
int fm_optimizer_moments(const FmPlugin *optimizer); /* state arrays per parameter */

/* Methods that keep a running mean m (moment[0]) of gradients and v (moment[1]) of their squares:
 *   g = grad_scale grad + penalty param
 *   m = beta1 m + (1 - beta1) g      v = beta2 v + (1 - beta2) g^2
 *   param = keep param - lr / (1 - beta1^step) m / (sqrt(v) / sqrt(1 - beta2^step) + eps) */
typedef struct FmTwoMoments {
    double beta1, beta2, eps;
    double penalty, keep;
} FmTwoMoments;
void fm_update_two_moments(const FmTwoMoments *how, const FmUpdate *u);

G_END_DECLS
#endif
