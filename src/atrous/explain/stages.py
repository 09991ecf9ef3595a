"""The stages that a photo goes through in a model, by the layers that end them."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from torch import nn

from atrous.backbones.resnet import ResNet
from atrous.backbones.vgg import VGG16, Pool
from atrous.explain.aspp import branches_of
from atrous.layers import ASPP, Decoder, FineDecoder
from atrous.models import SegmentationModel
from atrous.models.deeplab_v1 import ConvolutionalClassifier


@dataclass(frozen=True)
class Part:
    """A stage as the model has it.

    Attributes:
        title: for a reader.
        layer: whose output ends it, as in `named_modules`; "" is the coarse logits.
        holds: the names of its layers; a name stands for all beneath it.
        nominal_stride: by how much it would make the map smaller if no stride were taken out.
        text: what the paper has it for.
    """

    title: str
    layer: str
    holds: tuple[str, ...]
    nominal_stride: int = 1
    text: str = ""


def parts_of(model: SegmentationModel) -> list[Part]:
    """The stages of any model of the family, in the order in which they run."""
    return [*_backbone_parts(model.backbone), *_head_parts(model)]


def _backbone_parts(backbone: nn.Module) -> list[Part]:
    if isinstance(backbone, VGG16):
        return _vgg_parts(backbone)
    if isinstance(backbone, ResNet):
        return _resnet_parts(backbone)
    return _block_parts(backbone)


def _vgg_parts(backbone: VGG16) -> list[Part]:
    parts, first, number = [], 0, 1
    for index, layer in enumerate(backbone.features):
        if isinstance(layer, Pool):
            last = isinstance(backbone.pool5a, nn.AvgPool2d) and number == 5
            holds = tuple(f"backbone.features.{place}" for place in range(first, index + 1))
            name = "backbone.pool5a" if last else f"backbone.features.{index}"
            title = f"Block {number}: conv{number}_1 … pool{number}{' and pool5a' if last else ''}"
            parts.append(Part(title, name, (*holds, "backbone.pool5a") if last else holds, 2))
            first, number = index + 1, number + 1
    return parts


def _resnet_parts(backbone: ResNet) -> list[Part]:
    parts = [Part("Stem", "backbone.maxpool", ("backbone.conv1", "backbone.bn1", "backbone.maxpool"), 4)]
    for name, layer in backbone.named_children():
        if name.startswith("layer"):
            stride = prod(unit.nominal_stride for unit in layer.children())  # type: ignore[misc]
            units = len(list(layer.children()))
            title = f"Block {name.removeprefix('layer')}: {units} bottleneck units"
            parts.append(Part(title, f"backbone.{name}", (f"backbone.{name}",), stride))
    return parts


def _block_parts(backbone: nn.Module) -> list[Part]:
    """Of a row of blocks: those between one stride and the next."""
    parts = [Part("Stem", "backbone.stem", ("backbone.stem",), 2)]
    rows: list[list[tuple[int, int]]] = []
    for index, block in enumerate(backbone.blocks):  # type: ignore[arg-type]
        stride = int(block.nominal_stride)
        if stride > 1 or not rows:
            rows.append([])
        rows[-1].append((index, stride))
    for row in rows:
        numbers = [index for index, _ in row]
        title = f"Blocks {numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else f"Block {numbers[0]}"
        holds = tuple(f"backbone.blocks.{index}" for index in numbers)
        parts.append(Part(title, holds[-1], holds, prod(stride for _, stride in row)))
    if getattr(backbone, "last", None) is not None:
        parts.append(Part("Last 1×1 convolution", "backbone.last", ("backbone.last",)))
    return parts


def _head_parts(model: SegmentationModel) -> list[Part]:
    names = {module: name for name, module in model.named_modules()}
    parts = []
    head = getattr(model, "head", None)
    if isinstance(head, ConvolutionalClassifier):
        parts.append(Part("fc6 as a convolution", "head.relu6", ("head.fc6",), text=_FC6))
        parts.append(Part("fc7 as a convolution", "head.relu7", ("head.fc7",), text=_FC7))
    aspp = getattr(model, "aspp", None)
    if aspp is not None:
        for name, branch in branches_of(model).items():
            parts.append(Part(f"ASPP: {name}", names[branch], (names[branch],), text=_branch_text(name, aspp)))
    if isinstance(aspp, ASPP):
        parts.append(Part("ASPP: projection", "aspp.project", ("aspp.project",), text=_PROJECTION))
    for name in ("refine", "middle_decoder", "decoder", "fine_decoder"):
        module = getattr(model, name, None)
        if isinstance(module, Decoder):
            parts += _decoder_parts(name, module)
        elif isinstance(module, FineDecoder):
            parts.append(Part("Corrections at stride 2", name, (name,)))
        elif isinstance(module, nn.Module):
            parts.append(Part("Refinement behind ASPP", name, (name,)))
    text = _SUM if isinstance(aspp, nn.ModuleList) else ""
    parts.append(Part("Logits", "", ("logits", "msc"), text=text))
    return parts


def _decoder_parts(name: str, decoder: Decoder) -> Iterable[Part]:
    yield Part("Decoder: low-level features", f"{name}.low_level", (f"{name}.low_level",), text=_LOW_LEVEL)
    for index in range(len(decoder.fuse)):
        part = f"{name}.fuse.{index}"
        yield Part(f"Decoder: convolution {index + 1}", part, (part,), text=_FUSE if index == 0 else "")


def _branch_text(name: str, aspp: nn.Module) -> str:
    if not isinstance(aspp, ASPP):
        return "One of v2's parallel branches, each with a field of view of its own (section 3.2)."
    if name == "image pooling":
        return (
            "The average over the whole map: at large rates most taps of a 3×3 kernel meet padding, and this is what "
            "still sees the whole photo (v3, section 3.3)."
        )
    return ""


_FC6 = (
    "VGG's first fully connected layer, made a convolution with a rate, so that it sees as far as before on a finer "
    "map (v1, section 3.1). LargeFOV has a 3×3 kernel at rate 12 with 1024 channels in place of 7×7 and 4096 "
    "(section 3.2)."
)
_FC7 = "VGG's second fully connected layer: 1×1."
_PROJECTION = "The branches, concatenated, through a 1×1 convolution (v3, section 3.3)."
_SUM = "The branches' scores, added (v2, section 3.2)."
_LOW_LEVEL = (
    "Features of the backbone at a finer stride, reduced to few channels so that they do not outweigh the encoder's "
    "(v3+, section 3.1)."
)
_FUSE = "The encoder's map, upsampled to the low-level one and concatenated with it, then refined (v3+, section 3.1)."
