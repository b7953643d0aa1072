/* option.c: tables of options: defaults, parsing, ranges, printing. */
#include <fmcore/option.h>

#include <fmcore/error.h>
#include <stdlib.h>
#include <string.h>

static void *
field(const FmOption *o, const void *self)
{
    return (char *)self + o->offset;
}

/* Where the value that begins at `s` ends: at a comma outside brackets, braces and quotes. */
static const char *
value_end(const char *s, gboolean *balanced)
{
    int depth = 0;
    char quote = '\0';

    for (; *s; s++) {
        if (quote)
            quote = *s == quote ? '\0' : quote;
        else if (*s == '"' || *s == '\'')
            quote = *s;
        else if (strchr("[{(", *s))
            depth++;
        else if (strchr("]})", *s))
            depth--;
        else if (*s == ',' && depth == 0)
            break;
        if (depth < 0)
            break;
    }
    *balanced = depth == 0 && !quote;
    return s;
}

gboolean
fm_spec_split(const char *spec, char **name, char **rest, GError **error)
{
    const char *colon = strchr(spec, ':');
    gboolean balanced = TRUE;

    for (const char *s = spec; *s && balanced;) {
        s = value_end(s, &balanced);
        s += *s == ',';
    }
    *name = colon ? g_strndup(spec, (gsize)(colon - spec)) : g_strdup(spec);
    *rest = g_strdup(colon ? colon + 1 : "");
    g_strstrip(*name);
    if (**name && balanced)
        return TRUE;
    g_set_error(error, FM_ERROR, FM_ERROR_USAGE,
                "'%s' is not a plugin's name with options, expected NAME or NAME:key=value,...", spec);
    g_clear_pointer(name, g_free);
    g_clear_pointer(rest, g_free);
    return FALSE;
}

/* ---- values ---- */

static gboolean
in_range(const FmOption *o, double v)
{
    return v <= o->max && (o->min_open ? v > o->min : v >= o->min);
}

static gboolean
refuse(const FmOption *o, const char *who, const char *text, GError **error)
{
    static const char *const wanted[] = {[FM_OPTION_INT] = "a whole number",
                                         [FM_OPTION_REAL] = "a number",
                                         [FM_OPTION_INTS] = "a list of whole numbers such as [1,2]",
                                         [FM_OPTION_REALS] = "a list of numbers such as [0.5,1]"};

    if (o->type == FM_OPTION_BOOL) {
        g_set_error(error, FM_ERROR, FM_ERROR_OPTION, "%s: option '%s' is '%s', expected yes or no", who, o->name,
                    text);
    } else if (o->type == FM_OPTION_CHOICE) {
        g_autofree char *all = g_strjoinv(", ", (char **)o->choices);

        g_set_error(error, FM_ERROR, FM_ERROR_OPTION, "%s: option '%s' is '%s', expected one of %s", who, o->name, text,
                    all);
    } else {
        g_set_error(error, FM_ERROR, FM_ERROR_OPTION, "%s: option '%s' is %s, expected %s with %g %s value <= %g", who,
                    o->name, *text ? text : "empty", wanted[o->type], o->min, o->min_open ? "<" : "<=", o->max);
    }
    return FALSE;
}

static gboolean
parse_number(const FmOption *o, const char *text, double *v)
{
    const gboolean whole = o->type == FM_OPTION_INT || o->type == FM_OPTION_INTS;
    char *end = NULL;

    if (o->type == FM_OPTION_REAL && strcmp(text, "auto") == 0 && strcmp(o->def, "auto") == 0) {
        *v = NAN;
        return TRUE;
    }
    *v = g_ascii_strtod(text, &end);
    return end != text && *end == '\0' && in_range(o, *v) && (!whole || *v == floor(*v));
}

