/* cmd_sample.c: `sample` and `encode`. */
#include "cli/cli.h"
#include "io/plot.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* A run's flow with the solver, seed and threads of the command line. */
static FmFlow *
open_flow(Cli *cli, FmRun **run, GError **error)
{
    FmFlow *flow;

    *run = fm_run_load(cli->args->pdata[0], error);
    if (!*run)
        return NULL;
    flow = fm_flow_from_run(*run, error);
    if (!flow)
        return NULL;
    if (cli_given(cli, "threads"))
        fm_flow_set_threads(flow, cli->config->threads);
    if (cli_given(cli, "solver") &&
        !fm_flow_set_solver(flow, cli->config->spec[FM_KIND_SOLVER], error))
        g_clear_pointer(&flow, fm_flow_free);
    return flow;
}

/* "samples.npy" and "log_density": "samples.log_density.npy". */
static char *
beside(const char *file, const char *what)
{
    const char *dot = strrchr(file, '.');
    g_autofree char *stem = dot ? g_strndup(file, (gsize)(dot - file)) : g_strdup(file);

    return g_strdup_printf("%s.%s.npy", stem, what);
}

static gboolean
sample_trajectory(Cli *cli, FmFlow *flow, size_t n, const double *x0, const int *labels,
                  const char *out, GError **error)
{
    const size_t k = (size_t)cli->trajectory, D = fm_flow_dim(flow);
    const size_t dim[3] = {n, k, D};
    g_autoptr(FmArray) states = fm_array_new(FM_F64, 3, dim, error);
    g_autofree double *t = g_new(double, k);
    g_autofree char *file = beside(out, "trajectory");

    for (size_t i = 0; i < k; i++)
        t[i] = (double)i / (double)(k - 1);
    return states &&
           fm_flow_trajectory(flow, n, (guint64)MAX(cli->config->seed, 0), x0, labels, k, t,
                              states->data, error) &&
           cli_save_points(file, NULL, FM_F64, n * k, D, states->data, error);
}

static void
sample_report(Cli *cli, const char *out, size_t n, const FmSolveSummary *s, double seconds)
{
    if (cli->json) {
        g_autoptr(JsonBuilder) b = json_builder_new();
        g_autofree char *text = NULL;

        out_header(b, cli, "ok");
        out_text(b, "run", cli->args->pdata[0]);
        out_int(b, "seed", MAX(cli->config->seed, 0));
        summary_json(b, s, (gint64)n, seconds);
        out_array(b, "files");
        json_builder_add_string_value(b, out);
        json_builder_end_array(b);
        text = out_finish(b);
        puts(text);
    } else if (strcmp(out, "-") != 0) {
        printf("%zu samples in %s: %.2f s, NFE %.1f mean, %llu max, %zu failed\n", n, out, seconds,
               s->nfe_mean, (unsigned long long)s->nfe_max, s->failed);
    }
}

int
cmd_sample(Cli *cli, GError **error)
{
    FmRun *run = NULL;
    g_autoptr(FmFlow) flow = open_flow(cli, &run, error);
    g_autoptr(FmArray) init = NULL, x = NULL, log_q = NULL;
    g_autofree int *labels = NULL;
    g_autofree char *out = NULL;
    FmSolveSummary summary = {0};
    size_t n, D;
    double start;
    int status = -1;

    if (!flow)
        goto done;
    D = fm_flow_dim(flow);
    if (cli->init && !(init = cli_load_points(cli->init, D, error)))
        goto done;
    n = init ? fm_array_rows(init) : (size_t)(cli_given(cli, "samples") ? cli->config->samples : 64);
    if (!cli_parse_labels(cli->labels, n, run->data.classes, &labels, error))
        goto done;
    x = fm_array_new(FM_F64, 2, (const size_t[]){n, D}, error);
    log_q = cli->log_density ? fm_array_new(FM_F64, 1, &n, error) : NULL;
    if (!x || (cli->log_density && !log_q))
        goto done;
    out = cli->out ? g_strdup(cli->out) : g_build_filename(cli->args->pdata[0], "samples.npy", NULL);
    start = cli_seconds();
    if (!fm_flow_sample(flow, n, (guint64)MAX(cli->config->seed, 0), init ? init->data : NULL, labels,
                        x->data, log_q ? log_q->data : NULL, NULL, &summary, error) ||
        !cli_save_points(out, &run->data, run->config->dtype, n, D, x->data, error))
        goto done;
    if (log_q) {
        g_autofree char *file = beside(out, "log_density");

        if (!cli_save_points(file, NULL, FM_F64, n, 1, log_q->data, error))
            goto done;
    }
    if (cli->trajectory > 0 &&
        !sample_trajectory(cli, flow, n, init ? init->data : NULL, labels, out, error))
        goto done;
    sample_report(cli, out, n, &summary, cli_seconds() - start);
    status = 0;
done:
    g_clear_pointer(&flow, fm_flow_free);
    fm_run_free(run);
    return status;
}

int
cmd_encode(Cli *cli, GError **error)
{
    FmRun *run = NULL;
    g_autoptr(FmFlow) flow = open_flow(cli, &run, error);
    g_autoptr(FmArray) x = NULL, z = NULL, log_q = NULL;
    g_autofree int *labels = NULL;
    size_t n;
    int status = -1;

    if (!flow)
        goto done;
    x = cli_load_points(cli->args->pdata[1], fm_flow_dim(flow), error);
    if (!x)
        goto done;
    n = fm_array_rows(x);
    z = fm_array_new(FM_F64, 2, (const size_t[]){n, fm_flow_dim(flow)}, error);
    log_q = fm_array_new(FM_F64, 1, &n, error);
    if (z && log_q && cli_parse_labels(cli->labels, n, run->data.classes, &labels, error) &&
        fm_flow_log_density(flow, n, x->data, labels, NULL, log_q->data, z->data, NULL, error) &&
        cli_save_points(cli->out ? cli->out : "z.npy", &run->data, FM_F64, n, fm_flow_dim(flow),
                        z->data, error)) {
        printf("%zu rows in %s\n", n, cli->out ? cli->out : "z.npy");
        status = 0;
    }
done:
    g_clear_pointer(&flow, fm_flow_free);
    fm_run_free(run);
    return status;
}
