/* run.h: one experiment: its resolved configuration, its parts, its state. Internal to the program;
 * embedding programs use fmcore/flow.h. */
#ifndef FMCORE_CORE_FLOW_RUN_H
#define FMCORE_CORE_FLOW_RUN_H

#include "flow/prediction.h"
#include "flow/repath.h"

#include <fmcore/fmcore.h>

typedef enum FmSchedule { FM_SCHEDULE_CONSTANT, FM_SCHEDULE_COSINE, FM_SCHEDULE_LINEAR } FmSchedule;
typedef enum FmTimeSampling { FM_TIME_UNIFORM, FM_TIME_STRATIFIED, FM_TIME_LOGIT_NORMAL } FmTimeSampling;

/* Everything a user can set about a run. Specs are "name:key=value". Strings owned; NULL or a
 * negative number means "not set": fm_config_resolve() fills them from the data's kind. */
typedef struct FmConfig {
    char *spec[FM_N_KINDS]; /* one plugin per kind (divergences are below) */
    char *source;           /* dataset plugin for x0; NULL: N(0, I) */
    GPtrArray *divergences; /* char *, owned */
    gint64 seed;
    int threads;
    FmDtype dtype;
    /* training */
    gint64 steps, batch_size, warmup, log_every, save_every, patience, stop_after;
    double lr, weight_decay, grad_clip, ema_decay, max_seconds;
    double scale; /* standard deviation of the data in the model's units; images: half their range */
    FmSchedule schedule;
    FmTimeSampling time_sampling;
    int prediction;       /* FmPrediction: what the net learns */
    int conditional;      /* 1: the net gets the data's labels; 0: it does not; -1: by the data */
    double label_dropout; /* share of training rows whose label is taken away, for guidance */
    /* evaluation */
    gint64 samples, eval_samples;
    char *likelihood;    /* "exact", "hutchinson:probe=rademacher,probes=1", "none"; NULL: default */
    gint64 dequant;      /* K */
    gint64 density_mass; /* points an axis of the density's integral; 0: none */
    guint64 given;       /* bit i: field i of the table was set by fm_config_set() or a file */
} FmConfig;

FmConfig *fm_config_new(void);
FmConfig *fm_config_copy(const FmConfig *config);
void fm_config_free(FmConfig *config);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FmConfig, fm_config_free)

/* config.ini text, one section per kind plus [train], [eval], [run]; and back. Owned by caller. */
char *fm_config_format(const FmConfig *config);
gboolean fm_config_parse(FmConfig *config, const char *text, const char *who, GError **error);

/* Set one number, choice or text by its key ("batch_size"); `what` opens the sentence of an error,
 * as in "option --batch-size". */
gboolean fm_config_set(FmConfig *config, const char *key, const char *text, const char *what, GError **error);
gboolean fm_config_given(const FmConfig *config, const char *key);
/* The NULL-terminated names of a choice, or NULL; borrowed. */
const char *const *fm_config_choices(const char *key);

/* The part of the training loss that no net removes: the conditional variance of the path's velocity,
 * summed over dimensions and integrated over the path's interval (excess.h). */
typedef struct FmFloor {
    double value, se; /* estimate and standard error */
    double sd;        /* of one row */
    double length;    /* of the interval; 0: the floor is not known */
} FmFloor;

/* A run in memory: plugins opened, defaults resolved, weights initialised or loaded. */
typedef struct FmRun {
    FmConfig *config;             /* resolved; owned */
    FmPlugin *plugin[FM_N_KINDS]; /* instances; DIVERGENCE unused */
    FmPlugin *source;             /* NULL: N(0, I) */
    FmDataInfo data, source_data;
    FmNetInfo net_info;
    FmPredict predict;               /* how the net's output becomes a velocity */
    FmRepath repath;                 /* where plugin[FM_KIND_PATH] is not the path that was trained; else zeros */
    double *shift, *scale;           /* (D): x_model = (x - shift) / scale; owned */
    size_t n_train, n_valid, n_test; /* 0 for infinite data */
    FmParams *params;                /* weights in use (EMA when on) */
    char *dir;                       /* run directory or NULL */
    FmFloor floor;              /* of the loss that is trained; where it is known, metrics.jsonl carries the excess */
    gboolean profile;           /* TRUE: training fills FmTrainResult.profile */
    struct FmTrainState *state; /* what fm_run_resume() read; NULL: train from the start */
} FmRun;

