/* divergence_test.c: estimators against closed forms of Gaussians, coverage, ties and bad input. */
#include "estimators.h"

static double
exact_kl(size_t D, double mean, double sd, double mean_q, double sd_q)
{
    const double r = sd / sd_q, u = (mean - mean_q) / sd_q;

    return (double)D * (0.5 * (r * r + u * u - 1.0) - log(r));
}

/* Coverage of value +- 2 se over seeds, for P = N(0.3, 1.1^2), Q = N(0, 1.37^2) or P = Q. */
static int
covered(FmPlugin *d, size_t n, size_t D, int seeds, double mean, double sd, double truth)
{
    int hits = 0;

    for (int s = 0; s < seeds; s++) {
        double *x = draw(1000 + (guint64)s, n, D, mean, sd);
        double *y = draw(5000 + (guint64)s, n, D, 0.0, 1.37);
        const FmSamples p = samples(x, n, D), q = samples(y, n, D);
        const FmEstimate e = estimate(d, &p, &q, 2);

        hits += fabs(e.value - truth) <= 2.0 * e.se;
        fm_free(x);
        fm_free(y);
    }
    return hits;
}

START_TEST(intervals_cover)
{
    /* mmd and energy of one-dimensional Gaussians: see closed() below */
    const size_t D = 2;
    const double truth = exact_kl(D, 0.3, 1.1, 0.0, 1.37);
    static const struct {
        const char *spec;
        size_t n;
        double sd, mean;
    } row[] = {
        {"knn-kl", 1000, 1.1, 0.3},
        {"gaussian-kl", 500, 1.1, 0.3},
        {"mmd:bandwidth=[1.3]", 120, 1.37, 0.0},
        {"energy", 120, 1.37, 0.0},
    };
    g_autoptr(FmPlugin) d = open_plugin(row[_i].spec);
    const int hits = covered(d, row[_i].n, D, 100, row[_i].mean, row[_i].sd, row[_i].mean == 0.0 ? 0.0 : truth);

    ck_assert_msg(hits >= 88, "%s covered %d of 100", row[_i].spec, hits);
}
END_TEST

/* E|X - Y| for X - Y ~ N(m, s^2) */
static double
mean_distance(double m, double s)
{
    return s * sqrt(2.0 / G_PI) * exp(-0.5 * m * m / (s * s)) + m * erf(m / (s * sqrt(2.0)));
}

/* E exp(-(X - Y)^2 / (2 h^2)) */
static double
mean_kernel(double m, double s, double h)
{
    const double v = h * h + s * s;

    return h / sqrt(v) * exp(-0.5 * m * m / v);
}

START_TEST(mmd_and_energy_match_closed_forms)
{
    const double a = 1.1, b = 1.37, m = 0.9, c = hypot(a, b);
    const double energy =
        2.0 * mean_distance(m, c) - mean_distance(0.0, a * sqrt(2.0)) - mean_distance(0.0, b * sqrt(2.0));
    double mmd = 0.0;
    const double h[2] = {0.7, 2.1};
    g_autoptr(FmPlugin) d = open_plugin(_i ? "energy" : "mmd:bandwidth=[0.7,2.1]");
    int hits = 0;

    for (int j = 0; j < 2; j++)
        mmd += 0.5 * (mean_kernel(0.0, a * sqrt(2.0), h[j]) + mean_kernel(0.0, b * sqrt(2.0), h[j]) -
                      2.0 * mean_kernel(m, c, h[j]));
    for (guint64 s = 0; s < 60; s++) {
        double *x = draw(100 + s, 300, 1, m, a), *y = draw(900 + s, 220, 1, 0.0, b);
        const FmSamples p = samples(x, 300, 1), q = samples(y, 220, 1);
        const FmEstimate e = estimate(d, &p, &q, 1);

        hits += fabs(e.value - (_i ? energy : mmd)) <= 2.0 * e.se;
        ck_assert_double_lt(e.se, 0.5 * fabs(_i ? energy : mmd));
        fm_free(x);
        fm_free(y);
    }
    ck_assert_msg(hits >= 52, "%d of 60", hits);
}
END_TEST

/* The naive double loop over all distances, without ties. */
static double
naive_knn_kl(const FmSamples *p, const FmSamples *q, size_t k)
{
    double *d2 = fm_alloc(MAX(p->n, q->n) * sizeof *d2), sum = 0.0;

    for (size_t i = 0; i < p->n; i++)
        for (int j = 0; j < 2; j++) {
            const FmSamples *s = j ? q : p;
            size_t n = 0;

            for (size_t r = 0; r < s->n; r++) {
                double v = 0.0;

                for (size_t d = 0; d < p->D; d++)
                    v += pow(p->x[i * p->D + d] - s->x[r * p->D + d], 2.0);
                if (j == 0 && r == i)
                    continue;
                d2[n++] = v;
            }
            for (size_t l = 0; l < k; l++) /* selection of the k smallest */
                for (size_t r = l + 1; r < n; r++)
                    if (d2[r] < d2[l]) {
                        const double t = d2[l];
                        d2[l] = d2[r];
                        d2[r] = t;
                    }
            sum += (j ? 0.5 : -0.5) * (double)p->D * log(d2[k - 1]);
        }
    fm_free(d2);
    return sum / (double)p->n + log((double)q->n / ((double)p->n - 1.0));
}

