/* kl.c: trajectories of p with everything that is known of p and q along them. */
#include "flow/kl_private.h"

#include <math.h>
#include <string.h>

/* ---- the two flows ---- */

static gboolean
kl_check(FmFlow *flow, const char *which, GError **error)
{
    const FmRun *run = flow->run;

    if (!fm__flow_is_map(flow) && run->net_info.classes == 0)
        return TRUE;
    g_set_error(
        error, FM_ERROR, FM_ERROR_UNSUPPORTED, "kl: net '%s' of %s is %s, expected an unconditional velocity field",
        fm_plugin_name(run->plugin[FM_KIND_NET]), which, fm__flow_is_map(flow) ? "a map without time" : "conditional");
    return FALSE;
}

/* What is infinite at t = 1, where P's or Q's field belongs to data without noise. */
static void
kl_name_infinite(FmKlPair *pair, const FmRun *p, const FmRun *q)
{
    const gboolean rough_p = fm_net_density_end(p->plugin[FM_KIND_NET]) < 1.0,
                   rough_q = fm_net_density_end(q->plugin[FM_KIND_NET]) < 1.0;

    pair->infinite = rough_p || rough_q;
    if (!pair->infinite)
        return;
    pair->bound_at_1 = "infinite: S_t, the mean square of the score gap, grows like 1 / (1 - t) or faster "
                       "near data without noise";
    pair->kl_at_1 = rough_p && p->data.rows > 0   ? "infinite or undefined: P's finite data have no density at t = 1"
                    : rough_q && q->data.rows > 0 ? "infinite: Q's finite data have no density at t = 1"
                    : rough_q ? "infinite if p_1 has mass outside of the support of q_1; not computed"
                              : "not computed at the edges of p_1; 'eval' has kl to a known density";
}

/* Nearer to data without noise nothing is measured: the fields of finite data stand still from there on, and at t = 1
 * edges are only closed. */
#define LAST (1.0 - 1e-5)

/* The part of [0, 1] on which both flows are defined. */
static gboolean
kl_interval(FmKlPair *pair, const FmKlOptions *o, GError **error)
{
    const FmExact *p = pair->p, *q = pair->q;

    pair->t0 = MAX(p->t0, q->t0);
    pair->t1 = MIN(p->t1, q->t1);
    const double end = MIN(fm_net_density_end(p->flow->run->plugin[FM_KIND_NET]),
                           fm_net_density_end(q->flow->run->plugin[FM_KIND_NET]));
    kl_name_infinite(pair, p->flow->run, q->flow->run);
    pair->t1 = MIN(pair->t1, isnan(o->stop) ? end : o->stop);
    if (pair->still == FM_KL_END && pair->infinite && isnan(o->stop)) {
        g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                    "kl: KL(p_t||p_1) is infinite for all t < 1, because the data of net '%s' have no smooth "
                    "density without noise; --until T compares with p_T",
                    fm_plugin_name(p->flow->run->plugin[FM_KIND_NET]));
        return FALSE;
    }
    if (pair->infinite && pair->t1 > LAST) {
        g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                    "kl: --until is %.10g and the data of %s have no smooth density without noise at t = 1, expected "
                    "at most %g",
                    pair->t1, fm_net_density_end(p->flow->run->plugin[FM_KIND_NET]) < 1.0 ? "P" : "Q", LAST);
        return FALSE;
    }
    if (p->t0 == q->t0 && pair->t1 > pair->t0)
        return TRUE;
    g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                "kl: P runs over [%g, %g] and Q over [%g, %g] until %g, expected a common beginning "
                "and an end after it",
                p->t0, p->t1, q->t0, q->t1, pair->t1);
    return FALSE;
}

/* A density that stands still for q: the data's, with its score. Below bounded support it is 0 where every
 * p_t before the end has mass. */
