/* finite.c: with x_t = alpha x1 + s z, s^2 = sigma^2 + gamma^2, and x1 uniform over N rows, the responsibilities
 * of the rows at x are r = softmax(l) and
 *   v = dalpha E x1 + c (x - alpha E x1),   c = (sigma dsigma + gamma dgamma) / s^2,   E x1 = sum_i r_i E[x1 | i].
 *   points m_i:  l_i = (alpha x . m_i - alpha^2 |m_i|^2 / 2) / s^2,   E[x1 | i] = m_i;
 *   boxes:       coordinate d of row i is uniform on the interval of its level k; l_i is the sum over d of the
 *                logarithm of N(x_d - alpha x1_d; s^2) averaged over it (boxes.c).
 * Boxes take a table of D x levels logarithms a point. A row is then the levels in which it differs from each
 * coordinate's commonest one, so that images with much background cost little. */
#include "flow/finite.h"

#include "flow/boxes.h"
#include "flow/feed.h"
#include "flow/integrate.h"
#include "flow/state.h"

#include <fmcore/cpu.h>
#include <math.h>
#include <string.h>

enum {
    SIDE = 8,       /* points that share a pass over the rows */
    BLOCK = 256,    /* rows read at a time */
    ENTRY_WORK = 80 /* of a table's entry, in multiplications */
};
#define MOST_NUMBERS ((size_t)1 << 26)
#define EPSILON 1e-18 /* levels whose rows weigh less have no part in the mean */
#define FORGET 45.0   /* rows this far below the most likely one weigh nothing: exp(-45) is 3e-20 */

struct FmFinite {
    const FmRun *run;
    size_t N, D, L; /* L levels; 0: points */
    int classes;    /* of the net; 0: none */
    size_t *start;  /* (classes + 1) rows are in the order of their classes */
    gint32 *label;  /* (N) or NULL */
    /* points */
    double *x, *square; /* (N, D), (N) */
    /* boxes */
    guint32 *mode;  /* (D) commonest level of each coordinate */
    size_t *first;  /* (N + 1) row i differs in entries first[i] .. first[i + 1] - 1 */
    guint32 *entry; /* d L + level */
    guint32 *used;  /* (n_used) entries of the table that some row needs */
    size_t n_entry, n_used;
    double *lo, *width; /* (D) of level 0 */
    FmCutRule rule;
};

struct FmFiniteWorker {
    double *l;              /* (N, SIDE) */
    double *table, *weight; /* (D, L) logarithms; what rows of that level weigh */
    double *side, *mean;    /* (D, SIDE), (D) */
};

/* ---- reading ---- */

/* The rows that are trained on, in the order of their classes. */
static size_t *
finite_order(FmFinite *f, GError **error)
{
    const FmRun *run = f->run;
    const FmSplit split = run->params == NULL || fm_params_count(run->params) == 0 ? FM__SPLIT_ALL : FM__SPLIT_TRAIN;
    g_autofree size_t *row = NULL, *next = NULL;
    g_autofree double *x = g_new(double, BLOCK * f->D);
    g_autofree int *y = g_new0(int, f->run->data.rows);

    f->N = split == FM__SPLIT_ALL ? run->data.rows : run->n_train;
    row = g_new(size_t, f->N + 1);
    for (size_t i = 0; i < f->N; i++)
        row[i] = fm__run_row(run, split, i);
    f->start = g_new0(size_t, (size_t)f->classes + 2);
    f->start[f->classes] = f->N;
    if (f->classes == 0)
        return g_steal_pointer(&row);
    for (size_t i = 0; i < f->N; i += BLOCK)
        if (!fm_dataset_read(run->plugin[FM_KIND_DATASET], row + i, MIN((size_t)BLOCK, f->N - i), x, y + i, error))
            return NULL;
    next = g_new0(size_t, (size_t)f->classes + 1);
    for (size_t i = 0; i < f->N; i++)
        next[CLAMP(y[i], 0, f->classes - 1) + 1]++;
    for (int c = 0; c < f->classes; c++)
        next[c + 1] += next[c];
    memcpy(f->start, next, ((size_t)f->classes + 1) * sizeof *next);
    size_t *sorted = g_new(size_t, f->N + 1);
    f->label = g_new(gint32, f->N + 1);
    for (size_t i = 0; i < f->N; i++) {
        const gint32 c = CLAMP(y[i], 0, f->classes - 1);

        f->label[next[c]] = c;
        sorted[next[c]++] = row[i];
    }
    return sorted;
}

