/* field.c: functions as they are found in other people's libraries; it includes nothing of fmcore.
 * The field carries N(0, I) at t = 0 to N(m, s^2) at t = 1 along straight lines (per dimension):
 *   v(t, x) = m + b(t) (x - t m),   b(t) = (t s^2 - (1 - t)) / (t^2 s^2 + (1 - t)^2) */
#include <math.h>
#include <stddef.h>

static const double mean[2] = {0.7, -1.3}, sd[2] = {1.6, 0.45};

int not_a_function = 3;

static double
slope(double t, int k)
{
    const double s2 = sd[k] * sd[k];

    return (t * s2 - (1.0 - t)) / (t * t * s2 + (1.0 - t) * (1.0 - t));
}

/* A batch in double. */
void
field(int n, int d, const double *t, const double *x, double *v)
{
    for (int i = 0; i < n; i++)
        for (int k = 0; k < d; k++)
            v[i * d + k] = mean[k] + slope(t[i], k) * (x[i * d + k] - t[i] * mean[k]);
}

/* The Jacobian is diagonal: one function is both products. */
void
field_product(int n, int d, const double *t, const double *x, const double *e, double *v)
{
    for (int i = 0; i < n; i++)
        for (int k = 0; k < d; k++)
            v[i * d + k] = slope(t[i], k) * e[i * d + k];
}

/* Another order, other types, one time for all, a constant at the end, a status. */
int
field_f32(float *v, float time, const float *x, size_t n, double factor)
{
    for (size_t i = 0; i < n; i++)
        for (int k = 0; k < 2; k++)
            v[2 * i + (size_t)k] =
                (float)(factor * (mean[k] + slope(time, k) * (x[2 * i + (size_t)k] - time * mean[k])));
    return n > 0 ? 0 : 1;
}

/* x(n, d) in columns. */
void
field_columns(long n, const double *time, const double *x, double *v)
{
    for (long i = 0; i < n; i++)
        for (int k = 0; k < 2; k++)
            v[k * n + i] = mean[k] + slope(*time, k) * (x[k * n + i] - *time * mean[k]);
}

/* One sample: columns by value, results by pointer. */
void
field_point(double x, double y, double t, double *u, double *v)
{
    *u = mean[0] + slope(t, 0) * (x - t * mean[0]);
    *v = mean[1] + slope(t, 1) * (y - t * mean[1]);
}

int
field_fails(int n, int d, const double *t, const double *x, double *v)
{
    return 42;
}

/* ---- data ---- */

/* Rows from normals. */
void
rows_from_normals(int n, const double *z, double *x)
{
    for (int i = 0; i < n; i++)
        for (int k = 0; k < 2; k++)
            x[2 * i + k] = mean[k] + sd[k] * z[2 * i + k];
}

/* Rows from a seed and their numbers: a quadratic residue of both. */
static double
hashed(long seed, long row, int k)
{
    unsigned long h = (unsigned long)seed * 6364136223846793005UL + (unsigned long)row * 1442695040888963407UL +
                      (unsigned long)k * 2654435761UL;

    h ^= h >> 29;
    h *= 0xbf58476d1ce4e5b9UL;
    h ^= h >> 32;
    return (double)(h >> 11) / 9007199254740992.0;
}

void
rows_from_seed(int n, int d, long seed, long row, double *x, int *y)
{
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < d; k++)
            x[i * d + k] = hashed(seed, row + i, k);
        y[i] = x[i * d] > 0.5;
    }
}

void
one_from_seed(unsigned seed, float *x)
{
    x[0] = (float)hashed((long)seed, 0, 0);
    x[1] = (float)hashed((long)seed, 0, 1);
}

/* A table of 200 rows. */
void
rows_by_number(int n, int d, const int *rows, double *x)
{
    for (int i = 0; i < n; i++)
        for (int k = 0; k < d; k++)
            x[i * d + k] = sin(0.37 * rows[i] + k);
}

int
rows_fail(int n, const double *z, double *x)
{
    x[0] = 0.5;
    return n > 1 ? 7 : 0;
}

void
rows_not_finite(int n, const double *z, double *x)
{
    x[0] = NAN;
}

void
wrong_labels(int n, const double *z, double *x, int *y)
{
    for (int i = 0; i < n; i++)
        y[i] = 5;
}

void
log_density(int n, int d, const double *x, double *logp)
{
    for (int i = 0; i < n; i++) {
        logp[i] = 0.0;
        for (int k = 0; k < d; k++) {
            const double z = (x[i * d + k] - mean[k]) / sd[k];

            logp[i] -= 0.5 * z * z + log(sd[k]) + 0.91893853320467274178;
        }
    }
}
