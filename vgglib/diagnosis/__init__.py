"""Why does this net not train? What one batch and the net's own state tell (chapters 3 to 5).

Each check compares one number with a limit (``limits``), in the order in which one cause explains
the next (``checks``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import pandas as pd
import torch
from torch import Tensor, nn

from ..data import Data, ImageSet
from ..devices import random_state_kept
from ..pixels import inside
from ..train.recipe import Recipe
from .checks import Case
from .findings import SEVERITIES, Diagnosis, Finding
from .given import batch_of, rates_of
from .passes import LAYERS

__all__ = ["Diagnosis", "Finding", "diagnose"]


def diagnose(
    net: nn.Module,
    data: Data | ImageSet | tuple[Tensor, Tensor] | Iterable,
    recipe: Recipe | torch.optim.Optimizer | None = None,
) -> Diagnosis:
    """Name the most likely cause why a net does not train, from one batch.

    Net, modes, gradients, averages of batch norm and random numbers are afterwards what they were.

    Parameters
    ----------
    net : nn.Module
        Maps images (N, C, H, W) to class scores (N, K); on any device.
    data : Data, ImageSet, (images, labels), or an iterable of such pairs
        One batch is taken: of a set of this package up to 128 images, drawn; of a
        DataLoader or another iterable its first batch. Float images are taken as the net gets
        them; uint8 pixels are normalised as :func:`vgglib.train` would, where the net or the set
        knows how. Labels are class numbers (N,) or shares of the classes (N, K).
    recipe : Recipe or Optimizer, optional
        The rate, weight decay and momentum; those of ``Recipe.paper()`` if left out.

    Returns
    -------
    Diagnosis

    Raises
    ------
    TypeError, ValueError
        If the net or the data is of another kind, or there are fewer than 2 images.

    Examples
    --------
    >>> print(vgglib.diagnose(net, data, recipe))
    >>> print(vgglib.diagnose(model, loader, optimizer))
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"diagnose takes a torch.nn.Module, got {type(net).__name__}")
    net = inside(net)
    some = next((p for p in net.parameters() if p.is_floating_point()), None)
    if some is None:
        raise ValueError("diagnose needs a net with weights, and this one has none")
    rates = rates_of(net, recipe)
    with random_state_kept(some.device):
        images, labels, own, likely = batch_of(net, data, recipe)
        images, labels = images.to(some.device, some.dtype), labels.to(some.device)
        case = Case(net, images, labels, rates, own, likely)
        found = sorted(case.findings(), key=lambda one: SEVERITIES.index(one.severity))
    return Diagnosis(
        tuple(found),
        case.seen.loss if case.seen else math.nan,
        case.chance,
        case.seen.layers if case.seen else pd.DataFrame(columns=LAYERS),
        tuple(case.unseen),
    )
