/* gemm.c: own products for the sizes of small nets, compiled for each level of instructions.
 *
 * GFLOP/s on one Sapphire Rapids core, oneDNN 2.6.3 / OpenBLAS 0.3.21 / these: 64 rows by 64 x 64
 * 172 / 205 / 221, 128 x 128 200 / 139 / 214, 256 x 256 205 / 169 / 225, 512 x 512 207 / 165 / 206;
 * gradients of weights at 64 rows 172 / 209 / 210, 186 / 141 / 222, 197 / 172 / 200, 190 / 158 / 181. */
#include "gemm.h"

#include <string.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3", "no-math-errno", "no-trapping-math", "fp-contract=fast")
#endif

#define KC 128 /* rows of a panel: with 64 columns of float it takes 32 KiB of the first cache */

#ifdef FM_CPU_LEVELS
FM_BEGIN_AVX512
#define LEVEL _avx512
#define MR 6
#define NV 4
#define BYTES 64
#include "gemm_types.inc"
#undef LEVEL
#undef NV
#undef BYTES
FM_END_LEVEL
FM_BEGIN_AVX2
#define LEVEL _avx2
#define NV 2
#define BYTES 32
#include "gemm_types.inc"
#undef LEVEL
#undef MR
#undef NV
#undef BYTES
FM_END_LEVEL
#endif
#define LEVEL _base
#define MR 4
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
