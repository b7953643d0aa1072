/* knn-kl: Kullback-Leibler divergence from k-nearest-neighbour distances, in nats.
 *
 *   KL = d/n sum_i log(nu_i / rho_i) + log(m / (n - 1))
 *
 * rho_i: distance of x_i (of P, n rows) to its k-th neighbour among the other rows of P, nu_i: to
 * its k-th neighbour in Q (m rows). Source: Wang, Kulkarni & Verdu 2009,
 * doi:10.1109/TIT.2009.2016060, eq. 5; Perez-Cruz 2008, doi:10.1109/ISIT.2008.4595271, eq. 14.
 *
 * Variants with less bias:
 *   equal-radius  both samples are looked at within the larger of rho_i and nu_i: l_i and k_i points, the
 *                 farthest of them at rho'_i and nu'_i: d log(nu'_i / rho'_i) + psi(l_i) - psi(k_i)
 *                 (Wang, Kulkarni & Verdu 2009, neighbour numbers that depend on the point)
 *   ensemble      a weighted mean of the formula over several k; the weights sum to 1 and cancel the bias
 *                 of order (k/n)^(1/d), with the least sum of squares (Sricharan, Wei & Hero 2013,
 *                 doi:10.1109/TIT.2013.2251456, eq. 10)
 *
 * Ties and duplicates: the radius is the k-th distance or, where that is 0, the smallest positive
 * distance; with c points within the radius the term gets psi(c) in place of psi(k). Without ties
 * c = k and the formula is as above.
 *
 * Standard error: ten disjoint blocks of both samples, t interval; of large samples, of a part of their
 * rows, whose variance is then taken to fall as 1/n. */
#include <fmcore/array.h>
#include <fmcore/divergence.h>
#include <fmcore/neighbours.h>
#include <fmcore/plan.h>

#include <math.h>
#include <string.h>

enum {
    KNN_BLOCKS = 10,
    KNN_BLOCK_ROWS = 1000, /* blocks need no more rows, */
    KNN_BLOCK_SHARE = 40,  /* or than this part of the sample */
    KNN_CHUNK = 256,       /* points of one work item */
    KNN_MEMBERS = 7        /* of the ensemble */
};

enum { KNN_RATIO, KNN_EQUAL_RADIUS, KNN_ENSEMBLE };
static const char *const knn_variants[] = {"ratio", "equal-radius", "ensemble", NULL};
static const char *const knn_searches[] = {"auto", "tree", "scan", NULL}; /* in the order of FmSearch */

typedef struct KnnKl {
    int k, variant, search; /* options */
} KnnKl;

static const FmOption knn_options[] = {
    FM_OPT_INT(KnnKl, k, 5, 1, 100, "neighbours; more: less variance, more bias"),
    FM_OPT_CHOICE(KnnKl, variant, knn_variants, "ratio",
                  "equal-radius: less bias where P is narrower; ensemble: least bias, more variance"),
    FM_OPT_CHOICE(KnnKl, search, knn_searches, "auto", "how neighbours are found; auto: what is quicker"),
    FM_OPT_END,
};

/* ---- what is averaged ---- */

/* Neighbour numbers and their weights. */
typedef struct KnnMembers {
    size_t n, most; /* most: the largest k */
    size_t k[KNN_MEMBERS];
    double weight[KNN_MEMBERS];
    double psi[KNN_MEMBERS]; /* psi(k) */
} KnnMembers;

