/* reader.c: plain files, gzip, pipes, memory and raw deflate streams behind one interface. */
#include "io/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

/* Deflate codes at most 258 bytes in two bits: https://zlib.net/zlib_tech.html gives 1032:1. */
#define MOST_RATIO 1032u
#define MOST_SLACK 4096u
#define BLOCK ((size_t)1 << 20)

struct FmReader {
    char *name;
    guint64 most;
    gboolean exact;
    guint8 head[8]; /* peeked */
    size_t n_head;
    gzFile gz;           /* files and pipes */
    const guint8 *bytes; /* memory */
    z_stream *inflate;   /* deflate streams over memory */
    guint32 crc, crc_wanted;
};

static gboolean
reader_bad(const FmReader *r, const char *why, GError **error)
{
    g_set_error(error, FM_ERROR, FM_ERROR_DATA, "'%s' %s", r->name, why);
    return FALSE;
}

/* What a file of `size` bytes can hold. */
static void
reader_bound(FmReader *r, int fd, guint64 size)
{
    guint8 magic[2] = {0, 0};
    const gboolean packed = pread(fd, magic, 2, 0) == 2 && magic[0] == 0x1f && magic[1] == 0x8b;

    r->exact = !packed;
    r->most = packed ? size * MOST_RATIO + MOST_SLACK : size;
}

FmReader *
fm__reader_open(const char *file, GError **error)
{
    const gboolean standard = strcmp(file, "-") == 0;
    const int fd = standard ? dup(STDIN_FILENO) : open(file, O_RDONLY | O_CLOEXEC);
    g_autoptr(FmReader) r = g_new0(FmReader, 1);
    struct stat st;

    r->name = g_strdup(standard ? "standard input" : file);
    r->most = G_MAXUINT64;
    if (fd < 0 || fstat(fd, &st) != 0 || S_ISDIR(st.st_mode)) {
        g_set_error(error, FM_ERROR, FM_ERROR_FILE, "'%s' cannot be read: %s", file,
                    fd >= 0 ? "it is a directory" : g_strerror(errno));
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    if (S_ISREG(st.st_mode) && lseek(fd, 0, SEEK_CUR) == 0)
        reader_bound(r, fd, (guint64)st.st_size);
    r->gz = gzdopen(fd, "rb");
    if (!r->gz) {
        close(fd);
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "'%s' cannot be read: no memory", file);
        return NULL;
    }
    gzbuffer(r->gz, 1 << 17);
    return g_steal_pointer(&r);
}

FmReader *
fm__reader_memory(const char *name, const void *bytes, size_t size)
{
    FmReader *r = g_new0(FmReader, 1);

    r->name = g_strdup(name);
    r->bytes = bytes;
    r->most = size;
    r->exact = TRUE;
    return r;
}

FmReader *
fm__reader_deflate(const char *name, const void *bytes, size_t packed, guint64 size, guint32 crc)
{
    FmReader *r = fm__reader_memory(name, bytes, 0);

    /* A claim that compression cannot reach leaves the reader without an exact size. */
    r->exact = size <= (guint64)packed * MOST_RATIO + MOST_SLACK;
    r->most = r->exact ? size : 0;
    r->crc_wanted = crc;
    r->inflate = g_new0(z_stream, 1);
    r->inflate->next_in = (Bytef *)bytes;
    r->inflate->avail_in = (uInt)MIN(packed, G_MAXUINT);
    if (inflateInit2(r->inflate, -MAX_WBITS) != Z_OK)
        r->most = 0;
    return r;
}

void
fm__reader_free(FmReader *r)
{
    if (!r)
        return;
    if (r->gz)
        gzclose(r->gz);
    if (r->inflate)
        inflateEnd(r->inflate);
    g_free(r->inflate);
    g_free(r->name);
    g_free(r);
}

const char *
fm__reader_name(const FmReader *r)
{
    return r->name;
}

guint64
fm__reader_most(const FmReader *r)
{
    return r->most;
}

gboolean
fm__reader_exact(const FmReader *r)
{
    return r->exact;
}

/* ---- the three sources ---- */

static gboolean
get_file(FmReader *r, void *to, size_t n, size_t *got, GError **error)
{
    int code = Z_OK;
    int k = gzread(r->gz, to, (unsigned)MIN(n, BLOCK));
    const char *why = gzerror(r->gz, &code);

    /* A stream that ends too early shows as Z_BUF_ERROR beside the bytes it gave. */
    if (k < 0 || (code != Z_OK && code != Z_STREAM_END)) {
        g_set_error(error, FM_ERROR, code == Z_ERRNO ? FM_ERROR_FILE : FM_ERROR_DATA, "'%s' %s%s", r->name,
                    code == Z_ERRNO ? "cannot be read: " : "is a gzip file that is damaged or cut short",
                    code == Z_ERRNO ? g_strerror(errno) : "");
        (void)why;
        return FALSE;
    }
    *got = (size_t)k;
    return TRUE;
}

