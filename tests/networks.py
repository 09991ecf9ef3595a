"""Networks with random values, for the tests that compare two of them."""

from typing import TypeVar

import torch
from torch import nn

from atrous.models import list_models

Network = TypeVar("Network", bound=nn.Module)


# More of the same units: what costs seconds a model is asked of the shallower one.
DEEPER = {
    "resnet101": "resnet50",
    "xception65": "xception41",
    "xception71": "xception41",
    "lite1": "lite0",
    "lite2": "lite0",
}


def one_of_each_kind() -> list[str]:
    """The architectures without those that only repeat another one's units more often."""
    names = list_models()
    deeper = {
        name for name in names for deep, twin in DEEPER.items() if deep in name and name.replace(deep, twin) in names
    }
    return [name for name in names if name not in deeper]


def randomise(model: Network) -> Network:
    """Weights and batch-norm statistics that hide nothing; in float64, in eval mode."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.0, generator=generator)
            module.bias.data.uniform_(-0.2, 0.2, generator=generator)
            module.running_mean.uniform_(-0.2, 0.2, generator=generator)
            module.running_var.uniform_(0.7, 1.5, generator=generator)
        elif isinstance(module, nn.Conv2d):
            module.weight.data.normal_(0, (2 / module.weight[0].numel()) ** 0.5, generator=generator)
            if module.bias is not None:
                module.bias.data.uniform_(-0.3, 0.3, generator=generator)
    return model.double().eval()


def deviation(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """How far one result is from another, relative, in norm."""
    assert ours.shape == theirs.shape
    return ((ours - theirs).norm() / theirs.norm()).item()


def image(*size: int) -> torch.Tensor:
    """1×3×H×W random values in float64, always the same."""
    return torch.randn(1, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