/* sum w = 1, sum w k^(1/d) = 0, least sum of squares: w is linear in k^(1/d). */
static KnnMembers
knn_ensemble(size_t k, size_t d)
{
    static const double factor[KNN_MEMBERS] = {0.4, 0.6, 1.0, 1.6, 2.4, 4.0, 6.0};
    KnnMembers m = {0};
    double a[KNN_MEMBERS], s1 = 0.0, s2 = 0.0;

    for (size_t i = 0; i < KNN_MEMBERS; i++) {
        const size_t next = MIN((size_t)ceil((double)k * factor[i]), (size_t)FM_NEIGHBOURS_MAX - 1);

        if (m.n > 0 && next == m.k[m.n - 1])
            continue;
        a[m.n] = pow((double)next, 1.0 / (double)d);
        s1 += a[m.n];
        s2 += a[m.n] * a[m.n];
        m.k[m.n++] = m.most = next;
    }
    for (size_t i = 0; i < m.n; i++) {
        m.weight[i] = (s2 - s1 * a[i]) / ((double)m.n * s2 - s1 * s1);
        m.psi[i] = fm_digamma((double)m.k[i]);
    }
    return m;
}

static KnnMembers
knn_members(const KnnKl *knn, size_t d)
{
    if (knn->variant == KNN_ENSEMBLE)
        return knn_ensemble((size_t)knn->k, d);
    return (KnnMembers){
        .n = 1, .most = (size_t)knn->k, .k = {(size_t)knn->k}, .weight = {1.0}, .psi = {fm_digamma((double)knn->k)}};
}

/* ---- one point ---- */

typedef struct KnnJob {
    const FmNeighbours *p, *q;
    size_t n, d, width; /* width: neighbours kept, one more than the largest k */
    KnnMembers members;
    gboolean equal;
    double *near[2];   /* (n, width) squared distances in p and in q */
    double *radius[2]; /* (n) squared radii of one member, */
    size_t *count[2];  /* (n) points within; 0: the member's k */
    double *term;      /* (n) */
    guint8 *tied;      /* (n) */
    /* Points whose balls are looked at: (n) each. */
    guint32 *row;
    double *ball, *last;
    size_t *within;
} KnnJob;

/* The least positive distance as the radius of points that have none. */
static gboolean
knn_positive(KnnJob *job, int j, int threads, GError **error)
{
    size_t n = 0;

    for (size_t i = 0; i < job->n; i++)
        if (job->radius[j][i] == 0.0) {
            job->tied[i] = TRUE;
            job->row[n++] = (guint32)i;
        }
    if (!fm_neighbours_positive(j ? job->q : job->p, job->p, n, job->row, threads, job->ball, error))
        return FALSE;
    for (size_t i = 0; i < n; i++)
        job->radius[j][job->row[i]] = job->ball[i];
    return TRUE;
}

/* Points within the radius, where that is not the member's k, and the farthest of them as the radius. */
static gboolean
knn_count(KnnJob *job, int j, int threads, GError **error)
{
    size_t n = 0;

    for (size_t i = 0; i < job->n; i++) {
        const double radius = job->radius[j][i];

        if (job->count[j][i] > 0 && isfinite(radius)) {
            job->ball[n] = radius;
            job->row[n++] = (guint32)i;
        }
    }
    if (!fm_neighbours_within(j ? job->q : job->p, job->p, n, job->row, job->ball, threads, job->within, job->last,
                              error))
        return FALSE;
    for (size_t i = 0; i < n; i++) {
        job->radius[j][job->row[i]] = job->last[i];
        job->count[j][job->row[i]] = job->within[i];
    }
    return TRUE;
}

/* Radii of the k-th neighbours of member m, and which points' balls hold another number: those with ties. */
static gboolean
knn_radii(KnnJob *job, size_t m, int threads, GError **error)
{
    const size_t k = job->members.k[m];

    for (int j = 0; j < 2; j++) {
        for (size_t i = 0; i < job->n; i++) {
            const double *d2 = job->near[j] + i * job->width;

            job->radius[j][i] = d2[k - 1];
            job->count[j][i] = d2[k - 1] == 0.0 || d2[k] == d2[k - 1];
            job->tied[i] |= (guint8)job->count[j][i];
        }
        if (!knn_positive(job, j, threads, error) || !knn_count(job, j, threads, error))
            return FALSE;
    }
    return TRUE;
}

