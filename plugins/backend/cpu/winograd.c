/* winograd.c: float 3 x 3 convolutions of stride 1 by 4 x 4 transforms: F(2x2, 3x3).
 *
 * With U = G g G^T of a filter and V = B^T d B of a 4 x 4 patch, a 2 x 2 piece of the result is
 * A^T (sum over channels U V) A: 16 products where 36 were. For each of the 16 places that sum is
 * one GEMM of pieces by channels. Its adjoints need no other transforms: gradient in x: the same
 * with filters turned by 180 degrees, I and O exchanged gradient in g: G^T (sum over pieces V (A dy
 * A^T)) G Source: Lavin & Gray 2016, arXiv:1509.09308. Other shapes go to the kernels behind. */
#include "cpu.h"

#include <string.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3", "no-trapping-math", "fp-contract=fast")
#define IVDEP _Pragma("GCC ivdep")
#else
#define IVDEP
#endif

#ifdef HAVE_ONEDNN
#define BEHIND(op) cpu_dnnl_##op
#else
#define BEHIND(op) cpu_im2col_##op
#endif

enum { WINO_CHANNELS = 24, WINO_BYTES = 768 << 10 }; /* least channels; V and M of a block */

typedef struct Wino {
    size_t B, H, W, I, O;  /* images, their sides, channels in and out */
    size_t th, tw, block;  /* pieces of an image; of a block */
    size_t step_i, step_o; /* floats from one of the 16 places to the next */
    float *u, *patch, *v, *m;
} Wino;

static gboolean
wino_fits(const FmShape *x, const FmShape *w, const FmAttrConv *at)
{
    return w->dim[2] == 3 && w->dim[3] == 3 && at->stride == 1 && at->pad == 1 &&
           MIN(w->dim[0], w->dim[1]) >= WINO_CHANNELS && MIN(x->dim[0], x->dim[1]) >= 4;
}

/* Memory: U, a patch, V and M. Steps are odd multiples of a cache line, so that 16 streams do not
 * meet in one set. */
static size_t
wino_layout(Wino *z, const FmShape *x, size_t I, size_t O, size_t B, void *scratch)
{
    const size_t line = FM_ALIGN / sizeof(float);
    float *at = scratch;

    *z = (Wino){.B = B, .H = x->dim[0], .W = x->dim[1], .I = I, .O = O};
    z->th = (z->H + 1) / 2;
    z->tw = (z->W + 1) / 2;
    z->block = MIN(MAX(WINO_BYTES / (16 * sizeof(float) * (I + O)), 8), B * z->th * z->tw);
    z->step_i = ((z->block * I + line - 1) / line | 1) * line;
    z->step_o = ((z->block * O + line - 1) / line | 1) * line;
    z->u = at;
    z->patch = z->u + cpu_align(16 * I * O * sizeof(float)) / sizeof(float);
    z->v = z->patch + cpu_align(16 * MAX(I, O) * sizeof(float)) / sizeof(float);
    z->m = z->v + 16 * z->step_i;
    return (size_t)((char *)(z->m + 16 * z->step_o) - (char *)z->u);
}

/* ---- transforms ---- */

/* V of one patch, row_step floats from row to row. */
FM_INLINE void
wino_in_any(const float *restrict d, size_t row_step, size_t C, float *restrict v, size_t step)
{
    IVDEP for (size_t c = 0; c < C; c++)
    {
        float t[4][4];

        for (int j = 0; j < 4; j++) {
            const float *p = d + (size_t)j * C + c;
            const float d0 = p[0], d1 = p[row_step], d2 = p[2 * row_step], d3 = p[3 * row_step];

            t[0][j] = d0 - d2;
            t[1][j] = d1 + d2;
            t[2][j] = d2 - d1;
            t[3][j] = d1 - d3;
        }
        for (int i = 0; i < 4; i++) {
            float *q = v + (size_t)(4 * i) * step + c;

            q[0] = t[i][0] - t[i][2];
            q[step] = t[i][1] + t[i][2];
            q[2 * step] = t[i][2] - t[i][1];
            q[3 * step] = t[i][1] - t[i][3];
        }
    }
}

FM_CPU_VARIANTS(wino_in, (const float *restrict d, size_t row_step, size_t C, float *restrict v, size_t step),
                (d, row_step, C, v, step))

