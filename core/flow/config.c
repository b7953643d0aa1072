/* config.c: everything a user can set about a run, its defaults and its text form (a key file with
 * one section per kind of plugin, then [train], [eval] and [run]). */
#include "flow/defaults.h"

#include <math.h>
#include <string.h>

/* ---- the defaults, by kind of data: the only place where they stand ---- */

typedef struct ConfigDefaults {
    const char *dataset, *net;
    const char *nets; /* nets that bring this kind of data when no data set is named */
    gint64 steps, batch_size, warmup, log_every, save_every;
    double lr, grad_clip, ema_decay, scale, label_dropout;
    gint64 samples, eval_samples;
    const char *divergence; /* where the user named none; NULL: none */
    gboolean conditional;   /* where the data have labels */
} ConfigDefaults;

/*                  vectors   images
 * dataset          moons     mnist (the shipped 10,000)
 * net              mlp       conv
 * steps            80000     1600     toy densities improve up to 200,000 steps; images stay in a minute
 * batch_size       256       32
 * warmup           300       40       steps of linear warm-up, then the schedule (cosine to 0)
 * lr               1e-2      4e-3     images, 1,200 steps: bpd 2.00 at 2e-3 and EMA 0.99, 1.89 at 4e-3 and 0.995
 * grad_clip        0 (off)   1        global norm
 * ema_decay        0.999     0.995    after min(decay, (1 + k) / (10 + k))
 * scale            2         1        standard deviation of the standardised data; images: half their
 *                                     range. Checkerboard, 80,000 steps: KL 0.13 at 1, 0.10 at 2.3
 * label_dropout    0         0.1      of conditional nets: images are sampled with guidance
 * samples          5000      64
 * eval_samples     5000      64       rows behind nll, bpd and kl
 * conditional      no        yes      the nets above, where the data have labels: a small net makes three quarters of
 *                                     its digits legible with them, half without
 * divergence       none      energy   of samples and held-out rows; vectors have nll or kl */
static const ConfigDefaults config_vectors = {.dataset = "moons",
                                              .net = "mlp",
                                              .nets = "mlp realnvp",
                                              .steps = 80000,
                                              .batch_size = 256,
                                              .warmup = 300,
                                              .log_every = 1000,
                                              .save_every = 10000,
                                              .lr = 1e-2,
                                              .grad_clip = 0,
                                              .ema_decay = 0.999,
                                              .scale = 2.0,
                                              .samples = 5000,
                                              .eval_samples = 5000};
static const ConfigDefaults config_images = {.dataset = "mnist",
                                             .net = "conv",
                                             .nets = "conv",
                                             .steps = 1600,
                                             .batch_size = 32,
                                             .warmup = 40,
                                             .log_every = 10,
                                             .save_every = 100,
                                             .lr = 4e-3,
                                             .grad_clip = 1.0,
                                             .ema_decay = 0.995,
                                             .scale = 1.0,
                                             .label_dropout = 0.1,
                                             .samples = 64,
                                             .eval_samples = 64,
                                             .divergence = "energy",
                                             .conditional = TRUE};

/* The default distance needs so many samples and held-out rows (a twentieth of finite data). */
enum { DISTANCE_ROWS = 4 };

/* The same for all data; kinds without an entry are left out or chosen by the data above. */
static const char *const config_specs[FM_N_KINDS] = {
    [FM_KIND_COUPLING] = "independent", [FM_KIND_PATH] = "ot",       [FM_KIND_OBJECTIVE] = "cfm",
    [FM_KIND_OPTIMIZER] = "adam",       [FM_KIND_SOLVER] = "dopri5", [FM_KIND_BACKEND] = "cpu"};
static const char config_objective_invertible[] = "ml";
enum { CONFIG_PATIENCE = 10, CONFIG_EXACT_DIM = 32, CONFIG_DEQUANT = 1 };

/* ---- scalar fields ---- */

typedef enum ConfigType { CONFIG_INT64, CONFIG_INT, CONFIG_REAL, CONFIG_STRING, CONFIG_ENUM } ConfigType;

/* May a resumed run set it to something else? */
typedef enum ConfigResume { RESUME_FREE, RESUME_FORCED, RESUME_NEVER } ConfigResume;

typedef struct ConfigField {
    const char *section, *key;
    ConfigType type;
    size_t offset;
    double min, max;            /* of numbers; "not set" is negative and written as nothing */
    const char *const *choices; /* ENUM */
    ConfigResume resume;
} ConfigField;

