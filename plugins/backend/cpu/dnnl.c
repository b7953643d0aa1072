/* dnnl.c: all calls of oneDNN: float GEMM, and float convolution of NHWC images.
 *
 * Primitives are made for one thread, one set of shapes and a power of two of images, once, and
 * kept. Weights are in the layout that oneDNN likes best (for one image count, so that all tiles
 * agree), reordered by pack(). A stride-1 gradient in the input runs as a forward convolution with
 * flipped weights, which oneDNN does faster. The API of 3.x differs from 2.x in how descriptors
 * are made; the differences stand in the first half of this file. */
#include "cpu.h"

#ifdef HAVE_ONEDNN

#include <oneapi/dnnl/dnnl.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

/* ---- one thread ---- */

/* oneDNN asks OpenMP how many threads to use: one, here and only here. */
static int
dnnl_single_begin(void)
{
#ifdef _OPENMP
    const int threads = omp_get_max_threads();

    if (threads != 1)
        omp_set_num_threads(1);
    return threads;
#else
    return 1;
#endif
}

static void
dnnl_single_end(int threads)
{
#ifdef _OPENMP
    if (threads != 1)
        omp_set_num_threads(threads);
#endif
}

gboolean
cpu_dnnl_sgemm_steps(gboolean ta, gboolean tb, size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda,
                     const float *b, size_t ldb, float beta, float *c, size_t ldc)
{
    const int threads = dnnl_single_begin();
    const dnnl_status_t status = dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', (dnnl_dim_t)m, (dnnl_dim_t)n, (dnnl_dim_t)k,
                                            alpha, a, (dnnl_dim_t)lda, b, (dnnl_dim_t)ldb, beta, c, (dnnl_dim_t)ldc);

    dnnl_single_end(threads);
    return status == dnnl_success;
}

gboolean
cpu_dnnl_sgemm(gboolean ta, gboolean tb, size_t m, size_t n, size_t k, float alpha, const float *a, const float *b,
               float beta, float *c)
{
    return cpu_dnnl_sgemm_steps(ta, tb, m, n, k, alpha, a, ta ? m : k, b, tb ? k : n, beta, c, n);
}

/* ---- descriptors: 2.x has structs, 3.x handles ---- */

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t Desc;
#define DESC(d) (d)
#else
typedef struct Desc {
    dnnl_memory_desc_t d;
} Desc;
#define DESC(x) (&(x).d)
#endif

static gboolean
desc_new(Desc *desc, int ndims, const dnnl_dim_t *dims, dnnl_format_tag_t tag)
{
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_memory_desc_create_with_tag(desc, ndims, dims, dnnl_f32, tag) == dnnl_success;
#else
    return dnnl_memory_desc_init_by_tag(&desc->d, ndims, dims, dnnl_f32, tag) == dnnl_success;
#endif
}

/* A private copy of one of a primitive's descriptors. */
static gboolean
desc_query(Desc *desc, const_dnnl_primitive_desc_t pd, dnnl_query_t what)
{
#if DNNL_VERSION_MAJOR >= 3
    const_dnnl_memory_desc_t md = dnnl_primitive_desc_query_md(pd, what, 0);

    return md && dnnl_memory_desc_clone(desc, md) == dnnl_success;
#else
    const dnnl_memory_desc_t *md = dnnl_primitive_desc_query_md(pd, what, 0);

    if (md)
        desc->d = *md;
    return md != NULL;
#endif
}

static size_t
desc_size(const Desc *desc)
{
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_memory_desc_get_size(*desc);
#else
    return dnnl_memory_desc_get_size(&desc->d);
#endif
}

typedef enum ConvKind { CONV_FORWARD, CONV_FLIPPED, CONV_INPUT, CONV_WEIGHT } ConvKind;

/* What a primitive depends on. x is the side with I channels and y that with O, in the sense of
 * the primitive: a flipped one has them exchanged. */
