/* bench_flow.c: training steps, sampling, likelihood, coupling and divergences of a run, either
 * that of the command line's options or the one that is named. */
#include "cli/bench.h"
#include "flow/integrate.h"

#include <string.h>

static FmRun *
open_run(Bench *b, GError **error)
{
    const gboolean given = b->cli->args->len >= 2;
    FmRun *run = given ? cli_load_run(b->cli, b->cli->args->pdata[1], error) : fm_run_new(b->cli->config, error);

    if (run && ((given && !fm_run_override(run, b->cli->config, TRUE, error)) ||
                !cli_check_tolerance(run, run->plugin[FM_KIND_SOLVER], error)))
        g_clear_pointer(&run, fm_run_free);
    return run;
}

static void
describe_run(BenchRow *row, const FmRun *run)
{
    bench_detail(row, "net", fm_plugin_spec(run->plugin[FM_KIND_NET]));
    bench_detail(row, "parameters", g_strdup_printf("%zu", fm_params_number(run->params)));
    bench_detail(row, "dtype", g_strdup(fm_dtype_name(run->config->dtype)));
    bench_detail(row, "threads", g_strdup_printf("%d", run->config->threads));
}

static double *
need(const char *who, size_t n, size_t D, GError **error)
{
    /* rows, and as much again of what is made of them */
    return cli_check_memory("rows", (double)n, 2.0 * (double)D * sizeof(double), error)
               ? fm__need(who, n, D, sizeof(double), error)
               : NULL;
}

/* n rows of a split, or drawn from the data when that is infinite or too small. */
static gboolean
read_rows(FmRun *run, const char *split, guint64 first, size_t n, double *x, int *y, GError **error)
{
    const FmKey key = {.seed = (guint64)run->config->seed, .stream = FM_STREAM_EVAL, .step = first};
    const size_t rows = fm_run_split_rows(run, split);

    if (!run->plugin[FM_KIND_DATASET]) {
        g_set_error(error, FM_ERROR, FM_ERROR_DATA, "the run has no data set that can be opened");
        return FALSE;
    }
    if (run->data.rows > 0 && rows < first + n)
        return fm_dataset_draw(run->plugin[FM_KIND_DATASET], key, first, n, x, y, error);
    return fm_run_data(run, split, first, n, x, y, error);
}

/* ---- train-step ---- */

/* With --out: what the first step works on and what it finds, so that another program can compare.
 */
static gboolean
write_step(Bench *b, FmRun *run, BenchRow *row, GError **error)
{
    g_autofree char *dir = b->cli->out ? cli_run_dir(b->cli, error) : NULL;
    double loss;

    if (!b->cli->out)
        return TRUE;
    if (!dir || !fm_run_write_step(run, dir, &loss, error))
        return FALSE;
    bench_detail(row, "loss", g_strdup_printf("%.9e", loss));
    return TRUE;
}

gboolean
bench_train_step(Bench *b, GError **error)
{
    FmRun *run = open_run(b, error);
    BenchRow *row = run ? bench_row(b) : NULL;
    FmProfile *profile = b->cli->profile && row ? &row->profile : NULL;
    const gboolean ok =
        run && write_step(b, run, row, error) && fm_run_bench_step(run, bench_more, row, &row->flops, profile, error);

    if (ok && profile) {
        row->profiled = TRUE;
        row->profile_n = profile->calls[FM_WORK_OPTIMIZER];
    }
    if (ok) {
        describe_run(row, run);
        bench_detail(row, "batch_size", g_strdup_printf("%lld", (long long)run->config->batch_size));
    }
    fm_run_free(run);
    return ok;
}

/* ---- sample and likelihood ---- */

static double
velocity_flops(const FmVelocity *velocity)
{
    return velocity ? fm_plan_flops(velocity->plan) : 0.0;
}

/* The plans' parts; what the solver does around them is the rest. Begins before the first repetition,
 * and ends after the last, warm-up included. A velocity may be NULL. */
static void
profile_begin(const Bench *b, const FmVelocity *velocity)
{
    if (b->cli->profile && velocity)
        fm_exec_profile_start(velocity->exec);
}

static void
profile_end(const Bench *b, const FmVelocity *velocity, BenchRow *row)
{
    FmProfile part;

    if (!b->cli->profile || !velocity)
        return;
    fm_exec_profile_read(velocity->exec, &part);
    row->profile.threads = part.threads;
    for (int k = 0; k < FM_N_WORKS; k++) {
        row->profile.seconds[k] += part.seconds[k];
        row->profile.flops[k] += part.flops[k];
        row->profile.calls[k] += part.calls[k];
    }
    row->profile.wall = (row->warm_ms + row->total_ms) * 1e-3;
    row->profile_n = row->warm + row->ms->len;
    row->profiled = TRUE;
}

