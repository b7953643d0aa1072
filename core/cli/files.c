/* files.c: runs opened, points in and out, what does not fit, and the run's directory. */
#include "cli/cli.h"
#include "flow/integrate.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

gboolean
cli_check_tolerance(const FmRun *run, const FmPlugin *solver, GError **error)
{
    /* Trained fields of two dimensions, each adaptive solver: from a sum of 1e-7 down the error of samples stays at
     * 2e-7 to 4e-7 and then grows, and the evaluations grow by 1.2 (dopri5 at 1e-8) to 100 times (dopri8 at 2e-9); by a
     * sum of 2e-10 dopri8 does not end. */
    static const double useful = 1e-7, least = 1e-9;

    if (run->config->dtype != FM_F32 || fm_net_is_invertible(run->plugin[FM_KIND_NET]) ||
        !fm_solver_is_adaptive(solver))
        return TRUE;
    const FmAdaptiveOptions *o = fm_plugin_self(solver);
    if (o->rtol + o->atol < least) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                    "solver '%s' has rtol=%g and atol=%g and --dtype is f32, which has 7 digits: expected a sum of %g "
                    "or more, or --dtype f64",
                    fm_plugin_name(solver), o->rtol, o->atol, useful);
        return FALSE;
    }
    if (o->rtol + o->atol < useful)
        fprintf(stderr,
                "warning: solver '%s' has rtol=%g and atol=%g and --dtype is f32: below a sum of %g, evaluations "
                "grow and errors do not shrink; --dtype f64 resolves less\n",
                fm_plugin_name(solver), o->rtol, o->atol, useful);
    return TRUE;
}

FmRun *
cli_load_run(const Cli *cli, const char *dir, GError **error)
{
    return fm_run_load_as(dir, cli_given(cli, "dtype") ? &cli->config->dtype : NULL, error);
}

FmFlow *
cli_open_flow(const Cli *cli, const char *dir, FmRun **run, GError **error)
{
    FmPlugin *backend = NULL;
    FmFlow *flow;

    *run = cli_load_run(cli, dir, error);
    if (!*run)
        return NULL;
    if (cli_given(cli, "threads"))
        (*run)->config->threads = cli->config->threads;
    if (cli_given(cli, "backend")) {
        backend = fm_backend_new(cli->config->spec[FM_KIND_BACKEND], error);
        if (!backend)
            return NULL;
        fm_plugin_free((*run)->plugin[FM_KIND_BACKEND]);
        (*run)->plugin[FM_KIND_BACKEND] = backend;
        g_free((*run)->config->spec[FM_KIND_BACKEND]);
        (*run)->config->spec[FM_KIND_BACKEND] = g_strdup(cli->config->spec[FM_KIND_BACKEND]);
    }
    flow = fm_flow_from_run(*run, error);
    if (!flow)
        return NULL;
    if (cli_given(cli, "threads"))
        fm_flow_set_threads(flow, cli->config->threads);
    if ((cli_given(cli, "solver") && !fm_flow_set_solver(flow, cli->config->spec[FM_KIND_SOLVER], error)) ||
        !cli_check_tolerance(*run, flow->solver, error))
        g_clear_pointer(&flow, fm_flow_free);
    return flow;
}

/* ---- what does not fit ---- */

gboolean
cli_check_out(const Cli *cli, const char *file, GError **error)
{
    static const char *const endings[] = {".npy", ".npz", ".csv"};
    g_autofree char *dir = g_path_get_dirname(file);
    gboolean known = strcmp(file, "-") == 0;

    if (known && cli->json) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                    "standard output cannot hold both an array and --json; give a file instead of '-'");
        return FALSE;
    }
    if (known)
        return TRUE;
    for (size_t i = 0; i < G_N_ELEMENTS(endings); i++)
        known = known || g_str_has_suffix(file, endings[i]);
    if (!known) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE, "'%s': arrays are written to .npy, .npz or .csv files, or to '-'",
                    file);
        return FALSE;
    }
    if (g_file_test(file, G_FILE_TEST_IS_DIR))
        errno = EISDIR;
    else if (g_access(dir, W_OK | X_OK) == 0)
        return TRUE;
    g_set_error(error, FM_ERROR, FM_ERROR_FILE, "'%s' cannot be written: %s", file, g_strerror(errno));
    return FALSE;
}

