#!/usr/bin/env python3
"""Exports the generators of four published networks with PyTorch as ONNX models: real architectures, random weights.

    pip install torch onnx
    scripts/export-generators.py FOLDER            # with weights (some hundred megabytes)
    scripts/export-generators.py --strip FOLDER    # tensors keep their shapes, their elements are left out: some kilobytes

DCGAN (Radford 2015, 64 x 64), U-Net (Ronneberger 2015, with padded convolutions), pix2pix (Isola 2016, U-Net 256) and HiFi-GAN
(Kong 2020, V1). The batch is a dynamic size. PyTorch's exporter declares no shapes between its nodes: shape inference of the onnx
package adds them, as `tconv import` advises. A stripped tensor says, as ONNX has it, that its elements lie at a place of another
file (which is not written): an importer that wants shapes only never misses it.
"""

import argparse
import tempfile
import warnings
from pathlib import Path

import onnx
import torch
from onnx import TensorProto
from torch import nn
from torch.nn import functional

# The exporter that still names nodes after modules; it needs no further package.
EXPORT = {"dynamo": False, "opset_version": 17}


class Dcgan(nn.Module):
    def __init__(self, latent=100, width=64, colours=3):
        super().__init__()
        channels = [latent, 8 * width, 4 * width, 2 * width, width]
        layers = []
        for i, (cin, cout) in enumerate(zip(channels, channels[1:])):
            stride, padding = (1, 0) if i == 0 else (2, 1)
            layers += [nn.ConvTranspose2d(cin, cout, 4, stride, padding, bias=False), nn.BatchNorm2d(cout), nn.ReLU(True)]
        self.main = nn.Sequential(*layers, nn.ConvTranspose2d(width, colours, 4, 2, 1, bias=False), nn.Tanh())

    def forward(self, z):
        return self.main(z)


