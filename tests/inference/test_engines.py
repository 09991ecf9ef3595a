"""Engines: the same labels as torch, whatever runs the network; and what is remembered of the fastest."""

import copy
import importlib.util
import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.metadata import version
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
import torch

import atrous
from atrous.errors import AtrousError
from atrous.inference import Predictor
from atrous.inference.engines import auto, names
from atrous.inference.engines.folding import folded
from atrous.inference.engines.parts import in_parts
from atrous.inference.engines.still import state_of
from atrous.inference.engines.torch_bf16 import TorchBfloat16
from atrous.layers import Decoder, ImagePooling
from atrous.models import create_model
from networks import deviation, image, one_of_each_kind, randomise

CPU = torch.device("cpu")
FLOAT32, BFLOAT16 = ["openvino", "onnxruntime"], ["torch-bf16", "openvino-bf16"]


def installed(name: str) -> str:
    if names._obstacle(name, CPU):
        pytest.skip(names._obstacle(name, CPU))
    return name


@pytest.fixture(scope="module")
def small() -> Predictor:
    """The bundled model: labels of random weights hardly differ."""
    return atrous.load("street", "cpu")


@pytest.fixture(scope="module")
def running(small) -> Callable[[str], Predictor]:
    """The same model on another engine, which is started once."""
    return cache(lambda engine: with_engine(small, engine))


@pytest.fixture
def memory(tmp_path, monkeypatch) -> Path:
    """Where it is remembered which engine is fastest."""
    monkeypatch.setenv("ATROUS_HOME", str(tmp_path))
    return tmp_path / "engines.json"


def with_engine(predictor: Predictor, engine: str) -> Predictor:
    return Predictor(copy.deepcopy(predictor.model), predictor.card, "cpu", installed(engine))


@pytest.mark.parametrize("engine", FLOAT32)
@pytest.mark.parametrize("size", [(1, 1), (1, 37), (17, 16), (97, 131), (129, 129)])
def test_a_float32_engine_gives_the_scores_of_torch(small, running, make_photo, engine, size):
    photo = make_photo(*size)
    other = running(engine)
    for options in ({}, {"flip": True, "scales": (0.75, 1.0)}):
        expected, found = (each(photo, scores=True, **options) for each in (small, other))
        np.testing.assert_allclose(found.scores(), expected.scores(), atol=2e-4)
        assert (found.labels == expected.labels).mean() > 0.999
    assert other.engine == engine


@pytest.mark.slow
@pytest.mark.parametrize("engine", FLOAT32 + BFLOAT16)
def test_real_photos_get_torchs_labels(small, running, shared_data, engine):
    """CamVid's, cut to sizes that are odd, even and neither."""
    exact, other = small, running(engine)
    photos = sorted((shared_data / "data" / "camvid" / "images" / "val").glob("*.jpg"))[::30]
    for path, (height, width) in zip(photos, [(321, 433), (360, 480), (129, 250)], strict=False):
        photo = exact(path).image[:height, :width]
        x = exact._network.pad(exact._network.normalise([photo], photo.shape[:2]))
        with torch.inference_mode():
            logits = [each._network.coarse_logits(x) for each in (other, exact)]
        assert logits[0].dtype == torch.float32
        assert deviation(*logits) < (1e-4 if engine in FLOAT32 else 4e-2)
        agreement = (other(photo).labels == exact(photo).labels).mean()
        assert agreement > (0.9999 if engine in FLOAT32 else 0.98)


SMALL_ONES = ("deeplabv3_mobilenet_v2_050", "deeplabv3plus_mobilenet_v2_050", "deeplabv3plus_mobilenet_v3_small")


@pytest.mark.parametrize(
    "name", [n if n in SMALL_ONES else pytest.param(n, marks=pytest.mark.slow) for n in one_of_each_kind()]
)
def test_every_kind_of_model_runs_on_every_engine(name):
    """Sizes differ from the one by which the graph was made."""
    model = randomise(create_model(name, num_classes=3)).float()
    engines = {engine: names.start(engine, model, CPU) for engine in map(installed, FLOAT32 + BFLOAT16)}
    stride, extra = model.output_stride, model.extra_pixels
    for height, width in ((2, 3), (1, 9)):
        x = image(height * stride + extra, width * stride + extra).float()
        with torch.inference_mode():
            expected = model.coarse_logits(x)
            for engine, runs in engines.items():
                # Random networks pass on what was rounded at each of their layers.
                assert deviation(runs.coarse_logits(x), expected) < (1e-4 if engine in FLOAT32 else 0.2)


