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

#endif
