"""What does a net take for pixels?

Weights are worth little without the normalisation that they were trained with (§2.1: the mean
colour of the training set is subtracted). So a net carries it: in its ``state_dict``, where
torchvision's nets overlook it, in checkpoints, and in what :func:`vgglib.save_weights` writes.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from torchvision.transforms.v2.functional import rgb_to_grayscale

from . import checks
from .augment import normalise

#: By how many grey levels two means, and by which share two deviations, may differ and still be the
#: same choice: published values of one data set, or those of its images at another size, do.
LEVELS, SHARE = 1.0, 0.05


class PixelsWarning(UserWarning):
    """A net is given other pixels than those that its weights were trained with."""


@dataclass(frozen=True)
class Pixels:
    """The normalisation of a net's images, in RGB order and in units of 0–255.

    Parameters
    ----------
    mean : sequence of float
        Colour that is subtracted, a value a channel. With one value pictures are turned into grey.
    std : sequence of float, optional
        What the difference is divided by; the paper divides by nothing.

    Raises
    ------
    ValueError
        If the values are not finite, or a deviation is not positive.
    """

    mean: Sequence[float]  # tuples, whatever was given
    std: Sequence[float] | None = None

    def __post_init__(self):
        object.__setattr__(self, "mean", checks.channels("mean", self.mean))
        if self.std is not None:
            std = checks.channels("std", self.std, len(self.mean), positive=True)
            object.__setattr__(self, "std", None if set(std) == {1.0} else std)

    @classmethod
    def in_units(cls, mean: Sequence[float], std: Sequence[float], highest: float = 1.0) -> Pixels:
        """From values in other units, such as torchvision's and timm's, whose white is 1."""
        unit = 255 / highest
        return cls([value * unit for value in mean], [round(value * unit, 9) for value in std])

    def __call__(self, images: Tensor) -> Tensor:
        """Pixels of 0–255, (..., C, H, W), as the net takes them: in grey, if it sees grey."""
        return normalise(self._grey(images), self.mean, self.std)

    def on(self, device: torch.device) -> Callable[[Tensor], Tensor]:
        """The same, its numbers kept on a device: copied with each batch, they make a GPU wait."""
        mean = torch.tensor(self.mean, device=device)
        std = None if self.std is None else torch.tensor(self.std, device=device)
        return lambda images: normalise(self._grey(images), mean, std)

    def _grey(self, images: Tensor) -> Tensor:
        """RGB as the one channel of a net for grey images."""
        if len(self.mean) > 1 or images.shape[-3] != 3:
            return images
        return rgb_to_grayscale(images if images.is_floating_point() else images.float())

    def to_json(self, classes: Sequence[str] | None = None) -> str:
        """All that a reader of the weights needs to know, other programs included."""
        known = {"mean": self.mean, "std": self.std, "range": [0, 255], "order": "RGB"}
        return json.dumps(known | ({"classes": list(classes)} if classes else {}))

    @classmethod
    def from_json(cls, text: str) -> tuple[Pixels, tuple[str, ...] | None]:
        """The inverse of ``to_json``: pixels and classes."""
        try:
            known = {"std": None, "range": (0, 255), "order": "RGB"} | json.loads(text)
            mean, std, (_, highest) = known["mean"], known["std"], known["range"]
            if highest != 255:
                pixels = cls.in_units(mean, std or [1] * len(mean), highest)
            else:
                pixels = cls(mean, std)
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(
                f"pixels are told as JSON such as {cls((124, 117, 104)).to_json()}, got {text!r}"
            ) from error
        if known["order"] != "RGB":
            raise ValueError(
                f"the weights take {known['order']} images; turn the input channels of the first "
                "convolution round (weight.flip(1)), and write RGB"
            )
        return pixels, tuple(known["classes"]) if known.get("classes") else None

    def same_as(self, other: Pixels) -> bool:
        """Is it the same choice, but for rounding?"""
        ones = (1.0,) * len(self.mean)
        means = zip(self.mean, other.mean, strict=False)
        deviations = zip(self.std or ones, other.std or ones, strict=False)
        return (
            len(self.mean) == len(other.mean)
            and all(abs(a - b) <= LEVELS for a, b in means)
            and all(abs(a - b) <= SHARE * a for a, b in deviations)
        )

    def __str__(self) -> str:
        def listed(values):
            return ", ".join(f"{value:.5g}" for value in values)

        divided = f", std ({listed(self.std)})" if self.std else ", not divided"
        return f"mean ({listed(self.mean)}){divided}"


def check_pixels(pixels: object, channels: int | None = None) -> Pixels:
    """Raise an error if they are no ``Pixels``, or not of as many channels as a net's images."""
    if not isinstance(pixels, Pixels):
        raise TypeError(
            f"a net's pixels are a vgglib.Pixels or None, got {pixels!r}; "
            "vgglib.Pixels(mean, std) makes one, in units of 0–255"
        )
    if channels not in (None, len(pixels.mean)):
        raise ValueError(
            f"mean has {len(pixels.mean)} values, the net's images {channels}; give one a channel"
        )
    return pixels


def inside(net: Any) -> Any:
    """The net in what torch.compile, processes or an average of weights put around it."""
    while isinstance(net, DataParallel | DistributedDataParallel | AveragedModel):
        net = net.module
    return getattr(net, "_orig_mod", net)


def known_to(net: nn.Module) -> Pixels | None:
    """The normalisation that a net of any kind carries, checked."""
    net = net if getattr(net, "pixels", None) is not None else inside(net)
    own = getattr(net, "pixels", None)
    if own is None or isinstance(own, nn.Module):  # a layer of that name
        return None
    return check_pixels(own, getattr(net, "in_channels", None))


def pixels_of(
    net: nn.Module, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> Pixels:
    """The normalisation for a net: what is given, else what the net knows; a ValueError if neither.

    A PixelsWarning tells that what is given is not what the net was trained with.
    """
    own = known_to(net)
    if mean is None:
        if own is None:
            raise ValueError(
                f"this {type(net).__name__} does not know how its images are normalised (mean is "
                "None); give mean= and std= in units of 0–255, or once for all "
                "net.pixels = vgglib.Pixels(mean, std); training leaves them on a net"
            )
        if std is not None:
            raise ValueError(f"std={std!r} is given without mean; give both or neither")
        return own
    given = check_pixels(Pixels(mean, std), getattr(net, "in_channels", None))
    if given.std and max(given.std) < 1 >= max(given.mean):
        warnings.warn(
            f"{given} look like values for pixels of 0–1; here they are of 0–255: "
            "vgglib.Pixels.in_units(mean, std) converts them",
            PixelsWarning,
            stacklevel=3,
        )
    if own is not None and not own.same_as(given):
        warnings.warn(
            f"the net was trained with {own}, and is given {given}; leave mean and std out to "
            "take the net's own",
            PixelsWarning,
            stacklevel=3,
        )
    return given
