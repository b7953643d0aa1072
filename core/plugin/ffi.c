/* ffi.c: foreign functions described in text. Every libffi call of the library is here.
 * A call has three steps: arrays are converted to the function's types where these differ, the
 * function is called once for the batch, for each run of equal FM_FOREIGN_EQUAL values or for each
 * sample, and what it wrote is converted back. */
#include "plugin/instance.h"

#include <ffi.h>
#include <fmcore/ffi.h>
#include <string.h>

enum { MAX_ARGS = 32, MAX_ROLES = 16 };

const char *const fm_foreign_per[] = {"batch", "sample", NULL};
const char *const fm_foreign_reals[] = {"f64", "f32", NULL};
const char *const fm_foreign_integers[] = {"i32", "i64", NULL};
const char *const fm_foreign_layouts[] = {"rows", "columns", NULL};
const char *const fm_foreign_returns[] = {"none", "status", "value", NULL};

static const FmDtype real_types[] = {FM_F64, FM_F32};
static const FmDtype integer_types[] = {FM_I32, FM_I64};

/* A number of any of the types that functions take. */
typedef union Number {
    float f32;
    double f64;
    gint32 i32;
    gint64 i64;
    void *pointer;
} Number;

typedef enum ArgForm {
    ARG_CONSTANT, /* the number itself */
    ARG_NULL,
    ARG_FIRST,     /* the role's number in the first row of the call */
    ARG_ARRAY,     /* the role's array from the first row of the call on */
    ARG_COLUMN,    /* of one sample: column `column` by value */
    ARG_COLUMN_OUT /* of one sample: where column `column` is written */
} ArgForm;

typedef struct Arg {
    ArgForm form;
    size_t role, column;
    FmDtype type;       /* of the number, or of the array's elements */
    gboolean reference; /* a number behind a pointer */
    Number constant;
} Arg;

struct FmForeign {
    char *who, *symbol;
    const FmForeignRole *roles;
    size_t n_roles, n_args;
    Arg arg[MAX_ARGS];
    ffi_cif cif;
    ffi_type *types[MAX_ARGS];
    FmForeignFunction function;
    int per, returns;
    FmDtype real;
    gboolean columns, thread_safe;
    size_t result; /* the role that a returned value fills */
    /* arrays in the function's type: unused blocks wait in a list */
    GMutex lock;
    struct Scratch *idle;
};

typedef struct Scratch {
    struct Scratch *next;
    size_t size;
    char *block;
} Scratch;

static GMutex serial; /* for functions that are not thread-safe: libraries may share state */

/* ---- signatures ---- */

static gboolean
refuse(const FmForeign *f, GError **error, const char *format, ...)
{
    va_list args;
    g_autofree char *text = NULL;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, FM_ERROR, FM_ERROR_OPTION, "%s: %s", f->who, text);
    return FALSE;
}

static gboolean
type_from_name(const char *name, FmDtype *type)
{
    static const struct {
        const char *name;
        FmDtype type;
    } known[] = {{"f32", FM_F32}, {"float", FM_F32}, {"f64", FM_F64},  {"double", FM_F64}, {"i32", FM_I32},
                 {"int", FM_I32}, {"i64", FM_I64},   {"long", FM_I64}, {"size_t", FM_I64}};

    for (size_t i = 0; i < G_N_ELEMENTS(known); i++)
        if (strcmp(known[i].name, name) == 0) {
            *type = known[i].type;
            return TRUE;
        }
    return FALSE;
}

/* The role called `name`, or whose column it is; n_roles when there is none. */
static size_t
find_role(const FmForeign *f, const char *name, size_t *column)
{
    size_t length = strlen(name);

    *column = G_MAXSIZE;
    for (size_t i = 0; i < f->n_roles; i++)
        if (strcmp(f->roles[i].name, name) == 0)
            return i;
    while (length > 0 && g_ascii_isdigit(name[length - 1]))
        length--;
    if (name[length] == '\0' || strlen(name + length) > 6)
        return f->n_roles;
    *column = (size_t)g_ascii_strtoull(name + length, NULL, 10);
    for (size_t i = 0; i < f->n_roles; i++)
        if (strlen(f->roles[i].name) == length && strncmp(f->roles[i].name, name, length) == 0)
            return f->roles[i].shape == FM_FOREIGN_ROWS ? i : f->n_roles;
    return f->n_roles;
}

