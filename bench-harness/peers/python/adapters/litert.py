"""LiteRT with its XNNPACK delegate, channels last. The model is written with the schema that comes with it."""

from importlib.metadata import version

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from peer import Operator, channels_first

NAME, VERSION = "LiteRT", version("ai-edge-litert")

settings = {}


def threads(n):
    settings["num_threads"] = n
    return n


def prepare(problem, _mode):
    problem.needs_one_group()
    problem.needs_no_dilation()
    problem.with_two_axes()
    model = bytes(_Model(problem).packed())
    problem.begin_plan()
    interpreter = Interpreter(model_content=model, **settings)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], problem.channels_last)
    y = interpreter.get_output_details()[0]["index"]
    return Operator(interpreter.invoke, lambda _: channels_first(interpreter.get_tensor(y)))


class _Model:
    """Tensors by number, operators between them."""

    def __init__(self, problem):
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.operatorCodes = []
        self.model.buffers = [schema.BufferT()]
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs = [self.graph]
        self._build(problem)

    def _build(self, p):
        x = self.tensor([p.batch, *p.input, p.cin])
        target = [p.batch, *p.output, p.cout]
        same, whole = _fits_same(p), _whole(p)
        uncut = target if same else [p.batch, *whole, p.cout]
        inputs = [self.constant(np.array(uncut, np.int32)), self._weights(p), x]
        if p.b is not None:
            inputs.append(self.constant(p.b))
        y = self.tensor(uncut)
        padding = schema.Padding.SAME if same else schema.Padding.VALID
        if p.rank == 2:
            options = schema.TransposeConvOptionsT()
            options.strideH, options.strideW = p.stride
            kind, code, made = schema.BuiltinOptions.TransposeConvOptions, schema.BuiltinOperator.TRANSPOSE_CONV, 3
        else:
            options = schema.Conv3DOptionsT()
            options.strideD, options.strideH, options.strideW = p.stride
            kind, code, made = schema.BuiltinOptions.Conv3DOptions, schema.BuiltinOperator.CONV_3D_TRANSPOSE, 1
        options.padding = padding
        self.operator(code, made, inputs, y, kind, options)
        if uncut != target:
            corner = self.constant(np.array([0, *p.begin, 0], np.int32))
            size = self.constant(np.array(target, np.int32))
            cut = self.tensor(target)
            slices = (schema.BuiltinOptions.SliceOptions, schema.SliceOptionsT())
            self.operator(schema.BuiltinOperator.SLICE, 1, [y, corner, size], cut, *slices)
            y = cut
        self.graph.inputs, self.graph.outputs = [x], [y]

    def _weights(self, p):
        if p.rank == 2:
            return self.constant(np.moveaxis(p.w, (1, 0), (0, -1)))  # [Cout, kernel…, Cin]
        return self.constant(np.moveaxis(p.w, (1, 0), (-2, -1)))  # [kernel…, Cout, Cin]

    def tensor(self, shape, kind=schema.TensorType.FLOAT32, buffer=0):
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.buffer = list(shape), kind, buffer
        tensor.name = f"t{len(self.graph.tensors)}"
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def constant(self, array):
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        kind = schema.TensorType.INT32 if array.dtype == np.int32 else schema.TensorType.FLOAT32
        return self.tensor(array.shape, kind, len(self.model.buffers) - 1)

    def operator(self, code, made, inputs, output, kind, options):
        of = schema.OperatorCodeT()
        of.builtinCode, of.deprecatedBuiltinCode, of.version = code, min(code, 127), made
        self.model.operatorCodes.append(of)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes) - 1
        operator.inputs, operator.outputs = inputs, [output]
        operator.builtinOptionsType, operator.builtinOptions = kind, options
        self.graph.operators.append(operator)

    def packed(self):
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return builder.Output()


def _whole(p):
    """The output before anything is cut off, with room for what output padding adds beyond the padding."""
    axes = zip(p.input, p.stride, p.kernel, p.output_padding, p.end)
    return [(i - 1) * s + k + max(0, more - e) for i, s, k, more, e in axes]


def _fits_same(p):
    """Whether padding SAME cuts what is wanted: the smaller half at the beginning."""
    for i, s, k, o, b in zip(p.input, p.stride, p.kernel, p.output, p.begin):
        cut = (i - 1) * s + k - o
        if -(-o // s) != i or cut < 0 or b != cut // 2:
            return False
    return True
