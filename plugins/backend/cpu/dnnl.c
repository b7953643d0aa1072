/* dnnl.c: all calls of oneDNN: float GEMM. */
#include "cpu.h"

#ifdef HAVE_ONEDNN

#include <oneapi/dnnl/dnnl.h>
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
cpu_dnnl_sgemm(gboolean ta, gboolean tb, size_t m, size_t n, size_t k, float alpha, const float *a,
               const float *b, float beta, float *c)
{
    const int threads = dnnl_single_begin();
    const dnnl_status_t status =
        dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', (dnnl_dim_t)m, (dnnl_dim_t)n, (dnnl_dim_t)k,
                   alpha, a, (dnnl_dim_t)(ta ? m : k), b, (dnnl_dim_t)(tb ? k : n), beta, c,
                   (dnnl_dim_t)n);

    dnnl_single_end(threads);
    return status == dnnl_success;
}

const char *
cpu_dnnl_version(void)
{
    static char text[32];
    const dnnl_version_t *v = dnnl_version();

    g_snprintf(text, sizeof text, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
    return text;
}
#endif