START_TEST(knn_searches_are_exact)
{
    static const size_t dims[] = {1, 2, 3, 6, 8, 9, 32, 40};
    static const char *const searches[] = {"auto", "tree", "scan"};
    const size_t D = dims[_i / 3];
    double *x = draw(3, 431, D, 0.3, 1.1), *y = draw(4, 357, D, 0.0, 1.37);
    const FmSamples p = samples(x, 431, D), q = samples(y, 357, D);

    for (int k = 1; k <= 9; k += 4) {
        g_autofree char *spec = g_strdup_printf("knn-kl:k=%d,search=%s", k, searches[_i % 3]);
        g_autoptr(FmPlugin) d = open_plugin(spec);
        const FmEstimate one = estimate(d, &p, &q, 1), two = estimate(d, &p, &q, 2);

        ck_assert_double_eq_tol(one.value, naive_knn_kl(&p, &q, (size_t)k), 1e-9);
        ck_assert_double_eq(one.value, two.value);
        ck_assert(memcmp(&one.se, &two.se, sizeof one.se) == 0);
        ck_assert_str_eq(one.unit, "nats");
    }
    fm_free(x);
    fm_free(y);
}
END_TEST

/* Clusters so tight that bfloat16 (and with _i = 1 float, with 2 all low precision) sees one point: too many
 * candidates, and yet the right ones. More rows than one item of work and one block of products. */
START_TEST(knn_of_clusters)
{
    static const double width[] = {1e-3, 1e-6, 1e-9};
    const size_t D = 20, n = 1500;
    double *x = draw(3, n, D, 0.3, 1.1), *y = draw(4, n, D, 0.0, 1.37), *c = draw(5, 2, D, 0.0, 4.0);
    const FmSamples p = samples(x, n, D), q = samples(y, n, D);
    g_autoptr(FmPlugin) d = open_plugin("knn-kl:k=3,search=scan"), tree = open_plugin("knn-kl:k=3,search=tree");

    for (size_t i = 0; i < n * D; i++) {
        x[i] = c[i / D % 2 * D + i % D] + width[_i] * x[i];
        y[i] = c[i / D % 2 * D + i % D] + width[_i] * y[i];
    }
    ck_assert_double_eq_tol(estimate(d, &p, &q, 2).value, naive_knn_kl(&p, &q, 3), 1e-9);
    ck_assert_double_eq_tol(estimate(tree, &p, &q, 2).value, naive_knn_kl(&p, &q, 3), 1e-9);
    fm_free(x);
    fm_free(y);
    fm_free(c);
}
END_TEST

static int
ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Squared distances of row i of p to the rows of s (not to itself), ascending, into d2; their number. */
static size_t
sorted_distances(const FmSamples *p, size_t i, const FmSamples *s, double *d2)
{
    size_t n = 0;

    for (size_t j = 0; j < s->n; j++) {
        double v = 0.0;

        for (size_t d = 0; d < p->D; d++)
            v += pow(p->x[i * p->D + d] - s->x[j * p->D + d], 2.0);
        if (s != p || j != i)
            d2[n++] = v;
    }
    qsort(d2, n, sizeof *d2, ascending);
    return n;
}

static double
psi(size_t n)
{
    double sum = -0.57721566490153286061;

    for (size_t i = 1; i < n; i++)
        sum += 1.0 / (double)i;
    return sum;
}

/* Both variants written down once more, from sorted lists of all distances. */
START_TEST(knn_variants_match_their_formulas)
{
    const size_t D = _i & 1 ? 12 : 3, n = 300, m = 260, k = 4;
    double *x = draw(3, n, D, 0.3, 0.8), *y = draw(4, m, D, 0.0, 1.0), a[300], b[300], want = 0.0;
    const FmSamples p = samples(x, n, D), q = samples(y, m, D);
    g_autoptr(FmPlugin) d = open_plugin(_i & 2 ? "knn-kl:k=4,variant=ensemble" : "knn-kl:k=4,variant=equal-radius");
    static const size_t number[7] = {2, 3, 4, 7, 10, 16, 24}; /* k times 0.4, 0.6, 1, 1.6, 2.4, 4, 6 */
    double s1 = 0.0, s2 = 0.0, weight[7], sum = 0.0, cancels = 0.0;

    for (int l = 0; l < 7; l++) {
        s1 += pow((double)number[l], 1.0 / (double)D);
        s2 += pow((double)number[l], 2.0 / (double)D);
    }
    for (int l = 0; l < 7; l++) {
        weight[l] = (s2 - s1 * pow((double)number[l], 1.0 / (double)D)) / (7.0 * s2 - s1 * s1);
        sum += weight[l];
        cancels += weight[l] * pow((double)number[l], 1.0 / (double)D);
    }
    ck_assert_double_eq_tol(sum, 1.0, 1e-9);
    ck_assert_double_eq_tol(cancels, 0.0, 1e-9);
    for (size_t i = 0; i < n; i++) {
        sorted_distances(&p, i, &p, a);
        sorted_distances(&p, i, &q, b);
        if (_i & 2)
            for (int l = 0; l < 7; l++)
                want += weight[l] * 0.5 * (double)D * log(b[number[l] - 1] / a[number[l] - 1]);
        else {
            const double radius = fmax(a[k - 1], b[k - 1]);
            size_t in_p = k, in_q = k;

            while (in_p < n - 1 && a[in_p] <= radius)
                in_p++;
            while (in_q < m && b[in_q] <= radius)
                in_q++;
            want += 0.5 * (double)D * log(b[in_q - 1] / a[in_p - 1]) + psi(in_p) - psi(in_q);
        }
    }
    want = want / (double)n + log((double)m / ((double)n - 1.0));
    ck_assert_double_eq_tol(estimate(d, &p, &q, 2).value, want, 1e-9);
    fm_free(x);
    fm_free(y);
}
END_TEST

