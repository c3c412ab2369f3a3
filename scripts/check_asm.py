#!/usr/bin/env python3
"""Checks the inner loops of the micro-kernels in the disassembly: no calls, no bounds checks, no spills; and anywhere, no
function that is a single vector instruction.

    scripts/check_asm.py [BINARY] [--objdump PROGRAM] [--json] [--all]

BINARY: a release build that holds the kernels (default: target/release/tconv). x86-64 or aarch64, found from the file.
A hot loop is an innermost loop with at least FEWEST vector multiply-adds. In each of them these are faults:
  call      a call: an inline that was missed costs several times the speed
  check     a jump to where the program panics: a bounds check
  spill     a vector register saved to or loaded from the stack
Prints the loops with faults by instruction set (widest vector register in them) and size, and counts for each source file.
An intrinsic that is a function of its own was called where the instruction set was missing: from a closure that a function of the
standard library (`map`) or another caller did not inline.
Exit 1 if there is such a function, if a loop has a call or a check, or if more loops of a source spill than SPILLS says, which gives the reason.
"""

import argparse
import collections
import json
import re
import subprocess
import sys

FEWEST = 6

# Sources of which some loops spill, and how many at most in one instruction set (x86-64). Fewer is better: lower the number then.
SPILLS = {
    "algorithms/separable/passes.rs": 1,  # 2 or 3 registers
    "microkernels/row_pass/channels.rs": 11,  # up to 5, with 16 registers: 16 to 25 weights stay over a whole row
    "microkernels/row_pass/positions.rs": 18,  # up to 20, the same with masks
}

# Intrinsics that are functions of their own. What asks the processor for its features is called once.
INTRINSIC = re.compile(r"\bcore_arch::(?!x86::(cpuid|xsave))")

# What a failed check calls.
PANIC = re.compile(r"panic|_fail|unwrap|expect_failed|assert_failed")

FUNCTION = re.compile(r"^([0-9a-f]+) <(.*)>:$")
LINE = re.compile(r"^\s*([0-9a-f]+):\s+(?:(?:data16|rex\S*|cs|ds|notrack)\s+)*(\S+)\s*(.*)$")
TARGET = re.compile(r"^(?:\S+,\s*)*(?:0x)?([0-9a-f]+)(?:\s+<|$)")


class X86:
    fma = re.compile(r"^vfn?m(add|sub)\d{3}p[sd]$")
    call = re.compile(r"^call")
    jump = re.compile(r"^j[a-z]+$")
    always = re.compile(r"^jmp")
    stack = re.compile(r"\(%rsp[,)]")
    # Where the frame pointer is one; else it is a register like any other.
    framed = re.compile(r"\(%r[sb]p[,)]")
    vector = re.compile(r"%([xyz])mm\d+")
    move = re.compile(r"^vmov")

    @classmethod
    def isa(cls, loop):
        widest = max((m for _, op, args in loop if cls.fma.match(op) for m in cls.vector.findall(args)), default="x")
        return {"x": "xmm", "y": "avx2", "z": "avx512"}[widest]

    @classmethod
    def spills(cls, op, args, frame):
        stack = cls.framed if frame else cls.stack
        return bool(cls.move.match(op) and stack.search(args) and cls.vector.search(args))

    @classmethod
    def loads(cls, op, args):
        """Whether the multiply-add takes an operand from memory."""
        return "(" in args


class Aarch64:
    fma = re.compile(r"^fml[as]$")
    call = re.compile(r"^blr?$")
    jump = re.compile(r"^(b\.[a-z]+|cbn?z|tbn?z|b)$")
    always = re.compile(r"^b$")
    stack = framed = re.compile(r"\[(sp|x29)")
    vector = re.compile(r"\b[qv]\d+")

    @classmethod
    def isa(cls, loop):
        return "neon"

    @classmethod
    def spills(cls, op, args, _):
        return op.startswith(("ldr", "str", "ldp", "stp", "ldur", "stur")) and bool(
            cls.stack.search(args) and cls.vector.search(args)
        )

    @classmethod
    def loads(cls, op, args):
        return False


def functions(text):
    """(name, [(address, operation, arguments)]) of each function."""
    name, body = None, []
    for line in text:
        if found := FUNCTION.match(line):
            if body:
                yield name, body
            name, body = found[2], []
        elif found := LINE.match(line):
            body.append((int(found[1], 16), found[2], found[3]))
    if body:
        yield name, body


def hot_loops(body, index, machine):
    """Innermost loops with enough multiply-adds: ranges of `body`."""
    loops = set()
    for i, (_, op, args) in enumerate(body):
        if machine.jump.match(op) and (found := TARGET.match(args)):
            start = index.get(int(found[1], 16))
            if start is not None and start <= i:
                loops.add((start, i))
    for start, end in sorted(loops):
        if any((s, e) != (start, end) and start <= s and e <= end for s, e in loops):
            continue
        if sum(bool(machine.fma.match(op)) for _, op, _ in body[start : end + 1]) >= FEWEST:
            yield start, end


