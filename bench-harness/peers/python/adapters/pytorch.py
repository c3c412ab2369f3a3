"""PyTorch. Modes: eager (channels first, as users call it), channels-last (likewise), and packed: the operator that its compiler
puts into graphs, weights reordered before. That one gives channels-last output whatever it is given; it is given the same.
"""

import torch
import torch.nn.functional as F

from peer import Declined, Operator

NAME, VERSION = "PyTorch", torch.__version__.split("+")[0]

FUNCTIONS = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
LAST = {2: torch.channels_last, 3: torch.channels_last_3d}

torch.set_grad_enabled(False)


def threads(n):
    torch.set_num_threads(n)
    return torch.get_num_threads()


def prepare(problem, mode):
    if mode != "eager":
        problem.with_two_axes()  # one spatial axis has no channels-last format
    # One padding for both ends, and further outputs at the end.
    more = [b - e + o for b, e, o in zip(problem.begin, problem.end, problem.output_padding)]
    if any(not 0 <= m < max(s, d) for m, s, d in zip(more, problem.stride, problem.dilation)):
        raise Declined("no such uneven padding")
    x, w = torch.from_numpy(problem.x), torch.from_numpy(problem.w)
    b = torch.from_numpy(problem.b) if problem.b is not None else None
    if mode != "eager":
        x = x.contiguous(memory_format=LAST[problem.rank])
    if mode == "packed":
        return _packed(problem, x, w, b, more)
    if mode == "channels-last":
        w = w.contiguous(memory_format=LAST[problem.rank])
    up = FUNCTIONS[problem.rank]
    where = (problem.stride, problem.begin, more, problem.groups, problem.dilation)
    return Operator(lambda: up(x, w, b, *where), _plain)


def _packed(problem, x, w, b, more):
    if not torch.backends.mkldnn.is_available():
        raise Declined("built without oneDNN")
    problem.begin_plan()
    ops = torch.ops.mkldnn
    where = (problem.begin, more, problem.stride, problem.dilation, problem.groups)
    w = ops._reorder_convolution_transpose_weight(w, *where, list(x.shape))
    up = ops._convolution_transpose_pointwise
    return Operator(lambda: up(x, w, b, *where, "none", [], ""), _plain)


def _plain(y):
    return y.contiguous().numpy()
