/* study_kl.h: what the studies of the KL identity and bound share. */
#ifndef FMCORE_CORE_CLI_STUDY_KL_H
#define FMCORE_CORE_CLI_STUDY_KL_H

#include "cli/kl.h"
#include "cli/study.h"

#define STUDY_KL_SOLVER "dopri8:rtol=1e-8,atol=1e-8"
/* For nets, which are solved back and forth from every time: a quarter fewer steps, residuals still far below 1e-6. */
#define STUDY_KL_SOLVER_NET "dopri8:rtol=1e-7,atol=1e-7"

/* A fresh run of `net` on `dataset` in double, with --steps, --batch-size and --lr where given. */
FmRun *study_kl_run(const Study *s, const char *net, const char *dataset, gint64 steps, GError **error);

#endif