typedef struct ConvKey {
    guint32 kind, B, H, W, I, Ho, Wo, O, kh, kw, stride, pad_h, pad_w;
} ConvKey;

typedef struct ConvEntry {
    ConvKey key;
    gboolean ok;
    dnnl_primitive_t conv, reorder; /* reorder: weights between OIHW and the primitive's layout */
    Desc x, w, y, plain, pad;
    size_t w_size, scratch_size;
} ConvEntry;

static dnnl_engine_t dnnl_engine;
static GMutex dnnl_lock;
static GHashTable *dnnl_entries; /* ConvKey (in the entry) to ConvEntry; kept for the process */
static dnnl_primitive_attr_t dnnl_attr;

/* The primitive descriptor for memory layouts x, w (may be `any`) and y. */
static dnnl_primitive_desc_t
conv_desc(const ConvKey *k, Desc *x, Desc *w, Desc *y, gboolean hint)
{
    const dnnl_dims_t strides = {k->stride, k->stride}, dilates = {0};
    const dnnl_dims_t before = {k->pad_h, k->pad_w};
    const dnnl_prop_kind_t forward = hint ? dnnl_forward_training : dnnl_forward_inference;
    const dnnl_alg_kind_t alg = dnnl_convolution_direct;
    dnnl_primitive_desc_t pd = NULL, fwd = NULL;

    if (!hint && (k->kind == CONV_INPUT || k->kind == CONV_WEIGHT)) {
        fwd = conv_desc(k, x, w, y, TRUE);
        if (!fwd)
            return NULL;
    }
#if DNNL_VERSION_MAJOR >= 3
    if (fwd && k->kind == CONV_INPUT)
        dnnl_convolution_backward_data_primitive_desc_create(&pd, dnnl_engine, alg, *x, *w, *y, strides, dilates,
                                                             before, before, fwd, dnnl_attr);
    else if (fwd)
        dnnl_convolution_backward_weights_primitive_desc_create(&pd, dnnl_engine, alg, *x, *w, NULL, *y, strides,
                                                                dilates, before, before, fwd, dnnl_attr);
    else
        dnnl_convolution_forward_primitive_desc_create(&pd, dnnl_engine, forward, alg, *x, *w, NULL, *y, strides,
                                                       dilates, before, before, dnnl_attr);
#else
    dnnl_convolution_desc_t desc;
    dnnl_status_t status;

    if (fwd && k->kind == CONV_INPUT)
        status = dnnl_dilated_convolution_backward_data_desc_init(&desc, alg, &x->d, &w->d, &y->d, strides, dilates,
                                                                  before, before);
    else if (fwd)
        status = dnnl_dilated_convolution_backward_weights_desc_init(&desc, alg, &x->d, &w->d, NULL, &y->d, strides,
                                                                     dilates, before, before);
    else
        status = dnnl_dilated_convolution_forward_desc_init(&desc, forward, alg, &x->d, &w->d, NULL, &y->d, strides,
                                                            dilates, before, before);
    if (status == dnnl_success && dnnl_primitive_desc_create(&pd, &desc, dnnl_attr, dnnl_engine, fwd) != dnnl_success)
        pd = NULL;
#endif
    if (fwd)
        dnnl_primitive_desc_destroy(fwd);
    return pd;
}

/* ---- the cache ---- */

static guint
key_hash(gconstpointer p)
{
    const guint32 *v = p;
    guint h = 2166136261u;

    for (size_t i = 0; i < sizeof(ConvKey) / sizeof *v; i++)
        h = (h ^ v[i]) * 16777619u;
    return h;
}

static gboolean
key_equal(gconstpointer a, gconstpointer b)
{
    return memcmp(a, b, sizeof(ConvKey)) == 0;
}

static const ConvEntry *entry_of(const ConvKey *key);

