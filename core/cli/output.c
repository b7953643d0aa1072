/* output.c: JSON results and tables on stdout, progress on stderr, interrupts. */
#include "cli/cli.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

double
cli_seconds(void)
{
    return (double)g_get_monotonic_time() * 1e-6;
}

/* ---- interrupts ---- */

static volatile sig_atomic_t caught_signal, deferred;
static const char *volatile empty_dir;

static void
on_signal(int number)
{
    if (!deferred) {
        if (empty_dir)
            rmdir(empty_dir); /* not when something lies in it */
        _exit(128 + number);
    }
    caught_signal = number;
}

void
cli_interrupt_takes(const char *dir)
{
    empty_dir = dir;
}

void
cli_interrupt_defer(gboolean defer)
{
    deferred += defer ? 1 : -1;
}

void
cli_interrupt_install(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

int
cli_interrupted(void)
{
    return caught_signal;
}

/* ---- JSON ---- */

void
out_int(JsonBuilder *b, const char *name, gint64 value)
{
    json_builder_set_member_name(b, name);
    json_builder_add_int_value(b, value);
}

void
out_real(JsonBuilder *b, const char *name, double value)
{
    json_builder_set_member_name(b, name);
    if (isfinite(value))
        json_builder_add_double_value(b, value);
    else
        json_builder_add_null_value(b);
}

void
out_text(JsonBuilder *b, const char *name, const char *value)
{
    json_builder_set_member_name(b, name);
    if (value)
        json_builder_add_string_value(b, value);
    else
        json_builder_add_null_value(b);
}

void
out_texts(JsonBuilder *b, const char *name, guint n, const void *texts)
{
    const char *const *text = texts;

    out_array(b, name);
    for (guint i = 0; i < n; i++)
        json_builder_add_string_value(b, text[i]);
    json_builder_end_array(b);
}

void
out_bool(JsonBuilder *b, const char *name, gboolean value)
{
    json_builder_set_member_name(b, name);
    json_builder_add_boolean_value(b, value);
}

void
out_open(JsonBuilder *b, const char *name)
{
    json_builder_set_member_name(b, name);
    json_builder_begin_object(b);
}

void
out_array(JsonBuilder *b, const char *name)
{
    json_builder_set_member_name(b, name);
    json_builder_begin_array(b);
}

void
out_header(JsonBuilder *b, const Cli *cli, const char *status)
{
    json_builder_begin_object(b);
    out_text(b, "fmcore", fm_version());
    out_int(b, "schema", 1);
    out_text(b, "command", cli->command->name);
    out_text(b, "status", status);
}

/* {"name": ..., "options": {...}} of an instance. */
static void
plugin_json(JsonBuilder *b, const char *key, const FmPlugin *plugin)
{
    const FmPluginDesc *desc = fm_plugin_desc(plugin);

    out_open(b, key);
    out_text(b, "name", fm_plugin_name(plugin));
    out_open(b, "options");
    for (const FmOption *o = desc->options; o && o->name; o++) {
        g_autofree char *text = fm_option_format(o, fm_plugin_self(plugin));
        const gboolean number = o->type == FM_OPTION_INT || o->type == FM_OPTION_REAL;

        if (o->type == FM_OPTION_BOOL)
            out_bool(b, o->name, strcmp(text, "yes") == 0);
        else if (o->type == FM_OPTION_INT)
            out_int(b, o->name, g_ascii_strtoll(text, NULL, 10));
        else if (number && strcmp(text, "auto") != 0)
            out_real(b, o->name, g_ascii_strtod(text, NULL));
        else
            out_text(b, o->name, text);
    }
    json_builder_end_object(b);
    json_builder_end_object(b);
}

static void
train_json(JsonBuilder *b, const FmConfig *c)
{
    out_open(b, "train");
    out_int(b, "steps", c->steps);
    out_int(b, "batch_size", c->batch_size);
    out_real(b, "lr", c->lr);
    out_int(b, "warmup", c->warmup);
    out_text(b, "schedule", fm_config_choices("schedule")[c->schedule]);
    out_real(b, "weight_decay", c->weight_decay);
    out_real(b, "grad_clip", c->grad_clip);
    out_real(b, "ema_decay", c->ema_decay);
    out_real(b, "scale", c->scale);
    out_text(b, "time_sampling", fm_config_choices("time_sampling")[c->time_sampling]);
    out_text(b, "prediction", fm_config_choices("prediction")[c->prediction]);
    out_bool(b, "conditional", c->conditional);
    if (c->conditional)
        out_real(b, "label_dropout", c->label_dropout);
    json_builder_end_object(b);
}

void
out_setting(JsonBuilder *b, const FmRun *run, gint64 seed)
{
    out_int(b, "seed", seed);
    out_int(b, "threads", run->config->threads);
    out_text(b, "dtype", fm_dtype_name(run->config->dtype));
    out_text(b, "backend", run->config->spec[FM_KIND_BACKEND] ? run->config->spec[FM_KIND_BACKEND] : "cpu");
    out_text(b, "time", "t=0 noise, t=1 data");
}

void
out_config(JsonBuilder *b, const FmRun *run)
{
    out_setting(b, run, run->config->seed);
    out_open(b, "config");
    for (int k = 0; k < FM_N_KINDS; k++)
        if (run->plugin[k])
            plugin_json(b, fm_kind_name((FmKind)k), run->plugin[k]);
    if (run->source)
        plugin_json(b, "source", run->source);
    train_json(b, run->config);
    json_builder_end_object(b);
}

/* Append a number's text, and the shortest that reads back to the same double when it has a
 * fraction or an exponent: json-glib writes 1e-08 as "1e-08.0", which is no JSON. */
static const char *
append_number(GString *out, const char *text)
{
    char *end = NULL, shortest[G_ASCII_DTOSTR_BUF_SIZE];
    const double value = g_ascii_strtod(text, &end);
    const gboolean whole = strspn(text, "-0123456789") == (size_t)(end - text);

    if (whole) {
        g_string_append_len(out, text, end - text);
        return end;
    }
    for (int digits = 15; digits <= 17; digits++) {
        char format[8];

        g_snprintf(format, sizeof format, "%%.%dg", digits);
        g_ascii_formatd(shortest, sizeof shortest, format, value);
        if (g_ascii_strtod(shortest, NULL) == value)
            break;
    }
    g_string_append(out, shortest);
    if (!strpbrk(shortest, ".e"))
        g_string_append(out, ".0");
    return end + (g_str_has_prefix(end, ".0") ? 2 : 0);
}

char *
out_finish(JsonBuilder *b)
{
    g_autoptr(JsonNode) root = NULL;
    g_autofree char *text = NULL;
    GString *out = g_string_new(NULL);
    gboolean quoted = FALSE;

    json_builder_end_object(b);
    root = json_builder_get_root(b);
    text = json_to_string(root, TRUE);
    for (const char *p = text; *p;) {
        if (!quoted && (*p == '-' || g_ascii_isdigit(*p))) {
            p = append_number(out, p);
            continue;
        }
        if (quoted && *p == '\\')
            g_string_append_c(out, *p++);
        else if (*p == '"')
            quoted = !quoted;
        g_string_append_c(out, *p++);
    }
    return g_string_free(out, FALSE);
}

void
summary_json(JsonBuilder *b, const FmSolveSummary *s, gint64 n, double seconds)
{
    out_open(b, "sample");
    out_int(b, "n", n);
    out_real(b, "seconds", seconds);
    out_real(b, "nfe_mean", s->nfe_mean);
    out_int(b, "nfe_max", (gint64)s->nfe_max);
    out_int(b, "accepted", (gint64)s->accepted);
    out_int(b, "rejected", (gint64)s->rejected);
    out_int(b, "failed", (gint64)s->failed);
    json_builder_end_object(b);
}

/* ---- metrics ---- */

static void
metric_clear(gpointer data)
{
    g_free(((Metric *)data)->name);
}

GArray *
metrics_new(void)
{
    GArray *metrics = g_array_new(FALSE, TRUE, sizeof(Metric));

    g_array_set_clear_func(metrics, metric_clear);
    return metrics;
}

void
metrics_add(GArray *metrics, const char *name, const FmEstimate *e, double seconds)
{
    const Metric m = {.name = g_strdup(name), .e = *e, .seconds = seconds};

    g_array_append_val(metrics, m);
}

void
metrics_json(JsonBuilder *b, GArray *metrics)
{
    out_array(b, "metrics");
    for (guint i = 0; i < metrics->len; i++) {
        const Metric *m = &g_array_index(metrics, Metric, i);

        json_builder_begin_object(b);
        out_text(b, "name", m->name);
        out_real(b, "value", m->e.value);
        if (!isnan(m->e.se))
            out_real(b, "se", m->e.se);
        out_int(b, "n", (gint64)m->e.n);
        out_text(b, "unit", m->e.unit ? m->e.unit : "");
        out_real(b, "seconds", m->seconds);
        out_open(b, "detail");
        if (m->e.why[0])
            out_text(b, "reason", m->e.why);
        for (size_t k = 0; k < m->e.n_details; k++) {
            const FmDetail *d = &m->e.detail[k];

            if (d->text[0])
                out_text(b, d->name, d->text);
            else
                out_real(b, d->name, d->number);
        }
        json_builder_end_object(b);
        json_builder_end_object(b);
    }
    json_builder_end_array(b);
}

/* The solver's own error is no part of a standard error. */
static void
print_solver_error(const GArray *metrics)
{
    g_autoptr(GString) names = g_string_new(NULL);

    for (guint i = 0; i < metrics->len; i++) {
        const Metric *m = &g_array_index(metrics, Metric, i);

        for (size_t k = 0; k < m->e.n_details; k++)
            if (strcmp(m->e.detail[k].name, "solver_error") == 0 && m->e.se > 0 &&
                fabs(m->e.detail[k].number) > m->e.se)
                g_string_append_printf(names, "%s%s", names->len > 0 ? " and " : "", m->name);
    }
    if (names->len > 0)
        printf("  the solver's own error exceeds the standard error of %s: a finer --solver makes it smaller\n",
               names->str);
}

/* Details beyond the third that a value must not be read without. */
static gboolean
detail_warns(const FmDetail *d)
{
    static const char *const names[] = {"error bar", "samples", "covariances", "column", NULL};

    return g_strv_contains(names, d->name);
}

void
metrics_print(GArray *metrics)
{
    for (guint i = 0; i < metrics->len; i++) {
        const Metric *m = &g_array_index(metrics, Metric, i);
        GString *line = g_string_new(NULL);

        if (isnan(m->e.value))
            g_string_append_printf(line, "  %-12s undefined: %s", m->name, m->e.why);
        else
            g_string_append_printf(line, "  %-12s %.5g", m->name, m->e.value);
        if (isfinite(m->e.se))
            g_string_append_printf(line, " +- %.2g", m->e.se);
        g_string_append_printf(line, " %s  (n = %zu", m->e.unit && !isnan(m->e.value) ? m->e.unit : "", m->e.n);
        for (size_t k = 0; k < m->e.n_details; k++) {
            const FmDetail *d = &m->e.detail[k];

            if (k >= 3 && !detail_warns(d))
                continue;
            if (!d->text[0])
                g_string_append_printf(line, ", %s %.4g", d->name, d->number);
            else if (strcmp(d->name, "what") == 0) /* the figure in words */
                g_string_append_printf(line, ", %s", d->text);
            else
                g_string_append_printf(line, ", %s %s", d->name, d->text);
        }
        puts(g_string_append(line, ")")->str);
        g_string_free(line, TRUE);
    }
    print_solver_error(metrics);
}

/* ---- progress ---- */

struct Progress {
    gboolean silent, terminal;
    const char *what;
    double start, last;
    gboolean drawn;
};

Progress *
progress_new(const Cli *cli, const char *what)
{
    Progress *p = g_new0(Progress, 1);

    p->silent = cli->quiet;
    p->terminal = isatty(STDERR_FILENO);
    p->what = what;
    p->start = cli_seconds();
    p->last = -INFINITY;
    return p;
}

enum { BAR = 24 };

static void
draw_bar(guint64 done, guint64 all)
{
    char bar[BAR + 1] = "";
    const guint64 full = all > 0 ? MIN(BAR * done / all, BAR) : 0;

    memset(bar, '.', BAR);
    memset(bar, '#', (size_t)full);
    fprintf(stderr, "\r[%s] ", bar);
}

gboolean
progress_step(const FmProgress *f, void *data)
{
    Progress *p = data;
    const double now = cli_seconds();
    const double rate = f->steps_per_second;
    const double eta = rate > 0 ? (double)(f->steps - MIN(f->step, f->steps)) / rate : 0.0;

    if (caught_signal)
        return FALSE;
    if (p->silent || now - p->last < (p->terminal ? 0.1 : 5.0))
        return TRUE;
    p->last = now;
    if (p->terminal) {
        draw_bar(f->step, f->steps);
        fprintf(stderr, "%llu/%llu  loss %.4f  %.0f steps/s  ETA %.0f s   ", (unsigned long long)f->step,
                (unsigned long long)f->steps, f->loss, rate, eta);
        p->drawn = TRUE;
    } else {
        fprintf(stderr, "%s: step %llu of %llu, loss %.4f, %.0f steps/s, %.0f s to go\n", p->what,
                (unsigned long long)f->step, (unsigned long long)f->steps, f->loss, rate, eta);
    }
    return TRUE;
}

void
progress_part(size_t done, size_t all, void *data)
{
    Progress *p = data;
    const double now = cli_seconds(), passed = now - p->start;

    if (p->silent || !p->terminal || passed < 0.3 || (done < all && now - p->last < 0.1))
        return;
    p->last = now;
    p->drawn = done < all;
    if (p->drawn) {
        draw_bar(done, all);
        fprintf(stderr, "%s: %.0f %%  ETA %.0f s   ", p->what, 100.0 * (double)done / (double)all,
                passed * (double)(all - done) / (double)done);
    } else {
        fputs("\r\033[K", stderr); /* takes the line away */
    }
}

void
progress_stage(const Cli *cli, const char *what)
{
    if (cli->quiet || !isatty(STDERR_FILENO))
        return;
    fprintf(stderr, "\r%s\033[K", what ? what : "");
}

void
progress_free(Progress *p)
{
    if (p && p->drawn)
        fputc('\n', stderr);
    g_free(p);
}
