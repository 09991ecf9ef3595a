"""The class names and colours of the data sets that published models are trained on.

A checkpoint holds a number of classes, not their names: 21 are PASCAL VOC's, 19 Cityscapes', 150 ADE20K's and 182
COCO-Stuff's unless its user says otherwise. TensorFlow's ADE20K models have 151: index 0 is what is not labelled, which
they never learn to say (`num_classes=151, ignore_label=0` in their `data_generator.py`).
"""

from typing import Any

from atrous.errors import WeightsError
from atrous.weights.card import Colour, ModelCard
from atrous.weights.classes import ade20k, cocostuff
from atrous.weights.classes.colours import label_colours

VOC = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
CITYSCAPES: tuple[tuple[str, Colour], ...] = (
    ("road", (128, 64, 128)),
    ("sidewalk", (244, 35, 232)),
    ("building", (70, 70, 70)),
    ("wall", (102, 102, 156)),
    ("fence", (190, 153, 153)),
    ("pole", (153, 153, 153)),
    ("traffic light", (250, 170, 30)),
    ("traffic sign", (220, 220, 0)),
    ("vegetation", (107, 142, 35)),
    ("terrain", (152, 251, 152)),
    ("sky", (70, 130, 180)),
    ("person", (220, 20, 60)),
    ("rider", (255, 0, 0)),
    ("car", (0, 0, 142)),
    ("truck", (0, 0, 70)),
    ("bus", (0, 60, 100)),
    ("train", (0, 80, 100)),
    ("motorcycle", (0, 0, 230)),
    ("bicycle", (119, 11, 32)),
)


_BY_COUNT = {21: "voc", 19: "cityscapes", 150: "ade20k", 151: "ade20k_background", 182: "cocostuff"}


def known_classes(name: str) -> tuple[tuple[str, ...], tuple[Colour, ...]]:
    """Names and colours of "voc" (21 classes), "cityscapes" (19), "ade20k" (150) or "cocostuff" (182).

    "ade20k_background" (151) has "background" before ADE20K's own.
    """
    if name == "voc":
        return VOC, _colours(len(VOC))
    if name == "cityscapes":
        names, colours = zip(*CITYSCAPES, strict=True)
        return names, colours
    if name == "ade20k":
        return ade20k.NAMES, ade20k.COLOURS
    if name == "ade20k_background":
        return ("background", *ade20k.NAMES), ((0, 0, 0), *ade20k.COLOURS)
    if name == "cocostuff":
        return cocostuff.NAMES, _colours(len(cocostuff.NAMES))
    raise WeightsError(f"no classes are known by the name {name!r}; there are {', '.join(_BY_COUNT.values())}")


def card_for(num_classes: int, **values: Any) -> ModelCard:
    """A model card that names the classes by their number where a known data set has it, else "class_0" and so on.

    Args:
        values: the card's other fields; `classes` and `palette` among them win.
    """
    guess = _BY_COUNT.get(num_classes)
    if guess is not None:
        classes, palette = known_classes(guess)
    else:
        classes, palette = tuple(f"class_{index}" for index in range(num_classes)), _colours(num_classes)
    return ModelCard(**{"classes": classes, "palette": palette, **values})


def _colours(count: int) -> tuple[Colour, ...]:
    return tuple((int(r), int(g), int(b)) for r, g, b in label_colours(count))
