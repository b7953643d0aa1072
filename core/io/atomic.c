/* atomic.c: write beside, sync, rename. */
#include "io/atomic.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <unistd.h>

static gboolean
atomic_write_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        const ssize_t done = write(fd, data, MIN(size, (size_t)1 << 30));

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return FALSE;
        data += done;
        size -= (size_t)done;
    }
    return fsync(fd) == 0;
}

gboolean
fm_atomic_write(const char *path, const void *data, size_t size, GError **error)
{
    g_autofree char *temporary = g_strdup_printf("%s.XXXXXX", path);
    g_autofree char *dir = g_path_get_dirname(path);
    int fd = g_mkstemp_full(temporary, O_RDWR | O_CLOEXEC, 0666), saved;
    gboolean ok = fd >= 0 && atomic_write_all(fd, data, size);

    saved = errno;
    if (fd >= 0 && close(fd) != 0 && ok) {
        saved = errno;
        ok = FALSE;
    }
    if (ok && g_rename(temporary, path) != 0) {
        saved = errno;
        ok = FALSE;
    }
    if (!ok) {
        if (fd >= 0)
            g_unlink(temporary);
        g_set_error(error, FM_ERROR, FM_ERROR_FILE, "'%s' cannot be written: %s", path,
                    g_strerror(saved));
        return FALSE;
    }
    fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    return TRUE;
}