/* A dy A^T of one 2 x 2 piece. */
FM_INLINE void
wino_spread_any(const float *restrict d, size_t row_step, size_t C, float *restrict m, size_t step)
{
    IVDEP for (size_t c = 0; c < C; c++)
    {
        float t[4][2];

        for (int j = 0; j < 2; j++) {
            const float d0 = d[(size_t)j * C + c], d1 = d[row_step + (size_t)j * C + c];

            t[0][j] = d0;
            t[1][j] = d0 + d1;
            t[2][j] = d0 - d1;
            t[3][j] = -d1;
        }
        for (int i = 0; i < 4; i++) {
            float *q = m + (size_t)(4 * i) * step + c;

            q[0] = t[i][0];
            q[step] = t[i][0] + t[i][1];
            q[2 * step] = t[i][0] - t[i][1];
            q[3 * step] = -t[i][1];
        }
    }
}

FM_CPU_VARIANTS(wino_spread, (const float *restrict d, size_t row_step, size_t C, float *restrict m, size_t step),
                (d, row_step, C, m, step))

/* A^T m A, a 2 x 2 piece. */
FM_INLINE void
wino_out_any(const float *restrict m, size_t step, size_t C, float *restrict y, size_t row_step)
{
    IVDEP for (size_t c = 0; c < C; c++)
    {
        float t[2][4];

        for (int j = 0; j < 4; j++) {
            const float *p = m + (size_t)j * step + c;
            const float m0 = p[0], m1 = p[4 * step], m2 = p[8 * step], m3 = p[12 * step];

            t[0][j] = m0 + m1 + m2;
            t[1][j] = m1 - m2 - m3;
        }
        for (int i = 0; i < 2; i++) {
            float *q = y + (size_t)i * row_step + c;

            q[0] = t[i][0] + t[i][1] + t[i][2];
            q[C] = t[i][1] - t[i][2] - t[i][3];
        }
    }
}

FM_CPU_VARIANTS(wino_out, (const float *restrict m, size_t step, size_t C, float *restrict y, size_t row_step),
                (m, step, C, y, row_step))

/* U (16, n) from filters g (9, n). */
FM_INLINE void
wino_filter_any(const float *restrict g, float *restrict u, size_t n)
{
    IVDEP for (size_t c = 0; c < n; c++)
    {
        float t[4][3];

        for (size_t j = 0; j < 3; j++) {
            const float g0 = g[j * n + c], g1 = g[(3 + j) * n + c], g2 = g[(6 + j) * n + c];

            t[0][j] = g0;
            t[1][j] = 0.5f * (g0 + g1 + g2);
            t[2][j] = 0.5f * (g0 - g1 + g2);
            t[3][j] = g2;
        }
        for (size_t i = 0; i < 4; i++) {
            u[(4 * i) * n + c] = t[i][0];
            u[(4 * i + 1) * n + c] = 0.5f * (t[i][0] + t[i][1] + t[i][2]);
            u[(4 * i + 2) * n + c] = 0.5f * (t[i][0] - t[i][1] + t[i][2]);
            u[(4 * i + 3) * n + c] = t[i][2];
        }
    }
}

FM_CPU_VARIANTS(wino_filter, (const float *restrict g, float *restrict u, size_t n),
                (g, u, n))

/* G^T u G: the gradient (9, n) in filters, over u's own first 9 places. */
FM_INLINE void
wino_filter_back_any(float *u, size_t n)
{
    IVDEP for (size_t c = 0; c < n; c++)
    {
        float t[3][4];

        for (size_t j = 0; j < 4; j++) {
            const float u0 = u[j * n + c], u1 = u[(4 + j) * n + c];
            const float u2 = u[(8 + j) * n + c], u3 = u[(12 + j) * n + c];

            t[0][j] = u0 + 0.5f * (u1 + u2);
            t[1][j] = 0.5f * (u1 - u2);
            t[2][j] = 0.5f * (u1 + u2) + u3;
        }
        for (size_t i = 0; i < 3; i++) {
            u[(3 * i) * n + c] = t[i][0] + 0.5f * (t[i][1] + t[i][2]);
            u[(3 * i + 1) * n + c] = 0.5f * (t[i][1] - t[i][2]);
            u[(3 * i + 2) * n + c] = 0.5f * (t[i][1] + t[i][2]) + t[i][3];
        }
    }
}

FM_CPU_VARIANTS(wino_filter_back, (float *u, size_t n),
                (u, n))

/* ---- filters ---- */

