/* cmd_study.c: `study NAME`: an experiment of the theory with its rows, checks and picture. */
#include "cli/study.h"
#include "flow/mean.h"

#include <fmcore/io.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name, *summary;
    gboolean (*run)(Study *s, GError **error);
} studies[] = {
    {"kl-identity", "d/dt KL(p_t||q_t) = E<v - w, score gap>: closed forms, mixtures, learned fields",
     study_kl_identity},
    {"kl-bound", "KL(p_1||q_1) <= int eps_t sqrt(S_t) dt <= eps sqrt(S): closed forms, learned fields", study_kl_bound},
    {"kl-bound-linear", "the closed forms of kl-bound alone: four bounds, d = 2", study_kl_bound_linear},
    {"entropy", "the entropy of p_t by three routes, along exact flows", study_entropy},
    {"paths", "straightness, cost and conditional variance of each path", study_paths},
    {"tv-rate", "total variation to a density of known smoothness against the number of rows", study_tv_rate},
};

typedef struct Cell {
    const char *name;
    char *text; /* owned; NULL: a number */
    double number;
} Cell;

static void
cell_clear(gpointer data)
{
    g_free(((Cell *)data)->text);
}

/* ---- what the studies call ---- */

void
study_row(Study *s)
{
    GArray *row = g_array_new(FALSE, TRUE, sizeof(Cell));

    g_array_set_clear_func(row, cell_clear);
    g_ptr_array_add(s->rows, row);
}

void
study_text(Study *s, const char *name, const char *value)
{
    const Cell c = {.name = name, .text = g_strdup(value)};

    g_array_append_val((GArray *)s->rows->pdata[s->rows->len - 1], c);
}

void
study_number(Study *s, const char *name, double value)
{
    const Cell c = {.name = name, .number = value};

    g_array_append_val((GArray *)s->rows->pdata[s->rows->len - 1], c);
}

void
study_say(Study *s, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_ptr_array_add(s->words, g_strdup_vprintf(format, args));
    va_end(args);
}

void
study_progress(const Study *s, const char *format, ...)
{
    g_autofree char *line = NULL;
    va_list args;

    if (s->cli->quiet)
        return;
    va_start(args, format);
    line = g_strdup_vprintf(format, args);
    va_end(args);
    fprintf(stderr, "study %s: %s\n", (char *)s->cli->args->pdata[0], line);
}

gboolean
study_curves(Study *s, const char *name, const char *title, const char *xlabel, const char *ylabel,
             const FmCurve *curves, size_t n, int flags, GError **error)
{
    g_autofree char *file = g_build_filename(s->dir, name, NULL);

    if (!fm_plot_curves(file, title, xlabel, ylabel, curves, n, flags, error))
        return FALSE;
    g_ptr_array_add(s->files, g_strdup(name));
    return TRUE;
}

gboolean
study_panels(Study *s, const char *name, const char *xlabel, const FmPanel *panels, size_t n, GError **error)
{
    g_autofree char *file = g_build_filename(s->dir, name, NULL);

    if (!fm_plot_panels(file, xlabel, panels, n, error))
        return FALSE;
    g_ptr_array_add(s->files, g_strdup(name));
    return TRUE;
}

gboolean
study_takes(const Study *s, const char *const *taken, GError **error)
{
    static const char *const always[] = {"seed",  "threads", "out",         "force", "json",
                                         "quiet", "backend", "plugin-path", NULL};

    return cli_takes(s->cli, always, "--seed, --threads and --out", taken, error);
}

FmRun *
study_oracle_run(const Study *s, const char *net, const char *dataset, const char *path, GError **error)
{
    g_autoptr(FmConfig) c = fm_config_copy(s->cli->config);
    const struct {
        FmKind kind;
        const char *spec;
    } set[] = {{FM_KIND_NET, net}, {FM_KIND_PATH, path}, {FM_KIND_DATASET, dataset}};

    for (size_t i = 0; i < G_N_ELEMENTS(set); i++) {
        char **spec = &c->spec[set[i].kind];

        if (!set[i].spec && *spec)
            continue;
        g_free(*spec);
        *spec = g_strdup(set[i].spec ? set[i].spec : "8gaussians");
    }
    c->dtype = FM_F64;
    c->seed = (gint64)s->seed;
    c->threads = s->threads;
    return fm_run_new(c, error);
}

