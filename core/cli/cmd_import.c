/* cmd_import.c: another tool's weights become a run directory. */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

/* "28,28,1" or "2", brackets allowed, to the shape of a point. */
static gboolean
parse_shape(const char *text, FmDataInfo *data, GError **error)
{
    g_autofree char *bare = g_strdup(text);
    g_auto(GStrv) part = NULL;

    g_strdelimit(bare, "[]()", ' ');
    part = g_strsplit(g_strstrip(bare), ",", -1);
    data->ndim = (int)g_strv_length(part);
    data->D = 1;
    if (data->ndim != 1 && data->ndim != 3)
        goto bad;
    for (int i = 0; i < data->ndim; i++) {
        guint64 n;

        if (!g_ascii_string_to_unsigned(g_strstrip(part[i]), 10, 1, 1 << 24, &n, NULL) ||
            !fm_size_mul(data->D, (size_t)n, 1, &data->D) || data->D > (size_t)1 << 31)
            goto bad;
        data->dim[i] = (size_t)n;
    }
    return TRUE;
bad:
    g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                "option --data-shape is '%s', expected one length such as 2 or three such as 28,28,1 "
                "(height, width, channels)",
                text);
    return FALSE;
}

static gboolean
check_usage(const Cli *cli, FmDataInfo *data, GError **error)
{
    if (!cli->config->spec[FM_KIND_NET]) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE, "'import' needs --net NAME, the net that the weights belong to");
        return FALSE;
    }
    if (!cli->data_shape) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                    "'import' needs --data-shape, the shape of a point, such as 28,28,1 or 2");
        return FALSE;
    }
    return parse_shape(cli->data_shape, data, error);
}

static void
print_import(const Cli *cli, const FmRun *run)
{
    g_autofree char *digest = fm_params_digest(run->params);
    g_autofree char *net = fm_plugin_spec(run->plugin[FM_KIND_NET]);

    if (cli->json) {
        g_autoptr(JsonBuilder) b = json_builder_new();
        g_autofree char *text = NULL;

        out_header(b, cli, "ok");
        out_text(b, "run", run->dir);
        out_config(b, run);
        out_open(b, "net");
        out_int(b, "parameters", (gint64)fm_params_number(run->params));
        out_text(b, "digest", digest);
        json_builder_end_object(b);
        out_texts(b, "files", 2, (const char *const[]){"config.ini", "model.safetensors"});
        text = out_finish(b);
        puts(text);
        return;
    }
    printf("imported %zu weights of %s\n", fm_params_number(run->params), net);
    printf("run in %s\n", run->dir);
}

int
cmd_import(Cli *cli, GError **error)
{
    FmDataInfo data = {0};
    FmRun *run;
    int status = -1;

    if (!check_usage(cli, &data, error))
        return -1;
    run = fm_run_import(cli->config, &data, cli->args->pdata[0], error);
    if (run && (run->dir = cli_run_dir(cli, error)) && fm_run_save(run, error)) {
        print_import(cli, run);
        status = 0;
    }
    fm_run_free(run);
    return status;
}
