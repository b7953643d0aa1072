/* net.h: the velocity v(t, x[, y]) as a graph; the core derives everything else. */
#ifndef FMCORE_NET_H
#define FMCORE_NET_H

#include <fmcore/dataset.h>
#include <fmcore/graph.h>
#include <fmcore/plan.h>

G_BEGIN_DECLS

/* What a net may know when it builds. All pointers are borrowed and outlive the net. */
typedef struct FmNetInfo {
    const FmDataInfo *data;                  /* shape of a point, classes */
    size_t classes;                          /* labels the net is to be conditioned on; 0: none */
    const FmPlugin *dataset, *source, *path; /* NULL when not known (imported weights) */
    gboolean training;                       /* the graph is built for a training loss: dropout is on */
    const double *shift, *scale;             /* (D): the net's x is (data - shift) / scale; NULL: the identity */
} FmNetInfo;

/* Foreign names of weights, for `import`: pairs (theirs, ours); NULL closes. */
typedef struct FmWeightAlias {
    const char *theirs, *ours;
} FmWeightAlias;

typedef struct FmNetOps {
    /* required, unless `inverse` is there */
    /* v, with the shape of x (B, dims...); t is (B); y is a label input or NULL. Layers come from
     * layer.h. NULL on error, after fm_graph_fail(). Must build the same graph each time. */
    FmNode *(*velocity)(void *self, FmGraph *graph, const FmNetInfo *info, FmNode *x, FmNode *t, FmNode *y);
    /* optional */
    gboolean (*prepare)(void *self, const FmNetInfo *info, GError **error); /* checks options */
    /* invertible nets: z = f(x) (data to noise) with log|det df/dx| (B) in *log_det, and the
     * inverse x = f^-1(z) with log|det df^-1/dz| (B). Both or neither. */
    FmNode *(*forward)(void *self, FmGraph *graph, const FmNetInfo *info, FmNode *x, FmNode **log_det);
    FmNode *(*inverse)(void *self, FmGraph *graph, const FmNetInfo *info, FmNode *z, FmNode **log_det);
    /* Set parameters or buffers from a first batch of standardised data x (n, D). */
    gboolean (*calibrate)(void *self, FmParams *params, const FmNetInfo *info, const double *x, size_t n,
                          GError **error);
    size_t tile;                  /* preferred rows of a tile; 0: the core chooses */
    const char *time_features;    /* what features(t) is, for the file's metadata */
    const FmWeightAlias *aliases; /* NULL: none */
    void (*clear)(void *self);
    gboolean data_units; /* TRUE: x and v are in the data's own units: the run does not standardise */
    /* Exact log p_t(x) (B), in nats, of the flow that begins at the path's start, when it is known in
     * closed form; NULL (without failing) when it is not. */
    FmNode *(*log_density)(void *self, FmGraph *graph, const FmNetInfo *info, FmNode *x, FmNode *t, FmNode *y);
    /* div v (B) in fewer operations than D tangents take; NULL (without failing): none. */
    FmNode *(*divergence)(void *self, FmGraph *graph, const FmNetInfo *info, FmNode *x, FmNode *t, FmNode *y);
    /* p_t = N(mean, diag(sd^2)): mean and sd (D) written; FALSE when it is no such Gaussian. */
    gboolean (*gaussian)(const void *self, const FmNetInfo *info, double t, double *mean, double *sd);
    /* The last t at which p_t has a smooth density; NULL: 1. After it S and KL may be infinite. */
    double (*density_end)(const void *self);
} FmNetOps;

/* Check the net's options against what it is to be built for; before anything else. */
gboolean fm_net_prepare(FmPlugin *net, const FmNetInfo *info, GError **error);
gboolean fm_net_is_invertible(const FmPlugin *net); /* it has a map and its inverse */

/* Build the velocity; shape-checked against x. NULL sets the graph's error. */
FmNode *fm_net_velocity(FmPlugin *net, FmGraph *graph, const FmNetInfo *info, FmNode *x, FmNode *t, FmNode *y);
/* Exact log p_t(x) (B), or NULL: not known (no error is set) or failed (the graph's error is). */
FmNode *fm_net_log_density(FmPlugin *net, FmGraph *graph, const FmNetInfo *info, FmNode *x, FmNode *t, FmNode *y);
/* div v (B) by the net's own formula, or NULL: none (no error is set) or failed. */
FmNode *fm_net_divergence(FmPlugin *net, FmGraph *graph, const FmNetInfo *info, FmNode *x, FmNode *t, FmNode *y);
double fm_net_density_end(const FmPlugin *net);
gboolean fm_net_gaussian(const FmPlugin *net, const FmNetInfo *info, double t, double *mean, double *sd);
FmNode *fm_net_forward(FmPlugin *net, FmGraph *graph, const FmNetInfo *info, FmNode *x, FmNode **log_det);
FmNode *fm_net_inverse(FmPlugin *net, FmGraph *graph, const FmNetInfo *info, FmNode *z, FmNode **log_det);
gboolean fm_net_calibrate(FmPlugin *net, FmParams *params, const FmNetInfo *info, const double *x, size_t n,
                          GError **error);

G_END_DECLS
#endif
