/* cmd_compare.c: `compare`, and `run --seeds`: every combination of the values that were given for
 * a kind of plugin, each trained with as many floating-point operations as the first (or for as many
 * --max-seconds), over the same seeds; one table, a run directory for each. */
#include "cli/outcome.h"

#include <glib/gstdio.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Sums of one metric of one combination over its seeds. */
typedef struct Column {
    char *name;
    double sum, square, se; /* se: of the single run */
    size_t n;
} Column;

/* One combination. */
typedef struct Row {
    FmConfig *config;
    char *label;     /* "path=vp net=mlp" */
    GArray *columns; /* Column */
    size_t parameters, done;
    guint64 steps;
    double seconds, nfe;
} Row;

static void
column_clear(gpointer column)
{
    g_free(((Column *)column)->name);
}

static void
row_clear(gpointer data)
{
    Row *row = data;

    fm_config_free(row->config);
    g_free(row->label);
    g_array_unref(row->columns);
}

static void
row_add(Row *row, const char *name, double value, double se)
{
    Column *c = NULL;

    for (guint i = 0; i < row->columns->len; i++)
        if (strcmp(g_array_index(row->columns, Column, i).name, name) == 0)
            c = &g_array_index(row->columns, Column, i);
    if (!c) {
        const Column fresh = {.name = g_strdup(name)};

        g_array_append_val(row->columns, fresh);
        c = &g_array_index(row->columns, Column, row->columns->len - 1);
    }
    c->sum += value;
    c->square += value * value;
    c->se = se;
    c->n++;
}

static double
column_mean(const Column *c)
{
    return c->sum / (double)c->n;
}

/* Over seeds: of the mean of their values; of a single run: its own. */
static double
column_se(const Column *c)
{
    const double n = (double)c->n, mean = column_mean(c);

    return c->n > 1 ? sqrt(MAX(c->square / n - mean * mean, 0.0) / (n - 1.0)) : c->se;
}

/* All combinations, as odometer digits over the axes. */
static GArray *
rows_of(const Cli *cli)
{
    GArray *rows = g_array_new(FALSE, TRUE, sizeof(Row));
    size_t total = 1;

    g_array_set_clear_func(rows, row_clear);
    for (int k = 0; k < FM_N_KINDS; k++)
        total *= cli->axes[k] ? cli->axes[k]->len : 1;
    for (size_t i = 0; i < total; i++) {
        Row row = {.config = fm_config_copy(cli->config)};
        g_autoptr(GString) label = g_string_new(NULL);
        size_t digit = i;

        for (int k = FM_N_KINDS - 1; k >= 0; k--) {
            const GPtrArray *axis = cli->axes[k];
            const char *value;

            if (!axis)
                continue;
            value = axis->pdata[digit % axis->len];
            digit /= axis->len;
            g_free(row.config->spec[k]);
            row.config->spec[k] = g_strdup(value);
            if (axis->len > 1) {
                g_autofree char *one = g_strdup_printf("%s=%s ", fm_kind_name((FmKind)k), value);

                g_string_prepend(label, one);
            }
        }
        g_strchomp(label->str);
        row.label = g_strdup(*label->str ? label->str : "run");
        row.columns = g_array_new(FALSE, TRUE, sizeof(Column));
        g_array_set_clear_func(row.columns, column_clear);
        g_array_append_val(rows, row);
    }
    return rows;
}

static gint64
scaled(gint64 steps, double by)
{
    return MAX((gint64)llround((double)steps * by), 1);
}

/* Steps of a run's configuration, so that it costs what `budget` operations cost; the first row's run sets it. */
static gboolean
row_steps(Row *row, FmRun *run, double *budget, GError **error)
{
    const gint64 steps = run->config->steps;
    double flops;

    if (!fm_run_step_flops(run, &flops, error))
        return FALSE;
    if (*budget == 0.0)
        *budget = flops * (double)steps;
    if (flops == 0.0 || *budget == flops * (double)steps)
        return TRUE;
    row->config->steps = scaled(steps, *budget / flops / (double)steps);
    if (row->config->stop_after > 0)
        row->config->stop_after = scaled(row->config->stop_after, *budget / flops / (double)steps);
    return TRUE;
}

