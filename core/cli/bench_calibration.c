/* bench_calibration.c: do the error bars hold? Each estimator many times on pairs of normal
 * distributions whose divergence is known. */
#include "cli/bench.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* P = N(mean (1, .., 1), sd^2 I), Q = N(0, I); n rows of each. */
typedef struct Case {
    const char *spec;
    size_t D, n;
    double mean, sd;
} Case;

static const Case cases[] = {
    {"knn-kl", 1, 10000, 0.3, 0.8},
    {"knn-kl", 2, 10000, 0.3, 0.8},
    {"knn-kl", 2, 40000, 0.3, 0.8},
    {"knn-kl", 5, 10000, 0.3, 0.8},
    {"knn-kl", 5, 20000, 0.3, 0.8},
    {"knn-kl", 10, 2000, 0.3, 0.8},
    {"knn-kl", 2, 10000, 0.0, 1.0},
    {"gaussian-kl", 2, 1000, 0.3, 1.2},
    {"gaussian-kl", 10, 1000, 0.3, 1.2},
    {"gaussian-kl", 1, 1000, 0.1, 1.0},
    {"gaussian-kl", 1, 1000, 0.05, 1.0},
    {"gaussian-kl", 1, 1000, 0.0, 1.0},
    {"gaussian-kl", 2, 1000, 0.1, 1.0},
    {"gaussian-kl", 2, 1000, 0.05, 1.0},
    {"gaussian-kl", 2, 1000, 0.0, 1.0},
    {"gaussian-kl", 10, 1000, 0.0, 1.0},
    {"gaussian-kl", 2, 30, 0.0, 1.0},
    {"gaussian-kl", 10, 30, 0.0, 1.0},
    {"gaussian-kl", 32, 100, 0.0, 1.0},
    {"grid-kl", 1, 10000, 0.3, 0.8},
    {"grid-kl", 2, 10000, 0.3, 0.8},
    {"grid-kl", 1, 10000, 0.0, 1.0},
    {"grid-kl", 2, 10000, 0.0, 1.0},
    {"grid-kl:smooth=1", 2, 10000, 0.3, 0.8},
    {"mc-kl", 2, 1000, 0.3, 1.2},
    {"mc-kl", 32, 100, 0.3, 1.2},
    {"tv", 2, 1000, 0.3, 1.0},
    {"tv", 2, 30, 0.3, 1.0},
    {"jensen-shannon", 1, 1000, 0.3, 1.2},
    {"jensen-shannon", 1, 30, 0.3, 1.2},
    {"mmd:bandwidth=[1]", 1, 500, 0.3, 1.2},
    {"mmd:bandwidth=[1]", 1, 500, 0.6, 1.0},
    {"mmd:bandwidth=[1]", 1, 500, 0.2, 1.0},
    {"mmd:bandwidth=[1]", 1, 500, 0.1, 1.0},
    {"mmd:bandwidth=[1]", 1, 500, 0.05, 1.0},
    {"mmd:bandwidth=[1]", 1, 500, 0.0, 1.0},
    {"mmd:bandwidth=[1]", 3, 500, 0.3, 1.2},
    {"mmd:bandwidth=[1]", 3, 500, 0.1, 1.0},
    {"mmd:bandwidth=[1]", 3, 500, 0.0, 1.0},
    {"mmd:bandwidth=[1]", 1, 2000, 0.05, 1.0},
    {"energy", 1, 500, 0.3, 1.2},
    {"energy", 1, 500, 0.6, 1.0},
    {"energy", 1, 500, 0.2, 1.0},
    {"energy", 1, 500, 0.1, 1.0},
    {"energy", 1, 500, 0.05, 1.0},
    {"energy", 1, 500, 0.0, 1.0},
    {"energy", 1, 2000, 0.05, 1.0},
    {"energy", 3, 500, 0.1, 1.0},
    {"energy", 10, 500, 0.3, 1.2},
    {"energy", 10, 500, 0.1, 1.0},
    {"energy", 10, 500, 0.0, 1.0},
    {"w2", 1, 300, 1.0, 1.2},
    {"w2", 2, 300, 1.0, 1.2},
    {"w2", 10, 300, 1.0, 1.2},
    {"w2", 1, 300, 0.0, 1.0},
    {"w2", 2, 300, 0.1, 1.0},
    {"w2", 2, 300, 0.0, 1.0},
    {"w2", 10, 300, 0.0, 1.0},
    {"sliced-w2:projections=100", 2, 500, 1.0, 1.2},
    {"sliced-w2:projections=100", 10, 500, 1.0, 1.2},
    {"sliced-w2:projections=100", 2, 500, 0.1, 1.0},
    {"sliced-w2:projections=100", 2, 500, 0.0, 1.0},
    {"sliced-w2:projections=100", 10, 500, 0.0, 1.0},
    {"frechet", 2, 1000, 0.3, 1.2},
    {"frechet", 10, 4000, 0.3, 1.2},
    {"frechet", 1, 1000, 0.2, 1.0},
    {"frechet", 1, 1000, 0.1, 1.0},
    {"frechet", 1, 1000, 0.0, 1.0},
    {"frechet", 2, 1000, 0.1, 1.0},
    {"frechet", 2, 1000, 0.0, 1.0},
    {"frechet", 10, 1000, 0.0, 1.0},
    {"frechet", 32, 100, 0.3, 1.2},
};

