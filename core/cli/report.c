/* report.c: report.html of a run directory. */
#include "cli/report.h"

#include <fmcore/io.h>
#include <json-glib/json-glib.h>
#include <string.h>

static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>%s</title>\n"
    "<style>body{font-family:sans-serif;max-width:60em;margin:2em auto;padding:0 1em}img{max-width:100%%}"
    "table{border-collapse:collapse}th,td{text-align:left;vertical-align:top;padding:.2em .8em .2em 0;"
    "border-bottom:1px solid "
    "#ddd}td{overflow-wrap:anywhere}td.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}"
    ".detail{color:#555;font-size:smaller}pre,div{overflow:auto}</style>\n<h1>%s</h1>\n";

/* ---- values as text ---- */

static gboolean
is_number(JsonNode *node)
{
    return JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) != G_TYPE_STRING &&
           json_node_get_value_type(node) != G_TYPE_BOOLEAN;
}

/* Numbers to six digits; an array's elements; an object as "name value, ...", where what it is or is called needs no
 * name. */
static void
append_value(GString *out, JsonNode *node)
{
    static const char *const plain[] = {"name", "what", "options", NULL};

    if (JSON_NODE_HOLDS_NULL(node))
        g_string_append(out, "undefined");
    else if (is_number(node))
        g_string_append_printf(out, "%.6g", json_node_get_double(node));
    else if (JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == G_TYPE_BOOLEAN)
        g_string_append(out, json_node_get_boolean(node) ? "yes" : "no");
    else if (JSON_NODE_HOLDS_VALUE(node)) {
        g_autofree char *text = g_markup_escape_text(json_node_get_string(node), -1);

        g_string_append(out, text);
    } else if (JSON_NODE_HOLDS_ARRAY(node)) {
        JsonArray *array = json_node_get_array(node);

        for (guint i = 0; i < json_array_get_length(array); i++) {
            g_string_append(out, i > 0 ? ", " : "");
            append_value(out, json_array_get_element(array, i));
        }
    } else {
        JsonObjectIter it;
        const char *name;
        JsonNode *value;
        gboolean first = TRUE;

        json_object_iter_init_ordered(&it, json_node_get_object(node));
        while (json_object_iter_next_ordered(&it, &name, &value)) {
            g_autofree char *text = g_markup_escape_text(name, -1);

            if (JSON_NODE_HOLDS_OBJECT(value) && json_object_get_size(json_node_get_object(value)) == 0)
                continue;
            g_string_append(out, first ? "" : ", ");
            if (!g_strv_contains(plain, name))
                g_string_append_printf(out, "%s ", text);
            append_value(out, value);
            first = FALSE;
        }
    }
}

static void
append_cell(GString *out, JsonNode *node)
{
    g_string_append(out, node && is_number(node) ? "<td class=\"number\">" : "<td>");
    if (node)
        append_value(out, node);
    g_string_append(out, "</td>");
}

/* ---- parts of the page ---- */

/* What is measured, each with its standard error, unit and number of points; under it what belongs to it. */
static void
append_metrics(GString *page, JsonArray *metrics)
{
    g_string_append(page, "<h2>Figures</h2>\n<table><tr><th>name<th>value<th>&plusmn; se<th>unit<th>n</tr>\n");
    for (guint i = 0; i < json_array_get_length(metrics); i++) {
        static const char *const columns[] = {"name", "value", "se", "unit", "n"};
        JsonNode *node = json_array_get_element(metrics, i);
        JsonObject *m = JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;

        if (!m)
            continue;
        g_string_append(page, "<tr>");
        for (size_t c = 0; c < G_N_ELEMENTS(columns); c++)
            append_cell(page, json_object_get_member(m, columns[c]));
        g_string_append(page, "</tr>\n");
        node = json_object_get_member(m, "detail");
        if (node && JSON_NODE_HOLDS_OBJECT(node) && json_object_get_size(json_node_get_object(node)) > 0) {
            g_string_append(page, "<tr><td colspan=\"5\" class=\"detail\">");
            append_value(page, node);
            g_string_append(page, "</td></tr>\n");
        }
    }
    g_string_append(page, "</table>\n");
}

/* Objects as the rows of a table; its columns are the members of the first row, and after them those that only
 * later rows have. */
static void
append_rows(GString *page, const char *title, JsonArray *rows)
{
    g_autoptr(GPtrArray) columns = g_ptr_array_new();
    g_autofree char *text = g_markup_escape_text(title, -1);

    for (guint i = 0; i < json_array_get_length(rows); i++) {
        JsonNode *row = json_array_get_element(rows, i), *value;
        JsonObjectIter it;
        const char *name;

        if (!JSON_NODE_HOLDS_OBJECT(row))
            return;
        json_object_iter_init_ordered(&it, json_node_get_object(row));
        while (json_object_iter_next_ordered(&it, &name, &value))
            if (!g_ptr_array_find_with_equal_func(columns, name, g_str_equal, NULL))
                g_ptr_array_add(columns, (char *)name);
    }
    g_string_append_printf(page, "<h2>%s</h2>\n<div><table><tr>", text);
    for (guint c = 0; c < columns->len; c++) {
        g_autofree char *name = g_markup_escape_text(columns->pdata[c], -1);

        g_string_append_printf(page, "<th>%s", name);
    }
    g_string_append(page, "</tr>\n");
    for (guint i = 0; i < json_array_get_length(rows); i++) {
        g_string_append(page, "<tr>");
        for (guint c = 0; c < columns->len; c++)
            append_cell(page, json_object_get_member(json_array_get_object_element(rows, i), columns->pdata[c]));
        g_string_append(page, "</tr>\n");
    }
    g_string_append(page, "</table></div>\n");
}

