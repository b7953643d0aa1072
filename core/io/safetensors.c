/* safetensors.c: the format's header is a small part of JSON, read by a parser of its own: what it
 * meets is believed only as far as the file's size bears it out, and a name that appears twice is
 * seen. */
#include "io/safetensors.h"
#include "io/atomic.h"

#include <math.h>
#include <string.h>

enum { HEADER_MOST = 100000000 }; /* bytes, as in the format's own library */

struct FmTensors {
    char *name;
    GMappedFile *map;     /* NULL: memory of the caller */
    GArray *list;         /* FmTensor */
    GHashTable *index;    /* name to position in list + 1 */
    GHashTable *metadata; /* char * to char * */
    const char *body;
    size_t body_size;
};

static const struct {
    const char *name;
    size_t bits;
} dtypes[] = {{"F64", 64}, {"F32", 32}, {"F16", 16}, {"BF16", 16},   {"I64", 64},
              {"I32", 32}, {"I16", 16}, {"I8", 8},   {"U64", 64},    {"U32", 32},
              {"U16", 16}, {"U8", 8},   {"BOOL", 8}, {"F8_E4M3", 8}, {"F8_E5M2", 8}};

void
fm__tensors_free(FmTensors *t)
{
    if (!t)
        return;
    g_free(t->name);
    g_clear_pointer(&t->map, g_mapped_file_unref);
    g_clear_pointer(&t->index, g_hash_table_destroy);
    g_clear_pointer(&t->list, g_array_unref);
    g_clear_pointer(&t->metadata, g_hash_table_destroy);
    g_free(t);
}

/* ---- the header's JSON ---- */

typedef struct Json {
    const char *at, *end;
} Json;

static void
json_space(Json *j)
{
    while (j->at < j->end && strchr(" \t\r\n", *j->at) && *j->at != '\0')
        j->at++;
}

static gboolean
json_take(Json *j, char c)
{
    json_space(j);
    if (j->at == j->end || *j->at != c)
        return FALSE;
    j->at++;
    return TRUE;
}

static gboolean
json_hex(Json *j, gunichar *c)
{
    *c = 0;
    for (int i = 0; i < 4; i++, j->at++) {
        if (j->at == j->end || !g_ascii_isxdigit(*j->at))
            return FALSE;
        *c = *c << 4 | (gunichar)g_ascii_xdigit_value(*j->at);
    }
    return TRUE;
}

