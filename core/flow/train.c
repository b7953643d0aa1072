/* train.c: the training loop: one plan computes the loss and all gradients, then clip, optimizer
 * and moving average go over fixed blocks of the weights.
 * Clipping by global norm: Pascanu et al. 2013, arXiv:1211.5063. */
#include "flow/excess.h"
#include "flow/feed.h"
#include "flow/schedule.h"
#include "flow/state.h"
#include "flow/update.h"
#include "flow/velocity.h"
#include "io/atomic.h"

#include <math.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

typedef struct Trainer {
    FmRun *run;
    FmTrainState *state; /* borrowed from run->state */
    FmPlan *plan;
    FmExec *exec;
    FmFeeder *feeder;
    FmDtype dtype;
    size_t B, size, n; /* bytes of a number; trainable weights with gaps */
    int threads;
    char *grad; /* (n), where out[] asks for gradients */
    union {
        float f32;
        double f64;
    } loss;      /* written by the plan, in the run's dtype */
    void **out;  /* loss and copies of all gradients */
    void **lean; /* the loss alone: steps read gradients where the plan leaves them */
    FmUpdater *updater;
    gboolean ema;
    double coupling_seconds, optimizer_seconds; /* for the profile */
    guint64 profiled;                           /* steps */
} Trainer;

static void
trainer_free(Trainer *t)
{
    if (t == NULL)
        return;
    fm__feeder_free(t->feeder);
    fm_exec_free(t->exec);
    fm_plan_free(t->plan);
    fm_free(t->grad);
    g_free(t->out);
    g_free(t->lean);
    fm__updater_free(t->updater);
    g_free(t);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Trainer, trainer_free)

/* ---- construction ---- */

/* Where the gradient of each trainable weight will be: d[i] NULL means that it is zero. */
static void
trainer_bind(Trainer *t, size_t n_out, FmNode *const *d)
{
    const FmParams *params = t->state->raw;
    size_t n = 0, k = 1;

    t->out = g_new0(void *, n_out);
    t->lean = g_new0(void *, n_out);
    t->out[0] = t->lean[0] = &t->loss;
    t->updater = fm__updater_new(t->run, t->state);
    for (size_t i = 0; i < fm_params_count(params); i++) {
        const FmParam *p = fm_params_nth(params, i);
        if (!p->trainable)
            continue;
        if (d[n++] == NULL) {
            fm__updater_add(t->updater, p, NULL);
            continue;
        }
        t->out[k] = t->grad + p->offset * t->size;
        const void *grad = fm_exec_output(t->exec, k);
        if (grad == NULL)
            grad = t->lean[k] = t->out[k];
        fm__updater_add(t->updater, p, grad);
        k++;
    }
}

/* Gradients of `total` in every trainable weight, as outputs after the loss itself. */
static gboolean
trainer_gradients(Trainer *t, FmGraph *graph, FmNode *total, GError **error)
{
    const FmParams *params = t->state->raw;
    const size_t count = fm_params_count(params);
    g_autofree FmNode **wrt = g_new0(FmNode *, count + 1), **d = g_new0(FmNode *, count + 1);
    g_autofree FmNode **outputs = g_new0(FmNode *, count + 1);
    const FmNetOps *net = fm_plugin_ops(t->run->plugin[FM_KIND_NET]);
    const FmPlanOptions options = {
        .dtype = t->dtype, .backend = t->run->plugin[FM_KIND_BACKEND], .tile = net->tile, .batch = t->B};
    size_t n = 0, n_out = 1;

    for (size_t i = 0; i < count; i++) {
        const FmParam *p = fm_params_nth(params, i);
        if (!p->trainable)
            continue;
        wrt[n++] = fm_param(graph, p->name, p->ndim, p->dim, (FmInit){FM_INIT_ZEROS, 0});
    }
    if (!fm_vjp(total, NULL, wrt, n, d)) {
        fm_graph_ok(graph, error);
        return FALSE;
    }
    outputs[0] = total;
    for (size_t i = 0; i < n; i++)
        if (d[i] != NULL)
            outputs[n_out++] = d[i];
    t->plan = fm_plan_new(graph, outputs, n_out, &options, error);
    if (t->plan != NULL)
        t->exec = fm_exec_new(t->plan, params, t->threads, error);
    if (t->exec != NULL)
        trainer_bind(t, n_out, d);
    return t->exec != NULL;
}

