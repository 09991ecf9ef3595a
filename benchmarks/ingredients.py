"""What each ingredient of a recipe gives on a street that training did not see: CamVid, a sequence left out at a time.

    python benchmarks/ingredients.py CAMVID [--recipe recipes/camvid_small.yaml] [--epochs 12] [--coral FOLDER]

CamVid's validation images are of a sequence that training holds too, so they flatter. Here the training images are
divided by their sequences (0001TP at dusk, 0006R0 and 0016E5 by day): each of the first two is left out once, and the
model judged by it. One run is a recipe, a left-out sequence and a seed; what is finished is not run again. Rows that
start from another model's file are left out where that file is not given: --coral names the folder of Google's TFLite
models, --general a model that `atrous distill general` left.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from atrous.data import CachedDataset, open_dataset
from atrous.training import CHECKPOINT, changed_recipe, load_recipe, train
from record import record_scores

LEFT_OUT = ("0001TP", "0006R0")
LIGHT = {"augment.brightness": 0.3, "augment.contrast": 0.3, "augment.saturation": 0.4, "augment.gamma": 0.3}
MUCH_LIGHT = {key: 2 * value for key, value in LIGHT.items()}
CAMERA = {"augment.white_balance": 0.2, "augment.blur": 0.5, "augment.noise": 0.06}
LOVASZ: dict[str, Any] = {"loss.parts": {"cross_entropy": 1.0, "lovasz": 0.5}}
CORAL, GENERAL = "CORAL", "GENERAL"  # replaced by the folders given
MOBILE = {"model.name": "deeplabv3plus_mobilenet_v2"}
INGREDIENTS: dict[str, dict[str, Any]] = {
    "the recipe": {},
    "other light": LIGHT,
    "much other light": MUCH_LIGHT,
    "other camera": CAMERA,
    "no crops around classes": {"augment.class_crops": 0.0},
    "all crops around classes": {"augment.class_crops": 1.0},
    "scales .25 to 1": {"augment.scale": (0.25, 1.0)},
    "small crops": {"augment.crop": (97, 97)},
    "slower backbone": {"optimizer.backbone_multiplier": 0.1},
    "slower throughout": {"optimizer.lr": 0.001},
    "moving average": {"ema_decay": 0.98},
    "bounded class weights": {"loss.class_weights": "bounded"},
    "with Lovász": LOVASZ,
    "with Dice": {"loss.parts": {"cross_entropy": 1.0, "dice": 0.5}},
    "hardest quarter": {"loss.hardest": 0.25},
    "half as long": {"schedule.epochs": 0.5},
    "twice as long": {"schedule.epochs": 2.0},
    "twice as long, other light": {"schedule.epochs": 2.0} | LIGHT,
    "twice as long, much other light": {"schedule.epochs": 2.0} | MUCH_LIGHT,
    "twice as long, other light and camera": {"schedule.epochs": 2.0} | LIGHT | CAMERA,
    "no decoder (v3)": {"model.name": "deeplabv3_efficientnet_lite0"},
    "decoder at stride 8, too": {"model.options": {"conv3": True}},
    "decoder at stride 2, too": {"model.options": {"fine_channels": 32}},
    "EfficientNet-Lite1": {"model.name": "deeplabv3plus_efficientnet_lite1"},
    "EfficientNet-Lite2": {"model.name": "deeplabv3plus_efficientnet_lite2"},
    "output stride 8": {"model.output_stride": 8},
    "MobileNetV2 from ImageNet": MOBILE | {"model.pretrained_backbone": f"{CORAL}/mobilenet_v2_1.0_224_quant.tflite"},
    "MobileNetV2 from VOC": MOBILE | {"model.pretrained_backbone": f"{CORAL}/deeplabv3_mnv2_pascal_quant.tflite"},
    "started from general": {"model.pretrained_backbone": GENERAL},
}


SECOND: dict[str, dict[str, Any]] = {
    "then as before": {},
    "then with Lovász": LOVASZ,
    "then with four times the Lovász": {"loss.parts": {"cross_entropy": 1.0, "lovasz": 2.0}},
    "then bounded class weights": {"loss.class_weights": "bounded"},
    "then with Lovász and bounded weights": LOVASZ | {"loss.class_weights": "bounded"},
    "then with Lovász, other light": LOVASZ | LIGHT,
    "then with Lovász, much other light": LOVASZ | MUCH_LIGHT,
    "then with Lovász, slower backbone": LOVASZ | {"optimizer.backbone_multiplier": 0.1},
    "then with Lovász, moving average": LOVASZ | {"ema_decay": 0.98},
    "then with Lovász, scales .5 to 1.2": LOVASZ | {"augment.scale": (0.5, 1.2)},
    "then with Lovász, scales .25 to .6": LOVASZ | {"augment.scale": (0.25, 0.6)},
    "then with Lovász, strides 4 and 2": LOVASZ | {"model.options": {"fine_channels": 32}},
}


def divide(camvid: Path, sequence: str, folder: Path) -> Path:
    """A data set whose val is one of the training split's sequences, and whose train the others."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, place in {"images": "images/train", "masks": "masks/train", "classes.json": "classes.json"}.items():
        if not (folder / name).exists():
            (folder / name).symlink_to((camvid / place).resolve())
    names = sorted(path.stem for path in (camvid / "images/train").iterdir())
    for split, wanted in (("train", False), ("val", True)):
        chosen = [name for name in names if name.startswith(sequence) == wanted]
        (folder / f"{split}.txt").write_text("\n".join(chosen) + "\n")
    return folder