static const char *const config_schedules[] = {"constant", "cosine", "linear", NULL};
static const char *const config_times[] = {"uniform", "stratified", "logit-normal", NULL};
static const char *const config_predictions[] = {"v", "score", "eps", "x1", NULL};
static const char *const config_bools[] = {"no", "yes", NULL};
static const char *const config_dtypes[] = {"f32", "f64", NULL};

#define CONFIG_FIELD(section, field, type, min, max, resume) \
    { \
        section, #field, type, offsetof(FmConfig, field), min, max, NULL, resume \
    }
#define CONFIG_CHOICE(section, field, choices, resume) \
    { \
        section, #field, CONFIG_ENUM, offsetof(FmConfig, field), 0, 0, choices, resume \
    }

enum { CONFIG_THREADS = 1024 };
#define CONFIG_MANY 1e15
#define CONFIG_ROWS 1e9

static const ConfigField config_fields[] = {
    CONFIG_FIELD("train", steps, CONFIG_INT64, 1, CONFIG_MANY, RESUME_FORCED),
    CONFIG_FIELD("train", batch_size, CONFIG_INT64, 1, 1e7, RESUME_NEVER),
    CONFIG_FIELD("train", lr, CONFIG_REAL, 1e-12, 1e3, RESUME_FORCED),
    CONFIG_FIELD("train", warmup, CONFIG_INT64, 0, CONFIG_MANY, RESUME_FORCED),
    CONFIG_CHOICE("train", schedule, config_schedules, RESUME_FORCED),
    CONFIG_CHOICE("train", time_sampling, config_times, RESUME_FORCED),
    CONFIG_CHOICE("train", prediction, config_predictions, RESUME_NEVER),
    CONFIG_CHOICE("train", conditional, config_bools, RESUME_NEVER),
    CONFIG_FIELD("train", label_dropout, CONFIG_REAL, 0, 0.99, RESUME_NEVER),
    CONFIG_FIELD("train", weight_decay, CONFIG_REAL, 0, 1e3, RESUME_FORCED),
    CONFIG_FIELD("train", grad_clip, CONFIG_REAL, 0, 1e9, RESUME_FORCED),
    CONFIG_FIELD("train", ema_decay, CONFIG_REAL, 0, 0.9999999, RESUME_FORCED),
    CONFIG_FIELD("train", max_seconds, CONFIG_REAL, 1e-3, 1e9, RESUME_FREE),
    CONFIG_FIELD("train", scale, CONFIG_REAL, 1e-6, 1e6, RESUME_NEVER),
    CONFIG_FIELD("train", log_every, CONFIG_INT64, 1, CONFIG_MANY, RESUME_FREE),
    CONFIG_FIELD("train", save_every, CONFIG_INT64, 1, CONFIG_MANY, RESUME_FREE),
    CONFIG_FIELD("train", patience, CONFIG_INT64, 1, CONFIG_MANY, RESUME_FREE),
    CONFIG_FIELD("train", stop_after, CONFIG_INT64, 1, CONFIG_MANY, RESUME_FREE),
    CONFIG_FIELD("eval", samples, CONFIG_INT64, 1, CONFIG_ROWS, RESUME_FREE),
    CONFIG_FIELD("eval", eval_samples, CONFIG_INT64, 2, CONFIG_ROWS, RESUME_FREE),
    CONFIG_FIELD("eval", likelihood, CONFIG_STRING, 0, 0, RESUME_FREE),
    CONFIG_FIELD("eval", dequant, CONFIG_INT64, 1, 1e5, RESUME_FREE),
    CONFIG_FIELD("eval", density_mass, CONFIG_INT64, 0, 1e6, RESUME_FREE),
    CONFIG_FIELD("run", seed, CONFIG_INT64, 0, 9007199254740992.0, RESUME_NEVER),
    CONFIG_FIELD("run", threads, CONFIG_INT, 1, CONFIG_THREADS, RESUME_FREE),
    CONFIG_CHOICE("run", dtype, config_dtypes, RESUME_NEVER),
};

G_STATIC_ASSERT(G_N_ELEMENTS(config_fields) <= 64); /* bits of FmConfig.given */

