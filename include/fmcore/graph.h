/* graph.h: build a computation as nodes; the core derives, plans and runs it.
 *
 * A node is a value with a shape. `rows` says how its first, implicit axis goes with the batch:
 * 0: no batch axis (a parameter, or computed from parameters alone); 1: one entry per batch row;
 * K > 1: K entries per batch row (K tangents, K probes). The other axes are `dim`. Element-wise
 * operations broadcast as NumPy does over the right-aligned axes, and over rows 0, 1 and K.
 *
 * Errors are sticky: a builder handed NULL or shapes that do not fit sets the graph's error and
 * returns NULL, so a net writes its formulas and the core checks once, fm_graph_error().
 * Nodes belong to their graph and are immutable. Equal nodes are shared when they are built. */
#ifndef FMCORE_GRAPH_H
#define FMCORE_GRAPH_H

#include <fmcore/array.h>
#include <fmcore/random.h>

G_BEGIN_DECLS

#define FM_MAX_NDIM 6
#define FM_MAX_INPUTS 8 /* of one node */

typedef struct FmShape {
    size_t rows; /* 0, 1 or K: see above */
    int ndim;
    size_t dim[FM_MAX_NDIM];
} FmShape;

typedef struct FmGraph FmGraph;
typedef struct FmNode FmNode;

/* Elements of one batch row (rows >= 1), or of the whole node (rows = 0). */
size_t fm_shape_size(const FmShape *shape);
gboolean fm_shape_equal(const FmShape *a, const FmShape *b);
char *fm_shape_format(const FmShape *shape); /* "(2B, 28, 28, 1)" or "(64, 2)"; owned */

/* ---- the graph ---- */

/* An empty graph; owned by the caller. */
FmGraph *fm_graph_new(void);
void fm_graph_free(FmGraph *graph); /* with all its nodes; NULL allowed */

/* FALSE and the first thing that went wrong while building (FM_ERROR_SHAPE mostly). */
gboolean fm_graph_ok(const FmGraph *graph, GError **error);

/* Set the sticky error, from a net or a layer that finds its options wrong. */
void fm_graph_fail(FmGraph *graph, int code, const char *format, ...) G_GNUC_PRINTF(3, 4);

const FmShape *fm_node_shape(const FmNode *node); /* borrowed */
FmGraph *fm_node_graph(const FmNode *node);       /* the graph it belongs to */

/* ---- leaves ---- */

/* A value given at run time: (rows*B, dim...), or (dim...) when rows = 0. The same name gives
 * the same node; a different shape under the same name is an error. */
FmNode *fm_input(FmGraph *graph, const char *name, size_t rows, int ndim, const size_t *dim);

/* As fm_input() with rows = 1 and ndim = 0, holding I32 class labels, for fm_gather(). */
FmNode *fm_input_labels(FmGraph *graph, const char *name);

typedef enum FmInitKind {
    FM_INIT_ZEROS,
    FM_INIT_CONSTANT, /* scale */
    FM_INIT_UNIFORM,  /* [-scale, scale) */
    FM_INIT_NORMAL    /* N(0, scale^2) */
} FmInitKind;

typedef struct FmInit {
    FmInitKind kind;
    double scale;
} FmInit;

/* A trainable parameter. The same name gives the same node. Its first value follows `init`, from
 * the numbers of (seed, FM_STREAM_INIT, hash of name): independent of the other parameters. */
FmNode *fm_param(FmGraph *graph, const char *name, int ndim, const size_t *dim, FmInit init);

/* As fm_param(), saved with the weights but not trained (a running mean, a fixed frequency). */
FmNode *fm_buffer(FmGraph *graph, const char *name, int ndim, const size_t *dim, FmInit init);

/* Names given to fm_param() and fm_buffer() get this prefix until it is reset with "". */
void fm_graph_set_prefix(FmGraph *graph, const char *prefix);

FmNode *fm_scalar(FmGraph *graph, double value);                                       /* (): a constant */
FmNode *fm_constant(FmGraph *graph, int ndim, const size_t *dim, const double *value); /* copied */

/* Random numbers of (key of the run, row of the batch), drawn when the plan runs. */
typedef enum FmRandomKind { FM_RANDOM_UNIFORM, FM_RANDOM_NORMAL, FM_RANDOM_RADEMACHER } FmRandomKind;
FmNode *fm_random(FmGraph *graph, FmRandomKind kind, guint32 stream, const FmShape *shape);

