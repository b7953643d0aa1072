"""Rounding of 3 x 3 convolutions in float by Winograd's transforms F(4x4, 3x3), beside nine plain sums.

Prints the rms error over the standard deviation of the result for several sets of points 0, +-a, +-b, infinity, and
for F(2x2, 3x3): plugins/backend/cpu/winograd.c. Needs numpy.
"""
import numpy as np

CHANNELS, PATCHES, FILTERS = 32, 200, 16


def cook_toom(a, b):
    """B^T (6, 6), G (6, 3), A^T (4, 6) for the points 0, a, -a, b, -b and infinity (arXiv:1509.09308)."""
    points = [0, a, -a, b, -b]
    bt, g, at = np.zeros((6, 6)), np.zeros((6, 3)), np.zeros((4, 6))
    for i, p in enumerate(points):
        others = [q for q in points if q != p]
        bt[i, :5] = np.poly(others)[::-1]
        g[i] = np.array([1, p, p * p]) / np.prod([p - q for q in others])
        at[:, i] = [p**k for k in range(4)]
    bt[5], g[5], at[3, 5] = np.poly(points)[::-1], [0, 0, 1], 1
    return bt, g, at


def small():
    """The same of F(2x2, 3x3)."""
    return (np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1.0]]),
            np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]),
            np.array([[1, 1, 1, 0], [0, 1, -1, -1.0]]))


def both_sides(t, x):
    """t x t^T over the last two axes, in float."""
    half = np.einsum("ab,nkbd->nkad", t.astype(np.float32), x).astype(np.float32)
    return np.einsum("nkad,ed->nkae", half, t.astype(np.float32)).astype(np.float32)


def errors(bt, g, at, random):
    """Rms errors of the transforms and of plain sums in float."""
    x = random.normal(size=(PATCHES, CHANNELS) + bt.shape).astype(np.float32)
    w = random.normal(size=(FILTERS, CHANNELS, 3, 3)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
    exact = np.einsum("ncijkl,ockl->noij", windows.astype(float), w.astype(float))
    u, v = both_sides(g, w), both_sides(bt, x)
    m = np.zeros((PATCHES, FILTERS) + bt.shape, np.float32)
    plain = np.zeros(exact.shape, np.float32)
    for c in range(CHANNELS):
        m += v[:, None, c] * u[None, :, c]
        for k in range(3):
            for l in range(3):
                plain += windows[:, None, c, :, :, k, l] * w[None, :, c, None, None, k, l]
    y = both_sides(at, m)
    return [np.sqrt(np.mean((z - exact) ** 2)) / exact.std() for z in (y, plain)]


if __name__ == "__main__":
    generator = np.random.default_rng(0)
    print("F(2x2, 3x3): %.1e, plain sums %.1e" % tuple(errors(*small(), generator)))
    for a, b in ((1, 2), (1, 0.5), (0.5**0.5, 2**0.5), (0.75, 1.35)):
        print("F(4x4, 3x3), 0, +-%.3g, +-%.3g: %.1e, plain sums %.1e" % (a, b, *errors(*cook_toom(a, b), generator)))
