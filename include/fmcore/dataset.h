/* dataset.h: where x1 (and, as a source, x0) comes from.
 *
 * Either finite (rows that can be read by number) or infinite (rows that are drawn from a key).
 * The core owns order, splits, standardisation and dequantisation. Points are double, in the
 * data's own units; images are (H, W, C) in [0, 1]. Instances are immutable after `open` and
 * may be used from any number of threads. */
#ifndef FMCORE_DATASET_H
#define FMCORE_DATASET_H

#include <fmcore/array.h>
#include <fmcore/plugin.h>
#include <fmcore/random.h>

G_BEGIN_DECLS

/* What `open` finds out. */
typedef struct FmDataInfo {
    int ndim; /* 1: vectors (D); 3: images (H, W, C) */
    size_t dim[3];
    size_t D;         /* product of dim */
    size_t rows;      /* finite: number of rows; 0: infinite */
    size_t test_rows; /* finite: the last so many rows are the data set's own test split; 0: none */
    size_t classes;   /* 0: no labels, else labels are 0 .. classes-1 */
    int levels;       /* quantised values: 256 for 8-bit images (x = k/255); 0: continuous */
} FmDataInfo;

/* A mixture of K Gaussians in D dimensions with isotropic or diagonal covariance. */
typedef struct FmMixture {
    size_t K, D;
    const double *weight; /* (K), sums to 1 */
    const double *mean;   /* (K, D) */
    const double *sd;     /* (K, D) */
} FmMixture;

/* A mixture of K uniform densities on boxes [lo, hi] in D dimensions, plus noise N(0, sd^2 I). */
typedef struct FmBoxes {
    size_t K, D;
    const double *weight;  /* (K), sums to 1 */
    const double *lo, *hi; /* (K, D), lo < hi */
    double sd;             /* 0: sharp edges */
} FmBoxes;

/* What every mixture can do: rows from fm_rng(key, row) (label: the component), log-density in nats
 * (log-sum-exp) and score (n, D). */
void fm_mixture_draw(const FmMixture *m, FmKey key, guint64 row0, size_t n, double *x, int *y);
void fm_mixture_log_density(const FmMixture *m, size_t n, const double *x, double *log_p);
void fm_mixture_score(const FmMixture *m, size_t n, const double *x, double *score);
/* Entropy of a two-dimensional mixture by the midpoint rule, to about 1e-8 nats. NAN for D != 2. */
double fm_mixture_entropy(const FmMixture *m);

/* K equal components on a circle in the first two axes, `sd` wide there and 1 in the others; owns
 * its numbers. FM_ERROR_MEMORY when they do not fit. */
gboolean fm_mixture_ring(FmMixture *m, size_t K, size_t D, double radius, double sd, GError **error);
/* Curves in the plane, u uniform on [0, 1] along one of `pieces` with equal chances, blurred by noise
 * N(0, sd^2 I): a mixture of Gaussians about the nodes of a quadrature in u, 0.6 sd or less apart, which
 * is exact to about 1e-10 of the density (equal steps for closed curves with a periodic smooth c, Gauss
 * and Legendre's rule for open ones). `curve` writes c(u) of one piece. More than 4096 nodes, or sd 0,
 * leave no component (K = 0) and are no error; FM_ERROR_MEMORY. Owns its numbers. */
typedef void (*FmMixtureCurve)(const void *self, size_t piece, double u, double x[2]);
gboolean fm_mixture_curves(FmMixture *m, size_t pieces, gboolean closed, FmMixtureCurve curve, const void *self,
                           double sd, GError **error);
void fm_mixture_clear(FmMixture *m); /* of the two above; takes zeros */

/* Slots of FmDatasetOps for a data set whose state begins with its FmMixture. */
void fm_mixture_slot_draw(const void *self, FmKey key, guint64 row0, size_t n, double *x, int *y);
void fm_mixture_slot_log_density(const void *self, size_t n, const double *x, double *log_p);
double fm_mixture_slot_entropy(const void *self);
void fm_mixture_slot_score(const void *self, size_t n, const double *x, double *score);
const FmMixture *fm_mixture_slot_mixture(const void *self);
gboolean fm_mixture_slot_has_density(const void *self);
void fm_mixture_slot_clear(void *self);
#define FM_MIXTURE_DENSITY_SLOTS \
    .log_density = fm_mixture_slot_log_density, .entropy = fm_mixture_slot_entropy, .score = fm_mixture_slot_score, \
    .mixture = fm_mixture_slot_mixture, .clear = fm_mixture_slot_clear, .has_density = fm_mixture_slot_has_density
