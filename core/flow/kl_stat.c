/* kl_stat.c: curves, bound, certificate and verdict from what is known along the trajectories.
 * Every standard error is that of a mean over independent trajectories; those of products and square
 * roots are of their linearisation (delta method), so that paired differences can be formed. */
#include "flow/kl_private.h"
#include "flow/quadrature.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const fm_verdict_names[] = {"holds", "violated", "not resolved", NULL};

/* ---- pieces ---- */

typedef struct Stat {
    FmKl *kl;
    size_t n, T;
    double *ratio, *evolution; /* (T, n) of routes (a) and (b), sample by sample */
    double *cumulated;         /* (T, n) */
    double *v;                 /* (n) */
    double *last;              /* (n) influence of each trajectory on kl->kl, */
    double last_se;            /* and what q's own points add to its standard error */
} Stat;

static void
stat_set(Stat *s, FmKlCurve curve, size_t j, const double *v)
{
    const FmNumber m = fm__mean(v, s->n);

    s->kl->value[curve][j] = m.value;
    s->kl->se[curve][j] = m.se;
}

static double
log_ratio(const FmKl *kl, size_t at)
{
    return kl->field[FM_KL_LOG_P][at] - kl->field[FM_KL_LOG_Q][at];
}

static int
compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Hill's estimate of the tail index of the weights q/p at the end, from their largest tenth, plus twice
 * its standard error: moments of order below 1 / index are finite. Below 1/4 the fourth is, and a standard error can be
 * trusted (Vehtari et al. 2024, arXiv:1507.02646, use the like of it for importance weights). */
static double
stat_tail(Stat *s)
{
    const size_t m = MAX(s->n / 10, 5);
    double sum = 0;

    if (s->n <= m)
        return INFINITY;
    for (size_t i = 0; i < s->n; i++)
        s->v[i] = -log_ratio(s->kl, (s->T - 1) * s->n + i);
    qsort(s->v, s->n, sizeof *s->v, compare_doubles);
    for (size_t i = s->n - m; i < s->n; i++)
        sum += s->v[i] - s->v[s->n - m - 1];
    return sum / (double)m * (1.0 + 2.0 / sqrt((double)m));
}

/* p/(p + q) times l + exp(-l) - 1, at l = log p/q: from 0 at l = 0 to 1 at -infinity, like l above. */
static double
term_excess(double l)
{
    if (l == -INFINITY)
        return 1.0;
    return l >= 0 ? (l + expm1(-l)) / (1.0 + exp(-l)) : (l * exp(l) - expm1(l)) / (1.0 + exp(l));
}

/* What of E_p[log p/q + q/p - 1] lies where q's own points say that p's trajectories are not expected to have a
 * point: the largest q/p, as long as the p-mass below them, that of 1 / (q/p), makes less than one trajectory. */
static double
stat_unreached(Stat *s)
{
    FmKl *kl = s->kl;
    const size_t m = kl->own_n;
    double expected = 0, sum = 0;
    size_t i = 0;

    if (m == 0)
        return INFINITY;
    g_autofree double *l = g_memdup2(kl->own_ratio, m * sizeof *l);
    qsort(l, m, sizeof *l, compare_doubles);
    for (; i < m && l[i] < 0; i++) {
        expected += exp(l[i]) * (double)s->n / (double)m;
        if (expected > 1.0)
            break;
        sum += l[i] == -INFINITY ? 1.0 : l[i] * exp(l[i]) - expm1(l[i]);
    }
    kl->unreached = (double)i / (double)m;
    return sum / (double)m;
}

#define TAIL_MAX 0.25
#define UNREACHED_SE 0.5

/* The low-variance form is log p/q + q/p - 1 >= 0. Its bar holds when the weights q/p are not so heavy-tailed that it
 * could not be trusted, and what is missing of it where no trajectory of p goes is small against it; it is used along p
 * when it is the smaller at the end, too. The mean of the weights does not show what is missing: it is known to a
 * standard error only, which is as large as that of the plain mean. */
