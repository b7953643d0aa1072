/* evaluate.c: measure a flow: log-likelihood, KL to a known density, distances of samples. */
#include "cli/cli.h"
#include "flow/mean.h"

#include <math.h>
#include <string.h>

typedef struct Probe {
    int probe, probes; /* options */
} Probe;

/* Mean of v[i] and its standard error. */
static FmEstimate
mean_of(const double *v, size_t n, const char *unit)
{
    const FmNumber m = fm__mean(v, n);
    FmEstimate e = {.value = m.value, .se = m.se, .n = n, .unit = unit};

    if (!isfinite(m.value)) {
        e.value = e.se = NAN;
        g_strlcpy(e.why, "a log-density is not finite", sizeof e.why);
    }
    return e;
}

/* "exact", "map" or "hutchinson[:probe=...,probes=N]". */
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
    if (strcmp(name, "map") == 0 && !*rest) {
        how->trace = FM_TRACE_MAP;
        return TRUE;
    }
    if (strcmp(name, "hutchinson") != 0) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                    "option --likelihood is '%s', expected exact, hutchinson[:probe=rademacher|gaussian,"
                    "probes=N], map or none",
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
    p->x = g_try_new(double, p->n * p->D);
    p->y = run->data.classes > 0 ? g_try_new(int, p->n) : NULL;
    if (!p->x) {
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "%zu points of %zu values do not fit in memory", p->n, p->D);
        return FALSE;
    }
    return fm_run_data(run, split, 0, p->n, p->x, p->y, error);
}

static void
describe_method(FmEstimate *e, const FmLikelihood *how, const FmSolveSummary *s)
{
    if (how->trace == FM_TRACE_EXACT) {
        fm_estimate_text(e, "divergence", "exact");
    } else if (how->trace == FM_TRACE_MAP) {
        fm_estimate_text(e, "density", "of the map that the solver's steps are");
    } else {
        fm_estimate_text(e, "divergence", "hutchinson");
        fm_estimate_number(e, "probes", how->probes);
        fm_estimate_text(e, "probe", how->gaussian ? "gaussian" : "rademacher");
    }
    fm_estimate_number(e, "nfe_mean", s->nfe_mean);
    if (s->failed > 0)
        fm_estimate_number(e, "failed", (double)s->failed);
}

static gboolean
solves_equation(const FmRun *run, const FmLikelihood *how)
{
    return !fm_net_is_invertible(run->plugin[FM_KIND_NET]) && how->trace != FM_TRACE_MAP;
}

/* What a mean leaves out beside its standard error: the solver's own error, estimated by a finer
 * solve of the first m points; difference is "true minus value" of these in nats, per_unit the
 * nats in one unit of the figure. */
static void
describe_solver(FmEstimate *e, const double *difference, size_t m, double per_unit)
{
    double mean = 0.0, square = 0.0;

    for (size_t i = 0; i < m; i++) {
        const double d = difference[i] / per_unit;

        mean += d / (double)m;
        square += d * d / (double)m;
    }
    fm_estimate_number(e, "solver_error", mean);
    fm_estimate_number(e, "solver_error_rms", sqrt(square));
    fm_estimate_number(e, "solver_error_n", (double)m);
}

/* Noise of Hutchinson's probes, which the standard error over points contains. */
static void
describe_probes(FmEstimate *e, const FmProbeNoise *noise, int K, size_t m, double per_unit)
{
    fm_estimate_number(e, "probe_sd", noise->sd / per_unit);
    if (K > 1) {
        fm_estimate_number(e, "probe_sd_within", noise->sd_within / per_unit);
        fm_estimate_number(e, "probe_bias", -noise->bias / per_unit);
    }
    fm_estimate_number(e, "probe_n", (double)m);
}

/* Points that are solved again for the two above. */
static size_t
few_of(size_t n)
{
    return MIN(n, MAX(n / 20, 64));
}

