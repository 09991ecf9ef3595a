"""The bundled model on CamVid's val: as it is, with more pixels or a finer output stride, and by worse cameras.

    python benchmarks/street.py FOLDER_OF_CAMVID [--model street]

The first part is what `atrous eval street --data FOLDER --split val` says with its options as named, in float32 under
OpenVINO. In the second the photos are disturbed before the model sees them, each in the same way in every run.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import atrous
from atrous.data import SegmentationDataset, open_dataset
from atrous.evaluation import ConfusionMatrix, evaluate
from record import record_scores

Photo = NDArray[np.uint8]

# How the model is loaded, and how it predicts.
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "as it is": ({}, {}),
    "--output-stride 8": ({"output_stride": 8}, {}),
    "--scales 1.25": ({}, {"scales": (1.25,)}),
    "--scales 1.5": ({}, {"scales": (1.5,)}),
    "--scales 2": ({}, {"scales": (2.0,)}),
    "--scales 1,1.5 --flip": ({}, {"scales": (1.0, 1.5), "flip": True}),
}


def jpeg(photo: Photo) -> Photo:
    written = cv2.imencode(".jpg", photo[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 25])[1]
    return np.ascontiguousarray(cv2.imdecode(written, cv2.IMREAD_COLOR)[..., ::-1])  # type: ignore[index]


def noise(photo: Photo) -> Photo:
    return np.clip(photo + np.random.default_rng(0).normal(0, 12, photo.shape), 0, 255).astype(np.uint8)


DISTURBED: dict[str, Callable[[Photo], Photo]] = {
    "dark: gamma 1.8, gain .55": lambda photo: (255 * (photo / 255) ** 1.8 * 0.55).astype(np.uint8),
    "bright: gamma .6, gain 1.1": lambda photo: np.clip(255 * (photo / 255) ** 0.6 * 1.1, 0, 255).astype(np.uint8),
    "warm: red 1.2, blue .75": lambda photo: np.clip(photo * np.array([1.2, 1, 0.75]), 0, 255).astype(np.uint8),
    "blur: 1 pixel": lambda photo: cv2.GaussianBlur(photo, (0, 0), 1).astype(np.uint8),
    "noise: 12 of 255": noise,
    "JPEG: quality 25": jpeg,
}


def disturbed_miou(predictor: atrous.Predictor, dataset: SegmentationDataset, by: Callable[[Photo], Photo]) -> float:
    matrix = ConfusionMatrix(dataset.classes.names)
    for index in range(len(dataset)):
        photo, mask = dataset[index]
        matrix.add(mask, predictor(by(photo)).labels)
    return round(matrix.scores().miou, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="street", help="another one is measured, but not recorded")
    arguments = parser.parse_args()
    dataset = open_dataset(arguments.data, "val")
    measured: dict[str, Any] = {"command": "python benchmarks/street.py FOLDER_OF_CAMVID"}
    for name, (loading, predicting) in SETTINGS.items():
        predictor = atrous.load(arguments.model, "cpu", engine="openvino", **loading)
        scores = evaluate(predictor, dataset, **predicting).to_dict()
        measured[name] = {key: scores[key] for key in ("miou", "pixel_accuracy", "iou", "seconds_per_photo")}
        print(f"{name}: mIoU {scores['miou']:.2%}, {scores['seconds_per_photo']:.3f} s a photo", flush=True)
    predictor = atrous.load(arguments.model, "cpu", engine="openvino")
    for name, by in DISTURBED.items():
        measured[name] = {"miou": disturbed_miou(predictor, dataset, by)}
        print(f"{name}: mIoU {measured[name]['miou']:.2%}", flush=True)
    if arguments.model == "street":
        print(record_scores("street", measured))


if __name__ == "__main__":
    main()
