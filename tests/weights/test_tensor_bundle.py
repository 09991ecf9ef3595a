"""TensorFlow's checkpoint format, written here by a writer of its own and read back, whole and damaged."""

import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atrous.errors import WeightsError
from atrous.weights.tensorflow.bundle import read_checkpoint
from atrous.weights.tensorflow.crc32c import crc32c

DTYPES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "float16": 19}
MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)


def checksum(data):
    """CRC-32C bit by bit, then masked."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def varint(value):
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number, value):
    """A protocol buffer's field: a varint, or bytes with their length."""
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value)


def block(entries, restart_interval=3):
    """Keys and values, each key without what it shares with the one before, but for every third."""
    out, restarts, last = b"", [], b""
    for index, (key, value) in enumerate(entries):
        shared = 0
        if index % restart_interval == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    restarts = restarts or [0]
    return out + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def table(blocks, compression=0):
    """Blocks of (last key, contents), an empty one that TensorFlow does not use, and their index."""
    out, index = b"", []

    def add(contents):
        nonlocal out
        handle = varint(len(out)) + varint(len(contents))
        stored = contents + bytes([compression])
        out += stored + struct.pack("<I", checksum(stored))
        return handle

    for key, contents in blocks:
        index.append((key, add(contents)))
    footer = add(block([])) + add(block(index))
    return out + footer.ljust(40, b"\0") + MAGIC


def entry(dtype, shape, offset, data, shard=0, **changes):
    dims = b"".join(field(2, field(1, size) if size else b"") for size in shape)
    values = {1: dtype, 2: dims, 3: shard, 4: offset, 5: len(data), **changes.get("fields", {})}
    message = b"".join(field(number, value) for number, value in values.items() if value not in (0, None))
    return message + varint(6 << 3 | 5) + struct.pack("<I", checksum(data))


def header(shards=1, **fields):
    return field(1, shards) + b"".join(field(int(name[1:]), value) for name, value in fields.items())


def lay_out(tensors, shards=1):
    """(sorted index entries, the data files), tensors dealt to the files in turn."""
    files, entries = [b""] * shards, {b"": header(shards, _3=field(1, 1))}
    for turn, (name, values) in enumerate(tensors.items()):
        shard = turn % shards
        data = values.tobytes()
        dtype = DTYPES.get(values.dtype.name, 14)
        entries[name.encode()] = entry(dtype, values.shape, len(files[shard]), data, shard)
        files[shard] += data
    return sorted(entries.items()), files


def write(directory, entries, files, name="model.ckpt-7", per_block=4):
    """The bundle's files; returns what their names begin with."""
    groups = [entries[start : start + per_block] for start in range(0, len(entries), per_block)]
    (directory / f"{name}.index").write_bytes(table([(group[-1][0], block(group)) for group in groups]))
    for shard, data in enumerate(files):
        (directory / f"{name}.data-{shard:05d}-of-{len(files):05d}").write_bytes(data)
    return directory / name


def some_tensors():
    rng = np.random.default_rng(0)
    return {
        "conv/weights": rng.normal(size=(3, 3, 2, 4)).astype(np.float32),
        "conv/weights/Momentum": np.zeros((3, 3, 2, 4), np.float32),
        "conv/BatchNorm/gamma": rng.normal(size=4).astype(np.float64),
        "conv/BatchNorm/beta": rng.normal(size=4).astype(np.float16),
        "conv_1/depthwise_weights": rng.integers(-9, 9, (3, 3, 4, 1)).astype(np.int32),
        "empty": np.zeros((0, 5), np.float32),
        "global_step": np.array(30000, np.int64),
    }


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("per_block", [1, 4, 100])
def test_what_is_written_is_read(tmp_path, shards, per_block):
    tensors = some_tensors()
    checkpoint = read_checkpoint(write(tmp_path, *lay_out(tensors, shards), per_block=per_block))
    assert set(checkpoint) == set(tensors)
    for name, values in tensors.items():
        assert checkpoint.shape(name) == values.shape
        assert checkpoint[name].dtype == values.dtype
        assert np.array_equal(checkpoint[name], values)


def test_bfloat16_becomes_float32(tmp_path):
    values = np.float32([1, -0.15625, 3e38, np.inf])
    stored = (values.view(np.uint32) >> 16).astype(np.uint16)
    checkpoint = read_checkpoint(write(tmp_path, *lay_out({"x": stored})))
    assert checkpoint["x"].dtype == np.float32
    assert np.array_equal(checkpoint["x"], (stored.astype(np.uint32) << 16).view(np.float32))
    np.testing.assert_allclose(checkpoint["x"], values, rtol=2**-7)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 31, 32, 1003])
