/* checkpoint.c: model.safetensors and checkpoint.safetensors of a run directory. Files are replaced
 * by a rename after a sync, so that whatever interrupts a write, the file before it stays. */
#include "flow/state.h"
#include "io/safetensors.h"

#include <math.h>
#include <string.h>

/* "28,28,1"; owned by the caller. */
static char *
checkpoint_dims(int ndim, const size_t *dim)
{
    GString *out = g_string_new(NULL);

    for (int i = 0; i < ndim; i++)
        g_string_append_printf(out, "%s%" G_GSIZE_FORMAT, i > 0 ? "," : "", dim[i]);
    return g_string_free(out, FALSE);
}

/* ---- blocks of parameters ---- */

/* Weights of an objective's further nets are called NAME/... and are the checkpoint's alone. */
static gboolean
checkpoint_is_models(const FmParam *p)
{
    return strchr(p->name, '/') == NULL;
}

/* All parameters of `params` whose bytes stand in `block`; moments cover the trainable ones. */
static void
checkpoint_block(FmTensorWriter *w, const char *prefix, const FmParams *params, const char *block,
                 gboolean trainable_only)
{
    const FmDtype dtype = fm_params_dtype(params);

    for (size_t i = 0; i < fm_params_count(params); i++) {
        const FmParam *p = fm_params_nth(params, i);
        if (p->trainable || !trainable_only)
            fm__tensors_add(w, prefix, p->name, dtype, p->ndim, p->dim, block + p->offset * fm_dtype_size(dtype));
    }
}

static gboolean
checkpoint_bad(const FmTensors *r, const char *why, GError **error)
{
    g_set_error(error, FM_ERROR, FM_ERROR_DATA, "'%s': %s", fm__tensors_name(r), why);
    return FALSE;
}

/* Copy tensor `name` into the elements of `p` at `to`, converting the dtype. */
static gboolean
checkpoint_read(const FmTensors *r, const char *name, const FmParam *p, FmDtype dtype, void *to, GError **error)
{
    const FmTensor *e = fm__tensors_find(r, name);

    if (e == NULL) {
        g_set_error(error, FM_ERROR, FM_ERROR_SHAPE, "'%s' has no tensor '%s', which the net needs",
                    fm__tensors_name(r), name);
        return FALSE;
    }
    if (e->ndim != p->ndim || (p->ndim > 0 && memcmp(e->dim, p->dim, (size_t)p->ndim * sizeof *p->dim) != 0)) {
        g_autofree char *has = checkpoint_dims(e->ndim, e->dim), *wants = checkpoint_dims(p->ndim, p->dim);
        g_set_error(error, FM_ERROR, FM_ERROR_SHAPE, "'%s': tensor '%s' has shape (%s), the net declares (%s)",
                    fm__tensors_name(r), name, has, wants);
        return FALSE;
    }
    if (!fm__tensor_convert(e, dtype, to)) {
        g_set_error(error, FM_ERROR, FM_ERROR_DATA, "'%s': tensor '%s' has dtype '%s', expected F32, F64, F16 or BF16",
                    fm__tensors_name(r), name, e->dtype);
        return FALSE;
    }
    return TRUE;
}

static gboolean
checkpoint_read_block(const FmTensors *r, const char *prefix, const FmParams *params, char *block,
                      gboolean trainable_only, GError **error)
{
    const FmDtype dtype = fm_params_dtype(params);

    for (size_t i = 0; i < fm_params_count(params); i++) {
        const FmParam *p = fm_params_nth(params, i);
        g_autofree char *name = g_strconcat(prefix, p->name, NULL);

        if ((p->trainable || !trainable_only) &&
            !checkpoint_read(r, name, p, dtype, block + p->offset * fm_dtype_size(dtype), error))
            return FALSE;
    }
    return TRUE;
}

