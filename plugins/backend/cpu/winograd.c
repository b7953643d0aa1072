/* winograd.c: float 3 x 3 convolutions of stride 1 by 6 x 6 transforms: F(4x4, 3x3).
 *
 * With U = G g G^T of a filter and V = B^T d B of a 6 x 6 patch, a 4 x 4 piece of the result is
 * A^T (sum over channels U V) A: 36 products where 144 were. For each of the 36 places that sum is
 * one GEMM of pieces by channels. Its adjoints need no other transforms: gradient in x: the same
 * with filters turned by 180 degrees, I and O exchanged; gradient in g: G^T (sum over pieces V (A dy
 * A^T)) G. Source: Lavin & Gray 2016, arXiv:1509.09308.
 *
 * The points are 0, +-sqrt(1/2), +-sqrt(2) and infinity. Rounding leaves twice the rms error of plain sums; with 0,
 * +-1, +-2 it leaves four times it (tests/references/winograd.py).
 * Other shapes go to the kernels behind. */
#include "cpu.h"

#include <string.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3", "no-trapping-math", "fp-contract=fast")
#endif
#define UNROLL _Pragma("GCC unroll 6")

#ifdef HAVE_ONEDNN
#define BEHIND(op) cpu_dnnl_##op
#else
#define BEHIND(op) cpu_im2col_##op
#endif

enum {
    WINO_EDGE = 4, /* of a piece of the result */
    WINO_SIDE = 6, /* of a patch */
    WINO_PLACES = WINO_SIDE * WINO_SIDE,
    WINO_CHANNELS = 24,    /* at least */
    WINO_BYTES = 768 << 10 /* V and M of a block */
};

typedef struct Wino {
    size_t B, H, W, I, O;  /* images, their sides, channels in and out */
    size_t th, tw, block;  /* pieces of an image; of a block */
    size_t step_i, step_o; /* floats from one place to the next */
    float *u, *patch, *v, *m;
} Wino;

static gboolean
wino_fits(const FmShape *x, const FmShape *w, const FmAttrConv *at)
{
    return w->dim[2] == 3 && w->dim[3] == 3 && at->stride == 1 && at->pad == 1 &&
           MIN(w->dim[0], w->dim[1]) >= WINO_CHANNELS && MIN(x->dim[0], x->dim[1]) >= 4;
}

/* Memory: U, a patch, V and M. Steps are odd multiples of a cache line, so that the places' streams do
 * not meet in one set. */
static size_t
wino_layout(Wino *z, const FmShape *x, size_t I, size_t O, size_t B, void *scratch)
{
    const size_t line = FM_ALIGN / sizeof(float);
    float *at = scratch;

    *z = (Wino){.B = B, .H = x->dim[0], .W = x->dim[1], .I = I, .O = O};
    z->th = (z->H + WINO_EDGE - 1) / WINO_EDGE;
    z->tw = (z->W + WINO_EDGE - 1) / WINO_EDGE;
    z->block = MIN(MAX(WINO_BYTES / (WINO_PLACES * sizeof(float) * (I + O)), 8), B * z->th * z->tw);
    z->step_i = ((z->block * I + line - 1) / line | 1) * line;
    z->step_o = ((z->block * O + line - 1) / line | 1) * line;
    z->u = at;
    z->patch = z->u + cpu_align(WINO_PLACES * I * O * sizeof(float)) / sizeof(float);
    z->v = z->patch + cpu_align(WINO_PLACES * MAX(I, O) * sizeof(float)) / sizeof(float);
    z->m = z->v + WINO_PLACES * z->step_i;
    return (size_t)((char *)(z->m + WINO_PLACES * z->step_o) - (char *)z->u);
}

/* ---- transforms ---- */

enum { LANES = 8 }; /* channels at a time */

/* In memory: elements of type float. GCC makes no vectors of a loop over channels with 36 numbers each. */
typedef float Vec __attribute__((vector_size(LANES * sizeof(float))));
typedef float Mem __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float)), may_alias));
typedef void (*Transform)(const Vec *from, Vec *to);

#define ROOT2 1.41421356237309505f
#define ROOT1_2 0.707106781186547524f

