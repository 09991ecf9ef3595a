"""Tiles: every pixel once, from a tile that sees enough around it; and the labels of the whole photo."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atrous.errors import AtrousError
from atrous.inference import tiles as tiles_module
from atrous.inference.tiles import plan_tiles, tile_side


@settings(deadline=None)
@given(
    height=st.integers(1, 900),
    width=st.integers(1, 900),
    tile=st.integers(129, 400),
    stride=st.sampled_from([8, 16, 32]),
    align_corners=st.booleans(),
)
def test_every_pixel_is_kept_once_from_deep_inside_a_tile(
    height: int, width: int, tile: int, stride: int, align_corners: bool
) -> None:
    kept = np.zeros((height, width), dtype=np.int64)
    for piece in plan_tiles(height, width, tile, stride, align_corners):
        kept[piece.kept] += 1
        for seen, used, side in zip(piece.seen, piece.kept, (height, width), strict=True):
            assert seen.start % stride == 0
            assert seen.stop - seen.start <= tile
            # An eighth of the tile lies around what is kept, except at the photo's own edge.
            assert used.start == 0 or used.start - seen.start >= tile // 8 - stride // 2
            assert used.stop == side or seen.stop - used.stop >= tile // 8 - stride // 2
    assert (kept == 1).all()


@pytest.mark.parametrize("stride", [128, 256])
def test_a_tile_below_the_output_stride_is_one_of_its_size(stride: int) -> None:
    pieces = plan_tiles(700, 600, 129, stride, 1)
    assert {piece.seen[0].stop - piece.seen[0].start for piece in pieces if piece.seen[0].stop < 700} == {stride + 1}
    kept = np.zeros((700, 600), dtype=np.int64)
    for piece in pieces:
        kept[piece.kept] += 1
    assert (kept == 1).all()


def test_all_tiles_are_padded_to_one_size(exact) -> None:
    sizes = {
        exact._network.padded(*(s.stop - s.start for s in piece.seen))
        for piece in plan_tiles(701, 533, 300, exact.model.output_stride, True)
    }
    assert sizes == {(289, 289)}


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("options", [{}, {"scores": True}, {"flip": True}], ids=str)
@pytest.mark.parametrize("size", [(300, 417), (129, 705), (90, 401), (300, 421)])
def test_tiled_equals_whole_for_a_network_that_sees_less_than_the_overlap(
    make_exact, make_photo, align_corners, options, size
) -> None:
    if "flip" in options:
        # The stride's grid begins at the right edge of what is mirrored: at whole strides it is the tiles' too.
        size = (size[0], size[1] // 16 * 16 + align_corners)
    predictor, photo = make_exact(align_corners), make_photo(*size)
    whole = predictor(photo, tile=0, **options)
    tiled = predictor(photo, tile=161, **options)
    assert len(np.unique(whole.labels)) > 1
    np.testing.assert_array_equal(tiled.labels, whole.labels)
    if "scores" in options:
        np.testing.assert_array_equal(tiled.scores(), whole.scores())


@pytest.mark.parametrize("options", [{"scales": (0.5, 0.8, 1.25)}, {"flip": True}], ids=str)
def test_tiled_agrees_with_whole_where_their_grids_differ(brightness, options) -> None:
    rows, columns = np.indices((300, 421))
    waves = 127 + 60 * np.sin(rows / 30) + 60 * np.cos(columns / 40)
    photo = np.repeat(waves.astype(np.uint8)[..., None], 3, axis=2)
    whole = brightness(photo, tile=0, scores=True, **options).scores()
    tiled = brightness(photo, tile=161, scores=True, **options).scores()
    # Away from the photo's edges, where padding of another width reaches in (from the left into its mirror image).
    np.testing.assert_allclose(tiled[:, :-35, 35:-35], whole[:, :-35, 35:-35], atol=0.01)


def test_large_photos_are_tiled_without_being_asked(exact, make_photo, monkeypatch) -> None:
    photo = make_photo(200, 200)
    monkeypatch.setattr(tiles_module, "AUTOMATIC_TILE", 129)
    shares: list[float] = []
    list(exact.timed_stream([photo], shares.append))
    assert shares == [1.0]
    monkeypatch.setattr(tiles_module, "AUTOMATIC_ABOVE", 200 * 200 - 1)
    for tile, pieces in ((None, 4), (0, 1)):
        shares.clear()
        list(exact.timed_stream([photo], shares.append, tile=tile))
        assert len(shares) == pieces
        assert sum(shares) == pytest.approx(1)


@pytest.mark.parametrize(
    ("height", "width", "tile", "side"),
    [
        (2048, 2048, None, 0),
        (2048, 2049, None, 1025),
        (9, 500_000, None, 1025),
        (5000, 5000, 0, 0),
        (500, 500, 500, 0),
        (500, 501, 500, 500),
    ],
)
def test_when_there_are_tiles(height: int, width: int, tile: int | None, side: int) -> None:
    assert tile_side(tile, height, width) == side


def test_a_tile_too_small_is_refused_before_anything_is_read(exact) -> None:
    with pytest.raises(AtrousError, match=r"tile=100 .* at least 129"):
        exact.stream(["does not exist"], tile=100)


def test_memory_for_a_large_photo_is_its_labels_and_a_few_tiles(exact) -> None:
    photo = np.zeros((1200, 1200, 3), dtype=np.uint8)
    tracemalloc.start()
    try:
        exact(photo, tile=257)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Of numpy: labels are a third of the photo, a tile in float32 a fifth; the photo is copied nowhere.
    assert peak < photo.nbytes
