/* stepper.h: the one loop behind every Runge-Kutta plugin. Internal to core/flow.
 *
 * The loop does not know the dtype: it moves rows as bytes and calls the kernels below, which
 * stepper_kernels.h defines once for float and once for double. */
#ifndef FMCORE_CORE_FLOW_STEPPER_H
#define FMCORE_CORE_FLOW_STEPPER_H

#include <fmcore/solver.h>

/* The state of one active row beside its numbers. */
typedef struct FmStepRow {
    double t, t_new;      /* now; at the end of the step being tried */
    double h;             /* size the controller wants, > 0 */
    double err, err_prev; /* error norm of this step; of the last accepted one */
    size_t next_out;      /* first output time not yet written */
    guint8 has_k1;        /* k[0] holds f(t, x) */
    guint8 was_rejected;  /* the step before was */
} FmStepRow;

/* Arithmetic on m rows of width D laid end to end, each row with its own step size. */
typedef struct FmStepKernels {
    /* h (m D) in the dtype: the row's step size beside each of its elements */
    void (*spread)(size_t m, size_t D, void *h, const FmStepRow *rows);
    /* out = x + h sum_i w[i] k[i], element by element over n = m D; out may be x, and x may be NULL
     * (zero). n_k >= 1 */
    void (*combine)(size_t n, void *out, const void *x, const void *h, int n_k, const double *w, const void *const *k);
    /* e = e / (atol + rtol max(|x0|, |x1|)), NaN where x1 is not finite */
    void (*ratio)(size_t n, void *e, const void *x0, const void *x1, double rtol, double atol);
    /* out = (v - w) / (atol + rtol |x|); w may be NULL (0) */
    void (*scaled)(size_t n, void *out, const void *v, const void *w, const void *x, double rtol, double atol);
    /* sum[r] = sum of squares of the first `width` of D columns */
    void (*squares)(size_t m, size_t D, size_t width, const void *e, double *sum);
    gboolean (*finite)(size_t D, const void *x);
    /* Cubic Hermite at theta in (0, 1) of a step of signed size h */
    void (*hermite)(size_t D, void *out, double theta, double h, const void *x0, const void *x1, const void *f0,
                    const void *f1);
} FmStepKernels;

extern const FmStepKernels fm__step_kernels_f32, fm__step_kernels_f64;

/* One fm_solve() call. Active rows are 0 .. m - 1 of every buffer. */
typedef struct FmStepper {
    const FmSolve *p;
    const FmTableau *tab;
    const FmStepKernels *kernels;
    const FmAdaptiveOptions *adaptive; /* NULL: fixed steps */
    double step;                       /* fixed step size */
    double dir;                        /* +1 or -1 */
    gboolean uniform;                  /* all rows share t and h */
    gboolean end_stage;                /* evaluate f at the end of a step as k[stages] for cubic Hermite */
    int last;                          /* index of the stage at the end of the step, or -1 */
    size_t width;                      /* columns in the error norm */
    size_t row_bytes;
    gboolean counts[FM_MAX_STAGES + 1]; /* the stage's quadratures enter a result */
    /* caller's */
    char *x_out;
    FmSolveStat *stat;
    /* work */
    size_t m;
    size_t *row;                /* (n) numbers in the caller's batch */
    double *t_stage;            /* (n) */
    FmStepRow *rows;            /* (n) */
    size_t *pick;               /* (n) */
    char *x, *y;                /* (n, D) state; stage state, then the solution at the end of the step */
    char *h, *e;                /* (n, D) step sizes spread over the rows; scratch */
    char *k[FM_MAX_STAGES + 1]; /* (n, D) each */
} FmStepper;

/* Bytes that fm__stepper_init() takes from `work`. */
size_t fm__stepper_work(const FmSolve *p);
void fm__stepper_init(FmStepper *s, const FmSolve *p, void *x, FmSolveStat *stat, void *work);

/* Run to the end; FALSE when the field failed (states reached so far are written). */
gboolean fm__stepper_run(FmStepper *s);

/* Factor for the next step size after a step with error norm `err` (NaN: shrink). `order` is that
 * of the propagated solution, `k` the exponent's denominator of the PI controller. */
double fm__step_factor(int control, int order, int k, double err, double err_prev, gboolean was_rejected);

/* First step sizes (torchdiffeq's variant of Hairer, Norsett & Wanner I, sec. II.4); needs k[0]. */
gboolean fm__stepper_first(FmStepper *s);

/* f at `y`, t_stage for the active rows into k[i]; all columns when `counts`. */
gboolean fm__stepper_eval(FmStepper *s, const void *y, int i, gboolean counts);

#endif
