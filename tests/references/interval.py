#!/usr/bin/env python3
"""Intervals of fm_estimate_interval() by scipy's noncentral chi-squared law, for interval_test.c: scale, degrees of
freedom, value in standard deviations at P = Q, and both ends in these."""
import scipy
from scipy.optimize import brentq
from scipy.stats import chi2, ncx2


def truth(v, s, f, share):
    """The T >= 0 at which the chance of less than v is `share`; 0 when it is smaller for all."""
    def gap(T):
        return (ncx2.cdf(v / s + f, f, T / s) if T > 0 else chi2.cdf(v / s + f, f)) - share

    return 0.0 if gap(0.0) <= 0 else brentq(gap, 0.0, 1e4, xtol=1e-12)


print("/* Written by tests/references/interval.py (scipy %s). */" % scipy.__version__)
for s, f in ((1, 1.5), (1, 5), (0.5, 20), (0.1, 65)):
    sd = (2 * s * s * f) ** 0.5
    for k in (-0.3, 0, 1, 2.5, 6, 15):
        always = truth(-0.5 * sd, s, f, 0.025)
        low = max(truth(k * sd, s, f, 0.975), min(truth(k * sd, s, f, 0.95), always))
        print("    {%g, %g, %g, %.5f, %.5f}," % (s, f, k, low / sd, truth(max(k, -0.5) * sd, s, f, 0.025) / sd))
