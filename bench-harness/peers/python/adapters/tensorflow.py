"""TensorFlow, channels last, compiled into a graph (`tf.function`), weights a constant of it."""

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np
import tensorflow as tf

from peer import Declined, Operator, channels_first

NAME, VERSION = "TensorFlow", tf.__version__


def threads(n):
    tf.config.threading.set_intra_op_parallelism_threads(n)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    return tf.config.threading.get_intra_op_parallelism_threads()


def prepare(problem, _mode):
    problem.needs_one_group()
    problem.needs_no_dilation()
    problem.with_two_axes()
    x = tf.constant(problem.channels_last)
    # [kernel…, Cout, Cin]
    w = tf.constant(np.ascontiguousarray(np.moveaxis(problem.w, (0, 1), (-1, -2))))
    b = tf.constant(problem.b) if problem.b is not None else None
    shape = [problem.batch, *problem.output, problem.cout]
    end = [e - o for e, o in zip(problem.end, problem.output_padding)]
    if problem.rank == 2:
        if min(end) < 0:
            raise Declined("no output padding beyond the padding")
        up, padding = tf.nn.conv2d_transpose, [[0, 0], *map(list, zip(problem.begin, end)), [0, 0]]
    else:
        up, padding = tf.nn.conv3d_transpose, _padding(problem, end)

    @tf.function
    def graph(x):
        y = up(x, w, shape, problem.stride, padding)
        return y if b is None else tf.nn.bias_add(y, b)

    problem.begin_plan()
    made = graph.get_concrete_function(x)

    # The call returns when the processor is done.
    return Operator(lambda: made(x), lambda y: channels_first(y.numpy()))


def _padding(problem, end):
    """In three dimensions there are only these two."""
    if all(b == e == 0 for b, e in zip(problem.begin, end)):
        return "VALID"
    # SAME cuts what exceeds input · stride, the smaller half at the beginning.
    excess = [k - s for k, s in zip(problem.kernel, problem.stride)]
    if all(b == x // 2 and b + e == x for b, e, x in zip(problem.begin, end, excess)):
        return "SAME"
    raise Declined("no such padding in 3-D")
