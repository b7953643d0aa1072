/* option.h: a plugin's options are a table; the core parses, checks and prints them.
 *
 *   typedef struct Ot { double sigma_min; } Ot;
 *   static const FmOption ot_options[] = {
 *       FM_OPT_REAL(Ot, sigma_min, 0.0, 0.0, 1.0, "noise left at t = 1 (0: straight line)"),
 *       FM_OPT_END,
 *   };
 *
 * The core zeroes the plugin's state, writes the defaults, parses the user's text, checks the
 * ranges and only then calls plugin code. Strings and lists in the state are owned by the core
 * and freed after the plugin's `clear`. */
#ifndef FMCORE_OPTION_H
#define FMCORE_OPTION_H

#include <glib.h>
#include <math.h>
#include <stddef.h>

G_BEGIN_DECLS

typedef enum FmOptionType {
    FM_OPTION_END,    /* closes the table */
    FM_OPTION_INT,    /* int */
    FM_OPTION_REAL,   /* double */
    FM_OPTION_BOOL,   /* gboolean; yes, no, true, false, on, off, 1, 0 */
    FM_OPTION_STRING, /* char *; NULL when unset */
    FM_OPTION_CHOICE, /* int: index into `choices` */
    FM_OPTION_INTS,   /* FmInts; [1,2,2] */
    FM_OPTION_REALS,  /* FmReals; [0.5,1] */
    FM_OPTION_PLUGIN  /* char *: a nested specification {mixture:k=3}, braces removed */
} FmOptionType;

typedef struct FmInts {
    int *v;
    size_t n;
} FmInts;

typedef struct FmReals {
    double *v;
    size_t n;
} FmReals;

/* One row of the table. `def` is the default as text ("" for lists and strings means unset);
 * min and max bound numbers and each entry of a list. */
typedef struct FmOption {
    const char *name;
    FmOptionType type;
    size_t offset;
    const char *def;
    double min, max;
    gboolean min_open;          /* TRUE: min itself is not allowed */
    const char *const *choices; /* NULL-terminated; CHOICE only */
    const char *help;
} FmOption;

#define FM_OPT_ROW(T, field, type_, def_, min_, max_, open_, choices_, help_) \
    { \
        .name = #field, .type = (type_), .offset = offsetof(T, field), .def = (def_), .min = (min_), .max = (max_), \
        .min_open = (open_), .choices = (choices_), .help = (help_) \
    }

/* int in [min, max] */
#define FM_OPT_INT(T, f, def, min, max, help) FM_OPT_ROW(T, f, FM_OPTION_INT, #def, min, max, FALSE, NULL, help)
/* double in [min, max] */
#define FM_OPT_REAL(T, f, def, min, max, help) FM_OPT_ROW(T, f, FM_OPTION_REAL, #def, min, max, FALSE, NULL, help)
/* double in (min, max] */
#define FM_OPT_POSITIVE(T, f, def, max, help) FM_OPT_ROW(T, f, FM_OPTION_REAL, #def, 0.0, max, TRUE, NULL, help)
/* double in [min, max], NAN ("auto") when the user gave none */
#define FM_OPT_REAL_AUTO(T, f, min, max, help) FM_OPT_ROW(T, f, FM_OPTION_REAL, "auto", min, max, FALSE, NULL, help)
/* gboolean; def is yes or no */
#define FM_OPT_BOOL(T, f, def, help) FM_OPT_ROW(T, f, FM_OPTION_BOOL, #def, 0, 1, FALSE, NULL, help)
/* char *; def is a string literal, "" for unset (NULL) */
#define FM_OPT_STRING(T, f, def, help) FM_OPT_ROW(T, f, FM_OPTION_STRING, def, 0, 0, FALSE, NULL, help)
/* int index into the NULL-terminated array `choices`; def is a string literal */
#define FM_OPT_CHOICE(T, f, choices, def, help) FM_OPT_ROW(T, f, FM_OPTION_CHOICE, def, 0, 0, FALSE, choices, help)
/* FmInts; def is a string literal such as "[1,2,2]" */
#define FM_OPT_INTS(T, f, def, min, max, help) FM_OPT_ROW(T, f, FM_OPTION_INTS, def, min, max, FALSE, NULL, help)
/* FmReals; def is a string literal */
#define FM_OPT_REALS(T, f, def, min, max, help) FM_OPT_ROW(T, f, FM_OPTION_REALS, def, min, max, FALSE, NULL, help)
/* char *: nested plugin specification; def is a string literal */
#define FM_OPT_PLUGIN(T, f, def, help) FM_OPT_ROW(T, f, FM_OPTION_PLUGIN, def, 0, 0, FALSE, NULL, help)
#define FM_OPT_END \
    { \
        .name = NULL, .type = FM_OPTION_END \
    }

/* Write the defaults of `table` into `self` (zeroed, or holding earlier option values, which
 * are freed). Returns FALSE with FM_ERROR_PLUGIN when a default breaks its own range. */
gboolean fm_options_defaults(const FmOption *table, void *self, GError **error);

/* Parse "key=value,key=value" (NULL or "": nothing) into `self`, on top of what is there.
 * `who` opens every error sentence, e.g. "solver 'dopri5'". '-' and '_' are the same in keys.
 * A value ends at a comma outside brackets, braces and quotes. On failure `self` keeps valid
 * values. Errors: FM_ERROR_OPTION. */
gboolean fm_options_parse(const FmOption *table, void *self, const char *text, const char *who, GError **error);

/* The value of one row as the text that parses back to it; owned by the caller. */
char *fm_option_format(const FmOption *row, const void *self);

/* Free strings and lists that the table owns in `self` and zero them. */
void fm_options_clear(const FmOption *table, void *self);

/* Split "NAME:options" into its name and the rest; both owned by the caller, `*rest` may be
 * "". Errors: FM_ERROR_USAGE for an empty name or unbalanced brackets. */
gboolean fm_spec_split(const char *spec, char **name, char **rest, GError **error);

G_END_DECLS
#endif
