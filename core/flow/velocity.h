/* velocity.h: the learned field, its divergence and the map of invertible nets as plans. */
#ifndef FMCORE_CORE_FLOW_VELOCITY_H
#define FMCORE_CORE_FLOW_VELOCITY_H

#include "flow/run.h"

enum { FM__MAX_TANGENTS = 64 }; /* of one pass; more dimensions take several passes */

/* A plan of v(t, x[, y]) and, with K > 0 tangents, of sum_k e_k . (dv/dx) e_k: the divergence when
 * the e_k are the D unit vectors, K times Hutchinson's estimate when they are probes. Or, for
 * products, of the K vectors (dv/dx) e_k themselves. */
typedef struct FmVelocity {
    FmPlan *plan;
    FmExec *exec;
    size_t D, K, tile; /* K: tangents per row; tile: rows of one evaluation */
    FmDtype dtype;
    size_t size;                         /* bytes of one number */
    int in_x, in_t, in_y, in_none, in_e; /* positions among the plan's inputs; -1: not used */
    gint32 *none;                        /* (tile) labels of no class, also where none are given; owned */
    size_t n_second;                     /* numbers a row of the second output: 0, 1 or K D */
    gboolean flat;                       /* the field does not depend on x: the second output is 0 */
} FmVelocity;

/* The velocity of a run's net as nodes, whatever the net learns. NULL sets the graph's error. */
FmNode *fm__run_velocity(const FmRun *run, FmGraph *graph, FmNode *x, FmNode *t, FmNode *y);

/* `guidance` w is that of fm_flow_set_guidance(), 1 without; K tangents. */
FmVelocity *fm__velocity_new(const FmRun *run, double guidance, size_t K, int threads, GError **error);
/* For the exact divergence: K = D tangents, or as many as one pass takes. In few dimensions the unit
 * vectors are part of the plan (in_e < 0). */
FmVelocity *fm__velocity_exact_new(const FmRun *run, double guidance, int threads, GError **error);
FmVelocity *fm__velocity_products_new(const FmRun *run, double guidance, size_t K, int threads, GError **error);
void fm__velocity_free(FmVelocity *velocity); /* NULL allowed */

/* v (n, D) and div (n, when K > 0; (n, K, D) of products) of n rows, any n: x (n, D), t (n), e (n, K, D) in the plan's
 * dtype, y (n) or NULL (no labels) when the net takes some. Worker w of those given. FALSE: an external field
 * failed. */
gboolean fm__velocity_eval(const FmVelocity *velocity, int w, size_t n, const void *x, const void *t, const gint32 *y,
                           const void *e, void *v, void *div);

/* The map of an invertible net: data to noise (forward) or back, with log|det|. */
typedef struct FmMap {
    FmPlan *plan;
    FmExec *exec;
    int in_x;
} FmMap;

FmMap *fm__map_new(const FmRun *run, gboolean forward, int threads, GError **error);
void fm__map_free(FmMap *map); /* NULL allowed */

/* The loss of a run as a graph: the rows' losses (B). Owned graph in *graph. */
FmNode *fm__run_loss(const FmRun *run, FmGraph **graph, GError **error);

#endif
