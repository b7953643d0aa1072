/* feed.c: data, noise, times and path points of a training step. Every number is a function of
 * (seed, stream, step, row), so that tiles, threads and resumption do not change a batch.
 * A finite data set is read in epochs, each a keyed permutation of its training rows. */
#include "flow/feed.h"

#include "flow/state.h"
#include "graph/spare.h"

#include <math.h>
#include <string.h>

/* clang-format off */
#define FEED_INPUTS(X) \
    X(X0, "x0") X(X1, "x1") X(XT, "xt") X(UT, "ut") X(T, "t") X(Y, "y") X(WEIGHT, "weight") \
    X(ALPHA, "alpha") X(DALPHA, "dalpha") X(SIGMA, "sigma") X(DSIGMA, "dsigma") X(GAMMA, "gamma") X(DGAMMA, "dgamma")
/* clang-format on */

enum {
#define FEED_ENUM(id, name) FEED_##id,
    FEED_INPUTS(FEED_ENUM)
#undef FEED_ENUM
        FEED_N_INPUTS
};

static const char *const feed_names[FEED_N_INPUTS] = {
#define FEED_NAME(id, name) [FEED_##id] = name,
    FEED_INPUTS(FEED_NAME)
#undef FEED_NAME
};

enum {
    FEED_COSTS = 1 << 23,      /* pairs of a batch's rows, whose costs a coupling may keep: 64 MiB of doubles */
    FEED_AHEAD_BYTES = 1 << 20 /* of inputs of a batch that is made ahead: of large ones it is little of a step */
};

/* numbers of the data's stream apart from those of the data themselves */
static const guint64 feed_flip_steps = G_GUINT64_CONSTANT(1) << 47;
static const guint64 feed_drop_steps = G_GUINT64_CONSTANT(1) << 46;

/* Scratch of one worker, for one tile. */
typedef struct FeedWorker {
    double *x0, *x1, *t, *xt, *ut, *noise;               /* (tile, D) but t (tile) */
    void *x0_typed, *x1_typed, *z, *xt_typed, *ut_typed; /* (tile, D) in the run's dtype */
    FmAffine *c;                                         /* (tile) */
    int *y;                                              /* (tile) */
    size_t *rows;                                        /* (tile) */
} FeedWorker;

/* One step's rows, for a coupling that sees the whole batch, and the pairs it chose. They do not depend on
 * weights: those of as many steps as there are threads are made side by side, each by one thread. */
typedef struct FeedBatch {
    guint64 step;
    gboolean made;
    double *x0, *x1; /* (pool, D) */
    int *y1;         /* (pool) */
    FmPairs pairs;
    FmPlugin *coupling; /* an instance of its own but for the first: threads do not share them */
    GError *failure;
} FeedBatch;

/* Rows row0 .. row0 + n - 1 of a step's batch. */
typedef struct FeedRows {
    guint64 step, row0;
    size_t n;
} FeedRows;

/* The inputs of a whole batch, made by threads that wait while the step before it is under way. */
typedef struct FeedAhead {
    guint64 step;
    gboolean *made;          /* (tiles) */
    void *in[FEED_N_INPUTS]; /* (B, ...) each; NULL: not used */
} FeedAhead;

struct FmFeeder {
    FmRun *run;
    size_t B, D, tile, pool;
    int threads;
    FmDtype dtype;
    int input[FEED_N_INPUTS]; /* position in the plan; -1: not used */
    gboolean needs_path, affine, flip;
    double t0, t1;
    double *inverse; /* (D) 1 / scale */
    guint64 step;
    FeedWorker *worker; /* (n_workers): `threads` for the batch and as many for the one ahead */
    int n_workers;
    FeedBatch *batch; /* (n_batches), by step modulo their number; NULL: rows are paired as they come */
    size_t n_batches;
    gboolean looks_ahead;
    FeedAhead ahead[2]; /* by step modulo 2 */
    gint64 *ahead_us;   /* (threads) spent on them */
    GError *failure;    /* the first one; set atomically */
};

