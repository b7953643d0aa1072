/* gemm.h: own products, row-major and dense: c (m, n) = a b, or c += a b when `add`. */
#ifndef FMCORE_PLUGINS_BACKEND_GEMM_H
#define FMCORE_PLUGINS_BACKEND_GEMM_H

#include "cpu.h"

#define CPU_GEMM_SLOTS(T, s) \
    size_t (*packed_size_##s)(size_t n, size_t k); /* elements that pack() writes */ \
    void (*pack_##s)(size_t n, size_t k, const T *b, T *out); \
    void (*pack_transposed_##s)(size_t n, size_t k, const T *bt, T *out); /* from bt (n, k) */ \
    /* b (k, n) as pack() left it */ \
    void (*packed_##s)(size_t m, size_t n, size_t k, const T *a, const T *b, T *c, gboolean add); \
    /* b (k, n) as it lies; ta: a is stored (k, m) */ \
    void (*plain_##s)(gboolean ta, size_t m, size_t n, size_t k, const T *a, const T *b, T *c, gboolean add);

typedef struct CpuGemm {
    CPU_GEMM_SLOTS(float, f32)
    CPU_GEMM_SLOTS(double, f64)
} CpuGemm;

/* Of the processor's level. */
const CpuGemm *cpu_gemm_kernels(void);

#endif
