/* tree.h: a folder that a test made goes with all that is in it. */
#ifndef FMCORE_TESTS_TREE_H
#define FMCORE_TESTS_TREE_H

#include <glib.h>
#include <glib/gstdio.h>

/* path: a file or folder; links are removed, not followed. */
static inline void
remove_tree(const char *path)
{
    if (!g_file_test(path, G_FILE_TEST_IS_SYMLINK)) {
        g_autoptr(GDir) d = g_dir_open(path, 0, NULL);

        for (const char *name; d && (name = g_dir_read_name(d));) {
            g_autofree char *child = g_build_filename(path, name, NULL);

            remove_tree(child);
        }
    }
    g_remove(path);
}

#endif
