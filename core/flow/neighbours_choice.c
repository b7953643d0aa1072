/* neighbours_choice.c: the tree or the scan, by what each would take.
 *
 * What the tree computes rests on the data: on how many directions they really have. So it is built, the rows of
 * some leaves are searched for, and what that computes is counted; not of all rows where the tree of a sample takes
 * longer than the scan of all, for with more rows it computes no less. What the scan computes rests on n, D and its
 * frame. Both counts are turned into time by the costs below. No clock is read: the choice is the same in every
 * run and for any number of threads. It costs the trees' building and at most what a scan for 256 rows would, for the
 * probe ends when the scan would have been quicker.
 *
 * Nanoseconds of one thread, Zen 3 with AVX2, by least squares over normal rows of 2 to 32 columns and rows near a
 * surface of 2 or 4 dimensions in 16 to 64 columns, 1000 to 1,000,000 of them. Other processors change the times of
 * both alike: in 10 columns AVX-512 made the scan 2.8 times as fast, the tree in 2 columns 2.3 times. */
#include "flow/neighbours_private.h"

#include <math.h>

enum {
    CHOICE_LEAVES = 16, /* probed at most, */
    CHOICE_SHARE = 64   /* and one in so many */
};

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

gboolean
nb_tree_pays(const FmNeighbours *s, size_t k, const FmNeighbours *scan)
{
    const size_t leaves = CLAMP(s->leaves / CHOICE_SHARE, 1, (size_t)CHOICE_LEAVES);
    const double most = (double)(leaves * NB_LEAF) * scan_time(scan);
    double time = 0.0;

    for (size_t i = 0; i < leaves && time <= most; i++) {
        const NbCount count = nb_tree_count(s, (2 * i + 1) * s->leaves / (2 * leaves), k);

        time += tree_time(s, &count);
    }
    return time <= most;
}

gboolean
nb_sample_pays(const FmNeighbours *s, size_t k, int threads, gboolean *pays)
{
    FmNeighbours sample = {.n = NB_SAMPLE, .D = s->D, .x = s->x};
    guint32 row[NB_SAMPLE];
    gboolean ok;

    for (size_t i = 0; i < NB_SAMPLE; i++) {
        const size_t at = i * s->n / NB_SAMPLE;

        row[i] = s->row ? s->row[at] : (guint32)at;
    }
    sample.row = row;
    ok = nb_tree_build(&sample, threads);
    *pays = ok && nb_tree_pays(&sample, k, s);
    nb_tree_clear(&sample);
    return ok;
}
