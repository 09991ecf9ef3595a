"""From photos to labels: the right pixels, in the right order, whatever goes wrong in between."""

import gc
import io
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import atrous
from atrous.errors import AtrousError, ImageError
from atrous.inference import Failure, Predictor, Segmentation, labelling, lanes, load
from atrous.inference import lookahead as lookahead_module
from atrous.inference.network import Network
from atrous.models import create_model
from atrous.weights import IMAGENET, ModelCard, save_model

CARD = ModelCard(
    ("road", "sky", "tree", "car"), ((1, 2, 3), (4, 5, 6), (7, 8, 9), (10, 11, 12)), IMAGENET[0], IMAGENET[1]
)
ODD_SIZES = [(1, 1), (1, 37), (53, 1), (17, 17), (16, 16), (40, 65), (97, 130)]


@pytest.fixture(scope="module")
def deeplab() -> Predictor:
    torch.manual_seed(5)
    model = create_model("deeplabv3_mobilenet_v2_050", num_classes=4)
    # Random logits hardly differ; these do, and so do the labels.
    nn.init.normal_(model.logits.weight, std=5.0)
    return Predictor(model, CARD, device="cpu")


def _normalised(predictor: Predictor, photo: np.ndarray) -> Tensor:
    pixels = (photo / 255 - np.array(predictor.card.mean)) / np.array(predictor.card.std)
    return torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None]


def _padded(predictor: Predictor, x: Tensor) -> Tensor:
    stride, extra = predictor.model.output_stride, int(predictor.model.align_corners)
    height, width = x.shape[-2:]
    right, below = (-(width - extra) % stride, -(height - extra) % stride)
    return F.pad(x, (0, right, 0, below))


def _full_logits(predictor: Predictor, x: Tensor) -> Tensor:
    """The plain way: pad, upsample to the padded size, cut."""
    padded = _padded(predictor, x)
    with torch.inference_mode():
        full = F.interpolate(
            predictor.model.coarse_logits(padded),
            padded.shape[-2:],
            mode="bilinear",
            align_corners=predictor.model.align_corners,
        )
    return full[..., : x.shape[-2], : x.shape[-1]]


@pytest.mark.parametrize("size", ODD_SIZES)
@pytest.mark.parametrize("align_corners", [True, False])
def test_labels_are_those_of_the_padded_and_upsampled_photo(make_exact, make_photo, size, align_corners) -> None:
    predictor, photo = make_exact(align_corners), make_photo(*size)
    result = predictor(photo)
    expected = _full_logits(predictor, _normalised(predictor, photo)).argmax(1)[0]
    assert result.labels.dtype == np.uint8
    np.testing.assert_array_equal(result.labels, expected.numpy())


@pytest.mark.parametrize("size", ODD_SIZES)
def test_deeplab_labels_odd_sizes_as_plain_torch_does(deeplab, make_photo, size) -> None:
    photo = make_photo(*size)
    expected = _full_logits(deeplab, _normalised(deeplab, photo)).argmax(1)[0]
    assert (deeplab(photo).labels == expected.numpy()).mean() > 0.999


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("size", ODD_SIZES)
def test_scores_are_the_softmax_and_labels_their_argmax(make_exact, make_photo, size, align_corners) -> None:
    predictor, photo = make_exact(align_corners), make_photo(*size)
    with torch.no_grad():
        predictor.model.second.mul_(1 / 4096)  # logits of a few units: probabilities that are not all 0 or 1
    result = predictor(photo, scores=True)
    scores = result.scores()
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores.sum(0), 1, rtol=1e-5)
    np.testing.assert_array_equal(scores.argmax(0), result.labels)
    expected = _full_logits(predictor, _normalised(predictor, photo)).softmax(1)[0]
    np.testing.assert_allclose(scores, expected.numpy(), atol=1e-4)


def test_without_asking_there_are_no_scores(exact, make_photo) -> None:
    with pytest.raises(AtrousError, match="scores=True"):
        exact(make_photo(20, 20)).scores()