static gboolean
trainer_compile(Trainer *t, GError **error)
{
    FmGraph *graph = NULL;
    FmNode *rows = fm__run_loss(t->run, &graph, error);
    gboolean ok = rows != NULL;

    if (!ok)
        return FALSE;
    if (!fm_coupling_row_wise(t->run->plugin[FM_KIND_COUPLING]))
        rows = fm_mul(rows, fm_input(graph, "weight", 1, 0, NULL));
    FmNode *total = fm_sum_batch(fm_affine(rows, 1.0 / (double)t->B, 0.0));
    ok = trainer_gradients(t, graph, total, error);
    fm_graph_free(graph);
    if (ok)
        t->feeder = fm__feeder_new(t->run, t->plan, t->B, t->threads, error);
    return t->feeder != NULL;
}

static Trainer *
trainer_new(FmRun *run, GError **error)
{
    g_autoptr(Trainer) t = g_new0(Trainer, 1);

    if (run->plugin[FM_KIND_DATASET] == NULL) {
        g_set_error_literal(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                            "training: the run has no data set that can be opened");
        return NULL;
    }
    if (run->state == NULL && (run->state = fm__train_state_new(run, error)) == NULL)
        return NULL;
    t->run = run;
    t->state = run->state;
    t->dtype = run->config->dtype;
    t->size = fm_dtype_size(t->dtype);
    t->B = (size_t)run->config->batch_size;
    t->threads = run->config->threads;
    t->ema = run->config->ema_decay > 0;
    t->n = fm_params_trainable_size(t->state->raw);
    if (t->n == 0) {
        g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED, "training: net '%s' has no weights that could be trained",
                    fm_plugin_name(run->plugin[FM_KIND_NET]));
        return NULL;
    }
    t->grad = fm_alloc(MAX(t->n, 1) * t->size);
    if (t->grad == NULL) {
        g_set_error_literal(error, FM_ERROR, FM_ERROR_MEMORY, "training: the gradients do not fit into memory");
        return NULL;
    }
    return trainer_compile(t, error) ? g_steal_pointer(&t) : NULL;
}

/* ---- profile ---- */

static double
trainer_seconds(void)
{
    return (double)g_get_monotonic_time() * 1e-6;
}

static void
trainer_profile_start(Trainer *t)
{
    t->coupling_seconds = t->optimizer_seconds = 0;
    t->profiled = 0;
    fm__feeder_ahead_seconds(t->feeder, TRUE);
    fm_exec_profile_start(t->exec);
}

static void
trainer_profile_read(const Trainer *t, FmProfile *profile)
{
    fm_exec_profile_read(t->exec, profile);
    profile->seconds[FM_WORK_FEED] += fm__feeder_ahead_seconds(t->feeder, FALSE);
    profile->seconds[FM_WORK_COUPLING] = t->coupling_seconds;
    profile->seconds[FM_WORK_OPTIMIZER] = t->optimizer_seconds;
    profile->calls[FM_WORK_COUPLING] = profile->calls[FM_WORK_OPTIMIZER] = t->profiled;
    profile->wall += t->coupling_seconds + t->optimizer_seconds;
}

/* ---- one step ---- */

