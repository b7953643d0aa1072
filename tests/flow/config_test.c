/* config_test.c: text form of a configuration, its errors, the schedule and the EMA's warm-up. */
#include "suite.h"
#include "flow/run.h"
#include "flow/schedule.h"

#include <math.h>
#include <string.h>

START_TEST(config_round_trip)
{
    g_autoptr(FmConfig) a = fm_config_new(), b = fm_config_new();
    g_autoptr(GError) error = NULL;

    a->spec[FM_KIND_DATASET] = g_strdup("mixture:k=3,means=[1,2,3],noise=0.25");
    a->spec[FM_KIND_NET] = g_strdup("mlp:width=32,depth=2");
    a->source = g_strdup("8gaussians");
    g_ptr_array_add(a->divergences, g_strdup("knn-kl:k=7"));
    g_ptr_array_add(a->divergences, g_strdup("mmd"));
    a->steps = 2385;
    a->lr = 0.1 + 0.2;
    a->ema_decay = 0.004;
    a->schedule = FM_SCHEDULE_LINEAR;
    a->dtype = FM_F64;
    a->seed = 41;
    a->conditional = 1;
    a->likelihood = g_strdup("hutchinson:probe=gaussian,probes=3");
    g_autofree char *first = fm_config_format(a);
    ck_assert_ptr_nonnull(strstr(first, "\nema_decay=0.004\n")); /* the shortest text */
    ck_assert_msg(fm_config_parse(b, first, "test", &error), "%s", error ? error->message : "");
    g_autofree char *second = fm_config_format(b);
    ck_assert_str_eq(first, second);
    ck_assert_str_eq(b->spec[FM_KIND_DATASET], a->spec[FM_KIND_DATASET]);
    ck_assert_str_eq(b->likelihood, a->likelihood);
    ck_assert_uint_eq(b->divergences->len, 2);
    ck_assert(b->lr == a->lr && b->steps == 2385 && b->dtype == FM_F64 && b->batch_size < 0);
    g_autoptr(FmConfig) c = fm_config_copy(b);
    g_autofree char *third = fm_config_format(c);
    ck_assert_str_eq(first, third);
}
END_TEST

static const char *const config_wrong[] = {
    "[train]\nsteps=-4\n",    "[train]\nsteps=4x\n", "[train]\nstepps=4\n", "[nonsense]\na=1\n",  "[net]\nwidth=3\n",
    "[train]\nschedule=up\n", "no section\n",        "[train]\nlr=nan\n",   "[run]\ndtype=f16\n", "[run]\nthreads=0\n"};

START_TEST(config_refuses)
{
    g_autoptr(FmConfig) c = fm_config_new();
    g_autoptr(GError) error = NULL;

    ck_assert(!fm_config_parse(c, config_wrong[_i], "test", &error));
    ck_assert(g_error_matches(error, FM_ERROR, FM_ERROR_USAGE));
}
END_TEST

START_TEST(schedule_values)
{
    ck_assert_double_eq_tol(fm__schedule_factor(FM_SCHEDULE_COSINE, 0, 1000, 300), 1.0 / 300, 1e-15);
    ck_assert_double_eq_tol(fm__schedule_factor(FM_SCHEDULE_COSINE, 299, 1000, 300), 1.0, 1e-15);
    ck_assert_double_eq_tol(fm__schedule_factor(FM_SCHEDULE_COSINE, 650, 1000, 300), 0.5, 1e-15);
    ck_assert_double_eq_tol(fm__schedule_factor(FM_SCHEDULE_COSINE, 1000, 1000, 300), 0.0, 1e-15);
    ck_assert_double_eq_tol(fm__schedule_factor(FM_SCHEDULE_LINEAR, 475, 1000, 300), 0.75, 1e-15);
    ck_assert_double_eq_tol(fm__schedule_factor(FM_SCHEDULE_CONSTANT, 999, 1000, 0), 1.0, 1e-15);
    ck_assert_double_eq_tol(fm__ema_decay(0.999, 0), 0.1, 1e-15);
    ck_assert_double_eq_tol(fm__ema_decay(0.999, 90), 0.91, 1e-15);
    ck_assert_double_eq_tol(fm__ema_decay(0.999, 100000), 0.999, 1e-15);
}
END_TEST

int
main(void)
{
    return run_tests("config", 0, {config_round_trip}, {config_refuses, (int)G_N_ELEMENTS(config_wrong)},
                     {schedule_values});
}
