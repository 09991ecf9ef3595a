"""Names for a checkpoint's classes, of which it holds the number alone.

21 are PASCAL VOC's, 19 Cityscapes', 150 ADE20K's and 182 COCO-Stuff's unless its user says otherwise. TensorFlow's
ADE20K models have 151: index 0 is what is not labelled, which they never learn to say (`num_classes=151,
ignore_label=0` in their `data_generator.py`).
"""

from typing import Any

from atrous.classes import known_classes, label_colours
from atrous.weights.card import ModelCard

_BY_COUNT = {21: "voc", 19: "cityscapes", 150: "ade20k", 151: "ade20k_background", 182: "cocostuff"}


def card_for(num_classes: int, **values: Any) -> ModelCard:
    """A model card that names the classes by their number where a known data set has it, else "class_0" and so on.

    Args:
        values: the card's other fields; `classes` and `palette` among them win.
    """
    guess = _BY_COUNT.get(num_classes)
    if guess is not None:
        classes, palette = known_classes(guess)
    else:
        classes = tuple(f"class_{index}" for index in range(num_classes))
        palette = tuple((int(r), int(g), int(b)) for r, g, b in label_colours(num_classes))
    return ModelCard(**{"classes": classes, "palette": palette, **values})
