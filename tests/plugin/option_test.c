/* option_test.c: option tables: defaults, parsing, ranges, sentences and exact round trips. */
#include "suite.h"

#include <fmcore/fmcore.h>
#include <stdlib.h>
#include <string.h>

typedef struct State {
    double rtol, first;
    int steps, mode;
    gboolean on;
    char *file, *nested;
    FmInts mult;
    FmReals at;
} State;

static const char *const modes[] = {"pi", "i", NULL};
static const FmOption table[] = {
    FM_OPT_POSITIVE(State, rtol, 1e-5, 1.0, "tolerance"),
    FM_OPT_REAL_AUTO(State, first, 1e-12, 1.0, "first step"),
    FM_OPT_INT(State, steps, 7, 1, 1000, "steps"),
    FM_OPT_CHOICE(State, mode, modes, "pi", "mode"),
    FM_OPT_BOOL(State, on, yes, "switch"),
    FM_OPT_STRING(State, file, "", "file"),
    FM_OPT_PLUGIN(State, nested, "", "nested"),
    FM_OPT_INTS(State, mult, "[1,2,2]", 1, 64, "multipliers"),
    FM_OPT_REALS(State, at, "", -10, 10, "times"),
    FM_OPT_END,
};

static void
start(State *s)
{
    memset(s, 0, sizeof *s);
    ck_assert(fm_options_defaults(table, s, NULL));
}

START_TEST(defaults_are_written)
{
    State s;

    start(&s);
    ck_assert(s.rtol == 1e-5 && isnan(s.first) && s.steps == 7 && s.mode == 0 && s.on);
    ck_assert(s.file == NULL && s.nested == NULL && s.at.n == 0);
    ck_assert(s.mult.n == 3 && s.mult.v[0] == 1 && s.mult.v[2] == 2);
    fm_options_clear(table, &s);
    ck_assert(s.mult.v == NULL && s.mult.n == 0);
}
END_TEST

START_TEST(values_are_split_at_the_outer_commas)
{
    State s;
    g_autoptr(GError) e = NULL;

    start(&s);
    ck_assert(fm_options_parse(table, &s,
                               "nested={mixture:k=3,at=[1,2]},mult=[3,5],file=\"a,b=c\",mode=i,on=off,"
                               "at=[0.25,-2.5],first=0.125",
                               "x", &e));
    ck_assert_str_eq(s.nested, "mixture:k=3,at=[1,2]");
    ck_assert(s.mult.n == 2 && s.mult.v[1] == 5 && s.mode == 1 && !s.on);
    ck_assert_str_eq(s.file, "a,b=c");
    ck_assert(s.at.n == 2 && s.at.v[1] == -2.5 && s.first == 0.125);
    fm_options_clear(table, &s);
}
END_TEST

START_TEST(formats_read_back_to_the_same_bits)
{
    static const char *const texts[] = {"a b", " led", "it's", "say \"hi\"", "[x", "p/q.npy"};
    const double third = 1.0 / 3.0;
    State s, r;

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        start(&s);
        start(&r);
        s.rtol = third * (double)(i + 1) / 7.0;
        s.file = g_strdup(texts[i]);
        for (const FmOption *o = table; o->name; o++) {
            g_autofree char *v = fm_option_format(o, &s);
            g_autofree char *pair = g_strdup_printf("%s=%s", o->name, v);
            g_autoptr(GError) e = NULL;

            ck_assert_msg(fm_options_parse(table, &r, pair, "x", &e), "%s", e ? e->message : "");
        }
        ck_assert(r.rtol == s.rtol && isnan(r.first));
        ck_assert_str_eq(r.file, texts[i]);
        ck_assert(r.mult.n == 3 && r.mult.v[1] == 2);
        fm_options_clear(table, &s);
        fm_options_clear(table, &r);
    }
}
END_TEST

static const struct {
    const char *text, *says;
} wrong[] = {
    {"rtol=-1", "solver 'dopri5': option 'rtol' is -1"},
    {"rtol=0", "0 <"},
    {"rtol=nan", "'rtol' is nan"},
    {"rtol=1e-3x", "1e-3x"},
    {"rtol=auto", "expected a number"},
    {"steps=2.5", "whole number"},
    {"steps=1001", "1000"},
    {"steps=", "empty"},
    {"mode=pid", "expected one of pi, i"},
    {"on=maybe", "expected yes or no"},
    {"mult=[1,65]", "64"},
    {"mult=[1,,2]", "[1,,2]"},
    {"rtoll=1", "did you mean 'rtol'"},
    {"colour=1", "expected one of rtol, first"},
    {"steps", "expected key=value"},
    {"mult=[1,2", "expected key=value"},
};

START_TEST(wrong_values_are_refused_in_a_sentence)
{
    State s;
    g_autoptr(GError) e = NULL;

    start(&s);
    ck_assert(!fm_options_parse(table, &s, wrong[_i].text, "solver 'dopri5'", &e));
    ck_assert(g_error_matches(e, FM_ERROR, FM_ERROR_OPTION));
    ck_assert_msg(strstr(e->message, wrong[_i].says) != NULL, "%s", e->message);
    ck_assert(s.rtol == 1e-5 && s.steps == 7 && s.mult.n == 3);
    fm_options_clear(table, &s);
}
END_TEST

START_TEST(specifications_are_split)
{
    char *name, *rest;

    ck_assert(fm_spec_split("mlp:width=32,src={a:b=1}", &name, &rest, NULL));
    ck_assert_str_eq(name, "mlp");
    ck_assert_str_eq(rest, "width=32,src={a:b=1}");
    g_free(name);
    g_free(rest);
    for (int i = 0; i < 3; i++) {
        static const char *const bad[] = {"", ":a=1", "mlp:a=[1"};
        g_autoptr(GError) e = NULL;

        ck_assert(!fm_spec_split(bad[i], &name, &rest, &e));
        ck_assert(g_error_matches(e, FM_ERROR, FM_ERROR_USAGE));
    }
}
END_TEST

int
main(void)
{
    return run_tests("option", 0, {defaults_are_written}, {values_are_split_at_the_outer_commas},
                     {formats_read_back_to_the_same_bits},
                     {wrong_values_are_refused_in_a_sentence, G_N_ELEMENTS(wrong)}, {specifications_are_split});
}
