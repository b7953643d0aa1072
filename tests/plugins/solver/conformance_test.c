/* conformance_test.c: every solver in the registry has the orders it declares. */
#include "suite.h"

#include <fmcore/fmcore.h>
#include <math.h>
#include <stdlib.h>

#define ROWS 5

/* (n, 2), nonlinear and closed form, parameters by row:
 * x' = a x (1 - x), y' = -p t y^2. */
typedef struct Problem {
    double a[ROWS], p[ROWS], x0[ROWS][2];
    size_t evaluations[ROWS];
} Problem;

static const Problem problem0 = {
    .a = {2.385, -1.73, 1.19, 3.07, -2.61},
    .p = {1.31, 2.87, -0.43, 0.77, 1.93},
    .x0 = {{0.137, 0.871}, {0.713, 1.291}, {0.531, -0.617}, {0.219, 1.717}, {0.873, 0.433}},
};

static gboolean
problem_f64(void *ctx, size_t n, const size_t *row, const double *t, const void *x_, void *f_)
{
    Problem *p = ctx;
    const double *x = x_;
    double *f = f_;

    for (size_t i = 0; i < n; i++) {
        const size_t r = row[i];

        f[2 * i] = p->a[r] * x[2 * i] * (1.0 - x[2 * i]);
        f[2 * i + 1] = -p->p[r] * t[i] * x[2 * i + 1] * x[2 * i + 1];
        p->evaluations[r]++;
    }
    return TRUE;
}

static gboolean
problem_f32(void *ctx, size_t n, const size_t *row, const double *t, const void *x_, void *f_)
{
    double x[2 * ROWS], f[2 * ROWS];
    gboolean ok;

    fm_convert(FM_F32, x_, FM_F64, x, 2 * n);
    ok = problem_f64(ctx, n, row, t, x, f);
    fm_convert(FM_F64, f, FM_F32, f_, 2 * n);
    return ok;
}

/* The solution at t that starts at (0, x0). */
static void
problem_exact(const Problem *p, size_t r, double t, double out[2])
{
    const double e = expm1(p->a[r] * t), x = p->x0[r][0], y = p->x0[r][1];

    out[0] = x * (1.0 + e) / (1.0 + x * e);
    out[1] = y / (1.0 + y * p->p[r] * t * t / 2.0);
}

static double
problem_error(const Problem *p, double t, const double *x)
{
    double worst = 0.0, exact[2];

    for (size_t r = 0; r < ROWS; r++) {
        problem_exact(p, r, t, exact);
        worst = fmax(worst, hypot(x[2 * r] - exact[0], x[2 * r + 1] - exact[1]));
    }
    return worst;
}

static FmPlugin *
open_plugin(const char *spec)
{
    GError *error = NULL;
    FmPlugin *s = fm_plugin_new(FM_KIND_SOLVER, spec, &error);

    ck_assert_msg(s != NULL, "%s: %s", spec, error ? error->message : "no message");
    return s;
}

static const FmPluginDesc *
nth(int i)
{
    return fm_registry_nth(FM_KIND_SOLVER, (size_t)i);
}

/* An instance that takes steps of size h whatever the error. */
static FmPlugin *
open_with_step(const FmPluginDesc *d, double h)
{
    const FmSolverOps *ops = d->ops;
    g_autofree char *spec = ops->adaptive ? g_strdup_printf("%s:rtol=1,atol=1000,step_first=%.17g", d->name, h)
                                          : g_strdup_printf("%s:step=%.17g", d->name, h);

    return open_plugin(spec);
}

static void
solve(FmSolve *s, void *x, FmSolveStat *stat)
{
    void *work = fm_alloc(fm_solve_work(s));

    ck_assert_ptr_nonnull(work);
    ck_assert(fm_solve(s, x, stat, work));
    fm_free(work);
}

/* n equal steps over [0, t1], one fm_solve() each; with theta in (0, 1), dense output of the last
 * step at that fraction. */
static double
error_of_n_steps(const FmPluginDesc *d, int n, double t1, double theta)
{
    Problem p = problem0;
    const double h = t1 / n;
    g_autoptr(FmPlugin) plugin = open_with_step(d, fabs(h));
    double x[ROWS * 2], out[ROWS * 2];
    FmSolveStat stat[ROWS];

    memcpy(x, p.x0, sizeof x);
    for (int i = 0; i < n; i++) {
        const double at = (i + theta) * h;
        FmSolve s = {.solver = plugin,
                     .field = {problem_f64, &p},
                     .dtype = FM_F64,
                     .n = ROWS,
                     .D = 2,
                     .t0 = i * h,
                     .t1 = (i + 1) * h};

        if (theta > 0.0 && i == n - 1) {
            s.n_out = 1;
            s.t_out = &at;
            s.out = out;
        }
        solve(&s, x, stat);
        ck_assert_int_eq(stat[0].accepted, 1);
        if (s.n_out)
            return problem_error(&p, at, out);
    }
    return problem_error(&p, t1, x);
}

