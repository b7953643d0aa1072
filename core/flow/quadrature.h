/* quadrature.h: integrals over t of a curve known on a grid; inside of core/flow. */
#ifndef FMCORE_CORE_FLOW_QUADRATURE_H
#define FMCORE_CORE_FLOW_QUADRATURE_H

#include <glib.h>
#include <stddef.h>

/* T >= 2 points, equidistant in u with spacing h. */
typedef struct FmGrid {
    size_t T, every; /* point j is number j every of the arrays below and of the curves' */
    double h;
    const double *pace; /* dt/du; NULL: 1 */
} FmGrid;

/* Every other point of g, whose T is odd. */
FmGrid fm__grid_coarse(const FmGrid *g);

/* out[j] = integral of y over t from point 0 to point j. Each interval by the polynomial in u through the eight
 * nearest points (fewer when T < 8): error O(h^8). out (T) may not overlap y. */
void fm__cumulate(const FmGrid *g, const double *y, double *out);
/* The same of n curves: y holds number k of curve i at y[k n + i], out is (T, n). */
void fm__cumulate_all(const FmGrid *g, size_t n, const double *y, double *out);
/* The weights (T) of the points in the whole integral. */
void fm__integral_weights(const FmGrid *g, double *weight);

/* The whole integral, and its distance to that of every other point (T odd; else NAN). */
double fm__integral(const FmGrid *g, const double *y, double *halved);

/* Sum of -p log p over a side x side grid on which p is the sum over K components of weight times a product of
 * two axes' densities a, b (K, side): times a cell's area, the entropy by the midpoint rule. */
double fm__product_entropy(size_t K, const double *weight, size_t side, const double *a, const double *b);

#endif
