"""Through which views of an image does a net decide?

The tests of the paper (§3.2, §4, chapter 7): the whole image at one or several scales (*dense*),
many crops of it (*multi-crop*), and the average of such tests (*fusion*, also over several nets).

A test is called with images and returns their class probabilities; images are a uint8 tensor
(N, 3, H, W), or a sequence of PIL images or uint8 tensors (3, H, W) of any sizes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as tvf

from .. import checks
from ..model import VGG
from ..pictures import rgb
from ..pixels import Pixels, pixels_of
from ..precision import autocast, check_precision
from .dense import DenseVGG, dense

Images = Tensor | Sequence[Tensor | Image.Image]


def test_scales(scale: int | tuple[int, int], image_size: int = 224) -> tuple[int, int, int]:
    """The three test scales Q that go with a training scale S (§4.2).

    The middle one alone is that of the single-scale test (§4.1).

    Parameters
    ----------
    scale : int or (int, int)
        S, or (S_min, S_max) of scale jittering.
    image_size : int
        Side of the net's training crops in pixels; the 32 px around S shrink with it.

    Returns
    -------
    (int, int, int)
        S − 32, S, S + 32; or S_min, the middle, S_max.

    Raises
    ------
    ValueError
        If S is smaller than the crop, or no whole number of pixels.
    """
    low, high = checks.span("scale", scale, image_size)
    if low < high:
        return low, (low + high) // 2, high
    around = round(32 * image_size / 224)
    return low - around, low, low + around


# pytest would take the function for a test of its own.
test_scales.__dict__["__test__"] = False


@dataclass(frozen=True)
class Dense:
    """Dense evaluation (§3.2): the net over the whole image, its class map averaged.

    The scores are averaged over the places of an image, then become probabilities, and these are
    averaged over the image and its mirror image, and over the scales.

    Parameters
    ----------
    net : VGG
        Left in the mode that it is in; it is tested on the device where it is.
    mean, std : a float a channel, optional
        The normalisation of the images, in 0–255 units; the net's own (``net.pixels``) if it is
        left out.
    scales : int or sequence of int
        Q, the shorter side in pixels that each image is rescaled to, or several of them: class
        probabilities are averaged over them.
    mirror : bool
        Average over each view and its mirror image too, as the paper does.
    precision : {"fp32", "bf16", "auto"}
    batch_size : int
        Views that go through the net at a time; it changes the memory taken, not the result.

    Raises
    ------
    ValueError, TypeError
        If Q is too small for the net, or the net has no dense form.
    """

    net: VGG
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    scales: int | Sequence[int] = 256
    mirror: bool = True
    precision: str = "fp32"
    batch_size: int = 64
    pixels: Pixels = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        smallest = dense(self.net).smallest  # also says what is no VGG
        scales = check_scales(self.scales, smallest, "the smallest image that this net takes")
        check_precision(self.precision)
        checks.whole("batch_size", self.batch_size)
        object.__setattr__(self, "scales", scales)
        object.__setattr__(self, "pixels", pixels_of(self.net, self.mean, self.std))

    @property
    def num_classes(self) -> int:
        """Length of a row of probabilities."""
        return self.net.num_classes

    @property
    def device(self) -> torch.device:
        """Where the net is."""
        return next(self.net.parameters()).device

    def views(self, images: Tensor) -> Iterator[Tensor]:
        """Views (N, C, h, w) of images that have one size, (N, C, H, W): here the images."""
        yield images

    @torch.no_grad()
    def __call__(self, images: Images) -> Tensor:
        """Class probabilities of the images, (N, num_classes), fp32 on the net's device."""
        scales = cast(tuple[int, ...], self.scales)  # as of __post_init__
        whole = dense(self.net)  # anew, as the net may have been moved to another device
        result = torch.zeros(len(images), self.num_classes, device=self.device)
        for scale in scales:
            for indices, same in rescaled(images, scale):
                for start in range(0, len(indices), self.batch_size):
                    part = slice(start, start + self.batch_size)
                    pixels = self.pixels(same[part].to(self.device))
                    result[indices[part]] += self._probabilities(whole, pixels) / len(scales)
        return result

    def _probabilities(self, whole: DenseVGG, pixels: Tensor) -> Tensor:
        """Mean over the views and their mirror images, (N, num_classes)."""
        total, number = torch.zeros(len(pixels), self.num_classes, device=pixels.device), 0
        for view in self.views(pixels):
            for seen in (view, view.flip(-1)) if self.mirror else (view,):
                with autocast(pixels.device, self.precision):
                    scores = whole.scores(seen)
                total += scores.float().softmax(1)
                number += 1
        return total / number