static double
slope(const FmPluginDesc *d, int n, double t1, double theta)
{
    return log2(error_of_n_steps(d, n, t1, theta) / error_of_n_steps(d, 2 * n, t1, theta));
}

/* Steps over about one unit of time with which an error is far from rounding and in its limit. */
static int
steps_for(int order)
{
    return order == 1 ? 2000 : order <= 5 ? 100 : 8;
}

START_TEST(has_the_order_it_declares)
{
    const FmPluginDesc *d = nth(_i);
    const int order = ((const FmSolverOps *)d->ops)->tableau->order;
    const int n = steps_for(order);
    const double forward = slope(d, n, 1.1, 0.0);

    ck_assert_msg(fabs(forward - order) < 0.15, "%s: %g", d->name, forward);
    /* the fixed-step loop agrees with steps taken one by one */
    if (!((const FmSolverOps *)d->ops)->adaptive) {
        Problem p = problem0;
        double x[ROWS * 2];
        FmSolveStat stat[ROWS];
        g_autoptr(FmPlugin) plugin = open_with_step(d, 1.1 / n);
        FmSolve s = {
            .solver = plugin, .field = {problem_f64, &p}, .dtype = FM_F64, .n = ROWS, .D = 2, .t0 = 0.0, .t1 = 1.1};

        memcpy(x, p.x0, sizeof x);
        solve(&s, x, stat);
        ck_assert_uint_eq(stat[2].accepted, (guint)n);
        ck_assert_double_eq_tol(problem_error(&p, 1.1, x), error_of_n_steps(d, n, 1.1, 0.0), 1e-12);
    }
}
END_TEST

START_TEST(integrates_backwards)
{
    const FmPluginDesc *d = nth(_i);
    const int order = ((const FmSolverOps *)d->ops)->tableau->order;
    const int n = order == 1 ? 2000 : order <= 3 ? 100 : order <= 5 ? 30 : 7;
    Problem p = problem0;
    double x[ROWS * 2];
    FmSolveStat stat[ROWS];
    g_autoptr(FmPlugin) plugin = open_with_step(d, 0.8 / n);

    ck_assert_double_eq_tol(slope(d, n, order <= 5 ? -0.5 : -0.7, 0.0), order, 0.15);
    for (size_t r = 0; r < ROWS; r++)
        problem_exact(&p, r, 0.8, x + 2 * r);
    for (int i = n; i > 0; i--) { /* from the end to the start */
        FmSolve s = {.solver = plugin,
                     .field = {problem_f64, &p},
                     .dtype = FM_F64,
                     .n = ROWS,
                     .D = 2,
                     .t0 = 0.8 * i / n,
                     .t1 = 0.8 * (i - 1) / n};

        solve(&s, x, stat);
        ck_assert_double_eq(stat[0].t, s.t1);
    }
    ck_assert_double_lt(problem_error(&p, 0.0, x), order == 1 ? 5e-3 : order <= 3 ? 2e-3 : 1e-5);
}
END_TEST

START_TEST(dense_output_has_its_order)
{
    const FmPluginDesc *d = nth(_i);
    const FmTableau *t = ((const FmSolverOps *)d->ops)->tableau;
    /* Hermite: local error h^4; a quartic's h^5 */
    const int dense = t->dense ? t->dense_degree : 3;
    const int expected = MIN(dense, t->order);
    const int n = expected > 5 ? 8 : steps_for(expected);

    ck_assert_double_gt(slope(d, n, 1.1, 0.37), expected - 0.15);
}
END_TEST

/* Order conditions by rooted trees up to order 5, and those of the bushy trees beyond (Hairer,
 * Norsett & Wanner I, table II.2.2). */
