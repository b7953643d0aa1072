/* study_paths.c: what a probability path costs and how it bends, on data whose field is exact.
 *
 * For each affine path, with the exact marginal velocity v of the data:
 *   straightness   int E|x(1) - x(0) - v(t, x(t))|^2 dt along the flow, over E|x(1) - x(0)|^2: 0 when
 *                  trajectories are straight and uniform (Liu et al. 2022, arXiv:2209.03003, sec. 2.2)
 *   variance       int E|u_t - v(t, x_t)|^2 dt over the path: the part of the loss that no net removes
 *                  (Lipman et al. 2023, arXiv:2210.02747, app. A)
 *   nfe            evaluations a sample of dopri5 at three tolerances
 *   eps^2, gap^2   int E|v - w|^2 dt and int E|score gap|^2 dt of the field w = 1.1 v, and the KL they bound
 */
#include "cli/kl.h"
#include "cli/study.h"

#include <math.h>
#include <string.h>

enum {
    PATHS_ROWS = 2000,
    PATHS_TIMES = 201, /* of a trajectory; odd: Simpson */
    PATHS_KL_ROWS = 1000,
    PATHS_KL_TIMES = 41,
    PATHS_DRAWN = 12 /* trajectories of a path in the picture */
};

static const char *const path_names[] = {"ot", "vp", "cosine", "poly"};
static const char *const path_tolerances[] = {"1e-3", "1e-5", "1e-7"};
#define PATHS_N G_N_ELEMENTS(path_names)

/* One path: the exact run, and a perturbed one. */
typedef struct PathRun {
    FmRun *run[2];
    FmFlow *flow[2];
    size_t D;
    double *trajectory; /* (PATHS_ROWS, PATHS_TIMES, D) */
} PathRun;

static void
path_run_clear(PathRun *p)
{
    for (int i = 0; i < 2; i++) {
        fm_flow_free(p->flow[i]);
        fm_run_free(p->run[i]);
    }
    g_free(p->trajectory);
}

static gboolean
path_run_open(PathRun *p, const Study *s, const char *path, GError **error)
{
    static const char *const nets[2] = {"oracle", "oracle:scale=1.1"};

    for (int i = 0; i < 2; i++) {
        p->run[i] = study_oracle_run(s, nets[i], NULL, path, error);
        p->flow[i] = p->run[i] ? fm_flow_from_run(p->run[i], error) : NULL;
        if (!p->flow[i])
            return FALSE;
    }
    p->D = p->run[0]->data.D;
    return TRUE;
}

/* Weights of Simpson's rule on n (odd) points of [0, 1]. */
static double
simpson(size_t j, size_t n)
{
    return (j == 0 || j == n - 1 ? 1.0 : j % 2 ? 4.0 : 2.0) / (3.0 * (double)(n - 1));
}

static double
square_distance(const double *a, const double *b, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sum;
}

static gboolean
path_straightness(PathRun *p, const Study *s, double *value, GError **error)
{
    const size_t n = PATHS_ROWS, T = PATHS_TIMES, D = p->D;
    g_autofree double *t = g_new(double, T), *x = g_new(double, n *D), *v = g_new(double, n *D);
    double bend = 0, length = 0, t0, t1;

    fm_path_interval(p->run[0]->plugin[FM_KIND_PATH], &t0, &t1);
    for (size_t j = 0; j < T; j++)
        t[j] = t0 + (t1 - t0) * (double)j / (double)(T - 1);
    p->trajectory = g_new(double, n *T *D);
    if (!fm_flow_set_solver(p->flow[0], "dopri5:rtol=1e-7,atol=1e-7", error) ||
        !fm_flow_trajectory(p->flow[0], n, s->seed, NULL, NULL, T, t, p->trajectory, error))
        return FALSE;
    for (size_t j = 0; j < T; j++) {
        for (size_t r = 0; r < n; r++)
            memcpy(x + r * D, p->trajectory + (r * T + j) * D, D * sizeof *x);
        if (!fm_flow_velocity(p->flow[0], n, x, t[j], NULL, v, NULL, error))
            return FALSE;
        for (size_t r = 0; r < n; r++) {
            const double *from = p->trajectory + r * T * D, *to = from + (T - 1) * D;

            for (size_t d = 0; d < D; d++)
                bend += simpson(j, T) * (to[d] - from[d] - v[r * D + d]) * (to[d] - from[d] - v[r * D + d]);
            length += simpson(j, T) * square_distance(to, from, D);
        }
    }
    *value = bend / length;
    return TRUE;
}

