/* composite_test.c: the fused kernels of composites against their expansions (the reference backend
 * has no kernel for them), and first and second derivatives against central differences.
 *
 * Of each composite y(x, weights): L = <y, cot>, its gradient in all leaves, h = <dL/dx, u> and its
 * gradient, all sums over the batch. */
#include "suite.h"
#include "graph/node.h"

#include <fmcore/fmcore.h>
#include <fmcore/layer.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define B 5 /* two tiles and a remainder */
#define MAX_LEAVES 8
#define MAX_OUTPUTS (3 + 2 * MAX_LEAVES)

typedef struct Subject {
    const char *name;
    FmNode *(*build)(FmNode *x, const struct Subject *s);
    size_t dim[3];
    size_t parts;  /* groups or heads */
    gboolean flag; /* group norm: SiLU */
} Subject;

static FmNode *
build_group_norm(FmNode *x, const Subject *s)
{
    return fm_group_norm(x, "norm", s->parts, s->flag);
}

static FmNode *
build_elu(FmNode *x, const Subject *s)
{
    return fm_activation(x, s->flag ? FM_ACT_SELU : FM_ACT_ELU);
}

static FmNode *
build_layer_norm(FmNode *x, const Subject *s)
{
    return fm_layer_norm(x, "norm");
}

static FmNode *
build_softmax(FmNode *x, const Subject *s)
{
    return fm_softmax(x);
}

/* x (1, T, 3 C) */
static FmNode *
build_attention(FmNode *x, const Subject *s)
{
    x = fm_reshape(x, 1, 2, s->dim + 1);
    return fm_attention_qkv(x, s->parts, s->flag);
}

/* x (3 heads, T, d) */
static FmNode *
build_attention_apart(FmNode *x, const Subject *s)
{
    FmNode *part[3];

    for (size_t i = 0; i < 3; i++)
        part[i] = fm_slice(x, 0, i * s->parts, s->parts);
    if (s->flag) /* fewer queries than keys */
        part[0] = fm_slice(part[0], 1, 0, s->dim[1] - 1);
    return fm_attention(part[0], part[1], part[2]);
}

static const Subject subjects[] = {
    {"one number", build_group_norm, {1, 1, 1}, 1, FALSE},
    {"one number, silu", build_group_norm, {1, 1, 1}, 1, TRUE},
    {"3 channels, 3 groups", build_group_norm, {7, 1, 3}, 3, TRUE},
    {"4 channels, 2 groups", build_group_norm, {5, 3, 4}, 2, TRUE},
    {"5 channels, 1 group", build_group_norm, {31, 1, 5}, 1, FALSE},
    {"6 channels, 3 groups", build_group_norm, {33, 3, 6}, 3, TRUE},
    {"16 channels, 8 groups", build_group_norm, {28, 27, 16}, 8, TRUE},
    {"320 channels, 32 groups", build_group_norm, {7, 3, 320}, 32, FALSE},
    {"layer norm of 5", build_layer_norm, {3, 7, 5}, 1, FALSE},
    {"layer norm of 33", build_layer_norm, {1, 3, 33}, 1, FALSE},
    {"softmax of 31", build_softmax, {2, 3, 31}, 1, FALSE},
    {"elu of 31", build_elu, {2, 3, 31}, 1, FALSE},
    {"selu of 1", build_elu, {1, 1, 1}, 1, TRUE},
    {"selu of 257", build_elu, {1, 1, 257}, 1, TRUE},
    {"attention, 1 token", build_attention, {1, 1, 3}, 1, FALSE},
    {"attention, 7 tokens", build_attention, {1, 7, 18}, 2, FALSE},
    {"attention, 7 tokens, split", build_attention, {1, 7, 18}, 3, TRUE},
    {"attention, 33 tokens", build_attention, {1, 33, 24}, 1, FALSE},
    {"attention, 131 tokens", build_attention, {1, 131, 30}, 2, TRUE},
    {"attention, q, k and v apart", build_attention_apart, {6, 7, 5}, 2, FALSE},
    {"attention, fewer queries", build_attention_apart, {6, 7, 5}, 2, TRUE},
    {"softmax of 1", build_softmax, {1, 7, 1}, 1, FALSE},
};

typedef struct Bench {
    FmGraph *graph;
    FmNode *leaf[MAX_LEAVES], *out[MAX_OUTPUTS];
    size_t n_leaves, n_out, L, h; /* positions of L and h among the outputs */
    double *value[MAX_LEAVES];    /* of leaf i; (B, ...) or (...) */
    double *direction[MAX_LEAVES];
} Bench;

