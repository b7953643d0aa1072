/* kind.c: the kinds of plugins and which slots each must fill. */
#include "plugin/instance.h"

#include <fmcore/fmcore.h>
#include <string.h>

#define END G_MAXSIZE

static const size_t dataset_required[] = {offsetof(FmDatasetOps, open), END};
static const size_t dataset_one_of[] = {offsetof(FmDatasetOps, read), offsetof(FmDatasetOps, draw), END};
static const size_t coupling_required[] = {offsetof(FmCouplingOps, pair), END};
static const size_t path_required[] = {END};
static const size_t path_one_of[] = {offsetof(FmPathOps, coefficients), offsetof(FmPathOps, sample), END};
static const size_t net_required[] = {END};
static const size_t net_one_of[] = {offsetof(FmNetOps, velocity), offsetof(FmNetOps, inverse), END};
static const size_t objective_required[] = {offsetof(FmObjectiveOps, loss), END};
static const size_t optimizer_required[] = {offsetof(FmOptimizerOps, update), END};
static const size_t solver_required[] = {offsetof(FmSolverOps, tableau), END};
static const size_t divergence_required[] = {offsetof(FmDivergenceOps, estimate), END};
static const size_t backend_required[] = {offsetof(FmBackendOps, lookup), END};

static const FmKindInfo kinds[FM_N_KINDS] = {
    [FM_KIND_DATASET] = {"dataset", sizeof(FmDatasetOps), dataset_required, dataset_one_of, FALSE,
                         offsetof(FmDatasetOps, clear)},
    [FM_KIND_COUPLING] = {"coupling", sizeof(FmCouplingOps), coupling_required, NULL, FALSE,
                          offsetof(FmCouplingOps, clear)},
    [FM_KIND_PATH] = {"path", sizeof(FmPathOps), path_required, path_one_of, TRUE, offsetof(FmPathOps, clear)},
    [FM_KIND_NET] = {"net", sizeof(FmNetOps), net_required, net_one_of, FALSE, offsetof(FmNetOps, clear)},
    [FM_KIND_OBJECTIVE] = {"objective", sizeof(FmObjectiveOps), objective_required, NULL, FALSE,
                           offsetof(FmObjectiveOps, clear)},
    [FM_KIND_OPTIMIZER] = {"optimizer", sizeof(FmOptimizerOps), optimizer_required, NULL, FALSE,
                           offsetof(FmOptimizerOps, clear)},
    [FM_KIND_SOLVER] = {"solver", sizeof(FmSolverOps), solver_required, NULL, FALSE, END},
    [FM_KIND_DIVERGENCE] = {"divergence", sizeof(FmDivergenceOps), divergence_required, NULL, FALSE,
                            offsetof(FmDivergenceOps, clear)},
    [FM_KIND_BACKEND] = {"backend", sizeof(FmBackendOps), backend_required, NULL, FALSE, offsetof(FmBackendOps, clear)},
};

const FmKindInfo *
fm__kind_info(FmKind kind)
{
    g_return_val_if_fail((unsigned)kind < FM_N_KINDS, NULL);
    return &kinds[kind];
}

const char *
fm_kind_name(FmKind kind)
{
    return (unsigned)kind < FM_N_KINDS ? kinds[kind].name : NULL;
}

int
fm_kind_from_name(const char *name)
{
    for (int k = 0; k < FM_N_KINDS; k++)
        if (strcmp(kinds[k].name, name) == 0)
            return k;
    return -1;
}

const char *
fm_version(void)
{
    return FM_VERSION;
}
