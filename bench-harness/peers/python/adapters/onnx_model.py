"""The problem as an ONNX model of one node, weights inside."""

import onnx
from onnx import TensorProto, helper, numpy_helper


def model(problem):
    names = ["x", "w"] + (["b"] if problem.b is not None else [])
    node = helper.make_node(
        "ConvTranspose",
        names,
        ["y"],
        group=problem.groups,
        kernel_shape=problem.kernel,
        strides=problem.stride,
        dilations=problem.dilation,
        pads=problem.begin + problem.end,
        output_padding=problem.output_padding,
    )
    tensor = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    inside = [numpy_helper.from_array(problem.w, "w")]
    if problem.b is not None:
        inside.append(numpy_helper.from_array(problem.b, "b"))
    output = [problem.batch, problem.cout, *problem.output]
    graph = helper.make_graph([node], "one", [tensor("x", problem.x.shape)], [tensor("y", output)], inside)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8)
    onnx.checker.check_model(made)
    return made
