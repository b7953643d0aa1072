/* csv.c: tables of numbers in text, line by line. A line that holds a comma is separated by commas,
 * else one that holds a semicolon by semicolons, else by blanks and tabs; '#' begins a comment; the
 * first line may be names, the first of which is no number. Source: RFC 4180. */
#include "io/array_file.h"

#include <string.h>

enum { BLOCK = 1 << 16, LINE_MOST = 1 << 28 }; /* bytes */

typedef struct Csv {
    FmReader *r;
    size_t line; /* number of the line under way */
    size_t rows, columns;
    gboolean headed; /* the line of names went by, or none can come any more */
    FmGrow values;   /* doubles */
} Csv;

static gboolean
csv_bad(const Csv *c, const char *why, GError **error)
{
    g_set_error(error, FM_ERROR, FM_ERROR_DATA, "'%s': line %zu %s", fm__reader_name(c->r), c->line, why);
    return FALSE;
}

static gboolean
is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* Append the numbers of the line [at, end); *why says what is wrong with it. */
static gboolean
csv_numbers(Csv *c, const char *at, const char *end, size_t *n, const char **why)
{
    const char separator = memchr(at, ',', (size_t)(end - at)) ? ',' : memchr(at, ';', (size_t)(end - at)) ? ';' : ' ';

    for (*n = 0;; (*n)++) {
        char *stop;
        double value;

        while (at < end && is_blank(*at))
            at++;
        if (at == end && (*n == 0 || separator == ' '))
            return TRUE;
        if (at == end || *at == separator) {
            *why = "has an empty field, expected a number";
            return FALSE;
        }
        value = g_ascii_strtod(at, &stop);
        if (stop == at || stop > end) {
            *why = "has something else than numbers";
            return FALSE;
        }
        for (at = stop; at < end && is_blank(*at);)
            at++;
        if (at < end && (separator == ' ' ? at == stop : *at != separator)) {
            *why = "has something else than numbers";
            return FALSE;
        }
        if (!fm__grow(&c->values, sizeof value)) {
            *why = "and those before it do not fit in memory";
            return FALSE;
        }
        memcpy(c->values.data + c->values.size, &value, sizeof value);
        c->values.size += sizeof value;
        if (at < end && separator != ' ')
            at++;
        else if (at == end) {
            ++*n;
            return TRUE;
        }
    }
}

/* One line, NUL-terminated at `end`. */
static gboolean
csv_line(Csv *c, const char *at, const char *end, GError **error)
{
    const size_t before = c->values.size;
    const char *hash, *why = NULL;
    size_t n;

    c->line++;
    if (memchr(at, '\0', (size_t)(end - at)))
        return csv_bad(c, "holds a NUL byte, expected text", error);
    if (c->line == 1 && g_str_has_prefix(at, "\xef\xbb\xbf"))
        at += 3;
    hash = memchr(at, '#', (size_t)(end - at));
    if (!csv_numbers(c, at, hash ? hash : end, &n, &why)) {
        c->values.size = before;
        if (c->headed || n > 0)
            return csv_bad(c, why, error);
        c->headed = TRUE;
        return TRUE;
    }
    if (n == 0)
        return TRUE;
    c->headed = TRUE;
    if (c->rows++ == 0)
        c->columns = n;
    if (n != c->columns) {
        g_set_error(error, FM_ERROR, FM_ERROR_DATA, "'%s': line %zu has %zu numbers, the first %zu",
                    fm__reader_name(c->r), c->line, n, c->columns);
        return FALSE;
    }
    return TRUE;
}

/* All whole lines of text; what is left of it moves to the front. */
static gboolean
csv_lines(Csv *c, FmGrow *text, size_t fresh, GError **error)
{
    char *at = text->data, *const end = text->data + text->size, *stop;

    /* Only the last `fresh` bytes can hold a line's end that was not seen before. */
    for (char *from = end - fresh; (stop = memchr(from, '\n', (size_t)(end - from))); from = at) {
        *stop = '\0';
        if (!csv_line(c, at, stop, error))
            return FALSE;
        at = stop + 1;
    }
    text->size = (size_t)(end - at);
    memmove(text->data, at, text->size);
    return TRUE;
}

static gboolean
csv_read_all(Csv *c, FmGrow *text, GError **error)
{
    size_t got = 1;

    while (got > 0) {
        if (text->size > LINE_MOST || !fm__grow(text, BLOCK + 1)) {
            c->line++;
            return csv_bad(c, "is longer than 256 MiB or than the memory", error);
        }
        if (!fm__reader_get(c->r, text->data + text->size, BLOCK, &got, error))
            return FALSE;
        text->size += got;
        if (got > 0 && !csv_lines(c, text, got, error))
            return FALSE;
    }
    text->data[text->size] = '\0';
    return text->size == 0 || csv_line(c, text->data, text->data + text->size, error);
}

FmArray *
fm__csv_read(FmReader *r, GError **error)
{
    Csv c = {.r = r};
    FmGrow text = {0};
    FmArray *array = NULL;

    if (csv_read_all(&c, &text, error)) {
        if (c.rows > 0) {
            array = g_new0(FmArray, 1);
            *array = (FmArray){.dtype = FM_F64, .ndim = 2, .dim = {c.rows, c.columns}, .data = c.values.data};
            c.values.data = NULL;
        } else {
            g_set_error(error, FM_ERROR, FM_ERROR_DATA, "'%s': no numbers", fm__reader_name(r));
        }
    }
    fm_free(text.data);
    fm_free(c.values.data);
    return array;
}

gboolean
fm__csv_write(const FmArray *array, FmWriteFn write, void *ctx)
{
    const size_t width = fm_array_width(array), n = fm_array_size(array);
    g_autoptr(GString) out = g_string_new(NULL);
    char number[G_ASCII_DTOSTR_BUF_SIZE];

    for (size_t i = 0; i < n; i++) {
        double value;

        fm_convert(array->dtype, (const char *)array->data + i * fm_dtype_size(array->dtype), FM_F64, &value, 1);
        g_ascii_formatd(number, sizeof number, array->dtype == FM_F32 ? "%.9g" : "%.17g", value);
        g_string_append(out, number);
        g_string_append_c(out, (i + 1) % width == 0 ? '\n' : ',');
        if (out->len > BLOCK || i + 1 == n) {
            if (!write(ctx, out->str, out->len))
                return FALSE;
            g_string_set_size(out, 0);
        }
    }
    return TRUE;
}
