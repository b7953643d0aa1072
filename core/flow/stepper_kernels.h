/* stepper_kernels.h: the stepper's arithmetic for one type; included by stepper_kernels.c with
 * T (float or double), K(name) (suffixes a name), MAGNITUDE (fabsf or fabs), ANY(name) and VARIANTS
 * (a function for FM_CPU_VARIANTS, and that) defined.
 *
 * Every loop treats all elements alike, without contraction, and sums in an order given by the
 * width only, so the result of a row does not depend on where it lies in a tile. */

static void
K(spread)(size_t m, size_t D, void *h_, const FmStepRow *rows)
{
    T *h = h_;

    for (size_t i = 0; i < m; i++) {
        const T step = (T)(rows[i].t_new - rows[i].t);

        for (size_t d = 0; d < D; d++)
            h[i * D + d] = step;
    }
}

/* n_k <= 7 terms in one pass */
#define PASS(expr) \
    do { \
        if (x != NULL) { \
            _Pragma("omp simd") for (size_t i = 0; i < n; i++) out[i] = x[i] + h[i] * (expr); \
        } else { \
            _Pragma("omp simd") for (size_t i = 0; i < n; i++) out[i] = h[i] * (expr); \
        } \
    } while (0)
#define TERM(j) w##j *k##j[i]

FM_INLINE void
ANY(combine_up_to_7)(size_t n, T *out, const T *x, const T *h, int n_k, const double *w, const void *const *k)
{
    const T w0 = (T)w[0], *k0 = k[0];
    const T w1 = n_k > 1 ? (T)w[1] : 0, *k1 = n_k > 1 ? k[1] : k0;
    const T w2 = n_k > 2 ? (T)w[2] : 0, *k2 = n_k > 2 ? k[2] : k0;
    const T w3 = n_k > 3 ? (T)w[3] : 0, *k3 = n_k > 3 ? k[3] : k0;
    const T w4 = n_k > 4 ? (T)w[4] : 0, *k4 = n_k > 4 ? k[4] : k0;
    const T w5 = n_k > 5 ? (T)w[5] : 0, *k5 = n_k > 5 ? k[5] : k0;
    const T w6 = n_k > 6 ? (T)w[6] : 0, *k6 = n_k > 6 ? k[6] : k0;

    switch (n_k) {
    case 1:
        PASS(TERM(0));
        break;
    case 2:
        PASS(TERM(0) + TERM(1));
        break;
    case 3:
        PASS(TERM(0) + TERM(1) + TERM(2));
        break;
    case 4:
        PASS(TERM(0) + TERM(1) + TERM(2) + TERM(3));
        break;
    case 5:
        PASS(TERM(0) + TERM(1) + TERM(2) + TERM(3) + TERM(4));
        break;
    case 6:
        PASS(TERM(0) + TERM(1) + TERM(2) + TERM(3) + TERM(4) + TERM(5));
        break;
    default:
        PASS(TERM(0) + TERM(1) + TERM(2) + TERM(3) + TERM(4) + TERM(5) + TERM(6));
        break;
    }
}
VARIANTS(combine_up_to_7, (size_t n, T *out, const T *x, const T *h, int n_k, const double *w, const void *const *k),
         (n, out, x, h, n_k, w, k))

#undef PASS
#undef TERM

static void
K(combine)(size_t n, void *out, const void *x, const void *h, int n_k, const double *w, const void *const *k)
{
    for (int j = 0; j < n_k; j += 7)
        K(combine_up_to_7)(n, out, j > 0 ? out : x, h, MIN(n_k - j, 7), w + j, k + j);
}

FM_INLINE void
ANY(ratio)(size_t n, void *e_, const void *x0_, const void *x1_, double rtol, double atol)
{
    const T *x0 = x0_, *x1 = x1_, r = (T)rtol, a = (T)atol;
    T *e = e_;

#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        const T u = MAGNITUDE(x0[i]), v = MAGNITUDE(x1[i]);

        e[i] = e[i] / (a + r * (u > v ? u : v)) + (x1[i] - x1[i]); /* the difference: 0, or NaN */
    }
}
VARIANTS(ratio, (size_t n, void *e, const void *x0, const void *x1, double rtol, double atol),
         (n, e, x0, x1, rtol, atol))

FM_INLINE void
ANY(scaled)(size_t n, void *out_, const void *v_, const void *w_, const void *x_, double rtol, double atol)
{
    const T *v = v_, *w = w_, *x = x_, r = (T)rtol, a = (T)atol;
    T *out = out_;

    if (w == NULL) {
#pragma omp simd
        for (size_t i = 0; i < n; i++)
            out[i] = v[i] / (a + r * MAGNITUDE(x[i]));
    } else {
#pragma omp simd
        for (size_t i = 0; i < n; i++)
            out[i] = (v[i] - w[i]) / (a + r * MAGNITUDE(x[i]));
    }
}
VARIANTS(scaled, (size_t n, void *out, const void *v, const void *w, const void *x, double rtol, double atol),
         (n, out, v, w, x, rtol, atol))

static void
K(squares)(size_t m, size_t D, size_t width, const void *e_, double *sum)
{
    const T *e = e_;

    for (size_t r = 0; r < m; r++, e += D) {
        double part[4] = {0.0, 0.0, 0.0, 0.0};
        size_t d = 0;

        for (; d + 4 <= width; d += 4)
            for (size_t l = 0; l < 4; l++)
                part[l] += (double)e[d + l] * (double)e[d + l];
        for (; d < width; d++)
            part[d % 4] += (double)e[d] * (double)e[d];
        sum[r] = (part[0] + part[1]) + (part[2] + part[3]);
    }
}

static gboolean
K(finite)(size_t D, const void *x_)
{
    const T *x = x_;
    T sum = 0;

#pragma omp simd reduction(+ : sum)
    for (size_t d = 0; d < D; d++)
        sum += x[d] - x[d]; /* 0, or NaN */
    return sum == 0;
}

static void
K(hermite)(size_t D, void *out_, double theta, double h, const void *x0_, const void *x1_, const void *f0_,
           const void *f1_)
{
    const T *x0 = x0_, *x1 = x1_, *f0 = f0_, *f1 = f1_;
    T *out = out_;
    const double q = theta * (theta - 1.0);
    const T s = (T)(theta + q * (1.0 - 2.0 * theta));
    const T u = (T)(q * (theta - 1.0) * h), v = (T)(q * theta * h);

#pragma omp simd
    for (size_t d = 0; d < D; d++)
        out[d] = x0[d] + (s * (x1[d] - x0[d]) + u * f0[d] + v * f1[d]);
}
