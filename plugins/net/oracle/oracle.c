/* oracle: a net without weights, the exact marginal velocity of a path for a data set, with its
 * exact log-density and, as the core derives everything from the graph, its exact score.
 *   field=data     the run's data set under the run's affine path, x0 ~ N(0, I), independent pairs:
 *                  a mixture of Gaussians, or all rows of a finite data set
 *   field=linear   v = (a(t) + beta) x in any dimension, from N(0, I)
 * Perturbed by a known amount it is a learned field whose error is set, not estimated. */
#include "oracle.h"

#include <fmcore/path.h>
#include <math.h>
#include <string.h>

enum { FIELD_DATA, FIELD_LINEAR };
static const char *const fields[] = {"data", "linear", NULL};

static const FmOption oracle_options[] = {
    FM_OPT_CHOICE(Oracle, field, fields, "data", "the marginal velocity of the data, or a(t) x"),
    FM_OPT_PLUGIN(Oracle, dataset, "", "the data, where the run names none"),
    FM_OPT_PLUGIN(Oracle, path, "", "the path, where the run names none"),
    FM_OPT_STRING(Oracle, a, "a1", "field=linear: a1, a2, a3, a number or an expression of t"),
    FM_OPT_REAL(Oracle, beta, 0.0, -100.0, 100.0, "field=linear: added to a(t)"),
    FM_OPT_STRING(Oracle, scale, "1", "error: factor of the velocity; this and the next also of t"),
    FM_OPT_STRING(Oracle, shift, "0", "error: added to every coordinate"),
    FM_OPT_STRING(Oracle, rotate, "0", "error: angle by which the first two coordinates turn"),
    FM_OPT_STRING(Oracle, noise, "0", "error: size of a smooth field of length sqrt(D)"),
    FM_OPT_END,
};

/* ---- preparation ---- */

static gboolean
refuse_data(const FmNetInfo *info, GError **error)
{
    g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                "net 'oracle': %s%s%s has no closed form under a path (with these options), expected a mixture "
                "of Gaussians (gaussian, mixture, 8gaussians, moons, circles, rings, swissroll), spirals, checkerboard "
                "or a finite data set such as npy, csv or mnist",
                info->dataset ? "dataset '" : "a run without its data set",
                info->dataset ? fm_plugin_name(info->dataset) : "", info->dataset ? "'" : "");
    return FALSE;
}

/* The rows become constants of the plans. */
static gboolean
check_rows(const FmNetInfo *info, GError **error)
{
    const size_t most = (size_t)1 << 27;

    if (info->data->rows <= most / info->data->D)
        return TRUE;
    g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                "net 'oracle': dataset '%s' has %zu rows of %zu numbers, expected at most %zu numbers",
                fm_plugin_name(info->dataset), info->data->rows, info->data->D, most);
    return FALSE;
}

static gboolean
check_data(const Oracle *self, const FmNetInfo *info, GError **error)
{
    if (info->source) {
        g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED, "net 'oracle': the source is '%s', expected noise N(0, I)",
                    fm_plugin_name(info->source));
        return FALSE;
    }
    if (!info->path || !fm_path_is_affine(info->path)) {
        g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                    "net 'oracle': the path%s%s is not affine, expected one such as ot",
                    info->path ? " " : " is not known or", info->path ? fm_plugin_name(info->path) : "");
        return FALSE;
    }
    if (info->dataset && (fm_dataset_mixture(info->dataset) || fm_dataset_boxes(info->dataset)))
        return TRUE;
    return (info->dataset && info->data->rows > 0) ? check_rows(info, error) : refuse_data(info, error);
}

static gboolean
oracle_prepare(void *self_, const FmNetInfo *info, GError **error)
{
    Oracle *self = self_;

    if (info->classes > 0) {
        g_set_error_literal(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                            "net 'oracle' takes no labels, expected an unconditional run");
        return FALSE;
    }
    if (self->field == FIELD_DATA && (g_strcmp0(self->a, "a1") != 0 || self->beta != 0.0)) {
        g_set_error_literal(error, FM_ERROR, FM_ERROR_OPTION,
                            "net 'oracle': options 'a' and 'beta' belong to field=linear and field is data, expected "
                            "field=linear beside them");
        return FALSE;
    }
    if (!oracle_function_init(&self->f_a, "a", self->a, TRUE, error) ||
        !oracle_function_init(&self->f_scale, "scale", self->scale, FALSE, error) ||
        !oracle_function_init(&self->f_shift, "shift", self->shift, FALSE, error) ||
        !oracle_function_init(&self->f_rotate, "rotate", self->rotate, FALSE, error) ||
        !oracle_function_init(&self->f_noise, "noise", self->noise, FALSE, error))
        return FALSE;
    if (!oracle_function_is(&self->f_rotate, 0.0) && info->data->D < 2) {
        g_set_error_literal(error, FM_ERROR, FM_ERROR_OPTION,
                            "net 'oracle': option 'rotate' turns the first two coordinates and the "
                            "data have one, expected at least two");
        return FALSE;
    }
    self->affine = info->path;
    self->last = 1.0;
    if (self->field == FIELD_DATA && info->path && fm_path_is_affine(info->path)) {
        FmAffine end;

        fm_path_coefficients(info->path, 1.0, &end);
        const gboolean bare = end.sigma * end.sigma + end.gamma * end.gamma < 1e-10;
        const gboolean points = bare && info->data->rows > 0;

        self->rough = points || (bare && info->dataset && fm_dataset_boxes(info->dataset) &&
                                 fm_dataset_boxes(info->dataset)->sd == 0.0);
        self->last = points ? 1.0 - 1e-5 : 1.0;
    }
    return self->field == FIELD_LINEAR || check_data(self, info, error);
}