gboolean
cli_check_differ(const char *a, const char *what_a, const char *b, const char *what_b, GError **error)
{
    GStatBuf in, out;
    g_autofree char *path_a = NULL, *path_b = NULL;

    if (!a || !b || strcmp(a, "-") == 0 || strcmp(b, "-") == 0)
        return TRUE;
    path_a = g_canonicalize_filename(a, NULL);
    path_b = g_canonicalize_filename(b, NULL);
    if (strcmp(path_a, path_b) != 0 && (g_stat(a, &in) != 0 || g_stat(b, &out) != 0 || !S_ISREG(in.st_mode) ||
                                        in.st_dev != out.st_dev || in.st_ino != out.st_ino))
        return TRUE;
    g_set_error(error, FM_ERROR, FM_ERROR_USAGE, "'%s' is both %s and %s, expected two files", a, what_a, what_b);
    return FALSE;
}

/* Bytes that the system would still give; infinite where it does not say. */
static double
free_memory(void)
{
    g_autofree char *text = NULL;
    const char *at;

    if (!g_file_get_contents("/proc/meminfo", &text, NULL, NULL))
        return (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    at = strstr(text, "MemAvailable:");
    return at ? g_ascii_strtod(at + strlen("MemAvailable:"), NULL) * 1024.0 : HUGE_VAL;
}

gboolean
cli_check_memory(const char *what, double n, double bytes, GError **error)
{
    const double have = free_memory();

    if (n * bytes <= have)
        return TRUE;
    g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "%.0f %s need %.3g GB, and %.3g GB of memory are free", n, what,
                n * bytes * 1e-9, have * 1e-9);
    return FALSE;
}

FmArray *
cli_load_points(const char *file, size_t D, GError **error)
{
    g_autoptr(FmArray) raw = fm_array_load(file, error);
    FmArray *points;
    size_t width, bad;

    if (!raw)
        return NULL;
    width = raw->ndim <= 1 ? 1 : fm_array_width(raw);
    if (raw->ndim == 0 || fm_array_rows(raw) == 0 || width == 0) {
        g_set_error(error, FM_ERROR, FM_ERROR_DATA, "'%s' holds no rows, expected at least one", file);
        return NULL;
    }
    if (D > 0 && width != D) {
        g_set_error(error, FM_ERROR, FM_ERROR_SHAPE, "'%s' has %zu values a row, expected %zu", file, width, D);
        return NULL;
    }
    points = fm_array_convert(raw, FM_F64, error);
    if (!points)
        return NULL;
    bad = fm_array_first_nonfinite(points);
    if (bad < fm_array_size(points)) {
        g_set_error(error, FM_ERROR, FM_ERROR_DATA, "'%s' holds a value that is not finite in row %zu", file,
                    bad / width);
        g_clear_pointer(&points, fm_array_free);
    }
    return points;
}

void
cli_points_clear(CliPoints *p)
{
    fm_flow_free(p->flow);
    fm_run_free(p->run);
    fm_array_free(p->x);
    g_free(p->labels);
}

gboolean
cli_points_open(CliPoints *p, Cli *cli, const char *out, GError **error)
{
    p->flow = cli_open_flow(cli, cli->args->pdata[0], &p->run, error);
    if (!p->flow || !cli_check_out(cli, out, error) ||
        !cli_check_differ(cli->args->pdata[1], "the points", out, "--out", error))
        return FALSE;
    p->D = fm_flow_dim(p->flow);
    p->x = cli_load_points(cli->args->pdata[1], p->D, error);
    if (!p->x)
        return FALSE;
    p->n = fm_array_rows(p->x);
    return cli_parse_labels(cli->labels, p->n, p->run->net_info.classes, &p->labels, error);
}

