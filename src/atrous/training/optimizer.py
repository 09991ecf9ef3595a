"""The optimiser, how fast each parameter learns, and the learning rate's schedule."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim.lr_scheduler import LambdaLR

from atrous.errors import RecipeError
from atrous.models import SegmentationModel
from atrous.training.recipe import OptimizerRecipe, ScheduleRecipe


@dataclass(frozen=True)
class Pace:
    """How a parameter is trained: a factor on the recipe's learning rate, and its own weight decay."""

    factor: float
    weight_decay: float


def paces(model: SegmentationModel, recipe: OptimizerRecipe) -> dict[str, Pace]:
    """How fast each parameter learns, by its name.

    v1 and v2 train the logits at 10 times the rate, biases at twice that of their weights and without decay; the
    released v3 and v3+ code doubles the rate of biases too, and decays no depthwise kernel.

    Raises:
        RecipeError: a multiplier for no parameter of this model.
    """
    parts = {name.split(".")[0]: None for name, _ in model.named_parameters()}
    for prefix in recipe.multipliers:
        if not any(_starts(name, prefix) for name, _ in model.named_parameters()):
            raise RecipeError(
                f"optimizer.multipliers: no parameter's name begins with {prefix!r}; its parts are {', '.join(parts)}"
            )
    norms = {id(p) for m in model.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    found = {}
    for name, parameter in model.named_parameters():
        factor = 1.0
        if _starts(name, "backbone"):
            factor *= recipe.backbone_multiplier
        if parameter.ndim == 1 and id(parameter) not in norms:
            factor *= recipe.bias_multiplier
        for prefix, multiplier in recipe.multipliers.items():
            if _starts(name, prefix):
                factor *= multiplier
        depthwise = parameter.ndim == 4 and parameter.shape[1] == 1 and parameter.shape[-1] > 1
        decays = parameter.ndim > 1 and not depthwise
        found[name] = Pace(factor, recipe.weight_decay if decays else 0.0)
    return found


def _starts(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def make_optimizer(model: SegmentationModel, recipe: OptimizerRecipe) -> torch.optim.Optimizer:
    """A group of parameters for each pace.

    Raises:
        RecipeError: a multiplier for no parameter of this model.
    """
    pace_of = paces(model, recipe)
    groups: dict[Pace, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(pace_of[name], []).append(parameter)
    settings = [
        {"params": parameters, "lr": recipe.lr * pace.factor, "weight_decay": pace.weight_decay}
        for pace, parameters in groups.items()
    ]
    # On a CPU one loop over all is several times as fast. On a GPU Lightning could then not clip gradients in fp16.
    fused = all(_is_plain_cpu(p) for group in groups.values() for p in group) or None
    if recipe.name == "adamw":
        return torch.optim.AdamW(settings, lr=recipe.lr, fused=fused)
    return torch.optim.SGD(settings, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov, fused=fused)


def _is_plain_cpu(parameter: nn.Parameter) -> bool:
    return parameter.device.type == "cpu" and parameter.is_floating_point() and not isinstance(parameter, DTensor)


def make_schedule(optimizer: torch.optim.Optimizer, recipe: ScheduleRecipe, steps: int) -> LambdaLR:
    """The factor on every group's learning rate, a step of the optimiser at a time."""
    warmup = round(recipe.warmup_epochs * steps / recipe.epochs) if recipe.epochs else 0
    falls: dict[str, Callable[[int], float]] = {
        "poly": lambda step: max(0.0, 1 - step / steps) ** recipe.power,
        "step": lambda step: recipe.drop_factor ** (step // recipe.drop_every),
    }
    fall = falls[recipe.policy]

    def factor(step: int) -> float:
        return min(1.0, (step + 1) / (warmup + 1)) * fall(step)

    return LambdaLR(optimizer, factor)
