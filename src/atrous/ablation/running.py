"""Running a plan: one file for each finished row and seed, so that what was interrupted goes on."""

import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

import atrous
from atrous.ablation.experiment import Judgement
from atrous.ablation.plan import Plan, Run
from atrous.ablation.results import Result, read_result, result_path
from atrous.data import CachedDataset, SegmentationDataset, open_dataset
from atrous.errors import AtrousError
from atrous.evaluation import Scores, evaluate
from atrous.files import replacing
from atrous.inference import Predictor, Segmentation
from atrous.inference.labelling import Keywords
from atrous.models import SegmentationModel
from atrous.training import CHECKPOINT, Photos, Recipe, train
from atrous.weights import ModelCard, load_model, read_card

_TRAINED = "trained.json"  # in a model's folder, once it is trained to its end: its scores, and on what
_DATA = "data.json"  # what the models of a whole `out` are trained on


def run_plan(
    plan: Plan,
    data: str | Path,
    out: str | Path,
    *,
    workers: int = 1,
    device: str = "auto",
    finished: Callable[[Result], None] | None = None,
) -> None:
    """Runs what is not there yet; `finished` is told of each row and seed that is done now.

    Below `out`, `models/` holds a model for each training, which experiments share, and `NAME/` the results. Several
    experiments may be run in one `out` at a time; a training that two of them need is waited for.

    Raises:
        AtrousError: a result of other settings or other data is there, or another process runs this experiment.
    """
    out = Path(out)
    missing = pending(plan, data, out)
    if not missing:
        return
    place = out / plan.experiment.name
    place.mkdir(parents=True, exist_ok=True)
    identity = _identity(plan.runs[0].recipe, data)
    with replacing(out / _DATA) as unfinished:
        unfinished.write_text(json.dumps(_trained_on(plan.runs[0].recipe, data)) + "\n", encoding="utf-8")
    photos: Photos | None = None
    try:
        with FileLock(place / ".lock", timeout=0):
            for run in missing:
                folder = _model_folder(out, run)
                if photos is None and not is_trained(out, run):
                    photos = CachedDataset(open_dataset(data, run.recipe.train_split))
                folder.mkdir(parents=True, exist_ok=True)
                with FileLock(folder / ".lock"):
                    scores = _trained(run, data, folder, workers, device, photos)
                started = time.monotonic()
                if not judged_by_training(run):
                    judge = Judge(*load_model(folder), run.recipe, run.row.judgement, device)
                    scores = judge.scores(open_dataset(data, run.recipe.val_split))
                seconds = time.monotonic() - started
                result = _result(plan, run, scores, folder, seconds, identity)
                result.write(result_path(out, plan.experiment, run.row, run.seed))
                if finished:
                    finished(result)
    except Timeout:
        raise AtrousError(
            f"{place}: another `atrous ablate` is at work there; wait for it or give another --out"
        ) from None


def pending(plan: Plan, data: str | Path, out: str | Path) -> list[Run]:
    """The runs whose result is not there yet.

    Raises:
        AtrousError: a result of other settings or other data is there.
    """
    out = Path(out)
    missing = []
    identity: dict[str, Any] | None = None
    if (out / _DATA).is_file():
        there = json.loads((out / _DATA).read_text(encoding="utf-8"))
        before, now = _both(there, _trained_on(plan.runs[0].recipe, data))
        if before != now:
            raise AtrousError(f"{out}: holds models of another data set ({there['name']}): give another --out")
    for run in plan.runs:
        path = result_path(out, plan.experiment, run.row, run.seed)
        if not path.is_file():
            missing.append(run)
            continue
        identity = identity or _identity(run.recipe, data)
        _same(path, read_result(path), run, identity)
    return missing


def _same(path: Path, result: Result, run: Run, identity: dict[str, Any]) -> None:
    pairs = (
        (_flat(result.settings), _flat(run.settings)),
        (_flat(result.judgement), _flat(_plain_judgement(run.row.judgement))),
        _both(result.data, identity),
    )
    for there, wanted in pairs:
        for key in sorted({*there, *wanted}):
            if there.get(key) != wanted.get(key):
                raise AtrousError(
                    f"{path}: a result of other settings ({key} {there.get(key)}, now {wanted.get(key)}): "
                    "give another --out, or delete it"
                )


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _trained(run: Run, data: str | Path, folder: Path, workers: int, device: str, photos: Photos | None) -> Scores:
    """The scores of the trained model, which is trained now, or to its end, if it was not.

    It is judged anew where the validation split is another than it was judged on.
    """
    done = folder / _TRAINED
    judges = open_dataset(data, run.recipe.val_split)
    if not done.is_file():
        checkpoint = folder / CHECKPOINT
        name = f"ablation, {run.row.slug}"
        scores = train(
            run.recipe,
            data,
            folder,
            resume=checkpoint.is_file(),
            recipe_name=name,
            workers=workers,
            device=device,
            photos=photos,
        )
        _write_scores(done, scores, judges)
        checkpoint.unlink(missing_ok=True)
    there = json.loads(done.read_text(encoding="utf-8"))
    if there.get("judged_on") != judges.fingerprint():
        scores = Judge(*load_model(folder), run.recipe, Judgement(), device).scores(judges)
        _write_scores(done, scores, judges)
        return scores
    return Scores(**there["scores"])