/* ---- the truth ---- */

static double
log_normal(size_t D, const double *x, double mean, double sd)
{
    double sum = 0.0;

    for (size_t d = 0; d < D; d++)
        sum += (x[d] - mean) * (x[d] - mean);
    return -0.5 * sum / (sd * sd) - (double)D * log(sd * sqrt(2.0 * G_PI));
}

/* Jensen-Shannon in one dimension by the trapezoidal rule, step 1e-3. */
static double
exact_jensen_shannon(double mean, double sd)
{
    double sum = 0.0;

    for (int i = -12000; i <= 12000; i++) {
        const double x = i * 1e-3;
        const double p = exp(log_normal(1, &x, mean, sd)), q = exp(log_normal(1, &x, 0.0, 1.0));

        sum += 0.5e-3 * (p * log(2.0 * p / (p + q)) + q * log(2.0 * q / (p + q)));
    }
    return sum;
}

/* E |Z| for Z ~ N((mean, .., mean), var I) in D dimensions: sqrt(2 var) Gamma((D + 1) / 2) / Gamma(D / 2)
 * 1F1(-1/2; D/2; -u) with u = |mean|^2 / (2 var), by Kummer's exp(-u) 1F1((D + 1) / 2; D/2; u). */
static double
mean_distance(double D, double mean, double var)
{
    const double u = 0.5 * D * mean * mean / var;
    double term = exp(-u), sum = 0.0;

    for (int k = 0; k < 500; k++) {
        sum += term;
        term *= (0.5 * (D + 1.0) + k) / (0.5 * D + k) * u / (k + 1.0);
    }
    return sqrt(2.0 * var) * exp(lgamma(0.5 * (D + 1.0)) - lgamma(0.5 * D)) * sum;
}

/* E exp(-Z^2 / 2) for Z ~ N(mean, var) */
static double
mean_kernel(double mean, double var)
{
    return exp(-0.5 * mean * mean / (1.0 + var)) / sqrt(1.0 + var);
}

static double
exact(const Case *c)
{
    const double D = (double)c->D, m = c->mean, s = c->sd, v = s * s;

    if (m == 0.0 && s == 1.0)
        return 0.0;
    if (g_str_has_prefix(c->spec, "tv")) /* equal sd only */
        return erf(sqrt(D) * m / (2.0 * sqrt(2.0) * s));
    if (g_str_has_prefix(c->spec, "jensen"))
        return exact_jensen_shannon(m, s);
    if (g_str_has_prefix(c->spec, "mmd"))
        return pow(mean_kernel(0.0, 2.0 * v), D) + pow(mean_kernel(0.0, 2.0), D) -
               2.0 * pow(mean_kernel(m, 1.0 + v), D);
    if (g_str_has_prefix(c->spec, "energy"))
        return 2.0 * mean_distance(D, m, 1.0 + v) - mean_distance(D, 0.0, 2.0 * v) - mean_distance(D, 0.0, 2.0);
    if (g_str_has_prefix(c->spec, "w2"))
        return sqrt(D * (m * m + (s - 1.0) * (s - 1.0)));
    if (g_str_has_prefix(c->spec, "sliced"))
        return sqrt(m * m + (s - 1.0) * (s - 1.0));
    if (g_str_has_prefix(c->spec, "frechet"))
        return D * (m * m + (s - 1.0) * (s - 1.0));
    return D * (0.5 * (v + m * m - 1.0) - log(s));
}

