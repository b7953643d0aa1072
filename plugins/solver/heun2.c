/* heun2: explicit trapezoidal rule (Heun), order 2, fixed steps.
 * Source: Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, doi:10.1007/978-3-540-78862-1, sec.
 * II.1. */
#include <fmcore/solver.h>

static const double heun2_c[2] = {0.0, 1.0};
static const double heun2_a[2 * 2] = {
    0.0,
    0.0,
    1.0,
    0.0,
};
static const double heun2_b[2] = {1.0 / 2, 1.0 / 2};

static const FmTableau heun2_tableau = {
    .stages = 2,
    .order = 2,
    .c = heun2_c,
    .a = heun2_a,
    .b = heun2_b,
};

static const FmOption heun2_options[] = {FM_FIXED_OPTIONS(0.05)};

static const FmSolverOps heun2_ops = {.tableau = &heun2_tableau};

FM_PLUGIN_DECLARE(SOLVER, heun2, "heun2", heun2_ops, .self_size = sizeof(FmFixedOptions), .options = heun2_options,
                  .summary = "explicit trapezoidal rule (Heun), order 2, fixed steps",
                  .source = "Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, "
                            "doi:10.1007/978-3-540-78862-1, sec. II.1");
