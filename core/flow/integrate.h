/* integrate.h: many rows through the learned field, tile by tile; inside of FmFlow. */
#ifndef FMCORE_CORE_FLOW_INTEGRATE_H
#define FMCORE_CORE_FLOW_INTEGRATE_H

#include "flow/velocity.h"

struct FmFlow {
    FmRun *run; /* owned when `owner` */
    gboolean owner;
    FmPlugin *solver; /* owned */
    int threads;
    double guidance;                               /* 1: none */
    FmVelocity *plain, *exact, *probed, *products; /* made when first needed; probed has as many tangents as
                                           its last use had probes */
    FmMap *forward, *inverse;
};

/* TRUE when samples come from the net's inverse and no differential equation is solved. */
gboolean fm__flow_is_map(const FmFlow *flow);

/* Check labels (n) against what the net wants. */
gboolean fm__flow_check_labels(const FmFlow *flow, const char *who, size_t n, const int *labels, GError **error);
/* Rows must be finite; the message names the row and the column. */
gboolean fm__flow_check_rows(const FmFlow *flow, const char *who, size_t n, const double *x, GError **error);

/* The field without divergence, with exact divergence, or for `probes` tangents; borrowed. */
const FmVelocity *fm__flow_velocity_plain(FmFlow *flow, GError **error);
const FmVelocity *fm__flow_velocity_exact(FmFlow *flow, GError **error);
const FmVelocity *fm__flow_velocity_probed(FmFlow *flow, int probes, GError **error);
/* With the products of D tangents; FM_ERROR_UNSUPPORTED for more than FM__MAX_TANGENTS. */
const FmVelocity *fm__flow_velocity_products(FmFlow *flow, GError **error);
const FmMap *fm__flow_map(FmFlow *flow, gboolean forward, GError **error);

/* Solve dx/dt = v(t, x), and with `how` also dl/dt = -div v, for n rows. */
typedef struct FmIntegration {
    FmFlow *flow;
    const FmLikelihood *how; /* NULL: the state is x alone */
    gboolean tangents;       /* the state is x and D tangents (D, D), which the field's derivative moves */
    gboolean forward;        /* from noise to data, else back */
    size_t n;
    const int *labels; /* (n) or NULL */
    void *state;       /* (n, W) in the run's dtype, W = D, D + 1 or D + D^2; from start to end in place */
    FmSolveStat *stat; /* (n) */
    size_t n_out;      /* dense output, as in FmSolve */
    const double *t_out;
    void *out; /* (n, n_out, W) */
} FmIntegration;

gboolean fm__integrate(const FmIntegration *problem, GError **error);

/* Stages of a step whose divergence enters neither the solution nor its error: fm__integrate() evaluates
 * the plain field there. */
int fm__free_stages(const FmPlugin *solver);

/* Exact divergence (n) and velocity (n, D) at one time: all in the run's dtype. */
gboolean fm__exact_divergence(FmFlow *flow, size_t n, const void *x, double t, const int *labels, void *v, void *div,
                              GError **error);

/* Starting points of rows 0 .. n - 1 in the model's units: the first D of W columns of out, in the
 * run's dtype; x0 (n, D) replaces the noise when not NULL. */
gboolean fm__sample_start(FmFlow *flow, size_t n, size_t W, guint64 seed, const double *x0, void *out, GError **error);
/* log q of n starting points (n, W), before the flow moves them. */
gboolean fm__sample_base(FmFlow *flow, size_t n, size_t W, const void *state, double *log_q, GError **error);
/* Rows of the first D of W columns, from the model's units to the data's. */
void fm__sample_to_data(const FmRun *run, size_t n, size_t W, const void *state, double *x);
/* (n, D) data to the first D of W columns in the model's units; the others are 0. */
void fm__data_to_model(const FmRun *run, size_t n, size_t W, const double *x, void *state);

/* value (n) = estimated error of `coarse` (n): `solve` is run with a finer step or tolerance. */
gboolean fm__solver_error(FmFlow *flow, size_t n, const double *coarse, double *value,
                          gboolean (*solve)(void *ctx, double *value, GError **error), void *ctx, GError **error);

/* E log mean exp(l + sd e) - log mean exp(l) for independent e ~ N(0, 1), l (K): Monte Carlo over
 * numbers of `key`. */
double fm__noise_bias(size_t K, const double *l, double sd, FmKey key);

/* ---- discrete.c: the density of the map that the solver's steps are ---- */

gboolean fm__discrete_sample(FmFlow *flow, size_t n, guint64 seed, const double *x0, const int *labels, double *x,
                             double *log_q, FmSolveStat *stat, GError **error);
/* z (n, D) in the model's units */
gboolean fm__discrete_log_density(FmFlow *flow, size_t n, const double *x, const int *labels, double *log_q, double *z,
                                  FmSolveStat *stat, GError **error);

void fm__summarise(const FmSolveStat *stat, size_t n, FmSolveSummary *summary);

/* How log|det| is found when the caller does not say. */
FmLikelihood fm__default_likelihood(const FmFlow *flow);

/* log p0 (n) of points z (n, D) in the model's units. */
gboolean fm__base_log_density(const FmFlow *flow, size_t n, const double *z, double *log_p, GError **error);
/* Standard deviation of the Gaussian that the path begins with: 1 for paths from N(0, I). */
double fm__base_sd(const FmFlow *flow);
double fm__log_det_scale(const FmFlow *flow); /* sum_d log scale_d */

/* fm_alloc() with the error set: who needs it, how much. */
void *fm__need(const char *who, size_t a, size_t b, size_t size, GError **error);

#endif