FmConfig *
fm_config_new(void)
{
    FmConfig *c = g_new0(FmConfig, 1);

    for (size_t i = 0; i < G_N_ELEMENTS(config_fields); i++) {
        const ConfigField *f = &config_fields[i];
        char *at = (char *)c + f->offset;

        if (f->type == CONFIG_INT64)
            *(gint64 *)(void *)at = -1;
        else if (f->type == CONFIG_INT)
            *(int *)(void *)at = -1;
        else if (f->type == CONFIG_REAL)
            *(double *)(void *)at = -1;
    }
    c->conditional = -1; /* by the data */
    c->dtype = FM_F32;
    c->schedule = FM_SCHEDULE_COSINE;
    c->time_sampling = FM_TIME_UNIFORM;
    c->divergences = g_ptr_array_new_with_free_func(g_free);
    return c;
}

FmConfig *
fm_config_copy(const FmConfig *config)
{
    FmConfig *c = g_memdup2(config, sizeof *config);

    for (int k = 0; k < FM_N_KINDS; k++)
        c->spec[k] = g_strdup(config->spec[k]);
    c->source = g_strdup(config->source);
    c->likelihood = g_strdup(config->likelihood);
    c->divergences = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < config->divergences->len; i++)
        g_ptr_array_add(c->divergences, g_strdup(g_ptr_array_index(config->divergences, i)));
    return c;
}

void
fm_config_free(FmConfig *config)
{
    if (config == NULL)
        return;
    for (int k = 0; k < FM_N_KINDS; k++)
        g_free(config->spec[k]);
    g_free(config->source);
    g_free(config->likelihood);
    g_ptr_array_unref(config->divergences);
    g_free(config);
}

/* ---- defaults ---- */

static gboolean
config_name_in(const char *spec, const char *names)
{
    g_auto(GStrv) list = g_strsplit(names, " ", -1);
    g_auto(GStrv) parts = g_strsplit(spec, ":", 2);

    return parts[0] != NULL && g_strv_contains((const char *const *)list, parts[0]);
}

static void
config_default_string(char **slot, const char *value)
{
    if (*slot == NULL)
        *slot = g_strdup(value);
}

void
fm__config_choose_dataset(FmConfig *config)
{
    const char *net = config->spec[FM_KIND_NET];
    const gboolean images = net != NULL && config_name_in(net, config_images.nets);

    config_default_string(&config->spec[FM_KIND_DATASET], (images ? &config_images : &config_vectors)->dataset);
}

void
fm__config_choose_objective(FmConfig *config, gboolean has_velocity)
{
    config_default_string(&config->spec[FM_KIND_OBJECTIVE],
                          has_velocity ? config_specs[FM_KIND_OBJECTIVE] : config_objective_invertible);
}

#define CONFIG_DEFAULT(field, value) \
    do { \
        if (config->field < 0) \
            config->field = (value); \
    } while (0)

void
fm__config_resolve(FmConfig *config, const FmDataInfo *data)
{
    const ConfigDefaults *d = data->ndim == 3 ? &config_images : &config_vectors;

    for (int k = 0; k < FM_N_KINDS; k++)
        if (config_specs[k] != NULL && k != FM_KIND_OBJECTIVE)
            config_default_string(&config->spec[k], config_specs[k]);
    config_default_string(&config->spec[FM_KIND_NET], d->net);
    config_default_string(&config->likelihood,
                          data->D <= CONFIG_EXACT_DIM ? "exact" : "hutchinson:probe=rademacher,probes=1");
    CONFIG_DEFAULT(seed, 0);
    if (config->threads < 1)
        config->threads = (int)CLAMP(g_get_num_processors(), 1, CONFIG_THREADS);
    CONFIG_DEFAULT(steps, d->steps);
    CONFIG_DEFAULT(batch_size, d->batch_size);
    CONFIG_DEFAULT(warmup, MIN(d->warmup, config->steps / 10));
    CONFIG_DEFAULT(log_every, CLAMP(config->steps / 20, 1, d->log_every));
    CONFIG_DEFAULT(save_every, d->save_every);
    CONFIG_DEFAULT(patience, CONFIG_PATIENCE);
    CONFIG_DEFAULT(lr, d->lr);
    CONFIG_DEFAULT(weight_decay, 0.0);
    CONFIG_DEFAULT(grad_clip, d->grad_clip);
    CONFIG_DEFAULT(ema_decay, d->ema_decay);
    CONFIG_DEFAULT(scale, d->scale);
    if (config->conditional < 0)
        config->conditional = d->conditional && data->classes > 0 && config_name_in(config->spec[FM_KIND_NET], d->nets);
    CONFIG_DEFAULT(label_dropout, config->conditional ? d->label_dropout : 0.0);
    CONFIG_DEFAULT(samples, d->samples);
    CONFIG_DEFAULT(eval_samples, d->eval_samples);
    CONFIG_DEFAULT(dequant, CONFIG_DEQUANT);
    if (d->divergence != NULL && config->divergences->len == 0 && config->samples >= DISTANCE_ROWS &&
        (data->rows == 0 || data->rows >= DISTANCE_ROWS * 20))
        g_ptr_array_add(config->divergences, g_strdup(d->divergence));
    /* cheap where it is the default: fewer points than --eval-samples has */
    CONFIG_DEFAULT(density_mass, data->ndim != 1 ? 0 : data->D == 1 ? 512 : data->D == 2 ? 64 : 0);
}

