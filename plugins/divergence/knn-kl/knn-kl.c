/* knn-kl: Kullback-Leibler divergence from k-nearest-neighbour distances, in nats.
 *
 *   KL = d/n sum_i log(nu_i / rho_i) + log(m / (n - 1))
 *
 * rho_i: distance of x_i (of P, n rows) to its k-th neighbour among the other rows of P, nu_i: to
 * its k-th neighbour in Q (m rows). Source: Wang, Kulkarni & Verdu 2009,
 * doi:10.1109/TIT.2009.2016060, eq. 5; Perez-Cruz 2008, doi:10.1109/ISIT.2008.4595271, eq. 14.
 *
 * Ties and duplicates: the radius is the k-th distance or, where that is 0, the smallest positive
 * distance; with c points within the radius the term gets psi(c) in place of psi(k) (ibid., sec.
 * III, neighbour numbers that depend on the point). Without ties c = k and the formula is as above.
 *
 * Search: k-d tree for d <= 8 (tree.c), else distances to all points, selected in single and
 * decided in double precision (scan.c); both are exact. Standard error: ten disjoint blocks of both
 * samples, t interval. */
#include "knn.h"

enum { KNN_BLOCKS = 10 };

typedef struct KnnKl {
    int k; /* option */
} KnnKl;

static const FmOption knn_options[] = {
    FM_OPT_INT(KnnKl, k, 5, 1, 100, "neighbours; more: less variance, more bias"),
    FM_OPT_END,
};

/* ---- sets of points ---- */

void
knn_set_clear(KnnSet *s)
{
    g_clear_pointer(&s->x, fm_free);
    g_clear_pointer(&s->id, fm_free);
    g_clear_pointer(&s->near, fm_free);
    g_clear_pointer(&s->norm, fm_free);
    g_clear_pointer(&s->node, fm_free);
}

/* Row i in single precision, less the centre, and its square. */
static void
knn_set_copy(KnnSet *s, size_t i, const double *centre)
{
    double sum = 0.0;

    for (size_t d = 0; d < s->D; d++) {
        const double v = s->x[i * s->D + d] - centre[d];

        s->near[i * s->D + d] = (float)v;
        sum += v * v;
    }
    s->norm[i] = (float)sum;
    s->norm_max = MAX(s->norm_max, sum * (1.0 + 1e-6));
}

gboolean
knn_set_init(KnnSet *s, size_t n, size_t D, const double *x, const guint32 *row,
             const double *centre, GError **error)
{
    *s = (KnnSet){.n = n, .D = D};
    s->x = fm_alloc(n * D * sizeof *s->x);
    s->id = fm_alloc(n * sizeof *s->id);
    if (D <= KNN_TREE_D)
        s->node = fm_alloc(knn_tree_nodes(n) * sizeof *s->node);
    else {
        s->near = fm_alloc(n * D * sizeof *s->near);
        s->norm = fm_alloc(n * sizeof *s->norm);
    }
    if (!s->x || !s->id || !(s->node || (s->near && s->norm))) {
        knn_set_clear(s);
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY,
                    "divergence 'knn-kl': no memory for %zu x %zu points", n, D);
        return FALSE;
    }
    for (size_t i = 0; i < n; i++) {
        memcpy(s->x + i * D, x + (row ? row[i] : i) * D, D * sizeof *x);
        s->id[i] = (guint32)i;
        if (s->near)
            knn_set_copy(s, i, centre);
    }
    if (s->node)
        knn_tree_build(s);
    return TRUE;
}

/* ---- radius and count of one point ---- */

/* psi(c) for an integer c >= 1 (Abramowitz & Stegun 6.3.2 and 6.3.18). */
static double
knn_digamma(size_t c)
{
    double x = (double)c, sum = 0.0;

    for (; x < 10.0; x += 1.0)
        sum -= 1.0 / x;
    return sum + log(x) - 0.5 / x - 1.0 / (12.0 * x * x) + 1.0 / (120.0 * pow(x, 4.0)) -
           1.0 / (252.0 * pow(x, 6.0));
}

/* d log(radius) - psi(count); -inf when no point of the set differs from x. `best` holds the
 * k + 1 nearest. */
static double
knn_term(const KnnSet *s, const double *x, guint32 skip, size_t k, const KnnBest *best,
         gboolean *tied)
{
    double radius = best->d2[k - 1];
    size_t count = k;

    if (radius == 0.0 || (best->n > k && best->d2[k] == radius)) { /* rare: look at every point */
        *tied = TRUE;
        if (radius == 0.0) {
            radius = INFINITY;
            for (size_t i = 0; i < s->n; i++) {
                const double d2 = knn_distance2(s->D, x, s->x + i * s->D);

                if (s->id[i] != skip && d2 > 0.0 && d2 < radius)
                    radius = d2;
            }
            if (isinf(radius))
                return -INFINITY;
        }
        count = 0;
        for (size_t i = 0; i < s->n; i++)
            if (s->id[i] != skip && knn_distance2(s->D, x, s->x + i * s->D) <= radius)
                count++;
    }
    return 0.5 * (double)s->D * log(radius) - knn_digamma(count);
}

