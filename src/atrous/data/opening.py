"""A data set by its folder, whichever of the known ways it is laid out in."""

from pathlib import Path

from atrous.data.dataset import SegmentationDataset
from atrous.data.layouts.ade20k import ADE20K
from atrous.data.layouts.camvid import ORIGINAL, TUTORIAL
from atrous.data.layouts.cityscapes import CITYSCAPES
from atrous.data.layouts.coco_json import COCO
from atrous.data.layouts.cocostuff import COCO_STUFF
from atrous.data.layouts.folder import FOLDER, WHOLE
from atrous.data.layouts.layout import Layout
from atrous.data.layouts.voc import VOC
from atrous.errors import DataError

LAYOUTS: tuple[Layout, ...] = (VOC, CITYSCAPES, ADE20K, COCO_STUFF, TUTORIAL, ORIGINAL, COCO, FOLDER)
"""In the order in which they are tried: what asks for more comes first."""


def open_dataset(path: str | Path, split: str) -> SegmentationDataset:
    """One split of the data set in a folder.

    The folder is recognised by what lies in it: PASCAL VOC 2012 (with SBD), Cityscapes, ADE20K, COCO-Stuff, CamVid,
    or any with `images/` and `masks/` or annotations. The result's `layout` says what it was taken for.

    Raises:
        DataError: no such folder, layout or split, or a photo without a mask.
    """
    root = Path(path)
    layout = recognise(root)
    splits = layout.splits(root)
    if split not in splits:
        mend = ""
        if splits == (WHOLE,):
            mend = ": write train.txt and val.txt, one photo a line, or let `atrous data split` do it"
        raise DataError(f"{root}: has no split {split!r}; as {layout.name} it has {', '.join(splits)}{mend}")
    dataset = layout.open(root, split)
    dataset.require_masks()
    return dataset


def list_splits(path: str | Path) -> tuple[str, ...]:
    """The names of a data set's splits.

    Raises:
        DataError: no such folder, or none that is known.
    """
    root = Path(path)
    return recognise(root).splits(root)


def recognise(root: Path) -> Layout:
    """What a folder is laid out as.

    Raises:
        DataError: no such folder, or none that is known.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such directory")
    for layout in LAYOUTS:
        if layout.splits(root):
            return layout
    if (root / "images").is_dir():
        raise DataError(f"{root / 'images'}: holds no images, nor folders with images")
    raise DataError(
        f"{root}: no known data set; it holds neither images/ and masks/, nor PASCAL VOC, Cityscapes, ADE20K, "
        "COCO-Stuff, CamVid, or COCO's annotations"
    )
