"""Images a second from files to masks on disk, over CamVid's validation images, against a plain loop around smp.

    python benchmarks/camvid_folder.py FOLDER [--engine auto]

The same weights, random ones, in smp's DeepLabV3Plus on MobileNetV2. Theirs is the loop that people write: OpenCV
reads a photo, smp's own normalisation, padding to whole strides, the network in inference mode, argmax, OpenCV writes
the mask. Ours is what `atrous predict --mask` runs, in this process: photos go side by side, and reading and writing
overlap with them. Both are loaded and warmed up; each goes over the whole folder by turns.
"""

import argparse
import functools
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import atrous
from atrous.cli.outputs import find_photos, plan_outputs
from atrous.cli.writing import write_behind
from atrous.data import find_images
from atrous.inference import Failure
from atrous.weights import IMAGENET
from compare import by_turns
from peers import import_peer
from photo_to_labels import lively
from record import record

CLASSES = 11
STRIDE = 16


def smp_loop(network: torch.nn.Module, paths: list[Path], out: Path) -> None:
    smp = import_peer("segmentation_models_pytorch")
    mean, std = IMAGENET
    normalise = functools.partial(smp.encoders.preprocess_input, mean=mean, std=std, input_range=[0, 1])
    for path in paths:
        photo = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        height, width, _ = photo.shape
        x = torch.from_numpy(normalise(photo).astype(np.float32)).permute(2, 0, 1)[None]
        x = torch.nn.functional.pad(x, (0, -width % STRIDE, 0, -height % STRIDE))
        with torch.inference_mode():
            labels = network(x)[0].argmax(0)[:height, :width]
        cv2.imwrite(str(out / f"{path.stem}.png"), labels.numpy().astype(np.uint8))


def atrous_way(predictor: atrous.Predictor, folder: Path) -> Callable[[Path], None]:
    def run(out: Path) -> None:
        photos, _ = find_photos([str(folder)])
        results = predictor.timed_stream([photo.path for photo in photos], lambda _: None)
        for done in write_behind(photos, plan_outputs(photos, out, ["mask"]), results):
            if isinstance(done, Failure):
                raise SystemExit(str(done))

    return run


def same_labels(ours: Path, theirs: Path) -> float:
    def labels(path: Path) -> NDArray[np.uint8]:
        return np.asarray(Image.open(path))  # ours have a palette, which OpenCV would turn into colours

    names = sorted(path.name for path in theirs.glob("*.png"))
    shares = [(labels(ours / name) == labels(theirs / name)).mean() for name in names]
    return float(np.mean(shares))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    smp = import_peer("segmentation_models_pytorch")
    network = lively(smp.DeepLabV3Plus("mobilenet_v2", encoder_weights=None, classes=CLASSES))
    paths = find_images([arguments.photos])
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "smp.pth"
        torch.save(network.state_dict(), weights)
        predictor = atrous.load(weights, "cpu", engine=arguments.engine)
        run = atrous_way(predictor, arguments.photos)
        fresh = (Path(folder) / f"run{number}" for number in itertools.count())

        def anew(way: Callable[[Path], None]) -> Path:
            """Into a folder of its own: replacing files takes the disk longer than writing them."""
            out = next(fresh)
            out.mkdir()
            way(out)
            return out

        measured: dict[str, Any] = by_turns(
            lambda: anew(run), lambda: anew(lambda out: smp_loop(network, paths, out)), arguments.turns
        )
        same = same_labels(anew(run), anew(lambda out: smp_loop(network, paths, out)))
        measured = {
            "command": "python benchmarks/camvid_folder.py FOLDER",
            "photos": len(paths),
            "ours_photos_a_second": round(1e3 * len(paths) / measured["ours_ms"], 2),
            "theirs_photos_a_second": round(1e3 * len(paths) / measured["theirs_ms"], 2),
            "times_faster": measured["times_faster"],
            "engine": predictor.engine,
            "same_labels": round(same, 4),
        }
    print(
        f"{measured['ours_photos_a_second']:.1f} photos a second with {predictor.engine}, "
        f"smp's loop {measured['theirs_photos_a_second']:.1f}: {measured['times_faster']:.1f} times faster "
        f"({measured['same_labels']:.2%} the same labels)"
    )
    print(record("camvid_folder", measured))


if __name__ == "__main__":
    main()
