/* file.c: whole files, compressed or not. */
#include <fmcore/io.h>

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

#define DEFAULT_LIMIT ((size_t)16 << 30)
#define CHUNK ((size_t)1 << 20)

static gboolean
read_all(gzFile in, const char *file, size_t limit, GByteArray *bytes, GError **error)
{
    g_autofree guint8 *chunk = g_malloc(CHUNK);
    int got;

    while ((got = gzread(in, chunk, (unsigned)CHUNK)) > 0) {
        if (bytes->len + (size_t)got > limit || bytes->len > G_MAXUINT - CHUNK) {
            g_set_error(error, FM_ERROR, FM_ERROR_DATA, "'%s' is larger than the %zu bytes allowed", file,
                        MIN(limit, G_MAXUINT - CHUNK));
            return FALSE;
        }
        g_byte_array_append(bytes, chunk, (guint)got);
    }
    if (got < 0) {
        g_set_error(error, FM_ERROR, FM_ERROR_DATA, "'%s' is a damaged gzip file", file);
        return FALSE;
    }
    return TRUE;
}

GBytes *
fm_read_file(const char *file, size_t limit, GError **error)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    struct stat st;
    gzFile in = NULL;
    gboolean ok;

    if (g_stat(file, &st) != 0 || !S_ISREG(st.st_mode) || !(in = gzopen(file, "rb"))) {
        g_set_error(error, FM_ERROR, FM_ERROR_FILE, "cannot read '%s': %s", file,
                    errno ? g_strerror(errno) : "not a regular file");
        return NULL;
    }
    ok = read_all(in, file, limit > 0 ? limit : DEFAULT_LIMIT, bytes, error);
    /* A gzip stream that ends too early is reported when it is closed. */
    if (gzclose(in) != Z_OK && ok) {
        g_set_error(error, FM_ERROR, FM_ERROR_DATA, "'%s' is truncated", file);
        ok = FALSE;
    }
    return ok ? g_byte_array_free_to_bytes(g_steal_pointer(&bytes)) : NULL;
}
