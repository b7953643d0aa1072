/* state.h: the state of a training and its files, rows of splits; shared inside core/flow. */
#ifndef FMCORE_CORE_FLOW_STATE_H
#define FMCORE_CORE_FLOW_STATE_H

#include "flow/run.h"

/* ---- splits of finite data ---- */

typedef enum FmSplit { FM__SPLIT_TRAIN, FM__SPLIT_VALID, FM__SPLIT_TEST, FM__SPLIT_ALL } FmSplit;

/* Rows of each split: a data set's own test rows are its last; else a tenth, chosen by a keyed
 * permutation, is the test split. The validation split is a twentieth of what is left to train. */
void fm__run_split(FmRun *run);
/* The data set's row behind row i of a split; i below the split's size. */
size_t fm__run_row(const FmRun *run, FmSplit split, guint64 i);

/* ---- training ---- */

/* Everything an exact resume needs; random numbers are functions of `step`. */
typedef struct FmTrainState {
    guint64 step, skipped, bad; /* bad: skipped steps in a row */
    double loss_first;
    FmParams *raw; /* weights under training; owned */
    int n_moments;
    void *moment[4]; /* like raw's trainable part; owned */
} FmTrainState;

FmTrainState *fm__train_state_new(const FmRun *run, GError **error);
void fm__train_state_free(FmTrainState *state); /* NULL allowed */

/* checkpoint.safetensors in run->dir. */
gboolean fm__checkpoint_save(const FmRun *run, const FmTrainState *state, GError **error);
gboolean fm__checkpoint_load(FmRun *run, FmTrainState *state, GError **error);

/* model.safetensors in run->dir: weights and metadata. */
gboolean fm__model_save(const FmRun *run, GError **error);
/* What the metadata of dir/model.safetensors say about data and standardisation. */
gboolean fm__model_load_info(FmRun *run, GError **error);
/* The most weights that a file can hold. */
gboolean fm__model_room(const char *file, size_t *weights, GError **error);
gboolean fm__model_load_weights(FmRun *run, const char *file, gboolean foreign, GError **error);

#endif
