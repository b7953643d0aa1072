/* cmd_run.c: `run` (train, sample, evaluate, report), `train` and `eval`. */
#include "cli/outcome.h"
#include "io/plot.h"
#include "cli/report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

void
outcome_clear(Outcome *o)
{
    g_clear_pointer(&o->train.loss_curve, g_array_unref);
    fm_free(o->samples);
    g_clear_pointer(&o->metrics, g_array_unref);
    g_clear_pointer(&o->files, g_ptr_array_unref);
}

/* Peak resident memory of the process, bytes. */
static gint64
peak_memory(void)
{
    struct rusage usage;

    return getrusage(RUSAGE_SELF, &usage) == 0 ? (gint64)usage.ru_maxrss * 1024 : 0;
}

void
outcome_json(JsonBuilder *b, FmRun *run, Outcome *o)
{
    g_autofree char *digest = run->params ? fm_params_digest(run->params) : NULL;

    out_text(b, "run", run->dir);
    out_config(b, run);
    out_open(b, "net");
    out_int(b, "parameters", run->params ? (gint64)fm_params_number(run->params) : 0);
    out_text(b, "digest", digest);
    json_builder_end_object(b);
    if (o->trained) {
        out_open(b, "train");
        out_int(b, "steps", (gint64)o->train.steps);
        out_int(b, "batch_size", (gint64)o->train.batch_size);
        out_real(b, "seconds", o->train.seconds);
        out_real(b, "ms_per_step", o->train.ms_per_step);
        out_real(b, "loss_first", o->train.loss_first);
        out_real(b, "loss_last", o->train.loss_last);
        out_int(b, "skipped_steps", (gint64)o->train.skipped_steps);
        out_int(b, "peak_memory_bytes", (gint64)peak_memory());
        json_builder_end_object(b);
    }
    if (run->profile && o->trained)
        profile_json(b, &o->train.profile, o->train.profile.calls[FM_WORK_OPTIMIZER], 0);
    if (o->sampled)
        summary_json(b, &o->summary, (gint64)o->n_samples, o->sample_seconds);
    metrics_json(b, o->metrics);
    out_texts(b, "files", o->files->len, o->files->pdata);
}

static char *
result_json(Cli *cli, FmRun *run, Outcome *o, const char *status)
{
    g_autoptr(JsonBuilder) b = json_builder_new();

    out_header(b, cli, status);
    outcome_json(b, run, o);
    return out_finish(b);
}

static gboolean
draw_loss(FmRun *run, Outcome *o, GError **error)
{
    const GArray *curve = o->train.loss_curve;
    const size_t n = curve ? curve->len / 2 : 0;
    g_autofree double *x = g_new(double, n + 1), *y = g_new(double, n + 1);
    g_autofree char *file = g_build_filename(run->dir, "loss.svg", NULL);
    FmCurve series = {.name = "training loss", .x = x, .y = y, .n = n};

    if (n < 2)
        return TRUE;
    for (size_t i = 0; i < n; i++) {
        x[i] = g_array_index(curve, double, 2 * i);
        y[i] = g_array_index(curve, double, 2 * i + 1);
    }
    if (!fm_plot_curves(file, "Training loss", "step", "loss", &series, 1, 0, error))
        return FALSE;
    g_ptr_array_add(o->files, (char *)"loss.svg");
    return TRUE;
}

static int
by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* All data (n, 2), and the samples (m, 2) but for the outermost half per cent on each side. */
static void
picture_box(const double *data, size_t n, const double *samples, size_t m, double box[4])
{
    g_autofree double *v = g_new(double, m + 1);

    for (size_t d = 0; d < 2; d++) {
        double lo, hi;

        for (size_t i = 0; i < m; i++)
            v[i] = isfinite(samples[2 * i + d]) ? samples[2 * i + d] : data[d];
        qsort(v, m, sizeof *v, by_value);
        lo = m > 0 ? v[m / 200] : data[d];
        hi = m > 0 ? v[m - 1 - m / 200] : data[d];
        for (size_t i = 0; i < n; i++) {
            lo = MIN(lo, data[2 * i + d]);
            hi = MAX(hi, data[2 * i + d]);
        }
        if (!(hi > lo)) { /* one point */
            lo -= 0.5 + fabs(lo) * 0.1;
            hi += 0.5 + fabs(hi) * 0.1;
        }
        box[d] = lo - 0.05 * (hi - lo);
        box[2 + d] = hi + 0.05 * (hi - lo);
    }
}

