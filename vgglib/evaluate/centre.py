"""How well does a net do on one centre crop an image?

Loss and accuracy of the plainest test there is, or of that crop and its mirror image (§3.2).
Training validates with it, chapters 2–5 measure with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .. import checks
from ..augment import centre_crop
from ..data import Data, ImageSet
from ..data.sets import Split
from ..devices import sum_dtype
from ..modes import as_it_was
from ..pictures import Pictures, read_image
from ..pixels import inside, pixels_of
from ..precision import autocast


@torch.no_grad()
def evaluate(
    model: nn.Module,
    split: Split,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    *,
    batch_size: int = 500,
    precision: str = "fp32",
    workers: int = 0,
    mirror: bool = False,
    image_size: int | None = None,
) -> dict[str, float]:
    """Loss and accuracy over a set of images, on the device where the model is.

    Parameters
    ----------
    model : nn.Module
        A VGG, or any net that maps (N, C, H, W) to class scores (N, classes).
        Put into evaluation mode for the test and back afterwards.
    split : ImageSet or Dataset
        In-memory images of the net's size, or a dataset of (PIL image, class), from which a centre
        crop is taken after rescaling the shorter side to 256/224 of the net's size.
    mean, std : a float a channel, optional
        The normalisation of the images, in 0–255 units; the net's own (``net.pixels``) if it is
        left out.
    batch_size : int
    precision : {"fp32", "bf16", "auto"}
    workers : int
        Processes that read a dataset from disk.
    mirror : bool
        Average the class probabilities of each image and of its mirror image, as the paper does
        (§3.2).
    image_size : int, optional
        Side in pixels of the centre crop; the net's own, or 224 for a net that names none.

    Returns
    -------
    dict
        ``loss`` (mean cross-entropy in nats), ``top1`` and ``top5`` (fractions of the images; top5
        only with more than five classes).

    Raises
    ------
    ValueError
        If the set is empty or holds a class that the net does not have, or the net does not know
        its normalisation and none is given.
    TypeError
        If they are no images with classes.
    """
    if isinstance(split, Data | Tensor):
        raise TypeError(
            f"evaluate takes images with their classes, an ImageSet or a Dataset, got a "
            f"{type(split).__name__}; data.test is one, and ImageSet(images, labels) makes one"
        )
    if len(split) == 0:
        raise ValueError("evaluate needs at least 1 image, got 0")
    pixels = pixels_of(model, mean, std)
    some = next(model.parameters())
    device = some.device
    image_size = getattr(inside(model), "image_size", 224) if image_size is None else image_size
    crop = centre_crop(round(image_size * 256 / 224), image_size)
    normalised, cuda = pixels.on(device), device.type == "cuda"
    loss = torch.zeros((), dtype=sum_dtype(device), device=device)
    classes = 0
    hits = torch.zeros(5, dtype=torch.long, device=device)
    with as_it_was(model):
        for batch in batches_of(split, batch_size, workers, crop, pin_memory=cuda):
            images, labels = (part.to(device, non_blocking=True) for part in batch)
            images = normalised(images).to(some.dtype)  # of a net in half or in double precision
            with autocast(device, precision):
                scores = model(images).float()  # (N, classes)
                mirrored = model(images.flip(-1)).float() if mirror else None
            classes = scores.shape[1]
            check_labels(labels, classes)
            if mirrored is not None:  # the sum of both; what divides it by two cancels out
                scores = torch.logaddexp(scores.log_softmax(1), mirrored.log_softmax(1))
            loss += F.cross_entropy(scores, labels, reduction="sum")
            best = scores.topk(min(5, scores.shape[1])).indices  # (N, 5)
            found = (best == labels[:, None]).cumsum(1).sum(0)  # (5,): in the first 1, 2, … 5
            hits[: len(found)] += found
    result = {"loss": loss.item() / len(split), "top1": hits[0].item() / len(split)}
    if classes > 5:
        result["top5"] = hits[4].item() / len(split)
    return result


def check_labels(labels: Tensor, classes: int) -> None:
    """Raise a ValueError if a label is no class of the net; the GPU's own error names nothing."""
    checks.labels(labels, classes, "the set", "build the net with vgg(…, num_classes={})")


class Transformed(Dataset):
    """A dataset of (PIL image, class) with a transform in front of it."""

    def __init__(self, dataset: Pictures, transform):
        self.dataset, self.transform = dataset, transform

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = read_image(self.dataset, index)
        # Class numbers come in all widths (NumPy's, pandas'); shares of classes, as of mixup, stay.
        return self.transform(image), label if np.ndim(label) else int(label)


def batches_of(
    split: Split, batch_size: int, workers: int, transform: Callable | None = None, **options
) -> Iterable[tuple]:
    """A split in batches of (images, labels); without a transform pictures come as lists."""
    checks.whole("batch_size", batch_size)
    if isinstance(split, ImageSet):
        parts = (split[start : start + batch_size] for start in range(0, len(split), batch_size))
        return ((part.images, part.labels) for part in parts)
    return DataLoader(
        Transformed(split, transform) if transform else split,  # type: ignore[arg-type]
        batch_size,
        num_workers=workers,
        collate_fn=None if transform else _as_lists,
        # Its own generator: a test must not move the one that the training draws from.
        generator=torch.Generator(),
        **options,
    )


def _as_lists(items: list[tuple]) -> tuple[list, Tensor]:
    """Pictures of different sizes can not be stacked."""
    pictures, labels = zip(*items, strict=True)
    return list(pictures), torch.tensor(labels)