/* Weights that are not finite come from a damaged file: training never keeps any. */
static gboolean
checkpoint_finite(const FmTensors *r, const FmParams *params, GError **error)
{
    const FmDtype dtype = fm_params_dtype(params);

    for (size_t i = 0; i < fm_params_count(params); i++) {
        const FmParam *p = fm_params_nth(params, i);
        FmArray view = {.dtype = dtype, .ndim = 1, .dim = {p->size}, .data = fm_params_data(params, p)};

        if (fm_array_first_nonfinite(&view) < p->size) {
            g_set_error(error, FM_ERROR, FM_ERROR_DATA, "'%s': tensor '%s' holds a value that is not finite",
                        fm__tensors_name(r), p->name);
            return FALSE;
        }
    }
    return TRUE;
}

/* ---- the training state ---- */

FmTrainState *
fm__train_state_new(const FmRun *run, GError **error)
{
    FmTrainState *s = g_new0(FmTrainState, 1);
    gboolean ok;

    s->raw = fm_params_copy(run->params);
    s->n_moments = fm_optimizer_moments(run->plugin[FM_KIND_OPTIMIZER]);
    ok = s->raw != NULL;
    for (int k = 0; ok && k < s->n_moments; k++) {
        s->moment[k] = fm_alloc(MAX(1, fm_params_trainable_size(s->raw)) * fm_dtype_size(fm_params_dtype(s->raw)));
        ok = s->moment[k] != NULL;
    }
    if (!ok) {
        g_set_error_literal(error, FM_ERROR, FM_ERROR_MEMORY,
                            "training: the optimizer's state does not fit into memory");
        g_clear_pointer(&s, fm__train_state_free);
    }
    return s;
}

void
fm__train_state_free(FmTrainState *s)
{
    if (s == NULL)
        return;
    fm_params_free(s->raw);
    for (int k = 0; k < s->n_moments; k++)
        fm_free(s->moment[k]);
    g_free(s);
}

gboolean
fm__checkpoint_save(const FmRun *run, const FmTrainState *s, GError **error)
{
    g_autofree char *file = g_build_filename(run->dir, "checkpoint.safetensors", NULL);
    g_autofree char *step = g_strdup_printf("%" G_GUINT64_FORMAT, s->step);
    g_autofree char *skipped = g_strdup_printf("%" G_GUINT64_FORMAT, s->skipped);
    g_autofree char *bad = g_strdup_printf("%" G_GUINT64_FORMAT, s->bad);
    g_autofree char *seed = g_strdup_printf("%" G_GINT64_FORMAT, run->config->seed);
    g_autofree char *net = fm_plugin_spec(run->plugin[FM_KIND_NET]);
    /* clang-format off */
    const char *const metadata[] = {
        "format", "fmcore checkpoint", "version", fm_version(), "step", step, "skipped", skipped,
        "bad", bad, "seed", seed, "net", net, "optimizer",
        fm_plugin_name(run->plugin[FM_KIND_OPTIMIZER]), "random",
        "Philox counters: functions of seed and step", NULL};
    /* clang-format on */
    FmTensorWriter *w = fm__tensors_write(metadata);

    checkpoint_block(w, "raw/", s->raw, fm_params_block(s->raw), FALSE);
    checkpoint_block(w, "use/", run->params, fm_params_block(run->params), FALSE);
    for (int k = 0; k < s->n_moments; k++) {
        g_autofree char *prefix = g_strdup_printf("moment%d/", k);
        checkpoint_block(w, prefix, s->raw, s->moment[k], TRUE);
    }
    return fm__tensors_finish(w, file, error);
}

/* A checkpoint of another run is refused: config.ini and it are written one after the other. */
static gboolean
checkpoint_is_of(const FmTensors *r, const char *key, const char *mine, GError **error)
{
    const char *theirs = fm__tensors_meta(r, key);

    if (theirs == NULL || g_str_equal(theirs, mine))
        return TRUE;
    g_set_error(error, FM_ERROR, FM_ERROR_DATA, "'%s' was written with %s %s, config.ini says %s", fm__tensors_name(r),
                key, theirs, mine);
    return FALSE;
}

