"""What a check comes to."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from atrous.data.checking.look import Look
from atrous.data.classes import Classes

Severity: TypeAlias = Literal["wrong", "doubtful", "known"]
"""wrong: training stops at it, or learns something false; doubtful: look at it; known: good to know."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found, in the words that a person is shown.

    Attributes:
        kind: a short name for programs, such as "missing-mask".
        what: what there is, in one line.
        mend: what to do about it, in one line.
        files: those that it was found in; none if it is the data set's as a whole.
        mechanical: whether `mend_dataset` does it.
    """

    kind: str
    severity: Severity
    what: str
    mend: str
    files: tuple[Path, ...] = ()
    mechanical: bool = False


@dataclass(frozen=True)
class SplitSummary:
    """What a split holds, of what could be read.

    Attributes:
        photos: how many there are.
        sizes: how many photos there are of each (height, width).
        pixels: K: how many pixels each class has.
        present: K: in how many masks each class occurs.
        ignored: pixels that do not count.
    """

    photos: int
    sizes: Counter[tuple[int, int]]
    pixels: NDArray[np.int64]
    present: NDArray[np.int64]
    ignored: int

    @property
    def ignored_share(self) -> float:
        total = int(self.pixels.sum()) + self.ignored
        return self.ignored / total if total else 0.0

    def describe_sizes(self) -> str:
        """The most frequent ones, as width×height."""
        sizes = ", ".join(f"{width}×{height}" for (height, width), _ in self.sizes.most_common(3))
        return sizes + (f" and {len(self.sizes) - 3} more" if len(self.sizes) > 3 else "")


@dataclass(frozen=True)
class Report:
    """A data set as it was found.

    Attributes:
        layout: what its folders were taken for.
        looks: by split, what each pair of photo and mask showed.
    """

    root: Path
    layout: str
    classes: Classes
    splits: dict[str, SplitSummary]
    findings: tuple[Finding, ...]
    looks: dict[str, list[Look]] = field(repr=False)

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong; something may still be doubtful."""
        return not any(finding.severity == "wrong" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """All but the looks, for JSON."""
        return {
            "data": str(self.root),
            "layout": self.layout,
            "sound": self.sound,
            "classes": list(self.classes.names),
            "splits": {
                name: {
                    "photos": split.photos,
                    "sizes": {f"{width}×{height}": count for (height, width), count in split.sizes.most_common()},
                    "pixels": dict(zip(self.classes.names, split.pixels.tolist(), strict=True)),
                    "masks_with_class": dict(zip(self.classes.names, split.present.tolist(), strict=True)),
                    "ignored_share": round(split.ignored_share, 6),
                }
                for name, split in self.splits.items()
            },
            "findings": [
                {
                    "kind": finding.kind,
                    "severity": finding.severity,
                    "what": finding.what,
                    "mend": finding.mend,
                    "mechanical": finding.mechanical,
                    "files": [str(path) for path in finding.files],
                }
                for finding in self.findings
            ],
        }