/* "[a,b]" or "a": numbers, owned by the caller; NULL when one is wrong. */
static double *
parse_list(const FmOption *o, const char *text, size_t *n)
{
    const size_t length = strlen(text);
    const gboolean bracketed = length >= 2 && text[0] == '[' && text[length - 1] == ']';
    g_autofree char *inside = bracketed ? g_strndup(text + 1, length - 2) : g_strdup(text);
    g_auto(GStrv) part = g_strsplit(inside, ",", -1);
    double *v;

    *n = *g_strstrip(inside) ? g_strv_length(part) : 0;
    v = g_new(double, *n + 1);
    for (size_t i = 0; i < *n; i++)
        if (!parse_number(o, g_strstrip(part[i]), &v[i])) {
            g_free(v);
            return NULL;
        }
    return v;
}

static gboolean
set_list(const FmOption *o, void *at, const char *text, const char *who, GError **error)
{
    size_t n;
    double *v = parse_list(o, text, &n);

    if (!v)
        return refuse(o, who, text, error);
    if (o->type == FM_OPTION_REALS) {
        FmReals *list = at;

        g_free(list->v);
        *list = (FmReals){.v = v, .n = n};
        return TRUE;
    }
    g_free(((FmInts *)at)->v);
    *(FmInts *)at = (FmInts){.v = g_new(int, n + 1), .n = n};
    for (size_t i = 0; i < n; i++)
        ((FmInts *)at)->v[i] = (int)v[i];
    g_free(v);
    return TRUE;
}

static gboolean
set_bool(const FmOption *o, gboolean *at, const char *text, const char *who, GError **error)
{
    static const char *const yes[] = {"yes", "true", "on", "1", NULL};
    static const char *const no[] = {"no", "false", "off", "0", NULL};

    if (!g_strv_contains(yes, text) && !g_strv_contains(no, text))
        return refuse(o, who, text, error);
    *at = g_strv_contains(yes, text);
    return TRUE;
}

/* Text without the quotes or braces around it; owned by the caller; NULL when empty. */
static char *
unwrapped(const char *text, char open, char close)
{
    const size_t n = strlen(text);

    if (n >= 2 && text[0] == open && text[n - 1] == close)
        return n > 2 ? g_strndup(text + 1, n - 2) : NULL;
    return n > 0 ? g_strdup(text) : NULL;
}

static gboolean
set_value(const FmOption *o, void *self, const char *text, const char *who, GError **error)
{
    void *at = field(o, self);
    double v;

    switch (o->type) {
    case FM_OPTION_INT:
    case FM_OPTION_REAL:
        if (!parse_number(o, text, &v))
            return refuse(o, who, text, error);
        if (o->type == FM_OPTION_INT)
            *(int *)at = (int)v;
        else
            *(double *)at = v;
        return TRUE;
    case FM_OPTION_BOOL:
        return set_bool(o, at, text, who, error);
    case FM_OPTION_CHOICE:
        for (int i = 0; o->choices[i]; i++)
            if (strcmp(o->choices[i], text) == 0) {
                *(int *)at = i;
                return TRUE;
            }
        return refuse(o, who, text, error);
    case FM_OPTION_INTS:
    case FM_OPTION_REALS:
        return set_list(o, at, text, who, error);
    default:
        g_free(*(char **)at);
        *(char **)at = o->type == FM_OPTION_PLUGIN ? unwrapped(text, '{', '}')
                       : text[0] == '\''           ? unwrapped(text, '\'', '\'')
                                                   : unwrapped(text, '"', '"');
        return TRUE;
    }
}

gboolean
fm_options_defaults(const FmOption *table, void *self, GError **error)
{
    for (const FmOption *o = table; o && o->name; o++)
        if (!set_value(o, self, o->def, "default", error)) {
            g_prefix_error(error, "a default is out of its range: ");
            return FALSE;
        }
    return TRUE;
}

static const FmOption *
option_find(const FmOption *table, const char *key, const char *who, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    g_autofree char *all = NULL;
    const char *near;

    for (const FmOption *o = table; o && o->name; o++) {
        if (strcmp(o->name, key) == 0)
            return o;
        g_ptr_array_add(names, (char *)o->name);
    }
    g_ptr_array_add(names, NULL);
    all = g_strjoinv(", ", (char **)names->pdata);
    near = fm_error_suggest(key, (const char *const *)names->pdata);
    g_set_error(error, FM_ERROR, FM_ERROR_OPTION, "%s has no option '%s'%s%s%s, expected one of %s", who, key,
                near ? " (did you mean '" : "", near ? near : "", near ? "'?)" : "", all);
    return NULL;
}

