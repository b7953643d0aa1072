/* array.c: dtypes, aligned memory, dense arrays. */
#include <fmcore/array.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    size_t size;
    const char *name;
} dtypes[FM_N_DTYPES] = {
    [FM_F32] = {4, "f32"}, [FM_F64] = {8, "f64"}, [FM_I32] = {4, "i32"}, [FM_U8] = {1, "u8"}, [FM_I64] = {8, "i64"},
};

size_t
fm_dtype_size(FmDtype dtype)
{
    g_return_val_if_fail((unsigned)dtype < FM_N_DTYPES, 0);
    return dtypes[dtype].size;
}

const char *
fm_dtype_name(FmDtype dtype)
{
    g_return_val_if_fail((unsigned)dtype < FM_N_DTYPES, "");
    return dtypes[dtype].name;
}

void *
fm_alloc(size_t bytes)
{
    void *memory;

    if (bytes > G_MAXSSIZE - FM_ALIGN)
        return NULL;
    bytes = MAX((bytes + FM_ALIGN - 1) / FM_ALIGN, 1) * FM_ALIGN;
    memory = aligned_alloc(FM_ALIGN, bytes);
    return memory ? memset(memory, 0, bytes) : NULL;
}

void
fm_free(void *memory)
{
    free(memory);
}

gboolean
fm_size_mul(size_t a, size_t b, size_t size, size_t *bytes)
{
    size_t elements;

    return !__builtin_mul_overflow(a, b, &elements) && !__builtin_mul_overflow(elements, size, bytes) &&
           *bytes <= G_MAXSSIZE;
}

FmArray *
fm_array_new(FmDtype dtype, int ndim, const size_t *dim, GError **error)
{
    size_t size = 1, bytes = 0;
    gboolean fits = ndim >= 0 && ndim <= FM_ARRAY_MAX_NDIM;
    FmArray *array = g_new0(FmArray, 1);

    for (int i = 0; fits && i < ndim; i++) {
        array->dim[i] = dim[i];
        fits = fm_size_mul(size, dim[i], fm_dtype_size(dtype), &bytes);
        size *= dim[i];
    }
    array->dtype = dtype;
    array->ndim = ndim;
    array->data = fits ? fm_alloc(size * fm_dtype_size(dtype)) : NULL;
    if (!array->data) {
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY,
                    "an array of %d axes, the first of length %zu, does not fit in memory", ndim,
                    ndim > 0 ? dim[0] : 1);
        g_clear_pointer(&array, g_free);
    }
    return array;
}

void
fm_array_free(FmArray *array)
{
    if (!array)
        return;
    fm_free(array->data);
    g_free(array);
}

size_t
fm_array_size(const FmArray *array)
{
    size_t size = 1;

    for (int i = 0; i < array->ndim; i++)
        size *= array->dim[i];
    return size;
}

size_t
fm_array_rows(const FmArray *array)
{
    return array->ndim > 0 ? array->dim[0] : 1;
}

size_t
fm_array_width(const FmArray *array)
{
    size_t width = 1;

    for (int i = 1; i < array->ndim; i++)
        width *= array->dim[i];
    return width;
}

FmArray *
fm_array_convert(const FmArray *array, FmDtype dtype, GError **error)
{
    FmArray *copy = fm_array_new(dtype, array->ndim, array->dim, error);

    if (copy)
        fm_convert(array->dtype, array->data, dtype, copy->data, fm_array_size(array));
    return copy;
}

size_t
fm_array_first_nonfinite(const FmArray *array)
{
    const size_t n = fm_array_size(array);
    size_t i = 0;

    if (array->dtype == FM_F32)
        while (i < n && isfinite(((const float *)array->data)[i]))
            i++;
    else if (array->dtype == FM_F64)
        while (i < n && isfinite(((const double *)array->data)[i]))
            i++;
    else
        i = n;
    return i;
}

#define CONVERT(FROM, TO) \
    for (size_t i = 0; i < n; i++) \
    ((TO *)out)[i] = (TO)((const FROM *)in)[i]

#define CONVERT_TO_ALL(FROM) \
    switch (to) { \
    case FM_F32: \
        CONVERT(FROM, float); \
        break; \
    case FM_F64: \
        CONVERT(FROM, double); \
        break; \
    case FM_I32: \
        CONVERT(FROM, gint32); \
        break; \
    case FM_U8: \
        CONVERT(FROM, guint8); \
        break; \
    case FM_I64: \
        CONVERT(FROM, gint64); \
        break; \
    default: \
        g_return_if_reached(); \
    }

void
fm_convert(FmDtype from, const void *in, FmDtype to, void *out, size_t n)
{
    if (from == to) {
        if (n > 0)
            memcpy(out, in, n * fm_dtype_size(from));
        return;
    }
    switch (from) {
    case FM_F32:
        CONVERT_TO_ALL(float);
        break;
    case FM_F64:
        CONVERT_TO_ALL(double);
        break;
    case FM_I32:
        CONVERT_TO_ALL(gint32);
        break;
    case FM_U8:
        CONVERT_TO_ALL(guint8);
        break;
    case FM_I64:
        CONVERT_TO_ALL(gint64);
        break;
    default:
        g_return_if_reached();
    }
}
