/* random.c: Philox 4x32-10 and what is made from it.
 * Salmon, Moraes, Dror & Shaw 2011, doi:10.1145/2063384.2063405. */
#include <fmcore/cpu.h>
#include <fmcore/random.h>

#include <math.h>
#include <string.h>
#ifdef FM_CPU_LEVELS
#include <immintrin.h>
#endif

FM_FAST_FILE /* and no contraction: every level gives the same bits */

#define M0 0xD2511F53u
#define M1 0xCD9E8D57u
#define W0 0x9E3779B9u
#define W1 0xBB67AE85u

    FM_INLINE void
    round_once(guint32 c[4], guint32 k0, guint32 k1)
{
    const guint64 p0 = (guint64)M0 * c[0], p1 = (guint64)M1 * c[2];
    const guint32 c1 = c[1], c3 = c[3];

    c[0] = (guint32)(p1 >> 32) ^ c1 ^ k0;
    c[1] = (guint32)p1;
    c[2] = (guint32)(p0 >> 32) ^ c3 ^ k1;
    c[3] = (guint32)p0;
}

void
fm_philox(const guint32 counter[4], const guint32 key[2], guint32 out[4])
{
    guint32 c[4] = {counter[0], counter[1], counter[2], counter[3]};
    guint32 k0 = key[0], k1 = key[1];

    for (int r = 0; r < 10; r++, k0 += W0, k1 += W1)
        round_once(c, k0, k1);
    memcpy(out, c, sizeof c);
}

/* ---- one row ---- */

FmRng
fm_rng(FmKey key, guint64 row)
{
    return (FmRng){
        .key = {(guint32)key.seed, (guint32)(key.seed >> 32)},
        .counter = {0, (guint32)row, (guint32)key.step, key.stream << 16 | ((guint32)(key.step >> 32) & 0xffffu)},
        .used = 4};
}

guint32
fm_rng_u32(FmRng *rng)
{
    if (rng->used == 4) {
        fm_philox(rng->counter, rng->key, rng->out);
        rng->counter[0]++;
        rng->used = 0;
    }
    return rng->out[rng->used++];
}

FM_INLINE double
unit53(guint32 hi, guint32 lo)
{
    return (double)(((guint64)hi << 32 | lo) >> 11) * 0x1p-53;
}

double
fm_rng_uniform(FmRng *rng)
{
    const guint32 hi = fm_rng_u32(rng);

    return unit53(hi, fm_rng_u32(rng));
}

double
fm_rng_normal(FmRng *rng)
{
    const double u = 1.0 - fm_rng_uniform(rng); /* (0, 1] */
    const double v = fm_rng_uniform(rng);

    return sqrt(-2.0 * log(u)) * cos(2.0 * G_PI * v);
}

guint32
fm_rng_below(FmRng *rng, guint32 n)
{
    guint64 m;

    g_return_val_if_fail(n > 0, 0);
    /* Lemire 2019, doi:10.1145/3230636. */
    m = (guint64)fm_rng_u32(rng) * n;
    if ((guint32)m < n) {
        const guint32 threshold = -n % n;

        while ((guint32)m < threshold)
            m = (guint64)fm_rng_u32(rng) * n;
    }
    return (guint32)(m >> 32);
}

/* ---- many rows: words in a block of BLOCK counters, then a transformation ---- */

#define BLOCK 64 /* Philox calls at a time: 4 * BLOCK words */

/* The words of n counters of the flat sequence of (row, block in row), from block `at` of row `row` on. */
FM_INLINE void
philox_words_any(FmKey key, guint64 row, size_t blocks, size_t at, size_t n, guint32 *restrict w)
{
    guint32 c0[BLOCK], c1[BLOCK], c2[BLOCK], c3[BLOCK];
    guint32 k0 = (guint32)key.seed, k1 = (guint32)(key.seed >> 32);
    const guint32 hi = key.stream << 16 | ((guint32)(key.step >> 32) & 0xffffu);

    for (size_t i = 0; i < n; i++) {
        c0[i] = (guint32)at;
        c1[i] = (guint32)row;
        c2[i] = (guint32)key.step;
        c3[i] = hi;
        if (++at == blocks) {
            at = 0;
            row++;
        }
    }
    for (size_t i = n; i < BLOCK; i++)
        c0[i] = c1[i] = c2[i] = c3[i] = 0;
    for (int r = 0; r < 10; r++, k0 += W0, k1 += W1)
        for (size_t i = 0; i < BLOCK; i++) {
            const guint64 p0 = (guint64)M0 * c0[i], p1 = (guint64)M1 * c2[i];

            c0[i] = (guint32)(p1 >> 32) ^ c1[i] ^ k0;
            c1[i] = (guint32)p1;
            c2[i] = (guint32)(p0 >> 32) ^ c3[i] ^ k1;
            c3[i] = (guint32)p0;
        }
    for (size_t i = 0; i < BLOCK; i++) {
        w[4 * i] = c0[i];
        w[4 * i + 1] = c1[i];
        w[4 * i + 2] = c2[i];
        w[4 * i + 3] = c3[i];
    }
}