/* The density on a grid over the box, for the third panel. */
static gboolean
grid_density(FmFlow *flow, const double box[4], size_t side, double **density, GError **error)
{
    g_autofree double *points = g_new(double, 2 * side * side);
    const double dx = (box[2] - box[0]) / (double)side, dy = (box[3] - box[1]) / (double)side;

    for (size_t i = 0; i < side * side; i++) {
        points[2 * i] = box[0] + dx * ((double)(i % side) + 0.5);
        points[2 * i + 1] = box[1] + dy * ((double)(i / side) + 0.5);
    }
    *density = g_new(double, side *side);
    if (!fm_flow_grid_density(flow, side * side, points, NULL, *density, error))
        return FALSE;
    for (size_t i = 0; i < side * side; i++) {
        const double q = exp((*density)[i]);

        (*density)[i] = isfinite(q) ? q : 0;
    }
    return TRUE;
}

/* Data, samples and, unless the likelihood is not wanted, the density side by side. */
static gboolean
draw_plane(FmRun *run, FmFlow *flow, Outcome *o, size_t n, const char *file, GError **error)
{
    /* Finite data may hold fewer points than are drawn. */
    const size_t m = run->data.rows > 0 ? MIN(n, run->data.rows) : n, side = 100;
    g_autofree double *data = g_new(double, 2 * m), *density = NULL;
    double box[4];

    if (!fm_run_data(run, run->data.rows > 0 ? "all" : "test", 0, m, data, NULL, error))
        return FALSE;
    picture_box(data, m, o->samples, n, box);
    if (run->net_info.classes == 0 && strcmp(run->config->likelihood, "none") != 0 && evaluate_has_density(run, NULL) &&
        !grid_density(flow, box, side, &density, error))
        return FALSE;
    return fm_plot_scatter2(file, data, m, o->samples, n, density, side, side, box, error);
}

static gboolean
draw_samples(FmRun *run, FmFlow *flow, Outcome *o, GError **error)
{
    g_autofree char *file = g_build_filename(run->dir, "samples.png", NULL);
    const size_t n = MIN(o->n_samples, run->data.ndim == 3 ? 64 : 4000);
    const size_t *dim = run->data.dim;

    if (run->data.ndim == 3 && (dim[2] == 1 || dim[2] == 3)) {
        if (!fm_plot_images(file, o->samples, n, dim[0], dim[1], dim[2], n < 16 ? 4 : 8, error))
            return FALSE;
    } else if (run->data.ndim == 1 && run->data.D == 2) {
        if (!draw_plane(run, flow, o, n, file, error))
            return FALSE;
    } else {
        return TRUE;
    }
    g_ptr_array_add(o->files, (char *)"samples.png");
    return TRUE;
}

/* Samples of the flow; a conditional one gets its classes in turn. */
static gboolean
draw(FmRun *run, FmFlow *flow, Outcome *o, GError **error)
{
    const size_t D = run->data.D;
    g_autofree int *labels = cli_labels_in_turn((size_t)run->config->samples, run->net_info.classes);
    size_t bytes;
    const double start = cli_seconds();

    o->n_samples = (size_t)run->config->samples;
    if (!fm_size_mul(o->n_samples, D, sizeof(double), &bytes) || !(o->samples = fm_alloc(bytes))) {
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "%zu samples of %zu values do not fit in memory", o->n_samples,
                    D);
        return FALSE;
    }
    if (!fm_flow_sample(flow, o->n_samples, (guint64)run->config->seed, NULL, labels, o->samples, NULL, NULL,
                        &o->summary, error))
        return FALSE;
    o->sample_seconds = cli_seconds() - start;
    o->sampled = TRUE;
    return TRUE;
}

