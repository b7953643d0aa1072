/* kl.h: KL(p_t||q_t) of two flows by several routes, the bound and the certificate.
 *
 * Along p's own trajectories x(t), with p's velocity V and score s_p, q's W and s_q, there holds
 * sample by sample (DESIGN.md, section 6)
 *   log p_t/q_t = log p_0/q_0 + int <V - W, s_p - s_q> - [div(V - W) + <V - W, s_p>] dt,
 * whose last bracket has mean zero. Everything is in double, in p's model units. */
#ifndef FMCORE_CORE_FLOW_KL_H
#define FMCORE_CORE_FLOW_KL_H

#include "flow/mean.h"
#include "flow/quadrature.h"

#include <fmcore/flow.h>

/* What p_t is compared with. */
typedef enum FmKlStill {
    FM_KL_MOVING, /* q_t */
    FM_KL_END,    /* q at the end of the grid, at all times: the profile of a flow to its own end */
    FM_KL_DATA    /* the density of q's data set, at all times */
} FmKlStill;

/* Points of q's own for each trajectory of p: they cost a solve or two each, a trajectory that many at every time. */
enum { FM_KL_OWN = 4 };

typedef struct FmKlOptions {
    size_t n;     /* trajectories */
    size_t times; /* points of the time grid, odd, >= 7 */
    guint64 seed;
    int threads;
    double stop;     /* the grid ends here; NAN: at the path's end */
    FmKlStill still; /* what stands still has W = 0, and everything below holds with that */
    gboolean drop;   /* leave out grad(div) in learned scores: a known error, for tests */
    /* After each piece of the work, `done` of `all`: from any thread, one at a time. NULL: nobody listens. */
    void (*progress)(size_t done, size_t all, void *listener);
    void *listener; /* borrowed */
} FmKlOptions;

/* What is known of every trajectory at every time. */
typedef enum FmKlField {
    FM_KL_LOG_P,
    FM_KL_LOG_Q,
    FM_KL_PRODUCT,    /* <V - W, s_p - s_q> */
    FM_KL_EPS2,       /* |V - W|^2 */
    FM_KL_GAP2,       /* |s_p - s_q|^2 */
    FM_KL_MARTINGALE, /* div(V - W) + <V - W, s_p>, mean zero */
    FM_KL_V_SCORE,    /* <V, s_p> */
    FM_KL_DIV,        /* div V */
    FM_KL_N_FIELDS
} FmKlField;

/* Curves over the time grid, each with a standard error. */
typedef enum FmKlCurve {
    FM_KL_PLAIN,      /* mean of log p/q */
    FM_KL_LOW,        /* mean of log p/q + q/p - 1 */
    FM_KL_RATIO,      /* route (a): one of the two, the same at all times */
    FM_KL_EVOLUTION,  /* route (b): KL_0 + int E<V - W, s_p - s_q> */
    FM_KL_DIFFERENCE, /* (a) - (b), paired */
    FM_KL_INTEGRAND,
    FM_KL_EPS2_T,            /* eps_t^2 */
    FM_KL_GAP2_T,            /* S_t */
    FM_KL_ENTROPY,           /* -E log p_t */
    FM_KL_ENTROPY_SCORE,     /* H_0 - int E<V, s_p> */
    FM_KL_ENTROPY_DIV,       /* H_0 + int E div V */
    FM_KL_ENTROPY_SCORE_GAP, /* -E log p_t minus these two, paired */
    FM_KL_ENTROPY_DIV_GAP,
    FM_KL_N_CURVES
} FmKlCurve;

typedef enum FmVerdict { FM_VERDICT_HOLDS, FM_VERDICT_VIOLATED, FM_VERDICT_NOT_RESOLVED } FmVerdict;
extern const char *const fm_verdict_names[]; /* "holds", "violated", "not resolved" */

