"""Reference values for tests/flow/oracle_test.c: log p_t, score and velocity of the checkerboard under the
straight path, with 100 digits (mpmath), inside, near and up to 40 standard deviations outside of its squares.
    python3 tests/references/boxes.py > tests/flow/boxes_rows.h
"""
import mpmath as mp

mp.mp.dps = 100
SQUARES = [(2 * (k // 2 - 2), 2 * (2 * (k % 2) - 2 + (k // 2) % 2)) for k in range(8)]


def phi(z):
    return mp.exp(-z * z / 2) / mp.sqrt(2 * mp.pi)


def cut(x, lo, alpha, sigma):
    """Density of x = alpha b + sigma z with b uniform on [lo, lo + 2], its derivative, E b and E z given x."""
    if alpha == 0:
        z = x / sigma
        return phi(z) / sigma, -z * phi(z) / sigma**2, mp.mpf(lo + 1), z
    u, w = (x - alpha * lo) / sigma, (x - alpha * (lo + 2)) / sigma
    P = mp.ncdf(-w) - mp.ncdf(-u) if w > 0 else mp.ncdf(u) - mp.ncdf(w)
    z = (phi(w) - phi(u)) / P
    return P / (2 * alpha), (phi(u) - phi(w)) / (2 * alpha * sigma), (x - sigma * z) / alpha, z


def row(t, x):
    alpha, sigma = mp.mpf(t), 1 - mp.mpf(t)
    p, grad, flux = mp.mpf(0), [mp.mpf(0)] * 2, [mp.mpf(0)] * 2
    for lo in SQUARES:
        f = [cut(mp.mpf(x[d]), lo[d], alpha, sigma) for d in range(2)]
        p += f[0][0] * f[1][0] / 8
        for d in range(2):
            grad[d] += f[d][1] * f[1 - d][0] / 8
            flux[d] += f[0][0] * f[1][0] / 8 * (f[d][2] - f[d][3])
    return [mp.log(p), grad[0] / p, grad[1] / p, flux[0] / p, flux[1] / p]


print("/* Written by tests/references/boxes.py: t, x (2), log p_t, score (2), velocity (2). */")
print("static const double boxes_rows[][8] = {")
for t in (0.0, 0.125, 0.5, 0.875, 0.9921875):
    for sd in (-1.5, 0.25, 3, 7, 12, 40):
        out = 4 * t + sd * (1 - t)
        for x in ((out, 0.7 * t), (-0.3, -out), (-out, out + 0.25)):
            numbers = [t, *x, *row(t, x)]
            print("    {" + ", ".join(mp.nstr(mp.mpf(n), 17) for n in numbers) + "},")
print("};")
