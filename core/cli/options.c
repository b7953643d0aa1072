/* options.c: one table of options; GOption splits the line, the table checks the values. */
#include "cli/cli.h"

#include <errno.h>
#include <math.h>
#include <string.h>

typedef enum OptType {
    OPT_CONFIG, /* a field of the configuration's own table, which knows its range */
    OPT_SPEC,   /* a plugin with options */
    OPT_LIST,   /* the same, repeated */
    OPT_TEXT,
    OPT_FLAG,
    OPT_INT,
    OPT_REAL /* of Cli */
} OptType;

/* One option; offset is within FmConfig for OPT_SPEC and OPT_LIST, else within Cli. */
typedef struct Opt {
    const char *name, *value, *help;
    unsigned groups;
    OptType type;
    size_t offset;
    double min, max;
} Opt;

#define CLI(field) offsetof(Cli, field)
#define KIND(K) offsetof(FmConfig, spec[FM_KIND_##K])

static const Opt opts[] = {
    {"dataset", "NAME[:...]", "data to learn; of `eval`: other data to evaluate on", CLI_MODEL | CLI_DATA, OPT_SPEC,
     KIND(DATASET)},
    {"source", "NAME[:...]", "distribution at t = 0 (default: N(0, I))", CLI_MODEL, OPT_SPEC,
     offsetof(FmConfig, source)},
    {"coupling", "NAME[:...]", "pairing of noise and data", CLI_MODEL, OPT_SPEC, KIND(COUPLING)},
    {"path", "NAME[:...]", "probability path; of `sample`: go along this one, not the trained one",
     CLI_MODEL | CLI_DRAW, OPT_SPEC, KIND(PATH)},
    {"net", "NAME[:...]", "velocity network", CLI_MODEL, OPT_SPEC, KIND(NET)},
    {"objective", "NAME[:...]", "training loss", CLI_MODEL, OPT_SPEC, KIND(OBJECTIVE)},
    {"optimizer", "NAME[:...]", "optimizer", CLI_MODEL, OPT_SPEC, KIND(OPTIMIZER)},
    {"prediction", "NAME", "what the net learns: v, score, eps (noise) or x1 (data)", CLI_MODEL, OPT_CONFIG},
    {"dtype", "f32|f64", "precision of weights and states", CLI_MODEL | CLI_DRAW | CLI_POINTS | CLI_SPLIT, OPT_CONFIG},
    {"steps", "N", "training steps, the horizon of the schedule", CLI_TRAIN, OPT_CONFIG},
    {"batch-size", "N", "rows a step", CLI_TRAIN, OPT_CONFIG},
    {"lr", "R", "peak learning rate", CLI_TRAIN, OPT_CONFIG},
    {"warmup", "N", "steps of linear warm-up", CLI_TRAIN, OPT_CONFIG},
    {"schedule", "NAME", "constant, cosine or linear", CLI_TRAIN, OPT_CONFIG},
    {"weight-decay", "R", "weight decay", CLI_TRAIN, OPT_CONFIG},
    {"grad-clip", "R", "largest global norm of the gradient (0: none)", CLI_TRAIN, OPT_CONFIG},
    {"ema-decay", "R", "decay of the weights' average (0: none)", CLI_TRAIN, OPT_CONFIG},
    {"max-seconds", "S", "stop training after so many seconds", CLI_TRAIN, OPT_CONFIG},
    {"scale", "R", "standard deviation of the data in the model's units", CLI_TRAIN, OPT_CONFIG},
    {"conditional", "yes|no", "give the data's labels to the net", CLI_TRAIN, OPT_CONFIG},
    {"label-dropout", "R", "share of training rows without their label, for --guidance", CLI_TRAIN, OPT_CONFIG},
    {"log-every", "N", "steps between lines of metrics.jsonl", CLI_TRAIN, OPT_CONFIG},
    {"save-every", "N", "steps between checkpoints", CLI_TRAIN, OPT_CONFIG},
    {"patience", "N", "non-finite steps in a row before training stops", CLI_TRAIN, OPT_CONFIG},
    {"stop-after", "N", "stop at this step, keeping the schedule's horizon", CLI_TRAIN, OPT_CONFIG},
    {"time-sampling", "NAME", "uniform, stratified or logit-normal", CLI_TRAIN, OPT_CONFIG},
    {"resume", "RUN", "go on from a run's checkpoint", CLI_RESUME, OPT_TEXT, CLI(resume)},
    {"solver", "NAME[:...]", "ODE solver", CLI_SAMPLE | CLI_SOLVE | CLI_EVAL | CLI_IMPORT | CLI_KL, OPT_SPEC,
     KIND(SOLVER)},
    {"samples", "N", "samples to draw", CLI_SAMPLE | CLI_KL, OPT_CONFIG},
    {"dim", "D", "dimension of fields that name no data (default 2)", CLI_KL, OPT_INT, CLI(dim), 1, 1e5},
    {"times", "N", "points of the time grid, odd (default 101; 81 of one flow)", CLI_KL, OPT_INT, CLI(times), 7, 10001},
    {"until", "T", "end of the time grid (default: the path's end)", CLI_KL, OPT_REAL, CLI(until), 1e-3, 1},
    {"init", "X0.npy", "noise to start from", CLI_DRAW, OPT_TEXT, CLI(init)},
    {"log-density", NULL, "also write the samples' log-densities", CLI_DRAW, OPT_FLAG, CLI(log_density)},
    {"trajectory", "K", "write the states at K times from 0 to 1", CLI_DRAW, OPT_INT, CLI(trajectory), 2, 1e5},
    {"labels", "3,3,7", "class labels, repeated as needed (samples: all in turn)", CLI_DRAW | CLI_POINTS, OPT_TEXT,
     CLI(labels)},
    {"guidance", "W", "classifier-free guidance: v0 + W (v - v0), v0 without label (1: none)", CLI_DRAW, OPT_REAL,
     CLI(guidance), -100, 100},
    {"divergence", "NAME[:...]", "compare samples with data; may be repeated", CLI_EVAL | CLI_MEASURE, OPT_LIST,
     offsetof(FmConfig, divergences)},
    {"eval-samples", "N", "data points to evaluate on", CLI_EVAL, OPT_CONFIG},
    {"likelihood", "HOW", "exact, hutchinson[:probe=...,probes=N], map or none", CLI_EVAL | CLI_DENSITY | CLI_DRAW,
     OPT_CONFIG},
    {"dequant", "K", "dequantisation draws an image", CLI_EVAL, OPT_CONFIG},
    {"density-mass", "N", "integrate the density over a box, N points an axis (0: do not)", CLI_EVAL, OPT_CONFIG},
    {"score", "FILE", "also write grad log q_1", CLI_DENSITY, OPT_TEXT, CLI(score)},
    {"split", "NAME", "train, valid, test or all", CLI_SPLIT, OPT_TEXT, CLI(split)},
    {"div", "FILE", "also write the exact divergence", CLI_VELOCITY, OPT_TEXT, CLI(div)},
    {"time", "T", "time in [0, 1]", CLI_VELOCITY, OPT_REAL, CLI(time), 0, 1},
    {"data-shape", "H,W,C", "shape of a point", CLI_IMPORT, OPT_TEXT, CLI(data_shape)},
    {"repeat", "N", "repetitions", CLI_BENCH, OPT_INT, CLI(repeat), 1, 1e7},
    {"profile", NULL, "print where the time goes, part by part", CLI_TRAIN | CLI_BENCH, OPT_FLAG, CLI(profile)},
    {"out", "PATH", "run directory, or file to write (`sample`: RUN/samples.npy, with a number where that is there)",
     CLI_OUT, OPT_TEXT, CLI(out)},
    {"force", NULL, "write into a directory that is not empty; of `sample` without --out: over RUN/samples.npy",
     CLI_OUT, OPT_FLAG, CLI(force)},
    {"preset", "NAME", "settings of a known experiment; --config and the command line win", CLI_TRAIN, OPT_TEXT,
     CLI(preset)},
    {"config", "FILE", "read options from a key file; the command line wins", CLI_TRAIN, OPT_TEXT, CLI(config_file)},
    {"seed", "N", "seed of all random numbers (default 0)", CLI_SEED, OPT_CONFIG},
    {"seeds", "N", "repeat over so many seeds: mean and standard error of each metric", CLI_SEEDS, OPT_INT, CLI(seeds),
     1, 1000},
    {"threads", "N", "threads (default: the machine's cores)", CLI_THREADS, OPT_CONFIG},
    {"backend", "NAME", "kernels: cpu or reference", CLI_KERNELS, OPT_SPEC, KIND(BACKEND)},
    {"plugin-path", "DIR[:DIR]", "directories of further plugins", CLI_COMMON, OPT_TEXT, CLI(plugin_path)},
    {"json", NULL, "print the result as JSON", CLI_COMMON, OPT_FLAG, CLI(json)},
    {"quiet", NULL, "no progress", CLI_COMMON, OPT_FLAG, CLI(quiet)},
    {"verbose", NULL, "print the resolved configuration", CLI_TRAIN, OPT_FLAG, CLI(verbose)},
    {"help", NULL, "this help", CLI_COMMON, OPT_FLAG, CLI(help)},
};

