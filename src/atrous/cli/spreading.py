"""`atrous predict --cluster ray`: the photos over many machines, with the results of one."""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atrous.cli.outputs import Kind, Photo, name
from atrous.cli.writing import Kept, Written
from atrous.errors import AtrousError
from atrous.inference import Failure
from atrous.inference.labelling import Progress

if TYPE_CHECKING:
    from atrous.weights import Converted


def list_bucket(address: str) -> list[str]:
    """The photos at an address such as s3://bucket/folder."""
    _check_installed()
    from atrous.cluster import list_photos

    return list_photos(address)


def predict_spread(
    opened: "Converted",
    photos: Sequence[Photo],
    files: Sequence[dict[Kind, Path]],
    out: Path | None,
    progress: Progress,
    **options: Any,
) -> Iterator[Written | Failure | Kept]:
    """What became of each photo, in the order in which they are finished; `options` are `predict_on_ray`'s."""
    _check_installed()
    from atrous.cluster import Task, predict_on_ray

    tasks = [
        Task(_place(photo.path), {kind: _place(path) for kind, path in targets.items()})
        for photo, targets in zip(photos, files, strict=True)
    ]
    planned = {task.photo: (photo.path, targets) for task, photo, targets in zip(tasks, photos, files, strict=True)}
    with contextlib.redirect_stdout(sys.stderr):  # Ray tells there of workers that died
        outcomes = predict_on_ray(opened.model, opened.card, tasks, out=_place(out) if out else None, **options)
        for outcome in outcomes:
            progress(1.0)
            if isinstance(outcome, Failure):
                path, _ = planned[str(outcome.source)]
                yield Failure(path, outcome.message.replace(str(outcome.source), name(path), 1))
                continue
            path, targets = planned[outcome.photo]
            if outcome.size is None:
                yield Kept(path)
            else:
                yield Written(path, targets, outcome.size, outcome.areas or {}, outcome.seconds or 0.0)


def _place(path: Path) -> str:
    """For every machine, wherever its processes stand."""
    text = name(path)
    return text if "://" in text else os.path.abspath(text)


def _check_installed() -> None:
    try:
        import ray.data  # noqa: F401
    except ImportError as error:
        raise AtrousError(f"--cluster ray needs Ray Data ({error}): pip install 'atrous[cluster]'") from None
