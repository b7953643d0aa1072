/* finite.h: the exact field of a finite data set as a run trains on it: its training rows, each class its
 * own where the net takes labels, as points, or as boxes where quantised values are dequantised by uniform noise.
 * Everything in double and in the model's units. Internal to the program. */
#ifndef FMCORE_CORE_FLOW_FINITE_H
#define FMCORE_CORE_FLOW_FINITE_H

#include "flow/run.h"

typedef struct FmFinite FmFinite;
typedef struct FmFiniteWorker FmFiniteWorker;

/* The rows of the run's training split, or all of them for a net without weights. The run is borrowed. Errors:
 * FM_ERROR_UNSUPPORTED for more than 2^26 numbers and for images that are mirrored at random; FM_ERROR_DATA,
 * FM_ERROR_MEMORY. */
FmFinite *fm_finite_new(const FmRun *run, GError **error);
void fm_finite_free(FmFinite *finite); /* NULL allowed */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FmFinite, fm_finite_free)

const FmRun *fm__finite_run(const FmFinite *finite); /* borrowed */

/* Multiplications, or what takes their time, that the field at one point costs. */
double fm_finite_work(const FmFinite *finite);

/* x (n, D) with dequantisation noise and y (n): -1 where the label is dropped or the net takes none. Rows are
 * drawn with replacement. */
void fm__finite_draw(const FmFinite *finite, FmKey key, size_t n, double *x, gint32 *y);

FmFiniteWorker *fm__finite_worker_new(const FmFinite *finite, GError **error);
void fm__finite_worker_free(FmFiniteWorker *worker); /* NULL allowed */

/* v (n, D) at x (n, D), times t (n) and labels y (n), under the run's path, which must be affine. */
void fm__finite_velocity(const FmFinite *finite, FmFiniteWorker *own, size_t n, const double *x, const double *t,
                         const gint32 *y, double *v);

#endif
