/* array_file.h: arrays in .npy and .csv files. */
#ifndef FMCORE_IO_ARRAY_FILE_H
#define FMCORE_IO_ARRAY_FILE_H

#include <fmcore/array.h>

G_BEGIN_DECLS

/* Read .npy (f4 f8 u1 i4 i8, C order), .csv, .txt, each also with .gz; "-" is .npy on standard
 * input. Errors: FM_ERROR_FILE, FM_ERROR_DATA, FM_ERROR_MEMORY. */
FmArray *fm_array_load(const char *path, GError **error);

/* Write .npy, or .csv for ndim <= 2; "-" is .npy on standard output. Files are replaced as a
 * whole. */
gboolean fm_array_save(const FmArray *array, const char *path, GError **error);

/* The array that `size` bytes of an .npy or a .csv file hold; `name` is for messages. */
FmArray *fm_npy_parse(const char *name, const guint8 *bytes, size_t size, GError **error);
FmArray *fm_csv_parse(const char *name, const char *text, size_t size, GError **error);

G_END_DECLS
#endif
