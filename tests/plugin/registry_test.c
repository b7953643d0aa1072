/* registry_test.c: plugins compiled by the test: what loads, and each reason for which a file is
 * refused. */
#include "suite.h"

#include <fmcore/fmcore.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *root; /* <root>/<name>/path/<name>.so: one directory for each plugin */

#define HEAD \
    "#include <fmcore/fmcore.h>\n" \
    "typedef struct S { double k; char *name; } S;\n" \
    "static void co(const void *s, double t, FmAffine *c) { c->alpha = t * ((const S *)s)->k; }\n" \
    "G_GNUC_UNUSED static gboolean sa(const void *s, size_t n, size_t D, const double *t, const double *a,\n" \
    " const double *b, FmKey k, guint64 r, double *x, double *u) { return TRUE; }\n" \
    "G_GNUC_UNUSED static const FmOption o[] = {FM_OPT_REAL(S, k, 0.5, 0.0, 2.0, \"factor\"),\n" \
    " FM_OPT_STRING(S, name, \"abc\", \"label\"), FM_OPT_END};\n" \
    "G_GNUC_UNUSED static const FmPathOps ops = {.coefficients = co};\n"
#define STATE ".self_size = sizeof(S), .options = o, .summary = \"s\""
#define RAW(ident, fields) \
    "FM__EXPORT extern const FmPluginDesc fm_plugin_path_" ident ";\n" \
    "const FmPluginDesc fm_plugin_path_" ident " = {" fields "};\n"

static const struct {
    const char *name, *code, *says; /* says: NULL when it loads */
} plugins[] = {
    {"good-one", HEAD "FM_PLUGIN_DECLARE(PATH, good_one, \"good-one\", ops, " STATE ");", NULL},
    {"8good", HEAD "FM_PLUGIN_DECLARE(PATH, 8good, \"8good\", ops, " STATE ");", NULL},
    {"short-ops",
     HEAD RAW("short_ops", ".desc_size = sizeof(FmPluginDesc), .abi_major = FM_ABI_MAJOR, .kind = FM_KIND_PATH,"
                           ".ops_size = sizeof(void *), .name = \"short-ops\", .ops = &ops"),
     NULL},
    {"short-desc",
     HEAD RAW("short_desc", ".desc_size = offsetof(FmPluginDesc, self_size), .abi_major = FM_ABI_MAJOR,"
                            ".kind = FM_KIND_PATH, .ops_size = sizeof ops, .name = \"short-desc\", .ops = &ops,"
                            ".self_size = 99"),
     NULL},
    {"abi",
     HEAD RAW("abi", ".desc_size = sizeof(FmPluginDesc), .abi_major = FM_ABI_MAJOR + 1, .kind = FM_KIND_PATH,"
                     ".ops_size = sizeof ops, .name = \"abi\", .ops = &ops"),
     "ABI"},
    {"large-desc",
     HEAD RAW("large_desc", ".desc_size = sizeof(FmPluginDesc) + 8, .abi_major = FM_ABI_MAJOR,"
                            ".kind = FM_KIND_PATH, .ops_size = sizeof ops, .name = \"large-desc\", .ops = &ops"),
     "declaration"},
    {"large-ops",
     HEAD RAW("large_ops", ".desc_size = sizeof(FmPluginDesc), .abi_major = FM_ABI_MAJOR, .kind = FM_KIND_PATH,"
                           ".ops_size = sizeof ops + 8, .name = \"large-ops\", .ops = &ops"),
     "larger"},
    {"no-ops",
     HEAD RAW("no_ops", ".desc_size = sizeof(FmPluginDesc), .abi_major = FM_ABI_MAJOR, .kind = FM_KIND_PATH,"
                        ".ops_size = sizeof ops, .name = \"no-ops\""),
     "no table"},
    {"kind",
     HEAD RAW("kind", ".desc_size = sizeof(FmPluginDesc), .abi_major = FM_ABI_MAJOR, .kind = FM_KIND_NET,"
                      ".ops_size = sizeof ops, .name = \"kind\", .ops = &ops"),
     "expected a path"},
    {"name", HEAD "FM_PLUGIN_DECLARE(PATH, name, \"other\", ops, " STATE ");", "calls itself 'other'"},
    {"symbol", HEAD "FM_PLUGIN_DECLARE(PATH, elsewhere, \"symbol\", ops, " STATE ");",
     "does not export 'fm_plugin_path_symbol'"},
    {"slots", HEAD "static const FmPathOps none; FM_PLUGIN_DECLARE(PATH, slots, \"slots\", none, " STATE ");",
     "none of the slots"},
    {"both",
     HEAD "static const FmPathOps two = {.coefficients = co, .sample = sa};"
          "FM_PLUGIN_DECLARE(PATH, both, \"both\", two, " STATE ");",
     "exactly one"},
    {"range",
     HEAD "static const FmOption bad[] = {FM_OPT_REAL(S, k, 3.5, 0, 1, \"h\"), FM_OPT_END};"
          "FM_PLUGIN_DECLARE(PATH, range, \"range\", ops, .self_size = sizeof(S), .options = bad);",
     "default"},
    {"offset", HEAD "FM_PLUGIN_DECLARE(PATH, offset, \"offset\", ops, .self_size = 8, .options = o);",
     "no field of its state"},
    {"missing",
     HEAD "extern double nowhere_to_be_found(void); double use(void); double use(void) "
          "{ return nowhere_to_be_found(); } FM_PLUGIN_DECLARE(PATH, missing, \"missing\", ops, " STATE ");",
     "nowhere_to_be_found"},
    {"text", NULL, "cannot be loaded"},
    {"anybody", HEAD "FM_PLUGIN_DECLARE(PATH, anybody, \"anybody\", ops, " STATE ");", "anybody"},
    {"open-dir", HEAD "FM_PLUGIN_DECLARE(PATH, open_dir, \"open-dir\", ops, " STATE ");", "anybody"},
};