static gboolean
draw_and_save(FmRun *run, FmFlow *flow, Outcome *o, GError **error)
{
    g_autofree char *file = g_build_filename(run->dir, "samples.npy", NULL);

    if (!draw(run, flow, o, error) ||
        !cli_save_points(file, &run->data, run->config->dtype, o->n_samples, run->data.D, o->samples, error))
        return FALSE;
    g_ptr_array_add(o->files, (char *)"samples.npy");
    return draw_samples(run, flow, o, error);
}

static void
print_outcome(FmRun *run, Outcome *o)
{
    if (o->trained && o->train.ms_per_step <= 0)
        printf("step %llu was the last: nothing was left to train\n", (unsigned long long)o->train.steps);
    else if (o->trained)
        printf("trained %llu steps of %llu rows in %.1f s (%.3g ms a step), loss %.4f to %.4f\n",
               (unsigned long long)o->train.steps, (unsigned long long)o->train.batch_size, o->train.seconds,
               o->train.ms_per_step, o->train.loss_first, o->train.loss_last);
    if (run->profile && o->trained)
        profile_print(stdout, &o->train.profile, o->train.profile.calls[FM_WORK_OPTIMIZER], 0);
    if (o->train.skipped_steps > 0)
        printf("skipped %llu steps whose loss or gradient was not finite\n",
               (unsigned long long)o->train.skipped_steps);
    if (o->sampled)
        printf("sampled %zu points in %.2f s: NFE %.1f mean, %llu max, %zu failed\n", o->n_samples, o->sample_seconds,
               o->summary.nfe_mean, (unsigned long long)o->summary.nfe_max, o->summary.failed);
    metrics_print(o->metrics);
    if (run->dir)
        printf("run in %s (seed %lld)\n", run->dir, (long long)run->config->seed);
}

/* result.json; its text, owned by the caller, or NULL. */
static char *
save_result(Cli *cli, FmRun *run, Outcome *o, GError **error)
{
    g_autofree char *text = result_json(cli, run, o, cli_interrupted() ? "interrupted" : "ok");
    g_autofree char *file = run->dir ? g_build_filename(run->dir, "result.json", NULL) : NULL;

    return !file || fm_write_file(file, text, strlen(text), error) ? g_steal_pointer(&text) : NULL;
}

/* Say it all; the exit status. */
static int
conclude(Cli *cli, FmRun *run, Outcome *o, GError **error)
{
    g_autofree char *text = save_result(cli, run, o, error);

    if (!text)
        return -1;
    if (cli->json)
        puts(text);
    else
        print_outcome(run, o);
    return cli_interrupted() ? 128 + cli_interrupted() : 0;
}

/* Closed forms and foreign functions have no weights. */
static gboolean
trainable(const FmRun *run)
{
    return fm_params_number(run->params) > 0;
}

static const char *
test_split(const FmRun *run)
{
    return run->data.rows > 0 ? "test" : "all";
}

/* A fresh run in its directory, or the one to resume. What would fail after training is asked
 * for before. */
