/* checkpoint.c: model.safetensors and checkpoint.safetensors of a run directory.
 * Layout: 8 bytes little-endian length, a JSON header, the tensors' bytes; see
 * https://github.com/huggingface/safetensors. Files are replaced by a rename after a sync, so that
 * whatever interrupts a write, the file before it stays. A reader believes nothing that the size
 * of the file does not bear out. */
#include "flow/state.h"
#include "io/atomic.h"

#include <json-glib/json-glib.h>
#include <math.h>
#include <string.h>

/* ---- writing ---- */

/* A file under construction: JSON entries and bytes. */
typedef struct Writer {
    GString *header;
    GByteArray *body;
} Writer;

static void
checkpoint_quote(GString *out, const char *text)
{
    g_string_append_c(out, '"');
    for (const char *p = text; *p != 0; p++)
        if (*p == '"' || *p == '\\')
            g_string_append_printf(out, "\\%c", *p);
        else if ((unsigned char)*p < 0x20)
            g_string_append_printf(out, "\\u%04x", (unsigned)(unsigned char)*p);
        else
            g_string_append_c(out, *p);
    g_string_append_c(out, '"');
}

static void
checkpoint_begin(Writer *w, const char *const *metadata)
{
    w->header = g_string_new("{\"__metadata__\":{");
    w->body = g_byte_array_new();
    for (size_t i = 0; metadata[i] != NULL; i += 2) {
        if (i > 0)
            g_string_append_c(w->header, ',');
        checkpoint_quote(w->header, metadata[i]);
        g_string_append_c(w->header, ':');
        checkpoint_quote(w->header, metadata[i + 1]);
    }
    g_string_append_c(w->header, '}');
}

static void
checkpoint_tensor(Writer *w, const char *prefix, const FmParam *p, FmDtype dtype, const void *data)
{
    const gsize bytes = p->size * fm_dtype_size(dtype), begin = w->body->len;
    g_autofree char *name = g_strconcat(prefix, p->name, NULL);

    g_string_append_c(w->header, ',');
    checkpoint_quote(w->header, name);
    g_string_append_printf(w->header, ":{\"dtype\":\"%s\",\"shape\":[", dtype == FM_F32 ? "F32" : "F64");
    for (int d = 0; d < p->ndim; d++)
        g_string_append_printf(w->header, "%s%" G_GSIZE_FORMAT, d > 0 ? "," : "", p->dim[d]);
    g_string_append_printf(w->header, "],\"data_offsets\":[%" G_GSIZE_FORMAT ",%" G_GSIZE_FORMAT "]}",
                           begin, begin + bytes);
    g_byte_array_append(w->body, data, (guint)bytes);
}

/* All parameters of `params` whose bytes stand in `block`; moments cover the trainable ones. */
static void
checkpoint_block(Writer *w, const char *prefix, const FmParams *params, const char *block,
                 gboolean trainable_only)
{
    const FmDtype dtype = fm_params_dtype(params);

    for (size_t i = 0; i < fm_params_count(params); i++) {
        const FmParam *p = fm_params_nth(params, i);
        if (p->trainable || !trainable_only)
            checkpoint_tensor(w, prefix, p, dtype, block + p->offset * fm_dtype_size(dtype));
    }
}

static gboolean
checkpoint_finish(Writer *w, const char *file, GError **error)
{
    g_string_append_c(w->header, '}');
    while ((8 + w->header->len) % FM_ALIGN != 0)
        g_string_append_c(w->header, ' ');
    const guint64 length = GUINT64_TO_LE((guint64)w->header->len);
    g_string_prepend_len(w->header, (const char *)&length, 8);
    const gboolean ok = fm__write_parts(file, w->header->str, w->header->len, w->body->data,
                                             w->body->len, error);
    g_string_free(w->header, TRUE);
    g_byte_array_unref(w->body);
    return ok;
}

/* ---- reading ---- */

typedef struct Reader {
    char *file;
    GMappedFile *map;
    JsonParser *parser;
    JsonObject *header; /* borrowed from parser */
    const char *body;
    gsize body_length;
} Reader;

static void
checkpoint_close(Reader *r)
{
    g_free(r->file);
    g_clear_pointer(&r->map, g_mapped_file_unref);
    g_clear_object(&r->parser);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Reader, checkpoint_close)

static gboolean
checkpoint_bad(const Reader *r, const char *why, GError **error)
{
    g_set_error(error, FM_ERROR, FM_ERROR_DATA, "'%s' is no valid safetensors file: %s", r->file, why);
    return FALSE;
}