/* One batch; *loss and *norm are what it gave, and a step that is not finite changes nothing. */
static gboolean
trainer_step(Trainer *t, double *loss, double *norm, double *lr, GError **error)
{
    const FmConfig *c = t->run->config;
    FmTrainState *s = t->state;
    const FmKey key = {.seed = (guint64)c->seed, .stream = FM_STREAM_NOISE, .step = s->step};
    double begun;

    fm__feeder_wait(t->feeder); /* which is no work of the coupling */
    begun = trainer_seconds();
    if (!fm__feeder_begin(t->feeder, s->step, error))
        return FALSE;
    t->coupling_seconds += trainer_seconds() - begun;
    if (!fm_exec_run(t->exec, t->B, NULL, fm__feeder_tile, t->feeder, t->lean, key, error) ||
        !fm__feeder_ok(t->feeder, error))
        return FALSE;
    *loss = t->dtype == FM_F32 ? (double)t->loss.f32 : t->loss.f64;
    begun = trainer_seconds();
    *norm = fm__updater_norm(t->updater);
    *lr = c->lr * fm__schedule_factor(c->schedule, s->step, (guint64)c->steps, (guint64)c->warmup);
    s->step++;
    if (!isfinite(*loss) || !isfinite(*norm)) {
        s->skipped++;
        s->bad++;
        return TRUE;
    }
    s->bad = 0;
    const FmUpdate how = {.dtype = t->dtype,
                          .grad_scale = c->grad_clip > 0 && *norm > c->grad_clip ? c->grad_clip / *norm : 1.0,
                          .lr = *lr,
                          .weight_decay = c->weight_decay,
                          .step = s->step - s->skipped};
    fm__updater_apply(t->updater, &how, fm__ema_decay(c->ema_decay, how.step));
    t->optimizer_seconds += trainer_seconds() - begun;
    t->profiled++;
    fm_exec_refresh(t->exec);
    return TRUE;
}

/* ---- the loop ---- */

typedef struct TrainLoop {
    Trainer *t;
    FmProgressFn progress;
    void *ctx;
    FmTrainResult *result;
    FILE *metrics;               /* NULL: the run has no directory */
    gint64 begun, last_progress; /* microseconds */
    double sum;                  /* of losses since the last line */
    guint64 counted, first;
} TrainLoop;

/* The weights to use, from the weights under training. */
static void
train_publish(const Trainer *t)
{
    if (!t->ema)
        memcpy(fm_params_block(t->run->params), fm_params_block(t->state->raw),
               fm_params_size(t->run->params) * t->size);
}

static gboolean
train_save(const Trainer *t, GError **error)
{
    train_publish(t);
    return t->run->dir == NULL || (fm__model_save(t->run, error) && fm__checkpoint_save(t->run, t->state, error));
}

/* metrics.jsonl, without the lines that a resumed run will write again. */
static gboolean
train_open_metrics(TrainLoop *l, GError **error)
{
    if (l->t->run->dir == NULL)
        return TRUE;
    g_autofree char *file = g_build_filename(l->t->run->dir, "metrics.jsonl", NULL);
    g_autofree char *old = NULL;

    if (l->first > 0)
        g_file_get_contents(file, &old, NULL, NULL);
    g_autoptr(GString) keep = g_string_new(NULL);
    g_auto(GStrv) lines = g_strsplit(old != NULL ? old : "", "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        unsigned long long step;
        if (sscanf(*line, "{\"step\":%llu,", &step) == 1 && step <= l->first && g_str_has_suffix(*line, "}"))
            g_string_append_printf(keep, "%s\n", *line);
    }
    if (!fm_write_file(file, keep->str, keep->len, error))
        return FALSE;
    l->metrics = fopen(file, "a");
    if (l->metrics == NULL)
        g_set_error(error, FM_ERROR, FM_ERROR_FILE, "'%s' cannot be written: %s", file, g_strerror(errno));
    return l->metrics != NULL;
}

static void
train_number(GString *line, const char *name, double value)
{
    char text[G_ASCII_DTOSTR_BUF_SIZE];

    g_string_append_printf(line, ",\"%s\":%s", name,
                           isfinite(value) ? g_ascii_dtostr(text, sizeof text, value) : "null");
}