static FmRun *
open_run(Cli *cli, gboolean evaluated, GError **error)
{
    FmRun *run;

    if (cli->resume && cli->out) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE, "option --out does not go with --resume, which goes on in '%s'",
                    cli->resume);
        return NULL;
    }
    if (cli->seeds > 1 && (cli->resume || !evaluated)) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                    "option --seeds starts fresh runs and evaluates them, so it goes with 'run' and "
                    "'compare', and not with --resume");
        return NULL;
    }
    run = cli->resume ? fm_run_load(cli->resume, error) : fm_run_new(cli->config, error);
    if (run && cli->resume && !(fm_run_override(run, cli->config, cli->force, error) && fm_run_resume(run, error)))
        g_clear_pointer(&run, fm_run_free);
    if (run && !evaluated && !trainable(run)) {
        g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                    "net '%s' has no weights to train; 'fmcore run' samples and evaluates it as it is",
                    fm_plugin_name(run->plugin[FM_KIND_NET]));
        g_clear_pointer(&run, fm_run_free);
    }
    if (run && evaluated && !evaluate_check(run, test_split(run), error))
        g_clear_pointer(&run, fm_run_free);
    if (run && !cli->resume && !(run->dir = cli_run_dir(cli, error)))
        g_clear_pointer(&run, fm_run_free);
    return run;
}

static gboolean
train(Cli *cli, FmRun *run, Outcome *o, GError **error)
{
    g_autoptr(Progress) progress = progress_new(cli, "training");

    if (cli->verbose) {
        g_autofree char *text = fm_config_format(run->config);

        fprintf(stderr, "%s", text);
    }
    static const char *const written[] = {"config.ini", "model.safetensors", "checkpoint.safetensors", "metrics.jsonl"};

    if (!trainable(run)) {
        if (!cli->quiet)
            fprintf(stderr, "net '%s' has no weights: training is skipped\n", fm_plugin_name(run->plugin[FM_KIND_NET]));
        g_ptr_array_add(o->files, (char *)written[0]);
        g_ptr_array_add(o->files, (char *)written[1]);
        return fm_run_save(run, error);
    }
    run->profile = cli->profile;
    if (!excess_floor(run, error))
        return FALSE;
    cli_interrupt_defer(TRUE);
    o->trained = fm_run_train(run, progress_step, progress, &o->train, error);
    cli_interrupt_defer(FALSE);
    if (!o->trained)
        return FALSE;
    for (size_t i = 0; i < G_N_ELEMENTS(written); i++)
        g_ptr_array_add(o->files, (char *)written[i]);
    return draw_loss(run, o, error);
}

void
outcome_init(Outcome *o)
{
    o->metrics = metrics_new();
    o->files = g_ptr_array_new();
}

static void
add_loss(const FmRun *run, Outcome *o)
{
    FmEstimate e = {.value = o->train.loss_last, .se = NAN, .n = o->train.loss_rows, .unit = ""};

    if (o->train.ms_per_step <= 0)
        return; /* nothing was left to train */

    fm_estimate_text(&e, "what", "mean over the last steps");
    if (run->floor.length > 0) {
        /* as the loss: of one of a point's D values */
        fm_estimate_number(&e, "conditional_variance", run->floor.value / (double)run->data.D);
        fm_estimate_number(&e, "conditional_variance_se", run->floor.se / (double)run->data.D);
    }
    metrics_add(o->metrics, "loss", &e, o->train.seconds);
}

FmRun *
experiment_new(const FmConfig *config, GError **error)
{
    FmRun *run = fm_run_new(config, error);

    if (run && !evaluate_check(run, test_split(run), error))
        g_clear_pointer(&run, fm_run_free);
    return run;
}

static const char stage_evaluating[] = "evaluating: likelihood and divergences";

/* After training: samples, pictures and metrics. */
static gboolean
sample_and_evaluate(const Cli *cli, FmRun *run, Outcome *o, GError **error)
{
    g_autoptr(FmFlow) flow = fm_flow_from_run(run, error);
    gboolean ok = flow != NULL;

    if (ok) {
        progress_stage(cli, "sampling");
        ok = draw_and_save(run, flow, o, error);
    }
    if (ok && !cli_interrupted()) {
        progress_stage(cli, stage_evaluating);
        ok = evaluate(run, flow, test_split(run), o->samples, o->n_samples, o->metrics, error);
    }
    progress_stage(cli, NULL);
    return ok;
}