static void
feed_fail(FmFeeder *f, GError *error)
{
    if (!g_atomic_pointer_compare_and_exchange(&f->failure, NULL, error))
        g_error_free(error);
}

static FmKey
feed_key(const FmFeeder *f, FmStream stream, guint64 step)
{
    return (FmKey){.seed = (guint64)f->run->config->seed, .stream = stream, .step = step};
}

/* ---- data ---- */

static gboolean
feed_read(const FmFeeder *f, guint64 step, guint64 row0, size_t n, size_t *rows, double *x, int *y, GError **error)
{
    const FmRun *run = f->run;

    if (run->data.rows == 0)
        return fm_dataset_draw(run->plugin[FM_KIND_DATASET], feed_key(f, FM_STREAM_DATA, step), row0, n, x, y, error);
    for (size_t r = 0; r < n; r++) {
        const guint64 g = step * f->pool + row0 + r;
        const FmKey key = feed_key(f, FM_STREAM_ORDER, g / run->n_train);
        const guint64 at = fm_permute_index(key, run->n_train, g % run->n_train);

        rows[r] = fm__run_row(run, FM__SPLIT_TRAIN, at);
    }
    return fm_dataset_read(run->plugin[FM_KIND_DATASET], rows, n, x, y, error);
}

/* Mirror images left to right, each with probability 1/2. */
static void
feed_flip(const FmFeeder *f, guint64 step, guint64 row0, size_t n, double *x)
{
    const size_t H = f->run->data.dim[0], W = f->run->data.dim[1], C = f->run->data.dim[2];
    const FmKey key = feed_key(f, FM_STREAM_DATA, step + feed_flip_steps);

    for (size_t r = 0; r < n; r++) {
        FmRng rng = fm_rng(key, row0 + r);
        if ((fm_rng_u32(&rng) & 1u) == 0)
            continue;
        for (size_t h = 0; h < H; h++)
            for (size_t a = 0, b = W - 1; a < b; a++, b--)
                for (size_t c = 0; c < C; c++) {
                    double *left = x + r * f->D + (h * W + a) * C + c;
                    double *right = x + r * f->D + (h * W + b) * C + c;
                    const double swap = *left;
                    *left = *right;
                    *right = swap;
                }
    }
}

/* Rows row0 .. of a step's data, dequantised and in the model's units. */
static gboolean
feed_data(const FmFeeder *f, FeedWorker *w, guint64 step, guint64 row0, size_t n, double *x, int *y, GError **error)
{
    const FmRun *run = f->run;

    if (!feed_read(f, step, row0, n, w->rows, x, y, error))
        return FALSE;
    if (f->flip)
        feed_flip(f, step, row0, n, x);
    if (run->data.levels > 1) {
        const double levels = run->data.levels;

        fm_fill_uniform_f64(feed_key(f, FM_STREAM_DATA, step), row0, n, f->D, w->noise);
        for (size_t i = 0; i < n * f->D; i++)
            x[i] = (x[i] * (levels - 1.0) + w->noise[i]) / levels;
    }
    for (size_t r = 0; r < n; r++)
        for (size_t d = 0; d < f->D; d++)
            x[r * f->D + d] = (x[r * f->D + d] - run->shift[d]) * f->inverse[d];
    return TRUE;
}

/* Rows row0 .. of a step's noise, in double. */
static gboolean
feed_source(const FmFeeder *f, guint64 step, guint64 row0, size_t n, double *x0, GError **error)
{
    const FmKey key = feed_key(f, FM_STREAM_SOURCE, step);

    if (f->run->source != NULL)
        return fm_dataset_draw(f->run->source, key, row0, n, x0, NULL, error);
    fm_fill_normal_f64(key, row0, n, f->D, x0);
    return TRUE;
}