static void
describe_solve(BenchRow *row, FmFlow *flow, const FmSolveSummary *s)
{
    bench_detail(row, "solver", fm_plugin_spec(flow->solver));
    bench_detail(row, "nfe_mean", g_strdup_printf("%.6g", s->nfe_mean));
    bench_detail(row, "nfe_max", g_strdup_printf("%llu", (unsigned long long)s->nfe_max));
    bench_detail(row, "nfe_total", g_strdup_printf("%llu", (unsigned long long)s->nfe_total));
    if (s->failed > 0)
        bench_detail(row, "failed", g_strdup_printf("%zu", s->failed));
}

static gboolean
sample_rounds(Bench *b, FmRun *run, FmFlow *flow, BenchRow *row, GError **error)
{
    const size_t n = (size_t)run->config->samples;
    g_autofree int *labels = cli_labels_in_turn(n, run->net_info.classes);
    const gboolean solves = !fm__flow_is_map(flow);
    const FmVelocity *velocity = solves ? fm__flow_velocity_plain(flow, error) : NULL;
    double *x = !solves || velocity ? need("bench sample", n, run->data.D, error) : NULL;
    FmSolveSummary s = {0};
    gboolean ok = x != NULL;

    profile_begin(b, velocity);
    for (gboolean go = TRUE; ok && go;) {
        const double start = cli_seconds();

        ok = fm_flow_sample(flow, n, (guint64)run->config->seed, NULL, labels, x, NULL, NULL, &s, error);
        go = bench_more(row, (cli_seconds() - start) * 1e3);
    }
    if (ok) {
        bench_detail(row, "samples", g_strdup_printf("%zu", n));
        describe_solve(row, flow, &s);
        row->flops = (double)s.nfe_total * velocity_flops(velocity);
        profile_end(b, velocity, row);
    }
    fm_free(x);
    return ok;
}

gboolean
bench_sample(Bench *b, GError **error)
{
    FmRun *run = open_run(b, error);
    FmFlow *flow = run ? fm_flow_from_run(run, error) : NULL;
    BenchRow *row = flow ? bench_row(b) : NULL;
    const gboolean ok = flow && sample_rounds(b, run, flow, row, error);

    if (ok)
        describe_run(row, run);
    fm_flow_free(flow);
    fm_run_free(run);
    return ok;
}

/* Velocity and divergence; NULL and no error for a map. */
static const FmVelocity *
trace_velocity(FmFlow *flow, const FmLikelihood *how, GError **error)
{
    if (fm__flow_is_map(flow))
        return NULL;
    return how->trace == FM_TRACE_EXACT ? fm__flow_velocity_exact(flow, error)
                                        : fm__flow_velocity_probed(flow, how->probes, error);
}

/* Of one evaluation of velocity and divergence, a row. */
static double
trace_flops(const FmVelocity *v, const FmLikelihood *how)
{
    const size_t passes = v && how->trace == FM_TRACE_EXACT && v->K > 0 ? (v->D + v->K - 1) / v->K : 1;

    return (double)passes * velocity_flops(v);
}

static gboolean
likelihood_rounds(Bench *b, FmRun *run, FmFlow *flow, const FmLikelihood *how, BenchRow *row, GError **error)
{
    const size_t n = (size_t)run->config->eval_samples;
    g_autofree int *labels = run->net_info.classes > 0 ? g_new0(int, n) : NULL;
    const FmVelocity *velocity = trace_velocity(flow, how, error);
    const int n_free = velocity ? fm__free_stages(flow->solver) : 0;
    const FmVelocity *plain = n_free > 0 ? fm__flow_velocity_plain(flow, error) : NULL;
    double *x = velocity || fm__flow_is_map(flow) ? need("bench likelihood", n, run->data.D, error) : NULL;
    double *log_q = x ? need("bench likelihood", n, 1, error) : NULL;
    FmSolveSummary s = {0};
    gboolean ok = log_q && (n_free == 0 || plain) && read_rows(run, "test", 0, n, x, labels, error);

    profile_begin(b, velocity);
    profile_begin(b, plain);
    for (gboolean go = TRUE; ok && go;) {
        const double start = cli_seconds();

        ok = fm_flow_log_density(flow, n, x, labels, how, log_q, NULL, &s, error);
        go = bench_more(row, (cli_seconds() - start) * 1e3);
    }
    if (ok) {
        bench_detail(row, "points", g_strdup_printf("%zu", n));
        bench_detail(row, "likelihood", g_strdup(run->config->likelihood));
        describe_solve(row, flow, &s);
        const double without = (double)n_free * (double)(s.accepted + s.rejected); /* evaluations */

        row->flops = ((double)s.nfe_total - without) * trace_flops(velocity, how) + without * velocity_flops(plain);
        profile_end(b, velocity, row);
        profile_end(b, plain, row);
    }
    fm_free(x);
    fm_free(log_q);
    return ok;
}

