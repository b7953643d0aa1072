"""What fmcore wrote: runs, first steps, images. NumPy alone."""
import glob
import gzip
import json
import os
import struct

import numpy as np


def safetensors(path):
    """Arrays by name, and the metadata."""
    with open(path, "rb") as f:
        raw = f.read()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + size])
    meta = header.pop("__metadata__", {})
    body = raw[8 + size :]
    types = {"F32": np.float32, "F64": np.float64}
    arrays = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        arrays[name] = np.frombuffer(body[begin:end], types[entry["dtype"]]).reshape(entry["shape"])
    return arrays, meta


def weights(run):
    return safetensors(os.path.join(run, "model.safetensors"))[0]


def standardisation(run, dim):
    """shift and scale, (dim): model units are (x - shift) / scale."""
    meta = safetensors(os.path.join(run, "model.safetensors"))[1]
    out = []
    for name in ("shift", "scale"):
        v = np.asarray(json.loads("[" + meta[name].strip("[]") + "]"), dtype=np.float64)
        out.append(np.broadcast_to(v, (dim,)) if v.size == 1 else v)
    return out


def step(folder):
    """Inputs and gradients of a first step that fmcore wrote."""
    inputs, gradients = {}, {}
    for path in glob.glob(os.path.join(folder, "*.npy")):
        name = os.path.basename(path)[: -len(".npy")]
        if name.startswith("gradient."):
            gradients[name[len("gradient.") :]] = np.load(path)
        else:
            inputs[name] = np.load(path)
    return inputs, gradients


def mnist(folder):
    """The first 9,000 of the shipped images: (n, 1, 28, 28) bytes."""
    with gzip.open(os.path.join(folder, "t10k-images-idx3-ubyte.gz")) as f:
        return np.frombuffer(f.read()[16:], np.uint8).reshape(-1, 1, 28, 28)[:9000]


def relative(a, b):
    """Largest difference over the largest value."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.max(np.abs(a - b)) / max(np.max(np.abs(b)), 1e-30))


def gradients_differ(theirs, ours):
    """Largest difference of any tensor, over that tensor's largest value. Gradients that are zero but
    for rounding (a bias before a norm of its own channel) do not count: 1e-4 of the largest of all."""
    least = 1e-4 * max(float(np.max(np.abs(g))) for g in ours.values())
    worst = 0.0
    for name, b in ours.items():
        b, a = np.asarray(b, np.float64), np.asarray(theirs[name], np.float64)
        worst = max(worst, float(np.max(np.abs(a - b)) / max(np.max(np.abs(b)), least)))
    return worst


def eight_gaussians():
    """torchcfm's: centres (8, 2) and standard deviation."""
    angle = np.arange(8) * np.pi / 4
    return 5.0 * np.stack([np.cos(angle), np.sin(angle)], 1), 0.1**0.25  # its covariance is the root of 0.1