def test_the_checksum_is_the_one_bit_by_bit(size):
    data = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    masked = checksum(data.tobytes())
    assert (((crc32c(data) >> 15) | (crc32c(data) << 17)) + 0xA282EAD8) & 0xFFFFFFFF == masked
    assert crc32c(b"123456789") == 0xE3069283  # the published check value


def test_a_checkpoint_goes_by_many_names(tmp_path):
    prefix = write(tmp_path, *lay_out(some_tensors()))
    for path in (prefix, f"{prefix}.index", f"{prefix}.meta", f"{prefix}.data-00000-of-00001", tmp_path):
        assert len(read_checkpoint(path)) == 7
    write(tmp_path, *lay_out({"one": np.zeros(1, np.float32)}), name="model.ckpt-8")
    with pytest.raises(WeightsError, match="holds 2 checkpoints: give one of model"):
        read_checkpoint(tmp_path)
    (tmp_path / "checkpoint").write_text(
        'model_checkpoint_path: "/home/her/train/model.ckpt-8"\nother: "model.ckpt-7"\n'
    )
    assert list(read_checkpoint(tmp_path)) == ["one"]


def test_a_slot_is_not_read(tmp_path):
    """Values are read one by one, so that a damaged one that nobody wants does no harm."""
    tensors = some_tensors()
    entries, (data,) = lay_out(tensors)
    start = tensors["conv/weights"].nbytes
    damaged = data[:start] + b"\1" + data[start + 1 :]
    checkpoint = read_checkpoint(write(tmp_path, entries, [damaged]))
    assert np.array_equal(checkpoint["conv/weights"], tensors["conv/weights"])
    with pytest.raises(WeightsError, match="checksum of conv/weights/Momentum is wrong"):
        checkpoint["conv/weights/Momentum"]


def replaced(name, message):
    def change(entries, files):
        return sorted({**dict(entries), name: message}.items()), files

    return change


ONE = np.float32([1]).tobytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entries, files: (entries, [files[0][:-1]]), r"data-00000-of-00001: cut short: it has \d+ bytes, not"),
        (lambda entries, files: (entries, []), "data-00000-of-00001: not there, and model.ckpt-7.index alone holds no"),
        (lambda entries, files: (entries[1:], files), "it has no header"),
        (replaced(b"", header(2)), "data-00000-of-00002: not there"),
        (replaced(b"", header(1, _2=1)), "big-endian"),
        (replaced(b"", header(1 << 40)), "no number of data files"),
        (replaced(b"x", entry(1, (1,), 0, ONE, shard=5)), "x is said to stand in data file 5 of 1"),
        (replaced(b"x", entry(1, (2,), 0, ONE)), r"x has 4 bytes, which its shape \(2,\) forbids"),
        (replaced(b"x", entry(1, (1 << 62, 4), 0, ONE)), "x has 4 bytes, which its shape"),
        (replaced(b"x", entry(1, (1,), 0, ONE, fields={4: 1 << 60})), "cut short"),
        (replaced(b"x", entry(1, (1,), 0, ONE, fields={5: 1 << 60})), "cut short"),
        (replaced(b"x", entry(1, (1,) * 9, 0, ONE)), "shape is not one"),
        (replaced(b"x", entry(7, (1,), 0, ONE)), "x is of TensorFlow's type 7"),
        (replaced(b"x", entry(1, (1,), 0, ONE) + field(7, b"")), "x lies in parts"),
        (replaced(b"x", entry(1, (1,), 0, ONE) + field(9, b"")), "unknown field 9"),
        (replaced(b"x", b"\x0b"), "unknown kind 3"),
        (replaced(b"x", b"\xff" * 10), "more than 64 bits"),
        (replaced(b"x\ny", entry(1, (1,), 0, ONE)), "a name in it is not text"),
        (replaced(b"x" * 2000, entry(1, (1,), 0, ONE)), "out of bounds"),
    ],
)
def test_damage_that_checksums_do_not_show(tmp_path, change, message):
    entries, files = change(*lay_out({"first": np.float32([[1, 2], [3, 4]])}))
    path = write(tmp_path, entries, files)
    with pytest.raises(WeightsError, match=message) as error:
        dict(read_checkpoint(path))
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_tables_that_would_never_end_are_refused(tmp_path):
    """Blocks that repeat, keys out of order, a compressed block, an index beyond any reason."""
    entries, files = lay_out(some_tensors())
    path = write(tmp_path, entries, files)
    index = path.with_name("model.ckpt-7.index")
    whole = block(entries)
    for contents, message in [
        (table([(b"", whole), (b"", whole)]), "keys are not in order"),
        (table([(b"", block([entries[0], *entries[:0:-1]]))]), "keys are not in order"),
        (table([(b"", whole)], compression=1), "a block is compressed"),
        (b"\0" * ((1 << 24) + 1), "more than the index of a checkpoint has"),
        (b"", "cut short or another kind of file"),
    ]:
        index.write_bytes(contents)
        with pytest.raises(WeightsError, match=message):
            read_checkpoint(path)
    handle = varint(0) + varint(len(whole))
    stored = whole + b"\0"
    body = stored + struct.pack("<I", checksum(stored))
    twice = block([(b"a", handle), (b"b", handle)]) + b"\0"
    footer = (varint(0) + varint(0) + varint(len(body)) + varint(len(twice) - 1)).ljust(40, b"\0")
    index.write_bytes(body + twice + struct.pack("<I", checksum(twice)) + footer + MAGIC)
    with pytest.raises(WeightsError, match="blocks overlap"):
        read_checkpoint(path)


