/* backend_test.c: every kernel of the cpu backend against the reference on odd sizes.
 * Tolerance: |cpu - reference| <= tol * (1 + |reference|), with tol 3e-6 (f32) and 1e-14 (f64)
 * for element-wise results (erf and pow 4e-6) and ten times that for sums of many terms. */
#include "suite.h"

#include <fmcore/backend.h>
#include <fmcore/cpu.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static FmPlugin *cpu, *reference;

static void
setup(void)
{
    GError *error = NULL;

    cpu = fm_plugin_new(FM_KIND_BACKEND, "cpu", &error);
    ck_assert_msg(cpu != NULL, "%s", error ? error->message : "");
    reference = fm_plugin_new(FM_KIND_BACKEND, "reference", &error);
    ck_assert_msg(reference != NULL, "%s", error ? error->message : "");
}

static void
teardown(void)
{
    fm_plugin_free(cpu);
    fm_plugin_free(reference);
}

static const FmKernel *
kernel_of(const FmPlugin *backend, const char *op, FmDtype dtype)
{
    const FmBackendOps *ops = fm_plugin_ops(backend);

    return ops->lookup(fm_plugin_self(backend), op, dtype);
}

static double
uniform(guint64 *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(*state >> 40) / (1u << 24);
}

/* Elements of one row of a view: the product of the axes, without K. */
static size_t
row_size(const FmShape *shape)
{
    size_t size = 1;

    for (int i = 0; i < shape->ndim; i++)
        size *= shape->dim[i];
    return size;
}

typedef struct Case {
    const char *op;
    size_t n, n_in;
    FmShape in[3], out;
    const void *attrs;
    double low, high; /* values of the inputs */
    double tol;       /* factor on the tolerance; 0: 1 */
    int labels;       /* index of an input of labels below `classes`, or 0 */
    gboolean accumulate;
} Case;

static size_t
view_rows(const FmShape *shape, size_t n)
{
    return shape->rows ? shape->rows * n : 1;
}

static double
value_at(FmDtype dtype, const void *data, size_t i)
{
    return dtype == FM_F32 ? (double)((const float *)data)[i] : ((const double *)data)[i];
}

/* How the operand in[1] reaches a kernel that can pack it. */
typedef enum Pack { PACK_NONE, PACK_AS_IT_LIES, PACK_TRANSPOSED, N_PACKS } Pack;

static void
pack_operand(const FmKernel *kernel, const Case *c, FmDtype dtype, FmKernelArgs *args, Pack how, void *packed)
{
    const size_t size = fm_dtype_size(dtype), K = c->in[1].dim[0], N = c->in[1].dim[1];
    const char *from = args->in[1].data;
    char *turned;

    if (how == PACK_AS_IT_LIES || !kernel->pack_transposed) {
        kernel->pack(args, packed);
        return;
    }
    args->in[1].data = turned = fm_alloc(K * N * size);
    for (size_t k = 0; k < K; k++)
        for (size_t j = 0; j < N; j++)
            memcpy(turned + (j * K + k) * size, from + (k * N + j) * size, size);
    kernel->pack_transposed(args, packed);
    fm_free(turned);
    args->in[1].data = NULL; /* run() must not look there */
}

/* Run one kernel on copies of the same arguments. */
static void
run(const FmPlugin *backend, const Case *c, FmDtype dtype, const FmKernelArgs *given, void *out, Pack pack)
{
    const FmKernel *kernel = kernel_of(backend, c->op, dtype);
    FmKernelShapes shapes = {.n = c->n, .n_in = c->n_in, .out = &c->out, .attrs = c->attrs};
    FmKernelArgs args = *given;
    void *packed = NULL;
    size_t size;

    ck_assert_msg(kernel != NULL, "no kernel %s", c->op);
    for (size_t i = 0; i < c->n_in; i++)
        shapes.in[i] = &c->in[i];
    args.out.data = out;
    args.scratch = fm_alloc(kernel->scratch ? kernel->scratch(&shapes) : 0);
    size = pack != PACK_NONE && kernel->pack_size ? kernel->pack_size(&shapes) : 0;
    if (size > 0) {
        packed = fm_alloc(size);
        pack_operand(kernel, c, dtype, &args, pack, packed);
    }
    args.packed = packed;
    ck_assert_msg(kernel->run(&args), "%s failed", c->op);
    fm_free(args.scratch);
    fm_free(packed);
}