/* Hands every row, data units, to `take`. */
static gboolean
finite_each(FmFinite *f, const size_t *row, void (*take)(FmFinite *f, size_t i, const double *x), GError **error)
{
    g_autofree double *x = g_new(double, BLOCK * f->D);

    for (size_t i = 0; i < f->N; i += BLOCK) {
        const size_t n = MIN((size_t)BLOCK, f->N - i);

        if (!fm_dataset_read(f->run->plugin[FM_KIND_DATASET], row + i, n, x, NULL, error))
            return FALSE;
        for (size_t r = 0; r < n; r++)
            take(f, i + r, x + r * f->D);
    }
    return TRUE;
}

static void
take_point(FmFinite *f, size_t i, const double *x)
{
    for (size_t d = 0; d < f->D; d++) {
        const double m = (x[d] - f->run->shift[d]) / f->run->scale[d];

        f->x[i * f->D + d] = m;
        f->square[i] += m * m;
    }
}

static guint32
level_of(const FmFinite *f, double x)
{
    return (guint32)CLAMP(lrint(x * (double)(f->L - 1)), 0, (long)f->L - 1);
}

/* used: first the rows at each level. */
static void
count_levels(FmFinite *f, size_t i, const double *x)
{
    for (size_t d = 0; d < f->D; d++)
        f->used[d * f->L + level_of(f, x[d])]++;
}

static void
count_entries(FmFinite *f, size_t i, const double *x)
{
    for (size_t d = 0; d < f->D; d++)
        f->n_entry += level_of(f, x[d]) != f->mode[d];
}

static void
take_levels(FmFinite *f, size_t i, const double *x)
{
    f->first[i] = f->n_entry;
    for (size_t d = 0; d < f->D; d++)
        if (level_of(f, x[d]) != f->mode[d])
            f->entry[f->n_entry++] = (guint32)(d * f->L) + level_of(f, x[d]);
}

static gboolean
finite_points(FmFinite *f, const size_t *row, GError **error)
{
    f->square = g_new0(double, f->N + 1);
    f->x = fm__need("finite data", f->N, f->D, sizeof(double), error);
    return f->x != NULL && finite_each(f, row, take_point, error);
}

static gboolean
finite_boxes(FmFinite *f, const size_t *row, GError **error)
{
    const double levels = (double)f->L;
    size_t n = 0;

    f->used = g_new0(guint32, f->D * f->L);
    f->mode = g_new0(guint32, f->D);
    f->lo = g_new(double, f->D);
    f->width = g_new(double, f->D);
    f->first = g_new(size_t, f->N + 1);
    if (!finite_each(f, row, count_levels, error))
        return FALSE;
    for (size_t d = 0; d < f->D; d++) {
        for (guint32 k = 0; k < f->L; k++) {
            if (f->used[d * f->L + k] > f->used[d * f->L + f->mode[d]])
                f->mode[d] = k;
        }
        f->lo[d] = -f->run->shift[d] / f->run->scale[d];
        f->width[d] = 1.0 / (levels * f->run->scale[d]);
    }
    for (size_t i = 0; i < f->D * f->L; i++)
        if (f->used[i] > 0)
            f->used[n++] = (guint32)i;
    f->n_used = n;
    if (!finite_each(f, row, count_entries, error))
        return FALSE;
    f->entry = fm__need("finite data", f->n_entry + 1, 1, sizeof *f->entry, error);
    f->n_entry = 0;
    if (f->entry == NULL || !finite_each(f, row, take_levels, error))
        return FALSE;
    f->first[f->N] = f->n_entry;
    fm__cut_rule(&f->rule);
    return TRUE;
}

