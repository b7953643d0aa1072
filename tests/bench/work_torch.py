"""PyTorch's works: training steps of an mlp and of a U-Net, sampling, likelihood, the tutorial."""
import math
import os

import numpy as np
import torch
from torch import nn

import data

torch.set_default_dtype(torch.float32)


def tensor(a):
    return torch.tensor(np.array(a), dtype=torch.float32)


class Mlp(nn.Module):
    """fmcore's mlp:time=raw: [x, t] through `depth` hidden layers."""

    def __init__(self, dim, width, depth, activation=nn.SiLU):
        super().__init__()
        sizes = [dim + 1] + [width] * depth + [dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))
        self.activation = activation()

    def forward(self, x, t):
        h = torch.cat([x, t[:, None]], 1)
        for layer in self.layers[:-1]:
            h = self.activation(layer(h))
        return self.layers[-1](h)


def load(net, run):
    net.load_state_dict({k: tensor(v) for k, v in data.weights(run).items()}, strict=True)
    return net


def unet():
    from torchcfm.models.unet.unet import UNetModelWrapper

    return UNetModelWrapper(dim=(1, 28, 28), num_channels=32, num_res_blocks=1)


# ---- training ----


class Train:
    """A whole step: data, noise, time, path, forward, backward, clip, Adam, moving average."""

    steps = 1

    def __init__(self, mode, p):
        torch.set_num_threads(p["threads"])
        torch.manual_seed(0)
        self.p, self.mode = p, mode
        self.make_data()
        self.net = load(self.make_net(), p["step"])
        self.names = [n for n, _ in self.net.named_parameters()]
        self.weights = list(self.net.parameters())
        self.average = [w.detach().clone() for w in self.weights]
        self.optimizer = torch.optim.Adam(self.weights, lr=p["lr"], fused=True)
        self.loss = self.plain_loss
        if "compile" in mode:
            self.loss = torch.compile(self.plain_loss)
        if mode == "graph":
            self.graph_init()

    def make_net(self):
        return Mlp(self.p["dim"], self.p["width"], self.p["depth"])

    def make_data(self):
        shift, scale = data.standardisation(self.p["step"], self.p["dim"])
        if self.p["data"] == "8gaussians":
            centres, sd = data.eight_gaussians()
            self.centres = tensor((centres - shift) / scale)
            self.sd = tensor(sd / scale)
        else:
            self.centres = None

    def batch(self):
        n, d = self.p["batch"], self.p["dim"]
        x1 = torch.randn(n, d)
        if self.centres is not None:
            x1 = self.centres[torch.randint(0, 8, (n,))] + self.sd * x1
        return torch.randn(n, d), x1, torch.rand(n)

    def plain_loss(self, x0, x1, t):
        s = t.reshape(-1, *[1] * (x0.dim() - 1))
        v = self.velocity((1 - s) * x0 + s * x1, t)
        return torch.mean((v - (x1 - x0)) ** 2)

    def velocity(self, x, t):
        return self.net(x, t)

    def run(self):
        if self.mode == "graph":
            self.graph_step()
            return
        x0, x1, t = self.batch()
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(x0, x1, t).backward()
        nn.utils.clip_grad_norm_(self.weights, self.p["clip"], foreach=True)
        self.optimizer.step()
        if self.p["ema"]:
            with torch.no_grad():
                torch._foreach_lerp_(self.average, self.weights, 1 - self.p["ema"])

    # One compiled graph for everything: no Python within a step.

    def graph_init(self):
        self.flat = {n: w.detach().clone() for n, w in zip(self.names, self.weights)}
        self.m = {n: torch.zeros_like(w) for n, w in self.flat.items()}
        self.v = {n: torch.zeros_like(w) for n, w in self.flat.items()}
        self.e = {n: w.clone() for n, w in self.flat.items()}
        self.count = torch.zeros(())
        self.compiled = torch.compile(self.graph_body, fullgraph=True)

    def graph_loss(self, weights, x0, x1, t):
        s = t[:, None]
        v = torch.func.functional_call(self.net, weights, ((1 - s) * x0 + s * x1, t))
        return torch.mean((v - (x1 - x0)) ** 2)

    def graph_body(self, w, m, v, e, count):
        p = self.p
        g = torch.func.grad(self.graph_loss)(w, *self.batch())
        norm = torch.sqrt(sum(torch.sum(x * x) for x in g.values()))
        factor = torch.clamp(p["clip"] / (norm + 1e-6), max=1.0)
        count += 1
        c1, c2 = 1 - 0.9**count, 1 - 0.999**count
        for n in w:
            x = g[n] * factor
            m[n].lerp_(x, 0.1)
            v[n].mul_(0.999).addcmul_(x, x, value=0.001)
            w[n].sub_(p["lr"] / c1 * m[n] / (torch.sqrt(v[n] / c2) + 1e-8))
            e[n].lerp_(w[n], 1 - p["ema"])

    def graph_step(self):
        with torch.no_grad():
            self.compiled(self.flat, self.m, self.v, self.e, self.count)

    # The same loss and gradients as fmcore on fmcore's batch, from fmcore's weights.

    def check(self):
        inputs, gradients = data.step(self.p["step"])
        net = load(self.make_net(), self.p["step"])
        self.net, old = net, self.net
        xt, ut = self.image(inputs["xt"]), self.image(inputs["ut"])
        loss = torch.mean((self.velocity(xt, tensor(inputs["t"])) - ut) ** 2)
        loss.backward()
        self.net = old
        worst = data.gradients_differ({n: w.grad for n, w in net.named_parameters()}, gradients)
        return {"loss": abs(loss.item() / self.p["loss"] - 1), "gradients": worst}

    def image(self, a):
        return tensor(a)