static void
compare(const Case *c, FmDtype dtype)
{
    const size_t total = view_rows(&c->out, c->n) * row_size(&c->out);
    FmKernelArgs args = {.n = c->n,
                         .n_in = c->n_in,
                         .attrs = c->attrs,
                         .accumulate = c->accumulate,
                         .row0 = 5,
                         .key = {.seed = 9, .step = 3}};
    void *want = fm_alloc(total * 8), *got = fm_alloc(total * 8);
    const double tol = (dtype == FM_F32 ? 3e-6 : 1e-14) * (c->tol > 0 ? c->tol : 1);
    guint64 state = 7 + total;

    for (size_t i = 0; i < c->n_in; i++) {
        const size_t size = view_rows(&c->in[i], c->n) * row_size(&c->in[i]);
        void *data = fm_alloc(size * 8);

        for (size_t k = 0; k < size; k++) {
            const double x = c->low + (c->high - c->low) * uniform(&state);

            if (c->labels && (size_t)c->labels == i)
                ((gint32 *)data)[k] = (gint32)(x * 6) - 1;
            else if (dtype == FM_F32)
                ((float *)data)[k] = (float)x;
            else
                ((double *)data)[k] = x;
        }
        args.in[i] = (FmView){data, &c->in[i], view_rows(&c->in[i], c->n)};
    }
    args.out = (FmView){NULL, &c->out, view_rows(&c->out, c->n)};
    for (Pack pack = PACK_NONE; pack < N_PACKS; pack++) {
        memset(want, 0, total * 8);
        for (size_t k = 0; k < total && c->accumulate; k++)
            if (dtype == FM_F32)
                ((float *)want)[k] = 0.25f * (float)(k % 7);
            else
                ((double *)want)[k] = 0.25 * (double)(k % 7);
        memcpy(got, want, total * 8);
        run(reference, c, dtype, &args, want, PACK_NONE);
        run(cpu, c, dtype, &args, got, pack);
        for (size_t k = 0; k < total; k++) {
            const double a = value_at(dtype, want, k), b = value_at(dtype, got, k);

            /* asserted only where it fails: Check writes to a file at each assertion */
            if (!(a == b || (isnan(a) && isnan(b)) || fabs(a - b) <= tol * (1 + fabs(a))))
                ck_abort_msg("%s %s n=%zu: element %zu is %.17g, expected %.17g", c->op, fm_dtype_name(dtype), c->n, k,
                             b, a);
        }
    }
    for (size_t i = 0; i < c->n_in; i++)
        fm_free(args.in[i].data);
    fm_free(want);
    fm_free(got);
}

static void
compare_both(const Case *c)
{
    compare(c, FM_F32);
    compare(c, FM_F64);
}

static const size_t sizes[] = {1, 7, 31, 33, 257};

START_TEST(unary_agrees)
{
    static const struct {
        const char *op;
        double low, high, tol;
    } ops[] = {{"abs", -2, 2},      {"sign", -2, 2},    {"exp", -20, 5},       {"log", 1e-3, 9},  {"log1p", -0.9, 4},
               {"sqrt", 0, 4},      {"rsqrt", 0.01, 4}, {"recip", 0.1, 4},     {"sin", -40, 40},  {"cos", -40, 40},
               {"sin", -3e8, 3e8},  {"tanh", -4, 4},    {"sigmoid", -9, 9},    {"erf", -4, 4, 2}, {"exp", -800, -60},
               {"tanh", -1e3, 1e3}, {"cos", -1e4, 1e4}, {"sigmoid", -1e3, 1e3}};

    for (size_t s = 0; s < G_N_ELEMENTS(sizes); s++) {
        const FmShape shape = {1, 2, {3, 5}};
        const Case c = {ops[_i].op, sizes[s], 1, {shape}, shape, NULL, ops[_i].low, ops[_i].high, ops[_i].tol};

        compare_both(&c);
    }
}
END_TEST

START_TEST(attributes_agree)
{
    static const double exponents[] = {2, 3, -1, 0.5, -0.5, 1.7};
    const FmAttrAffine affine = {-1.7, 0.3};
    const FmShape shape = {2, 1, {9}};
    const Case a = {"affine", 33, 1, {shape}, shape, &affine, -2, 2};

    compare_both(&a);
    for (size_t i = 0; i < G_N_ELEMENTS(exponents); i++) {
        const FmAttrPow p = {exponents[i]};
        const Case c = {"pow", 33, 1, {shape}, shape, &p, 0.1, 2, 4};

        compare_both(&c);
    }
}
END_TEST

