/* bench_kernel.c: matrix products and convolutions as plans run them, without the rest of a net,
 * and the program's start. */
#include "cli/bench.h"

#include <string.h>

/* ---- one plan, repeated ---- */

/* A plan whose inputs are random; each of `threads` workers runs whole tiles of its own. */
typedef struct Kernel {
    FmGraph *graph;
    FmParams *params;
    FmPlan *plan;
    FmExec *exec;
    size_t rows; /* of a tile */
    FmDtype dtype;
    void *in[FM_MAX_INPUTS], *out; /* (rows, ...), one output for each worker */
    size_t out_bytes;
    int threads;
    gboolean ok;
} Kernel;

static void
kernel_clear(Kernel *k)
{
    fm_exec_free(k->exec);
    fm_plan_free(k->plan);
    fm_params_free(k->params);
    fm_graph_free(k->graph);
    for (size_t i = 0; i < G_N_ELEMENTS(k->in); i++)
        fm_free(k->in[i]);
    fm_free(k->out);
}

static gboolean
kernel_buffers(Kernel *k, GError **error)
{
    const size_t size = fm_dtype_size(k->dtype), n = fm_plan_n_inputs(k->plan);
    const FmShape *out = fm_plan_output_shape(k->plan, 0);

    for (size_t i = 0; i < n; i++) {
        const size_t width = fm_shape_size(fm_plan_input_shape(k->plan, i));
        const FmKey key = {.stream = FM_STREAM_USER, .step = i};

        k->in[i] = fm_alloc(k->rows * width * size);
        if (k->in[i] && k->dtype == FM_F32)
            fm_fill_normal_f32(key, 0, k->rows, width, k->in[i]);
        else if (k->in[i])
            fm_fill_normal_f64(key, 0, k->rows, width, k->in[i]);
    }
    k->out_bytes = fm_shape_size(out) * size * (out->rows > 0 ? k->rows : 1);
    k->out_bytes = (k->out_bytes + FM_ALIGN - 1) / FM_ALIGN * FM_ALIGN;
    k->out = fm_alloc(k->out_bytes * (size_t)k->threads);
    if (k->out && (n == 0 || k->in[n - 1]))
        return TRUE;
    g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "bench: the operands do not fit in memory");
    return FALSE;
}

static gboolean
kernel_open(Kernel *k, Bench *b, FmNode *y, GError **error)
{
    FmPlanOptions options = {.dtype = k->dtype, .tile = k->rows};

    if (!fm_graph_ok(k->graph, error))
        return FALSE;
    options.backend = fm_backend_default(error);
    if (!options.backend)
        return FALSE;
    k->params = fm_params_new(k->graph, k->dtype, 0, error);
    k->plan = k->params ? fm_plan_new(k->graph, &y, 1, &options, error) : NULL;
    k->exec = k->plan ? fm_exec_new(k->plan, k->params, k->threads, error) : NULL;
    return k->exec && kernel_buffers(k, error);
}

static void
kernel_tile(void *ctx, int worker, size_t i)
{
    Kernel *k = ctx;
    const FmKey key = {.stream = FM_STREAM_USER};
    void *out[1] = {(char *)k->out + (size_t)worker * k->out_bytes};

    if (!fm_exec_tile(k->exec, worker, k->rows, (const void *const *)k->in, out, key, 0))
        k->ok = FALSE;
}

/* Repetitions of at least half a millisecond: `inner` tiles, dealt to the threads. */
static gboolean
kernel_rounds(Kernel *k, BenchRow *row, GError **error)
{
    const double flops = fm_plan_flops(k->plan) * (double)k->rows;
    const size_t inner = (size_t)(1e8 / MAX(flops, 1.0)) + 4 * (size_t)k->threads;
    gboolean go = TRUE;

    k->ok = TRUE;
    row->enough = 200;
    while (go && k->ok) {
        const double start = cli_seconds();

        fm_parallel(k->threads, inner, kernel_tile, k);
        go = bench_more(row, (cli_seconds() - start) * 1e3 / (double)inner);
    }
    row->flops = flops;
    if (!k->ok)
        g_set_error(error, FM_ERROR, FM_ERROR_DIVERGED, "bench: a kernel failed");
    return k->ok;
}

