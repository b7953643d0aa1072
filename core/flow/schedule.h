/* schedule.h: learning rate and EMA decay as functions of the step. */
#ifndef FMCORE_CORE_FLOW_SCHEDULE_H
#define FMCORE_CORE_FLOW_SCHEDULE_H

#include "flow/run.h"

/* The factor of the learning rate at step 0 .. steps - 1: rises linearly over the first `warmup`
 * steps ((step + 1) / warmup), then stays (constant) or falls to 0 at `steps` along half a cosine
 * or a line. In (0, 1] for step < steps. */
double fm__schedule_factor(FmSchedule schedule, guint64 step, guint64 steps, guint64 warmup);

/* Decay of the moving average at its k-th update, k = 0, 1, ...: min(decay, (1 + k) / (10 + k)),
 * so that a short run is not held at its first weights. */
double fm__ema_decay(double decay, guint64 k);

#endif
