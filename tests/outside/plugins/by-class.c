/* by-class: a label-aware coupling that draws from a pool larger than the batch, built outside the
 * tree. Data rows are taken class by class in turn (or from one class alone), each with the nearest
 * noise row of the pool that is still free. */
#include <fmcore/fmcore.h>
#include <math.h>

typedef struct ByClass {
    int pool, classes, only;
} ByClass;

static const FmOption by_class_options[] = {
    FM_OPT_INT(ByClass, pool, 4, 1, 64, "rows of the pool per row of the batch"),
    FM_OPT_INT(ByClass, classes, 2, 1, 1000, "classes to take in turn"),
    FM_OPT_INT(ByClass, only, -1, -1, 999, "the only class to take; -1: all"),
    FM_OPT_END,
};

static size_t
by_class_pool_size(const void *self, size_t B)
{
    return B * (size_t)((const ByClass *)self)->pool;
}

/* The free noise row nearest to data row i1. */
static size_t
by_class_nearest(const FmPool *pool, size_t i1, const gboolean *taken)
{
    double best = INFINITY;
    size_t at = pool->n0;

    for (size_t i = 0; i < pool->n0; i++) {
        double sum = 0.0;

        for (size_t d = 0; d < pool->D; d++) {
            const double gap = pool->x0[i * pool->D + d] - pool->x1[i1 * pool->D + d];

            sum += gap * gap;
        }
        if (!taken[i] && (at == pool->n0 || sum < best)) {
            best = sum;
            at = i;
        }
    }
    return at;
}

static gboolean
by_class_pair(void *self, const FmPool *pool, FmPairs *pairs, GError **error)
{
    const ByClass *s = self;
    g_autofree size_t *next = g_new0(size_t, s->classes);
    g_autofree gboolean *taken = g_new0(gboolean, pool->n0);

    if (!pool->y1) {
        g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED, "coupling 'by-class' needs data with labels");
        return FALSE;
    }
    for (size_t b = 0; b < pairs->B; b++) {
        const int wanted = s->only >= 0 ? s->only : (int)(b % (size_t)s->classes);
        size_t *i = &next[wanted % s->classes];

        while (*i < pool->n1 && pool->y1[*i] != wanted)
            ++*i;
        if (*i == pool->n1) {
            g_set_error(error, FM_ERROR, FM_ERROR_DATA,
                        "coupling 'by-class': a pool of %zu rows has too few of class %d", pool->n1, wanted);
            return FALSE;
        }
        pairs->i1[b] = (*i)++;
        pairs->i0[b] = by_class_nearest(pool, pairs->i1[b], taken);
        taken[pairs->i0[b]] = TRUE;
    }
    return TRUE;
}

static const FmCouplingOps by_class_ops = {.pair = by_class_pair, .pool_size = by_class_pool_size};

FM_PLUGIN_DECLARE(COUPLING, by_class, "by-class", by_class_ops, .self_size = sizeof(ByClass),
                  .options = by_class_options, .summary = "classes in turn, from a larger pool",
                  .source = "a test of fmcore's interfaces");