static size_t
elements(const FmNode *node)
{
    return (node->shape.rows > 0 ? B : 1) * fm_shape_size(&node->shape);
}

static FmNode *
total(FmNode *x)
{
    return fm_sum_batch(fm_sum(x, (1u << fm_node_shape(x)->ndim) - 1u, FALSE));
}

static void
find_leaves(Bench *b)
{
    for (guint i = 0; i < b->graph->nodes->len; i++) {
        FmNode *node = b->graph->nodes->pdata[i];
        const guint32 stream = FM_STREAM_USER + (guint32)b->n_leaves;
        const size_t k = b->n_leaves;

        if (node->op != FM_OP_INPUT && node->op != FM_OP_PARAM)
            continue;
        ck_assert(k < MAX_LEAVES);
        b->leaf[k] = node;
        b->value[k] = fm_alloc(elements(node) * sizeof(double));
        b->direction[k] = fm_alloc(elements(node) * sizeof(double));
        fm_fill_normal_f64((FmKey){.seed = 3, .stream = stream}, 0, 1, elements(node), b->value[k]);
        fm_fill_normal_f64((FmKey){.seed = 4, .stream = stream}, 0, 1, elements(node), b->direction[k]);
        /* weights stay away from 0 */
        for (size_t e = 0; node->op == FM_OP_PARAM && e < elements(node); e++)
            b->value[k][e] = 1.0 + 0.3 * b->value[k][e];
        b->n_leaves++;
    }
}

static void
gradients(Bench *b, FmNode *of)
{
    for (size_t i = 0; i < b->n_leaves; i++) {
        ck_assert(fm_vjp(of, NULL, &b->leaf[i], 1, &b->out[b->n_out]));
        b->n_out += b->out[b->n_out] != NULL;
    }
}

static void
bench_open(Bench *b, const Subject *s)
{
    g_autoptr(GError) error = NULL;
    FmNode *x, *y, *cot, *u, *dx = NULL;

    *b = (Bench){.graph = fm_graph_new()};
    x = fm_input(b->graph, "x", 1, 3, s->dim);
    y = s->build(x, s);
    ck_assert_msg(fm_graph_ok(b->graph, &error), "%s", error ? error->message : "");
    cot = fm_input(b->graph, "cot", 1, y->shape.ndim, y->shape.dim);
    u = fm_input(b->graph, "u", 1, 3, s->dim);
    find_leaves(b);
    b->out[b->n_out++] = y;
    b->L = b->n_out;
    b->out[b->n_out++] = total(fm_mul(y, cot));
    gradients(b, b->out[b->L]);
    ck_assert(fm_vjp(y, cot, &x, 1, &dx) && dx);
    b->h = b->n_out;
    b->out[b->n_out++] = total(fm_mul(dx, u));
    gradients(b, b->out[b->h]);
    ck_assert_msg(fm_graph_ok(b->graph, &error), "%s", error ? error->message : "");
}

static void
bench_close(Bench *b)
{
    for (size_t i = 0; i < b->n_leaves; i++) {
        fm_free(b->value[i]);
        fm_free(b->direction[i]);
    }
    fm_graph_free(b->graph);
}

/* All outputs at leaves + step direction, as doubles; owned by the caller. */
static double **
evaluate(const Bench *b, const char *backend, FmDtype dtype, double step)
{
    g_autoptr(FmPlugin) instance = fm_backend_new(backend, NULL);
    const FmPlanOptions options = {.dtype = dtype, .backend = instance, .tile = 2};
    g_autoptr(GError) error = NULL;
    FmPlan *plan = fm_plan_new(b->graph, b->out, b->n_out, &options, &error);
    FmParams *params;
    FmExec *exec;
    void *in[MAX_LEAVES] = {NULL}, *out[MAX_OUTPUTS];
    double **result = g_new0(double *, MAX_OUTPUTS);

    ck_assert_msg(plan != NULL, "%s", error ? error->message : "");
    params = fm_params_new(b->graph, dtype, 1, &error);
    for (size_t i = 0; i < b->n_leaves; i++) {
        const FmNode *leaf = b->leaf[i];
        const size_t n = elements(leaf);
        g_autofree double *moved = g_new(double, n);

        for (size_t e = 0; e < n; e++)
            moved[e] = b->value[i][e] + step * b->direction[i][e];
        if (leaf->op == FM_OP_PARAM) {
            fm_convert(FM_F64, moved, dtype, fm_params_data(params, fm_params_find(params, leaf->name)), n);
        } else {
            const int at = fm_plan_input_find(plan, leaf->name);

            if (at >= 0) {
                in[at] = fm_alloc(n * sizeof(double));
                fm_convert(FM_F64, moved, dtype, in[at], n);
            }
        }
    }
    for (size_t k = 0; k < b->n_out; k++)
        out[k] = fm_alloc(elements(b->out[k]) * sizeof(double));
    exec = fm_exec_new(plan, params, 2, &error);
    ck_assert_msg(exec != NULL, "%s", error ? error->message : "");
    ck_assert(fm_exec_run(exec, B, (const void *const *)in, NULL, NULL, out, (FmKey){.seed = 1}, &error));
    for (size_t k = 0; k < b->n_out; k++) {
        result[k] = g_new(double, elements(b->out[k]));
        fm_convert(dtype, out[k], FM_F64, result[k], elements(b->out[k]));
        fm_free(out[k]);
    }
    for (size_t i = 0; i < MAX_LEAVES; i++)
        fm_free(in[i]);
    fm_exec_free(exec);
    fm_params_free(params);
    fm_plan_free(plan);
    return result;
}