static gboolean
get_deflate(FmReader *r, void *to, size_t n, size_t *got, GError **error)
{
    z_stream *z = r->inflate;
    int code = Z_OK;

    z->next_out = to;
    z->avail_out = (uInt)MIN(n, MIN(BLOCK, r->most));
    const uInt wanted = z->avail_out;
    while (z->avail_out > 0 && code == Z_OK)
        code = inflate(z, Z_NO_FLUSH);
    *got = wanted - z->avail_out;
    r->crc = (guint32)crc32(r->crc, to, (uInt)*got);
    if (*got < wanted && (code != Z_STREAM_END || *got == 0))
        return reader_bad(r, "is damaged: a compressed array ends too early", error);
    if (*got == r->most && r->crc != r->crc_wanted)
        return reader_bad(r, "is damaged: a checksum is wrong", error);
    return TRUE;
}

static gboolean
get_some(FmReader *r, void *to, size_t n, size_t *got, GError **error)
{
    *got = 0;
    if (n == 0)
        return TRUE;
    if (r->gz) {
        if (!get_file(r, to, n, got, error))
            return FALSE;
    } else if (r->most > 0 && r->inflate) {
        if (!get_deflate(r, to, n, got, error))
            return FALSE;
    } else if (r->most > 0) {
        *got = (size_t)MIN(n, r->most);
        memcpy(to, r->bytes, *got);
        r->bytes += *got;
    }
    if (r->most != G_MAXUINT64)
        r->most -= MIN(r->most, *got);
    return TRUE;
}

gboolean
fm__reader_get(FmReader *r, void *to, size_t n, size_t *got, GError **error)
{
    const size_t early = MIN(n, r->n_head);
    size_t more = 1;

    memcpy(to, r->head, early);
    r->n_head -= early;
    memmove(r->head, r->head + early, r->n_head);
    *got = early;
    while (*got < n && more > 0) {
        if (!get_some(r, (char *)to + *got, n - *got, &more, error))
            return FALSE;
        *got += more;
    }
    return TRUE;
}

gboolean
fm__reader_peek(FmReader *r, void *to, size_t n, size_t *got, GError **error)
{
    size_t more = 1;

    g_return_val_if_fail(n <= sizeof r->head, FALSE);
    while (r->n_head < n && more > 0) {
        if (!get_some(r, r->head + r->n_head, n - r->n_head, &more, error))
            return FALSE;
        r->n_head += more;
    }
    *got = MIN(n, r->n_head);
    memcpy(to, r->head, *got);
    return TRUE;
}

/* ---- whole pieces ---- */

gboolean
fm__grow(FmGrow *g, size_t more)
{
    size_t room = MAX(g->room, 256);
    char *data;

    if (more > G_MAXSSIZE - g->size)
        return FALSE;
    if (g->size + more <= g->room)
        return TRUE;
    while (room < g->size + more)
        room = room > G_MAXSSIZE / 2 ? G_MAXSSIZE : 2 * room;
    data = fm_alloc(room);
    if (!data)
        return FALSE;
    if (g->size > 0)
        memcpy(data, g->data, g->size);
    fm_free(g->data);
    g->data = data;
    g->room = room;
    return TRUE;
}

void *
fm__reader_take(FmReader *r, size_t size, GError **error)
{
    const size_t step = r->exact ? size : MIN(size, BLOCK);
    FmGrow g = {0};

    if (size > 0 && r->most + r->n_head < size && r->most != G_MAXUINT64) {
        reader_bad(r, "is shorter than its header says", error);
        return NULL;
    }
    do {
        size_t want = MIN(size - g.size, MAX(step, g.size)), got;

        if (!fm__grow(&g, MAX(want, 1))) {
            g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "'%s': %zu bytes do not fit in memory", r->name, size);
            goto fail;
        }
        if (!fm__reader_get(r, g.data + g.size, want, &got, error))
            goto fail;
        g.size += got;
        if (got < want) {
            reader_bad(r, "is shorter than its header says", error);
            goto fail;
        }
    } while (g.size < size);
    return g.data;
fail:
    fm_free(g.data);
    return NULL;
}

gboolean
fm__reader_end(FmReader *r, GError **error)
{
    guint8 byte;
    size_t got;

    if (!fm__reader_get(r, &byte, 1, &got, error))
        return FALSE;
    return got == 0 || reader_bad(r, "is longer than its header says", error);
}