/* ---- times ---- */

static void
feed_times(const FmFeeder *f, const FeedRows *at, double *t)
{
    const FmKey key = feed_key(f, FM_STREAM_TIME, at->step);
    const FmTimeSampling how = f->run->config->time_sampling;

    if (how == FM_TIME_LOGIT_NORMAL)
        fm_fill_normal_f64(key, at->row0, at->n, 1, t);
    else
        fm_fill_uniform_f64(key, at->row0, at->n, 1, t);
    for (size_t r = 0; r < at->n; r++) {
        if (how == FM_TIME_LOGIT_NORMAL)
            t[r] = 1.0 / (1.0 + exp(-t[r]));
        else if (how == FM_TIME_STRATIFIED)
            t[r] = ((double)(at->row0 + r) + t[r]) / (double)f->B;
        t[r] = f->t0 + (f->t1 - f->t0) * t[r];
    }
}

/* ---- path points ---- */

#define FEED_COMBINE(name, T) \
    static void name(size_t n, size_t D, const FmAffine *c, const T *restrict x0, const T *restrict x1, \
                     const T *restrict z, T *restrict xt, T *restrict ut) \
    { \
        for (size_t r = 0; r < n; r++) { \
            const T a = (T)c[r].alpha, s = (T)c[r].sigma, g = (T)c[r].gamma; \
            const T da = (T)c[r].dalpha, ds = (T)c[r].dsigma, dg = (T)c[r].dgamma; \
            const size_t o = r * D; \
            for (size_t d = 0; d < D; d++) { \
                xt[o + d] = a * x1[o + d] + s * x0[o + d]; \
                ut[o + d] = da * x1[o + d] + ds * x0[o + d]; \
            } \
            for (size_t d = 0; z != NULL && d < D; d++) { \
                xt[o + d] += g * z[o + d]; \
                ut[o + d] += dg * z[o + d]; \
            } \
        } \
    }
FEED_COMBINE(feed_combine_f32, float)
FEED_COMBINE(feed_combine_f64, double)

static gboolean
feed_affine(const FmFeeder *f, FeedWorker *w, const FeedRows *at, const void *x0, const void *x1, void *xt, void *ut,
            GError **error)
{
    const FmPlugin *path = f->run->plugin[FM_KIND_PATH];
    const FmKey key = feed_key(f, FM_STREAM_NOISE, at->step);
    const void *z = NULL;

    for (size_t r = 0; r < at->n; r++) {
        fm_path_coefficients(path, w->t[r], &w->c[r]);
        if (w->c[r].gamma != 0 || w->c[r].dgamma != 0)
            z = w->z;
    }
    if (f->dtype == FM_F32) {
        if (z != NULL)
            fm_fill_normal_f32(key, at->row0, at->n, f->D, w->z);
        feed_combine_f32(at->n, f->D, w->c, x0, x1, z, xt, ut);
    } else {
        if (z != NULL)
            fm_fill_normal_f64(key, at->row0, at->n, f->D, w->z);
        feed_combine_f64(at->n, f->D, w->c, x0, x1, z, xt, ut);
    }
    return TRUE;
}

static gboolean
feed_curved(const FmFeeder *f, FeedWorker *w, const FeedRows *at, const void *x0, const void *x1, void *xt, void *ut,
            GError **error)
{
    const size_t size = at->n * f->D;

    fm_convert(f->dtype, x0, FM_F64, w->x0, size);
    fm_convert(f->dtype, x1, FM_F64, w->x1, size);
    if (!fm_path_sample(f->run->plugin[FM_KIND_PATH], at->n, f->D, w->t, w->x0, w->x1,
                        feed_key(f, FM_STREAM_NOISE, at->step), at->row0, w->xt, w->ut)) {
        g_set_error(error, FM_ERROR, FM_ERROR_DIVERGED, "path '%s' failed to draw its points",
                    fm_plugin_name(f->run->plugin[FM_KIND_PATH]));
        return FALSE;
    }
    fm_convert(FM_F64, w->xt, f->dtype, xt, size);
    fm_convert(FM_F64, w->ut, f->dtype, ut, size);
    return TRUE;
}