/* Ten columns, P narrower (both variants help) or wider (the ensemble does): means over ten seeds. */
START_TEST(knn_variants_have_less_bias)
{
    const size_t D = 10, n = 1000, seeds = 10;
    const double mean = 0.3, sd = _i ? 1.2 : 0.8, truth = exact_kl(D, mean, sd, 0.0, 1.0);
    g_autoptr(FmPlugin) ratio = open_plugin("knn-kl"), equal = open_plugin("knn-kl:variant=equal-radius");
    g_autoptr(FmPlugin) ensemble = open_plugin("knn-kl:variant=ensemble");
    double bias[3] = {0};

    for (guint64 s = 0; s < seeds; s++) {
        double *x = draw(60 + s, n, D, mean, sd), *y = draw(90 + s, n, D, 0.0, 1.0);
        const FmSamples p = samples(x, n, D), q = samples(y, n, D);

        bias[0] += (estimate(ratio, &p, &q, 2).value - truth) / (double)seeds;
        bias[1] += (estimate(equal, &p, &q, 2).value - truth) / (double)seeds;
        bias[2] += (estimate(ensemble, &p, &q, 2).value - truth) / (double)seeds;
        fm_free(x);
        fm_free(y);
    }
    ck_assert_msg(fabs(bias[0]) > 0.3 && fabs(bias[2]) < 0.5 * fabs(bias[0]), "%g %g", bias[0], bias[2]);
    if (_i == 0)
        ck_assert_double_lt(fabs(bias[1]), 0.8 * fabs(bias[0]));
}
END_TEST

/* tests/references/knn_kl.py draws the same. */
static void
uniforms(guint64 seed, size_t n, double *out)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * G_GUINT64_CONSTANT(6364136223846793005) + G_GUINT64_CONSTANT(1442695040888963407);
        out[i] = (double)(seed >> 11) / 9007199254740992.0;
    }
}

static const struct {
    size_t D, k;
    double value;
} scipy_rows[] = {
    /* Written by tests/references/knn_kl.py (scipy 1.17.1). */
    {1, 1, 0.393876509579372}, {1, 5, 0.393905500522628}, {2, 1, 0.597681632429588}, {2, 5, 0.483784651302331},
    {8, 1, 1.56564896328952},  {8, 5, 1.31230628402582},  {10, 1, 1.74007962866475}, {10, 5, 1.41689932430215},
    {50, 1, 4.48682139315252}, {50, 5, 4.14653012060837},
};

START_TEST(knn_equals_scipy)
{
    const size_t D = scipy_rows[_i].D, n = 700, m = 611;
    double *x = fm_alloc(n * D * sizeof *x), *y = fm_alloc(m * D * sizeof *y);
    g_autofree char *spec = g_strdup_printf("knn-kl:k=%zu", scipy_rows[_i].k);
    g_autoptr(FmPlugin) d = open_plugin(spec);
    const FmSamples p = samples(x, n, D), q = samples(y, m, D);

    uniforms(D, n * D, x);
    uniforms(99 + D, m * D, y);
    for (size_t i = 0; i < n * D; i++)
        x[i] *= x[i];
    ck_assert_double_eq_tol(estimate(d, &p, &q, 2).value, scipy_rows[_i].value, 1e-9);
    fm_free(x);
    fm_free(y);
}
END_TEST

/* One row so far away that single precision cannot tell the others apart, or not hold it. */
START_TEST(knn_scan_with_an_outlier)
{
    const size_t D = 9, n = 600;
    double *x = draw(3, n, D, 0.3, 1.1), *y = draw(4, n, D, 0.0, 1.37);
    const FmSamples p = samples(x, n, D), q = samples(y, n, D);
    g_autoptr(FmPlugin) d = open_plugin("knn-kl:k=3");

    y[5 * D + 2] = _i ? 1e17 : 1e9;
    ck_assert_double_eq_tol(estimate(d, &p, &q, 2).value, naive_knn_kl(&p, &q, 3), 1e-9);
    fm_free(x);
    fm_free(y);
}
END_TEST

