"""JAX's works: training steps of an mlp (jit, scan), sampling (diffrax), likelihood (forward mode)."""
import os

THREADS = int(os.environ.get("BENCH_THREADS", "2"))
if THREADS == 1:
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import jax
import jax.numpy as jnp
import numpy as np
import optax

import data

jax.config.update("jax_default_prng_impl", "rbg")  # the fast generator


def load(run, depth):
    w = data.weights(run)
    return [(jnp.asarray(w[f"layers.{i}.weight"].T), jnp.asarray(w[f"layers.{i}.bias"]))
            for i in range(depth + 1)]


def velocity(w, x, t):
    h = jnp.concatenate([x, jnp.broadcast_to(t, x.shape[:-1])[..., None]], -1)
    for a, b in w[:-1]:
        h = jax.nn.silu(h @ a + b)
    return h @ w[-1][0] + w[-1][1]


class Train:
    def __init__(self, mode, p):
        self.p, self.mode = p, mode
        self.steps = p["scan"] if mode == "scan" else 1
        self.optimizer = optax.chain(optax.clip_by_global_norm(p["clip"]), optax.adam(p["lr"]))
        w = load(p["step"], p["depth"])
        self.state = (jax.random.key(0), w, jax.tree.map(jnp.copy, w), self.optimizer.init(w))
        shift, scale = data.standardisation(p["step"], p["dim"])
        self.centres = None
        if p["data"] == "8gaussians":
            centres, sd = data.eight_gaussians()
            self.centres = jnp.asarray((centres - shift) / scale, jnp.float32)
            self.sd = jnp.asarray(sd / scale, jnp.float32)
        one = self.step
        if mode == "scan":
            def one(state):
                return jax.lax.scan(lambda s, _: (self.step(s), None), state, length=self.steps)[0]
        self.compiled = jax.jit(one, donate_argnums=0)

    def batch(self, key):
        n, d = self.p["batch"], self.p["dim"]
        a, b, c, e = jax.random.split(key, 4)
        x1 = jax.random.normal(a, (n, d))
        if self.centres is not None:
            x1 = self.centres[jax.random.randint(b, (n,), 0, 8)] + self.sd * x1
        return jax.random.normal(c, (n, d)), x1, jax.random.uniform(e, (n,))

    def loss(self, w, x0, x1, t):
        s = t[:, None]
        return jnp.mean((velocity(w, (1 - s) * x0 + s * x1, t) - (x1 - x0)) ** 2)

    def step(self, state):
        key, w, average, opt = state
        key, now = jax.random.split(key)
        g = jax.grad(self.loss)(w, *self.batch(now))
        update, opt = self.optimizer.update(g, opt, w)
        w = optax.apply_updates(w, update)
        if self.p["ema"]:
            average = jax.tree.map(lambda e, x: e + (1 - self.p["ema"]) * (x - e), average, w)
        return key, w, average, opt

    def run(self):
        self.state = jax.block_until_ready(self.compiled(self.state))

    def check(self):
        inputs, gradients = data.step(self.p["step"])

        def loss(w):
            return jnp.mean((velocity(w, inputs["xt"], inputs["t"]) - inputs["ut"]) ** 2)

        value, g = jax.value_and_grad(loss)(load(self.p["step"], self.p["depth"]))
        theirs = {}
        for i, (a, b) in enumerate(g):
            theirs[f"layers.{i}.weight"], theirs[f"layers.{i}.bias"] = a.T, b
        return {"loss": abs(float(value) / self.p["loss"] - 1),
                "gradients": data.gradients_differ(theirs, gradients)}


class Solve:
    """What sampling and likelihood share."""

    steps = 1

    def __init__(self, mode, p):
        self.p, self.mode = p, mode
        self.w = load(p["run"], p["depth"])
        self.shift, self.scale = (jnp.asarray(a, jnp.float32)
                                  for a in data.standardisation(p["run"], p["dim"]))

    def check_velocity(self):
        x = jnp.asarray(np.load(self.p["points"]), jnp.float32)
        v = velocity(self.w, (x - self.shift) / self.scale, jnp.float32(0.37)) * self.scale
        return {"velocity": data.relative(v, np.load(self.p["velocity"]))}


class Sample(Solve):
    """diffrax's Dopri5: one step size for the batch, or vmap and one for each sample."""

    def __init__(self, mode, p):
        super().__init__(mode, p)
        self.x0 = jnp.asarray(np.load(p["noise"]), jnp.float32)
        solve = self.one if mode == "batch" else jax.vmap(self.one, in_axes=(None, 0))
        self.solve = jax.jit(lambda w, x: solve(w, x) * self.scale + self.shift)

    def one(self, w, x0):
        import diffrax

        control = diffrax.PIDController(rtol=self.p["tol"], atol=self.p["tol"])
        term = diffrax.ODETerm(lambda t, x, w: velocity(w, x, t))
        return diffrax.diffeqsolve(term, diffrax.Dopri5(), 0.0, 1.0, None, x0, w,
                                   stepsize_controller=control, max_steps=4096).ys[-1]

    def run(self):
        jax.block_until_ready(self.solve(self.w, self.x0))

    def check(self):
        return self.check_velocity()


class Likelihood(Solve):
    """Midpoint steps under scan; divergence by forward mode, all tangents in one pass."""

    def __init__(self, mode, p):
        super().__init__(mode, p)
        grid = jnp.asarray(np.load(p["grid"]), jnp.float32)
        self.grid = (grid - self.shift) / self.scale
        self.key = jax.random.key(0)
        self.compiled = jax.jit(self.solve)

    def field(self, w, x, t, e):
        v, push = jax.linearize(lambda z: velocity(w, z, t), x)
        dv = jax.vmap(push)(e)
        return v, jnp.sum(dv * e, (0, 2))

    def solve(self, w, x, key):
        n, d = x.shape
        h = self.p["h"]
        if self.p["exact"]:
            e = jnp.broadcast_to(jnp.eye(d)[:, None, :], (d, n, d))
        else:
            e = jax.random.rademacher(key, (1, n, d)).astype(jnp.float32)

        def step(state, i):
            x, l = state
            t = 1 - i * h
            v = velocity(w, x, t)
            v, div = self.field(w, x - 0.5 * h * v, t - 0.5 * h, e)
            return (x - h * v, l - h * div), None

        (x, l), _ = jax.lax.scan(step, (x, jnp.zeros(n)), jnp.arange(round(1 / h)))
        return l - 0.5 * jnp.sum(x**2, 1) - 0.5 * d * jnp.log(2 * jnp.pi)

    def run(self):
        return jax.block_until_ready(self.compiled(self.w, self.grid, self.key))

    def check(self):
        log_q = np.asarray(self.run()) - float(np.log(np.asarray(self.scale)).sum())
        ours = np.load(self.p["log_q"]).reshape(-1)
        near = ours > ours.max() - 15
        gap = np.abs(log_q - ours)[near].max() if self.p["exact"] else abs((log_q - ours)[near].mean())
        key = "log-density" if self.p["exact"] else "mean of log-density (two draws of the probes)"
        return dict(self.check_velocity(), **{key: float(gap / np.abs(ours[near]).mean())})


def make(mode, p):
    return {"train": Train, "sample": Sample, "likelihood": Likelihood}[p["work"]](mode, p)
