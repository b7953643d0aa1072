/* net_test.c: nets, layers, objectives and optimizers against torch and against finite
 * differences, all in double through the reference backend. */
#include "suite.h"
#include "eval.h"
#include "flow/loss.h"
#include "reference.h"
#include "torch_nets.h"

#include <fmcore/layer.h>
#include <fmcore/plan.h>
#include <stdlib.h>

#define B 3

/* ---- leaves by formula, as in tests/references/torch_nets.py ---- */

/* What finite differences move: leaf + step * wave(name + "~"). */
typedef struct Leaves {
    double x_scale;
    const char *moved; /* "x", or "params": every parameter */
    double step;
    double *x; /* (B, D) instead of the formula, or NULL */
} Leaves;

static double
param_value(const FmNode *node, size_t i)
{
    const FmShape *s = &node->shape;

    if (s->ndim == 1)
        return g_str_has_suffix(node->name, "weight") ? 1.0 + 0.2 * wave(node->name, i) : 0.1 * wave(node->name, i);
    return wave(node->name, i) / sqrt((double)fm_shape_size(s) / (double)s->dim[0]);
}

static double
direction(const char *name, size_t i)
{
    g_autofree char *other = g_strconcat(name, "~", NULL);

    return wave(other, i);
}

static double
input_value(const Leaves *l, const FmNode *node, size_t i)
{
    if (strcmp(node->name, "t") == 0)
        return 0.5 + 0.45 * wave("t", i);
    if (strcmp(node->name, "tangents") == 0) { /* row k of each K: unit vector k */
        const size_t K = node->shape.rows, D = fm_shape_size(&node->shape) / K;

        return i / D % K == i % D ? 1.0 : 0.0;
    }
    if (strcmp(node->name, "x") == 0)
        return l->x ? l->x[i] : l->x_scale * wave("x", i);
    return wave(node->name, i);
}

static void
leaf(void *ctx, const FmNode *node, size_t size, void *out)
{
    static const gint32 labels[B] = {2, 0, 1};
    const Leaves *l = ctx;
    const gboolean param = node->op == FM_OP_PARAM;
    const gboolean moves = l->moved && (param ? strcmp(l->moved, "params") == 0 : strcmp(l->moved, node->name) == 0);

    if (node->labels) {
        memcpy(out, labels, sizeof labels);
        return;
    }
    for (size_t i = 0; i < size; i++) {
        double v = param ? param_value(node, i) : input_value(l, node, i);

        ((double *)out)[i] = v + (moves ? l->step * direction(node->name, i) : 0.0);
    }
}

/* ---- a net on a small problem ---- */

typedef struct Case {
    FmDataInfo data;
    FmNetInfo info;
    FmPlugin *net;
    FmGraph *graph;
    FmNode *x, *t, *y;
} Case;

static void
ok(const Case *c)
{
    GError *error = NULL;

    ck_assert_msg(fm_graph_ok(c->graph, &error), "%s", error ? error->message : "?");
}

static void
case_open(Case *c, const char *spec, int ndim, const size_t *dim, size_t classes)
{
    GError *error = NULL;

    *c = (Case){.data = {.ndim = ndim, .D = 1}};
    for (int i = 0; i < ndim; i++) {
        c->data.dim[i] = dim[i];
        c->data.D *= dim[i];
    }
    c->info = (FmNetInfo){.data = &c->data, .classes = classes};
    c->net = fm_plugin_new(FM_KIND_NET, spec, &error);
    ck_assert_msg(c->net != NULL, "%s", error ? error->message : "?");
    ck_assert_msg(fm_net_prepare(c->net, &c->info, &error), "%s", error ? error->message : "?");
    c->graph = fm_graph_new();
    c->x = fm_input(c->graph, "x", 1, ndim, dim);
    c->t = fm_input(c->graph, "t", 1, 0, NULL);
    c->y = classes > 0 ? fm_input_labels(c->graph, "y") : NULL;
}