gboolean
bench_likelihood(Bench *b, GError **error)
{
    FmRun *run = open_run(b, error);
    FmFlow *flow = run ? fm_flow_from_run(run, error) : NULL;
    FmLikelihood how;
    BenchRow *row = NULL;
    gboolean ok = flow && cli_likelihood(run->config->likelihood, (guint64)run->config->seed, &how, error);

    if (ok) {
        row = bench_row(b);
        ok = likelihood_rounds(b, run, flow, &how, row, error);
    }
    if (ok)
        describe_run(row, run);
    fm_flow_free(flow);
    fm_run_free(run);
    return ok;
}

/* ---- coupling ---- */

/* Pools of one batch: data in the model's units, noise; new ones for each repetition. */
static gboolean
fill_pools(FmRun *run, guint64 round, size_t n, double *x0, double *x1, int *y, GError **error)
{
    const FmKey noise = {.seed = (guint64)run->config->seed, .stream = FM_STREAM_SOURCE, .step = round};
    const FmKey data = {.seed = (guint64)run->config->seed, .stream = FM_STREAM_DATA, .step = round};
    const size_t D = run->data.D;

    if (!fm_dataset_draw(run->plugin[FM_KIND_DATASET], data, 0, n, x1, y, error))
        return FALSE;
    for (size_t i = 0; i < n * D; i++)
        x1[i] = (x1[i] - run->shift[i % D]) / run->scale[i % D];
    if (run->source)
        return fm_dataset_draw(run->source, noise, 0, n, x0, NULL, error);
    fm_fill_normal_f64(noise, 0, n, D, x0);
    return TRUE;
}

/* With --out: the first batch and its pairs as files, so that another program can compare. */
static gboolean
write_pairs(Cli *cli, const FmPool *pool, const FmPairs *pairs, GError **error)
{
    g_autofree char *dir = cli_run_dir(cli, error);
    g_autofree double *index = g_new(double, pairs->B);
    gboolean ok = dir != NULL;

    for (int i = 0; ok && i < 2; i++) {
        const size_t *from = i == 0 ? pairs->i0 : pairs->i1;
        g_autofree char *points = g_strdup_printf("%s/x%d.npy", dir, i);
        g_autofree char *chosen = g_strdup_printf("%s/i%d.npy", dir, i);

        for (size_t b = 0; b < pairs->B; b++)
            index[b] = (double)from[b];
        ok = cli_save_points(points, NULL, FM_F64, i == 0 ? pool->n0 : pool->n1, pool->D, i == 0 ? pool->x0 : pool->x1,
                             error) &&
             cli_save_points(chosen, NULL, FM_F64, pairs->B, 1, index, error);
    }
    return ok;
}

static gboolean
coupling_rounds(Cli *cli, FmRun *run, BenchRow *row, GError **error)
{
    FmPlugin *coupling = run->plugin[FM_KIND_COUPLING];
    const size_t B = (size_t)run->config->batch_size, n = fm_coupling_pool_size(coupling, B);
    const size_t D = run->data.D;
    g_autofree size_t *i0 = g_new(size_t, B), *i1 = g_new(size_t, B);
    g_autofree double *weight = g_new(double, B);
    g_autofree int *y = run->data.classes > 0 ? g_new(int, n) : NULL;
    double *x0 = need("bench coupling", n, D, error), *x1 = x0 ? need("bench coupling", n, D, error) : NULL;
    gboolean ok = x1 != NULL;
    guint64 round = 0;

    for (gboolean go = TRUE; ok && go; round++) {
        FmPool pool = {.n0 = n, .n1 = n, .D = D, .x0 = x0, .x1 = x1, .y1 = y};
        FmPairs pairs = {.B = B, .i0 = i0, .i1 = i1, .weight = weight};
        double start;

        pool.key = (FmKey){.seed = (guint64)run->config->seed, .stream = FM_STREAM_COUPLING, .step = round};
        for (size_t i = 0; i < B; i++)
            weight[i] = 1.0;
        if (!(ok = fill_pools(run, round, n, x0, x1, y, error)))
            break;
        start = cli_seconds();
        ok = fm_coupling_pair(coupling, &pool, &pairs, error);
        go = bench_more(row, (cli_seconds() - start) * 1e3);
        if (ok && round == 0 && cli->out)
            ok = write_pairs(cli, &pool, &pairs, error);
    }
    fm_free(x0);
    fm_free(x1);
    return ok;
}