/* B^T of six numbers. */
FM_INLINE void
wino_b(const Vec d[WINO_SIDE], Vec t[WINO_SIDE])
{
    const Vec even = d[4] - 2.0f * d[2], odd = ROOT1_2 * (d[3] - 2.0f * d[1]);
    const Vec even2 = d[4] - 0.5f * d[2], odd2 = ROOT2 * (d[3] - 0.5f * d[1]);

    t[0] = d[0] - 2.5f * d[2] + d[4];
    t[1] = even + odd;
    t[2] = even - odd;
    t[3] = even2 + odd2;
    t[4] = even2 - odd2;
    t[5] = d[1] - 2.5f * d[3] + d[5];
}

/* A of four numbers. */
FM_INLINE void
wino_a(const Vec d[WINO_EDGE], Vec t[WINO_SIDE])
{
    const Vec even = d[0] + 0.5f * d[2], odd = ROOT1_2 * (d[1] + 0.5f * d[3]);
    const Vec even2 = d[0] + 2.0f * d[2], odd2 = ROOT2 * (d[1] + 2.0f * d[3]);

    t[0] = d[0];
    t[1] = even + odd;
    t[2] = even - odd;
    t[3] = even2 + odd2;
    t[4] = even2 - odd2;
    t[5] = d[3];
}

/* A^T of six numbers. */
FM_INLINE void
wino_a_back(const Vec m[WINO_SIDE], Vec t[WINO_EDGE])
{
    const Vec sum = m[1] + m[2], difference = ROOT1_2 * (m[1] - m[2]);
    const Vec sum2 = m[3] + m[4], difference2 = ROOT2 * (m[3] - m[4]);

    t[0] = m[0] + sum + sum2;
    t[1] = difference + difference2;
    t[2] = 0.5f * sum + 2.0f * sum2;
    t[3] = 0.5f * difference + 2.0f * difference2 + m[5];
}

/* G of three numbers. */
FM_INLINE void
wino_g(const Vec g[3], Vec t[WINO_SIDE])
{
    const Vec even = (-2.0f / 3.0f) * g[0] - (1.0f / 3.0f) * g[2], odd = (-2.0f / 3.0f * ROOT1_2) * g[1];
    const Vec even2 = (1.0f / 6.0f) * g[0] + (1.0f / 3.0f) * g[2], odd2 = (1.0f / 6.0f * ROOT2) * g[1];

    t[0] = g[0];
    t[1] = even + odd;
    t[2] = even - odd;
    t[3] = even2 + odd2;
    t[4] = even2 - odd2;
    t[5] = g[2];
}

/* G^T of six numbers. */
FM_INLINE void
wino_g_back(const Vec u[WINO_SIDE], Vec t[3])
{
    const Vec sum = u[1] + u[2], sum2 = u[3] + u[4];

    t[0] = u[0] - (2.0f / 3.0f) * sum + (1.0f / 6.0f) * sum2;
    t[1] = (-2.0f / 3.0f * ROOT1_2) * (u[1] - u[2]) + (1.0f / 6.0f * ROOT2) * (u[3] - u[4]);
    t[2] = (1.0f / 3.0f) * (sum2 - sum) + u[5];
}

/* The first n of a vector's lanes; n is LANES but at the end of the channels. */
FM_INLINE void
wino_load(Vec *v, const float *from, size_t n)
{
    if (n == LANES) {
        *v = *(const Mem *)from;
        return;
    }
    *v = (Vec){0};
    memcpy(v, from, n * sizeof *from);
}

FM_INLINE void
wino_store(float *to, const Vec *v, size_t n)
{
    if (n == LANES)
        *(Mem *)to = *v;
    else
        memcpy(to, v, n * sizeof *to);
}

/* out = T in T^T in each of n channels: T takes `from` numbers to `to`. The number in row i and column j is
 * at i * row + j * column. `out` may be `in`: each channel is read before it is written. */
FM_INLINE void
wino_some(Transform T, size_t from, size_t to, const float *in, size_t in_row, size_t in_column, float *out,
          size_t out_row, size_t out_column, size_t n)
{
    Vec half[WINO_SIDE][WINO_SIDE], line[WINO_SIDE], t[WINO_SIDE];

    UNROLL for (size_t j = 0; j < from; j++)
    {
        UNROLL for (size_t i = 0; i < from; i++) wino_load(&line[i], in + i * in_row + j * in_column, n);
        T(line, t);
        UNROLL for (size_t i = 0; i < to; i++) half[i][j] = t[i];
    }
    UNROLL for (size_t i = 0; i < to; i++)
    {
        T(half[i], t);
        UNROLL for (size_t j = 0; j < to; j++) wino_store(out + i * out_row + j * out_column, &t[j], n);
    }
}

