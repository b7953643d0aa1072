/* checks.c: what must hold, for `selftest` and `study`: a table, the "checks" of the result. */
#include "cli/cli.h"

#include <math.h>
#include <stdio.h>

typedef struct Check {
    char name[64];
    double value, expected, tolerance;
    gboolean holds;
} Check;

GArray *
checks_new(void)
{
    return g_array_new(FALSE, FALSE, sizeof(Check));
}

void
checks_add(GArray *checks, const char *name, double value, double expected, double tolerance)
{
    Check c = {.value = value, .expected = expected, .tolerance = tolerance};

    g_strlcpy(c.name, name, sizeof c.name);
    c.holds = fabs(value - expected) <= tolerance; /* FALSE for NaN */
    g_array_append_val(checks, c);
}

void
checks_add_below(GArray *checks, const char *name, double value, double most)
{
    Check c = {.value = value, .expected = most, .holds = value <= most};

    g_strlcpy(c.name, name, sizeof c.name);
    g_array_append_val(checks, c);
}

gboolean
checks_hold(const GArray *checks)
{
    for (guint i = 0; i < checks->len; i++)
        if (!g_array_index(checks, Check, i).holds)
            return FALSE;
    return TRUE;
}

void
checks_print(const GArray *checks)
{
    printf("%-46s %14s %14s %10s\n", "check", "value", "expected", "tolerance");
    for (guint i = 0; i < checks->len; i++) {
        const Check *c = &g_array_index(checks, Check, i);

        printf("%-46s %14.8g %14.8g %10.2g  %s\n", c->name, c->value, c->expected, c->tolerance,
               c->holds ? "ok" : "FAILED");
    }
}

void
checks_json(JsonBuilder *b, const GArray *checks)
{
    out_array(b, "checks");
    for (guint i = 0; i < checks->len; i++) {
        const Check *c = &g_array_index(checks, Check, i);

        json_builder_begin_object(b);
        out_text(b, "name", c->name);
        out_bool(b, "holds", c->holds);
        out_real(b, "value", c->value);
        out_real(b, "expected", c->expected);
        out_real(b, "tolerance", c->tolerance);
        json_builder_end_object(b);
    }
    json_builder_end_array(b);
}
