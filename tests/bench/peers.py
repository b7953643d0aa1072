"""fmcore against its peers, side by side: peers.py [--python P] [--fmcore F] [--rows A,B] [--rounds N].

Each row alternates fmcore and all modes of its peers, round by round; see rows.py for the work and
worker.py for how a peer runs. Results stay in --work and the page is written from all of them, so
rows may be measured in several calls."""
import argparse
import json
import os
import platform
import statistics
import sys
import time

import report
import runner
from rows import MIXTURES, ROWS, adaptive, scaling
from runner import log

VERSIONS = ["torch", "torchdiffeq", "torchcfm", "flow_matching", "jax", "diffrax", "POT", "scipy",
            "scikit-learn", "faiss-cpu", "numpy"]


class Bench:
    """What rows share."""

    def __init__(self, a):
        self.work, self.python, self.rounds = os.path.abspath(a.work), a.python, a.rounds
        self.mnist = a.mnist
        self.fmcore = runner.Fmcore(os.path.abspath(a.fmcore), a.mnist)
        self.gate = runner.Gate(os.environ.get("PEERS_GATE"))
        self.setup_gate = runner.Gate(os.environ.get("PEERS_SETUP_GATE"))

    def folder(self, name):
        path = os.path.join(self.work, "files", name)
        os.makedirs(path, exist_ok=True)
        return path


def start(bench, peers):
    """Workers of all modes, checked; those that fail here are kept with the reason."""
    workers = {}
    for peer in peers if bench.python else []:
        alone = len({p["family"] for p in peers}) == 1 or peer["mode"] == peer["family"]
        name = peer["mode"] if alone else f"{peer['family']} {peer['mode']}"
        if "command" in peer:
            workers[name] = {"family": peer["family"], "command": peer["command"], "ms": []}
            continue
        w = runner.Worker(bench.python, peer)
        entry = {"family": peer["family"], "worker": w, "ms": [], "factor": peer.get("factor", 1)}
        if not w.dead:
            entry["check"] = w.ask(do="check").get("check")
        log(f"  {name}: {w.dead or entry['check']} ({w.setup:.0f} s to set up)")
        workers[name] = entry
    return workers


def verify(row, workers):
    """The same work on both sides, or the row is worth nothing."""
    for name, entry in workers.items():
        for key, value in (entry.get("check") or {}).items():
            limit = row.get("tolerance", {}).get(key)
            if limit is not None and not value <= limit:
                entry["failed"] = f"{key} differs by {value:.2g}"
                log(f"  {name}: {entry['failed']}, at most {limit:g} is the same work")


def measure_peer(row, entry):
    if "command" in entry:
        return runner.command_seconds(entry["command"]) * 1e3, 0
    answer = entry["worker"].ask(do="run", seconds=row.get("seconds", 0.4), repeat=row.get("repeat", 5))
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return statistics.median(answer["ms"]) * entry["factor"], answer["memory"]


BUSY = 0.05  # of the machine, taken by others: such a round is measured again


def one_round(bench, row, workers, expected, others):
    """Each side once: {name: (ms, memory, more)}."""
    out = {}
    measures = {"fmcore": row["ours"], **row.get("also", {})}
    for name in [*measures, *workers]:
        bench.gate.open(expected.get(name, 3))
        begin = time.monotonic()
        others.begin()
        if name in measures:
            one = measures[name]()
            out[name] = (one["ms"], one["memory"], one)
        else:
            out[name] = (*measure_peer(row, workers[name]), {})
        others.end()
        expected[name] = time.monotonic() - begin
    return out


def rounds(bench, row, workers, found):
    """A B C A B C ...: as many rounds as wanted, those in which others used the machine left out as
    long as there are better ones. The share of others in the rest."""
    alive = {n: e for n, e in workers.items() if not (e.get("worker") and e["worker"].dead)}
    others = runner.Others([e["worker"].process.pid for e in alive.values() if "worker" in e])
    wanted_rounds = min(bench.rounds, row.get("rounds", bench.rounds))
    expected, all_rounds, shares = {}, [], []
    while sum(s < BUSY for s in shares) < wanted_rounds and len(shares) < 2 * wanted_rounds:
        all_rounds.append(one_round(bench, row, alive, expected, others))
        shares.append(others.share())
    kept = runner.quietest(shares, wanted_rounds)
    for i in kept:
        for name, (ms, memory, more) in all_rounds[i].items():
            entry = found.get(name) or alive[name]
            entry["ms"].append(ms)
            entry["memory"] = max(entry.get("memory", 0), memory)
            if more.get("gflops"):
                entry["gflops"].append(more["gflops"])
    return max(shares[i] for i in kept)


def profile(bench, command):
    """Where fmcore's time goes, with the GEMM peak of the same run."""
    if command[0] not in ("train-step", "sample", "likelihood"):
        return None
    bench.gate.open(5)
    return bench.fmcore.bench(*command, "--profile")[0].get("profile")


def prepare_row(bench, name):
    """The row with its workers, ready to be measured; None when fmcore cannot do it."""
    log(f"{name}: {ROWS[name]['title']}")
    bench.setup_gate.open()
    try:
        row = ROWS[name]["prepare"](bench)
        row["workers"] = start(bench, row["peers"])
    except RuntimeError as error:
        log(f"{name}: {error}")
        return None
    finally:
        bench.setup_gate.close()
    verify(row, row["workers"])
    return row