/* Estimated errors (few_of(n)) of -log_q. */
static gboolean
nll_errors(FmFlow *flow, const FmLikelihood *how, const Points *p, const int *labels, const double *log_q,
           double *difference, GError **error)
{
    const size_t m = few_of(p->n);

    if (!fm_flow_log_density_error(flow, m, p->x, labels, how, log_q, difference, error))
        return FALSE;
    for (size_t i = 0; i < m; i++)
        difference[i] = -difference[i];
    return TRUE;
}

static const char points_alone[] = "finite data without noise have no density at t = 1";

/* TRUE for the exact field of finite data without noise: what a solver finds there is that of a time before t = 1. */
static gboolean
is_points(const FmRun *run)
{
    return run->data.rows > 0 && fm_net_density_end(run->plugin[FM_KIND_NET]) < 1.0;
}

gboolean
evaluate_has_density(const FmRun *run, GError **error)
{
    if (!is_points(run))
        return TRUE;
    g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED, "net '%s': %s, expected a trained net or a data set with noise",
                fm_plugin_name(run->plugin[FM_KIND_NET]), points_alone);
    return FALSE;
}

static gboolean
no_density(const FmRun *run, const char *name, const char *unit, double start, GArray *metrics)
{
    FmEstimate e = {.value = NAN, .se = NAN, .unit = unit};

    if (!is_points(run))
        return FALSE;
    g_strlcpy(e.why, points_alone, sizeof e.why);
    metrics_add(metrics, name, &e, cli_seconds() - start);
    return TRUE;
}

gboolean
evaluate_nll(FmRun *run, FmFlow *flow, size_t n, double *x, int *labels, const FmLikelihood *how, const double *log_q,
             const FmSolveSummary *s, double start, GArray *metrics, GError **error)
{
    const Points p = {.n = n, .D = run->data.D, .x = x};
    const size_t m = few_of(n);
    g_autofree double *v = g_new(double, n + 1);
    FmProbeNoise noise;
    FmEstimate e;

    for (size_t i = 0; i < n; i++)
        v[i] = -log_q[i];
    e = mean_of(v, n, "nats");
    describe_method(&e, how, s);
    if (solves_equation(run, how)) {
        if (!nll_errors(flow, how, &p, labels, log_q, v, error))
            return FALSE;
        describe_solver(&e, v, m, 1.0);
    }
    if (how->trace == FM_TRACE_HUTCHINSON) {
        if (!fm_flow_probe_noise(flow, m, x, labels, how, 0, &noise, error))
            return FALSE;
        describe_probes(&e, &noise, 1, m, 1.0);
    }
    metrics_add(metrics, "nll", &e, cli_seconds() - start);
    return TRUE;
}

void
evaluate_formula(size_t n, const double *log_q, double start, GArray *metrics)
{
    g_autofree double *v = g_new(double, n + 1);
    size_t outside = 0;
    FmEstimate e;

    for (size_t i = 0; i < n; i++) {
        v[i] = -log_q[i];
        outside += log_q[i] == -INFINITY;
    }
    e = mean_of(v, n, "nats");
    if (outside > 0)
        g_snprintf(e.why, sizeof e.why, "infinite, %zu of %zu points have density 0", outside, n);
    fm_estimate_text(&e, "method", "formula");
    metrics_add(metrics, "nll", &e, cli_seconds() - start);
}

/* KL(P||Q) on the points whose log q is given, where log p is known. */
static gboolean
measure_kl(FmRun *run, FmFlow *flow, const FmLikelihood *how, const Points *p, const int *labels, const double *log_q,
           double start, GArray *metrics, GError **error)
{
    const FmPlugin *dataset = run->plugin[FM_KIND_DATASET];
    g_autofree double *v = g_new(double, p->n + 1);
    FmEstimate e;

    if (!fm_dataset_has_density(dataset))
        return TRUE;
    fm_dataset_log_density(dataset, p->n, p->x, v);
    if (isnan(v[0]))
        return TRUE;
    for (size_t i = 0; i < p->n; i++)
        v[i] -= log_q[i];
    e = mean_of(v, p->n, "nats");
    fm_estimate_number(&e, "entropy", fm_dataset_entropy(dataset));
    if (solves_equation(run, how)) {
        if (!nll_errors(flow, how, p, labels, log_q, v, error))
            return FALSE;
        describe_solver(&e, v, few_of(p->n), 1.0);
    }
    metrics_add(metrics, "kl", &e, cli_seconds() - start);
    return TRUE;
}

