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

double
fm__t975(size_t df)
{
    static const double few[] = {12.70620, 4.30265, 3.18245, 2.77645, 2.57058,
                                 2.44691,  2.36462, 2.30600, 2.26216, 2.22814};
    const double z = 1.959963984540054, y = z * z, v = 1.0 / (double)df;

    if (df <= sizeof few / sizeof *few)
        return few[df - 1];
    return z * (1.0 + v * ((y + 1.0) / 4.0 + v * (((5.0 * y + 16.0) * y + 3.0) / 96.0 +
                                                  v * (((3.0 * y + 19.0) * y + 17.0) * y - 15.0) / 384.0)));
}
