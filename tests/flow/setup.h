/* setup.h: a run in memory, as the tests of measurement need them. */
#ifndef FMCORE_TESTS_FLOW_SETUP_H
#define FMCORE_TESTS_FLOW_SETUP_H

#include "flow/run.h"

#include <check.h>

/* Fails the test when the run cannot be opened; path NULL: the default. The caller owns it. */
static inline FmRun *
setup_run(const char *net, const char *dataset, const char *path, const char *solver, FmDtype dtype)
{
    g_autoptr(FmConfig) c = fm_config_new();
    g_autoptr(GError) error = NULL;

    c->spec[FM_KIND_NET] = g_strdup(net);
    c->spec[FM_KIND_DATASET] = g_strdup(dataset);
    c->spec[FM_KIND_PATH] = g_strdup(path);
    c->spec[FM_KIND_SOLVER] = g_strdup(solver);
    c->dtype = dtype;
    c->threads = 2;
    FmRun *run = fm_run_new(c, &error);
    ck_assert_msg(run != NULL, "%s", error ? error->message : "");
    return run;
}

/* A flow over such a run in double. */
typedef struct Setup {
    FmRun *run;
    FmFlow *flow;
} Setup;

static inline Setup
setup_flow_by(const char *solver, const char *net, const char *dataset, const char *path)
{
    g_autoptr(GError) error = NULL;
    Setup s = {setup_run(net, dataset, path, solver, FM_F64), NULL};

    s.flow = fm_flow_from_run(s.run, &error);
    ck_assert_msg(s.flow != NULL, "%s", error ? error->message : "");
    return s;
}

/* With a tight solver. */
static inline Setup
setup_flow(const char *net, const char *dataset, const char *path)
{
    return setup_flow_by("dopri5:rtol=1e-9,atol=1e-9", net, dataset, path);
}

static inline void
setup_clear(Setup *s)
{
    g_clear_pointer(&s->flow, fm_flow_free);
    g_clear_pointer(&s->run, fm_run_free);
}

#endif
