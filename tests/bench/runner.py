"""Rounds: fmcore and its peers one after another, again and again, in one run."""
import json
import os
import resource
import select
import shlex
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
QUIET = 50.0  # seconds that the gate is held at most, unless one measurement is longer


def log(text):
    print(text, file=sys.stderr, flush=True)


class Gate:
    """Holds PEERS_GATE while something is measured: a command that runs its arguments when the
    machine is otherwise idle (flock, a queue). Without it: nothing."""

    def __init__(self, command):
        self.command, self.process, self.since = shlex.split(command or ""), None, 0.0

    def open(self, expected=0.0):
        if not self.command:
            return
        if self.process and time.monotonic() - self.since + expected > QUIET:
            self.close()
        if not self.process:
            wait = [*self.command, "sh", "-c", "echo ready; read line"]
            self.process = subprocess.Popen(wait, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self.process.stdout.readline()
            self.since = time.monotonic()

    def close(self):
        if self.process:
            self.process.stdin.close()
            self.process.wait()
            self.process = None


def machine_seconds():
    """CPU seconds that all processes together have used; 0 where the system does not say."""
    try:
        with open("/proc/stat", encoding="ascii") as f:
            user, nice, system, _, _, irq, softirq, steal = map(int, f.readline().split()[1:9])
    except (OSError, ValueError):
        return 0.0
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def own_seconds(pids=()):
    """CPU seconds of this process, its finished children and these processes."""
    mine, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    total = mine.ru_utime + mine.ru_stime + children.ru_utime + children.ru_stime
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii") as f:
                fields = f.read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


class Others:
    """The share of the machine that other processes take while we measure."""

    def __init__(self, pids):
        self.pids, self.foreign, self.wall = pids, 0.0, 0.0

    def begin(self):
        self.at = time.monotonic(), machine_seconds(), own_seconds(self.pids)

    def end(self):
        self.wall += time.monotonic() - self.at[0]
        self.foreign += max(machine_seconds() - self.at[1] - (own_seconds(self.pids) - self.at[2]), 0.0)

    def share(self):
        """Of the rounds since the last call."""
        share = self.foreign / max(self.wall * (os.cpu_count() or 1), 1e-9)
        self.foreign = self.wall = 0.0
        return share


def quietest(shares, n):
    """Which rounds to keep, in order: the n with the smallest share of others."""
    return sorted(sorted(range(len(shares)), key=lambda i: shares[i])[:n])


class Fmcore:
    """The program, uninstalled or installed."""

    def __init__(self, path, data):
        self.environment = dict(os.environ)
        self.path, self.data = path, data
        with open(path, "rb") as f:
            wrapper = f.read(2) == b"#!"
        real = os.path.join(os.path.dirname(path), ".libs", "fmcore")
        if wrapper and os.path.exists(real):  # the shell script that libtool puts before it costs time
            self.path = real
            old = self.environment.get("LD_LIBRARY_PATH")
            self.environment["LD_LIBRARY_PATH"] = os.path.dirname(real) + (":" + old if old else "")

    def run(self, *arguments):
        done = subprocess.run([self.path, *map(str, arguments)], env=self.environment,
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"fmcore {' '.join(map(str, arguments))}: {done.stderr.strip()}")
        return done.stdout

    def bench(self, *arguments):
        return json.loads(self.run("bench", *arguments, "--json"))["bench"]


class Worker:
    """A peer's process; `dead` is the reason when it cannot work here."""

    def __init__(self, python, peer):
        self.peer, self.dead, self.setup = peer, None, time.monotonic()
        environment = dict(os.environ, BENCH_THREADS=str(peer["parameters"].get("threads", 2)),
                           TORCHINDUCTOR_COMPILE_THREADS="1", PYTHONDONTWRITEBYTECODE="1")
        command = [python, os.path.join(HERE, "worker.py"), peer["module"], peer["mode"],
                   json.dumps(peer["parameters"])]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE if not os.environ.get("PEERS_VERBOSE") else None,
                                        text=True, env=environment)
        self.read(peer.get("patience", 400))
        self.setup = time.monotonic() - self.setup

    def read(self, patience):
        ready = select.select([self.process.stdout], [], [], patience)[0]
        line = self.process.stdout.readline() if ready else ""
        answer = json.loads(line) if line else {"error": "died" if ready else f"took over {patience} s"}
        if "error" in answer:
            self.dead = answer["error"]
            self.close()
        return answer

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self.read(600)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def command_seconds(command, environment=None):
    begin = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    return time.perf_counter() - begin


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratios(ours, theirs):
    """Of rounds side by side: peer / fmcore."""
    return spread([b / a for a, b in zip(ours, theirs)])


def best_modes(ours, modes):
    """For each family of peers the mode with the smallest median."""
    best = {}
    for name, mode in modes.items():
        if not mode.get("ms"):
            continue
        median = statistics.median(mode["ms"])
        family = mode["family"]
        if family not in best or median < best[family]["ms"]["median"]:
            best[family] = {"mode": name, "ms": spread(mode["ms"]), "memory": mode.get("memory", 0),
                            "ratio": ratios(ours, mode["ms"])}
    return best