static const struct {
    const char *theirs, *ours;
} aliases[] = {{"iterations", "steps"}, {"total-steps", "steps"}, {"niters", "steps"}};

Cli *
cli_new(void)
{
    Cli *cli = g_new0(Cli, 1);

    cli->config = fm_config_new();
    cli->args = g_ptr_array_new();
    cli->given = g_ptr_array_new();
    cli->time = cli->until = NAN;
    cli->guidance = 1.0;
    cli->dim = cli->times = -1;
    cli->trajectory = cli->repeat = -1;
    cli->seeds = 1;
    return cli;
}

void
cli_free(Cli *cli)
{
    cli_interrupt_takes(NULL);
    char **texts[] = {&cli->out,    &cli->resume,      &cli->config_file, &cli->init,
                      &cli->labels, &cli->div,         &cli->split,       &cli->data_shape,
                      &cli->score,  &cli->plugin_path, &cli->preset,      &cli->made_dir};

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++)
        g_free(*texts[i]);
    for (int k = 0; k < FM_N_KINDS; k++)
        g_clear_pointer(&cli->axes[k], g_ptr_array_unref);
    fm_config_free(cli->config);
    g_ptr_array_unref(cli->args);
    g_ptr_array_unref(cli->given);
    g_free(cli);
}

gboolean
cli_given(const Cli *cli, const char *option)
{
    for (guint i = 0; i < cli->given->len; i++)
        if (strcmp(cli->given->pdata[i], option) == 0)
            return TRUE;
    return FALSE;
}

