/* plugin.h: what a plugin declares, and how the core finds and instantiates it.
 *
 * A plugin is one C file compiled to one shared object that exports exactly one symbol,
 * `fm_plugin_<kind>_<name>`, a const FmPluginDesc. Files lie in <dir>/<kind>/<name>.so. */
#ifndef FMCORE_PLUGIN_H
#define FMCORE_PLUGIN_H

#include <fmcore/error.h>
#include <fmcore/option.h>

G_BEGIN_DECLS

/* A change of major breaks plugins; minor grows when slots are appended. */
#define FM_ABI_MAJOR 1
#define FM_ABI_MINOR 0

/* X(identifier, name) in the order in which `list` prints the kinds */
#define FM_KIND_LIST(X) \
    X(DATASET, dataset) \
    X(COUPLING, coupling) \
    X(PATH, path) \
    X(NET, net) \
    X(OBJECTIVE, objective) \
    X(OPTIMIZER, optimizer) \
    X(SOLVER, solver) \
    X(DIVERGENCE, divergence) \
    X(BACKEND, backend)

typedef enum FmKind {
#define FM_KIND_ENUM(id, name) FM_KIND_##id,
    FM_KIND_LIST(FM_KIND_ENUM)
#undef FM_KIND_ENUM
        FM_N_KINDS
} FmKind;

/* A fact worth printing by `inspect`: a constant, a known bias, a variant's origin. */
typedef struct FmFact {
    const char *key; /* NULL closes the table */
    const char *text;
} FmFact;

/* The declaration. Fields after `name` may be absent (zero). All pointers are to static data. */
typedef struct FmPluginDesc {
    guint32 desc_size; /* sizeof(FmPluginDesc) of the plugin's headers */
    guint16 abi_major, abi_minor;
    guint32 kind;            /* FmKind */
    guint32 ops_size;        /* sizeof the ops table of the plugin's headers */
    const char *name;        /* as typed by users, e.g. "knn-kl"; unique within its kind */
    const void *ops;         /* Fm<Kind>Ops */
    size_t self_size;        /* bytes of state for one instance; 0: none */
    const FmOption *options; /* NULL: none */
    const char *summary;     /* one line */
    const char *source;      /* paper, equation, DOI or arXiv id */
    const FmFact *facts;     /* NULL: none */
} FmPluginDesc;

#define FM__LOWER_DATASET dataset
#define FM__LOWER_COUPLING coupling
#define FM__LOWER_PATH path
#define FM__LOWER_NET net
#define FM__LOWER_OBJECTIVE objective
#define FM__LOWER_OPTIMIZER optimizer
#define FM__LOWER_SOLVER solver
#define FM__LOWER_DIVERGENCE divergence
#define FM__LOWER_BACKEND backend
#define FM__PASTE_(kind, ident) fm_plugin_##kind##_##ident
#define FM__PASTE(kind, ident) FM__PASTE_(kind, ident)

/* Define and export the declaration: FM_PLUGIN_DECLARE(PATH, ot, "ot", ot_ops, .summary = ...).
 * `ident` is the name with every character outside [a-z0-9] replaced by '_'. */
#define FM_PLUGIN_DECLARE(KIND, ident, name_, ops_, ...) \
    FM__EXPORT extern const FmPluginDesc FM__PASTE(FM__LOWER_##KIND, ident); \
    const FmPluginDesc FM__PASTE(FM__LOWER_##KIND, ident) = {.desc_size = sizeof(FmPluginDesc), \
                                                             .abi_major = FM_ABI_MAJOR, \
                                                             .abi_minor = FM_ABI_MINOR, \
                                                             .kind = FM_KIND_##KIND, \
                                                             .ops_size = sizeof(ops_), \
                                                             .name = (name_), \
                                                             .ops = &(ops_), \
                                                             __VA_ARGS__}
#define FM__EXPORT __attribute__((visibility("default")))

/* ---- kinds ---- */

/* "dataset", "coupling", ...; NULL when out of range. */
const char *fm_kind_name(FmKind kind);

/* The kind of that name, or -1. */
int fm_kind_from_name(const char *name);

/* ---- instances: a plugin with its options set ---- */

/* One plugin with its state and options; what the fm_<kind>_...() functions take. Not shared
 * between threads unless the kind's header says so. */
typedef struct FmPlugin FmPlugin;

/* Find, load (once) and instantiate `spec`, "name" or "name:key=value,...". The caller owns the
 * result. Aliases (rk45, heun, condot) are resolved. Errors: FM_ERROR_UNKNOWN with a suggestion,
 * FM_ERROR_PLUGIN when its file was refused, FM_ERROR_OPTION. */
FmPlugin *fm_plugin_new(FmKind kind, const char *spec, GError **error);

/* Release an instance (NULL allowed): the plugin's `clear`, then options, then state. */
void fm_plugin_free(FmPlugin *plugin);

FmKind fm_plugin_kind(const FmPlugin *plugin);              /* its kind */
const char *fm_plugin_name(const FmPlugin *plugin);         /* its name; borrowed */
const FmPluginDesc *fm_plugin_desc(const FmPlugin *plugin); /* its declaration; borrowed */

/* The ops table, zero-extended to the size of this library's headers; borrowed, never NULL. */
const void *fm_plugin_ops(const FmPlugin *plugin);

/* The state; NULL when self_size is 0. */
void *fm_plugin_self(const FmPlugin *plugin);

/* "name:key=value,..." with every option resolved: parses back to an equal instance. Owned by
 * the caller. */
char *fm_plugin_spec(const FmPlugin *plugin);

/* ---- registry ---- */

/* Add directories, separated by ':', searched before FMCORE_PLUGIN_PATH and the installed one.
 * Call before the first look-up. */
void fm_registry_add_path(const char *dirs);

/* The declaration of a plugin, loading its file when needed; borrowed for the life of the
 * process. Errors as fm_plugin_new(). */
const FmPluginDesc *fm_registry_find(FmKind kind, const char *name, GError **error);

/* Load every plugin that can be found (for `list` and for conformance tests). */
void fm_registry_load_all(void);

/* After fm_registry_load_all(): the number of plugins of a kind, and the i-th by name. */
size_t fm_registry_count(FmKind kind);
const FmPluginDesc *fm_registry_nth(FmKind kind, size_t i); /* NULL when i is out of range */

/* The file a plugin came from; "built in" for a static build; borrowed. */
const char *fm_registry_file(const FmPluginDesc *desc);

/* Files that were refused, and why. */
size_t fm_registry_failed_count(void);
void fm_registry_failed_nth(size_t i, const char **file, const char **reason); /* borrowed */

G_DEFINE_AUTOPTR_CLEANUP_FUNC(FmPlugin, fm_plugin_free)

G_END_DECLS
#endif
