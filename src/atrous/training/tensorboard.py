"""A run as TensorBoard shows it: scalars and pictures in a folder of event files."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from atrous.errors import AtrousError

_POINTS = 2000  # of the loss, over the whole run


class Board:
    """Writes below `folder`, where TensorBoard is installed; is silent elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer: Any = None
        self._every = 1
        self._shown = 0  # the last step with a point
        self._losses: list[Tensor] = []

    def open(self, step: int, steps: int) -> bool:
        """Goes on behind step `step` of `steps`: what an interrupted run wrote of later ones is no longer shown.

        Returns:
            Whether TensorBoard is installed.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return False
        self._every = max(1, steps // _POINTS)
        self._shown, self._losses = step, []
        with self._writing():
            self._writer = SummaryWriter(self.folder, purge_step=step + 1)
        return True

    def add_loss(self, step: int, loss: Tensor, rates: Mapping[str, float]) -> None:
        """A batch's loss, and the learning rates; a point is the mean since the last one."""
        if self._writer:
            self._losses.append(loss.detach())
            if step % self._every == 0 and step > self._shown:  # several batches may make one step
                self._add_mean(step)
                self.add(step, {f"learning rate/{name}": rate for name, rate in rates.items()})

    def add(self, step: int, values: Mapping[str, float | None]) -> None:
        """Numbers by their names; "group/name" puts several into a group."""
        if self._writer:
            with self._writing():
                for name, value in values.items():
                    if value is not None:
                        self._writer.add_scalar(name, value, step)

    def add_picture(self, step: int, name: str, pictures: list[NDArray[np.uint8]]) -> None:
        """Pictures of one height side by side, uint8 RGB, as a JPEG: the folder is to hold many of them."""
        if not self._writer:
            return
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]

        whole = np.concatenate(pictures, axis=1)
        file = io.BytesIO()
        Image.fromarray(whole).save(file, "JPEG", quality=85)
        height, width, colours = whole.shape
        image = Summary.Image(height=height, width=width, colorspace=colours, encoded_image_string=file.getvalue())
        summary = Summary(value=[Summary.Value(tag=name, image=image)])
        with self._writing():
            self._writer.file_writer.add_summary(summary, step)

    def end_epoch(self, step: int) -> None:
        """Writes what is held back, so that a run resumed here lacks nothing."""
        if self._writer:
            self._add_mean(step)
            with self._writing():
                self._writer.flush()

    def close(self) -> None:
        writer, self._writer = self._writer, None
        if writer:
            with self._writing():
                writer.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Says where nothing could be written, which is told by a later call than the one that wrote.

        Raises:
            AtrousError: in the place of an OSError.
        """
        try:
            yield
        except OSError as error:
            self._writer = None
            raise AtrousError(f"{self.folder}: cannot be written: {error.strerror or error}") from error

    def _add_mean(self, step: int) -> None:
        if self._losses and step > self._shown:
            self.add(step, {"loss": float(torch.stack(self._losses).mean())})
            self._shown, self._losses = step, []
