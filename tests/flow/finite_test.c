/* finite_test.c: the field of finite rows against sums over them, written out: classes, dequantisation, draws. */
#include "suite.h"
#include "flow/excess.h"
#include "setup.h"

#include <glib/gstdio.h>
#include <math.h>
#include <string.h>

enum { ROWS = 40, HELD_OUT = 5, SIDE_LENGTH = 2, D = SIDE_LENGTH * SIDE_LENGTH };

/* Images of 2 x 2 bytes with labels 0 to 9 in MNIST's files. */
typedef struct Digits {
    char *dir;
    guchar level[ROWS][D];
    int label[ROWS];
    FmRun *run;
} Digits;

static void
digits_write(const char *dir, const char *name, guchar magic, int n, const guchar *bytes, size_t size)
{
    g_autofree char *file = g_build_filename(dir, name, NULL);
    const guchar head[16] = {0, 0, 8, magic, 0, 0, 0, (guchar)n, 0, 0, 0, SIDE_LENGTH, 0, 0, 0, SIDE_LENGTH};
    const size_t skip = magic == 3 ? 16 : 8;
    g_autofree guchar *all = g_malloc(skip + size);

    memcpy(all, head, skip);
    memcpy(all + skip, bytes, size);
    ck_assert(g_file_set_contents(file, (char *)all, (gssize)(skip + size), NULL));
}

/* Each label has near it a level of its own, so that fields with and without labels differ. */
static Digits
digits_new(const char *net, int conditional)
{
    Digits g = {.dir = g_dir_make_tmp("fmcore-XXXXXX", NULL)};
    g_autofree char *spec = g_strdup_printf("mnist:dir=\"%s\"", g.dir);
    g_autoptr(FmConfig) c = fm_config_new();
    g_autoptr(GError) error = NULL;
    guchar label[ROWS];
    FmRng rng = fm_rng((FmKey){.seed = 3, .stream = FM_STREAM_USER}, 0);

    for (int i = 0; i < ROWS; i++) {
        label[i] = (guchar)(g.label[i] = i % 3);
        for (int d = 0; d < D; d++)
            g.level[i][d] = d == 3 ? 0 : (guchar)(60 * g.label[i] + (int)fm_rng_below(&rng, 30));
    }
    digits_write(g.dir, "train-images-idx3-ubyte", 3, ROWS, g.level[0], sizeof g.level);
    digits_write(g.dir, "train-labels-idx1-ubyte", 1, ROWS, label, sizeof label);
    digits_write(g.dir, "t10k-images-idx3-ubyte", 3, HELD_OUT, g.level[0], (size_t)HELD_OUT * D);
    digits_write(g.dir, "t10k-labels-idx1-ubyte", 1, HELD_OUT, label, HELD_OUT);
    c->spec[FM_KIND_NET] = g_strdup(net);
    c->spec[FM_KIND_DATASET] = g_strdup(spec);
    c->dtype = FM_F64;
    c->threads = 2;
    c->conditional = conditional;
    c->label_dropout = conditional ? 0.25 : 0.0;
    g.run = fm_run_new(c, &error);
    ck_assert_msg(g.run != NULL, "%s", error ? error->message : "");
    return g;
}

static void
digits_clear(Digits *g)
{
    static const char *const files[] = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte",
                                        "t10k-labels-idx1-ubyte"};

    for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *file = g_build_filename(g->dir, files[i], NULL);
        g_unlink(file);
    }
    g_rmdir(g->dir);
    g_free(g->dir);
    fm_run_free(g->run);
}

static double
phi(double z)
{
    return exp(-0.5 * z * z) / sqrt(2 * G_PI);
}

/* v (D) of class y (-1: all) under ot by the definition, over the rows that are not held out. The split is keyed: a
 * row belongs to it when `taken` says so. */
static void
by_definition(const Digits *g, const gboolean *taken, double t, int y, const double *x, double *v)
{
    const double s = 1 - t;
    double weight = 0, mean[D] = {0};

    for (int i = 0; i < ROWS; i++) {
        double p = 1, m[D];

        if (!taken[i] || (y >= 0 && g->label[i] != y))
            continue;
        for (int d = 0; d < D; d++) {
            const double lo = (g->level[i][d] / 256.0 - g->run->shift[d]) / g->run->scale[d],
                         hi = lo + 1 / (256 * g->run->scale[d]), a = (x[d] - t * hi) / s, b = (x[d] - t * lo) / s;
            const double P =
                a > 0 ? 0.5 * (erfc(a / G_SQRT2) - erfc(b / G_SQRT2)) : 0.5 * (erfc(-b / G_SQRT2) - erfc(-a / G_SQRT2));

            p *= P / (b - a);
            m[d] = P > 0 ? (x[d] - s * (phi(a) - phi(b)) / P) / t : 0;
        }
        weight += p;
        for (int d = 0; d < D; d++)
            mean[d] += p * m[d];
    }
    for (int d = 0; d < D; d++)
        v[d] = (mean[d] / weight - x[d]) / s;
}

/* Which of the first ROWS rows are trained on, found by reading the split. */
static void
training_rows(const Digits *g, gboolean *taken)
{
    const size_t n = fm_run_split_rows(g->run, "train");
    double x[D];
    int y;

    memset(taken, 0, ROWS * sizeof *taken);
    ck_assert_uint_lt(n, ROWS);
    for (size_t r = 0; r < n; r++) {
        ck_assert(fm_run_data(g->run, "train", r, 1, x, &y, NULL));
        for (int i = 0; i < ROWS; i++) {
            gboolean same = g->label[i] == y;

            for (int d = 0; d < D; d++)
                same = same && fabs(x[d] * 255 - g->level[i][d]) < 1e-6;
            taken[i] = taken[i] || same;
        }
    }
}

