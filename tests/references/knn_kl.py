#!/usr/bin/env python3
"""knn-kl by scipy's cKDTree, for tests/plugins/divergence/divergence_test.c.

The points come from a 64-bit linear congruential generator that the test repeats. Needs scipy."""
import numpy as np
import scipy
from scipy.spatial import cKDTree

MASK = (1 << 64) - 1


def uniforms(seed, count):
    state, out = seed, np.empty(count)
    for i in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) & MASK
        out[i] = (state >> 11) / 2.0**53
    return out


print("/* Written by tests/references/knn_kl.py (scipy %s). */" % scipy.__version__)
for d in (1, 2, 8, 10, 50):
    for k in (1, 5):
        n, m = 700, 611
        x = uniforms(d, n * d).reshape(n, d) ** 2
        y = uniforms(99 + d, m * d).reshape(m, d)
        rho = cKDTree(x).query(x, k + 1)[0][:, k]
        nu = cKDTree(y).query(x, [k])[0][:, 0]
        print("    {%d, %d, %.15g}," % (d, k, d * np.mean(np.log(nu / rho)) + np.log(m / (n - 1))))
