/* registry.c: which plugins there are, found by name and opened when they are named. The only global
 * mutable state of the library, under one lock. */
#include "plugin/instance.h"

#include <string.h>

typedef struct Failure {
    char *file, *reason;
} Failure;

static struct {
    GMutex lock;
    GPtrArray *dirs;                 /* char * from fm_registry_add_path() */
    GHashTable *entries[FM_N_KINDS]; /* name to FmEntry */
    GPtrArray *sorted[FM_N_KINDS];   /* const FmPluginDesc * by name, after load_all */
    GArray *failures;                /* of Failure */
} registry;

static const struct {
    FmKind kind;
    const char *alias, *name;
} aliases[] = {
    {FM_KIND_PATH, "condot", "ot"},
    {FM_KIND_SOLVER, "rk45", "dopri5"},
    {FM_KIND_SOLVER, "heun", "heun2"},
};

static void
registry_start(void)
{
    if (registry.dirs)
        return;
    registry.dirs = g_ptr_array_new_with_free_func(g_free);
    for (int k = 0; k < FM_N_KINDS; k++) {
        registry.entries[k] = g_hash_table_new(g_str_hash, g_str_equal);
        registry.sorted[k] = g_ptr_array_new();
    }
    registry.failures = g_array_new(FALSE, FALSE, sizeof(Failure));
}

static void
add_dirs(GPtrArray *to, const char *dirs)
{
    g_auto(GStrv) part = g_strsplit(dirs ? dirs : "", ":", -1);

    for (int i = 0; part[i]; i++)
        if (*part[i])
            g_ptr_array_add(to, g_strdup(part[i]));
}

void
fm_registry_add_path(const char *dirs)
{
    g_mutex_lock(&registry.lock);
    registry_start();
    add_dirs(registry.dirs, dirs);
    g_mutex_unlock(&registry.lock);
}

/* Directories in order of search; owned by the caller. */
static GPtrArray *
search_dirs(void)
{
    GPtrArray *dirs = g_ptr_array_new_with_free_func(g_free);

    for (guint i = 0; i < registry.dirs->len; i++)
        g_ptr_array_add(dirs, g_strdup(registry.dirs->pdata[i]));
    add_dirs(dirs, g_getenv("FMCORE_PLUGIN_PATH"));
    g_ptr_array_add(dirs, fm__own_file("plugins", "plugins"));
    return dirs;
}

static gboolean
name_is_safe(const char *name)
{
    for (const char *c = name; *c; c++)
        if (!g_ascii_isalnum(*c) && *c != '-' && *c != '_')
            return FALSE;
    return *name != '\0';
}

/* <dir>/<kind>/<name>.so, or where libtool leaves it before installation. */
static char *
find_file(GPtrArray *dirs, FmKind kind, const char *name)
{
    for (guint i = 0; i < dirs->len; i++) {
        g_autofree char *base = g_strconcat(name, ".so", NULL);
        g_autofree char *built = g_build_filename(dirs->pdata[i], fm_kind_name(kind), ".libs", base, NULL);
        g_autofree char *plain = g_build_filename(dirs->pdata[i], fm_kind_name(kind), base, NULL);

        if (g_file_test(plain, G_FILE_TEST_EXISTS))
            return g_steal_pointer(&plain);
        if (g_file_test(built, G_FILE_TEST_EXISTS))
            return g_steal_pointer(&built);
    }
    return NULL;
}

static void
scan_dir(const char *dir, GHashTable *names)
{
    GDir *d = g_dir_open(dir, 0, NULL);
    const char *file;

    while (d && (file = g_dir_read_name(d)))
        if (g_str_has_suffix(file, ".so")) {
            char *name = g_strndup(file, strlen(file) - 3);

            if (name_is_safe(name))
                g_hash_table_add(names, name);
            else
                g_free(name);
        }
    if (d)
        g_dir_close(d);
}

/* The names that files suggest, as a set. */
static GHashTable *
scan(GPtrArray *dirs, FmKind kind)
{
    GHashTable *names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    for (guint i = 0; i < dirs->len; i++) {
        g_autofree char *plain = g_build_filename(dirs->pdata[i], fm_kind_name(kind), NULL);
        g_autofree char *built = g_build_filename(plain, ".libs", NULL);

        scan_dir(plain, names);
        scan_dir(built, names);
    }
    return names;
}

