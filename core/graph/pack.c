/* pack.c: weights that are only read transposed are packed from where they lie.
 *
 * A layer multiplies by W^T. Its kernel packs the operand anyway: where it can do so from W itself,
 * the step that transposes W after each change of the weights goes away. With it, a training step of
 * width 256 spent 0.07 of 3.1 ms on one thread, and others waited for it. */
#include "graph/plan_private.h"

#include <string.h>

/* The prologue's step that makes `value` as the transpose of a weight, or NULL. */
static const FmStep *
transposing_step(const FmPlan *plan, guint value)
{
    for (guint k = 0; k < plan->n_steps[FM_PHASE_PROLOGUE]; k++) {
        const FmStep *step = fm__plan_step(plan, k);

        if (step->out[0].value == value)
            return strcmp(step->name, "permute") == 0 && step->out[0].shape.ndim == 2 &&
                           fm__plan_value(plan, step->in[0].value)->place == FM_PLACE_PARAM
                       ? step
                       : NULL;
    }
    return NULL;
}

static gboolean
is_read(const FmPlan *plan, guint value)
{
    for (guint k = 0; k < plan->steps->len; k++) {
        const FmStep *step = fm__plan_step(plan, k);

        for (guint i = 0; i < step->n_in; i++)
            if (step->in[i].value == value)
                return TRUE;
    }
    for (guint i = 0; i < plan->outputs->len; i++)
        if (g_array_index(plan->outputs, FmRef, i).value == value)
            return TRUE;
    return FALSE;
}

/* Let the step read the weight behind its second operand, if it is packed from there. */
static void
read_weight(FmPlan *plan, FmStep *step)
{
    const FmKernel *kernel = step->kernel;
    FmKernelShapes shapes;
    const FmStep *from;

    if (step->phase != FM_PHASE_TILE || !kernel->pack_transposed || step->n_in < 2 || step->in[1].shape.ndim != 2)
        return;
    from = transposing_step(plan, step->in[1].value);
    fm__step_shapes(step, 1, &shapes);
    if (!from || !fm_shape_equal(&from->out[0].shape, &step->in[1].shape) || kernel->pack_size(&shapes) == 0)
        return;
    step->in[1].value = from->in[0].value; /* its shape stays the transpose's */
    step->transposed = TRUE;
}

void
fm__pack_from_weights(FmPlan *plan)
{
    for (guint k = 0; k < plan->steps->len; k++)
        read_weight(plan, fm__plan_step(plan, k));
    for (guint k = plan->n_steps[FM_PHASE_PROLOGUE]; k-- > 0;)
        if (!is_read(plan, fm__plan_step(plan, k)->out[0].value)) {
            g_array_remove_index(plan->steps, k);
            plan->n_steps[FM_PHASE_PROLOGUE]--;
        }
}