/* ---- text ---- */

/* The parts of "a=1,b=[1,2],c={x:y=1,z=2}", cut at commas outside brackets and quotes. */
static GPtrArray *
config_split_options(const char *text)
{
    GPtrArray *parts = g_ptr_array_new_with_free_func(g_free);
    int depth = 0;
    char quote = 0;
    const char *start = text;

    for (const char *p = text;; p++) {
        if (*p == 0 || (*p == ',' && depth == 0 && quote == 0)) {
            if (p > start)
                g_ptr_array_add(parts, g_strndup(start, (gsize)(p - start)));
            start = p + 1;
        }
        if (*p == 0)
            return parts;
        if (quote != 0)
            quote = *p == quote ? 0 : quote;
        else if (*p == '"' || *p == '\'')
            quote = *p;
        else if (*p == '[' || *p == '{' || *p == '(')
            depth++;
        else if (*p == ']' || *p == '}' || *p == ')')
            depth--;
    }
}

static void
config_format_spec(GString *out, const char *section, const char *spec)
{
    g_autofree char *name = NULL, *rest = NULL;

    if (!fm_spec_split(spec, &name, &rest, NULL))
        return;
    g_string_append_printf(out, "[%s]\nname=%s\n", section, name);
    g_autoptr(GPtrArray) parts = config_split_options(rest);
    for (guint i = 0; i < parts->len; i++)
        g_string_append_printf(out, "%s\n", (const char *)g_ptr_array_index(parts, i));
    g_string_append_c(out, '\n');
}

/* The value of one field as text, or NULL when it is not set. Owned. */
static char *
config_format_field(const FmConfig *config, const ConfigField *f)
{
    const char *at = (const char *)config + f->offset;
    const FmOption real = {.type = FM_OPTION_REAL, .offset = f->offset}; /* the shortest text that reads back */

    switch (f->type) {
    case CONFIG_INT64:
        return *(const gint64 *)(const void *)at < 0
                   ? NULL
                   : g_strdup_printf("%" G_GINT64_FORMAT, *(const gint64 *)(const void *)at);
    case CONFIG_INT:
        return *(const int *)(const void *)at < 0 ? NULL : g_strdup_printf("%d", *(const int *)(const void *)at);
    case CONFIG_REAL:
        return *(const double *)(const void *)at < 0 ? NULL : fm_option_format(&real, config);
    case CONFIG_STRING:
        return g_strdup(*(char *const *)(const void *)at);
    case CONFIG_ENUM:
        return *(const int *)(const void *)at < 0 ? NULL : g_strdup(f->choices[*(const int *)(const void *)at]);
    }
    return NULL;
}

char *
fm_config_format(const FmConfig *config)
{
    GString *out = g_string_new("# fmcore: t=0 noise, t=1 data\n");
    const char *section = NULL;

    for (int k = 0; k < FM_N_KINDS; k++) {
        if (config->spec[k] != NULL && k != FM_KIND_DIVERGENCE)
            config_format_spec(out, fm_kind_name((FmKind)k), config->spec[k]);
        if (k == FM_KIND_DATASET && config->source != NULL)
            config_format_spec(out, "source", config->source);
    }
    for (guint i = 0; i < config->divergences->len; i++) {
        g_autofree char *name = g_strdup_printf("divergence.%u", i + 1);
        config_format_spec(out, name, g_ptr_array_index(config->divergences, i));
    }
    for (size_t i = 0; i < G_N_ELEMENTS(config_fields); i++) {
        const ConfigField *f = &config_fields[i];
        g_autofree char *value = config_format_field(config, f);

        if (value == NULL)
            continue;
        if (g_strcmp0(section, f->section) != 0)
            g_string_append_printf(out, "%s[%s]\n", section == NULL ? "" : "\n", f->section);
        section = f->section;
        g_string_append_printf(out, "%s=%s\n", f->key, value);
    }
    return g_string_free(out, FALSE);
}

