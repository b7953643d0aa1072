/* divergence.c: what every divergence estimator may rely on is checked here, once. */
#include <fmcore/divergence.h>

#include "flow/mean.h"

#include <math.h>
#include <string.h>

static const FmDivergenceOps *
divergence_ops(FmPlugin *divergence)
{
    g_return_val_if_fail(fm_plugin_kind(divergence) == FM_KIND_DIVERGENCE, NULL);
    return fm_plugin_ops(divergence);
}

/* Every value of `x` (n * D) must be finite; `set` is "first" or "second". `most` grows to the largest magnitude. */
static gboolean
divergence_check_finite(const char *name, const FmSamples *s, const char *set, double *most, GError **error)
{
    enum { LANES = 16, BLOCK = 4096 };

    for (size_t i = 0; i < s->n * s->D; i++) {
        if (i % BLOCK == 0 && i + BLOCK <= s->n * s->D) { /* x - x is 0, or NaN: no branch a value */
            double sum[LANES] = {0}, top[LANES] = {0}, all = 0.0;

            for (size_t j = i; j < i + BLOCK; j += LANES)
                for (size_t l = 0; l < LANES; l++) {
                    const double x = s->x[j + l], size = fabs(x);

                    sum[l] += x - x;
                    top[l] = size > top[l] ? size : top[l];
                }
            for (size_t l = 0; l < LANES; l++)
                all += sum[l];
            if (all == 0.0) {
                for (size_t l = 0; l < LANES; l++)
                    *most = MAX(*most, top[l]);
                i += BLOCK - 1;
                continue;
            }
        }
        if (!isfinite(s->x[i])) {
            g_set_error(error, FM_ERROR, FM_ERROR_DATA,
                        "divergence '%s': row %zu, column %zu of the %s sample is %g, expected "
                        "finite values",
                        name, i / s->D, i % s->D, set, s->x[i]);
            return FALSE;
        }
        *most = MAX(*most, fabs(s->x[i]));
    }
    return TRUE;
}

/* Fourth powers of distances are numbers, neither infinite nor 0 for all. */
#define LARGEST 1e70
#define SMALLEST 1e-70

static gboolean
divergence_check_scale(const char *name, double most, GError **error)
{
    if (most <= LARGEST && (most >= SMALLEST || most == 0.0))
        return TRUE;
    g_set_error(
        error, FM_ERROR, FM_ERROR_DATA,
        "divergence '%s': the largest value of both samples is %g, expected 0 or between %g and %g, so that squares "
        "neither overflow nor vanish; scale both samples",
        name, most, SMALLEST, LARGEST);
    return FALSE;
}

/* The same rows twice are no independent samples: estimators of them are off where each row meets itself. */
static gboolean
divergence_same_rows(const FmSamples *p, const FmSamples *q)
{
    return p->n == q->n && memcmp(p->x, q->x, p->n * p->D * sizeof *p->x) == 0;
}

/* Densities at the points of `s`; -infinity (density 0) is a value, NaN and +infinity are not. */
static gboolean
divergence_check_density(const char *name, const FmSamples *s, const char *set, GError **error)
{
    if (s->log_p == NULL || s->log_q == NULL) {
        g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                    "divergence '%s' needs the log-densities of both distributions at the points "
                    "of the %s sample; choose one that works on samples alone",
                    name, set);
        return FALSE;
    }
    for (size_t i = 0; i < s->n; i++)
        if (isnan(s->log_p[i]) || isnan(s->log_q[i]) || s->log_p[i] == INFINITY || s->log_q[i] == INFINITY) {
            g_set_error(error, FM_ERROR, FM_ERROR_DATA,
                        "divergence '%s': log-densities at row %zu of the %s sample are %g and "
                        "%g, expected numbers or -inf",
                        name, i, set, s->log_p[i], s->log_q[i]);
            return FALSE;
        }
    return TRUE;
}