/* ---- many seeds ---- */

typedef struct Calibration {
    const Case *c;
    size_t seeds;
    double *value, *se; /* (seeds) */
    double *low, *high; /* (seeds) ends of the 95 % intervals */
    GError *failure;    /* the first one; set atomically */
} Calibration;

static double *
draw(const Case *c, guint64 seed, gboolean of_p)
{
    const FmKey key = {.seed = seed, .stream = FM_STREAM_EVAL, .step = of_p};
    double *x = fm_alloc(c->n * (c->D + 2) * sizeof *x); /* then log p, log q */

    if (x == NULL)
        return NULL;
    fm_fill_normal_f64(key, 0, c->n, c->D, x);
    for (size_t k = 0; of_p && k < c->n * c->D; k++)
        x[k] = c->mean + c->sd * x[k];
    for (size_t i = 0; i < c->n; i++) {
        x[c->n * c->D + i] = log_normal(c->D, x + i * c->D, c->mean, c->sd);
        x[c->n * (c->D + 1) + i] = log_normal(c->D, x + i * c->D, 0.0, 1.0);
    }
    return x;
}

/* `low` and `high` of the estimate where it has them, else 1.96 standard errors to both sides. */
static void
interval(const FmEstimate *e, double *low, double *high)
{
    *low = e->value - 1.96 * e->se;
    *high = e->value + 1.96 * e->se;
    for (size_t i = 0; i < e->n_details; i++) {
        if (strcmp(e->detail[i].name, "low") == 0)
            *low = e->detail[i].number;
        if (strcmp(e->detail[i].name, "high") == 0)
            *high = e->detail[i].number;
    }
}

static void
one_seed(void *ctx, int worker, size_t seed)
{
    Calibration *job = ctx;
    const Case *c = job->c;
    const FmKey key = {.seed = seed, .stream = FM_STREAM_EVAL, .step = 2};
    g_autoptr(GError) error = NULL;
    g_autoptr(FmPlugin) d = fm_plugin_new(FM_KIND_DIVERGENCE, c->spec, &error);
    double *x = draw(c, seed, TRUE), *y = draw(c, seed, FALSE);
    FmEstimate e = {0};

    if (d != NULL && x != NULL && y != NULL) {
        const size_t end = c->n * c->D;
        const FmSamples p = {c->n, c->D, x, x + end, x + end + c->n};
        const FmSamples q = {c->n, c->D, y, y + end, y + end + c->n};

        if (fm_divergence_estimate(d, &p, &q, key, 1, &e, &error)) {
            job->value[seed] = e.value;
            job->se[seed] = e.se;
            interval(&e, &job->low[seed], &job->high[seed]);
        }
    } else if (error == NULL)
        g_set_error(&error, FM_ERROR, FM_ERROR_MEMORY, "calibration of '%s': no memory for %zu rows", c->spec, c->n);
    fm_free(x);
    fm_free(y);
    if (error != NULL && g_atomic_pointer_compare_and_exchange(&job->failure, NULL, error))
        error = NULL;
}

/* What the table shows of one case. */
typedef struct Row {
    double truth, mean, sd, se;
    double covers_truth, covers_mean; /* shares of the intervals */
    double below, above;              /* shares that end below the estimator's mean, or begin above */
} Row;

