/* frechet: squared Frechet (2-Wasserstein) distance of the Gaussians with the samples' moments.
 *   |mp - mq|^2 + tr(Sp + Sq - 2 (Sp^1/2 Sq Sp^1/2)^1/2)
 * in the space of the data itself (pixels for images): this is not the Inception distance FID.
 * Source: Dowson & Landau 1982, doi:10.1016/0047-259X(82)90077-X, eq. 16. Covariances may be
 * singular. Standard error: ten disjoint blocks of both samples, t interval, for at most 32 columns
 * and at least 20 rows per column; it does not contain the bias. */
#include <fmcore/array.h>
#include <fmcore/backend.h>
#include <fmcore/divergence.h>

#include <math.h>
#include <string.h>

enum { FRECHET_BLOCKS = 10, FRECHET_D = 32, FRECHET_ROWS = 20 };

/* mean (D) and cov (D, D) of rows row[0 .. n - 1] (NULL: all); xt (D, n) scratch. */
static void
frechet_moments(const FmSamples *s, size_t n, const size_t *row, double *mean, double *cov,
                double *xt)
{
    const size_t D = s->D;

    memset(mean, 0, D * sizeof *mean);
    for (size_t i = 0; i < n; i++)
        for (size_t d = 0; d < D; d++)
            mean[d] += s->x[(row ? row[i] : i) * D + d] / (double)n;
    for (size_t i = 0; i < n; i++)
        for (size_t d = 0; d < D; d++)
            xt[d * n + i] = s->x[(row ? row[i] : i) * D + d] - mean[d];
    fm_linalg_gemm_f64(TRUE, D, D, n, 1.0 / ((double)n - 1.0), xt, xt, 0.0, cov);
}

/* The distance of two fits; Sp and Sq are overwritten, m (2, D, D) and w (D) are scratch. */
static gboolean
frechet_distance(size_t D, const double *mp, const double *mq, double *Sp, double *Sq, double *m,
                 double *w, double *value)
{
    double *product = m, *inner = m + D * D, sum = 0.0;

    for (size_t d = 0; d < D; d++)
        sum += (mp[d] - mq[d]) * (mp[d] - mq[d]) + Sp[d * D + d] + Sq[d * D + d];
    if (!fm_linalg_eigen(D, Sp, w))
        return FALSE;
    for (size_t i = 0; i < D; i++) /* A = diag(sqrt w) V, so that Sp = A^T A */
        for (size_t d = 0; d < D; d++)
            Sp[i * D + d] *= sqrt(MAX(w[i], 0.0));
    fm_linalg_gemm_f64(FALSE, D, D, D, 1.0, Sp, Sq, 0.0, product);
    fm_linalg_gemm_f64(TRUE, D, D, D, 1.0, product, Sp, 0.0, inner); /* A Sq A^T */
    for (size_t i = 0; i < D; i++)
        for (size_t j = 0; j < i; j++)
            inner[i * D + j] = inner[j * D + i] = 0.5 * (inner[i * D + j] + inner[j * D + i]);
    if (!fm_linalg_eigen(D, inner, w))
        return FALSE;
    for (size_t d = 0; d < D; d++)
        sum -= 2.0 * sqrt(MAX(w[d], 0.0));
    *value = sum;
    return TRUE;
}

/* Work: two means, two covariances, two products, eigenvalues, then the transposed sample. */
static gboolean
frechet_rows(const FmSamples *p, size_t n, const size_t *p_row, const FmSamples *q, size_t m,
             const size_t *q_row, double *work, double *value)
{
    const size_t D = p->D;
    double *mp = work, *mq = mp + D, *w = mq + D, *Sp = w + D, *Sq = Sp + D * D, *two = Sq + D * D;

    frechet_moments(p, n, p_row, mp, Sp, two + 2 * D * D);
    frechet_moments(q, m, q_row, mq, Sq, two + 2 * D * D);
    return frechet_distance(D, mp, mq, Sp, Sq, two, w, value);
}

static gboolean
frechet_run(const FmSamples *p, const FmSamples *q, FmKey key, double *work, size_t *rows,
            FmEstimate *out)
{
    const FmKey other = {.seed = key.seed, .stream = key.stream, .step = key.step + 1};
    const size_t n = p->n / FRECHET_BLOCKS, m = q->n / FRECHET_BLOCKS;
    double value[FRECHET_BLOCKS];

    if (!frechet_rows(p, p->n, NULL, q, q->n, NULL, work, &out->value))
        return FALSE;
    if (p->D > FRECHET_D || MIN(n, m) < FRECHET_ROWS * p->D) {
        fm_estimate_text(out, "error bar", "none: too many columns for ten blocks of rows");
        return TRUE;
    }
    for (size_t b = 0; b < FRECHET_BLOCKS; b++) {
        for (size_t i = 0; i < n; i++)
            rows[i] = fm_permute_index(key, p->n, b * n + i);
        for (size_t i = 0; i < m; i++)
            rows[n + i] = fm_permute_index(other, q->n, b * m + i);
        if (!frechet_rows(p, n, rows, q, m, rows + n, work, &value[b]))
            return FALSE;
    }
    out->se = fm_estimate_block_se(value, FRECHET_BLOCKS);
    return TRUE;
}

static gboolean
frechet_estimate(const void *self, const FmSamples *p, const FmSamples *q, FmKey key, int threads,
                 FmEstimate *out, GError **error)
{
    const size_t D = p->D, n = MAX(p->n, q->n);
    double *work = fm_alloc((3 * D + 4 * D * D + D * n) * sizeof *work);
    size_t *rows = fm_alloc((p->n + q->n) * sizeof *rows);
    gboolean ok = work != NULL && rows != NULL;

    out->n = p->n;
    fm_estimate_text(out, "features", "the data's own columns (pixels for images)");
    if (!ok)
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY,
                    "divergence 'frechet': no memory for %zu x %zu values", n, D);
    else if (!frechet_run(p, q, key, work, rows, out)) {
        out->value = out->se = NAN;
        g_strlcpy(out->why, "the eigenvalues of a covariance did not converge", sizeof out->why);
    }
    fm_free(work);
    fm_free(rows);
    return ok;
}

static const FmDivergenceOps frechet_ops = {.estimate = frechet_estimate};

static const FmFact frechet_facts[] = {
    {"bias", "upwards, of order d / n; compare only at equal sample sizes"},
    {"features", "the data's own columns; not the Inception distance FID"},
    {NULL, NULL},
};

FM_PLUGIN_DECLARE(DIVERGENCE, frechet, "frechet", frechet_ops,
                  .summary = "squared Frechet distance of the samples' Gaussians, in data space",
                  .source = "Dowson & Landau 1982, doi:10.1016/0047-259X(82)90077-X, eq. 16",
                  .facts = frechet_facts);