typedef struct FmKl {
    size_t n, failed, T, D; /* trajectories used, and left out because a solve failed */
    double *t;              /* (T) times, equidistant but towards an end where densities have edges */
    double *pace;           /* (T) of the grid; NULL: 1 */
    FmGrid grid;
    FmKlStill still;                  /* of the options */
    gboolean infinite;                /* at t = 1 one side has no smooth density: KL or S are infinite there, and */
    const char *kl_at_1, *bound_at_1; /* sentences that say which; static; NULL where all is finite */
    double *field[FM_KL_N_FIELDS];    /* (T, n) each */
    double *x;                        /* (n, D) at the last time, p's model units */
    double *value[FM_KL_N_CURVES], *se[FM_KL_N_CURVES]; /* (T) each */
    gboolean low;                                       /* FM_KL_RATIO is the low-variance form */
    const char *low_why; /* why the low-variance form has no bar that holds; static; NULL: it has */
    double *own_ratio;   /* (own_n) log p/q at the last time at points of q's own; NULL unless FM_KL_MOVING */
    size_t own_n, own_failed;
    /* closed form, when both p_t and q_t are Gaussian; else NULL */
    double *exact, *exact_integrand;                         /* (T) */
    double exact_eps2, exact_gap2, exact_sharp, exact_bound; /* as below, without sampling */
    /* at the last time */
    FmNumber both;    /* KL from p's and q's points together */
    FmNumber kl;      /* what the verdict is about: closed form where there is one, else `both` or the mean of log p/q,
                       * whichever has the smaller standard error */
    gboolean kl_both; /* it is `both` */
    FmNumber eps2, gap2;            /* integrals of eps_t^2 and S_t, sampled (closed when n = 0) */
    FmNumber sharp, bound;          /* KL_0 + int eps_t sqrt(S_t) dt, KL_0 + eps sqrt(S), likewise */
    double alignment, alignment_se; /* (KL - KL_0) / (eps sqrt(S)); se NAN where it is in closed form */
    FmVerdict verdict, verdict_sharp;
    double slack_se;                      /* paired, of bound - KL */
    double z_max;                         /* largest |(a) - (b)| / se after the start */
    double quadrature;                    /* |int - the same on every other time| of route (b) */
    double residual_coarse;               /* the largest at the end when every other time is left out: far above
                                           * residual_max, the residual is the grid's and not the calculation's */
    double residual_max, residual[4];     /* pathwise: over all times; at the end 50, 90, 99, 100 % */
    FmNumber reverse, jensen_shannon, tv; /* KL(q||p), infinite where p has density 0 at a point of q; JS; TV */
    FmNumber weight;                      /* mean of q/p at the end, 1 up to its standard error */
    double tail;                          /* tail index of the weights q/p (Hill): the low form needs < 1/4 */
    double ess;                           /* effective sample size of these weights */
    double unreached; /* share of q's own points where p's trajectories have less than one expected point in all */
    double nfe_mean;  /* evaluations a trajectory and time */
} FmKl;

/* Both flows are borrowed; they may be the same. Errors: FM_ERROR_SHAPE for different dimensions,
 * FM_ERROR_UNSUPPORTED for maps, non-Gaussian sources without score or conditional nets, and for
 * FM_KL_DATA where the data have no density and score, or none everywhere: KL is infinite. */
FmKl *fm_kl_new(FmFlow *p, FmFlow *q, const FmKlOptions *options, GError **error);
void fm_kl_free(FmKl *kl); /* NULL allowed */

/* The closed form alone, without sampling: NULL and no error when p_t or q_t is not Gaussian. The
 * result has n = 0 and no fields; `kl`, the exact members, bounds and verdicts are set. */
FmKl *fm_kl_exact(FmFlow *p, FmFlow *q, const FmKlOptions *options, GError **error);

/* "KL(p1||q1) = 0.01234 +- 0.00021 nats (routes differ by ...); bound ...; holds". Owned. */
char *fm_kl_words(const FmKl *kl);

/* Append why the pathwise residual is above 1e-6, where the time grid is: nothing otherwise. */
void fm_kl_residual_words(GString *s, const FmKl *kl);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(FmKl, fm_kl_free)

#endif
