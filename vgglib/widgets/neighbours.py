"""How does a picture become a vector, and which others lie near it? (appendix B, chapter 8).

The front end runs the stand-in net over a few pictures of clothes and averages its maps, as
:func:`vgglib.transfer.descriptors` does; a test holds the two equal.
"""

from __future__ import annotations

from functools import cache

import torch
import traitlets
from torch import Tensor

from .. import plots, transfer
from ..data import ImageSet, load
from ..standin import WEIGHTS, standin
from .base import PageWidget, picture

EACH = 6  #: Pictures of each class: the first of the test set.
SIDE = 32
NEAREST = 5
LAYERS = ("pixels", "pool1", "pool2", "pool3")


@cache
def _pictures() -> tuple[Tensor, list[int], tuple[str, ...]]:
    """Pictures (60, 3, 32, 32) in bytes, the class of each, and the classes' names."""
    clothes = load("fashion-mnist-mini")
    test = clothes.test
    assert isinstance(test, ImageSet)
    places = [(test.labels == k).nonzero()[:EACH, 0] for k in range(len(clothes.classes))]
    chosen = torch.cat(places)
    labels = test.labels[chosen].tolist()
    return test.images[chosen], labels, tuple(clothes.classes)


class Neighbours(
    PageWidget,
    front="neighbours",
    to_try="Compare a shoe by its pixels, then by the last pool: which neighbours leave?",
    example="layer=pixels",
):
    """A picture, its maps, their means, and the pictures whose vectors are the nearest.

    The net is :func:`vgglib.standin`, which has never seen clothes; the pictures are 60 of
    Fashion-MNIST's (MIT licence).

    Parameters
    ----------
    query : int, 0 to 59
        The picture that is compared with the others.
    layer : {"pixels", "pool1", "pool2", "pool3"}
        Whose maps are averaged; ``"pixels"`` compares the pictures themselves.

    Raises
    ------
    traitlets.TraitError
        If a value is out of its range.
    """

    query = traitlets.Int(8, min=0, max=10 * EACH - 1).tag(sync=True)
    layer = traitlets.Enum(LAYERS, LAYERS[-1]).tag(sync=True)

    labels = traitlets.List(traitlets.Int(), read_only=True).tag(sync=True)
    classes = traitlets.List(traitlets.Unicode(), read_only=True).tag(sync=True)
    layers = traitlets.List(traitlets.Unicode(), list(LAYERS), read_only=True).tag(sync=True)
    nearest = traitlets.Int(NEAREST, read_only=True).tag(sync=True)
    pictures = traitlets.Bytes(read_only=True).tag(
        sync=True, file="clothes.bin"
    )  # grey, row by row
    weights = traitlets.Bytes(read_only=True).tag(sync=True, file=WEIGHTS.name)

    @traitlets.default("labels")
    def _labels(self):
        return _pictures()[1]

    @traitlets.default("classes")
    def _classes(self):
        return list(_pictures()[2])

    @traitlets.default("pictures")
    def _grey(self):
        return _pictures()[0][:, 0].contiguous().numpy().tobytes()

    @traitlets.default("weights")
    def _weights(self):
        return WEIGHTS.read_bytes()

    def descriptors(self, layer: str | None = None) -> Tensor:
        """Of all pictures at a layer, the chosen one if none is named: (60, channels), length 1."""
        layer = layer or self.layer
        images = _pictures()[0]
        if layer == "pixels":
            return torch.nn.functional.normalize(images[:, 0].flatten(1).float(), dim=1)
        found = transfer.descriptors(standin(), images, scales=SIDE, layers=[layer], mirror=False)
        return transfer.aggregate(found[layer])

    def found(self) -> tuple[list[float], list[int]]:
        """Cosines and places of the pictures nearest to the query, without itself."""
        all_of_them = self.descriptors()
        cosines, places = transfer.nearest(all_of_them[self.query][None], all_of_them, NEAREST + 1)
        return cosines[0, 1:].tolist(), places[0, 1:].tolist()

    def agreement(self, layer: str | None = None) -> float:
        """Share of the pictures whose nearest other one is of their class."""
        all_of_them = self.descriptors(layer)
        _, places = transfer.nearest(all_of_them, all_of_them, 2)
        labels = torch.tensor(self.labels)
        return (labels[places[:, 1]] == labels).double().mean().item()

    def fallback(self) -> str:
        """The query and its neighbours, and how often a neighbour is of the same class."""
        images, labels, classes = _pictures()
        cosines, places = self.found()
        titles = [f"query\n{classes[labels[self.query]]}"]
        titles += [f"{classes[labels[p]]}\n{c:.3f}" for c, p in zip(cosines, places, strict=True)]
        shown = [images[place] for place in (self.query, *places)]
        named = ", ".join(
            f"{classes[labels[p]]} {c:.3f}" for c, p in zip(cosines, places, strict=True)
        )
        alt = (
            f"A picture of the class {classes[labels[self.query]]} and the {NEAREST} nearest of "
            f"{len(labels)} by {self.layer}, with their cosines: {named}."
        )
        rows = "".join(
            f"<tr><th scope=row>{layer}</th><td>{self.agreement(layer):.0%}</td></tr>"
            for layer in LAYERS
        )
        return (
            f"{picture(plots.image_grid(shown, titles, columns=NEAREST + 1), alt)}<table><caption>"
            "How often the nearest other picture is of the same class</caption><thead><tr>"
            f"<th scope=col>compared by</th><th scope=col>share</th></tr></thead>"
            f"<tbody>{rows}</tbody></table>"
        )
