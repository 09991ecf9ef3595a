"""The engine of a model that its owner may change at any time."""

import threading
from typing import Any, TypeAlias

import torch
from torch import Tensor

from atrous.inference.engines import auto
from atrous.inference.engines.names import (
    AUTO,
    AUTO_FLOAT32,
    FLOAT32,
    INT8,
    PACKAGES,
    Engine,
    check_engine,
    checked,
    start,
    usable,
)
from atrous.inference.engines.still import state_of
from atrous.inference.lanes import lanes_here
from atrous.models import SegmentationModel
from atrous.weights.quantisation import INPUT, Quantisation

_Place: TypeAlias = tuple[int, int]  # a thread's number of torch's threads and of lanes


def _here() -> _Place:
    return torch.get_num_threads(), lanes_here()


class LiveEngine:
    """Makes the engine when the first photo comes, and anew when the model has changed since.

    Args:
        name: one of `ENGINES`. "torch" is the model itself; "auto" is what is fastest here, and "auto-float32" what is
            fastest without rounding to fewer bits, by a measurement that is made once and remembered, see
            `atrous.inference.engines.auto`.
        quantisation: how a model that was trained or calibrated for 8 bits rounds; without it none does.

    Attributes:
        name: the engine that ran last; as it was asked for before any has.
        shared: whether anyone else may hold the model. Only then is it looked for changes before each photo, which
            takes up to a tenth of a small network's time.

    Raises:
        AtrousError: an engine that is unknown or cannot run on that device, or not that model.
    """

    def __init__(
        self, name: str, model: SegmentationModel, device: torch.device, quantisation: Quantisation | None = None
    ) -> None:
        check_engine(name, device)
        if name == INT8:
            checked(quantisation)
        self._quantisation = quantisation
        self.name, self.shared = name, True
        self._asked, self._model, self._device = name, model, device
        self._state: object = None
        self._chosen: dict[tuple[int, _Place], str] = {}  # by the photo's size class, where it is to be chosen
        self._engines: dict[tuple[str, _Place | None], Engine] = {}
        self._lock = threading.RLock()

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy, or another process, starts engines of its own.
        return type(self)._of, (self._asked, self._model, self._device, self._quantisation, self.shared)

    @classmethod
    def _of(cls, *given: Any) -> "LiveEngine":
        *made, shared = given
        engine = cls(*made)
        engine.shared = shared
        return engine

    def coarse_logits(self, x: Tensor) -> Tensor:
        """float32 N×K×h×w on the device, of normalised and padded float32 N×3×H×W; or see `takes_steps`."""
        return self._current(x).coarse_logits(x)

    def takes_steps(self, height: int, width: int) -> bool:
        """Whether x of that size may come as uint8, in the quantisation's steps; never before that is known."""
        name = self._chosen.get((auto.size_class(height, width), _here()), self._asked)
        return name == INT8 and self._quantisation is not None and INPUT in self._quantisation.activations

    def _current(self, x: Tensor) -> Engine:
        with self._lock:
            # Torch runs the model itself: nothing can be out of date.
            if self._asked != "torch" and (self.shared or self._state is None):
                state = state_of(self._model)
                if state != self._state:
                    self._state, self._engines = state, {}
            if self._asked in (AUTO, AUTO_FLOAT32):
                self.name = self._choose(x)
            return self._engine(self.name)

    def _engine(self, name: str) -> Engine:
        # Torch asks the thread how many to use; the other runtimes are told so when they start.
        key = name, _here() if PACKAGES[name] else None
        if key not in self._engines:
            self._engines[key] = start(name, self._model, self._device, self._quantisation)
        return self._engines[key]

    def _choose(self, x: Tensor) -> str:
        size, place = auto.size_class(*x.shape[-2:]), _here()
        if (size, place) not in self._chosen:
            names = usable(self._device, self._model, self._quantisation)
            if self._asked == AUTO_FLOAT32:
                names = [name for name in names if name in FLOAT32]
            key = auto.situation(self._model, self._device, names, size)
            chosen = auto.recall(key, names)
            if chosen is None:
                chosen = auto.measure(key, self._startable(names), x)
            self._chosen[size, place] = chosen
            kept = {(name, where) for (_, where), name in self._chosen.items()}
            kept_anywhere = set(self._chosen.values())
            self._engines = {
                key: engine
                for key, engine in self._engines.items()
                if key in kept or (key[1] is None and key[0] in kept_anywhere)
            }
        return self._chosen[size, place]

    def _startable(self, names: list[str]) -> dict[str, Engine]:
        engines = {}
        for name in names:
            try:
                engines[name] = self._engine(name)
            except Exception:  # of other runtimes: they raise what they like, and the rest can run
                if name == "torch":
                    raise
        return engines
