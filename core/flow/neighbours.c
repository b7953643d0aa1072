/* neighbours.c: the index over rows of a set; what the two searches share. */
#include "flow/neighbours_private.h"

#include <fmcore/array.h>

#include <math.h>
#include <string.h>

void
fm_neighbours_free(FmNeighbours *s)
{
    if (s == NULL)
        return;
    nb_tree_clear(s);
    nb_frame_free(s->frame);
    nb_bytes_free(s->bytes);
    fm_free(s->of);
    fm_free(s->kept);
    fm_free(s->first);
    fm_free(s->weight);
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

    s->n = s->rows = n;
    s->D = D;
    s->x = x;
    if (!nb_equal_find(s, threads) || !nb_scan_begin(s, NULL, directions) || !nb_scan_build(s, threads))
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
    return s->tree ? nb_tree_build(s, threads) : nb_scan_begin(s, like, NB_MEASURED) && nb_scan_build(s, threads);
}

FmNeighbours *
fm_neighbours_new(size_t n, size_t D, const double *x, const guint32 *row, FmSearch search, size_t k,
                  const FmNeighbours *like, int threads, GError **error)
{
    FmNeighbours *s;

    g_return_val_if_fail(n >= 1 && n < G_MAXUINT32 && D >= 1 && threads >= 1, NULL);
    g_return_val_if_fail(k >= 1 && k <= FM_NEIGHBOURS_MAX && (!like || like->D == D), NULL);
    s = g_new0(FmNeighbours, 1);
    s->n = s->rows = n;
    s->D = D;
    s->x = x;
    s->row = row;
    if (like)
        search = fm_neighbours_method(like);
    if (nb_equal_find(s, threads) &&
        (search == FM_SEARCH_AUTO ? build_quicker(s, k, threads) : build(s, search, like, threads)))
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

static gboolean
no_memory(int threads, GError **error)
{
    g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "neighbours: no memory for %d threads", threads);
    return FALSE;
}

gboolean
fm_neighbours_search(const FmNeighbours *index, const FmNeighbours *queries, size_t k, int threads, double *d2,
                     GError **error)
{
    g_return_val_if_fail(index->D == queries->D && index->tree == queries->tree, FALSE);
    g_return_val_if_fail(index->tree || nb_frame_equal(index->D, index->frame, queries->frame), FALSE);
    g_return_val_if_fail(k >= 1 && k <= FM_NEIGHBOURS_MAX && threads >= 1, FALSE);
    if (index->tree)
        nb_tree_search(index, queries, k, threads, d2);
    else if (!nb_scan_search(index, queries, k, threads, d2))
        return no_memory(threads, error);
    for (size_t i = 0; queries->of && i < queries->rows; i++) {
        const size_t first = queries->first[queries->of[i]];

        if (first != i)
            memcpy(d2 + i * k, d2 + first * k, k * sizeof *d2);
    }
    return TRUE;
}

/* ---- balls about some rows ---- */

/* Queries without repetition. */
typedef struct Asked {
    NbBalls balls;
    guint32 *row, *same; /* (n) rows that differ; (n given) which of them: not above its own place */
    double *d2;
} Asked;

static void
asked_clear(Asked *a)
{
    fm_free(a->row);
    fm_free(a->same);
    fm_free(a->d2);
}

/* Of n rows of q; d2: NULL, or radii. FALSE: no memory. */
static gboolean
asked_init(Asked *a, const FmNeighbours *q, size_t n, const guint32 *row, const double *d2)
{
    guint32 *place = fm_alloc(q->n * sizeof *place);
    size_t different = 0;

    *a = (Asked){
        .row = fm_alloc(n * sizeof *a->row), .same = fm_alloc(n * sizeof *a->same), .d2 = fm_alloc(n * sizeof *a->d2)};
    if (!place || !a->row || !a->same || !a->d2) {
        fm_free(place);
        return FALSE;
    }
    memset(place, 0xff, q->n * sizeof *place);
    for (size_t i = 0; i < n; i++) {
        const guint32 r = q->of ? q->of[row[i]] : row[i];

        if (place[r] == G_MAXUINT32 || (d2 && a->d2[place[r]] != d2[i])) {
            a->row[different] = r;
            a->d2[different] = d2 ? d2[i] : INFINITY;
            place[r] = (guint32)different++;
        }
        a->same[i] = place[r];
    }
    fm_free(place);
    a->balls = (NbBalls){.n = different, .row = a->row, .d2 = a->d2};
    return TRUE;
}

gboolean
fm_neighbours_within(const FmNeighbours *index, const FmNeighbours *queries, size_t n, const guint32 *row,
                     const double *d2, int threads, size_t *count, double *last, GError **error)
{
    Asked a;
    gboolean ok;

    if (n == 0)
        return TRUE;
    ok = asked_init(&a, queries, n, row, d2);
    if (ok) {
        a.balls.count = count;
        a.balls.last = last;
        if (index->tree)
            nb_tree_within(index, queries, &a.balls, threads);
        else
            ok = nb_scan_within(index, queries, &a.balls, threads);
    }
    for (size_t i = ok ? n : 0; i-- > 0;) {
        count[i] = count[a.same[i]];
        last[i] = last[a.same[i]];
    }
    asked_clear(&a);
    return ok || no_memory(threads, error);
}

/* One of two rows that differ is not the query's equal, unless the square of their distance is too small. */
static gboolean
positive(const FmNeighbours *s, const FmNeighbours *q, const NbBalls *balls, int threads, double *d2)
{
    double *two = fm_alloc(balls->n * 2 * sizeof *two);
    const gboolean ok =
        two && (s->tree ? nb_tree_different : nb_scan_different)(s, q, balls->n, balls->row, 2, threads, two);

    for (size_t i = 0; ok && i < balls->n; i++) {
        d2[i] = two[2 * i] > 0.0 ? two[2 * i] : two[2 * i + 1];
        if (d2[i] == 0.0)
            d2[i] = (s->tree ? nb_tree_positive : nb_scan_positive)(s, q, balls->row[i]);
    }
    fm_free(two);
    return ok;
}

gboolean
fm_neighbours_positive(const FmNeighbours *index, const FmNeighbours *queries, size_t n, const guint32 *row,
                       int threads, double *d2, GError **error)
{
    Asked a;
    gboolean ok;

    if (n == 0)
        return TRUE;
    ok = asked_init(&a, queries, n, row, NULL);
    ok = ok && positive(index, queries, &a.balls, threads, d2);
    for (size_t i = ok ? n : 0; i-- > 0;)
        d2[i] = d2[a.same[i]];
    asked_clear(&a);
    return ok || no_memory(threads, error);
}