@pytest.mark.parametrize(
    "name",
    [
        "deeplabv3plus_mobilenet_v2_050",
        "deeplabv3plus_mobilenet_v3_small",
        "smp_deeplabv3plus_mobilenet_v2",
        pytest.param("deeplabv3plus_resnet50", marks=pytest.mark.slow),
        pytest.param("deeplabv3plus_xception41", marks=pytest.mark.slow),
        pytest.param("mmsegmentation_deeplabv3_resnet50", marks=pytest.mark.slow),
    ],
)
def test_folding_leaves_no_batch_norm_and_changes_nothing(name):
    model = randomise(create_model(name, num_classes=3))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    twin = folded(model)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in twin.modules())
    with torch.inference_mode():
        x = image(65, 81)
        assert deviation(twin.double().coarse_logits(x), model.coarse_logits(x)) < 1e-6  # the weights are in float32
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


REWRITTEN = [name for name in one_of_each_kind() if "deeplabv3" in name and "cascade" not in name]


@pytest.mark.parametrize("name", [n if n in SMALL_ONES else pytest.param(n, marks=pytest.mark.slow) for n in REWRITTEN])
def test_in_parts_every_kind_of_model_computes_the_same(name):
    """In float64; the decoder's maps are no longer concatenated, nor is the pooled one spread."""
    twin = folded(randomise(create_model(name, num_classes=3))).double()
    x = image(2 * twin.output_stride + twin.extra_pixels, 3 * twin.output_stride + twin.extra_pixels)
    with torch.inference_mode():
        expected = twin.coarse_logits(x)
        rewritten = in_parts(copy.deepcopy(twin))
        assert deviation(rewritten.coarse_logits(x), expected) < 1e-12
    left = {type(module) for module in rewritten.modules()} & {Decoder, ImagePooling}
    assert not left or "mmsegmentation" in name  # whose projection sees more than one place
    assert Decoder not in left


def test_in_parts_decoders_at_every_stride_compute_the_same():
    model = create_model("deeplabv3plus_mobilenet_v2_050", num_classes=3, conv3=True, fine_channels=8)
    twin = folded(randomise(model)).double()
    x = image(33, 49)
    with torch.inference_mode():
        expected = twin.coarse_logits(x)
        rewritten = in_parts(twin)
        assert deviation(rewritten.coarse_logits(x), expected) < 1e-12
    assert not any(isinstance(module, Decoder) for module in rewritten.modules())


