"""A run as one HTML page: its curves while it goes on, and what became of it at its end."""

import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from atrous.data import SegmentationDataset
from atrous.data.balance import count_pixels
from atrous.evaluation import Evaluation, Scores
from atrous.evaluation.pictures import legend
from atrous.evaluation.report import SIDE_BY_SIDE, add_confusion, add_photos, class_table, score_rows
from atrous.inference import Predictor
from atrous.training import pictures
from atrous.training.history import History, best_epoch
from atrous.training.live import duration
from atrous.viz import Page

REPORT = "report.html"
_PHOTOS = 4  # of the best, and of the worst


def write_interim_report(
    out: Path, provenance: Mapping[str, Any], history: History, best: Scores | None, more: bool
) -> None:
    """The page of a run that goes on, or whose model has yet to be judged as it was stored.

    Args:
        more: whether further epochs follow.

    Raises:
        AtrousError: it cannot be written.
    """
    page = Page(_title(out, provenance))
    if more:
        page.text("The run goes on; this page is written anew after each validation. Photos come with its end.")
    rows = [("mean IoU", f"{best.miou:.2%}"), ("pixel accuracy", f"{best.pixel_accuracy:.2%}")] if best else []
    page.table(["", ""], [*rows, *_run_rows(provenance, history)])
    _add_curves(page, history)
    if best:
        page.heading("Classes")
        cells = ((name, "absent" if value is None else f"{value:.2%}") for name, value in best.iou.items())
        page.table(["class", "IoU"], cells, "Of the best epoch so far.")
    _add_recipe(page, provenance)
    page.save(out / REPORT)


def write_final_report(
    out: Path,
    provenance: Mapping[str, Any],
    history: History,
    evaluation: Evaluation,
    predictor: Predictor,
    folder: SegmentationDataset,
    *,
    training: SegmentationDataset | None,
    scale: float,
) -> None:
    """The page of a run that has ended.

    Args:
        provenance: of the kept model's card.
        evaluation: of the kept model on `folder`, by `predictor` at `scale`; it labels the page's photos.
        training: what it was trained on, whose classes are counted; none where that has no masks.

    Raises:
        AtrousError: it cannot be written, or a mask cannot be read.
    """
    page = Page(_title(out, provenance))
    page.table(["", ""], [*score_rows(evaluation), *_run_rows(provenance, history)])
    _add_curves(page, history)
    _add_classes(page, evaluation, folder, training)
    add_confusion(page, evaluation.confusion)
    worst = evaluation.worst(_PHOTOS)
    best = [photo for photo in evaluation.best(_PHOTOS) if photo not in worst]
    if worst:
        page.heading("Photos").text(SIDE_BY_SIDE)
        page.picture(legend(folder.classes.names, folder.classes.palette), "The classes' colours.")
    for name, photos in (("The worst", worst), ("The best", best)):
        if photos:
            page.text(f"{name} of {len(evaluation.photos)}:")
            add_photos(page, photos, predictor, folder, scales=(scale,))
    _add_recipe(page, provenance)
    page.save(out / REPORT)


def _title(out: Path, provenance: Mapping[str, Any]) -> str:
    name, recipe = out.resolve().name, Path(provenance.get("recipe") or "").stem
    return f"{name}, trained by {recipe}" if recipe else name


def _run_rows(provenance: Mapping[str, Any], history: History) -> list[tuple[str, Any]]:
    """What describes the training, by name."""
    rows: list[tuple[str, Any]] = [("trained on", provenance.get("trained_on"))]
    if former := provenance.get("former_stages"):
        rows.append(("stages before", len(former)))
    if history:
        wanted = provenance["settings"]["schedule"].get("epochs")
        rows.append(("epochs", f"{history[-1]['epoch']}" + (f" of {wanted}" if wanted else "")))
        rows.append(("kept epoch", best_epoch(history)))
        rows.append(("time", duration(history[-1]["seconds"])))
        rows.append(("images a second", f"{statistics.median(row['images_per_second'] for row in history):.1f}"))
        if note := history[-1].get("note"):
            rows.append(("end", note))
    rows.append(("machine", provenance.get("machine")))
    rows.append(("commit", provenance.get("commit")))
    rows.append(("versions", ", ".join(f"{name} {number}" for name, number in provenance["versions"].items())))
    rows.append(("date", provenance.get("date")))
    return [(name, value) for name, value in rows if value is not None]


def _add_curves(page: Page, history: History) -> None:
    if history:
        page.heading("Curves")
        page.picture(pictures.curves(history), "Loss, scores on the validation split and learning rate, by epoch.")


def _add_classes(
    page: Page, evaluation: Evaluation, folder: SegmentationDataset, training: SegmentationDataset | None
) -> None:
    page.heading("Classes")
    header, rows = class_table(evaluation)
    shares = None
    if training is not None:
        counts = count_pixels(training).sum(0)
        shares = counts / max(1, int(counts.sum()))
        header = [*header, "share in training"]
        rows = [[*row, f"{share:.2%}"] for row, share in zip(rows, shares, strict=True)]
    caption = "IoU of each class, the line is the mean" + (
        "; and its share of the pixels it was trained on." if training else "."
    )
    page.picture(pictures.classes(evaluation, folder.classes.palette, shares), caption)
    page.table(header, rows)


def _add_recipe(page: Page, provenance: Mapping[str, Any]) -> None:
    page.heading("Recipe")
    page.table(["key", "value"], _flat(provenance["settings"]))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys, as `--set` has them, and their values as YAML."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            plain = list(value) if isinstance(value, tuple) else value
            text = yaml.safe_dump(plain, default_flow_style=True, allow_unicode=True, width=1000)
            yield f"{prefix}{key}", text.removesuffix("\n").removesuffix("\n...")
