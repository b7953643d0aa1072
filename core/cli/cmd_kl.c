/* cmd_kl.c: `kl P Q`: the divergence of two flows over time, its bound and its certificate; `kl RUN` is in
 * kl_profile.c. */
#include "cli/kl.h"
#include "io/plot.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char kl_solver[] = "dopri8:rtol=1e-9,atol=1e-9";
enum { KL_SAMPLES = 1000, KL_TIMES = 101, PROFILE_SAMPLES = 400, PROFILE_TIMES = 81 };

/* ---- numbers ---- */

void
kl_add(GArray *metrics, const FmKl *kl, const char *name, FmNumber v, const char *unit, const char *what)
{
    FmEstimate e = {.value = v.value, .se = v.se > 0 ? v.se : NAN, .n = kl->n, .unit = unit};

    if (what)
        fm_estimate_text(&e, "what", what);
    metrics_add(metrics, name, &e, 0.0);
}

void
kl_add_none(GArray *metrics, const char *name, const char *why)
{
    FmEstimate e = {.value = NAN, .se = NAN, .unit = "nats"};

    g_strlcpy(e.why, why, sizeof e.why);
    metrics_add(metrics, name, &e, 0.0);
}

static GArray *
kl_metrics(const FmKl *kl, double seconds)
{
    static const char both[] = "from points of p and of q";
    GArray *m = metrics_new();
    const size_t end = kl->T - 1;
    FmEstimate e = {.value = kl->kl.value, .se = kl->kl.se > 0 ? kl->kl.se : NAN, .n = kl->n, .unit = "nats"};

    fm_estimate_text(&e, "route", kl->exact ? "closed form" : kl->kl_both ? "points of p and q" : "mean of log p/q");
    fm_estimate_number(&e, "t", kl->t[end]);
    fm_estimate_number(&e, "failed", (double)kl->failed);
    if (kl->own_ratio)
        fm_estimate_number(&e, "failed of q", (double)kl->own_failed);
    fm_estimate_number(&e, "tail", kl->tail);
    fm_estimate_number(&e, "nfe_mean", kl->nfe_mean);
    metrics_add(m, "kl", &e, seconds);
    if (kl->infinite) { /* the other figures are at the grid's end */
        kl_add_none(m, "kl-at-1", kl->kl_at_1);
        kl_add_none(m, "bound-at-1", kl->bound_at_1);
        kl_add_none(m, "score-gap2-at-1", kl->bound_at_1);
    }
    kl_add(m, kl, "kl-ratio", (FmNumber){kl->value[FM_KL_PLAIN][end], kl->se[FM_KL_PLAIN][end]}, "nats",
           "mean of log p/q");
    if (kl->low_why)
        kl_add_none(m, "kl-low-variance", kl->low_why);
    else
        kl_add(m, kl, "kl-low-variance", (FmNumber){kl->value[FM_KL_LOW][end], kl->se[FM_KL_LOW][end]}, "nats",
               "mean of log p/q + q/p - 1");
    kl_add(m, kl, "kl-both", kl->both, "nats", both);
    kl_add(m, kl, "kl-evolution", (FmNumber){kl->value[FM_KL_EVOLUTION][end], kl->se[FM_KL_EVOLUTION][end]}, "nats",
           "evolution identity");
    kl_add(m, kl, "kl-routes-differ", (FmNumber){kl->value[FM_KL_DIFFERENCE][end], kl->se[FM_KL_DIFFERENCE][end]},
           "nats", "paired");
    kl_add(m, kl, "kl-start", (FmNumber){kl->value[FM_KL_RATIO][0], kl->se[FM_KL_RATIO][0]}, "nats", NULL);
    kl_add(m, kl, "bound", kl->bound, "nats", "eps sqrt(S)");
    kl_add(m, kl, "bound-sharp", kl->sharp, "nats", "int eps_t sqrt(S_t) dt");
    kl_add(m, kl, "eps2", kl->eps2, "", "int E|v - w|^2 dt");
    kl_add(m, kl, "score-gap2", kl->gap2, "", "int E|score gap|^2 dt");
    if (isnan(kl->alignment))
        kl_add_none(m, "alignment", "velocities or scores do not differ");
    else
        kl_add(m, kl, "alignment", (FmNumber){kl->alignment, kl->alignment_se}, "", NULL);
    if (kl->exact) {
        kl_add(m, kl, "bound-exact", (FmNumber){kl->exact_bound, NAN}, "nats", "closed form");
        kl_add(m, kl, "bound-sharp-exact", (FmNumber){kl->exact_sharp, NAN}, "nats", "closed form");
    }
    if (isinf(kl->reverse.value))
        kl_add_none(m, "reverse-kl", "infinite: p has density 0 at a point of q");
    else
        kl_add(m, kl, "reverse-kl", kl->reverse, "nats", both);
    kl_add(m, kl, "jensen-shannon", kl->jensen_shannon, "nats", both);
    kl_add(m, kl, "tv", kl->tv, "", both);
    kl_add(m, kl, "unreached", (FmNumber){kl->unreached, NAN}, "", "share of q where no trajectory of p is expected");
    kl_add(m, kl, "weights-mean", kl->weight, "", "mean of q/p, 1 when p's trajectories cover q");
    kl_add(m, kl, "weights-ess", (FmNumber){kl->ess, NAN}, "", "effective sample size of q/p");
    kl_add(m, kl, "entropy", (FmNumber){kl->value[FM_KL_ENTROPY][end], kl->se[FM_KL_ENTROPY][end]}, "nats",
           "of p, mean of -log p");
    kl_add(m, kl, "entropy-score", (FmNumber){kl->value[FM_KL_ENTROPY_SCORE][end], kl->se[FM_KL_ENTROPY_SCORE][end]},
           "nats", "of p, by E<v, score>");
    kl_add(m, kl, "entropy-div", (FmNumber){kl->value[FM_KL_ENTROPY_DIV][end], kl->se[FM_KL_ENTROPY_DIV][end]}, "nats",
           "of p, by E div v");
    kl_add(m, kl, "pathwise-residual", (FmNumber){kl->residual_max, NAN}, "nats",
           "largest of all trajectories and times");
    return m;
}