static void
oracle_clear(void *self_)
{
    Oracle *self = self_;
    OracleFunction *all[] = {&self->f_a, &self->f_scale, &self->f_shift, &self->f_rotate, &self->f_noise};

    for (size_t i = 0; i < G_N_ELEMENTS(all); i++)
        oracle_function_clear(all[i]);
}

/* ---- the node of t ---- */

static void
time_row(const Oracle *self, double t, double *row)
{
    FmAffine c = {0};

    if (self->field == FIELD_DATA)
        fm_path_coefficients(self->affine, MIN(t, self->last), &c);
    row[ORACLE_ALPHA] = c.alpha;
    row[ORACLE_DALPHA] = c.dalpha;
    row[ORACLE_ALPHA2] = c.alpha * c.alpha;
    row[ORACLE_ALPHA_DALPHA] = c.alpha * c.dalpha;
    row[ORACLE_VAR] = c.sigma * c.sigma + c.gamma * c.gamma;
    row[ORACLE_COV] = c.sigma * c.dsigma + c.gamma * c.dgamma;
    row[ORACLE_A] = oracle_function_value(&self->f_a, t) + self->beta;
    row[ORACLE_INTEGRAL] = self->field == FIELD_LINEAR ? oracle_function_integral(&self->f_a, t) + self->beta * t : 0.0;
    row[ORACLE_SCALE] = oracle_function_value(&self->f_scale, t);
    row[ORACLE_SHIFT] = oracle_function_value(&self->f_shift, t);
    row[ORACLE_ROTATE] = oracle_function_value(&self->f_rotate, t);
    row[ORACLE_NOISE] = oracle_function_value(&self->f_noise, t);
}

/* An FmExternal: x is only there to give the shape (n, ORACLE_COLUMNS). */
static gboolean
time_value(void *self, size_t n, const double *x, const double *t, double *y)
{
    for (size_t i = 0; i < n; i++) {
        double *row = y + i * ORACLE_COLUMNS;

        if (i > 0 && t[i] == t[i - 1]) /* as most rows are: the same number needs no second thought */
            memcpy(row, row - ORACLE_COLUMNS, ORACLE_COLUMNS * sizeof *row);
        else
            time_row(self, t[i], row);
    }
    return TRUE;
}

static const FmExternal time_external = {.value = time_value, .thread_safe = TRUE};

static FmNode *
time_columns(void *self, FmNode *t)
{
    const FmShape shape = {.rows = 1, .ndim = 1, .dim = {ORACLE_COLUMNS}};
    FmNode *wide = fm_broadcast(fm_reshape(t, 1, 1, (size_t[]){1}), &shape);

    return fm_stop_gradient(fm_external(wide, t, &time_external, self));
}

/* ---- the field ---- */

/* v (B, D) without perturbation and, when asked for, log p_t (B) and div v (B). */
static FmNode *
exact_field(Oracle *self, FmGraph *graph, const FmNetInfo *info, FmNode *x, FmNode *column, FmNode **log_p,
            FmNode **div)
{
    const double D = (double)info->data->D;

    if (self->field == FIELD_DATA && fm_dataset_boxes(info->dataset))
        return oracle_boxes(graph, fm_dataset_boxes(info->dataset), info, x, column, log_p);
    if (self->field == FIELD_DATA && !fm_dataset_mixture(info->dataset))
        return oracle_finite(graph, info, x, column, log_p, div);
    if (self->field == FIELD_DATA)
        return oracle_mixture(graph, fm_dataset_mixture(info->dataset), info, x, column, log_p, div);
    if (div)
        *div = fm_reshape(fm_affine(oracle_column(column, ORACLE_A), D, 0.0), 1, 0, NULL);
    if (log_p) { /* N(0, exp(2 A) I) */
        FmNode *A = oracle_column(column, ORACLE_INTEGRAL);
        FmNode *square = fm_mul(fm_sum(fm_square(x), 1u, TRUE), fm_exp(fm_affine(A, -2.0, 0.0)));
        FmNode *l = fm_sub(fm_affine(square, -0.5, -0.5 * D * log(2.0 * G_PI)), fm_affine(A, D, 0.0));

        *log_p = fm_reshape(l, 1, 0, NULL);
    }
    return fm_mul(x, oracle_column(column, ORACLE_A));
}

