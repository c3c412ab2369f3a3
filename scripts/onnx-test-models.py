#!/usr/bin/env python3
"""Writes the ONNX models of the importer's tests, and what every transposed convolution in them must be.

    pip install onnx==1.23.2 onnxruntime==1.32.0 torch numpy
    pip download --no-deps rapidocr-onnxruntime==1.4.4      # for the text detector; its wheel is read, not installed
    scripts/onnx-test-models.py rapidocr_onnxruntime-1.4.4-py3-none-any.whl

Into bench-harness/tests/data/onnx: the cases of the onnx package's backend tests, the generators of export-generators.py and the
PP-OCRv4 text detector, all without their weights, and small models for what exporters write more rarely. Into examples/data: the
detector's last layers with their weights, an input, and the outputs of ONNX Runtime.
"""

import importlib.util
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "bench-harness/tests/data/onnx"
EXAMPLE = ROOT / "examples/data"
DETECTOR = "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx"


def floats(name, shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def save(name, model):
    onnx.checker.check_model(model)
    model.producer_name = "onnx-test-models"
    (TARGET / f"{name}.onnx").write_bytes(model.SerializeToString())


def opsets(version):
    return [helper.make_opsetid("", version)]


def strip(tensor, least=256):
    """Leaves the shape and says that the elements lie in another file."""
    if len(tensor.raw_data) >= least:
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="weights")


def strip_model(model):
    for tensor in model.graph.initializer:
        strip(tensor)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                strip(attribute.t)
    return model


def backend_cases():
    for case in collect_testcases("ConvTranspose"):
        if case.model is not None and "convtranspose" in case.name:
            yield case.name, case.model
    folder = Path(onnx.__file__).parent / "backend/test/data"
    for path in sorted(folder.rglob("model.onnx")):
        model = onnx.load(path)
        if any(node.op_type == "ConvTranspose" for node in model.graph.node):
            yield path.parent.name, strip_model(model)


def weight(shape, name="w"):
    return numpy_helper.from_array(np.arange(np.prod(shape), dtype=np.float32).reshape(shape) / 16 - 1, name)


def small_models():
    up = helper.make_node("ConvTranspose", ["x", "w"], ["y"], "up", strides=[2, 2], pads=[1, 1, 1, 1])
    w, x, y = weight([3, 2, 4, 4]), floats("x", [1, 3, 5, 6]), floats("y", [1, 2, 10, 12])

    # The weights from a Constant node, through an Identity; the batch without a name; a bias.
    nodes = [
        helper.make_node("Constant", [], ["c"], "c", value=w),
        helper.make_node("Identity", ["c"], ["w"], "i"),
        helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], "up", strides=[2, 2], pads=[1, 1, 1, 1]),
    ]
    graph = helper.make_graph(nodes, "g", [floats("x", [None, 3, "height", "width"])], [floats("y", [None] * 4)], [weight([2], "b")])
    yield "constant_weights", helper.make_model(graph, opset_imports=opsets(13))

    # In both branches of an If inside the body of a Loop.
    branches = {}
    for name, stride in [("then_branch", 2), ("else_branch", 3)]:
        node = helper.make_node("ConvTranspose", ["x", "w"], [name], name[:4], strides=[stride] * 2, output_shape=[12, 12])
        branches[name] = helper.make_graph([node], name, [], [floats(name, [1, 2, 12, 12])])
    choice = helper.make_node("If", ["flag"], ["z"], "choice", **branches)
    body = helper.make_graph(
        [choice, helper.make_node("Identity", ["going"], ["go"])], "body",
        [helper.make_tensor_value_info("n", TensorProto.INT64, []), helper.make_tensor_value_info("going", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("go", TensorProto.BOOL, []), floats("z", [1, 2, 12, 12])])
    loop = helper.make_node("Loop", ["count", "flag"], ["zs"], "loop", body=body)
    graph = helper.make_graph(
        [loop], "g",
        [floats("x", [1, 3, 5, 6]), helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
         helper.make_tensor_value_info("count", TensorProto.INT64, [])],
        [floats("zs", [None, 1, 2, 12, 12])], [w])
    yield "control_flow", helper.make_model(graph, opset_imports=opsets(16))

    # In a function that is called twice; one attribute comes from the call, one has a default.
    inner = helper.make_node("ConvTranspose", ["a", "k"], ["r"], "up")
    for name, kind in [("strides", onnx.AttributeProto.INTS), ("pads", onnx.AttributeProto.INTS)]:
        inner.attribute.add(name=name, type=kind, ref_attr_name=name)
    function = helper.make_function(
        "local", "Upsample", ["a", "k"], ["r"], [inner], opsets(18), ["strides"], [helper.make_attribute("pads", [1, 1, 1, 1])])
    calls = [
        helper.make_node("Upsample", ["x", "w"], ["m"], "first", domain="local", strides=[2, 2]),
        helper.make_node("Upsample", ["m", "v"], ["y"], "second", domain="local", strides=[3, 1], pads=[0, 0, 0, 0]),
    ]
    graph = helper.make_graph(
        calls, "g", [x], [floats("y", [1, 1, 30, 14])], [w, weight([2, 1, 3, 3], "v")], value_info=[floats("m", [1, 2, 10, 12])])
    yield "functions", helper.make_model(
        graph, functions=[function], opset_imports=opsets(18) + [helper.make_opsetid("local", 1)])

    # The forms of the first operator set: kernel_shape left out, auto_pad with the odd element on the other side.
    for mode in ["SAME_UPPER", "SAME_LOWER"]:
        node = helper.make_node("ConvTranspose", ["x", "k"], ["y"], "up", strides=[2, 2], auto_pad=mode)
        for version in [1, 11]:
            graph = helper.make_graph(
                [node], "g", [x, floats("k", [3, 2, 3, 3])], [floats("y", [1, 2, 10, 12])], [weight([3, 2, 3, 3], "k")])
            yield f"opset{version}_{mode.lower()}", helper.make_model(graph, opset_imports=opsets(version), ir_version=3)

    # Its input is declared nowhere.
    nodes = [helper.make_node("Relu", ["x"], ["r"], "relu"), up]
    nodes[1] = helper.make_node("ConvTranspose", ["r", "w"], ["y"], "up", strides=[2, 2], pads=[1, 1, 1, 1])
    yield "undeclared", helper.make_model(helper.make_graph(nodes, "g", [x], [y], [w]), opset_imports=opsets(13))

    # Nothing to import.
    relu = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], "relu")], "g", [x], [floats("y", [1, 3, 5, 6])])
    yield "no_layer", helper.make_model(relu, opset_imports=opsets(13))


