"""ONNX Runtime, default optimisations, input and output bound to memory of its own."""

import numpy as np
import onnxruntime as ort

from adapters import onnx_model
from peer import Operator

NAME, VERSION = "ONNX Runtime", ort.__version__

options = ort.SessionOptions()


def threads(n):
    options.intra_op_num_threads, options.inter_op_num_threads = n, 1
    return n


def prepare(problem, _mode):
    model = onnx_model.model(problem).SerializeToString()
    problem.begin_plan()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    value = ort.OrtValue.ortvalue_from_numpy
    y = value(np.zeros([problem.batch, problem.cout, *problem.output], np.float32))
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", value(problem.x))
    binding.bind_ortvalue_output("y", y)
    return Operator(lambda: session.run_with_iobinding(binding), lambda _: y.numpy())