static gboolean
parse_constant(Arg *a, const char *text)
{
    char *end = NULL;
    const double value = g_ascii_strtod(text, &end);
    const gint64 whole = g_ascii_strtoll(text, NULL, 10);

    if (end == text || *end != '\0')
        return FALSE;
    a->form = ARG_CONSTANT;
    if (a->type == FM_F64)
        a->constant.f64 = value;
    else if (a->type == FM_F32)
        a->constant.f32 = (float)value;
    else if (a->type == FM_I64)
        a->constant.i64 = whole;
    else
        a->constant.i32 = (gint32)whole;
    return TRUE;
}

static gboolean
unknown_name(const FmForeign *f, const char *item, const char *name, GError **error)
{
    const char *names[MAX_ROLES + 1] = {NULL};
    g_autofree char *all = NULL;

    for (size_t i = 0; i < f->n_roles; i++)
        names[i] = f->roles[i].name;
    all = g_strjoinv(", ", (char **)names);
    return refuse(f, error, "argument '%s' of '%s' is called '%s', expected a number, null or one of %s", item,
                  f->symbol, name, all);
}

/* What `name` means in a call for a batch or for one sample. */
static gboolean
parse_name(const FmForeign *f, Arg *a, const char *item, const char *name, GError **error)
{
    const FmForeignRole *role;
    const gboolean sample = f->per == FM_FOREIGN_SAMPLE;

    a->role = find_role(f, name, &a->column);
    if (a->role == f->n_roles)
        return unknown_name(f, item, name, error);
    role = &f->roles[a->role];
    if (a->column != G_MAXSIZE) {
        if (!sample)
            return refuse(f, error,
                          "argument '%s' of '%s' is a column, which is for functions of one sample "
                          "(per=sample)",
                          item, f->symbol);
        a->form = role->out ? ARG_COLUMN_OUT : ARG_COLUMN;
    } else if (role->shape == FM_FOREIGN_ROWS || (role->shape == FM_FOREIGN_COLUMN && (!sample || role->out))) {
        a->form = ARG_ARRAY;
    } else {
        a->form = ARG_FIRST;
    }
    return TRUE;
}

static gboolean
parse_arg(const FmForeign *f, const FmForeignOptions *o, Arg *a, const char *item, GError **error)
{
    const char *colon = strchr(item, ':'), *start = item + (*item == '&');
    g_autofree char *name = colon ? g_strndup(start, (gsize)(colon - start)) : g_strdup(start);
    const FmDtype integer = integer_types[o->integer];
    const gboolean number = g_ascii_isdigit(*name) || (*name && strchr("+-.", *name));
    size_t column;

    *a = (Arg){.reference = *item == '&' || o->reference, .type = f->real};
    if (strcmp(name, "null") == 0) {
        a->form = ARG_NULL;
        return TRUE;
    }
    if (number ? !strpbrk(name, ".eE")
               : find_role(f, name, &column) < f->n_roles && f->roles[find_role(f, name, &column)].host != FM_F64)
        a->type = integer;
    if (colon && !type_from_name(colon + 1, &a->type))
        return refuse(f, error,
                      "argument '%s' of '%s' is of type '%s', expected f32, f64, i32, i64, float, "
                      "double, int, long or size_t",
                      item, f->symbol, colon + 1);
    if (number)
        return parse_constant(a, name) || unknown_name(f, item, name, error);
    if (!parse_name(f, a, item, name, error))
        return FALSE;
    if (*item == '&' && (a->form == ARG_ARRAY || a->form == ARG_COLUMN_OUT))
        return refuse(f, error, "argument '%s' of '%s' is a pointer already, expected it without '&'", item, f->symbol);
    return TRUE;
}

