/* loader.c: from a file to a checked declaration. Every libltdl and dlopen call of the library is
 * here. libltdl binds lazily and calls every failure "file not found", so dlopen comes first: it
 * binds everything now and says why it cannot. */
#include "config.h"

#include "plugin/instance.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <ltdl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static gboolean
refuse(GError **error, const char *file, const char *why)
{
    g_set_error(error, FM_ERROR, FM_ERROR_PLUGIN, "plugin '%s' %s", file, why);
    return FALSE;
}

/* May somebody else replace this file? */
static gboolean
check_writers(const char *file, const char *path, GError **error)
{
    struct stat st;

    if (stat(path, &st) != 0)
        return refuse(error, file, "cannot be read");
    if (st.st_mode & S_IWOTH)
        return refuse(error, file, "or its directory may be written by anybody, expected its owner only");
    if ((st.st_mode & S_IWGRP) && st.st_gid != getegid())
        return refuse(error, file, "or its directory may be written by another user's group, expected its owner only");
    return TRUE;
}

static gboolean
check_owner(const char *file, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(file);

    return check_writers(file, dir, error) && check_writers(file, file, error);
}

/* A shared object that is shorter than its segments kills whoever touches a page that is missing. What is no shared
 * object of this machine is left to dlopen, which says so. */
static gboolean
check_whole(const char *file, GError **error)
{
    g_autoptr(GMappedFile) map = g_mapped_file_new(file, FALSE, NULL);
    const gsize size = map ? g_mapped_file_get_length(map) : 0;
    ElfW(Ehdr) head;
    ElfW(Phdr) part;

    if (size < sizeof head)
        return TRUE;
    memcpy(&head, g_mapped_file_get_contents(map), sizeof head);
    if (memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 || head.e_phentsize != sizeof part ||
        head.e_ident[EI_CLASS] != (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32))
        return TRUE;
    for (gsize i = 0; i < head.e_phnum; i++) {
        const gsize at = i * sizeof part;

        if (head.e_phoff > size || at + sizeof part > size - head.e_phoff)
            return refuse(error, file, "is cut short");
        memcpy(&part, g_mapped_file_get_contents(map) + head.e_phoff + at, sizeof part);
        if (part.p_type == PT_LOAD && (part.p_offset > size || part.p_filesz > size - part.p_offset))
            return refuse(error, file, "is cut short");
    }
    return TRUE;
}

/* "fm_plugin_<kind>_<name>" with '_' for everything but letters and digits. */
static char *
symbol_name(FmKind kind, const char *name)
{
    char *symbol = g_strdup_printf("fm_plugin_%s_%s", fm_kind_name(kind), name);

    for (char *c = symbol; *c; c++)
        if (!g_ascii_isalnum(*c))
            *c = '_';
    return symbol;
}

static const void *
find_symbol(const char *file, const char *symbol, GError **error)
{
    void *now = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    lt_dlhandle handle;
    const void *found;

    if (!now) {
        g_set_error(error, FM_ERROR, FM_ERROR_PLUGIN, "plugin '%s' cannot be loaded: %s", file, dlerror());
        return NULL;
    }
    handle = lt_dlopen(file);
    found = handle ? lt_dlsym(handle, symbol) : NULL;
    if (!found)
        g_set_error(error, FM_ERROR, FM_ERROR_PLUGIN, "plugin '%s' does not export '%s'", file, symbol);
    else
        lt_dlmakeresident(handle);
    if (found == NULL && handle)
        lt_dlclose(handle);
    dlclose(now);
    return found;
}

static gboolean
slot_is_null(const void *ops, size_t offset)
{
    void *slot;

    memcpy(&slot, (const char *)ops + offset, sizeof slot);
    return slot == NULL;
}

static gboolean
check_slots(const char *file, const FmKindInfo *kind, const void *ops, GError **error)
{
    size_t filled = 0;

    for (const size_t *o = kind->required; *o != G_MAXSIZE; o++)
        if (slot_is_null(ops, *o))
            return refuse(error, file, "leaves a required slot of its table empty");
    for (const size_t *o = kind->one_of; o && *o != G_MAXSIZE; o++)
        filled += !slot_is_null(ops, *o);
    if (kind->one_of && filled == 0)
        return refuse(error, file, "fills none of the slots of which one is required");
    if (kind->one_only && filled > 1)
        return refuse(error, file, "fills several of the slots of which exactly one is expected");
    return TRUE;
}

