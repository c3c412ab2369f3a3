#!/usr/bin/env python3
"""Writes the generators of four published networks as ONNX models: real architectures, random weights.

    pip install onnx numpy
    scripts/export-generators.py FOLDER            # with weights (some hundred megabytes)
    scripts/export-generators.py --strip FOLDER    # weights as external data of a file that is not written: a few kilobytes

DCGAN (Radford 2015, 64 x 64), U-Net (Ronneberger 2015, with padded convolutions), pix2pix (Isola 2016, U-Net 256) and HiFi-GAN
(Kong 2020, V1). The graphs are what an exporter makes of the authors' modules, written with the helpers of the onnx package, so
that no deep-learning framework is needed. The batch is a dynamic size; all other shapes are declared by shape inference.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Net:
    """A graph that grows node by node; every method takes the name of a value and returns that of the next."""

    def __init__(self, name, strip, seed):
        self.name, self.strip, self.random = name, strip, np.random.default_rng(seed)
        self.nodes, self.weights, self.offset = [], [], 0

    def tensor(self, name, shape):
        size = int(np.prod(shape)) * 4
        if self.strip:
            tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in [("location", self.name + ".weights"), ("offset", self.offset), ("length", size)]:
                tensor.external_data.add(key=key, value=str(value))
            self.offset += size
        else:
            values = self.random.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
            # Variances are positive.
            tensor = numpy_helper.from_array(np.abs(values) + 1 if name.endswith(".var") else values, name)
        self.weights.append(tensor)
        return name

    def node(self, op, inputs, name, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [name + "_output"], name=name, **attributes))
        return name + "_output"

    def conv(self, x, name, cin, cout, kernel, stride=1, padding=0, dilation=1, rank=2, bias=True, up=False, groups=1):
        shape = [cin, cout // groups] if up else [cout, cin // groups]
        inputs = [x, self.tensor(name + ".weight", shape + [kernel] * rank)]
        if bias:
            inputs.append(self.tensor(name + ".bias", [cout]))
        path = "/" + name.replace(".", "/") + ("/ConvTranspose" if up else "/Conv")
        return self.node(
            "ConvTranspose" if up else "Conv", inputs, path, kernel_shape=[kernel] * rank, strides=[stride] * rank,
            pads=[padding] * 2 * rank, dilations=[dilation] * rank, group=groups)

    def norm(self, x, name, channels):
        inputs = [x] + [self.tensor(f"{name}.{part}", [channels]) for part in ("weight", "bias", "mean", "var")]
        return self.node("BatchNormalization", inputs, "/" + name.replace(".", "/") + "/BatchNormalization")

    def model(self, x, input_name, input_shape):
        self.nodes[-1].output[0] = "output"
        declare = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        graph = helper.make_graph(
            self.nodes, self.name, [declare(input_name, input_shape)], [declare("output", None)], self.weights)
        model = helper.make_model(graph, producer_name="export-generators", opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 8
        return onnx.shape_inference.infer_shapes(model)


def dcgan(net):
    x = "z"
    channels = [100, 512, 256, 128, 64]
    for i, (cin, cout) in enumerate(zip(channels, channels[1:])):
        x = net.conv(x, f"main.{3 * i}", cin, cout, 4, 1 if i == 0 else 2, 0 if i == 0 else 1, bias=False, up=True)
        x = net.norm(x, f"main.{3 * i + 1}", cout)
        x = net.node("Relu", [x], f"/main/{3 * i + 2}/Relu")
    x = net.conv(x, "main.12", 64, 3, 4, 2, 1, bias=False, up=True)
    x = net.node("Tanh", [x], "/main/13/Tanh")
    return net.model(x, "z", ["batch", 100, 1, 1])


def unet(net):
    def double(x, name, cin, cout):
        for i, c in enumerate([cin, cout]):
            x = net.conv(x, f"{name}.double_conv.{3 * i}", c, cout, 3, 1, 1, bias=False)
            x = net.norm(x, f"{name}.double_conv.{3 * i + 1}", cout)
            x = net.node("Relu", [x], f"/{name}/double_conv/{3 * i + 2}/Relu")
        return x

    x, skips = double("image", "inc", 3, 64), []
    for i, c in enumerate([64, 128, 256, 512], 1):
        skips.append(x)
        x = net.node("MaxPool", [x], f"/down{i}/MaxPool", kernel_shape=[2, 2], strides=[2, 2])
        x = double(x, f"down{i}", c, 2 * c)
    for i, c in enumerate([1024, 512, 256, 128], 1):
        x = net.conv(x, f"up{i}.up", c, c // 2, 2, 2, up=True)
        x = net.node("Concat", [skips.pop(), x], f"/up{i}/Concat", axis=1)
        x = double(x, f"up{i}.conv", c, c // 2)
    x = net.conv(x, "outc.conv", 64, 2, 1)
    return net.model(x, "image", ["batch", 3, 256, 256])


def pix2pix(net):
    x, skips, widths = "image", [], [64, 128, 256, 512, 512, 512, 512, 512]
    for i, (cin, cout) in enumerate(zip([3] + widths, widths)):
        if i:
            skips.append(x)
            x = net.node("LeakyRelu", [x], f"/down{i}/LeakyRelu", alpha=0.2)
        x = net.conv(x, f"down{i}.conv", cin, cout, 4, 2, 1, bias=i in (0, 7))
        if i not in (0, 7):
            x = net.norm(x, f"down{i}.norm", cout)
    for i, cout in reversed(list(enumerate([3] + widths[:-1]))):
        cin = widths[i] if i == 7 else 2 * widths[i]
        x = net.node("Relu", [x], f"/up{i}/Relu")
        x = net.conv(x, f"up{i}.conv", cin, cout, 4, 2, 1, bias=i == 0, up=True)
        if i:
            x = net.norm(x, f"up{i}.norm", cout)
            x = net.node("Concat", [skips.pop(), x], f"/up{i}/Concat", axis=1)
    x = net.node("Tanh", [x], "/Tanh")
    return net.model(x, "image", ["batch", 3, 256, 256])


def hifigan(net):
    x, c, block = net.conv("mel", "conv_pre", 80, 512, 7, 1, 3, rank=1), 512, 0
    for i, (rate, kernel) in enumerate([(8, 16), (8, 16), (2, 4), (2, 4)]):
        x = net.node("LeakyRelu", [x], f"/LeakyRelu_{i}", alpha=0.1)
        x = net.conv(x, f"ups.{i}", c, c // 2, kernel, rate, (kernel - rate) // 2, rank=1, up=True)
        c, branches = c // 2, []
        for k in [3, 7, 11]:
            y = x
            for j, d in enumerate([1, 3, 5]):
                z = net.node("LeakyRelu", [y], f"/resblocks.{block}/LeakyRelu_{2 * j}", alpha=0.1)
                z = net.conv(z, f"resblocks.{block}.convs1.{j}", c, c, k, 1, d * (k - 1) // 2, d, rank=1)
                z = net.node("LeakyRelu", [z], f"/resblocks.{block}/LeakyRelu_{2 * j + 1}", alpha=0.1)
                z = net.conv(z, f"resblocks.{block}.convs2.{j}", c, c, k, 1, (k - 1) // 2, rank=1)
                y = net.node("Add", [z, y], f"/resblocks.{block}/Add_{j}")
            branches.append(y)
            block += 1
        x = net.node("Sum", branches, f"/Sum_{i}")
    x = net.node("LeakyRelu", [x], "/LeakyRelu_4", alpha=0.01)
    x = net.conv(x, "conv_post", 32, 1, 7, 1, 3, rank=1)
    x = net.node("Tanh", [x], "/Tanh")
    return net.model(x, "mel", ["batch", 80, 32])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--strip", action="store_true", help="leave the weights out")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for seed, make in enumerate([dcgan, unet, pix2pix, hifigan]):
        model = make(Net(make.__name__, arguments.strip, seed))
        path = arguments.folder / f"{make.__name__}.onnx"
        onnx.save(model, path)
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
