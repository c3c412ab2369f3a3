#!/usr/bin/env python3
"""Can the verdicts of `tconv compare` be believed? Three experiments, each a table for docs/methodology.md.

    cargo build --release
    scripts/experiments/verdicts.py same            # a kernel against itself, two busy loops beside it: at most 1 of 50 false
    scripts/experiments/verdicts.py slower-loaded   # 4 % slower, two busy loops beside it, 30 s: found in at least 9 of 10
    scripts/experiments/verdicts.py slower-quiet    # 2 % slower, a quiet machine, 5 s: found in at least 9 of 10

Every run has a seed of its own. Exit code 1 where a promise is broken. `--runs` does only some of the runs, `--first` from
which seed on, so that long experiments can be had in parts; `--json` prints the records of all runs instead of a table.
"""

import argparse
import collections
import json
import os
import subprocess
import sys

# Layers whose runs are short against the time slice of a scheduler: longer ones are hardly ever left alone on a busy machine.
LAYERS = ["hole_k2_s4", "enet_up", "group16_k4"]
KERNEL = "polyphase"

EXPERIMENTS = {
    # name: (injected slowdown in percent, busy loops, seconds for each run, runs)
    "same": (0, 2, 3, 50),
    "slower-loaded": (4, 2, 30, 10),
    "slower-quiet": (2, 0, 5, 10),
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--tconv", default="target/release/tconv", help="the program")
    parser.add_argument("--runs", type=int, help="how many runs")
    parser.add_argument("--first", type=int, default=1, help="seed of the first run")
    parser.add_argument("--json", action="store_true", help="print records")
    return parser.parse_args()


class Busy:
    """Loops that do nothing but take processors away."""

    def __init__(self, loops):
        self.loops = loops
        self.processes = []

    def __enter__(self):
        self.processes = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(self.loops)]

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()


def compare(program, slower, seconds, seed):
    """One run: its comparison."""
    layer = LAYERS[seed % len(LAYERS)]
    second = f"{KERNEL}+{slower}%" if slower else KERNEL
    command = [program, "compare", KERNEL, second, "-w", f"^{layer}$", "--seed", str(seed)]
    command += ["--budget", str(seconds), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False, text=True, timeout=20 * seconds + 60)
    if done.returncode not in (0, 1, 3):
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    (comparison,) = (r for r in records if r["record"] == "comparison" and not r.get("provisional"))
    return {"seed": seed, **comparison}


def table(results):
    lines = ["| seed | layer | ratio | 95 % interval | band ± | sittings | rounds | clean | verdict |",
             "|--:|---|--:|---|--:|--:|--:|--:|---|"]
    for r in results:
        # Without: too few rounds were clean for an interval.
        ratio, low, high = (f"{x:.4f}" for x in r["ratio"] or [float("nan")] * 3)
        clean = sum(r["clean_share"]) / 2
        lines.append(f"| {r['seed']} | {r['workload']} | {ratio} | {low} – {high} | {100 * r['band']:.1f} % "
                     f"| {r['sittings']} | {r['rounds']} | {100 * clean:.0f} % | {r['verdict']} |")
    return "\n".join(lines)


def main():
    args = arguments()
    slower, loops, seconds, runs = EXPERIMENTS[args.experiment]
    runs = args.runs or runs
    with Busy(loops):
        results = [compare(args.tconv, slower, seconds, seed) for seed in range(args.first, args.first + runs)]
    verdicts = collections.Counter(r["verdict"] for r in results)
    if args.json:
        print("\n".join(json.dumps(r) for r in results))
    else:
        print(table(results))
        load = os.getloadavg()[0]
        print(f"\n{runs} runs, load {load:.1f}: " + ", ".join(f"{n} {v}" for v, n in verdicts.most_common()))
    if slower:
        kept = 10 * verdicts["SLOWER"] >= 9 * runs and verdicts["FASTER"] == 0
    else:
        kept = verdicts["SLOWER"] + verdicts["FASTER"] <= max(1, runs // 50)
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
