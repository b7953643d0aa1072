/* mean.h: the mean of independent values, never without its standard error. Internal to the program. */
#ifndef FMCORE_CORE_FLOW_MEAN_H
#define FMCORE_CORE_FLOW_MEAN_H

#include <stddef.h>

typedef struct FmNumber {
    double value, se; /* se NAN: not random, or of one value alone */
} FmNumber;

/* Of v (n), by Welford's recurrence: exact to rounding also where the mean is large. */
FmNumber fm__mean(const double *v, size_t n);

#endif
