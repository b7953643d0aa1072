/* backend.h: kernels on buffers, looked up by (operation, dtype).
 *
 * A kernel computes one node for one tile of n batch rows, single-threaded, from views into an
 * arena. It allocates nothing (scratch is planned) and keeps no state between calls but caches
 * of its own that are safe for concurrent callers. */
#ifndef FMCORE_BACKEND_H
#define FMCORE_BACKEND_H

#include <fmcore/graph.h>
#include <fmcore/plugin.h>

G_BEGIN_DECLS

/* A node's buffer within a tile. rows = n * shape->rows (1 when shape->rows is 0) */
typedef struct FmView {
    void *data;
    const FmShape *shape;
    size_t rows;
} FmView;

typedef struct FmKernelArgs {
    size_t n; /* batch rows in this tile */
    size_t n_in;
    FmView in[2 * FM_MAX_INPUTS]; /* fused: inputs, then outputs 1 and up */
    FmView out;
    const void *attrs;   /* the operation's attributes, below */
    void *scratch;       /* FmKernel.scratch() bytes, FM_ALIGN aligned */
    const void *packed;  /* what FmKernel.pack() wrote, or NULL */
    gboolean accumulate; /* batch reductions only: add to out instead of writing it */
    FmKey key;           /* random nodes: key of the run, stream replaced by the node's */
    guint64 row0;        /* random nodes: number of the tile's first row */
} FmKernelArgs;

/* What a kernel may ask at planning time: shapes only; n is the largest tile. */
typedef struct FmKernelShapes {
    size_t n;
    size_t n_in;
    const FmShape *in[FM_MAX_INPUTS];
    const FmShape *out;
    const void *attrs;
} FmKernelShapes;

typedef struct FmKernel {
    /* required; FALSE only for external functions and failing libraries */
    gboolean (*run)(const FmKernelArgs *args);
    /* optional */
    size_t (*scratch)(const FmKernelShapes *shapes); /* NULL: none */
    /* A private copy of unbatched operands (a reordered weight), made once each time parameters
     * change, before the tiles run. NULL: none. Size 0: none for these shapes. */
    size_t (*pack_size)(const FmKernelShapes *shapes);
    void (*pack)(const FmKernelArgs *args, void *packed); /* args->in[] of rows 0 are valid */
    /* As pack(), where in[1].data holds the transpose of what in[1].shape, of two axes, says; then run()
     * reads the packed copy alone. pack_size() must not depend on n. NULL: none. */
    void (*pack_transposed)(const FmKernelArgs *args, void *packed);
} FmKernel;

/* Operations that a backend must offer for FM_F32 and FM_F64. Primitives; attributes in ().
 *   element-wise unary: abs sign exp log log1p sqrt rsqrt recip sin cos tanh sigmoid erf
 *                       affine (FmAttrAffine) pow (FmAttrPow)
 *   element-wise binary: add sub mul div maximum greater equal; ternary: select
 *   shape: permute (FmAttrPermute) broadcast slice (FmAttrSlice) pad (FmAttrSlice)
 *          concat (FmAttrAxis)           [reshape and stop_gradient are aliases, never run]
 *   reductions: sum, max (FmAttrReduce: in and out have equal ndim, reduced axes 1)
 *               sum_rows, sum_batch [accumulate]
 *   linear algebra: matmul, matmul_reduce [accumulate], matmul_batch (FmAttrTrans),
 *               conv2d, conv2d_input, conv2d_weight [accumulate] (FmAttrConv)
 *   gather, scatter_add [accumulate]; random (FmAttrRandom)
 * Optional: `fused` (FmProgram) and any composite by its name. */

typedef struct FmAttrAffine {
    double scale, shift;
} FmAttrAffine;
typedef struct FmAttrPow {
    double exponent;
} FmAttrPow;
typedef struct FmAttrPermute {
    gint32 perm[FM_MAX_NDIM];
} FmAttrPermute;
typedef struct FmAttrSlice {
    gint32 axis, unused;
    guint64 start, after;
} FmAttrSlice; /* pad: before, after */
typedef struct FmAttrAxis {
    gint32 axis;
} FmAttrAxis;
typedef struct FmAttrReduce {
    guint32 axes;
} FmAttrReduce;
typedef struct FmAttrTrans {
    gint32 a, b;
} FmAttrTrans;
typedef struct FmAttrConv {
    gint32 stride, pad;
} FmAttrConv;
typedef struct FmAttrRandom {
    gint32 kind;
    guint32 stream;
} FmAttrRandom;

