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
 * Search: k-d tree for d <= 8, else distances by blocks of a matrix product, whose candidates are
 * measured again exactly. Standard error: ten disjoint blocks of both samples, t interval. */
#include <fmcore/backend.h>
#include <fmcore/divergence.h>
#include <fmcore/plan.h>

#include <math.h>
#include <string.h>

enum {
    KNN_LEAF = 12,      /* points of a leaf */
    KNN_TREE_D = 8,     /* widest data for the tree */
    KNN_CHUNK = 64,     /* queries of one work item */
    KNN_COLUMNS = 1024, /* reference points of one matrix product */
    KNN_SPARE = 8,      /* candidates beyond k + 1 that are measured again */
    KNN_BLOCKS = 10,
    KNN_K_MAX = 100,
    KNN_LIST = KNN_K_MAX + 1 + KNN_SPARE
};

typedef struct KnnKl {
    int k; /* option */
} KnnKl;

static const FmOption knn_options[] = {
    FM_OPT_INT(KnnKl, k, 5, 1, 100, "neighbours; more: less variance, more bias"),
    FM_OPT_END,
};

/* ---- the nearest so far ---- */

typedef struct KnnBest {
    size_t n, size;      /* entries; wanted */
    double d2[KNN_LIST]; /* ascending */
    size_t at[KNN_LIST];
} KnnBest;

static double
knn_worst(const KnnBest *b)
{
    return b->n < b->size ? INFINITY : b->d2[b->n - 1];
}

static void
knn_insert(KnnBest *b, double d2, size_t at)
{
    size_t i;

    if (!(d2 < knn_worst(b)))
        return;
    i = b->n < b->size ? b->n++ : b->n - 1;
    for (; i > 0 && b->d2[i - 1] > d2; i--) {
        b->d2[i] = b->d2[i - 1];
        b->at[i] = b->at[i - 1];
    }
    b->d2[i] = d2;
    b->at[i] = at;
}

static double
knn_distance2(size_t D, const double *a, const double *b)
{
    double sum = 0.0;

    for (size_t d = 0; d < D; d++)
        sum += (a[d] - b[d]) * (a[d] - b[d]);
    return sum;
}

/* ---- reference points: a k-d tree (D <= KNN_TREE_D) or a plain set with norms ---- */

typedef struct KnnNode {
    double split;
    guint32 axis;       /* G_MAXUINT32: leaf */
    guint32 begin, end; /* points of the node */
    guint32 right;      /* the left child follows its parent */
} KnnNode;

typedef struct KnnSet {
    size_t n, D;
    double *x;     /* (n, D) owned, in tree order */
    guint32 *id;   /* (n) owned: the caller's row */
    double *norm;  /* (n) owned; brute force only */
    KnnNode *node; /* owned; NULL: brute force */
    guint32 n_nodes;
} KnnSet;

static void
knn_set_clear(KnnSet *s)
{
    g_clear_pointer(&s->x, fm_free);
    g_clear_pointer(&s->id, fm_free);
    g_clear_pointer(&s->norm, fm_free);
    g_clear_pointer(&s->node, fm_free);
}

static void
knn_swap(KnnSet *s, size_t i, size_t j)
{
    const guint32 id = s->id[i];

    s->id[i] = s->id[j];
    s->id[j] = id;
    for (size_t d = 0; d < s->D; d++) {
        const double x = s->x[i * s->D + d];

        s->x[i * s->D + d] = s->x[j * s->D + d];
        s->x[j * s->D + d] = x;
    }
}

/* Hoare's quickselect: afterwards rows before `mid` are <= row mid on `axis`, rows after >=. */
static void
knn_select(KnnSet *s, size_t begin, size_t end, size_t mid, size_t axis)
{
    const size_t D = s->D;
    size_t lo = begin, hi = end - 1;

    while (lo < hi) {
        const double a = s->x[lo * D + axis], b = s->x[(lo + hi) / 2 * D + axis],
                     c = s->x[hi * D + axis];
        const double pivot = MAX(MIN(a, b), MIN(MAX(a, b), c));
        size_t i = lo, j = hi;

        for (;;) {
            while (s->x[i * D + axis] < pivot)
                i++;
            while (s->x[j * D + axis] > pivot)
                j--;
            if (i >= j)
                break;
            knn_swap(s, i++, j--);
        }
        if (i == j && s->x[i * D + axis] <= pivot)
            j = i; /* row j belongs to the left part */
        if (mid <= j)
            hi = j == hi ? hi - 1 : j;
        else
            lo = j + 1;
    }
}