/* The larger of the two radii for both sets. */
static gboolean
knn_equal_radii(KnnJob *job, int threads, GError **error)
{
    const size_t k = job->members.k[0];

    for (size_t i = 0; i < job->n; i++) {
        job->radius[0][i] = job->radius[1][i] =
            MAX(job->near[0][i * job->width + k - 1], job->near[1][i * job->width + k - 1]);
        job->count[0][i] = job->count[1][i] = 1;
    }
    for (int j = 0; j < 2; j++)
        if (!knn_positive(job, j, threads, error))
            return FALSE;
    for (size_t i = 0; i < job->n; i++)
        job->radius[0][i] = job->radius[1][i] = MAX(job->radius[0][i], job->radius[1][i]);
    return knn_count(job, 0, threads, error) && knn_count(job, 1, threads, error);
}

typedef struct KnnAdd {
    const KnnJob *job;
    size_t m;
} KnnAdd;

/* d log(radius) - psi(count) of point i in set j; -inf when no point of the set differs from it. */
static double
knn_term(const KnnAdd *add, size_t i, int j)
{
    const KnnJob *job = add->job;
    const double radius = job->radius[j][i];
    const size_t count = job->count[j][i];

    if (isinf(radius))
        return -INFINITY;
    return 0.5 * (double)job->d * log(radius) - (count > 0 ? fm_digamma((double)count) : job->members.psi[add->m]);
}

static void
knn_chunk(void *ctx, int worker, size_t chunk)
{
    const KnnAdd *add = ctx;
    const KnnJob *job = add->job;
    const size_t end = MIN((chunk + 1) * KNN_CHUNK, job->n);

    for (size_t i = chunk * KNN_CHUNK; i < end; i++)
        job->term[i] += job->members.weight[add->m] * (knn_term(add, i, 1) - knn_term(add, i, 0));
}

static gboolean
knn_terms(KnnJob *job, int threads, GError **error)
{
    memset(job->term, 0, job->n * sizeof *job->term);
    memset(job->tied, 0, job->n);
    for (size_t m = 0; m < job->members.n; m++) {
        KnnAdd add = {.job = job, .m = m};

        if (!(job->equal ? knn_equal_radii(job, threads, error) : knn_radii(job, m, threads, error)))
            return FALSE;
        fm_parallel(threads, (job->n + KNN_CHUNK - 1) / KNN_CHUNK, knn_chunk, &add);
    }
    return TRUE;
}

/* ---- all points of P against P and Q ---- */

/* n rows of P and m of Q. */
typedef struct KnnRows {
    const FmNeighbours *p, *q;
    size_t n, m;
} KnnRows;

static FmNeighbours *
knn_index(size_t n, const FmSamples *s, const guint32 *row, const KnnJob *job, FmSearch search,
          const FmNeighbours *like, int threads, GError **error)
{
    return fm_neighbours_new(n, s->D, s->x, row, search, job->width, like, threads, error);
}

/* The estimate from rows of P and Q; NaN or infinite when a point has no distinct neighbour. job: buffers
 * for as many rows. */
static gboolean
knn_estimate_rows(KnnJob *job, const KnnRows *r, int threads, double *value, size_t *n_tied, GError **error)
{
    const FmNeighbours *p = r->p;
    const FmNeighbours *q = r->q;
    double sum = 0.0;

    if (!fm_neighbours_search(p, p, job->width, threads, job->near[0], error) ||
        !fm_neighbours_search(q, p, job->width, threads, job->near[1], error))
        return FALSE;
    job->p = p;
    job->q = q;
    job->n = r->n;
    if (!knn_terms(job, threads, error))
        return FALSE;
    *n_tied = 0;
    for (size_t i = 0; i < r->n; i++) {
        sum += job->term[i];
        *n_tied += job->tied[i];
    }
    *value = sum / (double)r->n + log((double)r->m / ((double)r->n - 1.0));
    return TRUE;
}

/* Standard error from disjoint blocks of a `share` of both samples, rows dealt by a keyed permutation. whole: an
 * index of one of them. */