/* ---- output ---- */

static const struct {
    const char *name;
    FmKlCurve curve;
    gboolean se;
} columns[] = {{"kl", FM_KL_RATIO, TRUE},
               {"evolution", FM_KL_EVOLUTION, TRUE},
               {"difference", FM_KL_DIFFERENCE, TRUE},
               {"integrand", FM_KL_INTEGRAND, TRUE},
               {"eps2", FM_KL_EPS2_T, TRUE},
               {"score_gap2", FM_KL_GAP2_T, TRUE},
               {"entropy", FM_KL_ENTROPY, TRUE}};

static void
rows_json(JsonBuilder *b, const FmKl *kl)
{
    out_array(b, "rows");
    for (size_t j = 0; j < kl->T; j++) {
        json_builder_begin_object(b);
        out_real(b, "t", kl->t[j]);
        for (size_t c = 0; c < G_N_ELEMENTS(columns); c++) {
            g_autofree char *se = g_strconcat(columns[c].name, "_se", NULL);

            out_real(b, columns[c].name, kl->value[columns[c].curve][j]);
            out_real(b, se, kl->se[columns[c].curve][j]);
        }
        if (kl->exact)
            out_real(b, "exact", kl->exact[j]);
        json_builder_end_object(b);
    }
    json_builder_end_array(b);
}

void
kl_side_json(JsonBuilder *b, const char *name, const char *text, const FmRun *run)
{
    static const FmKind kinds[] = {FM_KIND_NET, FM_KIND_DATASET, FM_KIND_PATH};

    out_open(b, name);
    out_text(b, "given", text);
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autofree char *spec = run->plugin[kinds[i]] ? fm_plugin_spec(run->plugin[kinds[i]]) : NULL;

        if (spec)
            out_text(b, fm_kind_name(kinds[i]), spec);
    }
    json_builder_end_object(b);
}

void
kl_common_json(JsonBuilder *b, const Cli *cli, const FmKl *kl)
{
    out_int(b, "seed", MAX(cli->config->seed, 0));
    out_int(b, "n", (gint64)kl->n);
    out_int(b, "times", (gint64)kl->T);
    out_text(b, "dtype", "f64");
    out_text(b, "time", "t=0 noise, t=1 data");
}

