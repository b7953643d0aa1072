"""Coefficients of 2^f on [-1/2, 1/2] (plugins/backend/cpu/math_f32.inc): 1 + f q(f), q of degree 5, whose largest
relative error is least (Lawson's weights), and the error of its evaluation in float."""
import numpy as np

DEGREE = 6

f = 0.5 * np.cos(np.linspace(0, np.pi, 2000))
y = 2.0**f
basis = np.vander(f, DEGREE + 1, increasing=True)[:, 1:] / y[:, None]
goal = (y - 1) / y
weight = np.ones_like(f)
for _ in range(3000):
    root = np.sqrt(weight)
    q = np.linalg.lstsq(basis * root[:, None], goal * root, rcond=None)[0]
    error = np.abs(basis @ q - goal)
    weight *= error
    weight /= weight.sum()
print("largest relative error", error.max())
print("highest power first", [float(np.float32(c)) for c in q[::-1]])

f = np.linspace(-0.5, 0.5, 200001).astype(np.float32)
p = np.zeros_like(f)
for c in np.float32(np.append(q[::-1], 1.0)):
    p = (p.astype(np.float64) * f + c).astype(np.float32)
print("in float", np.max(np.abs(p / 2.0 ** f.astype(np.float64) - 1)))
