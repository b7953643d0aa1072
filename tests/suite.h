/* suite.h: what every test program begins and ends with. */
#ifndef FMCORE_TESTS_SUITE_H
#define FMCORE_TESTS_SUITE_H

#include <check.h>

/* Run the suite and free it: the program's exit status. CK_FORK gives every test a process of its own, unless
 * CK_FORK=no in the environment says otherwise; CK_NOFORK is for tests whose threads do not survive a fork. */
static inline int
run_suite(Suite *suite, enum fork_status mode)
{
    SRunner *runner = srunner_create(suite);
    int failed;

    if (mode == CK_NOFORK)
        srunner_set_fork_status(runner, mode);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}

/* A test, and how often it runs, with _i from 0 to n - 1; n = 0: once. */
typedef struct SuiteTest {
    const TTest *test;
    int n;
} SuiteTest;

/* A suite of one case; each test has `timeout` seconds (0: Check's own 4). tests: {NULL} closes. */
static inline Suite *
suite_of(const char *name, double timeout, const SuiteTest *tests)
{
    Suite *suite = suite_create(name);
    TCase *tcase = tcase_create(name);

    if (timeout > 0)
        tcase_set_timeout(tcase, timeout);
    for (; tests->test; tests++)
        tcase_add_loop_test(tcase, tests->test, 0, tests->n > 0 ? tests->n : 1);
    suite_add_tcase(suite, tcase);
    return suite;
}

/* run_tests("name", seconds, {test}, {looped_test, n}, ...): the whole of a main(). */
#define run_tests(name, timeout, ...) \
    run_suite(suite_of(name, timeout, (const SuiteTest[]){__VA_ARGS__, {NULL, 0}}), CK_FORK)

#endif
