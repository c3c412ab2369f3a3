#!/usr/bin/env python3
"""Picks a small conformance set from a large one, in the same format; the same choice every time.

    scripts/golden_subset.py FROM [TO] [--max-bytes N]

FROM holds index.jsonl and data.bin (kernels/tests/data/README.md describes them); TO is written anew, by default
kernels/tests/data/golden. Taken: every published (`literal`) and `special` case, the `proc` cases of little work, and of
`int` and `real` first the cheapest cases that between them show every source and every pair of traits, then the smallest
of the rest, until the size is reached.
"""

import argparse
import itertools
import json
import pathlib

ALIGN = 64
BYTES = {"i8": 1, "i32": 4, "f32": 4, "f64": 8}
ARRAYS = ("x", "w", "b", "y", "a")
MOST_PROC_WORK = 2_000_000  # multiply-adds: emulated machines run these too


def arrays(case):
    return [name for name in ARRAYS if isinstance(case.get(name), dict)]


def line(case):
    return json.dumps(case, ensure_ascii=False, separators=(",", ":")) + "\n"


def cost(case):
    """Bytes that the case adds to both files."""
    data = sum(-(-case[a]["len"] * BYTES[case[a]["dt"]] // ALIGN) * ALIGN for a in arrays(case))
    return data + len(line(case).encode())


def band(value):
    """Sizes in octaves of two: 1, 2-3, 4-15, 16-63, …"""
    return (value.bit_length() + 1) // 2


def traits(case):
    """What a kernel may treat specially."""
    axes = list(zip(case["in"], case["kernel"], case["stride"], case["dilation"]))
    groups, cin = case["groups"], case["cin"]
    return {
        "rank": case["dims"],
        "groups": "one" if groups == 1 else "depthwise" if groups == cin else "grouped",
        "multiplier": groups == cin and case["cout"] > cin,
        "strides": tuple(sorted(set(min(s, 5) for s in case["stride"]))),
        "dilated": any(d > 1 for d in case["dilation"]),
        "dilated and strided": any(d > 1 and s > 1 for _, _, s, d in axes),
        "kernel against stride": tuple(sorted({(k > s) - (k < s) for _, k, s, _ in axes})),
        "uneven overlap": any(k % s for _, k, s, _ in axes),
        "largest kernel": band(max(case["kernel"])),
        "pads": "none" if not any(case["pads_begin"] + case["pads_end"])
        else "even" if case["pads_begin"] == case["pads_end"] else "uneven",
        "output padding": any(case["outpad"]),
        "batch": min(case["n"], 2),
        "bias": case["bias"],
        "single input": all(i == 1 for i, *_ in axes),
        "cin": band(cin // groups),
        "cout": band(case["cout"] // groups),
        "width": band(case["in"][-1]),
    }


def features(case):
    return {(case["kind"], *pair) for pair in itertools.combinations(sorted(traits(case).items()), 2)}


def choose(cases, max_bytes):
    chosen = [
        c for c in cases
        if c["kind"] in ("literal", "special") or c["kind"] == "proc" and c["macs"] <= MOST_PROC_WORK
    ]
    room = max_bytes - sum(map(cost, chosen))
    rest = {c["id"]: (cost(c), features(c), c) for c in cases if c["kind"] in ("int", "real")}
    seen, sources = set(), set()
    while rest:
        def worth(i):
            """A new source, then most news for its bytes; when nothing is new, the smallest. The id breaks ties."""
            price, found, case = rest[i]
            return case["source"] not in sources, len(found - seen) / price, -price, i

        price, found, case = rest.pop(max(rest, key=worth))
        if price <= room:
            room -= price
            seen |= found
            sources.add(case["source"])
            chosen.append(case)
    return sorted(chosen, key=lambda c: c["id"])


def write(cases, source, target):
    data = (source / "data.bin").read_bytes()
    packed = bytearray()
    target.mkdir(parents=True, exist_ok=True)
    with open(target / "index.jsonl", "w", encoding="utf-8", newline="\n") as index:
        for case in cases:
            case = dict(case)
            for name in arrays(case):
                at, size = case[name]["off"], case[name]["len"] * BYTES[case[name]["dt"]]
                packed.extend(bytes(-len(packed) % ALIGN))
                case[name] = {**case[name], "off": len(packed)}
                packed.extend(data[at : at + size])
            index.write(line(case))
    (target / "data.bin").write_bytes(packed)
    return len(packed) + (target / "index.jsonl").stat().st_size


def main():
    here = pathlib.Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=pathlib.Path, metavar="FROM")
    parser.add_argument("target", type=pathlib.Path, metavar="TO", nargs="?",
                        default=here / "kernels/tests/data/golden")
    parser.add_argument("--max-bytes", type=int, default=4_000_000)
    args = parser.parse_args()
    with open(args.source / "index.jsonl", encoding="utf-8") as index:
        cases = [json.loads(text) for text in index if text.strip()]
    chosen = choose(cases, args.max_bytes)
    size = write(chosen, args.source, args.target)
    kinds = {k: sum(c["kind"] == k for c in chosen) for k in sorted({c["kind"] for c in cases})}
    whole = {f for c in cases if c["kind"] in ("int", "real") for f in features(c)}
    kept = {f for c in chosen if c["kind"] in ("int", "real") for f in features(c)}
    print(f"{len(chosen)} of {len(cases)} cases, {size} bytes: {kinds}")
    sources = [{c["source"] for c in some} for some in (chosen, cases)]
    print(f"pairs of traits shown: {len(kept)} of {len(whole)}; sources: {len(sources[0])} of {len(sources[1])}")


if __name__ == "__main__":
    main()