gboolean
fm__checkpoint_load(FmRun *run, FmTrainState *s, GError **error)
{
    g_autofree char *file = g_build_filename(run->dir, "checkpoint.safetensors", NULL);
    g_autoptr(FmTensors) r = fm__tensors_open(file, error);

    if (r == NULL)
        return FALSE;
    const char *step = fm__tensors_meta(r, "step"), *skipped = fm__tensors_meta(r, "skipped");
    const char *bad = fm__tensors_meta(r, "bad"), *seed = fm__tensors_meta(r, "seed");
    if (step == NULL || skipped == NULL || bad == NULL || seed == NULL ||
        !g_ascii_string_to_unsigned(step, 10, 0, (guint64)1 << 46, &s->step, NULL) ||
        !g_ascii_string_to_unsigned(skipped, 10, 0, s->step, &s->skipped, NULL) ||
        !g_ascii_string_to_unsigned(bad, 10, 0, s->skipped, &s->bad, NULL))
        return checkpoint_bad(r, "step, skipped or bad is missing from its metadata", error);
    g_autofree char *own_seed = g_strdup_printf("%" G_GINT64_FORMAT, run->config->seed);
    g_autofree char *own_net = fm_plugin_spec(run->plugin[FM_KIND_NET]);
    if (!checkpoint_is_of(r, "seed", own_seed, error) || !checkpoint_is_of(r, "net", own_net, error) ||
        !checkpoint_is_of(r, "optimizer", fm_plugin_name(run->plugin[FM_KIND_OPTIMIZER]), error))
        return FALSE;
    if (!checkpoint_read_block(r, "raw/", s->raw, fm_params_block(s->raw), FALSE, error) ||
        !checkpoint_read_block(r, "use/", run->params, fm_params_block(run->params), FALSE, error))
        return FALSE;
    for (int k = 0; k < s->n_moments; k++) {
        g_autofree char *prefix = g_strdup_printf("moment%d/", k);
        if (!checkpoint_read_block(r, prefix, s->raw, s->moment[k], TRUE, error))
            return FALSE;
    }
    return TRUE;
}

/* ---- the model ---- */

static char *
checkpoint_numbers(const double *v, size_t n)
{
    GString *out = g_string_new(NULL);
    char text[G_ASCII_DTOSTR_BUF_SIZE];
    gboolean same = TRUE;

    for (size_t i = 1; i < n; i++)
        same = same && v[i] == v[0];
    for (size_t i = 0; i < (same ? 1 : n); i++) /* one number stands for equal ones */
        g_string_append_printf(out, "%s%s", i > 0 ? "," : "", g_ascii_dtostr(text, sizeof text, v[i]));
    return g_string_free(out, FALSE);
}

gboolean
fm__model_save(const FmRun *run, GError **error)
{
    const FmNetOps *net = fm_plugin_ops(run->plugin[FM_KIND_NET]);
    g_autofree char *file = g_build_filename(run->dir, "model.safetensors", NULL);
    g_autofree char *spec = fm_plugin_spec(run->plugin[FM_KIND_NET]);
    g_autofree char *path = fm_plugin_spec(run->plugin[FM_KIND_PATH]);
    g_autofree char *shape = checkpoint_dims(run->data.ndim, run->data.dim);
    g_autofree char *classes = g_strdup_printf("%" G_GSIZE_FORMAT, run->data.classes);
    g_autofree char *levels = g_strdup_printf("%d", run->data.levels);
    g_autofree char *shift = checkpoint_numbers(run->shift, run->data.D);
    g_autofree char *scale = checkpoint_numbers(run->scale, run->data.D);
    /* clang-format off */
    const char *const metadata[] = {"format", "pt", "producer", "fmcore", "version", fm_version(),
                                    "net", spec, "path", path, "time", "t=0 noise, t=1 data",
                                    "prediction",
                                    fm_config_choices("prediction")[run->config->prediction],
                                    "time_features",
                                    net->time_features != NULL ? net->time_features : "",
                                    "data_shape", shape, "classes", classes, "levels", levels,
                                    "shift", shift, "scale", scale, NULL};
    /* clang-format on */
    FmTensorWriter *w = fm__tensors_write(metadata);

    for (size_t i = 0; i < fm_params_count(run->params); i++) {
        const FmParam *p = fm_params_nth(run->params, i);

        if (checkpoint_is_models(p))
            fm__tensors_add(w, "", p->name, fm_params_dtype(run->params), p->ndim, p->dim,
                            fm_params_data(run->params, p));
    }
    return fm__tensors_finish(w, file, error);
}

