/* study_tv_rate.c: how fast a learned density approaches the truth as the rows grow.
 *
 * Targets are products of B-splines, of Hoelder smoothness s. A net learns n rows; training stops
 * where the log-likelihood of further rows is best, because the exact minimiser of the loss
 * reproduces the rows themselves. Then TV and KL to the truth on a grid, the slope of log TV against
 * log n, beside the minimax exponent -s/(2s+d) and a kernel density estimate on the same rows.
 * Source: Su, Hu, Pi & Liu 2025, arXiv:2511.05480; Tsybakov 2009, doi:10.1007/b13794, ch. 2. */
#include "cli/study.h"

#include <fmcore/io.h>

#include <glib/gstdio.h>
#include <math.h>
#include <string.h>

enum {
    TV_N_FIRST = 7,
    TV_N_LAST = 15, /* powers of two */
    TV_REPLICATES = 3,
    TV_HELD_OUT = 2048, /* rows, besides the n to learn */
    TV_CHUNK = 250,     /* steps between two looks at them */
    TV_PATIENCE = 5,    /* looks without a better value */
    TV_STEPS = 10000,   /* at most */
    TV_GRID_1 = 2000,
    TV_GRID_2 = 120 /* points a side */
};

/* The target and the grid that everything is compared on. */
typedef struct Target {
    FmPlugin *dataset;
    FmDataInfo info;
    double s, lo, cell; /* smoothness; the grid's first corner; volume of a cell */
    size_t side, n_grid;
    double *grid, *log_p; /* (n_grid, D), (n_grid) */
    double *held_out;     /* (TV_HELD_OUT, D) */
} Target;

typedef struct Distance {
    double tv, kl;
} Distance;

static void
target_clear(Target *t)
{
    fm_plugin_free(t->dataset);
    g_free(t->grid);
    g_free(t->log_p);
    g_free(t->held_out);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Target, target_clear)

/* An integer or real option of an instance by name; NAN when it has none. */
static double
option_of(const FmPlugin *plugin, const char *name)
{
    for (const FmOption *o = fm_plugin_desc(plugin)->options; o && o->name; o++)
        if (strcmp(o->name, name) == 0) {
            g_autofree char *text = fm_option_format(o, fm_plugin_self(plugin));

            return g_ascii_strtod(text, NULL);
        }
    return NAN;
}

/* Cells' centres over the support and a margin of a tenth on each side. */
static void
target_grid(Target *t, double half)
{
    const size_t D = t->info.D;
    const double step = 2.2 * half / (double)t->side;

    t->lo = -1.1 * half;
    t->cell = D == 1 ? step : step * step;
    t->grid = g_new(double, t->n_grid *D);
    t->log_p = g_new(double, t->n_grid);
    for (size_t i = 0; i < t->n_grid; i++) {
        t->grid[i * D] = t->lo + step * ((double)(i % t->side) + 0.5);
        if (D == 2)
            t->grid[i * D + 1] = t->lo + step * ((double)(i / t->side) + 0.5);
    }
    fm_dataset_log_density(t->dataset, t->n_grid, t->grid, t->log_p);
}

static gboolean
target_open(Target *t, const Study *s, GError **error)
{
    const char *spec = s->cli->config->spec[FM_KIND_DATASET];
    const FmKey key = {.seed = s->seed, .stream = FM_STREAM_EVAL, .step = 1};

    t->dataset = fm_plugin_new(FM_KIND_DATASET, spec ? spec : "bspline", error);
    if (!t->dataset || !fm_dataset_open(t->dataset, &t->info, error))
        return FALSE;
    t->s = option_of(t->dataset, "degree");
    if (strcmp(fm_plugin_name(t->dataset), "bspline") != 0 || t->info.D > 2) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                    "study tv-rate: the target is '%s' in %zu dimensions, expected bspline in 1 or 2",
                    fm_plugin_name(t->dataset), t->info.D);
        return FALSE;
    }
    t->side = t->info.D == 1 ? TV_GRID_1 : TV_GRID_2;
    t->n_grid = t->info.D == 1 ? t->side : t->side * t->side;
    target_grid(t, 0.5 * (t->s + 1.0) * option_of(t->dataset, "width"));
    t->held_out = g_new(double, TV_HELD_OUT * t->info.D);
    return fm_dataset_draw(t->dataset, key, 0, TV_HELD_OUT, t->held_out, NULL, error);
}

/* TV and KL(p||q) of log-densities on the grid; what q holds outside counts as mass that p lacks. */
static Distance
target_distance(const Target *t, const double *log_q)
{
    double both = 0, inside = 0, kl = 0;

    for (size_t i = 0; i < t->n_grid; i++) {
        const double p = exp(t->log_p[i]), q = exp(log_q[i]);

        both += fabs(p - q) * t->cell;
        inside += q * t->cell;
        kl += p > 0 ? p * (t->log_p[i] - log_q[i]) * t->cell : 0.0;
    }
    return (Distance){.tv = 0.5 * (both + MAX(0.0, 1.0 - inside)), .kl = kl};
}

/* ---- the kernel density estimate ---- */

