"""What was done to the pixels of these images? (§2.1, chapter 3)

Every common preparation is a straight line: value = slope · pixel + offset, a slope and an offset a
channel. So each can be undone, and one that was really made gives pixels back: numbers from 0 to
255 that fill a good part of that range. Of two preparations seldom both do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.sets import IMAGENET_MEAN, IMAGENET_STD
from ..pixels import Pixels

#: Normalisations that are looked for where a net does not know its own: ImageNet's, and the
#: habit of taking the middle of the range for both.
COMMON = (Pixels(IMAGENET_MEAN, IMAGENET_STD), Pixels((127.5,) * 3, (127.5,) * 3))
#: Pixels that a preparation gives back may leave 0–255 by this much (colour shift and resampling
#: do), and have to fill this much of it: the darkest batches of 64 that were met fill 150.
OUTSIDE, FILLED = 13.0, 60.0
#: A deviation that is left of values around 1 after a division by one for 0–255.
SMALL = 0.1
#: Of the values so many, at either end, do not count.
TAIL = 0.005


@dataclass(frozen=True)
class Preparation:
    """A preparation that was recognised.

    Attributes
    ----------
    name : str
        ``"normalised"``, ``"not normalised"``, ``"normalised twice"``, ``"wrong range"``,
        ``"other constants"`` or ``"unknown"``.
    said : str
        What was done, in words.
    pixels : Tensor or None
        The images as pixels of 0–255, where it can be undone.
    """

    name: str
    said: str
    pixels: Tensor | None = None


def preparation(
    images: Tensor, own: Pixels | None = None, likely: Sequence[Pixels] = ()
) -> Preparation:
    """Recognise how images were prepared.

    Parameters
    ----------
    images : Tensor, (N, C, H, W)
        As a net gets them, finite.
    own : Pixels, optional
        The normalisation that the net's weights were trained with: then no other one is right.
    likely : sequence of Pixels
        Without ``own``: what is looked for besides :data:`COMMON`.

    Returns
    -------
    Preparation
    """
    if images.min() >= 0:  # a normalised image has pixels darker than the mean colour
        white = 255.0 if images.max() > 1.5 else 1.0
        return Preparation(
            "not normalised", f"pixels of 0–{white:.0f} as they are", images * (255 / white)
        )
    known = [_of(p, images.shape[1]) for p in ([own] if own else [*likely, *COMMON])]
    for name, said, slope, offset in (*_right(known, own), *_wrong(known, own)):
        found = (images - offset.view(-1, 1, 1)) / slope.view(-1, 1, 1)
        low, high = _ends(found)
        if low >= -OUTSIDE and high <= 255 + OUTSIDE and high - low >= FILLED:
            return Preparation(name, said, found)
    mean, std = images.mean((0, 2, 3)), images.std((0, 2, 3))
    if (std < SMALL).all() and (mean.abs() > 5 * std).all():
        said = "constants for 0–255 on values that were small: of 0–1, or normalised before"
        return Preparation("wrong range", said)
    return Preparation("unknown", "no common preparation gives these values")


def _of(pixels: Pixels, channels: int) -> Pixels:
    """The same constants for another number of channels: their means."""
    if len(pixels.mean) == channels:
        return pixels
    mean, std = (sum(v) / len(v) for v in (pixels.mean, pixels.std or (1.0,)))
    return Pixels((mean,) * channels, (std,) * channels)


def _line(*steps: tuple[Tensor, Tensor], white: float = 255.0) -> tuple[Tensor, Tensor]:
    """Slope and offset of pixels scaled to ``white``, then (mean, std) after (mean, std)."""
    slope, offset = torch.full_like(steps[0][0], white / 255), torch.zeros_like(steps[0][0])
    for mean, std in steps:
        slope, offset = slope / std, (offset - mean) / std
    return slope, offset


def _constants(pixels: Pixels, divided: bool = True) -> tuple[Tensor, Tensor]:
    mean = torch.tensor(pixels.mean)
    return mean, torch.tensor(pixels.std) if divided and pixels.std else torch.ones_like(mean)


def _right(known: Sequence[Pixels], own: Pixels | None):
    """Preparations that a net can be trained with."""
    for pixels in known:
        yield "normalised", "normalised", *_line(_constants(pixels))
    if own is None:
        mean, ones = _constants(known[0], divided=False)
        yield "normalised", "the mean colour subtracted", *_line((mean, ones))
        yield "normalised", "the same, of 0–1", *_line((mean / 255, ones), white=1.0)


def _wrong(known: Sequence[Pixels], own: Pixels | None):
    """And those that come of a slip."""
    for pixels in known:
        mean, std = _constants(pixels)
        small = (mean / 255, std / 255)  # the same constants for pixels of 0–1
        twice, ones = "normalised twice", torch.ones_like(mean)
        yield twice, "the mean subtracted and divided twice", *_line(small, small, white=1.0)
        yield twice, "the mean subtracted and divided twice", *_line((mean, std), (mean, std))
        yield twice, "the mean subtracted twice", *_line((mean, ones), (mean, ones))
        yield (
            "wrong range",
            "pixels of 0–1 with constants for 0–255",
            *_line((mean, std), white=1.0),
        )
        yield "wrong range", "pixels of 0–255 with constants for 0–1", *_line(small)
    if own is not None:
        for other in (_of(p, len(own.mean)) for p in COMMON):
            for one in (other, Pixels(other.mean)):
                said = f"{one}; the net's own: {own}"
                yield "other constants", said, *_line(_constants(one))


def _ends(values: Tensor) -> tuple[float, float]:
    """Nearly the least and the largest value, of a sample: torch's quantile takes no more."""
    flat = values.flatten()
    flat = flat[:: max(1, len(flat) // 2**20)].float().cpu()
    low, high = torch.quantile(flat, torch.tensor([TAIL, 1 - TAIL]))
    return low.item(), high.item()
