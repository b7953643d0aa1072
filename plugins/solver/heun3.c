/* heun3: Heun's method of order 3, fixed steps.
 * Source: Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, doi:10.1007/978-3-540-78862-1, table
 * II.1.1. */
#include <fmcore/solver.h>

static const double heun3_c[3] = {0.0, 1.0 / 3, 2.0 / 3};
static const double heun3_a[3 * 3] = {
    0.0, 0.0, 0.0, 1.0 / 3, 0.0, 0.0, 0.0, 2.0 / 3, 0.0,
};
static const double heun3_b[3] = {1.0 / 4, 0.0, 3.0 / 4};

static const FmTableau heun3_tableau = {
    .stages = 3,
    .order = 3,
    .c = heun3_c,
    .a = heun3_a,
    .b = heun3_b,
};

static const FmOption heun3_options[] = {FM_FIXED_OPTIONS(0.05)};

static const FmSolverOps heun3_ops = {.tableau = &heun3_tableau};

FM_PLUGIN_DECLARE(SOLVER, heun3, "heun3", heun3_ops, .self_size = sizeof(FmFixedOptions), .options = heun3_options,
                  .summary = "Heun's method of order 3, fixed steps",
                  .source = "Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, "
                            "doi:10.1007/978-3-540-78862-1, table II.1.1");
