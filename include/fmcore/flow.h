/* flow.h: use a trained flow from a program: load, sample, evaluate.
 *
 * Points are double, in the data's own units, (n, D) row-major. Log-densities are in nats and
 * include the Jacobian of the run's standardisation. Labels (n) are those of a conditional net, else
 * NULL; a conditional net that was trained with dropped labels also has a flow without any: NULL
 * (but fm_flow_score() wants them). A flow uses its own threads; calls on one
 * flow must not overlap. */
#ifndef FMCORE_FLOW_H
#define FMCORE_FLOW_H

#include <fmcore/dataset.h>
#include <fmcore/plan.h>
#include <fmcore/solver.h>

G_BEGIN_DECLS

typedef struct FmFlow FmFlow;

/* Open a run directory (config.ini and model.safetensors). Errors: FM_ERROR_FILE, FM_ERROR_DATA,
 * those of the plugins it names. The caller owns the result. */
FmFlow *fm_flow_load(const char *run_dir, GError **error);
void fm_flow_free(FmFlow *flow); /* NULL allowed */

size_t fm_flow_dim(const FmFlow *flow);                  /* D, values of one point */
const FmDataInfo *fm_flow_data_info(const FmFlow *flow); /* borrowed */
guint64 fm_flow_parameters(const FmFlow *flow);          /* number of trainable weights */

/* Use another solver ("dopri5:rtol=1e-6") or number of threads from now on. */
gboolean fm_flow_set_solver(FmFlow *flow, const char *spec, GError **error);
void fm_flow_set_threads(FmFlow *flow, int threads);

/* From now on the flow goes along another affine path ("cosine") than that on which it was trained, to the same
 * data: x'_r = s(r) x_t(r) where the ratios alpha / sigma agree (Lipman et al. 2024, arXiv:2412.06264, sec. 4.6).
 * Times, the interval and the base are the new path's. FM_ERROR_UNSUPPORTED for nets that are maps, for flows
 * with a source of their own and for paths with noise of their own; the flow is then as it was. */
gboolean fm_flow_set_path(FmFlow *flow, const char *spec, GError **error);

/* From now on the velocity of every call is v0 + w (v - v0), v that of the labels given and v0 that
 * without a label: classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598, whose weight is
 * w - 1). w = 1 is the field as it was trained, 0 the unconditional one. Densities are those of the
 * guided flow; fm_flow_score() refuses other weights than 1. FM_ERROR_UNSUPPORTED for nets trained without labels or
 * without dropping them. */
gboolean fm_flow_set_guidance(FmFlow *flow, double w, GError **error);

/* Solver statistics of one call, over rows. */
typedef struct FmSolveSummary {
    double nfe_mean;
    guint64 nfe_max, nfe_total;
    guint64 accepted, rejected; /* sums over rows */
    size_t failed;              /* rows that did not reach the end */
    size_t stiffest;            /* row with the largest nfe */
} FmSolveSummary;

/* How log|det| of the flow is found: by the integral of the exact divergence, or of Hutchinson's
 * estimate of it, which give the density of the differential equation's flow; or from the Jacobian
 * of the map that the solver's fixed steps really are, to rounding (at most 64 dimensions, solvers
 * with fixed steps only). */
typedef enum FmTrace { FM_TRACE_EXACT, FM_TRACE_HUTCHINSON, FM_TRACE_MAP } FmTrace;
typedef struct FmLikelihood {
    FmTrace trace;
    gboolean gaussian; /* probes N(0, I) instead of Rademacher */
    int probes;        /* per point, fixed along its trajectory */
    FmKey key;         /* of the probes: one row per point */
} FmLikelihood;

/* n samples x (n, D) from (seed, row): row r is the same for every n and any number of threads.
 * x0 (n, D) in the model's units replaces the noise when not NULL; labels (n) or NULL; log_q (n),
 * from the same solve, and stat (n) when not NULL; summary may be NULL. */
gboolean fm_flow_sample(FmFlow *flow, size_t n, guint64 seed, const double *x0, const int *labels, double *x,
                        double *log_q, FmSolveStat *stat, FmSolveSummary *summary, GError **error);

/* The same with log_q found as `how` says; NULL: exact up to 32 dimensions, else one Rademacher
 * probe. With FM_TRACE_MAP log_q is the density of the samples as they are made, with their
 * discretisation. */
gboolean fm_flow_sample_density(FmFlow *flow, size_t n, guint64 seed, const double *x0, const int *labels,
                                const FmLikelihood *how, double *x, double *log_q, FmSolveStat *stat,
                                FmSolveSummary *summary, GError **error);

/* log q_1 at x (n, D); how NULL: exact up to 32 dimensions, else one Rademacher probe. z (n, D),
 * the noise each point came from, when not NULL. With FM_TRACE_MAP the steps from noise to data are
 * inverted by Newton's method; a point that has no origin (coarse steps may fold) gets NAN. */