/* What cannot work is said before the first row is trained; steps for equal compute. */
static gboolean
rows_check(GArray *rows, GError **error)
{
    double budget = 0.0;

    for (guint i = 0; i < rows->len; i++) {
        Row *row = &g_array_index(rows, Row, i);
        FmRun *run = experiment_new(row->config, error);
        const gboolean timed = run && run->config->max_seconds > 0.0;
        const gboolean ok = run && (rows->len == 1 || timed || row_steps(row, run, &budget, error));

        fm_run_free(run);
        if (!ok) {
            if (rows->len > 1)
                g_prefix_error(error, "%s: ", row->label);
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean
row_run(Cli *cli, Row *row, const char *dir, gint64 seed, JsonBuilder *b, GError **error)
{
    g_auto(Outcome) o = {0};
    FmRun *run;
    gboolean ok = FALSE;

    row->config->seed = seed;
    outcome_init(&o);
    run = experiment_new(row->config, error);
    if (run) {
        run->dir = g_strdup(dir);
        if (g_mkdir_with_parents(dir, 0755) != 0)
            g_set_error(error, FM_ERROR, FM_ERROR_FILE, "cannot create directory '%s'", dir);
        else
            ok = experiment(cli, run, &o, error);
    }
    if (ok) {
        row->parameters = fm_params_number(run->params);
        row->steps = o.train.steps;
        row->seconds += o.train.seconds;
        row->nfe += o.summary.nfe_mean;
        row->done++;
        for (guint i = 0; i < o.metrics->len; i++) {
            const Metric *m = &g_array_index(o.metrics, Metric, i);

            row_add(row, m->name, m->e.value, m->e.se);
        }
        json_builder_begin_object(b);
        out_text(b, "label", row->label);
        outcome_json(b, run, &o);
        json_builder_end_object(b);
    }
    fm_run_free(run);
    return ok;
}

static void
print_rows(GArray *rows, gint64 seeds)
{
    size_t width = 3;

    for (guint i = 0; i < rows->len; i++)
        width = MAX(width, strlen(g_array_index(rows, Row, i).label));
    for (guint i = 0; i < rows->len; i++) {
        const Row *row = &g_array_index(rows, Row, i);
        g_autoptr(GString) line = g_string_new(NULL);

        if (row->done == 0)
            continue;
        g_string_append_printf(line, "%-*s  %8zu weights  %6" G_GUINT64_FORMAT " steps  %7.1f s  NFE %5.1f", (int)width,
                               row->label, row->parameters, row->steps, row->seconds / (double)row->done,
                               row->nfe / (double)row->done);
        for (guint k = 0; k < row->columns->len; k++) {
            const Column *c = &g_array_index(row->columns, Column, k);

            g_string_append_printf(line, "  %s %.5g", c->name, column_mean(c));
            if (isfinite(column_se(c)))
                g_string_append_printf(line, " +- %.2g", column_se(c));
        }
        puts(line->str);
    }
    if (seeds > 1)
        printf("mean +- standard error over %lld seeds\n", (long long)seeds);
}

/* "summary": the table's lines. */
static void
summary_rows_json(JsonBuilder *b, GArray *rows)
{
    out_array(b, "summary");
    for (guint i = 0; i < rows->len; i++) {
        const Row *row = &g_array_index(rows, Row, i);

        json_builder_begin_object(b);
        out_text(b, "label", row->label);
        out_int(b, "seeds", (gint64)row->done);
        out_array(b, "metrics");
        for (guint k = 0; k < row->columns->len; k++) {
            const Column *c = &g_array_index(row->columns, Column, k);

            json_builder_begin_object(b);
            out_text(b, "name", c->name);
            out_real(b, "value", column_mean(c));
            if (!isnan(column_se(c)))
                out_real(b, "se", column_se(c));
            out_int(b, "n", (gint64)c->n);
            json_builder_end_object(b);
        }
        json_builder_end_array(b);
        json_builder_end_object(b);
    }
    json_builder_end_array(b);
}

static gboolean
run_all(Cli *cli, GArray *rows, const char *dir, JsonBuilder *b, GError **error)
{
    const gint64 first = MAX(cli->config->seed, 0);

    for (guint i = 0; i < rows->len; i++)
        for (gint64 s = 0; s < cli->seeds && !cli_interrupted(); s++) {
            Row *row = &g_array_index(rows, Row, i);
            g_autofree char *name = cli->seeds > 1 ? g_strdup_printf("%02u-seed-%lld", i + 1, (long long)(first + s))
                                                   : g_strdup_printf("%02u", i + 1);
            g_autofree char *own = g_build_filename(dir, name, NULL);

            if (!cli->quiet)
                fprintf(stderr, "%s: %s\n", own, row->label);
            if (!row_run(cli, row, own, first + s, b, error))
                return FALSE;
        }
    return TRUE;
}

int
compare_runs(Cli *cli, GError **error)
{
    g_autoptr(GArray) rows = rows_of(cli);
    g_autoptr(JsonBuilder) b = json_builder_new(), list = json_builder_new();
    g_autofree char *dir = NULL, *file = NULL, *text = NULL;

    if (!rows_check(rows, error) || !(dir = cli_run_dir(cli, error)))
        return -1;
    json_builder_begin_array(list);
    cli_interrupt_defer(TRUE); /* the table of what was done is written all the same */
    if (!run_all(cli, rows, dir, list, error))
        return -1;
    json_builder_end_array(list);
    out_header(b, cli, cli_interrupted() ? "interrupted" : "ok");
    out_text(b, "run", dir);
    json_builder_set_member_name(b, "rows");
    json_builder_add_value(b, json_builder_get_root(list));
    summary_rows_json(b, rows);
    text = out_finish(b);
    file = g_build_filename(dir, "result.json", NULL);
    if (!fm_write_file(file, text, strlen(text), error))
        return -1;
    if (cli->json)
        puts(text);
    else
        print_rows(rows, cli->seeds);
    if (!cli->json)
        printf("runs in %s\n", dir);
    return cli_interrupted() ? 128 + cli_interrupted() : 0;
}

int
cmd_compare(Cli *cli, GError **error)
{
    for (int k = 0; k < FM_N_KINDS; k++)
        if (cli->axes[k] && cli->axes[k]->len > 1)
            return compare_runs(cli, error);
    g_set_error(error, FM_ERROR, FM_ERROR_USAGE, "'compare' needs several values of a kind, as in --path ot --path vp");
    return -1;
}