/* What follows a backslash. */
static gboolean
json_escape(Json *j, GString *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *found;
    gunichar c, low;

    if (j->at == j->end)
        return FALSE;
    if (*j->at != 'u') {
        found = strchr(from, *j->at);
        if (!found || *j->at == '\0')
            return FALSE;
        g_string_append_c(out, to[found - from]);
        j->at++;
        return TRUE;
    }
    j->at++;
    if (!json_hex(j, &c))
        return FALSE;
    if (c >= 0xd800 && c < 0xdc00) { /* the first half of a pair */
        if (j->end - j->at < 6 || j->at[0] != '\\' || j->at[1] != 'u')
            return FALSE;
        j->at += 2;
        if (!json_hex(j, &low) || low < 0xdc00 || low > 0xdfff)
            return FALSE;
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    if (c == 0 || !g_unichar_validate(c))
        return FALSE;
    g_string_append_unichar(out, c);
    return TRUE;
}

/* A string; owned by the caller; NULL when there is none. */
static char *
json_string(Json *j)
{
    g_autoptr(GString) out = NULL;

    if (!json_take(j, '"'))
        return NULL;
    out = g_string_new(NULL);
    while (j->at < j->end && *j->at != '"') {
        const char c = *j->at++;

        if ((guchar)c < 0x20)
            return NULL;
        if (c != '\\')
            g_string_append_c(out, c);
        else if (!json_escape(j, out))
            return NULL;
    }
    if (!json_take(j, '"') || !g_utf8_validate(out->str, (gssize)out->len, NULL))
        return NULL;
    return g_string_free(g_steal_pointer(&out), FALSE);
}

/* A whole number of at most 18 digits. */
static gboolean
json_whole(Json *j, size_t *value)
{
    int digits = 0;

    json_space(j);
    for (*value = 0; j->at < j->end && g_ascii_isdigit(*j->at); j->at++, digits++)
        if (digits < 18)
            *value = *value * 10 + (size_t)(*j->at - '0');
    return digits > 0 && digits <= 18;
}

/* "[a,b]"; FALSE for more than `most` numbers. */
static gboolean
json_list(Json *j, int most, int *n, size_t *v)
{
    *n = 0;
    if (!json_take(j, '['))
        return FALSE;
    if (json_take(j, ']'))
        return TRUE;
    do {
        if (*n == most || !json_whole(j, &v[(*n)++]))
            return FALSE;
    } while (json_take(j, ','));
    return json_take(j, ']');
}

static const char *
parse_metadata(FmTensors *t, Json *j)
{
    if (!json_take(j, '{'))
        return "its metadata are no object";
    if (json_take(j, '}'))
        return NULL;
    do {
        g_autofree char *key = json_string(j);
        g_autofree char *value = key && json_take(j, ':') ? json_string(j) : NULL;

        if (!value)
            return "its metadata are not all text";
        if (!g_hash_table_insert(t->metadata, g_steal_pointer(&key), g_steal_pointer(&value)))
            return "a key of its metadata appears twice";
    } while (json_take(j, ','));
    return json_take(j, '}') ? NULL : "its metadata do not end";
}

/* {"dtype":"F32","shape":[2,3],"data_offsets":[0,24]} in any order. */
static const char *
parse_entry(FmTensors *t, Json *j, char *name)
{
    FmTensor e = {.name = name};
    size_t offset[2], bits = 0;
    int n = 0, have = 0;

    if (!json_take(j, '{'))
        return "a tensor's entry is no object";
    do {
        g_autofree char *key = json_string(j), *type = NULL;

        if (!key || !json_take(j, ':'))
            return "a tensor's entry is damaged";
        if (strcmp(key, "dtype") == 0 && !(have & 1)) {
            have |= 1;
            if (!(type = json_string(j)) || g_strlcpy(e.dtype, type, sizeof e.dtype) >= sizeof e.dtype)
                return "a tensor's dtype is not known";
        } else if (strcmp(key, "shape") == 0 && !(have & 2)) {
            have |= 2;
            if (!json_list(j, FM_ARRAY_MAX_NDIM, &e.ndim, e.dim))
                return "a tensor's shape is no list of at most 8 lengths";
        } else if (strcmp(key, "data_offsets") == 0 && !(have & 4)) {
            have |= 4;
            if (!json_list(j, 2, &n, offset) || n != 2)
                return "a tensor's offsets are no pair of numbers";
        } else {
            return "a tensor's entry has an unknown key, or one twice";
        }
    } while (json_take(j, ','));
    if (!json_take(j, '}') || have != 7)
        return "a tensor's entry lacks its dtype, shape or offsets";
    for (size_t i = 0; i < G_N_ELEMENTS(dtypes); i++)
        if (strcmp(dtypes[i].name, e.dtype) == 0)
            bits = dtypes[i].bits;
    e.size = 1;
    for (int d = 0; d < e.ndim; d++)
        if (!fm_size_mul(e.size, e.dim[d], 1, &e.size))
            return "a tensor's shape does not fit the memory of this machine";
    if (bits == 0)
        return "a tensor's dtype is not known";
    if (!fm_size_mul(e.size, bits / 8, 1, &e.bytes) || offset[1] > t->body_size || offset[0] > offset[1] ||
        offset[1] - offset[0] != e.bytes)
        return "a tensor's offsets do not fit its shape or the file";
    e.data = t->body + offset[0];
    g_array_append_val(t->list, e);
    return NULL;
}

static const char *
parse_header(FmTensors *t, Json *j)
{
    gboolean described = FALSE;

    if (!json_take(j, '{'))
        return "its header is no JSON object";
    if (json_take(j, '}'))
        return NULL;
    do {
        char *name = json_string(j);
        const char *why;

        if (!name || !json_take(j, ':')) {
            g_free(name);
            return "its header is no JSON object of named tensors";
        }
        if (strcmp(name, "__metadata__") == 0) {
            g_free(name);
            why = described ? "its metadata appear twice" : parse_metadata(t, j);
            described = TRUE;
        } else if (g_hash_table_contains(t->index, name)) {
            g_free(name);
            why = "a tensor's name appears twice";
        } else {
            g_hash_table_insert(t->index, name, GUINT_TO_POINTER(t->list->len + 1));
            why = parse_entry(t, j, name);
        }
        if (why)
            return why;
    } while (json_take(j, ','));
    if (!json_take(j, '}'))
        return "its header does not end";
    json_space(j);
    return j->at == j->end ? NULL : "something follows its header's JSON";
}

static gint
by_offset(gconstpointer a, gconstpointer b)
{
    const FmTensor *p = *(const FmTensor *const *)a, *q = *(const FmTensor *const *)b;

    /* Empty tensors come before the one that begins where they lie. */
    return p->data != q->data ? (p->data < q->data ? -1 : 1) : (p->bytes > q->bytes) - (p->bytes < q->bytes);
}

/* The tensors lie side by side and fill the body. */
static const char *
check_offsets(const FmTensors *t)
{
    g_autoptr(GPtrArray) sorted = g_ptr_array_new();
    const char *at = t->body;

    for (guint i = 0; i < t->list->len; i++)
        g_ptr_array_add(sorted, &g_array_index(t->list, FmTensor, i));
    g_ptr_array_sort(sorted, by_offset);
    for (guint i = 0; i < sorted->len; i++) {
        const FmTensor *e = sorted->pdata[i];

        if (e->data != at)
            return e->data < at ? "the offsets of two tensors overlap" : "its tensors leave a hole";
        at += e->bytes;
    }
    return at == t->body + t->body_size ? NULL : "bytes follow its last tensor";
}

static gboolean
parse(FmTensors *t, const char *bytes, size_t size, GError **error)
{
    const char *why = NULL;
    guint64 length = 0;
    Json j;

    if (size >= 8)
        memcpy(&length, bytes, 8);
    length = GUINT64_FROM_LE(length);
    if (size < 8 || length > size - 8 || length > HEADER_MOST || length < 2) {
        why = "its header does not fit into the file";
    } else {
        t->body = bytes + 8 + length;
        t->body_size = size - 8 - (size_t)length;
        j = (Json){bytes + 8, bytes + 8 + length};
        why = parse_header(t, &j);
        if (!why)
            why = check_offsets(t);
    }
    if (why)
        g_set_error(error, FM_ERROR, FM_ERROR_DATA, "'%s' is no valid safetensors file: %s", t->name, why);
    return why == NULL;
}

static FmTensors *
tensors_new(const char *name)
{
    FmTensors *t = g_new0(FmTensors, 1);

    t->name = g_strdup(name);
    t->list = g_array_new(FALSE, FALSE, sizeof(FmTensor));
    t->index = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    t->metadata = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return t;
}

FmTensors *
fm__tensors_parse(const char *name, const void *bytes, size_t size, GError **error)
{
    g_autoptr(FmTensors) t = tensors_new(name);

    return parse(t, bytes, size, error) ? g_steal_pointer(&t) : NULL;
}

FmTensors *
fm__tensors_open(const char *file, GError **error)
{
    g_autoptr(FmTensors) t = tensors_new(file);
    g_autoptr(GError) why = NULL;

    t->map = g_mapped_file_new(file, FALSE, &why);
    if (!t->map) {
        g_set_error(error, FM_ERROR, FM_ERROR_FILE, "'%s' cannot be read: %s", file, fm_error_reason(why));
        return NULL;
    }
    return parse(t, g_mapped_file_get_contents(t->map), g_mapped_file_get_length(t->map), error) ? g_steal_pointer(&t)
                                                                                                 : NULL;
}

const char *
fm__tensors_name(const FmTensors *t)
{
    return t->name;
}

size_t
fm__tensors_bytes(const FmTensors *t)
{
    return t->body_size;
}

size_t
fm__tensors_count(const FmTensors *t)
{
    return t->list->len;
}

const FmTensor *
fm__tensors_nth(const FmTensors *t, size_t i)
{
    return &g_array_index(t->list, FmTensor, i);
}

const FmTensor *
fm__tensors_find(const FmTensors *t, const char *name)
{
    const guint at = GPOINTER_TO_UINT(g_hash_table_lookup(t->index, name));

    return at > 0 ? fm__tensors_nth(t, at - 1) : NULL;
}

const char *
fm__tensors_meta(const FmTensors *t, const char *key)
{
    return g_hash_table_lookup(t->metadata, key);
}

/* ---- numbers ---- */

/* IEEE 754 half precision: 1 sign, 5 exponent, 10 fraction bits. */
static float
half_to_float(guint16 h)
{
    const int exponent = h >> 10 & 31;
    const float fraction = (float)(h & 1023);
    const float v = exponent == 31 ? (fraction > 0 ? NAN : INFINITY)
                    : exponent > 0 ? ldexpf(1024.0f + fraction, exponent - 25)
                                   : ldexpf(fraction, -24);

    return h & 0x8000 ? -v : v;
}

static float
short_to_float(const char *from, gboolean brain)
{
    guint16 bits;
    guint32 wide;
    float v;

    memcpy(&bits, from, sizeof bits);
    bits = GUINT16_FROM_LE(bits);
    if (!brain)
        return half_to_float(bits);
    wide = (guint32)bits << 16;
    memcpy(&v, &wide, sizeof v);
    return v;
}

gboolean
fm__tensor_convert(const FmTensor *e, FmDtype dtype, void *to)
{
    enum { CHUNK = 1024 };
    const gboolean wide = strcmp(e->dtype, "F64") == 0, single = strcmp(e->dtype, "F32") == 0;
    const gboolean brain = strcmp(e->dtype, "BF16") == 0;
    const size_t size = wide ? 8 : single ? 4 : 2;
    union {
        double f64[CHUNK];
        float f32[CHUNK];
    } aligned;

    if (!wide && !single && !brain && strcmp(e->dtype, "F16") != 0)
        return FALSE;
    for (size_t i = 0; i < e->size; i += CHUNK) {
        const size_t n = MIN((size_t)CHUNK, e->size - i);

        if (size > 2)
            memcpy(&aligned, e->data + i * size, n * size);
        for (size_t k = 0; size == 2 && k < n; k++)
            aligned.f32[k] = short_to_float(e->data + (i + k) * size, brain);
        fm_convert(wide ? FM_F64 : FM_F32, &aligned, dtype, (char *)to + i * fm_dtype_size(dtype), n);
    }
    return TRUE;
}

/* ---- writing ---- */

typedef struct Part {
    const void *data;
    size_t bytes;
} Part;

struct FmTensorWriter {
    GString *header;
    GArray *parts; /* Part */
    size_t bytes;
};

static void
quote(GString *out, const char *text)
{
    g_string_append_c(out, '"');
    for (const char *p = text; *p != '\0'; p++)
        if (*p == '"' || *p == '\\')
            g_string_append_printf(out, "\\%c", *p);
        else if ((guchar)*p < 0x20)
            g_string_append_printf(out, "\\u%04x", (unsigned)(guchar)*p);
        else
            g_string_append_c(out, *p);
    g_string_append_c(out, '"');
}

FmTensorWriter *
fm__tensors_write(const char *const *metadata)
{
    FmTensorWriter *w = g_new0(FmTensorWriter, 1);

    w->parts = g_array_new(FALSE, FALSE, sizeof(Part));
    w->header = g_string_new("{\"__metadata__\":{");
    for (size_t i = 0; metadata[i] != NULL; i += 2) {
        if (i > 0)
            g_string_append_c(w->header, ',');
        quote(w->header, metadata[i]);
        g_string_append_c(w->header, ':');
        quote(w->header, metadata[i + 1]);
    }
    g_string_append_c(w->header, '}');
    return w;
}

void
fm__tensors_add(FmTensorWriter *w, const char *prefix, const char *name, FmDtype dtype, int ndim, const size_t *dim,
                const void *data)
{
    g_autofree char *full = g_strconcat(prefix, name, NULL);
    Part part = {.data = data, .bytes = fm_dtype_size(dtype)};

    g_string_append_c(w->header, ',');
    quote(w->header, full);
    g_string_append_printf(w->header, ":{\"dtype\":\"%s\",\"shape\":[", dtype == FM_F32 ? "F32" : "F64");
    for (int d = 0; d < ndim; d++) {
        g_string_append_printf(w->header, "%s%zu", d > 0 ? "," : "", dim[d]);
        part.bytes *= dim[d];
    }
    g_string_append_printf(w->header, "],\"data_offsets\":[%zu,%zu]}", w->bytes, w->bytes + part.bytes);
    w->bytes += part.bytes;
    g_array_append_val(w->parts, part);
}

gboolean
fm__tensors_finish(FmTensorWriter *w, const char *file, GError **error)
{
    FmAtomic *out = fm__atomic_new(file, error);
    guint64 length;
    gboolean ok = out != NULL;

    g_string_append_c(w->header, '}');
    while ((8 + w->header->len) % FM_ALIGN != 0)
        g_string_append_c(w->header, ' ');
    length = GUINT64_TO_LE((guint64)w->header->len);
    ok = ok && fm__atomic_write(out, &length, 8) && fm__atomic_write(out, w->header->str, w->header->len);
    for (guint i = 0; ok && i < w->parts->len; i++) {
        const Part *p = &g_array_index(w->parts, Part, i);

        ok = fm__atomic_write(out, p->data, p->bytes);
    }
    if (out)
        ok = fm__atomic_finish(out, ok, error);
    g_string_free(w->header, TRUE);
    g_array_unref(w->parts);
    g_free(w);
    return ok;
}