def external_model():
    """The only one with its elements in another file, which is written."""
    w = weight([3, 2, 4, 4])
    (TARGET / "external.weights").write_bytes(bytes(64) + w.raw_data)
    strip(w)
    del w.external_data[:]
    for key, value in [("location", "external.weights"), ("offset", "64"), ("length", str(4 * 96))]:
        w.external_data.add(key=key, value=value)
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], "up", strides=[2, 2], pads=[1, 1, 1, 1])
    graph = helper.make_graph([node], "g", [floats("x", [1, 3, 5, 6])], [floats("y", [1, 2, 10, 12])], [w])
    model = helper.make_model(graph, opset_imports=opsets(13), producer_name="onnx-test-models")
    (TARGET / "external.onnx").write_bytes(model.SerializeToString())


def generators():
    spec = importlib.util.spec_from_file_location("generators", ROOT / "scripts/export-generators.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield from module.models(stripped=True)


def declared_outputs(name, model):
    """The output shape of each node, as shape inference has it: what the importer's geometry must agree with."""
    shapes = {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
              for v in [*model.graph.value_info, *model.graph.output]}
    for node in model.graph.node:
        if node.op_type == "ConvTranspose":
            yield f"{name}\t{node.name or node.output[0]}\t{'x'.join(map(str, shapes[node.output[0]]))}\n"


def example(detector):
    """The detector's last layers: cut out with their weights, run on what the layers before them make of a drawn image."""
    EXAMPLE.mkdir(parents=True, exist_ok=True)
    path = EXAMPLE / "ppocr-v4-det-head.onnx"
    full = EXAMPLE / "full.onnx"
    full.write_bytes(detector)
    from onnxruntime.tools.onnx_model_utils import make_input_shape_fixed
    model = onnx.load(full)
    make_input_shape_fixed(model.graph, "x", [1, 3, 32, 32])
    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    onnx.save(model, full)
    ups = [node for node in model.graph.node if node.op_type == "ConvTranspose"]
    onnx.utils.extract_model(str(full), str(path), [ups[0].input[0]], [model.graph.output[0].name])
    values = [ups[0].input[0]] + [value for up in ups for value in (up.output[0],)] + [ups[1].input[0]]
    for value in values:
        model.graph.output.append(helper.make_empty_tensor_value_info(value))
    image = np.add.outer(np.arange(32), np.arange(32)).astype(np.float32)[None, None] / 32 - 1
    image = np.concatenate([np.sin(image * k) for k in (3, 5, 7)], 1)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    arrays = dict(zip(values, session.run(values, {"x": image})))
    for i, up in enumerate(ups):
        for part, value in [("input", up.input[0]), ("output", up.output[0])]:
            arrays[value].astype("<f4").tofile(EXAMPLE / f"{i + 1}.{part}.f32")
            print(f"layer {i + 1} {part}: {arrays[value].shape}, {np.abs(arrays[value]).max()}")
    full.unlink()


def main():
    wheel = zipfile.ZipFile(sys.argv[1]) if len(sys.argv) == 2 else sys.exit(__doc__)
    TARGET.mkdir(parents=True, exist_ok=True)
    expected = "# model\tnode\toutput shape by the onnx package's shape inference\n"
    for name, model in [*backend_cases(), *generators()]:
        path = TARGET / f"{name}.onnx"
        path.write_bytes(model.SerializeToString())
        expected += "".join(declared_outputs(name, model))
    (TARGET / "expected.tsv").write_text(expected)
    for name, model in small_models():
        save(name, model)
    external_model()
    detector = wheel.read(DETECTOR)
    (TARGET / "ppocr_v4_det.onnx").write_bytes(strip_model(onnx.load_from_string(detector)).SerializeToString())
    example(detector)
    print(f"{sum(p.stat().st_size for p in TARGET.iterdir())} bytes in {TARGET.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
