"""The way from a photo to its labels."""

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, Unpack, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PILImage

from atrous.crf import CRFParams
from atrous.data import ImageSource, describe_source, find_images, read_image
from atrous.errors import AtrousError
from atrous.inference.devices import choose_device
from atrous.inference.engines import check_engine
from atrous.inference.labelling import Keywords, Labelled, Labelling, Options, Progress
from atrous.inference.lanes import lanes_here, side_by_side
from atrous.inference.lookahead import read_ahead
from atrous.inference.network import Image, Network
from atrous.inference.segmentation import Failure, Segmentation
from atrous.models import SegmentationModel
from atrous.weights import ModelCard, open_model, save_model

Result: TypeAlias = Segmentation | Failure

_Read: TypeAlias = tuple[ImageSource, Image | AtrousError]
_Outcome: TypeAlias = tuple[ImageSource, Segmentation | AtrousError, float]


class Predictor:
    """A model, ready to label photos.

    Args:
        model: moved to the device and put in evaluation mode, in place.
        card: its classes, colours and normalisation.
        device: "auto" (CUDA, else MPS, else CPU), "cpu", "cuda", "cuda:1", "mps" or a `torch.device`.
        engine: what computes the coarse logits: "torch" is the model itself in float32, to the bit; "torch-bf16",
            "openvino", "openvino-bf16" and "onnxruntime" run a copy, made when the first photo comes and again when
            the model has changed since; "openvino-int8" rounds to 8 bits, where the card says by which steps: see
            `atrous.export.calibrate`; "auto" measures which is fastest
            here, once, and remembers it; "auto-float32" does so among those in float32.

    Attributes:
        model: the network: normalised N×3×H×W in, N×K×H×W logits out.
        card: what goes with it.
        classes: K names, in index order.
        device: where it runs.
        engine: the one that ran last; as it was asked for before any has.

    Raises:
        AtrousError: a device or engine that is not there, or a card that does not fit the model.
    """

    def __init__(
        self,
        model: SegmentationModel,
        card: ModelCard,
        device: str | torch.device = "auto",
        engine: str = "torch",
    ) -> None:
        if len(card.classes) != model.num_classes:
            raise AtrousError(f"the model has {model.num_classes} classes, its card names {len(card.classes)}")
        self.card = card
        self._network = Network(model, card.mean, card.std, choose_device(device), engine, card.quantisation)

    @property
    def model(self) -> SegmentationModel:
        self._network.engine.shared = True
        return self._network.model

    @property
    def device(self) -> torch.device:
        return self._network.device

    @property
    def engine(self) -> str:
        return self._network.engine.name

    @property
    def classes(self) -> tuple[str, ...]:
        return self.card.classes

    @overload
    def __call__(self, source: list[Any] | tuple[Any, ...], **options: Unpack[Keywords]) -> list[Result]: ...
    @overload
    def __call__(
        self, source: bytes | BinaryIO | PILImage.Image | NDArray[Any], **options: Unpack[Keywords]
    ) -> Segmentation: ...
    @overload  # a folder gives a list, which the type of its name cannot say
    def __call__(self, source: str | Path, **options: Unpack[Keywords]) -> Any: ...
    def __call__(
        self,
        source: ImageSource | list[Any] | tuple[Any, ...],
        *,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        tile: int | None = None,
        scores: bool = False,
        batch_size: int = 8,
        crf: bool | str | Path | CRFParams = False,
    ) -> Segmentation | list[Result]:
        """Labels one photo, or many.

        Args:
            source: a path, the bytes of an image file, a binary file object, a PIL image or an array (H×W or
                H×W×3 or ×4); or a list or tuple of these; or a directory, which stands for the images in it.
            scales: the photo is seen at each of these, and the probabilities are averaged.
            flip: it is seen mirrored as well.
            tile: photos with a side of more pixels than this are predicted in overlapping tiles; None does so
                for photos of more than 2048 × 2048 pixels, with tiles of 1025; 0 never does.
            scores: keep the probabilities, K×H×W float32, for `Segmentation.scores()`.
            batch_size: so many photos of one size go through an accelerator together. On the CPU each goes by
                itself, which makes its labels independent of its neighbours; of many, several go side by side on a
                part of the threads each. Their logits have the last bits that so many threads give them.
            crf: refine the labels, and the probabilities if they are kept, by mean-field inference in a fully
                connected CRF over the whole photo (v1 and v2): True for the papers' on VOC, a name or a YAML file as
                for `atrous.crf.parse_crf`, or the parameters.

        Returns:
            A `Segmentation` for one photo. For a list or directory a list in the same order, in which a
            `Failure` (false in a condition) stands for each source that could not be predicted.

        Raises:
            ImageError: the one photo cannot be read.
            AtrousError: an impossible option, a directory without images, or too little memory.
        """
        options = Options(scales, flip, tile, scores, batch_size, crf)
        if isinstance(source, (str, Path)) and os.path.isdir(source):
            source = list(find_images([source]))
        if isinstance(source, (list, tuple)):
            return [_result(outcome) for outcome in self._run(source, options, _ignore)]
        photo = read_image(source)
        [labelled] = Labelling(self._network, options).label([photo], _ignore)
        outcome = self._outcome(source, photo, labelled)
        if isinstance(outcome, AtrousError):
            raise outcome
        return outcome

    def save(self, directory: str | Path, dtype: torch.dtype | None = None) -> Path:
        """Writes the model so that `atrous.load` gives it back; see `atrous.weights.save_model`."""
        return save_model(self.model, self.card, directory, dtype)

    def save_pretrained(self, directory: str | Path, **options: Any) -> None:
        """The same with a model card for the Hugging Face Hub; `options` are huggingface_hub's."""
        from atrous.inference.hub import Published

        Published(self).save_pretrained(directory, **options)

    def push_to_hub(self, repository: str, **options: Any) -> str:
        """Uploads the model to the Hugging Face Hub and returns its address; `options` are huggingface_hub's."""
        from atrous.inference.hub import Published

        return Published(self).push_to_hub(repository, **options)

    @classmethod
    def from_pretrained(cls, source: str | Path, **options: Any) -> "Predictor":
        """A predictor from a directory or from the Hugging Face Hub.

        Args:
            source: the directory, or the model's name there, e.g. "google/deeplabv3_mobilenet_v2_1.0_513".
            options: `device` and `engine`, and huggingface_hub's: `revision`, `token`, `cache_dir`,
                `force_download`, `local_files_only`.

        Raises:
            WeightsError: nothing there, or not a model.
        """
        from atrous.inference.hub import from_hub

        return from_hub(source, **options)

    def stream(
        self,
        sources: Iterable[ImageSource] | str | Path,
        *,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        tile: int | None = None,
        scores: bool = False,
        batch_size: int = 8,
        crf: bool | str | Path | CRFParams = False,
    ) -> Iterator[Result]:
        """Labels photos one after another, in order, reading ahead of the network in threads.

        `sources` may be a directory, which stands for the images in it, or endless: only two batches' worth is read
        ahead, and less if the photos are large; on the CPU up to eight small photos are predicted ahead, by the model
        as it is then. A source that cannot be predicted gives a `Failure` in its place. The options are those of a
        call.

        Raises:
            AtrousError: an impossible option, or one photo where several are expected.
        """
        options = Options(scales, flip, tile, scores, batch_size, crf)
        # Not a generator itself, so that an impossible option is told by the call, not by the first result.
        return map(_result, self._run(_sources(sources), options, _ignore))

    def timed_stream(
        self, sources: Iterable[ImageSource] | str | Path, progress: Progress, **options: Unpack[Keywords]
    ) -> Iterator[tuple[Result, float]]:
        """As `stream`, each result with the seconds that the photo's prediction took, without its reading.

        The seconds of photos that are predicted side by side are divided by their number.

        Args:
            progress: called with the share of a photo that has been dealt with since the last call: 1.0 for
                a whole one, less for a tile of a large one; a source that cannot be read counts as one too.
            options: those of `stream`.
        """
        return map(_timed, self._run(_sources(sources), Options(**options), progress))

    def _run(self, sources: Iterable[ImageSource], options: Options, progress: Progress) -> Iterator[_Outcome]:
        labelling = Labelling(self._network, options)

        def predict(batch: list[_Read]) -> tuple[list[Labelled | AtrousError], float, list[float]]:
            photos = [read for _, read in batch if not isinstance(read, AtrousError)]
            done: list[float] = []
            begun = time.perf_counter()
            # What the caller gave is called on the caller's thread.
            outcomes = labelling.label(photos, done.append if lanes_here() > 1 else progress) if photos else []
            return outcomes, (time.perf_counter() - begun) / max(1, len(photos)) / lanes_here(), done

        def alone(batch: list[_Read]) -> bool:
            return any(not isinstance(read, AtrousError) and labelling.alone(read) for _, read in batch)

        batches = _batches(read_ahead(sources, read_image, 2 * options.batch_size), labelling)
        for batch, (outcomes, seconds, done) in side_by_side(batches, predict, alone):
            for share in done:
                progress(share)
            while batch:  # emptied as it is handed out, to hold a large photo no longer than the caller does
                source, read = batch.pop(0)
                if isinstance(read, AtrousError):
                    progress(1.0)
                    yield source, read, 0.0
                    continue
                yield source, self._outcome(source, read, outcomes.pop(0)), seconds
                del source, read

    def _outcome(
        self, source: ImageSource, photo: Image, labelled: Labelled | AtrousError
    ) -> Segmentation | AtrousError:
        if isinstance(labelled, AtrousError):
            return AtrousError(f"{describe_source(source)}: {labelled}")
        return Segmentation(
            image=photo,
            labels=labelled.labels,
            classes=self.card.classes,
            palette=self.card.palette,
            source=Path(source) if isinstance(source, (str, Path)) else None,
            probabilities=labelled.probabilities,
        )


