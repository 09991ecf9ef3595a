"""Whatever stands for a model, opened: a name, a directory, a file of ours or of another project."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from atrous.errors import WeightsError
from atrous.models import SegmentationModel
from atrous.weights.convert import Classes, convert_checkpoint, with_classes
from atrous.weights.converted import Converted
from atrous.weights.saved import is_saved, list_bundled, load_model
from atrous.weights.zoo import Progress, ZooEntry, fetch, find_entry, list_zoo


def open_model(
    source: str | Path, *, classes: Classes | None = None, progress: Progress | None = None, **options: Any
) -> Converted:
    """A model by name, from a directory or from a file.

    Args:
        source: in this order, a bundled model's name; a directory or `.safetensors` file that Atrous wrote; another
            project's checkpoint (a file, or a directory of transformers', smp's or timm's); a TensorFlow
            checkpoint's `.index` file, its prefix or its directory; a TFLite DeepLab; a published model's name,
            which is fetched once.
        classes: names for the classes, or a data set's: "voc", "cityscapes", "ade20k".
        progress: called with the bytes that are here and the bytes of the whole while a published model is fetched.
        options: what the file does not tell, as for `create_model`, e.g. `output_stride=8`. A model that Atrous
            wrote, and TFLite, take `output_stride` alone.

    Raises:
        WeightsError: nothing there, or nothing that can be carried over faithfully; the message says why.
    """
    if not isinstance(source, str | os.PathLike):
        raise WeightsError(
            f"{type(source).__name__}: a model is opened by its name, its directory or its file; one that is there "
            "already, with its card, is predicted by Predictor(model, card)"
        )
    if not str(source):
        raise WeightsError("the model's name is empty: give one that `atrous models` lists, a directory or a file")
    entry = None if _exists(source) else find_entry(str(source))
    if entry is None:
        opened = _open(source, options)
    else:
        opened = _published(entry, _open(fetch(entry, progress), {**entry.options, **options}))
    return opened if classes is None else replace(opened, card=with_classes(opened.card, classes))


def _exists(source: str | Path) -> bool:
    path = Path(source)
    return str(source) in list_bundled() or path.exists() or path.with_name(f"{path.name}.index").exists()


def _open(source: str | Path, options: dict[str, Any]) -> Converted:
    if is_saved(source):
        model, card = load_model(source)
        _set_stride(source, model, options)
        found = f"{model.config['name']}, {model.num_classes} classes, output stride {model.output_stride}"
        return Converted(model, card, found)
    path = Path(source)
    if _is_tflite(path):
        from atrous.weights.tflite import load_tflite

        opened = load_tflite(path)
        _set_stride(path, opened.model, options)
        return opened
    if _is_tensorflow(path):
        from atrous.weights.tensorflow import load_tensorflow

        return load_tensorflow(path, **options)
    if not path.exists():
        bundled, published = ", ".join(list_bundled()), ", ".join(entry.name for entry in list_zoo())
        raise WeightsError(
            f"no model {str(source)!r}: neither a directory nor a file, nor a name of a model that comes with Atrous "
            f"({bundled}) or that it can fetch ({published})"
        )
    return convert_checkpoint(path, **options)


def _set_stride(source: str | Path, model: SegmentationModel, options: dict[str, Any]) -> None:
    """For a file that says everything of its network: the one thing that may be chosen still."""
    unknown = [name for name in options if name != "output_stride"]
    if unknown:
        raise WeightsError(f"{source}: the file itself says everything but output_stride: leave {unknown[0]} out")
    if "output_stride" in options:
        model.set_output_stride(options["output_stride"])


def _published(entry: ZooEntry, opened: Converted) -> Converted:
    """With what its project says of it."""
    origin = {"source": entry.source, "url": entry.url, "published": entry.score}
    card = replace(opened.card, licence=entry.licence, provenance={**opened.card.provenance, **origin})
    return replace(opened, card=with_classes(card, entry.classes))


def _is_tflite(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(8)[4:] == b"TFL3"


def _is_tensorflow(path: Path) -> bool:
    if path.is_dir():
        return any(path.glob("*.index")) or (path / "checkpoint").is_file()
    return path.suffix in (".index", ".pb") or ".data-" in path.name or path.with_name(f"{path.name}.index").is_file()
