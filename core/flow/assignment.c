/* assignment.c: the assignment problem. An auction in single precision with falling increments
 * finds column potentials that are nearly right; from them shortest augmenting paths in double
 * finish exactly: the result does not rest on the auction, only the time does.
 * Bertsekas 1988, doi:10.1007/BF02186476 (auction); Jonker & Volgenant 1987,
 * doi:10.1007/BF02278710; Crouse 2016, doi:10.1109/TAES.2016.140952 (augmenting paths). */
#include <fmcore/coupling.h>
#include <fmcore/cpu.h>

#include <math.h>
#include <string.h>

#if defined(__GNUC__) && !defined(__clang__)
#define VECTORS /* __builtin_shuffle is gcc's */
#endif

/* The two smallest of c[j] - v[j] and where the first stands. */
typedef struct Two {
    float least, second;
    size_t at;
} Two;

/* The smallest and where it stands. */
typedef struct One {
    double least;
    size_t at;
} One;

#ifdef VECTORS
#define V(name) name##_usual
#define BYTES 32
#define TARGET
#include "flow/assignment.inc"
#else
static Two
two_least_plain(size_t ld, const float *c, const float *v)
{
    Two two = {INFINITY, INFINITY, 0};

    for (size_t j = 0; j < ld; j++) {
        const float d = c[j] - v[j];

        two.second = MIN(two.second, MAX(d, two.least));
        if (d < two.least) {
            two.least = d;
            two.at = j;
        }
    }
    return two;
}

static One
scan_row_plain(size_t n, const double *c, const double *open, double base, double *distance)
{
    One one = {INFINITY, 0};

    for (size_t j = 0; j < n; j++) {
        distance[j] = MIN(distance[j], c[j] - open[j] + base);
        if (distance[j] < one.least)
            one = (One){.least = distance[j], .at = j};
    }
    return one;
}
#endif

#ifdef FM_CPU_LEVELS
#include <immintrin.h>
#define V(name) name##_avx2
#define BYTES 32
#define TARGET __attribute__((target(FM_TARGET_AVX2)))
#define AVX2
#include "flow/assignment.inc"
#define V(name) name##_avx512
#define BYTES 64
#define TARGET __attribute__((target("avx512f")))
#include "flow/assignment.inc"
#endif

/* Searches along a row, the widest that this machine has. */
typedef struct Search {
    /* ld is a multiple of LANES */
    Two (*two)(size_t ld, const float *c, const float *v);
    /* distance[j] = min(distance[j], c[j] - open[j] + base); returns the least of them */
    One (*scan)(size_t n, const double *c, const double *open, double base, double *distance);
} Search;

static const Search *
best_search(void)
{
#ifdef VECTORS
    static const Search usual = {two_least_usual, scan_row_usual};
#else
    static const Search usual = {two_least_plain, scan_row_plain};
#endif
#ifdef FM_CPU_LEVELS
    static const Search avx2 = {two_least_avx2, scan_row_avx2}, avx512 = {two_least_avx512, scan_row_avx512};

    if (fm_cpu_level() == FM_CPU_AVX512)
        return &avx512;
    if (fm_cpu_level() == FM_CPU_AVX2)
        return &avx2;
#endif
    return &usual;
}

enum {
    LANES = 32,       /* columns of one round of the auction's search */
    AUCTION_N = 16,   /* smaller problems go without */
    AUCTION_BIDS = 40 /* bids a row and phase, on average; a hard instance is left to the paths */
};

/* Increments in units of the mean reduced cost. */
static const float auction_first = 0.1f, auction_factor = 0.25f, auction_last = 2e-3f;

/* Work space. All arrays of ld entries, ld = n rounded up to LANES. */
typedef struct Work {
    size_t n, ld;
    const Search *search;
    double *v;          /* potential of a column; those of rows follow from the matching */
    double *open;       /* v, but -inf for columns whose distance is final */
    double *distance;   /* tentative; +inf where final */
    double *far;        /* +inf everywhere, to start distance from */
    double *settled;    /* final distances */
    double *base;       /* of scanned rows: path length less the row's potential */
    guint32 *row_of;    /* of a column; n: free */
    guint32 *column_of; /* of a row; n: free */
    guint32 *scanned;   /* rows in the order of the scan */
    guint32 *order;     /* columns in the order in which they were settled */
    guint32 *free_rows;
    float *price;   /* auction: potentials in units of the mean reduced cost */
    float *reduced; /* (n, ld) costs less column minima, same units; +inf beyond n */
} Work;

