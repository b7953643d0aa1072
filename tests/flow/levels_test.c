/* levels_test.c: kernels that are compiled for several levels of instructions give the same bytes at each, and what
 * the plainest gives is right: assignments by their certificate, the rest by loops written out. */
#include "suite.h"
#include "flow/finite.h"
#include "flow/stepper.h"
#include "setup.h"

#include <fmcore/fmcore.h>
#include <glib/gstdio.h>
#include <math.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* n doubles in [-1, 1), the same at every level. */
static double *
numbers(guint64 row, size_t n)
{
    FmRng rng = fm_rng((FmKey){.seed = 11, .stream = FM_STREAM_USER}, row);
    double *x = g_new(double, n);

    for (size_t i = 0; i < n; i++)
        x[i] = 2.0 * fm_rng_uniform(&rng) - 1.0;
    return x;
}

static void
put(GByteArray *out, const void *data, size_t bytes)
{
    g_byte_array_append(out, data, (guint)bytes);
}

/* ---- assignment ---- */

/* The total, the matching (n) and the columns' potentials (n). */
static void
assignment_compute(size_t n, GByteArray *out)
{
    g_autofree double *cost = numbers(n, n * n);
    g_autofree size_t *to = g_new(size_t, n);
    double *work = fm_alloc(fm_assignment_work(n));
    const double total = fm_assignment(n, cost, to, work);

    put(out, &total, sizeof total);
    put(out, to, n * sizeof *to);
    put(out, work, n * sizeof *work);
    fm_free(work);
}

/* A permutation is the cheapest when every row's column has that row's least cost less potential. */
static void
assignment_check(size_t n, const guint8 *bytes)
{
    g_autofree double *cost = numbers(n, n * n);
    g_autofree guint8 *seen = g_new0(guint8, n);
    const double total = *(const double *)(const void *)bytes;
    const size_t *to = (const size_t *)(const void *)(bytes + sizeof total);
    const double *v = (const double *)(const void *)(to + n);
    double sum = 0.0;

    for (size_t i = 0; i < n; i++) {
        ck_assert_uint_lt(to[i], n);
        ck_assert_int_eq(seen[to[i]]++, 0);
        sum += cost[i * n + to[i]];
        for (size_t j = 0; j < n; j++)
            ck_assert_double_le(cost[i * n + to[i]] - v[to[i]], cost[i * n + j] - v[j] + 1e-12);
    }
    ck_assert_double_eq_tol(total, sum, 1e-12 * (double)n);
}

/* ---- distances ---- */

enum { FEW = 5 }; /* columns; from 16 on the backend's matrix product decides the bytes */

static void
distances_compute(size_t n, GByteArray *out)
{
    g_autofree double *x = numbers(n, 2 * n * FEW), *d2 = g_new(double, n *n),
                      *work = g_new(double, fm_distances2_work(n, n, FEW));

    fm_distances2(n, x, n, x + n * FEW, FEW, work, d2);
    put(out, d2, n * n * sizeof *d2);
}

static void
distances_check(size_t n, const guint8 *bytes)
{
    const double *d2 = (const double *)(const void *)bytes;
    g_autofree double *x = numbers(n, 2 * n * FEW);

    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = 0.0;

            for (size_t d = 0; d < FEW; d++)
                sum += pow(x[i * FEW + d] - x[(n + j) * FEW + d], 2);
            ck_assert_double_eq_tol(d2[i * n + j], sum, 1e-14);
        }
}

/* ---- steppers ---- */

enum { WIDTH = 3, MOST_K = 9, VECTORS = MOST_K + 2 };
static const double rtol = 1e-3, atol_ = 1e-5;

/* VECTORS vectors of WIDTH n numbers in a type's precision. */
static char *
vectors(size_t n, gboolean is_double)
{
    const size_t all = VECTORS * WIDTH * n;
    double *x = numbers(n, all);
    float *narrow = (float *)(void *)x;

    for (size_t i = 0; !is_double && i < all; i++) {
        const float value = (float)x[i];
        memcpy(narrow + i, &value, sizeof value);
    }
    return (char *)x;
}

static const double weights[MOST_K] = {0.3, 0.1, -0.7, 0.2, 0.9, 0.4, -0.2, 0.6, 0.8};