static gboolean
checkpoint_parse_numbers(const char *text, size_t n, double *out)
{
    g_auto(GStrv) parts = g_strsplit(text != NULL ? text : "", ",", -1);
    const size_t have = g_strv_length(parts);

    if (have != n && have != 1)
        return FALSE;
    for (size_t i = 0; i < n; i++) {
        char *end = NULL;
        const char *part = parts[have == 1 ? 0 : i];
        out[i] = g_ascii_strtod(part, &end);
        if (end == part || *end != 0 || !isfinite(out[i]))
            return FALSE;
    }
    return TRUE;
}

static gboolean
checkpoint_parse_shape(const char *text, FmDataInfo *d)
{
    g_auto(GStrv) parts = g_strsplit(text != NULL ? text : "", ",", -1);
    const guint n = g_strv_length(parts);

    if (n != 1 && n != 3)
        return FALSE;
    *d = (FmDataInfo){.ndim = (int)n, .D = 1};
    for (guint i = 0; i < n; i++) {
        guint64 value;
        if (!g_ascii_string_to_unsigned(parts[i], 10, 1, 1 << 20, &value, NULL))
            return FALSE;
        d->dim[i] = (size_t)value;
        d->D *= (size_t)value;
    }
    return d->D <= (size_t)1 << 26;
}

gboolean
fm__model_load_info(FmRun *run, GError **error)
{
    g_autofree char *file = g_build_filename(run->dir, "model.safetensors", NULL);
    g_autoptr(FmTensors) r = fm__tensors_open(file, error);

    if (r == NULL)
        return FALSE;
    const char *classes = fm__tensors_meta(r, "classes"), *levels = fm__tensors_meta(r, "levels");
    if (!checkpoint_parse_shape(fm__tensors_meta(r, "data_shape"), &run->data))
        return checkpoint_bad(r, "its metadata have no data_shape such as 2 or 28,28,1", error);
    run->data.classes = classes != NULL ? (size_t)CLAMP(atoll(classes), 0, 1 << 24) : 0;
    run->data.levels = levels != NULL ? (int)CLAMP(atoll(levels), 0, 1 << 24) : 0;
    run->shift = g_try_new0(double, run->data.D);
    run->scale = g_try_new0(double, run->data.D);
    if (run->shift == NULL || run->scale == NULL)
        return checkpoint_bad(r, "its data_shape does not fit into memory", error);
    gboolean ok = checkpoint_parse_numbers(fm__tensors_meta(r, "shift"), run->data.D, run->shift) &&
                  checkpoint_parse_numbers(fm__tensors_meta(r, "scale"), run->data.D, run->scale);
    for (size_t i = 0; ok && i < run->data.D; i++)
        ok = run->scale[i] > 0;
    return ok || checkpoint_bad(r, "its metadata have no shift and scale of the data", error);
}

gboolean
fm__model_room(const char *file, size_t *weights, GError **error)
{
    g_autoptr(FmTensors) r = fm__tensors_open(file, error);

    if (r != NULL)
        *weights = fm__tensors_bytes(r) / 2; /* bytes of the narrowest dtype */
    return r != NULL;
}