static size_t
padded(size_t n)
{
    return (n + LANES - 1) / LANES * LANES;
}

size_t
fm_assignment_work(size_t n)
{
    const size_t ld = padded(n);

    return ld * (6 * sizeof(double) + 5 * sizeof(guint32) + sizeof(float)) + n * ld * sizeof(float);
}

static Work
work_at(void *memory, size_t n)
{
    const size_t ld = padded(n);
    double *d = memory;
    guint32 *i = (guint32 *)(void *)(d + 6 * ld);
    float *f = (float *)(void *)(i + 5 * ld);

    return (Work){.n = n,
                  .ld = ld,
                  .search = best_search(),
                  .v = d,
                  .open = d + ld,
                  .distance = d + 2 * ld,
                  .settled = d + 3 * ld,
                  .base = d + 4 * ld,
                  .far = d + 5 * ld,
                  .row_of = i,
                  .column_of = i + ld,
                  .scanned = i + 2 * ld,
                  .order = i + 3 * ld,
                  .free_rows = i + 4 * ld,
                  .price = f,
                  .reduced = f + ld};
}

/* ---- start: column minima ---- */

/* v[j] = min of column j; total: the sum of all costs, not finite when one is not. */
FM_INLINE void
column_minima_any(size_t n, const double *cost, double *v, double *total)
{
    double sum[8] = {0.0};

    memcpy(v, cost, n * sizeof *v);
    for (size_t i = 0; i < n; i++) {
        const double *c = cost + i * n;
        size_t j = 0;

#pragma omp simd
        for (size_t k = 0; k < n; k++)
            v[k] = c[k] < v[k] ? c[k] : v[k];
        for (; j + 8 <= n; j += 8)
#pragma omp simd
            for (size_t l = 0; l < 8; l++)
                sum[l] += c[j + l];
        for (; j < n; j++)
            sum[0] += c[j];
    }
    *total = 0.0;
    for (size_t l = 0; l < 8; l++)
        *total += sum[l];
}
FM_CPU_VARIANTS(column_minima, (size_t n, const double *cost, double *v, double *total), (n, cost, v, total))

/* ---- auction ---- */

FM_INLINE void
reduce_costs_any(size_t n, size_t ld, const double *cost, const double *v, double scale, float *reduced)
{
    for (size_t i = 0; i < n; i++) {
#pragma omp simd
        for (size_t j = 0; j < n; j++)
            reduced[i * ld + j] = (float)((cost[i * n + j] - v[j]) * scale);
        for (size_t j = n; j < ld; j++)
            reduced[i * ld + j] = INFINITY;
    }
}
FM_CPU_VARIANTS(reduce_costs, (size_t n, size_t ld, const double *cost, const double *v, double scale, float *reduced),
                (n, ld, cost, v, scale, reduced))

/* One phase: free rows bid until all are matched; the loser of a column bids again at once. */
static gboolean
auction_phase(Work *w, float increment)
{
    size_t waiting = w->n, bids = AUCTION_BIDS * w->n;

    for (size_t i = 0; i < w->n; i++) {
        w->row_of[i] = (guint32)w->n;
        w->free_rows[i] = (guint32)(w->n - 1 - i);
    }
    while (waiting > 0) {
        const guint32 row = w->free_rows[waiting - 1];
        const Two two = w->search->two(w->ld, w->reduced + row * w->ld, w->price);
        const guint32 loser = w->row_of[two.at];

        if (bids-- == 0)
            return FALSE;
        w->price[two.at] -= two.second - two.least + increment;
        w->row_of[two.at] = row;
        if (loser == w->n)
            waiting--;
        else
            w->free_rows[waiting - 1] = loser;
    }
    return TRUE;
}

