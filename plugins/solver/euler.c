/* euler: explicit Euler, order 1, fixed steps.
 * Source: Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, doi:10.1007/978-3-540-78862-1, sec. I.7.
 */
#include <fmcore/solver.h>

static const double euler_c[1] = {0.0};
static const double euler_a[1 * 1] = {
    0.0,
};
static const double euler_b[1] = {1.0};

static const FmTableau euler_tableau = {
    .stages = 1,
    .order = 1,
    .c = euler_c,
    .a = euler_a,
    .b = euler_b,
};

static const FmOption euler_options[] = {FM_FIXED_OPTIONS(0.01)};

static const FmSolverOps euler_ops = {.tableau = &euler_tableau};

FM_PLUGIN_DECLARE(
    SOLVER, euler, "euler", euler_ops, .self_size = sizeof(FmFixedOptions), .options = euler_options,
    .summary = "explicit Euler, order 1, fixed steps",
    .source =
        "Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, doi:10.1007/978-3-540-78862-1, sec. I.7");