static gboolean
finite_check(const FmRun *run, GError **error)
{
    if (fm__feed_flips(run)) {
        g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED, "dataset '%s' mirrors its images at random",
                    fm_plugin_name(run->plugin[FM_KIND_DATASET]));
        return FALSE;
    }
    if (run->data.rows <= MOST_NUMBERS / run->data.D && (size_t)MAX(run->data.levels, 0) <= MOST_NUMBERS / run->data.D)
        return TRUE;
    g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED, "%zu rows of %zu numbers are more than 2^26 numbers",
                run->data.rows, run->data.D);
    return FALSE;
}

FmFinite *
fm_finite_new(const FmRun *run, GError **error)
{
    if (!finite_check(run, error))
        return NULL;
    g_autoptr(FmFinite) f = g_new0(FmFinite, 1);
    f->run = run;
    f->D = run->data.D;
    f->L = run->data.levels > 1 ? (size_t)run->data.levels : 0;
    f->classes = run->net_info.classes;
    g_autofree size_t *row = finite_order(f, error);
    if (row == NULL || !(f->L > 0 ? finite_boxes : finite_points)(f, row, error))
        return NULL;
    return g_steal_pointer(&f);
}

void
fm_finite_free(FmFinite *f)
{
    if (f == NULL)
        return;
    void *all[] = {f->start, f->label, f->square, f->mode, f->first, f->used, f->lo, f->width};
    for (size_t i = 0; i < G_N_ELEMENTS(all); i++)
        g_free(all[i]);
    fm_free(f->x);
    fm_free(f->entry);
    g_free(f);
}

const FmRun *
fm__finite_run(const FmFinite *f)
{
    return f->run;
}

double
fm_finite_work(const FmFinite *f)
{
    const double rows = (double)f->N * 4.0;

    return rows + (f->L > 0 ? (double)f->n_entry + ENTRY_WORK * (double)f->n_used : (double)(f->N * f->D));
}

/* ---- drawing ---- */

void
fm__finite_draw(const FmFinite *f, FmKey key, size_t n, double *x, gint32 *y)
{
    for (size_t r = 0; r < n; r++) {
        FmRng rng = fm_rng(key, r);
        const size_t i = fm_rng_below(&rng, (guint32)f->N), D = f->D;
        double *to = x + r * D;

        y[r] = f->label != NULL && fm_rng_uniform(&rng) >= f->run->config->label_dropout ? f->label[i] : -1;
        if (f->L == 0) {
            memcpy(to, f->x + i * D, D * sizeof *to);
            continue;
        }
        for (size_t d = 0; d < D; d++)
            to[d] = f->mode[d];
        for (size_t e = f->first[i]; e < f->first[i + 1]; e++)
            to[f->entry[e] / f->L] = (double)(f->entry[e] % f->L);
        for (size_t d = 0; d < D; d++)
            to[d] = f->lo[d] + (to[d] + fm_rng_uniform(&rng)) * f->width[d];
    }
}

/* ---- the field ---- */

FmFiniteWorker *
fm__finite_worker_new(const FmFinite *f, GError **error)
{
    FmFiniteWorker *o = g_new0(FmFiniteWorker, 1);

    if ((o->l = fm__need("finite data", f->N, SIDE, sizeof(double), error)) != NULL &&
        (o->table = fm__need("finite data", f->D, f->L, sizeof(double), error)) != NULL &&
        (o->weight = fm__need("finite data", f->D, f->L, sizeof(double), error)) != NULL &&
        (o->side = fm__need("finite data", f->D, SIDE, sizeof(double), error)) != NULL &&
        (o->mean = fm__need("finite data", f->D, 1, sizeof(double), error)) != NULL)
        return o;
    fm__finite_worker_free(o);
    return NULL;
}