char *
kl_end_json(JsonBuilder *b, const char *words)
{
    out_text(b, "words", words);
    out_texts(b, "files", 1, (const char *const[]){"kl.svg"});
    return out_finish(b);
}

gboolean
kl_write(const Cli *cli, const char *dir, const char *json, GError **error)
{
    g_autofree char *file = g_build_filename(dir, "result.json", NULL);

    if (!fm_write_file(file, json, strlen(json), error))
        return FALSE;
    if (cli->json)
        puts(json);
    return TRUE;
}

static char *
kl_json(Cli *cli, const Side side[2], const FmKl *kl, GArray *metrics, const char *words, const char *dir)
{
    g_autoptr(JsonBuilder) b = json_builder_new();
    static const char *const level[] = {"p50", "p90", "p99", "p100"};

    out_header(b, cli, "ok");
    out_text(b, "run", dir);
    kl_side_json(b, "p", cli->args->pdata[0], side[0].run);
    kl_side_json(b, "q", cli->args->pdata[1], side[1].run);
    kl_common_json(b, cli, kl);
    metrics_json(b, metrics);
    out_text(b, "verdict", fm_verdict_names[kl->verdict]);
    out_text(b, "verdict_sharp", fm_verdict_names[kl->verdict_sharp]);
    out_real(b, "slack_se", kl->slack_se);
    out_real(b, "z_max", kl->z_max);
    out_real(b, "quadrature_error", kl->quadrature);
    out_open(b, "pathwise_residual");
    out_real(b, "max", kl->residual_max);
    out_real(b, "every_other_time", kl->residual_coarse);
    for (int k = 0; k < 4; k++)
        out_real(b, level[k], kl->residual[k]);
    json_builder_end_object(b);
    rows_json(b, kl);
    return kl_end_json(b, words);
}

static void
kl_print(const FmKl *kl, GArray *metrics, const char *words)
{
    const size_t step = MAX((kl->T - 1) / 10, 1);

    printf("%8s %22s %22s %12s %11s %11s%s\n", "t", "KL by log p/q", "KL by evolution", "integrand", "eps_t^2", "S_t",
           kl->exact ? "   exact" : "");
    for (size_t j = 0; j < kl->T; j += step) {
        printf("%8.4f %11.5g +- %7.1e %11.5g +- %7.1e %12.4g %11.4g %11.4g", kl->t[j], kl->value[FM_KL_RATIO][j],
               kl->se[FM_KL_RATIO][j], kl->value[FM_KL_EVOLUTION][j], kl->se[FM_KL_EVOLUTION][j],
               kl->value[FM_KL_INTEGRAND][j], kl->value[FM_KL_EPS2_T][j], kl->value[FM_KL_GAP2_T][j]);
        if (kl->exact)
            printf(" %11.5g", kl->exact[j]);
        putchar('\n');
    }
    metrics_print(metrics);
    printf("  pathwise residual at the end: median %.1e, 90 %% %.1e, 99 %% %.1e, largest %.1e\n", kl->residual[0],
           kl->residual[1], kl->residual[2], kl->residual[3]);
    puts(words);
}

static gboolean
kl_draw(const FmKl *kl, const char *dir, GError **error)
{
    g_autofree char *file = g_build_filename(dir, "kl.svg", NULL);
    g_autofree double *root = g_new(double, kl->T);
    const double *t = kl->t;

    for (size_t j = 0; j < kl->T; j++)
        root[j] = sqrt(kl->value[FM_KL_EPS2_T][j] * kl->value[FM_KL_GAP2_T][j]);
    const FmCurve top[] = {{"log p/q", t, kl->value[FM_KL_RATIO], kl->se[FM_KL_RATIO], kl->T},
                           {"evolution identity", t, kl->value[FM_KL_EVOLUTION], kl->se[FM_KL_EVOLUTION], kl->T},
                           {"closed form", t, kl->exact, NULL, kl->T}};
    const FmCurve low[] = {{"E<v - w, score gap>", t, kl->value[FM_KL_INTEGRAND], kl->se[FM_KL_INTEGRAND], kl->T},
                           {"eps_t sqrt(S_t)", t, root, NULL, kl->T}};
    const FmPanel panels[] = {{"KL(p_t || q_t)", "nats", top, kl->exact ? 3 : 2, 0},
                              {"its rate, and the bound's", "nats per unit of t", low, 2, 0}};

    return fm_plot_panels(file, "t (0 noise, 1 data)", panels, 2, error);
}