/* Of intervals low, high (seeds). */
static Row
summary(size_t seeds, double truth, const double *value, const double *se, const double *low, const double *high)
{
    const double n = (double)seeds;
    Row r = {.truth = truth};

    for (size_t i = 0; i < seeds; i++) {
        r.mean += value[i] / n;
        r.se += se[i] / n;
    }
    const double mean = MAX(r.mean, 0.0); /* no divergence is below 0 */
    for (size_t i = 0; i < seeds; i++) {  /* an interval without ends covers nothing */
        r.sd += (value[i] - r.mean) * (value[i] - r.mean) / (n - 1.0);
        r.covers_truth += (low[i] <= r.truth && r.truth <= high[i]) / n;
        r.covers_mean += (low[i] <= mean && mean <= high[i]) / n;
        r.below += (high[i] < mean) / n;
        r.above += (low[i] > mean) / n;
    }
    r.sd = sqrt(r.sd);
    r.covers_truth = isnan(truth) ? NAN : r.covers_truth;
    return r;
}

static void
row_json(JsonBuilder *json, const char *name, size_t D, size_t n, const char *pair, size_t seeds, const Row *r)
{
    json_builder_begin_object(json);
    out_text(json, "name", name);
    out_int(json, "dim", (gint64)D);
    out_int(json, "n", (gint64)n);
    out_text(json, "p", pair);
    out_int(json, "seeds", (gint64)seeds);
    out_real(json, "truth", r->truth);
    out_real(json, "mean", r->mean);
    out_real(json, "bias", r->mean - r->truth);
    out_real(json, "sd", r->sd);
    out_real(json, "se", r->se);
    out_real(json, "covers_truth", r->covers_truth);
    out_real(json, "covers_mean", r->covers_mean);
    out_real(json, "interval_below", r->below);
    out_real(json, "interval_above", r->above);
    json_builder_end_object(json);
}

static void
row_out(const CalibrationOut *out, const char *name, size_t D, size_t n, const char *pair, size_t seeds, const Row *r)
{
    if (out->json) {
        row_json(out->json, name, D, n, pair, seeds, r);
        return;
    }
    printf("%-26s %3zu %6zu  %-14s %5zu ", name, D, n, pair, seeds);
    if (isnan(r->truth))
        printf("%10s %10.5f %9s %9.5f %9.5f %8s", "-", r->mean, "-", r->sd, r->se, "-");
    else
        printf("%10.5f %10.5f %+9.5f %9.5f %9.5f %7.1f%%", r->truth, r->mean, r->mean - r->truth, r->sd, r->se,
               100.0 * r->covers_truth);
    printf(" %7.1f%% %7.1f%% %7.1f%%\n", 100.0 * r->covers_mean, 100.0 * r->below, 100.0 * r->above);
    fflush(stdout);
}

void
calibration_row(const CalibrationOut *out, const char *name, size_t D, size_t n, const char *pair, size_t seeds,
                double truth, const double *value, const double *se)
{
    g_autofree double *low = g_new(double, 2 * seeds);
    double *high = low + seeds;

    for (size_t i = 0; i < seeds; i++) {
        low[i] = value[i] - 1.96 * se[i];
        high[i] = value[i] + 1.96 * se[i];
    }
    const Row row = summary(seeds, truth, value, se, low, high);
    row_out(out, name, D, n, pair, seeds, &row);
}

static gboolean
is_of(const Case *c, const char *name)
{
    const size_t length = strcspn(c->spec, ":");

    return strlen(name) == length && strncmp(c->spec, name, length) == 0;
}

/* The figures of `kl P Q` have rows of their own. */
static const char kl_name[] = "kl";

static gboolean
kl_is_wanted(const GPtrArray *names)
{
    gboolean wanted = names->len == 0;

    for (guint i = 0; i < names->len && !wanted; i++)
        wanted = strcmp(names->pdata[i], kl_name) == 0;
    return wanted;
}

/* Was it asked for? By no --divergence all are. */
static gboolean
is_wanted(const Case *c, const GPtrArray *names)
{
    gboolean wanted = names->len == 0;

    for (guint i = 0; i < names->len && !wanted; i++)
        wanted = is_of(c, names->pdata[i]);
    return wanted;
}

static gboolean
has_cases(const char *name)
{
    for (size_t k = 0; k < G_N_ELEMENTS(cases); k++)
        if (is_of(&cases[k], name))
            return TRUE;
    return FALSE;
}