void
fm__finite_worker_free(FmFiniteWorker *o)
{
    if (o == NULL)
        return;
    fm_free(o->l);
    fm_free(o->table);
    fm_free(o->weight);
    fm_free(o->side);
    fm_free(o->mean);
    g_free(o);
}

/* Products of every row with SIDE points, side (D, SIDE): l (N, SIDE). */
FM_INLINE void
dots_any(size_t N, size_t D, const double *restrict x, const double *restrict side, double *restrict l)
{
    for (size_t i = 0; i < N; i++) {
        double sum[SIDE] = {0.0};

        for (size_t d = 0; d < D; d++)
            for (size_t p = 0; p < SIDE; p++)
                sum[p] += x[i * D + d] * side[d * SIDE + p];
        for (size_t p = 0; p < SIDE; p++)
            l[i * SIDE + p] = sum[p];
    }
}
FM_CPU_VARIANTS(dots, (size_t N, size_t D, const double *restrict x, const double *restrict side, double *restrict l),
                (N, D, x, side, l))

static void
rows_of(const FmFinite *f, gint32 y, size_t *from, size_t *to)
{
    *from = y >= 0 && f->classes > 0 ? f->start[y] : 0;
    *to = y >= 0 && f->classes > 0 ? f->start[y + 1] : f->N;
}

/* The cut normal of an entry of the table at x (D); off as of fm__cut_normal(). */
static double
cut_entry(const FmFinite *f, const FmAffine *c, double s, guint32 entry, const double *x, double *off)
{
    const size_t d = entry / f->L;
    const double middle = f->lo[d] + ((double)(entry % f->L) + 0.5) * f->width[d];

    return fm__cut_normal(&f->rule, (x[d] - c->alpha * middle) / s, MAX(c->alpha * f->width[d] / s, 1e-30), off);
}

/* l_i at stride SIDE of the rows from .. to - 1 at x (D). */
static void
box_logs(const FmFinite *f, FmFiniteWorker *o, const FmAffine *c, double s, const double *x, size_t from, size_t to,
         double *l)
{
    double base = 0.0;

    for (size_t u = 0; u < f->n_used; u++)
        o->table[f->used[u]] = cut_entry(f, c, s, f->used[u], x, NULL);
    for (size_t d = 0; d < f->D; d++)
        base += o->table[d * f->L + f->mode[d]];
    for (size_t u = 0; u < f->n_used; u++) { /* what a row changes */
        const size_t d = f->used[u] / f->L;

        if (f->used[u] % f->L != f->mode[d])
            o->table[f->used[u]] -= o->table[d * f->L + f->mode[d]];
    }
    for (size_t i = from; i < to; i++) {
        double sum = base;

        for (size_t e = f->first[i]; e < f->first[i + 1]; e++)
            sum += o->table[f->entry[e]];
        l[i * SIDE] = sum;
    }
}

/* mean (D) of the rows from .. to - 1 with weights exp(l_i - top), and their sum. */
static double
point_means(const FmFinite *f, size_t from, size_t to, const double *l, double top, double *mean)
{
    double sum = 0.0;

    memset(mean, 0, f->D * sizeof *mean);
    for (size_t i = from; i < to; i++) {
        if (l[i * SIDE] < top - FORGET)
            continue;
        const double weight = exp(l[i * SIDE] - top), *row = f->x + i * f->D;
        sum += weight;
        for (size_t d = 0; d < f->D; d++)
            mean[d] += weight * row[d];
    }
    return sum;
}

