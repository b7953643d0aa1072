/* solver.c: the public face of the Runge-Kutta stepper. */
#include "flow/stepper.h"

const char *const fm_control_names[] = {"pi", "i", NULL};
const char *const fm_stepping_names[] = {"sample", "batch", NULL};

const FmTableau *
fm_solver_tableau(const FmPlugin *solver)
{
    g_return_val_if_fail(fm_plugin_kind(solver) == FM_KIND_SOLVER, NULL);
    return ((const FmSolverOps *)fm_plugin_ops(solver))->tableau;
}

gboolean
fm_solver_is_adaptive(const FmPlugin *solver)
{
    g_return_val_if_fail(fm_plugin_kind(solver) == FM_KIND_SOLVER, FALSE);
    return ((const FmSolverOps *)fm_plugin_ops(solver))->adaptive;
}

size_t
fm_solve_work(const FmSolve *solve)
{
    g_return_val_if_fail(solve->dtype == FM_F32 || solve->dtype == FM_F64, 0);
    return fm__stepper_work(solve);
}

gboolean
fm_solve(const FmSolve *solve, void *x, FmSolveStat *stat, void *work)
{
    FmStepper stepper;

    g_return_val_if_fail(solve->dtype == FM_F32 || solve->dtype == FM_F64, FALSE);
    g_return_val_if_fail(solve->field.eval != NULL && solve->D > 0, FALSE);
    g_return_val_if_fail(solve->n_out == 0 || (solve->t_out != NULL && solve->out != NULL), FALSE);
    fm__stepper_init(&stepper, solve, x, stat, work);
    return fm__stepper_run(&stepper);
}
