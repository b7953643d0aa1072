/* outcome.h: one experiment, and everything that it has to tell, whether finished or interrupted. */
#ifndef FMCORE_CORE_CLI_OUTCOME_H
#define FMCORE_CORE_CLI_OUTCOME_H

#include "cli/cli.h"

typedef struct Outcome {
    FmTrainResult train;
    gboolean trained, sampled;
    size_t n_samples;
    double *samples;
    double sample_seconds;
    FmSolveSummary summary;
    GArray *metrics;
    GPtrArray *files;
} Outcome;

void outcome_init(Outcome *o);
void outcome_clear(Outcome *o);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Outcome, outcome_clear)

/* The members "config", "net", "train", "sample", "metrics" and "files". */
void outcome_json(JsonBuilder *b, FmRun *run, Outcome *o);

/* A fresh run of `config` that can do all it will be asked for: no directory yet. */
FmRun *experiment_new(const FmConfig *config, GError **error);

/* Train, sample, evaluate and write the run's directory, but for the report. An interrupt ends it
 * early with what is known. */
gboolean experiment(Cli *cli, FmRun *run, Outcome *o, GError **error);

/* Several experiments: the axes' values times the seeds. The exit status; negative: *error. */
int compare_runs(Cli *cli, GError **error);

#endif