START_TEST(knn_handles_duplicates_and_ties)
{
    /* rounded data: thousands of ties and zero distances */
    const size_t n = 3000;
    double *x = draw(7, n, 2, 0.3, 1.1), *y = draw(8, n, 2, 0.0, 1.37);
    g_autoptr(FmPlugin) d = open_plugin("knn-kl");
    const FmSamples p = samples(x, n, 2), q = samples(y, n, 2);
    const double truth = exact_kl(2, 0.3, 1.1, 0.0, 1.37);
    FmEstimate e;

    for (size_t i = 0; i < 2 * n; i++) {
        x[i] = round(x[i] * 10.0) / 10.0;
        y[i] = round(y[i] * 10.0) / 10.0;
    }
    e = estimate(d, &p, &q, 2);
    ck_assert_msg(fabs(e.value - truth) < 0.1, "%g, closed form %g", e.value, truth);
    /* every row twice, in both samples */
    for (size_t i = 0; i < n; i += 2) {
        memcpy(x + 2 * i + 2, x + 2 * i, 2 * sizeof *x);
        memcpy(y + 2 * i + 2, y + 2 * i, 2 * sizeof *y);
    }
    e = estimate(d, &p, &q, 1);
    ck_assert(isfinite(e.value) && isfinite(e.se));
    ck_assert_double_eq_tol(e.value, truth, 0.2);
    /* one point only: said, not printed */
    for (size_t i = 0; i < 2 * n; i++)
        x[i] = y[i] = 0.7;
    e = estimate(d, &p, &q, 1);
    ck_assert(isnan(e.value));
    ck_assert_str_ne(e.why, "");
    fm_free(x);
    fm_free(y);
}
END_TEST

START_TEST(knn_is_quick)
{
    double *x = draw(9, 10000, 2, 0.3, 1.1), *y = draw(10, 10000, 2, 0.0, 1.37);
    const FmSamples p = samples(x, 10000, 2), q = samples(y, 10000, 2);
    g_autoptr(FmPlugin) d = open_plugin("knn-kl");
    const gint64 start = g_get_monotonic_time();
    const FmEstimate e = estimate(d, &p, &q, 2);
    const double seconds = (double)(g_get_monotonic_time() - start) * 1e-6;

    ck_assert_double_le(fabs(e.value - exact_kl(2, 0.3, 1.1, 0.0, 1.37)), 4.0 * e.se);
    ck_assert_msg(seconds < 5.0, "%g s", seconds); /* 0.1 s without sanitizers */
    fm_free(x);
    fm_free(y);
}
END_TEST

START_TEST(gaussian_kl_equals_its_formula)
{
    /* three rows in one column: moments by hand */
    const double x[4] = {1.0, 2.0, 4.0, 5.0}, y[3] = {0.0, 3.0, 1.5}, z[6] = {1, 2, 3, 5, 4, 7};
    const double mp = 3.0, vp = 10.0 / 3.0, mq = 1.5, vq = 2.25;
    g_autoptr(FmPlugin) d = open_plugin("gaussian-kl");
    const FmSamples p = samples(x, 4, 1), q = samples(y, 3, 1), one = samples(z, 2, 3);
    FmEstimate e = estimate(d, &p, &q, 1);

    ck_assert_double_eq_tol(e.value, 0.5 * (vp / vq + (mp - mq) * (mp - mq) / vq - 1.0 + log(vq / vp)), 1e-12);
    e = estimate(d, &one, &one, 1);
    ck_assert(isnan(e.value));
    ck_assert_ptr_nonnull(strstr(e.why, "singular"));
}
END_TEST

/* Ten columns and 30 rows: the mean over 400 seeds at P = Q is the bias that is printed, 1.66 times that of many rows;
 * with d + 2 rows there is no mean. */
START_TEST(gaussian_kl_knows_its_bias_for_few_rows)
{
    enum { D = 10, N = 30, SEEDS = 400 };
    g_autoptr(FmPlugin) d = open_plugin("gaussian-kl");
    double sum = 0.0, squares = 0.0;
    FmEstimate e;

    for (guint64 seed = 0; seed < SEEDS; seed++) {
        double *x = draw(3000 + seed, N, D, 0.4, 1.37), *y = draw(9000 + seed, N, D, 0.4, 1.37);
        const FmSamples p = samples(x, N, D), q = samples(y, N, D), few = samples(y, D + 2, D);

        e = estimate(d, &p, &few, 1);
        ck_assert(isfinite(e.value) && isnan(e.se));
        e = estimate(d, &p, &q, 1);
        sum += e.value / SEEDS;
        squares += e.value * e.value / SEEDS;
        fm_free(x);
        fm_free(y);
    }
    ck_assert_str_eq(e.detail[0].name, "bias when equal");
    ck_assert_double_eq_tol(e.detail[0].number, sum, 4.0 * sqrt((squares - sum * sum) / SEEDS));
}
END_TEST

