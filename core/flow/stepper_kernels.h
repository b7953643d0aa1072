/* stepper_kernels.h: the stepper's arithmetic for one type; included by stepper_kernels.c with
 * T (float or double), K(name) (suffixes a name) and MAGNITUDE (fabsf or fabs) defined.
 *
 * Every loop treats the columns of a row alike and sums in an order given by D only, so the
 * result of a row does not depend on where it lies in a tile. */

/* out = x + m <= 7 terms in one pass */
#define PASS(expr) \
    do { \
        _Pragma("omp simd") for (size_t d = 0; d < D; d++) out[d] = x[d] + (expr); \
    } while (0)
#define TERM(i) c##i *k##i[d]

static void
K(combine_up_to_7)(size_t D, T *out, const T *x, int m, const double *c, const void *const *k)
{
    const T c0 = (T)c[0], *k0 = k[0];
    const T c1 = m > 1 ? (T)c[1] : 0, *k1 = m > 1 ? k[1] : k0;
    const T c2 = m > 2 ? (T)c[2] : 0, *k2 = m > 2 ? k[2] : k0;
    const T c3 = m > 3 ? (T)c[3] : 0, *k3 = m > 3 ? k[3] : k0;
    const T c4 = m > 4 ? (T)c[4] : 0, *k4 = m > 4 ? k[4] : k0;
    const T c5 = m > 5 ? (T)c[5] : 0, *k5 = m > 5 ? k[5] : k0;
    const T c6 = m > 6 ? (T)c[6] : 0, *k6 = m > 6 ? k[6] : k0;

    switch (m) {
    case 1: PASS(TERM(0)); break;
    case 2: PASS(TERM(0) + TERM(1)); break;
    case 3: PASS(TERM(0) + TERM(1) + TERM(2)); break;
    case 4: PASS(TERM(0) + TERM(1) + TERM(2) + TERM(3)); break;
    case 5: PASS(TERM(0) + TERM(1) + TERM(2) + TERM(3) + TERM(4)); break;
    case 6: PASS(TERM(0) + TERM(1) + TERM(2) + TERM(3) + TERM(4) + TERM(5)); break;
    default: PASS(TERM(0) + TERM(1) + TERM(2) + TERM(3) + TERM(4) + TERM(5) + TERM(6)); break;
    }
}

#undef PASS
#undef TERM

static void
K(combine)(size_t D, void *out, const void *x, int m, const double *c, const void *const *k)
{
    if (m == 0) {
        if (out != x)
            memcpy(out, x, D * sizeof(T));
        return;
    }
    for (int i = 0; i < m; i += 7)
        K(combine_up_to_7)(D, out, i ? out : x, MIN(m - i, 7), c + i, k + i);
}

static double
K(error)(size_t D, void *scratch, const void *x0_, const void *x1_, double rtol, double atol,
         int m, const double *c, const void *const *k)
{
    const T *x0 = x0_, *x1 = x1_, r = (T)rtol, a = (T)atol;
    T *e = scratch;
    double sum = 0.0;

    memset(e, 0, D * sizeof(T));
    K(combine)(D, e, e, m, c, k);
#pragma omp simd reduction(+ : sum)
    for (size_t d = 0; d < D; d++) {
        const T u = MAGNITUDE(x0[d]), v = MAGNITUDE(x1[d]);
        const double ratio = e[d] / (a + r * (u > v ? u : v));

        sum += ratio * ratio + (double)(x1[d] - x1[d]); /* the difference: 0, or NaN */
    }
    return sum;
}

static double
K(norm)(size_t D, const void *v_, const void *w_, const void *x_, double rtol, double atol)
{
    const T *v = v_, *w = w_, *x = x_, r = (T)rtol, a = (T)atol;
    double sum = 0.0;

    if (w == NULL) {
#pragma omp simd reduction(+ : sum)
        for (size_t d = 0; d < D; d++) {
            const double q = v[d] / (a + r * MAGNITUDE(x[d]));
            sum += q * q;
        }
    } else {
#pragma omp simd reduction(+ : sum)
        for (size_t d = 0; d < D; d++) {
            const double q = (v[d] - w[d]) / (a + r * MAGNITUDE(x[d]));
            sum += q * q;
        }
    }
    return sum;
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
K(hermite)(size_t D, void *out_, double theta, double h, const void *x0_, const void *x1_,
           const void *f0_, const void *f1_)
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