/* Combinations of 1 to MOST_K slopes, with and without x; ratios and scaled differences. */
static void
steppers_of(const FmStepKernels *kernels, gboolean is_double, size_t n, GByteArray *out)
{
    const size_t m = WIDTH * n, bytes = m * (is_double ? sizeof(double) : sizeof(float));
    g_autofree char *x = vectors(n, is_double), *to = g_malloc(bytes);
    const void *k[MOST_K];

    for (int j = 0; j < MOST_K; j++)
        k[j] = x + (size_t)(j + 2) * bytes;
    for (int n_k = 1; n_k <= MOST_K; n_k++)
        for (int with_x = 0; with_x < 2; with_x++) {
            kernels->combine(m, to, with_x ? x : NULL, x + bytes, n_k, weights, k);
            put(out, to, bytes);
        }
    for (int w = 0; w < 2; w++) {
        kernels->scaled(m, to, k[0], w ? k[1] : NULL, k[2], rtol, atol_);
        put(out, to, bytes);
    }
    memcpy(to, k[3], bytes);
    kernels->ratio(m, to, k[4], k[5], rtol, atol_);
    put(out, to, bytes);
}

static void
steppers_compute(size_t n, GByteArray *out)
{
    steppers_of(&fm__step_kernels_f64, TRUE, n, out);
    steppers_of(&fm__step_kernels_f32, FALSE, n, out);
}

static double
at(const char *x, gboolean is_double, size_t i)
{
    return is_double ? ((const double *)(const void *)x)[i] : (double)((const float *)(const void *)x)[i];
}

/* Number i of each result by its definition, in double. */
static size_t
steppers_check_of(gboolean is_double, size_t n, const guint8 *bytes)
{
    const size_t m = WIDTH * n, size = is_double ? sizeof(double) : sizeof(float);
    const double tolerance = is_double ? 1e-14 : 4e-6;
    g_autofree char *x = vectors(n, is_double);
    const char *got = (const char *)bytes;
#define SLOPE(j) at(x, is_double, (size_t)((j) + 2) * m + i)

    for (int n_k = 1; n_k <= MOST_K; n_k++)
        for (int with_x = 0; with_x < 2; with_x++, got += m * size)
            for (size_t i = 0; i < m; i++) {
                double sum = 0.0;

                for (int j = 0; j < n_k; j++)
                    sum += weights[j] * SLOPE(j);
                ck_assert_double_eq_tol(at(got, is_double, i),
                                        (with_x ? at(x, is_double, i) : 0.0) + at(x, is_double, m + i) * sum,
                                        tolerance);
            }
    for (int w = 0; w < 2; w++, got += m * size)
        for (size_t i = 0; i < m; i++) {
            const double want = (SLOPE(0) - (w ? SLOPE(1) : 0.0)) / (atol_ + rtol * fabs(SLOPE(2)));
            ck_assert_double_eq_tol(at(got, is_double, i), want, tolerance * (1.0 + fabs(want)));
        }
    for (size_t i = 0; i < m; i++) {
        const double want = SLOPE(3) / (atol_ + rtol * MAX(fabs(SLOPE(4)), fabs(SLOPE(5))));
        ck_assert_double_eq_tol(at(got, is_double, i), want, tolerance * (1.0 + fabs(want)));
    }
#undef SLOPE
    return (size_t)(got - (const char *)bytes) + m * size;
}

static void
steppers_check(size_t n, const guint8 *bytes)
{
    steppers_check_of(FALSE, n, bytes + steppers_check_of(TRUE, n, bytes));
}

/* ---- the field of finite rows ---- */

enum { POINTS = 13, D = 3 };

/* Velocities at POINTS points between n rows and noise, and the points and times. */
static void
finite_compute(size_t n, GByteArray *out)
{
    g_autofree char *dir = g_dir_make_tmp("fmcore-XXXXXX", NULL), *file = g_build_filename(dir, "x.csv", NULL),
                    *spec = g_strdup_printf("csv:file=%s", file);
    g_autofree double *rows = numbers(n, n * D), *x = numbers(1000 + n, POINTS * D);
    g_autoptr(GString) text = g_string_new(NULL);
    double v[POINTS * D], t[POINTS];
    gint32 y[POINTS];

    for (size_t i = 0; i < n * D; i++)
        g_string_append_printf(text, "%.17g%s", rows[i], i % D == D - 1 ? "\n" : ",");
    ck_assert(g_file_set_contents(file, text->str, -1, NULL));
    for (int p = 0; p < POINTS; p++) {
        t[p] = 0.07 * p;
        y[p] = -1;
    }
    FmRun *run = setup_run("oracle", spec, "ot", "euler", FM_F64);
    g_autoptr(FmFinite) f = fm_finite_new(run, NULL);
    ck_assert(f != NULL);
    FmFiniteWorker *own = fm__finite_worker_new(f, NULL);
    fm__finite_velocity(f, own, POINTS, x, t, y, v);
    put(out, v, sizeof v);
    put(out, run->shift, D * sizeof *run->shift);
    put(out, run->scale, D * sizeof *run->scale);
    fm__finite_worker_free(own);
    fm_run_free(run);
    g_unlink(file);
    g_rmdir(dir);
}

