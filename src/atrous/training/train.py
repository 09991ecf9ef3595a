"""A training run: from a recipe and a data set to a saved model."""

import logging
import signal
import warnings
from collections.abc import Mapping
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import lightning
from torch._dynamo.exc import BackendCompilerFailed

from atrous.data import CachedDataset, list_splits, open_dataset
from atrous.data.cache import free_memory
from atrous.errors import RecipeError
from atrous.evaluation import Scores
from atrous.files import remove_unfinished
from atrous.inference.devices import choose_device
from atrous.ops import keep_freed_memory
from atrous.training.keeping import CHECKPOINT, Keeper, second_run
from atrous.training.lesson import Lesson
from atrous.training.module import Trainee
from atrous.training.parallel import find_processes, is_first, leave_at_exit, plugins, strategy_of
from atrous.training.precision import lightning_precision
from atrous.training.provenance import RECIPE, write_recipe
from atrous.training.recipe import Recipe
from atrous.training.refusals import (
    refuse_impossible,
    refuse_one_class,
    refuse_unfit,
    refuse_unreadable,
    refuse_void,
    refuse_weights,
)
from atrous.training.resuming import read_progress, refuse_another_run
from atrous.training.samples import EpochSampler, Photos, SharedBatches, make_loader, some_images
from atrous.training.stages import former_settings, refuse_stages_of_another_run, run_stages, start_from
from atrous.training.starting import make_model
from atrous.training.stopping import EndOnSigterm, ending_on_sigterm
from atrous.training.synchronised import synchronise
from atrous.training.unfolding import unfold_batch_norm


@ending_on_sigterm()
def train(
    recipe: Recipe,
    data: str | Path | Lesson,
    out: str | Path,
    *,
    resume: bool = False,
    recipe_name: str = "",
    workers: int = 1,
    device: str = "auto",
    photos: Photos | None = None,
    start: Path | None = None,
    devices: int = 1,
    nodes: int = 1,
    strategy: str = "auto",
) -> Scores:
    """Trains a model and leaves it in `out`, with the best scores on the validation split.

    `out` holds the saved model of the best epoch, `report.html`, `metrics.csv`, `tensorboard/`, `recipe.yaml` and
    `last.ckpt` (to resume from; of a finished run that is resumed the report alone is remade).

    Args:
        data: a data set's folder, as for `open_dataset`, or another lesson.
        resume: go on from `out/last.ckpt` as if never stopped, or begin where none was left yet.
        recipe_name: what the model's provenance calls the recipe.
        workers: processes that prepare samples; 0 prepares them in this one.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        photos: the training split, decoded, for runs that follow one another; None decodes what fits into memory.
        start: a finished run's folder, whose last weights this one begins with.
        devices: on this machine that train together; torchrun and SLURM's srun say so themselves, and `nodes` too.
        nodes: machines.
        strategy: how they share the work: "ddp", where each holds the model, or "fsdp", where each holds a part of it.

    Raises:
        AtrousError: the recipe, the data or the place to resume from is not as it should be.
    """
    if not isinstance(data, Lesson) and any(stage.distill for stage in recipe.stage_recipes()):
        raise RecipeError("distill: this recipe is for a teacher's student: give it to `atrous distill`")
    refuse_impossible(recipe, () if isinstance(data, Lesson) else list_splits(data))
    place = choose_device(device)
    processes = find_processes(devices, nodes)
    refuse_unfit(recipe, place, processes, strategy)
    if recipe.stages:
        _refuse_later_weights(recipe, data)
        options: dict[str, Any] = {"recipe_name": recipe_name, "workers": workers, "device": device, "photos": photos}
        options |= {"devices": devices, "nodes": nodes, "strategy": strategy}
        scores = run_stages(recipe, Path(out), resume, partial(train, data=data, **options))
        if is_first():
            write_recipe(Path(out) / RECIPE, recipe, data.train.root if isinstance(data, Lesson) else data)
        return scores
    if place.type == "cpu":
        keep_freed_memory()
    machines: dict[str, Any] = {
        "accelerator": place.type,
        "devices": processes.devices if place.index is None else [place.index],
        "num_nodes": processes.nodes,
        "strategy": strategy_of(strategy, processes, place),
        "precision": lightning_precision(place, recipe, strategy),
    }
    out = Path(out)
    checkpoint = out / CHECKPOINT
    going_on = resume and checkpoint.is_file()  # killed before the first one, a run begins again
    if not going_on and checkpoint.exists():
        raise second_run(out)
    if start is None:
        refuse_stages_of_another_run(out)
    lesson = data if isinstance(data, Lesson) else _labelled(recipe, data, photos, processes.devices)
    refuse_one_class(lesson.train)
    if not isinstance(data, Lesson):
        refuse_void(lesson.train)
    if not going_on:
        refuse_unreadable(lesson.val)
        refuse_void(lesson.val)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    lightning.seed_everything(recipe.seed, verbose=False)
    fingerprints = lesson.fingerprints()
    progress = read_progress(checkpoint) if going_on else None
    if progress:
        refuse_another_run(checkpoint, progress, recipe, lesson.train.classes.names, fingerprints)
    model, card = make_model(recipe, lesson.train.classes)
    if start is not None:
        card = start_from(model, card, start)
    trainee = lesson.trainee(model, recipe)
    samples = lesson.samples(trainee, card)
    if not going_on:
        unfold_batch_norm(model, some_images(samples))
    sampler = EpochSampler(len(samples), recipe.seed, lesson.shares(recipe))
    if progress:  # Lightning tells the epoch only after it has begun to draw from workers
        sampler.set_epoch(progress["history"][-1]["epoch"])
    out.mkdir(parents=True, exist_ok=True)
    former = {"former_stages": former_settings(start)} if start is not None else {}
    provenance = {"recipe": recipe_name, **lesson.origin(recipe), **former}
    keeper = Keeper(out, lesson.val, card, provenance, fingerprints)
    trainer = _trainer(recipe, keeper, ceil(len(samples) / recipe.batch_size), machines)
    if processes.count > 1:
        leave_at_exit()
        synchronise(trainee.model)
    batches = SharedBatches(sampler, recipe.batch_size, trainer.global_rank, processes.count)
    loader = make_loader(samples, batches, workers, pin_memory=place.type == "cuda")
    if trainer.is_global_zero:
        remove_unfinished(out)
        if start is None and not going_on:
            write_recipe(out / RECIPE, recipe, lesson.train.root)
        if resume and not going_on:
            keeper.live.say(f"{out}: holds nothing to go on from, so the run begins")
    _fit(trainer, trainee, loader, checkpoint if going_on else None)
    return keeper.settle(recipe.val_scale, lesson)


