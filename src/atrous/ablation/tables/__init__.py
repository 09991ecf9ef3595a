"""The papers' tables, one file a paper. Every number is the paper's mIoU in percent on PASCAL VOC 2012 val."""

from atrous.ablation.experiment import Experiment
from atrous.ablation.tables.v1_v2 import CRF_ON_AND_OFF, V1_LARGEFOV, V2_ASPP
from atrous.ablation.tables.v3 import (
    V3_ASPP,
    V3_CASCADE,
    V3_CASCADE_INFERENCE,
    V3_INFERENCE,
    V3_MULTIGRID,
    V3_OUTPUT_STRIDE,
    V3_STRIDES,
    V3_TRICKS,
)
from atrous.ablation.tables.v3plus import INFERENCE, V3PLUS_DECODER
from atrous.errors import AtrousError

EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        V1_LARGEFOV,
        V2_ASPP,
        CRF_ON_AND_OFF,
        V3_OUTPUT_STRIDE,
        V3_CASCADE,
        V3_MULTIGRID,
        V3_ASPP,
        V3_CASCADE_INFERENCE,
        V3_INFERENCE,
        V3_TRICKS,
        V3_STRIDES,
        V3PLUS_DECODER,
        INFERENCE,
    )
}


def find_experiment(name: str) -> Experiment:
    """An experiment by its name.

    Raises:
        AtrousError: there is none of that name.
    """
    if name not in EXPERIMENTS:
        raise AtrousError(f"no experiment is called {name!r}; there are {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]
