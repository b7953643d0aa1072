/* neighbours_query.h: one query of a scan, its limit and its candidates; used by the scans alone.
 *
 * Bounds are of f = |y|^2 - 2 x.y, which orders rows y as their distances to x do. */
#ifndef FMCORE_CORE_FLOW_NEIGHBOURS_QUERY_H
#define FMCORE_CORE_FLOW_NEIGHBOURS_QUERY_H

#include "flow/neighbours_private.h"

#include <float.h>
#include <math.h>

enum {
    SCAN_CHUNK = 256, /* queries of one work item: a block of rows is fetched once for them */
    SCAN_ROOM = 640,  /* candidates of a query */
    SCAN_FETCH = 2048 /* bytes of a row: what a core waits for at a time */
};

#define SCAN_TINY 1e-30f /* more than what underflow can lose, in scaled units */

typedef struct Candidate {
    float low; /* bound of f */
    guint32 at;
} Candidate;

/* Half the width of a bound: per |y|, per e_y = |y - y'|, per |y|^2. */
typedef struct Margin {
    float length, lost, square;
} Margin;

typedef struct Query {
    size_t row;    /* among the queries */
    double ball;   /* candidates are all rows within this squared distance; negative: the k nearest */
    double square; /* |x|^2, scaled, to the precision of float */
    Margin margin; /* of candidates */
    gboolean overflow;
    size_t n, n_least;
    float limit;                    /* the k-th least upper bound so far */
    float least[FM_NEIGHBOURS_MAX]; /* upper bounds, ascending */
    Candidate candidate[SCAN_ROOM];
    /* Scan of bytes: rows that have only the bound of their bytes. */
    Margin coarse, mid;
    float reach, step; /* reach: how much higher than limit that bound may be */
    size_t n_raw;
    Candidate raw[SCAN_ROOM];
} Query;

/* Lengths of a scaled row and of what rounding takes from it. */
typedef struct Lengths {
    double square, lost_square;
} Lengths;

/* Sums of D products in float of rows rounded to x' and y': with e_x = |x - x'| and u = 2^-24,
 *   |fl(x'.y') - x.y| <= (D + 8) u |x||y| + |x| e_y + e_x (|y| + e_y)
 * in any order of summation (Higham 2002, doi:10.1137/1.9780898718027, sec. 3.1); twice that, and 16 u |y|^2
 * for every rounding of |y|^2 and of the sums of bounds. */
static inline Margin
scan_margin(size_t D, const Lengths *l)
{
    const double u = 0x1p-24, x = sqrt(l->square), e = sqrt(l->lost_square);

    return (Margin){.length = (float)(2.0 * ((((double)D + 8.0) * u + 8.0 * u) * x + e) * (1.0 + 1e-5)),
                    .lost = (float)(2.0 * (x + e) * (1.0 + 1e-5)),
                    .square = 16 * 0x1p-24f};
}

FM_INLINE float
half_width(const Margin *m, float square, float length, float lost)
{
    return m->length * length + m->lost * lost + m->square * square + SCAN_TINY;
}

/* The largest |y|^2, |y| and e_y of some rows. */
typedef struct Largest {
    float square, length, lost;
} Largest;

/* Of rows at .. at + n - 1 of s; lost (n): their e_y. */
static inline Largest
largest(const FmNeighbours *s, size_t at, size_t n, const float *lost)
{
    Largest m = {0};

    for (size_t i = 0; i < n; i++) {
        m.square = MAX(m.square, s->square[at + i]);
        m.length = MAX(m.length, s->length[at + i]);
        m.lost = MAX(m.lost, lost[i]);
    }
    return m;
}

static inline void
query_overflow(Query *q)
{
    q->overflow = TRUE;
    q->limit = -INFINITY;
}

/* An upper bound of f within the ball. */
static inline float
ball_limit(const FmNeighbours *s, const Query *q)
{
    const double scale = s->frame->scale;

    return nextafterf((float)(q->ball * scale * scale * (1.0 + 1e-12) - q->square * (1.0 - 3e-7)), INFINITY);
}

static inline void
query_begin(Query *q, const FmNeighbours *s, const Lengths *l)
{
    q->square = l->square;
    q->margin = scan_margin(s->D, l);
    q->n = q->n_least = q->n_raw = 0;
    q->limit = q->ball < 0.0 ? FLT_MAX : ball_limit(s, q);
    q->overflow = FALSE;
    if (s->far || !(l->square < SCAN_FAR)) /* beyond it floats cannot tell rows apart */
        query_overflow(q);
}

/* Candidates lie anywhere: ask for the next one's row, or its beginning, while this one's is used. */
static inline void
nb_fetch(const void *row, size_t bytes)
{
    for (size_t at = 0; at < MIN(bytes, (size_t)SCAN_FETCH); at += 64)
        __builtin_prefetch((const char *)row + at);
}

static inline size_t
candidates_prune(Candidate *c, size_t n, float limit)
{
    size_t kept = 0;

    for (size_t i = 0; i < n; i++) { /* without a branch, which half of them would take */
        const Candidate v = c[i];

        c[kept] = v;
        kept += v.low <= limit;
    }
    return kept;
}

static inline void
query_add(Query *q, size_t k, float low, float high, size_t at)
{
    if (q->ball < 0.0 && (q->n_least < k || high < q->least[k - 1])) {
        size_t i = q->n_least < k ? q->n_least++ : k - 1;

        for (; i > 0 && q->least[i - 1] > high; i--)
            q->least[i] = q->least[i - 1];
        q->least[i] = high;
        if (q->n_least == k)
            q->limit = q->least[k - 1];
    }
    if (q->n == SCAN_ROOM)
        q->n = candidates_prune(q->candidate, q->n, q->limit);
    if (q->n == SCAN_ROOM)
        query_overflow(q);
    else
        q->candidate[q->n++] = (Candidate){.low = low, .at = (guint32)at};
}

/* ---- neighbours_bytes.c ---- */

/* Room of one thread. */
typedef struct NbBytesWork NbBytesWork;
NbBytesWork *nb_bytes_work_new(const FmNeighbours *s);
void nb_bytes_work_free(NbBytesWork *w);
/* Candidates of n <= SCAN_CHUNK queries, whose rows are set, to the k nearest rows of s. */
void nb_bytes_scan(const FmNeighbours *s, const FmNeighbours *q, size_t k, NbBytesWork *w, Query *const *query,
                   size_t n);

#endif
