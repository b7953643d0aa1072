/* atomic.h: files that are replaced as a whole or not at all. */
#ifndef FMCORE_IO_ATOMIC_H
#define FMCORE_IO_ATOMIC_H

#include <fmcore/error.h>
#include <stddef.h>

G_BEGIN_DECLS

/* Write `size` bytes under a temporary name beside `path`, sync, rename, sync the directory. On
 * failure (FM_ERROR_FILE, a full disk for instance) the old file stays as it was. */
gboolean fm_atomic_write(const char *path, const void *data, size_t size, GError **error);

G_END_DECLS
#endif