class TrainUnet(Train):
    """torchcfm's MNIST U-Net on the shipped digits."""

    def make_net(self):
        net = unet()
        return net.to(memory_format=torch.channels_last) if "last" in self.mode else net

    def make_data(self):
        self.images = torch.from_numpy(data.mnist(self.p["mnist"]).copy())
        shift, scale = data.standardisation(self.p["step"], 784)
        self.shift, self.scale = float(shift[0]), float(scale[0])

    def batch(self):
        x = self.images[torch.randint(0, len(self.images), (self.p["batch"],))].float()
        x1 = ((x + torch.rand_like(x)) / 256 - self.shift) / self.scale
        x0, t = torch.randn_like(x1), torch.rand(len(x1))
        if "last" in self.mode:
            x0, x1 = (a.contiguous(memory_format=torch.channels_last) for a in (x0, x1))
        return x0, x1, t

    def velocity(self, x, t):
        return self.net(t, x)

    def image(self, a):
        return tensor(a).permute(0, 3, 1, 2)


# ---- solving ----


class Field:
    """A run's velocity in the model's units."""

    def __init__(self, p):
        torch.set_num_threads(p["threads"])
        self.p = p
        self.net = load(Mlp(p["dim"], p["width"], p["depth"]), p["run"])
        self.net.requires_grad_(False)
        shift, scale = data.standardisation(p["run"], p["dim"])
        self.shift, self.scale = tensor(shift), tensor(scale)

    def __call__(self, x, t):
        return self.net(x, t.expand(len(x)))

    def check_velocity(self):
        x = tensor(np.load(self.p["points"]))
        with torch.no_grad():
            v = self((x - self.shift) / self.scale, torch.tensor(0.37)) * self.scale
        return {"velocity": data.relative(v, np.load(self.p["velocity"]))}


class Sample:
    """torchdiffeq's dopri5 from the noise of a file."""

    steps = 1

    def __init__(self, mode, p):
        self.p, self.field = p, Field(p)
        self.x0 = tensor(np.load(p["noise"]))
        self.times = torch.tensor([0.0, 1.0])
        self.f = torch.compile(self.field) if mode == "compile" else self.field

    def solve(self):
        from torchdiffeq import odeint

        with torch.no_grad():
            x = odeint(lambda t, x: self.f(x, t), self.x0, self.times, rtol=self.p["tol"],
                       atol=self.p["tol"], method="dopri5")[-1]
        return x * self.field.scale + self.field.shift

    def run(self):
        self.solve()

    def reference(self, rows):
        from torchdiffeq import odeint

        p = self.p
        net = Mlp(p["dim"], p["width"], p["depth"]).double()
        net.load_state_dict({k: torch.tensor(v).double() for k, v in data.weights(p["run"]).items()})
        x0, times = torch.tensor(np.load(p["noise"])[:rows]).double(), torch.tensor([0.0, 1.0]).double()
        with torch.no_grad():
            x = odeint(lambda t, x: net(x, t.expand(len(x))), x0, times, rtol=1e-9, atol=1e-9,
                       method="dopri5")[-1]
        return (x * self.field.scale + self.field.shift).numpy()

    def check(self):
        rows = 1000
        tight = self.reference(rows)
        ours, theirs = np.load(self.p["samples"])[:rows], self.solve()[:rows].numpy()
        return dict(self.field.check_velocity(), **{
            "!error of fmcore, rms": float(np.sqrt(np.mean((ours - tight) ** 2))),
            "!error of the peer, rms": float(np.sqrt(np.mean((theirs - tight) ** 2)))})


