"""Results to files, while the next photos are predicted, and to the lines that tell of them."""

import json
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from atrous.cli.outputs import Kind, Photo, name
from atrous.errors import AtrousError
from atrous.inference import Failure, Segmentation

_WRITERS = min(4, os.cpu_count() or 1)
_UNWRITTEN = 16  # results that may wait for the disk
_UNWRITTEN_PIXELS = 1 << 26
_SHOWN = 0.001  # smaller shares are in the JSON alone


@dataclass(frozen=True)
class Written:
    """A photo's files, its (height, width), the classes' shares, and the seconds that its prediction took."""

    photo: Path
    files: dict[Kind, Path]
    size: tuple[int, int]
    areas: Mapping[str, float]
    seconds: float

    def to_json(self) -> str:
        """One line for programs."""
        height, width = self.size
        return json.dumps(
            {
                "input": name(self.photo),
                "outputs": {kind: name(path) for kind, path in self.files.items()},
                "width": width,
                "height": height,
                "milliseconds": round(self.seconds * 1000, 1),
                "areas": self.areas,
            }
        )

    def to_text(self) -> str:
        """One line for a person."""
        height, width = self.size
        areas = ", ".join(f"{what} {share:.1%}" for what, share in self.areas.items() if share >= _SHOWN)
        return f"{name(self.photo)}  {width}×{height}  {self.seconds * 1000:.0f} ms  {areas}"


@dataclass(frozen=True)
class Kept:
    """A photo whose files an earlier run has written."""

    photo: Path


def write_behind(
    photos: Iterable[Photo],
    files: Iterable[dict[Kind, Path]],
    results: Iterator[tuple[Segmentation | Failure, float]],
) -> Iterator[Written | Failure]:
    """Writes files in threads while `results` come in; gives back, in order, what is written and what failed."""
    with ThreadPoolExecutor(_WRITERS, thread_name_prefix="atrous-write") as pool:
        waiting: deque[tuple[int, Future[Written | Failure]]] = deque()
        for photo, targets in zip(photos, files, strict=True):
            result, seconds = next(results)
            pixels = 0 if isinstance(result, Failure) else result.labels.size
            waiting.append((pixels, pool.submit(_write, photo.path, targets, result, seconds)))
            del result  # a large photo goes as soon as it is written
            while waiting and (waiting[0][1].done() or _too_many([pixels for pixels, _ in waiting])):
                yield waiting.popleft()[1].result()
        while waiting:
            yield waiting.popleft()[1].result()


def _too_many(pixels: Sequence[int]) -> bool:
    return len(pixels) > _UNWRITTEN or sum(pixels) > _UNWRITTEN_PIXELS


def _write(photo: Path, files: dict[Kind, Path], result: Segmentation | Failure, seconds: float) -> Written | Failure:
    if isinstance(result, Failure):
        return result
    try:
        for kind, path in files.items():
            result.save(path, kind)
    except (AtrousError, OSError) as error:
        return Failure(photo, f"{photo}: not written: {error}")
    height, width = result.labels.shape
    return Written(photo, files, (height, width), result.areas(), seconds)
