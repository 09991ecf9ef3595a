"""What each worker does with its share: leaves what is done, predicts the rest, writes it, and tells of both."""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from atrous.cluster import places
from atrous.cluster.stamps import stamped
from atrous.data import ImageSource
from atrous.errors import AtrousError
from atrous.inference import Failure, Predictor, Segmentation
from atrous.inference.labelling import Keywords
from atrous.models import SegmentationModel
from atrous.ops import keep_freed_memory
from atrous.weights import ModelCard

_TRIES = 2  # of a photo alone, after its shard's first worker died
_READERS = 8  # at once: a bucket answers slowly, but many at a time


@dataclass(frozen=True)
class Task:
    """A photo's place, and where its mask and its overlay go: absolute paths, or addresses."""

    photo: str
    files: Mapping[Literal["mask", "overlay"], str]


@dataclass(frozen=True)
class Done:
    """A photo whose files are there.

    Attributes:
        size: (height, width); None where an earlier run had written the files, and for `areas` and `seconds` too.
    """

    photo: str
    size: tuple[int, int] | None = None
    areas: Mapping[str, float] | None = None
    seconds: float | None = None


class Worker:
    """Lives in a process of the cluster as long as there is work.

    Args:
        model, card: as the driver opened them, so that all workers have the same weights.
        options: those of `Predictor.stream`.
        mark, since: the run's; see `places.write` and `places.is_done`.
        begin: counts how often a shard or photo, by a name, was begun by any worker, this time included.
    """

    def __init__(
        self,
        model: SegmentationModel,
        card: ModelCard,
        device: str,
        engine: str,
        options: Keywords,
        mark: str,
        since: int | None,
        begin: Callable[[str], int],
    ) -> None:
        keep_freed_memory()
        self._predictor = Predictor(model, card, device, engine)
        self._options, self._mark, self._since, self._begin = options, mark, since, begin
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="atrous-read")

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
        """Rows "task" (JSON) to rows "outcome" (JSON), one for each."""
        tasks = [Task(**json.loads(task)) for task in batch["task"]]
        if self._begin(f"shard of {tasks[0].photo}") == 1:
            outcomes = self._resumed(tasks)
        else:  # a worker died over it: one at a time, to find out of which photo
            outcomes = (outcome for task in tasks for outcome in self._alone(task))
        return {"outcome": [to_json(outcome) for outcome in outcomes]}

    def _resumed(self, tasks: list[Task]) -> Iterator[Done | Failure]:
        left = []
        for task, whole in zip(tasks, self._readers.map(self._is_done, tasks), strict=True):
            if whole:
                yield Done(task.photo)
            else:
                left.append(task)
        yield from self._predicted(left)

    def _alone(self, task: Task) -> Iterator[Done | Failure]:
        if self._begin(task.photo) > _TRIES:
            yield Failure(task.photo, f"{task.photo}: not predicted: its worker died each of {_TRIES + 1} times")
        else:
            yield from self._predicted([task])

    def _predicted(self, tasks: list[Task]) -> Iterator[Done | Failure]:
        read = []
        for task, found in zip(tasks, self._readers.map(_source, tasks), strict=True):
            if isinstance(found, Failure):
                yield found
            else:
                read.append((task, *found))
        results = self._predictor.timed_stream([source for *_, source in read], _ignore, **self._options)
        for (task, stamp, _), (result, seconds) in zip(read, results, strict=True):
            yield self._written(task, stamp, result, seconds)

    def _is_done(self, task: Task) -> bool:
        try:
            stamp = places.stamp_of(task.photo)
            return bool(task.files) and all(places.is_done(file, self._since, stamp) for file in task.files.values())
        except OSError:
            return False  # what is wrong with it is told when it is written

    def _written(self, task: Task, stamp: bytes, result: Segmentation | Failure, seconds: float) -> Done | Failure:
        if isinstance(result, Failure):
            return Failure(task.photo, result.message)
        for kind, place in task.files.items():
            try:
                if kind == "mask" and places.holds_photo(place):
                    raise AtrousError("is there and is no mask, perhaps another photo; name another folder")
                content = io.BytesIO()
                result.write(content, kind)
                places.write(place, stamped(content.getvalue(), stamp), self._mark)
            except (AtrousError, OSError) as error:
                reason = getattr(error, "strerror", None) or error
                return Failure(task.photo, f"{task.photo}: not written: {place}: {reason}")
        height, width = result.labels.shape
        return Done(task.photo, (height, width), result.areas(), seconds)


class _Content(io.BytesIO):
    """A bucket's file, with the name that messages give it."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name


def _source(task: Task) -> tuple[bytes, ImageSource] | Failure:
    """The photo's stamp, as it is before the photo is read, and what to predict."""
    try:
        stamp = places.stamp_of(task.photo)
        return stamp, task.photo if "://" not in task.photo else _Content(places.read(task.photo), task.photo)
    except OSError as error:
        return Failure(task.photo, f"{task.photo}: cannot be read: {' '.join(str(error).split())}")


def to_json(outcome: Done | Failure) -> str:
    """An outcome as text, which is what Ray carries cheapest."""
    values = {"source": outcome.source, "message": outcome.message} if isinstance(outcome, Failure) else vars(outcome)
    return json.dumps(values)


def from_json(text: str) -> Done | Failure:
    """The outcome that `to_json` wrote."""
    values = json.loads(text)
    if "message" in values:
        return Failure(**values)
    if values["size"]:
        values["size"] = tuple(values["size"])
    return Done(**values)


def _ignore(_: float) -> None:
    pass
