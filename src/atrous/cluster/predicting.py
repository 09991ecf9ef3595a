"""Photos in shards over the workers of a Ray cluster, by Ray Data."""

import hashlib
import json
import logging
import os
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import ray
import ray.data
import torch
from ray.data import ActorPoolStrategy, DataContext
from ray.exceptions import RayError

from atrous.cluster import places
from atrous.cluster.worker import Done, Task, Worker, from_json
from atrous.errors import AtrousError
from atrous.inference import Failure
from atrous.inference.devices import choose_device
from atrous.inference.engines import check_engine
from atrous.inference.labelling import Options
from atrous.models import SegmentationModel
from atrous.weights import ModelCard

_SHARD = 16  # photos
_SHARDS_A_WORKER = 4  # at least, where there are photos enough, so that workers end at about the same time
_RUN = ".atrous-run"


def predict_on_ray(
    model: SegmentationModel,
    card: ModelCard,
    tasks: Sequence[Task],
    *,
    out: str | None = None,
    workers: int | None = None,
    device: str = "auto",
    engine: str = "torch",
    **options: Any,
) -> Iterator[Done | Failure]:
    """Labels photos on a Ray cluster; one outcome for each, in the order in which they are finished.

    The cluster is the one that this process is connected to, else the one that Ray finds ($RAY_ADDRESS), else one that
    is started on this machine. A shard of photos whose worker dies is given to another, photo by photo; one that three
    workers died over fails. Files that an earlier run left are kept, so that a run that was stopped goes on where it
    was. All are written whole or not at all: however often a photo is tried, it has one file of each kind.

    Args:
        tasks: their places must be the same ones on every machine of the cluster.
        out: the folder above all files. It keeps a note of what made them, so that no run goes on with another's.
        workers: processes, one processor each, or one GPU where the cluster has some; as many as there are by default.
        device, engine: as for `Predictor`.
        options: those of `Predictor.stream`.

    Raises:
        AtrousError: more workers than the cluster can hold, or `out` holds what another model or other options gave.
    """
    crf = Options(**options).crf_params
    if crf is not None:
        options["crf"] = crf  # read here: its file need not be there for the workers
    if device not in ("auto", "cuda"):
        choose_device(device)
    _connect()
    processor = "GPU" if device.startswith(("auto", "cuda")) and ray.cluster_resources().get("GPU") else "CPU"
    if processor == "CPU":
        device = "cpu" if device == "auto" else device
        check_engine(engine, choose_device(device))
    count = _worker_count(workers, int(ray.cluster_resources().get(processor, 0)), processor)
    since = None if out is None else _note(f"{out}/{_RUN}", _fingerprint(model, card, engine, options))
    mark = f"atrous-{uuid.uuid4().hex[:12]}"
    shard = max(1, min(_SHARD, len(tasks) // (count * _SHARDS_A_WORKER)))
    given = {"device": device, "engine": engine, "options": options, "mark": mark, "since": since}
    given |= {"shared": ray.put((model.cpu(), card)), "tries": ray.remote(num_cpus=0)(_Tries).remote()}
    return _outcomes(tasks, shard, count, processor, given)


def _outcomes(
    tasks: Sequence[Task], shard: int, count: int, processor: str, given: dict[str, Any]
) -> Iterator[Done | Failure]:
    rows = [{"task": json.dumps(vars(task))} for task in tasks]
    shards = -(-len(rows) // shard)
    resources: dict[str, Any] = {"num_gpus": 1} if processor == "GPU" else {"num_cpus": 1}
    outcomes = ray.data.from_items(rows, override_num_blocks=shards).map_batches(
        _Actor,
        fn_constructor_kwargs=given,
        batch_size=shard,
        compute=ActorPoolStrategy(size=min(count, shards)),
        **resources,
    )
    try:
        for row in outcomes.iter_rows():
            yield from_json(row["outcome"])
    except RayError as error:
        raise AtrousError(f"a worker failed: {str(error).strip().splitlines()[-1]}") from error
    finally:
        for folder in {os.path.dirname(place) for task in tasks for place in task.files.values()}:
            places.sweep(folder, given["mark"])


class _Tries:
    """How often a shard or photo was begun. It outlives the workers."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()

    def begin(self, what: str) -> int:
        self._begun[what] += 1
        return self._begun[what]


class _Actor(Worker):
    """A worker that takes the model from where the driver put it for all, and its tries from where all count them."""

    def __init__(self, shared: Any, tries: Any, **given: Any) -> None:
        model, card = ray.get(shared)
        super().__init__(model, card, begin=lambda what: ray.get(tries.begin.remote(what)), **given)


def _connect() -> None:
    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray tells its makers of its use
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)


def _worker_count(asked: int | None, there: int, processor: str) -> int:
    if (asked or 1) > there:
        raise AtrousError(f"workers: the cluster has {there} {processor}s, one for each: {asked or 1} are too many")
    return asked or there


def _fingerprint(model: SegmentationModel, card: ModelCard, engine: str, options: dict[str, Any]) -> str:
    """Of all that decides what is written."""
    said = {"model": model.config, "stride": model.output_stride, "card": card.to_dict(), "engine": engine, **options}
    digest = hashlib.sha256(json.dumps(said, sort_keys=True, default=vars).encode())
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _note(place: str, fingerprint: str) -> int | None:
    """Writes the fingerprint there, or finds the same; when that was: what is older is not of such a run.

    Raises:
        AtrousError: it finds another.
    """
    try:
        found = places.read(place).decode(errors="replace")
    except FileNotFoundError:
        found = fingerprint
        try:
            places.write(place, fingerprint.encode(), "atrous")
        except OSError as error:
            raise AtrousError(f"{place}: cannot be written: {error.strerror or error}") from error
    if found != fingerprint:
        raise AtrousError(f"{place}: another model or other options were used there: give another --out, or delete it")
    return places.written_at(place)
