/* plugin.c: instances: a plugin with its state and options. */
#include "plugin/instance.h"

#include <string.h>

FmPlugin *
fm_plugin_new(FmKind kind, const char *spec, GError **error)
{
    g_autofree char *name = NULL, *rest = NULL, *who = NULL;
    const FmEntry *entry;
    FmPlugin *plugin;

    if (!fm_spec_split(spec, &name, &rest, error))
        return NULL;
    entry = fm__registry_entry(kind, name, error);
    if (!entry)
        return NULL;
    who = g_strdup_printf("%s '%s'", fm_kind_name(kind), entry->desc->name);
    plugin = g_new0(FmPlugin, 1);
    plugin->desc = entry->desc;
    plugin->ops = entry->ops;
    plugin->self = entry->desc->self_size > 0 ? g_malloc0(entry->desc->self_size) : NULL;
    if (!entry->desc->options && *rest) {
        g_set_error(error, FM_ERROR, FM_ERROR_OPTION, "%s takes no options, '%s' was given", who, rest);
    } else if (!entry->desc->options || (fm_options_defaults(entry->desc->options, plugin->self, error) &&
                                         fm_options_parse(entry->desc->options, plugin->self, rest, who, error))) {
        return plugin;
    }
    fm_plugin_free(plugin);
    return NULL;
}

void
fm_plugin_free(FmPlugin *plugin)
{
    size_t at;
    void (*clear)(void *) = NULL;

    if (!plugin)
        return;
    at = fm__kind_info((FmKind)plugin->desc->kind)->clear;
    if (at != G_MAXSIZE)
        memcpy(&clear, (const char *)plugin->ops + at, sizeof clear);
    if (clear)
        clear(plugin->self);
    if (plugin->core_free)
        plugin->core_free(plugin->core_data);
    if (plugin->desc->options)
        fm_options_clear(plugin->desc->options, plugin->self);
    g_free(plugin->self);
    g_free(plugin);
}

FmKind
fm_plugin_kind(const FmPlugin *plugin)
{
    return (FmKind)plugin->desc->kind;
}

const char *
fm_plugin_name(const FmPlugin *plugin)
{
    return plugin->desc->name;
}

const FmPluginDesc *
fm_plugin_desc(const FmPlugin *plugin)
{
    return plugin->desc;
}

const void *
fm_plugin_ops(const FmPlugin *plugin)
{
    return plugin->ops;
}

void *
fm_plugin_self(const FmPlugin *plugin)
{
    return plugin->self;
}

char *
fm_plugin_spec(const FmPlugin *plugin)
{
    GString *s = g_string_new(plugin->desc->name);
    char separator = ':';

    for (const FmOption *o = plugin->desc->options; o && o->name; o++) {
        g_autofree char *text = fm_option_format(o, plugin->self);

        if (!*text && !*o->def)
            continue; /* unset, as by default */
        g_string_append_printf(s, "%c%s=%s", separator, o->name, text);
        separator = ',';
    }
    return g_string_free(s, FALSE);
}