gboolean
fm_divergence_estimate(FmPlugin *divergence, const FmSamples *p, const FmSamples *q, FmKey key, int threads,
                       FmEstimate *out, GError **error)
{
    const FmDivergenceOps *ops = divergence_ops(divergence);
    const char *name = fm_plugin_name(divergence);
    double most = 0.0;
    size_t n_min;

    g_return_val_if_fail(ops != NULL, FALSE);
    g_return_val_if_fail(threads >= 1, FALSE);
    n_min = ops->n_min ? ops->n_min : 2;
    memset(out, 0, sizeof *out);
    out->value = out->se = NAN;
    out->unit = "";
    if (p->D != q->D || p->D == 0) {
        g_set_error(error, FM_ERROR, FM_ERROR_SHAPE,
                    "divergence '%s': the samples have %zu and %zu columns, expected the same "
                    "number, at least 1",
                    name, p->D, q->D);
        return FALSE;
    }
    if (p->n < n_min || q->n < n_min) {
        g_set_error(error, FM_ERROR, FM_ERROR_DATA,
                    "divergence '%s': the samples have %zu and %zu rows, expected at least %zu", name, p->n, q->n,
                    n_min);
        return FALSE;
    }
    if (!divergence_check_finite(name, p, "first", &most, error) ||
        !divergence_check_finite(name, q, "second", &most, error))
        return FALSE;
    if (!ops->needs_density && !divergence_check_scale(name, most, error))
        return FALSE;
    if (ops->needs_density &&
        (!divergence_check_density(name, p, "first", error) || !divergence_check_density(name, q, "second", error)))
        return FALSE;
    if (!ops->estimate(fm_plugin_self(divergence), p, q, key, threads, out, error))
        return FALSE;
    if (!ops->needs_density && divergence_same_rows(p, q))
        fm_estimate_text(out, "samples", "the same rows twice, not independent: the bar does not hold");
    return TRUE;
}

double
fm_digamma(double x)
{
    double below = 0.0;

    for (; x < 10.0; x += 1.0)
        below -= 1.0 / x;
    const double s = 1.0 / (x * x);
    return below + log(x) - 0.5 / x -
           s * (1.0 / 12.0 - s * (1.0 / 120.0 - s * (1.0 / 252.0 - s * (1.0 / 240.0 - s / 132.0))));
}

static FmDetail *
estimate_append(FmEstimate *e, const char *name)
{
    FmDetail *d;

    if (e->n_details == FM_MAX_DETAILS)
        return NULL;
    d = &e->detail[e->n_details++];
    *d = (FmDetail){.number = NAN};
    g_strlcpy(d->name, name, sizeof d->name);
    return d;
}

void
fm_estimate_number(FmEstimate *e, const char *name, double number)
{
    FmDetail *d = estimate_append(e, name);

    if (d != NULL)
        d->number = number;
}

void
fm_estimate_text(FmEstimate *e, const char *name, const char *text)
{
    FmDetail *d = estimate_append(e, name);

    if (d != NULL)
        g_strlcpy(d->text, text, sizeof d->text);
}

double
fm_estimate_se_transport(double variance, double equal, double share)
{
    return sqrt(MAX(variance - share * equal, 0.75 * share * equal));
}

void
fm_estimate_root(FmEstimate *e, double square, double se, double square_equal)
{
    e->value = sqrt(square);
    fm_estimate_number(e, "value when equal", sqrt(square_equal));
    if (square > square_equal / 16.0)
        e->se = se / (2.0 * e->value);
    else
        fm_estimate_text(e, "error bar", "none: the samples are nearer than independent ones");
}

/* Mean of term(own, other) over one sample and the variance of that mean; FALSE with a reason when
 * a density is 0 at a row of its own sample. */
static gboolean
mean_of_terms(const FmSamples *s, const double *own, const double *other, double (*term)(double own, double other),
              double *mean, double *var, FmEstimate *out)
{
    double sum = 0.0;

    *mean = 0.0;
    for (size_t i = 0; i < s->n; i++) {
        const double before = *mean, v = term(own[i], other[i]);

        if (own[i] == -INFINITY) {
            g_snprintf(out->why, sizeof out->why, "a density is 0 at row %zu of its own sample", i);
            return FALSE;
        }
        *mean += (v - before) / ((double)i + 1.0);
        sum += (v - before) * (v - *mean);
    }
    *var = sum / ((double)s->n - 1.0) / (double)s->n;
    return TRUE;
}

void
fm_estimate_symmetric(const FmSamples *p, const FmSamples *q, double (*term)(double own, double other), FmEstimate *out)
{
    double a, b, va, vb;

    out->n = p->n;
    if (!mean_of_terms(p, p->log_p, p->log_q, term, &a, &va, out) ||
        !mean_of_terms(q, q->log_q, q->log_p, term, &b, &vb, out))
        return; /* `why` says it */
    out->value = 0.5 * (a + b);
    out->se = 0.5 * sqrt(va + vb);
}

double
fm_estimate_block_se(const double *value, size_t n)
{
    return n < 2 ? NAN : fm__mean(value, n).se * fm__t975(n - 1) / 1.95996;
}
