"""Tests of the harness itself, with canned workers and results: no peer is needed."""
import ast
import glob
import json
import os
import sys
import tempfile

import peers
import report
import runner
from rows import ROWS, rows_at, sweeps


def sources_compile():
    for path in glob.glob("*.py"):
        with open(path, encoding="utf-8") as f:
            ast.parse(f.read(), path)


def ratios_are_of_rounds():
    r = runner.ratios([1.0, 2.0, 4.0], [2.0, 6.0, 4.0])
    assert r == {"median": 2.0, "min": 1.0, "max": 3.0}, r


def best_mode_is_by_median():
    modes = {"eager": {"family": "T", "ms": [3.0, 3.0, 3.0]}, "compile": {"family": "T", "ms": [2.0, 9.0, 2.5]},
             "jit": {"family": "J", "ms": [1.0, 1.0, 1.0]}, "dead": {"family": "J", "ms": [], "dead": "no compiler"}}
    best = runner.best_modes([1.0, 1.0, 1.0], modes)
    assert best["T"]["mode"] == "compile" and best["T"]["ratio"]["max"] == 9.0, best
    assert best["J"]["mode"] == "jit", best


def busy_rounds_are_left_out():
    assert runner.quietest([0.5, 0.0, 0.3, 0.01], 2) == [1, 3]
    times = iter([9.0, 1.0, 2.0, 3.0])
    shares = iter([0.9, 0.0, 0.01, 0.02])
    old, runner.Others.share = runner.Others.share, lambda self: next(shares)
    bench = type("B", (), {"rounds": 3, "gate": runner.Gate("")})()
    found = {"fmcore": {"ms": [], "memory": 0, "gflops": []}}
    row = {"ours": lambda: {"ms": next(times), "memory": 1}}
    share = peers.rounds(bench, row, {}, found)
    runner.Others.share = old
    assert found["fmcore"]["ms"] == [1.0, 2.0, 3.0] and share == 0.02, found


def own_work_is_not_foreign():
    others = runner.Others([])
    others.begin()
    sum(i * i for i in range(300000))
    others.end()
    assert 0 <= others.share() <= 1.2


def rows_are_chosen():
    assert peers.wanted("") == [*ROWS, "scaling", "adaptive"]
    assert peers.wanted("startup, train-64x3") == ["startup", "train-64x3"]
    try:
        peers.wanted("trian-64x3")
    except SystemExit as error:
        assert "trian-64x3" in str(error)
    else:
        raise AssertionError("an unknown row was accepted")


def sweep_varies_one_axis():
    for axis, value, s in sweeps():
        assert s[axis] == value


def rows_at_an_error():
    points = [{"rms": 1e-2, "rows": 100}, {"rms": 1e-4, "rows": 10000}]
    assert abs(rows_at(points, 1e-3) - 1000) < 1e-6
    assert rows_at(points, 1e-5) is None


WORK = """
class Work:
    steps = 4
    def __init__(self, p): self.p = p
    def run(self): print("noise on standard output")
    def check(self): return {"loss": self.p["loss"]}
def make(mode, p):
    if mode == "broken": raise ValueError("no such mode here")
    return Work(p)
"""


def workers_answer():
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "work_canned.py"), "w", encoding="utf-8") as f:
            f.write(WORK)
        os.environ["PYTHONPATH"] = folder
        peer = {"family": "X", "mode": "fine", "module": "work_canned", "parameters": {"loss": 0.5}}
        w = runner.Worker(sys.executable, peer)
        assert w.dead is None, w.dead
        assert w.ask(do="check") == {"check": {"loss": 0.5}}
        answer = w.ask(do="run", seconds=0, repeat=3)
        assert len(answer["ms"]) == 3 and answer["memory"] > 1 << 20, answer
        w.close()
        broken = runner.Worker(sys.executable, dict(peer, mode="broken"))
        assert "no such mode here" in broken.dead, broken.dead


def other_work_is_refused():
    workers = {"a": {"check": {"loss": 0.5}}, "b": {"check": {"loss": 1e-9}}, "c": {"check": {"loss": float("nan")}}}
    peers.verify({"tolerance": {"loss": 1e-5}}, workers)
    assert "failed" in workers["a"] and "failed" not in workers["b"] and "failed" in workers["c"]


def page_says_what_was_measured():
    mode = {"family": "PyTorch", "ms": [8.0, 9.0, 10.0], "memory": 300 << 20, "check": {"loss": 2e-7}}
    dead = {"family": "PyTorch", "ms": [], "dead": "no compiler"}
    modes = {"eager": mode, "compile": dead}
    result = {"title": "a step", "note": "", "targets": {"PyTorch": 8}, "command": "train-step --net mlp",
              "fmcore": {"ms": [1.0, 1.0, 2.0], "memory": 20 << 20, "gflops": [50.0]}, "modes": modes, "rounds": 3,
              "best": runner.best_modes([1.0, 1.0, 2.0], modes), "date": "2026-01-01",
              "profile": {"thread_ms": 2.0, "threads": 2, "gemm_peak_gflops": 100.0, "parts": [
                  {"name": "gemm", "thread_ms": 1.5, "gflops": 90.0}, {"name": "rest", "thread_ms": 0.5}]}}
    about = {"versions": {"torch": "2.15"}, "machine": {"cpu": "C", "cores": 2, "kernels": "K", "fmcore": "0",
                                                        "revision": "r"}}
    with tempfile.TemporaryDirectory() as folder:
        for name, value in (("train-64x3", result), ("about", about)):
            with open(os.path.join(folder, name + ".json"), "w", encoding="utf-8") as f:
                json.dump(value, f)
        page = os.path.join(folder, "page.md")
        report.page(folder, page)
        with open(page, encoding="utf-8") as f:
            text = f.read()
    assert "| a step | 1 | 20 | PyTorch, eager | 9 | 300 | 8.00 (5.00 to 9.00) | 8 |" in text, text
    assert "50 % of the GEMM peak" in text and "loss 2.0e-07" in text and "no compiler" in text, text
    assert "gemm 75 % (90 GFLOP/s, 90 % of the peak), rest 25 %" in text, text
    assert "(missed)" not in text
    missed = report.table({"x": dict(result, targets={"PyTorch": 8.5})})
    assert "8.5 (missed)" in missed, missed
    need = report.wanting_text(dict(result, targets={"PyTorch": 9}))  # 50 GFLOP/s in 1 ms: 0.05 GFLOP
    assert need == "9 x PyTorch would be 1 ms, 50 GFLOP/s (quickest round of each: 8.00 x)", need


def gate_is_held():
    with tempfile.TemporaryDirectory() as folder:
        trace = os.path.join(folder, "trace")
        gate = runner.Gate(f"sh -c 'echo in >>{trace}; \"$@\"; echo out >>{trace}' gate")
        gate.open()
        gate.open(1)
        with open(trace, encoding="ascii") as f:
            assert f.read() == "in\n"
        gate.open(1000)  # too long beside what came before: given back and taken again
        gate.close()
        with open(trace, encoding="ascii") as f:
            assert f.read() == "in\nout\nin\nout\n"


def main():
    tests = [sources_compile, ratios_are_of_rounds, best_mode_is_by_median, busy_rounds_are_left_out,
             own_work_is_not_foreign, rows_are_chosen, sweep_varies_one_axis, rows_at_an_error,
             workers_answer, other_work_is_refused, page_says_what_was_measured, gate_is_held]
    for test in tests:
        test()
        print("ok", test.__name__)


if __name__ == "__main__":
    main()
