/* study_kl_bound.c: KL(p_1||q_1) <= int eps_t sqrt(S_t) dt <= eps sqrt(S) for linear fields, whose KL and
 * bound are known exactly, and for a field at checkpoints of its training on data with eight modes.
 * Su et al. 2025, arXiv:2511.05480. */
#include "cli/study_kl.h"

#include <math.h>

/* ---- linear fields: v = a1(t) x, w = (a1(t) + beta) x, d = 2 ---- */

static const struct {
    double beta, kl, bound; /* exact figures */
} linear[] = {{0.0, 0.0, 0.0}, {0.05, 0.004837, 0.004948}, {0.1, 0.018731, 0.019147}, {0.2, 0.070320, 0.071799}};

enum { LINEAR = G_N_ELEMENTS(linear) };

/* What the picture shows of those with beta > 0: nats, and shares of the exact bound. */
typedef struct Linear {
    double beta[LINEAR], kl[LINEAR], bound[LINEAR];
    double share[LINEAR], ratio[LINEAR], ratio_se[LINEAR], evolution[LINEAR], evolution_se[LINEAR], sampled[LINEAR],
        sampled_se[LINEAR];
} Linear;

static gboolean
linear_bound(Study *s, size_t i, Linear *c, GError **error)
{
    const FmKlOptions o = {.n = 2000, .times = 21, .seed = s->seed, .threads = s->threads, .stop = NAN};
    Side side[2] = {{NULL, NULL}, {NULL, NULL}};
    g_autofree char *q = g_strdup_printf("oracle:field=linear,a=a1,beta=%g", linear[i].beta);
    FmKl *kl = NULL;

    if (side_field(&side[0], "oracle:field=linear,a=a1", NULL, 2, s->threads, STUDY_KL_SOLVER, error) &&
        side_field(&side[1], q, NULL, 2, s->threads, STUDY_KL_SOLVER, error))
        kl = kl_measure(s->cli, q, side[0].flow, side[1].flow, &o, error);
    sides_clear(side);
    if (!kl)
        return FALSE;
    g_autofree char *of_kl = g_strdup_printf("beta %g: exact KL", linear[i].beta),
                    *of_bound = g_strdup_printf("beta %g: exact bound", linear[i].beta),
                    *of_route = g_strdup_printf("beta %g: (sampled - exact KL) / se", linear[i].beta);
    const size_t end = kl->T - 1;
    const double se = kl->se[FM_KL_RATIO][end], off = kl->value[FM_KL_RATIO][end] - kl->kl.value;
    study_row(s);
    study_number(s, "beta", linear[i].beta);
    study_number(s, "kl_exact", kl->kl.value);
    study_number(s, "bound_exact", kl->exact_bound);
    study_number(s, "kl", kl->value[FM_KL_RATIO][end]);
    study_number(s, "kl_se", se);
    study_number(s, "bound", kl->bound.value);
    study_number(s, "bound_se", kl->bound.se);
    study_number(s, "alignment", kl->alignment);
    study_text(s, "verdict", fm_verdict_names[kl->verdict]);
    checks_add(s->checks, of_kl, kl->kl.value, linear[i].kl, 5e-7);
    checks_add(s->checks, of_bound, kl->exact_bound, linear[i].bound, 5e-7);
    checks_add_below(s->checks, of_route, fabs(off) / MAX(se, 1e-14), 4.0);
    c->beta[i] = linear[i].beta;
    c->kl[i] = kl->kl.value;
    c->bound[i] = kl->exact_bound;
    c->share[i] = c->kl[i] / c->bound[i];
    c->ratio[i] = kl->value[FM_KL_RATIO][end] / c->bound[i];
    c->ratio_se[i] = se / c->bound[i];
    c->evolution[i] = kl->value[FM_KL_EVOLUTION][end] / c->bound[i];
    c->evolution_se[i] = kl->se[FM_KL_EVOLUTION][end] / c->bound[i];
    c->sampled[i] = kl->bound.value / c->bound[i];
    c->sampled_se[i] = kl->bound.se / c->bound[i];
    fm_kl_free(kl);
    return TRUE;
}

/* ---- a field in training ---- */

enum { CHECKPOINTS = 6 };
static const gint64 stops[CHECKPOINTS] = {150, 300, 600, 1200, 2400, 4800};

typedef struct Curve {
    double eps2[CHECKPOINTS], kl[CHECKPOINTS], kl_se[CHECKPOINTS], bound[CHECKPOINTS], bound_se[CHECKPOINTS],
        sharp[CHECKPOINTS], sharp_se[CHECKPOINTS];
    int violated;
} Curve;

