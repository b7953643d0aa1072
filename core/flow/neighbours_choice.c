/* neighbours_choice.c: the tree or the scan, by what each would take.
 *
 * What the tree computes rests on the data: on how many directions they really have. So it is built, the rows of
 * some leaves are searched for, and what that computes is counted. What the scan computes rests on n, D and its
 * frame. Both counts are turned into time by the costs below. No clock is read: the choice is the same in every
 * run and for any number of threads. It costs no more than the tree's building and the scan of 256 rows, for the
 * probe ends when the scan would have been quicker.
 *
 * Nanoseconds of one thread, Zen 3 with AVX2, by least squares over normal rows of 1 to 32 columns and rows near a
 * surface of 2 and 4 dimensions in 8 to 64 columns, 1000 to 200,000 rows. Other processors change the times of both
 * alike: in 10 columns AVX-512 makes the tree 2.3 and the scan 2.8 times as fast. */
#include "flow/neighbours_private.h"

#include <math.h>

enum {
    CHOICE_LEAVES = 16, /* probed at most, */
    CHOICE_SHARE = 64   /* and one in so many */
};

/* Of the tree, a node with 16 queries, a query with 16 distances; and what a column adds. */
#define TREE_NODE 10.0
#define TREE_NODE_COLUMN 2.0
#define TREE_QUERY 10.0
#define TREE_QUERY_COLUMN 2.0

/* Of the scan in floats, for one query: its candidates, a pair, and what a column adds; in bytes, a column. */
#define SCAN_QUERY 4000.0
#define SCAN_PAIR 0.5
#define SCAN_PAIR_COLUMN 0.025
#define SCAN_BYTES_COLUMN 0.023

/* Time of one query of the scan, whose frame is set. */
static double
scan_time(const FmNeighbours *s)
{
    const double bytes = nb_scan_bytes_cost(s);

    return bytes > 0.0 ? SCAN_BYTES_COLUMN * bytes
                       : SCAN_QUERY + (double)s->n * (SCAN_PAIR + SCAN_PAIR_COLUMN * (double)s->D);
}

static double
tree_time(size_t D, const NbCount *c)
{
    return (double)c->nodes * (TREE_NODE + TREE_NODE_COLUMN * (double)D) +
           (double)c->queries * (TREE_QUERY + TREE_QUERY_COLUMN * (double)D);
}

gboolean
nb_tree_pays(const FmNeighbours *s, size_t k)
{
    const size_t leaves = CLAMP(s->leaves / CHOICE_SHARE, 1, (size_t)CHOICE_LEAVES);
    const double most = (double)(leaves * NB_LEAF) * scan_time(s);
    double time = 0.0;

    for (size_t i = 0; i < leaves && time <= most; i++) {
        const NbCount count = nb_tree_count(s, (2 * i + 1) * s->leaves / (2 * leaves), k);

        time += tree_time(s->D, &count);
    }
    return time <= most;
}