class Likelihood:
    """flow_matching's own, or forward mode by hand with all tangents in one pass."""

    steps = 1

    def __init__(self, mode, p):
        self.p, self.mode, self.field = p, mode, Field(p)
        self.grid = ((tensor(np.load(p["grid"])) - self.field.shift) / self.field.scale)
        self.by_hand = torch.compile(self.tangents) if mode == "forward-compile" else self.tangents

    def log_p0(self, x):
        return -0.5 * (x**2).sum(1) - 0.5 * self.p["dim"] * math.log(2 * math.pi)

    def tangents(self, x, t, e):
        """v and sum_k e_k . J e_k for e (K, B, D)."""
        def one(u):
            return torch.func.jvp(lambda z: self.field(z, t), (x,), (u,))

        v, dv = torch.func.vmap(one)(e)
        return v[0], (dv * e).sum((0, 2))

    def own(self):
        from flow_matching.solver import ODESolver

        solver = ODESolver(lambda x, t: self.field(x, t))
        return solver.compute_likelihood(self.grid, self.log_p0, self.p["h"], method="midpoint",
                                         exact_divergence=self.p["exact"])[1]

    def forward(self):
        n, d = self.grid.shape
        if self.p["exact"]:
            e = torch.eye(d)[:, None, :].expand(d, n, d).contiguous()
        else:
            e = torch.randint(0, 2, (1, n, d)).float() * 2 - 1
        x, l, h = self.grid, torch.zeros(n), self.p["h"]
        with torch.no_grad():
            for i in range(round(1 / h)):
                t = torch.tensor(1 - i * h)
                v, _ = self.by_hand(x, t, e)
                v, div = self.by_hand(x - 0.5 * h * v, t - 0.5 * h, e)
                x, l = x - h * v, l - h * div
        return self.log_p0(x) + l

    def solve(self):
        return self.own() if self.mode == "flow_matching" else self.forward()

    def run(self):
        self.solve()

    def check(self):
        log_q = self.solve().detach().numpy() - float(np.log(self.field.scale.numpy()).sum())
        ours = np.load(self.p["log_q"]).reshape(-1)
        key = "log-density" if self.p["exact"] else "mean of log-density (two draws of the probes)"
        near = ours > ours.max() - 15  # where there is any density
        gap = np.abs(log_q - ours)[near].max() if self.p["exact"] else abs((log_q - ours)[near].mean())
        return dict(self.field.check_velocity(), **{key: float(gap / np.abs(ours[near]).mean())})


class Adaptive:
    """Network rows and errors of torchdiffeq's dopri5 (one step size for all samples) on the exact
    velocity of a mixture of Gaussians under the straight path, in double."""

    steps = 1

    def __init__(self, mode, p):
        torch.set_num_threads(p["threads"])
        self.p, self.rows = p, 0
        shift, scale = data.standardisation(p["run"], 2)
        self.shift, self.scale = torch.tensor(shift), torch.tensor(scale)
        self.mean = (torch.tensor(p["mean"]).double() - self.shift) / self.scale
        self.variance = (torch.tensor(p["sd"]).double()[:, None] / self.scale) ** 2
        self.log_weight = torch.tensor(p["weight"]).double().log()
        self.noise = torch.tensor(np.load(p["noise"])).double()

    def velocity(self, t, x):
        """E[x1 - x0 | x_t = x]: each component is Gaussian with variance (1 - t)^2 + t^2 sd^2."""
        self.rows += len(x)
        variance = (1 - t) ** 2 + t**2 * self.variance
        gap = x[:, None] - t * self.mean
        log_height = self.log_weight - 0.5 * torch.log(variance).sum(1)
        weight = torch.softmax(log_height - 0.5 * (gap**2 / variance).sum(2), 1)[..., None]
        return (weight * (self.mean + (t * self.variance - (1 - t)) / variance * gap)).sum(1)

    def solve(self, tolerance):
        from torchdiffeq import odeint

        x = odeint(self.velocity, self.noise, torch.tensor([0.0, 1.0]).double(), rtol=tolerance,
                   atol=tolerance, method="dopri5")[-1]
        return (x * self.scale + self.shift).numpy()

    def run(self):
        pass

    def check(self):
        tight, points = self.solve(1e-10), []
        np.save(self.p["reference"], tight)
        for tolerance in self.p["tolerances"]:
            self.rows = 0
            x = self.solve(tolerance)
            points.append({"tolerance": tolerance, "rows": self.rows,
                           "rms": float(np.sqrt(np.mean((x - tight) ** 2)))})
        return points


# ---- torchcfm's tutorial ----


class Tutorial:
    """2,000 iterations of torchcfm's 8gaussians to moons, with its own functions."""

    steps = 1

    def __init__(self, mode, p):
        from torchcfm import conditional_flow_matching as cfm
        from torchcfm.models.models import MLP

        torch.set_num_threads(p["threads"])
        self.p = p
        self.net = MLP(dim=2, time_varying=True)
        self.optimizer = torch.optim.Adam(self.net.parameters())
        kind = cfm.ExactOptimalTransportConditionalFlowMatcher if mode == "ot" else cfm.ConditionalFlowMatcher
        self.matcher = kind(sigma=0.1)
        self.count = 20

    def run(self):
        from torchcfm.utils import sample_8gaussians, sample_moons

        for _ in range(self.count):
            self.optimizer.zero_grad()
            x0, x1 = sample_8gaussians(256), sample_moons(256)
            t, xt, ut = self.matcher.sample_location_and_conditional_flow(x0, x1)
            vt = self.net(torch.cat([xt, t[:, None]], dim=-1))
            torch.mean((vt - ut) ** 2).backward()
            self.optimizer.step()
        self.count = self.p["iterations"]

    def check(self):
        return {}


def make(mode, p):
    return {"train": Train, "unet": TrainUnet, "sample": Sample, "likelihood": Likelihood,
            "tutorial": Tutorial, "adaptive": Adaptive}[p["work"]](mode, p)