static void
build(size_t i)
{
    g_autofree char *dir = g_build_filename(root, plugins[i].name, "path", NULL);
    g_autofree char *so = g_strdup_printf("%s/%s.so", dir, plugins[i].name);
    g_autofree char *c = g_strdup_printf("%s/%s.c", dir, plugins[i].name);

    g_assert_cmpint(g_mkdir_with_parents(dir, 0755), ==, 0);
    if (!plugins[i].code) {
        g_assert_true(g_file_set_contents(so, "no shared object\n", -1, NULL));
    } else {
        g_autofree char *cmd =
            g_strdup_printf("%s -w -std=gnu11 -shared -fPIC %s -o '%s' '%s'", FM_TEST_CC, FM_TEST_INCLUDE, so, c);

        g_assert_true(g_file_set_contents(c, plugins[i].code, -1, NULL));
        g_assert_cmpint(system(cmd), ==, 0);
    }
    g_chmod(so, strcmp(plugins[i].name, "anybody") == 0 ? 0777 : 0755);
    g_chmod(dir, strcmp(plugins[i].name, "open-dir") == 0 ? 01777 : 0755);
    dir[strlen(dir) - strlen("/path")] = '\0';
    fm_registry_add_path(dir);
}

START_TEST(each_file_loads_or_is_refused_with_its_reason)
{
    g_autoptr(GError) e = NULL;
    const FmPluginDesc *desc = fm_registry_find(FM_KIND_PATH, plugins[_i].name, &e);

    if (!plugins[_i].says) {
        ck_assert_msg(desc != NULL, "%s", e ? e->message : "");
        ck_assert_str_eq(desc->name, plugins[_i].name);
        ck_assert(desc == fm_registry_find(FM_KIND_PATH, plugins[_i].name, NULL));
        ck_assert(strcmp(plugins[_i].name, "short-desc") != 0 || desc->self_size == 0);
    } else {
        ck_assert(desc == NULL && g_error_matches(e, FM_ERROR, FM_ERROR_PLUGIN));
        ck_assert_msg(strstr(e->message, plugins[_i].says) != NULL, "%s", e->message);
    }
}
END_TEST

/* Only root may give a file to another group. */
START_TEST(another_groups_file_is_refused)
{
    g_autofree char *so = g_build_filename(root, "good-one", "path", "good-one.so", NULL);
    g_autofree char *dir = g_build_filename(root, "group", "path", NULL);
    g_autofree char *copy = g_build_filename(dir, "group.so", NULL);
    g_autofree char *cmd = g_strdup_printf("cp '%s' '%s'", so, copy);
    g_autofree char *path = g_path_get_dirname(dir);

    ck_assert(g_mkdir_with_parents(dir, 0755) == 0 && system(cmd) == 0);
    if (chown(copy, (uid_t)-1, getegid() + 1) != 0 || g_chmod(copy, 0775) != 0)
        return;
    for (int in_dir = 0; in_dir < 2; in_dir++) {
        g_autoptr(GError) e = NULL;

        if (in_dir)
            ck_assert(g_chmod(copy, 0755) == 0 && chown(dir, (uid_t)-1, getegid() + 1) == 0 && g_chmod(dir, 0775) == 0);
        fm_registry_add_path(path);
        ck_assert(fm_registry_find(FM_KIND_PATH, "group", &e) == NULL);
        ck_assert_msg(strstr(e->message, "another user's group") != NULL, "%s", e->message);
    }
}
END_TEST

