/* loss.h: what an objective builds from, as the trainer sees it. */
#ifndef FMCORE_CORE_FLOW_LOSS_H
#define FMCORE_CORE_FLOW_LOSS_H

#include "flow/prediction.h"

#include <fmcore/objective.h>

/* Inputs are made when the objective asks for them, under the names "x0", "x1", "xt", "ut", "t",
 * "alpha", "dalpha", "sigma", "dsigma", "gamma", "dgamma" and "y"; fm_plan_input_find() tells the
 * trainer which of them a plan reads. */
struct FmLoss {
    FmGraph *graph;           /* borrowed */
    FmPlugin *net;            /* the run's own; borrowed */
    FmNetInfo info;           /* its pointers are borrowed; training is TRUE */
    const FmPredict *predict; /* what the net learns; borrowed; NULL: a velocity */
    GHashTable *others;       /* name to FmPlugin: further nets of the run; owned */
};

/* A loss over `net`, which has been prepared. All arguments outlive it. Owned by the caller. */
FmLoss *fm__loss_new(FmGraph *graph, FmPlugin *net, const FmNetInfo *info);
void fm__loss_free(FmLoss *loss); /* NULL allowed; plans made from the graph do not need it */

G_DEFINE_AUTOPTR_CLEANUP_FUNC(FmLoss, fm__loss_free)

#endif
