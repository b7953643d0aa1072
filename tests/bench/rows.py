"""The rows of the table: the same work for fmcore and its peers, and what they are checked on.

A row is a function of a Bench (peers.py) that prepares files with fmcore and returns
  ours      what fmcore measures: a function that gives {"ms", "memory", ...}
  peers     [{"family", "mode", "module", "parameters"}]
  targets   {family: at least this many times faster}
"""
import json
import os
import statistics
import time

ROWS = {}


def row(name, title):
    def add(function):
        ROWS[name] = {"title": title, "prepare": function}
        return function

    return add


def torch_peer(mode, work, **parameters):
    return {"family": "PyTorch", "mode": mode, "module": "work_torch", "parameters": dict(parameters, work=work)}


def jax_peer(mode, work, **parameters):
    return {"family": "JAX", "mode": mode, "module": "work_jax", "parameters": dict(parameters, work=work)}


def our_bench(bench, *arguments):
    def measure():
        found = bench.fmcore.bench(*arguments)[-1]
        return {"ms": found["median"], "memory": found["peak_memory_bytes"], "gflops": found.get("gflops"),
                "detail": found["detail"]}

    return measure


# ---- training ----

STEP = ["--optimizer", "adam", "--grad-clip", "1", "--ema-decay", "0.999", "--schedule", "constant",
        "--warmup", "0", "--lr", "1e-3"]


def train_arguments(width, depth, batch, dim=2):
    data = "8gaussians:variant=torchcfm" if dim == 2 else f"gaussian:dim={dim}"
    return ["train-step", "--dataset", data, "--net", f"mlp:width={width},depth={depth},time=raw",
            "--batch-size", batch, *STEP]


def train_row(bench, name, width, depth, batch, targets, dim=2, threads=2, modes=None, scan=50):
    arguments = train_arguments(width, depth, batch, dim) + ["--threads", threads]
    folder = bench.folder(name)
    first = bench.fmcore.bench(*arguments, "--out", folder, "--force", "--repeat", 1)[0]
    p = {"width": width, "depth": depth, "batch": batch, "dim": dim, "threads": threads, "lr": 1e-3,
         "clip": 1.0, "ema": 0.999, "step": folder, "loss": first["detail"]["loss"], "scan": scan,
         "data": "8gaussians" if dim == 2 else "gaussian"}
    peers = [torch_peer("eager", "train", **p), torch_peer("compile", "train", **p),
             torch_peer("graph", "train", **p), jax_peer("jit", "train", **p), jax_peer("scan", "train", **p)]
    if modes is not None:
        peers = [q for q in peers if q["mode"] in modes]
    return {"ours": our_bench(bench, *arguments), "peers": peers, "targets": targets, "command": arguments,
            "tolerance": {"loss": 1e-5, "gradients": 1e-4}}


@row("train-64x3", "training step, mlp width 64, depth 3, batch 256")
def train_64(bench):
    return train_row(bench, "train-64x3", 64, 3, 256, {"PyTorch": 8, "JAX": 4})


@row("train-128x2", "training step, mlp width 128, depth 2, batch 128")
def train_128(bench):
    return train_row(bench, "train-128x2", 128, 2, 128, {"PyTorch": 8, "JAX": 4})


@row("train-256x3", "training step, mlp width 256, depth 3, batch 256")
def train_256(bench):
    return train_row(bench, "train-256x3", 256, 3, 256, {"PyTorch": 3.5, "JAX": 2})


@row("train-512x4", "training step, mlp width 512, depth 4, batch 4096")
def train_512(bench):
    found = train_row(bench, "train-512x4", 512, 4, 4096, {"PyTorch": 1.3, "JAX": 1.3}, scan=4)
    return dict(found, repeat=1)


def unet_arguments(threads=2):
    return ["train-step", "--dataset", "mnist", "--net",
            "conv:channels=32,mult=[1,2,2],blocks=1,attention=[16],heads=1,groups=32",
            "--conditional", "no", "--batch-size", 32, "--threads", threads, *STEP]