/* The result's loss, of the finite steps since the line of the log before, and how many rows are behind it. */
static void
train_take(TrainLoop *l, double loss)
{
    l->result->loss_last = loss;
    l->result->loss_rows = l->counted * (guint64)l->t->B;
}

static gboolean
train_log(TrainLoop *l, const FmProgress *p, GError **error)
{
    gboolean ok = TRUE;
    const double point[2] = {(double)p->step, p->loss};
    GString *line = g_string_new(NULL);

    g_array_append_vals(l->result->loss_curve, point, 2);
    train_take(l, p->loss);
    g_string_append_printf(line, "{\"step\":%" G_GUINT64_FORMAT, p->step);
    train_number(line, "loss", p->loss);
    if (l->t->run->floor.length > 0) {
        const FmNumber e = fm_excess_of_loss(&l->t->run->floor, l->t->run->data.D, p->loss,
                                             (double)MAX(l->result->loss_rows, (guint64)l->t->B));

        train_number(line, "excess", e.value);
        train_number(line, "excess_se", e.se);
    }
    train_number(line, "grad_norm", p->grad_norm);
    train_number(line, "lr", p->lr);
    train_number(line, "seconds", p->seconds);
    train_number(line, "samples_per_second", p->samples_per_second);
    if (l->metrics != NULL) {
        fprintf(l->metrics, "%s}\n", line->str);
        ok = fflush(l->metrics) == 0;
        if (!ok)
            g_set_error(error, FM_ERROR, FM_ERROR_FILE, "'%s/metrics.jsonl' cannot be written: %s", l->t->run->dir,
                        g_strerror(errno));
    }
    g_string_free(line, TRUE);
    l->sum = 0;
    l->counted = 0;
    return ok;
}

/* What follows a step: log, save, tell; *go becomes FALSE when training is to stop. */
static gboolean
train_after(TrainLoop *l, double loss, double norm, double lr, gboolean *go, GError **error)
{
    const FmTrainState *s = l->t->state;
    const FmConfig *c = l->t->run->config;
    const gint64 now = g_get_monotonic_time();
    const double seconds = (double)(now - l->begun) * 1e-6;
    const gboolean last = s->step >= (guint64)c->steps;
    const gboolean log = s->step % (guint64)c->log_every == 0 || last;

    if (isfinite(loss)) {
        l->sum += loss;
        l->counted++;
    }
    if (s->step == l->first + 1)
        l->result->loss_first = loss;
    if (log || now - l->last_progress > 100000) {
        const double rate = (double)(s->step - l->first) / MAX(seconds, 1e-9);
        const FmProgress p = {.step = s->step,
                              .steps = (guint64)(c->stop_after > 0 ? MIN(c->stop_after, c->steps) : c->steps),
                              .loss = l->counted > 0 ? l->sum / (double)l->counted : loss,
                              .grad_norm = norm,
                              .lr = lr,
                              .seconds = seconds,
                              .samples_per_second = rate * (double)l->t->B,
                              .steps_per_second = rate};
        if (log && !train_log(l, &p, error))
            return FALSE;
        l->last_progress = now;
        if (l->progress != NULL && !l->progress(&p, l->ctx)) {
            l->result->interrupted = TRUE;
            *go = FALSE;
        }
    }
    if (last || (c->stop_after > 0 && s->step >= (guint64)c->stop_after) ||
        (c->max_seconds > 0 && seconds >= c->max_seconds) || s->bad >= (guint64)c->patience)
        *go = FALSE;
    return !*go || s->step % (guint64)c->save_every != 0 || train_save(l->t, error);
}

