/* objective.h: the training loss as a graph over nets and path samples. */
#ifndef FMCORE_OBJECTIVE_H
#define FMCORE_OBJECTIVE_H

#include <fmcore/net.h>

G_BEGIN_DECLS

/* What a loss is built from. Inputs appear in the plan only when they are used, and the core
 * fills them: x0, x1, xt, ut (B, dims...), t (B), y labels or NULL. */
typedef struct FmLoss FmLoss;

FmGraph *fm_loss_graph(const FmLoss *loss);                  /* where the loss is built; borrowed */
FmNode *fm_loss_x0(FmLoss *loss);                            /* noise */
FmNode *fm_loss_x1(FmLoss *loss);                            /* data, standardised and dequantised */
FmNode *fm_loss_xt(FmLoss *loss);                            /* point of the path */
FmNode *fm_loss_ut(FmLoss *loss);                            /* conditional velocity */
FmNode *fm_loss_t(FmLoss *loss);                             /* time (B) */
FmNode *fm_loss_coefficient(FmLoss *loss, const char *name); /* (B): "alpha", "dalpha", "sigma",
                                                                "dsigma", "gamma", "dgamma" */

/* What the run's own net gives at (x_t, t), and what it is to be: velocity and u_t, or with
 * --prediction the noise and x0, the data and x1, sigma times the score and -x0. */
FmNode *fm_loss_output(FmLoss *loss);
FmNode *fm_loss_target(FmLoss *loss);

/* v(t, x) of the run's own net ("model") or of another net of the same run: `name` prefixes its
 * weights in the checkpoint ("teacher/..."), `spec` is its plugin ("mlp:width=32"; NULL: as the
 * model). frozen: its parameters get no gradient (they are buffers of the checkpoint). */
FmNode *fm_loss_velocity(FmLoss *loss, const char *name, const char *spec, gboolean frozen, FmNode *x, FmNode *t);

/* z = f(x) and log|det| of the run's net, which must be invertible. */
FmNode *fm_loss_forward(FmLoss *loss, FmNode *x, FmNode **log_det);

typedef struct FmObjectiveOps {
    /* required */
    /* One loss per row: (B). The core takes the weighted mean and differentiates. */
    FmNode *(*loss)(void *self, FmLoss *loss);
    /* optional */
    gboolean needs_invertible; /* TRUE: refused with a sentence for other nets */
    gboolean no_path;          /* TRUE: uses x1 only; source, coupling and path are not sampled */
    const char *prediction;    /* what the net learns: NULL for "v" */
    void (*clear)(void *self);
    /* Before the first step of a fresh run: set weights or buffers of its further nets, such as a
     * teacher's by fm_params_load(). NULL: nothing to set. */
    gboolean (*calibrate)(void *self, FmParams *params, const FmNetInfo *info, GError **error);
} FmObjectiveOps;

/* Build the loss; shape-checked to (B). NULL sets the graph's error. */
FmNode *fm_objective_loss(FmPlugin *objective, FmLoss *loss);
gboolean fm_objective_calibrate(FmPlugin *objective, FmParams *params, const FmNetInfo *info, GError **error);

G_END_DECLS
#endif
