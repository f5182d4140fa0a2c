"""What do a pass forward, one back and a trial step show? The net stays as it was."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from .limits import STARVES

LAYERS = ["layer", "activation_std", "gradient_over_decay", "relative_step", "trained"]


@dataclass(frozen=True)
class Rates:
    """The step that an optimiser would take first, a rate a weight."""

    of: dict[str, float]
    decay: float
    adaptive: bool

    @property
    def largest(self) -> float:
        return max(self.of.values())

    def step(self, name: str, gradient: Tensor) -> Tensor:
        return self.of[name] * (gradient.sign() if self.adaptive else gradient)


@dataclass
class Seen:
    """What one forward and one backward pass show, and a trial step."""

    scores: Tensor  # (N, K)
    each: Tensor  # (N,) losses
    layers: pd.DataFrame
    dead: dict[str, float]  # ReLU → share that never fires
    after: float  # loss after the trial step

    @property
    def loss(self) -> float:
        return self.each.mean().item()

    def median(self, column: str) -> float:
        values = self.layers[column][self.layers["trained"]]
        return float(values.median()) if len(values) else math.nan


def look(net: nn.Module, images: Tensor, labels: Tensor, rates: Rates, trial: bool = True) -> Seen:
    """One pass through copies of what training would change; with a trial step also back."""
    state = weights, _ = state_of(net)
    for weight in weights.values():
        weight.requires_grad_(weight.is_floating_point())
    own = {path: name for name, path in getattr(net, "layer_names", {}).items()}
    layers = {
        path: module
        for path, module in net.named_modules()
        if f"{path}.weight" in weights and weights[f"{path}.weight"].ndim > 1
    }
    spread: dict[str, float] = {}
    dead: dict[str, float] = {}

    def keep(path):
        return lambda module, inputs, output: spread.update({path: output.std().item()})

    def count(path):
        def hook(module, inputs, output):
            fires = (output > 0).flatten(2).any(2) if output.ndim > 2 else output > 0  # (N, C)
            again = sum(name.split(", call")[0] == path for name in dead)  # one module, two places
            dead[f"{path}, call {again + 1}" if again else path] = (
                1 - fires.any(0).float().mean().item()
            )

        return hook

    relus = {p: m for p, m in net.named_modules() if isinstance(m, (nn.ReLU, nn.ReLU6))}
    hooks = [module.register_forward_hook(keep(path)) for path, module in layers.items()]
    hooks += [module.register_forward_hook(count(own.get(p, p))) for p, module in relus.items()]
    try:
        with as_in_training(net), torch.set_grad_enabled(trial):
            scores = functional_call(net, state, (images,)).float()
            each = F.cross_entropy(scores, labels, reduction="none")
            loss = each.mean()
    finally:
        for hook in hooks:
            hook.remove()
    scores, losses = scores.detach(), each.detach()
    if not trial:
        return Seen(scores, losses, pd.DataFrame(columns=LAYERS), dead, math.nan)
    which = [name for name, weight in weights.items() if weight.requires_grad]
    found = torch.autograd.grad(loss, [weights[n] for n in which], allow_unused=True)
    gradients = {
        n: torch.zeros_like(weights[n]) if g is None else g
        for n, g in zip(which, found, strict=True)
    }
    rows = []
    with torch.no_grad():
        for path in layers:
            name = f"{path}.weight"
            gradient, size = gradients[name], weights[name].norm().item() or math.nan
            rows.append(
                {
                    "layer": own.get(path, path),
                    "activation_std": spread.get(path, math.nan),
                    "gradient_over_decay": gradient.norm().item() / size / (rates.decay or STARVES),
                    "relative_step": rates.step(name, gradient).norm().item() / size,
                    "trained": rates.of[name] > 0,
                }
            )
        moved = {n: weights[n] - rates.step(n, gradients[n]) for n in which if rates.of[n] > 0}
        with as_in_training(net):
            after = functional_call(net, (weights | moved, state_of(net)[1]), (images,)).float()
        trial_loss = F.cross_entropy(after, labels).item()
    return Seen(scores, losses, pd.DataFrame(rows, columns=LAYERS), dead, trial_loss)


def state_of(net: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights that know nothing of the net's gradients, and copies of its buffers."""
    weights = {name: weight.detach() for name, weight in net.named_parameters()}
    return weights, {name: value.clone() for name, value in net.named_buffers()}


@contextmanager
def as_in_training(net: nn.Module) -> Iterator[None]:
    """Training mode but for dropout, whose masks are no matter of the net's; afterwards as before.

    A batch norm whose weights are frozen, as fine-tuning has it, stays as it is.
    """
    before = {module: module.training for module in net.modules()}
    try:
        for module in before:
            if isinstance(module, _DropoutNd):
                module.training = False
            elif not isinstance(module, _BatchNorm) or adapts(module):
                module.training = True
        yield
    finally:
        for module, training in before.items():
            module.training = training


def adapts(norm: _BatchNorm) -> bool:
    """Is a batch norm trained, or without weights that could be?"""
    return norm.weight is None or norm.weight.requires_grad
