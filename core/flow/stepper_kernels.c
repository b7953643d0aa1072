/* stepper_kernels.c: the stepper's arithmetic in float and in double, from one text. */
#include "flow/stepper.h"

#include <math.h>
#include <string.h>

#define T float
#define K(name) name##_f32
#define MAGNITUDE fabsf
#include "flow/stepper_kernels.h"
#undef T
#undef K
#undef MAGNITUDE

#define T double
#define K(name) name##_f64
#define MAGNITUDE fabs
#include "flow/stepper_kernels.h"
#undef T
#undef K
#undef MAGNITUDE

const FmStepKernels fm__step_kernels_f32 = {
    .combine = combine_f32,
    .error = error_f32,
    .norm = norm_f32,
    .finite = finite_f32,
    .hermite = hermite_f32,
};

const FmStepKernels fm__step_kernels_f64 = {
    .combine = combine_f64,
    .error = error_f64,
    .norm = norm_f64,
    .finite = finite_f64,
    .hermite = hermite_f64,
};
