/* exact.c: a flow in double with its divergence, log-density and score.
 * The score of the flow's density obeys, along x(t), ds/dt = -(J^T s + grad div v) (take the gradient
 * of the instantaneous change of variables, Chen et al. 2018, arXiv:1806.07366, eq. 8): one vjp of
 * s . v + div v at fixed s, reverse over forward mode. */
#include "flow/exact.h"

#include <math.h>
#include <string.h>

/* ---- plans ---- */

static void
exact_plan_clear(FmExactPlan *p)
{
    fm_exec_free(p->exec);
    fm_plan_free(p->plan);
    *p = (FmExactPlan){0};
}

static gboolean
exact_compile(FmExact *e, FmExactPlan *p, FmGraph *graph, FmNode *const *out, GError **error)
{
    const FmPlanOptions options = {.dtype = FM_F64, .backend = e->flow->run->plugin[FM_KIND_BACKEND]};
    FmNode *there[EXACT_OUTPUTS];
    size_t n = 0;

    if (!fm_graph_ok(graph, error))
        return FALSE;
    for (int i = 0; i < EXACT_OUTPUTS; i++) {
        p->out[i] = out[i] != NULL ? (int)n : -1;
        if (out[i] == NULL)
            continue;
        p->width[i] = fm_shape_size(fm_node_shape(out[i]));
        there[n++] = out[i];
    }
    p->plan = fm_plan_new(graph, there, n, &options, error);
    if (p->plan == NULL)
        return FALSE;
    p->exec = fm_exec_new(p->plan, e->params, e->threads, error);
    p->in_x = fm_plan_input_find(p->plan, "x");
    p->in_t = fm_plan_input_find(p->plan, "t");
    p->in_y = fm_plan_input_find(p->plan, "y");
    p->in_e = fm_plan_input_find(p->plan, "e");
    p->in_s = fm_plan_input_find(p->plan, "s");
    return p->exec != NULL;
}

typedef struct ExactNodes {
    FmGraph *graph;
    FmNode *x, *t, *y;
} ExactNodes;

static ExactNodes
exact_nodes(const FmRun *run)
{
    ExactNodes n = {.graph = fm_graph_new()};

    n.x = fm_input(n.graph, "x", 1, run->data.ndim, run->data.dim);
    n.t = fm_input(n.graph, "t", 1, 0, NULL);
    n.y = run->net_info.classes > 0 ? fm_input_labels(n.graph, "y") : NULL;
    return n;
}

/* div v (B) by K tangents; NULL: v does not depend on x. */
static FmNode *
exact_div_node(const FmExact *e, const ExactNodes *n, FmNode *v)
{
    const FmRun *run = e->flow->run;
    const FmDataInfo *d = &run->data;
    FmNode *own = run->repath.from != NULL
                      ? NULL
                      : fm_net_divergence(run->plugin[FM_KIND_NET], n->graph, &run->net_info, n->x, n->t, n->y);

    if (own != NULL)
        return own;
    FmNode *unit = fm_input(n->graph, "e", e->K, d->ndim, d->dim), *je = fm_jvp(v, n->x, unit);

    if (je == NULL)
        return NULL;
    FmNode *dot = fm_sum(fm_mul(unit, je), (1u << d->ndim) - 1u, FALSE);
    return e->K == 1 ? dot : fm_sum_rows(dot);
}

/* What a plan of the field gives. */
typedef enum ExactWhat { EXACT_ONLY_V, EXACT_WITH_DIV, EXACT_WITH_GRAD } ExactWhat;

