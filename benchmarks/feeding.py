"""What feeds a training step: a photo and its mask, decoded and augmented, against torchvision's transforms.

    python benchmarks/feeding.py [--data DIR]

By turns in one process, on one thread, as a loader's worker has: milliseconds for a batch of eight samples of 321×321,
with the photos' files read each time and with the photos in memory. Without --data the photos are smooth noise of
CamVid's size. Both draw scale, crop, flip, light and colour; the peer does it with `torchvision.transforms.v2` on
tensors, as its segmentation references do.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from atrous.data import Augmentation, SegmentationDataset, open_dataset
from atrous.data.cache import CachedDataset
from compare import by_turns, line
from peers import import_peer
from record import record

BATCH, CROP = 8, 321


def noise(root: Path) -> Path:
    """A data set of 24 photos of smooth noise, 480×360."""
    random = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (root / kind / "train").mkdir(parents=True)
    (root / "classes.json").write_text(json.dumps({"classes": [f"class {index}" for index in range(11)]}))
    for index in range(24):
        small = random.integers(0, 256, (45, 60, 3), dtype=np.uint8)
        photo = cv2.resize(small, (480, 360), interpolation=cv2.INTER_CUBIC)
        labels = cv2.resize(small[..., 0] // 24, (480, 360), interpolation=cv2.INTER_NEAREST)
        Image.fromarray(photo).save(root / "images" / "train" / f"{index}.jpg", quality=95)
        Image.fromarray(labels).save(root / "masks" / "train" / f"{index}.png")
    return root


def ours(pairs: Sequence[Any], count: int) -> Callable[[], torch.Tensor]:
    augment = Augmentation((CROP, CROP), brightness=0.3, contrast=0.3, saturation=0.4)
    grey, step = np.full(3, 127, np.uint8), iter(range(10**9))

    def batch() -> torch.Tensor:
        first = next(step) * BATCH
        samples = []
        for number in range(first, first + BATCH):
            image, _ = augment(*pairs[number % count], np.random.default_rng(number), grey)
            samples.append(torch.from_numpy((image.astype(np.float32) - 127.5) / 127.5).permute(2, 0, 1))
        return torch.stack(samples)

    return batch


def torchvisions(read: Callable[[int], tuple[Any, Any]], count: int) -> Callable[[], torch.Tensor]:
    import_peer("torchvision")
    from torchvision import tv_tensors  # type: ignore[import-not-found]
    from torchvision.transforms import v2  # type: ignore[import-not-found]

    void = {tv_tensors.Image: 127, tv_tensors.Mask: 255}
    transform = v2.Compose(
        [
            v2.ScaleJitter((360, 480), (0.5, 2.0), antialias=True),
            v2.RandomCrop((CROP, CROP), pad_if_needed=True, fill=void),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(0.3, 0.3, 0.4),
            v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
            v2.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )
    step = iter(range(10**9))

    def batch() -> torch.Tensor:
        first = next(step) * BATCH
        samples = []
        for number in range(first, first + BATCH):
            photo, labels = read(number % count)
            image = tv_tensors.Image(torch.from_numpy(np.array(photo)).permute(2, 0, 1))
            mask = tv_tensors.Mask(torch.from_numpy(np.array(labels)))
            samples.append(transform(image, mask)[0])
        return torch.stack(samples)

    return batch


def measure(dataset: SegmentationDataset) -> dict[str, Any]:
    count = min(len(dataset), 48)
    photos, masks = dataset.images[:count], dataset.masks[:count]
    cached = CachedDataset(dataset)
    in_memory = [cached[index] for index in range(count)]

    def from_file(index: int) -> tuple[Any, Any]:
        return Image.open(photos[index]).convert("RGB"), Image.open(masks[index])

    measured: dict[str, Any] = {}
    for name, mine, peer in (
        ("from files", dataset, torchvisions(from_file, count)),
        ("from memory", in_memory, torchvisions(lambda index: in_memory[index], count)),
    ):
        measured[name] = by_turns(ours(mine, count), peer)
        print(line(f"{BATCH} samples {name}", measured[name], "torchvision"))
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    given = parser.parse_args().data
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as made:
        data = given or noise(Path(made))
        measured = measure(open_dataset(data, "train"))
        what = f"{data.name} train" if given else "smooth noise, 480×360"
    print(record("feeding", {"command": "python benchmarks/feeding.py", "photos": what, **measured}))


if __name__ == "__main__":
    main()