gboolean
experiment(Cli *cli, FmRun *run, Outcome *o, GError **error)
{
    g_autofree char *text = NULL;

    if (!train(cli, run, o, error))
        return FALSE;
    if (o->trained)
        add_loss(run, o);
    if (!cli_interrupted() && !sample_and_evaluate(cli, run, o, error))
        return FALSE;
    text = save_result(cli, run, o, error);
    return text != NULL;
}

int
cmd_run(Cli *cli, GError **error)
{
    g_auto(Outcome) o = {0};
    FmRun *run;
    int status = -1;

    if (cli->seeds > 1 && !cli->resume)
        return compare_runs(cli, error);
    run = open_run(cli, TRUE, error);
    outcome_init(&o);
    if (run && experiment(cli, run, &o, error))
        status = conclude(cli, run, &o, error);
    if (status == 0 && !report_write(run->dir, error))
        status = -1;
    fm_run_free(run);
    return status;
}

int
cmd_train(Cli *cli, GError **error)
{
    FmRun *run = open_run(cli, FALSE, error);
    g_auto(Outcome) o = {0};
    int status = -1;

    outcome_init(&o);
    if (run && train(cli, run, &o, error)) {
        add_loss(run, &o);
        status = conclude(cli, run, &o, error);
    }
    fm_run_free(run);
    return status;
}

/* The run of `eval`: its seed, data set and evaluation may be others than in training. */
static FmRun *
open_eval(Cli *cli, const char *split, GError **error)
{
    static const char *const splits[] = {"train", "valid", "test", "all", NULL};
    FmRun *run;

    if (!g_strv_contains(splits, split)) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE, "option --split is '%s', expected train, valid, test or all",
                    split);
        return NULL;
    }
    run = cli_load_run(cli, cli->args->pdata[0], error);
    if (!run)
        return NULL;
    if (cli_given(cli, "seed"))
        run->config->seed = cli->config->seed;
    if ((cli_given(cli, "dataset") && !fm_run_set_dataset(run, cli->config->spec[FM_KIND_DATASET], error)) ||
        !fm_run_override(run, cli->config, TRUE, error) || !evaluate_check(run, split, error))
        g_clear_pointer(&run, fm_run_free);
    return run;
}

int
cmd_eval(Cli *cli, GError **error)
{
    const char *split = cli->split ? cli->split : "test";
    FmRun *run = open_eval(cli, split, error);
    FmFlow *flow = run ? fm_flow_from_run(run, error) : NULL;
    g_auto(Outcome) o = {0};
    int status = -1;

    outcome_init(&o);
    if (!flow)
        goto done;
    progress_stage(cli, stage_evaluating);
    const gboolean ok = (run->config->divergences->len == 0 || draw(run, flow, &o, error)) &&
                        evaluate(run, flow, split, o.samples, o.n_samples, o.metrics, error);
    progress_stage(cli, NULL);
    if (!ok)
        goto done;
    if (cli->json) {
        g_autofree char *text = result_json(cli, run, &o, "ok");

        puts(text);
    } else {
        metrics_print(o.metrics);
    }
    status = 0;
done:
    fm_flow_free(flow);
    fm_run_free(run);
    return status;
}

int
cmd_report(Cli *cli, GError **error)
{
    g_autoptr(GPtrArray) files = g_ptr_array_new_with_free_func(g_free);

    for (guint i = 0; i < cli->args->len; i++) {
        if (!report_write(cli->args->pdata[i], error))
            return -1;
        g_ptr_array_add(files, g_build_filename(cli->args->pdata[i], "report.html", NULL));
        if (!cli->json && !cli->quiet)
            puts(files->pdata[i]);
    }
    if (cli->json) {
        g_autoptr(JsonBuilder) b = json_builder_new();
        g_autofree char *text = NULL;

        out_header(b, cli, "ok");
        out_texts(b, "files", files->len, files->pdata);
        text = out_finish(b);
        puts(text);
    }
    return 0;
}
