/* feed.h: fills the inputs of a training plan, tile by tile, from counters alone. */
#ifndef FMCORE_CORE_FLOW_FEED_H
#define FMCORE_CORE_FLOW_FEED_H

#include "flow/run.h"

typedef struct FmFeeder FmFeeder;

/* A feeder for batches of B rows into `plan`, with scratch for `threads` workers. */
FmFeeder *fm__feeder_new(FmRun *run, const FmPlan *plan, size_t B, int threads, GError **error);
void fm__feeder_free(FmFeeder *feeder); /* NULL allowed */

/* Prepare step `step`: couplings that look at the whole batch choose their pairs here, for
 * fm__feeder_ahead() steps at once. From then on threads that wait make what they can of the step after it, until
 * fm__feeder_wait(), fm__feeder_begin(), fm__feeder_ahead_seconds() or fm__feeder_free(). */
gboolean fm__feeder_begin(FmFeeder *feeder, guint64 step, GError **error);
size_t fm__feeder_ahead(const FmFeeder *feeder);
/* No thread works on the step ahead when this returns. */
void fm__feeder_wait(FmFeeder *feeder);
/* Seconds that threads spent on steps ahead since they were reset. */
double fm__feeder_ahead_seconds(FmFeeder *feeder, gboolean reset);
/* An FmFeed; ctx is the feeder. */
void fm__feeder_tile(void *ctx, int worker, guint64 row0, size_t n, void *const *in);
/* TRUE where the data are images whose own option `flip` asks for mirroring at random, which the feeder does. */
gboolean fm__feed_flips(const FmRun *run);
/* What went wrong in a worker since fm__feeder_begin(). */
gboolean fm__feeder_ok(FmFeeder *feeder, GError **error);

#endif
