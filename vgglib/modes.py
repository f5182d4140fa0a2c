"""What of a net's state is changed for a while, and put back?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

from torch import nn


@contextmanager
def as_it_was(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards every module is in the mode in which it was before."""
    training = {module: module.training for module in model.modules()}
    try:
        model.eval()
        yield
    finally:
        for module, flag in training.items():
            module.training = flag


@contextmanager
def learning(weights: Iterable[nn.Parameter], yes: bool = True) -> Iterator[None]:
    """While it is open, each of these weights takes a gradient, or none of them does."""
    before = {weight: weight.requires_grad for weight in weights}
    try:
        for weight in before:
            weight.requires_grad_(yes)
        yield
    finally:
        for weight, wanted in before.items():
            weight.requires_grad_(wanted)


def frozen(weights: Iterable[nn.Parameter]) -> AbstractContextManager[None]:
    """While it is open, none of these weights is trained."""
    return learning(weights, False)