START_TEST(quantised_rows_have_the_field_of_their_boxes)
{
    enum { N = 200 };
    static const double times[] = {0.03, 0.3, 0.8, 0.97, 0.995};
    Digits g = digits_new("mlp:width=16,depth=2", 1);
    g_autoptr(GError) error = NULL;
    g_autoptr(FmFinite) f = fm_finite_new(g.run, &error);
    ck_assert_msg(f != NULL, "%s", error ? error->message : "");
    FmFiniteWorker *own = fm__finite_worker_new(f, NULL);
    gboolean taken[ROWS];
    double x[N * D], t[N], v[N * D], want[D];
    gint32 y[N];

    training_rows(&g, taken);
    fm__finite_draw(f, (FmKey){.seed = 1, .stream = FM_STREAM_USER}, N, x, y);
    for (int i = 0; i < N; i++) {
        FmRng rng = fm_rng((FmKey){.seed = 2, .stream = FM_STREAM_USER}, (guint64)i);

        t[i] = times[i % 5];
        for (int d = 0; d < D; d++)
            x[i * D + d] = t[i] * x[i * D + d] + (1 - t[i]) * fm_rng_normal(&rng);
    }
    fm__finite_velocity(f, own, N, x, t, y, v);
    for (int i = 0; i < N; i++) {
        by_definition(&g, taken, t[i], y[i], x + i * D, want);
        for (int d = 0; d < D; d++)
            ck_assert_double_eq_tol(v[i * D + d], want[d], 1e-8 * (1 + fabs(want[d])));
    }
    fm__finite_worker_free(own);
    digits_clear(&g);
}
END_TEST

/* Levels of one row each with noise below a level; labels of that row, a quarter dropped. */
START_TEST(draws_are_dequantised_training_rows)
{
    enum { N = 4000 };
    Digits g = digits_new("mlp:width=16,depth=2", 1);
    g_autoptr(FmFinite) f = fm_finite_new(g.run, NULL);
    gboolean taken[ROWS];
    g_autofree double *x = g_new(double, N *D);
    g_autofree gint32 *y = g_new(gint32, N);
    int dropped = 0, rows = 0;
    double noise = 0;

    training_rows(&g, taken);
    fm__finite_draw(f, (FmKey){.seed = 5, .stream = FM_STREAM_USER}, N, x, y);
    for (int i = 0; i < N; i++) {
        gboolean found = FALSE;

        for (int k = 0; k < ROWS; k++) {
            gboolean same = taken[k] && (y[i] < 0 || y[i] == g.label[k]);

            for (int d = 0; d < D; d++) {
                const double level = (x[i * D + d] * g.run->scale[d] + g.run->shift[d]) * 256 - g.level[k][d];
                same = same && level > -1e-9 && level < 1 + 1e-9;
            }
            found = found || same;
        }
        ck_assert_msg(found, "draw %d is no training row", i);
        dropped += y[i] < 0;
        const double last = (x[i * D + 3] * g.run->scale[3] + g.run->shift[3]) * 256;
        noise += (last - floor(last + 1e-9)) / N;
    }
    for (int i = 0; i < ROWS; i++)
        rows += taken[i];
    ck_assert_int_gt(rows, 20);
    ck_assert_double_eq_tol(dropped / (double)N, 0.25, 0.03);
    ck_assert_double_eq_tol(noise, 0.5, 0.02);
    digits_clear(&g);
}
END_TEST

/* loss - conditional variance is eps^2 for a conditional net of quantised images, too; and of the field itself 0. */
START_TEST(images_have_an_excess)
{
    Digits g = digits_new("mlp:width=16,depth=2", 1);
    g_autoptr(GError) error = NULL;
    g_autoptr(FmFinite) f = fm_finite_new(g.run, NULL);
    g_autoptr(FmFlow) flow = fm_flow_from_run(g.run, NULL);
    FmExcess x, own, one;

    ck_assert_msg(fm_excess_rows(flow, f, 4000, 7, 2, &x, &error), "%s", error ? error->message : "");
    ck_assert_double_eq_tol(x.excess.value, x.eps2.value, 4.5 * x.excess.se);
    ck_assert_double_gt(x.eps2.value, 20 * x.excess.se);
    ck_assert(fm_excess_rows(NULL, f, 4000, 7, 2, &own, NULL));
    ck_assert_double_eq(own.eps2.value, 0.0);
    ck_assert_double_eq(own.variance.value, x.variance.value);
    ck_assert(fm_excess_rows(flow, f, 4000, 7, 1, &one, NULL));
    ck_assert_mem_eq(&x, &one, sizeof x);
    digits_clear(&g);
}
END_TEST

START_TEST(mirrored_images_are_refused_in_a_sentence)
{
    g_autoptr(GError) error = NULL;
    FmRun *run = setup_run("mlp:width=8,depth=1", "mnist:flip=yes", "ot", "euler", FM_F64);

    ck_assert_ptr_null(fm_finite_new(run, &error));
    ck_assert(g_error_matches(error, FM_ERROR, FM_ERROR_UNSUPPORTED));
    ck_assert_ptr_nonnull(strstr(error->message, "mirrors"));
    fm_run_free(run);
}
END_TEST

int
main(void)
{
    return run_tests("finite", 120, {quantised_rows_have_the_field_of_their_boxes},
                     {draws_are_dequantised_training_rows}, {images_have_an_excess},
                     {mirrored_images_are_refused_in_a_sentence});
}
