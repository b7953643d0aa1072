/* kl_private.h: between the files of the KL measurement. */
#ifndef FMCORE_CORE_FLOW_KL_PRIVATE_H
#define FMCORE_CORE_FLOW_KL_PRIVATE_H

#include "flow/exact.h"
#include "flow/kl.h"

/* Two flows in one space: x_q = a x_p + b, per dimension. */
typedef struct FmKlPair {
    FmExact *p, *q;
    double *a, *b; /* (D) */
    double log_a;  /* sum of log a */
    double t0, t1;
    FmKlStill still;
    const char *kl_at_1, *bound_at_1; /* as in FmKl */
    gboolean infinite;                /* one side has no smooth density at t = 1 */
} FmKlPair;

gboolean fm__kl_pair_open(FmKlPair *pair, FmFlow *p, FmFlow *q, const FmKlOptions *o, GError **error);
void fm__kl_pair_clear(FmKlPair *pair);

/* Curves and numbers from the fields. */
void fm__kl_statistics(FmKl *kl);
/* The exact members, where both are Gaussian; FALSE only on failure. */
gboolean fm__kl_closed_form(FmKl *kl, const FmKlPair *pair, GError **error);
/* Verdicts of kl against sharp and bound, given the paired standard errors of the slacks. */
void fm__kl_judge(FmKl *kl, double sharp_se, double bound_se);

FmKl *fm__kl_blank(const FmKlPair *pair, const FmKlOptions *o);

#endif