StudySlope
study_slope(size_t n, const double *x, const double *y)
{
    double mx = 0, my = 0, sxx = 0, sxy = 0, rest = 0;
    StudySlope out = {NAN, NAN};

    for (size_t i = 0; i < n; i++) {
        mx += x[i] / (double)n;
        my += y[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        sxx += (x[i] - mx) * (x[i] - mx);
        sxy += (x[i] - mx) * (y[i] - my);
    }
    if (n < 3 || sxx == 0)
        return out;
    out.slope = sxy / sxx;
    for (size_t i = 0; i < n; i++) {
        const double e = y[i] - my - out.slope * (x[i] - mx);

        rest += e * e;
    }
    out.half_width = fm__t975(n - 2) * sqrt(rest / (double)(n - 2) / sxx);
    return out;
}

/* ---- the command ---- */

static void
study_clear(Study *s)
{
    g_ptr_array_unref(s->rows);
    g_ptr_array_unref(s->files);
    g_ptr_array_unref(s->words);
    g_array_unref(s->checks);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Study, study_clear)

static gboolean
same_cells(const GArray *a, const GArray *b)
{
    if (!b || a->len != b->len)
        return FALSE;
    for (guint i = 0; i < a->len; i++)
        if (strcmp(g_array_index(a, Cell, i).name, g_array_index(b, Cell, i).name) != 0)
            return FALSE;
    return TRUE;
}

static void
print_rows(const Study *s)
{
    const GArray *before = NULL;

    for (guint r = 0; r < s->rows->len; r++) {
        const GArray *row = s->rows->pdata[r];

        for (guint i = 0; i < row->len && !same_cells(row, before); i++)
            printf("%s%12s%s", i == 0 && r > 0 ? "\n" : "", g_array_index(row, Cell, i).name,
                   i + 1 < row->len ? " " : "\n");
        for (guint i = 0; i < row->len; i++) {
            const Cell *c = &g_array_index(row, Cell, i);

            if (c->text)
                printf("%12s", c->text);
            else
                printf("%12.5g", c->number);
            putchar(i + 1 < row->len ? ' ' : '\n');
        }
        before = row;
    }
    for (guint i = 0; i < s->words->len; i++)
        puts(s->words->pdata[i]);
    if (s->checks->len > 0)
        checks_print(s->checks);
}

static char *
study_json(const Study *s, double seconds)
{
    g_autoptr(JsonBuilder) b = json_builder_new();

    out_header(b, s->cli, "ok");
    out_text(b, "study", s->cli->args->pdata[0]);
    out_text(b, "run", s->dir);
    out_int(b, "seed", (gint64)s->seed);
    out_int(b, "threads", s->threads);
    out_real(b, "seconds", seconds);
    out_array(b, "rows");
    for (guint r = 0; r < s->rows->len; r++) {
        const GArray *row = s->rows->pdata[r];

        json_builder_begin_object(b);
        for (guint i = 0; i < row->len; i++) {
            const Cell *c = &g_array_index(row, Cell, i);

            if (c->text)
                out_text(b, c->name, c->text);
            else
                out_real(b, c->name, c->number);
        }
        json_builder_end_object(b);
    }
    json_builder_end_array(b);
    checks_json(b, s->checks);
    out_texts(b, "words", s->words->len, s->words->pdata);
    out_texts(b, "files", s->files->len, s->files->pdata);
    return out_finish(b);
}

static gboolean
study_finish(const Study *s, double seconds, GError **error)
{
    g_autofree char *json = study_json(s, seconds);
    g_autofree char *file = g_build_filename(s->dir, "result.json", NULL);

    if (!fm_write_file(file, json, strlen(json), error))
        return FALSE;
    if (s->cli->json) {
        puts(json);
    } else {
        print_rows(s);
        printf("study in %s (seed %" G_GUINT64_FORMAT ", %.1f s)\n", s->dir, s->seed, seconds);
    }
    return TRUE;
}

static gboolean
study_unknown(const char *name, GError **error)
{
    const char *names[G_N_ELEMENTS(studies) + 1] = {NULL};
    g_autofree char *all = NULL;
    const char *near;

    for (size_t i = 0; i < G_N_ELEMENTS(studies); i++)
        names[i] = studies[i].name;
    near = fm_error_suggest(name, names);
    all = g_strjoinv(", ", (char **)names);
    g_set_error(error, FM_ERROR, FM_ERROR_USAGE, "unknown study '%s'%s%s%s", name,
                near ? "; did you mean '" : ", expected one of ", near ? near : all, near ? "'?" : "");
    return FALSE;
}

void
cmd_study_help(GString *out)
{
    g_string_append(out, "\nNAME\n");
    for (size_t i = 0; i < G_N_ELEMENTS(studies); i++)
        g_string_append_printf(out, "    %-26s %s\n", studies[i].name, studies[i].summary);
    g_string_append(
        out,
        "\nAll take --seed, --threads, --backend and --out; kl-identity also --steps, --batch-size and --lr, kl-bound\n"
        "--batch-size and --lr, paths --dataset and --scale, tv-rate --dataset bspline[:...] and what a training "
        "takes.\n");
}

int
cmd_study(Cli *cli, GError **error)
{
    const char *name = cli->args->pdata[0];
    const double start = cli_seconds();
    g_autofree char *dir = NULL;
    size_t which = 0;

    while (which < G_N_ELEMENTS(studies) && strcmp(studies[which].name, name) != 0)
        which++;
    if (which == G_N_ELEMENTS(studies)) {
        study_unknown(name, error);
        return -1;
    }
    dir = cli_run_dir(cli, error);
    if (!dir)
        return -1;
    g_auto(Study) s = {.cli = cli,
                       .dir = dir,
                       .seed = (guint64)MAX(cli->config->seed, 0),
                       .threads = cli->config->threads > 0 ? cli->config->threads : (int)g_get_num_processors(),
                       .checks = checks_new(),
                       .rows = g_ptr_array_new_with_free_func((GDestroyNotify)g_array_unref),
                       .files = g_ptr_array_new_with_free_func(g_free),
                       .words = g_ptr_array_new_with_free_func(g_free)};
    if (!studies[which].run(&s, error) || !study_finish(&s, cli_seconds() - start, error))
        return -1;
    return checks_hold(s.checks) ? 0 : 3;
}
