/* update.h: from the gradients of a step to new weights, block by block. */
#ifndef FMCORE_CORE_FLOW_UPDATE_H
#define FMCORE_CORE_FLOW_UPDATE_H

#include "flow/state.h"

typedef struct FmUpdater FmUpdater;

/* run and state are borrowed and outlive the updater. */
FmUpdater *fm__updater_new(FmRun *run, FmTrainState *state);
void fm__updater_free(FmUpdater *updater); /* NULL allowed */

/* `param` is trained by the gradient at `grad`, read after each step; NULL: it is zero. */
void fm__updater_add(FmUpdater *updater, const FmParam *param, const void *grad);

/* Euclidean norm of all gradients. */
double fm__updater_norm(FmUpdater *updater);
/* One step of the optimizer as `how` says (without pointers), then the moving average: average
 * += (1 - decay) (weight - average), where the run keeps one. */
void fm__updater_apply(FmUpdater *updater, const FmUpdate *how, double decay);

#endif