static gboolean
kl_data_check(const FmRun *run, GError **error)
{
    const FmPlugin *data = run->plugin[FM_KIND_DATASET];
    double x[1] = {0.0}, score[1];
    const char *why = data == NULL                     ? "there is no data set"
                      : fm_dataset_boxes(data) != NULL ? "it is infinite, because p_t has mass outside of "
                                                         "the data's bounded support"
                      : !fm_dataset_has_density(data) || !fm_dataset_score(data, 0, x, score)
                          ? "the data have no density and score in closed form"
                          : NULL;

    if (why == NULL)
        return TRUE;
    g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED, "KL to the data of '%s': %s",
                data != NULL ? fm_plugin_name(data) : "", why);
    return FALSE;
}

gboolean
fm__kl_pair_open(FmKlPair *pair, FmFlow *p, FmFlow *q, const FmKlOptions *o, GError **error)
{
    const size_t D = fm_flow_dim(p);

    if (!kl_check(p, "P", error) || !kl_check(q, "Q", error))
        return FALSE;
    if (D != fm_flow_dim(q)) {
        g_set_error(error, FM_ERROR, FM_ERROR_SHAPE,
                    "kl: P has %" G_GSIZE_FORMAT " dimensions and Q %" G_GSIZE_FORMAT ", expected the same", D,
                    fm_flow_dim(q));
        return FALSE;
    }
    if (o->times < 7 || o->times % 2 == 0 || o->n < 2) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                    "kl: %" G_GSIZE_FORMAT " times and %" G_GSIZE_FORMAT
                    " trajectories, expected an odd number of times from 7 and at least 2 trajectories",
                    o->times, o->n);
        return FALSE;
    }
    pair->a = g_new(double, D);
    pair->b = g_new(double, D);
    for (size_t d = 0; d < D; d++) {
        pair->a[d] = p->run->scale[d] / q->run->scale[d];
        pair->b[d] = (p->run->shift[d] - q->run->shift[d]) / q->run->scale[d];
        pair->log_a += log(pair->a[d]);
    }
    pair->p = fm__exact_new(p, o->threads, error);
    pair->q = pair->p != NULL ? fm__exact_new(q, o->threads, error) : NULL;
    if (pair->q == NULL)
        return FALSE;
    pair->p->drop = pair->q->drop = o->drop;
    pair->still = o->still;
    if (o->still == FM_KL_DATA && !kl_data_check(q->run, error))
        return FALSE;
    return kl_interval(pair, o, error);
}

void
fm__kl_pair_clear(FmKlPair *pair)
{
    fm__exact_free(pair->p);
    fm__exact_free(pair->q);
    g_free(pair->a);
    g_free(pair->b);
}

/* ---- the result ---- */

/* Where there are edges at t = 1, what happens near one takes a time of the order of 1 - t. With s = log of
 * (1 - t0) / (1 - t), most points are then equidistant in s and the others in t, for what happens before: t is that of
 * u = FLAT (t - t0) / (t1 - t0) + (1 - FLAT) s / s1. */
#define FLAT 0.3
static void
kl_graded(FmKl *kl, double t0, double t1)
{
    const double a = FLAT * (1.0 - t0) / (t1 - t0), b = (1.0 - FLAT) / log((1.0 - t0) / (1.0 - t1));
    double s = 0.0;

    for (size_t j = 0; j < kl->T; j++) {
        for (int i = 0; i < 50; i++) /* Newton's method from the left of a concave function: it never passes the root */
            s -= (-a * expm1(-s) + b * s - kl->grid.h * (double)j) / (a * exp(-s) + b);
        kl->t[j] = t0 - (1.0 - t0) * expm1(-s);
        kl->pace[j] = (1.0 - t0) * exp(-s) / (a * exp(-s) + b);
    }
}

static void
kl_times(FmKl *kl, double t0, double t1, gboolean graded)
{
    kl->t = g_new(double, kl->T);
    kl->pace = graded ? g_new(double, kl->T) : NULL;
    kl->grid = (FmGrid){.T = kl->T, .every = 1, .h = (graded ? 1.0 : t1 - t0) / (double)(kl->T - 1), .pace = kl->pace};
    for (size_t j = 0; j < kl->T; j++)
        kl->t[j] = t0 + kl->grid.h * (double)j;
    if (graded)
        kl_graded(kl, t0, t1);
    kl->t[kl->T - 1] = t1;
}

