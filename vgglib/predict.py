"""What does a net see in these pictures?"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from . import checks
from .augment import centre_crop
from .modes import as_it_was
from .pictures import read
from .pixels import Pixels, inside, pixels_of
from .precision import autocast

Picture = Image.Image | str | os.PathLike | np.ndarray | Tensor


@torch.no_grad()
def predict(
    net: nn.Module,
    images: Picture | Sequence[Picture],
    top: int = 5,
    *,
    classes: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    image_size: int | None = None,
    batch_size: int = 64,
    precision: str = "fp32",
) -> pd.DataFrame:
    """The most probable classes of pictures, from the centre crop of each.

    Parameters
    ----------
    net : nn.Module
        A VGG, or any net that maps (N, 3, H, W) to class scores. Left in the mode that it is in.
    images : one picture, or a sequence or batch of them
        A picture is a PIL image, the path of a file, or uint8 pixels: an array (H, W, 3) or
        (H, W), a tensor (3, H, W); a batch of pixels is an array (N, H, W, 3) or a tensor
        (N, 3, H, W). Tensors in floating point are taken as they are, as ``net.transforms()``
        gives them.
    top : int
        Classes a picture; fewer if the net has fewer.
    classes : sequence of str, optional
        Their names; the net's own (``net.classes``), else numbers.
    mean, std : a float a channel, optional
        In 0–255 units; the net's own (``net.pixels``) if they are left out.
    image_size : int, optional
        Side of the crop in pixels; the net's own, or 224 for a net that names none.
    batch_size : int
    precision : {"fp32", "bf16", "auto"}

    Returns
    -------
    DataFrame
        A row a picture and class: ``image`` (the file's path, else the picture's number),
        ``rank`` (from 1), ``class`` and ``probability``.

    Raises
    ------
    ValueError, TypeError
        If there is no picture or one is of another kind, the net does not know its normalisation
        and none is given, or the number of names is not that of the classes.
    OSError
        If a file cannot be read or is missing; the message names it.
    """
    one = isinstance(images, (np.ndarray, Tensor)) and images.ndim < 4
    one = one or isinstance(images, (Image.Image, str, os.PathLike))
    pictures: list[Any] = list(images) if isinstance(images, Iterable) and not one else [images]
    if not pictures:
        raise ValueError("predict needs at least 1 picture, got none")
    checks.whole("top", top), checks.whole("batch_size", batch_size)
    some = next(net.parameters())
    size = checks.whole(
        "image_size", getattr(inside(net), "image_size", 224) if image_size is None else image_size
    )
    names = [p if isinstance(p, (str, os.PathLike)) else n for n, p in enumerate(pictures)]
    known = None
    if not all(isinstance(p, Tensor) and p.is_floating_point() for p in pictures):
        known = pixels_of(net, mean, std)
    rows = []
    with as_it_was(net):
        for start in range(0, len(pictures), batch_size):
            part = pictures[start : start + batch_size]
            crops = [_prepared(picture, size, known) for picture in part]
            if len(shapes := {tuple(crop.shape) for crop in crops}) > 1:
                raise ValueError(
                    "tensors in floating point are taken as they are and must have one shape, got "
                    f"{' and '.join(map(str, sorted(shapes)))}; net.transforms() makes such"
                )
            batch = torch.stack(crops)
            with autocast(some.device, precision):
                scores = net(batch.to(some.device, some.dtype))
            rows.append(scores.float().softmax(1).cpu())
    best, which = torch.cat(rows).topk(min(top, rows[0].shape[1]), dim=1)  # (N, top)
    if best.isnan().any():
        raise ValueError("the net gives NaN for some pictures; do they, or its weights, hold NaN?")
    called = getattr(inside(net), "classes", None) if classes is None else list(classes)
    called = range(rows[0].shape[1]) if called is None else called
    if len(called) != rows[0].shape[1]:
        raise ValueError(f"the net has {rows[0].shape[1]} classes, got {len(called)} names")
    return pd.DataFrame(
        [
            {"image": str(name) if isinstance(name, os.PathLike) else name, "rank": rank}
            | {"class": called[index], "probability": value}
            for name, values, indices in zip(names, best.tolist(), which.tolist(), strict=True)
            for rank, (value, index) in enumerate(zip(values, indices, strict=True), start=1)
        ]
    )


def _prepared(picture: Picture, size: int, known: Pixels | None) -> Tensor:
    """One picture as the net takes it, (3, size, size)."""
    kind = type(picture).__name__
    if isinstance(picture, (np.ndarray, Tensor)):
        kind = f"{kind} of {picture.dtype}, {tuple(picture.shape)}"
    if isinstance(picture, (str, os.PathLike)):
        picture = read(os.path.expanduser(picture))
    elif isinstance(picture, Tensor) and picture.ndim == 3 and picture.numel():
        if picture.is_floating_point():
            return picture
        picture = picture.movedim(0, -1).cpu().numpy()  # so that all kinds are resized alike
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.size:
        form = picture.shape[2:]  # (): grey; 2 and 4 channels: how opaque it is comes last
        if picture.ndim > 1 and form in ((), (1,), (2,), (3,), (4,)):
            picture = Image.fromarray(picture[..., 0] if form == (1,) else picture)
    if not isinstance(picture, Image.Image):
        raise TypeError(
            f"a picture is a PIL image, a path, uint8 pixels (H, W, 3) as an array or (3, H, W) as "
            f"a tensor; got {kind}"
        )
    assert known is not None  # but for floats
    return known(centre_crop(round(size * 256 / 224), size)(picture))  # (3, size, size), 0–255
