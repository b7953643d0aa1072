"""The table on the terminal and doc/benchmarks.md, from the results of all rows measured so far."""
import json
import os
import statistics

from rows import MIXTURES, ROWS, rows_at


def milliseconds(v):
    return f"{v:.0f}" if v >= 1000 else f"{v:.3g}"


def mib(v):
    return f"{v / 2**20:.0f}" if v else "-"


def times(r):
    return f"{r['median']:.2f} ({r['min']:.2f} to {r['max']:.2f})"


def text(name, result):
    """A row for the terminal."""
    if "points" in result:
        return f"{name}: {len(result['points'])} points"
    if "mixtures" in result:
        return adaptive_text(result)
    ours = result["fmcore"]
    lines = [f"\n{name}: {result['title']} ({result['rounds']} rounds, others took up to "
             f"{100 * result.get('others', 0):.0f} % of the machine)",
             f"  {'fmcore':34} {milliseconds(statistics.median(ours['ms'])):>10} ms  "
             f"{mib(ours['memory']):>6} MiB" + rate(result)]
    for mode, m in result["modes"].items():
        if m.get("dead"):
            lines.append(f"  {mode:34} does not run here: {m['dead'][:120]}")
        elif m.get("ms"):
            r = spread_of(ours["ms"], m["ms"])
            lines.append(f"  {mode:34} {milliseconds(statistics.median(m['ms'])):>10} ms  {mib(m['memory']):>6} MiB"
                         f"  ratio {times(r)}" + (f"  NOT THE SAME WORK: {m['failed']}" if m.get("failed") else ""))
    for family, b in result["best"].items():
        target = result["targets"].get(family)
        if target:
            lines.append(f"  best of {family}: {b['mode']}, {b['ratio']['median']:.2f} x, wanted {target} x")
    return "\n".join(lines)


def spread_of(ours, theirs):
    r = [b / a for a, b in zip(ours, theirs)]
    return {"median": statistics.median(r), "min": min(r), "max": max(r)}


def peak(result):
    """GEMM's best rate in the same run, all threads."""
    return (result.get("profile") or {}).get("gemm_peak_gflops", 0)


def rate(result):
    g = result["fmcore"].get("gflops")
    if not g:
        return ""
    share = f", {100 * statistics.median(g) / peak(result):.0f} % of the GEMM peak" if peak(result) else ""
    return f"  {statistics.median(g):.0f} GFLOP/s{share}"


def profile_text(result):
    """gemm 45 % (250 GFLOP/s, 91 % of the peak), elementwise 30 %, ..."""
    p = result.get("profile")
    if not p:
        return ""
    out = []
    for part in p["parts"]:
        share = 100 * part["thread_ms"] / p["thread_ms"]
        if share < 0.5:
            continue
        rate = part.get("gflops")
        fast = rate and part["name"] in ("gemm", "convolution", "composite")
        out.append(f"{part['name']} {share:.0f} %" + (
            f" ({rate:.0f} GFLOP/s, {100 * rate / p['gemm_peak_gflops']:.0f} % of the peak)" if fast else ""))
    return (f"Time of {p['threads']} threads: {', '.join(out)}; GEMM peak in this run "
            f"{p['gemm_peak_gflops']:.0f} GFLOP/s.")


def wanting_text(result):
    """What a missed target would take, beside what there is."""
    out, ours = [], result["fmcore"]
    if not ours.get("gflops"):
        return ""
    ms, rate_now = statistics.median(ours["ms"]), statistics.median(ours["gflops"])
    for family, b in result["best"].items():
        target = result["targets"].get(family)
        if target and b["ratio"]["median"] < target:
            need = b["ms"]["median"] / target
            undisturbed = b["ms"]["min"] / min(ours["ms"])
            out.append(f"{target:g} x {family} would be {milliseconds(need)} ms, {rate_now * ms / need:.0f} GFLOP/s "
                       f"(quickest round of each: {undisturbed:.2f} x)")
    return "; ".join(out)


