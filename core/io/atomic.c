/* atomic.c: write beside, sync, rename. */
#include "io/atomic.h"

#include <fmcore/io.h>

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <unistd.h>

static gboolean
atomic_write_all(int fd, const void *bytes, size_t size)
{
    const char *data = bytes;

    while (size > 0) {
        const ssize_t done = write(fd, data, MIN(size, (size_t)1 << 30));

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return FALSE;
        data += done;
        size -= (size_t)done;
    }
    return TRUE;
}

gboolean
fm__write_parts(const char *path, const void *head, size_t head_size, const void *body,
                size_t body_size, GError **error)
{
    g_autofree char *temporary = g_strdup_printf("%s.XXXXXX", path);
    g_autofree char *dir = g_path_get_dirname(path);
    int fd = g_mkstemp_full(temporary, O_RDWR | O_CLOEXEC, 0666), saved;
    gboolean ok = fd >= 0 && atomic_write_all(fd, head, head_size) &&
                  atomic_write_all(fd, body, body_size) && fsync(fd) == 0;

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

gboolean
fm_write_file(const char *file, const void *data, size_t size, GError **error)
{
    return fm__write_parts(file, data, size, NULL, 0, error);
}