static void
case_close(Case *c)
{
    fm_graph_free(c->graph);
    fm_plugin_free(c->net);
}

/* ---- torch's values and gradients ---- */

typedef struct TorchCase {
    const char *spec;
    size_t classes, n;
    gboolean image;
    double x_scale;
    const double *v, *dx;
    const TorchDot *dots;
} TorchCase;

#define MLP(act) \
    { \
        "activation=" #act, 0, B * 2, FALSE, 2.0, mlp_##act##_v, mlp_##act##_dx, mlp_##act##_dots \
    }
#define UNET(tag, options, classes) \
    { \
        "conv:channels=32,mult=[1,2],groups=32," options, classes, B * 128, TRUE, 1.0, unet_##tag##_v, \
            unet_##tag##_dx, unet_##tag##_dots \
    }

static const TorchCase torch_cases[] = {
    {"mlp:width=5,depth=1,time=fourier,frequencies=3", 3, B * 2, FALSE, 2.0, mlp_fourier_v, mlp_fourier_dx,
     mlp_fourier_dots},
    UNET(plain, "attention=[4],heads=2", 0),
    UNET(label, "attention=[4],heads=4", 3),
    UNET(other,
         "attention=[8],head_channels=16,scale_shift=yes,resblock_updown=yes,"
         "new_attention_order=yes",
         0),
};

/* Every parameter's gradient along its own wave, and no parameter but those. */
static void
compare_dots(Case *c, Eval *e, FmNode *v, FmNode *cot, const TorchDot *dots, double tolerance)
{
    size_t n = 0, params = 0;

    for (const TorchDot *d = dots; d->name; d++, n++) {
        FmNode *p = g_hash_table_lookup(c->graph->names, d->name), *g = NULL;
        double dot = 0.0;

        ck_assert_msg(p != NULL, "no parameter '%s'", d->name);
        ck_assert(fm_vjp(v, cot, &p, 1, &g) && g);
        for (size_t i = 0; i < eval_size(e, g); i++)
            dot += eval(e, g)[i] * wave(d->name, i);
        ck_assert_msg(fabs(dot - d->dot) <= tolerance * fmax(1.0, fabs(d->dot)), "%s: %.17g, expected %.17g", d->name,
                      dot, d->dot);
    }
    for (guint i = 0; i < c->graph->nodes->len; i++)
        params += ((FmNode *)c->graph->nodes->pdata[i])->op == FM_OP_PARAM;
    ck_assert_uint_eq(params, n);
}

static void
compare_with_torch(Case *c, FmNode *v, const TorchCase *tc)
{
    FmNode *cot = fm_input(c->graph, "cot", 1, c->data.ndim, c->data.dim), *dx = NULL;
    Leaves leaves = {.x_scale = tc->x_scale};
    Eval e;

    ok(c);
    eval_open(&e, B, leaf, &leaves);
    close_to(tc->spec, eval(&e, v), tc->v, tc->n, 1e-11);
    ck_assert(fm_vjp(v, cot, &c->x, 1, &dx) && dx);
    close_to(tc->spec, eval(&e, dx), tc->dx, tc->n, 1e-10);
    compare_dots(c, &e, v, cot, tc->dots, 1e-9);
    eval_close(&e);
}

START_TEST(net_agrees_with_torch)
{
    const TorchCase *tc = &torch_cases[_i];
    Case c;

    case_open(&c, tc->spec, tc->image ? 3 : 1, tc->image ? (size_t[]){8, 8, 2} : (size_t[]){2}, tc->classes);
    compare_with_torch(&c, fm_net_velocity(c.net, c.graph, &c.info, c.x, c.t, c.y), tc);
    case_close(&c);
}
END_TEST

static const TorchCase activation_cases[] = {MLP(silu), MLP(relu),     MLP(tanh), MLP(gelu),    MLP(selu),
                                             MLP(elu),  MLP(softplus), MLP(sin),  MLP(identity)};