static void
describe_kernel(BenchRow *row, const Kernel *k)
{
    const FmPlugin *backend = fm_backend_default(NULL);
    const FmBackendOps *ops = backend ? fm_plugin_ops(backend) : NULL;

    bench_detail(row, "dtype", g_strdup(fm_dtype_name(k->dtype)));
    bench_detail(row, "threads", g_strdup_printf("%d", k->threads));
    if (ops && ops->describe)
        bench_detail(row, "backend", g_strdup(ops->describe(fm_plugin_self(backend))));
}

static int
all_threads(const Bench *b)
{
    return b->cli->config->threads > 0 ? b->cli->config->threads : (int)g_get_num_processors();
}

/* ---- gemm ---- */

enum { GEMM_CHAIN = 8 }; /* products one after another, so that copies in and out do not count */

typedef enum GemmForm { GEMM_VALUE, GEMM_WEIGHTS } GemmForm;

/* (m, width) through weights (width, width), or (width, m) (m, width): a weight's gradient. */
static FmNode *
gemm_graph(FmGraph *graph, GemmForm form, size_t width)
{
    FmNode *x = fm_input(graph, "x", 1, 1, &width), *sum = NULL;

    for (int i = 0; i < GEMM_CHAIN; i++) {
        g_autofree char *name = g_strdup_printf("w%d", i);

        if (form == GEMM_VALUE)
            x = fm_matmul(x, fm_param(graph, name, 2, (size_t[]){width, width}, (FmInit){FM_INIT_NORMAL, 1e-2}));
        else {
            FmNode *y = fm_matmul_reduce(fm_input(graph, name, 1, 1, &width), x);

            sum = sum ? fm_add(sum, y) : y;
        }
    }
    return form == GEMM_VALUE ? x : sum;
}

static gboolean
gemm_row(Bench *b, GemmForm form, size_t rows, size_t width, int threads, GError **error)
{
    Kernel k = {.graph = fm_graph_new(), .rows = rows, .dtype = b->cli->config->dtype, .threads = threads};
    gboolean ok = kernel_open(&k, b, gemm_graph(k.graph, form, width), error);

    if (ok) {
        BenchRow *row = bench_row(b);

        bench_detail(row, "form", g_strdup(form == GEMM_VALUE ? "x w" : "x^T y"));
        bench_detail(row, "size", g_strdup_printf("%zux%zux%zu", rows, width, width));
        ok = kernel_rounds(&k, row, error);
        describe_kernel(row, &k);
    }
    kernel_clear(&k);
    return ok;
}

static const size_t gemm_size[][2] = {{64, 64}, {64, 128}, {64, 256}, {128, 512}, {256, 512}, {256, 1024}};

gboolean
bench_gemm(Bench *b, GError **error)
{
    const int threads = all_threads(b);
    gboolean ok = TRUE;

    for (size_t i = 0; ok && i < G_N_ELEMENTS(gemm_size); i++)
        for (int t = 1; ok && t <= threads; t += MAX(threads - 1, 1)) {
            const size_t rows = gemm_size[i][0], width = gemm_size[i][1];

            ok = gemm_row(b, GEMM_VALUE, rows, width, t, error) && gemm_row(b, GEMM_WEIGHTS, rows, width, t, error);
        }
    return ok;
}

double
bench_gemm_peak(Bench *b)
{
    Bench own = {.cli = b->cli, .rows = bench_rows_new()};
    double peak = 0.0;

    for (size_t i = 0; i < G_N_ELEMENTS(gemm_size); i++)
        if (!gemm_row(&own, GEMM_VALUE, gemm_size[i][0], gemm_size[i][1], all_threads(b), NULL))
            break;
    for (guint i = 0; i < own.rows->len; i++) {
        BenchRow *row = own.rows->pdata[i];

        bench_row_finish(row);
        peak = MAX(peak, row->flops / row->median * 1e-6);
    }
    g_ptr_array_unref(own.rows);
    return peak;
}

