/* stepper_kernels.c: the stepper's arithmetic in float and in double, from one text. */
#include "flow/stepper.h"

#include <fmcore/cpu.h>
#include <math.h>
#include <string.h>

#define T float
#define K(name) name##_f32
#define ANY(name) name##_f32_any
#define VARIANTS(name, params, args) FM_CPU_VARIANTS(name##_f32, params, args)
#define MAGNITUDE fabsf
#include "flow/stepper_kernels.h"
#undef T
#undef K
#undef ANY
#undef VARIANTS
#undef MAGNITUDE

#define T double
#define K(name) name##_f64
#define ANY(name) name##_f64_any
#define VARIANTS(name, params, args) FM_CPU_VARIANTS(name##_f64, params, args)
#define MAGNITUDE fabs
#include "flow/stepper_kernels.h"
#undef T
#undef K
#undef ANY
#undef VARIANTS
#undef MAGNITUDE

const FmStepKernels fm__step_kernels_f32 = {
    .spread = spread_f32,
    .combine = combine_f32,
    .ratio = ratio_f32,
    .scaled = scaled_f32,
    .squares = squares_f32,
    .finite = finite_f32,
    .hermite = hermite_f32,
};

const FmStepKernels fm__step_kernels_f64 = {
    .spread = spread_f64,
    .combine = combine_f64,
    .ratio = ratio_f64,
    .scaled = scaled_f64,
    .squares = squares_f64,
    .finite = finite_f64,
    .hermite = hermite_f64,
};
