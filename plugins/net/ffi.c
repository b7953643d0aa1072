/* ffi: a velocity field that a function of any shared library computes.
 * The function is called as its signature says, in the data's own units:
 *   value   [n, d, t, x, v]      v (n, d) = v(t, x) for n points x (n, d) at times t (n)
 *   jvp     [n, d, t, x, e, v]   v (n, d) = (dv/dx) e      makes exact divergences possible
 *   vjp     [n, d, t, x, e, v]   v (n, d) = (dv/dx)^T e    makes gradients in x possible */
#include <fmcore/ffi.h>
#include <fmcore/net.h>

typedef struct Ffi {
    FmForeignOptions call; /* options */
    char *symbol, *args, *jvp, *jvp_args, *vjp, *vjp_args;
    FmForeign *value_function, *jvp_function, *vjp_function;
    FmExternal external;
    size_t D;
} Ffi;

static const FmOption ffi_options[] = {
    FM_FOREIGN_OPTIONS,
    FM_OPT_STRING(Ffi, symbol, "", "the function that computes v; required"),
    FM_OPT_STRING(Ffi, args, "[n,d,t,x,v]",
                  "its arguments: n, d, t, x, v; time: one t for all rows of a call; x0, v0, ...: columns"),
    FM_OPT_STRING(Ffi, jvp, "", "the function that computes (dv/dx) e"),
    FM_OPT_STRING(Ffi, jvp_args, "[n,d,t,x,e,v]", "its arguments"),
    FM_OPT_STRING(Ffi, vjp, "", "the function that computes (dv/dx)^T e"),
    FM_OPT_STRING(Ffi, vjp_args, "[n,d,t,x,e,v]", "its arguments"),
    FM_OPT_END,
};

enum { FFI_N, FFI_D, FFI_T, FFI_TIME, FFI_X, FFI_V, FFI_E, FFI_N_ROLES };

#define FFI_FIELD_ROLES \
    [FFI_N] = {"n", FM_I64, FM_FOREIGN_ONE, FALSE}, [FFI_D] = {"d", FM_I64, FM_FOREIGN_ONE, FALSE}, \
    [FFI_T] = {"t", FM_F64, FM_FOREIGN_COLUMN, FALSE}, [FFI_TIME] = {"time", FM_F64, FM_FOREIGN_EQUAL, FALSE}, \
    [FFI_X] = {"x", FM_F64, FM_FOREIGN_ROWS, FALSE}, [FFI_V] = {"v", FM_F64, FM_FOREIGN_ROWS, TRUE}

static const FmForeignRole ffi_field[] = {FFI_FIELD_ROLES, [FFI_E] = {NULL}};
static const FmForeignRole ffi_derivative[] = {
    FFI_FIELD_ROLES, [FFI_E] = {"e", FM_F64, FM_FOREIGN_ROWS, FALSE}, [FFI_N_ROLES] = {NULL}};

static gboolean
ffi_call(const Ffi *s, FmForeign *function, size_t n, const double *x, const double *t, const double *e, double *y,
         GError **error)
{
    gint64 rows = (gint64)n, d = (gint64)s->D;
    const FmForeignValue values[] = {
        [FFI_N] = {&rows, 1},        [FFI_D] = {&d, 1},   [FFI_T] = {(void *)t, 1},   [FFI_TIME] = {(void *)t, 1},
        [FFI_X] = {(void *)x, s->D}, [FFI_V] = {y, s->D}, [FFI_E] = {(void *)e, s->D}};

    return fm_foreign_call(function, n, values, error);
}

static gboolean
ffi_value(void *self, size_t n, const double *x, const double *t, double *y)
{
    return ffi_call(self, ((Ffi *)self)->value_function, n, x, t, NULL, y, NULL);
}

static gboolean
ffi_jvp(void *self, size_t n, const double *x, const double *t, const double *dx, double *dy)
{
    return ffi_call(self, ((Ffi *)self)->jvp_function, n, x, t, dx, dy, NULL);
}

static gboolean
ffi_vjp(void *self, size_t n, const double *x, const double *t, const double *cot, double *dx)
{
    return ffi_call(self, ((Ffi *)self)->vjp_function, n, x, t, cot, dx, NULL);
}

static void
ffi_clear(void *self)
{
    Ffi *s = self;

    g_clear_pointer(&s->value_function, fm_foreign_free);
    g_clear_pointer(&s->jvp_function, fm_foreign_free);
    g_clear_pointer(&s->vjp_function, fm_foreign_free);
}

/* The function, with a check that the columns it names exist. */
static FmForeign *
ffi_open(const Ffi *s, const char *symbol, const char *args, const FmForeignRole *roles, GError **error)
{
    FmForeign *function = fm_foreign_new(&s->call, symbol, args, roles, "net 'ffi'", error);

    if (function && !ffi_call(s, function, 0, NULL, NULL, NULL, NULL, error))
        g_clear_pointer(&function, fm_foreign_free);
    return function;
}

static gboolean
ffi_prepare(void *self, const FmNetInfo *info, GError **error)
{
    Ffi *s = self;

    if (info->classes > 0) {
        g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED, "net 'ffi' takes no labels, expected an unconditional run");
        return FALSE;
    }
    ffi_clear(s);
    s->D = info->data->D;
    s->value_function = ffi_open(s, s->symbol, s->args, ffi_field, error);
    if (!s->value_function ||
        (s->jvp && !(s->jvp_function = ffi_open(s, s->jvp, s->jvp_args, ffi_derivative, error))) ||
        (s->vjp && !(s->vjp_function = ffi_open(s, s->vjp, s->vjp_args, ffi_derivative, error))))
        return FALSE;
    s->external = (FmExternal){.value = ffi_value,
                               .jvp = s->jvp_function ? ffi_jvp : NULL,
                               .vjp = s->vjp_function ? ffi_vjp : NULL,
                               .thread_safe = TRUE}; /* foreign calls wait for each other */
    return TRUE;
}

static FmNode *
ffi_velocity(void *self, FmGraph *graph, const FmNetInfo *info, FmNode *x, FmNode *t, FmNode *y)
{
    return fm_external(x, t, &((Ffi *)self)->external, self);
}

static const FmNetOps ffi_ops = {
    .velocity = ffi_velocity, .prepare = ffi_prepare, .clear = ffi_clear, .data_units = TRUE};

static const FmFact ffi_facts[] = {
    {"arguments", "n rows, d values a row, t (n), x (n, d), v (n, d) written, e (n, d) direction"},
    {"units", "the data's own; no standardisation"},
    {"exact divergence", "needs jvp"},
    {"caution", "a signature that does not fit the function cannot be detected"},
    {NULL, NULL},
};

FM_PLUGIN_DECLARE(NET, ffi, "ffi", ffi_ops, .self_size = sizeof(Ffi), .options = ffi_options, .facts = ffi_facts,
                  .summary = "a function of any shared library as velocity field",
                  .source = "libffi, https://sourceware.org/libffi/");