typedef struct Kernel {
    const Target *t;
    const double *x;
    size_t n;
    double h[2];
    double *log_q;
} Kernel;

static void
kernel_point(void *ctx, int worker, size_t i)
{
    const Kernel *k = ctx;
    const size_t D = k->t->info.D;
    const double *g = k->t->grid + i * D;
    double sum = 0, norm = (double)k->n;

    for (size_t d = 0; d < D; d++)
        norm *= k->h[d] * sqrt(2 * G_PI);
    for (size_t r = 0; r < k->n; r++) {
        double e = 0;

        for (size_t d = 0; d < D; d++) {
            const double u = (g[d] - k->x[r * D + d]) / k->h[d];

            e += u * u;
        }
        sum += e < 60 ? exp(-0.5 * e) : 0.0;
    }
    k->log_q[i] = log(sum / norm);
}

/* Gaussian kernels of width sd n^(-1/(2 s + d)), s at most 2: the kernel's order. */
static Distance
kernel_distance(const Study *s, const Target *t, const double *x, size_t n)
{
    const size_t D = t->info.D;
    g_autofree double *log_q = g_new(double, t->n_grid);
    Kernel k = {.t = t, .x = x, .n = n, .log_q = log_q};
    const double rate = pow((double)n, -1.0 / (2.0 * MIN(t->s, 2.0) + (double)D));

    for (size_t d = 0; d < D; d++) {
        double mean = 0, square = 0;

        for (size_t r = 0; r < n; r++) {
            mean += x[r * D + d] / (double)n;
            square += x[r * D + d] * x[r * D + d] / (double)n;
        }
        k.h[d] = sqrt(MAX(square - mean * mean, 1e-12)) * rate;
    }
    fm_parallel(s->threads, t->n_grid, kernel_point, &k);
    return target_distance(t, log_q);
}

/* ---- the net ---- */

/* The rows as a file that a run can be trained on; a run keeps a tenth of them back. */
static gboolean
write_rows(const Target *t, const char *file, guint64 seed, guint64 replicate, size_t n, GError **error)
{
    const size_t D = t->info.D;
    size_t rows = n;
    FmKey key = {.seed = seed, .stream = FM_STREAM_DATA, .step = replicate};
    g_autoptr(FmArray) array = NULL;

    while (rows - 2 * (rows / 20) < n)
        rows++;
    array = fm_array_new(FM_F64, 2, (size_t[]){rows, D}, error);
    return array && fm_dataset_draw(t->dataset, key, 0, rows, array->data, NULL, error) &&
           fm_array_save(array, file, error);
}

static FmConfig *
net_config(const Study *s, const char *file, size_t n, guint64 replicate)
{
    FmConfig *c = fm_config_copy(s->cli->config);

    g_free(c->spec[FM_KIND_DATASET]);
    c->spec[FM_KIND_DATASET] = g_strdup_printf("npy:file='%s'", file);
    c->seed = (gint64)(s->seed + replicate);
    c->threads = s->threads;
    if (c->steps < 0)
        c->steps = TV_STEPS;
    if (c->lr < 0)
        c->lr = 2e-3;
    if (c->batch_size < 0)
        c->batch_size = (gint64)MIN(n, 256);
    if (!cli_given(s->cli, "schedule"))
        c->schedule = FM_SCHEDULE_CONSTANT;
    return c;
}

static gboolean
mean_nll(FmRun *run, const Target *t, double *nll, GError **error)
{
    g_autoptr(FmFlow) flow = fm_flow_from_run(run, error);
    g_autofree double *log_q = g_new(double, TV_HELD_OUT);

    *nll = 0;
    if (!flow || !fm_flow_log_density(flow, TV_HELD_OUT, t->held_out, NULL, NULL, log_q, NULL, NULL, error))
        return FALSE;
    for (size_t i = 0; i < TV_HELD_OUT; i++)
        *nll -= log_q[i] / TV_HELD_OUT;
    return TRUE;
}

/* Train until the held-out rows say stop; the weights of the best look stay. */
static gboolean
train_net(FmRun *run, const Target *t, double *nll, guint64 *steps, GError **error)
{
    const size_t bytes = fm_params_size(run->params) * fm_dtype_size(run->config->dtype);
    g_autofree void *best = g_malloc(bytes);
    int since = 0;

    *nll = INFINITY;
    for (gint64 stop = TV_CHUNK; since < TV_PATIENCE && stop < run->config->steps + TV_CHUNK; stop += TV_CHUNK) {
        FmTrainResult result = {0};
        double value;
        gboolean ok;

        run->config->stop_after = stop;
        ok = fm_run_train(run, NULL, NULL, &result, error);
        g_clear_pointer(&result.loss_curve, g_array_unref);
        if (!ok || !mean_nll(run, t, &value, error))
            return FALSE;
        since++;
        if (value < *nll) {
            *nll = value;
            *steps = result.steps;
            memcpy(best, fm_params_block(run->params), bytes);
            since = 0;
        }
    }
    if (isinf(*nll)) {
        g_set_error(
            error, FM_ERROR, FM_ERROR_DIVERGED,
            "study tv-rate: the held-out log-likelihood was finite at none of %d looks, expected a training that "
            "converges (a lower --lr may help)",
            since);
        return FALSE;
    }
    memcpy(fm_params_block(run->params), best, bytes);
    return TRUE;
}