START_TEST(special_values_agree)
{
    static const char *const ops[] = {"exp", "log", "log1p", "sqrt", "tanh", "sigmoid", "erf", "sign", "sin", "recip"};
    static const double values[] = {0, INFINITY, -INFINITY, NAN, 1, -1, 1e-40, 88.7, -87.4, 1e30};
    const FmShape shape = {0, 1, {G_N_ELEMENTS(values)}};

    for (size_t i = 0; i < G_N_ELEMENTS(ops); i++) {
        const Case c = {ops[i], 1, 1, {shape}, shape};
        float x[G_N_ELEMENTS(values)], want[G_N_ELEMENTS(values)], got[G_N_ELEMENTS(values)];
        double x2[G_N_ELEMENTS(values)], want2[G_N_ELEMENTS(values)], got2[G_N_ELEMENTS(values)];
        FmKernelArgs args = {.n = 1, .n_in = 1, .in = {{x, &shape, 1}}, .out = {NULL, &shape, 1}};

        for (size_t k = 0; k < G_N_ELEMENTS(values); k++)
            x[k] = (float)(x2[k] = values[k]);
        run(reference, &c, FM_F32, &args, want, PACK_NONE);
        run(cpu, &c, FM_F32, &args, got, PACK_NONE);
        args.in[0].data = x2;
        run(reference, &c, FM_F64, &args, want2, PACK_NONE);
        run(cpu, &c, FM_F64, &args, got2, PACK_NONE);
        for (size_t k = 0; k < G_N_ELEMENTS(values); k++) {
            ck_assert_msg(want[k] == got[k] || (isnan(want[k]) && isnan(got[k])) ||
                              fabsf(want[k] - got[k]) <= 4e-6f * fabsf(want[k]) + 1e-44f,
                          "%s(%g) is %g, expected %g", ops[i], values[k], got[k], want[k]);
            ck_assert_msg(want2[k] == got2[k] || (isnan(want2[k]) && isnan(got2[k])) ||
                              fabs(want2[k] - got2[k]) <= 4e-15 * fabs(want2[k]),
                          "%s(%g) is %g, expected %g in double", ops[i], values[k], got2[k], want2[k]);
        }
    }
}
END_TEST

START_TEST(broadcasting_agrees)
{
    static const char *const ops[] = {"add", "sub", "mul", "div", "maximum", "greater", "equal"};
    static const FmShape in[] = {{0, 0, {0}},       {0, 1, {5}},       {1, 0, {0}},       {1, 2, {7, 1}},
                                 {1, 3, {1, 7, 5}}, {3, 3, {4, 7, 5}}, {3, 3, {4, 1, 1}}, {3, 2, {1, 5}},
                                 {0, 3, {4, 1, 5}}, {1, 3, {4, 7, 1}}, {0, 3, {4, 7, 5}}, {3, 0, {0}}};
    const FmShape out = {3, 3, {4, 7, 5}};
    const size_t n_shapes = G_N_ELEMENTS(in);

    for (size_t i = 0; i < n_shapes * n_shapes; i++) {
        const size_t n = sizes[i % 4];
        const Case c = {ops[i % G_N_ELEMENTS(ops)], n, 2, {in[i / n_shapes], in[i % n_shapes]}, out, NULL, 0.5, 2};

        compare_both(&c);
    }
    for (size_t i = 0; i < n_shapes; i++) {
        const Case s = {"select", 7, 3, {{1, 1, {1}}, in[i], out}, out, NULL, 0, 1};
        const Case b = {"broadcast", 7, 1, {in[i]}, out, NULL, 0, 1};

        compare_both(&s);
        compare_both(&b);
    }
}
END_TEST