/* w (O, I, 3, 3) to U (16, I, O), or (16, O, I) turned; `plain` has room for (9, O I). */
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

/* Where piece p lies: its image and the corner of its 2 x 2 results. */
typedef struct Piece {
    size_t image, h, w;
} Piece;

static Piece
wino_piece(const Wino *z, size_t p)
{
    const size_t t = p % (z->th * z->tw);

    return (Piece){p / (z->th * z->tw), 2 * (t / z->tw), 2 * (t % z->tw)};
}

/* The side x side pixels from (h - back, w - back) with zeros outside: a pointer into the image
 * where that is possible, else a copy in z->patch. */
static const float *
wino_pixels(const Wino *z, const float *x, size_t C, Piece p, size_t side, size_t back,
            size_t *row_step)
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
        const float *d = wino_pixels(z, x, z->I, wino_piece(z, first + p), 4, 1, &row_step);

        wino_in(d, row_step, z->I, z->v + p * z->I, z->step_i);
    }
}

static void
wino_write(const Wino *z, float *y, size_t first, size_t n)
{
    const size_t C = z->O;

    for (size_t p = 0; p < n; p++) {
        const Piece at = wino_piece(z, first + p);
        const size_t rows = MIN(2, z->H - at.h), columns = MIN(2, z->W - at.w);
        float *to = y + ((at.image * z->H + at.h) * z->W + at.w) * C;

        if (rows == 2 && columns == 2) {
            wino_out(z->m + p * C, z->step_o, C, to, z->W * C);
            continue;
        }
        wino_out(z->m + p * C, z->step_o, C, z->patch, 2 * C);
        for (size_t i = 0; i < rows; i++)
            memcpy(to + i * z->W * C, z->patch + 2 * i * C, columns * C * sizeof *to);
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
        for (size_t k = 0; k < 16; k++)
            if (!cpu_gemm_f32(FALSE, FALSE, n, z->O, z->I, 1, z->v + k * z->step_i,
                              u + k * z->I * z->O, 0, z->m + k * z->step_o))
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
    return wino_fits(args->out.shape, args->in[1].shape, args->attrs)
               ? wino_run(args, TRUE)
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
            const float *d =
                wino_pixels(&z, args->in[1].data, z.O, wino_piece(&z, first + p), 2, 0, &row_step);

            wino_spread(d, row_step, z.O, z.m + p * z.O, z.step_o);
        }
        for (size_t k = 0; k < 16; k++)
            if (!cpu_gemm_f32(TRUE, FALSE, z.I, z.O, n, 1, z.v + k * z.step_i, z.m + k * z.step_o,
                              first > 0, z.u + k * z.I * z.O))
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

#define PACKED(s) cpu_align(25 * (s)->in[1]->dim[0] * (s)->in[1]->dim[1] * sizeof(float))

static size_t
wino_conv2d_scratch(const FmKernelShapes *s)
{
    const FmShape *w = s->in[1];

    return wino_fits(s->in[0], w, s->attrs)
               ? wino_scratch(s->out, w, w->dim[1], w->dim[0], cpu_rows(s->out, s->n))
               : BEHIND(conv2d).scratch(s);
}

static size_t
wino_conv2d_input_scratch(const FmKernelShapes *s)
{
    const FmShape *w = s->in[1];

    return wino_fits(s->out, w, s->attrs)
               ? wino_scratch(s->out, w, w->dim[0], w->dim[1], cpu_rows(s->out, s->n))
               : BEHIND(conv2d_input).scratch(s);
}

static size_t
wino_conv2d_weight_scratch(const FmKernelShapes *s)
{
    const FmShape *w = s->out;

    return wino_fits(s->in[0], w, s->attrs)
               ? wino_scratch(s->in[0], w, w->dim[1], w->dim[0], cpu_rows(s->in[0], s->n))
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

    wino_weights(w, args->in[1].data, turned, packed, packed + 16 * w->dim[0] * w->dim[1]);
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

const FmKernel cpu_wino_conv2d = {wino_conv2d, wino_conv2d_scratch, wino_conv2d_pack_size,
                                  wino_conv2d_pack};
const FmKernel cpu_wino_conv2d_input = {wino_conv2d_input, wino_conv2d_input_scratch,
                                        wino_conv2d_input_pack_size, wino_conv2d_input_pack};
const FmKernel cpu_wino_conv2d_weight = {wino_conv2d_weight, wino_conv2d_weight_scratch};
