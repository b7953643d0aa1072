/* attention.c: softmax, and self-attention by blocks of query rows.
 *
 * A block's scores S (R, T) = q k^T / sqrt(d) stay in the second-level cache: E = exp(S - max) with
 * its row sums Z gives out = E v / Z. The gradient makes E again; with P = E / Z and c = d out:
 *   dP = c v^T    D = rowsum(P dP)    dS = P (dP - D) / sqrt(d)
 *   dq = dS k     dk = dS^T q         dv = P^T c
 * Formulas: core/graph/attention.c. */
#include "cpu.h"

#include <cblas.h>
#include <fmcore/layer.h>
#include <math.h>
#include <string.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3", "no-math-errno", "no-trapping-math", "fp-contract=fast")
#define IVDEP _Pragma("GCC ivdep")
#else
#define IVDEP
#endif

#define ATTENTION_BLOCK 64 /* query rows */

/* One head of one row of the batch: where its first token lies, and from token to token. */
typedef struct Head {
    size_t tokens, d;
    size_t q, k, v, step; /* in qkv */
    size_t out, out_step; /* in (B, T, C) */
} Head;

static Head
head_of(const FmShape *qkv, const FmAttrAttention *attrs, size_t i)
{
    const size_t C = qkv->dim[1] / 3, d = C / attrs->heads;
    Head h = {.tokens = qkv->dim[0], .d = d, .step = 3 * C, .out = i * d, .out_step = C};

    h.q = attrs->split ? i * d : 3 * i * d;
    h.k = attrs->split ? C + i * d : (3 * i + 1) * d;
    h.v = attrs->split ? 2 * C + i * d : (3 * i + 2) * d;
    return h;
}

/* E and, for the gradient, dP; then row sums and c / Z. */
static size_t
attention_scratch(const FmKernelShapes *s)
{
    const Head h = head_of(s->in[0], s->attrs, 0);
    const size_t R = MIN(h.tokens, ATTENTION_BLOCK), size = sizeof(double);

    return 2 * cpu_align(R * h.tokens * size) + cpu_align(R * size) + cpu_align(R * h.d * size);
}

/* c (m, n) = alpha a b + beta c, each with its own step between rows. */
CPU_INLINE gboolean
gemm_f32(gboolean ta, gboolean tb, size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda,
         const float *b, size_t ldb, float beta, float *c, size_t ldc)
{
#ifdef HAVE_ONEDNN
    return cpu_dnnl_sgemm_steps(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
#else
    cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)k,
                alpha, a, (int)lda, b, (int)ldb, beta, c, (int)ldc);
    return TRUE;
#endif
}

CPU_INLINE gboolean
gemm_f64(gboolean ta, gboolean tb, size_t m, size_t n, size_t k, double alpha, const double *a, size_t lda,
         const double *b, size_t ldb, double beta, double *c, size_t ldc)
{
    cblas_dgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)k,
                alpha, a, (int)lda, b, (int)ldb, beta, c, (int)ldc);
    return TRUE;
}

#include "math_f32.inc"
#include "math_f64.inc"

/* e^x for x <= 0, not below e^-87: fewer operations than the general function. What is added makes the last bits of n
 * the exponent of 2^n. The rounding of log2(e) costs |x| 2^-25 of e^x: little beside 1, the largest of a row. */
CPU_INLINE float
exp_down_f32(float x)
{
    const float magic = 12582912.0f + 127.0f; /* 1.5 * 2^23 */
    float n, f, p;

    x = x < -87.0f ? -87.0f : x;
    n = x * LOG2_E + magic;
    f = x * LOG2_E - (n - magic);
    p = exp2_f32[0];
    for (int i = 1; i < 6; i++)
        p = p * f + exp2_f32[i];
    p = p * f + 1.0f;
    return p * float_of_f32(bits_f32(n) << 23);
}

#define exp_down_f64 m_exp_f64

#define NAME_OF attention
#define BODY "attention.inc"
#define KERNELS CPU_ROW(attention, attention_scratch), CPU_ROW(attention_vjp, attention_scratch), CPU_ROW(softmax, NULL)
#include "levels.inc"
