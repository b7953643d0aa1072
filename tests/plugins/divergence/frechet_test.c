/* frechet_test.c: feature spaces against PyTorch, distances against scipy, the extrapolation's bias and
 * interval, and what is refused. */
#include "suite.h"
#include "tree.h"
#include "flow/run.h"
#include "io/safetensors.h"

#include <math.h>
#include <string.h>

#include "frechet_rows.h"

static const FmKey key0 = {.seed = 17, .stream = FM_STREAM_EVAL};
static char *dir; /* of this test's files */

/* tests/references/frechet.py draws the same. */
static void
uniforms(guint64 seed, size_t n, double *out)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * G_GUINT64_CONSTANT(6364136223846793005) + G_GUINT64_CONSTANT(1442695040888963407);
        out[i] = (double)(seed >> 11) / 9007199254740992.0;
    }
}

static FmEstimate
estimate(const char *spec, const FmSamples *p, const FmSamples *q, int threads)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(FmPlugin) d = fm_plugin_new(FM_KIND_DIVERGENCE, spec, &error);
    FmEstimate e;

    ck_assert_msg(d && fm_divergence_estimate(d, p, q, key0, threads, &e, &error), "%s: %s", spec,
                  error ? error->message : "no message");
    return e;
}

static const FmDetail *
detail(const FmEstimate *e, const char *name)
{
    for (size_t i = 0; i < e->n_details; i++)
        if (strcmp(e->detail[i].name, name) == 0)
            return &e->detail[i];
    ck_abort_msg("no detail '%s'", name);
}

START_TEST(equals_scipy)
{
    const size_t D = scipy_rows[_i].D, n = scipy_rows[_i].n, m = scipy_rows[_i].m;
    g_autofree double *x = g_new(double, n *D), *y = g_new(double, m *D), *u = g_new(double, m *D);
    FmSamples p = {.n = n, .D = D, .x = x}, q = {.n = m, .D = D, .x = y};
    FmEstimate one, two;

    uniforms(D, n * D, x);
    uniforms(99 + D, m * D, u);
    for (size_t i = 0; i < n * D; i++)
        x[i] *= x[i];
    for (size_t i = 0; i < m; i++)
        for (size_t d = 0; d < D; d++)
            y[i * D + d] = u[i * D + d] + 0.5 * u[i * D + (d + D - 1) % D];
    one = estimate("frechet", &p, &q, 1);
    two = estimate("frechet", &p, &q, 2);
    ck_assert_double_eq_tol(one.value, scipy_rows[_i].value, 1e-7);
    ck_assert(memcmp(&one, &two, sizeof one) == 0);
}
END_TEST

/* Fewer rows than columns is another way to the same distance: columns of zeros lead there. */
START_TEST(fewer_rows_than_columns)
{
    enum { D = 4, WIDE = 60, P = 30, Q = 47 };
    static double x[P * D], y[Q * D], wide_x[P * WIDE], wide_y[Q * WIDE];
    const FmSamples p = {.n = P, .D = D, .x = x}, q = {.n = Q, .D = D, .x = y},
                    wide_p = {.n = P, .D = WIDE, .x = wide_x}, wide_q = {.n = Q, .D = WIDE, .x = wide_y};

    uniforms(1, P * D, x);
    uniforms(2, Q * D, y);
    for (size_t i = 0; i < Q * D; i++)
        y[i] = 0.3 + y[i] * y[i];
    for (size_t i = 0; i < P; i++)
        memcpy(wide_x + i * WIDE + 7, x + i * D, D * sizeof *x);
    for (size_t i = 0; i < Q; i++)
        memcpy(wide_y + i * WIDE + 7, y + i * D, D * sizeof *y);

    const FmEstimate narrow = estimate("frechet:groups=0", &p, &q, 2),
                     wide = estimate("frechet:groups=0", &wide_p, &wide_q, 2),
                     back = estimate("frechet:groups=0", &wide_q, &wide_p, 2);

    ck_assert_double_eq_tol(wide.value, narrow.value, 1e-7);
    ck_assert_double_eq_tol(back.value, narrow.value, 1e-7);
    ck_assert_double_eq_tol(detail(&wide, "bias estimate")->number, detail(&narrow, "bias estimate")->number, 1e-7);
}
END_TEST

/* ---- a stack of layers ---- */

