#!/usr/bin/env python3
"""Draws docs/img/phases.svg: one axis of d2l's 6 → 16 example (kernel 5, stride 3, padding 2) as scatter and as phases."""

import pathlib

INPUTS, TAPS, STRIDE, PAD = 6, 5, 3, 2
FULL = (INPUTS - 1) * STRIDE + TAPS
OUTPUTS = FULL - 2 * PAD
COLOURS = ["#0072b2", "#d55e00", "#009e73"]  # by (o + PAD) mod STRIDE; told apart by colour-blind readers too
CELL, GAP = 30, 6
PITCH = CELL + GAP
LEFT = 150
WIDTH = LEFT + FULL * PITCH + 20


class Drawing:
    def __init__(self):
        self.parts = []

    def cell(self, x, y, label, colour="#ffffff", dashed=False):
        dash = ' stroke-dasharray="3 3"' if dashed else ""
        dark = colour.startswith("#0") or colour.startswith("#d")
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{CELL}" height="{CELL}" rx="3" fill="{colour}" stroke="#555"{dash}/>'
            f'<text x="{x + CELL / 2}" y="{y + 20}" text-anchor="middle" fill="{"#fff" if dark else "#333"}">{label}</text>'
        )

    def line(self, x1, y1, x2, y2, colour, dashed=False):
        dash = ' stroke-dasharray="3 3"' if dashed else ""
        self.parts.append(
            f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}" stroke-width="1.6"{dash}/>'
        )

    def text(self, x, y, label, weight="normal", anchor="start", colour="#333"):
        self.parts.append(
            f'<text x="{x}" y="{y}" font-weight="{weight}" text-anchor="{anchor}" fill="{colour}">{label}</text>'
        )


def residue(full_position):
    return full_position % STRIDE


def scatter(d, top):
    """Each input writes TAPS neighbours of the uncropped output; padding cuts off both ends."""
    d.text(10, top, "Scatter: every input writes 5 neighbouring outputs, the next one 3 further on", "bold")
    at_input = lambda i: LEFT + (i * STRIDE + TAPS // 2) * PITCH
    at_output = lambda f: LEFT + f * PITCH
    y_in, y_out = top + 18, top + 128
    d.text(10, y_in + 20, "input i")
    d.text(10, y_out + 20, "output o")
    for i in range(INPUTS):
        for k in range(TAPS):
            f = i * STRIDE + k
            cropped = not PAD <= f < PAD + OUTPUTS
            colour = "#bbb" if cropped else COLOURS[residue(f)]
            d.line(at_input(i) + CELL / 2, y_in + CELL, at_output(f) + CELL / 2, y_out, colour, cropped)
    for i in range(INPUTS):
        d.cell(at_input(i), y_in, i)
    for f in range(FULL):
        if PAD <= f < PAD + OUTPUTS:
            d.cell(at_output(f), y_out, f - PAD, COLOURS[residue(f)])
        else:
            d.cell(at_output(f), y_out, "", "#eeeeee", dashed=True)
    for f in (0, FULL - PAD):
        d.text(at_output(f) + PITCH - GAP / 2, y_out + CELL + 16, "cropped", anchor="middle", colour="#777")


def phases(d, top):
    """The outputs of one residue class read neighbouring inputs, tap by tap: a small ordinary correlation."""
    d.text(10, top, "Phases: the outputs of one colour are a stride-1 correlation of their own", "bold")
    top += 18
    for first in range(STRIDE):
        position = first + PAD
        taps = list(range(position % STRIDE, TAPS, STRIDE))
        base = (position - taps[0]) // STRIDE
        outputs = list(range(first, OUTPUTS, STRIDE))
        colour = COLOURS[residue(position)]
        y_in, y_out = top, top + 78
        at = lambda n: LEFT + 2 * PITCH + n * 2 * PITCH
        d.text(10, y_in + 20, f"phase {first}: input i")
        d.text(10, y_out + 20, "output o")
        d.text(at(INPUTS) + PITCH, y_in + 20, f"taps k = {', '.join(map(str, taps))}", colour=colour)
        d.text(at(INPUTS) + PITCH, y_out + 20, f"o = {first} + {STRIDE}q", colour=colour)
        for q in range(len(outputs)):
            for m in range(len(taps)):
                i = base + q - m
                if 0 <= i < INPUTS:
                    d.line(at(i) + CELL / 2, y_in + CELL, at(q) + CELL / 2, y_out, colour)
        for i in range(INPUTS):
            d.cell(at(i), y_in, i)
        for q, o in enumerate(outputs):
            d.cell(at(q), y_out, o, colour)
        top += 134
    return top


def main():
    d = Drawing()
    scatter(d, 24)
    bottom = phases(d, 240)
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="14">\n'
        f'<rect width="{WIDTH}" height="{bottom}" fill="#fff"/>\n' + "\n".join(d.parts) + "\n</svg>\n"
    )
    (pathlib.Path(__file__).parent / "phases.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