@pytest.mark.parametrize("size", [(33, 50), (1, 1), (1, 40), (64, 64)])
@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 1.5)])
def test_with_flip_a_mirrored_photo_gives_mirrored_labels(exact, make_photo, size, scales) -> None:
    photo = make_photo(*size)
    straight = exact(photo, flip=True, scales=scales, scores=True)
    mirrored = exact(photo[:, ::-1], flip=True, scales=scales, scores=True)
    np.testing.assert_array_equal(mirrored.labels[:, ::-1], straight.labels)
    # Logits here are in the thousands: resizing rounds some of them by a few 1e-4.
    tolerance = 0 if scales == (1.0,) else 1e-3
    np.testing.assert_allclose(mirrored.scores()[..., ::-1], straight.scores(), rtol=0, atol=tolerance)


def test_flip_changes_the_labels_of_a_photo_that_padding_makes_lopsided(exact, make_photo) -> None:
    # Otherwise the test above would hold without any flip.
    photo = make_photo(33, 50)
    plain = exact(photo).labels
    assert (plain != exact(photo[:, ::-1]).labels[:, ::-1]).any()
    assert (plain != exact(photo, flip=True).labels).any()


def test_scales_and_flip_average_the_softmax_as_the_papers_code_does(deeplab, make_photo) -> None:
    # 65 × 97 and its scaled sizes are all of the form 16k + 1: nothing is padded, and plain torch says it all.
    photo = make_photo(65, 97)
    x = _normalised(deeplab, photo)
    views = []
    for scale, size in ((0.5, (33, 49)), (1.0, (65, 97)), (1.5, (97, 145))):
        scaled = F.interpolate(x, size, mode="bilinear", align_corners=True)
        assert size == (int(64 * scale + 1), int(96 * scale + 1))
        for mirrored in (False, True):
            with torch.inference_mode():
                coarse = deeplab.model.coarse_logits(scaled.flip(3) if mirrored else scaled)
            full = F.interpolate(coarse, (65, 97), mode="bilinear", align_corners=True).softmax(1)
            views.append(full.flip(3) if mirrored else full)
    expected = torch.stack(views).mean(0)[0].numpy()
    result = deeplab(photo, scales=(0.5, 1.0, 1.5), flip=True, scores=True)
    np.testing.assert_allclose(result.scores(), expected, atol=2e-4)
    assert (expected != deeplab(photo, scores=True).scores()).any()


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("scale", [0.5, 0.77, 1.0, 1.3, 2.0])
def test_a_ramp_comes_back_in_its_place_at_every_scale(brightness, scale, flip) -> None:
    # Bilinear interpolation is exact on a ramp, so that any shift of half a pixel in the geometry would show.
    columns = np.arange(203)
    photo = np.broadcast_to(columns[None, :, None], (150, 203, 3)).astype(np.uint8)
    light = brightness(photo, scales=(scale,), flip=flip, scores=True).scores()[0]
    logits = np.log(light / (1 - light))
    expected = (columns / 255 - 0.5) / 0.5
    # Padding reaches in from the right, and with flip from the left, by one coarse cell.
    margin = int(np.ceil(16 / scale)) + 1
    inside = slice(margin, -margin)
    np.testing.assert_allclose(
        logits[:-margin, inside], np.broadcast_to(expected[inside], logits[:-margin, inside].shape), atol=2e-3
    )


def test_a_batch_gives_the_labels_of_single_photos(deeplab, make_photo) -> None:
    sizes = [(65, 97), (65, 97), (60, 90), (33, 33), (1, 5), (65, 97), (64, 96)]
    photos = [make_photo(*size, seed=index) for index, size in enumerate(sizes)]
    for options in ({}, {"flip": True, "scales": (0.75, 1.0)}):
        together = deeplab(photos, batch_size=4, **options)
        for photo, result in zip(photos, together, strict=True):
            np.testing.assert_array_equal(result.labels, deeplab(photo, **options).labels)
            assert np.shares_memory(result.image, photo)


