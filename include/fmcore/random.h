/* random.h: the one source of randomness, a counter-based generator.
 *
 * Philox 4x32-10 (Salmon et al. 2011, doi:10.1145/2063384.2063405). The numbers of
 * (seed, stream, step, row) do not depend on threads, tiles, lanes or resumption: counter =
 * (block, row, step, stream), key = seed. Nothing here has hidden state; all is thread-safe. */
#ifndef FMCORE_RANDOM_H
#define FMCORE_RANDOM_H

#include <glib.h>
#include <stddef.h>

G_BEGIN_DECLS

/* Streams in use by the core. Plugins draw from the key they are handed. */
typedef enum FmStream {
    FM_STREAM_INIT,   /* initial weights */
    FM_STREAM_SPLIT,  /* train / valid / test */
    FM_STREAM_ORDER,  /* order of finite data */
    FM_STREAM_DATA,   /* infinite data, dequantisation, flips */
    FM_STREAM_SOURCE, /* x0 */
    FM_STREAM_TIME,   /* t */
    FM_STREAM_NOISE,  /* z of stochastic paths, dropout */
    FM_STREAM_COUPLING,
    FM_STREAM_PROBE,    /* Hutchinson probes */
    FM_STREAM_SAMPLE,   /* x0 of generated samples */
    FM_STREAM_EVAL,     /* evaluation data, estimators */
    FM_STREAM_USER = 64 /* tests and embedding programs: this and above, below 2^16 */
} FmStream;

/* Names a family of numbers: one independent sequence per row. */
typedef struct FmKey {
    guint64 seed;
    guint32 stream; /* FmStream, below 2^16 */
    guint64 step;   /* below 2^48 */
} FmKey;

/* A sequential reader of one row's numbers; a plain value, copy it freely. */
typedef struct FmRng {
    guint32 key[2];
    guint32 counter[4];
    guint32 out[4];
    int used; /* words of out[] already handed out */
} FmRng;

/* One block of Philox 4x32-10. in, out may be the same array. */
void fm_philox(const guint32 counter[4], const guint32 key[2], guint32 out[4]);

/* A reader at the beginning of row `row` (below 2^32). */
FmRng fm_rng(FmKey key, guint64 row);

guint32 fm_rng_u32(FmRng *rng);    /* 32 random bits */
double fm_rng_uniform(FmRng *rng); /* [0, 1), 53 bits */
/* z (n): what fm_rng_normal() makes of the uniforms u[i] and v[i] in [0, 1), many at a time and to
 * rounding (4e-16 relative to the largest factor). z must not overlap them. */
void fm_uniforms_to_normals(size_t n, const double *u, const double *v, double *z);
/* c (n), s (n): cos and sin of 2 pi v[i], v[i] in [0, 1), to 3e-16; neither may overlap v. */
void fm_circle_points(size_t n, const double *v, double *c, double *s);
double fm_rng_normal(FmRng *rng);            /* N(0, 1), Box-Muller, 53-bit uniforms; two u64 a call */
guint32 fm_rng_below(FmRng *rng, guint32 n); /* 0 .. n-1 without bias; n >= 1 */

/* Fill out (n, d) with the numbers of rows row0 .. row0 + n - 1. The float variants use 24-bit
 * uniforms (open at 0 for the normals) and are vectorised; each row depends on (key, row) and d
 * position only. Rademacher values are -1 and +1. */
void fm_fill_normal_f32(FmKey key, guint64 row0, size_t n, size_t d, float *out);
void fm_fill_normal_f64(FmKey key, guint64 row0, size_t n, size_t d, double *out);
void fm_fill_uniform_f32(FmKey key, guint64 row0, size_t n, size_t d, float *out);
void fm_fill_uniform_f64(FmKey key, guint64 row0, size_t n, size_t d, double *out);
void fm_fill_rademacher_f32(FmKey key, guint64 row0, size_t n, size_t d, float *out);
void fm_fill_rademacher_f64(FmKey key, guint64 row0, size_t n, size_t d, double *out);

/* Where index i of 0 .. n-1 goes under the keyed permutation of `key`: a cycle-walking Feistel
 * network, O(1) per index, no table. n >= 1, i < n. */
guint64 fm_permute_index(FmKey key, guint64 n, guint64 i);

G_END_DECLS
#endif
