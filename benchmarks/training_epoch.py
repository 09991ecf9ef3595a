"""An epoch of training on the CPU: ours against the same network in segmentation_models.pytorch and a plain loop.

    python benchmarks/training_epoch.py --data DIR [--steps 12] [--turns 3]
    python benchmarks/training_epoch.py --data DIR --to-miou 60 [--start FILE] [--epochs 60]

smp's DeepLabV3Plus on MobileNetV2 and our `smp_deeplabv3plus_mobilenet_v2` with the same weights; 320×320 crops (smp
refuses 321), a batch of 8, float32, AdamW. Ours is what `atrous train` does with recipes/camvid.yaml at those settings:
its own loader with one worker, photos decoded once. Theirs is a user's script: files read with OpenCV and augmented by
hand as albumentations does it, as many workers as cores, cross-entropy on full-size logits. Both sides' allocator is as
their users have it: glibc's default for theirs. First the loss and the gradients of one batch on both sides are
compared, without dropout. With --to-miou both train to that validation mIoU on one schedule; its time is without
validation, which is done by one program for both, as often for one as for the other. --start gives both a MobileNetV2
that was trained, such as that of Google's `deeplabv3_mnv2_pascal_quant.tflite`.
"""

import argparse
import copy
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from atrous.data import CachedDataset, SegmentationDataset, open_dataset
from atrous.evaluation import evaluate
from atrous.inference import Predictor
from atrous.models import SegmentationModel, create_model
from atrous.ops import keep_freed_memory, upsample_cross_entropy
from atrous.training import (
    Trainee,
    changed_recipe,
    load_recipe,
    make_model,
    make_optimizer,
    training_crops,
    unfold_batch_norm,
)
from atrous.training.samples import EpochSampler, SharedBatches, TrainingCrops, make_loader, some_images
from atrous.weights import SYMMETRIC, load_backbone
from atrous.weights.schemes.smp import SCHEME
from atrous.weights.schemes.transfer import give, take
from compare import as_glibc_is
from peers import import_peer
from record import record

ARCHITECTURE, CROP, BATCH, LR, DECAY = "smp_deeplabv3plus_mobilenet_v2", 320, 8, 1e-3, 0.02
RECIPE = Path(__file__).parents[1] / "recipes" / "camvid.yaml"
SETTINGS = {
    "model.name": ARCHITECTURE,
    "model.pretrained_backbone": None,
    "augment.crop": [CROP, CROP],
    "batch_size": BATCH,
    "precision": "fp32",
    "ema_decay": 0.0,
    "optimizer.lr": LR,
    "optimizer.weight_decay": DECAY,
    "optimizer.backbone_multiplier": 1.0,
}


class Files(Dataset[tuple[Tensor, Tensor]]):
    """What a user of smp writes: read, scale, crop, flip, change the light, normalise."""

    def __init__(self, dataset: SegmentationDataset, count: int) -> None:
        self.images, self.masks = dataset.images[:count], dataset.masks[:count]
        self.mean, self.std = (np.array(values, np.float32) for values in SYMMETRIC)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        random = np.random.default_rng()
        image = cv2.cvtColor(cv2.imread(str(self.images[index])), cv2.COLOR_BGR2RGB)
        mask = np.array(Image.open(self.masks[index]))
        size = [round(side * random.uniform(0.5, 2.0)) for side in image.shape[1::-1]]
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
        below, right = (max(0, CROP - side) for side in mask.shape)
        image = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT, value=(128, 128, 128))
        mask = cv2.copyMakeBorder(mask, 0, below, 0, right, cv2.BORDER_CONSTANT, value=(255,))
        top, left = (int(random.integers(side - CROP + 1)) for side in mask.shape)
        image, mask = image[top : top + CROP, left : left + CROP], mask[top : top + CROP, left : left + CROP]
        if random.random() < 0.5:
            image, mask = image[:, ::-1], mask[:, ::-1]
        contrast, brightness = random.uniform(0.7, 1.3), random.uniform(-0.3, 0.3)
        table = np.clip(np.arange(256) * contrast + 255 * brightness, 0, 255).astype(np.uint8)
        image = (cv2.LUT(np.ascontiguousarray(image), table).astype(np.float32) / 255 - self.mean) / self.std
        return torch.from_numpy(image.transpose(2, 0, 1).copy()), torch.from_numpy(mask.astype(np.int64))