FM_INLINE void
wino_transform(Transform T, size_t from, size_t to, const float *in, size_t in_row, size_t in_column, float *out,
               size_t out_row, size_t out_column, size_t n)
{
    size_t c = 0;

    for (; c + LANES <= n; c += LANES)
        wino_some(T, from, to, in + c, in_row, in_column, out + c, out_row, out_column, LANES);
    if (c < n)
        wino_some(T, from, to, in + c, in_row, in_column, out + c, out_row, out_column, n - c);
}

/* V of one patch, row_step floats from row to row. */
FM_INLINE void
wino_in_any(const float *d, size_t row_step, size_t C, float *v, size_t step)
{
    wino_transform(wino_b, WINO_SIDE, WINO_SIDE, d, row_step, C, v, WINO_SIDE * step, step, C);
}

FM_CPU_VARIANTS(wino_in, (const float *d, size_t row_step, size_t C, float *v, size_t step), (d, row_step, C, v, step))

/* A dy A^T of one piece. */
FM_INLINE void
wino_spread_any(const float *d, size_t row_step, size_t C, float *m, size_t step)
{
    wino_transform(wino_a, WINO_EDGE, WINO_SIDE, d, row_step, C, m, WINO_SIDE * step, step, C);
}

FM_CPU_VARIANTS(wino_spread, (const float *d, size_t row_step, size_t C, float *m, size_t step),
                (d, row_step, C, m, step))

/* A^T m A, one piece. */
FM_INLINE void
wino_out_any(const float *m, size_t step, size_t C, float *y, size_t row_step)
{
    wino_transform(wino_a_back, WINO_SIDE, WINO_EDGE, m, WINO_SIDE * step, step, y, row_step, C, C);
}

FM_CPU_VARIANTS(wino_out, (const float *m, size_t step, size_t C, float *y, size_t row_step), (m, step, C, y, row_step))

/* U (places, n) from filters g (9, n). */
FM_INLINE void
wino_filter_any(const float *g, float *u, size_t n)
{
    wino_transform(wino_g, 3, WINO_SIDE, g, 3 * n, n, u, WINO_SIDE * n, n, n);
}

FM_CPU_VARIANTS(wino_filter, (const float *g, float *u, size_t n), (g, u, n))

/* G^T u G: the gradient (9, n) in filters, over u's own first 9 places. */
FM_INLINE void
wino_filter_back_any(float *u, size_t n)
{
    wino_transform(wino_g_back, WINO_SIDE, 3, u, WINO_SIDE * n, n, u, 3 * n, n, n);
}

FM_CPU_VARIANTS(wino_filter_back, (float *u, size_t n), (u, n))

/* ---- filters ---- */

/* w (O, I, 3, 3) to U (places, I, O), or (places, O, I) turned; `plain` has room for (9, O I). */
static void
wino_weights(const FmShape *sw, const float *w, gboolean turned, float *u, float *plain)
{
    const size_t O = sw->dim[0], I = sw->dim[1], n = O * I;

    for (size_t o = 0; o < O; o++)
        for (size_t i = 0; i < I; i++, w += 9)
            for (size_t k = 0; k < 9; k++) {
                if (turned)
                    plain[(8 - k) * n + o * I + i] = w[k];
                else
                    plain[k * n + i * O + o] = w[k];
            }
    wino_filter(plain, u, n);
}

/* ---- pieces ---- */

/* Where piece p lies: its image and the corner of its results. */
typedef struct Piece {
    size_t image, h, w;
} Piece;

static Piece
wino_piece(const Wino *z, size_t p)
{
    const size_t t = p % (z->th * z->tw);

    return (Piece){p / (z->th * z->tw), WINO_EDGE * (t / z->tw), WINO_EDGE * (t % z->tw)};
}

/* The side x side pixels from (h - back, w - back) with zeros outside: a pointer into the image
 * where that is possible, else a copy in z->patch. */