/* The type in which an array is wanted: that of its first argument. */
static FmDtype
array_type(const FmForeign *f, size_t role)
{
    for (size_t i = 0; i < f->n_args; i++)
        if (f->arg[i].form >= ARG_ARRAY && f->arg[i].role == role)
            return f->arg[i].type;
    return f->roles[role].host;
}

/* Does an argument need the role's array, whole or by columns? */
static gboolean
array_wanted(const FmForeign *f, size_t role)
{
    for (size_t i = 0; i < f->n_args; i++)
        if (f->arg[i].form >= ARG_ARRAY && f->arg[i].role == role)
            return TRUE;
    return FALSE;
}

/* "[n, x, t, v]" or "n,x,t,v". */
static gboolean
parse_signature(FmForeign *f, const FmForeignOptions *o, const char *signature, GError **error)
{
    g_autofree char *text = g_strstrip(g_strdup(signature));
    const size_t length = strlen(text);
    g_auto(GStrv) items = NULL;

    if (text[0] == '[' && text[length - 1] == ']') {
        text[length - 1] = ' ';
        text[0] = ' ';
    }
    g_strstrip(text);
    items = g_strsplit(text, ",", -1);
    for (size_t i = 0; items[i]; i++) {
        g_strstrip(items[i]);
        if (i == MAX_ARGS)
            return refuse(f, error, "'%s' is to be called with more than %d arguments", f->symbol, MAX_ARGS);
        if (!*items[i])
            return refuse(f, error,
                          "signature '%s' of '%s' has an empty argument, expected a list "
                          "such as [n,x,t,v]",
                          signature, f->symbol);
        if (!parse_arg(f, o, &f->arg[i], items[i], error))
            return FALSE;
        if (f->arg[i].form >= ARG_ARRAY && array_wanted(f, f->arg[i].role) &&
            f->arg[i].type != array_type(f, f->arg[i].role))
            return refuse(f, error, "argument '%s' of '%s' has another type than before", items[i], f->symbol);
        f->n_args = i + 1;
    }
    return TRUE;
}

/* Is something written, and is there one place for a returned value? */
static gboolean
check_results(FmForeign *f, GError **error)
{
    gboolean written = f->returns == FM_FOREIGN_VALUE;

    while (f->result < f->n_roles && !f->roles[f->result].out)
        f->result++;
    g_return_val_if_fail(f->result < f->n_roles, FALSE);
    if (f->returns == FM_FOREIGN_VALUE && f->per != FM_FOREIGN_SAMPLE)
        return refuse(f, error,
                      "returns=value is for functions of one sample (per=sample), a batch is written "
                      "to an array");
    for (size_t i = 0; i < f->n_roles; i++)
        written |= f->roles[i].out && fm_foreign_uses(f, i);
    return written || refuse(f, error, "'%s' writes nothing: '%s' is not among its arguments", f->symbol,
                             f->roles[f->result].name);
}

static ffi_type *
ffi_type_of(FmDtype type)
{
    return type == FM_F32   ? &ffi_type_float
           : type == FM_F64 ? &ffi_type_double
           : type == FM_I32 ? &ffi_type_sint32
                            : &ffi_type_sint64;
}

static gboolean
is_pointer(const Arg *a)
{
    return a->form == ARG_NULL || a->form == ARG_ARRAY || a->form == ARG_COLUMN_OUT || a->reference;
}

static gboolean
prepare_call(FmForeign *f, GError **error)
{
    ffi_type *result = f->returns == FM_FOREIGN_VALUE    ? ffi_type_of(f->real)
                       : f->returns == FM_FOREIGN_STATUS ? &ffi_type_sint32
                                                         : &ffi_type_void;

    for (size_t i = 0; i < f->n_args; i++)
        f->types[i] = is_pointer(&f->arg[i]) ? &ffi_type_pointer : ffi_type_of(f->arg[i].type);
    return ffi_prep_cif(&f->cif, FFI_DEFAULT_ABI, (unsigned)f->n_args, result, f->types) == FFI_OK ||
           refuse(f, error, "libffi cannot call '%s'", f->symbol);
}