static gboolean
one_size(Study *s, const Target *t, size_t n, guint64 replicate, double *log_tv, double *log_kde, GError **error)
{
    g_autofree char *file = g_build_filename(s->dir, "rows.npy", NULL);
    g_autofree double *x = g_new(double, n * t->info.D), *log_q = g_new(double, t->n_grid);
    gboolean ok = write_rows(t, file, s->seed, replicate, n, error);
    g_autoptr(FmConfig) config = net_config(s, file, n, replicate);
    FmRun *run = ok ? fm_run_new(config, error) : NULL;
    FmFlow *flow = NULL;
    guint64 steps = 0;
    double nll;

    g_unlink(file);
    ok = run && fm_run_data(run, "train", 0, n, x, NULL, error) && train_net(run, t, &nll, &steps, error) &&
         (flow = fm_flow_from_run(run, error)) &&
         fm_flow_log_density(flow, t->n_grid, t->grid, NULL, NULL, log_q, NULL, NULL, error);
    if (ok) {
        const Distance net = target_distance(t, log_q), kde = kernel_distance(s, t, x, n);

        *log_tv = log(net.tv);
        *log_kde = log(kde.tv);
        study_row(s);
        study_text(s, "net", fm_plugin_name(run->plugin[FM_KIND_NET]));
        study_number(s, "n", (double)n);
        study_number(s, "replicate", (double)replicate);
        study_number(s, "steps", (double)steps);
        study_number(s, "nll", nll);
        study_number(s, "tv", net.tv);
        study_number(s, "kl", net.kl);
        study_number(s, "kde_tv", kde.tv);
        study_progress(s, "n = %zu, replicate %d: TV %.4f (kernel estimate %.4f)", n, (int)replicate, net.tv, kde.tv);
    }
    fm_flow_free(flow);
    fm_run_free(run);
    return ok;
}

/* Means over the replicates, and the minimax rate through the first of them. */
static gboolean
draw(Study *s, const double *log_n, const double *log_tv, const double *log_kde, double rate, GError **error)
{
    enum { SIZES = TV_N_LAST - TV_N_FIRST + 1 };
    double n[SIZES], tv[SIZES] = {0}, kde[SIZES] = {0}, line[SIZES];
    const FmCurve curves[] = {{.name = "net", .x = n, .y = tv, .n = SIZES},
                              {.name = "kernel density estimate", .x = n, .y = kde, .n = SIZES},
                              {.name = "minimax rate", .x = n, .y = line, .n = SIZES}};

    for (size_t i = 0; i < SIZES; i++) {
        n[i] = exp(log_n[i * TV_REPLICATES]);
        for (size_t r = 0; r < TV_REPLICATES; r++) {
            tv[i] += exp(log_tv[i * TV_REPLICATES + r]) / TV_REPLICATES;
            kde[i] += exp(log_kde[i * TV_REPLICATES + r]) / TV_REPLICATES;
        }
        line[i] = tv[0] * pow(n[i] / n[0], rate);
    }
    return study_curves(s, "tv-rate.svg", "Total variation to the truth", "rows", "TV", curves, 3,
                        FM_PLOT_LOG_X | FM_PLOT_LOG_Y, error);
}

gboolean
study_tv_rate(Study *s, GError **error)
{
    enum { TOTAL = (TV_N_LAST - TV_N_FIRST + 1) * TV_REPLICATES };
    static const char *const taken[] = {"dataset",    "source",    "coupling",   "path",     "net",
                                        "objective",  "optimizer", "prediction", "dtype",    "steps",
                                        "batch-size", "lr",        "warmup",     "schedule", "weight-decay",
                                        "grad-clip",  "ema-decay", "scale",      "patience", "time-sampling",
                                        "config",     "preset",    NULL};
    g_auto(Target) t = {0};
    double log_n[TOTAL], log_tv[TOTAL], log_kde[TOTAL];
    size_t k = 0;

    if (!study_takes(s, taken, error) || !target_open(&t, s, error))
        return FALSE;
    for (int e = TV_N_FIRST; e <= TV_N_LAST; e++)
        for (int r = 0; r < TV_REPLICATES; r++, k++) {
            log_n[k] = log(2) * e;
            if (!one_size(s, &t, (size_t)1 << e, (guint64)r, &log_tv[k], &log_kde[k], error))
                return FALSE;
        }
    const StudySlope net = study_slope(TOTAL, log_n, log_tv), kde = study_slope(TOTAL, log_n, log_kde);
    const double rate = -t.s / (2 * t.s + (double)t.info.D);

    study_say(s,
              "slope of log TV: net %.3f +- %.3f, kernel density estimate %.3f +- %.3f (95 %%); "
              "minimax -s/(2s+d) = %.3f at s = %g, d = %zu",
              net.slope, net.half_width, kde.slope, kde.half_width, rate, t.s, t.info.D);
    return draw(s, log_n, log_tv, log_kde, rate, error);
}