/* torch's net has hidden widths 5 and 7: built here of the layers. */
START_TEST(activation_agrees_with_torch)
{
    const TorchCase *tc = &activation_cases[_i];
    Case c;
    FmNode *h;

    case_open(&c, "mlp", 1, (size_t[]){2}, 0);
    h = fm_reshape(c.t, 1, 1, (size_t[]){1});
    h = fm_concat((FmNode *[]){c.x, h}, 2, 0);
    h = fm_activation(fm_linear(h, "layers.0", 5), (FmActivation)_i);
    h = fm_activation(fm_linear(h, "layers.1", 7), (FmActivation)_i);
    compare_with_torch(&c, fm_linear(h, "layers.2", 2), tc);
    ck_assert_str_eq(strrchr(tc->spec, '=') + 1, fm_activation_names[_i]);
    case_close(&c);
}
END_TEST

/* ---- second order: the gradient of the divergence ---- */

static double
total(Eval *e, FmNode *node)
{
    double sum = 0.0;

    for (size_t i = 0; i < eval_size(e, node); i++)
        sum += eval(e, node)[i];
    return sum;
}

/* <gradient of sum(value) in what moves, direction> against central differences. */
static void
check_gradient(Case *c, FmNode *value, const char *moved, double tolerance)
{
    Leaves leaves = {.x_scale = 1.0, .moved = moved};
    FmNode *loss = fm_sum_batch(value);
    double exact = 0.0, up, down;
    const double step = 3e-5;
    const guint n_nodes = c->graph->nodes->len;
    Eval e;

    ok(c);
    eval_open(&e, B, leaf, &leaves);
    for (guint i = 0; i < n_nodes; i++) {
        FmNode *node = c->graph->nodes->pdata[i], *g = NULL;

        if (strcmp(moved, "x") == 0 ? node != c->x : node->op != FM_OP_PARAM)
            continue;
        ck_assert(fm_vjp(loss, NULL, &node, 1, &g));
        for (size_t j = 0; g && j < eval_size(&e, node); j++)
            exact += eval(&e, g)[j] * direction(node->name, j);
    }
    ok(c);
    leaves.step = step;
    eval_forget(&e);
    up = total(&e, loss);
    leaves.step = -step;
    eval_forget(&e);
    down = total(&e, loss);
    ck_assert_msg(fabs(exact - (up - down) / (2.0 * step)) <= tolerance * fmax(1.0, fabs(exact)),
                  "d/d %s: %.12g, differences give %.12g", moved, exact, (up - down) / (2 * step));
    ck_assert_msg(fabs(exact) > 1e-4, "d/d %s is %g: nothing was tested", moved, exact);
    eval_close(&e);
}

static unsigned
all_axes(const FmNode *node)
{
    return (1u << node->shape.ndim) - 1u;
}

/* Trace of dv/dx by D tangents in one pass: (B). */
static FmNode *
divergence(Case *c, FmNode *v)
{
    FmNode *tangents = fm_input(c->graph, "tangents", c->data.D, c->data.ndim, c->data.dim);
    FmNode *jv = fm_jvp(v, c->x, tangents);

    return jv ? fm_sum_rows(fm_sum(fm_mul(jv, tangents), all_axes(jv), FALSE)) : NULL;
}

static const struct {
    const char *spec;
    gboolean image;
    size_t classes;
} second_order_cases[] = {
    {"mlp:width=6,depth=2,activation=silu", FALSE, 0},
    {"mlp:width=6,depth=2,activation=gelu,time=fourier", FALSE, 3},
    {"mlp:width=6,depth=2,activation=softplus", FALSE, 0},
    {"mlp:width=6,depth=2,activation=tanh", FALSE, 0},
    {"mlp:width=6,depth=2,activation=sin", FALSE, 0},
    {"mlp:width=6,depth=2,activation=elu", FALSE, 0},
    {"conv:channels=4,mult=[1,2],groups=2,attention=[2],heads=2", TRUE, 0},
    {"conv:channels=4,mult=[1,2],groups=2,scale_shift=yes,resblock_updown=yes", TRUE, 3},
};