START_TEST(moving_agrees)
{
    static const FmAttrPermute perms[] = {{{1, 0, 2, 3}}, {{3, 2, 1, 0}}, {{0, 3, 1, 2}},
                                          {{0, 1, 3, 2}}, {{2, 3, 0, 1}}, {{0, 2, 1, 3}}};
    const FmShape x = {2, 4, {3, 17, 4, 5}};

    for (size_t i = 0; i < G_N_ELEMENTS(perms); i++) {
        FmShape y = x;
        Case c;

        for (int a = 0; a < 4; a++)
            y.dim[a] = x.dim[perms[i].perm[a]];
        c = (Case){"permute", 7, 1, {x}, y, &perms[i], -1, 1};
        compare_both(&c);
    }
    for (int axis = 0; axis < 4; axis++) {
        const FmAttrSlice slice = {.axis = axis, .start = 1, .after = 1};
        const FmAttrSlice pad = {.axis = axis, .start = 2, .after = 1};
        const FmAttrAxis concat = {axis};
        FmShape sliced = x, padded = x, joined = x;

        sliced.dim[axis] -= 2;
        padded.dim[axis] += 3;
        joined.dim[axis] += x.dim[axis] + sliced.dim[axis];

        const Case cs = {"slice", 7, 1, {x}, sliced, &slice, -1, 1};
        const Case cp = {"pad", 7, 1, {x}, padded, &pad, -1, 1};
        const Case cc = {"concat", 7, 3, {x, sliced, x}, joined, &concat, -1, 1};

        compare_both(&cs);
        compare_both(&cp);
        compare_both(&cc);
    }
}
END_TEST

START_TEST(reductions_agree)
{
    const FmShape x = {3, 4, {5, 33, 2, 18}};

    for (unsigned axes = 1; axes < 16; axes++) {
        const FmAttrReduce at = {axes};
        FmShape y = x;
        Case c;

        for (int a = 0; a < 4; a++)
            if (axes >> a & 1)
                y.dim[a] = 1;
        c = (Case){"sum", 1 + axes % 3, 1, {x}, y, &at, -1, 1, 10};
        compare_both(&c);
        c.op = "max";
        compare_both(&c);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        const FmShape wide = {3, 1, {sizes[i]}}, one = {1, 1, {sizes[i]}}, none = {0, 1, {sizes[i]}};
        const Case r = {"sum_rows", 31, 1, {wide}, one, NULL, -1, 1, 10};
        Case b = {"sum_batch", sizes[i], 1, {wide}, none, NULL, -1, 1, 10};

        compare_both(&r);
        compare_both(&b);
        b.accumulate = TRUE;
        compare_both(&b);
    }
}
END_TEST

/* M rows of x times weights, and the weights' gradient, written and added to. */
static void
compare_products(FmShape x, FmShape y, size_t M)
{
    const FmShape w = {0, 2, {x.dim[x.ndim - 1], y.dim[y.ndim - 1]}};
    const Case c = {"matmul", M, 2, {x, w}, y, NULL, -1, 1, 20};
    Case r = {"matmul_reduce", M, 2, {x, y}, w, NULL, -1, 1, 40};

    compare_both(&c);
    compare_both(&r);
    r.accumulate = TRUE;
    compare_both(&r);
}

START_TEST(products_agree)
{
    const size_t M = sizes[_i];

    for (size_t k = 0; k < 4; k++) {
        const size_t K = sizes[k], N = sizes[(k + 2) % 4];

        compare_products((FmShape){2, 2, {3, K}}, (FmShape){2, 2, {3, N}}, M);
        for (int t = 0; t < 4; t++) {
            const FmAttrTrans at = {t & 1, t >> 1};
            const FmShape a = {2, 3, {2, t & 1 ? K : 5, t & 1 ? 5 : K}};
            const FmShape b = {t == 3 ? 0 : 2, 3, {2, t & 2 ? N : K, t & 2 ? K : N}};
            const Case p = {"matmul_batch", MIN(M, 33), 2, {a, b}, {2, 3, {2, 5, N}}, &at, -1, 1, 20};

            compare_both(&p);
        }
    }
}
END_TEST

/* Own kernels change their ways at whole vectors, panels of columns and 128 or 256 terms. */
START_TEST(wide_products_agree)
{
    static const size_t rows[] = {1, 5, 7, 31, 33, 64, 257};
    static const size_t widths[] = {1, 2, 3, 4, 5, 15, 17, 31, 48, 63, 64, 65, 100, 130, 193};

    for (size_t j = 0; j < G_N_ELEMENTS(widths); j++) {
        const size_t K = widths[(4 * j + (size_t)_i) % G_N_ELEMENTS(widths)] + (j % 3 ? 0 : 128);

        compare_products((FmShape){1, 1, {K}}, (FmShape){1, 1, {widths[j]}}, rows[_i]);
    }
}
END_TEST

/* From 384 rows and columns a gradient's operands are copied; packed weights are read in blocks of 66 rows
 * and 256 terms. */
START_TEST(tall_gradients_agree)
{
    static const size_t rows[] = {1, 33, 130, 257};
    static const size_t widths[][2] = {{384, 384}, {401, 390}, {600, 385}};

    for (size_t j = 0; j < G_N_ELEMENTS(widths); j++)
        compare_products((FmShape){1, 1, {widths[j][0]}}, (FmShape){1, 1, {widths[j][1]}}, rows[_i]);
}
END_TEST

