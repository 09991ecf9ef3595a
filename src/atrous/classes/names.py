"""The class names and colours of the published data sets, by the data set's name."""

from atrous.classes import ade20k, cocostuff
from atrous.classes.colours import label_colours
from atrous.errors import AtrousError

Colour = tuple[int, int, int]

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

# The grouping of CamVid's 32 classes into 11, and its colours, are SegNet's (Badrinarayanan et al., PAMI 2017).
CAMVID: tuple[tuple[str, Colour], ...] = (
    ("Sky", (128, 128, 128)),
    ("Building", (128, 0, 0)),
    ("Pole", (192, 192, 128)),
    ("Road", (128, 64, 128)),
    ("Pavement", (60, 40, 222)),
    ("Tree", (128, 128, 0)),
    ("SignSymbol", (192, 128, 128)),
    ("Fence", (64, 64, 128)),
    ("Car", (64, 0, 128)),
    ("Pedestrian", (64, 64, 0)),
    ("Bicyclist", (0, 128, 192)),
)

NAMES = ("voc", "cityscapes", "ade20k", "ade20k_background", "cocostuff", "camvid")


def known_classes(name: str) -> tuple[tuple[str, ...], tuple[Colour, ...]]:
    """Names and colours of "voc" (21 classes), "cityscapes" (19), "ade20k" (150), "cocostuff" (182) or "camvid" (11).

    "ade20k_background" (151) has "background" before ADE20K's own.

    Raises:
        AtrousError: another name.
    """
    if name == "voc":
        return VOC, _colours(len(VOC))
    if name == "cityscapes":
        return _apart(CITYSCAPES)
    if name == "camvid":
        return _apart(CAMVID)
    if name == "ade20k":
        return ade20k.NAMES, ade20k.COLOURS
    if name == "ade20k_background":
        return ("background", *ade20k.NAMES), ((0, 0, 0), *ade20k.COLOURS)
    if name == "cocostuff":
        return cocostuff.NAMES, _colours(len(cocostuff.NAMES))
    raise AtrousError(f"no classes are known by the name {name!r}; there are {', '.join(NAMES)}")


def _apart(classes: tuple[tuple[str, Colour], ...]) -> tuple[tuple[str, ...], tuple[Colour, ...]]:
    names, colours = zip(*classes, strict=True)
    return names, colours


def _colours(count: int) -> tuple[Colour, ...]:
    return tuple((int(r), int(g), int(b)) for r, g, b in label_colours(count))