/* The names of the cases, each once: cases of one name stand together. Owned. */
static char *
case_names(void)
{
    GString *names = g_string_new(NULL);

    for (size_t k = 0; k < G_N_ELEMENTS(cases); k++) {
        g_autofree char *name = g_strndup(cases[k].spec, strcspn(cases[k].spec, ":"));

        if (k == 0 || !is_of(&cases[k - 1], name))
            g_string_append_printf(names, "%s%s", k == 0 ? "" : ", ", name);
    }
    g_string_append_printf(names, ", %s", kl_name);
    return g_string_free(names, FALSE);
}

/* The cases have options of their own: only names can be asked for. */
static gboolean
check_names(const GPtrArray *names, GError **error)
{
    for (guint i = 0; i < names->len; i++) {
        g_autofree char *known = NULL;

        if (has_cases(names->pdata[i]) || strcmp(names->pdata[i], kl_name) == 0)
            continue;
        known = case_names();
        g_set_error(error, FM_ERROR, FM_ERROR_OPTION,
                    "bench calibration: --divergence '%s' has no rows; allowed, without options: %s",
                    (const char *)names->pdata[i], known);
        return FALSE;
    }
    return TRUE;
}

/* The rows of one case. */
static gboolean
bench_case(const Case *c, size_t seeds, int threads, double *space, const CalibrationOut *out, GError **error)
{
    Calibration job = {.c = c,
                       .seeds = seeds,
                       .value = space,
                       .se = space + seeds,
                       .low = space + 2 * seeds,
                       .high = space + 3 * seeds};
    g_autofree char *pair = g_strdup_printf("N(%.2f, %.1f^2)", c->mean, c->sd);

    fm_parallel(threads, seeds, one_seed, &job);
    if (job.failure != NULL) {
        g_propagate_error(error, job.failure);
        return FALSE;
    }
    const Row row = summary(seeds, exact(c), job.value, job.se, job.low, job.high);
    row_out(out, c->spec, c->D, c->n, pair, seeds, &row);
    return TRUE;
}

int
bench_calibration(Cli *cli, GError **error)
{
    static const char *const always[] = {"threads", "json", "quiet", "plugin-path", NULL};
    static const char *const taken[] = {"divergence", "repeat", NULL};
    const size_t seeds = cli->repeat > 0 ? (size_t)cli->repeat : 200;
    const int threads = cli->config->threads > 0 ? cli->config->threads : (int)g_get_num_processors();
    g_autofree double *space = g_new0(double, 4 * seeds);
    g_autoptr(JsonBuilder) json = json_builder_new();
    const CalibrationOut out = {.json = cli->json ? json : NULL};
    g_autofree char *text = NULL;

    if (!cli_takes(cli, always, "--threads", taken, error) || !check_names(cli->config->divergences, error))
        return -1;
    if (seeds < 2) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                    "option --repeat is 1, expected 2 seeds or more, whose scatter is measured");
        return -1;
    }
    out_header(json, cli, "ok");
    out_array(json, "calibration");
    if (!cli->json)
        printf("P as given in each column, Q = N(0, 1); of the figures of `kl P Q` with modes, Q is aside; how many 95 "
               "%% intervals (low to\n"
               "high where the estimate has them, else value +- 1.96 se) cover the truth and the mean, end below the "
               "mean, begin above it\n"
               "%-26s %3s %6s  %-14s %5s %10s %10s %9s %9s %9s %8s %8s %8s %8s\n",
               "estimator", "d", "n", "P", "seeds", "truth", "mean", "bias", "sd", "mean se", "truth", "mean", "below",
               "above");
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
        if (is_wanted(&cases[i], cli->config->divergences) &&
            !bench_case(&cases[i], seeds, threads, space, &out, error))
            return -1;
    if (kl_is_wanted(cli->config->divergences) && !bench_calibration_kl(seeds, threads, &out, error))
        return -1;
    json_builder_end_array(json);
    text = out_finish(json);
    if (cli->json)
        puts(text);
    return 0;
}
