"""What a training run keeps: its best model, its metrics, a checkpoint to resume from, and what tells of it."""

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from math import isfinite
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from atrous.data import SegmentationDataset
from atrous.errors import RecipeError
from atrous.evaluation import Scores, evaluate
from atrous.evaluation.processes import share
from atrous.evaluation.report import side_by_side
from atrous.files import replacing
from atrous.inference import Predictor, Segmentation
from atrous.training.history import METRICS, History, stale, write_history
from atrous.training.lesson import Lesson
from atrous.training.live import Live
from atrous.training.module import Trainee
from atrous.training.parallel import is_first
from atrous.training.provenance import machine
from atrous.training.report import write_final_report, write_interim_report
from atrous.training.tensorboard import Board
from atrous.weights import ModelCard, load_model, save_model

CHECKPOINT = "last.ckpt"
_SHOWN = 4  # photos of the validation split, on TensorBoard
_SIDE = 320  # their pixels a side at most
_INTERIM = 30.0  # seconds between two writings of the report, which takes a quarter of one


class Keeper(Callback):  # type: ignore[misc]
    """Judges the model every few epochs, keeps the best one, tells of the run, and leaves a checkpoint to resume from.

    The run ends where `recipe.early_stop` validations have gone by without a better mean IoU. Poly's schedule knows
    nothing of it: the learning rate is then still high, and the gain of its last, low part is lost, so that the papers'
    recipes do not stop early; it is for runs whose length was guessed.

    Of several processes all take part in judging and in the checkpoint, and the first one alone writes.

    Args:
        folder: what to judge by.
        card: of the model that is kept.
        provenance: what the card says of the training, but for what the training itself finds out.
        photos: what tells the photos of this run from others, by what it is of.

    Attributes:
        live: told of every epoch and of every judged photo; another callback of the same trainer.
    """

    def __init__(
        self,
        out: Path,
        folder: SegmentationDataset,
        card: ModelCard,
        provenance: dict[str, Any],
        photos: Mapping[str, str],
    ) -> None:
        self.out, self.folder, self.card, self.provenance, self.photos = out, folder, card, provenance, dict(photos)
        self.live = Live()
        self.board = Board(out / "tensorboard")
        self.best: Scores | None = None
        self.history: History = []
        self.seconds = 0.0
        self._clock = self._epoch_began = self._reported = time.monotonic()
        self._images = 0
        self._rate = 0.0
        self._safe = 0  # the epoch that the checkpoint ends with
        self._device = torch.device("cpu")

    def setup(self, trainer: lightning.Trainer, trainee: Trainee, stage: str) -> None:
        self._device = trainer.strategy.root_device
        self.provenance |= {"machine": machine(self._device), "precision": trainer.precision}

    def on_train_start(self, trainer: lightning.Trainer, trainee: Trainee) -> None:
        if self._stops(trainee.recipe.early_stop):  # as it did before it was resumed
            trainer.should_stop = True
        elif trainer.is_global_zero and not self.board.open(trainer.global_step, _steps(trainer)):
            self.live.say("no curves for TensorBoard, which is not installed: pip install tensorboard")

    def on_train_epoch_start(self, trainer: lightning.Trainer, trainee: Trainee) -> None:
        self._epoch_began, self._images = time.monotonic(), 0

    def on_train_batch_start(self, trainer: lightning.Trainer, trainee: Trainee, batch: Any, index: int) -> None:
        groups = trainer.optimizers[0].param_groups
        fall = next(group["lr"] / group["initial_lr"] for group in groups if group["initial_lr"])
        self._rate = trainee.recipe.optimizer.lr * fall

    def on_train_batch_end(
        self, trainer: lightning.Trainer, trainee: Trainee, outputs: Any, batch: Any, index: int
    ) -> None:
        self._images += len(batch[0]) * trainer.world_size
        groups = trainer.optimizers[0].param_groups
        rates = {f"{group['initial_lr']:g} at most": group["lr"] for group in groups}
        self.board.add_loss(trainer.global_step, trainee.last_loss, rates)

    def on_train_epoch_end(self, trainer: lightning.Trainer, trainee: Trainee) -> None:
        epoch = trainer.current_epoch + 1
        row: dict[str, Any] = {
            "epoch": epoch,
            "loss": float(trainer.callback_metrics["loss"]),
            "learning_rate": self._rate,
            "images_per_second": round(self._images / (time.monotonic() - self._epoch_began), 2),
        }
        if not isfinite(row["loss"]):
            raise RecipeError(
                f"epoch {epoch}: the loss is {row['loss']}, so that the weights are of no use: "
                f"optimizer.lr, {trainee.recipe.optimizer.lr:g} here, is too high"
            )
        last = trainer.global_step >= _steps(trainer)
        better = False
        if last or epoch % trainee.recipe.validate_every == 0:
            scores = self._judge(trainer, trainee)
            row |= {"miou": scores.miou, "pixel_accuracy": scores.pixel_accuracy}
            better = self.best is None or scores.miou > self.best.miou
        self.history.append(row)
        if better:
            self.best = scores
            if trainer.is_global_zero:
                self._save(trainee.best_guess, scores, epoch)
        if not last and self._stops(trainee.recipe.early_stop):
            trainer.should_stop = True
            row["note"] = f"stopped early: {trainee.recipe.early_stop} validations without a better mIoU"
        row["epoch_seconds"] = round(time.monotonic() - self._epoch_began, 2)
        row["seconds"] = round(self._elapsed(), 1)
        if trainer.is_global_zero:
            write_history(self.out / METRICS, self.history)
            self.live.epoch(row, better)
            if "miou" in row and time.monotonic() - self._reported > _INTERIM:
                self._reported = time.monotonic()
                more = not last and not trainer.should_stop
                write_interim_report(self.out, self.provenance, self.history, self.best, more)
            self.board.end_epoch(trainer.global_step)
        self._checkpoint(trainer)  # at the end: whatever it has seen is written
        self._safe = epoch

    def on_train_end(self, trainer: lightning.Trainer, trainee: Trainee) -> None:
        self.board.close()

    def on_exception(self, trainer: lightning.Trainer, trainee: Trainee, exception: BaseException) -> None:
        self.board.close()
        if self._safe and isinstance(exception, KeyboardInterrupt | SystemExit):
            self.live.say(f"stopped; --resume goes on after epoch {self._safe}")

    def _judge(self, trainer: lightning.Trainer, trainee: Trainee) -> Scores:
        model = trainee.best_guess
        was_training = model.training
        predictor = Predictor(model, self.card, device=str(trainee.device))  # type: ignore[arg-type]
        ours = share(len(self.folder))
        places = np.linspace(ours.start, max(ours.start, ours.stop - 1), min(_SHOWN, len(ours))).astype(int)
        shown = {self.folder.images[index]: int(index) for index in places}

        def show(found: Segmentation) -> None:
            if trainer.is_global_zero and found.source is not None and found.source in shown:
                truth = self.folder.mask(shown[found.source])
                pictures = side_by_side(found, truth, self.folder.classes.palette, _SIDE)
                self.board.add_picture(trainer.global_step, f"photo, truth, prediction/{found.source.name}", pictures)

        scores = evaluate(
            predictor,
            self.folder,
            distributed=True,
            seen=show,
            progress=self.live.judging,
            scales=(trainee.recipe.val_scale,),
        ).scores
        model.train(was_training)
        told = {"mIoU": scores.miou, "pixel accuracy": scores.pixel_accuracy}
        self.board.add(trainer.global_step, told | {f"IoU/{name}": value for name, value in scores.iou.items()})
        return scores

    def _stops(self, patience: int) -> bool:
        """Whether so many validations have brought nothing better."""
        return 0 < patience <= stale(self.history)

    def _save(self, model: Any, scores: Scores, epoch: int) -> None:
        provenance = {
            **self.provenance,
            "epoch": epoch,
            "training_seconds": round(self._elapsed()),
            "scores": {"split": self.folder.split, **scores.to_dict()},
        }
        save_model(model, replace(self.card, provenance=provenance), self.out, dtype=torch.float16)

    def _checkpoint(self, trainer: lightning.Trainer) -> None:
        if not trainer.is_global_zero:  # takes part, and writes nothing
            trainer.save_checkpoint(self.out / CHECKPOINT)
            return
        with replacing(self.out / CHECKPOINT) as unfinished:
            trainer.save_checkpoint(unfinished)

    def _elapsed(self) -> float:
        now = time.monotonic()
        self.seconds += now - self._clock
        self._clock = now
        return self.seconds

    def state_dict(self) -> dict[str, Any]:
        return {
            "best": self.best and asdict(self.best),
            "history": self.history,
            "seconds": self._elapsed(),
            "settings": self.provenance["settings"],
            "classes": self.card.classes,
            "photos": self.photos,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best = state["best"] and Scores(**state["best"])
        self.history = state["history"]
        self.seconds = state["seconds"]
        self._safe = self.history[-1]["epoch"]

    def settle(self, scale: float, lesson: Lesson) -> Scores:
        """Judges the kept model once more as it was stored, in half precision, and writes its card and the report.

        Args:
            scale: at which the photos are judged.
            lesson: what it was trained on, and says of it.
        """
        model, card = load_model(self.out)
        predictor = Predictor(model, card, self._device)
        evaluation = evaluate(predictor, self.folder, distributed=True, progress=self.live.judging, scales=(scale,))
        scores = evaluation.scores
        if is_first():
            judged = {"scores": {"split": self.folder.split, **scores.to_dict()}, **lesson.findings(evaluation)}
            provenance = {**card.provenance, **judged}
            if provenance != card.provenance:
                save_model(model, replace(card, provenance=provenance), self.out, dtype=torch.float16)
            labelled = lesson.train if all(mask.is_file() for mask in lesson.train.masks) else None
            write_final_report(
                self.out,
                provenance,
                self.history,
                evaluation,
                predictor,
                self.folder,
                training=labelled,
                scale=scale,
            )
        return scores


def second_run(out: Path) -> RecipeError:
    """The error of a run that would begin where there is one."""
    return RecipeError(f"{out}: holds a run already; add --resume to go on with it, or give another --out")


def _steps(trainer: lightning.Trainer) -> int:
    """The whole run's steps of the optimiser."""
    return int(trainer.estimated_stepping_batches)
