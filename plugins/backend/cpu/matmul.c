/* matmul.c: dense products: by own kernels where b is packed once for many tiles, is multiplied by a
 * transposed matrix, or fits the second cache; else by libraries. */
#include "gemm.h"

#include <cblas.h>

enum {
    OWN_BYTES = 3 << 19,   /* of b as it lies, to be found in the second cache */
    PACK_BYTES = 64 << 20, /* of b packed: as much again for its gradient */
};

/* TRUE when a product with this b (k, n) is ours. */
static gboolean
is_own(gboolean ta, gboolean tb, size_t n, size_t k, size_t size, double alpha, double beta)
{
    return !tb && alpha == 1.0 && (beta == 0.0 || beta == 1.0) && k > 0 && (ta || k * n * size <= OWN_BYTES);
}

gboolean
cpu_gemm_f64(gboolean ta, gboolean tb, size_t m, size_t n, size_t k, double alpha, const double *a, const double *b,
             double beta, double *c)
{
    if (m == 0 || n == 0)
        return TRUE;
    if (is_own(ta, tb, n, k, sizeof *b, alpha, beta)) {
        cpu_gemm_kernels()->plain_f64(ta, m, n, k, a, b, c, beta == 1.0);
        return TRUE;
    }
    cblas_dgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)k,
                alpha, a, (int)(ta ? m : k), b, (int)(tb ? k : n), beta, c, (int)n);
    return TRUE;
}

gboolean
cpu_gemm_f32(gboolean ta, gboolean tb, size_t m, size_t n, size_t k, float alpha, const float *a, const float *b,
             float beta, float *c)
{
    if (m == 0 || n == 0)
        return TRUE;
    if (is_own(ta, tb, n, k, sizeof *b, (double)alpha, (double)beta)) {
        cpu_gemm_kernels()->plain_f32(ta, m, n, k, a, b, c, beta == 1.0f);
        return TRUE;
    }
#ifdef HAVE_ONEDNN
    return cpu_dnnl_sgemm(ta, tb, m, n, k, alpha, a, b, beta, c);
#else
    cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)k,
                alpha, a, (int)(ta ? m : k), b, (int)(tb ? k : n), beta, c, (int)n);
    return TRUE;
#endif
}

#define DEFINE_MATMUL(suffix, T) \
    static size_t matmul_pack_size_##suffix(const FmKernelShapes *shapes) \
    { \
        const size_t K = shapes->in[1]->dim[0], N = shapes->in[1]->dim[1]; \
        return K > 0 && N * K * sizeof(T) <= PACK_BYTES ? cpu_gemm_kernels()->packed_size_##suffix(N, K) * sizeof(T) \
                                                        : 0; \
    } \
    static void matmul_pack_##suffix(const FmKernelArgs *args, void *packed) \
    { \
        const FmShape *sw = args->in[1].shape; \
        cpu_gemm_kernels()->pack_##suffix(sw->dim[1], sw->dim[0], args->in[1].data, packed); \
    } \
    static void matmul_pack_transposed_##suffix(const FmKernelArgs *args, void *packed) \
    { \
        const FmShape *sw = args->in[1].shape; \
        cpu_gemm_kernels()->pack_transposed_##suffix(sw->dim[1], sw->dim[0], args->in[1].data, packed); \
    } \
    static gboolean matmul_##suffix(const FmKernelArgs *args) \
    { \
        const FmShape *sw = args->in[1].shape; \
        const size_t K = sw->dim[0], N = sw->dim[1]; \
        const size_t M = args->in[0].rows * cpu_size(args->in[0].shape) / K; \
        if (args->packed) { \
            cpu_gemm_kernels()->packed_##suffix(M, N, K, args->in[0].data, args->packed, args->out.data, FALSE); \
            return TRUE; \
        } \
        return cpu_gemm_##suffix(FALSE, FALSE, M, N, K, 1, args->in[0].data, args->in[1].data, 0, args->out.data); \
    } \
    static gboolean matmul_reduce_##suffix(const FmKernelArgs *args) \
    { \
        const size_t M = args->out.shape->dim[0], N = args->out.shape->dim[1]; \
        const size_t S = args->in[0].rows * cpu_size(args->in[0].shape) / M; \
        return cpu_gemm_##suffix(TRUE, FALSE, M, N, S, 1, args->in[0].data, args->in[1].data, \
                                 args->accumulate ? 1 : 0, args->out.data); \
    } \
    static gboolean matmul_batch_##suffix(const FmKernelArgs *args) \
    { \
        const FmAttrTrans *t = args->attrs; \
        const FmShape *sa = args->in[0].shape, *so = args->out.shape; \
        const size_t M = so->dim[so->ndim - 2], N = so->dim[so->ndim - 1]; \
        const size_t K = sa->dim[sa->ndim - (t->a ? 2 : 1)]; \
        const size_t lead = cpu_size(so) / (M * N); \
        const size_t ka = args->out.rows / args->in[0].rows, kb = args->out.rows / args->in[1].rows; \
        const T *a = args->in[0].data, *b = args->in[1].data; \
        T *y = args->out.data; \
        for (size_t r = 0; r < args->out.rows; r++) \
            for (size_t l = 0; l < lead; l++) \
                if (!cpu_gemm_##suffix(t->a, t->b, M, N, K, 1, a + (r / ka * lead + l) * M * K, \
                                       b + (r / kb * lead + l) * K * N, 0, y + (r * lead + l) * M * N)) \
                    return FALSE; \
        return TRUE; \
    }

DEFINE_MATMUL(f32, float)
DEFINE_MATMUL(f64, double)

#define ROW(op) \
    { \
#op, {.run = op##_f32 }, \
        { \
            .run = op##_f64 \
        } \
    }

const CpuEntry cpu_matmul_table[] = {
    {"matmul",
     {.run = matmul_f32,
      .pack_size = matmul_pack_size_f32,
      .pack = matmul_pack_f32,
      .pack_transposed = matmul_pack_transposed_f32},
     {.run = matmul_f64,
      .pack_size = matmul_pack_size_f64,
      .pack = matmul_pack_f64,
      .pack_transposed = matmul_pack_transposed_f64}},
    ROW(matmul_reduce),
    ROW(matmul_batch),
    {NULL},
};