#ifdef FM_CPU_LEVELS
FM_BEGIN_AVX2
#include "tensor/philox_avx2.inc"
FM_END_LEVEL
#endif

#define PHILOX_PARAMS (FmKey key, guint64 row, size_t blocks, size_t at, size_t n, guint32 *restrict w)
#define PHILOX_ARGS (key, row, blocks, at, n, w)
FM_CPU_AT_AVX512(philox_words, PHILOX_PARAMS, PHILOX_ARGS)
FM_CPU_AT_BASE(philox_words, PHILOX_PARAMS, PHILOX_ARGS)
FM_CPU_DISPATCH(philox_words, PHILOX_PARAMS, PHILOX_ARGS)

/* log of u in (0, 1], relative error about 1e-7: exponent and an odd series of (m-1)/(m+1). */
FM_INLINE float
log_unit(float u)
{
    gint32 bits;
    float m, s, s2;

    memcpy(&bits, &u, 4);
    const gint32 e = (bits - 0x3f3504f3) >> 23;

    bits -= e * (1 << 23);
    memcpy(&m, &bits, 4);
    s = (m - 1.0f) / (m + 1.0f);
    s2 = s * s;
    return (float)e * 0.69314718056f +
           2.0f * s * (1.0f + s2 * (0.33333333f + s2 * (0.2f + s2 * (0.14285714f + s2 * 0.11111111f))));
}

/* sin and cos of 2 pi v for v in [0, 1): quadrant and Taylor series, error below 3e-7. */
FM_INLINE void
sincos_turn(float v, float *s, float *c)
{
    const float q = floorf(4.0f * v + 0.5f);
    const float x = (v - 0.25f * q) * 6.2831853072f; /* [-pi/4, pi/4] */
    const float x2 = x * x;
    const float sn = x * (1.0f + x2 * (-1.0f / 6 + x2 * (1.0f / 120 + x2 * (-1.0f / 5040 + x2 * (1.0f / 362880)))));
    const float cs = 1.0f + x2 * (-0.5f + x2 * (1.0f / 24 + x2 * (-1.0f / 720 + x2 * (1.0f / 40320))));
    const gint32 k = (gint32)q & 3;
    const float a = k & 1 ? cs : sn, b = k & 1 ? sn : cs;

    *s = k & 2 ? -a : a;
    *c = (k == 1 || k == 2) ? -b : b;
}

FM_INLINE void
words_to_normals_f32_any(const guint32 *restrict w, float *restrict z)
{
    for (size_t i = 0; i < 2 * BLOCK; i++) {
        const float u = ((float)(w[2 * i] >> 8) + 1.0f) * 0x1p-24f;
        const float v = (float)(w[2 * i + 1] >> 8) * 0x1p-24f;
        const float r = sqrtf(-2.0f * log_unit(u));
        float s, c;

        sincos_turn(v, &s, &c);
        z[2 * i] = r * c;
        z[2 * i + 1] = r * s;
    }
}
FM_CPU_VARIANTS(words_to_normals_f32, (const guint32 *restrict w, float *restrict z), (w, z))

FM_INLINE void
words_to_uniforms_f32_any(const guint32 *restrict w, float *restrict z)
{
    for (size_t i = 0; i < 4 * BLOCK; i++)
        z[i] = (float)(w[i] >> 8) * 0x1p-24f;
}
FM_CPU_VARIANTS(words_to_uniforms_f32, (const guint32 *restrict w, float *restrict z), (w, z))

