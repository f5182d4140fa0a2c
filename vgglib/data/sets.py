"""What is a data set, once it is here?

Two splits, their classes, and the mean and deviation of the training pixels. A split is an
:class:`ImageSet`, whose images lie in memory, or a torch dataset of (PIL image, class).

Pixels stay whole numbers from 0 to 255 here. Cropping and mean subtraction (§2.1, §3.1) belong to
:mod:`vgglib.augment`.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset
from torchvision.transforms.v2.functional import to_image

from .. import checks
from ..pictures import Pictures, read_image

#: Mean and standard deviation of ImageNet's training pixels, RGB, in units of 0–255. The mean is
#: the one published with the paper's models, the deviation the one torchvision's models use.
IMAGENET_MEAN = (123.68, 116.779, 103.939)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)

SAMPLE = 500  # pictures of a folder from which its mean and deviation are measured


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images and their labels, held in memory.

    ``len(s)`` counts the images; ``s[:1000]``, ``s[[3, 1]]`` and ``s[tensor]`` (indices or a mask)
    are again an ImageSet; ``s[7]`` is the pair (image, label), so a DataLoader accepts it too.

    Parameters
    ----------
    images : torch.Tensor
        uint8, (N, 3, height, width), RGB.
    labels : torch.Tensor
        int64, (N,), class numbers from 0.

    Raises
    ------
    TypeError, ValueError
        If either is of another type or shape, or a label is negative.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self):
        for name, value, dtype, hint in (
            ("images", self.images, torch.uint8, "pixels from 0 to 255"),
            ("labels", self.labels, torch.int64, "as labels.long() gives"),
        ):
            got = value.dtype if isinstance(value, Tensor) else type(value).__name__
            if got != dtype:
                raise TypeError(
                    f"ImageSet: {name} must be a torch.Tensor of {dtype} ({hint}), got {got}; "
                    "torch.from_numpy(...) makes one from an array"
                )
        if self.images.ndim != 4 or self.images.shape[1] != 3:
            raise ValueError(
                "ImageSet: images must have the shape (N, 3, height, width), "
                f"got {tuple(self.images.shape)}; channels that come last are brought there by "
                "permute(0, 3, 1, 2)"
            )
        if self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"ImageSet: {len(self.images)} images need labels of shape "
                f"({len(self.images)},), got {tuple(self.labels.shape)}"
            )
        if len(self.labels) and self.labels.min() < 0:
            raise ValueError(f"ImageSet: labels must be 0 or more, got {int(self.labels.min())}")

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return ImageSet(self.images[index], self.labels[index])
        if isinstance(index, (list, range, np.ndarray, Tensor)) and np.ndim(index):
            empty = not len(index)  # an empty list has no numbers to tell its type from
            index = torch.as_tensor(index, dtype=torch.int64 if empty else None)
            if index.dtype == torch.uint8:  # numbers here, which torch would read as a mask
                index = index.long()
            if index.ndim != 1 or index.is_floating_point():
                raise TypeError(
                    "ImageSet: an index must be a number, a slice, or one row of whole numbers or "
                    f"booleans; got {index.dtype} of shape {tuple(index.shape)}"
                )
            return ImageSet(self.images[index], self.labels[index])
        try:
            index = operator.index(index)
        except TypeError:
            raise TypeError(
                "ImageSet: an index must be a number, a slice, a list, an array or a tensor; "
                f"got {type(index).__name__}"
            ) from None
        if not -len(self) <= index < len(self):
            raise IndexError(f"ImageSet: index {index} is out of range for {len(self)} images")
        return self.images[index], int(self.labels[index])

    def __repr__(self) -> str:
        return f"ImageSet({len(self):,} images of {tuple(self.images.shape[1:])})"


#: One part of a data set: in memory, or read from a folder.
Split: TypeAlias = ImageSet | Pictures


def part_of(split: Split, indices: Sequence[int]) -> Split:
    """These images of a split, as a split."""
    if isinstance(split, ImageSet):
        return split[indices]
    return Subset(split, indices)  # type: ignore[arg-type]


def labels_of(split: Split | Dataset) -> Tensor | None:
    """All labels of a split, (N,) int64, without reading a picture; None if it does not list them.

    Datasets list them as torchvision's do, in ``targets``; a ``Subset`` has those of its dataset.
    """
    if isinstance(split, ImageSet):
        return split.labels
    if isinstance(split, Subset):
        labels = labels_of(split.dataset)
        return None if labels is None else labels[torch.as_tensor(list(split.indices)).long()]
    targets = getattr(split, "targets", None)
    return None if targets is None else torch.as_tensor(targets).long()


@dataclass(frozen=True, eq=False)
class Data:
    """A data set with its training and its test split.

    Parameters
    ----------
    name : str
        What it is. After a fallback, the name of the fallback.
    train, test : ImageSet or Dataset
        In memory, or read from a folder: items (PIL image, class). ``test`` is what one validates
        on, as in the paper (§4); with None nothing is validated.
    classes : tuple of str
        Name of each class, in the order of the labels.
    source : str
        Who made it, and how it was checked.
    moments : pair of three floats, optional
        Mean and standard deviation of the training pixels, 0–255, if they are known.

    Raises
    ------
    ValueError
        If a label has no class.
    """

    name: str
    train: Split
    test: Split | None
    classes: tuple[str, ...]
    source: str
    moments: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    def __post_init__(self):
        for split in (self.train, self.test):
            labels = None if split is None else labels_of(split)
            if labels is not None:
                remedy = "name them all in classes="
                checks.labels(labels, len(self.classes), f"Data: {self.name}", remedy)

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel over the training pixels, 0–255 (§2.1: the one preprocessing).

        Where ``moments`` does not give it, it is measured: over all images in memory, or over 500
        pictures of a folder, evenly spread and each counted the same, which are read for it.
        """
        return self._moments[0]

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel over the training pixels, 0–255, as ``mean``."""
        return self._moments[1]

    @cached_property
    def _moments(self):
        if self.moments is not None:
            return self.moments
        if isinstance(self.train, ImageSet):
            counts = _counts(self.train.images.transpose(0, 1))
        else:
            counts = torch.zeros(3, 256, dtype=torch.double)
            for index in evenly(len(self.train), SAMPLE):
                here = _counts(to_image(read_image(self.train, index)[0]))
                counts += here / here.sum(1, keepdim=True)
        values = torch.arange(256, dtype=torch.double)
        means, stds = [], []
        for share in counts / counts.sum(1, keepdim=True):
            means.append(float(share @ values))
            stds.append(float((share @ (values - means[-1]) ** 2).sqrt()))
        return tuple(means), tuple(stds)

    def limited(self, count: int) -> Data:
        """The same with so many training images.

        In memory the first ones, as all these sets are mixed; of a folder, which is sorted by
        class, some of each class, evenly spread.
        """
        checks.whole("limit (--limit)", count)
        if isinstance(self.train, ImageSet):
            return replace(self, train=self.train[:count])
        return replace(self, train=part_of(self.train, evenly(len(self.train), count)))

    def __repr__(self) -> str:
        return (
            f"Data({self.name!r}, {len(self.train):,} training and {len(self.test or ()):,} test "
            f"images, {len(self.classes)} classes)"
        )


def _counts(channels: Tensor) -> Tensor:
    """How often each value of a byte occurs, (3, 256): exact sums without a float copy."""
    rows = (torch.bincount(channel.flatten().cpu(), minlength=256) for channel in channels)
    return torch.stack(list(rows)).double()


def evenly(total: int, count: int) -> list[int]:
    """``count`` of the numbers below ``total``, evenly spread; all, if there are no more."""
    count = min(total, count)
    return [number * total // count for number in range(count)]
