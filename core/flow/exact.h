/* exact.h: a flow for measurement: always in double, with divergence, log-density and score of
 * p_t at any t. Points are in the model's units. Internal to core/flow. */
#ifndef FMCORE_CORE_FLOW_EXACT_H
#define FMCORE_CORE_FLOW_EXACT_H

#include "flow/integrate.h"

/* Results of one plan; a slot that is absent from the plan is zero everywhere. */
enum { EXACT_V, EXACT_DIV, EXACT_GRAD, EXACT_LOG_P = EXACT_V, EXACT_SCORE = EXACT_DIV, EXACT_OUTPUTS = 3 };

typedef struct FmExactPlan {
    FmPlan *plan;
    FmExec *exec;                     /* NULL: not made */
    int in_x, in_t, in_y, in_e, in_s; /* positions among the inputs; -1: not used */
    int out[EXACT_OUTPUTS];           /* positions among the outputs; -1: zero */
    size_t width[EXACT_OUTPUTS];
} FmExactPlan;

typedef struct FmExact {
    FmFlow *flow;           /* borrowed */
    const FmPlugin *solver; /* borrowed */
    size_t D, K, chunks;    /* K tangents a pass, `chunks` passes */
    size_t tile;            /* rows that one worker carries along together */
    int threads;
    FmParams *params;                      /* in double; owned */
    double t0, t1;                         /* interval of the path */
    gboolean drop;                         /* leave out grad(div v), the known error: for tests of what notices it */
    gboolean closed;                       /* log p_t is known in closed form */
    gboolean closed_at_end;                /* only log q_1 is: an invertible map */
    FmExactPlan plain, div, full, density; /* v; v, div; v, div, grad(s . v + div); log p, score */
    FmArray *unit; /* (tile, K, D) unit vectors of each pass, one array a pass: (chunks, ...); NULL: v alone */
} FmExact;

/* `flow`, its solver and its weights outlive the result. */
FmExact *fm__exact_new(FmFlow *flow, int threads, GError **error);
/* For v alone, fm__exact_field() without divergence and fm__exact_move(): no derivative is asked of
 * the net. */
FmExact *fm__exact_velocity_new(FmFlow *flow, int threads, GError **error);
void fm__exact_free(FmExact *exact); /* NULL allowed */
/* Will log p_t be known in closed form? Without plans. */
gboolean fm__exact_is_closed(const FmFlow *flow);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FmExact, fm__exact_free)

/* One worker's part of a calculation: at most exact->tile rows at a time. */
typedef struct FmExactWorker FmExactWorker;
FmExactWorker *fm__exact_worker_new(const FmExact *exact, GError **error);
void fm__exact_worker_free(FmExactWorker *worker); /* NULL allowed */

/* Below: worker number w (below `threads`), n <= exact->tile rows, one time t, labels y (n) or
 * NULL. FALSE: an external field failed. */

/* v (n, D), and div v (n) when not NULL. */
gboolean fm__exact_field(const FmExact *e, FmExactWorker *own, int w, size_t n, const double *x, double t,
                         const gint32 *y, double *v, double *div);

/* v (n, D) alone, every row at its own time t (n). */
gboolean fm__exact_field_at(const FmExact *e, FmExactWorker *own, int w, size_t n, const double *x, const double *t,
                            const gint32 *y, double *v);

/* log p_t (n) and its gradient (n, D): in closed form, or by solving back to t0 and forward again
 * with ds/dt = -grad(s . v + div v) at fixed s. NaN for rows that the solver could not bring there;
 * stat (n) adds up both solves; NULL allowed. */
gboolean fm__exact_density(const FmExact *e, FmExactWorker *own, int w, size_t n, const double *x, double t,
                           const gint32 *y, double *log_p, double *score, FmSolveStat *stat);

/* Carry (x, log p, score) (n, 2 D + 1) along the flow from `from` to `to`, in place. */
gboolean fm__exact_carry(const FmExact *e, FmExactWorker *own, int w, size_t n, double *state, double from, double to,
                         const gint32 *y, FmSolveStat *stat);
/* Carry x (n, D) alone. */
gboolean fm__exact_move(const FmExact *e, FmExactWorker *own, int w, size_t n, double *x, double from, double to,
                        const gint32 *y, FmSolveStat *stat);

/* log p_0 and its gradient at points of the base (n, D). */
gboolean fm__exact_base(const FmExact *e, size_t n, const double *x, double *log_p, double *score, GError **error);

#endif