FM_INLINE void
words_to_signs_f32_any(const guint32 *restrict w, float *restrict z)
{
    for (size_t i = 0; i < 4 * BLOCK; i++)
        z[i] = w[i] >> 31 ? 1.0f : -1.0f;
}
FM_CPU_VARIANTS(words_to_signs_f32, (const guint32 *restrict w, float *restrict z), (w, z))

/* Two words make one double. */
FM_INLINE void
words_to_uniforms_f64_any(const guint32 *restrict w, double *restrict z)
{
    for (size_t i = 0; i < 2 * BLOCK; i++)
        z[i] = unit53(w[2 * i], w[2 * i + 1]);
}
FM_CPU_VARIANTS(words_to_uniforms_f64, (const guint32 *restrict w, double *restrict z), (w, z))

/* As log_unit(), to 4 units in the last place. */
FM_INLINE double
log_unit_f64(double u)
{
    gint64 bits;
    double m, s, s2, sum = 1.0 / 23;

    memcpy(&bits, &u, 8);
    const gint64 e = (bits - G_GINT64_CONSTANT(0x3fe6a09e667f3bcd)) >> 52;

    bits -= e * (G_GINT64_CONSTANT(1) << 52);
    memcpy(&m, &bits, 8);
    s = (m - 1.0) / (m + 1.0);
    s2 = s * s;
    sum = sum * s2 + 1.0 / 21;
    sum = sum * s2 + 1.0 / 19;
    sum = sum * s2 + 1.0 / 17;
    sum = sum * s2 + 1.0 / 15;
    sum = sum * s2 + 1.0 / 13;
    sum = sum * s2 + 1.0 / 11;
    sum = sum * s2 + 1.0 / 9;
    sum = sum * s2 + 1.0 / 7;
    sum = sum * s2 + 1.0 / 5;
    sum = sum * s2 + 1.0 / 3;
    return (double)(gint32)e * G_LN2 + 2.0 * (s + s * s2 * sum);
}

/* As sincos_turn(), error below 3e-16. */
FM_INLINE void
sincos_turn_f64(double v, double *s, double *c)
{
    const gint32 q = (gint32)(4.0 * v + 0.5); /* 0 to 4: v >= 0 */
    const double x = (v - 0.25 * q) * (2.0 * G_PI), x2 = x * x;
    double sn = -1.0 / 1307674368000.0, cs = 1.0 / 20922789888000.0;

    sn = sn * x2 + 1.0 / 6227020800.0;
    sn = sn * x2 - 1.0 / 39916800.0;
    sn = sn * x2 + 1.0 / 362880.0;
    sn = sn * x2 - 1.0 / 5040.0;
    sn = sn * x2 + 1.0 / 120.0;
    sn = sn * x2 - 1.0 / 6.0;
    sn = x + x * x2 * sn;
    cs = cs * x2 - 1.0 / 87178291200.0;
    cs = cs * x2 + 1.0 / 479001600.0;
    cs = cs * x2 - 1.0 / 3628800.0;
    cs = cs * x2 + 1.0 / 40320.0;
    cs = cs * x2 - 1.0 / 720.0;
    cs = cs * x2 + 1.0 / 24.0;
    cs = 1.0 - 0.5 * x2 + x2 * x2 * cs;
    const gint32 k = q & 3;
    const double a = k & 1 ? cs : sn, b = k & 1 ? sn : cs;

    *s = k & 2 ? -a : a;
    *c = (k == 1 || k == 2) ? -b : b;
}

FM_INLINE void
words_to_normals_f64_any(const guint32 *restrict w, double *restrict z)
{
    for (size_t i = 0; i < BLOCK; i++) {
        const double u = 1.0 - unit53(w[4 * i], w[4 * i + 1]);
        const double r = sqrt(-2.0 * log_unit_f64(u));
        double s, c;

        sincos_turn_f64(unit53(w[4 * i + 2], w[4 * i + 3]), &s, &c);
        z[2 * i] = r * c;
        z[2 * i + 1] = r * s;
    }
}
FM_CPU_VARIANTS(words_to_normals_f64, (const guint32 *restrict w, double *restrict z), (w, z))

FM_INLINE void
uniforms_to_normals_any(size_t n, const double *restrict u, const double *restrict v, double *restrict z)
{
    for (size_t i = 0; i < n; i++) {
        double s, c;

        sincos_turn_f64(v[i], &s, &c);
        z[i] = sqrt(-2.0 * log_unit_f64(1.0 - u[i])) * c;
    }
}
FM_CPU_VARIANTS(uniforms_to_normals, (size_t n, const double *restrict u, const double *restrict v, double *restrict z),
                (n, u, v, z))

