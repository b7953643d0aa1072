/* atomic.h: replace a file whole or not at all. One piece: fm_write_file() of fmcore/io.h. */
#ifndef FMCORE_IO_ATOMIC_H
#define FMCORE_IO_ATOMIC_H

#include <fmcore/error.h>
#include <stddef.h>

G_BEGIN_DECLS

/* Replace `path` by head followed by body (both may be empty): a temporary file beside it, synced,
 * renamed, its directory synced. On failure the file that was there stays and nothing is left
 * behind. Errors: FM_ERROR_FILE. */
gboolean fm__write_parts(const char *path, const void *head, size_t head_size, const void *body,
                         size_t body_size, GError **error);

G_END_DECLS
#endif