static gboolean
exact_field_plan(FmExact *e, FmExactPlan *p, ExactWhat what, GError **error)
{
    const FmRun *run = e->flow->run;
    const FmDataInfo *d = &run->data;
    const ExactNodes n = exact_nodes(run);
    FmNode *out[EXACT_OUTPUTS] = {fm__run_velocity(run, n.graph, n.x, n.t, n.y)};

    if (out[EXACT_V] != NULL && what != EXACT_ONLY_V)
        out[EXACT_DIV] = exact_div_node(e, &n, out[EXACT_V]);
    if (out[EXACT_V] != NULL && what == EXACT_WITH_GRAD) {
        FmNode *s = fm_input(n.graph, "s", 1, d->ndim, d->dim);
        FmNode *sum = fm_sum(fm_mul(s, out[EXACT_V]), (1u << d->ndim) - 1u, FALSE);

        if (out[EXACT_DIV] != NULL)
            sum = fm_add(sum, out[EXACT_DIV]);
        fm_vjp(sum, fm_scalar(n.graph, 1.0), &n.x, 1, &out[EXACT_GRAD]);
    }
    const gboolean ok = exact_compile(e, p, n.graph, out, error);
    fm_graph_free(n.graph);
    return ok;
}

/* log q_1 of an invertible map from N(0, I). */
static FmNode *
exact_map_density(const FmRun *run, const ExactNodes *n)
{
    const FmDataInfo *d = &run->data;
    FmNode *log_det = NULL;
    FmNode *z = fm_net_forward(run->plugin[FM_KIND_NET], n->graph, &run->net_info, n->x, &log_det);

    if (z == NULL)
        return NULL;
    FmNode *square = fm_sum(fm_square(z), (1u << d->ndim) - 1u, FALSE);
    return fm_add(fm_affine(square, -0.5, -0.5 * (double)d->D * log(2.0 * G_PI)), log_det);
}

/* The plan of log p_t and score where they are closed; e->density stays empty where not. */
static gboolean
exact_density_plan(FmExact *e, GError **error)
{
    const FmRun *run = e->flow->run;
    const gboolean map = fm__flow_is_map(e->flow);
    const ExactNodes n = exact_nodes(run);
    FmNode *out[EXACT_OUTPUTS] = {NULL};
    gboolean ok = TRUE;

    out[EXACT_LOG_P] = map ? exact_map_density(run, &n)
                       : run->repath.from != NULL
                           ? NULL
                           : fm_net_log_density(run->plugin[FM_KIND_NET], n.graph, &run->net_info, n.x, n.t, n.y);
    if (out[EXACT_LOG_P] != NULL) {
        fm_vjp(out[EXACT_LOG_P], fm_scalar(n.graph, 1.0), &n.x, 1, &out[EXACT_SCORE]);
        ok = exact_compile(e, &e->density, n.graph, out, error);
        e->closed = ok && !map;
        e->closed_at_end = ok && map;
    } else {
        ok = fm_graph_ok(n.graph, error);
    }
    fm_graph_free(n.graph);
    return ok;
}

gboolean
fm__exact_is_closed(const FmFlow *flow)
{
    const FmRun *run = flow->run;

    if (fm__flow_is_map(flow) || run->repath.from != NULL)
        return FALSE;
    const ExactNodes n = exact_nodes(run);
    const gboolean closed =
        fm_net_log_density(run->plugin[FM_KIND_NET], n.graph, &run->net_info, n.x, n.t, n.y) != NULL;
    fm_graph_free(n.graph);
    return closed;
}

/* The run's weights in double, whatever they were trained in. */
static gboolean
exact_weights(FmExact *e, GError **error)
{
    const FmParams *from = e->flow->run->params;
    FmGraph *graph = NULL;

    if (fm__run_loss(e->flow->run, &graph, error) == NULL)
        return FALSE;
    e->params = fm_params_new(graph, FM_F64, 0, error);
    fm_graph_free(graph);
    for (size_t i = 0; e->params != NULL && i < fm_params_count(from); i++) {
        const FmParam *p = fm_params_nth(from, i);

        fm_convert(fm_params_dtype(from), fm_params_data(from, p), FM_F64,
                   fm_params_data(e->params, fm_params_find(e->params, p->name)), p->size);
    }
    return e->params != NULL;
}

