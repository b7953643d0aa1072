/* reader.h: the bytes of a file in order, inflated where it is compressed. A reader knows how many
 * bytes can come at most, so that a header's claim is checked before memory is taken for it. */
#ifndef FMCORE_IO_READER_H
#define FMCORE_IO_READER_H

#include <fmcore/array.h>

G_BEGIN_DECLS

typedef struct FmReader FmReader;

/* A file, gzip or plain; "-" is standard input. Errors: FM_ERROR_FILE. */
FmReader *fm__reader_open(const char *file, GError **error);
/* Bytes in memory, borrowed; `name` is for messages. */
FmReader *fm__reader_memory(const char *name, const void *bytes, size_t size);
/* A raw deflate stream in memory, borrowed, that yields exactly `size` bytes with this CRC-32. */
FmReader *fm__reader_deflate(const char *name, const void *bytes, size_t packed, guint64 size, guint32 crc);
void fm__reader_free(FmReader *reader); /* NULL allowed */

const char *fm__reader_name(const FmReader *reader);
/* The most bytes that can still come: exact for plain files, what compression allows for gzip,
 * G_MAXUINT64 for pipes. */
guint64 fm__reader_most(const FmReader *reader);
gboolean fm__reader_exact(const FmReader *reader); /* fm__reader_most() is the exact number */

/* Up to n bytes; fewer only at the end. Errors: FM_ERROR_FILE, FM_ERROR_DATA (damaged). */
gboolean fm__reader_get(FmReader *reader, void *to, size_t n, size_t *got, GError **error);
/* The next n <= 8 bytes, which stay: fewer only at the end. */
gboolean fm__reader_peek(FmReader *reader, void *to, size_t n, size_t *got, GError **error);

/* Exactly `size` bytes (`who` names what is missing when fewer come), aligned and owned: memory
 * grows with what really arrives unless the reader is exact. Errors also FM_ERROR_MEMORY. */
void *fm__reader_take(FmReader *reader, size_t size, GError **error);
/* FALSE with FM_ERROR_DATA when bytes are left. */
gboolean fm__reader_end(FmReader *reader, GError **error);

/* Aligned memory that grows; `data` is for fm_free(). */
typedef struct FmGrow {
    char *data;
    size_t size, room;
} FmGrow;
gboolean fm__grow(FmGrow *grow, size_t more); /* FALSE: no memory; what is there stays */

G_DEFINE_AUTOPTR_CLEANUP_FUNC(FmReader, fm__reader_free)

G_END_DECLS
#endif
