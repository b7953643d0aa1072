/* study_entropy.c: the entropy of p_t by three routes, along exact flows.
 *   a   -E log p_t
 *   b   H(p_0) + int E div V dt = H(p_0) - int E<V, grad log p_t> dt
 *   c   Kozachenko & Leonenko's estimate from the points alone
 * and, where the path ends in the data itself, the closed form. Checked at the end of the path, at
 * several standard errors of the difference. */
#include "cli/study.h"
#include "flow/entropy.h"
#include "flow/kl.h"

#include <math.h>
#include <string.h>

enum { ENTROPY_ROWS = 10000, ENTROPY_TIMES = 41, ENTROPY_K = 5, ENTROPY_SE = 3 };

typedef struct EntropyCase {
    const char *dataset;
    double stop; /* of the grid: before the density jumps; NAN: the path's end */
    double bias; /* of route c, tabulated */
} EntropyCase;

static const EntropyCase entropy_cases[] = {
    {"gaussian:sd=2.385", NAN, 0.0}, {"8gaussians", NAN, 0.0}, {"checkerboard", 0.98, 0.034}};
static const char *const entropy_paths[] = {"ot", "vp", "cosine"};
#define ENTROPY_CASES G_N_ELEMENTS(entropy_cases)
#define ENTROPY_PATHS G_N_ELEMENTS(entropy_paths)

/* |a - b| in standard errors of the difference of independent estimates. */
static void
compare(Study *s, const char *what, const char *dataset, const char *path, double a, double sa, double b,
        double sb, double bias)
{
    g_autofree char *name = g_strdup_printf("%s, %s: %s", dataset, path, what);

    checks_add(s->checks, name, a, b, ENTROPY_SE * sqrt(sa * sa + sb * sb) + 1.5 * bias);
}

static gboolean
one_case(Study *s, const EntropyCase *e, const char *path, double *t, double *curve, GError **error)
{
    const FmKlOptions options = {.n = ENTROPY_ROWS, .times = ENTROPY_TIMES, .seed = s->seed,
                                 .threads = s->threads, .stop = e->stop};
    const size_t last = ENTROPY_TIMES - 1;
    FmRun *run = study_oracle_run(s, "oracle", e->dataset, path, error);
    g_autoptr(FmFlow) flow = run ? fm_flow_from_run(run, error) : NULL;
    g_autoptr(FmKl) kl = flow ? fm_kl_new(flow, flow, &options, error) : NULL;
    const double exact = run && isnan(e->stop) ? fm_dataset_entropy(run->plugin[FM_KIND_DATASET]) : NAN;
    double knn = NAN, knn_se = NAN;
    const gboolean ok =
        kl && fm_entropy_knn(kl->n, kl->D, kl->x, ENTROPY_K, s->threads, &knn, &knn_se, error);

    if (ok) {
        const double a = kl->value[FM_KL_ENTROPY][last], sa = kl->se[FM_KL_ENTROPY][last];
        const double b = kl->value[FM_KL_ENTROPY_DIV][last], sb = kl->se[FM_KL_ENTROPY_DIV][last];
        const double c = kl->value[FM_KL_ENTROPY_SCORE][last], sc = kl->se[FM_KL_ENTROPY_SCORE][last];

        study_row(s);
        study_text(s, "dataset", e->dataset);
        study_text(s, "path", path);
        study_number(s, "t", kl->t[last]);
        study_number(s, "log_density", a);
        study_number(s, "se_a", sa);
        study_number(s, "div", b);
        study_number(s, "se_b", sb);
        study_number(s, "score", c);
        study_number(s, "se_c", sc);
        study_number(s, "neighbours", knn);
        study_number(s, "se_d", knn_se);
        study_number(s, "exact", exact);
        compare(s, "density - divergence", e->dataset, path, a, sa, b, sb, 0.0);
        compare(s, "density - score", e->dataset, path, a, sa, c, sc, 0.0);
        compare(s, "neighbours - density", e->dataset, path, knn, knn_se, a, sa, e->bias);
        if (isfinite(exact))
            compare(s, "density - exact", e->dataset, path, a, sa, exact, 0.0, 0.0);
        for (size_t j = 0; j < ENTROPY_TIMES; j++) {
            t[j] = kl->t[j];
            curve[j] = kl->value[FM_KL_ENTROPY][j];
        }
        study_progress(s, "%s, path %s: %.4f +- %.4f", e->dataset, path, a, sa);
    }
    fm_run_free(run);
    return ok;
}

gboolean
study_entropy(Study *s, GError **error)
{
    double t[ENTROPY_CASES][ENTROPY_TIMES], h[ENTROPY_CASES][ENTROPY_TIMES];
    FmCurve curves[ENTROPY_CASES];
    static const char *const taken[] = {NULL};

    if (!study_takes(s, taken, error))
        return FALSE;
    for (size_t i = 0; i < ENTROPY_CASES; i++) {
        for (size_t k = ENTROPY_PATHS; k-- > 0;) /* the curve of the first path stays */
            if (!one_case(s, &entropy_cases[i], entropy_paths[k], t[i], h[i], error))
                return FALSE;
        curves[i] = (FmCurve){
            .name = entropy_cases[i].dataset, .x = t[i], .y = h[i], .n = ENTROPY_TIMES};
    }
    study_say(s, "routes: -E log p_t, H(p_0) + int E div V, H(p_0) - int E<V, grad log p_t>, %d-nearest "
                 "neighbours; %d trajectories", ENTROPY_K, ENTROPY_ROWS);
    return study_curves(s, "entropy.svg", "Entropy along the path ot", "t", "nats", curves, ENTROPY_CASES,
                        0, error);
}
