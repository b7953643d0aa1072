/* fmcore.h: everything a plugin or an embedding program may use. */
#ifndef FMCORE_FMCORE_H
#define FMCORE_FMCORE_H

#include <fmcore/array.h>
#include <fmcore/backend.h>
#include <fmcore/coupling.h>
#include <fmcore/cpu.h>
#include <fmcore/dataset.h>
#include <fmcore/divergence.h>
#include <fmcore/error.h>
#include <fmcore/features.h>
#include <fmcore/ffi.h>
#include <fmcore/flow.h>
#include <fmcore/graph.h>
#include <fmcore/io.h>
#include <fmcore/layer.h>
#include <fmcore/neighbours.h>
#include <fmcore/net.h>
#include <fmcore/objective.h>
#include <fmcore/optimizer.h>
#include <fmcore/option.h>
#include <fmcore/path.h>
#include <fmcore/plan.h>
#include <fmcore/plugin.h>
#include <fmcore/random.h>
#include <fmcore/solver.h>

/* "0.1.0" */
const char *fm_version(void);

#endif