def panics(body, index, target, machine):
    """Whether the code at an address goes straight to a panic."""
    start = index.get(target)
    if start is None:
        return False
    for _, op, args in body[start : start + 12]:
        if machine.call.match(op):
            return bool(PANIC.search(args))
        if machine.jump.match(op) or machine.always.match(op) or op.startswith("ret"):
            return False
    return False


def examine(body, index, start, end, machine):
    """What one loop is made of, and what is wrong with it."""
    loop = body[start : end + 1]
    frame = any(op == "mov" and args == "%rsp,%rbp" for _, op, args in body[:20])
    first, last = loop[0][0], loop[-1][0]
    mix = collections.Counter()
    for _, op, args in loop:
        mix["instructions"] += 1
        if machine.fma.match(op):
            mix["multiply-adds"] += 1
            mix["of them from memory"] += machine.loads(op, args)
        elif machine.call.match(op):
            mix["calls"] += 1
        elif machine.spills(op, args, frame):
            mix["spills"] += 1
        elif machine.jump.match(op) and (found := TARGET.match(args)):
            target = int(found[1], 16)
            mix["checks"] += not first <= target <= last and panics(body, index, target, machine)
    return {
        "address": f"{next(a for a, op, _ in loop if machine.fma.match(op)):x}",
        "isa": machine.isa(loop),
        "instructions": mix["instructions"],
        "multiply_adds": mix["multiply-adds"],
        "from_memory": mix["of them from memory"],
        "faults": {fault: mix[fault] for fault in ("calls", "checks", "spills") if mix[fault]},
    }


def sources(binary, addresses):
    """For each address the file and line of the code that was inlined there, the innermost one above the vectors."""
    lines = subprocess.run(
        ["addr2line", "-i", "-a", "-e", binary, *(f"0x{a}" for a in addresses)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    found = []
    for line in lines:
        if line.startswith("0x"):
            found.append("?")
        elif found[-1] == "?" and (own := re.search(r"kernels/src/(?!microkernels/vector)(\S+)", line)):
            found[-1] = own[1]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", nargs="?", default="target/release/tconv")
    parser.add_argument("--objdump", default="objdump")
    parser.add_argument("--json", action="store_true", help="a line for each hot loop")
    parser.add_argument("--all", action="store_true", help="list all hot loops, not only those with faults")
    arguments = parser.parse_args()

    command = [arguments.objdump, "-d", "--no-show-raw-insn", "-C", arguments.binary]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace") as process:
        header = "".join(next(process.stdout, "") for _ in range(4))
        machine = Aarch64 if "aarch64" in header else X86
        loops, intrinsics = [], []
        for name, body in functions(process.stdout):
            if INTRINSIC.search(name):
                intrinsics.append(name)
            if "vectorize" in name or "tconv" in name:
                index = {address: i for i, (address, _, _) in enumerate(body)}
                loops += [examine(body, index, *ends, machine) for ends in hot_loops(body, index, machine)]
    if process.returncode:
        sys.exit(2)
    if not loops:
        print(f"{arguments.binary}: no loop with {FEWEST} vector multiply-adds: not a build of the kernels?", file=sys.stderr)
        sys.exit(2)

    for loop, source in zip(loops, sources(arguments.binary, [loop["address"] for loop in loops])):
        loop["source"] = source

    faulty = [loop for loop in loops if loop["faults"]]
    spilling = collections.Counter((loop["source"].split(":")[0], loop["isa"]) for loop in loops if "spills" in loop["faults"])
    wrong = [loop for loop in faulty if "calls" in loop["faults"] or "checks" in loop["faults"]]
    if arguments.json:
        for loop in loops:
            print(json.dumps(loop))
    else:
        for loop in loops if arguments.all else faulty:
            what = ", ".join(f"{count} {fault}" for fault, count in loop["faults"].items()) or "good"
            print(f"{loop['isa']:7} {loop['multiply_adds']:3} of {loop['instructions']:3}  {loop['address']} {loop['source']}  {what}")
        for isa in sorted({loop["isa"] for loop in loops}):
            own = [loop for loop in loops if loop["isa"] == isa]
            share = sum(loop["multiply_adds"] for loop in own) / sum(loop["instructions"] for loop in own)
            counts = ", ".join(f"{sum(fault in loop['faults'] for loop in own)} with {fault}" for fault in ("calls", "checks", "spills"))
            print(f"{isa}: {len(own)} hot loops, {share:.0%} of their instructions multiply-adds; {counts}")
    for loop in wrong:
        print(f"{loop['source']} ({loop['isa']}): {loop['faults']}: none is allowed", file=sys.stderr)
    for (source, isa), count in sorted(spilling.items()):
        if count > SPILLS.get(source, 0):
            wrong.append(source)
            print(f"{source} ({isa}): {count} loops spill, {SPILLS.get(source, 0)} are allowed", file=sys.stderr)
    for name in intrinsics:
        wrong.append(name)
        print(f"{name}: called, not inlined", file=sys.stderr)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
