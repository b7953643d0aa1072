/* cmd_sample.c: `sample` and `encode`. */
#include "cli/cli.h"
#include "io/plot.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* "samples.npy" and "log_density": "samples.log_density.npy". */
static char *
beside(const char *file, const char *what)
{
    const char *dot = strrchr(file, '.');
    g_autofree char *stem = dot ? g_strndup(file, (gsize)(dot - file)) : g_strdup(file);

    return g_strdup_printf("%s.%s.npy", stem, what);
}

/* RUN/samples.npy, or where the training's samples are kept there RUN/samples-2.npy, the next free number, with what
 * lies beside it; --force: the first. */
static char *
free_file(const Cli *cli, const char *dir)
{
    for (int i = 1;; i++) {
        g_autofree char *name = i == 1 ? g_strdup("samples.npy") : g_strdup_printf("samples-%d.npy", i);
        g_autofree char *file = g_build_filename(dir, name, NULL), *log_file = beside(file, "log_density"),
                        *path_file = beside(file, "trajectory");

        if (cli->force || !(g_file_test(file, G_FILE_TEST_EXISTS) || g_file_test(log_file, G_FILE_TEST_EXISTS) ||
                            g_file_test(path_file, G_FILE_TEST_EXISTS)))
            return g_steal_pointer(&file);
    }
}

/* (n, k, D), or (n, k, H, W, C) for images. */
static gboolean
sample_trajectory(Cli *cli, FmFlow *flow, size_t n, const double *x0, const int *labels, const char *file,
                  GError **error)
{
    const FmDataInfo *info = fm_flow_data_info(flow);
    const size_t k = (size_t)cli->trajectory;
    size_t dim[5] = {n, k, info->D};
    g_autoptr(FmArray) states = NULL;
    g_autofree double *t = g_new(double, k);

    if (info->ndim > 1)
        memcpy(dim + 2, info->dim, (size_t)info->ndim * sizeof dim[0]);
    states = fm_array_new(FM_F64, 2 + info->ndim, dim, error);
    for (size_t i = 0; i < k; i++)
        t[i] = (double)i / (double)(k - 1);
    return states &&
           fm_flow_trajectory(flow, n, (guint64)MAX(cli->config->seed, 0), x0, labels, k, t, states->data, error) &&
           fm_array_save(states, file, error);
}

/* files: NULL-terminated; metrics NULL: none */
static void
sample_report(Cli *cli, const FmRun *run, const char *what, const char *const *files, size_t n, const FmSolveSummary *s,
              GArray *metrics, double seconds)
{
    if (cli->json) {
        g_autoptr(JsonBuilder) b = json_builder_new();
        g_autofree char *text = NULL;

        out_header(b, cli, "ok");
        out_text(b, "run", cli->args->pdata[0]);
        out_setting(b, run, MAX(cli->config->seed, 0));
        summary_json(b, s, (gint64)n, seconds);
        if (metrics)
            metrics_json(b, metrics);
        out_texts(b, "files", g_strv_length((char **)files), files);
        text = out_finish(b);
        puts(text);
    } else if (strcmp(files[0], "-") != 0) {
        printf("%zu %s in %s: %.2f s, NFE %.1f mean, %llu max, %zu failed\n", n, what, files[0], seconds, s->nfe_mean,
               (unsigned long long)s->nfe_max, s->failed);
        if (metrics)
            metrics_print(metrics);
    }
}

typedef struct Draw {
    FmRun *run;
    FmFlow *flow;
    FmArray *init, *x, *log_q;
    int *labels;
    char *out;
    size_t n;
} Draw;

static void
draw_clear(Draw *d)
{
    fm_flow_free(d->flow);
    fm_run_free(d->run);
    fm_array_free(d->init);
    fm_array_free(d->x);
    fm_array_free(d->log_q);
    g_free(d->labels);
    g_free(d->out);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Draw, draw_clear)

static gboolean
sample_usage(const Cli *cli, const Draw *d, GError **error)
{
    if (cli->init && cli_given(cli, "samples")) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                    "option --samples does not go with --init, which holds one start for each sample");
        return FALSE;
    }
    if (strcmp(d->out, "-") == 0 && (cli->log_density || cli->trajectory > 0)) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                    "--log-density and --trajectory write files beside the samples, so --out cannot be '-'");
        return FALSE;
    }
    return cli_check_out(cli, d->out, error) && cli_check_differ(cli->init, "--init", d->out, "--out", error);
}