START_TEST(an_instance_keeps_its_options_and_says_them)
{
    g_autoptr(GError) e = NULL;
    g_autoptr(FmPlugin) p = fm_plugin_new(FM_KIND_PATH, "good-one:k=0.3,name=", &e);
    g_autofree char *spec = NULL, *again = NULL;
    g_autoptr(FmPlugin) q = NULL;

    ck_assert_msg(p != NULL, "%s", e ? e->message : "");
    ck_assert(*(double *)fm_plugin_self(p) == 0.3);
    spec = fm_plugin_spec(p);
    ck_assert_str_eq(spec, "good-one:k=0.3,name=");
    q = fm_plugin_new(FM_KIND_PATH, spec, &e);
    again = fm_plugin_spec(q);
    ck_assert_str_eq(again, spec);
    ck_assert(fm_plugin_new(FM_KIND_PATH, "good-one:k=5", &e) == NULL);
    ck_assert(g_error_matches(e, FM_ERROR, FM_ERROR_OPTION));
    ck_assert(strstr(e->message, "path 'good-one': option 'k' is 5") != NULL);
}
END_TEST

START_TEST(a_short_table_is_extended_by_zeros)
{
    g_autoptr(FmPlugin) p = fm_plugin_new(FM_KIND_PATH, "short-ops", NULL);
    const FmPathOps *ops;

    ck_assert(p != NULL);
    ops = fm_plugin_ops(p);
    ck_assert(ops->coefficients && !ops->sample && !ops->clear && ops->t_max == 0);
}
END_TEST

START_TEST(a_near_miss_is_suggested)
{
    g_autoptr(GError) e = NULL, outside = NULL;

    ck_assert(fm_registry_find(FM_KIND_PATH, "good-oen", &e) == NULL);
    ck_assert(g_error_matches(e, FM_ERROR, FM_ERROR_UNKNOWN));
    ck_assert(strstr(e->message, "did you mean 'good-one'?") != NULL);
    ck_assert(fm_registry_find(FM_KIND_PATH, "../path/good-one", &outside) == NULL);
    ck_assert(g_error_matches(outside, FM_ERROR, FM_ERROR_UNKNOWN));
}
END_TEST

START_TEST(refused_files_are_listed)
{
    size_t loaded = 0, refused = 0;

    fm_registry_load_all();
    for (size_t i = 0; i < G_N_ELEMENTS(plugins); i++) {
        const char *file, *reason;
        gboolean failed = FALSE, found = FALSE;

        for (size_t k = 0; k < fm_registry_failed_count(); k++) {
            g_autofree char *base = g_strconcat("/", plugins[i].name, ".so", NULL);

            fm_registry_failed_nth(k, &file, &reason);
            failed |= g_str_has_suffix(file, base) && strstr(reason, plugins[i].says ? plugins[i].says : "");
        }
        for (size_t k = 0; k < fm_registry_count(FM_KIND_PATH); k++)
            found |= strcmp(fm_registry_nth(FM_KIND_PATH, k)->name, plugins[i].name) == 0;
        ck_assert_msg(failed == (plugins[i].says != NULL) && found != failed, "%s", plugins[i].name);
        loaded += found;
        refused += failed;
    }
    ck_assert(loaded == 4 && loaded + refused == G_N_ELEMENTS(plugins));
}
END_TEST

static gpointer
find_many(gpointer unused)
{
    size_t found = 0;

    for (int i = 0; i < 200; i++)
        found += fm_registry_find(FM_KIND_PATH, plugins[i % 4].name, NULL) != NULL;
    return GSIZE_TO_POINTER(found);
}

START_TEST(threads_may_look_up_at_once)
{
    GThread *t[4];

    for (int i = 0; i < 4; i++)
        t[i] = g_thread_new("find", find_many, NULL);
    for (int i = 0; i < 4; i++)
        ck_assert_uint_eq(GPOINTER_TO_SIZE(g_thread_join(t[i])), 200);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("registry");
    TCase *c = tcase_create("registry");
    g_autofree char *cleanup = NULL;

    root = g_dir_make_tmp("fmcore-plugins-XXXXXX", NULL);
    for (size_t i = 0; root && i < G_N_ELEMENTS(plugins); i++)
        build(i);
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, each_file_loads_or_is_refused_with_its_reason, 0, G_N_ELEMENTS(plugins));
    tcase_add_test(c, another_groups_file_is_refused);
    tcase_add_test(c, an_instance_keeps_its_options_and_says_them);
    tcase_add_test(c, a_short_table_is_extended_by_zeros);
    tcase_add_test(c, a_near_miss_is_suggested);
    tcase_add_test(c, refused_files_are_listed);
    tcase_add_test(c, threads_may_look_up_at_once);
    suite_add_tcase(suite, c);
    const int failed = run_suite(suite, CK_FORK);
    cleanup = g_strdup_printf("rm -rf '%s'", root);
    return system(cleanup) != 0 || failed != 0;
}
