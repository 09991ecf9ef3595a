"""How far a student says what its teacher said."""

from dataclasses import asdict, dataclass

from atrous.evaluation import Evaluation
from atrous.evaluation.confusion import mean


@dataclass(frozen=True)
class Agreement:
    """Over all pixels of the held-out photos, the teacher's labels as the truth.

    Attributes:
        pixels: the share that has the teacher's class.
        miou: the mean IoU over the classes that occur.
        foreground_iou: of all classes but the background taken as one; None where no class is called "background".
        foreground_miou: the mean IoU over these classes.
    """

    pixels: float
    miou: float
    foreground_iou: float | None
    foreground_miou: float | None

    def to_dict(self) -> dict[str, float | None]:
        return {name: None if value is None else round(value, 4) for name, value in asdict(self).items()}


def agreement(evaluation: Evaluation) -> Agreement:
    """Of an evaluation against the teacher's labels."""
    confusion, scores = evaluation.confusion, evaluation.scores
    if "background" not in confusion.classes:
        return Agreement(scores.pixel_accuracy, scores.miou, None, None)
    ground = confusion.classes.index("background")
    counts = confusion.counts
    either = counts.sum() - counts[ground, ground]
    both = either - (counts[ground].sum() - counts[ground, ground]) - (counts[:, ground].sum() - counts[ground, ground])
    foreground = mean({name: value for name, value in scores.iou.items() if name != "background"})
    return Agreement(scores.pixel_accuracy, scores.miou, float(both / max(1, either)), foreground)
