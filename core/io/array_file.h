/* array_file.h: the formats behind fm_array_load() and fm_array_save() of fmcore/io.h. */
#ifndef FMCORE_IO_ARRAY_FILE_H
#define FMCORE_IO_ARRAY_FILE_H

#include "io/atomic.h"
#include "io/reader.h"

#include <fmcore/io.h>

G_BEGIN_DECLS

/* The array that a whole .npy or text file holds. Errors: those of the reader, FM_ERROR_DATA,
 * FM_ERROR_MEMORY. */
FmArray *fm__npy_read(FmReader *reader, GError **error);
FmArray *fm__csv_read(FmReader *reader, GError **error);
/* The array of that name ("x" or "x.npy") in a .npz archive; NULL: the only one there is. */
FmArray *fm__npz_read(const char *file, const guint8 *bytes, size_t size, const char *name, GError **error);

/* What comes before the elements in a .npy file; owned by the caller. */
GString *fm__npy_header(const FmArray *array);
gboolean fm__csv_write(const FmArray *array, FmWriteFn write, void *ctx);

G_END_DECLS
#endif
