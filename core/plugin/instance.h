/* instance.h: the inside of a plugin instance, for the core. */
#ifndef FMCORE_CORE_PLUGIN_INSTANCE_H
#define FMCORE_CORE_PLUGIN_INSTANCE_H

#include <fmcore/plugin.h>

struct FmPlugin {
    const FmPluginDesc *desc;
    const void *ops;    /* zero-extended to this library's size; owned by the registry */
    void *self;         /* zeroed state, NULL when self_size is 0 */
    gpointer core_data; /* what the core keeps beside the state (an opened data set's info) */
    GDestroyNotify core_free;
};

/* What the core knows about a kind. */
typedef struct FmKindInfo {
    const char *name;
    size_t ops_size;
    const size_t *required; /* offsets of slots that must not be NULL; G_MAXSIZE closes */
    const size_t *one_of;   /* offsets of which at least one must not be NULL; NULL: none */
    gboolean one_only;      /* TRUE: exactly one of `one_of` */
    size_t clear;           /* offset of the slot `clear`; G_MAXSIZE: the kind has none */
} FmKindInfo;

const FmKindInfo *fm__kind_info(FmKind kind);

/* The declaration of a plugin together with its full-size ops table. */
typedef struct FmEntry {
    const FmPluginDesc *desc;
    void *ops;
    char *file;
} FmEntry;

/* loader.c: open `file` and check what it declares; a sentence says why not. */
FmEntry *fm__load(const char *file, FmKind kind, const char *name, GError **error);

/* loader.c: a file that belongs to this library: `built` below the build tree's top when the library
 * lies there, else `installed` below the folder it lies in, or below its configured place. Owned. */
char *fm__own_file(const char *built, const char *installed);

/* loader.c: the function `symbol` of any shared library, which stays open; a sentence says why not. */
typedef void (*FmForeignFunction)(void);
FmForeignFunction fm__foreign_symbol(const char *library, const char *symbol, const char *who, GError **error);

/* registry.c: as fm_registry_find(), the whole entry. */
const FmEntry *fm__registry_entry(FmKind kind, const char *name, GError **error);

#endif
