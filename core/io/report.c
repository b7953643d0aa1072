/* report.c: report.html of a run directory. */
#include "io/report.h"

#include <fmcore/io.h>
#include <string.h>

static gint
report_compare(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void
report_picture(GString *page, const char *dir, const char *name)
{
    g_autofree char *path = g_build_filename(dir, name, NULL), *bytes = NULL, *code = NULL;
    g_autofree char *title = g_markup_escape_text(name, -1);
    gsize size;

    if (!g_file_get_contents(path, &bytes, &size, NULL))
        return;
    code = g_base64_encode((const guchar *)bytes, size);
    g_string_append_printf(page, "<h2>%s</h2>\n<img alt=\"%s\" src=\"data:image/%s;base64,%s\">\n", title, title,
                           g_str_has_suffix(name, ".svg") ? "svg+xml" : "png", code);
}

gboolean
fm_report_write(const char *run_dir, GError **error)
{
    g_autofree char *json = g_build_filename(run_dir, "result.json", NULL), *text = NULL;
    g_autofree char *out = g_build_filename(run_dir, "report.html", NULL), *escaped = NULL;
    g_autoptr(GString) page = g_string_new("<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\">"
                                           "<title>fmcore run</title>\n<style>body{font-family:sans-serif;"
                                           "max-width:60em;margin:auto}img{max-width:100%}</style>\n"
                                           "<h1>fmcore run</h1>\n");
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) cause = NULL;
    g_autoptr(GDir) dir = g_dir_open(run_dir, 0, &cause);
    const char *name;

    if (!dir || !g_file_get_contents(json, &text, NULL, &cause)) {
        g_set_error(error, FM_ERROR, FM_ERROR_FILE, "no report of '%s': %s", run_dir, fm_error_reason(cause));
        return FALSE;
    }
    while ((name = g_dir_read_name(dir)))
        if (g_str_has_suffix(name, ".png") || g_str_has_suffix(name, ".svg"))
            g_ptr_array_add(names, g_strdup(name));
    g_ptr_array_sort(names, report_compare);
    for (guint i = 0; i < names->len; i++)
        report_picture(page, run_dir, names->pdata[i]);
    escaped = g_markup_escape_text(text, -1);
    g_string_append_printf(page, "<h2>Result</h2>\n<pre>%s</pre>\n</html>\n", escaped);
    return fm_write_file(out, page->str, page->len, error);
}