/* A chain of element-wise operations in one pass: a straight-line program over registers.
 * Registers 0 .. n_in-1 are the inputs (broadcast to the output's shape), instruction i writes
 * register n_in + i, and the last writes the output. All registers have the output's shape. */
typedef enum FmEltOp {
    FM_ELT_ABS,
    FM_ELT_SIGN,
    FM_ELT_EXP,
    FM_ELT_LOG,
    FM_ELT_LOG1P,
    FM_ELT_SQRT,
    FM_ELT_RSQRT,
    FM_ELT_RECIP,
    FM_ELT_SIN,
    FM_ELT_COS,
    FM_ELT_TANH,
    FM_ELT_SIGMOID,
    FM_ELT_ERF,
    FM_ELT_AFFINE,
    FM_ELT_POW,
    FM_ELT_ADD,
    FM_ELT_SUB,
    FM_ELT_MUL,
    FM_ELT_DIV,
    FM_ELT_MAXIMUM,
    FM_ELT_GREATER,
    FM_ELT_EQUAL,
    FM_ELT_SELECT,
    FM_N_ELT_OPS
} FmEltOp;

typedef struct FmInstr {
    guint8 op;     /* FmEltOp */
    guint8 src[3]; /* registers */
    double imm[2]; /* affine: scale, shift; pow: exponent */
} FmInstr;

#define FM_MAX_INSTRS 32

/* Several results may leave one pass: outs[k] is the register written to the k-th output. The
 * kernel finds output 0 in args->out and output k > 0 in args->in[n_in + k - 1]. */
typedef struct FmProgram {
    guint16 n_in, n_instrs, n_out;
    guint8 outs[FM_MAX_INPUTS];
    FmInstr instr[FM_MAX_INSTRS];
} FmProgram;

typedef struct FmBackendOps {
    /* required: NULL when it has no such kernel */
    const FmKernel *(*lookup)(const void *self, const char *op, FmDtype dtype);
    /* optional */
    gboolean (*prepare)(void *self, GError **error);
    void (*clear)(void *self);
    /* "oneDNN 2.6.3, OpenBLAS 0.3.21, avx512": printed by `bench` and stored in results. */
    const char *(*describe)(const void *self);
    /* Dense host algebra in double on (n, n) row-major matrices, LAPACK's conventions for the
     * return value (0: done). NULL: plain loops of the core serve.
     * cholesky: a = L L^T, lower triangle overwritten by L. eigen: a symmetric, overwritten by
     * eigenvectors in its rows, ascending values in w (n). */
    int (*cholesky)(const void *self, size_t n, double *a);
    int (*eigen)(const void *self, size_t n, double *a, double *w);
    /* c (m, n) = alpha a (m, k) b + beta c, row-major; tb: b is (n, k), else (k, n). */
    void (*gemm_f64)(const void *self, gboolean tb, size_t m, size_t n, size_t k, double alpha, const double *a,
                     const double *b, double beta, double *c);
    void (*gemm_f32)(const void *self, gboolean tb, size_t m, size_t n, size_t k, float alpha, const float *a,
                     const float *b, float beta, float *c);
} FmBackendOps;

/* The kernel of `op`, or NULL. `backend` is an instance of kind backend. */
const FmKernel *fm_backend_kernel(const FmPlugin *backend, const char *op, FmDtype dtype);

/* A prepared instance of kind backend; owned by the caller. */
FmPlugin *fm_backend_new(const char *spec, GError **error);

/* The process's backend: cpu, or reference where cpu cannot be loaded. Borrowed, never freed. */
FmPlugin *fm_backend_default(GError **error);

/* ---- dense algebra for plugins that are no kernels (divergences, couplings) ----
 * They use the process's default backend when it offers the slot and plain loops otherwise. */

/* In place a = L L^T, lower triangle. FALSE when a is not positive definite. */
gboolean fm_linalg_cholesky(size_t n, double *a);
/* Symmetric a (n, n) to eigenvectors in rows and ascending eigenvalues w (n). */
gboolean fm_linalg_eigen(size_t n, double *a, double *w);
void fm_linalg_gemm_f64(gboolean tb, size_t m, size_t n, size_t k, double alpha, const double *a, const double *b,
                        double beta, double *c);
void fm_linalg_gemm_f32(gboolean tb, size_t m, size_t n, size_t k, float alpha, const float *a, const float *b,
                        float beta, float *c);

G_END_DECLS
#endif
