"""The weights and widths of the papers' two kernels, by value, by name or from a file."""

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import yaml

from atrous.errors import AtrousError


@dataclass(frozen=True)
class CRFParams:
    """k = w1 exp(-|Δp|² / 2a² - |ΔI|² / 2b²) + w2 exp(-|Δp|² / 2g²) (v1, section 4.2; v2, section 3.3).

    Attributes:
        gaussian_weight: w2.
        gaussian_sxy: g, in pixels; sigma gamma in the papers.
        bilateral_weight: w1.
        bilateral_sxy: a, in pixels; sigma alpha.
        bilateral_srgb: b, in steps of 0..255; sigma beta.

    Raises:
        AtrousError: a weight below zero, a width that is not above it, or a value that is not finite.
    """

    gaussian_weight: float = 3.0
    gaussian_sxy: float = 3.0
    bilateral_weight: float = 4.0
    bilateral_sxy: float = 67.0
    bilateral_srgb: float = 3.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise AtrousError(f"{name}={value!r} is not a finite number")
            if value < 0 or (value == 0 and not name.endswith("weight")):
                least = "0 or more" if name.endswith("weight") else "more than 0"
                raise AtrousError(f"{name}={value:g} is out of range: give {least}")


# As the authors' released scripts and the projects named have them; the papers fix w2 = g = 3.
NAMED = {
    "voc": CRFParams(3, 3, 4, 67, 3),  # v2, ResNet-101
    "v1-vgg16": CRFParams(3, 3, 5, 50, 10),  # vgg128_noup
    "v1-large-fov": CRFParams(3, 3, 4, 49, 5),
    "v1-msc": CRFParams(3, 3, 3, 95, 3),
    "v1-coco": CRFParams(3, 3, 5, 67, 3),
    "refine-pascal": CRFParams(3, 3, 5, 70, 5),  # what the released refinement program takes by itself
    "camvid": CRFParams(3, 3, 5, 50, 3),  # a fork of the released code, for CamVid
    "kazuto1011": CRFParams(3, 1, 4, 67, 3),  # whose g is 1
    "pydensecrf": CRFParams(3, 3, 10, 80, 13),  # its README's example
}


def parse_crf(text: str) -> CRFParams:
    """Parameters by a name, e.g. "voc", or from a YAML file of `CRFParams`' names, as `atrous crf fit` writes it.

    Raises:
        AtrousError: neither a name nor a file, or a file with something else in it.
    """
    if text in NAMED:
        return NAMED[text]
    path = Path(text)
    if not path.is_file():
        raise AtrousError(f"crf {text!r}: neither a file nor one of {', '.join(NAMED)}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise AtrousError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    names = [field.name for field in fields(CRFParams)]
    unknown = sorted(map(str, set(values) - set(names))) if isinstance(values, dict) else ["something else"]
    if unknown:
        raise AtrousError(f"{path}: holds {unknown[0]}; the parameters of a CRF are {', '.join(names)}")
    try:
        return CRFParams(**values)
    except AtrousError as error:
        raise AtrousError(f"{path}: {error}") from error
