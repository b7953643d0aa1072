/* cpu.h: what the files of the cpu backend share.
 *
 * Every kernel runs in the calling thread alone; functions that need memory get it as scratch. */
#ifndef FMCORE_PLUGINS_BACKEND_CPU_H
#define FMCORE_PLUGINS_BACKEND_CPU_H

#include "config.h"

#include <fmcore/backend.h>
#include <fmcore/cpu.h>

#define CPU_INLINE static inline __attribute__((always_inline))

/* Three words as one, after macros in them are replaced: what a file compiled more than once calls its functions. */
#define JOIN_(a, b, c) a##b##c
#define JOIN(a, b, c) JOIN_(a, b, c)

/* Operations of one file: name and kernels; a NULL run means none for that type. */
typedef struct CpuEntry {
    const char *op; /* NULL closes the table */
    FmKernel f32, f64;
} CpuEntry;

/* A row of the kernels of one LEVEL that levels.inc compiles; scratch: NULL or a function. */
/* clang-format off */
#define CPU_ROW(op, room) \
    {#op, {.run = JOIN(op, _f32, LEVEL), .scratch = room}, {.run = JOIN(op, _f64, LEVEL), .scratch = room}}
/* clang-format on */

extern const CpuEntry cpu_matmul_table[], cpu_conv_table[];

/* Float convolutions: Winograd's where it fits, else oneDNN's, else by columns. */
extern const FmKernel cpu_wino_conv2d, cpu_wino_conv2d_input, cpu_wino_conv2d_weight;
extern const FmKernel cpu_im2col_conv2d, cpu_im2col_conv2d_input, cpu_im2col_conv2d_weight;

/* Of the processor's level. */
const CpuEntry *cpu_eltwise_table(void);
const CpuEntry *cpu_reduce_table(void);
const CpuEntry *cpu_move_table(void);
const CpuEntry *cpu_norm_table(void);
const CpuEntry *cpu_attention_table(void);

#ifdef HAVE_ONEDNN
extern const FmKernel cpu_dnnl_conv2d, cpu_dnnl_conv2d_input, cpu_dnnl_conv2d_weight;
const char *cpu_dnnl_version(void); /* "oneDNN 2.6.3" */
gboolean cpu_dnnl_sgemm_steps(gboolean ta, gboolean tb, size_t m, size_t n, size_t k, float alpha, const float *a,
                              size_t lda, const float *b, size_t ldb, float beta, float *c,
                              size_t ldc); /* rows that are not next to each other */
gboolean cpu_dnnl_sgemm(gboolean ta, gboolean tb, size_t m, size_t n, size_t k, float alpha, const float *a,
                        const float *b, float beta, float *c);
#endif

/* c (m, n) = alpha a b + beta c, row-major and dense; ta: a is stored (k, m); tb: b is (n, k).
 * beta = 0 overwrites c whatever it held. FALSE when the library fails. */
gboolean cpu_gemm_f32(gboolean ta, gboolean tb, size_t m, size_t n, size_t k, float alpha, const float *a,
                      const float *b, float beta, float *c);
gboolean cpu_gemm_f64(gboolean ta, gboolean tb, size_t m, size_t n, size_t k, double alpha, const double *a,
                      const double *b, double beta, double *c);

/* Rows of `shape` in a tile of n batch rows. */
CPU_INLINE size_t
cpu_rows(const FmShape *shape, size_t n)
{
    return shape->rows == 0 ? 1 : shape->rows * n;
}

/* Elements of one row of a view: the product of the axes, without K. */
CPU_INLINE size_t
cpu_size(const FmShape *shape)
{
    size_t size = 1;

    for (int i = 0; i < shape->ndim; i++)
        size *= shape->dim[i];
    return size;
}

CPU_INLINE size_t
cpu_align(size_t bytes)
{
    return (bytes + FM_ALIGN - 1) / FM_ALIGN * FM_ALIGN;
}

#endif