FmKl *
fm__kl_blank(const FmKlPair *pair, const FmKlOptions *o)
{
    FmKl *kl = g_new0(FmKl, 1);

    kl->T = o->times;
    kl->D = pair->p->D;
    kl->infinite = pair->infinite;
    kl->kl_at_1 = pair->kl_at_1;
    kl->bound_at_1 = pair->bound_at_1;
    kl->still = pair->still;
    kl_times(kl, pair->t0, pair->t1, pair->infinite && pair->t1 < 1.0);
    kl->alignment = kl->alignment_se = kl->z_max = kl->quadrature = kl->residual_max = kl->residual_coarse = kl->ess =
        NAN;
    kl->reverse = kl->jensen_shannon = kl->tv = kl->both = (FmNumber){NAN, NAN};
    kl->unreached = NAN;
    return kl;
}

void
fm_kl_free(FmKl *kl)
{
    if (kl == NULL)
        return;
    for (int f = 0; f < FM_KL_N_FIELDS; f++)
        fm_free(kl->field[f]);
    for (int c = 0; c < FM_KL_N_CURVES; c++) {
        g_free(kl->value[c]);
        g_free(kl->se[c]);
    }
    fm_free(kl->x);
    fm_free(kl->own_ratio);
    g_free(kl->t);
    g_free(kl->pace);
    g_free(kl->exact);
    g_free(kl->exact_integrand);
    g_free(kl);
}

/* ---- trajectories ---- */

typedef struct KlWorker {
    FmExactWorker *p, *q;
    /* of one tile, in p's units unless said */
    double *state;                         /* (n, 2 D + 1) of p when it is learned */
    double *x, *xq;                        /* (n, D), xq in q's units */
    double *v, *w, *sp, *sq;               /* (n, D) */
    double *div_v, *div_w, *log_p, *log_q; /* (n) */
    FmSolveStat *stat;
    double nfe;
} KlWorker;

typedef struct KlJob {
    const FmKlPair *pair;
    const FmKlOptions *o;
    FmKl *kl;
    KlWorker *worker;
    double *x0, *y0; /* (n, D) starts of p's trajectories, in p's units, and of q's own points, in q's; y0 NULL: none */
    double *nfe;     /* of each tile */
    size_t tile;
    size_t done, all; /* pieces of work: tiles times times, and tiles of q's own points */
    GMutex lock;      /* of `done` and the listener */
    gint failed;
} KlJob;

/* Where n trajectories of one side begin, x0 (n, D): its path's own marginal where p_t is in closed form and holds
 * data already, else the base of the flow. */
static gboolean
kl_start(const KlJob *j, const FmExact *e, size_t n, guint64 step, double *x0, GError **error)
{
    const FmRun *run = e->flow->run;
    const size_t D = e->D;
    const FmKey noise = {.seed = j->o->seed, .stream = FM_STREAM_SAMPLE, .step = step},
                data = {.seed = j->o->seed, .stream = FM_STREAM_EVAL, .step = step};
    const FmPlugin *path = run->plugin[FM_KIND_PATH];
    const double sd = fm__base_sd(e->flow);
    FmAffine c = {.sigma = 1.0};

    if (run->source != NULL)
        return fm_dataset_draw(run->source, noise, 0, n, x0, NULL, error);
    fm_fill_normal_f64(noise, 0, n, D, x0);
    if (fm_path_is_affine(path))
        fm_path_coefficients(path, j->pair->t0, &c);
    if (!e->closed || c.alpha == 0.0 || run->plugin[FM_KIND_DATASET] == NULL) {
        for (size_t i = 0; i < n * D; i++)
            x0[i] *= sd;
        return TRUE;
    }
    double *x1 = fm__need("kl", n, D, sizeof(double), error);
    const gboolean ok = x1 != NULL && fm_dataset_draw(run->plugin[FM_KIND_DATASET], data, 0, n, x1, NULL, error);
    for (size_t i = 0; ok && i < n * D; i++)
        x0[i] = sqrt(c.sigma * c.sigma + c.gamma * c.gamma) * x0[i] +
                c.alpha * (x1[i] - run->shift[i % D]) / run->scale[i % D];
    fm_free(x1);
    return ok;
}

