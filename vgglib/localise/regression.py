"""How does a classification net learn to predict boxes?

Its last layer is replaced, the rest goes on from the weights it has, all layers or the fully
connected ones alone, under a Euclidean loss (appendix A.1, chapter 9).
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from typing import cast

import pandas as pd
import torch
from torch import Tensor, nn

from .. import checks
from ..devices import Place
from ..model import VGG
from ..modes import frozen
from ..pixels import Pixels, pixels_of
from ..train.batches import Batches, seed_of
from ..train.loop import fit
from ..train.recipe import Recipe
from .boxes import decode, encode
from .scenes import Scenes

LAYERS = ("all", "fc")


def regressor(net: VGG, *, per_class: bool = True) -> VGG:
    """A copy of a classification net whose last layer predicts boxes.

    Parameters
    ----------
    net : VGG
        Trained to classify; it is not changed.
    per_class : bool
        Per-class regression, a box for each class (the paper's 4000-D last layer), or single-class
        regression, one box whatever the class is (4-D).

    Returns
    -------
    VGG
        Its ``num_classes``, the length of its output, is 4 × the classes, or 4. The new layer is
        drawn from N(0, 0.01²) with torch's generator, its biases are 0; all others are the net's.

    Raises
    ------
    TypeError
        If ``net`` is no VGG.
    """
    if not isinstance(net, VGG):
        raise TypeError(f"regressor takes a net of vgglib.vgg(…), got {type(net).__name__}")
    boxes = copy.deepcopy(net)
    old = cast(nn.Linear, boxes.classifier[-1])
    boxes.num_classes, boxes.classes = 4 * net.num_classes if per_class else 4, None
    new = nn.Linear(old.in_features, boxes.num_classes).to(old.weight)
    nn.init.normal_(new.weight, std=0.01)
    nn.init.zeros_(new.bias)
    boxes.classifier[-1] = new
    return boxes


def boxes_of(outputs: Tensor, labels: Tensor) -> Tensor:
    """Each image's vector for its own class.

    Parameters
    ----------
    outputs : Tensor, (N, 4 · classes) or (N, 4)
        Of a regressor; those of single-class regression are returned as they are.
    labels : Tensor, (N,)

    Returns
    -------
    Tensor, (N, 4)

    Raises
    ------
    ValueError
        If the outputs are no vectors of four, or there is no box for a class.
    """
    if outputs.ndim != 2 or outputs.shape[1] % 4 or len(outputs) != len(labels):
        raise ValueError(
            f"outputs must be (N, 4 · classes) or (N, 4) with a label each, got "
            f"{tuple(outputs.shape)} and {len(labels)} labels"
        )
    if outputs.shape[1] == 4:
        return outputs
    by_class = outputs.unflatten(1, (-1, 4))  # (N, classes, 4)
    remedy = "regressor(net) has a box for each class of its net"
    checks.labels(labels, by_class.shape[1], "labels", remedy)
    return by_class[torch.arange(len(labels), device=labels.device), labels]


def euclidean_loss(outputs: Tensor, codes: Tensor, labels: Tensor) -> Tensor:
    """Half the squared distance between predicted and true vectors, averaged over the images.

    Of a per-class regressor only the true class's box is penalised: the others have no truth.

    Parameters
    ----------
    outputs : Tensor, (N, 4 · classes) or (N, 4)
    codes : Tensor, (N, 4)
        True boxes, encoded.
    labels : Tensor, (N,)

    Returns
    -------
    Tensor, ()
    """
    return 0.5 * (boxes_of(outputs, labels) - codes).square().sum(1).mean()


def train_boxes(
    net: VGG,
    scenes: Scenes,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    *,
    layers: str = "all",
    epochs: int = 10,
    lr: float = 0.01,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    batch_size: int = 64,
    precision: str = "auto",
    seed: int = 0,
) -> pd.DataFrame:
    """Train a regressor on random crops of scenes, in place (appendix A.1).

    Parameters
    ----------
    net : VGG
        From :func:`regressor`; trained on the device where it is, and left in evaluation mode.
    scenes : Scenes
        At the training scale S.
    mean, std : a float a channel, optional
        In 0–255 units; the net's own (``net.pixels``) if they are left out.
    layers : {"all", "fc"}
        What is fine-tuned beside the new layer: everything, or the fully connected layers alone.
        The convolutions then stay as they are, running means of batch norm included.
    epochs, lr, momentum, weight_decay, batch_size
        Of stochastic gradient descent. The rate rises to ``lr`` and falls to nearly 0 (one cycle);
        the paper starts at 10⁻³ and divides by ten.
    precision : {"fp32", "bf16", "auto"}
    seed : int
        Of the order, the crops and dropout.

    Returns
    -------
    DataFrame
        A row an epoch: ``epoch`` (from 1) and ``train_loss``.

    Raises
    ------
    ValueError
        If a number is out of its range, or the scenes do not suit the net.
    FloatingPointError
        If the loss is no longer finite.
    """
    checks.choice("layers", layers, LAYERS)
    recipe = Recipe(
        batch_size=batch_size, epochs=epochs, lr=lr, momentum=momentum, weight_decay=weight_decay,
        dropout=None, schedule="one-cycle", precision=precision, seed=seed,
    )  # fmt: skip
    if recipe.batch_size > len(scenes):
        raise ValueError(f"batch_size must be at most the {len(scenes)} scenes, got {batch_size!r}")
    place = Place(next(net.parameters()).device)
    known = pixels_of(net, mean, std)
    source = SceneBatches(scenes, net.image_size, recipe, place, known)
    with frozen(net.features.parameters() if layers == "fc" else ()), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # what it says is the error below
        history = fit(net, source, recipe, loss=_loss)
    if "finite" in history.attrs["stopped"]:
        raise FloatingPointError(f"{history.attrs['stopped']}; take a smaller lr than {lr}")
    net.pixels = known
    return history[["epoch", "train_loss"]]


class SceneBatches(Batches):
    """Random crops of scenes with their encoded boxes and classes, (n, 5)."""

    def __init__(self, scenes: Scenes, crop: int, recipe: Recipe, place: Place, pixels: Pixels):
        super().__init__(scenes, recipe, place, pixels)
        self.scenes, self.crop = scenes, crop

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        order = self.order(epoch)
        for step in range(start, len(self)):
            draws = torch.Generator().manual_seed(seed_of(self.recipe.seed, epoch, step))
            part = self.scenes[order[step][self.mine]]
            images, boxes = part.random_crops(self.crop, draws)
            targets = torch.cat([encode(boxes, self.crop), part.labels[:, None]], dim=1)
            device = self.place.device
            yield self.finished(images.to(device), targets.to(device), epoch, step)


def _loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return euclidean_loss(outputs, targets[:, :4], targets[:, 4].long())


@torch.no_grad()
def centre_boxes(
    net: VGG,
    scenes: Scenes,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Tensor:
    """Boxes predicted from the central crop alone, for the true class (the paper's Table 8).

    Parameters
    ----------
    net : VGG
        From :func:`regressor`, trained.
    scenes : Scenes
    mean, std : a float a channel, optional
        In 0–255 units; the net's own (``net.pixels``) if they are left out.

    Returns
    -------
    Tensor, (N, 4)
        In pixels of the scene.
    """
    device = next(net.parameters()).device
    crops, pixels = scenes.centre(net.image_size), pixels_of(net, mean, std)
    outputs = [net(pixels(part.to(device))).cpu() for part in crops.split(256)]
    boxes = decode(boxes_of(torch.cat(outputs), scenes.labels), net.image_size)
    return boxes + (scenes.size - net.image_size) // 2
