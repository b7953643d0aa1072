/* mass.c: the integral of a flow's density over a box, in one to three dimensions.
 * The rectangle rule at the centres of equal cells: for a smooth density that vanishes at the box's
 * faces it converges faster than any power of the cell (Euler-Maclaurin). Every other cell gives the
 * rule of twice the width on the same values, which for such a density is the worse one by far. Where there are
 * edges both may miss them by the same; so a second grid of half as many cells and one more is summed, too. */
#include "flow/integrate.h"

#include <math.h>
#include <string.h>

enum { MASS_SAMPLES = 2000, MASS_CHUNK = 1 << 15 };

/* Box around one set of samples, widened on all sides; what of a second set lies outside. */
static gboolean
mass_box(FmFlow *flow, FmDensityMass *m, GError **error)
{
    const size_t D = flow->run->data.D;
    const guint64 seed = (guint64)flow->run->config->seed;
    const double margin = 0.3; /* of the range */
    double *x = fm__need("density mass", MASS_SAMPLES, D, sizeof(double), error);
    gboolean ok = x != NULL && fm_flow_sample(flow, MASS_SAMPLES, seed + 1, NULL, NULL, x, NULL, NULL, NULL, error);
    size_t outside = 0;

    for (size_t d = 0; ok && d < D; d++) {
        double lo = INFINITY, hi = -INFINITY;

        for (size_t r = 0; r < MASS_SAMPLES; r++) {
            lo = fmin(lo, x[r * D + d]);
            hi = fmax(hi, x[r * D + d]);
        }
        const double range = hi > lo ? hi - lo : flow->run->scale[d];
        m->lo[d] = lo - margin * range;
        m->hi[d] = hi + margin * range;
    }
    ok = ok && fm_flow_sample(flow, MASS_SAMPLES, seed + 2, NULL, NULL, x, NULL, NULL, NULL, error);
    for (size_t r = 0; ok && r < MASS_SAMPLES; r++) {
        gboolean inside = TRUE;

        for (size_t d = 0; d < D; d++)
            inside = inside && x[r * D + d] >= m->lo[d] && x[r * D + d] <= m->hi[d];
        outside += !inside;
    }
    m->tail = (double)outside / MASS_SAMPLES;
    m->tail_n = MASS_SAMPLES;
    fm_free(x);
    return ok;
}

/* Centre of cell i of points^D; TRUE when all its indices are even. */
static gboolean
mass_cell(const FmDensityMass *m, size_t D, size_t points, size_t i, double *x)
{
    gboolean even = TRUE;

    for (size_t d = D; d-- > 0; i /= points) {
        const size_t k = i % points;

        x[d] = m->lo[d] + ((double)k + 0.5) * (m->hi[d] - m->lo[d]) / (double)points;
        even = even && k % 2 == 0;
    }
    return even;
}

typedef struct MassSum {
    double all, even; /* all cells, and those whose indices are all even */
    size_t n, failed; /* cells */
} MassSum;

/* Sums of the density over points^D cells. */
static gboolean
mass_sum(FmFlow *flow, const FmLikelihood *how, const FmDensityMass *m, size_t points, MassSum *sum, GError **error)
{
    const size_t D = flow->run->data.D, n = (size_t)lround(pow((double)points, (double)D)),
                 chunk = MIN(n, (size_t)MASS_CHUNK);
    double *x = fm__need("density mass", chunk, D, sizeof(double), error);
    double *log_q = x == NULL ? NULL : fm__need("density mass", chunk, 1, sizeof(double), error);
    gboolean ok = log_q != NULL;

    *sum = (MassSum){.n = n};
    for (size_t first = 0; ok && first < n; first += chunk) {
        const size_t rows = MIN(chunk, n - first);

        for (size_t i = 0; i < rows; i++)
            mass_cell(m, D, points, first + i, x + i * D);
        ok = fm_flow_grid_density(flow, rows, x, how, log_q, error);
        for (size_t i = 0; ok && i < rows; i++) {
            const double q = exp(log_q[i]);
            double unused[3];
            const gboolean even = mass_cell(m, D, points, first + i, unused);

            if (!isfinite(q)) {
                sum->failed++;
                continue;
            }
            sum->all += q;
            sum->even += even ? q : 0.0;
        }
    }
    fm_free(x);
    fm_free(log_q);
    return ok;
}

static gboolean
mass_check(const FmFlow *flow, size_t points, GError **error)
{
    const size_t D = flow->run->data.D;
    const char *who = "density mass";

    if (D > 3) {
        g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                    "%s: points have %" G_GSIZE_FORMAT " values, expected 1 to 3", who, D);
        return FALSE;
    }
    if (flow->run->net_info.classes > 0) {
        g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                    "%s: net '%s' has a density for each label, expected a net without labels", who,
                    fm_plugin_name(flow->run->plugin[FM_KIND_NET]));
        return FALSE;
    }
    if (points < 4 || points % 2 != 0 || pow((double)points, (double)D) > 1e8) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                    "%s: %" G_GSIZE_FORMAT " points an axis, expected an even number from 4 with at "
                    "most 1e8 points in all",
                    who, points);
        return FALSE;
    }
    return TRUE;
}

gboolean
fm_flow_density_mass(FmFlow *flow, const FmLikelihood *how, size_t points, FmDensityMass *mass, GError **error)
{
    const size_t D = flow->run->data.D, other = points / 2 + 1;
    double volume = 1.0;
    MassSum sum, coarse;

    *mass = (FmDensityMass){0};
    if (!mass_check(flow, points, error) || !mass_box(flow, mass, error) ||
        !mass_sum(flow, how, mass, points, &sum, error) || !mass_sum(flow, how, mass, other, &coarse, error))
        return FALSE;
    for (size_t d = 0; d < D; d++)
        volume *= mass->hi[d] - mass->lo[d];
    const double cell = volume / (double)sum.n, halved = sum.even * cell * pow(2.0, (double)D),
                 beside = coarse.all * volume / (double)coarse.n;
    mass->n = sum.n;
    mass->failed = sum.failed;
    mass->value = sum.all * cell;
    mass->grid_error = fmax(fabs(mass->value - halved), fabs(mass->value - beside));
    return TRUE;
}
