"""Any folder with photos in `images/` and masks in `masks/`, with or without folders or lists for its splits.

Labelme's annotations may stand for masks: among them, or beside the photos, which then need no `images/`.
"""

from pathlib import Path

from atrous.data.classes import FILE, read_classes
from atrous.data.dataset import MaskReader, SegmentationDataset
from atrous.data.inferred import infer_classes
from atrous.data.labelme import LabelmeMasks, labelme_classes
from atrous.data.layouts.layout import Layout, photos_in, read_names
from atrous.data.masks import PictureMasks
from atrous.errors import DataError

WHOLE = "all"
"""The only split of a folder that has neither sub-folders nor lists."""

USUAL = ("train", "val", "test", "trainval")
"""The splits that lists may name, in their order."""
_ENDINGS = ("_mask", "_masks", "_label", "_labels", "_gt", "_L")  # that tools add to the photo's name
_PICTURES = (".png", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".jpg", ".jpeg")


def _splits(root: Path) -> tuple[str, ...]:
    images = _images(root)
    if images is None:
        return ()
    if folders := [folder.name for folder in _folders(images) if images != root and photos_in(folder)]:
        return tuple(sorted(folders, key=usual_order))
    if not photos_in(images):
        return ()
    return tuple(split for split in USUAL if _list_of(root, split)) or (WHOLE,)


def _images(root: Path) -> Path | None:
    """Where the photos or the splits' folders lie."""
    images = root / "images"
    if images.is_dir():
        # A single folder of that name is no split, but a whole that lists may split.
        return images / WHOLE if [f.name for f in _folders(images) if photos_in(f)] == [WHOLE] else images
    return root if any(photo.with_suffix(".json").is_file() for photo in photos_in(root)) else None


def usual_order(split: str) -> tuple[int, str]:
    return (USUAL.index(split) if split in USUAL else len(USUAL)), split


def _open(root: Path, split: str) -> SegmentationDataset:
    pairs = _pairs(root, split)
    everywhere = (mask for each in _splits(root) for _, mask in _pairs(root, each) if mask.is_file())
    annotated = _annotated([mask for _, mask in pairs if mask.is_file()] or list(everywhere))
    if annotated:
        folders = {mask.parent for photo, mask in pairs if mask.is_file() and mask.parent != photo.parent}
        pairs = [(photo, _annotation(photo, mask, folders)) for photo, mask in pairs]
    if (root / FILE).is_file():
        classes = read_classes(root)
    else:
        masks = (mask for each in _splits(root) for _, mask in _pairs(root, each) if mask.is_file())
        classes = labelme_classes(masks, root) if annotated else infer_classes(masks, root)
    reader: MaskReader = LabelmeMasks(classes) if annotated else PictureMasks(classes)
    name = "a folder with Labelme's annotations" if annotated else FOLDER.name
    return SegmentationDataset(root, split, name, classes, pairs, reader)


def _annotated(masks: list[Path]) -> bool:
    """Whether the masks are annotations, by those that are there."""
    return 2 * sum(mask.suffix == ".json" for mask in masks) > len(masks)


def _annotation(photo: Path, mask: Path, folders: set[Path]) -> Path:
    """A missing mask is called as an annotation would be: in the folder of the others, or beside the photo."""
    if mask.is_file():
        return mask
    return min(folders) / f"{photo.stem}.json" if folders else photo.with_suffix(".json")


def _pairs(root: Path, split: str) -> list[tuple[Path, Path]]:
    photos, folder = _photos(root, split)
    masks = masks_in(folder)

    def mask(photo: Path) -> Path:
        beside = _existing(photo.with_suffix(".json"))
        return masks.get(photo.stem) or beside or folder / f"{photo.stem}.png"

    return [(photo, mask(photo)) for photo in photos]


def _photos(root: Path, split: str) -> tuple[list[Path], Path]:
    """A split's photos, and the folder of their masks."""
    images = _images(root) or root
    if images != root and (images / split).is_dir():
        return photos_in(images / split), root / "masks" / split
    masks = root / "masks"
    if images == root / "images" / WHOLE and (masks / WHOLE).is_dir():
        masks /= WHOLE
    photos = photos_in(images)
    listed = _list_of(root, split)
    if listed is None:
        return photos, masks
    by_name = {name: photo for photo in photos for name in (photo.stem, photo.name)}
    wanted: dict[Path, None] = {}

    def find(entry: str) -> Path | None:
        return by_name.get(Path(entry).name) or by_name.get(Path(entry).stem)

    for entry in read_names(listed, lambda entry: find(entry) is not None):
        photo = find(entry)
        if photo is None:
            raise DataError(f"{listed}: names {entry}, which is not in {images}")
        wanted[photo] = None
    return list(wanted), masks


def _list_of(root: Path, split: str) -> Path | None:
    return _existing(root / f"{split}.txt") or _existing(root / "splits" / f"{split}.txt")


def masks_in(folder: Path) -> dict[str, Path]:
    """A folder's masks by the names of their photos: pictures before annotations, exact names before longer ones."""
    found: dict[str, Path] = {}
    if not folder.is_dir():
        return found
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in (*_PICTURES, ".json")]
    files.sort(key=lambda path: (*_PICTURES, ".json").index(path.suffix.lower()))
    for path in files:
        found.setdefault(path.stem, path)
    for path in files:
        ending = next((ending for ending in _ENDINGS if path.stem.endswith(ending)), "")
        found.setdefault(path.stem.removesuffix(ending), path)
    return found


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None


FOLDER = Layout("a folder of images and masks", _splits, _open)