static double
order_defect(const FmTableau *t, const double *b, int order)
{
    const int s = t->stages;
    double ac[FM_MAX_STAGES], ac2[FM_MAX_STAGES], ac3[FM_MAX_STAGES], aac[FM_MAX_STAGES];
    double sum[17] = {0}, worst = 0.0;
    static const int of[17] = {1, 2, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 5, 5, 5, 5, 5};
    static const double value[17] = {1,        1.0 / 2,  1.0 / 3,  1.0 / 6,   1.0 / 4,  1.0 / 8,
                                     1.0 / 12, 1.0 / 24, 1.0 / 5,  1.0 / 10,  1.0 / 20, 1.0 / 15,
                                     1.0 / 30, 1.0 / 40, 1.0 / 60, 1.0 / 120, 1.0 / 20};

    for (int i = 0; i < s; i++) {
        ac[i] = ac2[i] = ac3[i] = aac[i] = 0.0;
        for (int j = 0; j < i; j++) {
            const double a = t->a[i * s + j];

            ac[i] += a * t->c[j];
            ac2[i] += a * t->c[j] * t->c[j];
            ac3[i] += a * pow(t->c[j], 3.0);
            aac[i] += a * ac[j];
        }
    }
    for (int i = 0; i < s; i++) {
        double cac = 0.0, aac2 = 0.0, aaac = 0.0;
        const double c = t->c[i];

        for (int j = 0; j < i; j++) {
            cac += t->a[i * s + j] * t->c[j] * ac[j];
            aac2 += t->a[i * s + j] * ac2[j];
            aaac += t->a[i * s + j] * aac[j];
        }
        const double term[17] = {1,          c,      c * c,         ac[i],         c * c * c,    c * ac[i],
                                 ac2[i],     aac[i], c * c * c * c, c * c * ac[i], ac3[i],       c * ac2[i],
                                 c * aac[i], cac,    aac2,          aaac,          ac[i] * ac[i]};
        for (int k = 0; k < 17; k++)
            sum[k] += b[i] * term[k];
    }
    for (int k = 0; k < 17; k++)
        if (of[k] <= order)
            worst = fmax(worst, fabs(sum[k] - value[k]));
    for (int k = 6; k <= order; k++) {
        double bushy = 0.0;

        for (int i = 0; i < s; i++)
            bushy += b[i] * pow(t->c[i], k - 1);
        worst = fmax(worst, fabs(bushy - 1.0 / k));
    }
    return worst;
}

START_TEST(tableau_satisfies_order_conditions)
{
    const FmPluginDesc *d = nth(_i);
    const FmTableau *t = ((const FmSolverOps *)d->ops)->tableau;
    double hat[FM_MAX_STAGES];

    for (int i = 0; i < t->stages; i++) {
        double sum = 0.0;

        for (int j = 0; j < t->stages; j++) {
            sum += t->a[i * t->stages + j];
            ck_assert(j < i || t->a[i * t->stages + j] == 0.0);
        }
        ck_assert_double_eq_tol(sum, t->c[i], 1e-14);
        hat[i] = t->e ? t->b[i] - t->e[i] : 0.0;
        if (t->fsal)
            ck_assert_double_eq(t->b[i], t->a[(t->stages - 1) * t->stages + i]);
    }
    ck_assert_msg(order_defect(t, t->b, t->order) < 1e-14, "%s: %g", d->name, order_defect(t, t->b, t->order));
    if (t->order < 5)
        ck_assert_double_gt(order_defect(t, t->b, t->order + 1), 1e-3);
    if (t->e) {
        ck_assert_msg(order_defect(t, hat, t->order_embedded) < 1e-13, "%s: %g", d->name,
                      order_defect(t, hat, t->order_embedded));
        ck_assert_double_gt(order_defect(t, hat, t->order_embedded + 1), 1e-6);
    }
    if (t->dense)
        for (int i = 0; i < t->stages; i++) { /* theta = 1 gives b */
            double sum = 0.0;

            for (int j = 0; j < t->dense_degree; j++)
                sum += t->dense[i * t->dense_degree + j];
            ck_assert_double_eq_tol(sum, t->b[i], 1e-13);
        }
}
END_TEST