/* ---- conv ---- */

typedef struct ConvShape {
    size_t side, in, out, kernel;
} ConvShape;

typedef enum ConvForm { CONV_VALUE, CONV_INPUT, CONV_WEIGHT, CONV_N } ConvForm;

static FmNode *
conv_graph(FmGraph *graph, ConvForm form, const ConvShape *s)
{
    const size_t k = s->kernel;
    const int pad = (int)(k / 2);
    FmNode *w = fm_param(graph, "w", 4, (size_t[]){s->out, s->in, k, k}, (FmInit){FM_INIT_NORMAL, 1e-2});
    FmNode *x = fm_input(graph, "x", 1, 3, (size_t[]){s->side, s->side, s->in});
    FmNode *dy = fm_input(graph, "dy", 1, 3, (size_t[]){s->side, s->side, s->out});

    switch (form) {
    case CONV_VALUE:
        return fm_conv2d(x, w, 1, pad);
    case CONV_INPUT:
        return fm_conv2d_input(dy, w, s->side, s->side, 1, pad);
    default:
        return fm_conv2d_weight(x, dy, k, k, 1, pad);
    }
}

static gboolean
conv_row(Bench *b, ConvForm form, const ConvShape *s, size_t images, GError **error)
{
    static const char *const names[CONV_N] = {"value", "gradient of x", "gradient of w"};
    Kernel k = {.graph = fm_graph_new(), .rows = images, .dtype = b->cli->config->dtype, .threads = all_threads(b)};
    gboolean ok = kernel_open(&k, b, conv_graph(k.graph, form, s), error);

    if (ok) {
        BenchRow *row = bench_row(b);

        bench_detail(row, "form", g_strdup(names[form]));
        bench_detail(row, "images", g_strdup_printf("%zu", images));
        bench_detail(
            row, "shape",
            g_strdup_printf("%zux%zux%zu to %zu, %zux%zu", s->side, s->side, s->in, s->out, s->kernel, s->kernel));
        ok = kernel_rounds(&k, row, error);
        describe_kernel(row, &k);
    }
    kernel_clear(&k);
    return ok;
}

gboolean
bench_conv(Bench *b, GError **error)
{
    static const ConvShape shapes[] = {{28, 32, 32, 3},  {28, 64, 32, 3}, {14, 64, 64, 3},
                                       {14, 128, 64, 3}, {7, 64, 64, 3},  {28, 32, 96, 1}};
    const size_t images = b->cli->config->batch_size > 0 ? (size_t)b->cli->config->batch_size : 4;
    gboolean ok = TRUE;

    for (size_t i = 0; ok && i < G_N_ELEMENTS(shapes); i++)
        for (int form = 0; ok && form < CONV_N; form++)
            ok = conv_row(b, (ConvForm)form, &shapes[i], images, error);
    return ok;
}

/* ---- startup ---- */

static gboolean
run_self(char *const *argv, GError **error)
{
    g_autoptr(GError) why = NULL;
    int status = 0;

    if (g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL, NULL, NULL, &status, &why) &&
        status == 0)
        return TRUE;
    g_set_error(error, FM_ERROR, FM_ERROR_FILE, "cannot run '%s %s': %s", argv[0], argv[1],
                why ? why->message : "it failed");
    return FALSE;
}

gboolean
bench_startup(Bench *b, GError **error)
{
    static const char *const commands[] = {"--version", "list"};
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);

    if (!self) {
        g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                    "'bench startup' needs /proc/self/exe, which cannot be read here");
        return FALSE;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        char *argv[] = {self, (char *)commands[i], NULL};
        BenchRow *row = bench_row(b);

        bench_detail(row, "command", g_strdup(commands[i]));
        for (gboolean go = TRUE; go;) {
            const double start = cli_seconds();

            if (!run_self(argv, error))
                return FALSE;
            go = bench_more(row, (cli_seconds() - start) * 1e3);
        }
    }
    return TRUE;
}