static gboolean
knn_block_se(KnnJob *job, const FmSamples *p, const FmSamples *q, const FmNeighbours *whole, FmKey key, int threads,
             double *se, GError **error)
{
    const double share =
        CLAMP((double)KNN_BLOCK_ROWS / (double)MIN(p->n, q->n), 1.0 / KNN_BLOCK_SHARE, 1.0 / KNN_BLOCKS);
    const size_t n = (size_t)(share * (double)p->n), m = (size_t)(share * (double)q->n);
    const FmKey other = {.seed = key.seed, .stream = key.stream, .step = key.step + 1};
    guint32 *rows = fm_alloc((n + m) * sizeof *rows);
    double value[KNN_BLOCKS];
    gboolean ok = rows != NULL;
    size_t tied;

    if (!ok)
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "divergence 'knn-kl': no memory for blocks of %zu rows", n);
    for (size_t b = 0; ok && b < KNN_BLOCKS; b++) {
        for (size_t i = 0; i < n; i++)
            rows[i] = (guint32)fm_permute_index(key, p->n, b * n + i);
        for (size_t i = 0; i < m; i++)
            rows[n + i] = (guint32)fm_permute_index(other, q->n, b * m + i);
        g_autoptr(FmNeighbours) bp = knn_index(n, p, rows, job, FM_SEARCH_AUTO, whole, threads, error);
        g_autoptr(FmNeighbours) bq = bp ? knn_index(m, q, rows + n, job, FM_SEARCH_AUTO, bp, threads, error) : NULL;
        const KnnRows r = {.p = bp, .q = bq, .n = n, .m = m};

        ok = bq && knn_estimate_rows(job, &r, threads, &value[b], &tied, error);
    }
    fm_free(rows);
    if (ok) {
        *se = fm_estimate_block_se(value, KNN_BLOCKS) * sqrt(share * KNN_BLOCKS);
        if (!isfinite(*se))
            *se = NAN;
    }
    return ok;
}

/* The first column that has one value in a sample, else D. */
static size_t
knn_constant(const FmSamples *s)
{
    size_t d = 0;

    for (; d < s->D; d++) {
        size_t i = 1;

        while (i < s->n && s->x[i * s->D + d] == s->x[d])
            i++;
        if (i == s->n)
            break;
    }
    return d;
}

static gboolean
knn_alloc(KnnJob *job, size_t n)
{
    gboolean ok = TRUE;

    for (int j = 0; j < 2; j++) {
        job->near[j] = fm_alloc(n * job->width * sizeof *job->near[j]);
        job->radius[j] = fm_alloc(n * sizeof *job->radius[j]);
        job->count[j] = fm_alloc(n * sizeof *job->count[j]);
        ok = ok && job->near[j] && job->radius[j] && job->count[j];
    }
    job->term = fm_alloc(n * sizeof *job->term);
    job->tied = fm_alloc(n);
    job->row = fm_alloc(n * sizeof *job->row);
    job->ball = fm_alloc(n * sizeof *job->ball);
    job->last = fm_alloc(n * sizeof *job->last);
    job->within = fm_alloc(n * sizeof *job->within);
    return ok && job->term && job->tied && job->row && job->ball && job->last && job->within;
}

static void
knn_free(KnnJob *job)
{
    for (int j = 0; j < 2; j++) {
        fm_free(job->near[j]);
        fm_free(job->radius[j]);
        fm_free(job->count[j]);
    }
    fm_free(job->term);
    fm_free(job->tied);
    fm_free(job->row);
    fm_free(job->ball);
    fm_free(job->last);
    fm_free(job->within);
}