static gboolean
exact_unit_vectors(FmExact *e, GError **error)
{
    const size_t dim[4] = {e->chunks, e->tile, e->K, e->D};

    e->unit = fm_array_new(FM_F64, 4, dim, error);
    if (e->unit == NULL)
        return FALSE;
    for (size_t c = 0; c < e->chunks; c++)
        for (size_t r = 0; r < e->tile; r++)
            for (size_t k = 0; k < e->K && c * e->K + k < e->D; k++)
                ((double *)e->unit->data)[((c * e->tile + r) * e->K + k) * e->D + c * e->K + k] = 1.0;
    return TRUE;
}

static FmExact *
exact_new(FmFlow *flow, int threads, gboolean field_alone, GError **error)
{
    g_autoptr(FmExact) e = g_new0(FmExact, 1);

    e->flow = flow;
    e->solver = flow->solver;
    e->tile = flow->run->data.D > FM__MAX_TANGENTS ? 8 : 64;
    e->threads = MAX(threads, 1);
    e->D = flow->run->data.D;
    e->K = MIN(e->D, FM__MAX_TANGENTS);
    e->chunks = (e->D + e->K - 1) / e->K;
    fm_path_interval(flow->run->plugin[FM_KIND_PATH], &e->t0, &e->t1);
    if (!exact_weights(e, error))
        return NULL;
    if (field_alone)
        return exact_field_plan(e, &e->plain, EXACT_ONLY_V, error) ? g_steal_pointer(&e) : NULL;
    if (!exact_unit_vectors(e, error) || !exact_density_plan(e, error))
        return NULL;
    if (!e->closed_at_end &&
        (!exact_field_plan(e, &e->plain, EXACT_ONLY_V, error) || !exact_field_plan(e, &e->div, EXACT_WITH_DIV, error) ||
         !exact_field_plan(e, &e->full, EXACT_WITH_GRAD, error)))
        return NULL;
    return g_steal_pointer(&e);
}

FmExact *
fm__exact_new(FmFlow *flow, int threads, GError **error)
{
    return exact_new(flow, threads, FALSE, error);
}

FmExact *
fm__exact_velocity_new(FmFlow *flow, int threads, GError **error)
{
    return exact_new(flow, threads, TRUE, error);
}

void
fm__exact_free(FmExact *e)
{
    if (e == NULL)
        return;
    exact_plan_clear(&e->plain);
    exact_plan_clear(&e->div);
    exact_plan_clear(&e->full);
    exact_plan_clear(&e->density);
    fm_params_free(e->params);
    fm_array_free(e->unit);
    g_free(e);
}

/* ---- evaluation ---- */

struct FmExactWorker {
    size_t D;
    double *t, *x, *s, *v, *div, *grad, *part_div, *part_grad, *spare, *state;
    gint32 *y; /* labels in the order of the rows that are left */
    void *work;
    FmSolveStat *stat;
    /* of the solve under way */
    const FmExact *exact;
    int w;
    const gint32 *labels;
};

void
fm__exact_worker_free(FmExactWorker *o)
{
    if (o == NULL)
        return;
    void *all[] = {o->t,         o->x,     o->s,     o->v, o->div,  o->grad, o->part_div,
                   o->part_grad, o->spare, o->state, o->y, o->work, o->stat};
    for (size_t i = 0; i < G_N_ELEMENTS(all); i++)
        fm_free(all[i]);
    g_free(o);
}

