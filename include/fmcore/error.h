/* error.h: what can go wrong for a correct caller, in one list.
 *
 * Every fallible function returns FALSE or NULL and sets a GError of domain FM_ERROR. The
 * message is one sentence: who, what was given, what is allowed. */
#ifndef FMCORE_ERROR_H
#define FMCORE_ERROR_H

#include <glib.h>

G_BEGIN_DECLS

/* X(identifier, name in JSON, exit status of the program) */
#define FM_ERROR_LIST(X) \
    X(USAGE, "usage", 2)               /* command line or configuration */ \
    X(OPTION, "option", 2)             /* a plugin's option: unknown, malformed or out of range */ \
    X(UNKNOWN, "unknown-name", 2)      /* no plugin of that name */ \
    X(PLUGIN, "plugin", 1)             /* a plugin file that was refused */ \
    X(SHAPE, "shape", 1)               /* shapes that do not fit each other */ \
    X(DATA, "data", 1)                 /* contents of a file or of an array */ \
    X(FILE, "file", 1)                 /* reading or writing failed */ \
    X(UNSUPPORTED, "unsupported", 1)   /* this combination cannot work; the text says why */ \
    X(DIVERGED, "diverged", 1)         /* not finite, or a limit was hit */ \
    X(MEMORY, "memory", 1)             /* an allocation that cannot be met */ \
    X(INTERRUPTED, "interrupted", 130) /* the caller asked to stop */

typedef enum FmErrorCode {
#define FM_ERROR_ENUM(id, name, status) FM_ERROR_##id,
    FM_ERROR_LIST(FM_ERROR_ENUM)
#undef FM_ERROR_ENUM
        FM_ERROR_N_CODES
} FmErrorCode;

#define FM_ERROR (fm_error_quark())

/* The GError domain of the library. */
GQuark fm_error_quark(void);

/* The name of `code` in JSON ("usage", "shape", ...); never NULL. */
const char *fm_error_name(int code);

/* The program's exit status for `code` (see CLI documentation); 1 for foreign codes. */
int fm_error_exit_status(int code);

/* The allowed name nearest to `given`, or NULL when none is near (edit distance at most a
 * third of its length). `names` is NULL-terminated; the result is borrowed from it. */
const char *fm_error_suggest(const char *given, const char *const *names);

/* What the system said: the end of a message of GLib's that names the file once more ("Failed to open file ...: open()
 * failed: No such file or directory"). Borrowed from `error`. */
const char *fm_error_reason(const GError *error);

G_END_DECLS
#endif
