/* features_private.h: the object that both sorts of feature spaces fill. */
#ifndef FMCORE_CORE_FLOW_FEATURES_PRIVATE_H
#define FMCORE_CORE_FLOW_FEATURES_PRIVATE_H

#include "flow/run.h"

#include <fmcore/features.h>

struct FmFeatures {
    size_t n_in, n_out;
    FmDtype dtype;
    int threads;
    double time;
    FmRun *run;       /* owned; NULL: a stack of layers */
    FmParams *params; /* owned; NULL: those of the run */
    FmPlan *plan;
    FmExec *exec;
    char *name, *digest;
    int in_x, in_t, in_y; /* positions among the plan's inputs; -1: not used */
};

/* The plan of `node`, averaged over all axes but the last, with the weights of `f`; name and sizes set. */
gboolean fm__features_compile(FmFeatures *f, FmGraph *graph, FmNode *node, FmPlugin *backend, int threads,
                              GError **error);

#endif
