"""The bundled model on CamVid's val, and what more pixels or a finer output stride would give it.

    python benchmarks/street.py FOLDER_OF_CAMVID

What `atrous eval street --data FOLDER --split val` says, with its options as named; in float32 under OpenVINO.
"""

import argparse
from pathlib import Path
from typing import Any

import atrous
from atrous.data import open_dataset
from atrous.evaluation import evaluate
from record import record

SETTINGS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "--output-stride 8": {},
    "--scales 1.25": {"scales": (1.25,)},
    "--scales 1.5": {"scales": (1.5,)},
    "--scales 2": {"scales": (2.0,)},
    "--scales 1,1.5 --flip": {"scales": (1.0, 1.5), "flip": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    dataset = open_dataset(parser.parse_args().data, "val")
    measured: dict[str, Any] = {"command": "python benchmarks/street.py FOLDER_OF_CAMVID"}
    for name, options in SETTINGS.items():
        predictor = atrous.load("street", "cpu", engine="openvino")
        if name == "--output-stride 8":
            predictor.model.set_output_stride(8)
        scores = evaluate(predictor, dataset, **options).to_dict()
        measured[name] = {key: scores[key] for key in ("miou", "pixel_accuracy", "iou", "seconds_per_photo")}
        print(f"{name}: mIoU {scores['miou']:.2%}, {scores['seconds_per_photo']:.3f} s a photo", flush=True)
    print(record("street", measured))


if __name__ == "__main__":
    main()
