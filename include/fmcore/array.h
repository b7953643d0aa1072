/* array.h: dtypes, aligned memory and the dense row-major array that commands pass around. */
#ifndef FMCORE_ARRAY_H
#define FMCORE_ARRAY_H

#include <fmcore/error.h>
#include <stddef.h>

G_BEGIN_DECLS

#define FM_ALIGN 64 /* bytes; every buffer of the library starts at a multiple */

typedef enum FmDtype {
    FM_F32,
    FM_F64,
    FM_I32,
    FM_U8,  /* files only */
    FM_I64, /* files only */
    FM_N_DTYPES
} FmDtype;

size_t fm_dtype_size(FmDtype dtype);      /* bytes of one element */
const char *fm_dtype_name(FmDtype dtype); /* "f32", "f64", "i32", "u8", "i64" */

/* Zeroed memory aligned to FM_ALIGN, or NULL when `bytes` cannot be had (never aborts). Free
 * with fm_free(). 0 bytes gives a valid pointer. */
void *fm_alloc(size_t bytes);
void fm_free(void *memory); /* NULL allowed */

/* a * b * size, or FALSE when it does not fit a size_t. */
gboolean fm_size_mul(size_t a, size_t b, size_t size, size_t *bytes);

#define FM_ARRAY_MAX_NDIM 8

/* A dense row-major array that owns its data. The batch is the first axis. */
typedef struct FmArray {
    FmDtype dtype;
    int ndim; /* 0 .. FM_ARRAY_MAX_NDIM */
    size_t dim[FM_ARRAY_MAX_NDIM];
    void *data; /* owned, FM_ALIGN aligned */
} FmArray;

/* A zeroed array. Errors: FM_ERROR_MEMORY (also when the size overflows). */
FmArray *fm_array_new(FmDtype dtype, int ndim, const size_t *dim, GError **error);
void fm_array_free(FmArray *array); /* NULL allowed */

size_t fm_array_size(const FmArray *array);  /* number of elements */
size_t fm_array_rows(const FmArray *array);  /* dim[0]; 1 for ndim = 0 */
size_t fm_array_width(const FmArray *array); /* elements of one row; 1 for ndim <= 1 */

/* A converted copy (FM_F32, FM_F64 or FM_I32 wanted). Errors: FM_ERROR_MEMORY. */
FmArray *fm_array_convert(const FmArray *array, FmDtype dtype, GError **error);

/* The index of the first element that is not finite, or the array's size when all are. */
size_t fm_array_first_nonfinite(const FmArray *array);

/* Convert n elements between FM_F32, FM_F64, FM_I32, FM_U8 and FM_I64; no overlap. */
void fm_convert(FmDtype from, const void *in, FmDtype to, void *out, size_t n);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(FmArray, fm_array_free)

G_END_DECLS
#endif