def test_in_bfloat16_the_last_layer_stays_in_float32(small, make_photo):
    engine = TorchBfloat16(small.model, CPU)
    x = small._network.normalise([make_photo(129, 129)], (129, 129))
    with torch.inference_mode():
        logits, expected = engine.coarse_logits(x), small.model.coarse_logits(x)
    assert deviation(logits, expected) < 5e-2
    assert not torch.equal(logits, logits.bfloat16().float())
    assert {p.dtype for p in small.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", ["deeplabv2_resnet101_largefov", "deeplabv2_vgg16_aspp", "deeplabv1_vgg16_largefov"])
@pytest.mark.parametrize("multi_scale", [None, [0.5, 1.0]])
def test_in_bfloat16_the_convolutions_to_the_logits_stay_in_float32(name, multi_scale):
    model = create_model(name, num_classes=3, multi_scale=multi_scale).eval()
    kept = model.score_layers()
    assert kept
    twin = TorchBfloat16(model, CPU)._model
    for layer in kept:
        assert {p.dtype for p in twin.get_submodule(layer).parameters()} == {torch.float32}
    assert twin.backbone.get_parameter(next(iter(dict(twin.backbone.named_parameters())))).dtype == torch.bfloat16
    with torch.inference_mode():
        assert twin.coarse_logits(torch.zeros(1, 3, 33, 33).bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("engine", ["torch-bf16", "openvino", "onnxruntime"])
def test_a_change_of_the_model_reaches_the_engine(small, make_photo, engine):
    photo = make_photo(97, 65)
    changing = with_engine(small, engine)
    before = changing(photo, scores=True).scores()
    changing.model.set_output_stride(8)
    exact = Predictor(copy.deepcopy(changing.model), small.card, "cpu")
    expected, found = (each(photo, scores=True).scores() for each in (exact, changing))
    assert np.abs(found - expected).mean() < 0.25 * np.abs(found - before).mean()
    changing.model.set_output_stride(16)
    changing.model.load_state_dict({key: value * 0 for key, value in changing.model.state_dict().items()})
    np.testing.assert_allclose(changing(photo, scores=True).scores(), 1 / 11, rtol=1e-5)


def test_a_loaded_model_is_looked_at_once_somebody_has_asked_for_it(make_photo, monkeypatch):
    looks = []
    monkeypatch.setattr("atrous.inference.engines.live.state_of", lambda model: looks.append(1) or state_of(model))
    photo = make_photo(65, 65)
    loaded = atrous.load("street", "cpu", engine="torch-bf16")
    before = [loaded(photo, scores=True).scores() for _ in range(3)]
    assert len(looks) == 1
    model = loaded.model
    np.testing.assert_array_equal(loaded(photo, scores=True).scores(), before[0])
    assert len(looks) == 2
    model.load_state_dict({key: value * 0 for key, value in model.state_dict().items()})
    np.testing.assert_allclose(loaded(photo, scores=True).scores(), 1 / 11, rtol=1e-5)
    assert len(looks) == 3


def test_what_counts_as_a_change(small):
    model = copy.deepcopy(small.model)
    before = state_of(model)
    assert state_of(model) == before
    model.decoder.align_corners = not model.decoder.align_corners
    resized = state_of(model)
    assert resized != before
    norm = next(module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d))
    norm.eps *= 2
    assert state_of(model) != resized
    model = copy.deepcopy(small.model)
    before = state_of(model)
    with torch.no_grad():
        model.logits.bias.add_(1)
    after = state_of(model)
    assert after != before
    next(iter(model.modules())).train()
    assert state_of(model) == after  # training mode is put back before each photo


@pytest.mark.parametrize("engine", ["torch", "torch-bf16", "openvino", "onnxruntime"])
def test_two_threads_at_once_get_each_its_own_labels(running, make_photo, engine):
    photos = [make_photo(65, 97, seed=seed) for seed in range(4)]
    other = running(engine)
    expected = [other(photo).labels for photo in photos]
    start = threading.Barrier(2)

    def repeat(indices):
        start.wait()
        return [(index, other(photos[index]).labels) for index in indices * 3]

    with ThreadPoolExecutor(2) as pool:
        for labels in pool.map(repeat, ([0, 1], [2, 3])):
            for index, found in labels:
                np.testing.assert_array_equal(found, expected[index])


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("tensorrt", "engine 'tensorrt' is unknown: give one of auto, auto-float32, torch, torch-bf16"),
        ("openvino", "engine 'openvino' needs openvino: pip install 'atrous[export]'"),
        ("onnxruntime", "engine 'onnxruntime' needs onnxruntime: pip install 'atrous[export]'"),
    ],
)
def test_an_engine_that_is_not_there_is_one_line(monkeypatch, engine, message):
    found = importlib.util.find_spec
    monkeypatch.setattr(names, "find_spec", lambda name: None if name == engine else found(name))
    with pytest.raises(AtrousError) as caught:
        atrous.load("no-such-model", "cpu", engine=engine)  # told before anything is loaded
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_an_engine_for_the_cpu_says_so_elsewhere():
    installed("openvino")
    with pytest.raises(AtrousError, match="runs on the CPU, not on cuda:0: give device='cpu'"):
        names.check_engine("openvino", torch.device("cuda:0"))


def test_a_size_that_keeps_coming_gets_a_graph_of_its_own_and_the_same_bits(small, monkeypatch):
    installed("openvino")
    from atrous.inference.engines import openvino

    monkeypatch.setattr(openvino, "_OFTEN", 3)
    engine = names.start("openvino", small.model, CPU)
    x, other = (torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0)) for size in [(65, 97), (97, 65)])
    found = [engine.coarse_logits(x) for _ in range(2)]
    assert not engine._own
    found += [engine.coarse_logits(x) for _ in range(2)]
    assert list(engine._own) == [(1, 65, 97, 3)]
    engine.coarse_logits(other)
    assert len(engine._own) == 1
    assert all(torch.equal(each, found[0]) for each in found)
    with torch.inference_mode():
        assert deviation(found[-1], small.model.coarse_logits(x)) < 1e-4