gboolean
cli_takes(const Cli *cli, const char *const *always, const char *beside, const char *const *taken, GError **error)
{
    for (guint i = 0; i < cli->given->len; i++) {
        const char *name = cli->given->pdata[i];
        g_autofree char *all = NULL;

        if (g_strv_contains(always, name) || g_strv_contains(taken, name))
            continue;
        all = taken[0] ? g_strjoinv(", --", (char **)taken) : NULL;
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE, "option --%s does not apply to '%s %s'; beside %s it takes %s%s",
                    name, cli->command->name, (char *)cli->args->pdata[0], beside, all ? "--" : "nothing",
                    all ? all : "");
        return FALSE;
    }
    return TRUE;
}

static const Opt *
opt_find(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(opts); i++)
        if (strcmp(opts[i].name, name) == 0)
            return &opts[i];
    return NULL;
}

static gboolean
unknown_option(const char *name, GError **error)
{
    const char *names[G_N_ELEMENTS(opts) + 1] = {NULL};
    const char *near;

    for (size_t i = 0; i < G_N_ELEMENTS(opts); i++)
        names[i] = opts[i].name;
    near = fm_error_suggest(name, names);
    g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                near ? "unknown option '--%s'; did you mean '--%s'?"
                     : "unknown option '--%s'; --help lists those there are%s",
                name, near ? near : "");
    return FALSE;
}

static gboolean
set_number(const Opt *o, const char *text, void *at, GError **error)
{
    char *end = NULL;
    const double v = g_ascii_strtod(text, &end);
    const gboolean whole = o->type != OPT_INT || v == floor(v);

    if (end == text || *end != '\0' || !whole || !(v >= o->min && v <= o->max)) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE, "option --%s is '%s', expected %s from %.15g to %.15g", o->name,
                    text, o->type == OPT_INT ? "a whole number" : "a number", o->min, o->max);
        return FALSE;
    }
    if (o->type == OPT_REAL)
        *(double *)at = v;
    else
        *(gint64 *)at = (gint64)v;
    return TRUE;
}

static gboolean
set_config(Cli *cli, const Opt *o, const char *text, GError **error)
{
    g_autofree char *key = g_strdelimit(g_strdup(o->name), "-", '_');
    g_autofree char *what = g_strdup_printf("option --%s", o->name);

    return fm_config_set(cli->config, key, text, what, error);
}