START_TEST(divergence_has_the_right_gradient)
{
    const gboolean image = second_order_cases[_i].image;
    FmNode *v, *div;
    Case c;

    case_open(&c, second_order_cases[_i].spec, image ? 3 : 1, image ? (size_t[]){4, 4, 1} : (size_t[]){3},
              second_order_cases[_i].classes);
    v = fm_net_velocity(c.net, c.graph, &c.info, c.x, c.t, c.y);
    ok(&c);
    check_gradient(&c, fm_sum(fm_square(v), all_axes(v), FALSE), "x", 1e-6);
    check_gradient(&c, fm_sum(fm_square(v), all_axes(v), FALSE), "params", 1e-6);
    div = divergence(&c, v);
    ok(&c);
    check_gradient(&c, div, "x", 1e-6);
    check_gradient(&c, div, "params", 1e-6);
    case_close(&c);
}
END_TEST

/* ---- the same through the plan: packing, fusion, lanes ---- */

#define MAX_OUTPUTS 128

/* v, its vjp in x and in every parameter, and the divergence. */
static size_t
outputs_of(Case *c, FmNode **out)
{
    FmNode *v = fm_net_velocity(c->net, c->graph, &c->info, c->x, c->t, c->y);
    FmNode *cot = fm_input(c->graph, "cot", 1, c->data.ndim, c->data.dim);
    const guint n_nodes = c->graph->nodes->len;
    size_t n = 0;

    out[n++] = v;
    out[n++] = divergence(c, v);
    ck_assert(fm_vjp(v, cot, &c->x, 1, &out[n++]));
    for (guint i = 0; i < n_nodes; i++) {
        FmNode *node = c->graph->nodes->pdata[i];

        if (node->op == FM_OP_PARAM && n < MAX_OUTPUTS) {
            ck_assert(fm_vjp(v, cot, &node, 1, &out[n]));
            n += out[n] != NULL;
        }
    }
    ok(c);
    return n;
}

static void
set_params(Case *c, FmParams *params)
{
    for (size_t i = 0; i < fm_params_count(params); i++) {
        const FmParam *p = fm_params_nth(params, i);
        const FmNode *node = g_hash_table_lookup(c->graph->names, p->name);

        for (size_t j = 0; j < p->size; j++)
            ((double *)fm_params_data(params, p))[j] = param_value(node, j);
    }
}

START_TEST(plan_agrees_with_plain_evaluation)
{
    const gboolean image = second_order_cases[_i].image;
    Leaves leaves = {.x_scale = 1.0};
    FmNode *nodes[MAX_OUTPUTS];
    const void *in[8] = {NULL};
    void *out[MAX_OUTPUTS];
    FmPlanOptions options = {.dtype = FM_F64, .tile = 2};
    GError *error = NULL;
    FmParams *params;
    FmPlan *plan;
    FmExec *exec;
    size_t n;
    Case c;
    Eval e;

    case_open(&c, second_order_cases[_i].spec, image ? 3 : 1, image ? (size_t[]){4, 4, 1} : (size_t[]){3},
              second_order_cases[_i].classes);
    n = outputs_of(&c, nodes);
    eval_open(&e, B, leaf, &leaves);
    options.backend = e.backend;
    plan = fm_plan_new(c.graph, nodes, n, &options, &error);
    ck_assert_msg(plan != NULL, "%s", error ? error->message : "?");
    params = fm_params_new(c.graph, FM_F64, 1, &error);
    set_params(&c, params);
    exec = fm_exec_new(plan, params, 2, &error);
    ck_assert_msg(exec != NULL, "%s", error ? error->message : "?");
    for (size_t i = 0; i < fm_plan_n_inputs(plan); i++)
        in[i] = eval(&e, g_hash_table_lookup(c.graph->names, fm_plan_input_name(plan, i)));
    for (size_t i = 0; i < n; i++)
        out[i] = eval_alloc(&e, eval_size(&e, nodes[i]));
    ck_assert(fm_exec_run(exec, B, in, NULL, NULL, out, (FmKey){.seed = 7}, &error));
    for (size_t i = 0; i < n; i++)
        close_to("output", out[i], eval(&e, nodes[i]), eval_size(&e, nodes[i]), 1e-10);
    fm_exec_free(exec);
    fm_plan_free(plan);
    fm_params_free(params);
    eval_close(&e);
    case_close(&c);
}
END_TEST