/* Improve v, the column minima; `mean` of the costs above them. */
static void
auction(Work *w, const double *cost, double mean)
{
    const double scale = 1.0 / mean;

    if (w->n < AUCTION_N || !(mean > 0.0) || !isfinite(scale))
        return;
    reduce_costs(w->n, w->ld, cost, w->v, scale, w->reduced);
    memset(w->price, 0, w->ld * sizeof *w->price);
    for (float e = auction_first; e >= auction_last; e *= auction_factor)
        if (!auction_phase(w, e))
            break;
    for (size_t j = 0; j < w->n; j++)
        if (isfinite(w->price[j]))
            w->v[j] += mean * (double)w->price[j];
}

/* ---- shortest augmenting paths ---- */

/* Match rows to the column of their least reduced cost where that is still free. Returns how many
 * rows stay free, listed in free_rows. */
static size_t
match_tight(Work *w, const double *cost)
{
    const size_t n = w->n;
    size_t n_free = 0;

    for (size_t j = 0; j < n; j++)
        w->row_of[j] = (guint32)n;
    for (size_t i = 0; i < n; i++) {
        One tight;

        memcpy(w->distance, w->far, n * sizeof *w->far);
        tight = w->search->scan(n, cost + i * n, w->v, 0.0, w->distance);
        /* among equals a free column */
        for (size_t j = tight.at; w->row_of[tight.at] != n && j < n; j++)
            if (w->distance[j] == tight.least && w->row_of[j] == n)
                tight.at = j;
        if (w->row_of[tight.at] == n) {
            w->row_of[tight.at] = (guint32)i;
            w->column_of[i] = (guint32)tight.at;
        } else
            w->free_rows[n_free++] = (guint32)i;
    }
    return n_free;
}

/* Turn the path that ends in `column`, found from the last of n_scanned rows backwards: the row
 * before a column is the scanned one that gave it its distance, the same sum of the same terms. */
static void
turn_path(Work *w, const double *cost, size_t column, double distance, size_t n_scanned)
{
    const size_t n = w->n;

    for (;;) {
        size_t p = 0, next;
        guint32 row;

        while (p + 1 < n_scanned && cost[w->scanned[p] * n + column] - w->v[column] + w->base[p] != distance)
            p++;
        row = w->scanned[p];
        next = w->column_of[row];
        w->row_of[column] = row;
        w->column_of[row] = (guint32)column;
        if (p == 0)
            return;
        column = next;
        distance = w->settled[column];
        n_scanned = p;
    }
}

/* Dijkstra from a free row over reduced costs to the nearest free column. */
static void
augment(Work *w, const double *cost, guint32 start)
{
    const size_t n = w->n;
    size_t n_scanned = 0, n_settled = 0;
    guint32 row = start;
    double base = 0.0;
    One next;

    memcpy(w->open, w->v, n * sizeof *w->v);
    memcpy(w->distance, w->far, n * sizeof *w->far);
    for (;;) {
        w->scanned[n_scanned] = row;
        w->base[n_scanned++] = base;
        next = w->search->scan(n, cost + row * n, w->open, base, w->distance);
        row = w->row_of[next.at];
        if (row == n)
            break;
        w->settled[next.at] = next.least;
        w->order[n_settled++] = (guint32)next.at;
        w->open[next.at] = -INFINITY;
        w->distance[next.at] = INFINITY;
        base = next.least - (cost[row * n + next.at] - w->v[next.at]);
    }
    turn_path(w, cost, next.at, next.least, n_scanned);
    for (size_t k = 0; k < n_settled; k++)
        w->v[w->order[k]] += w->settled[w->order[k]] - next.least;
}

double
fm_assignment(size_t n, const double *cost, size_t *to, void *memory)
{
    Work w = work_at(memory, n);
    double total, low = 0.0;
    size_t n_free;

    column_minima(n, cost, w.v, &total);
    if (!isfinite(total))
        return NAN;
    for (size_t j = 0; j < n; j++) {
        low += w.v[j];
        w.far[j] = INFINITY;
    }
    auction(&w, cost, (total / (double)n - low) / (double)n);
    n_free = match_tight(&w, cost);
    for (size_t k = 0; k < n_free; k++)
        augment(&w, cost, w.free_rows[k]);
    total = 0.0;
    for (size_t i = 0; i < n; i++) {
        to[i] = w.column_of[i];
        total += cost[i * n + to[i]];
    }
    return total;
}
