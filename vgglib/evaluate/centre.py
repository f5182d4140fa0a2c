"""How well does a net do on one centre crop an image?

Loss and accuracy of the plainest test there is, or of that crop and its mirror image (§3.2).
Training validates with it, chapters 2–5 measure with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from ..augment import centre_crop, normalise
from ..data import ImageSet
from ..model import VGG
from ..precision import autocast


@torch.no_grad()
def evaluate(
    model: VGG,
    split: ImageSet | Dataset,
    mean: Sequence[float],
    std: Sequence[float] | None = None,
    *,
    batch_size: int = 500,
    precision: str = "fp32",
    workers: int = 0,
    mirror: bool = False,
) -> dict[str, float]:
    """Loss and accuracy over a set of images, on the device where the model is.

    Parameters
    ----------
    model : VGG
        Put into evaluation mode for the test and back afterwards.
    split : ImageSet or Dataset
        In-memory images of the net's size, or a dataset of (PIL image, class), from which a centre
        crop is taken after rescaling the shorter side to 256/224 of the net's size.
    mean, std : three floats
        The normalisation the net was trained with, in 0–255 units: ``recipe.normalisation(data)``.
    batch_size : int
    precision : {"fp32", "bf16", "auto"}
    workers : int
        Processes that read a dataset from disk.
    mirror : bool
        Average the class probabilities of each image and of its mirror image, as the paper does
        (§3.2).

    Returns
    -------
    dict
        ``loss`` (mean cross-entropy in nats), ``top1`` and ``top5`` (fractions of the images; top5
        only with more than five classes).

    Raises
    ------
    ValueError
        If the set is empty or holds a class that the net does not have.
    """
    if len(split) == 0:
        raise ValueError("evaluate needs at least 1 image, got 0")
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    loss = torch.zeros((), dtype=torch.double, device=device)
    hits = torch.zeros(5, dtype=torch.long, device=device)
    try:
        for images, labels in _batches(
            split, model.image_size, mean, std, batch_size, workers, device
        ):
            check_labels(labels, model)
            with autocast(device, precision):
                scores = model(images).float()  # (N, classes)
                mirrored = model(images.flip(-1)).float() if mirror else None
            if mirror:  # the sum of the two probabilities; what divides it by two cancels out
                scores = torch.logaddexp(scores.log_softmax(1), mirrored.log_softmax(1))
            loss += F.cross_entropy(scores, labels, reduction="sum")
            best = scores.topk(min(5, scores.shape[1])).indices  # (N, 5)
            found = (best == labels[:, None]).cumsum(1).sum(0)  # (5,): in the first 1, 2, … 5
            hits[: len(found)] += found
    finally:
        model.train(was_training)
    result = {"loss": loss.item() / len(split), "top1": hits[0].item() / len(split)}
    if model.num_classes > 5:
        result["top5"] = hits[4].item() / len(split)
    return result


def check_labels(labels: Tensor, model: VGG) -> None:
    """Raise a ValueError if a label is no class of the net; the GPU's own error names nothing."""
    if labels.min() < 0 or labels.max() >= model.num_classes:
        raise ValueError(
            f"the set holds class {labels.max().item()}, the net has classes 0 … "
            f"{model.num_classes - 1}; build it with vgg(…, num_classes={labels.max().item() + 1})"
        )


def read_image(dataset: Dataset, index: int) -> tuple[Image.Image, int]:
    """An RGB image of a dataset and its class; an OSError that names the file if it is damaged."""
    try:
        image, label = dataset[index]
        return image.convert("RGB"), label
    except (OSError, SyntaxError) as error:  # Pillow raises either
        while isinstance(dataset, Subset):
            dataset, index = dataset.dataset, dataset.indices[index]
        samples = getattr(dataset, "samples", None)
        where = samples[index][0] if samples else f"number {index}"
        raise OSError(
            f"the image {where} cannot be read ({error}); mend or replace it, then go on with the "
            "last checkpoint (--resume)"
        ) from error


class Transformed(Dataset):
    """A dataset of (PIL image, class) with a transform in front of it."""

    def __init__(self, dataset: Dataset, transform):
        self.dataset, self.transform = dataset, transform

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = read_image(self.dataset, index)
        return self.transform(image), label


def _batches(
    split, size, mean, std, batch_size, workers, device
) -> Iterator[tuple[Tensor, Tensor]]:
    if isinstance(split, ImageSet):
        for start in range(0, len(split), batch_size):
            part = split[start : start + batch_size]
            yield normalise(part.images.to(device), mean, std), part.labels.to(device)
    else:
        crop = centre_crop(round(size * 256 / 224), size, mean=mean, std=std)
        loader = DataLoader(
            Transformed(split, crop),
            batch_size,
            num_workers=workers,
            pin_memory=device.type == "cuda",
            # Its own generator: a test must not move the one that the training draws from.
            generator=torch.Generator(),
        )
        for images, labels in loader:
            yield images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