def test_auto_float32_leaves_out_what_rounds(small, make_photo, memory, monkeypatch):
    every = ["torch", "torch-bf16", "openvino-bf16", "openvino"]
    asked = []
    monkeypatch.setattr("atrous.inference.engines.live.usable", lambda *_: every)
    monkeypatch.setattr(
        "atrous.inference.engines.live.start", lambda name, *_: (asked.append(name), Slow(0.0, small.model))[1]
    )
    Predictor(small.model, small.card, "cpu", engine="auto-float32")(make_photo(65, 65))
    assert asked == ["torch", "openvino"]
    Predictor(small.model, small.card, "cpu", engine="auto")(make_photo(65, 65))  # another question
    assert asked[2:] == every
    assert len(json.loads(memory.read_text())) == 2


class Slow:
    """An engine that takes its time."""

    def __init__(self, seconds: float, model) -> None:
        self.seconds, self.model, self.runs = seconds, model, 0

    def coarse_logits(self, x):
        self.runs += 1
        threading.Event().wait(self.seconds)
        return self.model.coarse_logits(x)


@pytest.fixture
def engines(small, monkeypatch) -> dict[str, Slow]:
    """What `auto` chooses from: three engines, of which "openvino" is the fastest and "onnxruntime" does not start."""
    made = {"torch": Slow(0.1, small.model), "openvino": Slow(0.0, small.model)}

    def start(name, *_):
        if name not in made:
            raise RuntimeError("no such engine after all")
        return made[name]

    monkeypatch.setattr("atrous.inference.engines.live.usable", lambda *_: ["torch", "openvino", "onnxruntime"])
    monkeypatch.setattr("atrous.inference.engines.live.start", start)
    return made


def test_auto_measures_once_and_remembers(small, make_photo, memory, engines):
    predictor = Predictor(small.model, small.card, "cpu", engine="auto")
    assert predictor.engine == "auto"
    np.testing.assert_array_equal(predictor(make_photo(65, 65)).labels, small(make_photo(65, 65)).labels)
    assert predictor.engine == "openvino"
    [(key, known)] = json.loads(memory.read_text()).items()
    assert known["engine"] == "openvino"
    assert known["milliseconds"]["torch"] > 25
    assert small.model.config["name"] in key
    runs = engines["torch"].runs
    predictor(make_photo(60, 70))
    again = Predictor(small.model, small.card, "cpu", engine="auto")
    again(make_photo(65, 65))
    assert again.engine == "openvino"
    assert engines["torch"].runs == runs
    again(make_photo(400, 400))  # another size is another question
    assert engines["torch"].runs > runs
    assert len(json.loads(memory.read_text())) == 2


@pytest.mark.parametrize("when", ["starting", "running"])
def test_auto_passes_over_whatever_fails(small, make_photo, memory, engines, monkeypatch, when):
    """Runtimes raise what they like: ONNX Runtime's errors are no RuntimeError."""

    class Failing(Slow):
        def coarse_logits(self, x):
            raise AttributeError("no such attribute")

    start = names.start

    def start_or_fail(name, *given):
        if name == "onnxruntime" and when == "starting":
            raise AttributeError("no such attribute")
        return engines[name] if name in engines else start(name, *given)

    if when == "running":
        engines["onnxruntime"] = Failing(0.0, small.model)
    monkeypatch.setattr("atrous.inference.engines.live.start", start_or_fail)
    predictor = Predictor(small.model, small.card, "cpu", engine="auto")
    predictor(make_photo(65, 65))
    assert predictor.engine == "openvino"
    [known] = json.loads(memory.read_text()).values()
    assert known["milliseconds"].keys() == {"torch", "openvino"}