/* The level is the one that was asked for, else the processor's best, and describe() says so. */
START_TEST(level_is_the_best_or_the_one_asked_for)
{
    const char *mask = g_getenv("FMCORE_CPU"), *level = fm_cpu_level_name(fm_cpu_level());
    const char *text = ((const FmBackendOps *)fm_plugin_ops(cpu))->describe(fm_plugin_self(cpu));
    FmCpuLevel best = FM_CPU_BASE;

#ifdef FM_CPU_LEVELS
    g_autofree char *info = NULL;

    /* as the kernel sees the processor, not as the compiler's library does */
    ck_assert(g_file_get_contents("/proc/cpuinfo", &info, NULL, NULL));
    if (strstr(info, " avx2") && strstr(info, " fma"))
        best = FM_CPU_AVX2;
    if (best == FM_CPU_AVX2 && strstr(info, " avx512f") && strstr(info, " avx512bw") && strstr(info, " avx512dq") &&
        strstr(info, " avx512vl"))
        best = FM_CPU_AVX512;
#endif
    ck_assert(g_str_has_suffix(text, level));
    if (!mask)
        ck_assert_uint_eq(fm_cpu_level(), best);
    for (int i = 0; mask && i <= (int)best; i++)
        if (strcmp(mask, fm_cpu_level_name((FmCpuLevel)i)) == 0)
            ck_assert_uint_eq(fm_cpu_level(), i);
    ck_assert_uint_le(fm_cpu_level(), best);
}
END_TEST

START_TEST(convolutions_agree)
{
    const gint32 stride = 1 + _i % 2, pad = _i / 2 % 3;
    static const size_t channels[] = {1, 3, 5, 16, 33};

    for (size_t k = 0; k < 5; k++)
        for (size_t side = 1; side <= 4; side++) {
            const size_t I = channels[k], O = channels[(k * 3 + 1) % 5], H = 9, W = 7;
            const size_t kh = side, kw = side;
            const FmAttrConv at = {stride, pad};
            const FmShape x = {1, 3, {H, W, I}}, w = {0, 4, {O, I, kh, kw}};
            const FmShape y = {
                1,
                3,
                {(H + 2 * (size_t)pad - kh) / (size_t)stride + 1, (W + 2 * (size_t)pad - kw) / (size_t)stride + 1, O}};
            const size_t n = 1 + (k + side) % 7;
            const Case f = {"conv2d", n, 2, {x, w}, y, &at, -1, 1, 20};
            const Case b = {"conv2d_input", n, 2, {y, w}, x, &at, -1, 1, 20};
            Case g = {"conv2d_weight", n, 2, {x, y}, w, &at, -1, 1, 40};

            compare_both(&f);
            compare_both(&b);
            compare_both(&g);
            g.accumulate = TRUE;
            compare_both(&g);
        }
}
END_TEST

/* 3 x 3 filters with many channels have kernels of their own; blocks end inside images. */
START_TEST(wide_convolutions_agree)
{
    static const size_t sides[][2] = {{9, 7}, {4, 5}, {8, 8}, {3, 9}};
    static const size_t channels[][2] = {{24, 33}, {33, 24}, {130, 70}, {23, 64}};
    const FmAttrConv at = {1, 1};

    for (size_t k = 0; k < G_N_ELEMENTS(channels); k++) {
        const size_t I = channels[k][0], O = channels[k][1], H = sides[_i][0], W = sides[_i][1];
        const FmShape x = {1, 3, {H, W, I}}, w = {0, 4, {O, I, 3, 3}}, y = {1, 3, {H, W, O}};
        const size_t n = 1 + (k + (size_t)_i) % 5;
        const Case f = {"conv2d", n, 2, {x, w}, y, &at, -1, 1, 40};
        const Case b = {"conv2d_input", n, 2, {y, w}, x, &at, -1, 1, 40};
        Case g = {"conv2d_weight", n, 2, {x, y}, w, &at, -1, 1, 40};

        compare_both(&f);
        compare_both(&b);
        compare_both(&g);
        g.accumulate = TRUE;
        compare_both(&g);
    }
}
END_TEST

