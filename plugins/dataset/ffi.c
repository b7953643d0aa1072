/* ffi: rows that a function of any shared library computes.
 * Infinite (rows=0): row r is a function of what it is handed, one or more of
 *   seed, row   a non-negative number that names a family of rows, and the first row's number in it;
 *               for functions of one sample that take no row, the seed is different for each row
 *   u, z        (n, noise) uniforms in [0, 1) and normals N(0, 1), drawn by the core
 * Finite (rows=N): the function reads the rows whose numbers are in `rows`. */
#include <fmcore/dataset.h>
#include <fmcore/ffi.h>

#include <math.h>
#include <string.h>

G_STATIC_ASSERT(sizeof(size_t) == sizeof(gint64)); /* row numbers are handed on as they are */

typedef struct Ffi {
    FmForeignOptions call; /* options */
    char *symbol, *args, *log_density, *log_density_args;
    FmInts shape;
    int rows, classes, noise;
    FmForeign *function, *density;
    size_t D;
} Ffi;

static const FmOption ffi_options[] = {
    FM_FOREIGN_OPTIONS,
    FM_OPT_STRING(Ffi, symbol, "", "the function that writes x; required"),
    FM_OPT_STRING(Ffi, args, "",
                  "its arguments: n, d, seed, row, rows, u, z, x, y; unset: [n,d,seed,row,x], or "
                  "[n,d,rows,x] for finite data"),
    FM_OPT_INTS(Ffi, shape, "[2]", 1, 1e6, "shape of a sample: [D] or [H,W,C]"),
    FM_OPT_INT(Ffi, rows, 0, 0, 2147483647, "number of rows; 0: infinite"),
    FM_OPT_INT(Ffi, classes, 0, 0, 1000000, "labels y are 0 to classes - 1; 0: none"),
    FM_OPT_INT(Ffi, noise, 0, 0, 1000000, "columns of u and z"),
    FM_OPT_STRING(Ffi, log_density, "", "the function that computes log p(x) in nats"),
    FM_OPT_STRING(Ffi, log_density_args, "[n,d,x,logp]", "its arguments"),
    FM_OPT_END,
};

enum { FFI_N, FFI_D, FFI_SEED, FFI_ROW, FFI_ROWS, FFI_U, FFI_Z, FFI_X, FFI_Y, FFI_N_ROLES };
static const FmForeignRole ffi_roles[] = {
    [FFI_N] = {"n", FM_I64, FM_FOREIGN_ONE, FALSE},          [FFI_D] = {"d", FM_I64, FM_FOREIGN_ONE, FALSE},
    [FFI_SEED] = {"seed", FM_I64, FM_FOREIGN_FIRST, FALSE},  [FFI_ROW] = {"row", FM_I64, FM_FOREIGN_FIRST, FALSE},
    [FFI_ROWS] = {"rows", FM_I64, FM_FOREIGN_COLUMN, FALSE}, [FFI_U] = {"u", FM_F64, FM_FOREIGN_ROWS, FALSE},
    [FFI_Z] = {"z", FM_F64, FM_FOREIGN_ROWS, FALSE},         [FFI_X] = {"x", FM_F64, FM_FOREIGN_ROWS, TRUE},
    [FFI_Y] = {"y", FM_I32, FM_FOREIGN_COLUMN, TRUE},        [FFI_N_ROLES] = {NULL},
};

enum { FFI_DENSITY_X = 2, FFI_DENSITY_LOGP };
static const FmForeignRole ffi_density_roles[] = {
    [FFI_N] = {"n", FM_I64, FM_FOREIGN_ONE, FALSE},
    [FFI_D] = {"d", FM_I64, FM_FOREIGN_ONE, FALSE},
    [FFI_DENSITY_X] = {"x", FM_F64, FM_FOREIGN_ROWS, FALSE},
    [FFI_DENSITY_LOGP] = {"logp", FM_F64, FM_FOREIGN_COLUMN, TRUE},
    {NULL},
};

/* ---- rows ---- */

/* What a call is handed beside x and y. */
typedef struct FfiInputs {
    gint64 *seed, *row;
    double *u, *z;
} FfiInputs;

static void
ffi_inputs_free(FfiInputs *in)
{
    g_free(in->seed);
    g_free(in->row);
    g_free(in->u);
    g_free(in->z);
}

/* Non-negative as 32 and as 64 bits. */
static gint64
ffi_seed(FmRng *rng)
{
    const guint64 high = fm_rng_u32(rng), low = fm_rng_u32(rng);

    return (gint64)(((high << 32) | low) & G_GUINT64_CONSTANT(0x3fffffff7fffffff));
}