/* ---- layers that the nets above do not reach ---- */

START_TEST(resampling_and_layer_norm)
{
    static const size_t dim[3] = {5, 4, 2};
    Leaves leaves = {.x_scale = 1.0};
    FmNode *up, *pool, *norm;
    const double *x, *u, *p, *n;
    Case c;
    Eval e;

    case_open(&c, "mlp", 3, dim, 0);
    up = fm_upsample2(c.x);
    pool = fm_avg_pool2(c.x);
    norm = fm_layer_norm(c.x, "norm");
    ok(&c);
    eval_open(&e, B, leaf, &leaves);
    x = eval(&e, c.x);
    u = eval(&e, up);
    p = eval(&e, pool);
    n = eval(&e, norm);
    for (size_t b = 0; b < B; b++)
        for (size_t i = 0; i < 10; i++)
            for (size_t j = 0; j < 8; j++)
                for (size_t k = 0; k < 2; k++)
                    ck_assert(u[((b * 10 + i) * 8 + j) * 2 + k] == x[((b * 5 + i / 2) * 4 + j / 2) * 2 + k]);
    /* block (1, 1) of image 2, channel 1 */
    ck_assert_double_eq_tol(p[((2 * 2 + 1) * 2 + 1) * 2 + 1],
                            (x[((2 * 5 + 2) * 4 + 2) * 2 + 1] + x[((2 * 5 + 2) * 4 + 3) * 2 + 1] +
                             x[((2 * 5 + 3) * 4 + 2) * 2 + 1] + x[((2 * 5 + 3) * 4 + 3) * 2 + 1]) /
                                4.0,
                            1e-15);
    for (size_t r = 0; r < B * 20; r++) {
        const double half = (x[2 * r] - x[2 * r + 1]) / 2.0, s = half / sqrt(half * half + 1e-5);

        ck_assert_double_eq_tol(n[2 * r], s * (1 + 0.2 * wave("norm.weight", 0)) + 0.1 * wave("norm.bias", 0), 1e-13);
    }
    check_gradient(&c, fm_sum(fm_square(norm), 7u, FALSE), "x", 1e-6);
    check_gradient(&c, fm_sum(fm_square(fm_add(fm_avg_pool2(up), fm_sin(c.x))), 7u, FALSE), "x", 1e-6);
    eval_close(&e);
    case_close(&c);
}
END_TEST

START_TEST(dropout_keeps_the_mean_and_is_off_outside_training)
{
    static const size_t dim = 4000;
    Leaves leaves = {.x_scale = 1.0};
    size_t zeros = 0;
    FmNode *drop;
    Case c;
    Eval e;

    case_open(&c, "mlp", 1, &dim, 0);
    ck_assert_ptr_eq(fm_dropout(c.x, 0.3, 99, FALSE), c.x);
    ck_assert_ptr_eq(fm_dropout(c.x, 0.0, 99, TRUE), c.x);
    drop = fm_dropout(c.x, 0.3, 99, TRUE);
    ok(&c);
    eval_open(&e, B, leaf, &leaves);
    for (size_t i = 0; i < B * dim; i++) {
        const double kept = eval(&e, c.x)[i] / 0.7, d = eval(&e, drop)[i];

        zeros += d == 0.0;
        ck_assert(d == 0.0 || fabs(d - kept) <= 1e-14);
    }
    /* 3600 expected, standard deviation 50 */
    ck_assert_uint_ge(zeros, 3350);
    ck_assert_uint_le(zeros, 3850);
    ck_assert_ptr_null(fm_dropout(c.x, 1.0, 99, TRUE));
    ck_assert(!fm_graph_ok(c.graph, NULL));
    eval_close(&e);
    case_close(&c);
}
END_TEST

