#!/usr/bin/env python3
"""The synthetic bounds of Su et al. 2025 (arXiv:2511.05480) as their published code computes them, in PyTorch and
torchdiffeq: for timings beside `fmcore study kl-bound-linear`.

Not their text: written anew from the steps of MAGICS-LAB/flow_kl at commit f5a771b, part2/synthetic, with the sizes
and tolerances that are its defaults, for one schedule and one seed, without pictures and files:
  v = a(t) x with a(t) = sin(pi t), d = 2, from N(0, I); w = (a(t) + beta) x
  eps   root mean square of beta x over 101 times, 4,096 fresh draws of p_t each
  KL    mean of log p_1 - log q_1 at 20,000 draws of p_1; log q_1 by dopri5 back to t = 0 (rtol 1e-6, atol 1e-8, one
        step size for all rows) with the divergence as a third column
  S     trapezoidal rule over 101 times of the mean of |grad log p_t - grad log q_t|^2 at 2,048 draws, the same normal
        numbers at all times; grad log q_t by autograd through the solver, its graph kept (create_graph)
  bound eps sqrt(S)
Double precision on the CPU, torch's default number of threads. Prints one line a beta, and the seconds without imports.
"""
import math
import time

import torch
from torchdiffeq import odeint

BETAS = (0.0, 0.05, 0.1, 0.2)
TIMES, DRAWS_EPS, DRAWS_KL, DRAWS_GAP = 101, 4096, 20000, 2048
LOG_2PI = math.log(2.0 * math.pi)


def spread(t):
    """Standard deviation of p_t: exp of the integral of sin(pi s)."""
    return math.exp((1.0 - math.cos(math.pi * t)) / math.pi)


def log_density(x, t, beta):
    """log q_t at rows of x."""
    if t <= 0.0:
        return -LOG_2PI - 0.5 * x.square().sum(dim=-1)

    def rate(s, state):
        gain = math.sin(math.pi * s.item()) + beta
        return torch.cat((gain * state[:, :2], torch.full_like(state[:, 2:], 2.0 * gain)), dim=1)

    start = torch.cat((x, torch.zeros_like(x[:, :1])), dim=1)
    span = torch.tensor((t, 0.0), dtype=x.dtype)
    end = odeint(rate, start, span, method="dopri5", rtol=1e-6, atol=1e-8)[-1]
    return -LOG_2PI - 0.5 * end[:, :2].square().sum(dim=-1) + end[:, 2]


def loss(beta, grid):
    total = 0.0
    for t in grid:
        x = spread(t) * torch.randn(DRAWS_EPS, 2, dtype=torch.float64)
        total += (beta * beta * x.square().sum(dim=-1)).sum().item()
    return math.sqrt(total / (len(grid) * DRAWS_EPS))


def divergence(beta):
    s = spread(1.0)
    x = s * torch.randn(DRAWS_KL, 2, dtype=torch.float64)
    log_p = -LOG_2PI - 2.0 * math.log(s) - 0.5 * x.square().sum(dim=-1) / (s * s)
    return (log_p - log_density(x, 1.0, beta)).mean().item()


def score_gap(beta, grid):
    z = torch.randn(DRAWS_GAP, 2, dtype=torch.float64)
    gap = []
    for t in grid:
        s = spread(t)
        x = (s * z).requires_grad_(True)
        (score,) = torch.autograd.grad(log_density(x, t, beta).sum(), x, create_graph=True)
        gap.append((-x / (s * s) - score).square().sum(dim=-1).mean().item())
    return sum(0.5 * (b - a) * (f + g) for a, b, f, g in zip(grid, grid[1:], gap, gap[1:]))


def main():
    grid = torch.linspace(0.0, 1.0, TIMES, dtype=torch.float64).tolist()
    begin = time.perf_counter()
    for beta in BETAS:
        torch.manual_seed(42)
        eps, kl, gap = loss(beta, grid), divergence(beta), score_gap(beta, grid)
        print("beta %.2f  KL %.6f  bound %.6f" % (beta, kl, eps * math.sqrt(gap)), flush=True)
    print("seconds without imports %.3f" % (time.perf_counter() - begin))


if __name__ == "__main__":
    main()