/* ---- one tile ---- */

static void *
feed_slot(const FmFeeder *f, void *const *in, int which, void *scratch)
{
    return f->input[which] >= 0 ? in[f->input[which]] : scratch;
}

/* Labels that are taken away are -1, which belongs to no class: classifier-free guidance, Ho &
 * Salimans 2022, arXiv:2207.12598. */
static void
feed_drop_labels(const FmFeeder *f, const FeedRows *at, int *y)
{
    const FmKey key = feed_key(f, FM_STREAM_DATA, at->step + feed_drop_steps);

    for (size_t r = 0; r < at->n; r++) {
        FmRng rng = fm_rng(key, at->row0 + r);

        if (fm_rng_uniform(&rng) < f->run->config->label_dropout)
            y[r] = -1;
    }
}

/* The batch of a step; NULL where rows are paired as they come. */
static const FeedBatch *
feed_batch(const FmFeeder *f, guint64 step)
{
    return f->batch != NULL ? &f->batch[step % f->n_batches] : NULL;
}

/* x0 (n, D) and x1 (n, D) in dtype, and labels, of pairs of a batch. */
static void
feed_pairs(const FmFeeder *f, const FeedRows *at, void *x0, void *x1, int *y)
{
    const FeedBatch *b = feed_batch(f, at->step);

    for (size_t r = 0; r < at->n; r++) {
        const size_t i0 = b->pairs.i0[at->row0 + r], i1 = b->pairs.i1[at->row0 + r];
        const size_t to = r * f->D * fm_dtype_size(f->dtype);

        fm_convert(FM_F64, b->x0 + i0 * f->D, f->dtype, (char *)x0 + to, f->D);
        fm_convert(FM_F64, b->x1 + i1 * f->D, f->dtype, (char *)x1 + to, f->D);
        if (y != NULL)
            y[r] = b->y1[i1];
    }
}

/* The same of rows as they come. */
static gboolean
feed_ends(const FmFeeder *f, FeedWorker *w, const FeedRows *at, void *x0, void *x1, int *y, GError **error)
{
    const size_t size = at->n * f->D;

    if (!feed_data(f, w, at->step, at->row0, at->n, w->x1, y, error))
        return FALSE;
    fm_convert(FM_F64, w->x1, f->dtype, x1, size);
    if (!f->needs_path)
        return TRUE;
    if (f->run->source == NULL && f->dtype == FM_F32) {
        fm_fill_normal_f32(feed_key(f, FM_STREAM_SOURCE, at->step), at->row0, at->n, f->D, x0);
        return TRUE;
    }
    if (!feed_source(f, at->step, at->row0, at->n, w->x0, error))
        return FALSE;
    fm_convert(FM_F64, w->x0, f->dtype, x0, size);
    return TRUE;
}

static void
feed_columns(const FmFeeder *f, const FeedWorker *w, const FeedRows *at, void *const *in)
{
    if (f->input[FEED_T] >= 0)
        fm_convert(FM_F64, w->t, f->dtype, in[f->input[FEED_T]], at->n);
    if (f->input[FEED_WEIGHT] >= 0)
        fm_convert(FM_F64, feed_batch(f, at->step)->pairs.weight + at->row0, f->dtype, in[f->input[FEED_WEIGHT]],
                   at->n);
    for (int i = FEED_ALPHA; i <= FEED_DGAMMA; i++) {
        static const size_t offset[] = {offsetof(FmAffine, alpha), offsetof(FmAffine, dalpha),
                                        offsetof(FmAffine, sigma), offsetof(FmAffine, dsigma),
                                        offsetof(FmAffine, gamma), offsetof(FmAffine, dgamma)};
        for (size_t r = 0; f->input[i] >= 0 && r < at->n; r++)
            fm_convert(FM_F64, (const char *)&w->c[r] + offset[i - FEED_ALPHA], f->dtype,
                       (char *)in[f->input[i]] + r * fm_dtype_size(f->dtype), 1);
    }
}

