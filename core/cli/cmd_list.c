/* cmd_list.c: `list` and `inspect`, printed from the declarations alone. */
#include "cli/cli.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *
option_type_name(const FmOption *o)
{
    static const char *const names[] = {
        [FM_OPTION_INT] = "int",     [FM_OPTION_REAL] = "real",     [FM_OPTION_BOOL] = "bool",
        [FM_OPTION_STRING] = "text", [FM_OPTION_CHOICE] = "choice", [FM_OPTION_INTS] = "ints",
        [FM_OPTION_REALS] = "reals", [FM_OPTION_PLUGIN] = "plugin"};

    return names[o->type];
}

static gboolean
is_numeric(const FmOption *o)
{
    return o->type == FM_OPTION_INT || o->type == FM_OPTION_REAL || o->type == FM_OPTION_INTS ||
           o->type == FM_OPTION_REALS;
}

/* Facts the ops table itself declares. */
static void
solver_declares(const FmPluginDesc *desc, GPtrArray *keys, GPtrArray *values)
{
    const FmSolverOps *ops = desc->ops;

    g_ptr_array_add(keys, (char *)"order");
    g_ptr_array_add(values, g_strdup_printf("%d", ops->tableau->order));
    if (ops->tableau->order_embedded > 0) {
        g_ptr_array_add(keys, (char *)"embedded");
        g_ptr_array_add(values, g_strdup_printf("%d", ops->tableau->order_embedded));
    }
    g_ptr_array_add(keys, (char *)"stages");
    g_ptr_array_add(values, g_strdup_printf("%d", ops->tableau->stages));
    g_ptr_array_add(keys, (char *)"first-same-as-last");
    g_ptr_array_add(values, g_strdup(ops->tableau->fsal ? "yes" : "no"));
}

static void
declared(const FmPluginDesc *desc, GPtrArray *keys, GPtrArray *values)
{
    if (desc->kind == FM_KIND_SOLVER)
        solver_declares(desc, keys, values);
    for (const FmFact *f = desc->facts; f && f->key; f++) {
        g_ptr_array_add(keys, (char *)f->key);
        g_ptr_array_add(values, g_strdup(f->text));
    }
}

static void
option_json(JsonBuilder *b, const FmOption *o)
{
    json_builder_begin_object(b);
    out_text(b, "name", o->name);
    out_text(b, "type", option_type_name(o));
    out_text(b, "default", o->def);
    if (is_numeric(o)) {
        out_real(b, "min", o->min);
        out_real(b, "max", o->max);
    }
    if (o->choices)
        out_texts(b, "choices", g_strv_length((char **)o->choices), o->choices);
    out_text(b, "help", o->help);
    json_builder_end_object(b);
}

static void
plugin_json(JsonBuilder *b, const FmPluginDesc *desc)
{
    g_autoptr(GPtrArray) keys = g_ptr_array_new(), values = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *abi = g_strdup_printf("%u.%u", desc->abi_major, desc->abi_minor);

    json_builder_begin_object(b);
    out_text(b, "kind", fm_kind_name((FmKind)desc->kind));
    out_text(b, "name", desc->name);
    out_text(b, "summary", desc->summary);
    out_text(b, "source", desc->source);
    out_text(b, "file", fm_registry_file(desc));
    out_text(b, "abi", abi);
    out_array(b, "options");
    for (const FmOption *o = desc->options; o && o->name; o++)
        option_json(b, o);
    json_builder_end_array(b);
    declared(desc, keys, values);
    out_open(b, "declares");
    for (guint i = 0; i < keys->len; i++)
        out_text(b, keys->pdata[i], values->pdata[i]);
    json_builder_end_object(b);
    json_builder_end_object(b);
}

static int
list_json(const Cli *cli, int only)
{
    g_autoptr(JsonBuilder) b = json_builder_new();
    g_autofree char *text = NULL;

    out_header(b, cli, "ok");
    out_array(b, "plugins");
    for (int kind = 0; kind < FM_N_KINDS; kind++)
        for (size_t i = 0; (only < 0 || only == kind) && i < fm_registry_count((FmKind)kind); i++)
            plugin_json(b, fm_registry_nth((FmKind)kind, i));
    json_builder_end_array(b);
    out_array(b, "failed");
    for (size_t i = 0; i < fm_registry_failed_count(); i++) {
        const char *file, *reason;

        fm_registry_failed_nth(i, &file, &reason);
        json_builder_begin_object(b);
        out_text(b, "file", file);
        out_text(b, "reason", reason);
        json_builder_end_object(b);
    }
    json_builder_end_array(b);
    text = out_finish(b);
    puts(text);
    return 0;
}

static void
list_text(int only)
{
    for (int kind = 0; kind < FM_N_KINDS; kind++) {
        const size_t n = fm_registry_count((FmKind)kind);

        if (n == 0 || (only >= 0 && only != kind))
            continue;
        printf("%s\n", fm_kind_name((FmKind)kind));
        for (size_t i = 0; i < n; i++) {
            const FmPluginDesc *desc = fm_registry_nth((FmKind)kind, i);

            printf("    %-16s %s\n", desc->name, desc->summary ? desc->summary : "");
        }
    }
    if (fm_registry_failed_count() > 0)
        puts("failed");
    for (size_t i = 0; i < fm_registry_failed_count(); i++) {
        const char *file, *reason;

        fm_registry_failed_nth(i, &file, &reason);
        printf("    %s\n        %s\n", file, reason);
    }
}