static gboolean
checkpoint(Study *s, Side *q, size_t i, Curve *c, GError **error)
{
    const FmKlOptions o = {.n = 200, .times = 101, .seed = s->seed, .threads = s->threads, .stop = NAN};
    Side p = {NULL, NULL};
    FmTrainResult result = {0};
    FmKl *kl = NULL;

    q->run->config->stop_after = stops[i];
    const gboolean ok = fm_run_train(q->run, NULL, NULL, &result, error);
    g_clear_pointer(&result.loss_curve, g_array_unref);
    if (ok && side_field(&p, "oracle", q->run, -1, s->threads, STUDY_KL_SOLVER, error))
        kl = kl_measure(s->cli, "the bound", p.flow, q->flow, &o, error);
    fm_flow_free(p.flow);
    fm_run_free(p.run);
    if (!kl)
        return FALSE;
    c->eps2[i] = kl->eps2.value;
    c->kl[i] = kl->value[FM_KL_EVOLUTION][kl->T - 1];
    c->kl_se[i] = kl->se[FM_KL_EVOLUTION][kl->T - 1];
    c->bound[i] = kl->bound.value;
    c->bound_se[i] = kl->bound.se;
    c->sharp[i] = kl->sharp.value;
    c->sharp_se[i] = kl->sharp.se;
    c->violated += kl->verdict == FM_VERDICT_VIOLATED || kl->verdict_sharp == FM_VERDICT_VIOLATED;
    study_row(s);
    study_number(s, "step", (double)stops[i]);
    study_number(s, "eps2", kl->eps2.value);
    study_number(s, "score_gap2", kl->gap2.value);
    study_number(s, "kl", kl->kl.value);
    study_number(s, "kl_se", kl->kl.se);
    study_number(s, "kl_evolution", c->kl[i]);
    study_number(s, "bound_sharp", kl->sharp.value);
    study_number(s, "bound", kl->bound.value);
    study_number(s, "alignment", kl->alignment);
    study_number(s, "residual", kl->residual_max);
    study_text(s, "verdict", fm_verdict_names[kl->verdict]);
    study_progress(s, "step %d: eps^2 %.4g, %s", (int)stops[i], kl->eps2.value, fm_verdict_names[kl->verdict]);
    fm_kl_free(kl);
    return TRUE;
}

static gboolean
learned_bound(Study *s, GError **error)
{
    FmRun *run = study_kl_run(s, "mlp:width=128,depth=2", "8gaussians", stops[CHECKPOINTS - 1], error);
    Side q = {NULL, NULL};
    Curve c = {.violated = 0};
    double x[CHECKPOINTS], y[CHECKPOINTS];
    gboolean ok = run && side_run(&q, run, s->threads, STUDY_KL_SOLVER, error);

    for (size_t i = 0; ok && i < CHECKPOINTS; i++)
        ok = checkpoint(s, &q, i, &c, error);
    fm_flow_free(q.flow);
    fm_run_free(q.run);
    if (!ok)
        return FALSE;
    for (size_t i = 0; i < CHECKPOINTS; i++) {
        x[i] = log(c.eps2[i]);
        y[i] = log(c.kl[i]);
    }
    const StudySlope slope = study_slope(CHECKPOINTS, x, y);
    study_say(s, "slope of log KL against log eps^2 along training: %.2f +- %.2f (95 %%)", slope.slope,
              slope.half_width);
    checks_add(s->checks, "bounds violated along training", c.violated, 0, 0);
    const FmCurve curves[] = {{"eps sqrt(S)", c.eps2, c.bound, c.bound_se, CHECKPOINTS},
                              {"int eps_t sqrt(S_t) dt", c.eps2, c.sharp, c.sharp_se, CHECKPOINTS},
                              {"KL(p1||q1)", c.eps2, c.kl, c.kl_se, CHECKPOINTS}};
    return study_curves(s, "kl-bound.svg", "a field in training: KL and its bounds", "eps^2", "nats", curves, 3,
                        FM_PLOT_LOG_X | FM_PLOT_LOG_Y, error);
}

/* The first has beta = 0, where all are 0. */
static gboolean
linear_draw(Study *s, const Linear *c, GError **error)
{
    const size_t n = LINEAR - 1;
    const double *beta = c->beta + 1;
    const FmCurve nats[] = {{"eps sqrt(S)", beta, c->bound + 1, NULL, n}, {"KL(p1||q1)", beta, c->kl + 1, NULL, n}};
    const FmCurve shares[] = {{"KL, closed form", beta, c->share + 1, NULL, n},
                              {"KL, log p/q", beta, c->ratio + 1, c->ratio_se + 1, n},
                              {"KL, evolution identity", beta, c->evolution + 1, c->evolution_se + 1, n},
                              {"eps sqrt(S), sampled", beta, c->sampled + 1, c->sampled_se + 1, n}};
    const FmPanel panels[] = {
        {"linear fields: KL and its bound, closed forms", "nats", nats, 2, FM_PLOT_LOG_X | FM_PLOT_LOG_Y},
        {"in parts of the bound's closed form", "", shares, 4, FM_PLOT_LOG_X}};

    return study_panels(s, "kl-bound-linear.svg", "beta: w = v + beta x", panels, 2, error);
}

static gboolean
linear_bounds(Study *s, GError **error)
{
    const double start = cli_seconds();
    Linear c;

    for (size_t i = 0; i < LINEAR; i++)
        if (!linear_bound(s, i, &c, error))
            return FALSE;
    study_say(s, "four bounds of linear fields, exact and sampled: %.3f s", cli_seconds() - start);
    return linear_draw(s, &c, error);
}

gboolean
study_kl_bound_linear(Study *s, GError **error)
{
    static const char *const taken[] = {NULL};

    return study_takes(s, taken, error) && linear_bounds(s, error);
}

gboolean
study_kl_bound(Study *s, GError **error)
{
    static const char *const taken[] = {"batch-size", "lr", NULL};

    return study_takes(s, taken, error) && linear_bounds(s, error) && learned_bound(s, error);
}
