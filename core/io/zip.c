/* zip.c: zip archives with stored and deflated members, ZIP64 sizes included, not encrypted, in one
 * part. Source: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.7 (local header), 4.3.12 (central
 * directory), 4.3.14 to 4.3.16 (its end), 4.5.3 (ZIP64 sizes). */
#include "io/zip.h"

#include <string.h>

enum {
    LOCAL = 0x04034b50,
    CENTRAL = 0x02014b50,
    END = 0x06054b50,
    END64 = 0x06064b50,
    LOCATOR64 = 0x07064b50,
    LOCAL_SIZE = 30,
    CENTRAL_SIZE = 46,
    END_SIZE = 22,
    END64_SIZE = 56,
    LOCATOR64_SIZE = 20,
    ENCRYPTED = 1
};

static guint64
zip_number(const guint8 *p, int bytes)
{
    guint64 v = 0;

    while (bytes-- > 0)
        v = v << 8 | p[bytes];
    return v;
}

static void *
zip_bad(const char *name, const char *why, GError **error)
{
    g_set_error(error, FM_ERROR, FM_ERROR_DATA, "'%s' is no sound zip archive: %s", name, why);
    return NULL;
}

static void
zip_member_clear(gpointer member)
{
    g_free(((FmZipMember *)member)->name);
}

/* The end record: the last one of its kind, before a comment of at most 65,535 bytes. */
static const guint8 *
zip_end(const guint8 *bytes, size_t size)
{
    if (size < END_SIZE)
        return NULL;
    for (size_t back = END_SIZE; back <= MIN(size, END_SIZE + 65535u); back++)
        if (zip_number(bytes + size - back, 4) == END)
            return bytes + size - back;
    return NULL;
}

/* Number, length and start of the directory's entries. */
static gboolean
zip_directory(const guint8 *bytes, size_t size, guint64 *n, guint64 *length, guint64 *start)
{
    const guint8 *end = zip_end(bytes, size);
    guint64 at;

    if (!end)
        return FALSE;
    *n = zip_number(end + 10, 2);
    *length = zip_number(end + 12, 4);
    *start = zip_number(end + 16, 4);
    if (*n == 0xffff || *length == 0xffffffff || *start == 0xffffffff) {
        if (end - bytes < LOCATOR64_SIZE || zip_number(end - LOCATOR64_SIZE, 4) != LOCATOR64)
            return FALSE;
        at = zip_number(end - LOCATOR64_SIZE + 8, 8);
        if (size < END64_SIZE || at > size - END64_SIZE || zip_number(bytes + at, 4) != END64)
            return FALSE;
        *n = zip_number(bytes + at + 32, 8);
        *length = zip_number(bytes + at + 40, 8);
        *start = zip_number(bytes + at + 48, 8);
    }
    return *start <= size && *length <= size - *start && *n <= *length / CENTRAL_SIZE;
}

/* Sizes that do not fit 32 bits stand in the extra field with id 1, in this order. */
static gboolean
zip_wide(FmZipMember *m, const guint8 *extra, size_t size)
{
    guint64 *const wide[] = {&m->size, &m->packed, &m->offset};

    if (m->size != 0xffffffff && m->packed != 0xffffffff && m->offset != 0xffffffff)
        return TRUE;
    while (size >= 4) {
        const size_t length = (size_t)zip_number(extra + 2, 2);
        size_t at = 4;

        if (length > size - 4)
            return FALSE;
        for (size_t i = 0; zip_number(extra, 2) == 1 && i < G_N_ELEMENTS(wide); i++)
            if (*wide[i] == 0xffffffff) {
                if (at + 8 > 4 + length)
                    return FALSE;
                *wide[i] = zip_number(extra + at, 8);
                at += 8;
            }
        if (at > 4)
            return TRUE;
        extra += 4 + length;
        size -= 4 + length;
    }
    return FALSE;
}

