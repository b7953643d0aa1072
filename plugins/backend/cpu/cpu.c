/* cpu: kernels for one core: oneDNN for float GEMM and convolution, CBLAS and LAPACKE for double,
 * own vectorised loops for the rest. Each plan thread calls them on its own tile. */
#include "cpu.h"

#include <cblas.h>
#include <lapacke.h>
#include <string.h>

#ifdef HAVE_OPENBLAS_SET_NUM_THREADS
void openblas_set_num_threads(int n);
char *openblas_get_config(void);
#endif

static char cpu_text[160]; /* describe() */

/* Once in the process: OpenBLAS' number of threads is global too. */
static gpointer
cpu_init(gpointer unused)
{
    const char *gemm = "";
    g_autofree char *blas = NULL;

#ifdef HAVE_OPENBLAS_SET_NUM_THREADS
    g_auto(GStrv) words = g_strsplit(openblas_get_config(), " ", 3);

    openblas_set_num_threads(1);
    if (words[0] != NULL && words[1] != NULL)
        blas = g_strdup_printf("%s %s", words[0], words[1]);
#endif
#ifdef HAVE_ONEDNN
    gemm = cpu_dnnl_version();
#endif
    g_snprintf(cpu_text, sizeof cpu_text, "%s%s%s, %s", gemm, *gemm != '\0' ? ", " : "", blas != NULL ? blas : "CBLAS",
               fm_cpu_level_name(fm_cpu_level()));
    return cpu_text;
}

static const char *
cpu_describe(const void *self)
{
    static GOnce once = G_ONCE_INIT;

    return g_once(&once, cpu_init, NULL);
}

static const FmKernel *
cpu_lookup(const void *self, const char *op, FmDtype dtype)
{
    const CpuEntry *const tables[] = {cpu_eltwise_table(), cpu_matmul_table, cpu_reduce_table(),   cpu_move_table(),
                                      cpu_conv_table,      cpu_norm_table(), cpu_attention_table()};

    cpu_describe(self);
    if (dtype != FM_F32 && dtype != FM_F64)
        return NULL;
    if (dtype == FM_F32 && strcmp(op, "conv2d") == 0)
        return &cpu_wino_conv2d;
    if (dtype == FM_F32 && strcmp(op, "conv2d_input") == 0)
        return &cpu_wino_conv2d_input;
    if (dtype == FM_F32 && strcmp(op, "conv2d_weight") == 0)
        return &cpu_wino_conv2d_weight;
    for (size_t i = 0; i < G_N_ELEMENTS(tables); i++)
        for (const CpuEntry *e = tables[i]; e->op != NULL; e++)
            if (strcmp(e->op, op) == 0) {
                const FmKernel *kernel = dtype == FM_F32 ? &e->f32 : &e->f64;

                return kernel->run != NULL ? kernel : NULL;
            }
    return NULL;
}

static int
cpu_cholesky(const void *self, size_t n, double *a)
{
    return n > G_MAXINT32 ? -1 : LAPACKE_dpotrf(LAPACK_ROW_MAJOR, 'L', (lapack_int)n, a, (lapack_int)n);
}

/* Eigenvectors leave LAPACK as columns of a column-major matrix: as rows of ours. */
static int
cpu_eigen(const void *self, size_t n, double *a, double *w)
{
    return n > G_MAXINT32 ? -1 : LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'V', 'L', (lapack_int)n, a, (lapack_int)n, w);
}

static void
cpu_slot_gemm_f64(const void *self, gboolean tb, size_t m, size_t n, size_t k, double alpha, const double *a,
                  const double *b, double beta, double *c)
{
    cpu_gemm_f64(FALSE, tb, m, n, k, alpha, a, b, beta, c);
}

static void
cpu_slot_gemm_f32(const void *self, gboolean tb, size_t m, size_t n, size_t k, float alpha, const float *a,
                  const float *b, float beta, float *c)
{
    cpu_gemm_f32(FALSE, tb, m, n, k, alpha, a, b, beta, c);
}

static const FmBackendOps cpu_ops = {
    .lookup = cpu_lookup,
    .describe = cpu_describe,
    .cholesky = cpu_cholesky,
    .eigen = cpu_eigen,
    .gemm_f64 = cpu_slot_gemm_f64,
    .gemm_f32 = cpu_slot_gemm_f32,
};

FM_PLUGIN_DECLARE(BACKEND, cpu, "cpu", cpu_ops, .summary = "fast kernels for one core per tile",
#ifdef HAVE_ONEDNN
                  .source = "oneDNN for float, CBLAS and LAPACKE for double"
#else
                  .source = "CBLAS and LAPACKE"
#endif
);