static const struct {
    const char *name;
    int ndim;
    size_t dim[4];
} weights[] = {
    {"conv1.weight", 4, {4, 2, 3, 3}},
    {"conv1.bias", 1, {4}},
    {"bn1.weight", 1, {4}},
    {"bn1.bias", 1, {4}},
    {"bn1.running_mean", 1, {4}},
    {"bn1.running_var", 1, {4}},
    {"conv2.weight", 4, {5, 4, 3, 3}},
    {"fc1.weight", 2, {7, 20}},
    {"fc1.bias", 1, {7}},
};

/* The network of frechet.py as a file; owned name. */
static char *
write_network(FmDtype dtype, const char *stack)
{
    char *file = g_strdup_printf("%s/%s.safetensors", dir, fm_dtype_name(dtype));
    const char *metadata[] = {stack ? "stack" : NULL, stack, NULL};
    FmTensorWriter *w = fm__tensors_write(metadata);
    double *store[G_N_ELEMENTS(weights)];
    g_autoptr(GError) error = NULL;

    for (size_t k = 0; k < G_N_ELEMENTS(weights); k++) {
        size_t n = 1;

        for (int d = 0; d < weights[k].ndim; d++)
            n *= weights[k].dim[d];
        store[k] = g_new(double, n);
        uniforms(500 + k, n, store[k]);
        for (size_t i = 0; i < n; i++) {
            store[k][i] -= g_str_has_suffix(weights[k].name, "var") ? 0 : 0.45;
            if (dtype == FM_F32) /* in place: float i lies before double i */
                ((float *)store[k])[i] = (float)store[k][i];
        }
        fm__tensors_add(w, "", weights[k].name, dtype, weights[k].ndim, weights[k].dim, store[k]);
    }
    ck_assert_msg(fm__tensors_finish(w, file, &error), "%s", error ? error->message : "");
    for (size_t k = 0; k < G_N_ELEMENTS(weights); k++)
        g_free(store[k]);
    return file;
}

#define STACK "normalize:mean=0.4:std=0.3 conv1:pad=1 relu maxpool2 bn1 conv2:stride=2:pad=1 silu"
static const int image[3] = {8, 6, 2};

