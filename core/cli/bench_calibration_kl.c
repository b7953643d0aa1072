/* bench_calibration_kl.c: do the error bars of `kl P Q` hold? Every figure over many seeds, on two normal flows, where
 * all is known, and on data of many modes, where the bars are judged around the figure's own mean. */
#include "cli/bench.h"
#include "flow/kl.h"

#include <math.h>

typedef struct Pair {
    const char *p, *q, *text;
    double sd_p, mean_p; /* of P where both are normal, Q = N(0, 1) in as many columns; else 0 */
    size_t D, n, times;
} Pair;

static const Pair pairs[] = {
    {"oracle:dataset={gaussian:dim=1,mean=0.3,sd=1.2}", "oracle:dataset={gaussian:dim=1}", "N(0.30, 1.2^2)", 1.2, 0.3,
     1, 500, 11},
    {"oracle:dataset={gaussian:dim=8,mean=0.3,sd=0.9}", "oracle:dataset={gaussian:dim=8}", "N(0.30, 0.9^2)", 0.9, 0.3,
     8, 500, 11},
    {"oracle:dataset=8gaussians", "oracle:dataset=8gaussians,scale=1.1", "8gaussians", 0, 0, 2, 200, 7},
    {"oracle:dataset={mixture:k=8,radius=2}", "oracle:dataset={mixture:k=8,radius=2.2,sd=0.6}", "mixture", 0, 0, 2, 500,
     11},
    {"oracle:dataset={mixture:k=8,radius=2,dim=32}", "oracle:dataset={mixture:k=8,radius=2.2,sd=0.6,dim=32}", "mixture",
     0, 0, 32, 200, 11},
};

/* ---- the truth ---- */

/* Jensen-Shannon, or half the integral of |p - q|, of N(mean, sd^2) and N(0, 1): trapezoidal rule, step 1e-3. */
static double
of_densities(double mean, double sd, gboolean tv)
{
    double sum = 0.0;

    for (int i = -12000; i <= 12000; i++) {
        const double x = i * 1e-3, z = (x - mean) / sd, p = exp(-0.5 * z * z) / (sd * sqrt(2.0 * G_PI)),
                     q = exp(-0.5 * x * x) / sqrt(2.0 * G_PI);

        sum += 0.5e-3 * (tv ? fabs(p - q) : p * log(2.0 * p / (p + q)) + q * log(2.0 * q / (p + q)));
    }
    return sum;
}

enum {
    RATIO,
    LOW,
    BOTH,
    EVOLUTION,
    BOUND,
    SHARP,
    EPS2,
    GAP2,
    ALIGNMENT,
    REVERSE,
    JS,
    TV,
    ENTROPY,
    ENTROPY_SCORE,
    ENTROPY_DIV,
    FIGURES
};

static const char *const names[FIGURES] = {"kl: kl-ratio",     "kl: kl-low-variance", "kl: kl-both",
                                           "kl: kl-evolution", "kl: bound",           "kl: bound-sharp",
                                           "kl: eps2",         "kl: score-gap2",      "kl: alignment",
                                           "kl: reverse-kl",   "kl: jensen-shannon",  "kl: tv",
                                           "kl: entropy",      "kl: entropy-score",   "kl: entropy-div"};

static void
true_figures(const Pair *c, const FmKl *kl, double truth[FIGURES])
{
    const double D = (double)c->D, m = c->mean_p, s = c->sd_p, v = s * s;

    for (int f = 0; f < FIGURES; f++)
        truth[f] = NAN;
    if (kl->exact == NULL || s == 0)
        return;
    truth[RATIO] = truth[LOW] = truth[BOTH] = truth[EVOLUTION] = kl->exact[kl->T - 1];
    truth[BOUND] = kl->exact_bound;
    truth[SHARP] = kl->exact_sharp;
    truth[EPS2] = kl->exact_eps2;
    truth[GAP2] = kl->exact_gap2;
    truth[REVERSE] = D * (0.5 * ((1.0 + m * m) / v - 1.0) + log(s));
    truth[ENTROPY] = truth[ENTROPY_SCORE] = truth[ENTROPY_DIV] = 0.5 * D * log(2.0 * G_PI * G_E * v);
    if (c->D == 1) {
        truth[JS] = of_densities(m, s, FALSE);
        truth[TV] = of_densities(m, s, TRUE);
    }
}

/* ---- many seeds ---- */

static void
figures(const FmKl *kl, FmNumber out[FIGURES])
{
    static const struct {
        int figure;
        FmKlCurve curve;
    } curves[] = {{RATIO, FM_KL_PLAIN},
                  {LOW, FM_KL_LOW},
                  {EVOLUTION, FM_KL_EVOLUTION},
                  {ENTROPY, FM_KL_ENTROPY},
                  {ENTROPY_SCORE, FM_KL_ENTROPY_SCORE},
                  {ENTROPY_DIV, FM_KL_ENTROPY_DIV}};
    const size_t end = kl->T - 1;

    for (size_t k = 0; k < G_N_ELEMENTS(curves); k++)
        out[curves[k].figure] = (FmNumber){kl->value[curves[k].curve][end], kl->se[curves[k].curve][end]};
    if (kl->low_why != NULL) /* it is not printed */
        out[LOW] = (FmNumber){NAN, NAN};
    out[BOTH] = kl->both;
    out[BOUND] = kl->bound;
    out[SHARP] = kl->sharp;
    out[EPS2] = kl->eps2;
    out[GAP2] = kl->gap2;
    out[ALIGNMENT] = (FmNumber){kl->alignment, kl->alignment_se};
    out[REVERSE] = kl->reverse;
    out[JS] = kl->jensen_shannon;
    out[TV] = kl->tv;
}

static gboolean
run_pair(const Pair *c, size_t seeds, int threads, const CalibrationOut *out, GError **error)
{
    char *const text[2] = {(char *)c->p, (char *)c->q};
    Side side[2] = {{NULL, NULL}, {NULL, NULL}};
    g_autofree double *value = g_new0(double, FIGURES * 2 * seeds);
    double truth[FIGURES];
    size_t got[FIGURES] = {0};
    gboolean ok = sides_open(side, text, 2, 0, threads, "dopri8:rtol=1e-9,atol=1e-9", error);

    for (size_t seed = 0; ok && seed < seeds; seed++) {
        const FmKlOptions o = {.n = c->n, .times = c->times, .seed = seed, .threads = threads, .stop = NAN};
        g_autoptr(FmKl) kl = fm_kl_new(side[0].flow, side[1].flow, &o, error);
        FmNumber number[FIGURES];

        if (!(ok = kl != NULL))
            break;
        true_figures(c, kl, truth);
        figures(kl, number);
        for (int f = 0; f < FIGURES; f++)
            if (isfinite(number[f].value) && number[f].se > 0) {
                value[2 * f * seeds + got[f]] = number[f].value;
                value[(2 * f + 1) * seeds + got[f]++] = number[f].se;
            }
    }
    for (int f = 0; ok && f < FIGURES; f++)
        if (got[f] > 1) /* closed forms have no bar */
            calibration_row(out, names[f], c->D, c->n, c->text, got[f], truth[f], value + 2 * f * seeds,
                            value + (2 * f + 1) * seeds);
    sides_clear(side);
    return ok;
}

gboolean
bench_calibration_kl(size_t seeds, int threads, const CalibrationOut *out, GError **error)
{
    for (size_t i = 0; i < G_N_ELEMENTS(pairs); i++)
        if (!run_pair(&pairs[i], seeds, threads, out, error))
            return FALSE;
    return TRUE;
}