static void
stat_ratio(Stat *s)
{
    FmKl *kl = s->kl;
    const size_t end = s->T - 1;

    for (size_t j = 0; j < s->T; j++) {
        for (size_t i = 0; i < s->n; i++)
            s->v[i] = log_ratio(kl, j * s->n + i);
        stat_set(s, FM_KL_PLAIN, j, s->v);
        for (size_t i = 0; i < s->n; i++)
            s->v[i] += expm1(-s->v[i]);
        stat_set(s, FM_KL_LOW, j, s->v);
    }
    for (size_t i = 0; i < s->n; i++)
        s->v[i] = exp(-log_ratio(kl, end * s->n + i));
    kl->weight = fm__mean(s->v, s->n);
    kl->tail = stat_tail(s);
    const double unreached = stat_unreached(s);
    kl->low_why = kl->still != FM_KL_MOVING                           ? "the other density stands still"
                  : unreached > UNREACHED_SE * kl->se[FM_KL_LOW][end] ? "q has mass where no trajectory of p goes"
                  : !(kl->tail < TAIL_MAX)                            ? "the weights q/p have heavy tails"
                                                                      : NULL;
    kl->low = kl->low_why == NULL && kl->se[FM_KL_LOW][end] < kl->se[FM_KL_PLAIN][end];
    for (size_t j = 0; j < s->T; j++) {
        double *a = s->ratio + j * s->n;

        for (size_t i = 0; i < s->n; i++) {
            a[i] = log_ratio(kl, j * s->n + i);
            if (kl->low)
                a[i] += expm1(-a[i]);
        }
        stat_set(s, FM_KL_RATIO, j, a);
    }
}

static void
stat_cumulate(Stat *s, FmKlField field)
{
    fm__cumulate_all(&s->kl->grid, s->n, s->kl->field[field], s->cumulated);
}

static void
stat_evolution(Stat *s)
{
    FmKl *kl = s->kl;
    double z = 0, halved;

    stat_cumulate(s, FM_KL_PRODUCT);
    for (size_t j = 0; j < s->T; j++) {
        double *b = s->evolution + j * s->n;

        for (size_t i = 0; i < s->n; i++)
            b[i] = s->ratio[i] + s->cumulated[j * s->n + i];
        stat_set(s, FM_KL_EVOLUTION, j, b);
        stat_set(s, FM_KL_INTEGRAND, j, kl->field[FM_KL_PRODUCT] + j * s->n);
        for (size_t i = 0; i < s->n; i++)
            s->v[i] = s->ratio[j * s->n + i] - b[i];
        stat_set(s, FM_KL_DIFFERENCE, j, s->v);
    }
    fm__integral(&kl->grid, kl->value[FM_KL_INTEGRAND], &halved);
    kl->quadrature = halved;
    for (size_t j = 1; j < s->T; j++) { /* rounding and quadrature are no random error */
        const double se = kl->se[FM_KL_DIFFERENCE][j], error = hypot(1e-12, halved);

        z = MAX(z, fabs(kl->value[FM_KL_DIFFERENCE][j]) / hypot(se, error));
    }
    kl->z_max = z;
}

/* log p_t/q_t - log p_0/q_0 - int <V - W, s_p - s_q> + int [div(V - W) + <V - W, s_p>]: 0 */
static void
stat_residual(Stat *s)
{
    FmKl *kl = s->kl;
    static const double level[4] = {0.5, 0.9, 0.99, 1.0};
    const FmGrid other = fm__grid_coarse(&kl->grid);
    double worst = 0, coarse = 0;

    for (size_t i = 0; i < s->T * s->n; i++)
        s->evolution[i] = kl->field[FM_KL_PRODUCT][i] - kl->field[FM_KL_MARTINGALE][i];
    /* the coarse one first: it shares the space */
    fm__cumulate_all(&other, s->n, s->evolution, s->cumulated);
    for (size_t i = 0; i < s->n; i++)
        coarse = MAX(coarse, fabs(log_ratio(kl, (s->T - 1) * s->n + i) - log_ratio(kl, i) -
                                  s->cumulated[(other.T - 1) * s->n + i]));
    kl->residual_coarse = coarse;
    fm__cumulate_all(&kl->grid, s->n, s->evolution, s->cumulated);
    for (size_t j = 0; j < s->T; j++)
        for (size_t i = 0; i < s->n; i++) {
            const size_t at = j * s->n + i;
            const double r = fabs(log_ratio(kl, at) - log_ratio(kl, i) - s->cumulated[at]);

            worst = MAX(worst, r);
            s->v[i] = r;
        }
    qsort(s->v, s->n, sizeof *s->v, compare_doubles);
    for (int k = 0; k < 4; k++)
        kl->residual[k] = s->v[(size_t)floor(level[k] * (double)(s->n - 1))];
    kl->residual_max = worst;
}

