/* oracle.h: what the files of the oracle net share. */
#ifndef FMCORE_PLUGINS_NET_ORACLE_H
#define FMCORE_PLUGINS_NET_ORACLE_H

#include <fmcore/net.h>

/* ---- oracle_time.c: functions of t given as text ---- */

/* A number, one of the names a1, a2, a3, or an expression of t for libmatheval. */
typedef struct OracleFunction {
    const char *option; /* whose value it is, for error sentences */
    double constant;
    int name;         /* index of a named function, or -1 */
    void *expression; /* libmatheval's evaluator; NULL: named or constant */
    double *integral; /* of 0 .. t at the ends of the panels; NULL: not wanted */
} OracleFunction;

/* Parse `text`; it must be finite on [0, 1]. Errors: FM_ERROR_OPTION; FM_ERROR_UNSUPPORTED for an
 * expression in a build without libmatheval. */
gboolean oracle_function_init(OracleFunction *f, const char *option, const char *text, gboolean integral,
                              GError **error);
void oracle_function_clear(OracleFunction *f); /* zeroed allowed */
gboolean oracle_function_is(const OracleFunction *f, double constant);
double oracle_function_value(const OracleFunction *f, double t);
double oracle_function_integral(const OracleFunction *f, double t); /* over [0, t] */

/* ---- the net's state ---- */

/* Columns of the one node that depends on t alone, (B, ORACLE_COLUMNS). The path's noise is
 * sigma x0 + gamma z: variance sigma^2 + gamma^2, of which half the derivative is
 * sigma dsigma + gamma dgamma, finite where dsigma has a pole. */
enum {
    ORACLE_ALPHA,
    ORACLE_DALPHA,
    ORACLE_ALPHA2, /* alpha^2 */
    ORACLE_ALPHA_DALPHA,
    ORACLE_VAR,      /* sigma^2 + gamma^2 */
    ORACLE_COV,      /* sigma dsigma + gamma dgamma */
    ORACLE_A,        /* a(t) + beta */
    ORACLE_INTEGRAL, /* of a + beta over [0, t] */
    ORACLE_SCALE,
    ORACLE_SHIFT,
    ORACLE_ROTATE,
    ORACLE_NOISE,
    ORACLE_COLUMNS
};

typedef struct Oracle {
    /* options */
    int field;
    char *dataset, *path;
    char *a;
    double beta;
    char *scale, *shift, *rotate, *noise;
    /* prepared */
    const FmPlugin *affine; /* the run's path; borrowed */
    gboolean rough;         /* finite data or boxes, and a path without noise at t = 1 */
    double last;            /* time whose coefficients serve beyond it, too */
    OracleFunction f_a, f_scale, f_shift, f_rotate, f_noise;
} Oracle;

/* ---- oracle_mixture.c ---- */

/* Velocity (B, D) and, where the pointers are not NULL, log p_t (B) and div v (B) of a mixture of Gaussians under an
 * affine path, at x (B, D) in the model's units; `column` is the node of t. */
FmNode *oracle_mixture(FmGraph *graph, const FmMixture *m, const FmNetInfo *info, FmNode *x, FmNode *column,
                       FmNode **log_p, FmNode **div);

/* Column `which` as (B, 1, 1), to broadcast over components and coordinates. */
FmNode *oracle_wide(FmNode *column, int which);

/* ---- oracle_boxes.c ---- */

/* The same of a mixture of uniform boxes, without a divergence of its own. */
FmNode *oracle_boxes(FmGraph *graph, const FmBoxes *boxes, const FmNetInfo *info, FmNode *x, FmNode *column,
                     FmNode **log_p);

/* ---- oracle_data.c ---- */

/* The same of all rows of a finite data set. */
FmNode *oracle_finite(FmGraph *graph, const FmNetInfo *info, FmNode *x, FmNode *column, FmNode **log_p, FmNode **div);

/* ---- oracle_perturb.c ---- */

/* v (B, D) scaled, rotated in its first two coordinates, shifted and with noise added. */
FmNode *oracle_perturb(const Oracle *self, FmGraph *graph, FmNode *x, FmNode *column, FmNode *v);
gboolean oracle_is_perturbed(const Oracle *self);

/* Column `which` as (B, 1). */
FmNode *oracle_column(FmNode *column, int which);

#endif