static guint32
knn_build(KnnSet *s, size_t begin, size_t end)
{
    const guint32 me = s->n_nodes++;
    KnnNode *node = &s->node[me];
    double widest = 0.0;
    size_t axis = 0, mid;

    *node = (KnnNode){.axis = G_MAXUINT32, .begin = (guint32)begin, .end = (guint32)end};
    if (end - begin <= KNN_LEAF)
        return me;
    for (size_t d = 0; d < s->D; d++) {
        double lo = INFINITY, hi = -INFINITY;

        for (size_t i = begin; i < end; i++) {
            lo = MIN(lo, s->x[i * s->D + d]);
            hi = MAX(hi, s->x[i * s->D + d]);
        }
        if (hi - lo > widest) {
            widest = hi - lo;
            axis = d;
        }
    }
    if (widest == 0.0) /* all the same point */
        return me;
    mid = begin + (end - begin) / 2;
    knn_select(s, begin, end, mid, axis);
    node->axis = (guint32)axis;
    node->split = s->x[mid * s->D + axis];
    knn_build(s, begin, mid);
    node->right = knn_build(s, mid, end);
    return me;
}

/* A set over rows row[0 .. n - 1] of x (row NULL: all). */
static gboolean
knn_set_init(KnnSet *s, size_t n, size_t D, const double *x, const guint32 *row, GError **error)
{
    *s = (KnnSet){.n = n, .D = D};
    s->x = fm_alloc(n * D * sizeof *s->x);
    s->id = fm_alloc(n * sizeof *s->id);
    if (D <= KNN_TREE_D)
        s->node = fm_alloc((2 * (n / (KNN_LEAF / 2) + 1)) * sizeof *s->node);
    else
        s->norm = fm_alloc(n * sizeof *s->norm);
    if (s->x == NULL || s->id == NULL || (s->node == NULL && s->norm == NULL)) {
        knn_set_clear(s);
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY,
                    "divergence 'knn-kl': no memory for %zu x %zu points", n, D);
        return FALSE;
    }
    for (size_t i = 0; i < n; i++) {
        const size_t r = row ? row[i] : i;

        memcpy(s->x + i * D, x + r * D, D * sizeof *x);
        s->id[i] = (guint32)i;
        if (s->norm)
            for (size_t d = 0; d < D; d++)
                s->norm[i] += x[r * D + d] * x[r * D + d];
    }
    if (s->node)
        knn_build(s, 0, n);
    return TRUE;
}

/* Depth first, nearer child first. offset: squared distance to the node's box per axis; d2: their
 * sum (Arya & Mount 1993). `skip`: the id that does not count, or G_MAXUINT32. */
static void
knn_visit(const KnnSet *s, guint32 at, const double *x, guint32 skip, double *offset, double d2,
          KnnBest *best)
{
    const KnnNode *node = &s->node[at];
    double delta, old, far;
    gboolean left;

    if (node->axis == G_MAXUINT32) {
        for (guint32 i = node->begin; i < node->end; i++)
            if (s->id[i] != skip)
                knn_insert(best, knn_distance2(s->D, x, s->x + i * s->D), i);
        return;
    }
    delta = x[node->axis] - node->split;
    left = delta < 0.0;
    knn_visit(s, left ? at + 1 : node->right, x, skip, offset, d2, best);
    old = offset[node->axis];
    far = d2 - old + delta * delta;
    /* a hair below: the bound is rounded otherwise than the distances */
    if (far * (1.0 - 1e-12) < knn_worst(best)) {
        offset[node->axis] = delta * delta;
        knn_visit(s, left ? node->right : at + 1, x, skip, offset, far, best);
        offset[node->axis] = old;
    }
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
    double *term;  /* (p->n) log-ratio of a point, by position in p */
    guint8 *tied;  /* (p->n) */
    double *work;  /* brute force: (threads, KNN_CHUNK, KNN_COLUMNS) */
    KnnBest *best; /* brute force: (threads, KNN_CHUNK) */
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
            double offset[KNN_TREE_D] = {0};
            KnnBest best;

            best.n = 0;
            best.size = job->k + 1;
            knn_visit(sets[j], 0, x, skip, offset, 0.0, &best);
            term[j] = knn_term(sets[j], x, skip, job->k, &best, &tied);
        }
        job->term[i] = term[1] - term[0];
        job->tied[i] = (guint8)tied;
    }
}