static void
stat_entropy(Stat *s)
{
    static const struct {
        FmKlField field;
        FmKlCurve curve, gap;
        double sign;
    } routes[] = {{FM_KL_V_SCORE, FM_KL_ENTROPY_SCORE, FM_KL_ENTROPY_SCORE_GAP, -1.0},
                  {FM_KL_DIV, FM_KL_ENTROPY_DIV, FM_KL_ENTROPY_DIV_GAP, 1.0}};
    const double *log_p = s->kl->field[FM_KL_LOG_P];

    for (size_t j = 0; j < s->T; j++) {
        for (size_t i = 0; i < s->n; i++)
            s->v[i] = -log_p[j * s->n + i];
        stat_set(s, FM_KL_ENTROPY, j, s->v);
    }
    for (size_t k = 0; k < G_N_ELEMENTS(routes); k++) {
        stat_cumulate(s, routes[k].field);
        for (size_t j = 0; j < s->T; j++) {
            for (size_t i = 0; i < s->n; i++)
                s->v[i] = -log_p[i] + routes[k].sign * s->cumulated[j * s->n + i];
            stat_set(s, routes[k].curve, j, s->v);
            for (size_t i = 0; i < s->n; i++)
                s->v[i] = -log_p[j * s->n + i] - s->v[i];
            stat_set(s, routes[k].gap, j, s->v);
        }
    }
}

/* ---- the bound ---- */

/* Influence of each trajectory on int sqrt(E_t S_t) dt, and on int E_t dt and int S_t dt: (n) each. */
static void
stat_bound(Stat *s)
{
    FmKl *kl = s->kl;
    const double *E = kl->value[FM_KL_EPS2_T], *S = kl->value[FM_KL_GAP2_T];
    g_autofree double *root = g_new(double, s->T), *weight = g_new(double, s->T), *sharp = g_new(double, s->n),
                      *e = g_new(double, s->n), *g = g_new(double, s->n), *bound = g_new(double, s->n);

    for (size_t j = 0; j < s->T; j++)
        root[j] = sqrt(E[j] * S[j]);
    fm__integral_weights(&kl->grid, weight);
    for (size_t i = 0; i < s->n; i++) {
        sharp[i] = s->ratio[i];
        e[i] = g[i] = 0.0;
    }
    for (size_t j = 0; j < s->T; j++) {
        const double up = E[j] > 0 ? 0.5 * sqrt(S[j] / E[j]) : 0.0, down = S[j] > 0 ? 0.5 * sqrt(E[j] / S[j]) : 0.0;
        const double *eps2 = kl->field[FM_KL_EPS2] + j * s->n, *gap2 = kl->field[FM_KL_GAP2] + j * s->n;

        for (size_t i = 0; i < s->n; i++) {
            sharp[i] += weight[j] * (up * eps2[i] + down * gap2[i]);
            e[i] += weight[j] * eps2[i];
            g[i] += weight[j] * gap2[i];
        }
    }
    kl->eps2 = fm__mean(e, s->n);
    kl->gap2 = fm__mean(g, s->n);
    const double eps = sqrt(kl->eps2.value), gap = sqrt(kl->gap2.value);
    for (size_t i = 0; i < s->n; i++)
        bound[i] = s->ratio[i] + 0.5 * ((eps > 0 ? gap / eps * e[i] : 0.0) + (gap > 0 ? eps / gap * g[i] : 0.0));
    kl->sharp = fm__mean(sharp, s->n);
    kl->sharp.value = kl->value[FM_KL_RATIO][0] + fm__integral(&kl->grid, root, NULL);
    kl->bound = fm__mean(bound, s->n);
    kl->bound.value = kl->value[FM_KL_RATIO][0] + eps * gap;
    if (kl->exact == NULL) {
        kl->alignment = eps * gap > 0 ? (kl->kl.value - kl->value[FM_KL_RATIO][0]) / (eps * gap) : NAN;
        for (size_t i = 0; i < s->n; i++) /* e is free */
            e[i] = (s->last[i] - s->ratio[i] - kl->alignment * (bound[i] - s->ratio[i])) / (eps * gap);
        kl->alignment_se = hypot(fm__mean(e, s->n).se, s->last_se / (eps * gap));
    }
    for (size_t i = 0; i < s->n; i++) {
        sharp[i] -= s->last[i];
        bound[i] -= s->last[i];
    }
    const double sharp_se = hypot(fm__mean(sharp, s->n).se, s->last_se);
    kl->slack_se = hypot(fm__mean(bound, s->n).se, s->last_se);
    if (kl->still == FM_KL_MOVING && kl->gap2.value == 0.0) /* P = Q: nothing grows */
        kl->infinite = FALSE;
    fm__kl_judge(kl, sharp_se, kl->slack_se);
    if (kl->still == FM_KL_MOVING && kl->eps2.value == 0.0)
        kl->verdict = kl->verdict_sharp = FM_VERDICT_HOLDS; /* KL and bound are KL_0, the slack is the solver's noise */
}

