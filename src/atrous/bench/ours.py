"""Atrous itself, as `atrous.load` gives it."""

from typing import Any

import torch

from atrous.bench.process import Photo, Run
from atrous.errors import AtrousError
from atrous.inference import Failure, load


def start(spec: dict[str, Any]) -> Run:
    """A predictor of the model under the engine that the contestant names."""
    import atrous.ops.upsample_cpu  # noqa: F401 (as after some dozens of photos, whatever their size)

    torch.set_num_threads(spec["threads"])
    predictor = load(spec["model"], spec["device"], engine=spec["engine"])

    def run(photos: list[Photo]) -> list[Photo]:
        results = predictor(photos, batch_size=len(photos))
        for result in results:
            if isinstance(result, Failure):
                raise AtrousError(result.message)
        return [result.labels for result in results if result]

    return run