/* Bytes of an option's field. */
static size_t
field_size(FmOptionType type)
{
    switch (type) {
    case FM_OPTION_INT:
    case FM_OPTION_BOOL:
    case FM_OPTION_CHOICE:
        return sizeof(int);
    case FM_OPTION_INTS:
        return sizeof(FmInts);
    case FM_OPTION_REALS:
        return sizeof(FmReals);
    default:
        return MAX(sizeof(double), sizeof(char *));
    }
}

static gboolean
check_offsets(const char *file, const FmPluginDesc *desc, GError **error)
{
    for (const FmOption *o = desc->options; o->name; o++)
        if (o->type <= FM_OPTION_END || o->type > FM_OPTION_PLUGIN || !o->def ||
            (o->type == FM_OPTION_CHOICE && !o->choices) || o->offset > desc->self_size ||
            field_size(o->type) > desc->self_size - o->offset) {
            g_set_error(error, FM_ERROR, FM_ERROR_PLUGIN,
                        "plugin '%s': option '%s' is no field of its state of %zu bytes", file, o->name,
                        desc->self_size);
            return FALSE;
        }
    return TRUE;
}

static gboolean
check_defaults(const char *file, const FmPluginDesc *desc, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autofree char *self = NULL;
    gboolean ok;

    if (!desc->options)
        return TRUE;
    if (desc->self_size == 0 || desc->self_size > 1 << 24)
        return refuse(error, file, "has options and a state whose size is not between 1 byte and 16 MiB");
    if (!check_offsets(file, desc, error))
        return FALSE;
    self = g_malloc0(desc->self_size);
    ok = fm_options_defaults(desc->options, self, &why);
    fm_options_clear(desc->options, self);
    if (!ok)
        g_set_error(error, FM_ERROR, FM_ERROR_PLUGIN, "plugin '%s': %s", file, why->message);
    return ok;
}

#define DESC_MIN (offsetof(FmPluginDesc, ops) + sizeof(void *)) /* the rest may be absent */

static gboolean
check_desc(const char *file, FmKind kind, const char *name, const FmPluginDesc *desc, GError **error)
{
    const FmKindInfo *info = fm__kind_info(kind);

    if (desc->abi_major != FM_ABI_MAJOR) {
        g_set_error(error, FM_ERROR, FM_ERROR_PLUGIN, "plugin '%s' was built for ABI %u, expected %d", file,
                    desc->abi_major, FM_ABI_MAJOR);
        return FALSE;
    }
    if (desc->desc_size > sizeof *desc || desc->desc_size < DESC_MIN)
        return refuse(error, file, "has a declaration larger or shorter than this library's");
    if (desc->kind != (guint32)kind) {
        g_set_error(error, FM_ERROR, FM_ERROR_PLUGIN, "plugin '%s' says it is a %s, expected a %s", file,
                    desc->kind < FM_N_KINDS ? fm_kind_name((FmKind)desc->kind) : "thing of no known kind", info->name);
        return FALSE;
    }
    if (!desc->name || strcmp(desc->name, name) != 0) {
        g_set_error(error, FM_ERROR, FM_ERROR_PLUGIN, "plugin '%s' calls itself '%s', expected '%s'", file,
                    desc->name ? desc->name : "", name);
        return FALSE;
    }
    if (!desc->ops || desc->ops_size < sizeof(void *))
        return refuse(error, file, "has no table of slots");
    if (desc->ops_size > info->ops_size)
        return refuse(error, file, "has a table of slots larger than this library's");
    return TRUE;
}

static gboolean
ltdl_start(GError **error)
{
    static gsize started;

    if (g_once_init_enter(&started))
        g_once_init_leave(&started, lt_dlinit() == 0 ? 1 : 2);
    if (started == 1)
        return TRUE;
    g_set_error(error, FM_ERROR, FM_ERROR_PLUGIN, "libltdl cannot be started");
    return FALSE;
}