GArray *
fm__zip_list(const char *name, const guint8 *bytes, size_t size, GError **error)
{
    g_autoptr(GArray) list = g_array_new(FALSE, TRUE, sizeof(FmZipMember));
    guint64 n, length, start;
    const guint8 *p;

    g_array_set_clear_func(list, zip_member_clear);
    if (!zip_directory(bytes, size, &n, &length, &start))
        return zip_bad(name, "its directory is missing or does not fit the file", error);
    p = bytes + start;
    for (guint64 i = 0; i < n; i++) {
        FmZipMember m = {0};
        size_t name_size, extra, all;

        if (length < CENTRAL_SIZE || zip_number(p, 4) != CENTRAL)
            return zip_bad(name, "an entry of its directory is damaged", error);
        name_size = (size_t)zip_number(p + 28, 2);
        extra = (size_t)zip_number(p + 30, 2);
        all = CENTRAL_SIZE + name_size + extra + (size_t)zip_number(p + 32, 2);
        if (all > length)
            return zip_bad(name, "an entry of its directory is cut short", error);
        m = (FmZipMember){.flags = (guint16)zip_number(p + 8, 2),
                          .method = (guint16)zip_number(p + 10, 2),
                          .crc = (guint32)zip_number(p + 16, 4),
                          .packed = zip_number(p + 20, 4),
                          .size = zip_number(p + 24, 4),
                          .offset = zip_number(p + 42, 4)};
        if (!zip_wide(&m, p + CENTRAL_SIZE + name_size, extra))
            return zip_bad(name, "the size of a member is missing", error);
        m.name = g_strndup((const char *)p + CENTRAL_SIZE, name_size);
        g_array_append_val(list, m);
        p += all;
        length -= all;
    }
    return g_steal_pointer(&list);
}

FmReader *
fm__zip_member(const char *name, const guint8 *bytes, size_t size, const FmZipMember *m, GError **error)
{
    g_autofree char *who = g_strdup_printf("%s:%s", name, m->name);
    const guint8 *local;
    guint64 at;

    if (size < LOCAL_SIZE || m->offset > size - LOCAL_SIZE)
        return zip_bad(who, "it begins behind the end of the file", error);
    local = bytes + m->offset;
    at = m->offset + LOCAL_SIZE + zip_number(local + 26, 2) + zip_number(local + 28, 2);
    if (zip_number(local, 4) != LOCAL || at > size || m->packed > size - at)
        return zip_bad(who, "it does not fit the file", error);
    if (m->flags & ENCRYPTED)
        return zip_bad(who, "it is encrypted", error);
    if (m->method == 0 && m->packed == m->size)
        return fm__reader_memory(who, bytes + at, (size_t)m->size);
    if (m->method == 8 && m->packed <= G_MAXUINT)
        return fm__reader_deflate(who, bytes + at, (size_t)m->packed, m->size, m->crc);
    return zip_bad(who, "it is neither stored nor deflated", error);
}

/* ---- writing ---- */

static void
zip_put(GByteArray *out, guint64 v, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        const guint8 byte = (guint8)(v >> (8 * i));

        g_byte_array_append(out, &byte, 1);
    }
}

/* What local header and directory have in common: from "version needed" to the lengths. */
static void
zip_put_facts(GByteArray *out, guint32 crc, guint64 size, size_t name_size)
{
    zip_put(out, 20, 2);   /* version needed */
    zip_put(out, 0, 2);    /* flags */
    zip_put(out, 0, 2);    /* stored */
    zip_put(out, 0, 2);    /* time */
    zip_put(out, 0x21, 2); /* 1980-01-01: the same bytes whenever it is written */
    zip_put(out, crc, 4);
    zip_put(out, size, 4);
    zip_put(out, size, 4);
    zip_put(out, name_size, 2);
    zip_put(out, 0, 2); /* no extra field */
}

gboolean
fm__zip_wrap(const char *member, guint64 content, guint32 crc, GByteArray **before, GByteArray **after)
{
    const size_t name_size = strlen(member);
    const guint64 directory = LOCAL_SIZE + name_size + content;

    if (directory > 0xfffffff0)
        return FALSE;
    *before = g_byte_array_new();
    zip_put(*before, LOCAL, 4);
    zip_put_facts(*before, crc, content, name_size);
    g_byte_array_append(*before, (const guint8 *)member, (guint)name_size);
    *after = g_byte_array_new();
    zip_put(*after, CENTRAL, 4);
    zip_put(*after, 20, 2); /* version made by */
    zip_put_facts(*after, crc, content, name_size);
    zip_put(*after, 0, 2 + 2 + 2); /* comment, part, inner attributes */
    zip_put(*after, 0, 4 + 4);     /* outer attributes, offset of the local header */
    g_byte_array_append(*after, (const guint8 *)member, (guint)name_size);
    zip_put(*after, END, 4);
    zip_put(*after, 0, 4); /* part numbers */
    zip_put(*after, 1, 2);
    zip_put(*after, 1, 2);
    zip_put(*after, CENTRAL_SIZE + name_size, 4);
    zip_put(*after, directory, 4);
    zip_put(*after, 0, 2);
    return TRUE;
}
