"""Whole networks from a photo's array to its labels, against the projects that their weights come from.

    python benchmarks/photo_to_labels.py [--coral FILE.tflite --photos FOLDER] [--labelled FOLDER] [--engine auto]

The same weights on both sides. Ours is `atrous.load` of the file that the project saves; theirs is what its own
documentation shows: torchvision's and smp's networks in eval mode under inference_mode, normalised by torch, upsampled
and argmaxed at the photo's size; LiteRT's interpreter with XNNPACK on the quantised file. Ahead of each photo that is
timed the same side labels one that is not: else it would share the cores with the other side's threads, which go on
looking for work for some milliseconds, and nobody labels every other photo with another library. With LiteRT labels are
compared on natural photos, 24 of the folder: 8-bit rounding is told apart by them alone. How far LiteRT agrees with
itself there, with XNNPACK and without, stands beside it.

torchvision's and smp's networks run a second time in 8 bits, with steps that the very photo shows. Their weights are
random, so that classes nearly tie and labels differ sooner than a trained network's: what 8 bits cost one of those is
measured on `street`, calibrated and judged on the labelled folder as `atrous calibrate` does it.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import atrous
from atrous.data import find_images, open_dataset, read_image
from atrous.export import calibrate
from atrous.export.steps import find_steps
from atrous.weights import IMAGENET
from compare import by_turns, line
from peers import import_peer
from record import record

Photo = NDArray[np.uint8]
SETTLING = 80  # photos of one size, by which OpenVINO has a graph for it alone, as in a folder of them


def photo(height: int, width: int) -> Photo:
    """Blotches of colour: what the photo shows does not change the time."""
    random = np.random.default_rng(0)
    coarse = torch.from_numpy(random.integers(0, 256, (1, 3, height // 16 + 1, width // 16 + 1)).astype(np.float32))
    fine = nn.functional.interpolate(coarse, (height, width), mode="bilinear", align_corners=True)
    return np.ascontiguousarray(fine[0].permute(1, 2, 0).numpy().astype(np.uint8))


def lively(network: nn.Module) -> nn.Module:
    """Random weights under which activations keep their size, so that labels are not all one class."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    with torch.no_grad():
        network.train()
        for _ in range(3):
            network(torch.randn(2, 3, 128, 128))
    return network.eval()


def eager(network: Callable[[Tensor], Any]) -> Callable[[Photo], NDArray[Any]]:
    """As the projects' documentation does it."""
    mean, std = (torch.tensor(each)[:, None, None] for each in IMAGENET)

    def predict(image: Photo) -> NDArray[Any]:
        with torch.inference_mode():
            x = (torch.from_numpy(image).permute(2, 0, 1).float() / 255 - mean) / std
            out = network(x[None])
            return (out["out"] if isinstance(out, dict) else out)[0].argmax(0).numpy()  # type: ignore[no-any-return]

    return predict


def compare(
    image: Photo, ours: atrous.Predictor, theirs: Callable[[Photo], NDArray[Any]], turns: int
) -> dict[str, Any]:
    def mine() -> Any:
        return ours(image).labels

    def other() -> Any:
        return theirs(image)

    for _ in range(SETTLING):
        mine()
    measured: dict[str, Any] = by_turns(mine, other, turns, before=(mine, other))
    same = float((mine() == other()).mean())
    return {**measured, "engine": ours.engine, "same_labels": round(same, 4)}


def torchvisions() -> nn.Module:
    segmentation = import_peer("torchvision").models.segmentation
    return lively(segmentation.deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=21))


def smps() -> nn.Module:
    smp = import_peer("segmentation_models_pytorch")
    return lively(smp.DeepLabV3Plus("mobilenet_v2", encoder_weights=None, classes=21))