/* What has no density, or no squares in double, is said in a sentence. */
START_TEST(constant_columns_and_extreme_values_are_named)
{
    static const char *const specs[] = {"knn-kl", "gaussian-kl"};
    double *x = draw(41, 60, 3, 0.0, 1.37), *y = draw(42, 60, 3, 0.0, 1.37);
    const FmSamples p = samples(x, 60, 3), q = samples(y, 60, 3);

    for (size_t k = 0; k < G_N_ELEMENTS(specs); k++) {
        g_autoptr(FmPlugin) d = open_plugin(specs[k]);

        ck_assert(isfinite(estimate(d, &p, &q, 1).value));
    }
    for (size_t i = 0; i < 60; i++)
        y[i * 3 + 1] = 2.385;
    for (size_t k = 0; k < G_N_ELEMENTS(specs); k++) {
        g_autoptr(FmPlugin) d = open_plugin(specs[k]);
        const FmEstimate e = estimate(d, &p, &q, 1);
        const char *said = k == 0 ? e.detail[e.n_details - 1].text : e.why;

        /* Neighbours have distances all the same, as those of images with a border have. */
        ck_assert(isfinite(e.value) == (k == 0));
        ck_assert_msg(strstr(said, "second sample is") != NULL, "%s", said);
    }
    for (int n = 0; n < 2; n++) { /* 1e200 and 1e-200 */
        for (size_t i = 0; i < 180; i++) {
            x[i] *= n == 0 ? 1e200 : 1e-300;
            y[i] = x[180 - 1 - i];
        }
        for (size_t k = 0; k < fm_registry_count(FM_KIND_DIVERGENCE); k++) {
            g_autoptr(FmPlugin) d = open_plugin(fm_registry_nth(FM_KIND_DIVERGENCE, k)->name);
            g_autoptr(GError) error = NULL;
            FmEstimate e;

            ck_assert(!fm_divergence_estimate(d, &p, &q, key0, 1, &e, &error));
            ck_assert_msg(strstr(error->message, "scale both samples") || strstr(error->message, "log-densities"), "%s",
                          error->message);
        }
    }
    fm_free(x);
    fm_free(y);
}
END_TEST

/* Scaling by 1e60 or 1e-60 loses nothing: divergences in nats and of given bandwidth stay, distances scale. */
START_TEST(scale_does_not_matter)
{
    static const struct {
        const char *spec;
        double power;
    } row[] = {{"knn-kl", 0}, {"gaussian-kl", 0}, {"grid-kl", 0},   {"mmd", 0},
               {"energy", 1}, {"w2", 1},          {"sliced-w2", 1}, {"frechet", 2}};
    const double by = _i % 2 ? 1e60 : 1e-60, power = row[_i / 2].power;
    double *x = draw(51, 200, 2, 0.5, 1.37), *y = draw(52, 200, 2, 0.0, 1.37);
    const FmSamples p = samples(x, 200, 2), q = samples(y, 200, 2);
    g_autoptr(FmPlugin) d = open_plugin(row[_i / 2].spec);
    const FmEstimate a = estimate(d, &p, &q, 1);

    for (size_t i = 0; i < 400; i++) {
        x[i] *= by;
        y[i] *= by;
    }
    const FmEstimate b = estimate(d, &p, &q, 1);
    const double back = pow(by, -power);

    ck_assert_double_eq_tol(b.value * back, a.value, 1e-9 * fabs(a.value));
    ck_assert_double_eq_tol(b.se * back, a.se, 1e-6 * a.se);
    fm_free(x);
    fm_free(y);
}
END_TEST

START_TEST(mc_kl_is_a_mean_of_ratios)
{
    const double x[3] = {0.0, 1.0, 2.0}, lp[3] = {-1.0, -2.5, -0.75}, lq[3] = {-1.5, -2.0, -2.0};
    double bad[3] = {-1.5, -INFINITY, -2.0};
    g_autoptr(FmPlugin) d = open_plugin("mc-kl");
    FmSamples p = {.n = 3, .D = 1, .x = x, .log_p = lp, .log_q = lq}, none = samples(x, 3, 1);
    FmEstimate e = estimate(d, &p, &p, 1);
    GError *error = NULL;

    ck_assert_double_eq_tol(e.value, 1.25 / 3.0, 1e-15);
    ck_assert_double_eq_tol(e.se, sqrt(((0.25 + 0.25 + 1.5625) - 1.25 * 1.25 / 3.0) / 6.0), 1e-14);
    p.log_q = bad;
    e = estimate(d, &p, &p, 1);
    ck_assert(isnan(e.value) && strstr(e.why, "infinite"));
    p.log_p = bad; /* of both densities: nothing is infinite */
    ck_assert(!strstr(estimate(d, &p, &p, 1).why, "infinite"));
    ck_assert(!fm_divergence_estimate(d, &none, &none, key0, 1, &e, &error));
    ck_assert(g_error_matches(error, FM_ERROR, FM_ERROR_UNSUPPORTED));
    g_clear_error(&error);
}
END_TEST

