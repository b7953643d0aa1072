/* rk4: the classical Runge-Kutta method, order 4, fixed steps.
 * Source: Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, doi:10.1007/978-3-540-78862-1, table
 * II.1.2. */
#include <fmcore/solver.h>

static const double rk4_c[4] = {0.0, 1.0 / 2, 1.0 / 2, 1.0};
static const double rk4_a[4 * 4] = {
    0.0, 0.0, 0.0, 0.0, 1.0 / 2, 0.0, 0.0, 0.0, 0.0, 1.0 / 2, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0,
};
static const double rk4_b[4] = {1.0 / 6, 1.0 / 3, 1.0 / 3, 1.0 / 6};

static const FmTableau rk4_tableau = {
    .stages = 4,
    .order = 4,
    .c = rk4_c,
    .a = rk4_a,
    .b = rk4_b,
};

static const FmOption rk4_options[] = {FM_FIXED_OPTIONS(0.05)};

static const FmFact rk4_facts[] = {
    {"variant", "classical weights 1/6, 1/3, 1/3, 1/6; torchdiffeq's rk4 is Kutta's 3/8 rule"},
    {NULL, NULL},
};

static const FmSolverOps rk4_ops = {.tableau = &rk4_tableau};

FM_PLUGIN_DECLARE(
    SOLVER, rk4, "rk4", rk4_ops, .self_size = sizeof(FmFixedOptions), .options = rk4_options,
    .summary = "the classical Runge-Kutta method, order 4, fixed steps (torchdiffeq's rk4 is the 3/8 rule)",
    .source = "Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, doi:10.1007/978-3-540-78862-1, "
              "table II.1.2",
    .facts = rk4_facts);