def peers(network: nn.Module, side: int, engine: str, turns: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """In float and in 8 bits, against the very network."""
    with tempfile.TemporaryDirectory() as folder:
        torch.save(network.state_dict(), Path(folder) / "network.pth")
        ours = atrous.load(Path(folder) / "network.pth", "cpu", engine=engine)
    image, theirs = photo(side, side), eager(network)
    yield "", compare(image, ours, theirs, turns)
    if torch.cpu._is_vnni_supported():
        yield ", 8 bits", compare(image, in_8_bits(ours, image), theirs, turns)


def in_8_bits(predictor: atrous.Predictor, image: Photo) -> atrous.Predictor:
    card = predictor.card
    steps = find_steps(predictor.model, lambda twin: atrous.Predictor(twin, card, "cpu")(image))
    return atrous.Predictor(predictor.model, replace(card, quantisation=steps), "cpu", "openvino-int8")


def streets(folder: Path) -> dict[str, Any]:
    """`street` in 8 bits against itself in float under OpenVINO, and what `atrous calibrate` says of it."""
    done = calibrate("street", folder)
    ours = atrous.Predictor(done.predictor.model, done.predictor.card, "cpu", "openvino-int8")
    exact = atrous.load("street", "cpu", engine="openvino")
    measured = compare(read_image(open_dataset(folder, "val").images[0]), ours, lambda image: exact(image).labels, 15)
    seen, held_out = done.photos
    miou = [round(each, 4) for each in done.loss.miou or ()]
    return {
        **measured,
        "same_labels": round(done.loss.agreement, 4),
        "miou_8_bits_and_float": miou,
        "photos_calibrated_and_held_out": [seen, held_out],
    }


def corals(file: Path, engine: str, folder: Path) -> dict[str, Any]:
    found = find_images([folder])
    chosen = [found[int(index)] for index in np.linspace(0, len(found) - 1, 24)]
    photos = [cv2.resize(read_image(path), (513, 513)) for path in chosen]
    theirs, without_xnnpack = litert(file), litert(file, xnnpack=False)
    ours = atrous.load(file, "cpu", engine=engine)
    measured = compare(photos[0], ours, theirs, 31)
    expected = [theirs(image) for image in photos]
    same = [float((ours(image).labels == labels).mean()) for image, labels in zip(photos, expected, strict=True)]
    itself = [float((without_xnnpack(image) == labels).mean()) for image, labels in zip(photos, expected, strict=True)]
    return {
        **measured,
        "photos": len(photos),
        "same_labels": round(float(np.mean(same)), 4),
        "same_labels_median": round(float(np.median(same)), 4),
        "litert_without_xnnpack_same_labels": round(float(np.mean(itself)), 4),
    }


def litert(file: Path, xnnpack: bool = True) -> Callable[[Photo], NDArray[Any]]:
    import_peer("ai_edge_litert.interpreter")
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kind = OpResolverType.AUTO if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    threads = torch.get_num_threads()
    interpreter = Interpreter(str(file), num_threads=threads, experimental_op_resolver_type=kind)
    interpreter.allocate_tensors()
    [entry], [result] = interpreter.get_input_details(), interpreter.get_output_details()

    def run(image: Photo) -> NDArray[Any]:
        interpreter.set_tensor(entry["index"], image[None])
        interpreter.invoke()
        return interpreter.get_tensor(result["index"])[0]  # type: ignore[no-any-return]

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coral", type=Path, help="deeplabv3_mnv2_pascal_quant.tflite")
    parser.add_argument("--photos", type=Path, help="a folder of natural photos, which --coral needs")
    parser.add_argument("--labelled", type=Path, help="CamVid's folder, for `street` in 8 bits")
    parser.add_argument("--engine", default="auto")
    arguments = parser.parse_args()
    if arguments.coral and not arguments.photos:
        parser.error("--coral needs --photos FOLDER")
    command = "python benchmarks/photo_to_labels.py --coral FILE --photos FOLDER --labelled FOLDER"
    measured: dict[str, Any] = {"command": command}

    def tell(name: str, found: dict[str, Any], peer: str = "theirs") -> None:
        measured[name] = found
        print(line(name, found, peer), f"({found['same_labels']:.2%} the same labels)", flush=True)

    for name, make, side, turns in (
        ("torchvision deeplabv3_resnet50, 520×520", torchvisions, 520, 5),
        ("smp DeepLabV3Plus mobilenet_v2, 512×512", smps, 512, 9),
    ):
        for bits, found in peers(make(), side, arguments.engine, turns):
            tell(name + bits, found)
    if arguments.coral:
        found = corals(arguments.coral, arguments.engine, arguments.photos)
        tell("LiteRT int8 deeplabv3_mnv2, 513×513", found)
    if arguments.labelled:
        tell("street, 8 bits", streets(arguments.labelled), "in float under OpenVINO")
    print(record("photo_to_labels", measured))


if __name__ == "__main__":
    main()