def test_an_accelerators_batch_gives_the_labels_of_single_photos(exact, make_photo, monkeypatch) -> None:
    sizes = [(65, 97), (60, 90), (50, 96), (65, 97), (33, 33), (33, 33)]
    photos = [make_photo(*size, seed=index) for index, size in enumerate(sizes)]
    options = ({}, {"scores": True}, {"flip": True})
    single = [[exact(photo, **each).labels for photo in photos] for each in options]
    monkeypatch.setattr(Network, "one_by_one", False)
    batches: list[int] = []
    coarse_logits = exact.model.coarse_logits
    monkeypatch.setattr(
        exact.model, "coarse_logits", lambda x: (batches.append(len(x)), coarse_logits(x))[1], raising=False
    )
    for each, labels in zip(options, single, strict=True):
        results = exact(photos, batch_size=3, **each)
        for result, expected in zip(results, labels, strict=True):
            np.testing.assert_array_equal(result.labels, expected)
    # Plain: three of one padded size, a fourth of it, two small ones. Averaged: only photos of one size.
    assert batches == [3, 1, 2] + [1, 1, 1, 1, 2] + [1, 1] * 4 + [2, 2]


@pytest.fixture
def png(make_photo, tmp_path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(make_photo(40, 60)).save(path)
    return path


def test_every_kind_of_source_gives_the_same_labels(exact, png, make_photo) -> None:
    expected = exact(make_photo(40, 60)).labels
    sources = {
        "text": str(png),
        "path": png,
        "bytes": png.read_bytes(),
        "buffer": io.BytesIO(png.read_bytes()),
        "pillow": Image.open(png),
        "array": make_photo(40, 60),
    }
    with png.open("rb") as file:
        sources["file"] = file
        results = {name: exact(source) for name, source in sources.items()}
    for name, result in results.items():
        assert isinstance(result, Segmentation)
        np.testing.assert_array_equal(result.labels, expected, err_msg=name)
        assert result.source == (png if name in ("text", "path") else None)
    for several in ([png, str(png)], (png,)):
        for result in exact(several):
            np.testing.assert_array_equal(result.labels, expected)


def test_a_directory_is_all_the_images_in_it(exact, make_photo, tmp_path) -> None:
    for index, name in enumerate(("b.png", "a.png", "c.bmp")):
        Image.fromarray(make_photo(20 + index, 30)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a photo")
    for folder in (tmp_path, str(tmp_path)):
        results = exact(folder)
        assert [result.source.name for result in results] == ["a.png", "b.png", "c.bmp"]
        assert [len(result.labels) for result in results] == [21, 20, 22]


def test_an_empty_directory_is_said_to_be(exact, tmp_path) -> None:
    with pytest.raises(AtrousError, match=tmp_path.name):
        exact(tmp_path)


def test_a_failure_keeps_its_place_and_the_rest_goes_on(exact, png, tmp_path, make_photo) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(png.read_bytes()[:200])
    sources = [make_photo(21, 20), broken, b"no image", make_photo(22, 20), tmp_path / "missing.jpg", png]
    for batch_size in (1, 8):
        results = exact(sources, batch_size=batch_size)
        assert [bool(result) for result in results] == [True, False, False, True, False, True]
        assert [len(result.labels) for result in results if result] == [21, 22, 40]
        failures = [result for result in results if not result]
        assert all(isinstance(failure, Failure) for failure in failures)
        assert [failure.source for failure in failures] == [broken, b"no image", tmp_path / "missing.jpg"]
        assert "broken.png" in failures[0].message
        assert "missing.jpg" in failures[2].message
        assert all("\n" not in failure.message for failure in failures)


def test_one_photo_that_cannot_be_read_raises(exact, tmp_path) -> None:
    with pytest.raises(ImageError, match=r"missing\.jpg"):
        exact(tmp_path / "missing.jpg")


def test_the_callers_array_is_only_read(exact, make_photo) -> None:
    photo = make_photo(50, 70)
    before = photo.copy()
    photo.flags.writeable = False
    for options in ({}, {"flip": True, "scales": (0.5, 1.0)}, {"tile": 129, "scores": True}):
        exact(photo, **options)
        exact([photo, photo[::-1, ::-1]], **options)
    np.testing.assert_array_equal(photo, before)


def test_a_stream_takes_from_an_endless_source_only_what_it_needs(exact, make_photo) -> None:
    taken = 0

    def camera():
        nonlocal taken
        while True:
            taken += 1
            yield make_photo(20 + taken, 30)

    results = exact.stream(camera(), batch_size=2)
    assert [len(next(results).labels) for _ in range(5)] == [21, 22, 23, 24, 25]
    assert taken <= 5 + 2 * 2 + 2 * lanes.most_here() + 1


def test_a_large_photo_is_gone_before_the_next_is_read(exact, make_photo, monkeypatch) -> None:
    monkeypatch.setattr(lookahead_module.read_ahead, "__defaults__", (100,))  # pixels
    monkeypatch.setattr(labelling, "_ALONE_PIXELS", 100)
    alive: list[int] = []
    photos: list[weakref.ref[np.ndarray]] = []

    def sources():
        for index in range(4):
            gc.collect()
            alive.append(sum(photo() is not None for photo in photos))
            photo = make_photo(30, 30, seed=index)
            photos.append(weakref.ref(photo))
            yield Image.fromarray(photo)
            del photo

    def read(image: Image.Image) -> np.ndarray:
        array = np.array(image)
        photos[-1] = weakref.ref(array)
        return array

    monkeypatch.setattr("atrous.inference.predictor.read_image", read)
    for result in exact.stream(sources()):
        del result
    assert alive == [0, 0, 0, 0]


def test_progress_adds_up_to_the_number_of_sources(exact, make_photo) -> None:
    shares: list[float] = []
    timed = exact.timed_stream([make_photo(300, 300), b"no", make_photo(20, 20)], shares.append, tile=129)
    results = list(timed)
    assert len(shares) == 9 + 2  # tiles begin at 0, 96 and 176
    assert sum(shares) == pytest.approx(3)
    assert [seconds > 0 for _, seconds in results] == [True, False, True]


@pytest.mark.parametrize("batched", [False, True])
def test_too_little_memory_fails_the_photo_and_not_the_rest(exact, make_photo, monkeypatch, batched) -> None:
    monkeypatch.setattr(Network, "one_by_one", not batched)
    coarse_logits = exact.model.coarse_logits

    def limited(x: Tensor) -> Tensor:
        if x.numel() > 3 * 100 * 100:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to ...")
        return coarse_logits(x)

    monkeypatch.setattr(exact.model, "coarse_logits", limited, raising=False)
    small = [make_photo(80, 80, seed=seed) for seed in range(3)]
    results = exact([*small, make_photo(200, 200), *small])
    assert [bool(result) for result in results] == [True] * 3 + [False] + [True] * 3
    assert "200 × 200 pixels" in results[3].message
    with pytest.raises(AtrousError, match="tile"):
        exact(make_photo(200, 200))


def test_other_faults_of_a_model_are_not_hidden(exact, make_photo, monkeypatch) -> None:
    def broken(x: Tensor) -> Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(exact.model, "coarse_logits", broken, raising=False)
    with pytest.raises(RuntimeError, match="mat1"):
        exact([make_photo(20, 20)])


def test_a_model_left_in_training_mode_predicts_as_before(deeplab, make_photo) -> None:
    photo = make_photo(40, 40)
    before = deeplab(photo).labels
    deeplab.model.train()
    np.testing.assert_array_equal(deeplab(photo).labels, before)


@pytest.mark.parametrize("device", ["warp", "cuda:x", ""])
def test_an_unknown_device_is_one_line(brightness, device) -> None:
    with pytest.raises(AtrousError, match="unknown: give auto, cpu, cuda") as caught:
        Predictor(brightness.model, brightness.card, device=device)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("device", ["cuda:99", "meta", "xla"])
def test_a_device_that_is_not_there_names_those_that_are(brightness, device) -> None:
    with pytest.raises(AtrousError, match="not available here: give auto, or one of cpu"):
        Predictor(brightness.model, brightness.card, device=device)


def test_auto_takes_the_fastest_that_there_is(brightness) -> None:
    predictor = Predictor(brightness.model, brightness.card)
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert predictor.device.type == best


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": ()}, "scales is empty"),
        ({"scales": (1.0, 0.0)}, "scale 0 "),
        ({"scales": (-1,)}, "scale -1 "),
        ({"scales": (float("nan"),)}, "scale nan "),
        ({"scales": (100,)}, "scale 100 "),
        ({"tile": 12}, "tile=12 "),
        ({"tile": -1}, "tile=-1 "),
        ({"batch_size": 0}, "batch_size=0 "),
        ({"scales": 1.0}, "scales=1.0: give numbers in a tuple"),
        ({"scales": "1"}, "scales='1': give numbers in a tuple"),
        ({"scales": ("1",)}, "scales: '1' is no number"),
        ({"tile": 150.5}, "tile=150.5: give a whole number"),
        ({"batch_size": "2"}, "batch_size='2': give a whole number"),
        ({"crf": 5}, "crf=5: give True, a name, a YAML file or CRFParams"),
    ],
)
def test_impossible_options_are_told_by_the_call(exact, options, message) -> None:
    with pytest.raises(AtrousError, match=message):
        exact([], **options)
    with pytest.raises(AtrousError, match=message):
        exact.stream([], **options)


