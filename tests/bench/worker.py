"""A peer as a process that stays: worker.py MODULE MODE PARAMETERS.

It imports and compiles once, then answers one JSON line for each JSON line:
  {"do": "check"}                  {"check": {name: relative difference}}
  {"do": "run", "seconds": S, "repeat": N}    {"ms": [...], "memory": bytes}
A work is an object of work_*.py with run() for one repetition, `steps` (repetitions inside a run),
and check(). Whatever a library prints goes to standard error."""
import importlib
import json
import os
import sys
import time


def peak_memory():
    """The largest resident size of this process so far, in bytes."""
    with open("/proc/self/status", encoding="ascii") as f:
        for line in f:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def measure(work, seconds, repeat):
    ms, begin = [], time.perf_counter()
    while len(ms) < repeat or (time.perf_counter() - begin < seconds and len(ms) < 100000):
        before = time.perf_counter()
        work.run()
        ms.append((time.perf_counter() - before) * 1e3 / work.steps)
    return ms


def answer(work, request):
    if request["do"] == "check":
        return {"check": work.check()}
    ms = measure(work, request["seconds"], request["repeat"])
    return {"ms": ms, "memory": peak_memory()}


def main():
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # nothing but answers on the pipe
    module, mode, parameters = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    try:
        work = importlib.import_module(module).make(mode, parameters)
        work.run()
        print(json.dumps({"ready": True}), file=out)
        for line in sys.stdin:
            print(json.dumps(answer(work, json.loads(line))), file=out)
    except Exception as error:  # the harness says which mode failed and goes on
        print(json.dumps({"error": f"{type(error).__name__}: {error}"[:400]}), file=out)
        raise


if __name__ == "__main__":
    main()
