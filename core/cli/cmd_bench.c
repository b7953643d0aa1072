/* cmd_bench.c: how long the parts of the program take: the table of benchmarks, repetitions and
 * their printing. The work itself is in bench_flow.c and bench_kernel.c. */
#include "cli/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const Benchmark benchmarks[] = {
    {"train-step", "a whole step: batch, coupling, path, forward, backward, clip, optimizer, EMA", bench_train_step,
     TRUE, TRUE},
    {"sample", "--samples rows from noise to data", bench_sample, TRUE, FALSE},
    {"likelihood", "log-densities of --eval-samples points of the data", bench_likelihood, TRUE, FALSE},
    {"coupling", "pairs of one batch (--coupling, else ot)", bench_coupling, FALSE, TRUE},
    {"divergence", "each --divergence (else knn-kl) between --eval-samples and --samples points", bench_divergence,
     FALSE, TRUE},
    {"gemm", "matrix products at several shapes, one thread and all", bench_gemm, FALSE, FALSE},
    {"conv", "convolution and its two adjoints at several shapes", bench_conv, FALSE, FALSE},
    {"startup", "the program's start, up to a list of its plugins", bench_startup, FALSE, FALSE},
};

/* Milliseconds: warm-up at least, a repetition that needs none, a benchmark at least and at most. */
enum { BENCH_WARM = 100, BENCH_NO_WARM = 3000, BENCH_ENOUGH = 1000, BENCH_LONG = 20000 };
enum { BENCH_MIN = 5 }; /* repetitions, as long as time allows */

/* The largest resident size of this process so far in bytes; 0 when the system does not say. */
static guint64
peak_memory(void)
{
    g_autofree char *text = NULL;
    const char *line;

    if (!g_file_get_contents("/proc/self/status", &text, NULL, NULL) || !(line = strstr(text, "VmHWM:")))
        return 0;
    return g_ascii_strtoull(line + strlen("VmHWM:"), NULL, 10) * 1024;
}

/* ---- rows ---- */

static void
bench_row_free(void *row_)
{
    BenchRow *row = row_;

    g_array_unref(row->ms);
    g_ptr_array_unref(row->detail);
    g_free(row);
}

GPtrArray *
bench_rows_new(void)
{
    return g_ptr_array_new_with_free_func(bench_row_free);
}

BenchRow *
bench_row(Bench *b)
{
    BenchRow *row = g_new0(BenchRow, 1);

    row->ms = g_array_new(FALSE, FALSE, sizeof(double));
    row->detail = g_ptr_array_new_with_free_func(g_free);
    row->wanted = MAX(b->cli->repeat, 0);
    row->enough = BENCH_ENOUGH;
    row->warming = TRUE;
    g_ptr_array_add(b->rows, row);
    return row;
}

gboolean
bench_more(void *row_, double ms)
{
    BenchRow *row = row_;

    if (row->warming && ms < BENCH_NO_WARM) {
        row->warm++;
        row->warm_ms += ms;
        row->warming = row->warm_ms < BENCH_WARM;
        return TRUE;
    }
    row->warming = FALSE;
    g_array_append_val(row->ms, ms);
    row->total_ms += ms;
    if (row->wanted > 0)
        return row->ms->len < (guint64)row->wanted;
    return row->total_ms < BENCH_LONG && (row->total_ms < row->enough || row->ms->len < BENCH_MIN);
}

void
bench_detail(BenchRow *row, const char *key, char *value)
{
    g_ptr_array_add(row->detail, g_strdup(key));
    g_ptr_array_add(row->detail, value);
}

static int
by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

void
bench_row_finish(BenchRow *row)
{
    const double *ms = (const double *)(const void *)row->ms->data;
    const guint n = row->ms->len;

    g_array_sort(row->ms, by_value);
    row->best = ms[0];
    row->median = 0.5 * (ms[(n - 1) / 2] + ms[n / 2]);
}

/* Of the median, in 1e9 operations a second. */
static double
bench_rate(const BenchRow *row)
{
    return row->flops / row->median * 1e-6;
}

/* ---- printing ---- */

static void
bench_json(JsonBuilder *json, const char *name, const BenchRow *row)
{
    json_builder_begin_object(json);
    out_text(json, "name", name);
    out_open(json, "detail");
    for (guint i = 0; i + 1 < row->detail->len; i += 2) {
        const char *key = row->detail->pdata[i], *value = row->detail->pdata[i + 1];
        char *end;
        const double number = g_ascii_strtod(value, &end);

        if (end == value || *end != '\0')
            out_text(json, key, value);
        else if (strpbrk(value, ".en"))
            out_real(json, key, number);
        else
            out_int(json, key, (gint64)number);
    }
    json_builder_end_object(json);
    out_real(json, "best", row->best);
    out_real(json, "median", row->median);
    out_text(json, "unit", "ms");
    out_int(json, "n", (gint64)row->ms->len);
    out_int(json, "peak_memory_bytes", (gint64)peak_memory());
    if (row->flops > 0)
        out_real(json, "gflops", bench_rate(row));
    if (row->profiled)
        profile_json(json, &row->profile, row->profile_n, row->gemm_peak);
    json_builder_end_object(json);
}