class DoubleConv(nn.Sequential):
    def __init__(self, cin, cout):
        halves = [[nn.Conv2d(c, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(True)] for c in (cin, cout)]
        super().__init__(*halves[0], *halves[1])


class Up(nn.Module):
    def __init__(self, cin):
        super().__init__()
        self.up = nn.ConvTranspose2d(cin, cin // 2, 2, 2)
        self.conv = DoubleConv(cin, cin // 2)

    def forward(self, x, skip):
        return self.conv(torch.cat([skip, self.up(x)], 1))


class UNet(nn.Module):
    def __init__(self, colours=3, width=64, classes=2):
        super().__init__()
        widths = [width << i for i in range(5)]
        self.inc = DoubleConv(colours, width)
        for i, (cin, cout) in enumerate(zip(widths, widths[1:]), 1):
            setattr(self, f"down{i}", nn.Sequential(nn.MaxPool2d(2), DoubleConv(cin, cout)))
        for i, cin in enumerate(reversed(widths[1:]), 1):
            setattr(self, f"up{i}", Up(cin))
        self.outc = nn.Conv2d(width, classes, 1)

    def forward(self, image):
        levels = [self.inc(image)]
        for down in (self.down1, self.down2, self.down3, self.down4):
            levels.append(down(levels[-1]))
        x = levels.pop()
        for up in (self.up1, self.up2, self.up3, self.up4):
            x = up(x, levels.pop())
        return self.outc(x)


class Pix2Pix(nn.Module):
    """Eight levels down to one pixel and up again; the outermost and the innermost level have no normalisation on their way down."""

    def __init__(self, colours=3, width=64):
        super().__init__()
        widths = [colours] + [width * min(1 << i, 8) for i in range(8)]
        last = len(widths) - 2
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for i, (outer, inner) in enumerate(zip(widths, widths[1:])):
            down = [nn.LeakyReLU(0.2)] if i else []
            down.append(nn.Conv2d(outer, inner, 4, 2, 1, bias=False))
            down += [nn.BatchNorm2d(inner)] if 0 < i < last else []
            # What comes from below, and beside it the level's own way down.
            above = nn.ConvTranspose2d(inner if i == last else 2 * inner, outer, 4, 2, 1, bias=i == 0)
            up = [nn.ReLU(), above, nn.BatchNorm2d(outer), nn.Dropout(0.5)] if i else [nn.ReLU(), above, nn.Tanh()]
            self.down.append(nn.Sequential(*down))
            self.up.append(nn.Sequential(*up))

    def forward(self, image):
        levels = [self.down[0](image)]
        for down in self.down[1:]:
            levels.append(down(levels[-1]))
        x = self.up[len(self.up) - 1](levels.pop())
        for i in range(len(self.up) - 2, -1, -1):
            x = self.up[i](torch.cat([levels.pop(), x], 1))
        return x


class ResidualBlock(nn.Module):
    def __init__(self, channels, kernel):
        super().__init__()
        conv = lambda dilation: nn.Conv1d(channels, channels, kernel, dilation=dilation, padding="same")
        self.convs1 = nn.ModuleList(conv(dilation) for dilation in (1, 3, 5))
        self.convs2 = nn.ModuleList(conv(1) for _ in range(3))

    def forward(self, x):
        for first, second in zip(self.convs1, self.convs2):
            x = x + second(functional.leaky_relu(first(functional.leaky_relu(x, 0.1)), 0.1))
        return x


class HifiGan(nn.Module):
    """As it is used: the weight norms of training are removed."""

    def __init__(self, mels=80, width=512):
        super().__init__()
        self.conv_pre = nn.Conv1d(mels, width, 7, padding=3)
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        for rate, kernel in [(8, 16), (8, 16), (2, 4), (2, 4)]:
            self.ups.append(nn.ConvTranspose1d(width, width // 2, kernel, rate, (kernel - rate) // 2))
            width //= 2
            self.resblocks.extend(ResidualBlock(width, kernel) for kernel in (3, 7, 11))
        self.conv_post = nn.Conv1d(width, 1, 7, padding=3)

    def forward(self, mel):
        x = self.conv_pre(mel)
        for i, up in enumerate(self.ups):
            x = up(functional.leaky_relu(x, 0.1))
            x = sum(block(x) for block in self.resblocks[3 * i : 3 * i + 3]) / 3
        return torch.tanh(self.conv_post(functional.leaky_relu(x)))


# Name of the model, its module, name and shape of its input.
GENERATORS = [
    ("dcgan", Dcgan, "z", [100, 1, 1]),
    ("unet", UNet, "image", [3, 256, 256]),
    ("pix2pix", Pix2Pix, "image", [3, 256, 256]),
    ("hifigan", HifiGan, "mel", [80, 32]),
]


def randomise(module):
    """Normal weights, positive variances: an exporter would share what is equal."""
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.normal_(0.0, 0.02)
        for norm in module.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.running_var.uniform_(0.5, 1.5)


def strip(name, model):
    """Leaves the shapes of large tensors; their elements would be in a file that only the full model needs."""
    offset = 0
    for tensor in model.graph.initializer:
        size = len(tensor.raw_data)
        if size >= 64:
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in [("location", f"{name}.weights"), ("offset", offset), ("length", size)]:
                tensor.external_data.add(key=key, value=str(value))
            offset += size


def models(stripped):
    """Name and model of each generator."""
    for seed, (name, make, source, shape) in enumerate(GENERATORS):
        torch.manual_seed(seed)
        module = make().eval()
        randomise(module)
        with tempfile.NamedTemporaryFile(suffix=".onnx") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module, (torch.zeros(1, *shape),), file.name, input_names=[source], output_names=["output"],
                dynamic_axes={source: {0: "batch"}, "output": {0: "batch"}}, **EXPORT)
            model = onnx.shape_inference.infer_shapes(onnx.load(file.name))
        if stripped:
            strip(name, model)
        yield name, model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--strip", action="store_true", help="leave the elements of the weights out")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name, model in models(arguments.strip):
        path = arguments.folder / f"{name}.onnx"
        onnx.save(model, path)
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
