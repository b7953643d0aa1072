/* study_kl_identity.c: d/dt KL(p_t||q_t) = E_p <v - w, grad log p_t - grad log q_t>, and the same sample
 * by sample: six pairs of linear fields in closed form; mixtures in 2, 8 and 32 dimensions against
 * the oracle with a scaled velocity and against learned fields.
 * Su et al. 2025, arXiv:2511.05480; the pathwise form: doc/measuring.md. */
#include "cli/study_kl.h"
#include "flow/quadrature.h"

#include <math.h>
#include <string.h>

FmRun *
study_kl_run(const Study *s, const char *net, const char *dataset, gint64 steps, GError **error)
{
    g_autoptr(FmConfig) c = fm_config_copy(s->cli->config);

    c->spec[FM_KIND_NET] = g_strdup(net);
    c->spec[FM_KIND_DATASET] = g_strdup(dataset);
    c->dtype = FM_F64;
    c->seed = (gint64)s->seed;
    c->threads = s->threads;
    if (c->steps < 0)
        c->steps = steps;
    return fm_run_new(c, error);
}

/* ---- closed forms ---- */

static gboolean
linear_pairs(Study *s, GError **error)
{
    static const char *const names[] = {"a1", "a2", "a3"};
    const FmKlOptions o = {.n = 2, .times = 201, .threads = 1, .stop = NAN};
    double worst = 0;

    for (int pair = 0; pair < 6; pair++) {
        const char *a = names[pair / 2], *b = names[(pair / 2 + 1 + pair % 2) % 3];
        g_autofree char *p = g_strdup_printf("oracle:field=linear,a=%s", a),
                        *q = g_strdup_printf("oracle:field=linear,a=%s", b), *name = g_strdup_printf("%s, %s", a, b);
        Side side[2] = {{NULL, NULL}, {NULL, NULL}};
        FmKl *kl = NULL;

        if (side_field(&side[0], p, NULL, 2, 1, STUDY_KL_SOLVER, error) &&
            side_field(&side[1], q, NULL, 2, 1, STUDY_KL_SOLVER, error))
            kl = fm_kl_exact(side[0].flow, side[1].flow, &o, error);
        sides_clear(side);
        if (!kl)
            return FALSE;
        g_autofree double *c = g_new(double, kl->T);
        double gap = 0;
        fm__cumulate(&kl->grid, kl->exact_integrand, c);
        for (size_t j = 0; j < kl->T; j++)
            gap = MAX(gap, fabs(kl->exact[j] - c[j]));
        study_row(s);
        study_text(s, "linear", name);
        study_number(s, "kl", kl->kl.value);
        study_number(s, "identity_error", gap);
        worst = MAX(worst, gap);
        fm_kl_free(kl);
    }
    checks_add_below(s->checks, "identity of six linear pairs, closed form", worst, 1e-10);
    return TRUE;
}

/* ---- sampled ---- */

typedef struct Case {
    const char *dataset;
    const char *net; /* learned q; NULL: the oracle at scale=1.1 */
    gint64 steps;
    size_t n, times;
} Case;

/* Eight components about a circle in the first two axes, the other axes normal. */
static const Case cases[] = {
    {"mixture:radius=2", NULL, 0, 800, 101},
    {"mixture:dim=8,radius=2", NULL, 0, 800, 61},
    {"mixture:dim=32,radius=2", NULL, 0, 800, 41},
    {"mixture:radius=2", "mlp:width=128,depth=2", 6000, 800, 101},
    {"mixture:dim=8,radius=2", "mlp:width=32,depth=2", 1000, 640, 81},
    {"mixture:dim=32,radius=2", "mlp:width=32,depth=2", 3000, 720, 81},
};

static FmKl *
measure_case(const Study *s, const Case *c, GError **error)
{
    const FmKlOptions o = {.n = c->n, .times = c->times, .seed = s->seed, .threads = s->threads, .stop = NAN};
    Side side[2] = {{NULL, NULL}, {NULL, NULL}};
    g_autofree char *p = g_strdup_printf("oracle:dataset={%s}", c->dataset),
                    *q = g_strdup_printf("oracle:dataset={%s},scale=1.1", c->dataset);
    gboolean ok = TRUE;
    FmKl *kl = NULL;

    if (c->net) {
        FmRun *run = study_kl_run(s, c->net, c->dataset, c->steps, error);
        FmTrainResult result = {0};

        ok = run && side_run(&side[1], run, s->threads, STUDY_KL_SOLVER_NET, error) &&
             fm_run_train(run, NULL, NULL, &result, error);
        g_clear_pointer(&result.loss_curve, g_array_unref);
    } else {
        ok = side_field(&side[1], q, NULL, -1, s->threads, STUDY_KL_SOLVER, error);
    }
    if (ok && side_field(&side[0], p, c->net ? side[1].run : NULL, -1, s->threads, STUDY_KL_SOLVER, error))
        kl = kl_measure(s->cli, c->dataset, side[0].flow, side[1].flow, &o, error);
    sides_clear(side);
    return kl;
}

