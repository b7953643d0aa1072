/* evaluate.c: measure a flow: log-likelihood, KL to a known density, distances of samples. */
#include "cli/cli.h"

#include <math.h>
#include <string.h>

typedef struct Probe {
    int probe, probes; /* options */
} Probe;

/* Mean of v[i] and its standard error. */
static FmEstimate
mean_of(const double *v, size_t n, const char *unit)
{
    double mean = 0.0, m2 = 0.0;
    FmEstimate e = {.n = n, .unit = unit};

    for (size_t i = 0; i < n; i++) {
        const double delta = v[i] - mean;

        mean += delta / (double)(i + 1);
        m2 += delta * (v[i] - mean);
    }
    e.value = mean;
    e.se = n > 1 ? sqrt(m2 / (double)(n - 1) / (double)n) : NAN;
    if (!isfinite(mean)) {
        e.value = e.se = NAN;
        g_strlcpy(e.why, "a log-density is not finite", sizeof e.why);
    }
    return e;
}

/* "exact" or "hutchinson[:probe=...,probes=N]". */
gboolean
cli_likelihood(const char *text, guint64 seed, FmLikelihood *how, GError **error)
{
    static const char *const probes[] = {"rademacher", "gaussian", NULL};
    static const FmOption table[] = {
        FM_OPT_CHOICE(Probe, probe, probes, "rademacher", "distribution of the probes"),
        FM_OPT_INT(Probe, probes, 1, 1, 10000, "probes a point"),
        FM_OPT_END,
    };
    g_autofree char *name = NULL, *rest = NULL;
    Probe p = {0, 1};

    if (!fm_spec_split(text, &name, &rest, error))
        return FALSE;
    *how = (FmLikelihood){.probes = 1, .key = {.seed = seed, .stream = FM_STREAM_PROBE}};
    if (strcmp(name, "exact") == 0 && !*rest) {
        how->trace = FM_TRACE_EXACT;
        return TRUE;
    }
    if (strcmp(name, "hutchinson") != 0) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                    "option --likelihood is '%s', expected exact, hutchinson[:probe=rademacher|gaussian,"
                    "probes=N] or none",
                    text);
        return FALSE;
    }
    if (!fm_options_parse(table, &p, rest, "option --likelihood", error))
        return FALSE;
    how->trace = FM_TRACE_HUTCHINSON;
    how->gaussian = p.probe == 1;
    how->probes = p.probes;
    return TRUE;
}

/* Points of the data to evaluate on. */
typedef struct Points {
    size_t n, D;
    double *x;
    int *y;
} Points;

static void
points_clear(Points *p)
{
    g_free(p->x);
    g_free(p->y);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Points, points_clear)

static gboolean
points_read(Points *p, FmRun *run, const char *split, size_t n, GError **error)
{
    const size_t rows = fm_run_split_rows(run, split);

    p->D = run->data.D;
    p->n = rows > 0 ? MIN(n, rows) : n;
    if (run->data.rows > 0 && rows == 0) {
        g_set_error(error, FM_ERROR, FM_ERROR_DATA, "the data set's split '%s' is empty", split);
        return FALSE;
    }
    p->x = g_try_new(double, p->n *p->D);
    p->y = run->data.classes > 0 ? g_try_new(int, p->n) : NULL;
    if (!p->x) {
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "%zu points of %zu values do not fit in memory",
                    p->n, p->D);
        return FALSE;
    }
    return fm_run_data(run, split, 0, p->n, p->x, p->y, error);
}

static void
describe_method(FmEstimate *e, const FmLikelihood *how, const FmSolveSummary *s)
{
    if (how->trace == FM_TRACE_EXACT) {
        fm_estimate_text(e, "divergence", "exact");
    } else {
        fm_estimate_text(e, "divergence", "hutchinson");
        fm_estimate_number(e, "probes", how->probes);
        fm_estimate_text(e, "probe", how->gaussian ? "gaussian" : "rademacher");
    }
    fm_estimate_number(e, "nfe_mean", s->nfe_mean);
    if (s->failed > 0)
        fm_estimate_number(e, "failed", (double)s->failed);
}

void
evaluate_nll(const double *log_q, size_t n, const FmLikelihood *how, const FmSolveSummary *s,
             double seconds, GArray *metrics)
{
    g_autofree double *v = g_new(double, n + 1);
    FmEstimate e;

    for (size_t i = 0; i < n; i++)
        v[i] = -log_q[i];
    e = mean_of(v, n, "nats");
    describe_method(&e, how, s);
    metrics_add(metrics, "nll", &e, seconds);
}

