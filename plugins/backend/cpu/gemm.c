/* gemm.c: own products for the sizes of small nets, compiled for each level of instructions.
 *
 * GFLOP/s on one Sapphire Rapids core, oneDNN 2.6.3 / OpenBLAS 0.3.21 / these: 64 rows by 64 x 64
 * 172 / 205 / 221, 128 x 128 200 / 139 / 214, 256 x 256 205 / 169 / 225, 512 x 512 207 / 165 / 206;
 * gradients of weights at 64 rows 172 / 209 / 210, 186 / 141 / 222, 197 / 172 / 200, 190 / 158 / 181.
 *
 * On one Zen 3 core of 100 GFLOP/s (AVX2): 64 rows by 64 x 64 98, 128 x 128 98, 256 x 256 98, 128 rows by
 * 512 x 512 88, by 1024 x 1024 83; gradients of weights 92, 87, 89, 87 and 85. Without fetching c ahead and
 * without copies of a and b, which fall on few sets of the first cache: 83 and 77 at 512. */
#include "gemm.h"

#include <string.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3", "no-math-errno", "no-trapping-math", "fp-contract=fast")
#endif

enum {
    FAR = 256,        /* columns of c from which its rows do not wait in the first cache */
    FEW_ROWS = 4,     /* whose products with few columns run side by side */
    PACKED_ROWS = 66, /* rows of a, KC columns of which stay in the second cache for all of b */
    TALL = 384,       /* rows and columns of a gradient whose operands are copied */
    TALL_ROWS = 96,
    TALL_DEPTH = 128, /* of such a copy */
};

#define VL ((int)(BYTES / sizeof(T))) /* elements of a vector */
#ifdef FM_CPU_LEVELS
FM_BEGIN_AVX512
#define LEVEL _avx512
#define MR 6
#define KC 128 /* rows of a panel, which takes 16 or 32 KiB of the first cache */
#define NV 4
#define BYTES 64
#include "gemm_types.inc"
#undef LEVEL
#undef KC
#undef NV
#undef BYTES
FM_END_LEVEL
FM_BEGIN_AVX2
#define LEVEL _avx2
#define KC 256
#define NV 2
#define BYTES 32
#include "gemm_types.inc"
#undef LEVEL
#undef MR
#undef KC
#undef NV
#undef BYTES
FM_END_LEVEL
#endif
#define LEVEL _base
#define MR 4
#define KC 256
#define NV 2
#define BYTES 16
#include "gemm_types.inc"

const CpuGemm *
cpu_gemm_kernels(void)
{
    switch (fm_cpu_level()) {
#ifdef FM_CPU_LEVELS
    case FM_CPU_AVX512:
        return &gemm_avx512;
    case FM_CPU_AVX2:
        return &gemm_avx2;
#endif
    default:
        return &gemm_base;
    }
}