START_TEST(default_unet_is_small_and_zero_at_first)
{
    static const size_t dim[3] = {28, 28, 1};
    size_t zero_params = 0;
    Case c;

    case_open(&c, "conv", 3, dim, 0);
    ck_assert_ptr_nonnull(fm_net_velocity(c.net, c.graph, &c.info, c.x, c.t, NULL));
    ok(&c);
    for (guint i = 0; i < c.graph->nodes->len; i++) {
        const FmNode *node = c.graph->nodes->pdata[i];

        if (node->op == FM_OP_PARAM && g_str_has_suffix(node->name, "3.weight") && strstr(node->name, "out_layers"))
            zero_params += node->init.kind == FM_INIT_ZEROS;
        if (node->op == FM_OP_COMPOSITE && strcmp(node->composite->name, "attention") == 0)
            ck_assert_uint_le(node->shape.dim[1], 49);
    }
    ck_assert_uint_ge(zero_params, 10);
    case_close(&c);
}
END_TEST

/* ---- invertible nets ---- */

static double
determinant(double *a, size_t n)
{
    double det = 1.0;

    for (size_t k = 0; k < n; k++) {
        size_t p = k;

        for (size_t i = k + 1; i < n; i++)
            p = fabs(a[i * n + k]) > fabs(a[p * n + k]) ? i : p;
        for (size_t j = 0; p != k && j < n; j++) {
            const double swap = a[k * n + j];

            a[k * n + j] = a[p * n + j];
            a[p * n + j] = swap;
        }
        det *= (p == k ? 1.0 : -1.0) * a[k * n + k];
        for (size_t i = k + 1; i < n; i++)
            for (size_t j = n; j-- > k;)
                a[i * n + j] -= a[i * n + k] / a[k * n + k] * a[k * n + j];
    }
    return det;
}

START_TEST(realnvp_inverts_and_knows_its_jacobian)
{
    const size_t D = (size_t)_i;
    Leaves leaves = {.x_scale = 1.5};
    FmNode *z, *back, *log_det, *log_det_back, *tangents, *jv;
    Case c;
    Eval e;

    case_open(&c, "realnvp:layers=6,width=7,depth=2", 1, &D, 0);
    z = fm_net_forward(c.net, c.graph, &c.info, c.x, &log_det);
    back = fm_net_inverse(c.net, c.graph, &c.info, z, &log_det_back);
    tangents = fm_input(c.graph, "tangents", D, 1, &D);
    jv = fm_jvp(z, c.x, tangents);
    ok(&c);
    eval_open(&e, B, leaf, &leaves);
    close_to("inverse of forward", eval(&e, back), eval(&e, c.x), B * D, 1e-12);
    for (size_t b = 0; b < B; b++) {
        double moved = 0.0, exact = log(fabs(determinant(eval(&e, jv) + b * D * D, D)));

        for (size_t d = 0; d < D; d++)
            moved += fabs(eval(&e, z)[b * D + d] - eval(&e, c.x)[b * D + d]);
        ck_assert_double_gt(moved, 0.1);
        ck_assert_double_eq_tol(eval(&e, log_det)[b], exact, 1e-11);
        ck_assert_double_eq_tol(eval(&e, log_det)[b], -eval(&e, log_det_back)[b], 1e-12);
    }
    check_gradient(&c, fm_sub(fm_sum(fm_square(z), 1u, FALSE), log_det), "params", 1e-6);
    check_gradient(&c, fm_sub(fm_sum(fm_square(z), 1u, FALSE), log_det), "x", 1e-6);
    ck_assert_ptr_null(fm_net_velocity(c.net, c.graph, &c.info, c.x, c.t, NULL));
    eval_close(&e);
    case_close(&c);
}
END_TEST