START_TEST(counts_evaluations_and_writes_all_outputs)
{
    const FmPluginDesc *d = nth(_i);
    const FmTableau *t = ((const FmSolverOps *)d->ops)->tableau;
    const gboolean adaptive = ((const FmSolverOps *)d->ops)->adaptive;
    const double times[6] = {0.0, 0.0613, 0.25, 0.251, 0.7777, 0.83};
    Problem p = problem0;
    double x[ROWS * 2], out[ROWS][6][2], exact[2];
    FmSolveStat stat[ROWS];
    g_autofree char *spec =
        adaptive ? g_strdup_printf("%s:rtol=1e-9,atol=1e-9", d->name) : g_strdup_printf("%s:step=0.004", d->name);
    g_autoptr(FmPlugin) plugin = open_plugin(spec);
    FmSolve s = {.solver = plugin,
                 .field = {problem_f64, &p},
                 .dtype = FM_F64,
                 .n = ROWS,
                 .D = 2,
                 .t0 = 0.0,
                 .t1 = 0.83,
                 .n_out = 6,
                 .t_out = times,
                 .out = out};

    memcpy(x, p.x0, sizeof x);
    solve(&s, x, stat);
    for (size_t r = 0; r < ROWS; r++) {
        const guint32 steps = stat[r].accepted + stat[r].rejected;

        ck_assert_int_eq(stat[r].status, FM_SOLVE_OK);
        ck_assert_uint_eq(stat[r].nfe, p.evaluations[r]);
        if (adaptive)
            ck_assert_uint_eq(stat[r].nfe, 2 + (t->stages - 1) * steps);
        else
            ck_assert_uint_eq(stat[r].accepted, 208);
        for (int j = 0; j < 6; j++) {
            problem_exact(&p, r, times[j], exact);
            const double tol = adaptive ? 1e-6 : pow(0.02, t->order) + 1e-8;
            ck_assert_double_eq_tol(out[r][j][0], exact[0], tol);
            ck_assert_double_eq_tol(out[r][j][1], exact[1], tol);
        }
        ck_assert_double_eq(out[r][5][0], x[2 * r]);
    }
    if (!adaptive) { /* without outputs: stages x steps, and the same numbers */
        double y[ROWS * 2];

        memcpy(y, p.x0, sizeof y);
        s.n_out = 0;
        solve(&s, y, stat);
        ck_assert_uint_eq(stat[1].nfe, t->stages * 208);
        ck_assert_mem_eq(x, y, sizeof x);
    }
}
END_TEST

START_TEST(float_agrees_with_double)
{
    const FmPluginDesc *d = nth(_i);
    Problem p = problem0;
    double x[ROWS * 2], back[ROWS * 2];
    float xf[ROWS * 2];
    FmSolveStat stat[ROWS];
    g_autoptr(FmPlugin) plugin = open_plugin(d->name);
    FmSolve s = {
        .solver = plugin, .field = {problem_f64, &p}, .dtype = FM_F64, .n = ROWS, .D = 2, .t0 = 0.0, .t1 = 1.0};

    memcpy(x, p.x0, sizeof x);
    fm_convert(FM_F64, x, FM_F32, xf, ROWS * 2);
    solve(&s, x, stat);
    s.dtype = FM_F32;
    s.field.eval = problem_f32;
    solve(&s, xf, stat);
    fm_convert(FM_F32, xf, FM_F64, back, ROWS * 2);
    for (int i = 0; i < ROWS * 2; i++)
        ck_assert_double_eq_tol(back[i], x[i], 2e-5);
}
END_TEST

START_TEST(nothing_to_do)
{
    const FmPluginDesc *d = nth(_i);
    Problem p = problem0;
    const double at = 0.4;
    double x[ROWS * 2], out[ROWS * 2];
    FmSolveStat stat[ROWS];
    g_autoptr(FmPlugin) plugin = open_plugin(d->name);
    FmSolve s = {.solver = plugin,
                 .field = {problem_f64, &p},
                 .dtype = FM_F64,
                 .n = ROWS,
                 .D = 2,
                 .t0 = 0.4,
                 .t1 = 0.4,
                 .n_out = 1,
                 .t_out = &at,
                 .out = out};

    memcpy(x, p.x0, sizeof x);
    solve(&s, x, stat);
    ck_assert_mem_eq(x, p.x0, sizeof x);
    ck_assert_mem_eq(out, p.x0, sizeof x);
    ck_assert_uint_eq(stat[0].nfe, 0);
    ck_assert_int_eq(stat[0].status, FM_SOLVE_OK);
    s.n = 0;
    solve(&s, x, stat);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("solver conformance");
    TCase *t = tcase_create("registry");
    int n;

    fm_registry_load_all();
    n = (int)fm_registry_count(FM_KIND_SOLVER);
    if (n < 9) {
        g_printerr("found %d solvers, expected at least 9\n", n);
        return 1;
    }
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, has_the_order_it_declares, 0, n);
    tcase_add_loop_test(t, integrates_backwards, 0, n);
    tcase_add_loop_test(t, dense_output_has_its_order, 0, n);
    tcase_add_loop_test(t, tableau_satisfies_order_conditions, 0, n);
    tcase_add_loop_test(t, counts_evaluations_and_writes_all_outputs, 0, n);
    tcase_add_loop_test(t, float_agrees_with_double, 0, n);
    tcase_add_loop_test(t, nothing_to_do, 0, n);
    suite_add_tcase(suite, t);
    return run_suite(suite, CK_FORK);
}
