/* neighbours_frame.c: the frame in which a scan sees rows. */
#include "flow/neighbours_private.h"

#include <fmcore/array.h>

#include <math.h>
#include <string.h>

enum { FRAME_SAMPLE = 64 /* rows that choose the centre */ };

/* Means of columns, near which products cancel least, and 1 / a power of two near the longest row: of some
 * rows, because nothing but speed rests on them. */
static void
choose_centre(const FmNeighbours *s, NbFrame *f)
{
    const size_t rows = MIN(s->n, (size_t)FRAME_SAMPLE), step = s->n / rows;
    double most = 0.0;
    int e;

    for (size_t i = 0; i < rows; i++)
        for (size_t d = 0; d < s->D; d++)
            f->centre[d] += nb_row(s, i * step)[d] / (double)rows;
    for (size_t i = 0; i < rows; i++)
        for (size_t d = 0; d < s->D; d++)
            most = MAX(most, fabs(nb_row(s, i * step)[d] - f->centre[d]));
    frexp(most, &e);
    f->scale = most > 0.0 ? ldexp(1.0, CLAMP(-e, -1000, 1000)) : 1.0;
}

NbFrame *
nb_frame_new(const FmNeighbours *s, const NbFrame *like)
{
    NbFrame *f = g_new0(NbFrame, 1);

    f->centre = fm_alloc(s->D * sizeof *f->centre);
    if (!f->centre) {
        nb_frame_free(f);
        return NULL;
    }
    if (like) {
        memcpy(f->centre, like->centre, s->D * sizeof *f->centre);
        f->scale = like->scale;
    } else
        choose_centre(s, f);
    return f;
}

gboolean
nb_frame_equal(size_t D, const NbFrame *a, const NbFrame *b)
{
    return a == b || (a->scale == b->scale && memcmp(a->centre, b->centre, D * sizeof *a->centre) == 0);
}

void
nb_frame_free(NbFrame *f)
{
    if (f == NULL)
        return;
    fm_free(f->centre);
    g_free(f);
}