gboolean
cli_save_points(const char *file, const FmDataInfo *info, FmDtype dtype, size_t n, size_t D, const double *x,
                GError **error)
{
    size_t dim[4] = {n, D};
    int ndim = D > 1 ? 2 : 1;
    FmArray *array;
    gboolean ok;

    if (info && info->ndim > 1) {
        ndim = info->ndim + 1;
        memcpy(dim + 1, info->dim, (size_t)info->ndim * sizeof dim[0]);
    }
    array = fm_array_new(dtype, ndim, dim, error);
    if (!array)
        return FALSE;
    fm_convert(FM_F64, x, dtype, array->data, n * D);
    ok = fm_array_save(array, file, error);
    fm_array_free(array);
    return ok;
}

int *
cli_labels_in_turn(size_t n, size_t classes)
{
    int *labels = classes > 0 ? g_new(int, n + 1) : NULL;

    for (size_t i = 0; labels && i < n; i++)
        labels[i] = (int)(i % classes);
    return labels;
}

gboolean
cli_parse_labels(const char *text, size_t n, size_t classes, int **labels, GError **error)
{
    g_auto(GStrv) part = NULL;
    guint count;

    *labels = NULL;
    if (!text)
        return TRUE;
    if (classes == 0) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                    "option --labels was given, and the run's net was trained without labels "
                    "(--conditional yes trains one with them)");
        return FALSE;
    }
    part = g_strsplit(text, ",", -1);
    count = g_strv_length(part);
    *labels = g_new(int, n + 1);
    for (size_t i = 0; i < n; i++) {
        guint64 label = 0;

        if (!g_ascii_string_to_unsigned(part[i % count], 10, 0, classes - 1, &label, NULL)) {
            g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                        "option --labels holds '%s', expected class numbers from 0 to %zu", part[i % count],
                        classes - 1);
            g_clear_pointer(labels, g_free);
            return FALSE;
        }
        (*labels)[i] = (int)label;
    }
    return TRUE;
}

static gboolean
dir_is_empty(const char *dir)
{
    GDir *d = g_dir_open(dir, 0, NULL);
    gboolean empty;

    if (!d)
        return TRUE;
    empty = g_dir_read_name(d) == NULL;
    g_dir_close(d);
    return empty;
}

static gboolean
make_dir(Cli *cli, const char *dir, GError **error)
{
    if (cli && !g_file_test(dir, G_FILE_TEST_EXISTS))
        cli_interrupt_takes(cli->made_dir = g_strdup(dir));
    if (g_mkdir_with_parents(dir, 0755) == 0)
        return TRUE;
    g_set_error(error, FM_ERROR, FM_ERROR_FILE, "cannot create directory '%s': %s", dir, g_strerror(errno));
    return FALSE;
}

char *
cli_run_dir(Cli *cli, GError **error)
{
    if (cli->out) {
        if (g_file_test(cli->out, G_FILE_TEST_EXISTS) && !g_file_test(cli->out, G_FILE_TEST_IS_DIR)) {
            g_set_error(error, FM_ERROR, FM_ERROR_USAGE, "--out '%s' is a file, expected a directory", cli->out);
            return NULL;
        }
        if (!cli->force && !dir_is_empty(cli->out)) {
            g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                        "directory '%s' is not empty; --force writes into it all the same", cli->out);
            return NULL;
        }
        return make_dir(cli, cli->out, error) ? g_strdup(cli->out) : NULL;
    }
    if (!make_dir(NULL, "runs", error))
        return NULL;
    for (int i = 1; i < 1000000; i++) {
        char name[32];

        g_snprintf(name, sizeof name, "runs/%04d", i);
        if (g_mkdir(name, 0755) == 0) {
            cli_interrupt_takes(cli->made_dir = g_strdup(name));
            return g_strdup(name);
        }
        if (errno != EEXIST) {
            g_set_error(error, FM_ERROR, FM_ERROR_FILE, "cannot create directory '%s': %s", name, g_strerror(errno));
            return NULL;
        }
    }
    g_set_error(error, FM_ERROR, FM_ERROR_FILE, "directory 'runs' holds too many runs; give --out");
    return NULL;
}
