/* npy.c: the .npy format, versions 1 to 3:
 * https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html. A header is checked
 * against the bytes that can come before anything is allocated. */
#include "io/array_file.h"

#include <errno.h>
#include <string.h>

enum { HEADER_MOST = 1 << 20 }; /* bytes: a plain array's header takes a few hundred */

static const struct {
    const char *descr;
    FmDtype dtype;
} npy_types[] = {{"<f4", FM_F32}, {"<f8", FM_F64}, {"<i4", FM_I32}, {"|u1", FM_U8}, {"<u1", FM_U8}, {"<i8", FM_I64}};

/* What a header says. */
typedef struct NpyHeader {
    FmDtype dtype;
    int ndim;
    size_t dim[FM_ARRAY_MAX_NDIM];
    size_t bytes; /* of the elements */
} NpyHeader;

static gboolean
npy_bad(const FmReader *r, const char *why, GError **error)
{
    g_set_error(error, FM_ERROR, FM_ERROR_DATA, "'%s': %s", fm__reader_name(r), why);
    return FALSE;
}

/* The text after "'key':" in the header, or NULL. */
static const char *
npy_value(const char *header, const char *key)
{
    const char *at = strstr(header, key);

    if (!at)
        return NULL;
    at += strlen(key);
    while (*at == ' ' || *at == ':')
        at++;
    return at;
}

static gboolean
npy_shape(const char *at, int *ndim, size_t *dim)
{
    if (!at || *at++ != '(')
        return FALSE;
    for (*ndim = 0;; (*ndim)++) {
        char *end;

        while (*at == ' ' || *at == ',')
            at++;
        if (*at == ')')
            return TRUE;
        if (!g_ascii_isdigit(*at) || *ndim == FM_ARRAY_MAX_NDIM)
            return FALSE;
        errno = 0;
        dim[*ndim] = (size_t)g_ascii_strtoull(at, &end, 10);
        if (errno != 0)
            return FALSE;
        at = end;
    }
}

static gboolean
npy_parse_header(const FmReader *r, const char *text, NpyHeader *h, GError **error)
{
    const char *descr = npy_value(text, "'descr'"), *order = npy_value(text, "'fortran_order'");
    size_t count = 1;
    int type = -1;

    for (size_t i = 0; descr && i < G_N_ELEMENTS(npy_types); i++)
        if (*descr == '\'' && strncmp(descr + 1, npy_types[i].descr, 3) == 0 && descr[4] == '\'')
            type = (int)npy_types[i].dtype;
    if (type < 0)
        return npy_bad(r, "the element type is none of f4, f8, u1, i4, i8 (little endian)", error);
    h->dtype = (FmDtype)type;
    if (!npy_shape(npy_value(text, "'shape'"), &h->ndim, h->dim))
        return npy_bad(r, "the .npy header has no readable shape of at most 8 axes", error);
    /* One axis is in both orders at once. */
    if (!order || (strncmp(order, "False", 5) != 0 && h->ndim > 1))
        return npy_bad(r, "the array is in Fortran order, expected C order", error);
    for (int i = 0; i < h->ndim; i++)
        if (!fm_size_mul(count, h->dim[i], 1, &count))
            return npy_bad(r, "the shape does not fit the memory of this machine", error);
    if (!fm_size_mul(count, 1, fm_dtype_size(h->dtype), &h->bytes))
        return npy_bad(r, "the shape does not fit the memory of this machine", error);
    return TRUE;
}

static gboolean
npy_header(FmReader *r, NpyHeader *h, GError **error)
{
    guint8 start[12];
    size_t got, length, fixed;
    g_autofree char *text = NULL;

    if (!fm__reader_get(r, start, 10, &got, error))
        return FALSE;
    if (got < 10 || memcmp(start, "\x93NUMPY", 6) != 0 || start[6] < 1 || start[6] > 3)
        return npy_bad(r, "not an .npy file of version 1 to 3", error);
    fixed = start[6] == 1 ? 10 : 12;
    if (!fm__reader_get(r, start + 10, fixed - 10, &got, error))
        return FALSE;
    length = start[8] | (size_t)start[9] << 8;
    if (start[6] > 1)
        length |= (size_t)start[10] << 16 | (size_t)start[11] << 24;
    if (got < fixed - 10 || length > fm__reader_most(r) || length > HEADER_MOST)
        return npy_bad(r, "the .npy header is longer than the file or than 1 MiB", error);
    text = g_malloc0(length + 1);
    if (!fm__reader_get(r, text, length, &got, error))
        return FALSE;
    if (got < length)
        return npy_bad(r, "the .npy header is longer than the file", error);
    return npy_parse_header(r, text, h, error);
}

FmArray *
fm__npy_read(FmReader *r, GError **error)
{
    NpyHeader h = {0};
    FmArray *array;
    void *data;

    if (!npy_header(r, &h, error))
        return NULL;
    if (h.bytes > fm__reader_most(r) || (fm__reader_exact(r) && h.bytes != fm__reader_most(r))) {
        npy_bad(r, "the file's size disagrees with the shape in its header", error);
        return NULL;
    }
    data = fm__reader_take(r, h.bytes, error);
    if (!data || !fm__reader_end(r, error)) {
        fm_free(data);
        return NULL;
    }
    array = g_new0(FmArray, 1);
    *array = (FmArray){.dtype = h.dtype, .ndim = h.ndim, .data = data};
    memcpy(array->dim, h.dim, sizeof h.dim);
    return array;
}

GString *
fm__npy_header(const FmArray *array)
{
    const char *descr = "<f4";
    g_autoptr(GString) header = g_string_new(NULL);
    GString *out = g_string_new_len("\x93NUMPY\x01\0", 8);

    for (size_t i = G_N_ELEMENTS(npy_types); i-- > 0;)
        if (npy_types[i].dtype == array->dtype)
            descr = npy_types[i].descr;
    g_string_printf(header, "{'descr': '%s', 'fortran_order': False, 'shape': (", descr);
    for (int i = 0; i < array->ndim; i++)
        g_string_append_printf(header, array->ndim == 1 || i < array->ndim - 1 ? "%zu, " : "%zu", array->dim[i]);
    g_string_append(header, "), }");
    while ((10 + header->len + 1) % 64 != 0)
        g_string_append_c(header, ' ');
    g_string_append_c(header, '\n');
    g_string_append_c(out, (char)(header->len & 255));
    g_string_append_c(out, (char)(header->len >> 8));
    g_string_append_len(out, header->str, (gssize)header->len);
    return out;
}
