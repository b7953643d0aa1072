/* node.h: the inside of a graph, shared by its builders, derivatives and the planner. */
#ifndef FMCORE_CORE_GRAPH_NODE_H
#define FMCORE_CORE_GRAPH_NODE_H

#include <fmcore/backend.h>
#include <fmcore/graph.h>

/* X(identifier, name, element-wise code or -1). Leaves first, then element-wise operations in the
 * order of FmEltOp, then the rest. Names are those that backends look up. */
#define FM_OP_LIST(X) \
    X(INPUT, "input", -1) \
    X(PARAM, "param", -1) \
    X(CONSTANT, "constant", -1) \
    X(RANDOM, "random", -1) \
    X(ABS, "abs", FM_ELT_ABS) \
    X(SIGN, "sign", FM_ELT_SIGN) \
    X(EXP, "exp", FM_ELT_EXP) \
    X(LOG, "log", FM_ELT_LOG) \
    X(LOG1P, "log1p", FM_ELT_LOG1P) \
    X(SQRT, "sqrt", FM_ELT_SQRT) \
    X(RSQRT, "rsqrt", FM_ELT_RSQRT) \
    X(RECIP, "recip", FM_ELT_RECIP) \
    X(SIN, "sin", FM_ELT_SIN) \
    X(COS, "cos", FM_ELT_COS) \
    X(TANH, "tanh", FM_ELT_TANH) \
    X(SIGMOID, "sigmoid", FM_ELT_SIGMOID) \
    X(ERF, "erf", FM_ELT_ERF) \
    X(AFFINE, "affine", FM_ELT_AFFINE) \
    X(POW, "pow", FM_ELT_POW) \
    X(ADD, "add", FM_ELT_ADD) \
    X(SUB, "sub", FM_ELT_SUB) \
    X(MUL, "mul", FM_ELT_MUL) \
    X(DIV, "div", FM_ELT_DIV) \
    X(MAXIMUM, "maximum", FM_ELT_MAXIMUM) \
    X(GREATER, "greater", FM_ELT_GREATER) \
    X(EQUAL, "equal", FM_ELT_EQUAL) \
    X(SELECT, "select", FM_ELT_SELECT) \
    X(RESHAPE, "reshape", -1) \
    X(STOP_GRADIENT, "stop_gradient", -1) \
    X(PERMUTE, "permute", -1) \
    X(BROADCAST, "broadcast", -1) \
    X(SLICE, "slice", -1) \
    X(PAD, "pad", -1) \
    X(CONCAT, "concat", -1) \
    X(SUM, "sum", -1) \
    X(MAX, "max", -1) \
    X(SUM_ROWS, "sum_rows", -1) \
    X(SUM_BATCH, "sum_batch", -1) \
    X(MATMUL, "matmul", -1) \
    X(MATMUL_REDUCE, "matmul_reduce", -1) \
    X(MATMUL_BATCH, "matmul_batch", -1) \
    X(CONV2D, "conv2d", -1) \
    X(CONV2D_INPUT, "conv2d_input", -1) \
    X(CONV2D_WEIGHT, "conv2d_weight", -1) \
    X(GATHER, "gather", -1) \
    X(SCATTER_ADD, "scatter_add", -1) \
    X(COMPOSITE, "composite", -1) \
    X(EXTERNAL, "external", -1) \
    X(EXTERNAL_VJP, "external_vjp", -1) \
    X(EXTERNAL_JVP, "external_jvp", -1)

typedef enum FmOp {
#define FM_OP_ENUM(id, name, elt) FM_OP_##id,
    FM_OP_LIST(FM_OP_ENUM)
#undef FM_OP_ENUM
        FM_N_OPS
} FmOp;

/* Attributes of an external node: in = (x, t), (x, t, cot) or (x, t, dx). */
typedef struct FmAttrExternal {
    const FmExternal *external;
    void *self;
} FmAttrExternal;

struct FmNode {
    FmGraph *graph;
    guint id; /* position in graph->nodes: inputs of a node always come before it */
    FmOp op;
    FmShape shape;
    guint n_in;
    FmNode *in[FM_MAX_INPUTS];
    gsize attrs_size;
    union {
        char bytes[FM_MAX_ATTRS];
        double align;
        void *align_pointer;
    } attrs;
    const FmComposite *composite; /* COMPOSITE */
    FmNode *expansion;            /* COMPOSITE: the same value in primitives */
    char *name;                   /* INPUT, PARAM; owned */
    gboolean labels;              /* INPUT: I32 class labels */
    gboolean trainable;           /* PARAM */
    FmInit init;                  /* PARAM */
    double *constant;             /* CONSTANT: fm_shape_size() values; owned */
};

struct FmGraph {
    GPtrArray *nodes;   /* FmNode *, owned, in order of creation (topological) */
    GHashTable *shared; /* equal nodes are one */
    GHashTable *names;  /* inputs and parameters by name */
    char *prefix;
    GError *error; /* sticky */
};

extern const char *const fm__op_names[FM_N_OPS];

/* FmEltOp of an element-wise operation, else -1. */
int fm__op_elt(FmOp op);

/* TRUE for SUM_BATCH, MATMUL_REDUCE, CONV2D_WEIGHT and SCATTER_ADD with a batched input: their
 * kernels add up over tiles. */
gboolean fm__node_reduces_batch(const FmNode *node);

/* The name under which a node's kernel is looked up (a composite's own name). */
const char *fm__node_kernel_name(const FmNode *node);

/* Make (or share) a node; shape rules have been applied by the caller. NULL inputs give NULL. */
FmNode *fm__node_new(FmGraph *graph, FmOp op, const FmShape *shape, FmNode *const *in, guint n_in, const void *attrs,
                     gsize attrs_size);

#endif