static FmVerdict
judge(double bound, double value, double se)
{
    const double slack = bound - value, rounding = 1e-9 * (fabs(bound) + fabs(value)) + 1e-12;

    if (fabs(slack) < 2.0 * se)
        return FM_VERDICT_NOT_RESOLVED;
    return slack >= -rounding ? FM_VERDICT_HOLDS : FM_VERDICT_VIOLATED;
}

void
fm__kl_judge(FmKl *kl, double sharp_se, double bound_se)
{
    const gboolean exact = kl->exact != NULL;

    kl->slack_se = exact ? 0.0 : bound_se;
    kl->verdict = judge(exact ? kl->exact_bound : kl->bound.value, kl->kl.value, kl->slack_se);
    kl->verdict_sharp = judge(exact ? kl->exact_sharp : kl->sharp.value, kl->kl.value, exact ? 0.0 : sharp_se);
}

/* ---- divergences at the last time from the points of both sides ----
 * int f dx = 1/2 E_p[f / m] + 1/2 E_q[f / m], m = (p + q) / 2 (the balance heuristic: Veach & Guibas 1995,
 * doi:10.1145/218380.218498). With f made positive by q - p of integral 0, f / m grows no faster than |log p/q| where
 * importance weights q/p on p's points alone have tails, and leaves out nothing that either side has points in. */

static double
term_kl(double l)
{
    return 2.0 * term_excess(l);
}

static double
term_reverse(double l)
{
    return 2.0 * term_excess(-l);
}

static double
term_jensen_shannon(double l)
{
    const double a = fabs(l), e = exp(-a);

    return G_LN2 - log1p(e) - (e > 0 ? a * e / (1.0 + e) : 0.0);
}

static double
term_tv(double l)
{
    return tanh(0.5 * fabs(l));
}

static FmNumber
stat_both(Stat *s, double (*term)(double l), double *own_se)
{
    const FmKl *kl = s->kl;
    const size_t end = (s->T - 1) * s->n;
    g_autofree double *own = g_new(double, MAX(kl->own_n, 1));

    if (kl->own_n < 2)
        return (FmNumber){NAN, NAN};
    for (size_t i = 0; i < s->n; i++)
        s->v[i] = term(log_ratio(kl, end + i));
    for (size_t i = 0; i < kl->own_n; i++)
        own[i] = term(kl->own_ratio[i]);
    const FmNumber p = fm__mean(s->v, s->n), q = fm__mean(own, kl->own_n);
    if (own_se != NULL)
        *own_se = 0.5 * q.se;
    return (FmNumber){0.5 * (p.value + q.value), 0.5 * hypot(p.se, q.se)};
}

static gboolean
own_has_zero(const FmKl *kl)
{
    for (size_t i = 0; i < kl->own_n; i++)
        if (kl->own_ratio[i] == -INFINITY)
            return TRUE;
    return FALSE;
}