static gboolean
checkpoint_open(Reader *r, const char *file, GError **error)
{
    g_autoptr(GError) inner = NULL;
    guint64 length = 0;

    r->file = g_strdup(file);
    r->map = g_mapped_file_new(file, FALSE, &inner);
    if (r->map == NULL) {
        g_set_error(error, FM_ERROR, FM_ERROR_FILE, "'%s' cannot be read: %s", file, inner->message);
        return FALSE;
    }
    const gsize size = g_mapped_file_get_length(r->map);
    const char *bytes = g_mapped_file_get_contents(r->map);
    if (size < 8)
        return checkpoint_bad(r, "it is shorter than 8 bytes", error);
    memcpy(&length, bytes, 8);
    length = GUINT64_FROM_LE(length);
    if (length > size - 8 || length > (guint64)1 << 27 || length < 2 || bytes[8] != '{')
        return checkpoint_bad(r, "its header does not fit into the file", error);
    r->parser = json_parser_new();
    if (!json_parser_load_from_data(r->parser, bytes + 8, (gssize)length, NULL))
        return checkpoint_bad(r, "its header is no JSON", error);
    JsonNode *root = json_parser_get_root(r->parser);
    if (root == NULL || !JSON_NODE_HOLDS_OBJECT(root))
        return checkpoint_bad(r, "its header is no JSON object", error);
    r->header = json_node_get_object(root);
    r->body = bytes + 8 + length;
    r->body_length = size - 8 - (gsize)length;
    return TRUE;
}

/* A string of the metadata, or NULL. Borrowed. */
static const char *
checkpoint_meta(const Reader *r, const char *key)
{
    JsonNode *node = json_object_get_member(r->header, "__metadata__");

    if (node == NULL || !JSON_NODE_HOLDS_OBJECT(node))
        return NULL;
    node = json_object_get_member(json_node_get_object(node), key);
    return node != NULL && JSON_NODE_HOLDS_VALUE(node) &&
                   json_node_get_value_type(node) == G_TYPE_STRING
               ? json_node_get_string(node)
               : NULL;
}

/* Whole numbers of a JSON array; FALSE when it is something else. */
static gboolean
checkpoint_integers(JsonObject *entry, const char *key, guint want, gint64 *out)
{
    JsonNode *node = json_object_get_member(entry, key);

    if (node == NULL || !JSON_NODE_HOLDS_ARRAY(node))
        return FALSE;
    JsonArray *array = json_node_get_array(node);
    if (json_array_get_length(array) != want)
        return FALSE;
    for (guint i = 0; i < want; i++) {
        JsonNode *value = json_array_get_element(array, i);
        if (!JSON_NODE_HOLDS_VALUE(value) || json_node_get_value_type(value) != G_TYPE_INT64)
            return FALSE;
        out[i] = json_node_get_int(value);
    }
    return TRUE;
}

/* Copy tensor `name` into the elements of `p` at `to`, converting the dtype. */
static gboolean
checkpoint_read(const Reader *r, const char *name, const FmParam *p, FmDtype dtype, void *to,
                GError **error)
{
    JsonNode *node = json_object_get_member(r->header, name);
    gint64 shape[FM_MAX_NDIM], offset[2];

    if (node == NULL || !JSON_NODE_HOLDS_OBJECT(node)) {
        g_set_error(error, FM_ERROR, FM_ERROR_SHAPE, "'%s' has no tensor '%s', which the net needs",
                    r->file, name);
        return FALSE;
    }
    JsonObject *entry = json_node_get_object(node);
    const char *type = json_object_get_string_member_with_default(entry, "dtype", "");
    const FmDtype from = g_str_equal(type, "F64") ? FM_F64 : FM_F32;
    if (from == FM_F32 && !g_str_equal(type, "F32")) {
        g_set_error(error, FM_ERROR, FM_ERROR_DATA,
                    "'%s': tensor '%s' has dtype '%s', expected F32 or F64", r->file, name, type);
        return FALSE;
    }
    gboolean fits = checkpoint_integers(entry, "shape", (guint)p->ndim, shape);
    for (int d = 0; fits && d < p->ndim; d++)
        fits = shape[d] == (gint64)p->dim[d];
    if (!fits) {
        g_set_error(error, FM_ERROR, FM_ERROR_SHAPE,
                    "'%s': tensor '%s' does not have the shape that the net declares", r->file, name);
        return FALSE;
    }
    const gsize bytes = p->size * fm_dtype_size(from);
    if (!checkpoint_integers(entry, "data_offsets", 2, offset) || offset[0] < 0 ||
        offset[1] < offset[0] || (guint64)offset[1] > r->body_length ||
        (gsize)(offset[1] - offset[0]) != bytes)
        return checkpoint_bad(r, "a tensor's offsets do not fit its shape or the file", error);
    void *aligned = fm_alloc(bytes);
    if (aligned == NULL) {
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "'%s': tensor '%s' does not fit into memory",
                    r->file, name);
        return FALSE;
    }
    memcpy(aligned, r->body + offset[0], bytes);
    fm_convert(from, aligned, dtype, to, p->size);
    fm_free(aligned);
    return TRUE;
}

