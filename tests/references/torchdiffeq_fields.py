#!/usr/bin/env python3
"""Reference solutions of three fields by torchdiffeq (float64), written as a C header.

    python3 torchdiffeq_fields.py > ../plugins/solver/torchdiffeq_fields.h

Fields, each over a batch of 4 rows (the header holds the initial states; `x1` is the
solution of the batch, `alone` of each row by itself, `exact` that of scipy's DOP853 at 1e-13
(torchdiffeq's dopri8 interpolates to the end: 6e-9 at a tolerance of 1e-12);
`within` and `within_alone` are the dense output at t0 + 0.37 (t1 - t0) of the two):
  0 rotation       dx/dt = A x, A = [[-0.3, 2.1], [-2.1, -0.2]], t 0 -> 1.7
  1 Van der Pol    x' = y, y' = 1.3 (1 - x^2) y - x,             t 0 -> 2
  2 tanh network   dx/dt = W2 tanh(W1 x + b1 t + c1) + c2,       t 1 -> 0 (backwards)
"""
import math
import numpy as np
import scipy.integrate
import torch
import torchdiffeq

torch.set_default_dtype(torch.float64)


def mat(rows, cols, phase):
    return torch.tensor([[1.1 * math.sin(1.0 + phase + 2.3 * i + 0.7 * j * (i + 1)) for j in range(cols)] for i in range(rows)])


A = torch.tensor([[-0.3, 2.1], [-2.1, -0.2]])
W1, b1, c1, W2, c2 = mat(5, 3, 0.1), mat(1, 5, 0.5)[0], mat(1, 5, 0.9)[0], mat(3, 5, 1.3), mat(1, 3, 1.7)[0]


def rotation(t, x):
    return x @ A.T


def van_der_pol(t, x):
    return torch.stack([x[:, 1], 1.3 * (1 - x[:, 0] ** 2) * x[:, 1] - x[:, 0]], 1)


def network(t, x):
    return torch.tanh(x @ W1.T + b1 * t + c1) @ W2.T + c2


FIELDS = [("rotation", rotation, 2, 0.0, 1.7), ("van-der-pol", van_der_pol, 2, 0.0, 2.0), ("network", network, 3, 1.0, 0.0)]
CASES = [("dopri5", 1e-3), ("dopri5", 1e-5), ("dopri5", 1e-7), ("bosh3", 1e-3), ("bosh3", 1e-5), ("dopri8", 1e-5), ("dopri8", 1e-8)]


class Counter(torch.nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f, self.n = f, 0

    def forward(self, t, x):
        self.n += 1
        return self.f(t, x)


def solve_exactly(f, x0, t0, t1):
    def g(t, x):
        return f(torch.tensor(t), torch.tensor(x[None]))[0].numpy()
    return scipy.integrate.solve_ivp(g, (t0, t1), x0[0].numpy(), method="DOP853", rtol=1e-13, atol=1e-14).y[:, -1]


print("/* torchdiffeq_fields.h: made by tests/references/torchdiffeq_fields.py with torchdiffeq %s. */" % torchdiffeq.__version__)
print("typedef struct TorchdiffeqCase {\n    int field;\n    const char *solver;\n    double tol, t0, t1;\n    int nfe, D;\n"
      "    double x0[12], x1[12], alone[12], exact[12], within[12], within_alone[12];\n} TorchdiffeqCase;\n")
print("static const TorchdiffeqCase torchdiffeq_case[] = {")
for i, (name, f, D, t0, t1) in enumerate(FIELDS):
    x0 = mat(4, D, 2.2 + i) * 1.3
    t = torch.tensor([t0, t1])
    t3 = torch.tensor([t0, t0 + 0.37 * (t1 - t0), t1])
    exact = torch.tensor(np.array([solve_exactly(f, x0[r:r + 1], t0, t1) for r in range(4)]))
    for method, tol in CASES:
        c = Counter(f)
        x1 = torchdiffeq.odeint(c, x0, t, rtol=tol, atol=tol, method=method)[-1]
        within = torchdiffeq.odeint(f, x0, t3, rtol=tol, atol=tol, method=method)[1]
        within_alone = torch.cat([torchdiffeq.odeint(f, x0[r:r + 1], t3, rtol=tol, atol=tol, method=method)[1] for r in range(4)])
        alone = torch.cat([torchdiffeq.odeint(f, x0[r:r + 1], t, rtol=tol, atol=tol, method=method)[-1] for r in range(4)])
        row = lambda x: "{" + ", ".join("%.17g" % v for v in x.flatten().tolist()) + "}"
        print('    {%d, "%s", %g, %g, %g, %d, %d,\n     %s,\n     %s,\n     %s,\n     %s,\n     %s,\n     %s},' % (i, method, tol, t0, t1, c.n, D, row(x0), row(x1), row(alone), row(exact),
                 row(within), row(within_alone)))
print("};")