/* The inputs of at most a tile of rows. */
static gboolean
feed_rows(const FmFeeder *f, FeedWorker *w, const FeedRows *at, void *const *in, GError **error)
{
    void *x0 = feed_slot(f, in, FEED_X0, w->x0_typed), *x1 = feed_slot(f, in, FEED_X1, w->x1_typed);
    int *y = f->input[FEED_Y] >= 0 ? in[f->input[FEED_Y]] : NULL;

    if (f->batch != NULL)
        feed_pairs(f, at, x0, x1, y);
    else if (!feed_ends(f, w, at, x0, x1, y, error))
        return FALSE;
    if (y != NULL && f->run->config->label_dropout > 0)
        feed_drop_labels(f, at, y);
    if (f->needs_path) {
        void *xt = feed_slot(f, in, FEED_XT, w->xt_typed);
        void *ut = feed_slot(f, in, FEED_UT, w->ut_typed);

        feed_times(f, at, w->t);
        if (!(f->affine ? feed_affine : feed_curved)(f, w, at, x0, x1, xt, ut, error))
            return FALSE;
    }
    feed_columns(f, w, at, in);
    return TRUE;
}

/* ---- the batch ahead ---- */

/* Bytes of a row of an input. */
static size_t
feed_row_size(const FmFeeder *f, int which)
{
    if (which == FEED_Y)
        return sizeof(gint32);
    return fm_dtype_size(f->dtype) * (which <= FEED_UT ? f->D : 1);
}

static size_t
feed_tiles(const FmFeeder *f)
{
    return (f->B + f->tile - 1) / f->tile;
}

/* Tile i of the batch ahead. What fails fails again when its step has come, and is told then. */
static void
feed_spare(void *ctx, int thread, size_t i)
{
    FmFeeder *f = ctx;
    FeedAhead *a = &f->ahead[(f->step + 1) % 2];
    const FeedRows at = {.step = a->step, .row0 = i * f->tile, .n = MIN(f->tile, f->B - i * f->tile)};
    const gint64 begun = g_get_monotonic_time();
    void *in[FEED_N_INPUTS] = {NULL};

    for (int k = 0; k < FEED_N_INPUTS; k++)
        if (f->input[k] >= 0)
            in[f->input[k]] = (char *)a->in[k] + at.row0 * feed_row_size(f, k);
    a->made[i] = feed_rows(f, &f->worker[f->threads + thread], &at, in, NULL);
    f->ahead_us[thread] += g_get_monotonic_time() - begun;
}

/* Offer the batch after f->step as spare work. */
static void
feed_offer(FmFeeder *f)
{
    const FeedBatch *b = feed_batch(f, f->step + 1);
    FeedAhead *a = &f->ahead[(f->step + 1) % 2];

    if (!f->looks_ahead || (b != NULL && !(b->made && b->step == f->step + 1 && b->failure == NULL)))
        return;
    a->step = f->step + 1;
    memset(a->made, 0, feed_tiles(f) * sizeof *a->made);
    fm__spare_begin(f->threads, feed_tiles(f), feed_spare, f);
}

/* Rows that were made ahead; FALSE: they were not. */
static gboolean
feed_take(const FmFeeder *f, const FeedRows *at, void *const *in)
{
    const FeedAhead *a = &f->ahead[at->step % 2];

    if (!f->looks_ahead || a->step != at->step || !a->made[at->row0 / f->tile])
        return FALSE;
    for (int k = 0; k < FEED_N_INPUTS; k++)
        if (f->input[k] >= 0)
            memcpy(in[f->input[k]], (char *)a->in[k] + at->row0 * feed_row_size(f, k), at->n * feed_row_size(f, k));
    return TRUE;
}