static gboolean
set_text(const Opt *o, const char *text, char **at, GError **error)
{
    if (*text == '\0') {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE, "option --%s is empty, expected %s", o->name, o->value);
        return FALSE;
    }
    g_free(*at);
    *at = g_strdup(text);
    return TRUE;
}

/* A kind that `compare` was given once more: each value is kept. */
static void
axis_add(Cli *cli, const Opt *o, const char *text)
{
    for (int k = 0; k < FM_N_KINDS; k++)
        if (o->type == OPT_SPEC && o->offset == offsetof(FmConfig, spec) + (size_t)k * sizeof(char *)) {
            if (!cli->axes[k])
                cli->axes[k] = g_ptr_array_new_with_free_func(g_free);
            g_ptr_array_add(cli->axes[k], g_strdup(text));
        }
}

static gboolean
opt_apply(Cli *cli, const Opt *o, const char *text, GError **error)
{
    const gboolean config = o->type == OPT_SPEC || o->type == OPT_LIST;
    void *at = (config ? (char *)cli->config : (char *)cli) + o->offset;

    if (cli->command->groups & CLI_AXES)
        axis_add(cli, o, text);
    switch (o->type) {
    case OPT_CONFIG:
        return set_config(cli, o, text, error);
    case OPT_FLAG:
        *(gboolean *)at = TRUE;
        return TRUE;
    case OPT_INT:
    case OPT_REAL:
        return set_number(o, text, at, error);
    case OPT_LIST:
        if (!cli_given(cli, o->name))
            g_ptr_array_set_size(*(GPtrArray **)at, 0);
        g_ptr_array_add(*(GPtrArray **)at, g_strdup(text));
        return TRUE;
    default:
        return set_text(o, text, at, error);
    }
}

/* "--Name_x=value" to its table row and inline value. */
static const Opt *
opt_of(const char *arg, const char **value, GError **error)
{
    const char *equals = strchr(arg, '=');
    g_autofree char *name = equals ? g_strndup(arg, (gsize)(equals - arg)) : g_strdup(arg);
    const Opt *o;

    g_strdelimit(name, "_", '-');
    for (size_t i = 0; i < G_N_ELEMENTS(aliases); i++)
        if (strcmp(aliases[i].theirs, name) == 0) {
            g_free(name);
            name = g_strdup(aliases[i].ours);
        }
    o = opt_find(name);
    if (!o)
        unknown_option(name, error);
    *value = equals ? equals + 1 : NULL;
    return o;
}

typedef struct Given {
    const Opt *opt;
    const char *text;
} Given;

static gboolean
add_plugin_path(const char *path, GError **error)
{
    g_auto(GStrv) dirs = g_strsplit(path, ":", -1);

    for (char **dir = dirs; *dir; dir++)
        if (!g_file_test(*dir, G_FILE_TEST_IS_DIR)) {
            g_set_error(error, FM_ERROR, FM_ERROR_USAGE, "option --plugin-path holds '%s', expected directories", *dir);
            return FALSE;
        }
    fm_registry_add_path(path);
    return TRUE;
}

static gboolean
split_line(Cli *cli, int argc, char **argv, GArray *given, GError **error)
{
    for (int i = 0; i < argc; i++) {
        Given g = {NULL, NULL};

        if (strncmp(argv[i], "--", 2) != 0 || argv[i][2] == '\0') {
            if (argv[i][0] == '-' && argv[i][1] != '\0' && argv[i][1] != '-') {
                g_set_error(error, FM_ERROR, FM_ERROR_USAGE, "unknown option '%s'; options are long, such as --seed",
                            argv[i]);
                return FALSE;
            }
            g_ptr_array_add(cli->args, argv[i]);
            continue;
        }
        g.opt = opt_of(argv[i] + 2, &g.text, error);
        if (!g.opt)
            return FALSE;
        if (!(g.opt->groups & (cli->command->groups | CLI_COMMON))) {
            g_set_error(error, FM_ERROR, FM_ERROR_USAGE, "option --%s does not apply to '%s'", g.opt->name,
                        cli->command->name);
            return FALSE;
        }
        if ((g.opt->type == OPT_FLAG) == (g.text != NULL)) {
            if (g.opt->type == OPT_FLAG || i + 1 >= argc) {
                g_set_error(error, FM_ERROR, FM_ERROR_USAGE, "option --%s %s", g.opt->name,
                            g.text ? "takes no value" : "needs a value");
                return FALSE;
            }
            g.text = argv[++i];
        }
        if (strcmp(g.opt->name, "plugin-path") == 0 && !add_plugin_path(g.text, error))
            return FALSE;
        g_array_append_val(given, g);
    }
    return TRUE;
}