def test_what_is_no_checkpoint_is_refused(tmp_path):
    (tmp_path / "frozen_inference_graph.pb").write_bytes(b"\x0a\x05graph")
    (tmp_path / "old.ckpt").write_bytes(b"first format" * 9 + MAGIC)
    (tmp_path / "lone.ckpt.data-00000-of-00001").write_bytes(b"1234")
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8")
    for name, message in [
        ("frozen_inference_graph.pb", "a graph, frozen or not"),
        ("old.ckpt", "TensorFlow's first format"),
        ("lone.ckpt.data-00000-of-00001", "its index lone.ckpt.index is not beside it"),
        ("photo.jpg", "not a TensorFlow checkpoint"),
        ("nowhere.ckpt", "there is no nowhere.ckpt.index"),
        (".", "holds no TensorFlow checkpoint"),
    ]:
        with pytest.raises(WeightsError, match=message) as error:
            read_checkpoint(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)


TENSORS = some_tensors()
ENTRIES, FILES = lay_out(TENSORS)


def read_all(index, data):
    """Every value, of files with these bytes; the message where they are refused."""
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "m.index").write_bytes(index)
        (Path(directory) / "m.data-00000-of-00001").write_bytes(data)
        try:
            return dict(read_checkpoint(Path(directory) / "m"))
        except WeightsError as error:
            return str(error)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    path = write(tmp_path_factory.mktemp("bundle"), ENTRIES, FILES)
    return path.with_name("model.ckpt-7.index").read_bytes()


@settings(deadline=None, max_examples=200)
@given(cut=st.floats(0, 1, exclude_max=True), which=st.booleans())
def test_cut_files_are_refused(index, cut, which):
    files = [index, FILES[0]]
    files[which] = files[which][: int(len(files[which]) * cut)]
    message = read_all(*files)
    assert isinstance(message, str)
    assert "\n" not in message


@settings(deadline=None, max_examples=400)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), which=st.booleans())
def test_a_flipped_bit_is_refused_or_harmless(index, place, bit, which):
    files = [bytearray(index), bytearray(FILES[0])]
    files[which][int(len(files[which]) * place)] ^= 1 << bit
    values = read_all(*map(bytes, files))
    if isinstance(values, str):
        assert "\n" not in values
    else:
        assert set(values) == set(TENSORS)
        assert all(np.array_equal(values[name], TENSORS[name]) for name in TENSORS)


@settings(deadline=None, max_examples=400)
@given(
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4),
    noise=st.binary(max_size=40),
    whole=st.booleans(),
)
def test_no_bytes_under_right_checksums_do_other_than_be_read_or_refused(changes, noise, whole):
    contents = bytearray(noise if whole else block(ENTRIES))
    for place, value in changes:
        if contents:
            contents[int(len(contents) * place)] = value
    values = read_all(table([(b"z", bytes(contents))]), FILES[0])
    if isinstance(values, str):
        assert "\n" not in values
        return
    for array in values.values():
        assert array.nbytes <= 2 * len(FILES[0])  # bfloat16 becomes twice as long
