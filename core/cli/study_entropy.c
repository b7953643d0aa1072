/* study_entropy.c: the entropy of p_t by three routes, along exact flows.
 *   a   -E log p_t
 *   b   H(p_0) + int E div V dt = H(p_0) - int E<V, grad log p_t> dt
 *   c   Kozachenko & Leonenko's estimate from the points alone
 * and, where the path ends in the data itself, the closed form. Checked at the end of the path, at
 * several standard errors of the difference, paired where routes share their trajectories. */
#include "cli/kl.h"
#include "cli/study.h"
#include "flow/entropy.h"

#include <math.h>
#include <string.h>

enum { ENTROPY_ROWS = 10000, ENTROPY_TIMES = 41, ENTROPY_K = 5, ENTROPY_SE = 3 };
#define ENTROPY_NUMERICS 1e-4 /* nats that solver and quadrature may leave */

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

/* a and b as routes print them, and the standard error of their difference. */
static void
compare(Study *s, const char *what, const char *dataset, const char *path, double a, double b, double se, double bias)
{
    g_autofree char *name = g_strdup_printf("%s, %s: %s", dataset, path, what);

    checks_add(s->checks, name, a, b, ENTROPY_SE * se + bias);
}

static void
case_checks(Study *s, const EntropyCase *e, const char *path, const FmKl *kl, double knn, double knn_se, double exact)
{
    const size_t last = kl->T - 1;
    const double a = kl->value[FM_KL_ENTROPY][last], sa = kl->se[FM_KL_ENTROPY][last];

    compare(s, "density - divergence", e->dataset, path, a, kl->value[FM_KL_ENTROPY_DIV][last],
            kl->se[FM_KL_ENTROPY_DIV_GAP][last], ENTROPY_NUMERICS);
    compare(s, "density - score", e->dataset, path, a, kl->value[FM_KL_ENTROPY_SCORE][last],
            kl->se[FM_KL_ENTROPY_SCORE_GAP][last], ENTROPY_NUMERICS);
    compare(s, "neighbours - density", e->dataset, path, knn, a, hypot(knn_se, sa), 1.5 * e->bias);
    if (isfinite(exact))
        compare(s, "density - exact", e->dataset, path, a, exact, sa, 0.0);
}

/* NULL on error; owned. */
static FmKl *
one_case(Study *s, const EntropyCase *e, const char *path, GError **error)
{
    const FmKlOptions options = {
        .n = ENTROPY_ROWS, .times = ENTROPY_TIMES, .seed = s->seed, .threads = s->threads, .stop = e->stop};
    const size_t last = ENTROPY_TIMES - 1;
    FmRun *run = study_oracle_run(s, "oracle", e->dataset, path, error);
    g_autoptr(FmFlow) flow = run ? fm_flow_from_run(run, error) : NULL;
    g_autoptr(FmKl) kl = flow ? kl_measure(s->cli, e->dataset, flow, flow, &options, error) : NULL;
    const double exact = run && isnan(e->stop) ? fm_dataset_entropy(run->plugin[FM_KIND_DATASET]) : NAN;
    double knn = NAN, knn_se = NAN;

    if (kl && fm_entropy_knn(kl->n, kl->D, kl->x, ENTROPY_K, s->threads, &knn, &knn_se, error)) {
        study_row(s);
        study_text(s, "dataset", e->dataset);
        study_text(s, "path", path);
        study_number(s, "t", kl->t[last]);
        study_number(s, "log_density", kl->value[FM_KL_ENTROPY][last]);
        study_number(s, "se_a", kl->se[FM_KL_ENTROPY][last]);
        study_number(s, "div", kl->value[FM_KL_ENTROPY_DIV][last]);
        study_number(s, "se_b", kl->se[FM_KL_ENTROPY_DIV][last]);
        study_number(s, "score", kl->value[FM_KL_ENTROPY_SCORE][last]);
        study_number(s, "se_c", kl->se[FM_KL_ENTROPY_SCORE][last]);
        study_number(s, "neighbours", knn);
        study_number(s, "se_d", knn_se);
        study_number(s, "exact", exact);
        case_checks(s, e, path, kl, knn, knn_se, exact);
        study_progress(s, "%s, path %s: %.4f +- %.4f", e->dataset, path, kl->value[FM_KL_ENTROPY][last],
                       kl->se[FM_KL_ENTROPY][last]);
    } else {
        g_clear_pointer(&kl, fm_kl_free);
    }
    fm_run_free(run);
    return g_steal_pointer(&kl);
}

gboolean
study_entropy(Study *s, GError **error)
{
    static const char *const taken[] = {NULL};
    FmKl *kept[ENTROPY_CASES] = {NULL};
    FmCurve curves[ENTROPY_CASES];
    gboolean ok = study_takes(s, taken, error);

    for (size_t i = 0; ok && i < ENTROPY_CASES; i++) {
        for (size_t k = ENTROPY_PATHS; ok && k-- > 0;) { /* the first path stays, for the picture */
            fm_kl_free(kept[i]);
            kept[i] = one_case(s, &entropy_cases[i], entropy_paths[k], error);
            ok = kept[i] != NULL;
        }
        if (ok)
            curves[i] = (FmCurve){.name = entropy_cases[i].dataset,
                                  .x = kept[i]->t,
                                  .y = kept[i]->value[FM_KL_ENTROPY],
                                  .se = kept[i]->se[FM_KL_ENTROPY],
                                  .n = kept[i]->T};
    }
    if (ok)
        study_say(s,
                  "routes: -E log p_t, H(p_0) + int E div V, H(p_0) - int E<V, grad log p_t>, %d-nearest "
                  "neighbours; %d trajectories",
                  ENTROPY_K, ENTROPY_ROWS);
    ok =
        ok && study_curves(s, "entropy.svg", "Entropy along the path ot", "t", "nats", curves, ENTROPY_CASES, 0, error);
    for (size_t i = 0; i < ENTROPY_CASES; i++)
        fm_kl_free(kept[i]);
    return ok;
}
