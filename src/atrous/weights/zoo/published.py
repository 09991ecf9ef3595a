"""Published models: where they lie, what they were trained on, and what their authors measured.

Addresses, scores and licences are those that the projects state; what they do not state is left empty. Of the
TensorFlow model zoo's DeepLabs these are missing: the Xception-71 with a dense prediction cell, MobileNetV3 and
EdgeTPU, which are other networks, and the ADE20K MobileNetV2, which has a decoder.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from atrous.weights.zoo.archive import extract
from atrous.weights.zoo.cache import cache_directory
from atrous.weights.zoo.download import Progress, download


@dataclass(frozen=True)
class ZooEntry:
    """One published model.

    Attributes:
        name: as its project calls it.
        url: of the file, or of the archive that holds it.
        classes: a name for `known_classes`.
        score: with the data set and how it was measured; empty where none is published.
        licence: of the project that gives the file away.
        source: the page that says all this.
        input: the values that the network takes.
        aliases: further names.
        sha256: of what lies at `url`, or its first digits; empty where unknown.
        size: its bytes, where known.
        beside: addresses of further files that belong into the same directory.
        members: what to take out of an archive, as `extract` takes it.
        options: for the converter; TensorFlow's files do not say the output stride at which they were measured.
    """

    name: str
    url: str
    classes: str
    score: str
    licence: str
    source: str
    input: str
    aliases: tuple[str, ...] = ()
    sha256: str = ""
    size: int | None = None
    beside: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


def list_zoo() -> tuple[ZooEntry, ...]:
    """Every published model that is known here."""
    return _ZOO


def find_entry(name: str) -> ZooEntry | None:
    """The published model with this name or alias."""
    return next((entry for entry in _ZOO if name in (entry.name, *entry.aliases)), None)


def fetch(entry: ZooEntry, progress: Progress | None = None) -> Path:
    """The model's file or directory in the cache, fetched and unpacked if it is not there.

    Args:
        progress: as `download`'s, once for each file that is fetched.

    Raises:
        WeightsError: as `download` and `extract`.
    """
    place = _place(entry)
    if entry.members:
        if not place.is_dir():
            archive = _fetch(entry, place.parent, progress)
            extract(archive, entry.members, place)
            archive.unlink(missing_ok=True)
        return place
    if entry.beside:
        for url in entry.beside:
            download(url, place / _file_name(url), progress=progress)
        _fetch(entry, place, progress)
        return place
    return _fetch(entry, place.parent, progress)


def is_fetched(entry: ZooEntry) -> bool:
    """Whether `fetch` would find the model in the cache."""
    place = _place(entry)
    return (place / _file_name(entry.url)).is_file() if entry.beside else place.exists()


def _place(entry: ZooEntry) -> Path:
    """A directory for what comes in several files, else the file."""
    single = not entry.members and not entry.beside
    return cache_directory() / (_file_name(entry.url) if single else entry.name)


def _fetch(entry: ZooEntry, directory: Path, progress: Progress | None) -> Path:
    path = directory / _file_name(entry.url)
    return download(entry.url, path, sha256=entry.sha256, size=entry.size, progress=progress)


def _file_name(url: str) -> str:
    return urlsplit(url).path.rsplit("/", 1)[-1]


def _torchvision(name: str, file: str, miou: float) -> ZooEntry:
    return ZooEntry(
        name,
        f"https://download.pytorch.org/models/{file}",
        classes="voc",
        score=f"{miou} mIoU, COCO val2017 with VOC's labels",
        licence="BSD-3-Clause",
        source="https://github.com/pytorch/vision/blob/main/torchvision/models/segmentation/deeplabv3.py",
        input="RGB by ImageNet's mean and deviation, short side 520",
        sha256=file.removesuffix(".pth").rsplit("-", 1)[-1],
    )


def _coral(name: str, score: str, sha256: str, size: int, *aliases: str) -> ZooEntry:
    return ZooEntry(
        name,
        f"https://raw.githubusercontent.com/google-coral/test_data/master/{name}.tflite",
        classes="voc",
        score=f"{score} mIoU, VOC 2012 val, quantised",
        licence="Apache-2.0",
        source="https://github.com/tensorflow/models/blob/master/research/deeplab/g3doc/quantize.md",
        input="RGB in [-1, 1], 513×513",
        aliases=aliases,
        sha256=sha256,
        size=size,
    )


def _tensorflow(
    name: str, file: str, classes: str, score: str, output_stride: int, side: str, sha256: str = ""
) -> ZooEntry:
    return ZooEntry(
        name,
        f"https://download.tensorflow.org/models/{file}.tar.gz",
        classes=classes,
        score=score,
        licence="Apache-2.0",
        source="https://github.com/tensorflow/models/blob/master/research/deeplab/g3doc/model_zoo.md",
        input=f"RGB in [-1, 1], {side}",
        sha256=sha256,
        members=("model.ckpt*.index", "model.ckpt*.data-*"),
        options={"output_stride": output_stride},
    )


def _kazuto1011(name: str, classes: str, score: str) -> ZooEntry:
    return ZooEntry(
        name,
        f"https://github.com/kazuto1011/deeplab-pytorch/releases/download/v1.0/{name}.pth",
        classes=classes,
        score=score,
        licence="MIT",
        source="https://github.com/kazuto1011/deeplab-pytorch",
        input="BGR in 0..255 less (104.008, 116.669, 122.675)",
    )


_ZOO = (
    _coral(
        "deeplabv3_mnv2_pascal_quant",
        "74.26",
        "350af47fd346ea6d74b58833a351f583ba860e9806ec5bd292ff8d8f1f249398",
        2_193_224,
        "voc",
    ),
    _coral(
        "deeplabv3_mnv2_dm05_pascal_quant",
        "69.65",
        "0470d2a782aa54eeeb99d32e7b6b3fb7722905c7c4f5d26bd957ec861366d48b",
        760_904,
    ),
    _torchvision("deeplabv3_resnet50_coco", "deeplabv3_resnet50_coco-cd0a2569.pth", 66.4),
    _torchvision("deeplabv3_resnet101_coco", "deeplabv3_resnet101_coco-586e9e4e.pth", 67.4),
    _torchvision("deeplabv3_mobilenet_v3_large_coco", "deeplabv3_mobilenet_v3_large-fc3c493d.pth", 60.3),
    _tensorflow(
        "mobilenetv2_dm05_coco_voc_trainaug",
        "deeplabv3_mnv2_dm05_pascal_trainaug_2018_10_01",
        "voc",
        "70.19 mIoU, VOC 2012 val, output stride 16",
        16,
        "513×513",
    ),
    _tensorflow(
        "mobilenetv2_dm05_coco_voc_trainval",
        "deeplabv3_mnv2_dm05_pascal_trainval_2018_10_01",
        "voc",
        "71.83 mIoU, VOC 2012 test, output stride 8",
        8,
        "513×513",
    ),
    _tensorflow(
        "mobilenetv2_coco_voc_trainaug",
        "deeplabv3_mnv2_pascal_train_aug_2018_01_29",
        "voc",
        "75.32 mIoU, VOC 2012 val, output stride 16",
        16,
        "513×513",
    ),
    _tensorflow(
        "mobilenetv2_coco_voc_trainval",
        "deeplabv3_mnv2_pascal_trainval_2018_01_29",
        "voc",
        "80.25 mIoU, VOC 2012 test, output stride 8, scales 0.5 to 1.75, flip",
        8,
        "513×513",
        "2b7fe43461c2d9d56b3ed6baed5547fc066361ba12ab84c8e85f0c31914c034f",
    ),
    _tensorflow(
        "xception65_coco_voc_trainaug",
        "deeplabv3_pascal_train_aug_2018_01_04",
        "voc",
        "82.20 mIoU, VOC 2012 val, output stride 16",
        16,
        "513×513",
    ),
    _tensorflow(
        "xception65_coco_voc_trainval",
        "deeplabv3_pascal_trainval_2018_01_04",
        "voc",
        "87.80 mIoU, VOC 2012 test, output stride 8, scales 0.5 to 1.75, flip",
        8,
        "513×513",
    ),
    _tensorflow(
        "mobilenetv2_coco_cityscapes_trainfine",
        "deeplabv3_mnv2_cityscapes_train_2018_02_05",
        "cityscapes",
        "70.71 mIoU, Cityscapes val, output stride 16",
        16,
        "1025×2049",
    ),
    _tensorflow(
        "xception65_cityscapes_trainfine",
        "deeplabv3_cityscapes_train_2018_02_06",
        "cityscapes",
        "78.79 mIoU, Cityscapes val, output stride 16",
        16,
        "1025×2049",
    ),
    _tensorflow(
        "xception65_ade20k_train",
        "deeplabv3_xception_ade20k_train_2018_05_29",
        "ade20k_background",
        "45.65 mIoU, ADE20K val, output stride 8, scales 0.5 to 1.75, flip",
        8,
        "long side 513",
    ),
    ZooEntry(
        "deeplabv3_mobilenet_v2_1.0_513",
        "https://huggingface.co/google/deeplabv3_mobilenet_v2_1.0_513/resolve/main/pytorch_model.bin",
        classes="voc",
        score="",
        licence="other, says its card",
        source="https://huggingface.co/google/deeplabv3_mobilenet_v2_1.0_513",
        input="RGB in [-1, 1], 513×513",
        aliases=("google/deeplabv3_mobilenet_v2_1.0_513",),
        beside=("https://huggingface.co/google/deeplabv3_mobilenet_v2_1.0_513/resolve/main/config.json",),
    ),
    _kazuto1011(
        "deeplabv2_resnet101_msc-vocaug-20000", "voc", "76.65 mIoU, VOC 2012 val, three scales (with the CRF 77.93)"
    ),
    _kazuto1011(
        "deeplabv2_resnet101_msc-cocostuff10k-20000",
        "cocostuff",
        "34.8 mIoU, COCO-Stuff 10k val, three scales (with the CRF 35.6)",
    ),
    _kazuto1011(
        "deeplabv2_resnet101_msc-cocostuff164k-100000",
        "cocostuff",
        "39.1 mIoU, COCO-Stuff 164k val, three scales (with the CRF 39.7)",
    ),
)
