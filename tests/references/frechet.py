#!/usr/bin/env python3
"""Frechet distances by scipy's sqrtm and activations by PyTorch, for
tests/plugins/divergence/frechet_test.c.

Data and weights come from the linear congruential generator of knn_kl.py, which the test repeats.
Needs numpy, scipy and torch."""
import numpy as np
import scipy
import torch
from scipy.linalg import sqrtm

MASK = (1 << 64) - 1


def uniforms(seed, *shape):
    count = int(np.prod(shape))
    state, out = seed, np.empty(count)
    for i in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) & MASK
        out[i] = (state >> 11) / 2.0**53
    return out.reshape(shape)


print("/* Written by tests/references/frechet.py (scipy %s, torch %s). */" % (scipy.__version__, torch.__version__))
print("static const struct {\n    size_t D, n, m;\n    double value;\n} scipy_rows[] = {")
for d, n, m in ((1, 40, 31), (3, 50, 60), (10, 80, 70), (24, 200, 150)):
    x = uniforms(d, n, d) ** 2
    y = uniforms(99 + d, m, d)
    y = y + 0.5 * np.roll(y, 1, axis=1)  # correlated
    sx, sy = np.atleast_2d(np.cov(x.T)), np.atleast_2d(np.cov(y.T))
    value = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(sx + sy - 2 * sqrtm(sx @ sy).real)
    print("    {%d, %d, %d, %.15g}," % (d, n, m, value))
print("};\n")

# (H, W, C) = (8, 6, 2)
conv1 = torch.nn.Conv2d(2, 4, 3, padding=1).double()
bn1 = torch.nn.BatchNorm2d(4).double().eval()
conv2 = torch.nn.Conv2d(4, 5, 3, stride=2, padding=1, bias=False).double()
fc1 = torch.nn.Linear(20, 7).double()
seed = 500
for tensor in (conv1.weight, conv1.bias, bn1.weight, bn1.bias, bn1.running_mean, bn1.running_var, conv2.weight,
               fc1.weight, fc1.bias):
    tensor.data = torch.from_numpy(uniforms(seed, *tensor.shape) - (0 if tensor is bn1.running_var else 0.45))
    seed += 1
x = torch.from_numpy(uniforms(77, 2, 8, 6, 2)).permute(0, 3, 1, 2)
x = (x - 0.4) / 0.3
h = torch.nn.functional.max_pool2d(torch.relu(conv1(x)), 2)
h = torch.nn.functional.silu(conv2(bn1(h)))
flat = torch.tanh(fc1(h.flatten(1)))
mean = torch.nn.functional.avg_pool2d(h, 2).mean((2, 3))
for name, out in (("torch_flat", flat), ("torch_mean", mean)):
    print("static const double %s[] = {" % name)
    for v in out.detach().numpy().ravel():
        print("    %.15g," % v)
    print("};\n")