/* p at time t: x, V, div V, log p and score; learned flows carry the last two along. */
static gboolean
kl_eval_p(const KlJob *j, KlWorker *o, int w, size_t n, double t)
{
    const FmExact *p = j->pair->p;
    const size_t D = p->D, W = 2 * D + 1;

    for (size_t r = 0; !p->closed && r < n; r++) {
        memcpy(o->x + r * D, o->state + r * W, D * sizeof(double));
        o->log_p[r] = o->state[r * W + D];
        memcpy(o->sp + r * D, o->state + r * W + D + 1, D * sizeof(double));
    }
    return fm__exact_field(p, o->p, w, n, o->x, t, NULL, o->v, o->div_v) &&
           (!p->closed || fm__exact_density(p, o->p, w, n, o->x, t, NULL, o->log_p, o->sp, NULL));
}

/* log of the data's density (n) and its score (n, D) at x (n, D) in the units of q's run. */
static void
kl_data_density(const FmRun *run, size_t n, const double *x, double *scratch, double *log_p, double *score)
{
    const size_t D = run->data.D;
    double log_scale = 0.0;

    for (size_t d = 0; d < D; d++)
        log_scale += log(run->scale[d]);
    for (size_t i = 0; i < n * D; i++)
        scratch[i] = x[i] * run->scale[i % D] + run->shift[i % D];
    fm_dataset_log_density(run->plugin[FM_KIND_DATASET], n, scratch, log_p);
    fm_dataset_score(run->plugin[FM_KIND_DATASET], n, scratch, score);
    for (size_t i = 0; i < n * D; i++)
        score[i] *= run->scale[i % D];
    for (size_t r = 0; r < n; r++)
        log_p[r] += log_scale;
}

/* The density that p_t is compared with at xq, and W where it moves, in q's units. */
static gboolean
kl_eval_other(const KlJob *j, KlWorker *o, int w, size_t n, double t)
{
    const FmKlPair *pair = j->pair;
    const size_t D = pair->p->D;

    if (pair->still == FM_KL_MOVING)
        return fm__exact_field(pair->q, o->q, w, n, o->xq, t, NULL, o->w, o->div_w) &&
               fm__exact_density(pair->q, o->q, w, n, o->xq, t, NULL, o->log_q, o->sq, o->stat);
    memset(o->w, 0, n * D * sizeof(double));
    memset(o->div_w, 0, n * sizeof(double));
    if (pair->still == FM_KL_END)
        return fm__exact_density(pair->q, o->q, w, n, o->xq, pair->t1, NULL, o->log_q, o->sq, o->stat);
    memset(o->stat, 0, n * sizeof *o->stat);
    kl_data_density(pair->q->flow->run, n, o->xq, o->w, o->log_q, o->sq);
    memset(o->w, 0, n * D * sizeof(double));
    return TRUE;
}

/* q at p's points: W, div W, log q and score, in p's units. */
static gboolean
kl_eval_q(const KlJob *j, KlWorker *o, int w, size_t n, double t)
{
    const FmKlPair *pair = j->pair;
    const size_t D = pair->p->D;

    for (size_t i = 0; i < n * D; i++)
        o->xq[i] = pair->a[i % D] * o->x[i] + pair->b[i % D];
    if (!kl_eval_other(j, o, w, n, t))
        return FALSE;
    for (size_t i = 0; i < n * D; i++) {
        o->w[i] /= pair->a[i % D];
        o->sq[i] *= pair->a[i % D];
    }
    for (size_t r = 0; r < n; r++) {
        o->log_q[r] += pair->log_a;
        o->nfe += o->stat[r].nfe;
    }
    return TRUE;
}