START_TEST(labels_and_random_agree)
{
    const FmShape table = {0, 2, {4, 9}}, labels = {1, 0, {0}}, rows = {1, 1, {9}};
    const Case g = {"gather", 33, 2, {table, labels}, rows, NULL, 0, 1, 1, 1};
    Case s = {"scatter_add", 33, 2, {rows, labels}, table, NULL, 0, 1, 10, 1};

    compare_both(&g);
    compare_both(&s);
    s.accumulate = TRUE;
    compare_both(&s);
    for (int kind = 0; kind < 3; kind++) {
        const FmAttrRandom at = {kind, 70};
        const Case r = {"random", 7, 0, {{0}}, {3, 2, {2, 5}}, &at};

        compare_both(&r);
    }
}
END_TEST

enum { PROGRAM_INPUTS = 4 };
static const FmShape program_shapes[PROGRAM_INPUTS] = {{1, 2, {11, 13}}, {0, 1, {13}}, {1, 2, {11, 1}}, {0, 0, {0}}};

/* A program of four inputs against the reference's kernels, one instruction after the other. Inputs are
 * uniform in +-range. */
static void
compare_program(FmDtype dtype, FmProgram *p, size_t n, double range, guint64 seed)
{
    static const char *const names[FM_N_ELT_OPS] = {
        "abs", "sign",   "exp", "log", "log1p", "sqrt", "rsqrt", "recip",   "sin",     "cos",   "tanh",  "sigmoid",
        "erf", "affine", "pow", "add", "sub",   "mul",  "div",   "maximum", "greater", "equal", "select"};
    const FmShape *shapes = program_shapes;
    const size_t total = n * 11 * 13;
    guint64 state = seed;
    void *reg[FM_MAX_INPUTS + FM_MAX_INSTRS], *out[FM_MAX_INPUTS];
    FmKernelArgs args = {.n = n, .n_in = PROGRAM_INPUTS, .attrs = p};
    FmKernelShapes fused = {.n = n, .n_in = PROGRAM_INPUTS, .out = &shapes[0], .attrs = p};

    for (size_t i = 0; i < PROGRAM_INPUTS + (size_t)p->n_instrs; i++)
        reg[i] = fm_alloc(total * 8);
    for (size_t i = 0; i < PROGRAM_INPUTS; i++) {
        for (size_t k = 0; k < view_rows(&shapes[i], n) * row_size(&shapes[i]); k++) {
            if (dtype == FM_F32)
                ((float *)reg[i])[k] = (float)(range * (2 * uniform(&state) - 1));
            else
                ((double *)reg[i])[k] = range * (2 * uniform(&state) - 1);
        }
        args.in[i] = (FmView){reg[i], &shapes[i], view_rows(&shapes[i], n)};
        fused.in[i] = &shapes[i];
    }
    for (int i = 0; i < p->n_instrs; i++) {
        const FmInstr *in = &p->instr[i];
        const size_t arity = in->op < FM_ELT_ADD ? 1 : in->op == FM_ELT_SELECT ? 3 : 2;
        const FmAttrAffine affine = {in->imm[0], in->imm[1]};
        Case c = {.op = names[in->op], .n = n, .n_in = arity, .out = shapes[0], .attrs = &affine};
        FmKernelArgs one = {.n = n, .n_in = arity, .attrs = &affine, .out = {NULL, &c.out, n}};

        for (size_t k = 0; k < arity; k++) {
            c.in[k] = in->src[k] < PROGRAM_INPUTS ? shapes[in->src[k]] : shapes[0];
            one.in[k] = (FmView){reg[in->src[k]], &c.in[k], view_rows(&c.in[k], n)};
        }
        run(reference, &c, dtype, &one, reg[PROGRAM_INPUTS + i], PACK_NONE);
    }
    for (int k = 0; k < p->n_out; k++) {
        const FmView view = {out[k] = fm_alloc(total * 8), &shapes[0], n};

        *(k == 0 ? &args.out : &args.in[PROGRAM_INPUTS + k - 1]) = view;
    }
    args.scratch = fm_alloc(kernel_of(cpu, "fused", dtype)->scratch(&fused));
    ck_assert(kernel_of(cpu, "fused", dtype)->run(&args));
    for (int k = 0; k < p->n_out; k++) {
        double worst = 0.0; /* one assertion for all: Check writes to a file at each */

        for (size_t e = 0; e < total; e++) {
            const double got = value_at(dtype, out[k], e), want = value_at(dtype, reg[p->outs[k]], e);
            const double off = fabs(got - want) / (1.0 + fabs(want));

            worst = off <= worst ? worst : off; /* NaN stays */
        }
        ck_assert_msg(worst <= (dtype == FM_F32 ? 1e-5 : 1e-13), "result %d of %zu rows is off by %g", k, n, worst);
        fm_free(out[k]);
    }
    for (size_t i = 0; i < PROGRAM_INPUTS + (size_t)p->n_instrs; i++)
        fm_free(reg[i]);
    fm_free(args.scratch);
}

