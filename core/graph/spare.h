/* spare.h: work for threads that wait.
 *
 * Between the parts of a step that run in parallel one thread goes on and the others wait; at the end of such a part
 * the quicker wait for the slowest. Items of spare work are taken then, and only then. Nobody waits for one that has
 * not begun: what is left when they are wanted is done by whoever wants it. */
#ifndef FMCORE_CORE_GRAPH_SPARE_H
#define FMCORE_CORE_GRAPH_SPARE_H

#include <glib.h>

/* An item i by thread `thread`, below the number of threads given; no other item runs as the same thread meanwhile. */
typedef void (*FmSpareWork)(void *ctx, int thread, size_t i);

/* Offer n items in the name of ctx, until fm__spare_end(). FALSE: another's are on offer in this process. */
gboolean fm__spare_begin(int threads, size_t n, FmSpareWork work, void *ctx);
/* No item of ctx begins after this, and none runs when it returns. Does nothing where ctx has none on offer. */
void fm__spare_end(void *ctx);

#endif
