/* layer_private.h: what the files of layers share. */
#ifndef FMCORE_CORE_GRAPH_LAYER_PRIVATE_H
#define FMCORE_CORE_GRAPH_LAYER_PRIVATE_H

#include <fmcore/layer.h>

/* A parameter called NAME SUFFIX. */
FmNode *fm__layer_param(FmGraph *graph, const char *name, const char *suffix, int ndim, const size_t *dim, FmInit init);

#endif