static int
compare_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void
fail_unknown(GPtrArray *dirs, FmKind kind, const char *name, GError **error)
{
    g_autoptr(GHashTable) set = scan(dirs, kind);
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    g_autofree char *all = NULL;
    const char *near;
    GHashTableIter it;
    gpointer key;

    g_hash_table_iter_init(&it, set);
    while (g_hash_table_iter_next(&it, &key, NULL))
        g_ptr_array_add(names, key);
    g_ptr_array_sort(names, compare_text);
    g_ptr_array_add(names, NULL);
    near = fm_error_suggest(name, (const char *const *)names->pdata);
    all = g_strjoinv(", ", (char **)names->pdata);
    if (near)
        g_set_error(error, FM_ERROR, FM_ERROR_UNKNOWN, "unknown %s '%s'; did you mean '%s'?", fm_kind_name(kind), name,
                    near);
    else
        g_set_error(error, FM_ERROR, FM_ERROR_UNKNOWN, "unknown %s '%s', expected one of %s", fm_kind_name(kind), name,
                    *all ? all : "none: no plugins were found");
}

static const FmEntry *
entry_find(GPtrArray *dirs, FmKind kind, const char *name, GError **error)
{
    FmEntry *entry = g_hash_table_lookup(registry.entries[kind], name);
    g_autofree char *file = NULL;

    if (entry)
        return entry;
    file = name_is_safe(name) ? find_file(dirs, kind, name) : NULL;
    if (!file) {
        fail_unknown(dirs, kind, name, error);
        return NULL;
    }
    entry = fm__load(file, kind, name, error);
    if (entry)
        g_hash_table_insert(registry.entries[kind], (char *)entry->desc->name, entry);
    return entry;
}

const FmEntry *
fm__registry_entry(FmKind kind, const char *name, GError **error)
{
    g_autoptr(GPtrArray) dirs = NULL;
    const FmEntry *entry;

    for (size_t i = 0; i < G_N_ELEMENTS(aliases); i++)
        if (aliases[i].kind == kind && strcmp(aliases[i].alias, name) == 0)
            name = aliases[i].name;
    g_mutex_lock(&registry.lock);
    registry_start();
    dirs = search_dirs();
    entry = entry_find(dirs, kind, name, error);
    g_mutex_unlock(&registry.lock);
    return entry;
}

const FmPluginDesc *
fm_registry_find(FmKind kind, const char *name, GError **error)
{
    const FmEntry *entry = fm__registry_entry(kind, name, error);

    return entry ? entry->desc : NULL;
}

static void
failures_clear(void)
{
    for (guint i = 0; i < registry.failures->len; i++) {
        g_free(g_array_index(registry.failures, Failure, i).file);
        g_free(g_array_index(registry.failures, Failure, i).reason);
    }
    g_array_set_size(registry.failures, 0);
}

static int
compare_desc(gconstpointer a, gconstpointer b)
{
    return strcmp((*(const FmPluginDesc *const *)a)->name, (*(const FmPluginDesc *const *)b)->name);
}

static void
load_kind(GPtrArray *dirs, FmKind kind)
{
    g_autoptr(GHashTable) names = scan(dirs, kind);
    GHashTableIter it;
    gpointer name;

    g_ptr_array_set_size(registry.sorted[kind], 0);
    g_hash_table_iter_init(&it, names);
    while (g_hash_table_iter_next(&it, &name, NULL)) {
        g_autoptr(GError) why = NULL;
        const FmEntry *entry = entry_find(dirs, kind, name, &why);

        if (entry) {
            g_ptr_array_add(registry.sorted[kind], (gpointer)entry->desc);
        } else {
            const Failure f = {find_file(dirs, kind, name), g_strdup(why->message)};

            g_array_append_val(registry.failures, f);
        }
    }
    g_ptr_array_sort(registry.sorted[kind], compare_desc);
}

void
fm_registry_load_all(void)
{
    g_autoptr(GPtrArray) dirs = NULL;

    g_mutex_lock(&registry.lock);
    registry_start();
    failures_clear();
    dirs = search_dirs();
    for (int k = 0; k < FM_N_KINDS; k++)
        load_kind(dirs, (FmKind)k);
    g_mutex_unlock(&registry.lock);
}

size_t
fm_registry_count(FmKind kind)
{
    return (unsigned)kind < FM_N_KINDS && registry.sorted[kind] ? registry.sorted[kind]->len : 0;
}

const FmPluginDesc *
fm_registry_nth(FmKind kind, size_t i)
{
    return i < fm_registry_count(kind) ? registry.sorted[kind]->pdata[i] : NULL;
}

const char *
fm_registry_file(const FmPluginDesc *desc)
{
    const FmEntry *entry;

    g_mutex_lock(&registry.lock);
    entry = registry.dirs ? g_hash_table_lookup(registry.entries[desc->kind], desc->name) : NULL;
    g_mutex_unlock(&registry.lock);
    return entry ? entry->file : "built in";
}

size_t
fm_registry_failed_count(void)
{
    return registry.failures ? registry.failures->len : 0;
}

void
fm_registry_failed_nth(size_t i, const char **file, const char **reason)
{
    g_return_if_fail(i < fm_registry_failed_count());
    *file = g_array_index(registry.failures, Failure, i).file;
    *reason = g_array_index(registry.failures, Failure, i).reason;
}