static gboolean
kl_finish(Cli *cli, const Side side[2], const FmKl *kl, double seconds, const char *dir, GError **error)
{
    g_autoptr(GArray) metrics = kl_metrics(kl, seconds);
    g_autofree char *words = fm_kl_words(kl), *json = kl_json(cli, side, kl, metrics, words, dir);

    if (!kl_draw(kl, dir, error) || !kl_write(cli, dir, json, error))
        return FALSE;
    if (!cli->json)
        kl_print(kl, metrics, words);
    return TRUE;
}

FmKl *
kl_measure(const Cli *cli, const char *what, FmFlow *p, FmFlow *q, const FmKlOptions *options, GError **error)
{
    g_autoptr(Progress) progress = progress_new(cli, what);
    FmKlOptions o = *options;

    o.progress = progress_part;
    o.listener = progress;
    return fm_kl_new(p, q, &o, error);
}

static gboolean
kl_compare(Cli *cli, const Side side[2], const FmKlOptions *options, const char *dir, GError **error)
{
    const double start = cli_seconds();
    g_autoptr(FmKl) kl = kl_measure(cli, "KL(p_t||q_t)", side[0].flow, side[1].flow, options, error);

    return kl && kl_finish(cli, side, kl, cli_seconds() - start, dir, error);
}

void
cmd_kl_help(GString *out)
{
    g_string_append(out, "\nP, Q\n"
                         "    a run directory, or a field in closed form, such as\n"
                         "    oracle:dataset=8gaussians,path=ot   or   oracle:field=linear,a=0.3*sin(2*pi*t)+0.2\n"
                         "    ('inspect oracle' has its options)\n");
}

/* Fields and their sums along the trajectories, of each of the comparisons; points of P, FM_KL_OWN times as many of
 * Q and the data that these begin with. */
static gboolean
kl_fits(const FmKlOptions *o, int comparisons, size_t D, GError **error)
{
    const double points = comparisons > 1 ? 2.0 : 2.0 + 2.0 * FM_KL_OWN;
    const double numbers = (double)(comparisons * (FM_KL_N_FIELDS + 3)) * (double)o->times + points * (double)D;

    return cli_check_memory("trajectories", (double)o->n, numbers * sizeof(double), error);
}

int
cmd_kl(Cli *cli, GError **error)
{
    const gboolean alone = cli->args->len == 1;
    char *const *text = (char *const *)cli->args->pdata;
    Side side[2] = {{NULL, NULL}, {NULL, NULL}};
    const FmKlOptions options = {.n = cli->config->samples > 0 ? (size_t)cli->config->samples
                                      : alone                  ? PROFILE_SAMPLES
                                                               : KL_SAMPLES,
                                 .times = cli->times > 0 ? (size_t)cli->times
                                          : alone        ? PROFILE_TIMES
                                                         : KL_TIMES,
                                 .seed = (guint64)MAX(cli->config->seed, 0),
                                 .threads =
                                     cli->config->threads > 0 ? cli->config->threads : (int)g_get_num_processors(),
                                 .stop = cli->until};
    const char *solver = cli->config->spec[FM_KIND_SOLVER] ? cli->config->spec[FM_KIND_SOLVER] : kl_solver;
    g_autofree char *dir = NULL;

    const gboolean ok =
        sides_open(side, text, alone ? 1 : 2, cli->dim, options.threads, solver, error) &&
        kl_fits(&options, alone ? 2 : 1, side[0].run->data.D, error) && (dir = cli_run_dir(cli, error)) &&
        (alone ? kl_profile(cli, &side[0], &options, dir, error) : kl_compare(cli, side, &options, dir, error));
    sides_clear(side);
    return ok ? 0 : -1;
}