/* The nearest of `s` to KNN_CHUNK queries by |x|^2 + |y|^2 - 2 x.y, spare candidates included. */
static void
knn_scan(const KnnJob *job, const KnnSet *s, size_t begin, size_t end, double *tile, KnnBest *best)
{
    const KnnSet *p = job->p;
    const size_t D = p->D;

    for (size_t i = begin; i < end; i++) {
        best[i - begin].n = 0;
        best[i - begin].size = job->k + 1 + KNN_SPARE;
    }
    for (size_t c = 0; c < s->n; c += KNN_COLUMNS) {
        const size_t width = MIN(KNN_COLUMNS, s->n - c);

        fm_linalg_gemm_f64(TRUE, end - begin, width, D, -2.0, p->x + begin * D, s->x + c * D, 0.0,
                           tile);
        for (size_t i = begin; i < end; i++) {
            const double *row = tile + (i - begin) * width;
            KnnBest *b = &best[i - begin];
            double limit = knn_worst(b);

            for (size_t j = 0; j < width; j++) {
                const double d2 = row[j] + s->norm[c + j];

                if (d2 < limit && !(s == p && c + j == i)) {
                    knn_insert(b, d2, c + j);
                    limit = knn_worst(b);
                }
            }
        }
    }
}

static void
knn_chunk_brute(void *ctx, int worker, size_t chunk)
{
    const KnnJob *job = ctx;
    const KnnSet *p = job->p, *sets[2] = {job->p, job->q};
    const size_t begin = chunk * KNN_CHUNK, end = MIN(begin + KNN_CHUNK, p->n);
    double *tile = job->work + (size_t)worker * KNN_CHUNK * KNN_COLUMNS;
    KnnBest *best = job->best + (size_t)worker * KNN_CHUNK;

    for (int j = 0; j < 2; j++) {
        knn_scan(job, sets[j], begin, end, tile, best);
        for (size_t i = begin; i < end; i++) {
            const KnnBest *candidates = &best[i - begin];
            const double *x = p->x + i * p->D;
            gboolean tied = FALSE;
            KnnBest exact;
            double term;

            exact.n = 0;
            exact.size = job->k + 1;
            for (size_t l = 0; l < candidates->n; l++)
                knn_insert(&exact, knn_distance2(p->D, x, sets[j]->x + candidates->at[l] * p->D),
                           candidates->at[l]);
            term = knn_term(sets[j], x, j == 0 ? p->id[i] : G_MAXUINT32, job->k, &exact, &tied);
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
                p->node ? knn_chunk_tree : knn_chunk_brute, (void *)job);
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

    if (!knn_set_init(&a, n, p->D, p->x, p_row, error))
        return FALSE;
    if (!knn_set_init(&b, m, q->D, q->x, q_row, error)) {
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
    fm_estimate_text(out, "search", p->D <= KNN_TREE_D ? "k-d tree" : "matrix product");
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

static gboolean
knn_kl_estimate(const void *self, const FmSamples *p, const FmSamples *q, FmKey key, int threads,
                FmEstimate *out, GError **error)
{
    const size_t k = (size_t)((const KnnKl *)self)->k;
    const gboolean brute = p->D > KNN_TREE_D;
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
    if (brute) {
        job.work = fm_alloc((size_t)threads * KNN_CHUNK * KNN_COLUMNS * sizeof *job.work);
        job.best = fm_alloc((size_t)threads * KNN_CHUNK * sizeof *job.best);
    }
    ok = job.term && job.tied && (!brute || (job.work && job.best));
    if (!ok)
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "divergence 'knn-kl': no memory for %zu rows",
                    p->n);
    else
        ok = knn_run(&job, p, q, key, threads, out, error);
    fm_free(job.term);
    fm_free(job.tied);
    fm_free(job.work);
    fm_free(job.best);
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
    {"search", "k-d tree for d <= 8, matrix products above"},
    {NULL, NULL},
};

FM_PLUGIN_DECLARE(DIVERGENCE, knn_kl, "knn-kl", knn_ops, .self_size = sizeof(KnnKl),
                  .options = knn_options,
                  .summary = "Kullback-Leibler divergence from k-nearest-neighbour distances",
                  .source = "Wang, Kulkarni & Verdu 2009, doi:10.1109/TIT.2009.2016060, eq. 5; "
                            "Perez-Cruz 2008, doi:10.1109/ISIT.2008.4595271",
                  .facts = knn_facts);