@row("train-unet", "training step, torchcfm's MNIST U-Net (32 channels, 1 block), batch 32")
def train_unet(bench):
    folder, arguments = bench.folder("train-unet"), unet_arguments()
    run = bench.folder("run-unet")  # a few steps: the last layers of a new net are zero, and hide gradients
    bench.fmcore.run("train", *arguments[1:], "--steps", 20, "--out", run, "--force", "--quiet")
    first = bench.fmcore.bench("train-step", run, "--threads", 2, "--out", folder, "--force", "--repeat", 1)[0]
    p = {"dim": 784, "batch": 32, "threads": 2, "lr": 1e-3, "clip": 1.0, "ema": 0.999, "step": folder,
         "loss": first["detail"]["loss"], "mnist": bench.mnist}
    modes = ["eager", "eager-last", "compile", "compile-last"]
    return {"ours": our_bench(bench, *arguments), "peers": [torch_peer(m, "unet", **p) for m in modes],
            "targets": {"PyTorch": 2.5}, "command": arguments, "seconds": 0, "repeat": 2,
            "tolerance": {"loss": 1e-4, "gradients": 1e-3}}


# ---- solving ----


def trained(bench, width, depth):
    """A run, trained once, with what peers need: noise, a grid, points and the velocities there."""
    run = bench.folder(f"run-{width}x{depth}")
    if not os.path.exists(os.path.join(run, "model.safetensors")):
        bench.fmcore.run("train", "--dataset", "8gaussians:variant=torchcfm", "--net",
                         f"mlp:width={width},depth={depth},time=raw", "--steps", 3000 if width < 256 else 1500,
                         "--lr", "2e-3", "--out", run, "--force", "--quiet")
    if bench.python:
        import numpy as np

        random = np.random.default_rng(0)
        np.save(run + ".points.npy", random.normal(0, 4, (257, 2)))
        np.save(run + ".noise.npy", random.normal(0, 1, (10000, 2)).astype(np.float32))
        side = np.linspace(-8, 8, 200)
        np.save(run + ".grid.npy", np.stack(np.meshgrid(side, side), -1).reshape(-1, 2))
        bench.fmcore.run("velocity", run, run + ".points.npy", "--time", 0.37, "--out", run + ".v.npy")
    return run


def solve_parameters(run, width, depth):
    return {"run": run, "width": width, "depth": depth, "dim": 2, "threads": 2, "points": run + ".points.npy",
            "velocity": run + ".v.npy", "noise": run + ".noise.npy", "grid": run + ".grid.npy"}


def sample_row(bench, width, depth, targets, seconds):
    run = trained(bench, width, depth)
    solver = "dopri5:rtol=1e-5,atol=1e-5"
    if bench.python:
        bench.fmcore.run("sample", run, "--init", run + ".noise.npy", "--solver", solver,
                         "--out", run + ".samples.npy")
    p = dict(solve_parameters(run, width, depth), tol=1e-5, samples=run + ".samples.npy")
    arguments = ["sample", run, "--samples", 10000, "--solver", solver, "--threads", 2]
    peers = [torch_peer("eager", "sample", **p), torch_peer("compile", "sample", **p),
             jax_peer("batch", "sample", **p), jax_peer("per-sample", "sample", **p)]
    return {"ours": our_bench(bench, *arguments), "peers": peers, "targets": targets, "seconds": seconds, "repeat": 1,
            "command": arguments, "tolerance": {"velocity": 1e-4}}


@row("sample-64x3", "10,000 samples, dopri5 at 1e-5, width 64, depth 3")
def sample_64(bench):
    return sample_row(bench, 64, 3, {"PyTorch": 4, "JAX": 2.5}, 0.4)


@row("sample-512x4", "10,000 samples, dopri5 at 1e-5, width 512, depth 4")
def sample_512(bench):
    return sample_row(bench, 512, 4, {"PyTorch": 1.7, "JAX": 1.7}, 0)


