/* zip.h: the members of a zip archive in memory, as far as .npz files need them. */
#ifndef FMCORE_IO_ZIP_H
#define FMCORE_IO_ZIP_H

#include "io/reader.h"

G_BEGIN_DECLS

/* One member; `name` owned. */
typedef struct FmZipMember {
    char *name;
    guint64 packed, size, offset; /* bytes of the data; offset of the local header */
    guint32 crc;
    guint16 method, flags;
} FmZipMember;

/* The directory of an archive, of FmZipMember. Every number was checked against `size`, the
 * archive's length. Errors: FM_ERROR_DATA. Free with g_array_unref(). */
GArray *fm__zip_list(const char *name, const guint8 *bytes, size_t size, GError **error);

/* A reader of one member (stored or deflated), its bytes borrowed. Errors: FM_ERROR_DATA. */
FmReader *fm__zip_member(const char *name, const guint8 *bytes, size_t size, const FmZipMember *member, GError **error);

/* An archive of one stored member around `content` bytes: what goes before and after them. Both
 * owned by the caller; FALSE when the content is too long for the plain format (4 GiB). */
gboolean fm__zip_wrap(const char *member, guint64 content, guint32 crc, GByteArray **before, GByteArray **after);

G_END_DECLS
#endif
