"""Photos too large for the network at once: overlapping tiles, each pixel from the one it lies deepest in."""

from dataclasses import dataclass
from itertools import pairwise

from atrous.errors import AtrousError

AUTOMATIC_ABOVE = 2048 * 2048  # pixels
AUTOMATIC_TILE = 1025
SMALLEST_TILE = 129


@dataclass(frozen=True)
class Tile:
    """Slices of the photo: what the network sees, and the part of that whose labels are kept."""

    seen: tuple[slice, slice]
    kept: tuple[slice, slice]

    @property
    def kept_of_seen(self) -> tuple[slice, slice]:
        """`kept`, counted from the top left of `seen`."""
        (rows, columns), (seen_rows, seen_columns) = self.kept, self.seen
        return (
            slice(rows.start - seen_rows.start, rows.stop - seen_rows.start),
            slice(columns.start - seen_columns.start, columns.stop - seen_columns.start),
        )


def tile_side(tile: int | None, height: int, width: int) -> int:
    """The side of the tiles for a photo, 0 for none.

    Args:
        tile: what was asked for: None chooses by the photo's size, 0 is never, else the side in pixels.

    Raises:
        AtrousError: a tile too small to show the network anything.
    """
    if tile is None:
        return AUTOMATIC_TILE if height * width > AUTOMATIC_ABOVE else 0
    if tile != 0 and tile < SMALLEST_TILE:
        raise AtrousError(f"tile={tile} is too small: give at least {SMALLEST_TILE}, or 0 for no tiles")
    return tile if height > tile or width > tile else 0


def plan_tiles(height: int, width: int, tile: int, stride: int, extra: int) -> list[Tile]:
    """Tiles of at most `tile` pixels a side, a quarter of which overlaps the next, from the top left in rows.

    All begin at multiples of the network's output stride, where the whole photo's coarse logits lie too, and
    need no padding, so that away from the seams a tile is predicted as the whole photo would be. The last
    ones end at the photo's edge, up to a stride short of full size, and so are padded to it.

    Args:
        extra: the pixels beyond whole strides that the network wants a side to have, 0 or 1.
    """
    tile = max(stride, (tile - extra) // stride * stride) + extra
    return [
        Tile((seen_rows, seen_columns), (kept_rows, kept_columns))
        for seen_rows, kept_rows in _spans(height, tile, stride)
        for seen_columns, kept_columns in _spans(width, tile, stride)
    ]


def _spans(side: int, tile: int, stride: int) -> list[tuple[slice, slice]]:
    """Along one side: what each tile sees, and what is kept of it."""
    if side <= tile:
        return [(slice(0, side), slice(0, side))]
    step = max(stride, (tile - tile // 4) // stride * stride)
    last = -(-(side - tile) // stride) * stride
    seen = [slice(start, min(start + tile, side)) for start in [*range(0, last, step), last]]
    # Between two tiles the border runs through the middle of what both see.
    borders = [0, *((after.start + before.stop) // 2 for before, after in pairwise(seen)), side]
    return list(zip(seen, (slice(*ends) for ends in pairwise(borders)), strict=True))
