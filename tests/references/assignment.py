#!/usr/bin/env python3
"""Optimal costs of assignment problems by scipy, for tests/plugins/coupling/coupling_test.c.

The costs come from a 64-bit linear congruential generator that the test repeats. Needs scipy."""
import numpy as np
from scipy.optimize import linear_sum_assignment

MASK = (1 << 64) - 1


def uniforms(seed, count):
    state, out = seed, np.empty(count)
    for i in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) & MASK
        out[i] = (state >> 11) / 2.0**53
    return out


def costs(kind, n, seed):
    if kind == "uniform":
        return uniforms(seed, n * n).reshape(n, n)
    if kind == "digits":
        return np.floor(10 * uniforms(seed, n * n)).reshape(n, n)
    u = uniforms(seed, 4 * n)
    x, y = u[: 2 * n].reshape(n, 2), 0.5 + 3 * u[2 * n :].reshape(n, 2) ** 2
    return ((x[:, None] - y[None]) ** 2).sum(-1)


print("/* Written by tests/references/assignment.py (scipy %s). */" % __import__("scipy").__version__)
for kind in ("uniform", "digits", "points"):
    for n in (3, 16, 37, 128, 256):
        c = costs(kind, n, 1000 + n)
        i, j = linear_sum_assignment(c)
        print('    {"%s", %d, %.17g},' % (kind, n, c[i, j].sum()))