START_TEST(stack_equals_torch)
{
    const FmDtype dtype = _i & 1 ? FM_F32 : FM_F64;
    const gboolean flat = _i & 2 ? TRUE : FALSE;
    const double *want = flat ? torch_flat : torch_mean, tolerance = dtype == FM_F64 ? 1e-13 : 2e-6;
    const char *stack = flat ? STACK " flatten fc1 tanh" : STACK " avgpool2 mean";
    g_autofree char *file = write_network(dtype, flat ? stack : NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(FmFeatures) f =
        fm_features_stack(file, flat ? NULL : stack, image, 3, 96, 2, &error); /* flat: metadata */
    double x[2 * 96], y[2 * 7];

    ck_assert_msg(f != NULL, "%s", error ? error->message : "");
    ck_assert_uint_eq(fm_features_out(f), flat ? 7 : 5);
    ck_assert_str_eq(strstr(fm_features_name(f), "after"),
                     flat ? "after 'fc1 tanh'" : "after 'conv2:stride=2:pad=1 silu avgpool2 mean'");
    uniforms(77, 2 * 96, x);
    ck_assert_msg(fm_features_eval(f, 2, x, key0, y, &error), "%s", error ? error->message : "");
    for (size_t i = 0; i < 2 * fm_features_out(f); i++)
        ck_assert_msg(fabs(y[i] - want[i]) <= tolerance, "value %zu: %.15g, torch %.15g", i, y[i], want[i]);
}
END_TEST

/* More rows than one run of the plan takes: each row is itself, and the distance is that of the features. */
START_TEST(distance_is_that_of_the_features)
{
    const size_t n = 2100, m = 300;
    g_autofree char *file = write_network(FM_F64, STACK " flatten fc1");
    g_autofree char *spec = g_strdup_printf("frechet:features=%s,shape=[8,6,2]", file);
    g_autoptr(FmFeatures) f = fm_features_stack(file, NULL, image, 3, 96, 2, NULL);
    g_autofree double *x = g_new(double, n * 96), *a = g_new(double, n * 7), *b = g_new(double, m * 7);
    const FmSamples p = {.n = n, .D = 96, .x = x}, q = {.n = m, .D = 96, .x = x + 50 * 96};
    const FmSamples pf = {.n = n, .D = 7, .x = a}, qf = {.n = m, .D = 7, .x = b};
    FmEstimate e, direct;

    uniforms(3, n * 96, x);
    ck_assert(fm_features_eval(f, n, x, key0, a, NULL));
    ck_assert(fm_features_eval(f, m, x + 50 * 96, key0, b, NULL));
    for (size_t i = 0; i < m * 7; i++)
        ck_assert_double_eq_tol(b[i], a[50 * 7 + i], 1e-13);
    e = estimate(spec, &p, &q, 2);
    direct = estimate("frechet:space=layer fc1 of a test", &pf, &qf, 1);
    ck_assert_double_eq_tol(e.value, direct.value, 1e-12);
    ck_assert_double_eq_tol(e.se, direct.se, 1e-12);
    ck_assert_double_eq(detail(&e, "columns")->number, 7);
    ck_assert_ptr_nonnull(strstr(detail(&e, "features")->text, "after 'fc1'"));
    ck_assert_str_eq(detail(&direct, "features")->text, "layer fc1 of a test");
    ck_assert_ptr_nonnull(strstr(detail(&e, "weights")->text, "sha256 "));
}
END_TEST

START_TEST(linear_layers_need_no_words)
{
    g_autofree char *file = g_build_filename(dir, "linear.safetensors", NULL);
    const double w0[6] = {1.5, -2, 0.25, 0.5, 1, -3}, b0[3] = {0.1, 0.2, -0.3}, w1[6] = {2, -1, 0.5, 1, 1, -1.5},
                 w10[2] = {9, 9}, x[2] = {0.7, -0.4};
    const char *none[] = {NULL};
    FmTensorWriter *w = fm__tensors_write(none);
    g_autoptr(FmFeatures) f = NULL;
    double y[2], h[3];

    fm__tensors_add(w, "", "10.weight", FM_F64, 2, (size_t[]){1, 2}, w10);
    fm__tensors_add(w, "", "2.weight", FM_F64, 2, (size_t[]){2, 3}, w1);
    fm__tensors_add(w, "", "0.weight", FM_F64, 2, (size_t[]){3, 2}, w0);
    fm__tensors_add(w, "", "0.bias", FM_F64, 1, (size_t[]){3}, b0);
    ck_assert(fm__tensors_finish(w, file, NULL));
    f = fm_features_stack(file, NULL, NULL, 0, 2, 1, NULL);
    ck_assert(f && fm_features_out(f) == 2);
    ck_assert(fm_features_eval(f, 1, x, key0, y, NULL));
    for (int i = 0; i < 3; i++)
        h[i] = fmax(0, w0[2 * i] * x[0] + w0[2 * i + 1] * x[1] + b0[i]);
    for (int i = 0; i < 2; i++)
        ck_assert_double_eq_tol(y[i], fmax(0, w1[3 * i] * h[0] + w1[3 * i + 1] * h[1] + w1[3 * i + 2] * h[2]), 1e-15);
}
END_TEST

/* ---- a run ---- */

/* A run directory with the first weights of an mlp, in double. */
static FmRun *
write_run(const char *name, const char *dataset, const char *net)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(FmConfig) c = fm_config_new();
    FmRun *run;

    c->spec[FM_KIND_DATASET] = g_strdup(dataset);
    c->spec[FM_KIND_NET] = g_strdup(net);
    c->dtype = FM_F64;
    run = fm_run_new(c, &error);
    ck_assert_msg(run != NULL, "%s", error ? error->message : "");
    run->dir = g_build_filename(dir, name, NULL);
    g_mkdir_with_parents(run->dir, 0755);
    ck_assert_msg(fm_run_save(run, &error), "%s", error ? error->message : "");
    return run;
}

static const double *
param(const FmRun *run, const char *name)
{
    return fm_params_data(run->params, fm_params_find(run->params, name));
}