static void
bench_print(Bench *b, const char *name, const BenchRow *row)
{
    if (!b->headed)
        printf("%-12s %10s %10s %7s %9s  (ms)\n", "name", "best", "median", "n", "gflops");
    b->headed = TRUE;
    g_autofree char *rate = row->flops > 0 ? g_strdup_printf("%.1f", bench_rate(row)) : g_strdup("-");

    printf("%-12s %10.4f %10.4f %7u %9s ", name, row->best, row->median, row->ms->len, rate);
    for (guint i = 0; i + 1 < row->detail->len; i += 2)
        printf(" %s=%s", (char *)row->detail->pdata[i], (char *)row->detail->pdata[i + 1]);
    putchar('\n');
    if (row->profiled)
        profile_print(stdout, &row->profile, row->profile_n, row->gemm_peak);
}

/* ---- the command ---- */

static const Benchmark *
bench_find(const char *name)
{
    for (size_t i = 0; name && i < G_N_ELEMENTS(benchmarks); i++)
        if (strcmp(name, benchmarks[i].name) == 0)
            return &benchmarks[i];
    return NULL;
}

static gboolean
check_name(const char *name, GError **error)
{
    const char *names[G_N_ELEMENTS(benchmarks) + 2] = {NULL};
    g_autofree char *all = NULL;
    const char *near;

    for (size_t i = 0; i < G_N_ELEMENTS(benchmarks); i++)
        names[i] = benchmarks[i].name;
    names[G_N_ELEMENTS(benchmarks)] = "calibration";
    if (!name || g_strv_contains(names, name))
        return TRUE;
    near = fm_error_suggest(name, names);
    all = g_strjoinv(", ", (char **)names);
    g_set_error(error, FM_ERROR, FM_ERROR_USAGE, "no benchmark is called '%s'%s%s%s; there are %s", name,
                near ? " (did you mean '" : "", near ? near : "", near ? "'?)" : "", all);
    return FALSE;
}

/* What only some of the benchmarks do: a RUN as second argument, --profile, files. */
static gboolean
check_use(const Cli *cli, const char *name, GError **error)
{
    const Benchmark *which = bench_find(name);
    const char *run = cli->args->len > 1 ? cli->args->pdata[1] : NULL;
    const char *option = cli_given(cli, "force") ? "force" : "out";

    if (run && !(which && which->of_run))
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                    "'bench %s' takes no run and was given '%s', expected one of train-step, sample and likelihood",
                    name, run);
    else if (cli->profile && name && !(which && which->of_run))
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                    "option --profile does not apply to 'bench %s', only to train-step, sample and likelihood", name);
    else if (cli_given(cli, option) && !(which && which->writes))
        g_set_error(
            error, FM_ERROR, FM_ERROR_USAGE,
            "option --%s does not apply to 'bench%s%s', only to train-step, coupling and divergence, one at a time, "
            "which write what they work on",
            option, name ? " " : "", name ? name : "");
    else
        return TRUE;
    return FALSE;
}

static gboolean
bench_one(Bench *b, const Benchmark *which, JsonBuilder *json, GError **error)
{
    g_ptr_array_set_size(b->rows, 0);
    if (!which->run(b, error))
        return FALSE;
    for (guint i = 0; i < b->rows->len; i++) {
        BenchRow *row = b->rows->pdata[i];

        bench_row_finish(row);
        if (row->profiled)
            row->gemm_peak = bench_gemm_peak(b);
        if (b->cli->json)
            bench_json(json, which->name, row);
        else
            bench_print(b, which->name, row);
        fflush(stdout);
    }
    return TRUE;
}

void
cmd_bench_help(GString *out)
{
    g_string_append(out, "\nNAME (default: all but calibration)\n");
    for (size_t i = 0; i < G_N_ELEMENTS(benchmarks); i++)
        g_string_append_printf(out, "    %-26s %s\n", benchmarks[i].name, benchmarks[i].summary);
    g_string_append_printf(out, "    %-26s %s\n", "calibration",
                           "bias and coverage of each --divergence over --repeat (200) seeds");
}

int
cmd_bench(Cli *cli, GError **error)
{
    const char *name = cli->args->len > 0 ? cli->args->pdata[0] : NULL;
    g_autoptr(JsonBuilder) json = json_builder_new();
    g_autofree char *text = NULL;
    Bench b = {.cli = cli};
    gboolean ok = TRUE;

    if (!check_name(name, error) || !check_use(cli, name, error))
        return -1;
    if (name && strcmp(name, "calibration") == 0)
        return bench_calibration(cli, error);
    out_header(json, cli, "ok");
    out_array(json, "bench");
    b.rows = bench_rows_new();
    for (size_t i = 0; ok && i < G_N_ELEMENTS(benchmarks); i++)
        if (!name || strcmp(name, benchmarks[i].name) == 0)
            ok = bench_one(&b, &benchmarks[i], json, error);
    g_ptr_array_unref(b.rows);
    if (!ok)
        return -1;
    json_builder_end_array(json);
    text = out_finish(json);
    if (cli->json)
        puts(text);
    return 0;
}