int
cmd_list(Cli *cli, GError **error)
{
    int only = -1;

    if (cli->args->len > 0) {
        only = fm_kind_from_name(cli->args->pdata[0]);
        if (only < 0) {
            g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                        "unknown kind '%s', expected dataset, coupling, path, net, objective, "
                        "optimizer, solver, divergence or backend",
                        (char *)cli->args->pdata[0]);
            return -1;
        }
    }
    fm_registry_load_all();
    if (cli->json)
        return list_json(cli, only);
    list_text(only);
    return 0;
}

/* The entropy of a data set, computed, for each of its variants. */
static void
inspect_entropy(const FmPluginDesc *desc)
{
    static const char *const plain[] = {"", NULL};
    const char *const *variants = plain;

    for (const FmOption *o = desc->options; o && o->name; o++)
        if (strcmp(o->name, "variant") == 0 && o->choices)
            variants = o->choices;
    for (; desc->kind == FM_KIND_DATASET && *variants; variants++) {
        g_autofree char *spec =
            **variants ? g_strdup_printf("%s:variant=%s", desc->name, *variants) : g_strdup(desc->name);
        g_autoptr(FmPlugin) dataset = fm_plugin_new(FM_KIND_DATASET, spec, NULL);
        FmDataInfo info;

        if (!dataset || !fm_dataset_open(dataset, &info, NULL) || !fm_dataset_has_density(dataset) ||
            isnan(fm_dataset_entropy(dataset)))
            continue;
        printf("  entropy   %.6g nats%s%s\n", fm_dataset_entropy(dataset), **variants ? ", " : "", *variants);
    }
}

static void
inspect_text(const FmPluginDesc *desc)
{
    g_autoptr(GPtrArray) keys = g_ptr_array_new(), values = g_ptr_array_new_with_free_func(g_free);

    printf("%s - %s, %s\n", desc->name, fm_kind_name((FmKind)desc->kind), desc->summary ? desc->summary : "");
    printf("  file      %s, ABI %u.%u\n", fm_registry_file(desc), desc->abi_major, desc->abi_minor);
    if (desc->source)
        printf("  source    %s\n", desc->source);
    declared(desc, keys, values);
    for (guint i = 0; i < keys->len; i++)
        printf("  %s  %s: %s\n", i == 0 ? "declares" : "        ", (char *)keys->pdata[i], (char *)values->pdata[i]);
    inspect_entropy(desc);
    for (const FmOption *o = desc->options; o && o->name; o++) {
        g_autofree char *range = NULL;

        if (o->choices)
            range = g_strjoinv("|", (char **)o->choices);
        else if (is_numeric(o))
            range = g_strdup_printf("%s%g, %g]", o->min_open ? "(" : "[", o->min, o->max);
        printf("  %s   %-14s %-6s %-10s %-18s %s\n", o == desc->options ? "options" : "       ", o->name,
               option_type_name(o), *o->def ? o->def : "unset", range ? range : "", o->help);
    }
}

int
cmd_inspect(Cli *cli, GError **error)
{
    const char *name = cli->args->pdata[0];
    const char *slash = strchr(name, '/');
    g_autoptr(JsonBuilder) b = json_builder_new();
    g_autofree char *kind_name = slash ? g_strndup(name, (gsize)(slash - name)) : NULL;
    const int only = slash ? fm_kind_from_name(kind_name) : -1;
    g_autoptr(GError) first = NULL;
    int found = 0;

    if (slash && only < 0) {
        g_set_error(error, FM_ERROR, FM_ERROR_USAGE, "unknown kind '%s' in '%s'", kind_name, name);
        return -1;
    }
    out_header(b, cli, "ok");
    out_array(b, "plugins");
    for (int kind = 0; kind < FM_N_KINDS; kind++) {
        g_autoptr(GError) why = NULL;
        const FmPluginDesc *desc;

        if (only >= 0 && only != kind)
            continue;
        desc = fm_registry_find((FmKind)kind, slash ? slash + 1 : name, &why);
        if (!desc) {
            /* The best reason: a refusal, or a near miss of the name. */
            if (!first || why->code == FM_ERROR_PLUGIN || strstr(why->message, "did you mean")) {
                g_clear_error(&first);
                first = g_steal_pointer(&why);
            }
            continue;
        }
        if (cli->json)
            plugin_json(b, desc);
        else
            inspect_text(desc);
        found++;
    }
    if (found == 0) {
        if (only < 0 && first->code == FM_ERROR_UNKNOWN && !strstr(first->message, "did you mean"))
            g_set_error(error, FM_ERROR, FM_ERROR_UNKNOWN, "no plugin is called '%s'; 'fmcore list' shows all names",
                        name);
        else
            g_propagate_error(error, g_steal_pointer(&first));
        return -1;
    }
    json_builder_end_array(b);
    if (cli->json) {
        g_autofree char *text = out_finish(b);

        puts(text);
    }
    return 0;
}
