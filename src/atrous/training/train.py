"""A training run: from a recipe and a data set to a saved model."""

import csv
import io
import logging
import shutil
import signal
import subprocess
import time
import warnings
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.callbacks.progress import RichProgressBar
from torch.utils.data import DataLoader

import atrous
from atrous.data import Augmentation, CachedDataset, Classes, SegmentationDataset, open_dataset
from atrous.data.balance import bounded_weights, count_pixels, median_frequency_weights, sampling_weights
from atrous.errors import RecipeError
from atrous.evaluation import Scores, evaluate
from atrous.files import replacing
from atrous.inference import Predictor
from atrous.inference.devices import choose_device
from atrous.layers import BatchNorm2d
from atrous.models import SegmentationModel, backbone_of, create_model
from atrous.training.losses import Loss
from atrous.training.module import Trainee
from atrous.training.recipe import Recipe
from atrous.training.samples import EpochSampler, Photos, TrainingCrops
from atrous.weights import IMAGENET, SYMMETRIC, ModelCard, load_backbone, load_imagenet, load_model, save_model

CHECKPOINT = "last.ckpt"


def train(
    recipe: Recipe,
    data: str | Path,
    out: str | Path,
    *,
    resume: bool = False,
    recipe_name: str = "",
    workers: int = 1,
    device: str = "auto",
    photos: Photos | None = None,
) -> Scores:
    """Trains a model and leaves it in `out`, with the best scores on the validation split.

    `out` holds `last.ckpt` (to resume from), `metrics.csv`, and the saved model of the best epoch.

    Args:
        data: a data set's folder, as for `open_dataset`.
        resume: go on from `out/last.ckpt` as if never stopped.
        recipe_name: what the model's provenance calls the recipe.
        workers: processes that prepare samples; 0 prepares them in this one.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        photos: the training split, decoded, for runs that follow one another; None decodes what fits into memory.

    Raises:
        AtrousError: the recipe, the data or the place to resume from is not as it should be.
    """
    place = choose_device(device)
    out = Path(out)
    checkpoint = out / CHECKPOINT
    if resume and not checkpoint.is_file():
        raise RecipeError(f"{checkpoint}: nothing to resume from; train without --resume first")
    if not resume and checkpoint.exists():
        raise RecipeError(f"{out}: holds a run already; add --resume to go on with it, or give another --out")
    train_folder = open_dataset(data, recipe.train_split)
    val_folder = open_dataset(data, recipe.val_split)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    lightning.seed_everything(recipe.seed, verbose=False)
    model, card = make_model(recipe, train_folder.classes)
    ignore_index = train_folder.classes.ignore_index
    trainee = Trainee(model, recipe, ignore_index, make_loss(recipe, train_folder))
    samples = training_crops(CachedDataset(train_folder) if photos is None else photos, recipe, card, ignore_index)
    shares = sampling_weights(count_pixels(train_folder)) if recipe.balanced_sampling else None
    loader = DataLoader(
        samples,
        batch_size=recipe.batch_size,
        sampler=EpochSampler(len(samples), recipe.seed, shares),
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    out.mkdir(parents=True, exist_ok=True)
    keeper = _Keeper(out, val_folder, card, {"recipe": recipe_name, **_origin(recipe, data, len(samples))})
    trainer = lightning.Trainer(
        accelerator=place.type,
        devices=1 if place.index is None else [place.index],
        max_epochs=recipe.schedule.epochs,
        precision="bf16-mixed" if recipe.precision == "bf16" else "32-true",
        logger=False,
        callbacks=[keeper, RichProgressBar()],
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    interrupt = signal.getsignal(signal.SIGINT)
    with warnings.catch_warnings():
        # Lightning's advice, and what it says of its own use of torch, is not for whoever trains here.
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        resumed = {"ckpt_path": checkpoint, "weights_only": True} if resume else {}
        try:
            trainer.fit(trainee, loader, **resumed)
        except SystemExit as error:  # what Lightning makes of Ctrl-C, and it leaves the signal ignored
            signal.signal(signal.SIGINT, interrupt)
            raise KeyboardInterrupt from error
    return _settle(out, val_folder, recipe.val_scale)


def _settle(out: Path, folder: SegmentationDataset, scale: float) -> Scores:
    """Judges the kept model once more as it was stored, in half precision, so that its card says what it does."""
    model, card = load_model(out)
    scores = evaluate(Predictor(model, card), folder, scales=(scale,)).scores
    provenance = {**card.provenance, "scores": {"split": folder.split, **scores.to_dict()}}
    save_model(model, replace(card, provenance=provenance), out, dtype=torch.float16)
    return scores


class _Keeper(Callback):  # type: ignore[misc]
    """Judges the model every few epochs, keeps the best one, and leaves a checkpoint to resume from."""

    def __init__(self, out: Path, folder: SegmentationDataset, card: ModelCard, provenance: dict[str, Any]) -> None:
        self.out, self.folder, self.card, self.provenance = out, folder, card, provenance
        self.best: Scores | None = None
        self.history: list[dict[str, float]] = []
        self.seconds = 0.0
        self._clock = time.monotonic()

    def on_train_epoch_end(self, trainer: lightning.Trainer, trainee: Trainee) -> None:
        epoch = trainer.current_epoch + 1
        row = {"epoch": epoch, "loss": float(trainer.callback_metrics["loss"])}
        last = epoch == trainer.max_epochs
        if last or epoch % trainee.recipe.validate_every == 0:
            model = trainee.best_guess
            was_training = model.training
            predictor = Predictor(model, self.card, device=str(trainee.device))  # type: ignore[arg-type]
            scores = evaluate(predictor, self.folder, scales=(trainee.recipe.val_scale,)).scores
            model.train(was_training)
            trainee.log("miou", scores.miou, prog_bar=True)
            row |= {"miou": scores.miou, "pixel_accuracy": scores.pixel_accuracy}
            if self.best is None or scores.miou > self.best.miou:
                self.best = scores
                self._save(model, scores, epoch)
        self.history.append({**row, "seconds": round(self._elapsed(), 1)})
        self._write_history()
        self._checkpoint(trainer)

    def _save(self, model: Any, scores: Scores, epoch: int) -> None:
        provenance = {
            **self.provenance,
            "epoch": epoch,
            "training_seconds": round(self._elapsed()),
            "scores": {"split": self.folder.split, **scores.to_dict()},
        }
        save_model(model, replace(self.card, provenance=provenance), self.out, dtype=torch.float16)

    def _write_history(self) -> None:
        text = io.StringIO()
        table = csv.DictWriter(text, ["epoch", "loss", "miou", "pixel_accuracy", "seconds"], lineterminator="\n")
        table.writeheader()
        table.writerows(self.history)
        with replacing(self.out / "metrics.csv") as unfinished:
            unfinished.write_text(text.getvalue(), encoding="utf-8")

    def _checkpoint(self, trainer: lightning.Trainer) -> None:
        with replacing(self.out / CHECKPOINT) as unfinished:
            trainer.save_checkpoint(unfinished)

    def _elapsed(self) -> float:
        now = time.monotonic()
        self.seconds += now - self._clock
        self._clock = now
        return self.seconds

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best and asdict(self.best), "history": self.history, "seconds": self._elapsed()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best = state["best"] and Scores(**state["best"])
        self.history = state["history"]
        self.seconds = state["seconds"]


def make_model(recipe: Recipe, classes: Classes) -> tuple[SegmentationModel, ModelCard]:
    """The model that a recipe starts from, and its card.

    Raises:
        AtrousError: options that the architecture does not take, or weights that are not there or do not fit.
    """
    settings = recipe.model
    model = create_model(settings.name, len(classes.names), settings.output_stride, **settings.options)
    mean, std = IMAGENET if "resnet" in settings.name else SYMMETRIC
    if settings.pretrained_backbone == "imagenet":
        load_imagenet(model.backbone, backbone_of(settings.name))
    elif settings.pretrained_backbone:
        mean, std = load_backbone(model.backbone, settings.pretrained_backbone)
    for module in model.modules():
        if isinstance(module, BatchNorm2d):
            module.momentum = settings.batch_norm_momentum
            if settings.fixed_batch_norm:
                module.freeze()
    card = ModelCard(
        classes=classes.names,
        palette=classes.palette,
        mean=mean,
        std=std,
        licence=recipe.licence,
        description=recipe.description,
    )
    return model.to(memory_format=torch.channels_last), card  # type: ignore[call-overload]


def make_loss(recipe: Recipe, dataset: SegmentationDataset) -> Loss:
    """A recipe's loss; class weights that it only names are made of a data set's histogram.

    Raises:
        AtrousError: weights that are not one for each class, or a mask that cannot be read.
    """
    settings, names = recipe.loss, dataset.classes.names
    weights: tuple[float, ...] | None
    if isinstance(settings.class_weights, str):
        make = {"median_frequency": median_frequency_weights, "bounded": bounded_weights}[settings.class_weights]
        weights = tuple(map(float, make(count_pixels(dataset))))
    else:
        weights = settings.class_weights
    if weights is not None and len(weights) != len(names):
        raise RecipeError(f"loss.class_weights: {len(weights)} numbers for the {len(names)} classes of {dataset.root}")
    return Loss(settings.parts, weights, settings.hardest, settings.gamma)


def training_crops(photos: Photos, recipe: Recipe, card: ModelCard, ignore_index: int) -> TrainingCrops:
    """What a recipe's training steps are fed."""
    augmentation = Augmentation(**recipe.augment.model_dump())
    return TrainingCrops(photos, augmentation, card, recipe.seed, ignore_index)


def _origin(recipe: Recipe, data: str | Path, photos: int) -> dict[str, Any]:
    """What a reader needs to train the model again."""
    return {
        "settings": recipe.model_dump(),
        "trained_on": f"{Path(data).name} {recipe.train_split} ({photos} photos)",
        "seed": recipe.seed,
        "commit": _commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {"atrous": atrous.__version__, "torch": torch.__version__},
    }


def _commit() -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    here = Path(__file__).parent
    done = subprocess.run([git, "-C", here, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
