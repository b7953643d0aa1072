/* neighbours_equal.c: which rows are searched and in what order. Of equal rows an index keeps one, the first, and how
 * many there are; without equal rows it keeps all, as they are given until they are put in order. */
#include "flow/neighbours_private.h"

#include <fmcore/array.h>
#include <fmcore/plan.h>

#include <string.h>

enum { EQUAL_CHUNK = 256 /* rows of one work item */ };

#define EQUAL_NONE G_MAXUINT32

typedef struct EqualRows {
    const FmNeighbours *s;
    guint32 *hash; /* (n) */
} EqualRows;

/* Equal rows have equal numbers; 0.0 and -0.0 are equal. */
static guint32
hash_row(size_t D, const double *x)
{
    guint64 h[4] = {1, 2, 3, 4}, bits;

    for (size_t d = 0; d < D; d++) {
        const double v = x[d] + 0.0;

        memcpy(&bits, &v, sizeof bits);
        h[d % 4] = (h[d % 4] ^ bits ^ bits >> 32) * 0x9e3779b97f4a7c15u;
    }
    for (size_t l = 1; l < 4; l++)
        h[0] = (h[0] ^ h[0] >> 29 ^ h[l]) * 0xbf58476d1ce4e5b9u;
    return (guint32)(h[0] >> 32);
}

static void
hash_chunk(void *ctx, int worker, size_t chunk)
{
    const EqualRows *job = ctx;
    const size_t end = MIN((chunk + 1) * EQUAL_CHUNK, job->s->n);

    for (size_t i = chunk * EQUAL_CHUNK; i < end; i++)
        job->hash[i] = hash_row(job->s->D, nb_row(job->s, i));
}

static gboolean
rows_equal(size_t D, const double *a, const double *b)
{
    for (size_t d = 0; d < D; d++)
        if (a[d] != b[d])
            return FALSE;
    return TRUE;
}

/* of (n): the first row equal to each. table (mask + 1): open addressing. The number of different rows. */
static size_t
find_first(const EqualRows *job, guint32 *table, size_t mask, guint32 *of)
{
    const FmNeighbours *s = job->s;
    size_t different = 0;

    for (size_t i = 0; i <= mask; i++)
        table[i] = EQUAL_NONE;
    for (size_t i = 0; i < s->n; i++) {
        size_t at = job->hash[i] & mask;

        while (table[at] != EQUAL_NONE &&
               !(job->hash[table[at]] == job->hash[i] && rows_equal(s->D, nb_row(s, table[at]), nb_row(s, i))))
            at = (at + 1) & mask;
        if (table[at] == EQUAL_NONE) {
            table[at] = (guint32)i;
            different++;
        }
        of[i] = table[at];
    }
    return different;
}

/* One row of each set: of becomes its place among them. */
static gboolean
keep_first(FmNeighbours *s, size_t different)
{
    const guint32 *row = s->row;
    size_t next = 0;

    s->kept = fm_alloc(different * sizeof *s->kept);
    s->first = fm_alloc(different * sizeof *s->first);
    s->weight = fm_alloc(different * sizeof *s->weight);
    if (!s->kept || !s->first || !s->weight)
        return FALSE;
    for (size_t i = 0; i < s->n; i++) {
        if (s->of[i] == i) { /* earlier rows have their places already */
            s->kept[next] = row ? row[i] : (guint32)i;
            s->first[next] = (guint32)i;
            s->weight[next] = 1;
            s->of[i] = (guint32)next++;
            continue;
        }
        s->of[i] = s->of[s->of[i]];
        s->weight[s->of[i]]++;
    }
    s->row = s->kept;
    s->n = different;
    return TRUE;
}

gboolean
nb_equal_find(FmNeighbours *s, int threads)
{
    EqualRows job = {.s = s, .hash = fm_alloc(s->n * sizeof *job.hash)};
    size_t size = 16, different = 0;
    guint32 *table;

    while (size < 2 * s->n)
        size *= 2;
    table = fm_alloc(size * sizeof *table);
    s->of = fm_alloc(s->n * sizeof *s->of);
    if (job.hash && table && s->of) {
        fm_parallel(threads, (s->n + EQUAL_CHUNK - 1) / EQUAL_CHUNK, hash_chunk, &job);
        different = find_first(&job, table, size - 1, s->of);
    }
    fm_free(job.hash);
    fm_free(table);
    if (different == s->n)
        g_clear_pointer(&s->of, fm_free);
    else if (different > 0 && !keep_first(s, different))
        different = 0;
    return different > 0;
}

/* to[i] = from[order[i]], or order[i] where there is no `from`; owned. */
static guint32 *
take_order(size_t n, const guint32 *from, const guint32 *order)
{
    guint32 *to = fm_alloc(n * sizeof *to);

    for (size_t i = 0; to && i < n; i++)
        to[i] = from ? from[order[i]] : order[i];
    return to;
}

static void
replace(guint32 **old, guint32 *by)
{
    fm_free(*old);
    *old = by;
}

gboolean
nb_equal_order(FmNeighbours *s, const guint32 *order)
{
    guint32 *kept = take_order(s->n, s->row, order), *first = take_order(s->n, s->first, order);
    guint32 *weight = s->weight ? take_order(s->n, s->weight, order) : NULL;
    guint32 *place = fm_alloc(s->n * sizeof *place);
    const gboolean ok = kept && first && !weight == !s->weight && place;

    if (!ok) {
        fm_free(kept);
        fm_free(first);
        fm_free(weight);
        fm_free(place);
        return FALSE;
    }
    for (size_t i = 0; i < s->n; i++)
        place[order[i]] = (guint32)i;
    replace(&s->kept, kept);
    replace(&s->first, first);
    replace(&s->weight, weight);
    s->row = s->kept;
    for (size_t i = 0; s->of && i < s->rows; i++)
        s->of[i] = place[s->of[i]];
    if (s->of)
        fm_free(place);
    else
        s->of = place;
    return TRUE;
}