static void
kl_record(const KlJob *j, const KlWorker *o, size_t time, size_t row0, size_t n)
{
    const size_t D = j->kl->D;
    double *f[FM_KL_N_FIELDS];

    for (int k = 0; k < FM_KL_N_FIELDS; k++)
        f[k] = j->kl->field[k] + time * j->o->n + row0;
    for (size_t r = 0; r < n; r++) {
        double product = 0, eps2 = 0, gap2 = 0, along = 0, vs = 0;

        for (size_t i = r * D; i < (r + 1) * D; i++) {
            const double e = o->v[i] - o->w[i], g = o->sp[i] - o->sq[i];

            product += e * g;
            eps2 += e * e;
            gap2 += g * g;
            along += e * o->sp[i];
            vs += o->v[i] * o->sp[i];
        }
        f[FM_KL_LOG_P][r] = o->log_p[r];
        f[FM_KL_LOG_Q][r] = o->log_q[r];
        f[FM_KL_PRODUCT][r] = product;
        f[FM_KL_EPS2][r] = eps2;
        f[FM_KL_GAP2][r] = gap2;
        f[FM_KL_MARTINGALE][r] = o->div_v[r] - o->div_w[r] + along;
        f[FM_KL_V_SCORE][r] = vs;
        f[FM_KL_DIV][r] = o->div_v[r];
    }
}

/* x (n, D) of side e at its start; learned flows carry log-density and score in `state`. */
static gboolean
kl_begin_tile(const FmExact *e, KlWorker *o, const double *start, size_t n, double *x, double *log_density,
              double *score)
{
    const size_t D = e->D, W = 2 * D + 1;

    memcpy(x, start, n * D * sizeof(double));
    if (e->closed)
        return TRUE;
    if (!fm__exact_base(e, n, x, log_density, score, NULL))
        return FALSE;
    for (size_t r = 0; r < n; r++) {
        memcpy(o->state + r * W, x + r * D, D * sizeof(double));
        o->state[r * W + D] = log_density[r];
        memcpy(o->state + r * W + D + 1, score + r * D, D * sizeof(double));
    }
    return TRUE;
}

static gboolean
kl_advance(const FmExact *e, FmExactWorker *own, KlWorker *o, int w, size_t n, double *x, double from, double to)
{
    const gboolean ok = e->closed ? fm__exact_move(e, own, w, n, x, from, to, NULL, o->stat)
                                  : fm__exact_carry(e, own, w, n, o->state, from, to, NULL, o->stat);

    for (size_t r = 0; ok && r < n; r++)
        o->nfe += o->stat[r].nfe;
    return ok;
}

/* Both log-densities at q's own points at the last time. */
static gboolean
kl_own_tile(const KlJob *j, KlWorker *o, int w, size_t row0, size_t n)
{
    const FmKlPair *pair = j->pair;
    const FmExact *q = pair->q;
    const size_t D = q->D, W = 2 * D + 1;

    if (!kl_begin_tile(q, o, j->y0 + row0 * D, n, o->xq, o->log_q, o->sq) ||
        !kl_advance(q, o->q, o, w, n, o->xq, pair->t0, pair->t1))
        return FALSE;
    for (size_t r = 0; !q->closed && r < n; r++) {
        memcpy(o->xq + r * D, o->state + r * W, D * sizeof(double));
        o->log_q[r] = o->state[r * W + D];
    }
    if (q->closed && !fm__exact_density(q, o->q, w, n, o->xq, pair->t1, NULL, o->log_q, o->sq, NULL))
        return FALSE;
    for (size_t i = 0; i < n * D; i++)
        o->x[i] = (o->xq[i] - pair->b[i % D]) / pair->a[i % D];
    if (!fm__exact_density(pair->p, o->p, w, n, o->x, pair->t1, NULL, o->log_p, o->sp, o->stat))
        return FALSE;
    for (size_t r = 0; r < n; r++) {
        j->kl->own_ratio[row0 + r] = o->log_p[r] - o->log_q[r] - pair->log_a;
        o->nfe += o->stat[r].nfe;
    }
    return TRUE;
}

static void
kl_tell(KlJob *j)
{
    if (j->o->progress == NULL)
        return;
    g_mutex_lock(&j->lock);
    j->o->progress(++j->done, j->all, j->o->listener);
    g_mutex_unlock(&j->lock);
}