static void
check_random_program(FmDtype dtype, guint64 seed)
{
    static const guint8 safe[] = {FM_ELT_ABS,    FM_ELT_SIN, FM_ELT_COS, FM_ELT_TANH,    FM_ELT_SIGMOID, FM_ELT_ERF,
                                  FM_ELT_AFFINE, FM_ELT_ADD, FM_ELT_SUB, FM_ELT_MAXIMUM, FM_ELT_SELECT};
    FmProgram p = {.n_in = PROGRAM_INPUTS, .n_instrs = (guint16)(1 + seed % 24)};
    guint64 state = seed;

    for (int i = 0; i < p.n_instrs; i++) {
        p.instr[i] = (FmInstr){.op = safe[(size_t)(uniform(&state) * G_N_ELEMENTS(safe))], .imm = {0.6, -0.2}};
        for (size_t k = 0; k < 3; k++)
            p.instr[i].src[k] = (guint8)(uniform(&state) * (PROGRAM_INPUTS + i));
    }
    p.n_out = (guint16)(p.n_instrs > 4 ? 3 : 1);
    p.outs[0] = (guint8)(PROGRAM_INPUTS - 1 + p.n_instrs);
    p.outs[1] = (guint8)(PROGRAM_INPUTS + p.n_instrs / 2);
    p.outs[2] = (guint8)(PROGRAM_INPUTS + p.n_instrs / 3);
    compare_program(dtype, &p, sizes[seed % 4], 1, seed);
}

START_TEST(programs_agree)
{
    for (guint64 seed = 1; seed <= 60; seed++) {
        check_random_program(FM_F32, seed);
        check_random_program(FM_F64, seed);
    }
}
END_TEST

/* h = x + bias, y = silu(h), d its derivative, and 0.6 d y - 0.2: which instructions run as one pass
 * depends on which of them are read elsewhere. */
START_TEST(activations_agree)
{
    enum { X, BIAS, H = PROGRAM_INPUTS, S, Y, Q, R, D, DY, Z, END };
    static const FmInstr instr[] = {
        {FM_ELT_ADD, {X, BIAS}, {0}},      {FM_ELT_SIGMOID, {H}, {0}},         {FM_ELT_MUL, {H, S}, {0}},
        {FM_ELT_AFFINE, {S}, {-1.0, 1.0}}, {FM_ELT_MUL, {Y, Q}, {0}},          {FM_ELT_ADD, {S, R}, {0}},
        {FM_ELT_MUL, {D, Y}, {0}},         {FM_ELT_AFFINE, {DY}, {0.6, -0.2}},
    };
    static const struct {
        int last; /* the program ends there */
        int n_out;
        guint8 out[4];
    } ends[] = {{Y, 1, {Y}},       {Y, 2, {Y, S}},       {Y, 2, {Y, H}},    {D, 2, {D, Y}},
                {D, 1, {D}},       {D, 3, {D, Y, S}},    {D, 3, {D, R, Y}}, {D, 3, {D, Q, H}},
                {Z, 3, {Z, Y, D}}, {Z, 4, {Z, H, Y, D}}, {Z, 1, {Z}}};
    static const double ranges[] = {1, 20, 400};

    G_STATIC_ASSERT(G_N_ELEMENTS(instr) == END - H);
    for (size_t e = 0; e < G_N_ELEMENTS(ends); e++)
        for (size_t r = 0; r < G_N_ELEMENTS(ranges); r++) {
            FmProgram p = {
                .n_in = PROGRAM_INPUTS, .n_instrs = (guint16)(ends[e].last - H + 1), .n_out = (guint16)ends[e].n_out};

            memcpy(p.instr, instr, p.n_instrs * sizeof *instr);
            memcpy(p.outs, ends[e].out, sizeof ends[e].out);
            compare_program(FM_F32, &p, sizes[_i], ranges[r], 3 + r);
            compare_program(FM_F64, &p, sizes[_i], ranges[r], 3 + r);
        }
}
END_TEST