FmForeign *
fm_foreign_new(const FmForeignOptions *options, const char *symbol, const char *signature, const FmForeignRole *roles,
               const char *who, GError **error)
{
    FmForeign *f = g_new0(FmForeign, 1);

    f->who = g_strdup(who);
    f->symbol = g_strdup(symbol ? symbol : "");
    f->roles = roles;
    f->per = options->per;
    f->returns = options->returns;
    f->real = real_types[options->real];
    f->columns = options->layout == 1;
    f->thread_safe = options->thread_safe;
    g_mutex_init(&f->lock);
    while (roles[f->n_roles].name && f->n_roles < MAX_ROLES)
        f->n_roles++;
    if (!options->library || !*f->symbol)
        refuse(f, error, "it needs library=FILE and symbol=NAME");
    else if (parse_signature(f, options, signature, error) && check_results(f, error) && prepare_call(f, error) &&
             (f->function = fm__foreign_symbol(options->library, f->symbol, who, error)))
        return f;
    fm_foreign_free(f);
    return NULL;
}

void
fm_foreign_free(FmForeign *f)
{
    if (!f)
        return;
    while (f->idle) {
        Scratch *s = f->idle;

        f->idle = s->next;
        fm_free(s->block);
        g_free(s);
    }
    g_mutex_clear(&f->lock);
    g_free(f->who);
    g_free(f->symbol);
    g_free(f);
}

gboolean
fm_foreign_uses(const FmForeign *f, size_t role)
{
    for (size_t i = 0; i < f->n_args; i++)
        if (f->arg[i].form > ARG_NULL && f->arg[i].role == role)
            return TRUE;
    return f->returns == FM_FOREIGN_VALUE && role == f->result;
}

/* ---- calls ---- */

/* The arrays of one call in the function's types. */
typedef struct Arrays {
    char *data[MAX_ROLES]; /* NULL: the role is no array of this function */
    FmDtype type[MAX_ROLES];
    gboolean own[MAX_ROLES]; /* converted: lies in the scratch */
} Arrays;

/* (n, width) of dtype `from` to `to`; `turn`: columns become rows of the result. */
static void
convert(FmDtype from, const char *in, FmDtype to, char *out, size_t n, size_t width, gboolean turn)
{
    const size_t a = fm_dtype_size(from), b = fm_dtype_size(to);

    if (!turn) {
        fm_convert(from, in, to, out, n * width);
        return;
    }
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < width; k++)
            fm_convert(from, in + (i * width + k) * a, to, out + (k * n + i) * b, 1);
}

static Scratch *
scratch_take(FmForeign *f, size_t size)
{
    Scratch *s;

    g_mutex_lock(&f->lock);
    s = f->idle;
    if (s)
        f->idle = s->next;
    g_mutex_unlock(&f->lock);
    if (!s)
        s = g_new0(Scratch, 1);
    if (s->size < size) {
        fm_free(s->block);
        s->block = fm_alloc(size);
        s->size = s->block ? size : 0;
    }
    return s;
}

static void
scratch_give(FmForeign *f, Scratch *s)
{
    g_mutex_lock(&f->lock);
    s->next = f->idle;
    f->idle = s;
    g_mutex_unlock(&f->lock);
}

