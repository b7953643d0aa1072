/* cfm: conditional flow matching, the mean over dimensions of (v(t, x_t) - u_t)^2 for each row,
 * u_t the conditional velocity of the path. Lipman et al. 2023, arXiv:2210.02747, eq. 9. */
#include <fmcore/objective.h>

static FmNode *
cfm_loss(void *self, FmLoss *loss)
{
    FmNode *ut = fm_loss_ut(loss);
    FmNode *v = fm_loss_velocity(loss, "model", NULL, FALSE, fm_loss_xt(loss), fm_loss_t(loss));
    FmNode *gap = fm_sub(v, ut);

    return gap ? fm_mean(fm_square(gap), (1u << fm_node_shape(gap)->ndim) - 1u, FALSE) : NULL;
}

static const FmObjectiveOps cfm_ops = {.loss = cfm_loss};

FM_PLUGIN_DECLARE(OBJECTIVE, cfm, "cfm", cfm_ops,
                  .summary = "conditional flow matching: regression on the conditional velocity",
                  .source = "Lipman et al. 2023, arXiv:2210.02747, eq. 9");
