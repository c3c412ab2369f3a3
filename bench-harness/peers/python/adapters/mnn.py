"""MNN, converted from an ONNX model; plain tensors in and out, precision high (f32).

As a module: a session plans its memory so that the first run overwrites its input.
"""

import os
import subprocess
import sys
import tempfile

import MNN
import MNN.expr
import MNN.nn
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
        # The converter itself, not `mnnconvert`: that script installs a package with pip and reports each use.
        converter = [sys.executable, "-c", "import sys, _tools; _tools.mnnconvert(sys.argv)"]
        subprocess.run(
            [*converter, "-f", "ONNX", "--modelFile", source, "--MNNModel", target, "--bizCode", "one"],
            check=True,
            stdout=sys.stderr,
        )
        problem.begin_plan()
        manager = MNN.nn.create_runtime_manager((settings,))
        module = MNN.nn.load_module_from_file(target, ["x"], ["y"], runtime_manager=manager)
    x = MNN.expr.const(problem.x, problem.x.shape, MNN.expr.NCHW)
    shape = [problem.batch, problem.cout, *problem.output]
    return Operator(lambda: module.forward(x), lambda y: np.array(y.read()).reshape(shape))