static void
result_free(double **result)
{
    for (size_t k = 0; k < MAX_OUTPUTS; k++)
        g_free(result[k]);
    g_free(result);
}

/* Within tol of the largest number of an output. */
static void
compare(const Bench *b, const Subject *s, FmDtype dtype, double tol)
{
    double **want = evaluate(b, "reference", dtype, 0.0), **got = evaluate(b, "cpu", dtype, 0.0);

    for (size_t k = 0; k < b->n_out; k++) {
        double size = 1.0;

        for (size_t e = 0; e < elements(b->out[k]); e++)
            size = fmax(size, fabs(want[k][e]));
        for (size_t e = 0; e < elements(b->out[k]); e++)
            ck_assert_msg(fabs(want[k][e] - got[k][e]) <= tol * size,
                          "%s, %s, output %zu: element %zu is %.9g, expected %.9g", s->name, fm_dtype_name(dtype), k, e,
                          got[k][e], want[k][e]);
    }
    result_free(want);
    result_free(got);
}

START_TEST(kernels_agree_with_expansions)
{
    Bench b;

    bench_open(&b, &subjects[_i]);
    compare(&b, &subjects[_i], FM_F64, 1e-12);
    /* one number has no variance: rounding comes back times 1 / sqrt(eps) = 316 */
    compare(&b, &subjects[_i], FM_F32, elements(b.leaf[0]) == B ? 2e-4 : 2e-5);
    bench_close(&b);
}
END_TEST

/* <gradient, direction> of the output at `of`, whose gradients follow it. */
static double
slope(const Bench *b, double *const *result, size_t of)
{
    double sum = 0.0;
    size_t k = of + 1;

    for (size_t i = 0; i < b->n_leaves; i++) {
        FmNode *d = NULL;

        ck_assert(fm_vjp(b->out[of], NULL, (FmNode *const *)&b->leaf[i], 1, &d));
        if (!d)
            continue;
        ck_assert(d == b->out[k]);
        for (size_t e = 0; e < elements(d); e++)
            sum += result[k][e] * b->direction[i][e];
        k++;
    }
    return sum;
}

START_TEST(derivatives_agree_with_differences)
{
    const double step = 1e-5;
    double **at, **up, **down;
    Bench b;

    bench_open(&b, &subjects[_i]);
    at = evaluate(&b, "cpu", FM_F64, 0.0);
    up = evaluate(&b, "cpu", FM_F64, step);
    down = evaluate(&b, "cpu", FM_F64, -step);
    for (size_t i = 0; i < 2; i++) {
        const size_t of = i == 0 ? b.L : b.h;
        const double exact = slope(&b, at, of), rough = (up[of][0] - down[of][0]) / (2 * step);

        ck_assert_msg(fabs(exact - rough) <= 1e-6 * fmax(1.0, fabs(exact)),
                      "%s, order %zu: %.12g, differences give %.12g", subjects[_i].name, i + 1, exact, rough);
    }
    result_free(at);
    result_free(up);
    result_free(down);
    bench_close(&b);
}
END_TEST

int
main(void)
{
    return run_tests("composite", 120, {kernels_agree_with_expansions, G_N_ELEMENTS(subjects)},
                     {derivatives_agree_with_differences, G_N_ELEMENTS(subjects)});
}