static gboolean
train_loop(TrainLoop *l, GError **error)
{
    FmTrainState *s = l->t->state;
    const FmConfig *c = l->t->run->config;
    double loss = NAN, norm = NAN, lr = 0;
    gboolean go = s->step < (guint64)c->steps;

    l->begun = l->last_progress = g_get_monotonic_time();
    while (go)
        if (!trainer_step(l->t, &loss, &norm, &lr, error) || !train_after(l, loss, norm, lr, &go, error))
            return FALSE;
    if (l->counted > 0)
        train_take(l, l->sum / (double)l->counted);
    l->result->seconds = (double)(g_get_monotonic_time() - l->begun) * 1e-6;
    if (!train_save(l->t, error))
        return FALSE;
    if (s->bad >= (guint64)c->patience) {
        g_set_error(error, FM_ERROR, FM_ERROR_DIVERGED,
                    "training: loss or gradient was not finite in %" G_GUINT64_FORMAT
                    " steps in a row (--patience), stopped at step %" G_GUINT64_FORMAT
                    "; a lower --lr or --grad-clip may help",
                    s->bad, s->step);
        return FALSE;
    }
    return TRUE;
}

gboolean
fm_run_train(FmRun *run, FmProgressFn progress, void *ctx, FmTrainResult *result, GError **error)
{
    *result = (FmTrainResult){.batch_size = (guint64)run->config->batch_size,
                              .loss_first = NAN,
                              .loss_last = NAN,
                              .loss_curve = g_array_new(FALSE, FALSE, sizeof(double))};
    g_autoptr(Trainer) t = trainer_new(run, error);
    if (t == NULL)
        return FALSE;
    TrainLoop l = {.t = t, .progress = progress, .ctx = ctx, .result = result, .first = t->state->step};
    if (run->dir != NULL)
        fm__atomic_sweep(run->dir);
    if ((run->dir != NULL && (!fm_run_save(run, error) || !train_save(t, error))) || !train_open_metrics(&l, error))
        return FALSE;
    if (run->profile)
        trainer_profile_start(t);
    const gboolean ok = train_loop(&l, error);
    if (run->profile)
        trainer_profile_read(t, &result->profile);
    const guint64 done = t->state->step - l.first;
    result->steps = t->state->step;
    result->skipped_steps = t->state->skipped;
    result->ms_per_step = done > 0 ? 1e3 * result->seconds / (double)done : 0.0;
    if (l.metrics != NULL)
        fclose(l.metrics);
    return ok;
}

gboolean
fm_run_resume(FmRun *run, GError **error)
{
    FmTrainState *state = fm__train_state_new(run, error);

    if (state == NULL)
        return FALSE;
    if (!fm__checkpoint_load(run, state, error)) {
        fm__train_state_free(state);
        return FALSE;
    }
    fm__train_state_free(run->state);
    run->state = state;
    return TRUE;
}

static double
trainer_flops(const Trainer *t)
{
    return fm_plan_flops(t->plan) * (double)t->B;
}

gboolean
fm_run_step_flops(FmRun *run, double *flops, GError **error)
{
    g_autoptr(Trainer) t = NULL;

    *flops = 0.0;
    if (fm_params_number(run->params) == 0)
        return TRUE;
    t = trainer_new(run, error);
    if (t != NULL)
        *flops = trainer_flops(t);
    return t != NULL;
}

gboolean
fm_run_bench_step(FmRun *run, FmBenchFn more, void *ctx, double *flops, FmProfile *profile, GError **error)
{
    g_autoptr(Trainer) t = trainer_new(run, error);
    gboolean go = TRUE;
    double loss, norm, lr;

    if (t == NULL)
        return FALSE;
    *flops = trainer_flops(t);
    const size_t group = fm__feeder_ahead(t->feeder); /* whose pairs are chosen together */
    for (size_t i = 0; go; i++) {
        if (i <= 1 && profile != NULL)
            trainer_profile_start(t);
        const gint64 before = g_get_monotonic_time();
        for (size_t k = 0; k < group; k++)
            if (!trainer_step(t, &loss, &norm, &lr, error))
                return FALSE;
        go = more(ctx, (double)(g_get_monotonic_time() - before) * 1e-3 / (double)group);
    }
    if (profile != NULL)
        trainer_profile_read(t, profile);
    return TRUE;
}