def check_text(result):
    worst = {}
    for mode in result["modes"].values():
        for key, value in (mode.get("check") or {}).items():
            worst[key.lstrip("!")] = max(value, worst.get(key.lstrip("!"), 0))
    return ", ".join(f"{k} {v:.1e}" for k, v in worst.items())


HEAD = """# Benchmarks

This page is written by `make bench-peers`; do not edit it. fmcore and its peers ran the same work
alternately in one run (A B C A B C ...), each peer in all its modes listed below. A ratio is peer / fmcore
within one round: its median, and the smallest and largest of the rounds. Milliseconds are medians.
Memory is the largest resident size of the process, a Python process with its libraries included.

"""


def busy_mark(result):
    return " (machine not quiet)" if result.get("others", 0) > 0.05 else ""


def table(results):
    out = ["| work | fmcore, ms | MiB | peer, its best mode | ms | MiB | ratio (of rounds) | wanted |",
           "|---|---:|---:|---|---:|---:|---:|---:|"]
    for name, r in results.items():
        if "fmcore" not in r:
            continue
        first = f"{r['title']}{busy_mark(r)} | {milliseconds(statistics.median(r['fmcore']['ms']))} | {mib(r['fmcore']['memory'])}"
        for family, b in r["best"].items():
            target = r["targets"].get(family)
            mode = "" if b["mode"] in (family, family.split(", ")[0]) else f", {b['mode'].replace(family + ' ', '')}"
            met = "" if not target else f"{target:g}" + ("" if b["ratio"]["median"] >= target else " (missed)")
            out.append(f"| {first} | {family}{mode} | {milliseconds(b['ms']['median'])} | {mib(b['memory'])} | "
                       f"{times(b['ratio'])} | {met} |")
            first = " | | "
        if not r["best"]:
            out.append(f"| {first} | | | | | |")
    return "\n".join(out) + "\n"


def modes_text(results):
    out = ["## Modes, checks, commands\n"]
    for name, r in results.items():
        if "fmcore" not in r:
            continue
        ms = r["fmcore"]["ms"]
        out.append(f"**{r['title']}** (`ROWS={name}`, {r['rounds']} rounds, {r['date']}, "
                   f"revision {r.get('revision') or 'not known'}). {r['note'] and r['note'] + '. '}"
                   f"fmcore: {milliseconds(statistics.median(ms))} ms ({milliseconds(min(ms))} to "
                   f"{milliseconds(max(ms))}){rate(r).replace('  ', ', ')}.")
        for mode, m in r["modes"].items():
            if m.get("dead"):
                out.append(f"  {mode}: does not run here ({m['dead'][:100].rstrip()}).")
            elif m.get("ms"):
                bad = f" (not the same work: {m['failed']})" if m.get("failed") else ""
                out.append(f"  {mode}: {milliseconds(statistics.median(m['ms']))} ms ({milliseconds(min(m['ms']))} "
                           f"to {milliseconds(max(m['ms']))}), {mib(m['memory'])} MiB{bad}.")
        if profile_text(r):
            out.append(f"  {profile_text(r)}")
        if wanting_text(r):
            out.append(f"  {wanting_text(r)}.")
        if check_text(r):
            out.append(f"  Largest differences from fmcore on the same weights: {check_text(r)}.")
        if r.get("others", 0) > 0.05:
            out.append(f"  The machine was not quiet: other processes took up to {100 * r['others']:.0f} % of it.")
        verb = "" if r["command"].startswith(("train --", "list")) else "bench "
        out.append(f"  `fmcore {verb}{r['command']}`\n")
    return "\n".join(out) + "\n"


def scaling_text(result, picture):
    out = ["## Time against work\n",
           "Training steps of an mlp (width 256, depth 3, batch 1024, 2 dimensions but for the axis that varies; "
           "counted multiply-adds as 2) and 10,000 samples (width 64, depth 3, dopri5 at 1e-5), two threads.\n",
           f"![milliseconds against GFLOP]({picture})\n" if picture else "",
           "| axis | value | GFLOP | ms | GFLOP/s |", "|---|---:|---:|---:|---:|"]
    for p in result["points"]:
        out.append(f"| {p['axis']} | {p['value']} | {p['flops'] / 1e9:.3g} | {milliseconds(p['ms'])} | "
                   f"{p['flops'] / p['ms'] / 1e6:.0f} |")
    return "\n".join(out) + "\n"