def likelihood_row(bench, width, depth, how, peers, targets, **more):
    run = trained(bench, width, depth)
    exact, solver = how == "exact", "midpoint:step=0.05"
    log_q = f"{run}.{'exact' if exact else 'probe'}.npy"
    if bench.python:
        bench.fmcore.run("density", run, run + ".grid.npy", "--likelihood", how, "--solver", solver,
                         "--out", log_q)
    p = dict(solve_parameters(run, width, depth), h=0.05, exact=exact, log_q=log_q)
    arguments = ["likelihood", run, "--eval-samples", 40000, "--likelihood", how, "--solver", solver,
                 "--threads", 2]
    makers = {"flow_matching": torch_peer, "forward": torch_peer, "forward-compile": torch_peer, "jit": jax_peer}
    peers = [makers[m](m, "likelihood", **p) for m in peers]
    for q in peers:
        if q["mode"] == "flow_matching":
            q["family"] = "flow_matching"
    tolerance = {"velocity": 1e-4, "log-density": 1e-3, "mean of log-density (two draws of the probes)": 2e-2}
    return dict({"ours": our_bench(bench, *arguments), "peers": peers, "targets": targets, "seconds": 0, "repeat": 1,
                 "command": arguments, "tolerance": tolerance}, **more)


@row("likelihood-64x3", "exact log-density of a 200 x 200 grid, midpoint 0.05, width 64, depth 3")
def likelihood_64(bench):
    return likelihood_row(bench, 64, 3, "exact", ["flow_matching", "forward", "forward-compile", "jit"],
                          {"flow_matching": 10, "JAX": 3})


@row("likelihood-512x4", "exact log-density of a 200 x 200 grid, midpoint 0.05, width 512, depth 4")
def likelihood_512(bench):
    return likelihood_row(bench, 512, 4, "exact", ["jit"], {"JAX": 1.8})


@row("hutchinson-512x4", "log-density of a 200 x 200 grid, one probe, midpoint 0.05, width 512, depth 4")
def hutchinson_512(bench):
    return likelihood_row(bench, 512, 4, "hutchinson:probes=1", ["flow_matching", "jit"],
                          {"flow_matching": 2.2})


# ---- coupling, divergence, the program ----


@row("coupling-256", "exact optimal transport of 256 points in the plane")
def coupling_256(bench):
    folder = bench.folder("coupling-256")
    arguments = ["coupling", "--coupling", "ot", "--dataset", "moons:variant=torchcfm", "--source",
                 "8gaussians:variant=torchcfm", "--batch-size", 256, "--threads", 2]
    bench.fmcore.bench(*arguments, "--out", folder, "--force", "--repeat", 1)
    p = {"work": "coupling", "pools": folder, "threads": 2}
    peers = [{"family": f, "mode": f, "module": "work_other", "parameters": p} for f in ("SciPy", "POT")]
    return {"ours": our_bench(bench, *arguments), "peers": peers, "targets": {"SciPy": 3, "POT": 3},
            "command": arguments, "tolerance": {"cost": 1e-9}}


def knn_row(bench, name, data, n, mode, target, seconds, tolerance):
    folder = bench.folder(name)
    arguments = ["divergence", "--divergence", "knn-kl:k=5", "--dataset", data,
                 "--eval-samples", n, "--samples", n, "--threads", 2]
    found = bench.fmcore.bench(*arguments, "--out", folder, "--force", "--repeat", 1)[0]
    p = {"work": "knn", "samples": folder, "threads": 2, "k": 5, "value": found["detail"]["value"]}
    return {"ours": our_bench(bench, *arguments), "targets": {mode: target}, "seconds": seconds, "repeat": 1,
            "peers": [{"family": mode, "mode": mode, "module": "work_other", "parameters": p}],
            "command": arguments, "tolerance": {"value": tolerance}}


@row("knn-2d", "knn-kl, k = 5, 100,000 points in 2 dimensions")
def knn_2(bench):
    return knn_row(bench, "knn-2d", "gaussian:dim=2", 100000, "SciPy", 1.5, 0, 1e-6)


@row("knn-10d", "knn-kl, k = 5, 20,000 points in 10 dimensions")
def knn_10(bench):
    return knn_row(bench, "knn-10d", "gaussian:dim=10", 20000, "SciPy", 4, 0, 1e-6)


@row("knn-784d", "knn-kl, k = 5, 10,000 points in 784 dimensions")
def knn_784(bench):
    return knn_row(bench, "knn-784d", "gaussian:dim=784", 10000, "faiss", 6, 0, 1e-5)