/* A diverged net must not look sound. */
START_TEST(activations_hand_on_what_is_not_finite)
{
    enum { N = 13 };
    const FmShape shape = {1, 0, {0}};
    const FmProgram p = {.n_in = 1,
                         .n_instrs = 5,
                         .n_out = 2,
                         .outs = {5, 2},
                         .instr = {{FM_ELT_SIGMOID, {0}, {0}},
                                   {FM_ELT_MUL, {0, 1}, {0}},
                                   {FM_ELT_AFFINE, {1}, {-1.0, 1.0}},
                                   {FM_ELT_MUL, {2, 3}, {0}},
                                   {FM_ELT_ADD, {1, 4}, {0}}}};
    const FmKernelShapes shapes = {.n = N, .n_in = 1, .in = {&shape}, .out = &shape, .attrs = &p};
    float x[N], d[N], y[N];
    FmKernelArgs args = {.n = N, .n_in = 1, .attrs = &p, .in = {{x, &shape, N}, {y, &shape, N}}, .out = {d, &shape, N}};

    for (int i = 0; i < N; i++)
        x[i] = i % 2 == 0 ? NAN : INFINITY;
    args.scratch = fm_alloc(kernel_of(cpu, "fused", FM_F32)->scratch(&shapes));
    ck_assert(kernel_of(cpu, "fused", FM_F32)->run(&args));
    for (int i = 0; i < N; i++) {
        ck_assert(i % 2 == 0 ? isnan(y[i]) : isinf(y[i]));
        ck_assert(i % 2 == 0 ? isnan(d[i]) : !(d[i] < 1.0f));
    }
    fm_free(args.scratch);
}
END_TEST

/* Dense algebra: a matrix with known factor and spectrum. */
START_TEST(dense_algebra)
{
    const FmBackendOps *ops = fm_plugin_ops(cpu);
    const void *self = fm_plugin_self(cpu);
    double a[9] = {4, 2, 0.4, 2, 5, -1, 0.4, -1, 3}, l[9], v[9], w[3];

    memcpy(l, a, sizeof a);
    memcpy(v, a, sizeof a);
    ck_assert_int_eq(ops->cholesky(self, 3, l), 0);
    ck_assert_int_eq(ops->eigen(self, 3, v, w), 0);
    ck_assert(w[0] < w[1] && w[1] < w[2]);
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) {
            double llt = 0, vwv = 0;

            for (int k = 0; k < 3; k++) {
                llt += (k <= i ? l[3 * i + k] : 0) * (k <= j ? l[3 * j + k] : 0);
                vwv += v[3 * k + i] * w[k] * v[3 * k + j];
            }
            ck_assert_double_eq_tol(llt, a[3 * i + j], 1e-14);
            ck_assert_double_eq_tol(vwv, a[3 * i + j], 1e-14);
        }
    a[0] = -1;
    ck_assert_int_ne(ops->cholesky(self, 3, a), 0);
    ck_assert(strlen(ops->describe(self)) > 4);
}
END_TEST

/* LeakSanitizer crashes where a forked test ends beside threads of the libraries behind the kernels. */
const char *__asan_default_options(void);

const char *
__asan_default_options(void)
{
    return "detect_leaks=0";
}

int
main(void)
{
    Suite *suite = suite_create("backend");
    TCase *tc = tcase_create("cpu against reference");

    suite_add_tcase(suite, tc);
    tcase_set_timeout(tc, 120);
    tcase_add_unchecked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, unary_agrees, 0, 18);
    tcase_add_test(tc, attributes_agree);
    tcase_add_test(tc, special_values_agree);
    tcase_add_test(tc, broadcasting_agrees);
    tcase_add_test(tc, moving_agrees);
    tcase_add_test(tc, reductions_agree);
    tcase_add_loop_test(tc, products_agree, 0, 5);
    tcase_add_loop_test(tc, wide_products_agree, 0, 7);
    tcase_add_loop_test(tc, tall_gradients_agree, 0, 4);
    tcase_add_test(tc, level_is_the_best_or_the_one_asked_for);
    tcase_add_loop_test(tc, convolutions_agree, 0, 6);
    tcase_add_loop_test(tc, wide_convolutions_agree, 0, 4);
    tcase_add_test(tc, labels_and_random_agree);
    tcase_add_test(tc, programs_agree);
    tcase_add_loop_test(tc, activations_agree, 0, G_N_ELEMENTS(sizes));
    tcase_add_test(tc, activations_hand_on_what_is_not_finite);
    tcase_add_test(tc, dense_algebra);
    return run_suite(suite, CK_FORK);
}
