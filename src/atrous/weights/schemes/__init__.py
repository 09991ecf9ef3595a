"""Other projects' checkpoints, one file a project: recognised, and moved to our names and back."""

from atrous.errors import WeightsError
from atrous.weights.schemes import (
    jfzhang95,
    kazuto1011,
    mmsegmentation,
    smp,
    timm,
    torchvision,
    transformers,
    vainf,
)
from atrous.weights.schemes.scheme import Found, Layout, Scheme, State
from atrous.weights.schemes.transfer import give, take

SCHEMES: dict[str, Scheme] = {
    module.SCHEME.project: module.SCHEME
    for module in (torchvision, timm, transformers, smp, mmsegmentation, vainf, jfzhang95, kazuto1011)
}


def recognise(state: State) -> tuple[Scheme, Found] | None:
    """The project whose tensors these are, and the network; None for an unknown one.

    Raises:
        WeightsError: a project's that cannot be carried over faithfully, with the reason.
    """
    for scheme in SCHEMES.values():
        try:
            found = scheme.recognise(state)
        except WeightsError as error:
            raise WeightsError(f"{scheme.whose}, but {error}") from error
        if found is not None:
            return scheme, found
    return None


__all__ = ["SCHEMES", "Found", "Layout", "Scheme", "State", "give", "recognise", "take"]
