/* oracle_time.c: functions of t: a number, a name, or an expression evaluated by GNU libmatheval.
 * Integrals: Gauss-Legendre with ten points on 64 panels, exact to rounding for smooth functions. */
#include "config.h"

#include "oracle.h"

#include <math.h>
#include <string.h>
#ifdef HAVE_MATHEVAL
#include <matheval.h>
#endif

enum { PANELS = 64, POINTS = 5 }; /* POINTS: of one half, the rule is symmetric */

static const double rule_x[POINTS] = {0.1488743389816312, 0.4333953941292472, 0.6794095682990244, 0.8650633666889845,
                                      0.9739065285171717};
static const double rule_w[POINTS] = {0.2955242247147529, 0.2692667193099963, 0.2190863625159820, 0.1494513491505806,
                                      0.0666713443086881};

/* Of a panel's integral in one piece and in two: a corner leaves 1e-6 of its slope, a jump 1e-4 or more of its height.
 */
#define ROUGH 1e-5

/* The schedules of the theory's study: sin(pi t), 0.3 sin(2 pi t) + 0.2, t - 1/2. */
static const char *const names[] = {"a1", "a2", "a3"};

static double
named_value(int name, double t)
{
    return name == 0 ? sin(G_PI * t) : name == 1 ? 0.3 * sin(2.0 * G_PI * t) + 0.2 : t - 0.5;
}

static double
named_integral(int name, double t)
{
    return name == 0   ? (1.0 - cos(G_PI * t)) / G_PI
           : name == 1 ? 0.3 * (1.0 - cos(2.0 * G_PI * t)) / (2.0 * G_PI) + 0.2 * t
                       : 0.5 * t * (t - 1.0);
}

#ifdef HAVE_MATHEVAL
static GMutex matheval_lock; /* its evaluators keep the values of variables */

static double
expression_value(void *expression, double t)
{
    char *variables[] = {(char *)"t", (char *)"a1", (char *)"a2", (char *)"a3"};
    double values[] = {t, named_value(0, t), named_value(1, t), named_value(2, t)};

    g_mutex_lock(&matheval_lock);
    const double y = evaluator_evaluate(expression, 4, variables, values);
    g_mutex_unlock(&matheval_lock);
    return y;
}

static gboolean
expression_init(OracleFunction *f, const char *text, GError **error)
{
    g_autofree char *copy = g_strdup(text);
    char **variables = NULL;
    int n = 0;

    g_mutex_lock(&matheval_lock);
    if (text[strspn(text, G_CSET_a_2_z G_CSET_A_2_Z G_CSET_DIGITS "_.+-*/^() ")] == '\0') /* it prints others */
        f->expression = evaluator_create(copy);
    if (f->expression)
        evaluator_get_variables(f->expression, &variables, &n);
    g_mutex_unlock(&matheval_lock);
    if (!f->expression) {
        g_set_error(error, FM_ERROR, FM_ERROR_OPTION,
                    "net 'oracle': option '%s' is '%s', expected a number, a1, a2, a3 or an "
                    "expression of t such as 0.7*cos(3*t)-0.2",
                    f->option, text);
        return FALSE;
    }
    for (int i = 0; i < n; i++)
        if (strcmp(variables[i], "t") != 0 && strcmp(variables[i], "a1") != 0 && strcmp(variables[i], "a2") != 0 &&
            strcmp(variables[i], "a3") != 0) {
            g_set_error(error, FM_ERROR, FM_ERROR_OPTION,
                        "net 'oracle': option '%s' is '%s' with the variable '%s', expected t (and "
                        "a1, a2, a3) alone",
                        f->option, text, variables[i]);
            return FALSE;
        }
    return TRUE;
}
#else
static double
expression_value(void *expression, double t)
{
    return NAN;
}

static gboolean
expression_init(OracleFunction *f, const char *text, GError **error)
{
    g_set_error(error, FM_ERROR, FM_ERROR_UNSUPPORTED,
                "net 'oracle': option '%s' is '%s', and this build knows numbers, a1, a2 and a3 "
                "only: expressions need GNU libmatheval when fmcore is configured",
                f->option, text);
    return FALSE;
}
#endif

double
oracle_function_value(const OracleFunction *f, double t)
{
    return f->expression ? expression_value(f->expression, t) : f->name >= 0 ? named_value(f->name, t) : f->constant;
}

static double
integrate(const OracleFunction *f, double from, double to)
{
    const double middle = 0.5 * (from + to), half = 0.5 * (to - from);
    double sum = 0.0;

    for (int i = 0; i < POINTS; i++)
        sum += rule_w[i] * (oracle_function_value(f, middle - half * rule_x[i]) +
                            oracle_function_value(f, middle + half * rule_x[i]));
    return sum * half;
}

double
oracle_function_integral(const OracleFunction *f, double t)
{
    if (!f->expression)
        return f->name >= 0 ? named_integral(f->name, t) : f->constant * t;
    const int panel = CLAMP((int)(t * PANELS), 0, PANELS - 1);
    return f->integral[panel] + integrate(f, (double)panel / PANELS, t);
}

gboolean
oracle_function_is(const OracleFunction *f, double constant)
{
    return !f->expression && f->name < 0 && f->constant == constant;
}

gboolean
oracle_function_init(OracleFunction *f, const char *option, const char *text, gboolean integral, GError **error)
{
    char *end = NULL;

    oracle_function_clear(f);
    f->option = option;
    f->name = -1;
    text = text != NULL ? text : ""; /* an option of no characters */
    f->constant = g_ascii_strtod(text, &end);
    if (end == text || *end) {
        for (int i = 0; i < (int)G_N_ELEMENTS(names); i++)
            if (strcmp(text, names[i]) == 0)
                f->name = i;
        if (f->name < 0 && !expression_init(f, text, error))
            return FALSE;
    }
    for (int i = 0; i <= PANELS; i++)
        if (!isfinite(oracle_function_value(f, (double)i / PANELS))) {
            g_set_error(error, FM_ERROR, FM_ERROR_OPTION,
                        "net 'oracle': option '%s' is '%s', which is %g at t = %g, expected finite "
                        "values on [0, 1]",
                        option, text, oracle_function_value(f, (double)i / PANELS), (double)i / PANELS);
            return FALSE;
        }
    if (!integral || !f->expression)
        return TRUE;
    f->integral = g_new0(double, PANELS + 1);
    for (int i = 0; i < PANELS; i++) {
        const double from = (double)i / PANELS, to = (double)(i + 1) / PANELS, middle = 0.5 * (from + to),
                     halves = integrate(f, from, middle) + integrate(f, middle, to);

        f->integral[i + 1] = f->integral[i] + halves;
        if (fabs(halves - integrate(f, from, to)) <= ROUGH * (1.0 + fabs(halves) * PANELS))
            continue;
        g_set_error(error, FM_ERROR, FM_ERROR_OPTION,
                    "net 'oracle': option '%s' is '%s', which jumps or grows without bound near t = %.2g, expected a "
                    "continuous function on [0, 1]",
                    option, text, middle);
        return FALSE;
    }
    return TRUE;
}

void
oracle_function_clear(OracleFunction *f)
{
#ifdef HAVE_MATHEVAL
    if (f->expression)
        evaluator_destroy(f->expression);
#endif
    g_free(f->integral);
    *f = (OracleFunction){.name = -1};
}
