/* distances.c: squared distances between two sets of points. */
#include <fmcore/backend.h>
#include <fmcore/coupling.h>
#include <fmcore/cpu.h>

#include <string.h>

enum { PRODUCT_D = 16 }; /* from here a matrix product is quicker */

size_t
fm_distances2_work(size_t n, size_t m, size_t D)
{
    return D < PRODUCT_D ? m * D : (n + m) * (D + 1) + D;
}

/* yt (D, m): y transposed. */
FM_INLINE void
by_differences_any(size_t n, const double *x, size_t m, const double *yt, size_t D, double *out)
{
    for (size_t i = 0; i < n; i++) {
        double *row = out + i * m;
        const double first = x[i * D];

#pragma omp simd
        for (size_t j = 0; j < m; j++)
            row[j] = (first - yt[j]) * (first - yt[j]);
        for (size_t d = 1; d < D; d++) {
            const double a = x[i * D + d], *b = yt + d * m;

#pragma omp simd
            for (size_t j = 0; j < m; j++)
                row[j] += (a - b[j]) * (a - b[j]);
        }
    }
}
FM_CPU_VARIANTS(by_differences, (size_t n, const double *x, size_t m, const double *yt, size_t D, double *out),
                (n, x, m, yt, D, out))

/* Rows less `mean`, and their squared norms. */
static void
centred(size_t n, size_t D, const double *x, const double *mean, double *out, double *norm)
{
    for (size_t i = 0; i < n; i++) {
        double sum = 0.0;

        for (size_t d = 0; d < D; d++) {
            const double v = x[i * D + d] - mean[d];

            out[i * D + d] = v;
            sum += v * v;
        }
        norm[i] = sum;
    }
}

static void
by_product(size_t n, const double *x, size_t m, const double *y, size_t D, double *work, double *out)
{
    double *a = work, *b = a + n * D, *norm_a = b + m * D, *norm_b = norm_a + n, *mean = norm_b + m;

    memset(mean, 0, D * sizeof *mean);
    for (size_t j = 0; j < m; j++)
        for (size_t d = 0; d < D; d++)
            mean[d] += y[j * D + d] / (double)m;
    centred(n, D, x, mean, a, norm_a);
    centred(m, D, y, mean, b, norm_b);
    fm_linalg_gemm_f64(TRUE, n, m, D, -2.0, a, b, 0.0, out);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < m; j++) {
            const double d2 = out[i * m + j] + norm_a[i] + norm_b[j];

            out[i * m + j] = d2 < 0.0 ? 0.0 : d2; /* NaN stays */
        }
}

void
fm_distances2(size_t n, const double *x, size_t m, const double *y, size_t D, double *work, double *out)
{
    if (D >= PRODUCT_D) {
        by_product(n, x, m, y, D, work, out);
        return;
    }
    for (size_t j = 0; j < m; j++)
        for (size_t d = 0; d < D; d++)
            work[d * m + j] = y[j * D + d];
    by_differences(n, x, m, work, D, out);
}
