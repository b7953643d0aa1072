/* distill: an objective over two nets, built outside the tree: the model learns the velocity of a
 * frozen teacher, whose weights come from another run.
 *   loss = |v(t, x_t) - v_teacher(t, x_t)|^2 / D */
#include <fmcore/fmcore.h>

typedef struct Distill {
    char *teacher, *net;
} Distill;

static const FmOption distill_options[] = {
    FM_OPT_STRING(Distill, teacher, "", "the teacher's run directory; required for training"),
    FM_OPT_PLUGIN(Distill, net, "{mlp}", "the teacher's net"),
    FM_OPT_END,
};

static FmNode *
distill_loss(void *self, FmLoss *loss)
{
    const Distill *s = self;
    FmNode *xt = fm_loss_xt(loss), *t = fm_loss_t(loss);
    FmNode *v = fm_loss_velocity(loss, "model", NULL, FALSE, xt, t);
    FmNode *gap = fm_sub(v, fm_loss_velocity(loss, "teacher", s->net, TRUE, xt, t));

    return gap ? fm_mean(fm_square(gap), (1u << fm_node_shape(gap)->ndim) - 1u, FALSE) : NULL;
}

static gboolean
distill_calibrate(void *self, FmParams *params, const FmNetInfo *info, GError **error)
{
    const Distill *s = self;
    g_autofree char *file = NULL;

    if (!s->teacher) {
        g_set_error(error, FM_ERROR, FM_ERROR_OPTION, "objective 'distill' needs teacher=RUN");
        return FALSE;
    }
    file = g_build_filename(s->teacher, "model.safetensors", NULL);
    return fm_params_load(params, "teacher/", file, error);
}

static const FmObjectiveOps distill_ops = {.loss = distill_loss, .calibrate = distill_calibrate};

FM_PLUGIN_DECLARE(OBJECTIVE, distill, "distill", distill_ops, .self_size = sizeof(Distill), .options = distill_options,
                  .summary = "the velocity of a frozen teacher", .source = "a test of fmcore's interfaces");
