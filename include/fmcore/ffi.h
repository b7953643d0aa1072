/* ffi.h: call a function of any shared library, described in text, without its headers.
 *
 * A signature lists the function's arguments in order: "[n,x,t,v]". Each is
 *     [&]NAME[:TYPE]       what the caller hands over under that name; & passes a number by reference
 *     [&]NUMBER[:TYPE]     a constant
 *     null                 a NULL pointer
 * with TYPE one of f32 f64 i32 i64 (also float double int long size_t). NAME0, NAME1, ... are single
 * columns of NAME, for functions of one sample: by value when read, by pointer when written.
 * Nothing can check a signature against the library: one that is wrong is undefined behaviour. */
#ifndef FMCORE_FFI_H
#define FMCORE_FFI_H

#include <fmcore/array.h>
#include <fmcore/option.h>

G_BEGIN_DECLS

/* What a name stands for. In a call for one sample every number of a row is passed as a scalar. */
typedef enum FmForeignShape {
    FM_FOREIGN_ONE,    /* one number, the same for all rows */
    FM_FOREIGN_FIRST,  /* a number a row; a batch call gets that of its first row */
    FM_FOREIGN_EQUAL,  /* a number a row; a batch is cut into calls within which it is constant */
    FM_FOREIGN_COLUMN, /* a number a row; a batch call gets the array (n) */
    FM_FOREIGN_ROWS    /* an array (n, width) */
} FmForeignShape;

/* One name of a caller's vocabulary. The first row of a table is the number of rows of a call,
 * {"n", FM_I64, FM_FOREIGN_ONE}, which the core fills in. */
typedef struct FmForeignRole {
    const char *name; /* NULL closes the table */
    FmDtype host;     /* FM_F64, FM_I32 or FM_I64: what the caller's array holds */
    FmForeignShape shape;
    gboolean out; /* written by the function; COLUMN or ROWS */
} FmForeignRole;

/* What is handed over under one name: (n, width) numbers of the role's dtype. */
typedef struct FmForeignValue {
    void *data;   /* not written unless the role says so */
    size_t width; /* columns of ROWS; otherwise 1 */
} FmForeignValue;

/* The options that plugins with foreign functions share: the first member of their state. */
typedef struct FmForeignOptions {
    char *library;
    int per, real, integer, layout, returns;
    gboolean reference, thread_safe;
} FmForeignOptions;

enum { FM_FOREIGN_BATCH, FM_FOREIGN_SAMPLE };                  /* per */
enum { FM_FOREIGN_NONE, FM_FOREIGN_STATUS, FM_FOREIGN_VALUE }; /* returns */
extern const char *const fm_foreign_per[];
extern const char *const fm_foreign_reals[];
extern const char *const fm_foreign_integers[];
extern const char *const fm_foreign_layouts[];
extern const char *const fm_foreign_returns[];

/* Rows of an option table. */
#define FM_FOREIGN_OPTIONS \
    FM_OPT_STRING(FmForeignOptions, library, "", "the shared library; required"), \
        FM_OPT_CHOICE(FmForeignOptions, per, fm_foreign_per, "batch", \
                      "one call for a batch of rows, or one for each sample"), \
        FM_OPT_CHOICE(FmForeignOptions, real, fm_foreign_reals, "f64", "type of real arguments"), \
        FM_OPT_CHOICE(FmForeignOptions, integer, fm_foreign_integers, "i32", "type of integer arguments"), \
        FM_OPT_BOOL(FmForeignOptions, reference, no, "numbers by reference, as Fortran passes them"), \
        FM_OPT_CHOICE(FmForeignOptions, layout, fm_foreign_layouts, "rows", \
                      "a sample's values are adjacent (C's a[n][d], Fortran's a(d,n)), or a " \
                      "column's"), \
        FM_OPT_CHOICE(FmForeignOptions, returns, fm_foreign_returns, "none", \
                      "nothing of use, a status (0: done), or the value itself"), \
        FM_OPT_BOOL(FmForeignOptions, thread_safe, no, "calls from several threads at once are allowed")

/* A function that is ready to be called; immutable, for any number of threads: calls that the
 * options do not call thread-safe wait for each other. */
typedef struct FmForeign FmForeign;

/* Open the library (it stays open), find `symbol` and bind `signature` to `roles` (static). With
 * returns=value, the result is the first role that is written. `who` opens every error sentence.
 * Errors: FM_ERROR_FILE for the library and the symbol, FM_ERROR_OPTION for the signature, among
 * these: nothing is written. The caller owns the result. */
FmForeign *fm_foreign_new(const FmForeignOptions *options, const char *symbol, const char *signature,
                          const FmForeignRole *roles, const char *who, GError **error);
void fm_foreign_free(FmForeign *foreign); /* NULL allowed */

/* Is the name of role number `role` among the arguments, whole or by columns? */
gboolean fm_foreign_uses(const FmForeign *foreign, size_t role);

/* Call it for n rows; values[i] belongs to roles[i]. Written arrays are zeroed first. n = 0 checks
 * that the columns it names exist. Steady calls allocate nothing. Errors: FM_ERROR_OPTION for such
 * columns, FM_ERROR_DIVERGED for a status other than 0, FM_ERROR_MEMORY. */
gboolean fm_foreign_call(FmForeign *foreign, size_t n, const FmForeignValue *values, GError **error);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(FmForeign, fm_foreign_free)

G_END_DECLS
#endif
