/* atomic.h: replace a file whole or not at all. One piece: fm_write_file() of fmcore/io.h. */
#ifndef FMCORE_IO_ATOMIC_H
#define FMCORE_IO_ATOMIC_H

#include <fmcore/error.h>
#include <stddef.h>

G_BEGIN_DECLS

/* Takes the next bytes; FALSE when they cannot be had. */
typedef gboolean (*FmWriteFn)(void *ctx, const void *bytes, size_t size);

/* A file under construction beside the one it will replace. */
typedef struct FmAtomic FmAtomic;

/* A temporary file beside `path`; "-" writes to standard output. */
FmAtomic *fm__atomic_new(const char *path, GError **error);
gboolean fm__atomic_write(void *atomic, const void *bytes, size_t size); /* a FmWriteFn */
/* Sync, rename and free. ok FALSE, or an earlier write that failed: the temporary file goes, the one
 * that was there stays, and *error says why (unless it was set already). Errors: FM_ERROR_FILE. */
gboolean fm__atomic_finish(FmAtomic *atomic, gboolean ok, GError **error);

/* Replace `path` by head followed by body (both may be empty): a temporary file beside it, synced,
 * renamed, its directory synced. On failure the file that was there stays and nothing is left
 * behind. Errors: FM_ERROR_FILE. */
gboolean fm__write_parts(const char *path, const void *head, size_t head_size, const void *body, size_t body_size,
                         GError **error);

/* Remove temporary files that a killed process left in `dir`. Only for a directory that nobody
 * else is writing to. */
void fm__atomic_sweep(const char *dir);

G_END_DECLS
#endif
