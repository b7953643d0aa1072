/* cli.h: what the commands of the program share. */
#ifndef FMCORE_CORE_CLI_CLI_H
#define FMCORE_CORE_CLI_CLI_H

#include "flow/run.h"

#include <json-glib/json-glib.h>
#include <stdio.h>

/* A parsed command line. Strings owned; NULL or negative: not given. */
typedef struct Cli {
    const struct CliCommand *command;
    FmConfig *config; /* --config, then options on top */
    GPtrArray *args;  /* positional arguments: char *, owned by argv */
    gboolean json, quiet, verbose, force, log_density, profile, help;
    char *out, *resume, *config_file, *init, *labels, *div, *split, *data_shape, *score, *plugin_path, *preset;
    gint64 trajectory;
    double time, until, guidance;
    gint64 dim, times;
    gint64 repeat, seeds;
    GPtrArray *axes[FM_N_KINDS]; /* of `compare`: char *, owned; NULL: not given */
    GPtrArray *given;            /* names of the options that were given */
    char *made_dir; /* the directory that cli_run_dir() made; taken away when the command fails and left it empty */
} Cli;

typedef struct CliCommand {
    const char *name;
    const char *arguments; /* "RUN POINTS.npy" */
    const char *summary;
    unsigned groups; /* options it takes: CLI_... below */
    int min_args, max_args;
    int (*run)(Cli *cli, GError **error); /* exit status; negative: *error is set */
    void (*help)(GString *out);           /* appends what --help says below the options; NULL: nothing */
} CliCommand;

enum {                        /* groups of options */
       CLI_COMMON = 1,        /* --json --quiet --plugin-path --help: of every command */
       CLI_MODEL = 2,         /* --dataset, --net, --dtype, ... */
       CLI_TRAIN = 4,         /* --steps, --lr, ... */
       CLI_SAMPLE = 8,        /* --solver, --samples, --init, ... */
       CLI_EVAL = 16,         /* --divergence, --likelihood, ... */
       CLI_OUT = 32,          /* --out, --force */
       CLI_POINTS = 64,       /* --labels at given points */
       CLI_BENCH = 128,       /* --repeat */
       CLI_IMPORT = 256,      /* --data-shape */
       CLI_DRAW = 512,        /* --init, --log-density, --trajectory, --labels */
       CLI_RESUME = 1024,     /* --resume */
       CLI_SPLIT = 2048,      /* --split */
       CLI_MEASURE = 4096,    /* --divergence */
       CLI_DENSITY = 8192,    /* --likelihood at given points */
       CLI_VELOCITY = 16384,  /* --time, --div */
       CLI_SEED = 32768,      /* --seed */
       CLI_THREADS = 1 << 18, /* --threads */
       CLI_COMPUTE = CLI_SEED | CLI_THREADS,
       CLI_KERNELS = 65536, /* --backend */
       CLI_KL = 1 << 19,    /* --dim, --times, --until */
       CLI_AXES = 1 << 21,  /* kinds of plugins may be repeated */
       CLI_SEEDS = 1 << 20, /* --seeds */
       CLI_SOLVE = 1 << 22, /* --solver at given points */
       CLI_DATA = 131072    /* --dataset of another than the run's own */
};

extern const CliCommand cli_commands[]; /* name NULL closes */

/* ---- options.c ---- */

Cli *cli_new(void);
void cli_free(Cli *cli);
/* Parse argv after the command's name. FALSE with FM_ERROR_USAGE. */
gboolean cli_parse(Cli *cli, int argc, char **argv, GError **error);
gboolean cli_given(const Cli *cli, const char *option); /* was --option given? */
/* FALSE with a sentence where an option was given that the command's first argument uses no part of: neither `always`
 * (of which the sentence names `beside`) nor `taken`; NULL closes both. */
gboolean cli_takes(const Cli *cli, const char *const *always, const char *beside, const char *const *taken,
                   GError **error);
char *cli_help(const CliCommand *command); /* owned text; NULL: of the program */
/* NAME[:options] to an instance; the spec must not be empty. */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Cli, cli_free)

/* ---- presets.c ---- */

gboolean cli_preset(FmConfig *config, const char *name, GError **error); /* its settings */
void cli_preset_help(GString *out);

/* ---- output.c: results on stdout, progress on stderr ---- */

typedef struct Progress Progress;
Progress *progress_new(const Cli *cli, const char *what);
gboolean progress_step(const FmProgress *p, void *progress); /* a FmProgressFn */
/* `done` of `all` parts of what takes longer than a moment: a line on a terminal that the last part takes away. */
void progress_part(size_t done, size_t all, void *progress);
/* What is being done, as a line on a terminal; NULL takes it away. */
void progress_stage(const Cli *cli, const char *what);
void progress_free(Progress *progress);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Progress, progress_free)

