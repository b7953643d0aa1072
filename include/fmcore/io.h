/* io.h: arrays from and to files. */
#ifndef FMCORE_IO_H
#define FMCORE_IO_H

#include <fmcore/array.h>

G_BEGIN_DECLS

/* Read `file` by what it holds: .npy (version 1 to 3, C order; f4 f8 u1 i4 i8), a .npz archive
 * ("FILE.npz:NAME", or its only array), or text (numbers separated by commas, semicolons or blanks, one
 * optional line of names, '#' comments: (rows, columns) of f64); .npy and text also as .gz; "-" is
 * standard input, not for .npz. Headers are checked against the file's size before memory is
 * taken. Errors: FM_ERROR_FILE, FM_ERROR_DATA, FM_ERROR_MEMORY. The caller owns the result. */
FmArray *fm_array_load(const char *file, GError **error);

/* Write `file` as .npy, .npz (one stored array, "arr_0") or .csv by its name; "-": npy on standard
 * output. The file is replaced by a rename after a sync: it is there whole or not at all. */
gboolean fm_array_save(const FmArray *array, const char *file, GError **error);

/* Replace `file` by these bytes, atomically. */
gboolean fm_write_file(const char *file, const void *data, size_t size, GError **error);

/* The whole of a file, decompressed when it is gzip; at most `limit` bytes (0: 16 GiB), else
 * FM_ERROR_DATA. Memory grows with what really comes. Free with g_bytes_unref(). */
GBytes *fm_read_file(const char *file, size_t limit, GError **error);

/* The first n bytes of a file, decompressed when it is gzip, and in *most (when not NULL) how many
 * bytes the whole can have: what a header's claim must be checked against. FM_ERROR_DATA when the
 * file is shorter than n. */
gboolean fm_read_head(const char *file, void *head, size_t n, guint64 *most, GError **error);

G_END_DECLS
#endif
