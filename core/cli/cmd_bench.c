/* cmd_bench.c: how long the parts of the program take. */
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Times of one benchmark, milliseconds, and what was measured. */
typedef struct Bench {
    const char *name;
    size_t n; /* repetitions */
    double *ms; /* (n + 1): the first is the warm-up, left out */
    double best, median;
    double flops; /* of one repetition; 0: not counted */
    GPtrArray *detail; /* char *: key, value, key, value, ...; owned */
} Bench;

typedef gboolean (*BenchFn)(Cli *cli, Bench *b, GError **error);

static void
bench_clear(Bench *b)
{
    g_clear_pointer(&b->ms, g_free);
    g_clear_pointer(&b->detail, g_ptr_array_unref);
}

static void
bench_detail(Bench *b, const char *key, char *value)
{
    g_ptr_array_add(b->detail, g_strdup(key));
    g_ptr_array_add(b->detail, value);
}

static void
bench_run_details(Bench *b, const FmRun *run)
{
    bench_detail(b, "net", fm_plugin_spec(run->plugin[FM_KIND_NET]));
    bench_detail(b, "parameters", g_strdup_printf("%zu", fm_params_number(run->params)));
    bench_detail(b, "dtype", g_strdup(fm_dtype_name(run->config->dtype)));
}

static gboolean
bench_train_step(Cli *cli, Bench *b, GError **error)
{
    FmRun *run = fm_run_new(cli->config, error);
    gboolean ok = FALSE;

    if (run && fm_run_bench_step(run, b->n + 1, b->ms, error)) {
        bench_run_details(b, run);
        bench_detail(b, "batch_size", g_strdup_printf("%lld", (long long)run->config->batch_size));
        ok = TRUE;
    }
    fm_run_free(run);
    return ok;
}

static gboolean
sample_rounds(FmRun *run, FmFlow *flow, Bench *b, GError **error)
{
    const size_t n = (size_t)run->config->samples;
    FmSolveSummary summary = {0};
    g_autofree int *labels = run->net_info.classes > 0 ? g_new(int, n) : NULL;
    double *x = NULL;
    gboolean ok = TRUE;
    size_t bytes;

    if (!fm_size_mul(n, run->data.D, sizeof *x, &bytes) || !(x = fm_alloc(bytes))) {
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "%zu samples of %zu values do not fit in memory",
                    n, run->data.D);
        return FALSE;
    }
    for (size_t i = 0; labels && i < n; i++)
        labels[i] = (int)(i % run->net_info.classes);
    for (size_t i = 0; ok && i <= b->n; i++) {
        const double start = cli_seconds();

        ok = fm_flow_sample(flow, n, (guint64)run->config->seed, NULL, labels, x, NULL, NULL, &summary,
                            error);
        b->ms[i] = (cli_seconds() - start) * 1e3;
    }
    bench_detail(b, "samples", g_strdup_printf("%zu", n));
    bench_detail(b, "nfe_mean", g_strdup_printf("%.6g", summary.nfe_mean));
    fm_free(x);
    return ok;
}

static gboolean
bench_sample(Cli *cli, Bench *b, GError **error)
{
    FmRun *run = fm_run_new(cli->config, error);
    FmFlow *flow = run ? fm_flow_from_run(run, error) : NULL;
    const gboolean ok = flow && sample_rounds(run, flow, b, error);

    if (ok) {
        bench_run_details(b, run);
        bench_detail(b, "solver", fm_plugin_spec(run->plugin[FM_KIND_SOLVER]));
    }
    fm_flow_free(flow);
    fm_run_free(run);
    return ok;
}

static gboolean
bench_startup(Cli *cli, Bench *b, GError **error)
{
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    char *argv[] = {self, (char *)"--version", NULL};

    if (!self) {
        g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                    "'bench startup' needs /proc/self/exe, which cannot be read here");
        return FALSE;
    }
    for (size_t i = 0; i <= b->n; i++) {
        g_autoptr(GError) why = NULL;
        const double start = cli_seconds();
        int status = 0;

        if (!g_spawn_sync(NULL, argv, NULL, G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL, NULL, NULL, &status,
                          &why) ||
            status != 0) {
            g_set_error(error, FM_ERROR, FM_ERROR_FILE, "cannot run '%s --version': %s", self,
                        why ? why->message : "it failed");
            return FALSE;
        }
        b->ms[i] = (cli_seconds() - start) * 1e3;
    }
    bench_detail(b, "command", g_strdup("--version"));
    return TRUE;
}

