"""Which images, labels and rates is a diagnosis made of?"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ..augment import centre_crop
from ..data import Data, ImageSet
from ..pictures import read_image
from ..pixels import Pixels
from ..train.recipe import Recipe
from .passes import Rates

#: Images that are looked at, at most, and pixels of them all: a plain D at 224 px keeps 70 MiB an
#: image for its backward pass.
MOST_IMAGES, MOST_PIXELS = 128, 800_000


def rates_of(net: nn.Module, recipe: Recipe | torch.optim.Optimizer | None) -> Rates:
    """Rate of each weight by its name, 0 for one that is not trained."""
    named = dict(net.named_parameters())
    if isinstance(recipe, torch.optim.Optimizer):
        group = recipe.param_groups[0]
        rate = {id(p): float(g["lr"]) for g in recipe.param_groups for p in g["params"]}
        decay = float(group.get("weight_decay", 0.0))
        adaptive = not isinstance(recipe, torch.optim.SGD)
    elif recipe is None or isinstance(recipe, Recipe):
        recipe = recipe or Recipe.paper()
        rate = {id(p): recipe.lr for p in named.values()}
        decay, adaptive = recipe.weight_decay, recipe.optimizer != "sgd"
    else:
        raise TypeError(
            "recipe is a vgglib.Recipe or a torch.optim.Optimizer, got "
            f"{type(recipe).__name__}; vgglib.Recipe.paper(lr=0.01) makes one"
        )
    return Rates(
        {n: rate.get(id(p), 0.0) * p.requires_grad for n, p in named.items()}, decay, adaptive
    )


def batch_of(
    net: nn.Module, data: Any, recipe: Any
) -> tuple[Tensor, Tensor, Pixels | None, tuple[Pixels, ...]]:
    """Images as the net gets them, their labels, and by which constants they may be normalised."""
    own = getattr(net, "pixels", None)
    if isinstance(data, ImageSet):
        names = tuple(map(str, range(int(data.labels.max()) + 1)))
        data = Data("images", data, None, names, "given")
    if isinstance(data, Data):
        likely = (Pixels(data.mean, data.std),)
        wanted = (recipe if isinstance(recipe, Recipe) else Recipe.paper()).normalisation(data)
        images, labels = _of_set(data, getattr(net, "image_size", None))
        return (own or Pixels(*wanted))(images), labels, None, likely
    pair = data
    if not (isinstance(data, (tuple, list)) and len(data) == 2 and isinstance(data[0], Tensor)):
        pair = next(iter(data), None) if isinstance(data, Iterable) else None
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise TypeError(
            "data is a set of vgglib.data, a pair (images, labels), or a DataLoader of such pairs; "
            f"got {type(data).__name__}"
            + ("" if pair is data or pair is None else f" of {type(pair).__name__}")
        )
    images, labels = (torch.as_tensor(one) for one in pair)
    if images.ndim != 4 or len(labels) != len(images) or labels.ndim not in (1, 2):
        raise ValueError(
            "a batch is images (N, C, H, W) and labels (N,), or shares of the classes (N, K); got "
            f"{tuple(images.shape)} and {tuple(labels.shape)}; a DataLoader makes batches"
        )
    count = _how_many(images.shape[-2:])
    images, labels = images[:count], labels[:count]
    if len(images) < 2:
        raise ValueError(f"diagnose needs at least 2 images, better 64; got {len(images)}")
    labels = labels.long() if labels.ndim == 1 else labels.float()
    if images.is_floating_point():
        return images, labels, own, ()
    return (own(images) if own else images.float()), labels, None, ()


def _of_set(data: Data, side: int | None) -> tuple[Tensor, Tensor]:
    """Pixels of 0–255 and labels of some images of the training set, always the same ones."""
    memory = data.train if isinstance(data.train, ImageSet) else None
    side = side or (memory.images.shape[-1] if memory else 224)
    # Drawn, for labels may follow a pattern.
    mixed = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    chosen = mixed[: _how_many((side, side))].tolist()
    crop = centre_crop(round(side * 256 / 224), side)
    if memory:
        few = memory[chosen]
        fits = few.images.shape[-2:] == (side, side)
        return few.images if fits else torch.stack([crop(i) for i in few.images]), few.labels
    read = [read_image(data.train, index) for index in chosen]
    images = torch.stack([crop(image) for image, _ in read])
    return images, torch.tensor([label for _, label in read])


def _how_many(sides) -> int:
    return max(8, min(MOST_IMAGES, MOST_PIXELS // math.prod(sides)))