static gboolean
read_config(Cli *cli, GArray *given, GError **error)
{
    for (guint i = 0; i < given->len; i++) {
        const Given *g = &g_array_index(given, Given, i);

        if (strcmp(g->opt->name, "preset") == 0 && !cli_preset(cli->config, g->text, error))
            return FALSE;
    }
    for (guint i = 0; i < given->len; i++) {
        const Given *g = &g_array_index(given, Given, i);
        g_autofree char *text = NULL;
        g_autoptr(GError) why = NULL;

        if (strcmp(g->opt->name, "config") != 0)
            continue;
        if (!g_file_get_contents(g->text, &text, NULL, &why)) {
            g_set_error(error, FM_ERROR, FM_ERROR_FILE, "cannot read '%s': %s", g->text, fm_error_reason(why));
            return FALSE;
        }
        if (!fm_config_parse(cli->config, text, g->text, error))
            return FALSE;
    }
    return TRUE;
}

gboolean
cli_parse(Cli *cli, int argc, char **argv, GError **error)
{
    g_autoptr(GArray) given = g_array_new(FALSE, FALSE, sizeof(Given));
    const int n_min = cli->command->min_args, n_max = cli->command->max_args;

    if (!split_line(cli, argc, argv, given, error) || !read_config(cli, given, error))
        return FALSE;
    for (guint i = 0; i < given->len; i++) {
        const Given *g = &g_array_index(given, Given, i);

        if (!opt_apply(cli, g->opt, g->text, error))
            return FALSE;
        g_ptr_array_add(cli->given, (char *)g->opt->name);
    }
    if (cli->help)
        return TRUE;
    if ((int)cli->args->len < n_min || (int)cli->args->len > n_max) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE, "'%s' was given %u argument%s, expected %s", cli->command->name,
                    cli->args->len, cli->args->len == 1 ? "" : "s",
                    n_max == 0 ? "none, but options such as --seed" : cli->command->arguments);
        return FALSE;
    }
    return TRUE;
}

static void
help_options(GString *s, unsigned groups, unsigned without)
{
    for (size_t i = 0; i < G_N_ELEMENTS(opts); i++) {
        g_autofree char *left = NULL;

        if (!(opts[i].groups & groups) || (opts[i].groups & without))
            continue;
        left = g_strdup_printf("--%s %s", opts[i].name, opts[i].value ? opts[i].value : "");
        g_string_append_printf(s, "    %-26s %s\n", left, opts[i].help);
    }
}

char *
cli_help(const CliCommand *command)
{
    GString *s = g_string_new(NULL);

    if (command) {
        g_string_append_printf(s, "fmcore %s%s%s\n    %s\n\nOptions\n", command->name, *command->arguments ? " " : "",
                               command->arguments, command->summary);
        help_options(s, command->groups | CLI_COMMON, 0);
        if (command->groups & CLI_TRAIN)
            cli_preset_help(s);
        if (command->help)
            command->help(s);
        return g_string_free(s, FALSE);
    }
    g_string_append(s, "fmcore trains, samples and measures flow-matching models.\n"
                       "t = 0 is noise, t = 1 is data; log-densities are in nats, in the data's units.\n\n"
                       "    fmcore --path ot --solver dopri5 --net conv       the main job, on MNIST digits\n\n"
                       "Commands\n");
    for (const CliCommand *c = cli_commands; c->name; c++) {
        g_autofree char *left = g_strdup_printf("%s %s", c->name, c->arguments);

        g_string_append_printf(s, "    %-26s %s\n", left, c->summary);
    }
    g_string_append(s, "\nOptions of every command\n");
    help_options(s, CLI_COMMON, 0);
    g_string_append(s, "\nOptions of every command that computes\n");
    help_options(s, CLI_COMPUTE, 0);
    g_string_append(s, "\nCOMMAND --help lists its options; 'list' and 'inspect NAME' the plugins.\n");
    return g_string_free(s, FALSE);
}