def run_row(bench, name, row):
    workers = row["workers"]
    found = {n: {"ms": [], "memory": 0, "gflops": []} for n in ("fmcore", *row.get("also", {}))}
    result = {"title": ROWS[name]["title"], "note": row.get("note", ""), "targets": row["targets"],
              "command": " ".join(str(a) if not str(a).startswith(bench.work) else "RUN" for a in row["command"])}
    try:
        result["others"] = rounds(bench, row, workers, found)
        result["profile"] = profile(bench, row["command"])
    finally:
        for entry in workers.values():
            if "worker" in entry:
                entry["dead"] = entry["worker"].dead
                entry["worker"].close()
    ours = found["fmcore"]["ms"]
    modes = {n: {k: e[k] for k in ("family", "ms", "memory", "check", "dead", "failed") if k in e}
             for n, e in workers.items()}
    for n in row.get("also", {}):
        modes[n] = {"family": n, "ms": found[n]["ms"], "memory": found[n]["memory"]}
    result.update(fmcore=found["fmcore"], modes=modes, best=runner.best_modes(ours, modes),
                  rounds=len(ours), date=time.strftime("%Y-%m-%d"),
                  revision=os.environ.get("PEERS_REVISION", ""))
    return result


def run_scaling(bench):
    points = []
    for axis, value, arguments in scaling(bench):
        bench.gate.open(3)
        one = bench.fmcore.bench(*arguments)[0]
        flops = one["gflops"] * one["median"] * 1e6
        points.append({"axis": axis, "value": value, "ms": one["median"], "flops": flops})
        log(f"  {axis} {value}: {one['median']:.3f} ms, {one['gflops']:.0f} GFLOP/s")
    bench.gate.close()
    return {"title": "time against work", "points": points, "date": time.strftime("%Y-%m-%d")}


def run_adaptive(bench):
    found = {}
    for name in MIXTURES if bench.python else []:
        bench.setup_gate.open()
        ours, theirs = adaptive(bench, name)
        bench.setup_gate.close()
        found[name] = {"fmcore": ours, "torchdiffeq": theirs}
        for a, b in zip(ours, theirs):
            log(f"  {name} {a['tolerance']:g}: fmcore {a['rows']} rows, error {a['rms']:.2g}; "
                f"torchdiffeq {b['rows']}, {b['rms']:.2g}")
    return {"title": "rows of adaptive solvers", "mixtures": found, "date": time.strftime("%Y-%m-%d")}


SPECIAL = {"scaling": run_scaling, "adaptive": run_adaptive}


def versions(bench):
    if not bench.python:
        return {}
    import subprocess

    code = ("import importlib.metadata as m, json, sys\n"
            f"v = {{}}\nfor n in {VERSIONS!r}:\n  try: v[n] = m.version(n)\n  except m.PackageNotFoundError: pass\n"
            "v['Python'] = sys.version.split()[0]\nprint(json.dumps(v))")
    return json.loads(subprocess.run([bench.python, "-c", code], capture_output=True, text=True, check=True).stdout)


def machine(bench):
    cpu = ""
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            info = dict([part.strip() for part in line.split(":", 1)] for line in f if ":" in line)
        cpu = info.get("model name", "")
        flags = info.get("flags", "").split()
        best = [f for f in ("amx_tile", "avx512f", "avx2") if f in flags]
        cpu += f" (family {info.get('cpu family')}, model {info.get('model')}; {', '.join(best)})"
    kernels = bench.fmcore.bench("gemm", "--repeat", 1)[0]["detail"].get("backend", "")
    return {"cpu": cpu or platform.processor(), "cores": os.cpu_count(), "kernels": kernels,
            "fmcore": bench.fmcore.run("--version").split()[1], "revision": os.environ.get("PEERS_REVISION", "")}


def parse(argv):
    a = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    a.add_argument("--python", default="", help="the peers' interpreter; empty: fmcore alone")
    a.add_argument("--fmcore", default="./fmcore")
    a.add_argument("--mnist", default="data/mnist")
    a.add_argument("--work", default="bench-peers", help="folder of runs and results")
    a.add_argument("--rows", default="", help="names, separated by commas; empty: all; 'none': only the page")
    a.add_argument("--rounds", type=int, default=5)
    a.add_argument("--together", type=int, default=3, help="rows whose peers are started before any is measured")
    a.add_argument("--page", default="doc/benchmarks.md")
    return a.parse_args(argv)


def wanted(text):
    names = [*ROWS, *SPECIAL]
    if text == "none":
        return []
    chosen = [n for n in text.replace(" ", ",").split(",") if n] or names
    unknown = [n for n in chosen if n not in names]
    if unknown:
        sys.exit(f"bench-peers: no row is called '{unknown[0]}'; there are {', '.join(names)}")
    return chosen


def keep(results, name, result):
    with open(os.path.join(results, name + ".json"), "w", encoding="utf-8") as f:
        json.dump(result, f, indent=1)
    print(report.text(name, result), flush=True)


def run_together(bench, names, results):
    """Prepare some rows, then measure them one after another."""
    ready = [(name, prepare_row(bench, name)) for name in names if name not in SPECIAL]
    try:
        for name, row in ready:
            if row:
                try:
                    keep(results, name, run_row(bench, name, row))
                except RuntimeError as error:
                    log(f"{name}: {error}")
        for name in names:
            if name in SPECIAL:
                keep(results, name, SPECIAL[name](bench))
    finally:
        bench.gate.close()


def main(argv):
    a = parse(argv)
    bench, chosen = Bench(a), wanted(a.rows)
    results = os.path.join(bench.work, "results")
    os.makedirs(results, exist_ok=True)
    for i in range(0, len(chosen), a.together):
        run_together(bench, chosen[i : i + a.together], results)
    if chosen or not os.path.exists(os.path.join(results, "about.json")):
        about = {"versions": versions(bench), "machine": machine(bench)}
        if about["versions"]:
            with open(os.path.join(results, "about.json"), "w", encoding="utf-8") as f:
                json.dump(about, f, indent=1)
    if bench.python and a.page:
        report.page(results, a.page)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