void
fm__feeder_tile(void *ctx, int worker, guint64 row0, size_t n, void *const *in)
{
    FmFeeder *f = ctx;
    const FeedRows at = {.step = f->step, .row0 = row0, .n = n};
    GError *error = NULL;

    if (!feed_take(f, &at, in) && !feed_rows(f, &f->worker[worker], &at, in, &error))
        feed_fail(f, error);
}

/* ---- whole batches ---- */

static gboolean
feed_make(const FmFeeder *f, FeedWorker *w, FeedBatch *b, GError **error)
{
    const FmPool pool = {.n0 = f->pool,
                         .n1 = f->pool,
                         .D = f->D,
                         .x0 = b->x0,
                         .x1 = b->x1,
                         .y1 = b->y1,
                         .key = feed_key(f, FM_STREAM_COUPLING, b->step)};

    for (size_t row0 = 0; row0 < f->pool; row0 += f->tile) {
        const size_t n = MIN(f->tile, f->pool - row0);

        if (!feed_data(f, w, b->step, row0, n, b->x1 + row0 * f->D, b->y1 ? b->y1 + row0 : NULL, error) ||
            !feed_source(f, b->step, row0, n, b->x0 + row0 * f->D, error))
            return FALSE;
    }
    return fm_coupling_pair(b->coupling, &pool, &b->pairs, error);
}

/* The batch of the i-th step from this one on; what goes wrong is told when that step begins. */
static void
feed_ahead(void *ctx, int worker, size_t i)
{
    FmFeeder *f = ctx;
    FeedBatch *b = &f->batch[(f->step + i) % f->n_batches];

    b->step = f->step + i;
    b->made = TRUE;
    g_clear_error(&b->failure);
    feed_make(f, &f->worker[worker], b, &b->failure);
}

gboolean
fm__feeder_begin(FmFeeder *f, guint64 step, GError **error)
{
    const FeedBatch *b = feed_batch(f, step);

    fm__feeder_wait(f);
    f->step = step;
    if (b != NULL && (!b->made || b->step != step))
        fm_parallel(f->threads, f->n_batches, feed_ahead, f);
    if (b != NULL && b->failure != NULL) {
        g_propagate_error(error, g_error_copy(b->failure));
        return FALSE;
    }
    feed_offer(f);
    return TRUE;
}

void
fm__feeder_wait(FmFeeder *f)
{
    fm__spare_end(f);
}

double
fm__feeder_ahead_seconds(FmFeeder *f, gboolean reset)
{
    double sum = 0.0;

    fm__feeder_wait(f);
    for (int i = 0; i < f->threads; i++) {
        sum += (double)f->ahead_us[i] * 1e-6;
        if (reset)
            f->ahead_us[i] = 0;
    }
    return sum;
}

size_t
fm__feeder_ahead(const FmFeeder *f)
{
    return MAX(f->n_batches, 1);
}

gboolean
fm__feeder_ok(FmFeeder *f, GError **error)
{
    if (f->failure == NULL)
        return TRUE;
    g_propagate_error(error, f->failure);
    f->failure = NULL;
    return FALSE;
}

/* ---- construction ---- */

gboolean
fm__feed_flips(const FmRun *run)
{
    const FmPlugin *dataset = run->plugin[FM_KIND_DATASET];
    const FmOption *o = fm_plugin_desc(dataset)->options;

    if (run->data.ndim != 3)
        return FALSE;
    for (; o != NULL && o->name != NULL; o++)
        if (g_str_equal(o->name, "flip") && o->type == FM_OPTION_BOOL)
            return *(const gboolean *)(const void *)((const char *)fm_plugin_self(dataset) + o->offset);
    return FALSE;
}

