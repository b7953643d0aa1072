/* io.h: arrays from and to files. */
#ifndef FMCORE_IO_H
#define FMCORE_IO_H

#include <fmcore/array.h>

G_BEGIN_DECLS

/* Read `file` by its name: .npy (version 1 or 2, C order; f4 f8 u1 i4 i8), .csv or .txt (numbers
 * separated by commas, semicolons or blanks, one optional header line, '#' comments), each also with
 * .gz; "-" is npy on standard input. The header is checked against the file's size before memory is
 * taken. Errors: FM_ERROR_FILE, FM_ERROR_DATA, FM_ERROR_MEMORY. The caller owns the result. */
FmArray *fm_array_load(const char *file, GError **error);

/* Write `file` as .npy or .csv by its name ("-": npy on standard output). The file is replaced by a
 * rename after a sync: it is there whole or not at all. */
gboolean fm_array_save(const FmArray *array, const char *file, GError **error);

/* Replace `file` by these bytes, atomically. */
gboolean fm_write_file(const char *file, const void *data, size_t size, GError **error);

/* The whole of a file, decompressed when it is gzip; at most `limit` bytes (0: 16 GiB), else
 * FM_ERROR_DATA. Free with g_bytes_unref(). */
GBytes *fm_read_file(const char *file, size_t limit, GError **error);

G_END_DECLS
#endif