@row("knn-mnist", "knn-kl, k = 5, MNIST images: 10,000 in each sample, 4,500 where the full set is not there")
def knn_mnist(bench):
    full = os.environ.get("PEERS_MNIST")  # folder of the full set
    found = knn_row(bench, "knn-mnist", f"mnist:dir={full}" if full else "mnist", 10000 if full else 4500, "faiss", 6, 0,
                    1e-5)
    shown = ["mnist:dir=FOLDER" if str(a).startswith("mnist:dir=") else a for a in found["command"]]
    return dict(found, command=shown)


def tutorial_row(bench, name, coupling, target):
    folder, iterations = bench.folder(name), 2000
    arguments = ["train", "--source", "8gaussians:variant=torchcfm", "--dataset", "moons:variant=torchcfm",
                 "--coupling", "ot" if coupling == "ot" else "independent", "--net",
                 "mlp:width=64,depth=3,activation=selu,time=raw", "--batch-size", 256, "--optimizer", "adam",
                 "--lr", "1e-3", "--schedule", "constant", "--warmup", 0, "--grad-clip", 0, "--ema-decay", 0,
                 "--steps", 20000, "--threads", 2]

    def measure():
        begin = time.perf_counter()
        out = json.loads(bench.fmcore.run(*arguments, "--out", folder, "--force", "--quiet", "--json"))
        return {"ms": (time.perf_counter() - begin) * 1e3,
                "memory": out["train"].get("peak_memory_bytes", 0)}

    p = {"work": "tutorial", "iterations": iterations, "threads": 2}
    peers = [{"family": "torchcfm", "mode": coupling, "module": "work_torch", "parameters": p, "factor": 10}]
    return {"ours": measure, "peers": peers, "targets": {"torchcfm": target}, "command": arguments, "seconds": 0, "repeat": 1,
            "rounds": 3, "note": "fmcore: the whole command; torchcfm: 2,000 iterations, times 10"}


@row("tutorial-icfm", "torchcfm's 2-D tutorial (8gaussians to moons), 20,000 iterations, I-CFM")
def tutorial_icfm(bench):
    return tutorial_row(bench, "tutorial-icfm", "independent", 30)


@row("tutorial-otcfm", "the same, OT-CFM")
def tutorial_otcfm(bench):
    return tutorial_row(bench, "tutorial-otcfm", "ot", 20)


@row("startup", "`fmcore list` against `import torch`")
def startup(bench):
    from runner import command_seconds

    def measure():
        seconds = [command_seconds([bench.fmcore.path, "list"], bench.fmcore.environment) for _ in range(20)]
        return {"ms": 1e3 * statistics.median(seconds), "memory": 0}

    peers = [{"family": "PyTorch", "mode": "import", "command": [bench.python, "-c", "import torch"]}]
    return {"ours": measure, "peers": peers, "targets": {"PyTorch": 40}, "command": ["list"]}


# ---- fmcore alone: threads, size ----


@row("threads-mlp", "one thread and two: training step, mlp width 512, depth 4, batch 4096")
def threads_mlp(bench):
    found = train_row(bench, "threads-mlp", 512, 4, 4096, {}, modes=["compile"])
    one = dict(found["peers"][0], family="PyTorch, one thread")
    one["parameters"] = dict(one["parameters"], threads=1)
    alone = our_bench(bench, *train_arguments(512, 4, 4096), "--threads", 1)
    return dict(found, peers=[dict(found["peers"][0], family="PyTorch, two threads"), one],
                also={"fmcore, one thread": alone}, targets={"fmcore, one thread": 1.8})


@row("threads-unet", "one thread and two: training step, torchcfm's MNIST U-Net, batch 32")
def threads_unet(bench):
    return {"ours": our_bench(bench, *unet_arguments(2)), "peers": [], "command": unet_arguments(2),
            "also": {"fmcore, one thread": our_bench(bench, *unet_arguments(1))},
            "targets": {"fmcore, one thread": 1.8}}