def test_a_stream_takes_a_folder_and_no_lone_photo(exact, make_photo, tmp_path) -> None:
    for name in ("a", "b"):
        Image.fromarray(make_photo(20, 30)).save(tmp_path / f"{name}.png")
    assert [result.source.name for result in exact.stream(str(tmp_path))] == ["a.png", "b.png"]
    for alone in (str(tmp_path / "a.png"), tmp_path / "a.png", make_photo(20, 30), b"bytes"):
        with pytest.raises(AtrousError, match="is one photo: call the predictor with it, or give a list"):
            exact.stream(alone)


def test_a_crf_may_be_a_files_path(exact, make_photo, tmp_path) -> None:
    (tmp_path / "crf.yaml").write_text("bilateral_weight: 5\n")
    refined = exact(make_photo(20, 30), crf=tmp_path / "crf.yaml")
    assert (refined.labels == exact(make_photo(20, 30), crf=str(tmp_path / "crf.yaml")).labels).all()


def test_a_card_of_another_model_is_refused(brightness) -> None:
    with pytest.raises(AtrousError, match="2 classes, its card names 4"):
        Predictor(brightness.model, CARD, device="cpu")


def test_a_saved_model_predicts_the_same_labels(deeplab, make_photo, tmp_path) -> None:
    folder = save_model(deeplab.model, deeplab.card, tmp_path / "saved")
    photo = make_photo(70, 90)
    expected = deeplab(photo).labels
    for source in (folder, str(folder), folder / "model.safetensors"):
        again = load(source, device="cpu")
        assert again.classes == CARD.classes
        np.testing.assert_array_equal(again(photo).labels, expected)
    np.testing.assert_array_equal(atrous.load(folder)(photo).labels, expected)


def test_a_generator_may_use_its_array_again(exact, make_photo):
    """As a camera's loop does, which captures into one buffer."""
    frames = [make_photo(40, 50, seed=seed) for seed in range(6)]

    def capture():
        buffer = np.empty_like(frames[0])
        for frame in frames:
            buffer[:] = frame
            yield buffer

    for frame, result in zip(frames, exact.stream(capture()), strict=True):
        np.testing.assert_array_equal(result.labels, exact(frame).labels)
        np.testing.assert_array_equal(result.image, frame)


def test_scales_may_come_from_a_generator(exact, make_photo):
    photo = make_photo(40, 50)
    found = exact(photo, scales=(scale for scale in (0.5, 1.0)))
    np.testing.assert_array_equal(found.labels, exact(photo, scales=(0.5, 1.0)).labels)