/* Make the primitives of e->key. Weights of a forward pass are laid out as for 4 images. */
static gboolean
entry_make(ConvEntry *e)
{
    const ConvKey *k = &e->key;
    const dnnl_dims_t dx = {k->B, k->I, k->H, k->W}, dy = {k->B, k->O, k->Ho, k->Wo};
    const dnnl_dims_t dw = {k->O, k->I, k->kh, k->kw};
    const gboolean weight = k->kind == CONV_WEIGHT;
    dnnl_primitive_desc_t pd = NULL, rpd = NULL;
    gboolean ok;

    if (!desc_new(&e->x, 4, dx, dnnl_nhwc) || !desc_new(&e->y, 4, dy, dnnl_nhwc) ||
        !desc_new(&e->plain, 4, dw, dnnl_oihw) || !desc_new(&e->w, 4, dw, dnnl_format_tag_any))
        return FALSE;
    if (!weight && k->B != 4) {
        ConvKey canonical = *k;
        const ConvEntry *four;

        canonical.B = 4;
        four = entry_of(&canonical);
        if (!four->ok)
            return FALSE;
        e->w = four->w;
    }
    pd = conv_desc(k, &e->x, &e->w, &e->y, FALSE);
    if (!pd)
        return FALSE;
    ok = desc_query(&e->w, pd, weight ? dnnl_query_diff_weights_md : dnnl_query_weights_md) &&
         dnnl_primitive_create(&e->conv, pd) == dnnl_success;
    if (ok) {
        e->w_size = cpu_align(desc_size(&e->w));
        e->scratch_size = desc_query(&e->pad, pd, dnnl_query_scratchpad_md) ? cpu_align(desc_size(&e->pad)) : 0;
        ok = dnnl_reorder_primitive_desc_create(&rpd, DESC(*(weight ? &e->w : &e->plain)), dnnl_engine,
                                                DESC(*(weight ? &e->plain : &e->w)), dnnl_engine,
                                                NULL) == dnnl_success &&
             dnnl_primitive_create(&e->reorder, rpd) == dnnl_success;
    }
    dnnl_primitive_desc_destroy(pd);
    if (rpd)
        dnnl_primitive_desc_destroy(rpd);
    return ok;
}

/* With the lock held. */
static const ConvEntry *
entry_of(const ConvKey *key)
{
    ConvEntry *e = g_hash_table_lookup(dnnl_entries, key);

    if (!e) {
        e = g_new0(ConvEntry, 1);
        e->key = *key;
        e->ok = entry_make(e);
        g_hash_table_insert(dnnl_entries, &e->key, e);
    }
    return e;
}

static const ConvEntry *
entry_for(ConvKey key, size_t B)
{
    const ConvEntry *e;

    key.B = (guint32)B;
    g_mutex_lock(&dnnl_lock);
    e = entry_of(&key);
    g_mutex_unlock(&dnnl_lock);
    return e;
}

/* Images per call: tiles are cut into powers of two, so that few primitives serve all. */
#define DNNL_MAX_IMAGES 16

static size_t
images_of(size_t left)
{
    size_t b = DNNL_MAX_IMAGES;

    while (b > left)
        b /= 2;
    return b;
}

/* ---- running ---- */

static gboolean
run_three(dnnl_primitive_t primitive, const int arg[4], const Desc *desc[3], void *data[4], dnnl_stream_t stream,
          const Desc *scratch)
{
    dnnl_exec_arg_t args[4];
    int made = 0;
    gboolean ok = TRUE;

    for (; made < 3 && desc[made]; made++) {
        args[made].arg = arg[made];
        ok = dnnl_memory_create(&args[made].memory, DESC(*desc[made]), dnnl_engine, data[made]) == dnnl_success;
        if (!ok)
            break;
    }
    if (ok && scratch) {
        args[made].arg = DNNL_ARG_SCRATCHPAD;
        ok = dnnl_memory_create(&args[made].memory, DESC(*scratch), dnnl_engine, data[3]) == dnnl_success;
        made += ok;
    }
    ok = ok && dnnl_primitive_execute(primitive, stream, made, args) == dnnl_success;
    while (made > 0)
        dnnl_memory_destroy(args[--made].memory);
    return ok;
}