gboolean fm_flow_log_density(FmFlow *flow, size_t n, const double *x, const int *labels, const FmLikelihood *how,
                             double *log_q, double *z, FmSolveSummary *summary, GError **error);

/* grad log q_1 (n, D) at x (n, D), data units, and log q_1 (n) when not NULL: exact divergence, in
 * double whatever the run's dtype; accurate as the solver's tolerance. NaN for rows that the solver
 * could not bring back. Cost per row: D tangents, forward and in reverse. */
gboolean fm_flow_score(FmFlow *flow, size_t n, const double *x, const int *labels, double *log_q, double *score,
                       FmSolveSummary *summary, GError **error);

/* TRUE where log q_1 has a formula: exact fields of known distributions (`--net oracle` without an error). */
gboolean fm_flow_has_formula(const FmFlow *flow);

/* log q_1 (n) at x (n, D) by that formula, in double: -INFINITY where the density is 0. score (n, D), its gradient,
 * when not NULL: NAN there. Only where fm_flow_has_formula(). */
gboolean fm_flow_formula_density(FmFlow *flow, size_t n, const double *x, double *log_q, double *score, GError **error);

/* log q_1 at the points of a grid (n, D), labels none: by the formula where there is one, else as
 * fm_flow_log_density(). Outside of a sharp distribution no solver comes back to noise. */
gboolean fm_flow_grid_density(FmFlow *flow, size_t n, const double *x, const FmLikelihood *how, double *log_q,
                              GError **error);

/* What the solver leaves out: difference (n) estimates true minus log_q (n), which came from
 * fm_flow_log_density() with the same arguments. The points are solved again with half the step
 * (Richardson's extrapolation) or a hundredth of the tolerance (not below 1e-6 in float). 0 where
 * no equation is solved: invertible nets, FM_TRACE_MAP. */
gboolean fm_flow_log_density_error(FmFlow *flow, size_t n, const double *x, const int *labels, const FmLikelihood *how,
                                   const double *log_q, double *difference, GError **error);

/* The integral of the density over a box: near 1 - tail for a density that is one. */
typedef struct FmDensityMass {
    double value;
    double grid_error;   /* larger difference to two rules with cells about twice as wide */
    double tail;         /* share of tail_n further samples that lie outside the box */
    size_t n, tail_n;    /* points of the grid; samples */
    size_t failed;       /* points without a finite density, counted as 0 */
    double lo[3], hi[3]; /* the box, data units: around samples, 30 % of their range wider */
} FmDensityMass;

/* In 1 to 3 dimensions, with `points` (even) along each axis; how as in fm_flow_log_density().
 * FM_ERROR_UNSUPPORTED for more dimensions and for nets that take labels. */
gboolean fm_flow_density_mass(FmFlow *flow, const FmLikelihood *how, size_t points, FmDensityMass *mass,
                              GError **error);

/* nll (n) in nats of quantised data, -log mean_k q(x_k) + D log(levels), by K draws of uniform
 * dequantisation noise: x_k = (x (levels - 1) + u) / levels. The K draws of an image share their
 * probes, so that noise of the probes does not pass for probability. Bits per dimension: nll / (D log 2).
 * FM_ERROR_UNSUPPORTED for continuous data. */
gboolean fm_flow_bpd(FmFlow *flow, size_t n, const double *x, const int *labels, const FmLikelihood *how, int K,
                     double *nll, FmSolveSummary *summary, GError **error);

/* As fm_flow_log_density_error(), for nll (n) of fm_flow_bpd(). */
gboolean fm_flow_bpd_error(FmFlow *flow, size_t n, const double *x, const int *labels, const FmLikelihood *how, int K,
                           const double *nll, double *difference, GError **error);

/* Noise of Hutchinson's probes in log-densities, from a second set of probes. */
typedef struct FmProbeNoise {
    double sd;        /* of one log-density, nats */
    double sd_within; /* of what the K draws of an image do not share */
    double bias;      /* nats by which log mean exp over K draws is too large for it, on average */
} FmProbeNoise;

/* Measured on n points, or n quantised images with K > 0 draws each; all 0 without probes. */
gboolean fm_flow_probe_noise(FmFlow *flow, size_t n, const double *x, const int *labels, const FmLikelihood *how, int K,
                             FmProbeNoise *noise, GError **error);

/* The velocity v(t, x) (n, D) in data units and its exact divergence (n) when not NULL. */
gboolean fm_flow_velocity(FmFlow *flow, size_t n, const double *x, double t, const int *labels, double *v,
                          double *divergence, GError **error);

/* States along the way at times t[0..k-1] in [0, 1]: out (n, k, D), from (seed, row) noise. */
gboolean fm_flow_trajectory(FmFlow *flow, size_t n, guint64 seed, const double *x0, const int *labels, size_t k,
                            const double *t, double *out, GError **error);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(FmFlow, fm_flow_free)

G_END_DECLS
#endif
