#!/usr/bin/env python3
"""Takes recorded runs into the library: the choices that it ships, the roofs from which its kernels predict, and
how far these predictions are off.

    scripts/ship-choices.py             # writes kernels/src/planning/choice/shipped.jsonl and kernels/src/machine/measured.rs
    scripts/ship-choices.py --check     # fails where one of them is not what the recorded runs say

Reads results/runs/**/*.jsonl. Of a problem that several runs measured, the youngest counts, whole. Shipped are the candidates within
three times the time of the fastest, and the names of the others that took part: these never win, and the file is compiled into every program.
"""

import argparse
import json
import math
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
RUNS = ROOT / "results/runs"
SHIPPED = ROOT / "kernels/src/planning/choice/shipped.jsonl"
MEASURED = ROOT / "kernels/src/machine/measured.rs"
SCHEMA = {"run": 2, "choice": 1}
SLOWEST = 3.0


def five_digits(x):
    return float(f"{x:.4e}")


def quantile(values, p):
    position = min(max(p, 0.0), 1.0) * (len(values) - 1)
    below = math.floor(position)
    above = min(below + 1, len(values) - 1)
    return values[below] + (position - below) * (values[above] - values[below])


def interval(m):
    """The lower quartile of the rounds with its 95 % interval from order statistics; without rounds all that was seen."""
    rounds = sorted(t for t in m.get("rounds_ns", []) if t is not None)
    if len(rounds) < 2:
        seen = m["quantiles_ns"]
        triple = m["q1_ns"], min(seen[0], m["q1_ns"]), max(seen[-1], m["q1_ns"])
    else:
        half = 1.96 * math.sqrt(0.25 * 0.75 / len(rounds))
        ns = quantile(rounds, 0.25)
        triple = ns, min(quantile(rounds, 0.25 - half), ns), max(quantile(rounds, 0.25 + half), ns)
    return [five_digits(x) for x in triple]


def fingerprint(machine):
    """As the library prints it."""
    parts = ["".join(c for c in machine[key].lower() if c.isascii() and c.isalnum()) for key in ("vendor", "family", "model")]
    caches = [f"{b >> 20}m" if b % (1 << 20) == 0 else f"{b >> 10}k" for b in machine["caches"]]
    return "-".join([*parts, machine["isas"][-1] if machine["isas"] else "unknown", *caches, f"{machine['cores']}c"])


def runs():
    """Header and measurements of every recorded run, the oldest first."""
    found = []
    for path in sorted(RUNS.rglob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            if record["record"] == "header":
                if record["schema"] != SCHEMA["run"]:
                    sys.exit(f"{path.name}: schema {record['schema']}; this script reads {SCHEMA['run']}")
                found.append((record, []))
            elif record["record"] == "measurement":
                found[-1][1].append(record)
    return sorted(found, key=lambda run: run[0]["utc"])


def candidate(m):
    return {
        "kernel": m["kernel"],
        "variant": m["variant"],
        "revisions": [int(n) for n in m["revision"].split(".")],
        "ns": interval(m),
        "scratch_bytes": m["scratch_bytes"],
        "max_error_u": five_digits(m["max_error_u"]),
    }


def choices(all_runs):
    lines = {}
    for header, measurements in all_runs:
        machine, young = fingerprint(header["machine"]), {}
        for m in measurements:
            if m.get("peer") is None and m["cache"] == "warm" and m.get("revision"):
                young.setdefault((m["descriptor"], m["isa"], m["threads"]), []).append(m)
        for (problem, isa, threads), asked in young.items():
            candidates = sorted((candidate(m) for m in asked if m.get("verified")), key=lambda c: c["ns"][0])
            if not candidates:
                continue
            fast = [c for c in candidates if c["ns"][0] <= SLOWEST * candidates[0]["ns"][0]]
            # Those that declined are not listed: one that takes the problem since then may win by its prediction.
            others = sorted({m["kernel"] for m in asked if "declined" not in m} - {c["kernel"] for c in fast})
            key = machine, isa, threads, problem
            lines[key] = {
                "schema": SCHEMA["choice"], "machine": machine, "isa": isa, "threads": threads, "cache": "warm",
                "problem": problem, "effort": "patient",
                "candidates": fast + [{"kernel": name, "variant": "", "skipped": ""} for name in others],
            }
    dumps = lambda line: json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n"
    return "".join(dumps(lines[key]) for key in sorted(lines))


def roofs(all_runs):
    """Of each machine and instruction set: the best of its runs on one thread, since whatever disturbs makes a roof lower."""
    best = {}
    for header, _ in all_runs:
        for peak in header["roofs"]["peaks"]:
            if (peak["threads"], peak["dtype"]) != (1, "f32"):
                continue
            read = {b["level"]: b["gbytes_per_s"] for b in header["roofs"]["read"] if b["threads"] == 1}
            if "DRAM" in read and "L2" in read:
                found = peak["gflops"], read["DRAM"], read["L2"]
                key = fingerprint(header["machine"]), peak["isa"]
                best[key] = tuple(map(max, zip(found, best.get(key, found))))
    text = ("//! What recorded runs say of machines, and of predictions. Written by scripts/ship-choices.py: do not edit.\n\n"
            "/// Machine, instruction set; f32 GFLOP/s, and GB/s from DRAM and the level-2 cache, of one core.\n"
            f"pub(super) const MEASURED: [(&str, &str, [f64; 3]); {len(best)}] = [\n")
    rows = [f'    ("{machine}", "{isa}", {json.dumps([float(f"{x:.3g}") for x in values])}),\n' for (machine, isa), values in sorted(best.items())]
    return text + "".join(rows) + "];\n"


def spreads(all_runs):
    """Of each kernel: root mean square of the logarithm of measured over predicted time, with a prior of three at 0.3. What all
    kernels on a machine have in common is taken out: a machine that was not known when it was measured is as a whole
    faster or slower than predicted, which decides nothing."""
    by_machine = {}
    for header, measurements in all_runs:
        for m in measurements:
            if m.get("peer") is None and m.get("verified") and m.get("predicted_ns") and m["stopped"] != "once":
                error = math.log(m["q1_ns"] / m["predicted_ns"])
                by_machine.setdefault(fingerprint(header["machine"]), []).append((m["kernel"], error))
    errors = {}
    for found in by_machine.values():
        mean = sum(error for _, error in found) / len(found)
        for kernel, error in found:
            errors.setdefault(kernel, []).append(error - mean)
    text = ("\n/// Two of three predictions of a kernel lie within this factor (logarithm) of the measured time.\n"
            f"pub(crate) const SPREADS: [(&str, f64); {len(errors)}] = [\n")
    for kernel, e in sorted(errors.items()):
        spread = math.sqrt((sum(x * x for x in e) + 3 * 0.3**2) / (len(e) + 3))
        text += f'    ("{kernel}", {spread:.2f}),\n'
    return text + "];\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, fail where a file would change")
    arguments = parser.parse_args()
    all_runs = runs()
    stale = []
    for path, text in [(SHIPPED, choices(all_runs)), (MEASURED, roofs(all_runs) + spreads(all_runs))]:
        if arguments.check:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                stale.append(path.relative_to(ROOT))
        else:
            path.write_text(text, encoding="utf-8", newline="\n")
            print(f"{path.relative_to(ROOT)}: {len(text)} bytes, {text.count(chr(10))} lines")
    if stale:
        sys.exit(f"not what results/runs says: {', '.join(map(str, stale))}; run scripts/ship-choices.py")


if __name__ == "__main__":
    main()