static void
kl_tile(void *ctx, int w, size_t i)
{
    KlJob *j = ctx;
    KlWorker *o = &j->worker[w];
    const size_t row0 = i * j->tile, n = MIN(j->tile, j->o->n - row0), D = j->kl->D;
    const FmExact *p = j->pair->p;
    gboolean ok = kl_begin_tile(p, o, j->x0 + row0 * D, n, o->x, o->log_p, o->sp);

    o->nfe = 0;
    for (size_t k = 0; ok && k < j->kl->T; k++) {
        const double t = j->kl->t[k];

        ok = (k == 0 || kl_advance(p, o->p, o, w, n, o->x, j->kl->t[k - 1], t)) && kl_eval_p(j, o, w, n, t) &&
             kl_eval_q(j, o, w, n, t);
        if (ok)
            kl_record(j, o, k, row0, n);
        kl_tell(j);
    }
    memcpy(j->kl->x + row0 * D, o->x, n * D * sizeof(double));
    for (size_t k = 0; ok && j->y0 != NULL && k < FM_KL_OWN; k++) {
        ok = kl_own_tile(j, o, w, k * j->o->n + row0, n);
        kl_tell(j);
    }
    j->nfe[i] = o->nfe;
    if (!ok)
        g_atomic_int_set(&j->failed, 1);
}

/* ---- memory ---- */

static void
kl_worker_clear(KlWorker *o)
{
    void *all[] = {o->state, o->x, o->xq, o->v, o->w, o->sp, o->sq, o->div_v, o->div_w, o->log_p, o->log_q, o->stat};

    fm__exact_worker_free(o->p);
    fm__exact_worker_free(o->q);
    for (size_t i = 0; i < G_N_ELEMENTS(all); i++)
        fm_free(all[i]);
}

static gboolean
kl_worker_init(const KlJob *j, KlWorker *o, GError **error)
{
    const size_t n = j->tile, D = j->kl->D;
    double **wide[] = {&o->x, &o->xq, &o->v, &o->w, &o->sp, &o->sq};
    double **narrow[] = {&o->div_v, &o->div_w, &o->log_p, &o->log_q};
    gboolean ok = (o->p = fm__exact_worker_new(j->pair->p, error)) != NULL &&
                  (o->q = fm__exact_worker_new(j->pair->q, error)) != NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(wide); i++)
        ok = ok && (*wide[i] = fm__need("kl", n, D, sizeof(double), error)) != NULL;
    for (size_t i = 0; i < G_N_ELEMENTS(narrow); i++)
        ok = ok && (*narrow[i] = fm__need("kl", n, 1, sizeof(double), error)) != NULL;
    return ok && (o->state = fm__need("kl", n, 2 * D + 1, sizeof(double), error)) != NULL &&
           (o->stat = fm__need("kl", n, 1, sizeof *o->stat, error)) != NULL;
}

/* Trajectories with a number that is not finite anywhere leave. */
static void
kl_compact(FmKl *kl, size_t n)
{
    g_autofree gboolean *bad = g_new0(gboolean, n);
    size_t kept = 0;

    for (int f = 0; f < FM_KL_N_FIELDS; f++)
        for (size_t i = 0; i < kl->T * n; i++)
            bad[i % n] = bad[i % n] || !isfinite(kl->field[f][i]);
    for (size_t i = 0; i < n; i++)
        if (!bad[i]) {
            memmove(kl->x + kept * kl->D, kl->x + i * kl->D, kl->D * sizeof(double));
            kept++;
        }
    for (int f = 0; f < FM_KL_N_FIELDS && kept < n; f++)
        for (size_t j = 0, to = 0; j < kl->T; j++)
            for (size_t i = 0; i < n; i++)
                if (!bad[i])
                    kl->field[f][to++] = kl->field[f][j * n + i];
    kl->n = kept;
    kl->failed = n - kept;
    for (size_t i = 0; kl->own_ratio != NULL && i < FM_KL_OWN * n; i++)
        if (!isnan(kl->own_ratio[i]) && kl->own_ratio[i] != INFINITY)
            kl->own_ratio[kl->own_n++] = kl->own_ratio[i];
        else
            kl->own_failed++;
}