void
fm_uniforms_to_normals(size_t n, const double *u, const double *v, double *z)
{
    uniforms_to_normals(n, u, v, z);
}

FM_INLINE void
circle_points_any(size_t n, const double *restrict v, double *restrict c, double *restrict s)
{
    for (size_t i = 0; i < n; i++)
        sincos_turn_f64(v[i], &s[i], &c[i]);
}
FM_CPU_VARIANTS(circle_points, (size_t n, const double *restrict v, double *restrict c, double *restrict s),
                (n, v, c, s))

void
fm_circle_points(size_t n, const double *v, double *c, double *s)
{
    circle_points(n, v, c, s);
}

FM_INLINE void
words_to_signs_f64_any(const guint32 *restrict w, double *restrict z)
{
    for (size_t i = 0; i < 4 * BLOCK; i++)
        z[i] = w[i] >> 31 ? 1.0 : -1.0;
}
FM_CPU_VARIANTS(words_to_signs_f64, (const guint32 *restrict w, double *restrict z), (w, z))

/* Walk over rows: PER values come from one Philox call; each row starts a call of its own. Where rows end
 * is counted: two divisions a call took a third of philox_words(). Rows of whole calls follow without gaps. */
#define FILL(NAME, T, PER, TRANSFORM) \
    void NAME(FmKey key, guint64 row0, size_t n, size_t d, T *out) \
    { \
        const size_t blocks = (d + (PER)-1) / (PER), total = n * blocks; \
        guint32 w[4 * BLOCK]; \
        T z[(PER)*BLOCK]; \
        guint64 row = row0; \
        size_t at = 0; /* of the row's blocks */ \
\
        for (size_t first = 0; first < total; first += BLOCK) { \
            const size_t m = MIN((size_t)BLOCK, total - first); \
\
            philox_words(key, row, blocks, at, m, w); \
            if (m == BLOCK && d % (PER) == 0) { \
                TRANSFORM(w, out); \
                out += (PER)*BLOCK; \
                row += (at + BLOCK) / blocks; \
                at = (at + BLOCK) % blocks; \
                continue; \
            } \
            TRANSFORM(w, z); \
            for (size_t i = 0; i < m; i++) { \
                const size_t k = MIN((size_t)(PER), d - at * (PER)); \
\
                for (size_t j = 0; j < k; j++) \
                    *out++ = z[i * (PER) + j]; \
                if (++at == blocks) { \
                    at = 0; \
                    row++; \
                } \
            } \
        } \
    }

FILL(fm_fill_normal_f32, float, 4, words_to_normals_f32)
FILL(fm_fill_uniform_f32, float, 4, words_to_uniforms_f32)
FILL(fm_fill_rademacher_f32, float, 4, words_to_signs_f32)
FILL(fm_fill_normal_f64, double, 2, words_to_normals_f64)
FILL(fm_fill_uniform_f64, double, 2, words_to_uniforms_f64)
FILL(fm_fill_rademacher_f64, double, 4, words_to_signs_f64)

/* ---- permutations ---- */

/* A balanced Feistel network on 2 * half bits, four rounds of Philox; cycle-walking keeps results
 * below n (Black & Rogaway 2002, doi:10.1007/3-540-45760-7_9). */
guint64
fm_permute_index(FmKey key, guint64 n, guint64 i)
{
    const guint32 k[2] = {(guint32)key.seed, (guint32)(key.seed >> 32)};
    int half = 1;
    guint64 mask;

    g_return_val_if_fail(n > 0 && i < n, 0);
    while (half < 32 && n > G_GUINT64_CONSTANT(1) << (2 * half))
        half++;
    mask = (G_GUINT64_CONSTANT(1) << half) - 1;
    do {
        guint64 left = i >> half, right = i & mask;

        for (guint32 r = 0; r < 4; r++) {
            const guint32 c[4] = {r, (guint32)right, (guint32)key.step,
                                  key.stream << 16 | ((guint32)(key.step >> 32) & 0xffffu)};
            guint32 f[4];
            const guint64 old = right;

            fm_philox(c, k, f);
            right = left ^ (f[0] & mask);
            left = old;
        }
        i = left << half | right;
    } while (i >= n);
    return i;
}