void cli_interrupt_install(void); /* SIGINT, SIGTERM: exit 130 / 143, at once unless deferred */
/* TRUE: until as many FALSE the first of them is only noted, for a training that ends after its step and
 * writes; the second one kills. */
void cli_interrupt_defer(gboolean defer);
void
cli_interrupt_takes(const char *dir); /* an interrupt at once takes it away where it is empty; borrowed; NULL: none */
int cli_interrupted(void);            /* the number of the signal that was noted, or 0 */

void out_int(JsonBuilder *b, const char *name, gint64 value);
void out_real(JsonBuilder *b, const char *name, double value); /* null when not finite */
void out_text(JsonBuilder *b, const char *name, const char *value);
void out_texts(JsonBuilder *b, const char *name, guint n, const void *texts); /* an array member; texts: (n) char * */
void out_bool(JsonBuilder *b, const char *name, gboolean value);
void out_open(JsonBuilder *b, const char *name); /* an object member */
void out_array(JsonBuilder *b, const char *name);
/* "fmcore", "schema", "command", "status" of a result that is being built. */
void out_header(JsonBuilder *b, const Cli *cli, const char *status);
/* "seed", "threads", "dtype", "backend" and "time". */
void out_setting(JsonBuilder *b, const FmRun *run, gint64 seed);
void out_config(JsonBuilder *b, const FmRun *run); /* these, and "config" */
char *out_finish(JsonBuilder *b);                  /* closes the object: its text, owned */

typedef struct Metric {
    char *name;
    FmEstimate e;
    double seconds;
} Metric;
GArray *metrics_new(void); /* of Metric; g_array_unref() */
void metrics_add(GArray *metrics, const char *name, const FmEstimate *e, double seconds);
void metrics_json(JsonBuilder *b, GArray *metrics);
void metrics_print(GArray *metrics);
void summary_json(JsonBuilder *b, const FmSolveSummary *s, gint64 n, double seconds);

double cli_seconds(void); /* monotonic */

/* ---- profile.c: where time went: per part, of n repetitions; peak: GEMM's rate in 1e9 operations a
 * second, 0: not measured ---- */

void profile_print(FILE *to, const FmProfile *profile, guint64 n, double peak);
void profile_json(JsonBuilder *b, const FmProfile *profile, guint64 n, double peak); /* "profile" */

/* ---- checks.c ---- */

GArray *checks_new(void); /* g_array_unref() */
/* |value - expected| <= tolerance; a value that is no number fails. */
void checks_add(GArray *checks, const char *name, double value, double expected, double tolerance);
void checks_add_below(GArray *checks, const char *name, double value, double most); /* value <= most */
gboolean checks_hold(const GArray *checks);
void checks_print(const GArray *checks);
void checks_json(JsonBuilder *b, const GArray *checks); /* the member "checks" */

/* ---- evaluate.c ---- */

/* nll / bpd / kl / divergences of a flow against its data: appends to metrics. */
gboolean cli_likelihood(const char *text, guint64 seed, FmLikelihood *how, GError **error);
gboolean evaluate(FmRun *run, FmFlow *flow, const char *split, const double *samples, size_t n_samples, GArray *metrics,
                  GError **error);

/* -log q (n) by a formula as the metric "nll", which is infinite where a point has density 0. */
void evaluate_formula(size_t n, const double *log_q, double start, GArray *metrics);
/* -log q (n) of points x as the metric "nll", with the solver's and the probes' part of its error;
 * `start`: cli_seconds() before log_q was found. */
gboolean evaluate_nll(FmRun *run, FmFlow *flow, size_t n, double *x, int *labels, const FmLikelihood *how,
                      const double *log_q, const FmSolveSummary *s, double start, GArray *metrics, GError **error);
/* Has the run's flow a density at t = 1? FALSE with FM_ERROR_UNSUPPORTED for the exact field of finite data without
 * noise. */
gboolean evaluate_has_density(const FmRun *run, GError **error);
/* What evaluate() would need but cannot have: to be asked before hours of training. */
gboolean evaluate_check(const FmRun *run, const char *split, GError **error);

/* ---- excess.c ---- */

/* The metric "excess-loss" where the data's exact field is known: eps^2, and loss and variance that
 * differ by it. Nothing where it is not. */
gboolean excess_metric(FmRun *run, FmFlow *flow, GArray *metrics, GError **error);
/* run->floor, where the run's loss has one that is known: before training. */
gboolean excess_floor(FmRun *run, GError **error);

