/* neighbours.c: the index over rows of a set; what the two searches share. */
#include "flow/neighbours_private.h"

#include <fmcore/array.h>

#include <math.h>

void
fm_neighbours_free(FmNeighbours *s)
{
    if (s == NULL)
        return;
    nb_tree_clear(s);
    nb_frame_free(s->frame);
    nb_bytes_free(s->bytes);
    fm_free(s->length);
    fm_free(s->square);
    fm_free(s->lost);
    fm_free(s->pack);
    g_free(s);
}

FmNeighbours *
fm__neighbours_scan_new(size_t n, size_t D, const double *x, size_t directions, int threads)
{
    FmNeighbours *s = g_new0(FmNeighbours, 1);

    s->n = n;
    s->D = D;
    s->x = x;
    if (!nb_scan_begin(s, NULL, directions) || !nb_scan_build(s, threads))
        g_clear_pointer(&s, fm_neighbours_free);
    return s;
}

/* The tree or the scan in its frame. */
static gboolean
build_quicker(FmNeighbours *s, size_t k, int threads)
{
    gboolean pays = TRUE;

    /* with few rows directions are dear: the tree may do without */
    if (s->n > NB_SAMPLE && (!nb_scan_begin(s, NULL, NB_MEASURED) || !nb_sample_pays(s, k, threads, &pays)))
        return FALSE;
    if (pays) {
        if (!nb_tree_build(s, threads))
            return FALSE;
        s->tree = nb_tree_pays(s, k, s);
        if (!s->tree && !s->frame) { /* not against the least that a scan could take: against this one */
            if (!nb_scan_begin(s, NULL, NB_MEASURED))
                return FALSE;
            s->tree = nb_tree_pays(s, k, s);
        }
        if (s->tree) {
            g_clear_pointer(&s->frame, nb_frame_free);
            return TRUE;
        }
        nb_tree_clear(s);
    }
    return nb_scan_build(s, threads);
}

static gboolean
build(FmNeighbours *s, FmSearch search, const FmNeighbours *like, int threads)
{
    s->tree = search == FM_SEARCH_TREE;
    return s->tree ? nb_tree_build(s, threads)
                   : nb_scan_begin(s, like, NB_MEASURED) && nb_scan_build(s, threads);
}

FmNeighbours *
fm_neighbours_new(size_t n, size_t D, const double *x, const guint32 *row, FmSearch search, size_t k,
                  const FmNeighbours *like, int threads, GError **error)
{
    FmNeighbours *s;

    g_return_val_if_fail(n >= 1 && n < G_MAXUINT32 && D >= 1 && threads >= 1, NULL);
    g_return_val_if_fail(k >= 1 && k <= FM_NEIGHBOURS_MAX && (!like || like->D == D), NULL);
    s = g_new0(FmNeighbours, 1);
    s->n = n;
    s->D = D;
    s->x = x;
    s->row = row;
    if (like)
        search = fm_neighbours_method(like);
    if (search == FM_SEARCH_AUTO ? build_quicker(s, k, threads) : build(s, search, like, threads))
        return s;
    fm_neighbours_free(s);
    g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "neighbours: no memory for %zu x %zu values", n, D);
    return NULL;
}

FmSearch
fm_neighbours_method(const FmNeighbours *index)
{
    return index->tree ? FM_SEARCH_TREE : FM_SEARCH_SCAN;
}

gboolean
fm_neighbours_search(const FmNeighbours *index, const FmNeighbours *queries, size_t k, int threads,
                     double *d2, GError **error)
{
    g_return_val_if_fail(index->D == queries->D && index->tree == queries->tree, FALSE);
    g_return_val_if_fail(index->tree || nb_frame_equal(index->D, index->frame, queries->frame), FALSE);
    g_return_val_if_fail(k >= 1 && k <= FM_NEIGHBOURS_MAX && threads >= 1, FALSE);
    if (index->tree)
        nb_tree_search(index, queries, k, threads, d2);
    else if (!nb_scan_search(index, queries, k, threads, d2)) {
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "neighbours: no memory for %d threads", threads);
        return FALSE;
    }
    return TRUE;
}

size_t
fm_neighbours_within(const FmNeighbours *index, const FmNeighbours *queries, size_t i, double d2, double *last)
{
    size_t count = 0;

    *last = 0.0;
    if (index->tree)
        return nb_tree_within(index, queries, i, d2, last);
    for (size_t j = 0; j < index->n; j++) {
        const double v = nb_distance(index->D, nb_row(queries, i), nb_row(index, j));

        if (v > d2 || (index == queries && j == i))
            continue;
        count++;
        *last = MAX(*last, v);
    }
    return count;
}

double
fm_neighbours_positive(const FmNeighbours *index, const FmNeighbours *queries, size_t i)
{
    double least = INFINITY;

    if (index->tree)
        return nb_tree_positive(index, queries, i);
    for (size_t j = 0; j < index->n; j++) {
        const double d2 = nb_distance(index->D, nb_row(queries, i), nb_row(index, j));

        if (d2 > 0.0 && d2 < least) /* a row's distance to itself is 0 */
            least = d2;
    }
    return least;
}