/* tanh(W [x_t, t] + b) by hand; x_t = alpha x1 + sigma x0 with the noise of the key. */
START_TEST(features_of_an_mlp)
{
    FmRun *run = write_run("mlp", "gaussian:dim=2,mean=0.7,sd=1.9", "mlp:width=5,depth=2,activation=tanh");
    const double t = _i ? 0.3 : 1.0, *w = param(run, "layers.0.weight"), *b = param(run, "layers.0.bias");
    g_autoptr(GError) error = NULL;
    g_autoptr(FmFeatures) f = fm_features_run(run->dir, "layers.1", t, 2, &error);
    double x[6] = {0.3, -1.7, 2.2, 0.1, -0.6, 0.9}, x0[6], y[15];
    FmAffine c;

    ck_assert_msg(f && fm_features_out(f) == 5, "%s", error ? error->message : "");
    ck_assert(fm_features_eval(f, 3, x, key0, y, NULL));
    fm_fill_normal_f64(key0, 0, 3, 2, x0);
    fm_path_coefficients(run->plugin[FM_KIND_PATH], t, &c);
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 5; j++) {
            double sum = b[j] + w[3 * j + 2] * t;

            for (int d = 0; d < 2; d++)
                sum += w[3 * j + d] * (c.alpha * (x[2 * i + d] - run->shift[d]) / run->scale[d] +
                                       (t < 1 ? c.sigma * x0[2 * i + d] : 0));
            ck_assert_double_eq_tol(y[5 * i + j], tanh(sum), 1e-13);
        }
    fm_run_free(run);
}
END_TEST

/* Unset, the layer is the last of an mlp and the coarsest of a U-Net, averaged over its positions. */
START_TEST(layers_are_chosen)
{
    FmRun *mlp = write_run("mlp", "gaussian:dim=2", "mlp:width=5,depth=2"),
          *conv = write_run("conv", "mnist", "conv:channels=8,mult=[1,2],blocks=1,groups=4,attention=[]");
    g_autoptr(FmFeatures) a = fm_features_run(mlp->dir, NULL, 1, 1, NULL),
                          b = fm_features_run(conv->dir, NULL, 1, 1, NULL),
                          c = fm_features_run(conv->dir, "out.2", 1, 1, NULL);

    ck_assert_str_eq(fm_features_name(a), "input of 'layers.2', t = 1");
    ck_assert(b && c);
    ck_assert_msg(fm_features_out(b) >= 16 && fm_features_in(b) == 784, "%s", fm_features_name(b));
    ck_assert_uint_eq(fm_features_out(c), 8);
    fm_run_free(mlp);
    fm_run_free(conv);
}
END_TEST

/* ---- extrapolation and error bars ---- */

static double *
draw(guint64 seed, size_t n, size_t D, double mean, double sd)
{
    double *x = g_new(double, n *D);

    fm_fill_normal_f64((FmKey){.seed = seed, .stream = FM_STREAM_USER}, 0, n, D, x);
    for (size_t i = 0; i < n * D; i++)
        x[i] = mean + sd * x[i];
    return x;
}

/* P = N(m, s^2 I), Q = N(0, I) in 8 columns: D (m^2 + (s - 1)^2). The plain value is too large by many
 * standard errors of its mean over seeds; extrapolated, at most a tenth of that is left, and intervals
 * cover the truth. */
START_TEST(extrapolation_removes_the_bias)
{
    const size_t n = 400, D = 8, seeds = 60;
    const double m = 0.4, s = 1.3, truth = D * (m * m + (s - 1) * (s - 1));
    double plain = 0, extrapolated = 0, estimated = 0;
    int hits = 0;

    for (guint64 i = 0; i < seeds; i++) {
        g_autofree double *x = draw(100 + i, n, D, m, s), *y = draw(900 + i, n, D, 0, 1);
        const FmSamples p = {.n = n, .D = D, .x = x}, q = {.n = n, .D = D, .x = y};
        const FmEstimate e = estimate("frechet:extrapolate=4", &p, &q, 2),
                         bare = estimate("frechet:groups=0", &p, &q, 2);

        plain += bare.value / (double)seeds;
        extrapolated += e.value / (double)seeds;
        estimated += detail(&e, "bias of that")->number / (double)seeds;
        hits += fabs(e.value - truth) <= 1.96 * e.se;
        ck_assert_double_eq(detail(&e, "at all rows")->number, bare.value);
        ck_assert(isnan(bare.se));
    }
    ck_assert_double_gt(plain - truth, 0.08);
    ck_assert_double_le(fabs(extrapolated - truth), 0.25 * (plain - truth));
    ck_assert_double_eq_tol(estimated, plain - truth, 0.35 * (plain - truth));
    ck_assert_msg(hits >= 52, "%d of 60 cover %g", hits, truth);
}
END_TEST

