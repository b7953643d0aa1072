/* file.c: whole files, compressed or not. */
#include "io/reader.h"

#include <fmcore/io.h>

#include <string.h>

#define DEFAULT_LIMIT ((size_t)16 << 30)
#define BLOCK ((size_t)1 << 20)

gboolean
fm_read_head(const char *file, void *head, size_t n, guint64 *most, GError **error)
{
    g_autoptr(FmReader) r = fm__reader_open(file, error);
    size_t got;

    if (!r)
        return FALSE;
    if (most)
        *most = fm__reader_most(r);
    if (!fm__reader_get(r, head, n, &got, error))
        return FALSE;
    if (got < n)
        g_set_error(error, FM_ERROR, FM_ERROR_DATA, "'%s' holds %zu bytes, expected a header of %zu", file, got, n);
    return got == n;
}

GBytes *
fm_read_file(const char *file, size_t limit, GError **error)
{
    g_autoptr(FmReader) r = fm__reader_open(file, error);
    FmGrow g = {0};
    size_t got = 1;

    if (!r)
        return NULL;
    limit = limit > 0 ? limit : DEFAULT_LIMIT;
    if (fm__reader_exact(r) && fm__reader_most(r) < limit)
        fm__grow(&g, (size_t)fm__reader_most(r) + 1);
    while (got > 0) {
        if (g.size > limit) {
            g_set_error(error, FM_ERROR, FM_ERROR_DATA, "'%s' is larger than the %zu bytes allowed", file, limit);
            goto fail;
        }
        if (g.size == g.room && !fm__grow(&g, BLOCK)) {
            g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "'%s' does not fit in memory", file);
            goto fail;
        }
        if (!fm__reader_get(r, g.data + g.size, MIN(BLOCK, g.room - g.size), &got, error))
            goto fail;
        g.size += got;
    }
    return g_bytes_new_with_free_func(g.data, g.size, fm_free, g.data);
fail:
    fm_free(g.data);
    return NULL;
}
