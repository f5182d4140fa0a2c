"""How does a picture become RGB?

Photographs come as they were saved: grey, with a palette, with 16 bits, see-through, sideways. Each
way by which one enters (class folders, tests, training crops) leads through here, so that the same
file is the same picture everywhere.
"""

from __future__ import annotations

import os
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset, Subset

AnyPicture = TypeVar("AnyPicture", Image.Image, Tensor)


class Pictures(Protocol):
    """A dataset of (PIL image, class) that knows how many it holds, as torchvision's do."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class UnreadableError(OSError):
    """A picture that cannot be read; the message names it and says why."""


def rgb(image: AnyPicture) -> AnyPicture:
    """A picture in RGB, eight bits a channel, upright.

    Palettes are looked up, CMYK is converted, what is see-through is laid on white, and the
    orientation that a camera noted (EXIF) is carried out. Grey of 16 bits is scaled to 8, and so
    are integers and floats: by the smallest of the ranges 0–1 (floats), 0–255 and 0–65535 that
    holds them all.

    Parameters
    ----------
    image : PIL image
        Of any mode; or a uint8 Tensor, (3, H, W), or (1, H, W) in grey, also in batches.

    Returns
    -------
    PIL image of mode "RGB"
        Or a Tensor, (3, H, W).

    Raises
    ------
    TypeError, ValueError
        If it is no picture, a Tensor of another kind, or the range of its values is none of these.
        A damaged file raises whatever Pillow does; :func:`read` names it.
    """
    if isinstance(image, Tensor):
        if image.dtype != torch.uint8 or image.ndim < 3 or image.shape[-3] not in (1, 3):
            raise TypeError(
                "a picture must be a PIL image or a uint8 tensor (3, H, W) of 0–255, got "
                f"{image.dtype} of shape {tuple(image.shape)}; (255 * image).byte() makes one of "
                "floats from 0 to 1, image[:3] leaves the alpha channel out"
            )
        return image.expand(*image.shape[:-3], 3, -1, -1)
    if not isinstance(image, Image.Image):
        raise TypeError(
            f"a picture must be a PIL image, got {type(image).__name__}; PIL.Image.fromarray makes "
            "one of an array, PIL.Image.open of a file"
        )
    image.load()  # first: what asks for a camera's notes would load it and swallow the error
    if _orientation(image) > 1:
        image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        image = _eight_bits(image)
    if image.mode == "P" or image.getbands()[-1] in ("A", "a") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def read(path: str | os.PathLike) -> Image.Image:
    """The picture in a file, as :func:`rgb` makes it.

    Raises
    ------
    UnreadableError
        If it holds no picture, a damaged one, or one that Pillow takes for an attack: too many
        pixels, or text that unpacks to megabytes. FileNotFoundError if there is no such file.
    """
    try:
        with Image.open(path) as image:
            return rgb(image)
    except FileNotFoundError:
        raise
    except Exception as error:  # Pillow has no class for what it raises on damaged files
        raise _unreadable(path, error) from error


def read_image(dataset: Pictures | Dataset, index: int) -> tuple[Image.Image, int]:
    """A picture of a dataset of (PIL image, class), as :func:`rgb` makes it, and its class.

    Raises
    ------
    UnreadableError
        It names the file, where the dataset lists its files, also through a ``Subset``.
    TypeError
        If an item is no such pair.
    """
    try:
        item = dataset[index]
        if isinstance(item, tuple | list) and len(item) == 2 and isinstance(item[0], Image.Image):
            return rgb(item[0]), item[1]
    except UnreadableError:
        raise
    except Exception as error:
        while isinstance(dataset, Subset):
            index, dataset = dataset.indices[index], dataset.dataset
        samples = getattr(dataset, "samples", None)
        raise _unreadable(samples[index][0] if samples else f"number {index}", error) from error
    if not isinstance(item, tuple | list) or len(item) != 2:
        kind = f"{len(item)} values" if isinstance(item, tuple | list) else type(item).__name__
        raise TypeError(f"a dataset gives pairs (PIL image, class), got {kind} at place {index}")
    return rgb(item[0]), item[1]  # a tensor, or what rgb names


def _unreadable(where: object, error: Exception) -> UnreadableError:
    why = " ".join(str(error).split()) or type(error).__name__
    return UnreadableError(
        f"the picture {where} cannot be read ({why}); mend it or replace it, for example by a copy "
        "of another one of its class: a run does not go on with a set that has lost a picture"
    )


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged notes of a camera are no reason to refuse its picture
        return 1


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits, integers or floats as grey of eight bits."""
    values = np.asarray(image).astype(np.float64)
    low, high = values.min(), values.max()
    tops = {"F": (1, 255, 65535), "I": (255, 65535)}.get(image.mode, (65535,))
    top = next((top for top in tops if low >= 0 and high <= top), None)
    if top is None:
        raise ValueError(
            f"its mode is {image.mode!r} with values from {low:g} to {high:g}; integers must lie "
            "in 0–255 or 0–65535, floats in 0–1 or one of these: scale them first"
        )
    return Image.fromarray((values * (255 / top)).round().astype(np.uint8))