FmExactWorker *
fm__exact_worker_new(const FmExact *e, GError **error)
{
    const FmSolve solve = {.solver = e->solver, .dtype = FM_F64, .n = e->tile, .D = 2 * e->D + 1};
    const size_t n = e->tile, D = e->D;
    FmExactWorker *o = g_new0(FmExactWorker, 1);
    double **wide[] = {&o->x, &o->s, &o->v, &o->grad, &o->part_grad, &o->spare};
    double **narrow[] = {&o->t, &o->div, &o->part_div};
    gboolean ok = TRUE;

    o->D = D;
    for (size_t i = 0; i < G_N_ELEMENTS(wide); i++)
        ok = ok && (*wide[i] = fm__need("measurement", n, D, sizeof(double), error)) != NULL;
    for (size_t i = 0; i < G_N_ELEMENTS(narrow); i++)
        ok = ok && (*narrow[i] = fm__need("measurement", n, 1, sizeof(double), error)) != NULL;
    ok = ok && (o->state = fm__need("measurement", n, 2 * D + 1, sizeof(double), error)) != NULL &&
         (o->y = fm__need("measurement", n, 1, sizeof(gint32), error)) != NULL &&
         (o->stat = fm__need("measurement", n, 1, sizeof *o->stat, error)) != NULL &&
         (o->work = fm__need("measurement", fm_solve_work(&solve), 1, 1, error)) != NULL;
    if (ok)
        return o;
    fm__exact_worker_free(o);
    return NULL;
}

/* One plan over n rows, in as many pieces as its tile asks for. */
static gboolean
exact_run(const FmExactPlan *p, int w, size_t n, size_t D, const double *x, const double *t, const gint32 *y,
          const double *unit, size_t K, const double *s, double *const *out)
{
    const size_t tile = fm_plan_tile(p->plan);
    const FmKey key = {0};

    for (size_t r = 0; r < n; r += tile) {
        const size_t rows = MIN(tile, n - r);
        const void *in[FM_MAX_INPUTS] = {NULL};
        void *results[EXACT_OUTPUTS] = {NULL};

        if (p->in_x >= 0)
            in[p->in_x] = x + r * D;
        if (p->in_t >= 0)
            in[p->in_t] = t + r;
        if (p->in_y >= 0)
            in[p->in_y] = y + r;
        if (p->in_e >= 0)
            in[p->in_e] = unit + r * K * D;
        if (p->in_s >= 0)
            in[p->in_s] = s + r * D;
        for (int i = 0; i < EXACT_OUTPUTS; i++)
            if (p->out[i] >= 0)
                results[p->out[i]] = out[i] + r * p->width[i];
        if (!fm_exec_tile(p->exec, w, rows, in, results, key, r))
            return FALSE;
    }
    return TRUE;
}

/* v, div and, when grad is not NULL, grad(s . v + div v), over all passes of tangents. */
static gboolean
exact_passes(const FmExact *e, FmExactWorker *o, int w, size_t n, const double *x, const double *t, const gint32 *y,
             const double *s, double *v, double *div, double *grad)
{
    const FmExactPlan *p = grad != NULL ? &e->full : div != NULL ? &e->div : &e->plain;
    const size_t chunks = div != NULL && p->in_e >= 0 ? e->chunks : 1, D = e->D;

    if (div != NULL)
        memset(div, 0, n * sizeof *div);
    if (grad != NULL)
        memset(grad, 0, n * D * sizeof *grad);
    for (size_t c = 0; c < chunks; c++) {
        double *const out[EXACT_OUTPUTS] = {v, c == 0 ? div : o->part_div, c == 0 ? grad : o->part_grad};

        if (c == 1 && grad != NULL)
            memset(o->spare, 0, n * D * sizeof(double)); /* s . v was counted in the first pass */
        if (!exact_run(p, w, n, D, x, t, y,
                       e->unit != NULL ? (const double *)e->unit->data + c * e->tile * e->K * D : NULL, e->K,
                       c == 0 ? s : o->spare, out))
            return FALSE;
        for (size_t i = 0; c > 0 && i < n; i++)
            div[i] += o->part_div[i];
        for (size_t i = 0; c > 0 && grad != NULL && p->out[EXACT_GRAD] >= 0 && i < n * D; i++)
            grad[i] += o->part_grad[i];
    }
    return TRUE;
}

static void
exact_fill(double *t, size_t n, double value)
{
    for (size_t i = 0; i < n; i++)
        t[i] = value;
}