#define FM_MIXTURE_SLOTS .draw = fm_mixture_slot_draw, FM_MIXTURE_DENSITY_SLOTS

/* log p (n) in nats and, where not NULL, score (n, D) of boxes with noise, sd > 0, at any distance from them. */
void fm_boxes_log_density(const FmBoxes *boxes, size_t n, const double *x, double *log_p, double *score);

/* Their entropy in two dimensions by the midpoint rule. NAN for sd 0 and where the noise is too small for a grid. */
double fm_boxes_entropy(const FmBoxes *boxes);

/* Points x (n) in (0, 1) and weights w (n), which sum to 1, of Gauss and Legendre's rule, to rounding. */
void fm_gauss_legendre(int n, double *x, double *w);

typedef struct FmDatasetOps {
    /* required */
    /* Open files, allocate, fill *info. */
    gboolean (*open)(void *self, FmDataInfo *info, GError **error);
    /* at least one of; with both, info.rows says which is used */
    /* finite: x (n, D) and, if y is not NULL and there are labels, y (n) for the given rows */
    gboolean (*read)(const void *self, const size_t *rows, size_t n, double *x, int *y, GError **error);
    /* infinite: rows row0 .. row0 + n - 1 of the family `key`; row r uses fm_rng(key, r) only */
    void (*draw)(const void *self, FmKey key, guint64 row0, size_t n, double *x, int *y);
    /* optional; NULL: not known in closed form */
    void (*log_density)(const void *self, size_t n, const double *x, double *log_p); /* nats */
    double (*entropy)(const void *self); /* nats; NAN: not closed for these options */
    void (*score)(const void *self, size_t n, const double *x, double *score); /* (n, D) */
    const FmMixture *(*mixture)(const void *self); /* borrowed; NULL: not for these options */
    void (*clear)(void *self);                     /* NULL: owns nothing */
    gboolean (*has_density)(const void *self);     /* after `open`, of the score too; NULL: when log_density
                                                    * is there */
    const FmBoxes *(*boxes)(const void *self);     /* borrowed; NULL: no mixture of boxes */
} FmDatasetOps;

/* For data sets that are the rows of an array file (fm_array_load()): (N), (N, D) points or
 * (N, H, W, C) images, at least one row, every value finite. Images of unsigned bytes are quantised
 * (levels 256, x = k / 255), other numbers are taken as they are. `who` opens the sentences of errors. The
 * caller owns the result. */
FmArray *fm_dataset_rows_load(const char *who, const char *file, FmDataInfo *info, GError **error);
void fm_dataset_rows_read(const FmArray *array, const size_t *rows, size_t n, double *x);

/* The folders in which data sets that ship with fmcore are looked for, in that order: the environment's
 * FMCORE_DATA_PATH where it is set, the installed one, "data". Not NULL, ends with NULL; the caller frees it with
 * g_strfreev(). */
char **fm_dataset_roots(void);

/* Open `dataset` (once; later calls return the same info). Checks that dimensions are positive
 * and their product is D. */
gboolean fm_dataset_open(FmPlugin *dataset, FmDataInfo *info, GError **error);

/* Rows by number, finite only; every row must be below info.rows. Values are checked to be
 * finite (FM_ERROR_DATA names the row). */
gboolean fm_dataset_read(const FmPlugin *dataset, const size_t *rows, size_t n, double *x, int *y, GError **error);

/* Rows drawn from `key`. An infinite data set draws; a finite one is sampled with replacement.
 * Values are checked to be finite (FM_ERROR_DATA). */
gboolean fm_dataset_draw(const FmPlugin *dataset, FmKey key, guint64 row0, size_t n, double *x, int *y, GError **error);

gboolean fm_dataset_has_density(const FmPlugin *dataset); /* log_density is there */
/* log p (n) in nats at x (n, D), data units; the density must be there. */
void fm_dataset_log_density(const FmPlugin *dataset, size_t n, const double *x, double *log_p);
double fm_dataset_entropy(const FmPlugin *dataset); /* NAN when unknown */
/* grad log p (n, D); FALSE when it is not known. */
gboolean fm_dataset_score(const FmPlugin *dataset, size_t n, const double *x, double *score);
const FmMixture *fm_dataset_mixture(const FmPlugin *dataset); /* NULL when it is none */
const FmBoxes *fm_dataset_boxes(const FmPlugin *dataset);     /* NULL when it is none */

G_END_DECLS
#endif