def changes_of(what: str, given: argparse.Namespace) -> dict[str, Any] | None:
    """An ingredient's settings, or None where a file that it starts from was not given."""
    first = what in INGREDIENTS
    changes = {**(INGREDIENTS if first else SECOND)[what], "validate_every": 1000}
    changes["schedule.epochs"] = round(given.epochs * changes.get("schedule.epochs", 1 if first else 0.5))
    start = changes.get("model.pretrained_backbone", "")
    for mark, folder in ((CORAL, given.coral), (GENERAL, given.general)):
        if start.startswith(mark):
            if folder is None:
                return None
            changes["model.pretrained_backbone"] = start.replace(mark, str(folder))
    return changes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("camvid", type=Path)
    parser.add_argument("--recipe", type=Path, default=Path("recipes/camvid_small.yaml"))
    parser.add_argument("--out", type=Path, default=Path("runs/ingredients"))
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--coral", type=Path)
    parser.add_argument("--general", type=Path)
    parser.add_argument("--only", nargs="*", default=[*INGREDIENTS, *SECOND])
    parser.add_argument("--finished", action="store_true", help="run nothing: write down what was run already")
    parser.add_argument("--left-out", nargs="*", default=LEFT_OUT, metavar="SEQUENCE")
    given = parser.parse_args()
    base = load_recipe(given.recipe)
    data = {name: divide(given.camvid, name, given.out / f"without_{name}") for name in given.left_out}
    photos = {name: CachedDataset(open_dataset(folder, "train")) for name, folder in data.items()}
    scores: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for seed in range(1, given.seeds + 1):
        for what in given.only:
            changes = changes_of(what, given)
            if changes is None:
                print(f"{what:28} left out: nothing to start from was given")
                continue
            for name, folder in data.items():
                out = given.out / f"{what.replace(' ', '_')}-{given.epochs}-{name}-{seed}"
                finished = out / "scores.json"
                if given.finished and not finished.exists():
                    continue
                if not finished.exists():
                    resume = (out / CHECKPOINT).exists()
                    start = None
                    if what in SECOND:
                        start = given.out / f"the_recipe-{given.epochs}-{name}-1"
                        changes |= {"optimizer.lr": base.optimizer.lr / 2, "model.pretrained_backbone": None}
                    recipe = changed_recipe(base, {**changes, "seed": seed + (10 if start else 0)})
                    found = train(recipe, folder, out, resume=resume, start=start, workers=0, photos=photos[name])
                    finished.write_text(json.dumps(found.to_dict()))
                scores.setdefault(what, {}).setdefault(name, []).append(json.loads(finished.read_text()))
            row = {name: statistics.mean(s["miou"] for s in found) for name, found in scores.get(what, {}).items()}
            print(f"{what:38} " + "  ".join(f"without {name} {value:6.2%}" for name, value in row.items()))
    measured = {"recipe": given.recipe.name, "epochs": given.epochs, "left out": scores}
    print(record_scores("ingredients", measured))


if __name__ == "__main__":
    main()
