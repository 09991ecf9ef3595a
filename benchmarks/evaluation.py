"""Multi-scale and mirrored evaluation against the plain way, with the bundled model on a data set that it knows.

    python benchmarks/evaluation.py CAMVID [--photos 6] [--turns 3]
    python benchmarks/evaluation.py CAMVID --photos 101 --turns 1 --engines auto-float32

Six scales from .5 to 1.75, each mirrored too, as in the papers. The plain way is what evaluation scripts do: for each
view the model's full-size logits, `F.interpolate` to the photo's size, softmax; the mean of all, argmax, and
`np.bincount`. Its views are padded as ours, with the mean colour, so that both compute the same. Both read the photos
and the masks. Ours with OpenVINO, with what `atrous eval` takes by itself, and with torch. An even number of photos, as
two go side by side on two threads.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

import atrous
from atrous.data import SegmentationDataset, open_dataset
from atrous.evaluation.confusion import scores_of
from compare import by_turns, line
from record import record

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


def plain(predictor: atrous.Predictor, dataset: SegmentationDataset) -> NDArray[np.int64]:
    """The confusion matrix, K×K."""
    model, card = predictor.model, predictor.card
    classes, stride = len(card.classes), model.output_stride
    mean, std = (torch.tensor(each)[:, None, None] for each in (card.mean, card.std))
    counts = np.zeros((classes, classes), np.int64)
    for photo, path in zip(dataset.images, dataset.masks, strict=True):
        image = torch.from_numpy(np.array(Image.open(photo).convert("RGB")))
        x = ((image.permute(2, 0, 1).float() / 255 - mean) / std)[None]
        height, width = x.shape[2:]
        total = torch.zeros(1, classes, height, width)
        with torch.inference_mode():
            for scale in SCALES:
                h, w = (int((side - 1) * scale + 1) for side in (height, width))
                scaled = F.interpolate(x, (h, w), mode="bilinear", align_corners=True)
                below, right = ((1 - side) % stride for side in (h, w))
                for mirrored in (False, True):
                    view = F.pad(scaled.flip(3) if mirrored else scaled, (0, right, 0, below))
                    logits = model(view)[:, :, :h, :w]
                    full = F.interpolate(logits, (height, width), mode="bilinear", align_corners=True).softmax(1)
                    total += full.flip(3) if mirrored else full
            labels = (total / (2 * len(SCALES))).argmax(1)[0].numpy()
        truth = np.array(Image.open(path))
        judged = truth != dataset.classes.ignore_index
        pairs = truth[judged].astype(np.int64) * classes + labels[judged]
        counts += np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    return counts


def first(dataset: SegmentationDataset, count: int) -> SegmentationDataset:
    """Photos from all over the split."""
    step = max(1, len(dataset) // count)
    dataset.images, dataset.masks = dataset.images[::step][:count], dataset.masks[::step][:count]
    return dataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="CamVid in the bundled model's 11 classes")
    parser.add_argument("--photos", type=int, default=6, help="so many of the split's; 101 are all of val's")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--engines", nargs="+", default=["openvino", "auto-float32", "torch"])
    arguments = parser.parse_args()
    torch.set_num_threads(min(2, torch.get_num_threads()))
    dataset = first(open_dataset(arguments.data, "val"), arguments.photos)
    warm = first(open_dataset(arguments.data, "val"), 2)
    reference = atrous.load("street", "cpu")
    measured: dict[str, Any] = {
        "command": f"python benchmarks/evaluation.py CAMVID --photos {arguments.photos} --turns {arguments.turns}",
        "photos": len(dataset),
    }
    for engine in arguments.engines:
        ours = atrous.load("street", "cpu", engine=engine)
        counts: list[NDArray[np.int64]] = [np.zeros(()), np.zeros(())]

        def run(on: SegmentationDataset, ours: atrous.Predictor = ours, counts: Any = counts) -> None:
            counts[0] = atrous.evaluate(ours, on, scales=SCALES, flip=True).confusion.counts

        def theirs(on: SegmentationDataset, counts: Any = counts) -> None:
            counts[1] = plain(reference, on)

        # Warm from two photos, which 101 need not be gone over twice for.
        times: dict[str, Any] = by_turns(
            partial(run, dataset),
            partial(theirs, dataset),
            arguments.turns,
            warm=(partial(run, warm), partial(theirs, warm)),
        )
        miou, plain_miou = (scores_of(dataset.classes.names, each).miou for each in counts)
        moved = int(np.abs(counts[0] - counts[1]).sum()) // 2
        measured[engine] = times | {
            "engine": ours.engine,
            "miou": round(miou, 6),
            "plain_miou": round(plain_miou, 6),
            "pixels_that_moved": round(moved / int(counts[1].sum()), 6),
        }
        print(line(f"{engine} ({ours.engine})", times, "plain"), f"mIoU {miou:.4%}, plain {plain_miou:.4%}")
    print(record("evaluation" if len(dataset) < 101 else "evaluation_of_all", measured))


if __name__ == "__main__":
    main()
