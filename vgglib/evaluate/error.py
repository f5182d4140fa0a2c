"""How often is the true class not among the first k?

Top-1 and top-5 error, the measures of the paper (§4), over any images and any test, also shared
between the processes of ``torchrun``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from numbers import Integral

import torch
from torch import Tensor
from torch.utils.data import Dataset

from .. import checks
from ..data import ImageSet
from ..data.sets import Split, part_of
from ..devices import Place, sum_dtype
from .centre import batches_of


def top_k_error(
    test: Callable[..., Tensor],
    images: Split | Iterable,
    k: int | Sequence[int] = (1, 5),
    *,
    batch_size: int = 64,
    workers: int = 0,
) -> dict[int, float]:
    """Fraction of the images whose class is not among the k most probable ones (§4).

    Parameters
    ----------
    test : callable
        Images → probabilities or scores (N, classes): :class:`Dense`, :class:`MultiCrop`,
        :class:`Fusion`; or a net, where ``images`` is a loader of normalised tensors.
    images : ImageSet, Dataset or iterable
        A set in memory; a dataset of (PIL image, class); or a loader of (images, classes), whatever
        images the test takes.
    k : int or sequence of int
    batch_size, workers : int
        Images at a time, and processes that read a dataset from disk.

    Returns
    -------
    dict
        k → error between 0 and 1.

    Raises
    ------
    ValueError
        If there are no images, a class is none of the test's, k is larger than the number of
        classes, or a probability is not a number.

    Notes
    -----
    Under ``torchrun`` each process tests every n-th image of a set and the counts are summed; a
    loader has to hand each process its own share already.
    """
    ks: tuple[int, ...] = (k,) if isinstance(k, int) else tuple(k)
    if not ks or any(not isinstance(n, Integral) or n < 1 for n in ks):
        raise ValueError(f"k must be positive integers such as (1, 5), got {ks!r}")
    place = Place.here()
    counts = torch.zeros(len(ks) + 1, dtype=torch.double)  # wrong in the first k …, images
    for batch, labels in _batches(images, place, batch_size, workers):
        scores = test(batch).cpu()
        labels = torch.as_tensor(labels)
        _check(scores, labels, ks)
        best = scores.topk(max(ks)).indices == labels[:, None]  # (N, max k)
        for place_of_k, n in enumerate(ks):
            counts[place_of_k] += (~best[:, :n].any(1)).sum()
        counts[-1] += len(labels)
    *wrong, total = place.total(counts.to(place.device, sum_dtype(place.device))).tolist()
    if not total:
        raise ValueError("top_k_error needs at least 1 image, got 0")
    return {n: count / total for n, count in zip(ks, wrong, strict=True)}


def _batches(images, place: Place, batch_size: int, workers: int) -> Iterable[tuple]:
    """Pairs of images and classes, this process's share of a set."""
    if not isinstance(images, ImageSet | Dataset):
        return images
    mine = part_of(images, range(place.rank, len(images), place.world))  # type: ignore[arg-type]
    return batches_of(mine, batch_size, workers)


def _check(scores: Tensor, labels: Tensor, k: tuple[int, ...]) -> None:
    if scores.ndim != 2 or len(scores) != len(labels):
        raise ValueError(
            f"the test gave {tuple(scores.shape)} for {len(labels)} images; it has to give a row "
            "of class probabilities for each"
        )
    classes = scores.shape[1]
    if max(k) > classes:
        raise ValueError(f"there is no top-{max(k)} error among {classes} classes; lower k")
    checks.labels(labels, classes, "the set", "test it with a net of as many classes")
    if scores.isnan().any():
        raise ValueError(
            f"the test gave NaN for {int(scores.isnan().any(1).sum())} of {len(scores)} images; do "
            "the net's weights hold NaN?"
        )