static gpointer
dnnl_init(gpointer unused)
{
    dnnl_entries = g_hash_table_new(key_hash, key_equal);
    if (dnnl_engine_create(&dnnl_engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_primitive_attr_create(&dnnl_attr) != dnnl_success ||
        dnnl_primitive_attr_set_scratchpad_mode(dnnl_attr, dnnl_scratchpad_mode_user) != dnnl_success)
        return NULL;
    return dnnl_entries;
}

/* The entry for B images, or NULL where oneDNN cannot serve. */
static const ConvEntry *
conv_entry(ConvKey key, size_t B)
{
    static GOnce once = G_ONCE_INIT;
    const ConvEntry *e = NULL;

    if (g_once(&once, dnnl_init, NULL)) {
        const int threads = dnnl_single_begin();

        e = entry_for(key, B);
        dnnl_single_end(threads);
    }
    return e && e->ok ? e : NULL;
}

static ConvKey
key_of(ConvKind kind, const FmShape *x, const FmShape *w, const FmShape *y, const FmAttrConv *at)
{
    ConvKey k = {.kind = kind};

    k.H = (guint32)x->dim[0], k.W = (guint32)x->dim[1], k.I = (guint32)x->dim[2];
    k.Ho = (guint32)y->dim[0], k.Wo = (guint32)y->dim[1], k.O = (guint32)y->dim[2];
    k.kh = (guint32)w->dim[2], k.kw = (guint32)w->dim[3];
    k.stride = (guint32)at->stride;
    k.pad_h = k.pad_w = (guint32)at->pad;
    if (kind == CONV_INPUT && at->stride == 1 && k.pad_h < k.kh && k.pad_w < k.kw) {
        const ConvKey s = k;

        k.kind = CONV_FLIPPED;
        k.H = s.Ho, k.W = s.Wo, k.I = s.O;
        k.Ho = s.H, k.Wo = s.W, k.O = s.I;
        k.pad_h = s.kh - 1 - s.pad_h, k.pad_w = s.kw - 1 - s.pad_w;
    }
    return k;
}

static size_t
plain_size(const ConvKey *k)
{
    return cpu_align((size_t)k->O * k->I * k->kh * k->kw * sizeof(float));
}

/* Layout of scratch: weights as the primitive wants them, plain weights, the primitive's own. */
static size_t
conv_scratch(const ConvKey *k, size_t n)
{
    size_t need = 0;

    for (size_t b = images_of(n); b > 0; b /= 2) {
        const ConvEntry *e = conv_entry(*k, b);

        if (e)
            need = MAX(need, e->w_size + plain_size(k) + e->scratch_size);
    }
    return need;
}

/* Weights (O, I, kh, kw) to the layout of `e`; `plain` has room for a flipped copy. */
static gboolean
conv_reorder(const ConvEntry *e, const float *w, void *out, float *plain, dnnl_stream_t stream)
{
    const ConvKey *k = &e->key;
    const int arg[4] = {DNNL_ARG_FROM, DNNL_ARG_TO};
    const Desc *desc[3] = {&e->plain, &e->w};
    void *data[4] = {(void *)w, out};

    if (k->kind == CONV_FLIPPED) {
        const size_t area = (size_t)k->kh * k->kw;

        /* the primitive's O and I are the weight's I and O */
        for (size_t o = 0; o < k->O; o++)
            for (size_t i = 0; i < k->I; i++)
                for (size_t t = 0; t < area; t++)
                    plain[(o * k->I + i) * area + t] = w[(i * k->O + o) * area + area - 1 - t];
        data[0] = plain;
    }
    return run_three(e->reorder, arg, desc, data, stream, NULL);
}

static void
conv_pack(const ConvKey *key, const float *w, void *packed)
{
    const ConvEntry *e = conv_entry(*key, 4);
    const int threads = dnnl_single_begin();
    dnnl_stream_t stream;

    if (e && dnnl_stream_create(&stream, dnnl_engine, dnnl_stream_default_flags) == dnnl_success) {
        conv_reorder(e, w, packed, (float *)((char *)packed + e->w_size), stream);
        dnnl_stream_wait(stream);
        dnnl_stream_destroy(stream);
    }
    dnnl_single_end(threads);
}

static gboolean
conv_run(const ConvKey *key, const FmKernelArgs *args, dnnl_stream_t stream)
{
    const gboolean back = key->kind == CONV_INPUT;
    const int arg[4] = {back ? DNNL_ARG_DIFF_DST : DNNL_ARG_SRC, DNNL_ARG_WEIGHTS,
                        back ? DNNL_ARG_DIFF_SRC : DNNL_ARG_DST};
    const size_t in = cpu_size(args->in[0].shape), out = cpu_size(args->out.shape);
    const void *w = args->packed;
    const ConvEntry *e = conv_entry(*key, 4);
    char *scratch = args->scratch;
    size_t b;

    if (!w && !conv_reorder(e, args->in[1].data, scratch, (float *)(scratch + e->w_size), stream))
        return FALSE;
    for (size_t done = 0; done < args->out.rows; done += b) {
        const float *from = (const float *)args->in[0].data + done * in;

        b = images_of(args->out.rows - done);
        e = conv_entry(*key, b);
        const Desc *desc[3] = {back ? &e->y : &e->x, &e->w, back ? &e->x : &e->y};
        void *data[4] = {(void *)from, w ? (void *)w : scratch, (float *)args->out.data + done * out,
                         scratch + e->w_size + plain_size(key)};

        if (!run_three(e->conv, arg, desc, data, stream, e->scratch_size > 0 ? &e->pad : NULL))
            return FALSE;
    }
    return TRUE;
}

static gboolean
conv_run_weight(const ConvKey *key, const FmKernelArgs *args, dnnl_stream_t stream)
{
    const int arg[4] = {DNNL_ARG_SRC, DNNL_ARG_DIFF_DST, DNNL_ARG_DIFF_WEIGHTS};
    const int arg_reorder[4] = {DNNL_ARG_FROM, DNNL_ARG_TO};
    const size_t in = cpu_size(args->in[0].shape), out = cpu_size(args->in[1].shape);
    const size_t size = cpu_size(args->out.shape);
    float *dw = args->out.data;
    char *scratch = args->scratch;
    size_t b;

    for (size_t done = 0; done < args->in[0].rows; done += b) {
        const ConvEntry *e;

        b = images_of(args->in[0].rows - done);
        e = conv_entry(*key, b);
        float *plain = (float *)(scratch + e->w_size);
        const Desc *desc[3] = {&e->x, &e->y, &e->w}, *desc_reorder[3] = {&e->w, &e->plain};
        void *data[4] = {(float *)args->in[0].data + done * in, (float *)args->in[1].data + done * out, scratch,
                         scratch + e->w_size + plain_size(key)};
        void *data_reorder[4] = {scratch, plain};

        if (!run_three(e->conv, arg, desc, data, stream, e->scratch_size > 0 ? &e->pad : NULL) ||
            !run_three(e->reorder, arg_reorder, desc_reorder, data_reorder, stream, NULL))
            return FALSE;
        for (size_t i = 0; i < size; i++)
            dw[i] = (args->accumulate || done > 0 ? dw[i] : 0.0f) + plain[i];
    }
    return TRUE;
}

/* TRUE when oneDNN has every primitive that n images need, and the one that lays out weights. */
static gboolean
conv_served(const ConvKey *key, size_t n)
{
    gboolean ok = key->kind == CONV_WEIGHT || conv_entry(*key, 4) != NULL;

    for (size_t b = images_of(n); b > 0 && ok; b /= 2)
        ok = conv_entry(*key, b) != NULL;
    return ok;
}

static gboolean
conv_execute(const ConvKey *key, const FmKernelArgs *args, const FmKernel *fallback)
{
    FmKernelArgs plain = *args;
    const int threads = dnnl_single_begin();
    gboolean ok = FALSE;
    dnnl_stream_t stream;

    if (conv_served(key, args->in[0].rows) &&
        dnnl_stream_create(&stream, dnnl_engine, dnnl_stream_default_flags) == dnnl_success) {
        ok = (key->kind == CONV_WEIGHT ? conv_run_weight : conv_run)(key, args, stream);
        dnnl_stream_wait(stream);
        dnnl_stream_destroy(stream);
    } else {
        plain.packed = NULL;
        ok = fallback->run(&plain);
    }
    dnnl_single_end(threads);
    return ok;
}

#define DEFINE(op, kind, X, W, Y, SX, SW, SY) \
    static gboolean dnnl_##op(const FmKernelArgs *args) \
    { \
        const ConvKey key = key_of(kind, args->X.shape, args->W.shape, args->Y.shape, args->attrs); \
        return conv_execute(&key, args, &cpu_im2col_##op); \
    } \
    static size_t dnnl_##op##_scratch(const FmKernelShapes *s) \
    { \
        const ConvKey key = key_of(kind, s->SX, s->SW, s->SY, s->attrs); \
        return MAX(conv_scratch(&key, cpu_rows(s->in[0], s->n)), cpu_im2col_##op.scratch(s)); \
    }
#define DEFINE_PACK(op, kind, X, W, Y, SX, SW, SY) \
    DEFINE(op, kind, X, W, Y, SX, SW, SY) \
    static size_t dnnl_##op##_pack_size(const FmKernelShapes *s) \
    { \
        const ConvKey key = key_of(kind, s->SX, s->SW, s->SY, s->attrs); \
        const ConvEntry *e = conv_entry(key, 4); \
        return e ? e->w_size + plain_size(&key) : 0; \
    } \
    static void dnnl_##op##_pack(const FmKernelArgs *args, void *packed) \
    { \
        const ConvKey key = key_of(kind, args->X.shape, args->W.shape, args->Y.shape, args->attrs); \
        conv_pack(&key, args->W.data, packed); \
    }

DEFINE_PACK(conv2d, CONV_FORWARD, in[0], in[1], out, in[0], in[1], out)
DEFINE_PACK(conv2d_input, CONV_INPUT, out, in[1], in[0], out, in[1], in[0])
DEFINE(conv2d_weight, CONV_WEIGHT, in[0], out, in[1], in[0], out, in[1])

const FmKernel cpu_dnnl_conv2d = {dnnl_conv2d, dnnl_conv2d_scratch, dnnl_conv2d_pack_size, dnnl_conv2d_pack};
const FmKernel cpu_dnnl_conv2d_input = {dnnl_conv2d_input, dnnl_conv2d_input_scratch, dnnl_conv2d_input_pack_size,
                                        dnnl_conv2d_input_pack};
const FmKernel cpu_dnnl_conv2d_weight = {dnnl_conv2d_weight, dnnl_conv2d_weight_scratch};

const char *
cpu_dnnl_version(void)
{
    static char text[32];
    const dnnl_version_t *v = dnnl_version();

    /* The first call of all: a level below the processor's holds for oneDNN too. */
    if (fm_cpu_level() < FM_CPU_AVX512)
        dnnl_set_max_cpu_isa(fm_cpu_level() == FM_CPU_AVX2 ? dnnl_cpu_isa_avx2 : dnnl_cpu_isa_sse41);
    g_snprintf(text, sizeof text, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
    return text;
}
#endif