static FmNode *
oracle_velocity(void *self, FmGraph *graph, const FmNetInfo *info, FmNode *x, FmNode *t, FmNode *y)
{
    const FmShape shape = *fm_node_shape(x);
    const size_t D = info->data->D;
    FmNode *flat = fm_reshape(x, 1, 1, &D), *column = time_columns(self, t);
    FmNode *v = exact_field(self, graph, info, flat, column, NULL, NULL);

    v = oracle_perturb(self, graph, flat, column, v);
    return fm_reshape(v, 1, shape.ndim, shape.dim);
}

static FmNode *
oracle_log_density(void *self, FmGraph *graph, const FmNetInfo *info, FmNode *x, FmNode *t, FmNode *y)
{
    const size_t D = info->data->D;
    FmNode *log_p = NULL;

    if (oracle_is_perturbed(self))
        return NULL;
    exact_field(self, graph, info, fm_reshape(x, 1, 1, &D), time_columns(self, t), &log_p, NULL);
    return log_p;
}

static FmNode *
oracle_divergence(void *self_, FmGraph *graph, const FmNetInfo *info, FmNode *x, FmNode *t, FmNode *y)
{
    const Oracle *self = self_;
    const size_t D = info->data->D;
    FmNode *flat = fm_reshape(x, 1, 1, &D), *column = time_columns(self_, t), *div = NULL;

    if (!oracle_function_is(&self->f_rotate, 0.0) || !oracle_function_is(&self->f_noise, 0.0))
        return NULL; /* these need the whole Jacobian */
    exact_field(self_, graph, info, flat, column, NULL, &div);
    if (!div)
        return NULL;
    if (!oracle_function_is(&self->f_scale, 1.0))
        div = fm_mul(div, fm_reshape(oracle_column(column, ORACLE_SCALE), 1, 0, NULL));
    return div;
}

static gboolean
oracle_gaussian(const void *self_, const FmNetInfo *info, double t, double *mean, double *sd)
{
    const Oracle *self = self_;
    const size_t D = info->data->D;
    double row[ORACLE_COLUMNS];

    if (oracle_is_perturbed(self))
        return FALSE;
    time_row(self, t, row);
    if (self->field == FIELD_LINEAR) {
        for (size_t d = 0; d < D; d++) {
            mean[d] = 0.0;
            sd[d] = exp(row[ORACLE_INTEGRAL]);
        }
        return TRUE;
    }
    const FmMixture *m = fm_dataset_mixture(info->dataset);
    if (!m || m->K != 1)
        return FALSE;
    for (size_t d = 0; d < D; d++) {
        const double scale = info->scale ? info->scale[d] : 1.0, s = m->sd[d] / scale;

        mean[d] = row[ORACLE_ALPHA] * (m->mean[d] - (info->shift ? info->shift[d] : 0.0)) / scale;
        sd[d] = sqrt(row[ORACLE_ALPHA2] * s * s + row[ORACLE_VAR]);
    }
    return TRUE;
}

/* Points have no density without noise, boxes have edges; near the end scores grow without bound. */
static double
oracle_density_end(const void *self)
{
    return ((const Oracle *)self)->rough ? 0.99 : 1.0;
}

static const FmNetOps oracle_ops = {.velocity = oracle_velocity,
                                    .prepare = oracle_prepare,
                                    .clear = oracle_clear,
                                    .data_units = TRUE,
                                    .log_density = oracle_log_density,
                                    .divergence = oracle_divergence,
                                    .gaussian = oracle_gaussian,
                                    .density_end = oracle_density_end};

static const FmFact oracle_facts[] = {
    {"a1, a2, a3", "sin(pi t), 0.3 sin(2 pi t) + 0.2, t - 1/2"},
    {"data", "mixtures of Gaussians (gaussian, mixture, 8gaussians; along curves: moons, circles, rings, swissroll) "
             "and of boxes (checkerboard; with noise: spirals); finite data: all rows"},
    {"finite data", "without noise at t = 1 the field of t = 1 - 1e-5 is used beyond it"},
    {"coupling", "the field of independent pairs, whatever the run's coupling"},
    {"error", "eps^2 = D shift^2, D noise^2; expressions of t need libmatheval"},
    {NULL, NULL},
};

FM_PLUGIN_DECLARE(NET, oracle, "oracle", oracle_ops, .self_size = sizeof(Oracle), .options = oracle_options,
                  .facts = oracle_facts, .summary = "the exact velocity of a path for known data, no weights",
                  .source = "closed form; Lipman et al. 2023, arXiv:2210.02747, eq. 8");