/* Row r's numbers are the first of fm_rng(key, r): the seed, then the uniforms, then the normals. */
static gboolean
ffi_inputs(const Ffi *s, FmKey key, guint64 row0, size_t n, FfiInputs *in)
{
    const size_t K = (size_t)s->noise;
    const gboolean one_seed = s->call.per == FM_FOREIGN_BATCH || fm_foreign_uses(s->function, FFI_ROW);

    in->seed = g_try_new(gint64, n);
    in->row = g_try_new(gint64, n);
    in->u = g_try_new(double, n *K + 1);
    in->z = g_try_new(double, n *K + 1);
    if (!in->seed || !in->row || !in->u || !in->z)
        return FALSE;
    for (size_t i = 0; i < n; i++) {
        FmRng rng = fm_rng(key, row0 + i), first = fm_rng(key, 0);
        const gint64 own = ffi_seed(&rng);

        in->seed[i] = one_seed ? ffi_seed(&first) : own;
        in->row[i] = (gint64)(row0 + i);
        for (size_t k = 0; k < K; k++)
            in->u[i * K + k] = fm_rng_uniform(&rng);
        for (size_t k = 0; k < K; k++)
            in->z[i * K + k] = fm_rng_normal(&rng);
    }
    return TRUE;
}

static gboolean
ffi_call(const Ffi *s, size_t n, const FfiInputs *in, const size_t *rows, double *x, int *y, GError **error)
{
    gint64 count = (gint64)n, d = (gint64)s->D;
    g_autofree int *unused = y ? NULL : g_try_new(int, n + 1);
    const FmForeignValue values[] = {[FFI_N] = {&count, 1},
                                     [FFI_D] = {&d, 1},
                                     [FFI_SEED] = {in->seed, 1},
                                     [FFI_ROW] = {in->row, 1},
                                     [FFI_ROWS] = {(void *)rows, 1},
                                     [FFI_U] = {in->u, (size_t)s->noise},
                                     [FFI_Z] = {in->z, (size_t)s->noise},
                                     [FFI_X] = {x, s->D},
                                     [FFI_Y] = {y ? y : unused, 1}};

    if (!y && !unused) {
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "dataset 'ffi': %zu rows do not fit in memory", n);
        return FALSE;
    }
    if (!fm_foreign_call(s->function, n, values, error))
        return FALSE;
    for (size_t i = 0; y && s->classes > 0 && i < n; i++)
        if (y[i] < 0 || y[i] >= s->classes) {
            g_set_error(error, FM_ERROR, FM_ERROR_DATA, "dataset 'ffi': '%s' gave label %d, expected 0 to %d",
                        s->symbol, y[i], s->classes - 1);
            return FALSE;
        }
    return TRUE;
}

static gboolean
ffi_try_draw(const Ffi *s, FmKey key, guint64 row0, size_t n, double *x, int *y, GError **error)
{
    FfiInputs in = {NULL};
    gboolean ok = ffi_inputs(s, key, row0, n, &in);

    if (!ok)
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "dataset 'ffi': %zu rows do not fit in memory", n);
    ok = ok && ffi_call(s, n, &in, NULL, x, y, error);
    ffi_inputs_free(&in);
    return ok;
}

/* A failure leaves no numbers, which the core reports. */
static void
ffi_draw(const void *self, FmKey key, guint64 row0, size_t n, double *x, int *y)
{
    const Ffi *s = self;

    if (!ffi_try_draw(s, key, row0, n, x, y, NULL))
        for (size_t i = 0; i < n * s->D; i++)
            x[i] = NAN;
}

static gboolean
ffi_read(const void *self, const size_t *rows, size_t n, double *x, int *y, GError **error)
{
    const FfiInputs in = {.row = (gint64 *)rows};

    return ffi_call(self, n, &in, rows, x, y, error);
}

/* ---- density ---- */

static gboolean
ffi_call_density(const Ffi *s, size_t n, const double *x, double *log_p, GError **error)
{
    gint64 count = (gint64)n, d = (gint64)s->D;
    const FmForeignValue values[] = {
        [FFI_N] = {&count, 1}, [FFI_D] = {&d, 1}, [FFI_DENSITY_X] = {(void *)x, s->D}, [FFI_DENSITY_LOGP] = {log_p, 1}};

    return fm_foreign_call(s->density, n, values, error);
}

static void
ffi_log_density(const void *self, size_t n, const double *x, double *log_p)
{
    if (!ffi_call_density(self, n, x, log_p, NULL))
        for (size_t i = 0; i < n; i++)
            log_p[i] = NAN;
}

static gboolean
ffi_has_density(const void *self)
{
    return ((const Ffi *)self)->density != NULL;
}

/* ---- opening ---- */

static gboolean
ffi_refuse(GError **error, const char *why)
{
    g_set_error(error, FM_ERROR, FM_ERROR_OPTION, "dataset 'ffi': %s", why);
    return FALSE;
}