def load(
    source: str | Path, device: str | torch.device = "auto", *, engine: str = "torch", **options: Any
) -> Predictor:
    """A predictor from whatever stands for a model; see `atrous.weights.open_model`.

    Args:
        source: a bundled or published model's name (the latter is fetched once), a directory or file that Atrous
            wrote, or another project's checkpoint.
        device, engine: as for `Predictor`.
        options: `classes` (names, or "voc", "cityscapes", "ade20k"), `progress` (a callback for bytes that are
            fetched), and what a checkpoint does not tell, as for `create_model`, e.g. `output_stride=8`.

    Raises:
        WeightsError: nothing there, not a model, or one that cannot be carried over faithfully.
        AtrousError: a device or engine that is not there.
    """
    chosen = choose_device(device)  # before the seconds that loading takes
    check_engine(engine, chosen)
    opened = open_model(source, **options)
    predictor = Predictor(opened.model, opened.card, chosen, engine)
    predictor._network.engine.shared = False  # until someone asks for `predictor.model`
    return predictor


def _batches(reads: Iterable[_Read], labelling: Labelling) -> Iterator[list[_Read]]:
    """Consecutive photos that go through the network together, and the unreadable ones between them."""
    batch: list[_Read] = []
    kind: object = None
    room = 0  # for more photos in the batch; 0 while it is empty
    for source, read in reads:
        if isinstance(read, AtrousError):
            batch.append((source, read))
        else:
            if room and labelling.kind(read) != kind:
                yield batch
                batch, room = [], 0
            if not room:
                kind, room = labelling.kind(read), labelling.together(read)
            batch.append((source, read))
            room -= 1
        del source, read
        if not room:
            yield batch
            batch = []
    if batch:
        yield batch


def _sources(sources: Iterable[ImageSource] | str | Path) -> Iterable[ImageSource]:
    if isinstance(sources, (str, Path)) and os.path.isdir(sources):
        return find_images([sources])
    if isinstance(sources, (str, Path, bytes, np.ndarray, PILImage.Image)) or hasattr(sources, "read"):
        raise AtrousError(f"{describe_source(sources)}: is one photo: call the predictor with it, or give a list")
    if isinstance(sources, Sequence):
        return sources
    # What gives one array after another may use its memory again for the next, while this one waits.
    return (source.copy() if isinstance(source, np.ndarray) else source for source in sources)


def _result(outcome: _Outcome) -> Result:
    source, result, _ = outcome
    return Failure(source, str(result)) if isinstance(result, AtrousError) else result


def _timed(outcome: _Outcome) -> tuple[Result, float]:
    return _result(outcome), outcome[2]


def _ignore(_: float) -> None:
    pass
