/* safetensors.h: named tensors and text metadata in one file: 8 bytes little-endian length, a JSON
 * header, the tensors' bytes. Source: https://github.com/huggingface/safetensors. */
#ifndef FMCORE_IO_SAFETENSORS_H
#define FMCORE_IO_SAFETENSORS_H

#include <fmcore/array.h>

G_BEGIN_DECLS

/* ---- reading ---- */

/* One tensor of a file; its numbers were checked against each other and against the file. */
typedef struct FmTensor {
    char *name;    /* owned by the file */
    char dtype[8]; /* "F32", "F64", "BF16", ... */
    int ndim;      /* <= FM_ARRAY_MAX_NDIM */
    size_t dim[FM_ARRAY_MAX_NDIM];
    size_t size;      /* elements */
    const char *data; /* borrowed from the file, not aligned */
    size_t bytes;
} FmTensor;

typedef struct FmTensors FmTensors;

/* Map a file. Refused: a header that does not fit the file or is no such header, names that appear
 * twice, offsets that overlap, leave holes or do not fit shape and dtype. Errors: FM_ERROR_FILE,
 * FM_ERROR_DATA. */
FmTensors *fm__tensors_open(const char *file, GError **error);
/* The same from memory, borrowed; `name` is for messages. */
FmTensors *fm__tensors_parse(const char *name, const void *bytes, size_t size, GError **error);
void fm__tensors_free(FmTensors *tensors); /* NULL allowed */

const char *fm__tensors_name(const FmTensors *tensors); /* of the file; borrowed */
size_t fm__tensors_bytes(const FmTensors *tensors);     /* of all tensors together */
size_t fm__tensors_count(const FmTensors *tensors);
const FmTensor *fm__tensors_nth(const FmTensors *tensors, size_t i);
const FmTensor *fm__tensors_find(const FmTensors *tensors, const char *name); /* NULL: none */
const char *fm__tensors_meta(const FmTensors *tensors, const char *key);      /* NULL: none */

/* All elements as `dtype` (FM_F32 or FM_F64). FALSE when they are stored as something else than F64,
 * F32, F16 or BF16. */
gboolean fm__tensor_convert(const FmTensor *tensor, FmDtype dtype, void *to);

/* ---- writing ---- */

typedef struct FmTensorWriter FmTensorWriter;

/* A file that will hold these metadata (key, value, ..., NULL). */
FmTensorWriter *fm__tensors_write(const char *const *metadata);
/* A tensor called prefix + name; data is borrowed until fm__tensors_finish(). */
void fm__tensors_add(FmTensorWriter *writer, const char *prefix, const char *name, FmDtype dtype, int ndim,
                     const size_t *dim, const void *data);
/* Replace `file` as a whole, and free the writer. Errors: FM_ERROR_FILE. */
gboolean fm__tensors_finish(FmTensorWriter *writer, const char *file, GError **error);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(FmTensors, fm__tensors_free)

G_END_DECLS
#endif