/* ---- all points of P against P and Q ---- */

typedef struct KnnJob {
    const KnnSet *p, *q;
    size_t k;
    double *term;         /* (p->n) log-ratio of a point, by position in p */
    guint8 *tied;         /* (p->n) */
    const double *centre; /* (D) scan only */
    KnnScan **scan;       /* (threads) scan only */
    KnnBest *best;        /* (threads, KNN_CHUNK) scan only */
} KnnJob;

static void
knn_chunk_tree(void *ctx, int worker, size_t chunk)
{
    const KnnJob *job = ctx;
    const KnnSet *p = job->p, *sets[2] = {job->p, job->q};
    const size_t end = MIN((chunk + 1) * KNN_CHUNK, p->n);

    for (size_t i = chunk * KNN_CHUNK; i < end; i++) {
        const double *x = p->x + i * p->D;
        gboolean tied = FALSE;
        double term[2];

        for (int j = 0; j < 2; j++) {
            const guint32 skip = j == 0 ? p->id[i] : G_MAXUINT32;
            KnnBest best;

            best.n = 0;
            best.size = job->k + 1;
            knn_tree_search(sets[j], x, skip, &best);
            term[j] = knn_term(sets[j], x, skip, job->k, &best, &tied);
        }
        job->term[i] = term[1] - term[0];
        job->tied[i] = (guint8)tied;
    }
}

static void
knn_chunk_scan(void *ctx, int worker, size_t chunk)
{
    const KnnJob *job = ctx;
    const KnnSet *p = job->p, *sets[2] = {job->p, job->q};
    const size_t begin = chunk * KNN_CHUNK, end = MIN(begin + KNN_CHUNK, p->n);
    KnnBest *best = job->best + (size_t)worker * KNN_CHUNK;

    for (int j = 0; j < 2; j++) {
        for (size_t i = 0; i < end - begin; i++) {
            best[i].n = 0;
            best[i].size = job->k + 1;
        }
        knn_scan_search(job->scan[worker], sets[j], p, begin, end, best);
        for (size_t i = begin; i < end; i++) {
            gboolean tied = FALSE;
            const double term = knn_term(sets[j], p->x + i * p->D, j == 0 ? p->id[i] : G_MAXUINT32,
                                         job->k, &best[i - begin], &tied);

            job->term[i] = j == 0 ? -term : job->term[i] + term;
            job->tied[i] = (guint8)((j ? job->tied[i] : 0) | tied);
        }
    }
}

/* The estimate from two sets; NaN or infinite when a point has no distinct neighbour. */
static double
knn_divergence(const KnnJob *job, int threads, size_t *n_tied)
{
    const KnnSet *p = job->p;
    double sum = 0.0;

    fm_parallel(threads, (p->n + KNN_CHUNK - 1) / KNN_CHUNK,
                p->node ? knn_chunk_tree : knn_chunk_scan, (void *)job);
    *n_tied = 0;
    for (size_t i = 0; i < p->n; i++) {
        sum += job->term[i];
        *n_tied += job->tied[i];
    }
    return sum / (double)p->n + log((double)job->q->n / ((double)p->n - 1.0));
}

/* The estimate from rows of P and Q (row lists NULL: all). */
static gboolean
knn_estimate_rows(KnnJob *job, const FmSamples *p, size_t n, const guint32 *p_row,
                  const FmSamples *q, size_t m, const guint32 *q_row, int threads, double *value,
                  size_t *n_tied, GError **error)
{
    KnnSet a, b;

    if (!knn_set_init(&a, n, p->D, p->x, p_row, job->centre, error))
        return FALSE;
    if (!knn_set_init(&b, m, q->D, q->x, q_row, job->centre, error)) {
        knn_set_clear(&a);
        return FALSE;
    }
    job->p = &a;
    job->q = &b;
    *value = knn_divergence(job, threads, n_tied);
    knn_set_clear(&a);
    knn_set_clear(&b);
    return TRUE;
}

/* Standard error from disjoint blocks, rows dealt by a keyed permutation. */
static gboolean
knn_block_se(KnnJob *job, const FmSamples *p, const FmSamples *q, FmKey key, int threads,
             double *se, GError **error)
{
    const size_t n = p->n / KNN_BLOCKS, m = q->n / KNN_BLOCKS;
    const FmKey other = {.seed = key.seed, .stream = key.stream, .step = key.step + 1};
    guint32 *rows = fm_alloc((n + m) * sizeof *rows);
    double value[KNN_BLOCKS];
    gboolean ok = rows != NULL;
    size_t tied;

    if (!ok)
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY,
                    "divergence 'knn-kl': no memory for blocks of %zu rows", n);
    for (size_t b = 0; ok && b < KNN_BLOCKS; b++) {
        for (size_t i = 0; i < n; i++)
            rows[i] = (guint32)fm_permute_index(key, p->n, b * n + i);
        for (size_t i = 0; i < m; i++)
            rows[n + i] = (guint32)fm_permute_index(other, q->n, b * m + i);
        ok = knn_estimate_rows(job, p, n, rows, q, m, rows + n, threads, &value[b], &tied, error);
    }
    fm_free(rows);
    if (ok) {
        *se = fm_estimate_block_se(value, KNN_BLOCKS);
        if (!isfinite(*se))
            *se = NAN;
    }
    return ok;
}