/* log N(x; mean, sd^2) */
static void
log_normal(size_t n, const double *x, double mean, double sd, double *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = -0.5 * pow((x[i] - mean) / sd, 2.0) - log(sd * sqrt(2.0 * G_PI));
}

/* N(0.9, 1.37^2) against N(0, 1.37^2): TV = erf(0.9 / (2 sqrt 2 1.37)); JS by quadrature. */
START_TEST(tv_and_jensen_shannon_match_gaussians)
{
    const size_t n = 2000;
    const double m = 0.9, sd = 1.37;
    g_autoptr(FmPlugin) d = open_plugin(_i ? "jensen-shannon" : "tv");
    double truth = erf(m / (2.0 * sqrt(2.0) * sd));
    double *density = fm_alloc(4 * n * sizeof *density);
    int hits = 0;

    if (_i) {
        truth = 0.0;
        for (int i = -12000; i <= 12000; i++) { /* trapezoidal rule, step 1e-3 */
            const double x = i * 1e-3;
            double p, q;

            log_normal(1, &x, m, sd, &p);
            log_normal(1, &x, 0.0, sd, &q);
            p = exp(p);
            q = exp(q);
            truth += 0.5e-3 * (p * log(2.0 * p / (p + q)) + q * log(2.0 * q / (p + q)));
        }
    }
    for (guint64 s = 0; s < 60; s++) {
        double *x = draw(300 + s, n, 1, m, sd), *y = draw(700 + s, n, 1, 0.0, sd);
        FmSamples p = samples(x, n, 1), q = samples(y, n, 1);
        FmEstimate e;

        log_normal(n, x, m, sd, density);
        log_normal(n, x, 0.0, sd, density + n);
        log_normal(n, y, m, sd, density + 2 * n);
        log_normal(n, y, 0.0, sd, density + 3 * n);
        p.log_p = density;
        p.log_q = density + n;
        q.log_p = density + 2 * n;
        q.log_q = density + 3 * n;
        e = estimate(d, &p, &q, 1);
        hits += fabs(e.value - truth) <= 2.0 * e.se;
        ck_assert_double_lt(e.se, 0.02);
        fm_free(x);
        fm_free(y);
    }
    ck_assert_msg(hits >= 52, "%d of 60 cover %g", hits, truth);
    fm_free(density);
}
END_TEST

/* Correlated, singular and shifted: covariances that do not commute, by an exact linear map. */
START_TEST(frechet_matches_closed_forms)
{
    /* rows +-c e_i: mean 0, covariance 2 c^2 / (n - 1) I */
    const double x[8] = {1.5, 0.0, -1.5, 0.0, 0.0, 1.5, 0.0, -1.5};
    double y[8];
    g_autoptr(FmPlugin) d = open_plugin("frechet");
    const double s = 2.0 * 1.5 * 1.5 / 3.0;
    /* y = A x + u: Sp = s I, Sq = s A A^T; the distance is |u|^2 + s |(A A^T)^1/2 - I|^2; A below
     * is symmetric positive definite, so (A A^T)^1/2 = A */
    const double A[4] = {1.9, 0.6, 0.6, 0.8}, u[2] = {0.7, -0.4};
    FmSamples p = samples(x, 4, 2), q = samples(y, 4, 2);
    FmEstimate e;

    for (int i = 0; i < 4; i++)
        for (int a = 0; a < 2; a++)
            y[2 * i + a] = A[2 * a] * x[2 * i] + A[2 * a + 1] * x[2 * i + 1] + u[a];
    e = estimate(d, &p, &q, 1);
    ck_assert_double_eq_tol(e.value, 0.65 + s * (0.81 + 2.0 * 0.36 + 0.04), 1e-12);
    ck_assert(isnan(e.se));
    for (int i = 0; i < 4; i++) /* a constant column */
        y[2 * i + 1] = 0.25;
    e = estimate(d, &p, &q, 1);
    /* covariances s I and diag(v, 0) */
    const double v = s * (1.9 * 1.9 + 0.36);
    ck_assert_double_eq_tol(e.value, 0.49 + 0.0625 + pow(sqrt(v) - sqrt(s), 2.0) + s, 1e-12);
}
END_TEST