@dataclass(frozen=True)
class MultiCrop(Dense):
    """Multi-crop evaluation (§3.2): a regular grid of crops of the net's own size.

    With a grid of 5, mirror images and three scales these are the paper's 150 crops. A grid of 1 is
    the centre crop.

    Parameters
    ----------
    net, mean, std, scales, mirror, precision, batch_size
        As for :class:`Dense`.
    grid : int
        Crops along each side; the outermost touch the edges of the image.

    Raises
    ------
    ValueError, TypeError
        If Q is smaller than a crop, or grid is not a positive integer.
    """

    grid: int = 5

    def __post_init__(self):
        super().__post_init__()
        checks.whole("grid", self.grid)
        check_scales(self.scales, self.net.image_size, "the side of a crop")

    def views(self, images: Tensor) -> Iterator[Tensor]:
        """The crops, row by row from the top left."""
        size = self.net.image_size
        rows, columns = (self.offsets(side - size) for side in images.shape[2:])
        for top in rows:
            for left in columns:
                yield images[..., top : top + size, left : left + size]

    def offsets(self, room: int) -> list[int]:
        """Where the crops begin along a side that is ``room`` pixels longer than they are."""
        if self.grid == 1:
            return [room // 2]
        return [round(i * room / (self.grid - 1)) for i in range(self.grid)]


class Test(Protocol):
    """What turns images into class probabilities."""

    @property
    def num_classes(self) -> int: ...

    def __call__(self, images: Images, /) -> Tensor: ...


class Fusion:
    """The mean of several tests' probabilities (§4.3, §4.4).

    Of a dense and a multi-crop test of one net, or of tests of several nets.

    Parameters
    ----------
    *tests : callables
        ``Dense``, ``MultiCrop``, other fusions: whatever turns images into probabilities and has
        ``num_classes``. Each counts the same.

    Raises
    ------
    ValueError
        If there is none, or they differ in their number of classes.
    """

    def __init__(self, *tests: Test):
        if not tests:
            raise ValueError("Fusion needs at least 1 test, such as Dense(net), got 0")
        classes = [test.num_classes for test in tests]
        if len(set(classes)) > 1:
            raise ValueError(
                f"the tests of a fusion must have the same classes, these have "
                f"{', '.join(map(str, classes))} of them; build the nets with one num_classes"
            )
        self.tests, self.num_classes = tests, classes[0]

    def __call__(self, images: Images) -> Tensor:
        """Class probabilities of the images, (N, num_classes), on the first test's device."""
        first, *others = (test(images) for test in self.tests)
        return sum((other.to(first.device) for other in others), first) / len(self.tests)


def check_scales(scales: int | Sequence[int], least: int, why: str) -> tuple[int, ...]:
    """The test scales Q; a ValueError if there is none, or one of less than so many pixels."""
    given = tuple(np.atleast_1d(scales)) if not isinstance(scales, str) else ()
    try:
        return tuple(checks.whole("scales", q, least) for q in given or [None])
    except ValueError:
        raise ValueError(
            f"scales must be whole numbers of at least {least} px, {why}; got {scales!r}"
        ) from None


def rescaled(images: Images, scale: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images with the shorter side at Q, in groups of one size: their indices, the group."""
    if isinstance(images, Tensor):
        if images.ndim != 4 or images.shape[1] != 3 or images.dtype != torch.uint8:
            raise ValueError(
                "a test takes uint8 images (N, 3, H, W), 0–255 and not yet normalised, or a "
                f"sequence of pictures; got {images.dtype} of shape {tuple(images.shape)}"
            )
        if len(images):
            yield torch.arange(len(images)), tvf.resize(images, [scale], antialias=True)
        return
    groups = defaultdict(list)
    for index, image in enumerate(images):
        if isinstance(image, Image.Image):
            image = tvf.pil_to_tensor(tvf.resize(rgb(image), [scale]))
        elif isinstance(image, Tensor) and image.ndim == 3 and image.dtype == torch.uint8:
            image = tvf.resize(rgb(image), [scale], antialias=True)
        else:
            raise TypeError(
                "a test takes PIL images or uint8 tensors (3, H, W), got "
                f"{type(image).__name__} at place {index}"
            )
        groups[image.shape].append((index, image))
    for members in groups.values():
        indices, same = zip(*members, strict=True)
        yield torch.tensor(indices), torch.stack(same)