/* Open the plugins of `config` (copied), resolve defaults, split and standardise. */
FmRun *fm_run_new(const FmConfig *config, GError **error);
/* Open a run directory written by training or import. A data set that cannot be opened any more is
 * an error only where its rows are needed. */
FmRun *fm_run_load(const char *dir, GError **error);
/* The same with weights and states in *dtype, whatever it was trained in; NULL: as it was. Not to be trained on. */
FmRun *fm_run_load_as(const char *dir, const FmDtype *dtype, GError **error);
/* Another tool's weights as a run: config names the net (and path, solver), data's ndim, dim and D
 * are set; the standardisation is the identity. Foreign names of weights are the net's aliases. */
FmRun *fm_run_import(const FmConfig *config, const FmDataInfo *data, const char *weights, GError **error);
/* Write config.ini and model.safetensors into run->dir. */
gboolean fm_run_save(const FmRun *run, GError **error);
/* Take over what `config` sets that may change after training began: threads, stop_after,
 * max_seconds, logging, evaluation, solver, divergences. Anything else that it sets differently is
 * FM_ERROR_USAGE, but that `force` allows other rates, schedules and averages, and a run with a
 * constant schedule another number of steps. */
gboolean fm_run_override(FmRun *run, const FmConfig *config, gboolean force, GError **error);
/* Read rows from another data set from now on; its points must have the run's shape. */
gboolean fm_run_set_dataset(FmRun *run, const char *spec, GError **error);
void fm_run_free(FmRun *run);

/* The embedding API's object over a run; the flow borrows the run. */
FmFlow *fm_flow_from_run(FmRun *run, GError **error);

/* Rows of a split ("train", "valid", "test", "all") in data units, drawn for infinite data:
 * x (n, D), y (n) or NULL. first: index within the split (or the row of the key's family). */
gboolean fm_run_data(const FmRun *run, const char *split, guint64 first, size_t n, double *x, int *y, GError **error);
size_t fm_run_split_rows(const FmRun *run, const char *split); /* 0: infinite */

/* One line of progress; `done` FALSE asks to stop (then the checkpoint is written). */
typedef struct FmProgress {
    guint64 step, steps; /* steps: where it stops, stop_after or the horizon */
    double loss, grad_norm, lr, seconds, samples_per_second, steps_per_second;
} FmProgress;
typedef gboolean (*FmProgressFn)(const FmProgress *progress, void *ctx);

typedef struct FmTrainResult {
    guint64 steps, batch_size, skipped_steps;
    guint64 loss_rows; /* behind loss_last: rows of the steps since the line of the log before */
    double seconds, ms_per_step, loss_first, loss_last;
    gboolean interrupted;
    GArray *loss_curve; /* double pairs (step, loss); owned by the caller: g_array_unref */
    FmProfile profile;  /* of run->profile; zero without */
} FmTrainResult;

/* Train from where the run is (step 0, or its checkpoint) to config->steps or stop_after; writes
 * checkpoint.safetensors, model.safetensors, config.ini and metrics.jsonl in run->dir when set. */
gboolean fm_run_train(FmRun *run, FmProgressFn progress, void *ctx, FmTrainResult *result, GError **error);

/* Load checkpoint.safetensors of run->dir so that fm_run_train() goes on. */
gboolean fm_run_resume(FmRun *run, GError **error);

/* Told the milliseconds of each repetition; TRUE: another one, please. */
typedef gboolean (*FmBenchFn)(void *ctx, double ms);

/* Whole training steps, as many as `more` asks for, for `bench train-step`. *flops: of one step's
 * forward and backward pass. `profile` (NULL: none) is filled from the second step on; its clocks
 * cost some per cent. */
gboolean fm_run_bench_step(FmRun *run, FmBenchFn more, void *ctx, double *flops, FmProfile *profile, GError **error);

/* Floating-point operations of one training step's passes (multiply-adds as 2); 0 for a net without weights. */
gboolean fm_run_step_flops(FmRun *run, double *flops, GError **error);

/* The first step as files of `dir`, for comparison with other programs: model.safetensors (before
 * the step), NAME.npy for each input of the plan (whole batch), gradient.PARAMETER.npy, and the
 * loss in *loss. The run itself does not move. */
gboolean fm_run_write_step(FmRun *run, const char *dir, double *loss, GError **error);

/* sha256 of the weights' bytes in name order, hex; owned. */
char *fm_params_digest(const FmParams *params);

#endif