/* ---- objectives ---- */

START_TEST(cfm_is_the_mean_squared_gap)
{
    static const size_t D = 3;
    Leaves leaves = {.x_scale = 1.0};
    FmPlugin *cfm = open_plugin(FM_KIND_OBJECTIVE, "cfm");
    FmNode *value, *v;
    FmLoss *loss;
    Case c;
    Eval e;

    case_open(&c, "mlp:width=4,depth=1", 1, &D, 3);
    loss = fm__loss_new(c.graph, c.net, &c.info);
    value = fm_objective_loss(cfm, loss);
    v = fm_loss_velocity(loss, "model", NULL, TRUE, fm_loss_xt(loss), fm_loss_t(loss));
    ok(&c);
    eval_open(&e, B, leaf, &leaves);
    for (size_t b = 0; b < B; b++) {
        double sum = 0.0;

        for (size_t d = 0; d < D; d++)
            sum += pow(eval(&e, v)[b * D + d] - wave("ut", b * D + d), 2.0);
        ck_assert_double_eq_tol(eval(&e, value)[b], sum / 3.0, 1e-14);
    }
    /* A frozen second net has weights of its own, and they are buffers. */
    ck_assert_ptr_nonnull(
        fm_loss_velocity(loss, "teacher", "mlp:width=2,depth=1", TRUE, fm_loss_xt(loss), fm_loss_t(loss)));
    v = g_hash_table_lookup(c.graph->names, "teacher/layers.0.weight");
    ck_assert(v && !v->trainable);
    v = g_hash_table_lookup(c.graph->names, "layers.0.weight");
    ck_assert(v && v->trainable);
    ck_assert_ptr_null(fm_loss_coefficient(loss, "beta"));
    fm__loss_free(loss);
    fm_plugin_free(cfm);
    eval_close(&e);
    case_close(&c);
}
END_TEST

START_TEST(ml_is_the_negative_log_density)
{
    static const size_t D = 3;
    Leaves leaves = {.x_scale = 1.0};
    FmPlugin *ml = open_plugin(FM_KIND_OBJECTIVE, "ml");
    FmNode *value, *z, *log_det;
    FmLoss *loss;
    Case c;
    Eval e;

    case_open(&c, "realnvp:layers=2,width=4", 1, &D, 0);
    loss = fm__loss_new(c.graph, c.net, &c.info);
    value = fm_objective_loss(ml, loss);
    z = fm_loss_forward(loss, fm_loss_x1(loss), &log_det);
    ok(&c);
    eval_open(&e, B, leaf, &leaves);
    for (size_t b = 0; b < B; b++) {
        double expected = -eval(&e, log_det)[b];

        for (size_t d = 0; d < D; d++)
            expected += 0.5 * pow(eval(&e, z)[b * D + d], 2.0) + 0.91893853320467274;
        ck_assert_double_eq_tol(eval(&e, value)[b], expected, 1e-13);
    }
    fm__loss_free(loss);
    eval_close(&e);
    case_close(&c);

    case_open(&c, "mlp", 1, &D, 0);
    loss = fm__loss_new(c.graph, c.net, &c.info);
    ck_assert_ptr_null(fm_objective_loss(ml, loss));
    ck_assert(!fm_graph_ok(c.graph, NULL));
    fm__loss_free(loss);
    fm_plugin_free(ml);
    case_close(&c);
}
END_TEST

/* ---- conformance ---- */