def _refuse_later_weights(recipe: Recipe, data: str | Path | Lesson) -> None:
    """Raises RecipeError where a later stage lists class weights that are not one for each class."""
    if not any(isinstance(stage.loss.class_weights, tuple) for stage in recipe.stage_recipes()[1:]):
        return  # to open a data set may take a while
    train_split = data.train if isinstance(data, Lesson) else open_dataset(data, recipe.stage_recipes()[0].train_split)
    refuse_weights(recipe, train_split.classes)


def _labelled(recipe: Recipe, data: str | Path, photos: Photos | None, processes: int) -> Lesson:
    train_split = open_dataset(data, recipe.train_split)
    if photos is None and processes > 1:  # each process keeps its own
        photos = CachedDataset(train_split, free_memory() / 2e6 / processes)
    return Lesson(train_split, open_dataset(data, recipe.val_split), photos)


def _trainer(recipe: Recipe, keeper: Keeper, batches: int, machines: Mapping[str, Any]) -> lightning.Trainer:
    """Lightning's loop, without what the keeper does in its place.

    Args:
        batches: of an epoch.
        machines: where it runs, and in what precision.
    """
    return lightning.Trainer(
        **machines,
        max_epochs=recipe.schedule.epochs_of(batches, recipe.accumulate),
        max_steps=recipe.schedule.steps or -1,
        accumulate_grad_batches=recipe.accumulate,
        callbacks=[keeper, keeper.live, EndOnSigterm()],
        plugins=plugins(),
        use_distributed_sampler=False,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def _fit(trainer: lightning.Trainer, trainee: Trainee, loader: Any, checkpoint: Path | None) -> None:
    """Trains, from `checkpoint` on if there is one."""
    interrupt = signal.getsignal(signal.SIGINT)
    with warnings.catch_warnings():
        # Lightning's advice, and what it says of its own use of torch, is not for whoever trains here.
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        resumed = {} if checkpoint is None else {"ckpt_path": checkpoint, "weights_only": True}
        try:
            trainer.fit(trainee, loader, **resumed)
        except BackendCompilerFailed as error:
            reason = str(error).strip().splitlines()[0]
            raise RecipeError(f"compile: torch.compile does not work here ({reason}); set compile=false") from error
        except SystemExit as error:
            if not isinstance(error.__context__, KeyboardInterrupt):
                raise
            # That is what Lightning makes of Ctrl-C, and it leaves the signal ignored.
            signal.signal(signal.SIGINT, interrupt)
            raise KeyboardInterrupt from error