static void
report_case(Study *s, const Case *c, const FmKl *kl)
{
    const size_t end = kl->T - 1;
    const double value = kl->value[FM_KL_EVOLUTION][end], se = MAX(kl->se[FM_KL_EVOLUTION][end], kl->kl.se);
    g_autofree char *name = g_strdup_printf("%d-d %s", (int)kl->D, c->net ? "learned" : "scale=1.1"),
                    *z = g_strdup_printf("%s: max |z|", name), *small = g_strdup_printf("%s: se / KL", name),
                    *residual = g_strdup_printf("%s: pathwise residual", name),
                    *quadrature = g_strdup_printf("%s: quadrature / se", name);

    study_row(s);
    study_text(s, "case", name);
    study_number(s, "n", (double)kl->n);
    study_number(s, "times", (double)kl->T);
    study_number(s, "kl_ratio", kl->value[FM_KL_RATIO][end]);
    study_number(s, "se_ratio", kl->se[FM_KL_RATIO][end]);
    study_number(s, "kl", kl->kl.value);
    study_number(s, "se", kl->kl.se);
    study_number(s, "kl_evolution", kl->value[FM_KL_EVOLUTION][end]);
    study_number(s, "se_evolution", kl->se[FM_KL_EVOLUTION][end]);
    study_number(s, "max_z", kl->z_max);
    study_number(s, "quadrature", kl->quadrature);
    study_number(s, "residual", kl->residual_max);
    checks_add_below(s->checks, z, kl->z_max, 4.0);
    checks_add_below(s->checks, residual, kl->residual_max, 1e-6);
    checks_add_below(s->checks, quadrature, kl->quadrature / kl->se[FM_KL_EVOLUTION][end], 0.1);
    checks_add_below(s->checks, small, se / value, 0.05); /* of KL at the end, and of the second route */
}

static gboolean
draw_case(Study *s, const Case *c, const FmKl *kl, const char *file, GError **error)
{
    g_autofree double *z = g_new0(double, kl->T);
    const double *t = kl->t;

    for (size_t j = 1; j < kl->T; j++)
        z[j] = kl->value[FM_KL_DIFFERENCE][j] / MAX(kl->se[FM_KL_DIFFERENCE][j], 1e-12);
    const FmCurve routes[] = {{"log p/q", t, kl->value[FM_KL_RATIO], kl->se[FM_KL_RATIO], kl->T},
                              {"evolution identity", t, kl->value[FM_KL_EVOLUTION], kl->se[FM_KL_EVOLUTION], kl->T}};
    const FmCurve rate = {"E<v - w, score gap>", t, kl->value[FM_KL_INTEGRAND], kl->se[FM_KL_INTEGRAND], kl->T};
    const FmCurve gap = {"z(t)", t, z, NULL, kl->T};
    const FmPanel panels[] = {
        {c->net ? "KL(p_t || q_t), q learned" : "KL(p_t || q_t), q the oracle at scale 1.1", "nats", routes, 2, 0},
        {"its rate", "nats per unit of t", &rate, 1, 0},
        {"routes differ by", "paired se", &gap, 1, 0}};

    return study_panels(s, file, "t (0 noise, 1 data)", panels, 3, error);
}

gboolean
study_kl_identity(Study *s, GError **error)
{
    static const char *const taken[] = {"steps", "batch-size", "lr", NULL};

    if (!study_takes(s, taken, error) || !linear_pairs(s, error))
        return FALSE;
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        const Case *c = &cases[i];
        const double start = cli_seconds();
        g_autoptr(FmKl) kl = measure_case(s, c, error);

        if (!kl)
            return FALSE;
        report_case(s, c, kl);
        study_progress(s, "%s against %s: %.1f s", c->dataset, c->net ? c->net : "scale=1.1", cli_seconds() - start);
        if (i == 0 && !draw_case(s, c, kl, "kl-identity.svg", error))
            return FALSE;
        if (c->net && kl->D == 2 && !draw_case(s, c, kl, "kl-identity-learned.svg", error))
            return FALSE;
    }
    return TRUE;
}