/* Can the rows be a function of their numbers? */
static gboolean
ffi_check_use(const Ffi *s, GError **error)
{
    const gboolean batch = s->call.per == FM_FOREIGN_BATCH;
    gboolean uses[FFI_N_ROLES];

    for (size_t i = 0; i < FFI_N_ROLES; i++)
        uses[i] = fm_foreign_uses(s->function, i);
    if (!uses[FFI_X])
        return ffi_refuse(error, "'x' is not among the arguments");
    if (s->classes > 0 && !uses[FFI_Y])
        return ffi_refuse(error, "there are classes and 'y' is not among the arguments");
    if ((uses[FFI_U] || uses[FFI_Z]) && s->noise == 0)
        return ffi_refuse(error, "'u' and 'z' have no columns, expected noise=N above 0");
    if (s->rows > 0) {
        if (uses[FFI_SEED] || uses[FFI_U] || uses[FFI_Z])
            return ffi_refuse(error, "finite data take no seed, u or z, expected rows=0 for infinite data");
        if (batch ? !uses[FFI_ROWS] || uses[FFI_ROW] : !uses[FFI_ROWS] && !uses[FFI_ROW])
            return ffi_refuse(error, "finite data need 'rows', the numbers of the rows, among the arguments");
        return TRUE;
    }
    if (uses[FFI_ROWS])
        return ffi_refuse(error, "'rows' is for finite data, expected rows=N above 0");
    if (!uses[FFI_SEED] && !uses[FFI_U] && !uses[FFI_Z])
        return ffi_refuse(error, "infinite data need 'seed', 'u' or 'z' among the arguments");
    if (batch && uses[FFI_SEED] && !uses[FFI_ROW])
        return ffi_refuse(error, "a batch with 'seed' needs 'row' among the arguments, or per=sample: "
                                 "a row must not depend on the batch it is drawn in");
    return TRUE;
}

/* A first row, so that what is wrong is said at once. */
static gboolean
ffi_try(Ffi *s, GError **error)
{
    g_autofree double *x = g_new(double, s->D);
    const size_t row = 0;
    double log_p = 0.0;
    int y = 0;

    if (s->rows > 0 ? !ffi_read(s, &row, 1, x, &y, error)
                    : !ffi_try_draw(s, (FmKey){.stream = FM_STREAM_DATA}, 0, 1, x, &y, error))
        return FALSE;
    for (size_t d = 0; d < s->D; d++)
        if (!isfinite(x[d])) {
            g_set_error(error, FM_ERROR, FM_ERROR_DATA, "dataset 'ffi': '%s' gave a value that is not finite",
                        s->symbol);
            return FALSE;
        }
    return !s->density || ffi_call_density(s, 1, x, &log_p, error);
}

static gboolean
ffi_open(void *self, FmDataInfo *info, GError **error)
{
    Ffi *s = self;
    const char *args = s->args ? s->args : s->rows > 0 ? "[n,d,rows,x]" : "[n,d,seed,row,x]";

    *info = (FmDataInfo){.ndim = (int)s->shape.n, .D = 1, .rows = (size_t)s->rows, .classes = (size_t)s->classes};
    if (s->shape.n != 1 && s->shape.n != 3)
        return ffi_refuse(error, "a shape has one number or three, [D] or [H,W,C]");
    for (size_t i = 0; i < s->shape.n; i++) {
        info->dim[i] = (size_t)s->shape.v[i];
        info->D *= info->dim[i];
    }
    if (info->D > 1 << 24)
        return ffi_refuse(error, "a sample has more than 16,777,216 values");
    s->D = info->D;
    s->function = fm_foreign_new(&s->call, s->symbol, args, ffi_roles, "dataset 'ffi'", error);
    if (!s->function || !ffi_check_use(s, error))
        return FALSE;
    if (s->log_density && !(s->density = fm_foreign_new(&s->call, s->log_density, s->log_density_args,
                                                        ffi_density_roles, "dataset 'ffi'", error)))
        return FALSE;
    return ffi_try(s, error);
}

static void
ffi_clear(void *self)
{
    Ffi *s = self;

    g_clear_pointer(&s->function, fm_foreign_free);
    g_clear_pointer(&s->density, fm_foreign_free);
}

static const FmDatasetOps ffi_ops = {.open = ffi_open,
                                     .read = ffi_read,
                                     .draw = ffi_draw,
                                     .log_density = ffi_log_density,
                                     .clear = ffi_clear,
                                     .has_density = ffi_has_density};

static const FmFact ffi_facts[] = {
    {"arguments", "n rows, d values a row, seed, row, rows (n), u and z (n, noise), x (n, d) and y (n) written"},
    {"repeatable", "row r must be a function of seed and r, or of its u and z, alone"},
    {"caution", "a signature that does not fit the function cannot be detected"},
    {NULL, NULL},
};

FM_PLUGIN_DECLARE(DATASET, ffi, "ffi", ffi_ops, .self_size = sizeof(Ffi), .options = ffi_options, .facts = ffi_facts,
                  .summary = "rows from a function of any shared library",
                  .source = "libffi, https://sourceware.org/libffi/");