gboolean
fm_options_parse(const FmOption *table, void *self, const char *text, const char *who, GError **error)
{
    while (text && *text) {
        gboolean balanced;
        const char *end = value_end(text, &balanced);
        g_autofree char *pair = g_strndup(text, (gsize)(end - text));
        char *equals = strchr(pair, '=');
        const FmOption *o;

        if (!equals || !balanced) {
            g_set_error(error, FM_ERROR, FM_ERROR_OPTION, "%s was given '%s', expected key=value", who, pair);
            return FALSE;
        }
        *equals = '\0';
        g_strdelimit(g_strstrip(pair), "-", '_');
        o = option_find(table, pair, who, error);
        if (!o || !set_value(o, self, g_strstrip(equals + 1), who, error))
            return FALSE;
        text = *end ? end + 1 : end;
    }
    return TRUE;
}

/* ---- printing ---- */

/* The shortest text that reads back as v. */
static char *
format_real(double v)
{
    char text[G_ASCII_DTOSTR_BUF_SIZE];

    if (isnan(v))
        return g_strdup("auto");
    for (int digits = 6; digits <= 17; digits++) {
        char how[8];

        g_snprintf(how, sizeof how, "%%.%dg", digits);
        g_ascii_formatd(text, sizeof text, how, v);
        if (g_ascii_strtod(text, NULL) == v)
            break;
    }
    return g_strdup(text);
}

static char *
format_list(const FmOption *o, const void *at)
{
    const FmInts *ints = at;
    const FmReals *reals = at;
    const size_t n = o->type == FM_OPTION_INTS ? ints->n : reals->n;
    GString *s = g_string_new("[");

    for (size_t i = 0; i < n; i++) {
        g_autofree char *one = format_real(o->type == FM_OPTION_INTS ? (double)ints->v[i] : reals->v[i]);

        g_string_append_printf(s, "%s%s", i > 0 ? "," : "", one);
    }
    return g_string_free(g_string_append(s, "]"), FALSE);
}

char *
fm_option_format(const FmOption *o, const void *self)
{
    const void *at = field(o, self);
    const char *text;

    switch (o->type) {
    case FM_OPTION_INT:
        return g_strdup_printf("%d", *(const int *)at);
    case FM_OPTION_REAL:
        return format_real(*(const double *)at);
    case FM_OPTION_BOOL:
        return g_strdup(*(const gboolean *)at ? "yes" : "no");
    case FM_OPTION_CHOICE:
        return g_strdup(o->choices[*(const int *)at]);
    case FM_OPTION_INTS:
    case FM_OPTION_REALS:
        return format_list(o, at);
    default:
        text = *(char *const *)at;
        if (!text)
            return g_strdup("");
        if (o->type == FM_OPTION_PLUGIN)
            return g_strdup_printf("{%s}", text);
        if (!strpbrk(text, ",[]{}()'\" \t"))
            return g_strdup(text);
        return strchr(text, '"') ? g_strdup_printf("'%s'", text) : g_strdup_printf("\"%s\"", text);
    }
}

void
fm_options_clear(const FmOption *table, void *self)
{
    for (const FmOption *o = table; o && o->name; o++) {
        void *at = field(o, self);

        if (o->type == FM_OPTION_STRING || o->type == FM_OPTION_PLUGIN)
            g_clear_pointer((char **)at, g_free);
        else if (o->type == FM_OPTION_INTS) {
            g_free(((FmInts *)at)->v);
            *(FmInts *)at = (FmInts){0};
        } else if (o->type == FM_OPTION_REALS) {
            g_free(((FmReals *)at)->v);
            *(FmReals *)at = (FmReals){0};
        }
    }
}