static gboolean
knn_run(KnnJob *job, const FmSamples *p, const FmSamples *q, FmKey key, int threads,
        FmEstimate *out, GError **error)
{
    size_t tied;

    if (!knn_estimate_rows(job, p, p->n, NULL, q, q->n, NULL, threads, &out->value, &tied, error))
        return FALSE;
    out->unit = "nats";
    out->n = p->n;
    fm_estimate_number(out, "k", (double)job->k);
    fm_estimate_text(out, "search", p->D <= KNN_TREE_D ? "k-d tree" : "scan");
    if (tied > 0)
        fm_estimate_number(out, "points with ties", (double)tied);
    if (!isfinite(out->value)) {
        out->value = NAN;
        g_strlcpy(out->why,
                  "a sample has no two distinct points: the divergence of densities is "
                  "not defined",
                  sizeof out->why);
        return TRUE;
    }
    if (MIN(p->n, q->n) / KNN_BLOCKS < job->k + 2) {
        fm_estimate_text(out, "error bar", "none: a tenth of the sample has too few rows");
        return TRUE;
    }
    return knn_block_se(job, p, q, key, threads, &out->se, error);
}

/* The means of Q's columns, near which products cancel least, and scratch for the workers. */
static gboolean
knn_scan_init(KnnJob *job, const FmSamples *q, int threads)
{
    double *centre = fm_alloc(q->D * sizeof *centre);
    gboolean ok = centre != NULL;

    job->centre = centre;
    job->best = fm_alloc((size_t)threads * KNN_CHUNK * sizeof *job->best);
    job->scan = g_new0(KnnScan *, threads);
    for (int t = 0; t < threads; t++)
        ok = (job->scan[t] = knn_scan_new()) != NULL && ok;
    for (size_t i = 0; ok && i < q->n; i++)
        for (size_t d = 0; d < q->D; d++)
            centre[d] += q->x[i * q->D + d] / (double)q->n;
    return ok && job->best != NULL;
}

static void
knn_scan_clear(KnnJob *job, int threads)
{
    for (int t = 0; job->scan != NULL && t < threads; t++)
        knn_scan_free(job->scan[t]);
    g_free(job->scan);
    fm_free(job->best);
    fm_free((void *)job->centre);
}

static gboolean
knn_kl_estimate(const void *self, const FmSamples *p, const FmSamples *q, FmKey key, int threads,
                FmEstimate *out, GError **error)
{
    const size_t k = (size_t)((const KnnKl *)self)->k;
    KnnJob job = {.k = k};
    gboolean ok;

    if (p->n < k + 2 || q->n < k + 1 || MAX(p->n, q->n) >= G_MAXUINT32) {
        g_set_error(error, FM_ERROR, FM_ERROR_DATA,
                    "divergence 'knn-kl': the samples have %zu and %zu rows, expected at least %zu "
                    "and %zu for k = %zu and fewer than 2^32",
                    p->n, q->n, k + 2, k + 1, k);
        return FALSE;
    }
    job.term = fm_alloc(p->n * sizeof *job.term);
    job.tied = fm_alloc(p->n);
    ok = job.term && job.tied && (p->D <= KNN_TREE_D || knn_scan_init(&job, q, threads));
    if (!ok)
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "divergence 'knn-kl': no memory for %zu rows",
                    p->n);
    else
        ok = knn_run(&job, p, q, key, threads, out, error);
    fm_free(job.term);
    fm_free(job.tied);
    knn_scan_clear(&job, threads);
    return ok;
}

static const FmDivergenceOps knn_ops = {
    .estimate = knn_kl_estimate,
    .zero_when_equal = TRUE,
    .n_min = 3,
};

static const FmFact knn_facts[] = {
    {"bias", "small for d = 1, 2; about +0.1 nats at d = 5 and +0.4 at d = 10 (n = 2000, k = 5)"},
    {"error", "ten disjoint blocks of both samples, t interval; does not contain the bias"},
    {"ties", "radius = smallest positive distance, psi(points within it) in place of psi(k)"},
    {"search", "exact: k-d tree for d <= 8, all distances above (selected in single precision)"},
    {NULL, NULL},
};

FM_PLUGIN_DECLARE(DIVERGENCE, knn_kl, "knn-kl", knn_ops, .self_size = sizeof(KnnKl),
                  .options = knn_options,
                  .summary = "Kullback-Leibler divergence from k-nearest-neighbour distances",
                  .source = "Wang, Kulkarni & Verdu 2009, doi:10.1109/TIT.2009.2016060, eq. 5; "
                            "Perez-Cruz 2008, doi:10.1109/ISIT.2008.4595271",
                  .facts = knn_facts);