/* ---- the first step as files ---- */

static gboolean
train_write(const char *dir, const char *prefix, const char *name, FmDtype dtype, int ndim, const size_t *dim,
            const void *data, GError **error)
{
    g_autofree char *base = g_strconcat(prefix, name, ".npy", NULL);
    g_autofree char *file = g_build_filename(dir, base, NULL);
    g_autoptr(FmArray) array = fm_array_new(dtype, ndim, dim, error);

    if (array == NULL)
        return FALSE;
    memcpy(array->data, data, fm_array_size(array) * fm_dtype_size(dtype));
    return fm_array_save(array, file, error);
}

static gboolean
train_write_inputs(const Trainer *t, const char *dir, GError **error)
{
    void *in[FM_MAX_INPUTS * 2] = {NULL};
    const size_t n = fm_plan_n_inputs(t->plan), tile = fm_plan_tile(t->plan);
    gboolean ok = n <= G_N_ELEMENTS(in);

    for (size_t i = 0; ok && i < n; i++) {
        in[i] = fm_alloc(t->B * fm_shape_size(fm_plan_input_shape(t->plan, i)) * t->size);
        ok = in[i] != NULL;
    }
    for (size_t row0 = 0; ok && row0 < t->B; row0 += tile) {
        void *at[FM_MAX_INPUTS * 2];

        for (size_t i = 0; i < n; i++)
            at[i] = (char *)in[i] + row0 * fm_shape_size(fm_plan_input_shape(t->plan, i)) *
                                        (g_str_equal(fm_plan_input_name(t->plan, i), "y") ? sizeof(gint32) : t->size);
        fm__feeder_tile(t->feeder, 0, row0, MIN(tile, t->B - row0), at);
        ok = fm__feeder_ok(t->feeder, error);
    }
    for (size_t i = 0; ok && i < n; i++) {
        const char *name = fm_plan_input_name(t->plan, i);
        const FmShape *shape = fm_plan_input_shape(t->plan, i);
        size_t dim[FM_MAX_NDIM + 1] = {t->B};

        memcpy(dim + 1, shape->dim, (size_t)shape->ndim * sizeof *dim);
        ok = train_write(dir, "", name, g_str_equal(name, "y") ? FM_I32 : t->dtype, shape->ndim + 1, dim, in[i], error);
    }
    if (!ok && error != NULL && *error == NULL)
        g_set_error_literal(error, FM_ERROR, FM_ERROR_MEMORY, "the batch does not fit into memory");
    for (size_t i = 0; i < n && i < G_N_ELEMENTS(in); i++)
        fm_free(in[i]);
    return ok;
}

gboolean
fm_run_write_step(FmRun *run, const char *dir, double *loss, GError **error)
{
    g_autoptr(Trainer) t = trainer_new(run, error);
    const FmKey key = {.seed = (guint64)run->config->seed, .stream = FM_STREAM_NOISE};
    char *old = run->dir;
    gboolean ok = t != NULL && fm__feeder_begin(t->feeder, 0, error) &&
                  fm_exec_run(t->exec, t->B, NULL, fm__feeder_tile, t->feeder, t->out, key, error) &&
                  fm__feeder_ok(t->feeder, error) && train_write_inputs(t, dir, error);

    if (!ok)
        return FALSE;
    *loss = t->dtype == FM_F32 ? (double)t->loss.f32 : t->loss.f64;
    for (size_t i = 0; ok && i < fm_params_count(t->state->raw); i++) {
        const FmParam *p = fm_params_nth(t->state->raw, i);

        if (p->trainable)
            ok =
                train_write(dir, "gradient.", p->name, t->dtype, p->ndim, p->dim, t->grad + p->offset * t->size, error);
    }
    run->dir = (char *)dir;
    ok = ok && fm_run_save(run, error);
    run->dir = old;
    return ok;
}