static gboolean
knn_run(KnnJob *job, const KnnKl *knn, const FmSamples *p, const FmSamples *q, FmKey key, int threads, FmEstimate *out,
        GError **error)
{
    const FmSamples *set[] = {p, q};
    const int most = q->n > p->n; /* the larger chooses the search */
    g_autoptr(FmNeighbours) first =
        knn_index(set[most]->n, set[most], NULL, job, (FmSearch)knn->search, NULL, threads, error);
    g_autoptr(FmNeighbours) second =
        first ? knn_index(set[!most]->n, set[!most], NULL, job, FM_SEARCH_AUTO, first, threads, error) : NULL;
    const KnnRows all = {.p = most ? second : first, .q = most ? first : second, .n = p->n, .m = q->n};
    size_t tied;

    if (!second || !knn_estimate_rows(job, &all, threads, &out->value, &tied, error))
        return FALSE;
    out->unit = "nats";
    out->n = p->n;
    fm_estimate_number(out, "k", (double)knn->k);
    if (knn->variant != KNN_RATIO)
        fm_estimate_text(out, "variant", knn_variants[knn->variant]);
    fm_estimate_text(out, "search", fm_neighbours_method(first) == FM_SEARCH_TREE ? "k-d tree" : "scan");
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
    if (MIN(p->n, q->n) / KNN_BLOCKS < job->members.most + 2) {
        fm_estimate_text(out, "error bar", "none: a tenth of the sample has too few rows");
        return TRUE;
    }
    return knn_block_se(job, p, q, first, key, threads, &out->se, error);
}

static gboolean
knn_kl_estimate(const void *self, const FmSamples *p, const FmSamples *q, FmKey key, int threads, FmEstimate *out,
                GError **error)
{
    const KnnKl *knn = self;
    KnnJob job = {.d = p->D, .members = knn_members(knn, p->D), .equal = knn->variant == KNN_EQUAL_RADIUS};
    const size_t k = job.members.most, constant[2] = {knn_constant(p), knn_constant(q)};
    gboolean ok;

    if (p->n < k + 2 || q->n < k + 1 || MAX(p->n, q->n) >= G_MAXUINT32) {
        g_set_error(error, FM_ERROR, FM_ERROR_DATA,
                    "divergence 'knn-kl': the samples have %zu and %zu rows, expected at least %zu "
                    "and %zu for k = %zu and fewer than 2^32",
                    p->n, q->n, k + 2, k + 1, k);
        return FALSE;
    }
    job.width = k + 1;
    ok = knn_alloc(&job, p->n);
    if (!ok)
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "divergence 'knn-kl': no memory for %zu rows", p->n);
    else
        ok = knn_run(&job, knn, p, q, key, threads, out, error);
    if (ok && MIN(constant[0], constant[1]) < p->D) { /* as ties: a number, and what it assumes */
        g_autofree char *text =
            g_strdup_printf("%zu of the %s sample is constant: no density there", constant[constant[0] == p->D],
                            constant[0] == p->D ? "second" : "first");

        fm_estimate_text(out, "column", text);
    }
    knn_free(&job);
    return ok;
}

static const FmDivergenceOps knn_ops = {
    .estimate = knn_kl_estimate,
    .zero_when_equal = TRUE,
    .n_min = 3,
};

static const FmFact knn_facts[] = {
    {"bias", "small for d = 1, 2; about +0.1 nats at d = 5 and +0.4 at d = 10 (n = 2000, k = 5); "
             "variants: equal-radius +0.2, ensemble -0.1 there"},
    {"error", "ten disjoint blocks of both samples, t interval; does not contain the bias"},
    {"ties", "radius = smallest positive distance, psi(points within it) in place of psi(k)"},
    {"search", "exact: k-d tree or all distances (selected in low, decided in double precision)"},
    {NULL, NULL},
};

FM_PLUGIN_DECLARE(DIVERGENCE, knn_kl, "knn-kl", knn_ops, .self_size = sizeof(KnnKl), .options = knn_options,
                  .summary = "Kullback-Leibler divergence from k-nearest-neighbour distances",
                  .source = "Wang, Kulkarni & Verdu 2009, doi:10.1109/TIT.2009.2016060, eq. 5; "
                            "Perez-Cruz 2008, doi:10.1109/ISIT.2008.4595271",
                  .facts = knn_facts);
