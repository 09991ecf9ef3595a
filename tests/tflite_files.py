"""TFLite files of the shape of Google's DeepLab v3 with MobileNetV2, written with the schema that LiteRT ships."""

from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# MobileNetV2 (arXiv 1801.04381, table 2): expansion, channels, repeats, stride.
BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
NONE, RELU, RELU6 = 0, 1, 3
SAME, VALID = 0, 1
PIXEL, SIX = (1 / 128, 128), (6 / 255, 0)  # scale and zero point of the image, and of what went through ReLU6
LINEAR, POSITIVE = (32 / 255, 128), (16 / 255, 0)


@dataclass
class Drawn:
    """A file's graph, still open to changes, and what its constants stand for."""

    model: Any
    layers: list[tuple[Array, Array]] = field(default_factory=list)
    """Of each convolution, in the graph's order: kernel (O×I×h×w) and bias."""

    @property
    def graph(self) -> Any:
        return self.model.subgraphs[0]

    def operators(self, name: str, schema: ModuleType) -> list[Any]:
        code = getattr(schema.BuiltinOperator, name)
        return [op for op in self.graph.operators if self.model.operatorCodes[op.opcodeIndex].builtinCode == code]


class Draft:
    """Puts tensors and operators of random values into a graph."""

    def __init__(self, schema: ModuleType, per_axis: bool) -> None:
        self.schema, self.per_axis = schema, per_axis
        self.random = np.random.default_rng(0)
        self.drawn = Drawn(schema.ModelT())
        model, graph = self.drawn.model, schema.SubGraphT()
        model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [], [graph], [schema.BufferT()]
        graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [], [], []

    def tensor(
        self, shape: tuple[int, ...], kind: str, scale: Any = None, zero: Any = 0, axis: int = 0, data: Any = None
    ) -> int:
        tensor = self.schema.TensorT()
        index = len(self.drawn.graph.tensors)
        tensor.name, tensor.shape, tensor.type = f"tensor_{index}", list(shape), getattr(self.schema.TensorType, kind)
        tensor.buffer = 0
        if scale is not None:
            q = tensor.quantization = self.schema.QuantizationParametersT()
            q.scale = np.atleast_1d(np.asarray(scale, np.float32))
            q.zeroPoint = np.broadcast_to(np.asarray(zero, np.int64), q.scale.shape).copy()
            q.quantizedDimension = axis
        if data is not None:
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            tensor.buffer = len(self.drawn.model.buffers)
            self.drawn.model.buffers.append(buffer)
        self.drawn.graph.tensors.append(tensor)
        return index

    def operator(self, name: str, inputs: list[int], output: int, options: str = "", **values: int) -> int:
        schema, model = self.schema, self.drawn.model
        code = getattr(schema.BuiltinOperator, name)
        codes = [existing.builtinCode for existing in model.operatorCodes]
        if code not in codes:
            new = schema.OperatorCodeT()
            new.builtinCode, new.deprecatedBuiltinCode, new.version = code, min(code, 127), 1
            model.operatorCodes.append(new)
            codes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = codes.index(code), inputs, [output]
        if options:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(schema, f"{options}T")()
            for key, value in values.items():
                assert hasattr(operator.builtinOptions, key)
                setattr(operator.builtinOptions, key, value)
        self.drawn.graph.operators.append(operator)
        return output

    def convolve(
        self, x: int, channels: int, activation: int, to: Any, *, size: int = 1, stride: int = 1, rate: int = 1
    ) -> int:
        """A convolution; depthwise where it has a size, but for the stem."""
        source = self.drawn.graph.tensors[x]
        height, width, in_channels = source.shape[1:]
        depthwise = size > 1 and in_channels == channels
        shape = (1, size, size, channels) if depthwise else (channels, size, size, in_channels)
        axis = 3 if depthwise else 0
        fan_in = size * size * (1 if depthwise else in_channels)
        # Steps by which the sums keep about the size that their inputs have.
        scale = (np.sqrt(2 / fan_in) / 64) * self.random.uniform(0.8, 1.2, channels if self.per_axis else 1)
        scale = scale.astype(np.float32)
        zero = self.random.integers(118, 138, scale.size)
        stored = np.clip(np.round(self.random.normal(128, 64, shape)), 0, 255).astype(np.uint8)
        step = source.quantization.scale.astype(np.float64) * scale
        offset = np.round(self.random.uniform(-0.5, 0.5, channels) / step).astype(np.int32)
        along = [-1 if i == axis else 1 for i in range(4)] if self.per_axis else []
        kernel = (stored.astype(np.float64) - zero.reshape(along)) * scale.astype(np.float64).reshape(along)
        kernel = np.moveaxis(kernel, 3, 0) if depthwise else np.moveaxis(kernel, 3, 1)
        self.drawn.layers.append((kernel, offset * step))
        inputs = [
            x,
            self.tensor(shape, "UINT8", scale, zero, axis, stored),
            self.tensor((channels,), "INT32", step, data=offset),
        ]
        output = self.tensor((1, -(-height // stride), -(-width // stride), channels), "UINT8", *to)
        name, own = ("DEPTHWISE_CONV_2D", {"depthMultiplier": 1}) if depthwise else ("CONV_2D", {})
        options = "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions"
        strides = {"strideW": stride, "strideH": stride, "dilationWFactor": rate, "dilationHFactor": rate}
        return self.operator(
            name, inputs, output, options, padding=SAME, fusedActivationFunction=activation, **strides, **own
        )

    def resize(self, x: int, height: int, width: int) -> int:
        source = self.drawn.graph.tensors[x]
        size = self.tensor((2,), "INT32", data=np.array([height, width], np.int32))
        quantised = (source.quantization.scale, source.quantization.zeroPoint)
        output = self.tensor((1, height, width, source.shape[3]), "UINT8", *quantised)
        return self.operator("RESIZE_BILINEAR", [x, size], output, "ResizeBilinearOptions", alignCorners=True)

    def quantise(self, x: int, to: tuple[float, int]) -> int:
        return self.operator("QUANTIZE", [x], self.tensor(self.drawn.graph.tensors[x].shape, "UINT8", *to))


def draw_mobilenet(draft: Draft, x: int, width: float, output_stride: int) -> int:
    """MobileNetV2 from the image to its features."""
    graph = draft.drawn.graph
    x = draft.convolve(x, int(32 * width), RELU6, SIX, size=3, stride=2)
    reached, rate = 2, 1
    for expansion, channels, repeats, stage_stride in BLOCKS:
        for repeat in range(repeats):
            stride, before = stage_stride if repeat == 0 else 1, x
            hidden = graph.tensors[x].shape[3] * expansion
            if expansion > 1:
                x = draft.convolve(x, hidden, RELU6, SIX)
            own_rate = rate
            if reached == output_stride:
                stride, rate = 1, rate * stride
            reached *= stride
            x = draft.convolve(x, hidden, RELU6, SIX, size=3, stride=stride, rate=own_rate)
            x = draft.convolve(x, int(channels * width), NONE, LINEAR)
            if repeat > 0:
                added = draft.tensor(graph.tensors[x].shape, "UINT8", *LINEAR)
                x = draft.operator("ADD", [x, before], added, "AddOptions", fusedActivationFunction=NONE)
    return x


def draw_deeplab(
    schema: ModuleType,
    *,
    image: tuple[int, int] = (65, 65),
    width: float = 0.5,
    classes: int = 5,
    output_stride: int = 16,
    pooling_first: bool = True,
    per_axis: bool = False,
) -> Drawn:
    """The graph of the published files, with random weights."""
    draft = Draft(schema, per_axis)
    graph = draft.drawn.graph
    x = start = draft.tensor((1, *image, 3), "UINT8", *PIXEL)
    x = draw_mobilenet(draft, x, width, output_stride)
    height, breadth, channels = graph.tensors[x].shape[1:]
    pooled = draft.tensor((1, 1, 1, channels), "UINT8", *LINEAR)
    window = {"strideW": 1, "strideH": 1, "filterWidth": breadth, "filterHeight": height}
    draft.operator("AVERAGE_POOL_2D", [x], pooled, "Pool2DOptions", padding=VALID, **window)
    pointwise = draft.convolve(x, 256, RELU, POSITIVE)
    pooled = draft.convolve(pooled, 256, RELU, (12 / 255, 0))
    pooled = draft.quantise(draft.resize(pooled, height, breadth), POSITIVE)
    joined = draft.tensor((1, height, breadth, 512), "UINT8", *POSITIVE)
    branches = [pooled, pointwise] if pooling_first else [pointwise, pooled]
    x = draft.operator("CONCATENATION", branches, joined, "ConcatenationOptions", axis=3)
    x = draft.convolve(x, 256, RELU, POSITIVE)
    x = draft.convolve(x, classes, NONE, LINEAR)
    x = draft.resize(draft.resize(x, height, breadth), *image)
    axis = draft.tensor((), "INT32", data=np.array(3, np.int32))
    labels = draft.tensor((1, *image), "INT64")
    draft.operator("ARG_MAX", [x, axis], labels, "ArgMaxOptions", outputType=schema.TensorType.INT64)
    graph.inputs, graph.outputs = [start], [labels]
    return draft.drawn


def draw_classifier(schema: ModuleType, width: float = 1.0) -> Drawn:
    """MobileNetV2 that names a photo of 32×32, with random weights."""
    draft = Draft(schema, per_axis=False)
    graph = draft.drawn.graph
    start = draft.tensor((1, 32, 32, 3), "UINT8", *PIXEL)
    x = draft.convolve(draw_mobilenet(draft, start, width, 32), 1280, RELU6, SIX)
    named = draft.tensor((1, 1, 1, 1280), "UINT8", 1 / 256, 0)
    graph.inputs, graph.outputs = [start], [draft.operator("SOFTMAX", [x], named, "SoftmaxOptions", beta=1)]
    return draft.drawn


def pack(model: Any) -> bytes:
    """The bytes of the file, which the schema's own writer makes."""
    import flatbuffers  # found once the fixture `litert` has looked for it

    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