def _write_scores(path: Path, scores: Scores, judges: SegmentationDataset) -> None:
    values = {"scores": asdict(scores), "judged_on": judges.fingerprint()}
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(values) + "\n", encoding="utf-8")


def is_trained(out: str | Path, run: Run) -> bool:
    """Whether the model that a run judges is there, trained to its end."""
    return (_model_folder(out, run) / _TRAINED).is_file()


def _model_folder(out: str | Path, run: Run) -> Path:
    return Path(out) / "models" / run.training


def judged_by_training(run: Run) -> bool:
    """Whether training itself judges the model in the row's way."""
    return run.row.judgement in (Judgement(), Judgement(output_stride=run.recipe.model.output_stride))


class Judge:
    """A model that is run in a row's way."""

    def __init__(
        self, model: SegmentationModel, card: ModelCard, recipe: Recipe, judgement: Judgement, device: str
    ) -> None:
        if judgement.output_stride is not None:
            model.set_output_stride(judgement.output_stride)
        self.predictor = Predictor(model, card, device)
        self.options: Keywords = {
            "scales": [scale * recipe.val_scale for scale in judgement.scales],
            "flip": judgement.flip,
        }
        if judgement.crf:
            self.options["crf"] = judgement.crf

    def predict(self, photo: Path) -> Segmentation:
        predicted = self.predictor(photo, **self.options)
        assert isinstance(predicted, Segmentation)
        return predicted

    def scores(self, dataset: SegmentationDataset) -> Scores:
        return evaluate(self.predictor, dataset, **self.options).scores


def _result(plan: Plan, run: Run, scores: Scores, folder: Path, seconds: float, identity: dict[str, Any]) -> Result:
    provenance = read_card(folder)[1].provenance
    return Result(
        experiment=plan.experiment.name,
        group=run.row.group,
        row=run.row.name,
        seed=run.seed,
        backbone=plan.backbone,
        miou=scores.miou,
        pixel_accuracy=scores.pixel_accuracy,
        iou=scores.iou,
        training_seconds=float(provenance["training_seconds"]),
        judging_seconds=round(seconds, 1),
        settings=run.settings,
        judgement=_plain_judgement(run.row.judgement),
        data=identity,
        origin={
            "commit": provenance.get("commit"),
            "date": datetime.now(UTC).date().isoformat(),
            "threads": torch.get_num_threads(),
            "processor": platform.processor() or platform.machine(),
            "versions": {"atrous": atrous.__version__, "torch": torch.__version__},
        },
    )


def _plain_judgement(judgement: Judgement) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(asdict(judgement)))
    return plain


def _identity(recipe: Recipe, data: str | Path) -> dict[str, Any]:
    """What tells one data set from another: its name, its sizes, and its splits' own fingerprints."""
    splits = {split: open_dataset(data, split) for split in (recipe.train_split, recipe.val_split)}
    return {
        "name": Path(data).resolve().name,
        **{split: len(dataset) for split, dataset in splits.items()},
        "photos": _names(*splits.values()),
        "fingerprint": "".join(dataset.fingerprint() for dataset in splits.values()),
    }


def _trained_on(recipe: Recipe, data: str | Path) -> dict[str, str]:
    dataset = open_dataset(data, recipe.train_split)
    return {"name": Path(data).resolve().name, "photos": _names(dataset), "fingerprint": dataset.fingerprint()}


def _names(*datasets: SegmentationDataset) -> str:
    names = [*datasets[0].classes.names, *(path.name for dataset in datasets for path in dataset.images)]
    return sha256("\n".join(names).encode()).hexdigest()[:12]


def _both(one: dict[str, Any], other: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What both say: an earlier version said less."""
    shared = one.keys() & other.keys()
    return {key: one[key] for key in shared}, {key: other[key] for key in shared}