def adaptive_text(result):
    out = ["## Rows through the network at equal error\n",
           "dopri5 on the exact velocity of a mixture of Gaussians, 10,000 samples of the same noise, double: fmcore "
           "with a step size for each sample, torchdiffeq with one for all. Rows are evaluations of the velocity, one "
           "for each sample; errors are rms against torchdiffeq at 1e-10. The last column is torchdiffeq's rows over "
           "those of fmcore at the error in that line (interpolated between tolerances).\n",
           "| data | tolerance | torchdiffeq's error | its rows | fmcore's error | its rows | rows at equal error |",
           "|---|---:|---:|---:|---:|---:|---:|"]
    for name, found in result["mixtures"].items():
        for a, b in zip(found["fmcore"], found["torchdiffeq"]):
            equal = rows_at(found["fmcore"], b["rms"])
            out.append(f"| {MIXTURES[name][0]} | {a['tolerance']:g} | {b['rms']:.2g} | {b['rows']} | {a['rms']:.2g} | "
                       f"{a['rows']} | {b['rows'] / equal:.2f} x |" if equal else
                       f"| {MIXTURES[name][0]} | {a['tolerance']:g} | {b['rms']:.2g} | {b['rows']} | {a['rms']:.2g} | "
                       f"{a['rows']} | - |")
    return "\n".join(out) + "\n"


def plot(result, path):
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = "fmcore"
    figure, axes = plt.subplots(figsize=(6.4, 4.4))
    for axis in dict.fromkeys(p["axis"] for p in result["points"]):
        points = sorted((p["flops"] / 1e9, p["ms"]) for p in result["points"] if p["axis"] == axis)
        axes.loglog(*zip(*points), marker="o", label=axis)
    low, high = (f(p["flops"] / 1e9 for p in result["points"]) for f in (min, max))
    middle = statistics.median(p["ms"] / p["flops"] * 1e9 for p in result["points"])
    axes.loglog([low, high], [low * middle, high * middle], color="grey", linestyle=":", label="proportional")
    axes.set_xlabel("GFLOP")
    axes.set_ylabel("milliseconds")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    return True


def page(results_folder, path):
    results, about = {}, {}
    for name in [*ROWS, "scaling", "adaptive"]:
        file = os.path.join(results_folder, name + ".json")
        if os.path.exists(file):
            with open(file, encoding="utf-8") as f:
                results[name] = json.load(f)
    with open(os.path.join(results_folder, "about.json"), encoding="utf-8") as f:
        about = json.load(f)
    m = about["machine"]
    text = HEAD + (f"- Machine: {m['cpu']}, {m['cores']} cores.\n"
                   f"- fmcore {m['fmcore']}, revisions beside the rows below; {m['kernels']}.\n"
                   f"- Peers: {', '.join(f'{k} {v}' for k, v in about['versions'].items())}.\n"
                   "- Command: `make bench-peers` (`ROWS=NAME,...` selects, `ROUNDS=N`).\n\n")
    text += table(results) + "\n"
    missing = [f"`{name}`" for name in ROWS if name not in results]
    if missing:
        text += f"Without a result so far (`make bench-peers ROWS=...`): {', '.join(missing)}.\n\n"
    stem = os.path.splitext(os.path.basename(path))[0]  # benchmarks or benchmarks-MACHINE: notes.md, notes-MACHINE.md
    notes = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"notes{stem.removeprefix('benchmarks')}.md")
    if os.path.exists(notes):
        with open(notes, encoding="utf-8") as f:
            text += f.read() + "\n"
    if "scaling" in results:
        picture = f"{stem}-scaling.svg"
        drawn = plot(results["scaling"], os.path.join(os.path.dirname(path), picture))
        text += scaling_text(results["scaling"], picture if drawn else "") + "\n"
    if "adaptive" in results:
        text += adaptive_text(results["adaptive"]) + "\n"
    text += modes_text(results)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
