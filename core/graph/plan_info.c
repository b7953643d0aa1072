/* plan_info.c: what a plan says about itself. */
#include "graph/plan_private.h"

#include <string.h>

size_t
fm_plan_tile(const FmPlan *plan)
{
    return plan->tile;
}

size_t
fm_plan_n_inputs(const FmPlan *plan)
{
    return plan->inputs->len;
}

const char *
fm_plan_input_name(const FmPlan *plan, size_t i)
{
    return plan->input_names->pdata[i];
}

const FmShape *
fm_plan_input_shape(const FmPlan *plan, size_t i)
{
    return &fm__plan_value(plan, g_array_index(plan->inputs, guint, i))->shape;
}

int
fm_plan_input_find(const FmPlan *plan, const char *name)
{
    for (guint i = 0; i < plan->input_names->len; i++)
        if (strcmp(plan->input_names->pdata[i], name) == 0)
            return (int)i;
    return -1;
}

size_t
fm_plan_n_outputs(const FmPlan *plan)
{
    return plan->outputs->len;
}

const FmShape *
fm_plan_output_shape(const FmPlan *plan, size_t i)
{
    return &g_array_index(plan->outputs, FmRef, i).shape;
}

double
fm_plan_flops(const FmPlan *plan)
{
    return plan->flops;
}

size_t
fm_plan_arena_size(const FmPlan *plan)
{
    return plan->arena_size;
}

char *
fm_plan_dump(const FmPlan *plan)
{
    static const char *const phases[] = {"prologue", "tile", "epilogue"};
    GString *s = g_string_new(NULL);

    g_string_append_printf(s, "tile %zu, arena %zu bytes, %.3g flop a row\n", plan->tile, plan->arena_size,
                           plan->flops);
    for (guint k = 0; k < plan->steps->len; k++) {
        const FmStep *step = fm__plan_step(plan, k);

        g_string_append_printf(s, "%4u %-8s %-16s", k, phases[step->phase], step->name);
        for (guint i = 0; i < step->n_in; i++) {
            g_autofree char *shape = fm_shape_format(&step->in[i].shape);

            g_string_append_printf(s, " %%%u%s", step->in[i].value, shape);
        }
        g_string_append(s, " ->");
        for (guint i = 0; i < step->n_out; i++) {
            g_autofree char *shape = fm_shape_format(&step->out[i].shape);

            g_string_append_printf(s, " %%%u%s", step->out[i].value, shape);
        }
        g_string_append_c(s, '\n');
    }
    return g_string_free(s, FALSE);
}