/* Where each array lies; bytes of scratch are returned. scratch NULL: measure only. */
static size_t
place_arrays(const FmForeign *f, size_t n, const FmForeignValue *values, char *scratch, Arrays *arrays)
{
    size_t used = 0;

    for (size_t i = 0; i < f->n_roles; i++) {
        const FmForeignRole *role = &f->roles[i];
        const FmDtype type = array_type(f, i);
        const gboolean turn = f->columns && f->per == FM_FOREIGN_BATCH && values[i].width > 1;

        arrays->data[i] = NULL;
        arrays->type[i] = type;
        arrays->own[i] = FALSE;
        if (!array_wanted(f, i))
            continue;
        arrays->data[i] = values[i].data;
        if (type == role->host && !turn)
            continue;
        arrays->own[i] = TRUE;
        arrays->data[i] = scratch ? scratch + used : NULL;
        used += (n * values[i].width * fm_dtype_size(type) + FM_ALIGN - 1) / FM_ALIGN * FM_ALIGN;
    }
    return used;
}

static void
read_number(FmDtype from, const char *at, FmDtype to, Number *out)
{
    fm_convert(from, at, to, out, 1);
}

/* A row's values of the function's arrays, in elements. */
static char *
row_of(const FmForeign *f, const Arrays *arrays, const FmForeignValue *values, size_t role, size_t row, size_t column)
{
    const size_t width = f->roles[role].shape == FM_FOREIGN_ROWS ? values[role].width : 1;

    return arrays->data[role] + (row * width + column) * fm_dtype_size(arrays->type[role]);
}

/* One call for rows from `row` on. */
static gboolean
call_once(const FmForeign *f, const Arrays *arrays, const FmForeignValue *values, size_t row, GError **error)
{
    Number number[MAX_ARGS];
    void *pointer[MAX_ARGS], *argument[MAX_ARGS];
    union {
        ffi_arg word;
        float f32;
        double f64;
    } result;

    for (size_t i = 0; i < f->n_args; i++) {
        const Arg *a = &f->arg[i];
        const FmForeignRole *role = &f->roles[a->role];

        pointer[i] = NULL;
        if (a->form == ARG_CONSTANT)
            number[i] = a->constant;
        else if (a->form == ARG_FIRST)
            read_number(role->host,
                        (char *)values[a->role].data +
                            (role->shape == FM_FOREIGN_ONE ? 0 : row) * fm_dtype_size(role->host),
                        a->type, &number[i]);
        else if (a->form == ARG_COLUMN)
            read_number(arrays->type[a->role], row_of(f, arrays, values, a->role, row, a->column), a->type, &number[i]);
        else if (a->form != ARG_NULL)
            pointer[i] = row_of(f, arrays, values, a->role, row, a->form == ARG_ARRAY ? 0 : a->column);
        if (a->form != ARG_NULL && a->form != ARG_ARRAY && a->form != ARG_COLUMN_OUT && a->reference)
            pointer[i] = &number[i];
        argument[i] = is_pointer(a) ? (void *)&pointer[i] : (void *)&number[i];
    }
    /* libffi does not change the call interface. */
    ffi_call((ffi_cif *)&f->cif, f->function, &result, argument);
    if (f->returns == FM_FOREIGN_VALUE) {
        const FmForeignRole *role = &f->roles[f->result];

        fm_convert(f->real, f->real == FM_F32 ? (void *)&result.f32 : (void *)&result.f64, role->host,
                   (char *)values[f->result].data + row * fm_dtype_size(role->host), 1);
    } else if (f->returns == FM_FOREIGN_STATUS && (gint32)result.word != 0) {
        g_set_error(error, FM_ERROR, FM_ERROR_DIVERGED, "%s: '%s' returned status %d, expected 0", f->who, f->symbol,
                    (gint32)result.word);
        return FALSE;
    }
    return TRUE;
}

/* Rows from `row` on for which one call will do. */
static size_t
run_length(const FmForeign *f, const FmForeignValue *values, size_t row, size_t n)
{
    size_t end = n;

    for (size_t i = 0; i < f->n_args; i++) {
        const FmForeignRole *role = &f->roles[f->arg[i].role];
        const size_t size = fm_dtype_size(role->host);
        const char *data = values[f->arg[i].role].data;

        if (f->arg[i].form != ARG_FIRST || role->shape != FM_FOREIGN_EQUAL)
            continue;
        for (size_t r = row + 1; r < end; r++)
            if (memcmp(data + r * size, data + row * size, size) != 0)
                end = r;
    }
    return end - row;
}

