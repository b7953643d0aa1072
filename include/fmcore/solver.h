/* solver.h: Runge-Kutta methods are data; one shared stepper runs them.
 *
 * A solver plugin is a tableau, its orders and its citation. Adaptive steps are per sample:
 * every row of a tile has its own time and step size, finished rows leave the tile. */
#ifndef FMCORE_SOLVER_H
#define FMCORE_SOLVER_H

#include <fmcore/array.h>
#include <fmcore/plugin.h>

G_BEGIN_DECLS

#define FM_MAX_STAGES 16

typedef struct FmTableau {
    int stages;
    int order;          /* of the solution that is propagated */
    int order_embedded; /* of the error estimate's partner; 0: no error estimate, fixed steps */
    gboolean fsal;      /* last stage = first stage of the next step */
    const double *c;    /* (stages) */
    const double *a;    /* (stages, stages) row-major, strictly lower triangular */
    const double *b;    /* (stages) */
    const double *e;    /* (stages) b - b_embedded; NULL when order_embedded = 0 */
    /* Dense output: x(t + theta h) = x + h sum_i k_i sum_j dense[i][j] theta^(j+1); NULL: cubic
     * Hermite from both ends. */
    int dense_degree;    /* j < dense_degree */
    const double *dense; /* (stages, dense_degree) */
} FmTableau;

/* Options of fixed-step solvers; the state of such a plugin is this struct. */
typedef struct FmFixedOptions {
    double step; /* step size in t; the last step is shortened to end exactly */
} FmFixedOptions;

/* Options of adaptive solvers; the state of such a plugin is this struct. */
typedef struct FmAdaptiveOptions {
    double rtol, atol; /* error of a step, rms over the row, against atol + rtol max(|x0|, |x1|) */
    int control;       /* 0: pi, 1: i (torchdiffeq) */
    int stepping;      /* 0: sample, 1: batch (torchdiffeq: one step size for all rows of the call) */
    double step_first; /* NAN: chosen (Hairer, Norsett & Wanner I, sec. II.4) */
    double step_min;   /* below it a row stops with FM_SOLVE_STEP_SIZE */
    int max_steps;     /* accepted and rejected, per row */
} FmAdaptiveOptions;

extern const char *const fm_control_names[];  /* "pi", "i", NULL */
extern const char *const fm_stepping_names[]; /* "sample", "batch", NULL */

#define FM_FIXED_OPTIONS(default_step) \
    FM_OPT_REAL(FmFixedOptions, step, default_step, 1e-6, 1.0, "step size in t"), FM_OPT_END

#define FM_ADAPTIVE_OPTIONS \
    FM_OPT_POSITIVE(FmAdaptiveOptions, rtol, 1e-5, 1.0, "relative tolerance per step"), \
        FM_OPT_POSITIVE(FmAdaptiveOptions, atol, 1e-5, 1e3, "absolute tolerance per step"), \
        FM_OPT_CHOICE(FmAdaptiveOptions, control, fm_control_names, "pi", "step-size controller; i is torchdiffeq's"), \
        FM_OPT_CHOICE(FmAdaptiveOptions, stepping, fm_stepping_names, "sample", \
                      "a step size per sample, or one for the batch (torchdiffeq)"), \
        FM_OPT_REAL_AUTO(FmAdaptiveOptions, step_first, 1e-12, 1.0, "first step size"), \
        FM_OPT_REAL(FmAdaptiveOptions, step_min, 1e-10, 0.0, 1.0, "smallest step size"), \
        FM_OPT_INT(FmAdaptiveOptions, max_steps, 10000, 1, 100000000, "steps per sample"), FM_OPT_END

typedef struct FmSolverOps {
    /* required */
    const FmTableau *tableau;
    /* optional */
    gboolean adaptive; /* TRUE: state is FmAdaptiveOptions, else FmFixedOptions */
} FmSolverOps;

const FmTableau *fm_solver_tableau(const FmPlugin *solver); /* its method; borrowed */
gboolean fm_solver_is_adaptive(const FmPlugin *solver);     /* it chooses its steps by itself */

/* dx/dt = f(t, x) for n rows of width D in one dtype; row r at its own time t[r]. `row` holds the
 * rows' numbers in the caller's batch (rows are compacted as samples finish). FALSE stops the
 * solve with FM_ERROR_DIVERGED. */
typedef struct FmField {
    gboolean (*eval)(void *ctx, size_t n, const size_t *row, const double *t, const void *x, void *dxdt);
    void *ctx;
    /* optional: as eval, at a stage from which only the state goes on. Columns that the field does
     * not depend on (an integral along the way) may hold any finite value. NULL: eval serves. */
    gboolean (*eval_part)(void *ctx, size_t n, const size_t *row, const double *t, const void *x, void *dxdt);
} FmField;

typedef enum FmSolveStatus {
    FM_SOLVE_OK,
    FM_SOLVE_STEP_SIZE, /* step size underflow */
    FM_SOLVE_MAX_STEPS,
    FM_SOLVE_NOT_FINITE
} FmSolveStatus;

/* What became of one row. */
typedef struct FmSolveStat {
    FmSolveStatus status;
    guint32 nfe, accepted, rejected;
    double t; /* reached; t1 when status is FM_SOLVE_OK */
} FmSolveStat;

typedef struct FmSolve {
    const FmPlugin *solver;
    FmField field;
    FmDtype dtype;
    size_t n, D;        /* rows of the tile, width of a row */
    double t0, t1;      /* from, to; t1 < t0 integrates backwards */
    size_t error_width; /* first columns that count in the error norm; 0: all D */
    /* Dense output at n_out times, ascending in the direction of travel, within [t0, t1]: out
     * (n, n_out, D) in dtype; NULL: none. */
    size_t n_out;
    const double *t_out;
    void *out;
} FmSolve;

/* Bytes of workspace for fm_solve() with this problem. */
size_t fm_solve_work(const FmSolve *solve);

/* Integrate x (n, D) in place from t0 to t1. stat (n) is written. A row that fails keeps its best
 * state so far; that is a status, not an error. `work` as above, FM_ALIGN aligned; nothing is
 * allocated. FALSE only when the field fails. */
gboolean fm_solve(const FmSolve *solve, void *x, FmSolveStat *stat, void *work);

G_END_DECLS
#endif