/* The integral of the density over a box, in few dimensions. */
static gboolean
measure_mass(FmRun *run, FmFlow *flow, const FmLikelihood *how, GArray *metrics, GError **error)
{
    const double start = cli_seconds();
    const size_t points = (size_t)MAX(run->config->density_mass, 0);
    FmEstimate e = {.se = NAN, .unit = ""};
    g_autoptr(GString) box = g_string_new(NULL);
    FmDensityMass m;

    if (points == 0 || run->net_info.classes > 0)
        return TRUE;
    if (!fm_flow_density_mass(flow, how, points, &m, error))
        return FALSE;
    for (size_t d = 0; d < run->data.D; d++)
        g_string_append_printf(box, "%s[%.4g, %.4g]", d > 0 ? " x " : "", m.lo[d], m.hi[d]);
    e.value = m.value;
    e.n = m.n;
    fm_estimate_number(&e, "tail", m.tail);
    fm_estimate_number(&e, "grid_error", m.grid_error);
    fm_estimate_number(&e, "tail_n", (double)m.tail_n);
    fm_estimate_text(&e, "box", box->str);
    if (m.failed > 0)
        fm_estimate_number(&e, "failed", (double)m.failed);
    metrics_add(metrics, "density-mass", &e, cli_seconds() - start);
    return TRUE;
}

/* -log q of continuous points, and KL(P||Q) where log p is known, on the same points. */
static gboolean
measure_vectors(FmRun *run, FmFlow *flow, const FmLikelihood *how, const Points *p, GArray *metrics, GError **error)
{
    const double start = cli_seconds();
    g_autofree double *log_q = g_new(double, p->n + 1), *z = g_try_new(double, p->n * p->D);
    int *labels = run->net_info.classes > 0 ? p->y : NULL;
    FmSolveSummary s = {0};

    /* Before the solver: from points without density it takes all steps that it may. */
    if (no_density(run, "nll", "nats", start, metrics))
        return TRUE;
    if (!z) {
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "%zu encodings of %zu values do not fit in memory", p->n, p->D);
        return FALSE;
    }
    if (!fm_flow_log_density(flow, p->n, p->x, labels, how, log_q, z, &s, error))
        return FALSE;
    latent_metric(flow, p->n, z, metrics);
    return evaluate_nll(run, flow, p->n, p->x, labels, how, log_q, &s, start, metrics, error) &&
           measure_kl(run, flow, how, p, labels, log_q, start, metrics, error) &&
           measure_mass(run, flow, how, metrics, error);
}

/* Bits per dimension of quantised data: uniform dequantisation, log-mean-exp over K draws. */
static gboolean
measure_images(FmRun *run, FmFlow *flow, const FmLikelihood *how, const Points *p, GArray *metrics, GError **error)
{
    const double start = cli_seconds();
    const int K = (int)MAX(run->config->dequant, 1);
    const double per_bit = (double)p->D * G_LN2;
    const size_t few = MIN(p->n, MAX(p->n / 8, 4)); /* images that are solved again */
    const int *labels = run->net_info.classes > 0 ? p->y : NULL;
    g_autofree double *nll = g_new(double, p->n), *bpd = g_new(double, p->n);
    FmProbeNoise noise;
    FmSolveSummary s = {0};
    FmEstimate e;

    if (no_density(run, "bpd", "bits/dim", start, metrics))
        return TRUE;
    if (!fm_flow_bpd(flow, p->n, p->x, labels, how, K, nll, &s, error))
        return FALSE;
    for (size_t i = 0; i < p->n; i++)
        bpd[i] = nll[i] / per_bit;
    e = mean_of(bpd, p->n, "bits/dim");
    fm_estimate_number(&e, "K", K);
    fm_estimate_text(&e, "scheme", "uniform dequantisation");
    if (labels)
        fm_estimate_text(&e, "given", "labels");
    describe_method(&e, how, &s);
    if (solves_equation(run, how)) {
        if (!fm_flow_bpd_error(flow, few, p->x, labels, how, K, nll, bpd, error))
            return FALSE;
        describe_solver(&e, bpd, few, per_bit);
    }
    if (how->trace == FM_TRACE_HUTCHINSON) {
        if (!fm_flow_probe_noise(flow, few, p->x, labels, how, K, &noise, error))
            return FALSE;
        describe_probes(&e, &noise, K, few, per_bit);
    }
    if (strcmp(fm_plugin_name(run->plugin[FM_KIND_DATASET]), "mnist") == 0 && run->data.rows == 10000)
        fm_estimate_text(&e, "note", "of the shipped 10,000 images: not comparable with published");
    metrics_add(metrics, "bpd", &e, cli_seconds() - start);
    return TRUE;
}