gboolean
fm__exact_field(const FmExact *e, FmExactWorker *o, int w, size_t n, const double *x, double t, const gint32 *y,
                double *v, double *div)
{
    exact_fill(o->t, n, t);
    return exact_passes(e, o, w, n, x, o->t, y, NULL, v, div, NULL);
}

gboolean
fm__exact_field_at(const FmExact *e, FmExactWorker *o, int w, size_t n, const double *x, const double *t,
                   const gint32 *y, double *v)
{
    return exact_passes(e, o, w, n, x, t, y, NULL, v, NULL, NULL);
}

/* ---- solving ---- */

static const gint32 *
exact_labels(FmExactWorker *o, size_t n, const size_t *row)
{
    for (size_t r = 0; o->labels != NULL && r < n; r++)
        o->y[r] = o->labels[row[r]];
    return o->labels != NULL ? o->y : NULL;
}

/* FmField.eval of x alone. */
static gboolean
exact_eval_x(void *ctx, size_t n, const size_t *row, const double *t, const void *x, void *dxdt)
{
    FmExactWorker *o = ctx;

    return exact_passes(o->exact, o, o->w, n, x, t, exact_labels(o, n, row), NULL, dxdt, NULL, NULL);
}

/* FmField.eval of (x, log p, score). */
static gboolean
exact_eval_all(void *ctx, size_t n, const size_t *row, const double *t, const void *x, void *dxdt)
{
    FmExactWorker *o = ctx;
    const size_t D = o->D, W = 2 * D + 1;
    const double *from = x;
    double *to = dxdt;

    for (size_t r = 0; r < n; r++) {
        memcpy(o->x + r * D, from + r * W, D * sizeof(double));
        memcpy(o->s + r * D, from + r * W + D + 1, D * sizeof(double));
    }
    if (!exact_passes(o->exact, o, o->w, n, o->x, t, exact_labels(o, n, row), o->s, o->v, o->div, o->grad))
        return FALSE;
    for (size_t r = 0; r < n; r++) {
        memcpy(to + r * W, o->v + r * D, D * sizeof(double));
        to[r * W + D] = -o->div[r];
        for (size_t d = 0; d < D; d++)
            to[r * W + D + 1 + d] = -o->grad[r * D + d];
    }
    return TRUE;
}

/* As above without grad(div v): -J^T s alone. J^T s = grad(s . v) = what s adds. */
static gboolean
exact_eval_dropped(void *ctx, size_t n, const size_t *row, const double *t, const void *x, void *dxdt)
{
    FmExactWorker *o = ctx;
    const size_t D = o->D, W = 2 * D + 1;
    double *to = dxdt;

    if (!exact_eval_all(ctx, n, row, t, x, dxdt))
        return FALSE;
    memset(o->s, 0, n * D * sizeof(double));
    if (!exact_passes(o->exact, o, o->w, n, o->x, t, exact_labels(o, n, row), o->s, o->v, o->div, o->grad))
        return FALSE;
    for (size_t r = 0; r < n; r++)
        for (size_t d = 0; d < D; d++)
            to[r * W + D + 1 + d] += o->grad[r * D + d];
    return TRUE;
}

static gboolean
exact_solve(const FmExact *e, FmExactWorker *o, int w, size_t n, size_t W, double *state, double from, double to,
            const gint32 *y, FmSolveStat *stat)
{
    const FmSolve solve = {.solver = e->solver,
                           .field = {.eval = W == e->D ? exact_eval_x
                                             : e->drop ? exact_eval_dropped
                                                       : exact_eval_all,
                                     .ctx = o},
                           .dtype = FM_F64,
                           .n = n,
                           .D = W,
                           .t0 = from,
                           .t1 = to};

    if (from == to || n == 0) {
        for (size_t r = 0; r < n; r++)
            stat[r] = (FmSolveStat){.t = to};
        return TRUE;
    }
    o->exact = e;
    o->w = w;
    o->labels = y;
    if (!fm_solve(&solve, state, stat, o->work))
        return FALSE;
    for (size_t r = 0; r < n; r++)
        for (size_t k = 0; stat[r].status != FM_SOLVE_OK && k < W; k++)
            state[r * W + k] = NAN;
    return TRUE;
}

