"""ncnn, plain input and output (elempack 1); it packs channels inside of the call. It knows no batch: images one after another."""

import os
import tempfile

import ncnn
import numpy as np

from peer import Operator

NAME, VERSION = "ncnn", ncnn.__version__

options = {"num_threads": 1}


def threads(n):
    options["num_threads"] = n
    ncnn.set_omp_num_threads(n)
    return n


def prepare(problem, _mode):
    layer, numbers = _layer(problem)
    net = ncnn.Net()
    net.opt.num_threads = options["num_threads"]
    for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, name, False)
    # [Cin, Cout/groups, kernel…] to [groups, Cout/groups, Cin/groups, kernel…], after a word that says: plain f32.
    w = problem.w.reshape(problem.groups, problem.cin // problem.groups, *problem.w.shape[1:]).swapaxes(1, 2)
    weights = np.zeros(1, np.float32).tobytes() + np.ascontiguousarray(w).tobytes()
    if problem.b is not None:
        weights += problem.b.tobytes()
    words = " ".join(f"{key}={value}" for key, value in numbers.items())
    text = f"7767517\n2 2\nInput x 0 1 x\n{layer} up 1 1 x y {words}\n"
    with tempfile.TemporaryDirectory() as folder:
        param, binary = os.path.join(folder, "param"), os.path.join(folder, "bin")
        with open(param, "w", encoding="utf-8") as file:
            file.write(text)
        with open(binary, "wb") as file:
            file.write(weights)
        problem.begin_plan()
        if net.load_param(param) != 0 or net.load_model(binary) != 0:
            raise RuntimeError(f"cannot load {text!r}")
    # [C, H, W]; of one spatial axis [C, W].
    images = [ncnn.Mat(image).clone() for image in problem.x]

    def up(image):
        extractor = net.create_extractor()
        extractor.input("x", image)
        failed, y = extractor.extract("y")
        if failed:
            raise RuntimeError(f"extract gives {failed}")
        return y

    return Operator(lambda: [up(image) for image in images], lambda outputs: np.stack([np.array(y) for y in outputs]))


def _layer(problem):
    """Name and parameters; ncnn numbers them by axis, x first."""
    kind = "Deconvolution" + ("DepthWise" if problem.groups > 1 else "") + {1: "1D", 2: "", 3: "3D"}[problem.rank]
    numbers = {0: problem.cout, 5: int(problem.b is not None), 6: problem.w.size}
    if problem.groups > 1:
        numbers[7] = problem.groups
    by_axis = [
        (1, problem.kernel),
        (2, problem.dilation),
        (3, problem.stride),
        (4, problem.begin),
    ]
    for axis, name in enumerate("xyz"[: problem.rank]):
        at = problem.rank - 1 - axis
        for base, values in by_axis:
            numbers[base + 10 * axis] = values[at]
        numbers[{"x": 15, "y": 16, "z": 17}[name]] = problem.end[at]
        numbers[{"x": 18, "y": 19, "z": 20}[name]] = problem.output_padding[at]
    return kind, numbers
