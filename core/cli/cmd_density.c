/* cmd_density.c: `density` and `velocity` at the points of a file. */
#include "cli/cli.h"

#include <math.h>
#include <stdio.h>

/* What both commands begin with. */
typedef struct Points {
    FmRun *run;
    FmFlow *flow;
    FmArray *x;
    int *labels;
    size_t n, D;
} Points;

static void
points_clear(Points *p)
{
    fm_flow_free(p->flow);
    fm_run_free(p->run);
    fm_array_free(p->x);
    g_free(p->labels);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Points, points_clear)

static gboolean
points_open(Points *p, Cli *cli, GError **error)
{
    p->run = fm_run_load(cli->args->pdata[0], error);
    p->flow = p->run ? fm_flow_from_run(p->run, error) : NULL;
    if (!p->flow)
        return FALSE;
    if (cli_given(cli, "threads"))
        fm_flow_set_threads(p->flow, cli->config->threads);
    if (cli_given(cli, "solver") &&
        !fm_flow_set_solver(p->flow, cli->config->spec[FM_KIND_SOLVER], error))
        return FALSE;
    p->D = fm_flow_dim(p->flow);
    p->x = cli_load_points(cli->args->pdata[1], p->D, error);
    if (!p->x)
        return FALSE;
    p->n = fm_array_rows(p->x);
    return cli_parse_labels(cli->labels, p->n, p->run->data.classes, &p->labels, error);
}

static int
finish(Cli *cli, const char *file, const char *second, size_t n, const FmSolveSummary *s)
{
    if (cli->json) {
        g_autoptr(JsonBuilder) b = json_builder_new();
        g_autofree char *text = NULL;

        out_header(b, cli, "ok");
        out_text(b, "run", cli->args->pdata[0]);
        out_int(b, "n", (gint64)n);
        if (s)
            out_real(b, "nfe_mean", s->nfe_mean);
        out_array(b, "files");
        json_builder_add_string_value(b, file);
        if (second)
            json_builder_add_string_value(b, second);
        json_builder_end_array(b);
        text = out_finish(b);
        puts(text);
    } else if (!g_str_equal(file, "-")) {
        printf("%zu rows in %s%s%s\n", n, file, second ? " and " : "", second ? second : "");
    }
    return 0;
}

/* Mean and standard error on stdout, values in --out. */
int
cmd_density(Cli *cli, GError **error)
{
    g_auto(Points) p = {0};
    g_autoptr(FmArray) log_q = NULL, score = NULL;
    const char *out = cli->out ? cli->out : "log_density.npy";
    FmLikelihood how = {0};
    const FmLikelihood *method = NULL;
    FmSolveSummary summary = {0};

    if (!points_open(&p, cli, error))
        return -1;
    if (cli->config->likelihood) {
        if (!cli_likelihood(cli->config->likelihood, (guint64)MAX(cli->config->seed, 0), &how, error))
            return -1;
        method = &how;
    }
    log_q = fm_array_new(FM_F64, 1, &p.n, error);
    score = cli->score ? fm_array_new(FM_F64, 2, (const size_t[]){p.n, p.D}, error) : NULL;
    if (!log_q || (cli->score && !score) ||
        (score && !fm_flow_score(p.flow, p.n, p.x->data, p.labels, log_q->data, score->data, &summary,
                                 error)))
        return -1;
    /* The score comes with the exact log-density; another estimate takes its own way. */
    if ((!score || method) && !fm_flow_log_density(p.flow, p.n, p.x->data, p.labels, method,
                                                   log_q->data, NULL, &summary, error))
        return -1;
    if (!cli_save_points(out, NULL, FM_F64, p.n, 1, log_q->data, error) ||
        (score && !cli_save_points(cli->score, &p.run->data, FM_F64, p.n, p.D, score->data, error)))
        return -1;
    return finish(cli, out, cli->score, p.n, &summary);
}

int
cmd_velocity(Cli *cli, GError **error)
{
    g_auto(Points) p = {0};
    g_autoptr(FmArray) v = NULL, div = NULL;
    const char *out = cli->out ? cli->out : "velocity.npy";

    if (isnan(cli->time)) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                    "'velocity' needs --time T, a number from 0 (noise) to 1 (data)");
        return -1;
    }
    if (!points_open(&p, cli, error))
        return -1;
    v = fm_array_new(FM_F64, 2, (const size_t[]){p.n, p.D}, error);
    div = cli->div ? fm_array_new(FM_F64, 1, &p.n, error) : NULL;
    if (!v || (cli->div && !div) ||
        !fm_flow_velocity(p.flow, p.n, p.x->data, cli->time, p.labels, v->data,
                          div ? div->data : NULL, error) ||
        !cli_save_points(out, &p.run->data, FM_F64, p.n, p.D, v->data, error) ||
        (div && !cli_save_points(cli->div, NULL, FM_F64, p.n, 1, div->data, error)))
        return -1;
    return finish(cli, out, cli->div, p.n, NULL);
}
