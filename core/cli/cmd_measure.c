/* cmd_measure.c: compare two sample files, P first. */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

int
cmd_measure(Cli *cli, GError **error)
{
    g_autoptr(FmArray) a = cli_load_points(cli->args->pdata[0], 0, error), b = NULL;
    g_autoptr(GArray) metrics = metrics_new();
    FmSamples p = {0}, q = {0};
    const FmKey key = {.seed = (guint64)MAX(cli->config->seed, 0), .stream = FM_STREAM_EVAL};
    const int threads = cli->config->threads > 0 ? cli->config->threads : (int)g_get_num_processors();

    if (!a || !(b = cli_load_points(cli->args->pdata[1], 0, error)))
        return -1;
    p = (FmSamples){.n = fm_array_rows(a), .D = a->ndim <= 1 ? 1 : fm_array_width(a), .x = a->data};
    q = (FmSamples){.n = fm_array_rows(b), .D = b->ndim <= 1 ? 1 : fm_array_width(b), .x = b->data};
    if (!cli_given(cli, "divergence"))
        g_ptr_array_add(cli->config->divergences, g_strdup("knn-kl"));
    for (guint i = 0; i < cli->config->divergences->len; i++) {
        g_autoptr(FmPlugin) d = fm_plugin_new(FM_KIND_DIVERGENCE, cli->config->divergences->pdata[i], error);
        const double start = cli_seconds();
        FmEstimate e = {0};

        if (!d || !fm_divergence_estimate(d, &p, &q, key, threads, &e, error))
            return -1;
        metrics_add(metrics, fm_plugin_name(d), &e, cli_seconds() - start);
    }
    if (cli->json) {
        g_autoptr(JsonBuilder) json = json_builder_new();
        g_autofree char *text = NULL;

        out_header(json, cli, "ok");
        out_int(json, "seed", (gint64)key.seed);
        metrics_json(json, metrics);
        text = out_finish(json);
        puts(text);
    } else {
        printf("P = %s (%zu rows), Q = %s (%zu rows)\n", (char *)cli->args->pdata[0], p.n, (char *)cli->args->pdata[1],
               q.n);
        metrics_print(metrics);
    }
    return 0;
}
