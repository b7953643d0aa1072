/* cmd_density.c: `density` and `velocity` at the points of a file. */
#include "cli/cli.h"
#include "flow/integrate.h"

#include <math.h>
#include <stdio.h>

/* files: NULL-terminated; metrics NULL: none */
static int
finish(Cli *cli, const FmRun *run, const char *const *files, size_t n, const FmSolveSummary *s, GArray *metrics)
{
    if (cli->json) {
        g_autoptr(JsonBuilder) b = json_builder_new();
        g_autofree char *text = NULL;

        out_header(b, cli, "ok");
        out_text(b, "run", cli->args->pdata[0]);
        out_setting(b, run, MAX(cli->config->seed, 0));
        out_int(b, "n", (gint64)n);
        if (s)
            out_real(b, "nfe_mean", s->nfe_mean);
        if (metrics)
            metrics_json(b, metrics);
        out_texts(b, "files", g_strv_length((char **)files), files);
        text = out_finish(b);
        puts(text);
    } else if (!g_str_equal(files[0], "-") && !(files[1] && g_str_equal(files[1], "-"))) {
        printf("%zu rows in %s%s%s\n", n, files[0], files[1] ? " and " : "", files[1] ? files[1] : "");
        if (metrics)
            metrics_print(metrics);
    }
    return 0;
}

/* Two outputs: both may be written, to different files, and not both to standard output. */
static gboolean
check_second(const Cli *cli, const char *option, const char *file, const char *out, GError **error)
{
    if (file && g_str_equal(file, "-") && g_str_equal(out, "-")) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                    "--out and --%s cannot both be '-': standard output holds one array", option);
        return FALSE;
    }
    g_autofree char *name = g_strconcat("--", option, NULL);
    return !file || (cli_check_out(cli, file, error) && cli_check_differ(out, "--out", file, name, error) &&
                     cli_check_differ(cli->args->pdata[1], "the points", file, name, error));
}

/* The score is exact; a learned flow's comes with the exact log-density, another estimate takes its own way. how NULL:
 * by the formula. */
static gboolean
density(CliPoints *p, const FmLikelihood *how, double *log_q, double *score, FmSolveSummary *s, GError **error)
{
    if (!how)
        return fm_flow_formula_density(p->flow, p->n, p->x->data, log_q, score, error);
    if (score && !fm_flow_score(p->flow, p->n, p->x->data, p->labels, log_q, score, s, error))
        return FALSE;
    return (score && how->trace == FM_TRACE_EXACT && !fm_flow_has_formula(p->flow)) ||
           fm_flow_log_density(p->flow, p->n, p->x->data, p->labels, how, log_q, NULL, s, error);
}

static gboolean
density_how(const Cli *cli, guint64 seed, FmLikelihood *how, GError **error)
{
    const char *given = cli->config->likelihood;

    if (given == NULL || !g_str_equal(given, "none"))
        return given == NULL || cli_likelihood(given, seed, how, error);
    g_set_error_literal(error, FM_ERROR, FM_ERROR_USAGE,
                        "option --likelihood is 'none' and 'density' is a likelihood, expected exact, "
                        "hutchinson[:probe=rademacher|gaussian,probes=N] or map");
    return FALSE;
}

/* Mean and standard error on stdout, values in --out. An exact field's density is its formula's, unless a solver
 * or a way to the likelihood is asked for: between the squares of a checkerboard no solver comes back to noise. */
int
cmd_density(Cli *cli, GError **error)
{
    g_auto(CliPoints) p = {0};
    g_autoptr(FmArray) log_q = NULL, score = NULL;
    g_autoptr(GArray) metrics = metrics_new();
    const char *out = cli->out ? cli->out : "log_density.npy";
    const guint64 seed = (guint64)MAX(cli->config->seed, 0);
    const double start = cli_seconds();
    FmLikelihood how = {0};
    FmSolveSummary summary = {0};

    if (!density_how(cli, seed, &how, error) || !check_second(cli, "score", cli->score, out, error) ||
        !cli_points_open(&p, cli, out, error) || !evaluate_has_density(p.run, error))
        return -1;
    if (!cli->config->likelihood) {
        how = fm__default_likelihood(p.flow);
        how.key.seed = cli_given(cli, "seed") ? seed : how.key.seed;
    }
    if (cli->score && how.trace == FM_TRACE_MAP) {
        g_set_error_literal(
            error, FM_ERROR, FM_ERROR_USAGE,
            "option --score is the gradient of the flow's log-density and --likelihood is map, expected "
            "exact or hutchinson beside it");
        return -1;
    }
    const gboolean formula =
        !cli->config->likelihood && !cli_given(cli, "solver") && !p.labels && fm_flow_has_formula(p.flow);
    log_q = fm_array_new(FM_F64, 1, &p.n, error);
    score = cli->score ? fm_array_new(FM_F64, 2, (const size_t[]){p.n, p.D}, error) : NULL;
    if (!log_q || (cli->score && !score) ||
        !density(&p, formula ? NULL : &how, log_q->data, score ? score->data : NULL, &summary, error) ||
        !fm_array_save(log_q, out, error) ||
        (score && !cli_save_points(cli->score, &p.run->data, FM_F64, p.n, p.D, score->data, error)))
        return -1;
    if (formula)
        evaluate_formula(p.n, log_q->data, start, metrics);
    else if (!evaluate_nll(p.run, p.flow, p.n, p.x->data, p.labels, &how, log_q->data, &summary, start, metrics, error))
        return -1;
    return finish(cli, p.run, (const char *const[]){out, cli->score, NULL}, p.n, formula ? NULL : &summary, metrics);
}

int
cmd_velocity(Cli *cli, GError **error)
{
    g_auto(CliPoints) p = {0};
    g_autoptr(FmArray) v = NULL, div = NULL;
    const char *out = cli->out ? cli->out : "velocity.npy";

    if (isnan(cli->time)) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE, "'velocity' needs --time T, a number from 0 (noise) to 1 (data)");
        return -1;
    }
    if (!check_second(cli, "div", cli->div, out, error) || !cli_points_open(&p, cli, out, error))
        return -1;
    v = fm_array_new(FM_F64, 2, (const size_t[]){p.n, p.D}, error);
    div = cli->div ? fm_array_new(FM_F64, 1, &p.n, error) : NULL;
    if (!v || (cli->div && !div) ||
        !fm_flow_velocity(p.flow, p.n, p.x->data, cli->time, p.labels, v->data, div ? div->data : NULL, error) ||
        !cli_save_points(out, &p.run->data, FM_F64, p.n, p.D, v->data, error) ||
        (div && !fm_array_save(div, cli->div, error)))
        return -1;
    return finish(cli, p.run, (const char *const[]){out, cli->div, NULL}, p.n, NULL, NULL);
}