FmEntry *
fm__load(const char *file, FmKind kind, const char *name, GError **error)
{
    g_autofree char *symbol = symbol_name(kind, name);
    const FmPluginDesc *declared;
    FmPluginDesc *desc;
    void *ops;
    FmEntry *entry;

    if (!check_owner(file, error) || !check_whole(file, error) || !ltdl_start(error))
        return NULL;
    declared = find_symbol(file, symbol, error);
    if (!declared || !check_desc(file, kind, name, declared, error))
        return NULL;
    desc = g_malloc0(sizeof *desc); /* full size, for the life of the process */
    memcpy(desc, declared, declared->desc_size);
    if (!check_defaults(file, desc, error)) {
        g_free(desc);
        return NULL;
    }
    ops = g_malloc0(fm__kind_info(kind)->ops_size);
    memcpy(ops, desc->ops, desc->ops_size);
    if (!check_slots(file, fm__kind_info(kind), ops, error)) {
        g_free(ops);
        g_free(desc);
        return NULL;
    }
    entry = g_new(FmEntry, 1);
    *entry = (FmEntry){.desc = desc, .ops = ops, .file = g_strdup(file)};
    return entry;
}

/* ---- where this library is ---- */

char *
fm__own_file(const char *built, const char *installed)
{
    g_autofree char *dir = NULL, *top = NULL, *moved = NULL, *configured = NULL;
    Dl_info info;

    if (dladdr((void *)fm__own_file, &info) != 0 && info.dli_fname && strchr(info.dli_fname, '/')) {
        dir = g_path_get_dirname(info.dli_fname);
        top = g_path_get_dirname(dir);
        if (g_str_has_suffix(dir, "/.libs"))
            return g_build_filename(top, built, NULL);
        moved = g_build_filename(dir, "fmcore", installed, NULL);
        if (g_file_test(moved, G_FILE_TEST_EXISTS))
            return g_steal_pointer(&moved);
    }
    configured = g_build_filename(FM_PLUGIN_DIR, "..", installed, NULL);
    return g_canonicalize_filename(configured, NULL);
}

/* ---- libraries that are no plugins ---- */

/* Is the symbol at `at` known to be data? */
static gboolean
is_data(void *at)
{
#ifdef __GLIBC__ /* RTLD_DL_SYMENT is no macro */
    const ElfW(Sym) *symbol = NULL;
    Dl_info info;

    /* ELF32_ST_TYPE and ELF64_ST_TYPE are the same. */
    return dladdr1(at, &info, (void **)&symbol, RTLD_DL_SYMENT) != 0 && symbol &&
           (ELF64_ST_TYPE(symbol->st_info) == STT_OBJECT || ELF64_ST_TYPE(symbol->st_info) == STT_TLS);
#else
    return FALSE;
#endif
}

static gboolean
check_library(const char *library, const char *who, GError **error)
{
    g_autoptr(GError) why = NULL;

    if (!strchr(library, '/'))
        return TRUE; /* found in the system's directories */
    if (check_owner(library, &why) && check_whole(library, &why))
        return TRUE;
    /* "plugin 'FILE' ..." is said of a library here */
    g_set_error(error, FM_ERROR, FM_ERROR_FILE, "%s: library %s", who, why->message + strlen("plugin "));
    return FALSE;
}

FmForeignFunction
fm__foreign_symbol(const char *library, const char *symbol, const char *who, GError **error)
{
    g_autofree char *mangled = g_strconcat(symbol, "_", NULL);
    FmForeignFunction function;
    void *handle, *at;

    if (!check_library(library, who, error))
        return NULL;
    handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        g_set_error(error, FM_ERROR, FM_ERROR_FILE, "%s: library '%s' cannot be loaded: %s%s", who, library, dlerror(),
                    strchr(library, '/') ? "" : " (a path has a '/', such as ./lib.so)");
        return NULL;
    }
    at = dlsym(handle, symbol);
    if (!at || is_data(at)) {
        const gboolean fortran = !at && dlsym(handle, mangled);

        g_set_error(error, FM_ERROR, FM_ERROR_FILE, "%s: library '%s' has no function '%s'%s%s%s", who, library, symbol,
                    fortran ? "; did you mean '" : "", fortran ? mangled : "", fortran ? "'?" : "");
        dlclose(handle);
        return NULL;
    }
    memcpy(&function, &at, sizeof function);
    return function;
}