class Ours:
    """What `atrous train` does, without Lightning around it."""

    def __init__(self, dataset: SegmentationDataset, model: SegmentationModel, crops: TrainingCrops) -> None:
        recipe = changed_recipe(load_recipe(RECIPE), SETTINGS)
        self.network = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.trainee = Trainee(self.network, recipe, dataset.classes.ignore_index)
        self.optimizer = make_optimizer(self.network, recipe.optimizer)
        self.sampler = EpochSampler(len(crops), recipe.seed)
        self.loader = make_loader(crops, SharedBatches(self.sampler, BATCH), 1, pin_memory=False)
        self.epoch = 0
        self.after_step: Callable[[], None] = lambda: None

    def train_an_epoch(self) -> list[float]:
        keep_freed_memory()
        self.network.train()
        self.sampler.set_epoch(self.epoch)
        self.epoch += 1
        return timed(self.loader, self._step)

    def _step(self, images: Tensor, labels: Tensor) -> None:
        self.optimizer.zero_grad()
        loss = self.trainee.loss(images, labels)
        loss.backward()
        self.optimizer.step()
        self.after_step()
        loss.item()

    def judged(self) -> SegmentationModel:
        return self.network


class Theirs:
    """A plain loop around smp's network."""

    def __init__(self, dataset: SegmentationDataset, network: nn.Module, count: int, twin: SegmentationModel) -> None:
        self.network, self.twin = network, twin
        self.after_step: Callable[[], None] = lambda: None
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=LR, weight_decay=DECAY)
        workers = os.cpu_count() or 1
        files = Files(dataset, count)
        self.loader = DataLoader(files, BATCH, shuffle=True, num_workers=workers, persistent_workers=True)

    def train_an_epoch(self) -> list[float]:
        as_glibc_is()
        self.network.train()
        return timed(self.loader, self._step)

    def _step(self, images: Tensor, labels: Tensor) -> None:
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.network(images), labels, ignore_index=255)
        loss.backward()
        self.optimizer.step()
        self.after_step()
        loss.item()

    def judged(self) -> SegmentationModel:
        take(self.network.state_dict(), self.twin, SCHEME.layout(self.twin))  # type: ignore[arg-type]
        return self.twin


def timed(loader: DataLoader[Any], step: Callable[[Tensor, Tensor], None]) -> list[float]:
    """Seconds from batch to batch, the waiting for it included; the first holds the loader's start."""
    seconds, begun = [], time.perf_counter()
    for images, labels in loader:
        step(images, labels)
        seconds.append(time.perf_counter() - begun)
        begun = time.perf_counter()
    return seconds


def make_pair(dataset: SegmentationDataset, count: int, start: str | None) -> tuple[Ours, Theirs]:
    smp = import_peer("segmentation_models_pytorch")
    classes = len(dataset.classes.names)
    torch.manual_seed(0)
    model, twin = (create_model(ARCHITECTURE, classes, 16) for _ in range(2))
    recipe = changed_recipe(load_recipe(RECIPE), SETTINGS)
    cached = CachedDataset(dataset)
    photos = [cached[index] for index in range(count)]
    crops = training_crops(photos, recipe, make_model(recipe, dataset.classes)[1], dataset.classes.ignore_index)
    if start:
        # The file's padding at strides is TensorFlow's; both sides begin from its weights with smp's.
        paper = create_model("deeplabv3plus_mobilenet_v2", classes, 16).backbone
        load_backbone(paper, start)
        model.backbone.load_state_dict(paper.state_dict(), strict=False)
        unfold_batch_norm(model, some_images(crops))
    network = smp.DeepLabV3Plus("mobilenet_v2", encoder_weights=None, classes=classes)
    layout = SCHEME.layout(model)
    assert layout is not None
    network.load_state_dict(give(model, layout))
    return Ours(dataset, model, crops), Theirs(dataset, network, count, twin)


