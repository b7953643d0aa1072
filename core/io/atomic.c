/* atomic.c: write beside, sync, rename. */
#include "io/atomic.h"

#include <fmcore/io.h>

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

static const char atomic_mark[] = ".fmtmp-"; /* then six characters of mkstemp() */

struct FmAtomic {
    char *path, *temporary; /* temporary NULL: standard output */
    int fd;
    int failed; /* errno of the first write that failed */
};

FmAtomic *
fm__atomic_new(const char *path, GError **error)
{
    const gboolean standard = strcmp(path, "-") == 0;
    g_autofree char *temporary = standard ? NULL : g_strdup_printf("%s%sXXXXXX", path, atomic_mark);
    const int fd = standard ? STDOUT_FILENO : g_mkstemp_full(temporary, O_RDWR | O_CLOEXEC, 0666);
    FmAtomic *a;

    if (fd < 0) {
        g_set_error(error, FM_ERROR, FM_ERROR_FILE, "'%s' cannot be written: %s", path, g_strerror(errno));
        return NULL;
    }
    a = g_new0(FmAtomic, 1);
    *a = (FmAtomic){.path = g_strdup(path), .temporary = g_steal_pointer(&temporary), .fd = fd};
    return a;
}

gboolean
fm__atomic_write(void *atomic, const void *bytes, size_t size)
{
    FmAtomic *a = atomic;
    const char *data = bytes;

    while (size > 0 && a->failed == 0) {
        const ssize_t done = write(a->fd, data, MIN(size, (size_t)1 << 30));

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0) {
            a->failed = done < 0 ? errno : ENOSPC;
            break;
        }
        data += done;
        size -= (size_t)done;
    }
    return a->failed == 0;
}

/* The rename itself must survive a crash, too. */
static void
sync_folder(const char *path)
{
    g_autofree char *dir = g_path_get_dirname(path);
    const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
}

gboolean
fm__atomic_finish(FmAtomic *a, gboolean ok, GError **error)
{
    int failed = a->failed;

    if (a->temporary) {
        if (ok && failed == 0 && fsync(a->fd) != 0)
            failed = errno;
        if (close(a->fd) != 0 && failed == 0)
            failed = errno;
        if (ok && failed == 0 && g_rename(a->temporary, a->path) != 0)
            failed = errno;
        if (ok && failed == 0)
            sync_folder(a->path);
        else
            g_unlink(a->temporary);
    }
    if (failed != 0 && error && !*error)
        g_set_error(error, FM_ERROR, FM_ERROR_FILE, "'%s' cannot be written: %s",
                    a->temporary ? a->path : "standard output", g_strerror(failed));
    g_free(a->path);
    g_free(a->temporary);
    g_free(a);
    return ok && failed == 0;
}

gboolean
fm__write_parts(const char *path, const void *head, size_t head_size, const void *body, size_t body_size,
                GError **error)
{
    FmAtomic *a = fm__atomic_new(path, error);

    if (!a)
        return FALSE;
    fm__atomic_write(a, head, head_size);
    fm__atomic_write(a, body, body_size);
    return fm__atomic_finish(a, TRUE, error);
}

gboolean
fm_write_file(const char *file, const void *data, size_t size, GError **error)
{
    return fm__write_parts(file, data, size, NULL, 0, error);
}

void
fm__atomic_sweep(const char *dir)
{
    g_autoptr(GDir) d = g_dir_open(dir, 0, NULL);
    const char *name;

    while (d && (name = g_dir_read_name(d))) {
        const char *mark = strstr(name, atomic_mark);
        g_autofree char *path = g_build_filename(dir, name, NULL);

        if (mark && strlen(mark) == strlen(atomic_mark) + 6)
            g_unlink(path);
    }
}
