/* neighbours_choice.c: the tree or the scan, by what each would take.
 *
 * What the tree computes rests on the data: on how many directions they really have. So it is built, the rows of
 * some leaves are searched for, and what that computes is counted; not of all rows where the tree of a sample takes
 * longer than the scan of all, for with more rows it computes no less. The first sample is small. Where its tree
 * computes nearly all pairs, as in many columns, a second has just the rows that make such a tree slower than the scan:
 * of 10,000 normal rows of 784 columns 1,922. What the scan computes rests on n, D and its frame. Both counts are
 * turned into time by the costs below. No clock is read: the choice is the same in every run and for any number of
 * threads. It costs the trees' building and at most what a scan for 256 rows would, for the probe ends when the scan
 * would have been quicker.
 *
 * Nanoseconds of one thread, Zen 3 with AVX2, by least squares over normal rows of 2 to 32 columns and rows near a
 * surface of 2 or 4 dimensions in 16 to 64 columns, 1000 to 1,000,000 of them. Other processors change the times of
 * both alike: in 10 columns AVX-512 made the scan 2.8 times as fast, the tree in 2 columns 2.3 times. */
#include "flow/neighbours_private.h"

#include <fmcore/array.h>

#include <math.h>

enum {
    CHOICE_LEAVES = 16, /* probed at most, */
    CHOICE_SHARE = 64   /* and one in so many */
};

/* The second sample: where the first computes so many of all pairs, with so many rows beside those for which the tree
 * would take as long as the scan, unless that is a larger part of all. */
#define CHOICE_PAIRS 0.9
#define CHOICE_ROWS 1.5
#define CHOICE_PART (1.0 / 3.0)

/* Of the tree: a query; a node with 16 queries and a query with 16 distances, and what a column adds. Twice as much
 * where the rows fill CACHE bytes. */
#define TREE_QUERY 290.0
#define TREE_NODE 80.0
#define TREE_NODE_COLUMN 3.5
#define TREE_LEAF 6.4
#define TREE_LEAF_COLUMN 1.9
#define CACHE 0x1p25

/* Of the scan in floats: a query's candidates; a pair, and what a column adds. In bytes: a column; where the frame has
 * directions, 2.6 times (a geometric mean, 1.2 to 5), for candidates are more than its sample tells. */
#define SCAN_QUERY 3700.0
#define SCAN_PAIR 0.45
#define SCAN_PAIR_COLUMN 0.027
#define SCAN_BYTES_COLUMN 0.019
#define SCAN_DIRECTIONS 2.6

/* Time of one query of the scan; without a frame the least that it could be. */
static double
scan_time(const FmNeighbours *s)
{
    const double bytes = s->frame ? nb_scan_bytes_cost(s) : nb_frame_least(s->n, s->D);

    return bytes > 0.0 ? SCAN_BYTES_COLUMN * (s->frame && s->frame->directions ? SCAN_DIRECTIONS : 1.0) * bytes
                       : SCAN_QUERY + (double)s->n * (SCAN_PAIR + SCAN_PAIR_COLUMN * (double)s->D);
}

/* Of the 16 queries of a leaf. */
static double
tree_time(const FmNeighbours *s, const NbCount *c)
{
    const double D = (double)s->D, far = MIN(1.0, (double)s->n * D * sizeof(double) / CACHE);

    return NB_LEAF * TREE_QUERY + (1.0 + far) * ((double)c->nodes * (TREE_NODE + TREE_NODE_COLUMN * D) +
                                                 (double)c->queries * (TREE_LEAF + TREE_LEAF_COLUMN * D));
}

/* A query by the tree of some rows: its time, less than that where it is above a limit, and the part of all pairs that
 * it computes. */
typedef struct Probe {
    double time, share;
} Probe;

static Probe
probe_tree(const FmNeighbours *s, size_t k, double limit)
{
    const size_t leaves = CLAMP(s->leaves / CHOICE_SHARE, 1, (size_t)CHOICE_LEAVES);
    const double queries = (double)(leaves * NB_LEAF);
    double time = 0.0, pairs = 0.0;
    size_t i = 0;

    for (; i < leaves && time <= queries * limit; i++) {
        const NbCount count = nb_tree_count(s, (2 * i + 1) * s->leaves / (2 * leaves), k);

        time += tree_time(s, &count);
        pairs += (double)count.queries;
    }
    return (Probe){.time = time / queries, .share = pairs / (double)(i * NB_LEAF * s->leaves)};
}

/* Of the tree of n of the rows of s, evenly dealt. FALSE: no memory. */
static gboolean
probe_sample(const FmNeighbours *s, size_t n, size_t k, double limit, int threads, Probe *probe)
{
    guint32 *row = fm_alloc(n * sizeof *row);
    FmNeighbours sample = {.n = n, .D = s->D, .x = s->x, .row = row};
    gboolean ok = row != NULL;

    for (size_t i = 0; ok && i < n; i++) {
        const size_t at = i * s->n / n;

        row[i] = s->row ? s->row[at] : (guint32)at;
    }
    ok = ok && nb_tree_build(&sample, threads);
    if (ok)
        *probe = probe_tree(&sample, k, limit);
    nb_tree_clear(&sample);
    fm_free(row);
    return ok;
}

gboolean
nb_tree_pays(const FmNeighbours *s, size_t k, const FmNeighbours *scan)
{
    const double limit = scan_time(scan);

    return probe_tree(s, k, limit).time <= limit;
}

gboolean
nb_sample_pays(const FmNeighbours *s, size_t k, int threads, gboolean *pays)
{
    const double limit = scan_time(s);
    Probe probe;

    if (!probe_sample(s, NB_SAMPLE, k, limit, threads, &probe))
        return FALSE;
    if (probe.time <= limit && probe.share >= CHOICE_PAIRS) {
        const double rows = CHOICE_ROWS * NB_SAMPLE * limit / probe.time;

        if (rows <= CHOICE_PART * (double)s->n && !probe_sample(s, (size_t)rows, k, limit, threads, &probe))
            return FALSE;
    }
    *pays = probe.time <= limit;
    return TRUE;
}
