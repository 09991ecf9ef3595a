"""What a run's operators compute in."""

from typing import Any

import torch

from atrous.errors import RecipeError
from atrous.ops.atrous_conv import convolves_sooner_in_bfloat16
from atrous.training.recipe import Recipe


def precision_on(place: torch.device, recipe: Recipe) -> str:
    """The recipe's precision, "fp32", "bf16" or "fp16"; for "auto" the one in which the device trains sooner.

    That is bf16 on a GPU that computes in it, and on a processor that convolves sooner in it: one with AMX, or a Zen 5.
    Others convert what they multiply: a step of `recipes/street.yaml` on a Xeon with AVX-512 and no AMX takes 1.2
    times as long in bf16 as in fp32.

    Raises:
        RecipeError: fp16 elsewhere than on a CUDA GPU.
    """
    if recipe.precision == "fp16" and place.type != "cuda":
        raise RecipeError(f"precision: fp16 needs a CUDA GPU, and this run is on {place.type}; give auto, bf16 or fp32")
    if recipe.precision != "auto":
        return recipe.precision
    if place.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if place.type == "cpu" and convolves_sooner_in_bfloat16() else "fp32"


def lightning_precision(place: torch.device, recipe: Recipe, strategy: str) -> Any:
    """Lightning's name of it.

    Raises:
        RecipeError: as above, or what FSDP does not take.
    """
    if strategy == "fsdp" and (recipe.precision == "fp16" or recipe.compile):
        key = "compile" if recipe.compile else "precision: fp16"
        raise RecipeError(f"{key}: not with --strategy fsdp; take ddp, or leave it out of the recipe")
    return {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}[precision_on(place, recipe)]