static gboolean
feed_worker_init(const FmFeeder *f, FeedWorker *w)
{
    const size_t n = f->tile * f->D, size = fm_dtype_size(f->dtype);
    double **wide[] = {&w->x0, &w->x1, &w->xt, &w->ut, &w->noise};
    void **typed[] = {&w->x0_typed, &w->x1_typed, &w->z, &w->xt_typed, &w->ut_typed};
    gboolean ok = TRUE;

    for (size_t i = 0; i < G_N_ELEMENTS(wide); i++)
        ok = (*wide[i] = fm_alloc(n * sizeof(double))) != NULL && ok;
    for (size_t i = 0; i < G_N_ELEMENTS(typed); i++)
        ok = (*typed[i] = fm_alloc(n * size)) != NULL && ok;
    w->t = fm_alloc(f->tile * sizeof *w->t);
    w->c = fm_alloc(f->tile * sizeof *w->c);
    w->y = fm_alloc(f->tile * sizeof *w->y);
    w->rows = fm_alloc(f->tile * sizeof *w->rows);
    return ok && w->t != NULL && w->c != NULL && w->y != NULL && w->rows != NULL;
}

static gboolean
feed_batch_init(const FmFeeder *f, FeedBatch *b)
{
    b->x0 = fm_alloc(f->pool * f->D * sizeof *b->x0);
    b->x1 = fm_alloc(f->pool * f->D * sizeof *b->x1);
    if (f->run->data.classes > 0)
        b->y1 = fm_alloc(f->pool * sizeof *b->y1);
    b->pairs.B = f->B;
    b->pairs.i0 = fm_alloc(f->B * sizeof *b->pairs.i0);
    b->pairs.i1 = fm_alloc(f->B * sizeof *b->pairs.i1);
    b->pairs.weight = fm_alloc(f->B * sizeof *b->pairs.weight);
    return b->x0 && b->x1 && b->pairs.i0 && b->pairs.i1 && b->pairs.weight && (f->run->data.classes == 0 || b->y1);
}

/* As many batches as threads, fewer where all costs of their pairs would take more than FEED_COSTS. */
static gboolean
feed_batches_init(FmFeeder *f, GError **error)
{
    FmRun *run = f->run;
    const size_t costs = f->pool < G_MAXUINT32 ? f->pool * f->pool : G_MAXSIZE;

    f->n_batches = CLAMP(FEED_COSTS / MAX(costs, 1), 1, (size_t)f->threads);
    f->batch = g_new0(FeedBatch, f->n_batches);
    for (size_t i = 0; i < f->n_batches; i++) {
        FeedBatch *b = &f->batch[i];

        b->coupling = i == 0 ? run->plugin[FM_KIND_COUPLING]
                             : fm_plugin_new(FM_KIND_COUPLING, run->config->spec[FM_KIND_COUPLING], error);
        if (b->coupling == NULL || (i > 0 && !fm_coupling_prepare(b->coupling, f->D, error)) || !feed_batch_init(f, b))
            return FALSE;
    }
    return TRUE;
}

/* Room for batches that are made ahead, where there are threads that could and the inputs are not large. */
static gboolean
feed_ahead_init(FmFeeder *f, const FmPlan *plan)
{
    size_t bytes = 0;

    for (int k = 0; k < FEED_N_INPUTS; k++)
        bytes += f->input[k] >= 0 ? feed_row_size(f, k) : 0;
    f->looks_ahead = f->threads > 1 && fm_plan_n_inputs(plan) <= FEED_N_INPUTS && bytes <= FEED_AHEAD_BYTES / f->B;
    for (int i = 0; f->looks_ahead && i < 2; i++) {
        FeedAhead *a = &f->ahead[i];

        a->made = g_new0(gboolean, feed_tiles(f));
        for (int k = 0; k < FEED_N_INPUTS; k++)
            if (f->input[k] >= 0 && (a->in[k] = fm_alloc(f->B * feed_row_size(f, k))) == NULL)
                return FALSE;
    }
    return TRUE;
}