/* The same of boxes: E[x1_d | level] = middle - off s / alpha, weighed by the rows of each level. */
static double
box_means(const FmFinite *f, FmFiniteWorker *o, const FmAffine *c, double s, const double *x, size_t from, size_t to,
          const double *l, double top)
{
    const double back = s / MAX(c->alpha, 1e-30);
    double sum = 0.0, off;

    for (size_t u = 0; u < f->n_used; u++)
        o->weight[f->used[u]] = 0.0;
    for (size_t i = from; i < to; i++) {
        if (l[i * SIDE] < top - FORGET)
            continue;
        const double weight = exp(l[i * SIDE] - top);
        sum += weight;
        for (size_t e = f->first[i]; e < f->first[i + 1]; e++)
            o->weight[f->entry[e]] += weight;
    }
    for (size_t d = 0; d < f->D; d++)
        o->weight[d * f->L + f->mode[d]] = sum;
    for (size_t u = 0; u < f->n_used; u++) {
        const size_t d = f->used[u] / f->L;

        if (f->used[u] % f->L != f->mode[d])
            o->weight[d * f->L + f->mode[d]] -= o->weight[f->used[u]];
    }
    memset(o->mean, 0, f->D * sizeof *o->mean);
    for (size_t u = 0; u < f->n_used; u++) {
        const guint32 entry = f->used[u];
        const size_t d = entry / f->L;

        if (!(fabs(o->weight[entry]) > EPSILON * sum))
            continue;
        cut_entry(f, c, s, entry, x, &off);
        o->mean[d] += o->weight[entry] * (f->lo[d] + ((double)(entry % f->L) + 0.5) * f->width[d] - off * back);
    }
    return sum;
}

/* v (D) at one point whose l_i are known, at stride SIDE. */
static void
velocity_of(const FmFinite *f, FmFiniteWorker *o, const FmAffine *c, size_t from, size_t to, const double *l,
            const double *x, double *v)
{
    const double var = c->sigma * c->sigma + c->gamma * c->gamma, s = sqrt(var);
    const double slope = (c->sigma * c->dsigma + c->gamma * c->dgamma) / var;
    double top = -INFINITY;

    for (size_t i = from; i < to; i++)
        top = MAX(top, l[i * SIDE]);
    const double sum =
        f->L > 0 ? box_means(f, o, c, s, x, from, to, l, top) : point_means(f, from, to, l, top, o->mean);
    for (size_t d = 0; d < f->D; d++) {
        const double x1 = o->mean[d] / sum;

        v[d] = c->dalpha * x1 + slope * (x[d] - c->alpha * x1);
    }
}

/* At most SIDE points. */
static void
finite_side(const FmFinite *f, FmFiniteWorker *o, size_t n, const double *x, const double *t, const gint32 *y,
            double *v)
{
    if (f->L == 0) {
        memset(o->side, 0, f->D * SIDE * sizeof *o->side);
        for (size_t p = 0; p < n; p++)
            for (size_t d = 0; d < f->D; d++)
                o->side[d * SIDE + p] = x[p * f->D + d];
        dots(f->N, f->D, f->x, o->side, o->l);
    }
    for (size_t p = 0; p < n; p++) {
        size_t from, to;
        FmAffine c;

        fm_path_coefficients(f->run->plugin[FM_KIND_PATH], t[p], &c);
        const double var = c.sigma * c.sigma + c.gamma * c.gamma;
        rows_of(f, y[p], &from, &to);
        if (f->L > 0)
            box_logs(f, o, &c, sqrt(var), x + p * f->D, from, to, o->l + p);
        for (size_t i = from; f->L == 0 && i < to; i++)
            o->l[i * SIDE + p] = c.alpha * (o->l[i * SIDE + p] - 0.5 * c.alpha * f->square[i]) / var;
        velocity_of(f, o, &c, from, to, o->l + p, x + p * f->D, v + p * f->D);
    }
}

void
fm__finite_velocity(const FmFinite *f, FmFiniteWorker *own, size_t n, const double *x, const double *t, const gint32 *y,
                    double *v)
{
    for (size_t r = 0; r < n; r += SIDE)
        finite_side(f, own, MIN((size_t)SIDE, n - r), x + r * f->D, t + r, y + r, v + r * f->D);
}
