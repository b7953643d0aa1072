/* cfm: conditional flow matching, the mean over dimensions of (v(t, x_t) - u_t)^2 for each row,
 * u_t the conditional velocity of the path; with --prediction, the same of what the net learns. Lipman et al. 2023,
 * arXiv:2210.02747, eq. 9. */
#include <fmcore/objective.h>

static FmNode *
cfm_loss(void *self, FmLoss *loss)
{
    FmNode *gap = fm_sub(fm_loss_output(loss), fm_loss_target(loss));

    return gap ? fm_mean(fm_square(gap), (1u << fm_node_shape(gap)->ndim) - 1u, FALSE) : NULL;
}

static const FmObjectiveOps cfm_ops = {.loss = cfm_loss};

FM_PLUGIN_DECLARE(OBJECTIVE, cfm, "cfm", cfm_ops,
                  .summary = "conditional flow matching: regression on the conditional velocity",
                  .source = "Lipman et al. 2023, arXiv:2210.02747, eq. 9");