static void
feed_ahead_clear(FmFeeder *f)
{
    for (int i = 0; i < 2; i++) {
        g_free(f->ahead[i].made);
        for (int k = 0; k < FEED_N_INPUTS; k++)
            fm_free(f->ahead[i].in[k]);
    }
    g_free(f->ahead_us);
}

static void
feed_batches_clear(FmFeeder *f)
{
    for (size_t i = 0; f->batch != NULL && i < f->n_batches; i++) {
        FeedBatch *b = &f->batch[i];
        void *all[] = {b->x0, b->x1, b->y1, b->pairs.i0, b->pairs.i1, b->pairs.weight};

        for (size_t k = 0; k < G_N_ELEMENTS(all); k++)
            fm_free(all[k]);
        if (i > 0)
            fm_plugin_free(b->coupling);
        g_clear_error(&b->failure);
    }
    g_free(f->batch);
}

FmFeeder *
fm__feeder_new(FmRun *run, const FmPlan *plan, size_t B, int threads, GError **error)
{
    FmFeeder *f = g_new0(FmFeeder, 1);
    const FmObjectiveOps *objective = fm_plugin_ops(run->plugin[FM_KIND_OBJECTIVE]);
    GError *failure = NULL;
    gboolean ok = TRUE;

    f->run = run;
    f->B = f->pool = B;
    f->D = run->data.D;
    f->tile = fm_plan_tile(plan);
    f->threads = threads;
    f->dtype = run->config->dtype;
    f->needs_path = !objective->no_path;
    f->affine = fm_path_is_affine(run->plugin[FM_KIND_PATH]);
    f->flip = fm__feed_flips(run);
    fm_path_interval(run->plugin[FM_KIND_PATH], &f->t0, &f->t1);
    for (int i = 0; i < FEED_N_INPUTS; i++)
        f->input[i] = fm_plan_input_find(plan, feed_names[i]);
    f->inverse = g_new(double, f->D);
    for (size_t d = 0; d < f->D; d++)
        f->inverse[d] = 1.0 / run->scale[d];
    f->ahead_us = g_new0(gint64, threads);
    ok = feed_ahead_init(f, plan);
    f->n_workers = f->looks_ahead ? 2 * threads : threads;
    f->worker = g_new0(FeedWorker, f->n_workers);
    for (int w = 0; w < f->n_workers; w++)
        ok = feed_worker_init(f, &f->worker[w]) && ok;
    if (ok && f->needs_path && !fm_coupling_row_wise(run->plugin[FM_KIND_COUPLING])) {
        f->pool = fm_coupling_pool_size(run->plugin[FM_KIND_COUPLING], B);
        ok = feed_batches_init(f, &failure);
    }
    if (ok)
        return f;
    if (failure == NULL)
        g_set_error(&failure, FM_ERROR, FM_ERROR_MEMORY,
                    "training: a batch of %" G_GSIZE_FORMAT " rows does not fit into memory", B);
    g_propagate_error(error, failure);
    fm__feeder_free(f);
    return NULL;
}

void
fm__feeder_free(FmFeeder *f)
{
    if (f == NULL)
        return;
    fm__feeder_wait(f);
    for (int i = 0; i < f->n_workers; i++) {
        FeedWorker *w = &f->worker[i];
        void *all[] = {w->x0,       w->x1, w->t,        w->xt,       w->ut, w->noise, w->x0_typed,
                       w->x1_typed, w->z,  w->xt_typed, w->ut_typed, w->c,  w->y,     w->rows};
        for (size_t k = 0; k < G_N_ELEMENTS(all); k++)
            fm_free(all[k]);
    }
    g_free(f->worker);
    g_free(f->inverse);
    feed_batches_clear(f);
    feed_ahead_clear(f);
    g_clear_error(&f->failure);
    g_free(f);
}