/* ---- latent.c ---- */

/* The metric "latent-test": are the encodings z (n, D) of held-out data, in the model's units, N(0, I)?
 * Nothing for flows from a source of their own, and for fewer than 20 rows. */
void latent_metric(const FmFlow *flow, size_t n, const double *z, GArray *metrics);

/* ---- files ---- */

/* A run directory, in --dtype where that is given. */
FmRun *cli_load_run(const Cli *cli, const char *dir, GError **error);
/* A run and its flow with the solver, threads and backend of the command line; *run is owned by the
 * caller and outlives the flow. */
FmFlow *cli_open_flow(const Cli *cli, const char *dir, FmRun **run, GError **error);

/* Can states in the run's dtype meet the solver's tolerance? A warning on stderr where they cannot and it still ends,
 * FALSE with FM_ERROR_USAGE where it does not. */
gboolean cli_check_tolerance(const FmRun *run, const FmPlugin *solver, GError **error);
/* May `file` be written as an array? Asked before the work that fills it. */
gboolean cli_check_out(const Cli *cli, const char *file, GError **error);
/* Are two files of a command line two? Either may be NULL or "-". */
gboolean cli_check_differ(const char *a, const char *what_a, const char *b, const char *what_b, GError **error);
/* Do n rows of `bytes` each fit in the memory that is free? */
gboolean cli_check_memory(const char *what, double n, double bytes, GError **error);

/* An array as (n, D) doubles, finite; D = 0: any. */
FmArray *cli_load_points(const char *file, size_t D, GError **error);
/* What commands at given points begin with: RUN and POINTS, the first two arguments. Zeroed before; owned. */
typedef struct CliPoints {
    FmRun *run;
    FmFlow *flow;
    FmArray *x;  /* (n, D) doubles */
    int *labels; /* (n) or NULL */
    size_t n, D;
} CliPoints;
gboolean cli_points_open(CliPoints *p, Cli *cli, const char *out, GError **error); /* out: may it be written? */
void cli_points_clear(CliPoints *p);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(CliPoints, cli_points_clear)
gboolean cli_save_points(const char *file, const FmDataInfo *info, FmDtype dtype, size_t n, size_t D, const double *x,
                         GError **error);
/* (n) labels 0, 1, ..., classes - 1, 0, ...; NULL without classes. Owned by the caller. */
int *cli_labels_in_turn(size_t n, size_t classes);
gboolean cli_parse_labels(const char *text, size_t n, size_t classes, int **labels, GError **error);

/* Create the run's directory: --out (refused when not empty without --force) or runs/NNNN. */
char *cli_run_dir(Cli *cli, GError **error);

/* ---- sides.c: a run directory, or a closed-form field by its net's specification ---- */

typedef struct Side {
    FmRun *run;
    FmFlow *flow;
} Side;

/* P and Q, or one alone (n = 1). A field takes its data set, path and units from the run on the other side where it
 * names none; else its data are N(0, I) in `dim` dimensions (< 1: 2). `solver` for both. */
gboolean sides_open(Side side[], char *const text[], int n, gint64 dim, int threads, const char *solver,
                    GError **error);
void side_clear(Side *side);
void sides_clear(Side side[2]);
/* One side: a field as above (other: whose data, path and units it takes where it names none; NULL),
 * or a run in memory, owned by the side afterwards. */
gboolean side_field(Side *side, const char *spec, const FmRun *other, gint64 dim, int threads, const char *solver,
                    GError **error);
gboolean side_run(Side *side, FmRun *run, int threads, const char *solver, GError **error);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Side, side_clear)

int cmd_kl(Cli *cli, GError **error);
void cmd_kl_help(GString *out);
int cmd_run(Cli *cli, GError **error);
int cmd_train(Cli *cli, GError **error);
int cmd_compare(Cli *cli, GError **error);
int cmd_eval(Cli *cli, GError **error);
int cmd_sample(Cli *cli, GError **error);
int cmd_encode(Cli *cli, GError **error);
int cmd_density(Cli *cli, GError **error);
int cmd_velocity(Cli *cli, GError **error);
int cmd_measure(Cli *cli, GError **error);
int cmd_import(Cli *cli, GError **error);
int cmd_study(Cli *cli, GError **error);
void cmd_study_help(GString *out);
int cmd_selftest(Cli *cli, GError **error);
int cmd_bench(Cli *cli, GError **error);
void cmd_bench_help(GString *out);
int cmd_report(Cli *cli, GError **error);
int cmd_list(Cli *cli, GError **error);
int cmd_inspect(Cli *cli, GError **error);
int cmd_new_plugin(Cli *cli, GError **error);

#endif
