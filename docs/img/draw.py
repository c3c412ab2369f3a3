#!/usr/bin/env python3
"""Draws one axis of d2l's 6 → 16 example (kernel 5, stride 3, padding 2): as scatter and as phases (docs/img/phases.svg),
and one of its phases down to the register tile (docs/img/tile.svg)."""

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


LANES = 4  # of the picture; 16 in an AVX-512 register of f32
SOFT = "#e8eef5"


def packed_row(d, top):
    """What a tile reads: one packed input row, zeros beside it."""
    d.text(10, top, "1 · One input row of every channel is packed once, zeros beside it", "bold")
    y = top + 16
    d.text(10, y + 20, "channel ci")
    for n, label in enumerate(["0", *(f"x{i}" for i in range(INPUTS)), "0"]):
        d.cell(LEFT + n * PITCH, y, label, "#eeeeee" if label == "0" else "#ffffff", dashed=label == "0")
    return y + CELL


def tile(d, top):
    """Phase 1 of the example: five pixels of one row, LANES output channels in each register."""
    first, pixels, taps, base = 1, 5, [0, 3], 1
    colour = COLOURS[residue(first + PAD)]
    d.text(10, top, "2 · A tile of phase 1: output channels in the lanes of a register, neighbouring pixels side by side", "bold")
    left, y = LEFT + 3 * PITCH, top + 76
    at = lambda p: left + p * (PITCH + 8)
    for m, k in enumerate(taps):
        row = top + 22 + m * 24
        d.text(10, row + 8, f"tap k = {k} reads", colour=colour)
        for p in range(pixels):
            i = base + p - m
            d.text(at(p) + CELL / 2, row + 8, f"x{i}" if i < INPUTS else "0", anchor="middle")
    for lane in range(LANES):
        d.text(left - 12, y + 20 + lane * CELL, f"channel {lane}", anchor="end")
        for p in range(pixels):
            d.cell(at(p), y + lane * CELL, "", colour)
    for p in range(pixels):
        d.text(at(p) + CELL / 2, y + LANES * CELL + 18, first + STRIDE * p, anchor="middle", colour=colour)
    d.text(left - 12, y + LANES * CELL + 18, "output o", anchor="end", colour=colour)
    weights = at(pixels) + 70
    for m, k in enumerate(taps):
        x = weights + m * 90
        d.text(x + CELL / 2, y - 10, f"w[ci][k = {k}]", anchor="middle", colour=colour)
        for lane in range(LANES):
            d.cell(x, y + lane * CELL, "", SOFT)
    d.text(weights - 10, y + LANES * CELL + 18, "one vector load serves all pixels")
    bottom = y + LANES * CELL + 44
    d.text(10, bottom, "for every tap, for every ci:   sum[pixel] += w[ci][tap] · (input of the pixel, repeated in all lanes)")
    d.text(10, bottom + 20, "All sums stay in registers over all taps and a run of input channels: up to 14 pixels × 2 registers on AVX-512, 6 × 2 on AVX2.")
    return bottom + 20


def store(d, top):
    """The phases of a row meet in a buffer; channels-first layouts transpose it."""
    d.text(10, top, "3 · The sums of all phases lie in output order in a small buffer: the phases interleave by themselves", "bold")
    y = top + 16
    for o in range(OUTPUTS):
        for lane in range(LANES):
            d.cell(LEFT + o * PITCH, y + lane * CELL, o if lane == 0 else "", COLOURS[residue(o + PAD)])
    for lane in range(LANES):
        d.text(LEFT - 12, y + 20 + lane * CELL, f"channel {lane}", anchor="end")
    y += LANES * CELL + 24
    d.text(10, y, "4 · Stored once, through the activation (the sums began with the bias)", "bold")
    d.text(10, y + 22, "NHWC: column by column, as it lies: the channels of one pixel are neighbours.")
    d.text(10, y + 42, f"NCHW: blocks of {LANES} × {LANES} are transposed in registers, so that the pixels of one channel are neighbours:")
    for o in range(OUTPUTS):
        d.cell(LEFT + o * PITCH, y + 56, o, COLOURS[residue(o + PAD)])
        if o % LANES == 0:
            x, width = LEFT + o * PITCH - 2, LANES * PITCH - 2
            d.parts.append(f'<path d="M{x} {y + 92}v6h{width}v-6" fill="none" stroke="#555"/>')
    d.text(LEFT - 12, y + 76, "channel 0", anchor="end")
    d.text(LEFT, y + 116, "one vector store for each bracket")
    return y + 116


def write(name, d, bottom):
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="14">\n'
        f'<rect width="{WIDTH}" height="{bottom}" fill="#fff"/>\n' + "\n".join(d.parts) + "\n</svg>\n"
    )
    (pathlib.Path(__file__).parent / name).write_text(svg, encoding="utf-8")


def main():
    d = Drawing()
    scatter(d, 24)
    write("phases.svg", d, phases(d, 240))
    d = Drawing()
    bottom = packed_row(d, 24)
    bottom = tile(d, bottom + 36)
    write("tile.svg", d, store(d, bottom + 40) + 16)


if __name__ == "__main__":
    main()
