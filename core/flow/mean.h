/* mean.h: the mean of independent values, never without its standard error. Internal to the program. */
#ifndef FMCORE_CORE_FLOW_MEAN_H
#define FMCORE_CORE_FLOW_MEAN_H

#include <stddef.h>

typedef struct FmNumber {
    double value, se; /* se NAN: not random, or of one value alone */
} FmNumber;

/* Of v (n), by Welford's recurrence: exact to rounding also where the mean is large. */
FmNumber fm__mean(const double *v, size_t n);

/* 97.5 % point of Student's t with df >= 1 degrees of freedom, to 1e-4; a table up to 10, beyond it the expansion
 * in 1 / df (Abramowitz & Stegun 1964, 26.7.5). */
double fm__t975(size_t df);

#endif