static gboolean
bench_gemm(Cli *cli, Bench *b, GError **error)
{
    const size_t side = 256, inner = 8; /* products of one repetition */
    const FmKey key = {.stream = FM_STREAM_USER};
    FmPlugin *backend = fm_backend_default(error);
    float *m = backend ? fm_alloc(3 * side * side * sizeof *m) : NULL;

    if (!backend)
        return FALSE;
    if (!m) {
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "three matrices do not fit in memory");
        return FALSE;
    }
    fm_fill_normal_f32(key, 0, 2 * side, side, m);
    for (size_t i = 0; i <= b->n; i++) {
        const double start = cli_seconds();

        for (size_t j = 0; j < inner; j++)
            fm_linalg_gemm_f32(FALSE, side, side, side, 1, m, m + side * side, 0, m + 2 * side * side);
        b->ms[i] = (cli_seconds() - start) * 1e3 / (double)inner;
    }
    b->flops = 2.0 * (double)(side * side * side);
    bench_detail(b, "size", g_strdup("256x256x256"));
    bench_detail(b, "dtype", g_strdup("f32"));
    bench_detail(b, "backend", g_strdup(fm_plugin_name(backend)));
    fm_free(m);
    return TRUE;
}

static const char *const bench_names[] = {"train-step", "sample", "startup", "gemm", NULL};
static const BenchFn bench_fns[] = {bench_train_step, bench_sample, bench_startup, bench_gemm};

static int
by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static gboolean
bench_measure(Cli *cli, size_t which, Bench *b, GError **error)
{
    double *ms;

    b->name = bench_names[which];
    b->n = cli->repeat > 0 ? (size_t)cli->repeat : 20;
    b->ms = g_new0(double, b->n + 1);
    b->detail = g_ptr_array_new_with_free_func(g_free);
    if (!bench_fns[which](cli, b, error))
        return FALSE;
    ms = b->ms + 1;
    qsort(ms, b->n, sizeof *ms, by_value);
    b->best = ms[0];
    b->median = 0.5 * (ms[(b->n - 1) / 2] + ms[b->n / 2]);
    return TRUE;
}

static void
bench_json(JsonBuilder *json, const Bench *b)
{
    json_builder_begin_object(json);
    out_text(json, "name", b->name);
    out_open(json, "detail");
    for (guint i = 0; i + 1 < b->detail->len; i += 2) {
        const char *key = b->detail->pdata[i], *value = b->detail->pdata[i + 1];
        char *end;
        const double number = g_ascii_strtod(value, &end);

        if (end == value || *end != '\0')
            out_text(json, key, value);
        else if (strchr(value, '.'))
            out_real(json, key, number);
        else
            out_int(json, key, (gint64)number);
    }
    json_builder_end_object(json);
    out_real(json, "best", b->best);
    out_real(json, "median", b->median);
    out_text(json, "unit", "ms");
    out_int(json, "n", (gint64)b->n);
    if (b->flops > 0)
        out_real(json, "gflops", b->flops / b->best * 1e-6);
    json_builder_end_object(json);
}

static void
bench_print(const Bench *b)
{
    g_autofree char *rate =
        b->flops > 0 ? g_strdup_printf("%.1f", b->flops / b->best * 1e-6) : g_strdup("-");

    printf("%-12s %10.4f %10.4f %7zu %9s ", b->name, b->best, b->median, b->n, rate);
    for (guint i = 0; i + 1 < b->detail->len; i += 2)
        printf(" %s=%s", (char *)b->detail->pdata[i], (char *)b->detail->pdata[i + 1]);
    putchar('\n');
}

static gboolean
check_name(const char *name, GError **error)
{
    const char *near;

    if (!name || g_strv_contains(bench_names, name))
        return TRUE;
    near = fm_error_suggest(name, bench_names);
    g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                "no benchmark is called '%s'%s%s%s; there are train-step, sample, startup and gemm", name,
                near ? " (did you mean '" : "", near ? near : "", near ? "'?)" : "");
    return FALSE;
}

int
cmd_bench(Cli *cli, GError **error)
{
    const char *name = cli->args->len > 0 ? cli->args->pdata[0] : NULL;
    g_autoptr(JsonBuilder) json = json_builder_new();
    g_autofree char *text = NULL;
    gboolean ok = TRUE;

    if (!check_name(name, error))
        return -1;
    out_header(json, cli, "ok");
    out_array(json, "bench");
    if (!cli->json)
        printf("%-12s %10s %10s %7s %9s  (ms)\n", "name", "best", "median", "n", "gflops");
    for (size_t i = 0; ok && i < G_N_ELEMENTS(bench_fns); i++) {
        Bench b = {0};

        if (name && strcmp(name, bench_names[i]) != 0)
            continue;
        ok = bench_measure(cli, i, &b, error);
        if (ok && cli->json)
            bench_json(json, &b);
        else if (ok)
            bench_print(&b);
        bench_clear(&b);
    }
    if (!ok)
        return -1;
    json_builder_end_array(json);
    text = out_finish(json);
    if (cli->json)
        puts(text);
    return 0;
}
