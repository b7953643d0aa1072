/* array_file.c: arrays in .npy, .npz and text files, chosen by what the bytes are when reading and
 * by the name when writing. */
#include "io/array_file.h"
#include "io/zip.h"

#include <string.h>
#include <zlib.h>

static FmArray *
bad(GError **error, const char *name, const char *why)
{
    g_set_error(error, FM_ERROR, FM_ERROR_DATA, "'%s': %s", name, why);
    return NULL;
}

/* ---- archives ---- */

/* "x" and "x.npy" are the same. */
static gboolean
member_is(const FmZipMember *m, const char *name)
{
    const size_t n = strlen(name);

    return strncmp(m->name, name, n) == 0 && (m->name[n] == '\0' || strcmp(m->name + n, ".npy") == 0);
}

/* The names in an archive, without their ending; owned by the caller. */
static char *
member_names(GArray *list)
{
    GString *s = g_string_new(NULL);

    for (guint i = 0; i < list->len && s->len < 400; i++) {
        const char *name = g_array_index(list, FmZipMember, i).name;
        const size_t n = strlen(name) - (g_str_has_suffix(name, ".npy") ? 4 : 0);

        g_string_append_printf(s, "%s%.*s", i > 0 ? ", " : "", (int)MIN(n, 100), name);
    }
    return g_string_free(s, FALSE);
}

FmArray *
fm__npz_read(const char *file, const guint8 *bytes, size_t size, const char *name, GError **error)
{
    g_autoptr(GArray) list = fm__zip_list(file, bytes, size, error);
    g_autoptr(FmReader) r = NULL;
    const FmZipMember *found = NULL;

    if (!list)
        return NULL;
    for (guint i = 0; i < list->len; i++) {
        const FmZipMember *m = &g_array_index(list, FmZipMember, i);

        if (name ? member_is(m, name) : list->len == 1)
            found = m;
    }
    if (!found) {
        g_autofree char *all = member_names(list);

        if (name)
            g_set_error(error, FM_ERROR, FM_ERROR_DATA, "'%s' has no array '%s', expected one of: %s", file, name, all);
        else
            g_set_error(error, FM_ERROR, FM_ERROR_DATA,
                        "'%s' holds %u arrays, expected one, or FILE.npz:NAME with one of: %s", file, list->len, all);
        return NULL;
    }
    r = fm__zip_member(file, bytes, size, found, error);
    return r ? fm__npy_read(r, error) : NULL;
}

static FmArray *
npz_load(const char *file, const char *name, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(GMappedFile) map = g_mapped_file_new(file, FALSE, &why);

    if (!map) {
        g_set_error(error, FM_ERROR, FM_ERROR_FILE, "'%s' cannot be read: %s", file, fm_error_reason(why));
        return NULL;
    }
    return fm__npz_read(file, (const guint8 *)g_mapped_file_get_contents(map), g_mapped_file_get_length(map), name,
                        error);
}

/* ---- reading ---- */

FmArray *
fm_array_load(const char *path, GError **error)
{
    const char *named = strstr(path, ".npz:");
    g_autofree char *archive = named ? g_strndup(path, (gsize)(named + 4 - path)) : NULL;
    g_autoptr(FmReader) r = NULL;
    guint8 magic[6];
    size_t got;

    if (archive)
        return npz_load(archive, named + 5, error);
    r = fm__reader_open(path, error);
    if (!r || !fm__reader_peek(r, magic, sizeof magic, &got, error))
        return NULL;
    if (got == sizeof magic && memcmp(magic, "\x93NUMPY", sizeof magic) == 0)
        return fm__npy_read(r, error);
    if (got >= 4 && memcmp(magic, "PK", 2) == 0 && (magic[2] == 3 || magic[2] == 5))
        return !fm__reader_exact(r) ? bad(error, path, "an .npz archive is read from a file, not from a pipe")
                                    : npz_load(path, NULL, error);
    if (g_str_has_suffix(path, ".npy") || g_str_has_suffix(path, ".npy.gz"))
        return bad(error, path, "not an .npy file");
    if (g_str_has_suffix(path, ".npz"))
        return bad(error, path, "not an .npz file");
    return fm__csv_read(r, error);
}

/* ---- writing ---- */

static gboolean
write_npz(const FmArray *array, GString *header, size_t bytes, FmAtomic *out, GError **error)
{
    g_autoptr(GByteArray) before = NULL, after = NULL;
    guint32 crc = (guint32)crc32_z(0, (const Bytef *)header->str, header->len);

    crc = (guint32)crc32_z(crc, array->data, bytes);
    if (!fm__zip_wrap("arr_0.npy", header->len + bytes, crc, &before, &after)) {
        g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                    "an array of %zu bytes is too long for .npz, expected .npy from 4 GiB up", bytes);
        return FALSE;
    }
    return fm__atomic_write(out, before->data, before->len) && fm__atomic_write(out, header->str, header->len) &&
           fm__atomic_write(out, array->data, bytes) && fm__atomic_write(out, after->data, after->len);
}

gboolean
fm_array_save(const FmArray *array, const char *path, GError **error)
{
    const size_t bytes = fm_array_size(array) * fm_dtype_size(array->dtype);
    const gboolean csv = g_str_has_suffix(path, ".csv"), npz = g_str_has_suffix(path, ".npz");
    g_autoptr(GString) header = NULL;
    FmAtomic *out;
    gboolean ok;

    if (!csv && !npz && !g_str_has_suffix(path, ".npy") && strcmp(path, "-") != 0) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE, "'%s': arrays are written to .npy, .npz or .csv files, or to '-'",
                    path);
        return FALSE;
    }
    out = fm__atomic_new(path, error);
    if (!out)
        return FALSE;
    header = fm__npy_header(array);
    if (csv)
        ok = fm__csv_write(array, fm__atomic_write, out);
    else if (npz)
        ok = write_npz(array, header, bytes, out, error);
    else
        ok = fm__atomic_write(out, header->str, header->len) && fm__atomic_write(out, array->data, bytes);
    return fm__atomic_finish(out, ok, error);
}