static const float *
wino_pixels(const Wino *z, const float *x, size_t C, Piece p, size_t side, size_t back, size_t *row_step)
{
    const float *image = x + p.image * z->H * z->W * C;

    *row_step = z->W * C;
    if (p.h >= back && p.w >= back && p.h + side - back <= z->H && p.w + side - back <= z->W)
        return image + ((p.h - back) * z->W + p.w - back) * C;
    *row_step = side * C;
    for (size_t i = 0; i < side; i++)
        for (size_t j = 0; j < side; j++) {
            const size_t h = p.h + i - back, w = p.w + j - back;
            float *to = z->patch + (i * side + j) * C;

            if (h < z->H && w < z->W)
                memcpy(to, image + (h * z->W + w) * C, C * sizeof *to);
            else
                memset(to, 0, C * sizeof *to);
        }
    return z->patch;
}

static void
wino_read(const Wino *z, const float *x, size_t first, size_t n)
{
    for (size_t p = 0; p < n; p++) {
        size_t row_step;
        const float *d = wino_pixels(z, x, z->I, wino_piece(z, first + p), WINO_SIDE, 1, &row_step);

        wino_in(d, row_step, z->I, z->v + p * z->I, z->step_i);
    }
}

static void
wino_write(const Wino *z, float *y, size_t first, size_t n)
{
    const size_t C = z->O;

    for (size_t p = 0; p < n; p++) {
        const Piece at = wino_piece(z, first + p);
        const size_t rows = MIN(WINO_EDGE, z->H - at.h), columns = MIN(WINO_EDGE, z->W - at.w);
        float *to = y + ((at.image * z->H + at.h) * z->W + at.w) * C;

        if (rows == WINO_EDGE && columns == WINO_EDGE) {
            wino_out(z->m + p * C, z->step_o, C, to, z->W * C);
            continue;
        }
        wino_out(z->m + p * C, z->step_o, C, z->patch, WINO_EDGE * C);
        for (size_t i = 0; i < rows; i++)
            memcpy(to + i * z->W * C, z->patch + WINO_EDGE * i * C, columns * C * sizeof *to);
    }
}

/* ---- kernels ---- */

static gboolean
wino_forward(const Wino *z, const float *x, const float *u, float *y)
{
    const size_t pieces = z->B * z->th * z->tw;

    for (size_t first = 0; first < pieces; first += z->block) {
        const size_t n = MIN(z->block, pieces - first);

        wino_read(z, x, first, n);
        for (size_t k = 0; k < WINO_PLACES; k++)
            if (!cpu_gemm_f32(FALSE, FALSE, n, z->O, z->I, 1, z->v + k * z->step_i, u + k * z->I * z->O, 0,
                              z->m + k * z->step_o))
                return FALSE;
        wino_write(z, y, first, n);
    }
    return TRUE;
}

static gboolean
wino_run(const FmKernelArgs *args, gboolean turned)
{
    const FmShape *w = args->in[1].shape;
    const size_t O = w->dim[0], I = w->dim[1];
    const float *u = args->packed;
    Wino z;

    wino_layout(&z, args->out.shape, turned ? O : I, turned ? I : O, args->out.rows, args->scratch);
    if (!u) {
        wino_weights(w, args->in[1].data, turned, z.u, z.v);
        u = z.u;
    }
    return wino_forward(&z, args->in[0].data, u, args->out.data);
}

static gboolean
wino_conv2d(const FmKernelArgs *args)
{
    return wino_fits(args->in[0].shape, args->in[1].shape, args->attrs) ? wino_run(args, FALSE)
                                                                        : BEHIND(conv2d).run(args);
}

static gboolean
wino_conv2d_input(const FmKernelArgs *args)
{
    return wino_fits(args->out.shape, args->in[1].shape, args->attrs) ? wino_run(args, TRUE)
                                                                      : BEHIND(conv2d_input).run(args);
}

static void
wino_add_weights(const Wino *z, const float *plain, float *dw, gboolean accumulate)
{
    const size_t n = z->I * z->O;

    for (size_t o = 0; o < z->O; o++)
        for (size_t i = 0; i < z->I; i++, dw += 9)
            for (size_t k = 0; k < 9; k++)
                dw[k] = (accumulate ? dw[k] : 0.0f) + plain[k * n + i * z->O + o];
}