/* Builds v on `dim` where the net takes such data; FALSE where it refuses them. */
static gboolean
net_builds(const char *name, int ndim, const size_t *dim, size_t classes)
{
    FmDataInfo data = {.ndim = ndim, .D = 1, .classes = classes};
    FmNetInfo info = {.data = &data, .classes = classes};
    FmPlugin *net = open_plugin(FM_KIND_NET, name);
    g_autoptr(GError) error = NULL;
    FmGraph *graph = fm_graph_new();
    FmNode *x, *v, *log_det;
    gboolean taken;

    for (int i = 0; i < ndim; i++) {
        data.dim[i] = dim[i];
        data.D *= dim[i];
    }
    taken = fm_net_prepare(net, &info, &error);
    ck_assert(taken == (error == NULL));
    if (taken) {
        x = fm_input(graph, "x", 1, ndim, dim);
        if (fm_net_is_invertible(net))
            v = fm_net_forward(net, graph, &info, x, &log_det);
        else
            v = fm_net_velocity(net, graph, &info, x, fm_input(graph, "t", 1, 0, NULL),
                                classes ? fm_input_labels(graph, "y") : NULL);
        ck_assert_msg(fm_graph_ok(graph, &error), "%s: %s", name, error ? error->message : "?");
        ck_assert(fm_shape_equal(&v->shape, &x->shape));
    }
    fm_graph_free(graph);
    fm_plugin_free(net);
    return taken;
}

START_TEST(every_net_builds_what_it_takes)
{
    fm_registry_load_all();
    ck_assert_uint_ge(fm_registry_count(FM_KIND_NET), 3);
    for (size_t i = 0; i < fm_registry_count(FM_KIND_NET); i++) {
        const char *name = fm_registry_nth(FM_KIND_NET, i)->name;
        const gboolean vectors = net_builds(name, 1, (size_t[]){5}, 0);
        const gboolean images = net_builds(name, 3, (size_t[]){8, 12, 3}, 0);

        /* ffi and oracle nets may want a file or a data set */
        if (strcmp(name, "mlp") == 0 || strcmp(name, "conv") == 0 || strcmp(name, "realnvp") == 0)
            ck_assert_msg(vectors || images, "net '%s' takes nothing", name);
        net_builds(name, 1, (size_t[]){5}, 4);
        net_builds(name, 3, (size_t[]){8, 12, 3}, 4);
    }
}
END_TEST

START_TEST(conv_refuses_what_cannot_work)
{
    static const char *const specs[] = {"conv:groups=7", "conv:mult=[1,1,1,1,1]", "conv:channels=24,groups=16"};
    FmDataInfo data = {.ndim = 3, .dim = {12, 12, 1}, .D = 144};
    FmNetInfo info = {.data = &data};

    for (size_t i = 0; i < G_N_ELEMENTS(specs); i++) {
        FmPlugin *net = open_plugin(FM_KIND_NET, specs[i]);
        g_autoptr(GError) error = NULL;

        ck_assert(!fm_net_prepare(net, &info, &error));
        ck_assert_ptr_nonnull(strstr(error->message, "expected"));
        fm_plugin_free(net);
    }
}
END_TEST

int
main(void)
{
    Suite *s = suite_create("nets");
    TCase *tc = tcase_create("nets");

    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, net_agrees_with_torch, 0, G_N_ELEMENTS(torch_cases));
    tcase_add_loop_test(tc, activation_agrees_with_torch, 0, G_N_ELEMENTS(activation_cases));
    tcase_add_loop_test(tc, divergence_has_the_right_gradient, 0, G_N_ELEMENTS(second_order_cases));
    tcase_add_loop_test(tc, plan_agrees_with_plain_evaluation, 0, G_N_ELEMENTS(second_order_cases));
    tcase_add_test(tc, resampling_and_layer_norm);
    tcase_add_test(tc, dropout_keeps_the_mean_and_is_off_outside_training);
    tcase_add_test(tc, default_unet_is_small_and_zero_at_first);
    tcase_add_loop_test(tc, realnvp_inverts_and_knows_its_jacobian, 2, 6);
    tcase_add_test(tc, cfm_is_the_mean_squared_gap);
    tcase_add_test(tc, ml_is_the_negative_log_density);
    tcase_add_test(tc, every_net_builds_what_it_takes);
    tcase_add_test(tc, conv_refuses_what_cannot_work);
    suite_add_tcase(s, tc);
    return run_suite(s, CK_FORK);
}
