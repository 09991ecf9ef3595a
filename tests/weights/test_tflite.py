"""The TFLite reader: what the schema's own writer wrote, and one clear line for any other bytes."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atrous.errors import WeightsError
from atrous.weights.tflite.flatbuffer import Graph, read_tflite
from tflite_files import PIXEL, RELU6, SAME, SIX, Draft, Drawn, pack


@pytest.fixture(scope="module")
def drawn(litert) -> Drawn:
    """One convolution."""
    draft = Draft(litert.schema_py_generated, per_axis=True)
    image = draft.tensor((1, 4, 4, 3), "UINT8", *PIXEL)
    result = draft.convolve(image, 2, RELU6, SIX, size=3, stride=2)
    draft.drawn.graph.inputs, draft.drawn.graph.outputs = [image], [result]
    return draft.drawn


@pytest.fixture(scope="module")
def content(drawn) -> bytes:
    return pack(drawn.model)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("tflite") / "model.tflite"


def read(path, content: bytes) -> Graph:
    path.write_bytes(content)
    return read_tflite(path)


def survives(path, content: bytes) -> bool:
    """Whether the bytes are read as a graph; if they are not, the error is one line that names the file."""
    try:
        read(path, content)
    except WeightsError as error:
        message = str(error)
    else:
        return True
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return False


def test_it_reads_what_the_schema_wrote(path, content, drawn):
    graph = read(path, content)
    assert (graph.inputs, graph.outputs) == ((0,), (3,))
    [operator] = graph.operators
    assert (operator.name, operator.inputs, operator.outputs) == ("CONV_2D", (0, 1, 2), (3,))
    sizes = {"stride_h": 2, "stride_w": 2, "rate_h": 1, "rate_w": 1}
    assert operator.options == {"padding": SAME, "activation": RELU6, **sizes}
    assert [tensor.name for tensor in graph.tensors] == ["tensor_0", "tensor_1", "tensor_2", "tensor_3"]
    assert [tensor.shape for tensor in graph.tensors] == [(1, 4, 4, 3), (2, 3, 3, 3), (2,), (1, 2, 2, 2)]
    assert [tensor.dtype for tensor in graph.tensors] == [np.uint8, np.uint8, np.int32, np.uint8]
    image, weight, bias, result = graph.tensors
    assert (image.scale.tolist(), image.zero_point.tolist(), image.data) == ([1 / 128], [128], None)
    assert (weight.axis, weight.scale.size, bias.scale.size, result.data) == (0, 2, 2, None)
    kernel, offset = drawn.layers[0]
    steps = weight.data - weight.zero_point.reshape(-1, 1, 1, 1)
    there = steps * weight.scale.astype(np.float64).reshape(-1, 1, 1, 1)
    assert np.array_equal(there.transpose(0, 3, 1, 2), kernel)
    assert np.allclose(bias.data * bias.scale.astype(np.float64), offset, rtol=1e-6)


def test_the_published_graph_is_read_whole(shared_data):
    graph = read_tflite(shared_data / "weights" / "coral" / "deeplabv3_mnv2_pascal_quant.tflite")
    assert (len(graph.operators), len(graph.tensors)) == (72, 186)
    assert graph.tensors[graph.inputs[0]].name == "MobilenetV2/MobilenetV2/input"
    constants = sum(tensor.data.size for tensor in graph.tensors if tensor.data is not None)
    kernels, biases, sizes = 2_080_448, 16_544 + 21, 2 + 2 + 1
    assert constants == kernels + biases + sizes


def test_a_file_that_is_cut_anywhere_is_refused(path, content):
    """The writer begins at the end, where what all else refers to by its length stands."""
    assert not any(survives(path, content[:length]) for length in range(len(content)))


@pytest.mark.slow
def test_a_wrong_number_anywhere_is_an_error_or_another_graph(path, content):
    """Each byte and each 32-bit number, as far off as may be: offsets outside the file, lengths without end."""
    outcomes = set()
    for position in range(len(content)):
        for value in (0, 1, 0x7F, 0x80, 0xFF):
            outcomes.add(survives(path, content[:position] + bytes([value]) + content[position + 1 :]))
    for position in range(0, len(content) - 3, 2):
        for value in (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
            outcomes.add(survives(path, content[:position] + struct.pack("<I", value) + content[position + 4 :]))
    assert outcomes == {True, False}


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_noise_is_an_error_or_another_graph(path, content, data):
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 8))):
        start = data.draw(st.integers(0, len(content) - 1))
        piece = data.draw(st.binary(min_size=1, max_size=8))
        damaged[start : start + len(piece)] = piece
    survives(path, bytes(damaged))


@pytest.mark.parametrize(("references", "read_whole"), [(10_000, True), (10_001, False)])
def test_a_table_may_not_be_shared_without_end(path, litert, references, read_whole):
    """Lists of references to one table let a small file stand for an endless graph."""
    from flatbuffers import Builder

    schema, builder = litert.schema_py_generated, Builder(0)
    schema.BufferStart(builder)
    buffer = schema.BufferEnd(builder)
    schema.ModelStartBuffersVector(builder, 1)
    builder.PrependUOffsetTRelative(buffer)
    buffers = builder.EndVector()
    schema.TensorStart(builder)
    tensor = schema.TensorEnd(builder)
    schema.SubGraphStartTensorsVector(builder, references)
    for _ in range(references):
        builder.PrependUOffsetTRelative(tensor)
    tensors = builder.EndVector()
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensors)
    graph = schema.SubGraphEnd(builder)
    schema.ModelStartSubgraphsVector(builder, 1)
    builder.PrependUOffsetTRelative(graph)
    graphs = builder.EndVector()
    schema.ModelStart(builder)
    schema.ModelAddSubgraphs(builder, graphs)
    schema.ModelAddBuffers(builder, buffers)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    assert survives(path, bytes(builder.Output())) == read_whole


def test_what_is_no_tflite_file_is_refused(path, content, tmp_path):
    for other in (b"", b"TFL3", content[:7], b"\x80\x02}q\x00." * 9):
        with pytest.raises(WeightsError, match="not a TFLite file"):
            read(path, other)
    with pytest.raises(WeightsError, match="cannot be read"):
        read_tflite(tmp_path / "nowhere.tflite")
    with pytest.raises(WeightsError, match="cannot be read"):
        read_tflite(tmp_path)


def test_a_constant_must_have_its_shape_and_a_reference_its_target(path, drawn):
    weight, operator = drawn.graph.tensors[1], drawn.graph.operators[0]
    for place, name, value, message in (
        (weight, "shape", [2, 3, 3, 4], r"54 bytes for uint8 of shape \(2, 3, 3, 4\)"),
        (weight, "shape", [-2, 3, 3, -3], "54 bytes for uint8"),
        (weight, "buffer", 7, "buffer 7 of 3"),
        (operator, "opcodeIndex", 1, "operator code 1 of 1"),
        (operator, "inputs", [0, 4, 2], "tensor 4 of 4"),
        (drawn.model, "subgraphs", [drawn.graph] * 2, "2 graphs, not one"),
    ):
        before = getattr(place, name)
        setattr(place, name, value)
        with pytest.raises(WeightsError, match=message):
            read(path, pack(drawn.model))
        setattr(place, name, before)