static gboolean
kl_trajectories(KlJob *j, GError **error)
{
    FmKl *kl = j->kl;
    const size_t n = j->o->n, tiles = (n + j->tile - 1) / j->tile;
    const int threads = (int)MIN((size_t)MAX(j->o->threads, 1), tiles);
    gboolean ok = (j->x0 = fm__need("kl", n, kl->D, sizeof(double), error)) != NULL &&
                  (kl->x = fm__need("kl", n, kl->D, sizeof(double), error)) != NULL &&
                  kl_start(j, j->pair->p, n, 0, j->x0, error);

    if (ok && kl->still == FM_KL_MOVING)
        ok = (j->y0 = fm__need("kl", FM_KL_OWN * n, kl->D, sizeof(double), error)) != NULL &&
             (kl->own_ratio = fm__need("kl", FM_KL_OWN * n, 1, sizeof(double), error)) != NULL &&
             kl_start(j, j->pair->q, FM_KL_OWN * n, 1, j->y0, error);
    for (int f = 0; ok && f < FM_KL_N_FIELDS; f++)
        ok = (kl->field[f] = fm__need("kl", n, kl->T, sizeof(double), error)) != NULL;
    j->worker = g_new0(KlWorker, threads);
    j->nfe = g_new0(double, tiles);
    for (int w = 0; ok && w < threads; w++)
        ok = kl_worker_init(j, &j->worker[w], error);
    /* Say here what a tile could not: a source without density or score. */
    ok = ok && (j->pair->p->closed || fm__exact_base(j->pair->p, 1, j->x0, j->worker->log_p, j->worker->sp, error)) &&
         (j->pair->q->closed || fm__exact_base(j->pair->q, 1, j->x0, j->worker->log_p, j->worker->sp, error));
    if (ok) {
        j->all = tiles * (kl->T + (j->y0 != NULL ? FM_KL_OWN : 0));
        g_mutex_init(&j->lock);
        fm_parallel(threads, tiles, kl_tile, j);
        g_mutex_clear(&j->lock);
        ok = j->failed == 0;
        if (!ok)
            g_set_error_literal(error, FM_ERROR, FM_ERROR_DIVERGED, "kl: a velocity field failed while integrating");
    }
    for (size_t i = 0; i < tiles; i++)
        kl->nfe_mean += j->nfe[i] / (double)(n * kl->T);
    for (int w = 0; w < threads; w++)
        kl_worker_clear(&j->worker[w]);
    g_free(j->worker);
    g_free(j->nfe);
    fm_free(j->x0);
    fm_free(j->y0);
    return ok;
}

FmKl *
fm_kl_new(FmFlow *p, FmFlow *q, const FmKlOptions *options, GError **error)
{
    FmKlPair pair = {0};
    g_autoptr(FmKl) kl = NULL;
    gboolean ok = fm__kl_pair_open(&pair, p, q, options, error);

    if (ok) {
        kl = fm__kl_blank(&pair, options);
        KlJob job = {.pair = &pair, .o = options, .kl = kl, .tile = MIN(pair.p->tile, 32)};
        ok = kl_trajectories(&job, error);
    }
    if (ok)
        kl_compact(kl, options->n);
    if (ok && kl->n < 2) {
        g_set_error(error, FM_ERROR, FM_ERROR_DIVERGED,
                    "kl: %" G_GSIZE_FORMAT " of %" G_GSIZE_FORMAT " trajectories have numbers that are "
                    "not finite, expected at least two that do not",
                    kl->failed, options->n);
        ok = FALSE;
    }
    ok = ok && fm__kl_closed_form(kl, &pair, error);
    if (ok)
        fm__kl_statistics(kl);
    fm__kl_pair_clear(&pair);
    return ok ? g_steal_pointer(&kl) : NULL;
}

FmKl *
fm_kl_exact(FmFlow *p, FmFlow *q, const FmKlOptions *options, GError **error)
{
    FmKlPair pair = {0};
    g_autoptr(FmKl) kl = NULL;
    gboolean ok = fm__kl_pair_open(&pair, p, q, options, error);

    if (ok) {
        kl = fm__kl_blank(&pair, options);
        ok = fm__kl_closed_form(kl, &pair, error) && kl->exact != NULL;
    }
    if (ok)
        fm__kl_judge(kl, 0.0, 0.0);
    fm__kl_pair_clear(&pair);
    return ok ? g_steal_pointer(&kl) : NULL;
}