/* ---- element-wise, with broadcasting ---- */

FmNode *fm_add(FmNode *a, FmNode *b);                     /* a + b */
FmNode *fm_sub(FmNode *a, FmNode *b);                     /* a - b */
FmNode *fm_mul(FmNode *a, FmNode *b);                     /* a b */
FmNode *fm_div(FmNode *a, FmNode *b);                     /* a / b */
FmNode *fm_maximum(FmNode *a, FmNode *b);                 /* the larger; at a tie its derivative is that of b */
FmNode *fm_greater(FmNode *a, FmNode *b);                 /* 1 where a > b, else 0; derivative 0 */
FmNode *fm_equal(FmNode *a, FmNode *b);                   /* 1 where a == b, else 0; derivative 0 */
FmNode *fm_select(FmNode *mask, FmNode *a, FmNode *b);    /* a where mask != 0, else b */
FmNode *fm_affine(FmNode *x, double scale, double shift); /* scale x + shift */
FmNode *fm_pow(FmNode *x, double exponent);               /* x^exponent */
FmNode *fm_neg(FmNode *x);                                /* -x */
FmNode *fm_square(FmNode *x);                             /* x^2 */
FmNode *fm_abs(FmNode *x);                                /* |x|; derivative sign(x) */
FmNode *fm_sign(FmNode *x);                               /* -1, 0 or 1; derivative 0 */
FmNode *fm_exp(FmNode *x);                                /* e^x */
FmNode *fm_log(FmNode *x);                                /* natural logarithm */
FmNode *fm_log1p(FmNode *x);                              /* log(1 + x) */
FmNode *fm_sqrt(FmNode *x);                               /* square root */
FmNode *fm_rsqrt(FmNode *x);                              /* 1 / sqrt(x) */
FmNode *fm_recip(FmNode *x);                              /* 1 / x */
FmNode *fm_sin(FmNode *x);                                /* sine */
FmNode *fm_cos(FmNode *x);                                /* cosine */
FmNode *fm_tanh(FmNode *x);                               /* hyperbolic tangent */
FmNode *fm_sigmoid(FmNode *x);                            /* 1 / (1 + e^-x) */
FmNode *fm_erf(FmNode *x);                                /* error function */

/* ---- shape ---- */

/* The same elements under another shape; (rows, dim...) may trade K rows for a leading axis K. */
FmNode *fm_reshape(FmNode *x, size_t rows, int ndim, const size_t *dim);
/* Axis i of the result is axis perm[i] of x (batch axis excluded). */
FmNode *fm_permute(FmNode *x, const int *perm);
FmNode *fm_transpose(FmNode *x);                       /* the last two axes swapped */
FmNode *fm_broadcast(FmNode *x, const FmShape *shape); /* materialised to `shape` */
FmNode *fm_slice(FmNode *x, int axis, size_t start, size_t length);
FmNode *fm_pad(FmNode *x, int axis, size_t before, size_t after); /* with zeros */
FmNode *fm_concat(FmNode *const *x, size_t n, int axis);          /* n <= FM_MAX_INPUTS */

/* ---- reductions ---- */

/* Over the axes whose bit is set in `axes` (bit i = axis i; batch excluded); reduced axes stay
 * with length 1 when `keep`, else they go. */
FmNode *fm_sum(FmNode *x, unsigned axes, gboolean keep);
FmNode *fm_mean(FmNode *x, unsigned axes, gboolean keep);
FmNode *fm_max(FmNode *x, unsigned axes, gboolean keep);
FmNode *fm_sum_rows(FmNode *x);  /* (K B, ...) -> (B, ...): sum of each group of K */
FmNode *fm_sum_batch(FmNode *x); /* (K B, ...) -> (...): over all rows; rows = 0 unchanged */
/* Reduce x to `shape`, the adjoint of broadcasting. */
FmNode *fm_sum_to(FmNode *x, const FmShape *shape);

/* ---- linear algebra ---- */

/* x (..., K) times w (K, N), w without batch axis: (..., N). One GEMM of all leading axes. */
FmNode *fm_matmul(FmNode *x, FmNode *w);
/* sum over the batch and all leading axes of a (..., M)^T b (..., N): (M, N), no batch axis. */
FmNode *fm_matmul_reduce(FmNode *a, FmNode *b);
/* a (..., M, K) times b (..., K, N) with equal leading axes and rows: (..., M, N). ta: a is
 * stored (..., K, M); tb: b is stored (..., N, K). */