/* --likelihood says how --log-density is found. */
static gboolean
sample_method(const Cli *cli, FmLikelihood *how, GError **error)
{
    if (!cli->config->likelihood)
        return TRUE;
    if (!cli->log_density) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                    "option --likelihood says how --log-density is found, which was not given");
        return FALSE;
    }
    return cli_likelihood(cli->config->likelihood, (guint64)MAX(cli->config->seed, 0), how, error);
}

/* Everything that can be wrong is found before the first sample is drawn. */
static gboolean
sample_open(Cli *cli, Draw *d, GError **error)
{
    const char *dir = cli->args->pdata[0];
    size_t D, values;

    d->out = cli->out ? g_strdup(cli->out) : free_file(cli, dir);
    d->flow = cli_open_flow(cli, dir, &d->run, error);
    if (!d->flow || !sample_usage(cli, d, error) || (cli->log_density && !evaluate_has_density(d->run, error)))
        return FALSE;
    D = fm_flow_dim(d->flow);
    if (!fm_flow_set_guidance(d->flow, cli->guidance, error) ||
        (cli_given(cli, "path") && !fm_flow_set_path(d->flow, cli->config->spec[FM_KIND_PATH], error)))
        return FALSE;
    if (cli->init && !(d->init = cli_load_points(cli->init, D, error)))
        return FALSE;
    d->n = d->init ? fm_array_rows(d->init) : cli_given(cli, "samples") ? (size_t)cli->config->samples : 64;
    values = D * (cli->trajectory > 0 ? (size_t)cli->trajectory + 3 : 3) + 2;
    if (!cli_check_memory("samples", (double)d->n, (double)values * sizeof(double), error) ||
        !cli_parse_labels(cli->labels, d->n, d->run->net_info.classes, &d->labels, error))
        return FALSE;
    if (!d->labels)
        d->labels = cli_labels_in_turn(d->n, d->run->net_info.classes);
    d->x = fm_array_new(FM_F64, 2, (const size_t[]){d->n, D}, error);
    d->log_q = cli->log_density ? fm_array_new(FM_F64, 1, &d->n, error) : NULL;
    return d->x && (d->log_q || !cli->log_density);
}

int
cmd_sample(Cli *cli, GError **error)
{
    g_auto(Draw) d = {0};
    FmLikelihood how = {0};
    FmSolveSummary summary = {0};
    g_autofree char *log_file = NULL, *path_file = NULL;
    const char *files[4] = {NULL};
    const double start = cli_seconds();
    const double *x0;
    size_t n_files = 1;

    if (!sample_method(cli, &how, error) || !sample_open(cli, &d, error))
        return -1;
    x0 = d.init ? d.init->data : NULL;
    files[0] = d.out;
    log_file = beside(d.out, "log_density");
    path_file = beside(d.out, "trajectory");
    if (!fm_flow_sample_density(d.flow, d.n, (guint64)MAX(cli->config->seed, 0), x0, d.labels,
                                cli->config->likelihood ? &how : NULL, d.x->data, d.log_q ? d.log_q->data : NULL, NULL,
                                &summary, error) ||
        !cli_save_points(d.out, &d.run->data, d.run->config->dtype, d.n, fm_flow_dim(d.flow), d.x->data, error))
        return -1;
    if (d.log_q && !fm_array_save(d.log_q, files[n_files++] = log_file, error))
        return -1;
    if (cli->trajectory > 0 && !sample_trajectory(cli, d.flow, d.n, x0, d.labels, files[n_files++] = path_file, error))
        return -1;
    sample_report(cli, d.run, "samples", files, d.n, &summary, NULL, cli_seconds() - start);
    return 0;
}

int
cmd_encode(Cli *cli, GError **error)
{
    g_auto(CliPoints) p = {0};
    g_autoptr(FmArray) z = NULL, log_q = NULL;
    g_autoptr(GArray) metrics = metrics_new();
    const char *out = cli->out ? cli->out : "z.npy";
    const double start = cli_seconds();
    FmSolveSummary summary = {0};

    if (!cli_points_open(&p, cli, out, error))
        return -1;
    z = fm_array_new(FM_F64, 2, (const size_t[]){p.n, p.D}, error);
    log_q = fm_array_new(FM_F64, 1, &p.n, error);
    if (!z || !log_q ||
        !fm_flow_log_density(p.flow, p.n, p.x->data, p.labels, NULL, log_q->data, z->data, &summary, error) ||
        !cli_save_points(out, &p.run->data, FM_F64, p.n, p.D, z->data, error))
        return -1;
    latent_metric(p.flow, p.n, z->data, metrics);
    sample_report(cli, p.run, "rows", (const char *const[]){out, NULL}, p.n, &summary, metrics, cli_seconds() - start);
    return 0;
}