static gboolean
measure_distances(FmRun *run, const char *split, const double *samples, size_t n_samples, GArray *metrics,
                  GError **error)
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
    for (guint i = 0; i < run->config->divergences->len && !cli_interrupted(); i++) {
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

/* The density of the solver's steps needs steps that do not depend on the state. */
static gboolean
check_map(const FmRun *run, GError **error)
{
    const FmPlugin *solver = run->plugin[FM_KIND_SOLVER];

    if (fm_net_is_invertible(run->plugin[FM_KIND_NET]) || !fm_solver_is_adaptive(solver))
        return TRUE;
    g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                "option --likelihood is map, which needs a solver with fixed steps, and solver '%s' "
                "chooses its own",
                fm_plugin_name(solver));
    return FALSE;
}

/* Points, their encodings, states and densities of a likelihood. */
static gboolean
check_points(const FmRun *run, const char *split, GError **error)
{
    const size_t n = (size_t)run->config->eval_samples, rows = fm_run_split_rows(run, split);
    const double numbers =
        4.0 * (double)run->data.D + 4.0 + (run->data.levels > 0 ? (double)run->config->dequant : 0.0);

    return cli_check_memory("points to evaluate on", (double)(rows > 0 ? MIN(n, rows) : n),
                            numbers * sizeof(double) + sizeof(FmSolveStat), error);
}

gboolean
evaluate_check(const FmRun *run, const char *split, GError **error)
{
    const FmConfig *c = run->config;
    const gboolean likelihood = strcmp(c->likelihood, "none") != 0;
    FmLikelihood how;

    if (!cli_check_tolerance(run, run->plugin[FM_KIND_SOLVER], error))
        return FALSE;
    if (likelihood && !cli_likelihood(c->likelihood, 0, &how, error))
        return FALSE;
    if (c->dequant > 1 && run->data.levels == 0) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                    "option --dequant is %" G_GINT64_FORMAT " and the data are no quantised images, expected 1",
                    c->dequant);
        return FALSE;
    }
    if (likelihood && how.trace == FM_TRACE_MAP && !check_map(run, error))
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
    return (!likelihood || check_points(run, split, error)) &&
           cli_check_memory("samples", (double)c->samples, (double)run->data.D * 3 * sizeof(double), error);
}

gboolean
evaluate(FmRun *run, FmFlow *flow, const char *split, const double *samples, size_t n_samples, GArray *metrics,
         GError **error)
{
    FmLikelihood how = {0};
    g_auto(Points) p = {0};

    if (strcmp(run->config->likelihood, "none") != 0) {
        if (!cli_likelihood(run->config->likelihood, (guint64)run->config->seed, &how, error) ||
            !points_read(&p, run, split, (size_t)run->config->eval_samples, error) ||
            !(run->data.levels > 0 ? measure_images(run, flow, &how, &p, metrics, error)
                                   : measure_vectors(run, flow, &how, &p, metrics, error)) ||
            !excess_metric(run, flow, metrics, error))
            return FALSE;
    }
    return measure_distances(run, split, samples, n_samples, metrics, error);
}
