/* schedule.c: learning rate and EMA decay as functions of the step.
 * Source: cosine, Loshchilov & Hutter 2017, arXiv:1608.03983 (one cycle, no restart); EMA warm-up,
 * TensorFlow's ExponentialMovingAverage(num_updates). */
#include "flow/schedule.h"

#include <math.h>

double
fm__schedule_factor(FmSchedule schedule, guint64 step, guint64 steps, guint64 warmup)
{
    if (step < warmup)
        return (double)(step + 1) / (double)warmup;
    if (schedule == FM_SCHEDULE_CONSTANT || steps <= warmup)
        return 1.0;
    const double done = MIN(1.0, (double)(step - warmup) / (double)(steps - warmup));
    if (schedule == FM_SCHEDULE_LINEAR)
        return 1.0 - done;
    return 0.5 * (1.0 + cos(G_PI * done));
}

double
fm__ema_decay(double decay, guint64 k)
{
    return MIN(decay, (1.0 + (double)k) / (10.0 + (double)k));
}