/* ---- refusals ---- */

static const struct {
    const char *options; /* %s: the test's folder */
    const char *sentence;
} refused[] = {
    {"features=%s/mlp,layer=nope", "no layer is called 'nope', expected one of: layers.0"},
    {"features=%s/none", "is not a run directory"},
    {"features=%s/mlp,stack=relu", "option 'stack' was given beside features of a run"},
    {"features=%s/f64.safetensors,layer=fc1", "option 'layer' was given beside features of a classifier"},
    {"features=%s/f64.safetensors,shape=[8,6],stack=relu", "expected three numbers"},
    {"features=%s/f64.safetensors,shape=[8,6,2],stack=conv3", "word 'conv3': expected a layer of the file"},
    {"features=%s/f64.safetensors,shape=[8,6,2],stack=conv1:pod=1", "'pod=1' is no setting, expected stride=NUMBER"},
    {"features=%s/f64.safetensors,shape=[8,6,2],stack=conv1:stride=0", "expected whole numbers"},
    {"features=%s/f64.safetensors,shape=[8,6,2],stack=maxpool9", "from 1 to the side of the images"},
    {"features=%s/f64.safetensors,shape=[8,6,2],stack=fc1", "2 values on its last axis, expected 20"},
    {"features=%s/f64.safetensors,shape=[8,6,2],stack=conv2", "2 channels, expected 4"},
    {"features=%s/f64.safetensors,shape=[8,6,2],stack=normalize:std=0", "std above 0"},
    {"features=%s/f64.safetensors,shape=[8,6,2],stack=' '", "the stack has no words"},
    {"features=%s/f64.safetensors,stack=conv1", "expected shape=[H,W,C]"},
    {"layer=fc1", "option 'layer' was given without 'features'"},
    {"features=%s/mlp", "rows have 96 values, and those of"},
    {"extrapolate=9", "expected at least 4 rows a part"},
};

START_TEST(refuses)
{
    g_autofree char *options = g_strdup(refused[_i].options), *spec = NULL;
    g_autofree char *file = write_network(FM_F64, NULL);
    g_auto(GStrv) parts = g_strsplit(options, "%s", 2);
    g_autofree char *joined = parts[1] ? g_strconcat(parts[0], dir, parts[1], NULL) : g_strdup(options);
    FmRun *run = write_run("mlp", "gaussian:dim=2", "mlp:width=5,depth=2");
    g_autoptr(GError) error = NULL;
    g_autoptr(FmPlugin) d = NULL;
    g_autofree double *x = draw(1, 20, 96, 0, 1);
    const FmSamples p = {.n = 20, .D = 96, .x = x};
    FmEstimate e;

    spec = g_strconcat("frechet:", joined, NULL);
    d = fm_plugin_new(FM_KIND_DIVERGENCE, spec, &error);
    ck_assert_msg(d != NULL, "%s", error ? error->message : "");
    ck_assert(!fm_divergence_estimate(d, &p, &p, key0, 1, &e, &error));
    ck_assert_msg(strstr(error->message, refused[_i].sentence) != NULL, "%s", error->message);
    fm_run_free(run);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("frechet");
    TCase *t = tcase_create("frechet");

    dir = g_dir_make_tmp("fmcore-frechet-XXXXXX", NULL);
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, equals_scipy, 0, G_N_ELEMENTS(scipy_rows));
    tcase_add_test(t, fewer_rows_than_columns);
    tcase_add_loop_test(t, stack_equals_torch, 0, 4);
    tcase_add_test(t, distance_is_that_of_the_features);
    tcase_add_test(t, linear_layers_need_no_words);
    tcase_add_loop_test(t, features_of_an_mlp, 0, 2);
    tcase_add_test(t, layers_are_chosen);
    tcase_add_test(t, extrapolation_removes_the_bias);
    tcase_add_loop_test(t, refuses, 0, G_N_ELEMENTS(refused));
    suite_add_tcase(suite, t);
    const int failed = run_suite(suite, CK_FORK);
    remove_tree(dir);
    g_free(dir);
    return failed ? 1 : 0;
}