START_TEST(w2_of_a_shifted_sample)
{
    const size_t n = 150, D = 3;
    const double u[3] = {0.7, -1.9, 0.4}, norm = sqrt(0.49 + 3.61 + 0.16);
    double *x = draw(41, n, D, 0.3, 1.1), *y = fm_alloc(n * D * sizeof *y);
    g_autoptr(FmPlugin) w2 = open_plugin("w2"), few = open_plugin("w2:rows=40");
    g_autoptr(FmPlugin) sliced = open_plugin("sliced-w2:projections=400");
    const FmSamples p = samples(x, n, D), q = samples(y, n, D);
    FmEstimate e;

    for (size_t i = 0; i < n; i++) /* another order too */
        for (size_t d = 0; d < D; d++)
            y[(i * 7 + 3) % n * D + d] = x[i * D + d] + u[d];
    e = estimate(w2, &p, &q, 1);
    ck_assert_double_eq_tol(e.value, norm, 1e-12);
    e = estimate(few, &p, &q, 1); /* different subsets */
    ck_assert_uint_eq(e.n, 40);
    ck_assert_double_gt(e.value, norm);
    e = estimate(sliced, &p, &q, 2);
    /* E <u, direction>^2 = |u|^2 / D; se here is that of the directions alone */
    ck_assert_double_le(fabs(e.value - norm / sqrt(3.0)), 4.0 * e.se);
    ck_assert_double_lt(e.se, 0.1);
    fm_free(x);
    fm_free(y);
}
END_TEST

START_TEST(sliced_w2_of_one_column_is_exact)
{
    const double x[2] = {1.0, 0.0}, y[3] = {1.0, 2.0, 0.0};
    double *a = draw(42, 50, 1, 0.3, 1.1), *b = draw(43, 50, 1, 0.0, 1.37);
    g_autoptr(FmPlugin) sliced = open_plugin("sliced-w2:projections=3"), w2 = open_plugin("w2");
    FmSamples p = samples(x, 2, 1), q = samples(y, 3, 1);
    FmEstimate e = estimate(sliced, &p, &q, 1), f;

    /* quantiles: mass 1/6 moves by 1 twice, mass 1/3 by 1 */
    ck_assert_double_eq_tol(e.value, sqrt(1.0 / 6.0 + 1.0 / 3.0), 1e-14);
    p = samples(a, 50, 1);
    q = samples(b, 50, 1);
    e = estimate(sliced, &p, &q, 1);
    f = estimate(w2, &p, &q, 1);
    ck_assert_double_eq_tol(e.value, f.value, 1e-12);
    fm_free(a);
    fm_free(b);
}
END_TEST

START_TEST(grid_kl_counts_cells)
{
    const double x[3] = {0.0, 0.1, 1.0}, y[4] = {0.2, 0.8, 0.9, 0.7}, z[8] = {0};
    const double p0 = 2.5 / 4.0, p1 = 1.5 / 4.0, q0 = 1.5 / 5.0, q1 = 3.5 / 5.0;
    g_autoptr(FmPlugin) d = open_plugin("grid-kl:bins=2"), wide = open_plugin("grid-kl:bins=4000");
    g_autoptr(FmPlugin) smooth = open_plugin("grid-kl:bins=2,smooth=50");
    FmSamples p = samples(x, 3, 1), q = samples(y, 4, 1), four = samples(z, 2, 4), two;
    GError *error = NULL;
    FmEstimate e = estimate(d, &p, &q, 1);

    ck_assert_double_eq_tol(e.value, p0 * log(p0 / q0) + p1 * log(p1 / q1), 1e-14);
    ck_assert_double_gt(e.se, 0.0);
    e = estimate(smooth, &p, &q, 1);
    /* three weights 1, w, w; what would leave comes back */
    const double w = exp(-0.5 / 2500.0), stay = (1.0 + w) / (1.0 + 2.0 * w);
    const double a = stay * p0 + (1.0 - stay) * p1, b = stay * q0 + (1.0 - stay) * q1;
    ck_assert_double_eq_tol(e.value, a * log(a / b) + (1.0 - a) * log((1.0 - a) / (1.0 - b)), 1e-14);
    ck_assert(!fm_divergence_estimate(d, &four, &four, key0, 1, &e, &error));
    ck_assert(g_error_matches(error, FM_ERROR, FM_ERROR_UNSUPPORTED));
    g_clear_error(&error);
    two = samples(z, 2, 3);
    ck_assert(!fm_divergence_estimate(wide, &two, &two, key0, 1, &e, &error));
    ck_assert(g_error_matches(error, FM_ERROR, FM_ERROR_OPTION));
    g_clear_error(&error);
    e = estimate(d, &two, &two, 1); /* constant columns */
    ck_assert_double_eq_tol(e.value, 0.0, 1e-15);
}
END_TEST

/* ---- conformance: every divergence of the registry ---- */

START_TEST(zero_when_equal)
{
    const FmPluginDesc *desc = fm_registry_nth(FM_KIND_DIVERGENCE, (size_t)_i);
    const FmDivergenceOps *ops = desc->ops;
    g_autoptr(FmPlugin) d = open_plugin(desc->name);
    double *x = draw(21, 600, 2, 0.4, 1.2), *y = draw(22, 600, 2, 0.4, 1.2), *l = draw(23, 600, 1, 0, 1);
    FmSamples p = samples(x, 600, 2), q = samples(y, 600, 2);
    FmEstimate one, two;

    p.log_p = p.log_q = q.log_p = q.log_q = l;
    one = estimate(d, &p, &q, 1);
    two = estimate(d, &p, &q, 2);
    ck_assert_double_eq(one.value, two.value);
    if (ops->zero_when_equal && !isnan(one.se))
        ck_assert_msg(fabs(one.value) <= 4.0 * one.se + 1e-12, "%s: %g se %g", desc->name, one.value, one.se);
    ck_assert_ptr_nonnull(desc->source);
    fm_free(x);
    fm_free(y);
    fm_free(l);
}
END_TEST