gboolean
fm__exact_move(const FmExact *e, FmExactWorker *o, int w, size_t n, double *x, double from, double to, const gint32 *y,
               FmSolveStat *stat)
{
    return exact_solve(e, o, w, n, e->D, x, from, to, y, stat != NULL ? stat : o->stat);
}

gboolean
fm__exact_carry(const FmExact *e, FmExactWorker *o, int w, size_t n, double *state, double from, double to,
                const gint32 *y, FmSolveStat *stat)
{
    return exact_solve(e, o, w, n, 2 * e->D + 1, state, from, to, y, stat != NULL ? stat : o->stat);
}

gboolean
fm__exact_base(const FmExact *e, size_t n, const double *x, double *log_p, double *score, GError **error)
{
    const FmPlugin *source = e->flow->run->source;
    const double sd = fm__base_sd(e->flow);

    if (!fm__base_log_density(e->flow, n, x, log_p, error))
        return FALSE;
    if (source != NULL && !fm_dataset_score(source, n, x, score)) {
        g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                    "source '%s' has no score in closed form, so the flow from it has none either",
                    fm_plugin_name(source));
        return FALSE;
    }
    for (size_t i = 0; source == NULL && i < n * e->D; i++)
        score[i] = -x[i] / (sd * sd);
    return TRUE;
}

/* Rows that did not arrive are NaN and stay so: the second solve leaves them where they are. */
static gboolean
exact_round_trip(const FmExact *e, FmExactWorker *o, int w, size_t n, const double *x, double t, const gint32 *y,
                 double *log_p, double *score, FmSolveStat *stat)
{
    const size_t D = e->D, W = 2 * D + 1;
    double *start = o->spare; /* free until a pass of the second solve; read before */

    memcpy(start, x, n * D * sizeof(double));
    if (!fm__exact_move(e, o, w, n, start, t, e->t0, y, stat) || !fm__exact_base(e, n, start, log_p, score, NULL))
        return FALSE;
    for (size_t r = 0; r < n; r++) {
        memcpy(o->state + r * W, start + r * D, D * sizeof(double));
        o->state[r * W + D] = log_p[r];
        memcpy(o->state + r * W + D + 1, score + r * D, D * sizeof(double));
    }
    if (!fm__exact_carry(e, o, w, n, o->state, e->t0, t, y, o->stat))
        return FALSE;
    for (size_t r = 0; r < n; r++) {
        log_p[r] = o->state[r * W + D];
        memcpy(score + r * D, o->state + r * W + D + 1, D * sizeof(double));
        if (stat == NULL)
            continue;
        stat[r].nfe += o->stat[r].nfe;
        stat[r].accepted += o->stat[r].accepted;
        stat[r].rejected += o->stat[r].rejected;
        if (stat[r].status == FM_SOLVE_OK)
            stat[r].status = o->stat[r].status;
    }
    return TRUE;
}

gboolean
fm__exact_density(const FmExact *e, FmExactWorker *o, int w, size_t n, const double *x, double t, const gint32 *y,
                  double *log_p, double *score, FmSolveStat *stat)
{
    if (!e->closed && !e->closed_at_end)
        return exact_round_trip(e, o, w, n, x, t, y, log_p, score, stat);
    double *const out[EXACT_OUTPUTS] = {log_p, score, NULL};

    exact_fill(o->t, n, t);
    memset(score, 0, n * e->D * sizeof(double));
    for (size_t r = 0; stat != NULL && r < n; r++)
        stat[r] = (FmSolveStat){.nfe = 1, .t = t};
    return exact_run(&e->density, w, n, e->D, x, o->t, y, NULL, 0, NULL, out);
}
