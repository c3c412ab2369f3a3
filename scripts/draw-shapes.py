#!/usr/bin/env python3
"""Draws layers at random from a conformance set, as a set of workloads: for judging choices on shapes that fitted nothing.

    scripts/draw-shapes.py TUPLES.tsv > bench-harness/workloads/drawn.toml
    scripts/draw-shapes.py TUPLES.tsv --rest > bench-harness/workloads/rest.toml    # those that were not drawn: for fitting

TUPLES.tsv has the columns of shared/conformance/tuples.tsv. Taken: legal ones of at least 5 MFLOP (and at most 10 GFLOP, 1 GiB
of tensors), each problem once, none that is in the zoo. The seed decides; the file says which it was.
"""

import argparse
import csv
import pathlib
import random
import tomllib

LEAST, MOST = 5e6, 10e9
MOST_BYTES = 1 << 30
ZOO = pathlib.Path(__file__).resolve().parent.parent / "bench-harness/workloads/zoo.toml"


def numbers(text):
    return [int(n) for n in text.split("x")]


def product(values):
    result = 1
    for value in values:
        result *= value
    return result


def layer(row):
    sizes = {key: numbers(row[key]) for key in
             ["in", "kernel", "stride", "pads_begin", "pads_end", "outpad", "dilation", "out"]}
    n, cin, cout, groups = (int(row[key]) for key in ["n", "cin", "cout", "groups"])
    flops = 2 * n * cin * (cout // groups) * product(sizes["kernel"]) * product(sizes["in"])
    elements = n * cin * product(sizes["in"]) + n * cout * product(sizes["out"]) + cin * cout // groups * product(sizes["kernel"])
    return sizes, (n, cin, cout, groups), flops, 4 * elements


def identity(sizes, counts):
    return counts, *(tuple(sizes[key]) for key in ["in", "kernel", "stride", "pads_begin", "pads_end", "outpad", "dilation"])


def known():
    """The problems of the zoo."""
    for l in tomllib.loads(ZOO.read_text())["layer"]:
        sizes = {"in": l["input"], "kernel": l["kernel"], "stride": l["stride"], "pads_begin": l["padding"],
                 "pads_end": l.get("padding_end", l["padding"]), "outpad": l["output_padding"], "dilation": l["dilation"]}
        yield identity(sizes, (l["batch"], l["in_channels"], l["out_channels"], l.get("groups", 1)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tuples", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--rest", action="store_true", help="print what was not drawn")
    arguments = parser.parse_args()
    seen, candidates = set(known()), []
    with open(arguments.tuples, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            if row["legality"] != "legal":
                continue
            sizes, counts, flops, size = layer(row)
            key = identity(sizes, counts)
            if LEAST <= flops <= MOST and size <= MOST_BYTES and key not in seen:
                seen.add(key)
                candidates.append((row, sizes, counts))
    candidates.sort(key=lambda c: c[0]["#id"])
    drawn = random.Random(arguments.seed).sample(candidates, arguments.count)
    what = f"{len(candidates)} problems of at least 5 MFLOP; {arguments.count} were drawn with seed {arguments.seed} by scripts/draw-shapes.py"
    if arguments.rest:
        ids = {row["#id"] for row, _, _ in drawn}
        drawn = [c for c in candidates if c[0]["#id"] not in ids]
        print(f"# Of {what}; here are the others.\n# Cost models and choices may be fitted to them.")
    else:
        print(f"# Of {what}: these.")
        print("# They are held out: nothing is fitted to them, and choices are judged on them (`tconv choose --audit`).")
    for row, sizes, (n, cin, cout, groups) in sorted(drawn, key=lambda c: c[0]["#id"]):
        print(f'\n[[layer]]\nname = "{row["#id"]}"\nbatch = {n}\nin_channels = {cin}\nout_channels = {cout}\ngroups = {groups}')
        for name, key in [("input", "in"), ("kernel", "kernel"), ("stride", "stride"), ("padding", "pads_begin"),
                          ("padding_end", "pads_end"), ("output_padding", "outpad"), ("dilation", "dilation")]:
            if name != "padding_end" or sizes["pads_end"] != sizes["pads_begin"]:
                print(f"{name} = {sizes[key]}")
        print(f'source = "{row["source"]}"\ntags = ["drawn"]')


if __name__ == "__main__":
    main()