static gboolean
config_set_number(void *at, const ConfigField *f, const char *text, const char *what, GError **error)
{
    char *end = NULL;
    const gboolean whole = f->type != CONFIG_REAL;
    const double value = g_ascii_strtod(text, &end);

    if (end == text || *end != 0 || !(value >= f->min && value <= f->max) || (whole && value != floor(value))) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                    whole ? "%s is '%s', expected a whole number from %.0f to %.0f"
                          : "%s is '%s', expected a number from %.15g to %.15g",
                    what, text, f->min, f->max);
        return FALSE;
    }
    if (f->type == CONFIG_REAL)
        *(double *)at = value;
    else if (f->type == CONFIG_INT)
        *(int *)at = (int)value;
    else
        *(gint64 *)at = (gint64)value;
    return TRUE;
}

static gboolean
config_set_choice(void *at, const ConfigField *f, const char *text, const char *what, GError **error)
{
    for (int i = 0; f->choices[i] != NULL; i++)
        if (g_str_equal(f->choices[i], text)) {
            *(int *)at = i;
            return TRUE;
        }
    g_autofree char *all = g_strjoinv(", ", (char **)f->choices);
    g_set_error(error, FM_ERROR, FM_ERROR_USAGE, "%s is '%s', expected one of %s", what, text, all);
    return FALSE;
}

static const ConfigField *
config_find(const char *section, const char *key)
{
    for (size_t i = 0; i < G_N_ELEMENTS(config_fields); i++)
        if ((section == NULL || g_str_equal(config_fields[i].section, section)) &&
            g_str_equal(config_fields[i].key, key))
            return &config_fields[i];
    return NULL;
}

gboolean
fm_config_set(FmConfig *config, const char *key, const char *text, const char *what, GError **error)
{
    const ConfigField *f = config_find(NULL, key);

    g_return_val_if_fail(f != NULL, FALSE);
    void *at = (char *)config + f->offset;
    if (f->type == CONFIG_STRING) {
        if (*text == 0) {
            g_set_error(error, FM_ERROR, FM_ERROR_USAGE, "%s is empty", what);
            return FALSE;
        }
        g_free(*(char **)at);
        *(char **)at = g_strdup(text);
    } else if (!(f->type == CONFIG_ENUM ? config_set_choice : config_set_number)(at, f, text, what, error)) {
        return FALSE;
    }
    config->given |= (guint64)1 << (f - config_fields);
    return TRUE;
}

const char *const *
fm_config_choices(const char *key)
{
    const ConfigField *f = config_find(NULL, key);

    return f != NULL ? f->choices : NULL;
}

gboolean
fm_config_given(const FmConfig *config, const char *key)
{
    const ConfigField *f = config_find(NULL, key);

    return f != NULL && (config->given >> (f - config_fields) & 1) != 0;
}

gboolean
fm__config_override(FmConfig *own, const FmConfig *wanted, gboolean force, GError **error)
{
    for (size_t i = 0; i < G_N_ELEMENTS(config_fields); i++) {
        const ConfigField *f = &config_fields[i];
        g_autofree char *mine = config_format_field(own, f), *theirs = config_format_field(wanted, f);
        g_autofree char *dashed = g_strdelimit(g_strdup(f->key), "_", '-');

        if ((wanted->given >> i & 1) == 0 || g_strcmp0(mine, theirs) == 0)
            continue;
        if (f->resume == RESUME_NEVER || (f->resume == RESUME_FORCED && !force)) {
            g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                        "resume: --%s is %s and the run's own is %s, which %s after training began%s", dashed, theirs,
                        mine, f->resume == RESUME_NEVER ? "cannot change" : "only --force may change",
                        f->offset == offsetof(FmConfig, steps) ? " unless it has --schedule constant" : "");
            return FALSE;
        }
        if (!fm_config_set(own, f->key, theirs, dashed, error))
            return FALSE;
    }
    return TRUE;
}

