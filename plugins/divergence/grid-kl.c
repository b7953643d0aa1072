/* grid-kl: Kullback-Leibler divergence of two histograms on one grid, in nats, for 1 to 3 columns.
 *   KL = sum over cells of p log(p / q),  p = (count + 1/2) / (n + cells / 2), q likewise
 * over the cells that either sample occupies; smooth > 0 convolves both histograms with a Gaussian
 * of that many cells first (a kernel density estimate on the grid). Two biases: coarse cells lose
 * divergence (data processing inequality), few points a cell add about (cells - 1) / 2 (1/n + 1/m).
 * Standard error around the estimator's mean: delta method on the cells (Cover & Thomas 2006,
 * doi:10.1002/047174882X, sec. 2.5 and 11.1). */
#include <fmcore/array.h>
#include <fmcore/divergence.h>

#include <math.h>
#include <string.h>

enum { GRID_D = 3, GRID_CELLS = 1 << 24, GRID_BINS = 4096, GRID_REACH = 4 };

typedef struct GridKl {
    int bins;      /* option */
    double smooth; /* option */
} GridKl;

static const FmOption grid_options[] = {
    FM_OPT_INT(GridKl, bins, 0, 0, GRID_BINS,
               "cells a column, between the extremes; 0: their width from the standard deviations"),
    FM_OPT_REAL(GridKl, smooth, 0, 0, 100, "width of a Gaussian kernel in cells; 0: histograms"),
    FM_OPT_END,
};

typedef struct Grid {
    size_t D, cells;
    size_t bins[GRID_D]; /* of each column */
    double low[GRID_D], width[GRID_D];
    double *count[2]; /* (cells) */
    double *p[2];     /* (cells) probabilities, later influence functions */
    double *line;     /* (largest bins) */
} Grid;

static size_t
grid_cell(const Grid *g, const double *x)
{
    size_t cell = 0;

    for (size_t d = 0; d < g->D; d++) {
        const double at = (x[d] - g->low[d]) / g->width[d];

        cell = cell * g->bins[d] + MIN((size_t)MAX(at, 0.0), g->bins[d] - 1);
    }
    return cell;
}

/* Mean and sum of squared deviations of column d. */
static double
grid_spread(const FmSamples *s, size_t d, double *mean)
{
    double sum = 0.0;

    *mean = 0.0;
    for (size_t i = 0; i < s->n; i++) {
        const double x = s->x[i * s->D + d], before = *mean;

        *mean += (x - before) / ((double)i + 1.0);
        sum += (x - before) * (x - *mean);
    }
    return sum;
}

/* Cells of column d over both samples. Without `bins` their width follows Scott's rule, 3.49 sd n^(-1/(D + 2))
 * with the standard deviation within the samples, and one of them is centred at P's mean: a grid between the
 * extremes would move with these, which adds a variance that no formula on the cells contains (of the size of
 * all the rest at P = Q). Scott 1979, doi:10.1093/biomet/66.3.605; D > 1: Scott 1992,
 * doi:10.1002/9780470316849, sec. 3.4. */
static void
grid_column(Grid *g, size_t d, const FmSamples *p, const FmSamples *q, size_t bins)
{
    const size_t most = g->D == 1 ? GRID_BINS : g->D == 2 ? 1024 : 128;
    double low = INFINITY, high = -INFINITY, mean, unused, sd, width;

    for (int s = 0; s < 2; s++)
        for (size_t i = 0; i < (s ? q : p)->n; i++) {
            const double x = (s ? q : p)->x[i * g->D + d];

            low = MIN(low, x);
            high = MAX(high, x);
        }
    sd = sqrt((grid_spread(p, d, &mean) + grid_spread(q, d, &unused)) / (double)(p->n + q->n));
    width = 3.49 * sd * pow((double)MIN(p->n, q->n), -1.0 / ((double)g->D + 2.0));
    if (bins == 0 && (high - low) / width < (double)most - 1.0) {
        g->low[d] = mean - (ceil((mean - low) / width - 0.5) + 0.5) * width;
        bins = (size_t)((high - g->low[d]) / width) + 1;
    } else { /* asked for, or outliers, or constant samples */
        g->low[d] = low;
        bins = bins ? bins : most;
        width = (high - low) / (double)bins;
    }
    g->width[d] = width > 0.0 ? width : 1.0; /* a constant column */
    g->bins[d] = bins;
}

/* Convolve with a Gaussian of `sd` cells along each column of the grid; mass that would leave is
 * reflected, so that the operator is symmetric and keeps the sum. */
static void
grid_smooth(const Grid *g, double sd, double *v)
{
    if (sd == 0.0)
        return;
    for (size_t d = g->D, stride = 1; d-- > 0; stride *= g->bins[d]) {
        const long bins = (long)g->bins[d], reach = MIN((long)ceil(GRID_REACH * sd), bins - 1);
        double total = 1.0;

        for (long k = 1; k <= reach; k++)
            total += 2.0 * exp(-0.5 * (double)(k * k) / (sd * sd));
        for (size_t start = 0; start < g->cells; start++) {
            if (start / stride % g->bins[d] != 0)
                continue;
            memset(g->line, 0, g->bins[d] * sizeof *g->line);
            for (long i = 0; i < bins; i++)
                for (long k = -reach; k <= reach; k++) {
                    const long j = i + k < 0 ? -1 - (i + k) : i + k;

                    g->line[j >= bins ? 2 * bins - 1 - j : j] +=
                        v[start + (size_t)i * stride] * exp(-0.5 * (double)(k * k) / (sd * sd)) / total;
                }
            for (long i = 0; i < bins; i++)
                v[start + (size_t)i * stride] = g->line[i];
        }
    }
}

