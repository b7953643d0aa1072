#!/usr/bin/env python3
"""Tails of chi-squared and Kolmogorov distributions by scipy, for tests/flow/latent_test.c."""
import scipy
from scipy import stats

print("/* Written by tests/references/latent.py (scipy %s). */" % scipy.__version__)
for degrees, x in ((1, 0.3), (2, 3.7), (3, 40.0), (10, 2.5), (10, 25.0), (784, 700.0), (784, 850.5), (10000, 10123.0),
                   (2e6, 1.998e6), (2e6, 2.003e6)):
    print("    {%.17g, %.17g, %.15g}," % (degrees, x, stats.chi2.sf(x, degrees)))
for n, d in ((50, 0.05), (50, 0.11), (50, 0.2), (200, 0.04), (200, 0.07), (200, 0.12), (5000, 0.0105), (5000, 0.02)):
    print("    {%d, %.17g, %.15g}," % (n, d, stats.kstwo.sf(d, n)))