/* v = (E[x1 | x] - x) / (1 - t) with weights exp(-|x - t m|^2 / (2 (1 - t)^2)). */
static void
finite_check(size_t n, const guint8 *bytes)
{
    g_autofree double *rows = numbers(n, n * D), *x = numbers(1000 + n, POINTS * D);
    const double *v = (const double *)(const void *)bytes, *shift = v + POINTS * D, *scale = shift + D;

    for (size_t p = 0; p < POINTS; p++) {
        const double t = 0.07 * (double)p, sigma = 1.0 - t;
        double sum = 0.0, mean[D] = {0.0};

        for (size_t i = 0; i < n; i++) {
            double square = 0.0, m[D];

            for (size_t d = 0; d < D; d++) {
                m[d] = (rows[i * D + d] - shift[d]) / scale[d];
                square += pow(x[p * D + d] - t * m[d], 2);
            }
            const double weight = exp(-0.5 * square / (sigma * sigma));
            sum += weight;
            for (size_t d = 0; d < D; d++)
                mean[d] += weight * m[d];
        }
        for (size_t d = 0; d < D; d++)
            ck_assert_double_eq_tol(v[p * D + d], (mean[d] / sum - x[p * D + d]) / sigma, 1e-10);
    }
}

/* ---- each at each level ---- */

static const struct {
    const char *name;
    void (*compute)(size_t n, GByteArray *out);
    void (*check)(size_t n, const guint8 *bytes);
} kernels[] = {{"assignment", assignment_compute, assignment_check},
               {"distances", distances_compute, distances_check},
               {"steppers", steppers_compute, steppers_check},
               {"finite", finite_compute, finite_check}};
static const size_t sizes[] = {1, 7, 31, 33, 257};
enum { N_SIZES = G_N_ELEMENTS(sizes) };

/* What a process of its own computes whose FMCORE_CPU is that level, after the level that it then had. */
static GByteArray *
bytes_at(FmCpuLevel level, void (*compute)(size_t n, GByteArray *out), size_t n)
{
    GByteArray *all = g_byte_array_new();
    guint8 part[4096];
    int ends[2], status;
    ssize_t got;

    ck_assert_int_eq(pipe(ends), 0);
    const pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        g_setenv("FMCORE_CPU", fm_cpu_level_name(level), TRUE);
        const guint64 had = (guint64)fm_cpu_level();
        put(all, &had, sizeof had);
        compute(n, all);
        for (guint done = 0; done < all->len; done += (guint)got)
            if ((got = write(ends[1], all->data + done, all->len - done)) <= 0)
                _exit(1);
        _exit(0);
    }
    close(ends[1]);
    while ((got = read(ends[0], part, sizeof part)) > 0)
        put(all, part, (size_t)got);
    close(ends[0]);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s failed", fm_cpu_level_name(level));
    return all;
}

START_TEST(levels_give_the_same_bytes)
{
    const int k = _i / N_SIZES;
    const size_t n = sizes[_i % N_SIZES], skip = sizeof(guint64);

    g_unsetenv("FMCORE_CPU");
    g_autoptr(GByteArray) base = bytes_at(FM_CPU_BASE, kernels[k].compute, n);
    guint64 last = 0;

    ck_assert_uint_eq(*(const guint64 *)(const void *)base->data, FM_CPU_BASE);
    kernels[k].check(n, base->data + skip);
    for (FmCpuLevel level = FM_CPU_AVX2; level < FM_N_CPU_LEVELS; level++) {
        g_autoptr(GByteArray) other = bytes_at(level, kernels[k].compute, n);

        last = *(const guint64 *)(const void *)other->data;
        ck_assert_uint_le(last, level);
        ck_assert_uint_eq(base->len, other->len);
        ck_assert_msg(memcmp(base->data + skip, other->data + skip, base->len - skip) == 0,
                      "%s of %zu rows at level %s: other bytes", kernels[k].name, n, fm_cpu_level_name(level));
    }
    ck_assert_uint_eq(last, fm_cpu_level()); /* the processor's own came last */
}
END_TEST

int
main(void)
{
    return run_tests("levels", 60, {levels_give_the_same_bytes, (int)(G_N_ELEMENTS(kernels) * N_SIZES)});
}