@pytest.mark.parametrize("engine", ["torch", *FLOAT32])
def test_autocast_around_a_predictor_changes_nothing(small, make_photo, engine):
    photo = make_photo(97, 65)
    expected = with_engine(small, installed(engine))(photo, scores=True, flip=True).scores()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = with_engine(small, engine)(photo, scores=True, flip=True).scores()
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("engine", ["torch", "auto", *FLOAT32])
@pytest.mark.parametrize("again", [copy.deepcopy, lambda predictor: pickle.loads(pickle.dumps(predictor))])
def test_a_predictor_can_be_copied_and_sent_to_another_process(small, make_photo, memory, engine, again):
    photo = make_photo(65, 65)
    if engine in FLOAT32:
        installed(engine)
    predictor = Predictor(copy.deepcopy(small.model), small.card, "cpu", engine)
    expected = predictor(photo).labels
    twin = again(predictor)
    np.testing.assert_array_equal(twin(photo).labels, expected)
    assert twin.engine == predictor.engine
    assert twin.card == predictor.card


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"a": 1}', "\x00"])
def test_a_broken_memory_is_as_good_as_none(small, make_photo, memory, engines, content):
    memory.write_text(content)
    predictor = Predictor(small.model, small.card, "cpu", engine="auto")
    predictor(make_photo(65, 65))
    assert predictor.engine == "openvino"
    known = [each for each in json.loads(memory.read_text()).values() if isinstance(each, dict)]
    assert [each["engine"] for each in known] == ["openvino"]
    assert {path.name for path in memory.parent.iterdir()} <= {"engines.json", ".engines.json.lock"}


def test_a_remembered_engine_that_is_gone_is_measured_anew(small, memory):
    key = auto.situation(small.model, CPU, ["torch"], 6)
    memory.write_text(json.dumps({key: {"engine": "openvino"}}))
    assert auto.recall(key, ["torch", "openvino"]) == "openvino"
    assert auto.recall(key, ["torch"]) is None


def test_another_version_of_atrous_measures_anew(small, monkeypatch):
    key = auto.situation(small.model, CPU, ["torch"], 6)
    monkeypatch.setattr(names, "version", lambda package: "99.0" if package == "atrous" else version(package))
    assert auto.situation(small.model, CPU, ["torch"], 6) != key


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_memory_that_cannot_be_written_does_not_matter(small, make_photo, memory, engines):
    memory.parent.chmod(0o500)
    try:
        predictor = Predictor(small.model, small.card, "cpu", engine="auto")
        predictor(make_photo(65, 65))
    finally:
        memory.parent.chmod(0o700)
    assert predictor.engine == "openvino"


def test_a_multi_scale_model_stays_on_torch(small):
    model = create_model("deeplabv3_mobilenet_v2_050", num_classes=4, multi_scale=[0.5, 1.0])
    assert set(names.usable(CPU, model)) <= {"torch", "torch-bf16"}
    installed("onnxruntime")
    with pytest.raises(AtrousError, match="multi_scale runs on torch alone"):
        names.start("onnxruntime", model, CPU)


def test_a_signal_after_openvinos_engine_went_in_another_thread_does_not_end_the_process():
    """OpenVINO would leave the main thread with a stack for signals that is gone."""
    installed("openvino")
    code = """
        import faulthandler, signal, threading
        import numpy as np
        import atrous
        faulthandler.enable()
        engines = [atrous.load("street", "cpu", engine="openvino")]
        engines[0](np.zeros((33, 33, 3), dtype=np.uint8))
        thread = threading.Thread(target=engines.clear)
        thread.start()
        thread.join()
        signal.signal(signal.SIGTERM, lambda *_: print("terminated"))
        signal.raise_signal(signal.SIGTERM)
    """
    done = subprocess.run([sys.executable, "-c", dedent(code)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "terminated\n"), done.stderr


def test_openvinos_first_inferences_may_come_from_several_threads_at_once():
    """Each of its inferences asks for a NumPy type, and the first time two threads that did stood still."""
    code = """
        import threading
        import openvino
        import atrous.inference.engines.openvino

        together = threading.Barrier(8)

        def ask():
            together.wait()
            openvino.Type.f32.to_dtype()

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
    """
    # Without the mend every other process stands still.
    processes = [subprocess.Popen([sys.executable, "-c", dedent(code)]) for _ in range(4)]
    try:
        assert [process.wait(120) for process in processes] == [0] * 4
    finally:
        for process in processes:
            process.kill()