gboolean
bench_coupling(Bench *b, GError **error)
{
    g_autoptr(FmConfig) config = fm_config_copy(b->cli->config);
    BenchRow *row = NULL;
    FmRun *run;
    gboolean ok;

    if (!config->spec[FM_KIND_COUPLING])
        config->spec[FM_KIND_COUPLING] = g_strdup("ot");
    run = fm_run_new(config, error);
    if (run)
        row = bench_row(b);
    ok = run && coupling_rounds(b->cli, run, row, error);
    if (ok) {
        bench_detail(row, "coupling", fm_plugin_spec(run->plugin[FM_KIND_COUPLING]));
        bench_detail(row, "dataset", fm_plugin_spec(run->plugin[FM_KIND_DATASET]));
        bench_detail(row, "dimension", g_strdup_printf("%zu", run->data.D));
        bench_detail(row, "batch_size", g_strdup_printf("%lld", (long long)run->config->batch_size));
        bench_detail(row, "threads", g_strdup_printf("%d", run->config->threads));
    }
    fm_run_free(run);
    return ok;
}

/* ---- divergence ---- */

static gboolean
divergence_rounds(Bench *b, FmRun *run, const char *spec, const FmSamples *p, const FmSamples *q, GError **error)
{
    const FmKey key = {.seed = (guint64)run->config->seed, .stream = FM_STREAM_EVAL};
    g_autoptr(FmPlugin) divergence = fm_plugin_new(FM_KIND_DIVERGENCE, spec, error);
    BenchRow *row = divergence ? bench_row(b) : NULL;
    FmEstimate e = {0};

    for (gboolean go = TRUE; go;) {
        const double start = cli_seconds();

        if (!divergence || !fm_divergence_estimate(divergence, p, q, key, run->config->threads, &e, error))
            return FALSE;
        go = bench_more(row, (cli_seconds() - start) * 1e3);
    }
    bench_detail(row, "divergence", fm_plugin_spec(divergence));
    bench_detail(row, "n", g_strdup_printf("%zu", p->n));
    bench_detail(row, "m", g_strdup_printf("%zu", q->n));
    bench_detail(row, "dimension", g_strdup_printf("%zu", p->D));
    bench_detail(row, "value", g_strdup_printf("%.9g", e.value));
    bench_detail(row, "threads", g_strdup_printf("%d", run->config->threads));
    return TRUE;
}

/* With --out: the two samples as files, so that another program can compare. */
static gboolean
write_samples(Bench *b, const FmSamples *p, const FmSamples *q, GError **error)
{
    g_autofree char *dir = b->cli->out ? cli_run_dir(b->cli, error) : NULL;
    g_autofree char *first = dir ? g_build_filename(dir, "p.npy", NULL) : NULL;
    g_autofree char *second = dir ? g_build_filename(dir, "q.npy", NULL) : NULL;

    return !b->cli->out || (dir && cli_save_points(first, NULL, FM_F64, p->n, p->D, p->x, error) &&
                            cli_save_points(second, NULL, FM_F64, q->n, q->D, q->x, error));
}

gboolean
bench_divergence(Bench *b, GError **error)
{
    FmRun *run = fm_run_new(b->cli->config, error);
    const size_t n = run ? (size_t)run->config->eval_samples : 0;
    const size_t m = run ? (size_t)run->config->samples : 0, D = run ? run->data.D : 0;
    double *x = run ? need("bench divergence", n, D, error) : NULL;
    double *z = x ? need("bench divergence", m, D, error) : NULL;
    const FmSamples p = {.n = n, .D = D, .x = x}, q = {.n = m, .D = D, .x = z};
    gboolean ok = z && read_rows(run, "all", 0, n, x, NULL, error) && read_rows(run, "all", n, m, z, NULL, error) &&
                  write_samples(b, &p, &q, error);

    if (ok && run->config->divergences->len == 0)
        g_ptr_array_add(run->config->divergences, g_strdup("knn-kl"));
    for (guint i = 0; ok && i < run->config->divergences->len; i++)
        ok = divergence_rounds(b, run, run->config->divergences->pdata[i], &p, &q, error);
    fm_free(x);
    fm_free(z);
    fm_run_free(run);
    return ok;
}
