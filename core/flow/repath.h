/* repath.h: a flow along another affine path than that on which it was trained, without training.
 * Two paths x_t = alpha x1 + sigma x0 and x'_r = alpha' x1 + sigma' x0 agree up to a factor where their ratios
 * alpha / sigma do: x'_r = s x_t with t = t(r), s = s(r), whatever the coupling of x0 and x1. So
 *   v'(x, r) = (ds/dr / s) x + dt/dr s v(x / s, t).
 * Lipman et al. 2024, arXiv:2412.06264, sec. 4.6; Karras et al. 2022, arXiv:2206.00364. Internal to core. */
#ifndef FMCORE_CORE_FLOW_REPATH_H
#define FMCORE_CORE_FLOW_REPATH_H

#include <fmcore/graph.h>
#include <fmcore/path.h>

/* The path that was trained and the one that is followed; zeros: they are one. */
typedef struct FmRepath {
    FmPlugin *from;     /* owned */
    const FmPlugin *to; /* borrowed */
    double t0, t1;      /* from's interval */
    gboolean rests;     /* t0 was moved to where it has begun to move */
} FmRepath;

/* Fill *p. Refused (FM_ERROR_UNSUPPORTED): paths that are not affine, that have noise of their own or whose
 * alpha / sigma falls somewhere. `from` is taken over on success only. */
gboolean fm__repath_init(FmRepath *p, FmPlugin *from, const FmPlugin *to, GError **error);

/* At time r of the new path: t, the factor a of x, 1 / s and the factor b of v.
 * Where the new path's ratio is beyond those of the old one's interval [t0, t1], t stays at its end and s goes
 * on with sigma' (beginning) or alpha' (end): x'_1 is x_t1 / alpha(t1), the data. A path that rests at its
 * beginning (poly: dt/dr is infinite and v is 0 at t = 0) is used from the time at which it moves: v' is then
 * off by less than 5e-3 for r below 1e-3, samples by less than 1e-6. */
typedef struct FmRepathAt {
    double t, a, inverse, b;
} FmRepathAt;
FmRepathAt fm__repath_at(const FmRepath *p, double r);

/* The four numbers above of every row's time, as nodes (B). p outlives the plans. */
typedef struct FmRepathNodes {
    FmNode *t, *a, *inverse, *b;
} FmRepathNodes;
FmRepathNodes fm__repath_nodes(const FmRepath *p, FmNode *r);

#endif