/* E|u_t - v|^2, t stratified over the path's interval, each row its own draw. */
static gboolean
path_variance(PathRun *p, const Study *s, FmNumber *value, GError **error)
{
    const size_t n = PATHS_ROWS, D = p->D, strata = 50, each = n / strata;
    const FmPlugin *path = p->run[0]->plugin[FM_KIND_PATH];
    const FmKey key = {.seed = s->seed, .stream = FM_STREAM_EVAL, .step = 7};
    g_autofree double *x0 = g_new(double, n *D), *x1 = g_new(double, n *D), *xt = g_new(double, n *D);
    g_autofree double *ut = g_new(double, n *D), *v = g_new(double, each *D), *t = g_new(double, n);
    g_autofree double *gap = g_new(double, each);
    double t0, t1, mean = 0.0, variance = 0.0;

    fm_path_interval(path, &t0, &t1);
    fm_fill_normal_f64(key, 0, n, D, x0);
    if (!fm_dataset_draw(p->run[0]->plugin[FM_KIND_DATASET], key, n, n, x1, NULL, error))
        return FALSE;
    for (size_t r = 0; r < n; r++)
        t[r] = t0 + (t1 - t0) * ((double)(r / each) + 0.5) / (double)strata;
    fm_path_sample(path, n, D, t, x0, x1, key, 2 * n, xt, ut);
    for (size_t k = 0; k < strata; k++) {
        const size_t first = k * each;

        if (!fm_flow_velocity(p->flow[0], each, xt + first * D, t[first], NULL, v, NULL, error))
            return FALSE;
        for (size_t r = 0; r < each; r++)
            gap[r] = square_distance(ut + (first + r) * D, v + r * D, D);
        const FmNumber at = fm__mean(gap, each); /* what lies between times is no scatter */

        mean += at.value / (double)strata;
        variance += at.se * at.se / (double)(strata * strata);
    }
    *value = (FmNumber){mean, sqrt(variance)};
    return TRUE;
}

static gboolean
path_nfe(PathRun *p, const Study *s, double nfe[G_N_ELEMENTS(path_tolerances)], GError **error)
{
    g_autofree double *x = g_new(double, PATHS_ROWS * p->D);

    for (size_t k = 0; k < G_N_ELEMENTS(path_tolerances); k++) {
        g_autofree char *solver = g_strdup_printf("dopri5:rtol=%s,atol=%s", path_tolerances[k], path_tolerances[k]);
        FmSolveSummary summary;

        if (!fm_flow_set_solver(p->flow[0], solver, error) ||
            !fm_flow_sample(p->flow[0], PATHS_ROWS, s->seed, NULL, NULL, x, NULL, NULL, &summary, error))
            return FALSE;
        nfe[k] = summary.nfe_mean;
    }
    return TRUE;
}

static gboolean
one_path(PathRun *p, Study *s, const char *name, GError **error)
{
    const FmKlOptions options = {
        .n = PATHS_KL_ROWS, .times = PATHS_KL_TIMES, .seed = s->seed, .threads = s->threads, .stop = NAN};
    double straightness, nfe[G_N_ELEMENTS(path_tolerances)];
    FmNumber variance;
    g_autoptr(FmKl) kl = NULL;

    study_progress(s, "path %s", name);
    if (!path_run_open(p, s, name, error) || !path_straightness(p, s, &straightness, error) ||
        !path_variance(p, s, &variance, error) || !path_nfe(p, s, nfe, error) ||
        !(kl = kl_measure(s->cli, name, p->flow[0], p->flow[1], &options, error)))
        return FALSE;
    study_row(s);
    study_text(s, "path", name);
    study_number(s, "straightness", straightness);
    study_number(s, "variance", variance.value);
    study_number(s, "variance_se", variance.se);
    study_number(s, "nfe_1e-3", nfe[0]);
    study_number(s, "nfe_1e-5", nfe[1]);
    study_number(s, "nfe_1e-7", nfe[2]);
    study_number(s, "until", kl->t[kl->T - 1]);
    study_number(s, "eps2", kl->eps2.value);
    study_number(s, "gap2", kl->gap2.value);
    study_number(s, "kl", kl->kl.value);
    study_number(s, "kl_se", kl->kl.se);
    study_number(s, "bound", kl->bound.value);
    if (kl->infinite)
        study_say(s, "path %s: gap2, kl and bound are of the times until %g; at t = 1 the bound is %s", name,
                  kl->t[kl->T - 1], kl->bound_at_1);
    return TRUE;
}

/* Trajectories in the plane, all paths from the same noise. Curve k has the colour of k mod 4. */
static gboolean
draw(Study *s, const PathRun *p, GError **error)
{
    enum { CURVES = PATHS_DRAWN * 4 };
    g_autofree double *x = g_new(double, CURVES *PATHS_TIMES), *y = g_new(double, CURVES *PATHS_TIMES);
    FmCurve curves[CURVES];

    for (size_t k = 0; k < CURVES; k++) {
        const double *from = p[k % 4].trajectory + k / 4 * PATHS_TIMES * 2;

        for (size_t j = 0; j < PATHS_TIMES; j++) {
            x[k * PATHS_TIMES + j] = from[2 * j];
            y[k * PATHS_TIMES + j] = from[2 * j + 1];
        }
        curves[k] = (FmCurve){
            .name = k < 4 ? path_names[k] : "", .x = x + k * PATHS_TIMES, .y = y + k * PATHS_TIMES, .n = PATHS_TIMES};
    }
    return study_curves(s, "paths.png", "Trajectories of the exact flow from the same noise", "x1", "x2", curves,
                        CURVES, 0, error);
}

gboolean
study_paths(Study *s, GError **error)
{
    static const char *const taken[] = {"dataset", "scale", NULL};
    PathRun p[PATHS_N] = {0};
    gboolean ok = study_takes(s, taken, error);

    G_STATIC_ASSERT(PATHS_N == 4);
    for (size_t i = 0; ok && i < PATHS_N; i++)
        ok = one_path(&p[i], s, path_names[i], error);
    if (ok && p[0].D == 2)
        ok = draw(s, p, error);
    if (ok)
        study_say(s, "straightness is relative to E|x1 - x0|^2; eps2, gap2, kl and bound are of the field "
                     "1.1 v against v");
    for (size_t i = 0; i < PATHS_N; i++)
        path_run_clear(&p[i]);
    return ok;
}