/* Members that are no table, one a line. */
static void
append_settings(GString *page, const char *title, JsonObject *object, const char *const *without)
{
    JsonObjectIter it;
    const char *name;
    JsonNode *value;

    g_string_append_printf(page, "<h2>%s</h2>\n<table>\n", title);
    json_object_iter_init_ordered(&it, object);
    while (json_object_iter_next_ordered(&it, &name, &value)) {
        g_autofree char *text = g_markup_escape_text(name, -1);

        if (g_strv_contains(without, name))
            continue;
        g_string_append_printf(page, "<tr><th>%s<td>", text);
        append_value(page, value);
        g_string_append(page, "</td></tr>\n");
    }
    g_string_append(page, "</table>\n");
}

static gint
by_name(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void
append_picture(GString *page, const char *dir, const char *name)
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

static void
append_pictures(GString *page, GDir *dir, const char *path)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);

    for (const char *name; (name = g_dir_read_name(dir));)
        if (g_str_has_suffix(name, ".png") || g_str_has_suffix(name, ".svg"))
            g_ptr_array_add(names, g_strdup(name));
    g_ptr_array_sort(names, by_name);
    for (guint i = 0; i < names->len; i++)
        append_picture(page, path, names->pdata[i]);
}

/* What the result says of itself: a sentence, or several. */
static void
append_words(GString *page, JsonNode *words)
{
    if (JSON_NODE_HOLDS_ARRAY(words)) {
        JsonArray *each = json_node_get_array(words);

        for (guint i = 0; i < json_array_get_length(each); i++)
            append_words(page, json_array_get_element(each, i));
        return;
    }
    g_string_append(page, "<p>");
    append_value(page, words);
    g_string_append(page, "</p>\n");
}

/* A member that is an array and not empty, or NULL. */
static JsonArray *
array_of(JsonObject *result, const char *name)
{
    JsonNode *node = json_object_get_member(result, name);
    JsonArray *array = node && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;

    return array && json_array_get_length(array) > 0 ? array : NULL;
}

static void
append_result(GString *page, JsonObject *result, GDir *dir, const char *path)
{
    static const char *const apart[] = {"config", "metrics", "rows", "checks", "words", "files", NULL};
    static const char *const none[] = {NULL}, *const tables[] = {"checks", "rows"};
    JsonNode *node = json_object_get_member(result, "words");

    if (node)
        append_words(page, node);
    if (array_of(result, "metrics"))
        append_metrics(page, array_of(result, "metrics"));
    for (size_t i = 0; i < G_N_ELEMENTS(tables); i++)
        if (array_of(result, tables[i]))
            append_rows(page, tables[i], array_of(result, tables[i]));
    append_pictures(page, dir, path);
    append_settings(page, "Run", result, apart);
    node = json_object_get_member(result, "config");
    if (node && JSON_NODE_HOLDS_OBJECT(node))
        append_settings(page, "Configuration", json_node_get_object(node), none);
}

gboolean
report_write(const char *run_dir, GError **error)
{
    g_autofree char *json = g_build_filename(run_dir, "result.json", NULL), *text = NULL;
    g_autofree char *out = g_build_filename(run_dir, "report.html", NULL), *escaped = NULL, *title = NULL;
    g_autoptr(GString) page = g_string_new(NULL);
    g_autoptr(JsonParser) parser = json_parser_new_immutable();
    g_autoptr(GError) cause = NULL;
    g_autoptr(GDir) dir = g_dir_open(run_dir, 0, &cause);
    JsonNode *root;

    if (!dir || !g_file_get_contents(json, &text, NULL, &cause)) {
        g_set_error(error, FM_ERROR, FM_ERROR_FILE, "no report of '%s': %s", run_dir, fm_error_reason(cause));
        return FALSE;
    }
    root = json_parser_load_from_data(parser, text, -1, &cause) ? json_parser_get_root(parser) : NULL;
    if (!root || !JSON_NODE_HOLDS_OBJECT(root)) {
        g_set_error(error, FM_ERROR, FM_ERROR_DATA, "'%s' is not a result: %s", json,
                    cause ? cause->message : "expected a JSON object");
        return FALSE;
    }
    escaped = g_filename_display_basename(run_dir);
    title = g_markup_printf_escaped("fmcore: %s", escaped);
    g_string_append_printf(page, head, title, title);
    append_result(page, json_node_get_object(root), dir, run_dir);
    g_free(escaped);
    escaped = g_markup_escape_text(text, -1);
    g_string_append_printf(page, "<details><summary>result.json</summary>\n<pre>%s</pre></details>\n</html>\n",
                           escaped);
    return fm_write_file(out, page->str, page->len, error);
}