static gboolean
checkpoint_read_block(const Reader *r, const char *prefix, const FmParams *params, char *block,
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

/* ---- the training state ---- */

FmTrainState *
fm__train_state_new(const FmRun *run, GError **error)
{
    FmTrainState *s = g_new0(FmTrainState, 1);
    gboolean ok = TRUE;

    s->raw = fm_params_copy(run->params);
    s->n_moments = fm_optimizer_moments(run->plugin[FM_KIND_OPTIMIZER]);
    for (int k = 0; k < s->n_moments; k++) {
        s->moment[k] = fm_alloc(MAX(1, fm_params_trainable_size(s->raw)) *
                                fm_dtype_size(fm_params_dtype(s->raw)));
        ok = ok && s->moment[k] != NULL;
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
    const char *const metadata[] = {
        "format", "fmcore checkpoint", "version", fm_version(),      "step",      step, "skipped",
        skipped,  "bad",               bad,       "seed",            seed,        "optimizer",
        fm_plugin_name(run->plugin[FM_KIND_OPTIMIZER]), "random",
        "Philox counters: functions of seed and step", NULL};
    Writer w;

    checkpoint_begin(&w, metadata);
    checkpoint_block(&w, "raw/", s->raw, fm_params_block(s->raw), FALSE);
    checkpoint_block(&w, "use/", run->params, fm_params_block(run->params), FALSE);
    for (int k = 0; k < s->n_moments; k++) {
        g_autofree char *prefix = g_strdup_printf("moment%d/", k);
        checkpoint_block(&w, prefix, s->raw, s->moment[k], TRUE);
    }
    return checkpoint_finish(&w, file, error);
}

gboolean
fm__checkpoint_load(FmRun *run, FmTrainState *s, GError **error)
{
    g_autofree char *file = g_build_filename(run->dir, "checkpoint.safetensors", NULL);
    g_auto(Reader) r = {0};

    if (!checkpoint_open(&r, file, error))
        return FALSE;
    const char *step = checkpoint_meta(&r, "step"), *skipped = checkpoint_meta(&r, "skipped");
    const char *bad = checkpoint_meta(&r, "bad"), *seed = checkpoint_meta(&r, "seed");
    if (step == NULL || skipped == NULL || bad == NULL || seed == NULL ||
        !g_ascii_string_to_unsigned(step, 10, 0, (guint64)1 << 46, &s->step, NULL) ||
        !g_ascii_string_to_unsigned(skipped, 10, 0, s->step, &s->skipped, NULL) ||
        !g_ascii_string_to_unsigned(bad, 10, 0, s->skipped, &s->bad, NULL))
        return checkpoint_bad(&r, "step, skipped or bad is missing from its metadata", error);
    if (g_ascii_strtoll(seed, NULL, 10) != run->config->seed) {
        g_set_error(error, FM_ERROR, FM_ERROR_DATA,
                    "'%s' was written with seed %s, config.ini says %" G_GINT64_FORMAT, file, seed,
                    run->config->seed);
        return FALSE;
    }
    if (!checkpoint_read_block(&r, "raw/", s->raw, fm_params_block(s->raw), FALSE, error) ||
        !checkpoint_read_block(&r, "use/", run->params, fm_params_block(run->params), FALSE, error))
        return FALSE;
    for (int k = 0; k < s->n_moments; k++) {
        g_autofree char *prefix = g_strdup_printf("moment%d/", k);
        if (!checkpoint_read_block(&r, prefix, s->raw, s->moment[k], TRUE, error))
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
        g_string_append_printf(out, "%s%s", i > 0 ? "," : "",
                               g_ascii_dtostr(text, sizeof text, v[i]));
    return g_string_free(out, FALSE);
}

static char *
checkpoint_dims(const FmDataInfo *d)
{
    GString *out = g_string_new(NULL);

    for (int i = 0; i < d->ndim; i++)
        g_string_append_printf(out, "%s%" G_GSIZE_FORMAT, i > 0 ? "," : "", d->dim[i]);
    return g_string_free(out, FALSE);
}

gboolean
fm__model_save(const FmRun *run, GError **error)
{
    const FmNetOps *net = fm_plugin_ops(run->plugin[FM_KIND_NET]);
    g_autofree char *file = g_build_filename(run->dir, "model.safetensors", NULL);
    g_autofree char *spec = fm_plugin_spec(run->plugin[FM_KIND_NET]);
    g_autofree char *path = fm_plugin_spec(run->plugin[FM_KIND_PATH]);
    g_autofree char *shape = checkpoint_dims(&run->data);
    g_autofree char *classes = g_strdup_printf("%" G_GSIZE_FORMAT, run->data.classes);
    g_autofree char *levels = g_strdup_printf("%d", run->data.levels);
    g_autofree char *shift = checkpoint_numbers(run->shift, run->data.D);
    g_autofree char *scale = checkpoint_numbers(run->scale, run->data.D);
    const char *const metadata[] = {"format", "pt", "producer", "fmcore", "version", fm_version(),
                                    "net", spec, "path", path, "time", "t=0 noise, t=1 data",
                                    "time_features",
                                    net->time_features != NULL ? net->time_features : "",
                                    "data_shape", shape, "classes", classes, "levels", levels,
                                    "shift", shift, "scale", scale, NULL};
    Writer w;

    checkpoint_begin(&w, metadata);
    checkpoint_block(&w, "", run->params, fm_params_block(run->params), FALSE);
    return checkpoint_finish(&w, file, error);
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
    g_auto(Reader) r = {0};

    if (!checkpoint_open(&r, file, error))
        return FALSE;
    const char *classes = checkpoint_meta(&r, "classes"), *levels = checkpoint_meta(&r, "levels");
    if (!checkpoint_parse_shape(checkpoint_meta(&r, "data_shape"), &run->data))
        return checkpoint_bad(&r, "its metadata have no data_shape such as 2 or 28,28,1", error);
    run->data.classes = classes != NULL ? (size_t)CLAMP(atoll(classes), 0, 1 << 24) : 0;
    run->data.levels = levels != NULL ? (int)CLAMP(atoll(levels), 0, 1 << 24) : 0;
    run->shift = g_new0(double, run->data.D);
    run->scale = g_new0(double, run->data.D);
    gboolean ok = checkpoint_parse_numbers(checkpoint_meta(&r, "shift"), run->data.D, run->shift) &&
                  checkpoint_parse_numbers(checkpoint_meta(&r, "scale"), run->data.D, run->scale);
    for (size_t i = 0; ok && i < run->data.D; i++)
        ok = run->scale[i] > 0;
    return ok || checkpoint_bad(&r, "its metadata have no shift and scale of the data", error);
}

/* The name under which another tool stores one of our weights. */
static const char *
checkpoint_foreign(const FmRun *run, const Reader *r, const char *ours)
{
    const FmNetOps *net = fm_plugin_ops(run->plugin[FM_KIND_NET]);

    if (json_object_has_member(r->header, ours))
        return ours;
    for (const FmWeightAlias *a = net->aliases; a != NULL && a->theirs != NULL; a++)
        if (g_str_equal(a->ours, ours))
            return a->theirs;
    return ours;
}

/* A strict loader: a tensor that the net does not know is an error, too. */
static gboolean
checkpoint_all_known(const FmRun *run, const Reader *r, GError **error)
{
    JsonObjectIter iter;
    const char *name;
    guint known = 0, all = 0;

    for (size_t i = 0; i < fm_params_count(run->params); i++)
        known += json_object_has_member(
            r->header, checkpoint_foreign(run, r, fm_params_nth(run->params, i)->name));
    json_object_iter_init(&iter, r->header);
    while (json_object_iter_next(&iter, &name, NULL))
        all += !g_str_equal(name, "__metadata__");
    if (all == known)
        return TRUE;
    json_object_iter_init(&iter, r->header);
    while (json_object_iter_next(&iter, &name, NULL)) {
        const FmNetOps *net = fm_plugin_ops(run->plugin[FM_KIND_NET]);
        gboolean mine = g_str_equal(name, "__metadata__") ||
                        fm_params_find(run->params, name) != NULL;
        for (const FmWeightAlias *a = net->aliases; a != NULL && a->theirs != NULL; a++)
            mine = mine || g_str_equal(a->theirs, name);
        if (!mine)
            break;
    }
    g_set_error(error, FM_ERROR, FM_ERROR_SHAPE,
                "'%s' holds tensor '%s', which net '%s' with these options does not have", r->file,
                name, fm_plugin_name(run->plugin[FM_KIND_NET]));
    return FALSE;
}

gboolean
fm__model_load_weights(FmRun *run, const char *file, gboolean foreign, GError **error)
{
    const FmDtype dtype = fm_params_dtype(run->params);
    g_auto(Reader) r = {0};

    if (!checkpoint_open(&r, file, error))
        return FALSE;
    for (size_t i = 0; i < fm_params_count(run->params); i++) {
        const FmParam *p = fm_params_nth(run->params, i);
        const char *name = foreign ? checkpoint_foreign(run, &r, p->name) : p->name;

        if (!checkpoint_read(&r, name, p, dtype, fm_params_data(run->params, p), error))
            return FALSE;
    }
    return checkpoint_all_known(run, &r, error);
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
        g_checksum_update(sum, fm_params_data(params, sorted[i]), (gssize)(sorted[i]->size * size));
    return g_strdup(g_checksum_get_string(sum));
}