/* -log q of continuous points, and KL(P||Q) where log p is known, on the same points. */
static gboolean
measure_vectors(FmRun *run, FmFlow *flow, const FmLikelihood *how, const Points *p, GArray *metrics,
                GError **error)
{
    const double start = cli_seconds();
    g_autofree double *log_q = g_new(double, p->n), *v = g_new(double, p->n);
    const int *labels = run->net_info.classes > 0 ? p->y : NULL;
    FmSolveSummary s = {0};
    FmEstimate e;

    if (!fm_flow_log_density(flow, p->n, p->x, labels, how, log_q, NULL, &s, error))
        return FALSE;
    evaluate_nll(log_q, p->n, how, &s, cli_seconds() - start, metrics);
    if (!fm_dataset_has_density(run->plugin[FM_KIND_DATASET]))
        return TRUE;
    fm_dataset_log_density(run->plugin[FM_KIND_DATASET], p->n, p->x, v);
    if (isnan(v[0]))
        return TRUE;
    for (size_t i = 0; i < p->n; i++)
        v[i] -= log_q[i];
    e = mean_of(v, p->n, "nats");
    fm_estimate_number(&e, "entropy", fm_dataset_entropy(run->plugin[FM_KIND_DATASET]));
    metrics_add(metrics, "kl", &e, cli_seconds() - start);
    return TRUE;
}

/* Bits per dimension of quantised data: uniform dequantisation, log-mean-exp over K draws. */
static gboolean
measure_images(FmRun *run, FmFlow *flow, const FmLikelihood *how, const Points *p,
               GArray *metrics, GError **error)
{
    const double start = cli_seconds();
    const int K = (int)MAX(run->config->dequant, 1);
    const double per_bit = (double)p->D * G_LN2;
    g_autofree double *nll = g_new(double, p->n), *bpd = g_new(double, p->n);
    FmSolveSummary s = {0};
    FmEstimate e;

    if (!fm_flow_bpd(flow, p->n, p->x, run->net_info.classes > 0 ? p->y : NULL, how, K, nll, &s, error))
        return FALSE;
    for (size_t i = 0; i < p->n; i++)
        bpd[i] = nll[i] / per_bit;
    e = mean_of(bpd, p->n, "bits/dim");
    fm_estimate_number(&e, "K", K);
    fm_estimate_text(&e, "scheme", "uniform dequantisation");
    describe_method(&e, how, &s);
    if (strcmp(fm_plugin_name(run->plugin[FM_KIND_DATASET]), "mnist") == 0 && run->data.rows == 10000)
        fm_estimate_text(&e, "note", "of the shipped 10,000 images: not comparable with published");
    metrics_add(metrics, "bpd", &e, cli_seconds() - start);
    return TRUE;
}

static gboolean
measure_distances(FmRun *run, const char *split, const double *samples, size_t n_samples,
                  GArray *metrics, GError **error)
{
    const FmKey key = {.seed = (guint64)run->config->seed, .stream = FM_STREAM_EVAL, .step = 1};
    g_auto(Points) p = {0};
    FmSamples a, b;

    if (run->config->divergences->len == 0 || !samples)
        return TRUE;
    if (!points_read(&p, run, split, MAX(n_samples, 2), error))
        return FALSE;
    a = (FmSamples){.n = p.n, .D = p.D, .x = p.x};
    b = (FmSamples){.n = n_samples, .D = p.D, .x = samples};
    for (guint i = 0; i < run->config->divergences->len; i++) {
        const char *spec = run->config->divergences->pdata[i];
        g_autoptr(FmPlugin) d = fm_plugin_new(FM_KIND_DIVERGENCE, spec, error);
        const double start = cli_seconds();
        FmEstimate e = {0};

        if (!d || !fm_divergence_estimate(d, &a, &b, key, run->config->threads, &e, error))
            return FALSE;
        metrics_add(metrics, fm_plugin_name(d), &e, cli_seconds() - start);
    }
    return TRUE;
}

gboolean
evaluate_check(const FmRun *run, const char *split, GError **error)
{
    const FmConfig *c = run->config;
    const gboolean likelihood = strcmp(c->likelihood, "none") != 0;
    FmLikelihood how;

    if (likelihood && !cli_likelihood(c->likelihood, 0, &how, error))
        return FALSE;
    for (guint i = 0; i < c->divergences->len; i++) {
        g_autoptr(FmPlugin) d = fm_plugin_new(FM_KIND_DIVERGENCE, c->divergences->pdata[i], error);

        if (!d)
            return FALSE;
    }
    if ((likelihood || c->divergences->len > 0) && run->data.rows > 0 && fm_run_split_rows(run, split) == 0) {
        g_set_error(error, FM_ERROR, FM_ERROR_DATA,
                    "the data set has %zu rows, too few for a split '%s' to evaluate on (20 give one); "
                    "--likelihood none without --divergence goes without",
                    run->data.rows, split);
        return FALSE;
    }
    return cli_check_memory("samples", (double)c->samples, (double)run->data.D * 3 * sizeof(double),
                            error);
}

gboolean
evaluate(FmRun *run, FmFlow *flow, const char *split, const double *samples,
         size_t n_samples, GArray *metrics, GError **error)
{
    FmLikelihood how = {0};
    g_auto(Points) p = {0};

    if (strcmp(run->config->likelihood, "none") != 0) {
        if (!cli_likelihood(run->config->likelihood, (guint64)run->config->seed, &how, error) ||
            !points_read(&p, run, split, (size_t)run->config->eval_samples, error) ||
            !(run->data.levels > 0 ? measure_images(run, flow, &how, &p, metrics, error)
                                   : measure_vectors(run, flow, &how, &p, metrics, error)))
            return FALSE;
    }
    return measure_distances(run, split, samples, n_samples, metrics, error);
}
