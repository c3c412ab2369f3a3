"""JAX: a convolution of the input with zeros between, compiled. Modes: nchw and nhwc."""

import os
from importlib.metadata import version

import numpy as np

from peer import Operator, channels_first

NAME, VERSION = "JAX", version("jax")

library = {}


def threads(n):
    # The compiler's thread pool has as many threads as there are processors for this process.
    allowed = sorted(os.sched_getaffinity(0))[:n]
    os.sched_setaffinity(0, allowed)
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax  # now: it counts processors when it is loaded

    library["jax"] = jax
    return len(allowed)


def prepare(problem, mode):
    jax = library["jax"]
    spatial = "DHW"[3 - problem.rank :]
    last = mode == "nhwc"
    data = f"N{spatial}C" if last else f"NC{spatial}"
    # Flipped, with the groups' outputs side by side: [kernel…, Cin/groups, Cout].
    groups, cin = problem.groups, problem.cin // problem.groups
    w = np.flip(problem.w, range(2, 2 + problem.rank)).reshape(groups, cin, -1, *problem.kernel)
    w = np.moveaxis(w, (1, 0, 2), (-3, -2, -1)).reshape(*problem.kernel, cin, problem.cout)
    reach = [(k - 1) * d for k, d in zip(problem.kernel, problem.dilation)]
    pads = [
        (r - b, r - e + o) for r, b, e, o in zip(reach, problem.begin, problem.end, problem.output_padding)
    ]
    x, w = jax.device_put(problem.channels_last if last else problem.x), jax.device_put(w)
    b = None
    if problem.b is not None:
        b = jax.device_put(problem.b.reshape([-1] if last else [-1] + [1] * problem.rank))

    def up(x, w, b):
        y = jax.lax.conv_general_dilated(
            x,
            w,
            window_strides=[1] * problem.rank,
            padding=pads,
            lhs_dilation=problem.stride,
            rhs_dilation=problem.dilation,
            dimension_numbers=(data, f"{spatial}IO", data),
            feature_group_count=groups,
            precision="highest",
        )
        return y if b is None else y + b

    problem.begin_plan()
    compiled = jax.jit(up).lower(x, w, b).compile()
    return Operator(
        lambda: compiled(x, w, b).block_until_ready(),
        lambda y: channels_first(y) if last else np.asarray(y),
    )