/* The name under which another tool stores one of our weights. */
static const char *
checkpoint_foreign(const FmRun *run, const FmTensors *r, const char *ours)
{
    const FmNetOps *net = fm_plugin_ops(run->plugin[FM_KIND_NET]);

    if (fm__tensors_find(r, ours) != NULL)
        return ours;
    for (const FmWeightAlias *a = net->aliases; a != NULL && a->theirs != NULL; a++)
        if (g_str_equal(a->ours, ours))
            return a->theirs;
    return ours;
}

/* A strict loader: a tensor that the net does not know is an error, too. */
static gboolean
checkpoint_all_known(const FmRun *run, const FmTensors *r, gboolean foreign, GError **error)
{
    g_autoptr(GHashTable) known = g_hash_table_new(g_str_hash, g_str_equal);

    for (size_t i = 0; i < fm_params_count(run->params); i++) {
        const char *ours = fm_params_nth(run->params, i)->name;

        if (checkpoint_is_models(fm_params_nth(run->params, i)))
            g_hash_table_add(known, (char *)(foreign ? checkpoint_foreign(run, r, ours) : ours));
    }
    for (size_t i = 0; i < fm__tensors_count(r); i++) {
        const char *name = fm__tensors_nth(r, i)->name;

        if (g_hash_table_contains(known, name))
            continue;
        g_set_error(error, FM_ERROR, FM_ERROR_SHAPE,
                    "'%s' holds tensor '%s', which net '%s' with these options does not have", fm__tensors_name(r),
                    name, fm_plugin_name(run->plugin[FM_KIND_NET]));
        return FALSE;
    }
    return TRUE;
}

gboolean
fm__model_load_weights(FmRun *run, const char *file, gboolean foreign, GError **error)
{
    const FmDtype dtype = fm_params_dtype(run->params);
    g_autoptr(FmTensors) r = fm__tensors_open(file, error);

    if (r == NULL)
        return FALSE;
    for (size_t i = 0; i < fm_params_count(run->params); i++) {
        const FmParam *p = fm_params_nth(run->params, i);
        const char *name = foreign ? checkpoint_foreign(run, r, p->name) : p->name;

        if (checkpoint_is_models(p) && !checkpoint_read(r, name, p, dtype, fm_params_data(run->params, p), error))
            return FALSE;
    }
    return checkpoint_finite(r, run->params, error) && checkpoint_all_known(run, r, foreign, error);
}

gboolean
fm_params_load(FmParams *params, const char *prefix, const char *file, GError **error)
{
    g_autoptr(FmTensors) r = fm__tensors_open(file, error);

    if (r == NULL)
        return FALSE;
    for (size_t i = 0; i < fm_params_count(params); i++) {
        const FmParam *p = fm_params_nth(params, i);

        if (g_str_has_prefix(p->name, prefix) &&
            !checkpoint_read(r, p->name + strlen(prefix), p, fm_params_dtype(params), fm_params_data(params, p), error))
            return FALSE;
    }
    return checkpoint_finite(r, params, error);
}

static int
checkpoint_by_name(const void *a, const void *b)
{
    return strcmp((*(const FmParam *const *)a)->name, (*(const FmParam *const *)b)->name);
}

char *
fm_params_digest(const FmParams *params)
{
    const size_t n = fm_params_count(params), size = fm_dtype_size(fm_params_dtype(params));
    g_autofree const FmParam **sorted = g_new(const FmParam *, n + 1);
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);

    for (size_t i = 0; i < n; i++)
        sorted[i] = fm_params_nth(params, i);
    qsort(sorted, n, sizeof *sorted, checkpoint_by_name);
    for (size_t i = 0; i < n; i++)
        if (checkpoint_is_models(sorted[i]))
            g_checksum_update(sum, fm_params_data(params, sorted[i]), (gssize)(sorted[i]->size * size));
    return g_strdup(g_checksum_get_string(sum));
}