static gboolean
wino_conv2d_weight(const FmKernelArgs *args)
{
    const FmShape *x = args->in[0].shape, *w = args->out.shape;
    size_t pieces;
    Wino z;

    if (!wino_fits(x, w, args->attrs))
        return BEHIND(conv2d_weight).run(args);
    wino_layout(&z, x, w->dim[1], w->dim[0], args->in[0].rows, args->scratch);
    pieces = z.B * z.th * z.tw;
    for (size_t first = 0; first < pieces; first += z.block) {
        const size_t n = MIN(z.block, pieces - first);

        wino_read(&z, args->in[0].data, first, n);
        for (size_t p = 0; p < n; p++) {
            size_t row_step;
            const float *d = wino_pixels(&z, args->in[1].data, z.O, wino_piece(&z, first + p), WINO_EDGE, 0, &row_step);

            wino_spread(d, row_step, z.O, z.m + p * z.O, z.step_o);
        }
        for (size_t k = 0; k < WINO_PLACES; k++)
            if (!cpu_gemm_f32(TRUE, FALSE, z.I, z.O, n, 1, z.v + k * z.step_i, z.m + k * z.step_o, first > 0,
                              z.u + k * z.I * z.O))
                return FALSE;
    }
    wino_filter_back(z.u, z.I * z.O);
    wino_add_weights(&z, z.u, args->out.data, args->accumulate);
    return TRUE;
}

/* ---- planning ---- */

/* Also room for plain weights where V and M will be. */
static size_t
wino_scratch(const FmShape *x, const FmShape *w, size_t I, size_t O, size_t B)
{
    Wino z;
    const size_t need = wino_layout(&z, x, I, O, B, NULL);

    return need + cpu_align(9 * w->dim[0] * w->dim[1] * sizeof(float));
}

#define PACKED(s) cpu_align((9 + WINO_PLACES) * (s)->in[1]->dim[0] * (s)->in[1]->dim[1] * sizeof(float))

static size_t
wino_conv2d_scratch(const FmKernelShapes *s)
{
    const FmShape *w = s->in[1];

    return wino_fits(s->in[0], w, s->attrs) ? wino_scratch(s->out, w, w->dim[1], w->dim[0], cpu_rows(s->out, s->n))
                                            : BEHIND(conv2d).scratch(s);
}

static size_t
wino_conv2d_input_scratch(const FmKernelShapes *s)
{
    const FmShape *w = s->in[1];

    return wino_fits(s->out, w, s->attrs) ? wino_scratch(s->out, w, w->dim[0], w->dim[1], cpu_rows(s->out, s->n))
                                          : BEHIND(conv2d_input).scratch(s);
}

static size_t
wino_conv2d_weight_scratch(const FmKernelShapes *s)
{
    const FmShape *w = s->out;

    return wino_fits(s->in[0], w, s->attrs) ? wino_scratch(s->in[0], w, w->dim[1], w->dim[0], cpu_rows(s->in[0], s->n))
                                            : BEHIND(conv2d_weight).scratch(s);
}

static size_t
wino_conv2d_pack_size(const FmKernelShapes *s)
{
    return wino_fits(s->in[0], s->in[1], s->attrs) ? PACKED(s) : BEHIND(conv2d).pack_size(s);
}

static size_t
wino_conv2d_input_pack_size(const FmKernelShapes *s)
{
    return wino_fits(s->out, s->in[1], s->attrs) ? PACKED(s) : BEHIND(conv2d_input).pack_size(s);
}

/* U, and behind it room for plain weights while they are laid out. */
static void
wino_pack(const FmKernelArgs *args, gboolean turned, float *packed)
{
    const FmShape *w = args->in[1].shape;

    wino_weights(w, args->in[1].data, turned, packed, packed + WINO_PLACES * w->dim[0] * w->dim[1]);
}

static void
wino_conv2d_pack(const FmKernelArgs *args, void *packed)
{
    if (wino_fits(args->in[0].shape, args->in[1].shape, args->attrs))
        wino_pack(args, FALSE, packed);
    else
        BEHIND(conv2d).pack(args, packed);
}

static void
wino_conv2d_input_pack(const FmKernelArgs *args, void *packed)
{
    if (wino_fits(args->out.shape, args->in[1].shape, args->attrs))
        wino_pack(args, TRUE, packed);
    else
        BEHIND(conv2d_input).pack(args, packed);
}

const FmKernel cpu_wino_conv2d = {wino_conv2d, wino_conv2d_scratch, wino_conv2d_pack_size, wino_conv2d_pack};
const FmKernel cpu_wino_conv2d_input = {wino_conv2d_input, wino_conv2d_input_scratch, wino_conv2d_input_pack_size,
                                        wino_conv2d_input_pack};
const FmKernel cpu_wino_conv2d_weight = {wino_conv2d_weight, wino_conv2d_weight_scratch};
