"""Any folder with COCO's annotations: in `annotations/`, in the folder itself, or in each split's (Roboflow)."""

from os.path import normpath
from pathlib import Path

from atrous.data.classes import FILE, read_classes
from atrous.data.coco import CocoAnnotations, CocoMasks, coco_classes
from atrous.data.dataset import SegmentationDataset
from atrous.data.layouts.folder import WHOLE, usual_order
from atrous.data.layouts.layout import Layout, photos_in
from atrous.errors import DataError

_ROBOFLOW = "_annotations.coco.json"


def _files(root: Path) -> dict[str, tuple[Path, Path]]:
    """For each split COCO's annotations and the folder of the photos."""
    found: dict[str, tuple[Path, Path]] = {}
    if not root.is_dir() or (root / "masks").is_dir():
        return found
    for path in sorted((*root.glob("annotations/*.json"), *root.glob("*.json"), *root.glob(f"*/{_ROBOFLOW}"))):
        if path.name in (FILE, "config.json") or path.name.startswith(("person_keypoints", "captions", "panoptic")):
            continue
        if any(photo.stem == path.stem for photo in photos_in(path.parent)):
            continue  # Labelme's, of one photo
        inner = path.parent.name if path.name == _ROBOFLOW and path.parent != root else ""
        full = inner or path.stem.removeprefix("instances_")
        places = (root / full, root / "images" / full, root / "images", root)
        folder = next((place for place in places if photos_in(place)), None)
        if folder is not None:
            found[_short(full)] = path, folder
    return found


def _short(split: str) -> str:
    """COCO's own "train2017" as everybody's "train"; Roboflow's "valid" as "val"."""
    names = {"train2017": "train", "val2017": "val", "valid": "val", "annotations": WHOLE, "_annotations.coco": WHOLE}
    return names.get(split, split)


def _splits(root: Path) -> tuple[str, ...]:
    return tuple(sorted(_files(root), key=usual_order))


def _open(root: Path, split: str) -> SegmentationDataset:
    files = _files(root)
    path, folder = files[split]
    annotations = CocoAnnotations(path)
    if (root / FILE).is_file():
        classes = read_classes(root)
    else:
        classes = coco_classes([annotations, *(CocoAnnotations(other) for other, _ in files.values() if other != path)])
    names: dict[Path, str] = {}
    for name in sorted(annotations.photos):
        place = _place(folder, name)
        if place in names and normpath(names[place]) != normpath(name):
            raise DataError(
                f"{path}: names {names[place]} and {name}, of which only {place} is there: keep the right one"
            )
        names.setdefault(place, name)
    reader = CocoMasks(annotations, classes, names)
    return SegmentationDataset(root, split, COCO.name, classes, [(image, path) for image in names], reader)


def _place(folder: Path, name: str) -> Path:
    """A photo by its name in the file, which may lead through folders that are not there."""
    exact, below = folder / name, folder / Path(name).name
    return below if below.is_file() and not exact.is_file() else exact


COCO = Layout("COCO's annotations", _splits, _open)