static void
stat_relatives(Stat *s)
{
    FmKl *kl = s->kl;
    const size_t end = (s->T - 1) * s->n;
    double sum = 0, squares = 0, own_se = 0;

    for (size_t i = 0; i < s->n; i++) {
        const double w = exp(-log_ratio(kl, end + i));

        sum += w;
        squares += w * w;
    }
    kl->ess = squares > 0 ? sum * sum / squares : 0.0;
    kl->both = stat_both(s, term_kl, &own_se);
    kl->reverse = own_has_zero(kl) ? (FmNumber){INFINITY, NAN} : stat_both(s, term_reverse, NULL);
    kl->jensen_shannon = stat_both(s, term_jensen_shannon, NULL);
    kl->tv = stat_both(s, term_tv, NULL);
    if (kl->exact != NULL)
        return;
    kl->kl_both = kl->both.se < kl->se[FM_KL_PLAIN][s->T - 1];
    kl->kl = kl->kl_both ? kl->both : (FmNumber){kl->value[FM_KL_PLAIN][s->T - 1], kl->se[FM_KL_PLAIN][s->T - 1]};
    s->last_se = kl->kl_both ? own_se : 0.0;
    for (size_t i = 0; i < s->n; i++)
        s->last[i] = kl->kl_both ? term_excess(log_ratio(kl, end + i)) : log_ratio(kl, end + i);
}

void
fm__kl_statistics(FmKl *kl)
{
    const size_t total = kl->n * kl->T;
    g_autofree double *ratio = g_new(double, total), *evolution = g_new(double, total),
                      *cumulated = g_new(double, total), *v = g_new(double, kl->n), *last = g_new0(double, kl->n);
    Stat s = {.kl = kl,
              .n = kl->n,
              .T = kl->T,
              .ratio = ratio,
              .evolution = evolution,
              .cumulated = cumulated,
              .v = v,
              .last = last};

    for (int c = 0; c < FM_KL_N_CURVES; c++) {
        kl->value[c] = g_new0(double, kl->T);
        kl->se[c] = g_new0(double, kl->T);
    }
    stat_ratio(&s);
    stat_evolution(&s);
    for (size_t j = 0; j < s.T; j++) {
        stat_set(&s, FM_KL_EPS2_T, j, kl->field[FM_KL_EPS2] + j * s.n);
        stat_set(&s, FM_KL_GAP2_T, j, kl->field[FM_KL_GAP2] + j * s.n);
    }
    stat_entropy(&s);
    stat_relatives(&s);
    stat_bound(&s);
    stat_residual(&s);
}

void
fm_kl_residual_words(GString *s, const FmKl *kl)
{
    if (kl->n == 0 || !(kl->residual_max > 1e-6))
        return;
    if (kl->residual_coarse > 8.0 * kl->residual[3])
        g_string_append_printf(s,
                               "; the residual is the time grid's, %.1g on every other time: more --times "
                               "lower it",
                               kl->residual_coarse);
    else
        g_string_append(s, "; the residual is above 1e-6: no certificate");
}

char *
fm_kl_words(const FmKl *kl)
{
    GString *s = g_string_new(NULL);
    const double end = kl->t[kl->T - 1];

    if (end == 1.0)
        g_string_append_printf(s, "KL(p1||q1) = %.5g", kl->kl.value);
    else
        g_string_append_printf(s, "KL(p_t||q_t) at t = %.6g is %.5g", end, kl->kl.value);
    if (kl->kl.se > 0)
        g_string_append_printf(s, " +- %.2g", kl->kl.se);
    g_string_append(s, " nats");
    if (kl->exact != NULL)
        g_string_append(s, kl->n > 0 ? " (closed form; " : " (closed form");
    else
        g_string_append(s, " (");
    if (kl->n > 0) {
        const double d = kl->value[FM_KL_DIFFERENCE][kl->T - 1], se = kl->se[FM_KL_DIFFERENCE][kl->T - 1];

        g_string_append_printf(s, "routes differ by %.2g paired se; pathwise residual %.1g",
                               fabs(d) / hypot(se, hypot(1e-12, kl->quadrature)), kl->residual_max);
    }
    g_string_append_printf(s, "); bound %.5g; %s", kl->exact != NULL ? kl->exact_bound : kl->bound.value,
                           fm_verdict_names[kl->verdict]);
    fm_kl_residual_words(s, kl);
    if (kl->infinite)
        g_string_append_printf(s, "; at t = 1 the bound is %s; KL is %s", kl->bound_at_1, kl->kl_at_1);
    return g_string_free(s, FALSE);
}