def sweeps():
    """(axis, value, width, depth, batch, dim)"""
    base = {"width": 256, "depth": 3, "batch": 1024, "dim": 2}
    axes = {"width": [128, 192, 256, 384, 512, 768], "depth": [2, 3, 4, 6, 8],
            "batch": [256, 512, 1024, 2048, 4096, 8192], "dim": [16, 32, 64, 128, 256, 784]}
    for axis, values in axes.items():
        for value in values:
            yield axis, value, dict(base, **{axis: value})


def scaling(bench):
    """Time against FLOPs of training steps and of samples: points for the plot."""
    for axis, value, s in sweeps():
        arguments = train_arguments(s["width"], s["depth"], s["batch"], s["dim"]) + ["--threads", 2]
        yield axis, value, arguments
    run = trained(bench, 64, 3)
    for n in (1000, 2000, 5000, 10000, 20000, 50000):
        yield "samples", n, ["sample", run, "--samples", n, "--solver", "dopri5:rtol=1e-5,atol=1e-5",
                             "--threads", 2]


def circle(k, radius):
    import math

    return [[radius * math.cos(2 * math.pi * i / k), radius * math.sin(2 * math.pi * i / k)] for i in range(k)]


# title, data set, means, standard deviations and weights
MIXTURES = {
    "8gaussians": ("eight Gaussians", "8gaussians:variant=ffjord", circle(8, 4 / 1.414), [0.5 / 1.414] * 8, [1 / 8] * 8),
    "few": ("six Gaussians, one of them narrow: one sample in fifty is hard",
            "mixture:k=6,radius=4,sds=[0.005,1,1,1,1,1],weights=[0.02,0.196,0.196,0.196,0.196,0.196]",
            circle(6, 4), [0.005] + [1.0] * 5, [0.02] + [0.196] * 5),
    "all": ("three narrow Gaussians: all samples are hard near t = 1", "mixture:k=3,radius=4,sd=0.02", circle(3, 4),
            [0.02] * 3, [1 / 3] * 3),
}


def adaptive(bench, name):
    """Rows through the velocity and errors of fmcore's dopri5, a step size for each sample, and of
    torchdiffeq's, one for all; the exact velocity, the same noise, double."""
    import numpy as np
    from runner import Worker

    _, dataset, mean, sd, weight = MIXTURES[name]
    run = bench.folder("oracle-" + name)
    noise, reference, out = run + ".noise.npy", run + ".reference.npy", run + ".samples.npy"
    np.save(noise, np.random.default_rng(1).normal(0, 1, (10000, 2)))
    bench.fmcore.run("run", "--dataset", dataset, "--net", "oracle", "--dtype", "f64", "--samples", 16,
                     "--likelihood", "none", "--out", run, "--force", "--quiet")
    tolerances = [1e-3, 1e-4, 1e-5, 1e-6, 1e-7]
    p = {"work": "adaptive", "run": run, "mean": mean, "sd": sd, "weight": weight, "noise": noise, "reference": reference,
         "tolerances": tolerances, "threads": 2}
    worker = Worker(bench.python, {"family": "torchdiffeq", "mode": "", "module": "work_torch", "parameters": p})
    theirs = worker.ask(do="check")
    worker.close()
    if "error" in theirs:
        raise RuntimeError(theirs["error"])
    tight, ours = np.load(reference), []
    for tolerance in tolerances:
        text = bench.fmcore.run("sample", run, "--init", noise, "--out", out, "--json", "--solver",
                                f"dopri5:rtol={tolerance},atol={tolerance}")
        rms = float(np.sqrt(np.mean((np.load(out) - tight) ** 2)))
        ours.append({"tolerance": tolerance, "rows": round(json.loads(text)["sample"]["nfe_mean"] * 10000),
                     "rms": rms})
    return ours, theirs["check"]


def rows_at(points, rms):
    """Rows that reach this error, between the tolerances measured (log-log); None outside."""
    import math

    points = sorted(points, key=lambda p: p["rms"])
    for a, b in zip(points, points[1:]):
        if a["rms"] <= rms <= b["rms"] and b["rms"] > a["rms"]:
            w = (math.log(rms) - math.log(a["rms"])) / (math.log(b["rms"]) - math.log(a["rms"]))
            return math.exp((1 - w) * math.log(a["rows"]) + w * math.log(b["rows"]))
    return None
