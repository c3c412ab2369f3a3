"""OpenVINO, CPU plugin. Modes: nchw and nhwc, the order of axes of the tensors that it is given and gives."""

import numpy as np
import openvino as ov
from openvino import opset13 as ops
from openvino.preprocess import PrePostProcessor

from peer import Operator, channels_first

NAME, VERSION = "OpenVINO", ov.get_version().split("-")[0]

core = ov.Core()
settings = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}


def threads(n):
    settings["INFERENCE_NUM_THREADS"] = n
    return n


def prepare(problem, mode):
    x = ops.parameter(problem.x.shape, ov.Type.f32, name="x")
    w = problem.w
    convolution = ops.convolution_backprop_data
    if problem.groups > 1:
        convolution = ops.group_convolution_backprop_data
        w = w.reshape(problem.groups, problem.cin // problem.groups, *w.shape[1:])
    y = convolution(
        x,
        ops.constant(w),
        strides=problem.stride,
        pads_begin=problem.begin,
        pads_end=problem.end,
        dilations=problem.dilation,
        auto_pad="explicit",
        output_padding=problem.output_padding,
    )
    if problem.b is not None:
        y = ops.add(y, ops.constant(problem.b.reshape(1, -1, *[1] * problem.rank)))
    model = ov.Model([ops.result(y)], [x], "one")
    last = mode == "nhwc"
    if last:
        spatial = "DHW"[3 - problem.rank :]
        given = PrePostProcessor(model)
        for side in (given.input(0), given.output(0)):
            side.tensor().set_layout(ov.Layout(f"N{spatial}C"))
            side.model().set_layout(ov.Layout(f"NC{spatial}"))
        model = given.build()
    problem.begin_plan()
    compiled = core.compile_model(model, "CPU", settings)
    request = compiled.create_infer_request()
    source = problem.channels_last if last else problem.x
    target = np.zeros(list(compiled.output(0).shape), np.float32)
    request.set_input_tensor(ov.Tensor(source, shared_memory=True))
    request.set_output_tensor(ov.Tensor(target, shared_memory=True))
    kept = (source, target)  # the tensors only look at them
    return Operator(request.infer, lambda _: channels_first(kept[1]) if last else kept[1], _chosen(compiled))


def _chosen(compiled):
    """Which implementation the plugin took for the convolution itself."""
    for node in compiled.get_runtime_model().get_ops():
        info = node.get_rt_info()
        if "layerType" in info and "onvolution" in str(info["layerType"].value):
            return str(info["primitiveType"].value)
    return None
