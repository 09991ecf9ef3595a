"""Labels as polygons that give the labels back.

The outlines run along the pixels' edges, not through their centres: a pixel in column x and row y is the
square from (x, y) to (x + 1, y + 1), so every vertex is a pair of whole numbers, a region's polygon has
exactly the region's area, and a pixel's centre lies inside exactly when the pixel has the label. Pixels
that touch only at a corner are not connected: every ring is simple, it never meets itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from atrous.inference.outlines import Ring, trace


@dataclass(frozen=True, eq=False)
class Region:
    """Connected pixels of one class.

    Attributes:
        class_id: the label.
        area: in pixels.
        box: (left, top, width, height).
        exterior: n×2, (x, y); not closed; its signed area (shoelace, x and y as they are) is positive.
        holes: rings of the same kind with negative areas.
        parts: hole-free rings that cover the region exactly, side by side; `exterior` alone if it has no holes.
    """

    class_id: int
    area: int
    box: tuple[int, int, int, int]
    exterior: Ring
    holes: tuple[Ring, ...]
    parts: tuple[Ring, ...]


def find_regions(labels: NDArray[np.uint8], class_count: int, min_area: int, cut: bool) -> Iterator[Region]:
    """Every region of at least `min_area` pixels, by class; `cut` asks for `parts`, else they are empty."""
    for class_id in range(class_count):
        mask = (labels == class_id).view(np.uint8)
        count, numbers, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4, ltype=cv2.CV_32S)
        large = stats[:, cv2.CC_STAT_AREA] >= min_area
        large[0] = False
        if not large.any():
            continue
        if not large[1:].all():
            numbers = np.where(large, np.arange(count, dtype=np.int32), 0)[numbers]
        for number, (exterior, holes) in trace(numbers).items():
            left, top, width, height, area = (int(value) for value in stats[number])
            parts: tuple[Ring, ...] = ()
            if cut and holes:
                own = numbers[top : top + height, left : left + width] == number
                parts = tuple(ring + np.array((left, top), dtype=np.int32) for ring in _cut(own))
            elif cut:
                parts = (exterior,)
            yield Region(class_id, area, (left, top, width, height), exterior, tuple(holes), parts)


def coco(regions: Iterator[Region], classes: Sequence[str], size: tuple[int, int], file_name: str) -> dict[str, Any]:
    """A COCO data set of one image; see `Segmentation.polygons`."""
    return {
        "images": [{"id": 1, "file_name": file_name, "height": size[0], "width": size[1]}],
        "categories": [{"id": index, "name": name, "supercategory": ""} for index, name in enumerate(classes)],
        "annotations": [
            {
                "id": number,
                "image_id": 1,
                "category_id": region.class_id,
                "segmentation": [ring.ravel().tolist() for ring in region.parts],
                "area": region.area,
                "bbox": list(region.box),
                "iscrowd": 0,
            }
            for number, region in enumerate(regions, start=1)
        ],
    }


def geojson(regions: Iterator[Region], classes: Sequence[str]) -> dict[str, Any]:
    """A GeoJSON FeatureCollection; see `Segmentation.polygons`."""
    return {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "properties": {
                    "class": classes[region.class_id],
                    "class_id": region.class_id,
                    "area": region.area,
                },
                "geometry": {
                    "type": "Polygon",
                    "coordinates": [[*ring.tolist(), ring[0].tolist()] for ring in (region.exterior, *region.holes)],
                },
            }
            for region in regions
        ],
    }


def _cut(mask: NDArray[np.bool_]) -> Iterator[Ring]:
    """Rings without holes that cover the mask: it is cut along columns until no hole is left."""
    _, numbers = cv2.connectedComponents(mask.view(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    for number, (exterior, holes) in trace(numbers).items():
        if not holes:
            yield exterior
            continue
        left, top = (int(value) for value in exterior.min(axis=0))
        right, bottom = (int(value) for value in exterior.max(axis=0))
        # A hole's left side, once it is the border, opens the hole; near the middle, the rest halves each time.
        sides = np.array([hole[:, 0].min() for hole in holes])
        column = int(sides[np.abs(sides - (left + right) / 2).argmin()])
        own = numbers[top:bottom, left:right] == number
        for start, part in ((left, own[:, : column - left]), (column, own[:, column - left :])):
            for ring in _cut(np.ascontiguousarray(part)):
                yield ring + np.array((start, top), dtype=np.int32)
