/* array_file.c: .npy (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html) and
 * tables of numbers. Headers are checked against the bytes present before anything is allocated. */
#include "io/array_file.h"


#include <fmcore/io.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

static const struct {
    const char *descr;
    FmDtype dtype;
} npy_types[] = {{"<f4", FM_F32}, {"<f8", FM_F64}, {"<i4", FM_I32},
                 {"|u1", FM_U8},  {"<u1", FM_U8},  {"<i8", FM_I64}};

static FmArray *
bad(GError **error, const char *name, const char *why)
{
    g_set_error(error, FM_ERROR, FM_ERROR_DATA, "'%s': %s", name, why);
    return NULL;
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

FmArray *
fm_npy_parse(const char *name, const guint8 *bytes, size_t size, GError **error)
{
    size_t dim[FM_ARRAY_MAX_NDIM], start, length, count = 1, total;
    g_autofree char *header = NULL;
    const char *descr, *order;
    int ndim, type = -1;
    FmArray *array;

    if (size < 12 || memcmp(bytes, "\x93NUMPY", 6) != 0 || bytes[6] < 1 || bytes[6] > 3)
        return bad(error, name, "not an .npy file of version 1 to 3");
    start = bytes[6] == 1 ? 10 : 12;
    length = bytes[8] | (size_t)bytes[9] << 8;
    if (bytes[6] > 1)
        length |= (size_t)bytes[10] << 16 | (size_t)bytes[11] << 24;
    if (length > size - start)
        return bad(error, name, "the .npy header is longer than the file");
    header = g_strndup((const char *)bytes + start, length);
    descr = npy_value(header, "'descr'");
    order = npy_value(header, "'fortran_order'");
    for (size_t i = 0; descr && i < G_N_ELEMENTS(npy_types); i++)
        if (*descr == '\'' && strncmp(descr + 1, npy_types[i].descr, 3) == 0 && descr[4] == '\'')
            type = (int)npy_types[i].dtype;
    if (type < 0)
        return bad(error, name, "the element type is none of f4, f8, u1, i4, i8 (little endian)");
    if (!order || strncmp(order, "False", 5) != 0)
        return bad(error, name, "the array is in Fortran order, expected C order");
    if (!npy_shape(npy_value(header, "'shape'"), &ndim, dim))
        return bad(error, name, "the .npy header has no readable shape of at most 8 axes");
    for (int i = 0; i < ndim; i++)
        if (!fm_size_mul(count, dim[i], 1, &count))
            return bad(error, name, "the shape does not fit the memory of this machine");
    if (!fm_size_mul(count, 1, fm_dtype_size((FmDtype)type), &total) ||
        total != size - start - length)
        return bad(error, name, "the file's size disagrees with the shape in its header");
    array = fm_array_new((FmDtype)type, ndim, dim, error);
    if (array && total > 0)
        memcpy(array->data, bytes + start + length, total);
    return array;
}

/* Append one line's numbers; FALSE where something else stands. */
static gboolean
csv_line(const char *at, const char *end, GArray *values)
{
    while (at < end) {
        char *stop;
        double value;

        if (strchr(" ,;\t\r", *at)) {
            at++;
            continue;
        }
        value = g_ascii_strtod(at, &stop);
        if (stop == at || stop > end || (stop < end && !strchr(" ,;\t\r", *stop)))
            return FALSE;
        g_array_append_val(values, value);
        at = stop;
    }
    return TRUE;
}

FmArray *
fm_csv_parse(const char *name, const char *bytes, size_t size, GError **error)
{
    g_autofree char *text = g_strndup(bytes, size); /* ends at a NUL byte */
    g_autoptr(GArray) values = g_array_new(FALSE, FALSE, sizeof(double));
    size_t dim[2] = {0, 0}, line = 0;
    gboolean first = TRUE;
    FmArray *array;

    if (memchr(bytes, 0, size))
        return bad(error, name, "a NUL byte in a text of numbers");
    for (const char *at = text; *at != '\0';) {
        const char *end = at + strcspn(at, "\n"), *hash = memchr(at, '#', (size_t)(end - at));
        const guint before = values->len;

        line++;
        if (!csv_line(at, hash ? hash : end, values)) {
            if (!first) {
                g_set_error(error, FM_ERROR, FM_ERROR_DATA,
                            "'%s': line %zu has something else than numbers", name, line);
                return NULL;
            }
            g_array_set_size(values, before);
            first = FALSE;
        } else if (values->len > before) {
            first = FALSE;
            if (dim[0]++ == 0)
                dim[1] = values->len;
            if (values->len - before != dim[1]) {
                g_set_error(error, FM_ERROR, FM_ERROR_DATA,
                            "'%s': line %zu has %u numbers, the first %zu", name, line,
                            values->len - before, dim[1]);
                return NULL;
            }
        }
        at = *end == '\n' ? end + 1 : end;
    }
    if (dim[0] == 0)
        return bad(error, name, "no numbers");
    array = fm_array_new(FM_F64, 2, dim, error);
    if (array)
        memcpy(array->data, values->data, values->len * sizeof(double));
    return array;
}

/* All bytes of a file, inflated where it is gzip. */
static GByteArray *
read_bytes(const char *path, GError **error)
{
    const gboolean standard = strcmp(path, "-") == 0;
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    gzFile file = standard ? gzdopen(dup(STDIN_FILENO), "rb") : gzopen(path, "rb");
    guint8 block[65536];
    int n = -1, code = Z_OK;

    if (!file) {
        g_set_error(error, FM_ERROR, FM_ERROR_FILE, "'%s' cannot be read: %s", path,
                    g_strerror(errno));
        return NULL;
    }
    while (bytes->len < G_MAXUINT32 - sizeof block && (n = gzread(file, block, sizeof block)) > 0)
        g_byte_array_append(bytes, block, (guint)n);
    gzerror(file, &code);
    gzclose(file);
    if (n != 0 || (code != Z_OK && code != Z_STREAM_END)) {
        g_set_error(error, FM_ERROR, FM_ERROR_FILE,
                    "'%s' cannot be read: damaged, cut short or larger than 4 GiB", path);
        return NULL;
    }
    return g_steal_pointer(&bytes);
}

FmArray *
fm_array_load(const char *path, GError **error)
{
    g_autoptr(GByteArray) bytes = read_bytes(path, error);

    if (!bytes)
        return NULL;
    if (bytes->len >= 6 && memcmp(bytes->data, "\x93NUMPY", 6) == 0)
        return fm_npy_parse(path, bytes->data, bytes->len, error);
    if (strcmp(path, "-") == 0 || g_str_has_suffix(path, ".npy"))
        return bad(error, path, "not an .npy file");
    return fm_csv_parse(path, (const char *)bytes->data, bytes->len, error);
}

static void
npy_bytes(const FmArray *array, GString *out)
{
    const char *descr = "<f4";
    g_autoptr(GString) header = g_string_new(NULL);

    for (size_t i = G_N_ELEMENTS(npy_types); i-- > 0;)
        if (npy_types[i].dtype == array->dtype)
            descr = npy_types[i].descr;
    g_string_printf(header, "{'descr': '%s', 'fortran_order': False, 'shape': (", descr);
    for (int i = 0; i < array->ndim; i++)
        g_string_append_printf(header, array->ndim == 1 || i < array->ndim - 1 ? "%zu, " : "%zu",
                               array->dim[i]);
    g_string_append(header, "), }");
    while ((10 + header->len + 1) % 64 != 0)
        g_string_append_c(header, ' ');
    g_string_append_c(header, '\n');
    g_string_append_len(out, "\x93NUMPY\x01\0", 8);
    g_string_append_c(out, (char)(header->len & 255));
    g_string_append_c(out, (char)(header->len >> 8));
    g_string_append_len(out, header->str, (gssize)header->len);
    g_string_append_len(out, array->data,
                        (gssize)(fm_array_size(array) * fm_dtype_size(array->dtype)));
}

static gboolean
csv_bytes(const FmArray *array, GString *out, GError **error)
{
    const size_t width = fm_array_width(array);
    g_autoptr(FmArray) copy = fm_array_convert(array, FM_F64, error);
    char number[G_ASCII_DTOSTR_BUF_SIZE];

    if (!copy)
        return FALSE;
    for (size_t i = 0; i < fm_array_size(copy); i++) {
        g_ascii_dtostr(number, sizeof number, ((const double *)copy->data)[i]);
        g_string_append(out, number);
        g_string_append_c(out, (i + 1) % width == 0 ? '\n' : ',');
    }
    return TRUE;
}

gboolean
fm_array_save(const FmArray *array, const char *path, GError **error)
{
    g_autoptr(GString) out = g_string_new(NULL);
    const gboolean standard = strcmp(path, "-") == 0;

    if (g_str_has_suffix(path, ".csv")) {
        if (!csv_bytes(array, out, error))
            return FALSE;
    } else if (standard || g_str_has_suffix(path, ".npy")) {
        npy_bytes(array, out);
    } else {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                    "'%s': arrays are written to .npy or .csv files", path);
        return FALSE;
    }
    if (!standard)
        return fm_write_file(path, out->str, out->len, error);
    for (size_t done = 0; done < out->len;) {
        const ssize_t n = write(STDOUT_FILENO, out->str + done, out->len - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            g_set_error(error, FM_ERROR, FM_ERROR_FILE, "standard output cannot be written: %s",
                        g_strerror(errno));
            return FALSE;
        }
        done += (size_t)n;
    }
    return TRUE;
}
