/* excess.h: what a training loss is made of. With u the conditional velocity of the path, v its mean
 * given x_t (the exact field) and w a flow's field,
 *   E|w - u|^2 = E|v - u|^2 + E|w - v|^2 :
 * the loss is a part that no net removes and eps^2, which is part of the bound on KL (kl.h).
 * Lipman et al. 2023, arXiv:2210.02747, thm 2. Everything in double, in the model's units, summed over
 * dimensions and integrated over the path's interval. Internal to the program. */
#ifndef FMCORE_CORE_FLOW_EXCESS_H
#define FMCORE_CORE_FLOW_EXCESS_H

#include "flow/finite.h"
#include "flow/mean.h"
#include "flow/run.h"

typedef struct FmExcess {
    size_t n;          /* independent draws of (t, x0, x1) */
    double length;     /* of the path's interval */
    FmNumber loss;     /* E|w - u|^2 */
    FmNumber variance; /* E|v - u|^2 */
    FmNumber excess;   /* their difference, paired */
    FmNumber eps2;     /* E|w - v|^2, the same number with a smaller error */
} FmExcess;

/* `exact` is the exact field in the same data set, path and units. Both flows are borrowed; they may
 * be one. Errors: FM_ERROR_UNSUPPORTED for maps, labels, sources and paths that are not affine. */
gboolean fm_excess(FmFlow *flow, FmFlow *exact, size_t n, guint64 seed, int threads, FmExcess *out, GError **error);

/* The same with the exact field of `rows`, made of the flow's own run: v is what training on these rows converges to.
 * flow NULL: v itself. */
gboolean fm_excess_rows(FmFlow *flow, const FmFinite *rows, size_t n, guint64 seed, int threads, FmExcess *out,
                        GError **error);

/* The loss's floor for a run's training log. */
FmFloor fm_excess_floor(const FmExcess *e);

/* eps^2 from the mean loss of `rows` rows as `cfm` has it, a mean over dimensions and times. */
FmNumber fm_excess_of_loss(const FmFloor *floor, size_t D, double loss, double rows);

#endif
