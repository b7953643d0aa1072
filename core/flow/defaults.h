/* defaults.h: defaults of a configuration, for the other files of core/flow. */
#ifndef FMCORE_CORE_FLOW_DEFAULTS_H
#define FMCORE_CORE_FLOW_DEFAULTS_H

#include "flow/run.h"

/* Name the data set and the net where the user named none, so that the data can be opened: a net
 * for images brings the default images, anything else the default vectors. */
void fm__config_choose_dataset(FmConfig *config);

/* Fill everything still unset from the defaults of data of this shape. */
void fm__config_resolve(FmConfig *config, const FmDataInfo *data);

/* The objective of a net without velocity, which is trained by likelihood. */
void fm__config_choose_objective(FmConfig *config, gboolean has_velocity);

/* Take over the fields that `wanted` was given and that may change after training began; `force`
 * allows more of them. FM_ERROR_USAGE names the first that may not. */
gboolean fm__config_override(FmConfig *own, const FmConfig *wanted, gboolean force, GError **error);

#endif