START_TEST(refuses_bad_input)
{
    const FmPluginDesc *desc = fm_registry_nth(FM_KIND_DIVERGENCE, (size_t)_i);
    g_autoptr(FmPlugin) d = open_plugin(desc->name);
    double *x = draw(31, 40, 2, 0.4, 1.2);
    FmSamples p = samples(x, 40, 2), q = samples(x, 20, 4), one = samples(x, 1, 2);
    FmEstimate e;
    GError *error = NULL;

    p.log_p = p.log_q = one.log_p = one.log_q = q.log_p = q.log_q = x;
    ck_assert(!fm_divergence_estimate(d, &p, &q, key0, 1, &e, &error));
    ck_assert(g_error_matches(error, FM_ERROR, FM_ERROR_SHAPE));
    g_clear_error(&error);
    ck_assert(!fm_divergence_estimate(d, &p, &one, key0, 1, &e, &error));
    ck_assert(g_error_matches(error, FM_ERROR, FM_ERROR_DATA));
    ck_assert(strstr(error->message, desc->name) && strstr(error->message, "1 rows"));
    g_clear_error(&error);
    x[7] = NAN;
    ck_assert(!fm_divergence_estimate(d, &p, &p, key0, 1, &e, &error));
    ck_assert(g_error_matches(error, FM_ERROR, FM_ERROR_DATA));
    ck_assert_ptr_nonnull(strstr(error->message, "row 3, column 1"));
    g_clear_error(&error);
    fm_free(x);
}
END_TEST

START_TEST(errors_of_transport)
{
    ck_assert_double_eq_tol(fm_estimate_se_transport(10.0, 2.0, 0.5), 3.0, 1e-14);
    ck_assert_double_eq_tol(fm_estimate_se_transport(0.5, 2.0, 0.5), sqrt(0.75), 1e-14);
}
END_TEST

START_TEST(block_error_is_a_t_interval)
{
    static const struct {
        size_t n;
        double t;
    } rows[] = {{3, 4.302653}, {11, 2.228139}, {12, 2.200985}, {101, 1.983972}};
    double v[101];

    for (size_t i = 0; i < 101; i++)
        v[i] = i == 0;          /* variance 1 / n */
    for (int r = 0; r < 4; r++) /* scipy.stats.t.ppf(0.975, n - 1) */
        ck_assert_double_eq_tol(fm_estimate_block_se(v, rows[r].n) * (double)rows[r].n * 1.95996, rows[r].t, 2e-4);
    ck_assert(isnan(fm_estimate_block_se(v, 1)));
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("divergences");
    TCase *t = tcase_create("estimators");
    int n;

    fm_registry_load_all();
    n = (int)fm_registry_count(FM_KIND_DIVERGENCE);
    if (n < 11) {
        g_printerr("found %d divergences, expected at least 11\n", n);
        return 1;
    }
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, intervals_cover, 0, 4);
    tcase_add_loop_test(t, mmd_and_energy_match_closed_forms, 0, 2);
    tcase_add_loop_test(t, knn_searches_are_exact, 0, 24);
    tcase_add_loop_test(t, knn_of_clusters, 0, 3);
    tcase_add_loop_test(t, knn_variants_match_their_formulas, 0, 4);
    tcase_add_loop_test(t, knn_variants_have_less_bias, 0, 2);
    tcase_add_loop_test(t, knn_equals_scipy, 0, G_N_ELEMENTS(scipy_rows));
    tcase_add_loop_test(t, knn_scan_with_an_outlier, 0, 2);
    tcase_add_test(t, knn_handles_duplicates_and_ties);
    tcase_add_test(t, knn_is_quick);
    tcase_add_test(t, gaussian_kl_equals_its_formula);
    tcase_add_test(t, gaussian_kl_knows_its_bias_for_few_rows);
    tcase_add_test(t, constant_columns_and_extreme_values_are_named);
    tcase_add_loop_test(t, scale_does_not_matter, 0, 16);
    tcase_add_loop_test(t, tv_and_jensen_shannon_match_gaussians, 0, 2);
    tcase_add_test(t, frechet_matches_closed_forms);
    tcase_add_test(t, mc_kl_is_a_mean_of_ratios);
    tcase_add_test(t, w2_of_a_shifted_sample);
    tcase_add_test(t, sliced_w2_of_one_column_is_exact);
    tcase_add_test(t, grid_kl_counts_cells);
    tcase_add_loop_test(t, zero_when_equal, 0, n);
    tcase_add_loop_test(t, refuses_bad_input, 0, n);
    tcase_add_test(t, errors_of_transport);
    tcase_add_test(t, block_error_is_a_t_interval);
    suite_add_tcase(suite, t);
    return run_suite(suite, CK_FORK);
}
