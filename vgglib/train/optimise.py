"""Which steps does a recipe's optimiser take, and at which rate?"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import lr_scheduler

from .recipe import Recipe


def optimiser_of(
    parameters: Iterable[nn.Parameter] | Iterable[dict],
    recipe: Recipe,
    device: torch.device,
    precision: str,
) -> torch.optim.Optimizer:
    """The optimiser of a recipe, over parameters or over groups with rates of their own."""
    options: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    # torch's fused SGD keeps momentum that was never set where the first scaled step is not finite,
    # as it often is in fp16.
    fused = device.type in ("cpu", "cuda") and precision != "fp16"
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameters, **options, fused=fused)
    return torch.optim.SGD(parameters, **options, momentum=recipe.momentum, fused=fused)


def scheduler_of(optimiser: torch.optim.Optimizer, recipe: Recipe, steps: int):
    """What changes the rates, if anything: after an epoch for ``"plateau"``, else each step."""
    if recipe.schedule == "plateau":
        return lr_scheduler.ReduceLROnPlateau(
            optimiser,
            mode="max",
            factor=recipe.lr_factor,
            patience=recipe.patience,
            threshold=0,
            eps=0,  # torch's default leaves out drops of less than 1e-8
        )
    if recipe.schedule == "one-cycle":
        if recipe.epochs * steps < 2:
            raise ValueError(
                "the schedule one-cycle rises and falls and needs 2 steps at least; these images "
                "make 1: take more epochs, a smaller batch_size, or schedule='constant'"
            )
        return lr_scheduler.OneCycleLR(
            optimiser,
            [group["lr"] for group in optimiser.param_groups],
            total_steps=recipe.epochs * steps,
            cycle_momentum=False,  # it would overwrite the recipe's
        )
    if recipe.schedule == "constant" and not recipe.warmup:
        return None
    return lr_scheduler.LambdaLR(optimiser, lambda step: factor(recipe, step, steps))


def factor(recipe: Recipe, step: int, steps: int) -> float:
    """What the rate is multiplied with at a step, counted from 0 over all epochs of ``steps``."""
    warm = round(recipe.warmup * steps)
    if step < warm:
        return (step + 1) / (warm + 1)
    if recipe.schedule == "cosine":
        share = (step - warm) / max(1, recipe.epochs * steps - warm)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
    if recipe.schedule == "step":
        return recipe.lr_factor ** sum(step >= epoch * steps for epoch in recipe.milestones)
    return 1.0
