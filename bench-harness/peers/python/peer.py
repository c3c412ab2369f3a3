"""What an adapter is made of. One of `adapters/` states

    NAME, VERSION         of the library
    threads(n)            sets the number of threads, and returns the one that is in force
    prepare(problem, mode)  makes an `Operator` of a `Problem`, or raises `Declined`

and serve.py does the rest.
"""

import time
from dataclasses import dataclass
from typing import Callable

import numpy as np


class Declined(Exception):
    """The library has no operator for this."""


@dataclass
class Operator:
    """A problem, ready to run."""

    run: Callable[[], object]
    """Executes once; what it returns is given to `output`."""
    output: Callable[[object], np.ndarray]
    """The result, channels first."""
    implementation: str | None = None
    """What the library says of its own choice."""


class Problem:
    """One request `prepare`, its tensors read: x [N, Cin, spatial…], w [Cin, Cout/groups, kernel…], b [Cout] or None."""

    def __init__(self, fields):
        if fields["dtype"] != "f32":
            raise Declined("only f32 is asked of this library")
        if fields["activation"] != "identity":
            raise Declined("activations are not asked of this library")
        self.groups, self.batch = fields["groups"], fields["batch"]
        self.cin, self.cout = fields["in_channels"], fields["out_channels"]
        self.input, self.kernel, self.output = fields["input"], fields["kernel"], fields["output"]
        self.stride, self.dilation = fields["stride"], fields["dilation"]
        self.begin, self.end = fields["padding_begin"], fields["padding_end"]
        self.output_padding = fields["output_padding"]
        self.rank = len(self.input)
        files = fields["files"]
        self.x = _read(files["input"], [self.batch, self.cin, *self.input])
        self.w = _read(files["weights"], [self.cin, self.cout // self.groups, *self.kernel])
        self.b = _read(files["bias"], [self.cout]) if fields["bias"] else None
        self.started = time.perf_counter_ns()

    def begin_plan(self):
        """The clock of the plan starts here: what was done before was not the library's work."""
        self.started = time.perf_counter_ns()

    def with_two_axes(self):
        """One spatial axis as the last of two, for libraries that are at home there."""
        if self.rank == 1:
            for name in ("input", "kernel", "output", "stride", "dilation"):
                setattr(self, name, [1, *getattr(self, name)])
            for name in ("begin", "end", "output_padding"):
                setattr(self, name, [0, *getattr(self, name)])
            self.rank = 2
            self.x, self.w = self.x[:, :, None], self.w[:, :, None]

    def needs_rank(self, *ranks):
        if self.rank not in ranks:
            raise Declined(f"no {self.rank}-D operator")

    def needs_one_group(self):
        if self.groups != 1:
            raise Declined("no groups")

    def needs_no_dilation(self):
        if any(d != 1 for d in self.dilation):
            raise Declined("no dilation")

    @property
    def channels_last(self):
        """x with the channels as last axis, contiguous."""
        return _aligned(np.moveaxis(self.x, 1, -1))


def channels_first(y):
    """An array whose channels are the last axis, the other way round."""
    return np.moveaxis(np.asarray(y), -1, 1)


def _read(path, shape):
    return _aligned(np.fromfile(path, dtype="<f4").reshape(shape))


def _aligned(values):
    """A contiguous copy that begins on a cache line, as the tensors of tconv do."""
    lines = np.empty(values.nbytes + 64, np.uint8)
    first = -lines.ctypes.data % 64
    copy = lines[first : first + values.nbytes].view("<f4").reshape(values.shape)
    copy[...] = values
    return copy
