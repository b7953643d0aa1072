/* midpoint: explicit midpoint rule, order 2, fixed steps.
 * Source: Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, doi:10.1007/978-3-540-78862-1, sec.
 * II.1. */
#include <fmcore/solver.h>

static const double midpoint_c[2] = {0.0, 1.0 / 2};
static const double midpoint_a[2 * 2] = {
    0.0,
    0.0,
    1.0 / 2,
    0.0,
};
static const double midpoint_b[2] = {0.0, 1.0};

static const FmTableau midpoint_tableau = {
    .stages = 2,
    .order = 2,
    .c = midpoint_c,
    .a = midpoint_a,
    .b = midpoint_b,
};

static const FmOption midpoint_options[] = {FM_FIXED_OPTIONS(0.05)};

static const FmSolverOps midpoint_ops = {.tableau = &midpoint_tableau};

FM_PLUGIN_DECLARE(SOLVER, midpoint, "midpoint", midpoint_ops, .self_size = sizeof(FmFixedOptions),
                  .options = midpoint_options, .summary = "explicit midpoint rule (Runge 1895), order 2, fixed steps",
                  .source = "Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, "
                            "doi:10.1007/978-3-540-78862-1, sec. II.1");