def compare_a_step(ours: Ours, theirs: Theirs, classes: int) -> dict[str, float]:
    """The loss and the gradients of one batch of 96×96, without dropout: how far from theirs in float64, relatively.

    In float64 both must be one; in float32 a fresh network of 60 batch norms makes rounding large on either side.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(BATCH, 3, 96, 96, generator=generator)
    labels = torch.randint(0, classes, (BATCH, 96, 96), generator=generator)
    layout = SCHEME.layout(ours.network)
    assert layout is not None

    def taken(network: nn.Module, dtype: torch.dtype) -> tuple[float, dict[str, Tensor]]:
        twin = copy.deepcopy(network).to(dtype).train()
        for module in twin.modules():
            if isinstance(module, nn.Dropout):
                module.eval()
        if isinstance(twin, SegmentationModel):
            given = images.to(dtype).contiguous(memory_format=torch.channels_last)
            loss = upsample_cross_entropy(twin.coarse_logits(given), labels)
        else:
            loss = F.cross_entropy(twin(images.to(dtype)), labels, ignore_index=255)
        loss.backward()  # type: ignore[no-untyped-call]
        name = layout.name if isinstance(twin, SegmentationModel) else str
        return loss.item(), {name(key): value.grad.double() for key, value in twin.named_parameters()}  # type: ignore[union-attr]

    true_loss, true = taken(theirs.network, torch.float64)
    length = sum(float((value**2).sum()) for value in true.values())
    found = {}
    for what, network, dtype in (
        ("ours in float64", ours.network, torch.float64),
        ("ours in float32", ours.network, torch.float32),
        ("theirs in float32", theirs.network, torch.float32),
    ):
        loss, gradients = taken(network, dtype)
        squares = sum(float(((gradients[name] - value) ** 2).sum()) for name, value in true.items())
        found[f"{what}: loss"] = abs(loss - true_loss) / true_loss
        found[f"{what}: gradients"] = (squares / length) ** 0.5
    return found


def measure(ours: Ours, theirs: Theirs, turns: int) -> dict[str, Any]:
    """Epochs by turns, one of each first to warm up."""
    for side in (ours, theirs):
        side.train_an_epoch()
    epochs: dict[str, list[list[float]]] = {"ours": [], "theirs": []}
    for _ in range(turns):
        epochs["ours"].append(ours.train_an_epoch())
        epochs["theirs"].append(theirs.train_an_epoch())
    step = {side: statistics.median(s for epoch in lists for s in epoch) for side, lists in epochs.items()}
    whole = {side: statistics.median(sum(epoch) for epoch in lists) for side, lists in epochs.items()}
    return {
        "ours_step_s": round(step["ours"], 3),
        "theirs_step_s": round(step["theirs"], 3),
        "ours_epoch_s": round(whole["ours"], 2),
        "theirs_epoch_s": round(whole["theirs"], 2),
        "times_faster": round(whole["theirs"] / whole["ours"], 2),
        "times_faster_by_turn": [
            round(sum(b) / sum(a), 2) for a, b in zip(epochs["ours"], epochs["theirs"], strict=True)
        ],
    }


def train_to(side: Ours | Theirs, goal: float, epochs: int, every: int, val: SegmentationDataset) -> dict[str, Any]:
    """Until `goal` percent of validation mIoU, at most `epochs`, on a poly schedule; the curve is (seconds, mIoU)."""
    steps, done, seconds, best = epochs * len(side.loader), 0, 0.0, 0.0
    curve: list[tuple[int, float]] = []
    schedule = torch.optim.lr_scheduler.LambdaLR(side.optimizer, lambda step: max(0.0, 1 - step / steps) ** 0.9)
    side.after_step = schedule.step
    _, card = make_model(changed_recipe(load_recipe(RECIPE), SETTINGS), val.classes)
    while done < epochs:
        seconds += sum(side.train_an_epoch())
        done += 1
        if done % every == 0 or done == epochs:
            model = side.judged().eval()
            miou = 100 * evaluate(Predictor(model, card, device="cpu"), val).scores.miou
            curve.append((round(seconds), round(miou, 2)))
            best = max(best, miou)
            print(f"{type(side).__name__.lower()}: epoch {done}, {seconds:.0f} s, best val mIoU {best:.2f}", flush=True)
            if best >= goal:
                break
    reached = round(seconds) if best >= goal else None
    return {"epochs": done, "seconds": reached, "miou": round(best, 2), "curve": curve}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=12, help="of an epoch, each of 8 photos")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--to-miou", type=float, metavar="PERCENT")
    parser.add_argument("--start", metavar="FILE")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--validate-every", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(2)
    train, val = open_dataset(given.data, "train"), open_dataset(given.data, "val")
    count = len(train) if given.to_miou else min(len(train), given.steps * BATCH)
    ours, theirs = make_pair(train, count, given.start)
    measured: dict[str, Any] = {"photos": count, "differs": compare_a_step(ours, theirs, len(train.classes.names))}
    for what, distance in measured["differs"].items():
        print(f"{what} differ by {distance:.1e}")
    if given.to_miou:
        sides = (("ours", ours), ("theirs", theirs))
        for name, side in sides:
            measured[name] = train_to(side, given.to_miou, given.epochs, given.validate_every, val)
        if measured["ours"]["seconds"] and measured["theirs"]["seconds"]:
            measured["times_faster"] = round(measured["theirs"]["seconds"] / measured["ours"]["seconds"], 2)
        command = f"--to-miou {given.to_miou:g} --epochs {given.epochs} --validate-every {given.validate_every}"
        command += " --start FILE" if given.start else ""
    else:
        measured |= measure(ours, theirs, given.turns)
        command = f"--steps {given.steps} --turns {given.turns}"
        print(
            f"{count} photos: {measured['ours_epoch_s']} s, smp {measured['theirs_epoch_s']} s, "
            f"{measured['times_faster']} times faster"
        )
    name = "training_to_miou" if given.to_miou else "training_epoch"
    print(record(name, {"command": f"python benchmarks/training_epoch.py --data CAMVID {command}", **measured}))


if __name__ == "__main__":
    main()
