/* mean.c: Welford 1962, doi:10.1080/00401706.1962.10490022. */
#include "flow/mean.h"

#include <math.h>

FmNumber
fm__mean(const double *v, size_t n)
{
    double mean = 0.0, m2 = 0.0;

    for (size_t i = 0; i < n; i++) {
        const double delta = v[i] - mean;

        mean += delta / (double)(i + 1);
        m2 += delta * (v[i] - mean);
    }
    return (FmNumber){mean, n > 1 ? sqrt(m2 / (double)(n - 1) / (double)n) : NAN};
}