static gboolean
columns_exist(const FmForeign *f, const FmForeignValue *values, GError **error)
{
    for (size_t i = 0; i < f->n_args; i++) {
        const Arg *a = &f->arg[i];

        if ((a->form == ARG_COLUMN || a->form == ARG_COLUMN_OUT) && a->column >= values[a->role].width)
            return refuse(f, error, "argument '%s%zu' of '%s' is column %zu of %zu, expected 0 to %zu",
                          f->roles[a->role].name, a->column, f->symbol, a->column, values[a->role].width,
                          values[a->role].width - 1);
    }
    if (f->returns == FM_FOREIGN_VALUE && values[f->result].width != 1)
        return refuse(f, error, "returns=value gives one number, '%s' has %zu values", f->roles[f->result].name,
                      values[f->result].width);
    return TRUE;
}

/* Lay out, convert, call and convert back for n rows that take one call, or one for each sample. */
static gboolean
call_block(FmForeign *f, size_t n, const FmForeignValue *values, GError **error)
{
    const gboolean turn = f->columns && f->per == FM_FOREIGN_BATCH;
    Arrays arrays;
    Scratch *s = scratch_take(f, place_arrays(f, n, values, NULL, &arrays));
    gboolean ok = TRUE;

    place_arrays(f, n, values, s->block, &arrays);
    for (size_t i = 0; i < f->n_roles; i++)
        ok &= !arrays.own[i] || s->block != NULL;
    if (!ok)
        g_set_error(error, FM_ERROR, FM_ERROR_MEMORY, "%s: %zu rows do not fit in memory", f->who, n);
    for (size_t i = 0; ok && i < f->n_roles; i++) {
        const size_t size = n * values[i].width;

        if (f->roles[i].out && values[i].data)
            memset(values[i].data, 0, size * fm_dtype_size(f->roles[i].host));
        if (f->roles[i].out && arrays.own[i])
            memset(arrays.data[i], 0, size * fm_dtype_size(arrays.type[i]));
        else if (arrays.own[i])
            convert(f->roles[i].host, values[i].data, arrays.type[i], arrays.data[i], n, values[i].width, turn);
    }
    for (size_t row = 0; ok && row < (f->per == FM_FOREIGN_SAMPLE ? n : 1); row++)
        ok = call_once(f, &arrays, values, row, error);
    for (size_t i = 0; ok && i < f->n_roles; i++)
        if (arrays.own[i] && f->roles[i].out) /* what was turned is turned back as (width, n) */
            convert(arrays.type[i], arrays.data[i], f->roles[i].host, values[i].data, turn ? values[i].width : n,
                    turn ? n : values[i].width, turn);
    scratch_give(f, s);
    return ok;
}

gboolean
fm_foreign_call(FmForeign *f, size_t n, const FmForeignValue *values, GError **error)
{
    FmForeignValue part[MAX_ROLES];
    gboolean ok = TRUE;

    if (!columns_exist(f, values, error))
        return FALSE;
    if (!f->thread_safe)
        g_mutex_lock(&serial);
    for (size_t row = 0; ok && row < n;) {
        const size_t rows = f->per == FM_FOREIGN_SAMPLE ? n : run_length(f, values, row, n);
        gint64 count = f->per == FM_FOREIGN_SAMPLE ? 1 : (gint64)rows;

        for (size_t i = 0; i < f->n_roles; i++) {
            const size_t skip = f->roles[i].shape == FM_FOREIGN_ONE ? 0 : row * values[i].width;

            part[i] = values[i];
            if (values[i].data)
                part[i].data = (char *)values[i].data + skip * fm_dtype_size(f->roles[i].host);
        }
        part[0].data = &count;
        ok = call_block(f, rows, part, error);
        row += rows;
    }
    if (!f->thread_safe)
        g_mutex_unlock(&serial);
    return ok;
}
