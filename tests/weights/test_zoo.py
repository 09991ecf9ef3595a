"""The table of published models, and what fetching one of them leaves in the cache."""

import io
import re
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from atrous.classes import known_classes
from atrous.errors import WeightsError
from atrous.weights import ZooEntry, fetch, find_entry, list_zoo
from atrous.weights.classes import card_for
from http_server import Server, running_server


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("ATROUS_HOME", str(tmp_path / "home"))
    for name in ("ATROUS_OFFLINE", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home" / "models"


def entry_named(name: str) -> ZooEntry:
    entry = find_entry(name)
    assert entry is not None
    return entry


def test_names_and_aliases_lead_to_one_model_each() -> None:
    names = [name for entry in list_zoo() for name in (entry.name, *entry.aliases)]
    assert len(names) == len(set(names))
    assert all(find_entry(entry.name) is entry for entry in list_zoo())
    assert entry_named("voc").name == "deeplabv3_mnv2_pascal_quant"
    assert find_entry("no such model") is None


def test_places_in_the_cache_do_not_meet() -> None:
    places = [entry.name if entry.members or entry.beside else urlsplit(entry.url).path for entry in list_zoo()]
    assert len({place.rsplit("/", 1)[-1] for place in places}) == len(list_zoo())


@pytest.mark.parametrize("entry", list_zoo(), ids=lambda entry: entry.name)
def test_an_entry_says_what_a_person_asks(entry: ZooEntry) -> None:
    assert all(url.startswith("https://") for url in (entry.url, entry.source, *entry.beside))
    assert known_classes(entry.classes)
    assert entry.licence
    assert entry.input
    assert re.match(r"\d\d\.\d+ mIoU, .+", entry.score) or "huggingface" in entry.url  # whose card states none
    assert re.fullmatch(r"([0-9a-f]{8,64})?", entry.sha256)
    assert bool(entry.members) == entry.url.endswith(".tar.gz")
    for line in (entry.score, entry.licence, entry.input):
        assert len(line) < 80


def test_the_zoo_has_the_models_of_every_project() -> None:
    hosts = [urlsplit(entry.url).hostname for entry in list_zoo()]
    assert {host: hosts.count(host) for host in set(hosts)} == {
        "raw.githubusercontent.com": 2,
        "download.pytorch.org": 3,
        "download.tensorflow.org": 9,
        "huggingface.co": 1,
        "github.com": 3,
    }


@pytest.mark.parametrize(
    ("count", "first", "last"),
    [
        (21, "background", "tvmonitor"),
        (19, "road", "bicycle"),
        (150, "wall", "flag"),
        (151, "background", "flag"),
        (182, "person", "wood"),
        (7, "class_0", "class_6"),
    ],
)
def test_a_number_of_classes_names_them(count: int, first: str, last: str) -> None:
    card = card_for(count)  # which refuses a name that comes twice
    assert (len(card.classes), card.classes[0], card.classes[-1]) == (count, first, last)


def test_some_classes_are_where_their_data_sets_have_them() -> None:
    """Indices and colours from the data sets' own lists, counted from 1 there."""
    names, colours = known_classes("ade20k")
    for place, name in ((13, "person"), (21, "car"), (84, "truck"), (127, "animal"), (137, "traffic light")):
        assert names[place - 1] == name
    assert colours[13 - 1] == (150, 5, 61)
    assert colours[150 - 1] == (92, 0, 255)
    names, _ = known_classes("cocostuff")
    for place, name in ((18, "dog"), (91, "hair brush"), (92, "banner"), (128, "house"), (157, "sky-other")):
        assert names[place - 1] == name


def test_voc_is_fetched_once_and_exact(
    server: Server, shared_data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = (shared_data / "weights" / "coral" / "deeplabv3_mnv2_pascal_quant.tflite").read_bytes()
    url, _ = server.give("/deeplabv3_mnv2_pascal_quant.tflite", published)
    entry = replace(entry_named("voc"), url=url)
    seen: list[tuple[int, int | None]] = []
    path = fetch(entry, lambda *state: seen.append(state))
    assert path == cache / "deeplabv3_mnv2_pascal_quant.tflite"
    assert path.read_bytes() == published
    assert seen[-1] == (2_193_224, 2_193_224)
    monkeypatch.setenv("ATROUS_OFFLINE", "1")
    assert fetch(entry) == path
    assert len(server.asked) == 1


def test_another_file_under_its_name_is_refused(server: Server, shared_data: Path, cache: Path) -> None:
    other = (shared_data / "weights" / "coral" / "deeplabv3_mnv2_dm05_pascal_quant.tflite").read_bytes()
    url, served = server.give("/m.tflite", other)
    entry = replace(entry_named("voc"), url=url)
    with pytest.raises(WeightsError, match="760904 bytes are offered where 2193224 belong"):
        fetch(entry)
    served.body = other + bytes(2_193_224 - len(other))
    with pytest.raises(WeightsError, match="came in place of 350af47fd346"):
        fetch(entry)
    assert not [path for path in cache.iterdir() if not path.name.endswith(".lock")]


def checkpoint_archive(**files: bytes) -> bytes:
    """A .tar.gz as the TensorFlow model zoo's, with a graph that is not wanted."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, content in {"frozen_inference_graph.pb": bytes(1000), **files}.items():
            member = tarfile.TarInfo(f"deeplabv3/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()


@pytest.mark.parametrize("step", ["", "-30000"])
def test_a_checkpoint_is_unpacked_once_and_the_archive_not_kept(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    files = {f"model.ckpt{step}.index": b"index", f"model.ckpt{step}.data-00000-of-00001": b"values"}
    url, _ = server.give("/deeplab.tar.gz", checkpoint_archive(**files))
    entry = replace(entry_named("xception65_coco_voc_trainaug"), url=url)
    path = fetch(entry)
    assert path == cache / "xception65_coco_voc_trainaug"
    assert {file.name: file.read_bytes() for file in path.iterdir()} == files
    monkeypatch.setenv("ATROUS_OFFLINE", "1")
    assert fetch(entry) == path
    assert len(server.asked) == 1
    assert {file.name for file in cache.iterdir() if not file.name.startswith(".")} == {path.name}


def test_offline_an_archive_put_there_by_hand_is_unpacked(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the line says that a missing file is answered with."""
    monkeypatch.setenv("ATROUS_OFFLINE", "1")
    entry = entry_named("xception65_cityscapes_trainfine")
    with pytest.raises(WeightsError, match="by other means") as caught:
        fetch(entry)
    place = Path(str(caught.value).partition(":")[0])
    place.parent.mkdir(parents=True)
    place.write_bytes(checkpoint_archive(**{"model.ckpt.index": b"1", "model.ckpt.data-00000-of-00001": b"2"}))
    assert (fetch(entry) / "model.ckpt.index").read_bytes() == b"1"


def test_an_archive_that_lost_its_end_is_refused_with_the_mend(server: Server, cache: Path) -> None:
    whole = checkpoint_archive(**{"model.ckpt.index": b"1", "model.ckpt.data-00000-of-00001": bytes(range(256)) * 40})
    url, served = server.give("/deeplab.tar.gz", whole[:-100], length=None)
    entry = replace(entry_named("xception65_ade20k_train"), url=url)
    with pytest.raises(WeightsError, match="delete it and fetch it again") as caught:
        fetch(entry)
    assert not (cache / entry.name).exists()
    Path(str(caught.value).partition(":")[0]).unlink()
    served.body = whole
    assert (fetch(entry) / "model.ckpt.index").read_bytes() == b"1"


def test_files_of_one_model_come_into_one_directory(server: Server, cache: Path) -> None:
    weights, _ = server.give("/main/pytorch_model.bin", b"\x80\x02...")
    config, _ = server.give("/main/config.json", b"{}")
    entry = replace(entry_named("google/deeplabv3_mobilenet_v2_1.0_513"), url=weights, beside=(config,))
    path = fetch(entry)
    assert path == cache / "deeplabv3_mobilenet_v2_1.0_513"
    assert {file.name for file in path.iterdir() if not file.name.startswith(".")} == {
        "config.json",
        "pytorch_model.bin",
    }