/* Counts to probabilities with half a count in each cell that is occupied; returns these cells. */
static double
grid_probabilities(Grid *g, size_t n, size_t m, double smooth)
{
    double used = 0.0;

    for (size_t c = 0; c < g->cells; c++)
        used += g->count[0][c] + g->count[1][c] > 0.0;
    for (int s = 0; s < 2; s++) {
        const double size = (double)(s ? m : n);

        for (size_t c = 0; c < g->cells; c++)
            g->p[s][c] = g->count[0][c] + g->count[1][c] > 0.0 ? (g->count[s][c] + 0.5) / (size + 0.5 * used) : 0.0;
        grid_smooth(g, smooth, g->p[s]);
    }
    return used;
}

/* Variance over the sample of an influence function on the cells, divided by n. */
static double
grid_variance(const Grid *g, const double *count, const double *influence, size_t n)
{
    double mean = 0.0, square = 0.0;

    for (size_t c = 0; c < g->cells; c++)
        mean += count[c] / (double)n * influence[c];
    for (size_t c = 0; c < g->cells; c++)
        square += count[c] / (double)n * (influence[c] - mean) * (influence[c] - mean);
    return square / (double)n;
}

static void
grid_finish(Grid *g, size_t n, size_t m, double smooth, FmEstimate *out)
{
    const double used = grid_probabilities(g, n, m, smooth);
    const double rate = 1.0 / (double)n + 1.0 / (double)m;
    double sum = 0.0, var;

    for (size_t c = 0; c < g->cells; c++) {
        const double p = g->p[0][c], q = g->p[1][c];

        if (p > 0.0 && q > 0.0)
            sum += p * log(p / q);
        /* derivatives of the sum by p and by q, smoothed as the samples were */
        g->p[0][c] = p > 0.0 && q > 0.0 ? log(p / q) : 0.0;
        g->p[1][c] = q > 0.0 ? -p / q : 0.0;
    }
    grid_smooth(g, smooth, g->p[0]);
    grid_smooth(g, smooth, g->p[1]);
    var = grid_variance(g, g->count[0], g->p[0], n) + grid_variance(g, g->count[1], g->p[1], m);
    out->value = sum;
    out->se = sqrt(var);
    if (smooth == 0.0) {
        /* near P = Q: 2 KL / rate is chi-squared with used - 1 degrees, whose noise is also in var */
        const double df = used - 1.0;

        out->se = sqrt(MAX(var - df * rate * rate, 0.0) + 0.5 * df * rate * rate);
    }
    fm_estimate_number(out, "bins a column", (double)g->bins[0]);
    fm_estimate_number(out, "cells occupied", used);
    if (smooth == 0.0)
        fm_estimate_number(out, "bias when equal", 0.5 * (used - 1.0) * rate);
}

static gboolean
grid_kl_estimate(const void *self, const FmSamples *p, const FmSamples *q, FmKey key, int threads, FmEstimate *out,
                 GError **error)
{
    const GridKl *options = self;
    Grid g = {.D = p->D, .cells = 1};
    size_t widest = 0;
    gboolean ok = TRUE;

    out->unit = "nats";
    out->n = p->n;
    if (p->D > GRID_D) {
        g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                    "divergence 'grid-kl': the samples have %zu columns, expected at most %d; "
                    "'knn-kl' takes any number",
                    p->D, GRID_D);
        return FALSE;
    }
    for (size_t d = 0; d < g.D; d++) {
        grid_column(&g, d, p, q, (size_t)options->bins);
        g.cells *= g.bins[d];
        widest = MAX(widest, g.bins[d]);
    }
    if (g.cells > GRID_CELLS) {
        g_set_error(error, FM_ERROR, FM_ERROR_OPTION,
                    "divergence 'grid-kl': %d bins for %zu columns are %zu cells, expected at most %d", options->bins,
                    g.D, g.cells, GRID_CELLS);
        return FALSE;
    }
    for (int s = 0; s < 2; s++) {
        g.count[s] = fm_alloc(g.cells * sizeof(double));
        g.p[s] = fm_alloc(g.cells * sizeof(double));
        ok = ok && g.count[s] && g.p[s];
    }
    g.line = fm_alloc(widest * sizeof *g.line);
    ok = ok && g.line;
    if (ok) {
        for (size_t i = 0; i < p->n; i++)
            g.count[0][grid_cell(&g, p->x + i * g.D)] += 1.0;
        for (size_t i = 0; i < q->n; i++)
            g.count[1][grid_cell(&g, q->x + i * g.D)] += 1.0;
        grid_finish(&g, p->n, q->n, options->smooth, out);
    } else
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "divergence 'grid-kl': no memory for %zu cells", g.cells);
    for (int s = 0; s < 2; s++) {
        fm_free(g.count[s]);
        fm_free(g.p[s]);
    }
    fm_free(g.line);
    return ok;
}

static const FmDivergenceOps grid_ops = {.estimate = grid_kl_estimate};

static const FmFact grid_facts[] = {
    {"bias", "coarse cells: downwards; few points a cell: (cells - 1) / 2 (1/n + 1/m) upwards"},
    {"error", "around the estimator's own mean: delta method on the cells"},
    {"columns", "1 to 3"},
    {NULL, NULL},
};

FM_PLUGIN_DECLARE(DIVERGENCE, grid_kl, "grid-kl", grid_ops, .self_size = sizeof(GridKl), .options = grid_options,
                  .summary = "Kullback-Leibler divergence of histograms on one grid (1 to 3 columns)",
                  .source = "Cover & Thomas 2006, doi:10.1002/047174882X, sec. 2.5 and 11.1", .facts = grid_facts);