FmNode *fm_matmul_batch(FmNode *a, FmNode *b, gboolean ta, gboolean tb);

/* Images are (B, H, W, C); weights (O, I, kh, kw); zero padding `pad` on all sides; square
 * `stride`. Output side: (H + 2 pad - kh) / stride + 1, rounded down. */
FmNode *fm_conv2d(FmNode *x, FmNode *w, int stride, int pad);
/* Adjoint in x: dy (B, Ho, Wo, O) to (B, H, W, I). */
FmNode *fm_conv2d_input(FmNode *dy, FmNode *w, size_t H, size_t W, int stride, int pad);
/* Adjoint in w, summed over the batch: (O, I, kh, kw), no batch axis. */
FmNode *fm_conv2d_weight(FmNode *x, FmNode *dy, size_t kh, size_t kw, int stride, int pad);

/* Rows of table (N, dim...) picked by labels (B): (B, dim...). A label outside [0, N) gives 0. */
FmNode *fm_gather(FmNode *table, FmNode *labels);
/* Adjoint: x (B, dim...) summed into (N, dim...), no batch axis. */
FmNode *fm_scatter_add(FmNode *x, FmNode *labels, size_t N);

FmNode *fm_stop_gradient(FmNode *x); /* the value of x; derivatives are zero */

/* ---- composites: an expansion into primitives plus, optionally, fused kernels ---- */

struct FmKernel; /* backend.h */

#define FM_MAX_ATTRS 64 /* bytes */

typedef struct FmComposite {
    /* required */
    const char *name; /* also the name under which a backend may offer a kernel */
    FmNode *(*expand)(FmGraph *graph, FmNode *const *in, const void *attrs);
    /* optional */
    /* Cotangents of the inputs given the cotangent of the output; write NULL for none. NULL:
     * the expansion is differentiated. It must agree with the expansion to rounding. */
    void (*vjp)(FmGraph *graph, FmNode *const *in, FmNode *out, FmNode *cot, const void *attrs, FmNode **d_in);
    /* Tangent of the output; tangents[i] may be NULL (zero). NULL: the expansion's. */
    FmNode *(*jvp)(FmGraph *graph, FmNode *const *in, FmNode *out, FmNode *const *tangents, const void *attrs);
    /* The composite's own kernels, used where the backend has none; NULL: the expansion runs. */
    const struct FmKernel *kernel_f32, *kernel_f64;
} FmComposite;

/* A composite node. `shape` is checked against the expansion's. attrs (attrs_size bytes, at most
 * FM_MAX_ATTRS, no padding, may be NULL) is copied. `composite` is static. */
FmNode *fm_composite(FmGraph *graph, const FmComposite *composite, FmNode *const *in, size_t n, const void *attrs,
                     size_t attrs_size);

/* ---- external: a function of the user's, row by row ---- */

typedef struct FmExternal {
    /* y (n, width) from x (n, D) and t (n), all double; returns FALSE on failure. */
    gboolean (*value)(void *self, size_t n, const double *x, const double *t, double *y);
    /* optional; NULL: exact divergence and training are refused */
    gboolean (*vjp)(void *self, size_t n, const double *x, const double *t, const double *cot, double *dx);
    gboolean (*jvp)(void *self, size_t n, const double *x, const double *t, const double *dx, double *dy);
    gboolean thread_safe; /* FALSE: calls are serialised */
} FmExternal;

/* y with the shape of x; `external` and `self` outlive the plans made from the graph. */
FmNode *fm_external(FmNode *x, FmNode *t, const FmExternal *external, void *self);

/* ---- derivatives: graphs from graphs ---- */

/* Reverse mode: d_wrt[i] = (d y / d wrt[i])^T cot, for a cotangent of y's shape (or one that
 * broadcasts to it). wrt[i] that y does not depend on gives NULL. cot may be NULL when y is ():
 * then it is 1. FALSE when the graph has an error. */
gboolean fm_vjp(FmNode *y, FmNode *cot, FmNode *const *wrt, size_t n, FmNode **d_wrt);

/* Forward mode: (d y / d x) dx, for a tangent of x's shape, or with K rows per batch row for K
 * tangents in one pass, or without a batch axis for one direction in all rows (the result may then
 * have none either). NULL when y does not depend on x (a zero tangent), with no error set. */
FmNode *fm_jvp(FmNode *y, FmNode *x, FmNode *dx);

G_END_DECLS
#endif
