"""MNN, converted from an ONNX model; plain tensors in and out, precision high (f32)."""

import os
import subprocess
import sys
import tempfile

import MNN
import numpy as np

from adapters import onnx_model
from peer import Operator

NAME, VERSION = "MNN", MNN.version()

settings = {"backend": "CPU", "precision": "high"}


def threads(n):
    settings["numThread"] = n
    return n


def prepare(problem, _mode):
    with tempfile.TemporaryDirectory() as folder:
        source, target = os.path.join(folder, "one.onnx"), os.path.join(folder, "one.mnn")
        with open(source, "wb") as file:
            file.write(onnx_model.model(problem).SerializeToString())
        converter = os.path.join(os.path.dirname(sys.executable), "mnnconvert")
        subprocess.run(
            [converter, "-f", "ONNX", "--modelFile", source, "--MNNModel", target, "--bizCode", "tconv"],
            check=True,
            capture_output=True,
        )
        problem.begin_plan()
        interpreter = MNN.Interpreter(target)
    session = interpreter.createSession(settings)
    x, y = interpreter.getSessionInput(session), interpreter.getSessionOutput(session)
    plain = lambda array: MNN.Tensor(array.shape, MNN.Halide_Type_Float, array, MNN.Tensor_DimensionType_Caffe)
    x.copyFrom(plain(problem.x))

    def output(_):
        host = plain(np.zeros([problem.batch, problem.cout, *problem.output], np.float32))
        y.copyToHostTensor(host)
        return np.array(host.getNumpyData()).reshape(problem.batch, problem.cout, *problem.output)

    return Operator(lambda: interpreter.runSession(session), output)
