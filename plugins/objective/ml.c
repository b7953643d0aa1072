/* ml: exact maximum likelihood of an invertible net z = f(x): the negative log-density
 *   -log N(f(x); 0, I) - log|det df/dx|
 * in nats of the model's (standardised) units. Dinh et al. 2017, arXiv:1605.08803, eq. 3. */
#include <fmcore/objective.h>

static FmNode *
ml_loss(void *self, FmLoss *loss)
{
    FmNode *log_det, *energy, *z = fm_loss_forward(loss, fm_loss_x1(loss), &log_det);
    const FmShape *shape;
    double D;

    if (!z)
        return NULL;
    shape = fm_node_shape(z);
    D = (double)fm_shape_size(shape);
    energy = fm_sum(fm_square(z), (1u << shape->ndim) - 1u, FALSE);
    return fm_sub(fm_affine(energy, 0.5, 0.5 * D * log(2.0 * G_PI)), log_det);
}

static const FmObjectiveOps ml_ops = {
    .loss = ml_loss,
    .needs_invertible = TRUE,
    .no_path = TRUE,
};

FM_PLUGIN_DECLARE(OBJECTIVE, ml, "ml", ml_ops, .summary = "maximum likelihood of an invertible net",
                  .source = "Dinh et al. 2017, arXiv:1605.08803, eq. 3");