/* "name:key=value,..." of one plugin section. */
static char *
config_parse_spec(GKeyFile *file, const char *section, const char *who, GError **error)
{
    g_auto(GStrv) keys = g_key_file_get_keys(file, section, NULL, NULL);
    g_autofree char *name = g_key_file_get_value(file, section, "name", NULL);
    char join = ':';

    if (name == NULL) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                    "%s: section [%s] has no 'name', expected "
                    "name=PLUGIN",
                    who, section);
        return NULL;
    }
    GString *spec = g_string_new(name);
    for (char **key = keys; *key != NULL; key++) {
        if (g_str_equal(*key, "name"))
            continue;
        g_autofree char *value = g_key_file_get_value(file, section, *key, NULL);
        g_string_append_printf(spec, "%c%s=%s", join, *key, value);
        join = ',';
    }
    return g_string_free(spec, FALSE);
}

static gboolean
config_unknown_key(const char *section, const char *key, const char *who, GError **error)
{
    const char *names[G_N_ELEMENTS(config_fields) + 1] = {NULL};
    size_t n = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(config_fields); i++)
        if (g_str_equal(config_fields[i].section, section))
            names[n++] = config_fields[i].key;
    const char *near = fm_error_suggest(key, names);
    g_autofree char *all = g_strjoinv(", ", (char **)names);
    g_set_error(error, FM_ERROR, FM_ERROR_USAGE, "%s: section [%s] has no key '%s', %s%s%s", who, section, key,
                near != NULL ? "did you mean '" : "expected one of ", near != NULL ? near : all,
                near != NULL ? "'?" : "");
    return FALSE;
}

static gboolean
config_parse_scalars(FmConfig *config, GKeyFile *file, const char *section, const char *who, GError **error)
{
    g_auto(GStrv) keys = g_key_file_get_keys(file, section, NULL, NULL);

    for (char **key = keys; *key != NULL; key++) {
        g_autofree char *canonical = g_strdelimit(g_strdup(*key), "-", '_');
        g_autofree char *what = g_strdup_printf("%s: [%s] %s", who, section, *key);
        g_autofree char *value = g_key_file_get_value(file, section, *key, NULL);

        if (config_find(section, canonical) == NULL)
            return config_unknown_key(section, *key, who, error);
        if (!fm_config_set(config, canonical, g_strstrip(value), what, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
config_parse_section(FmConfig *config, GKeyFile *file, const char *section, const char *who, GError **error)
{
    const int kind = fm_kind_from_name(section);
    char **slot = NULL;

    if (g_str_equal(section, "train") || g_str_equal(section, "eval") || g_str_equal(section, "run"))
        return config_parse_scalars(config, file, section, who, error);
    if (g_str_equal(section, "source"))
        slot = &config->source;
    else if (kind >= 0 && kind != FM_KIND_DIVERGENCE)
        slot = &config->spec[kind];
    else if (kind < 0 && !g_str_has_prefix(section, "divergence.")) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                    "%s: unknown section [%s], expected a kind of "
                    "plugin (dataset, path, net, ...), source, train, eval or run",
                    who, section);
        return FALSE;
    }
    char *spec = config_parse_spec(file, section, who, error);
    if (spec == NULL)
        return FALSE;
    if (slot == NULL) {
        g_ptr_array_add(config->divergences, spec);
        return TRUE;
    }
    g_free(*slot);
    *slot = spec;
    return TRUE;
}

gboolean
fm_config_parse(FmConfig *config, const char *text, const char *who, GError **error)
{
    g_autoptr(GKeyFile) file = g_key_file_new();
    g_autoptr(GError) inner = NULL;

    if (!g_utf8_validate(text, -1, NULL) ||
        !g_key_file_load_from_data(file, text, (gsize)-1, G_KEY_FILE_NONE, &inner)) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE, "%s: %s; expected [section] and key=value lines", who,
                    inner != NULL ? inner->message : "the text is not UTF-8");
        return FALSE;
    }
    g_auto(GStrv) sections = g_key_file_get_groups(file, NULL);
    for (char **section = sections; *section != NULL; section++)
        if (!config_parse_section(config, file, *section, who, error))
            return FALSE;
    return TRUE;
}
