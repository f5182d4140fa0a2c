"""How are pixels shown? Pictures, filters and feature maps, side by side (chapters 3 and 6)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from PIL.Image import Image
from torch import Tensor

from ..pictures import rgb
from .figures import TITLE, WIDTH, style, subplots


@style()
def image_grid(
    images: Iterable,
    titles: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    title: str = "",
) -> Figure:
    """Pictures side by side.

    Parameters
    ----------
    images : Tensor (N, 3, H, W), or a sequence of pictures
        A picture is a PIL image, a uint8 tensor (3, H, W) or array (H, W, 3), or a float tensor
        in 0..1; one channel, (H, W) or (1, H, W), is shown in grey.
    titles : sequence of str, optional
        One a picture.
    columns : int, optional
        Default: up to five.
    mean, std : three floats, optional
        Undo a normalisation first: pixels = ``image * std + mean`` in 0–255. ``std`` defaults to 1.
    title : str
        Above all of them.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there are no pictures, the titles do not match, or a float picture leaves 0..1.
    """
    pictures = [picture_of(image, mean, std) for image in images]
    if not pictures:
        raise ValueError("image_grid needs at least 1 image, got 0")
    if titles is not None and len(titles) != len(pictures):
        raise ValueError(
            f"image_grid: {len(pictures)} images need as many titles, got {len(titles)}"
        )
    columns = min(columns or 5, len(pictures))
    rows = -(-len(pictures) // columns)
    shape = max(picture.shape[0] / picture.shape[1] for picture in pictures)
    line = 0.13 + 0.17 * (1 + max(text.count("\n") for text in titles)) if titles else 0.05
    height = rows * (WIDTH / columns * shape + line) + (TITLE if title else 0)
    fig, axes = subplots(rows, columns, height=height, squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for index, (ax, picture) in enumerate(zip(axes.flat, pictures, strict=False)):
        show_picture(ax, picture)
        if titles is not None:
            ax.set_title(titles[index], loc="center", fontsize=11)
    if title:
        fig.suptitle(title, x=0.01, ha="left", fontsize=12)
    return fig


@style()
def filters(weights: Tensor, *, columns: int = 16, title: str = "") -> Figure:
    """Convolution kernels as little pictures, side by side (chapter 6).

    Parameters
    ----------
    weights : Tensor, (filters, 3 or 1, height, width), 0 to 1
        From :func:`vgglib.features.first_filters`.
    columns : int
    title : str

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If the weights have another shape or range.
    """
    if weights.ndim != 4:
        raise ValueError(
            f"filters takes (filters, channels, height, width), got {weights.ndim} axes"
        )
    tiles = np.stack([picture_of(weight) for weight in weights])
    fig, _, _ = _sheet(tiles, columns, title, blank=1.0, cmap="gray")
    return fig


@style()
def feature_maps(
    activation: Tensor,
    channels: Sequence[int] | int = 16,
    *,
    columns: int = 8,
    title: str = "",
) -> Figure:
    """Channels of a feature map side by side, each on its own scale from its least to its most.

    Parameters
    ----------
    activation : Tensor, (1, C, H, W) or (C, H, W)
        From :func:`vgglib.features.activations`.
    channels : sequence of int, or int
        Which; a number means that many with the highest mean. Each is labelled with its number.
    columns : int
    title : str

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If the tensor is no feature map of one image, or has no such channel.
    """
    maps = activation.detach().float().cpu()
    maps = maps[0] if maps.ndim == 4 and len(maps) == 1 else maps
    if maps.ndim != 3:
        raise ValueError(
            f"feature_maps takes one image's map, (C, H, W), got {tuple(activation.shape)}"
        )
    if isinstance(channels, int):
        strongest = maps.mean(dim=(1, 2)).argsort(descending=True, stable=True)
        channels = strongest[:channels].tolist()
    if not channels or not all(0 <= channel < len(maps) for channel in channels):
        raise ValueError(f"channels must lie in 0 to {len(maps) - 1}, got {channels}")
    tiles = maps[list(channels)].numpy()
    low, high = tiles.min(axis=(1, 2), keepdims=True), tiles.max(axis=(1, 2), keepdims=True)
    tiles = (tiles - low) / np.maximum(high - low, 1e-12)
    fig, ax, corners = _sheet(tiles, columns, title, blank=np.nan, cmap="viridis")
    for channel, (top, left) in zip(channels, corners, strict=True):
        ax.text(
            left, top, f" {channel}", color="white", va="top", fontsize=9,
            path_effects=[withStroke(linewidth=2, foreground="black")],
        )  # fmt: skip
    return fig


def _sheet(
    tiles: np.ndarray, columns: int, title: str, *, blank: float, cmap: str
) -> tuple[Figure, Axes, list[tuple[int, int]]]:
    """Draw tiles (N, H, W[, 3]), 0 to 1, on a blank sheet; figure, axes, (top, left) of each."""
    n, height, width = tiles.shape[:3]
    columns = min(columns, n)
    gap = max(1, height // 16)
    rows = -(-n // columns)
    size = (rows * (height + gap) - gap, columns * (width + gap) - gap)
    sheet = np.full(size + tiles.shape[3:], blank, dtype=float)
    corners = [(i // columns * (height + gap), i % columns * (width + gap)) for i in range(n)]
    for tile, (top, left) in zip(tiles, corners, strict=True):
        sheet[top : top + height, left : left + width] = tile
    fig, ax = subplots(height=WIDTH * size[0] / size[1] + (TITLE if title else 0))
    ax.imshow(sheet, cmap=cmap, vmin=0, vmax=1, interpolation="nearest")
    ax.axis("off")
    ax.set_title(title)
    return fig, ax, corners


def show_picture(ax: Axes, picture: np.ndarray) -> None:
    """Show one picture; small ones with visible pixels instead of a blur."""
    small = max(picture.shape[:2]) <= 64
    ax.imshow(
        picture, cmap="gray", vmin=0, vmax=255 if picture.dtype == np.uint8 else 1,
        interpolation="nearest" if small else "antialiased",
    )  # fmt: skip


def picture_of(image: object, mean=None, std=None) -> np.ndarray:
    """Any picture as an array (H, W, 3) or (H, W): uint8, or float in 0..1."""
    if isinstance(image, Tensor):
        image = image.detach().cpu()
        array = image.float().numpy() if image.is_floating_point() else image.numpy()
        if array.ndim == 3:
            array = array.transpose(1, 2, 0)  # (H, W, C)
    else:
        array = np.asarray(rgb(image) if isinstance(image, Image) and image.mode != "L" else image)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise ValueError(
            f"a picture has 1 or 3 channels, got (height, width, channels) {array.shape}"
        )
    if mean is not None:
        scale = np.asarray(1.0 if std is None else std, dtype=np.float32)
        array = (array * scale + np.asarray(mean, dtype=np.float32)) / 255
        array = array.clip(0, 1)  # rounding, and colour shifts beyond what a screen can show
    if array.dtype == np.uint8:
        return array
    low, high = float(array.min()), float(array.max())
    if not (low >= -1e-4 and high <= 1 + 1e-4):
        raise ValueError(
            f"a float picture must lie in 0..1, this one spans {low:.3g} to {high:.3g}; "
            "pass mean=… (and std=…) to undo the normalisation"
        )
    return array.clip(0, 1)
