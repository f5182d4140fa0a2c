"""How is a training crop made?

Rescale so that the shorter side is S, cut a random square, mirror it half of the time, shift its
colour along the principal axes of RGB space, subtract the mean (§3.1, chapter 3). Twice: as
torchvision transforms for photographs read from disk, and for whole batches of small images that
live on the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from . import checks
from .pictures import rgb

#: Eigenvalues and eigenvectors (columns) of the RGB covariance of ImageNet's training pixels in
#: [0, 1], as published with fb.resnet.torch and used by most ImageNet code since.
IMAGENET_RGB_PCA = (
    torch.tensor([0.2175, 0.0188, 0.0045]),
    torch.tensor(
        [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
    ),
)


def normalise(
    images: Tensor, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor | None = None
) -> Tensor:
    """Subtract the mean colour, the paper's only preprocessing (§2.1), and optionally divide.

    Parameters
    ----------
    images : Tensor, (..., C, H, W)
        Pixels in 0–255, of any dtype.
    mean, std : a float a channel
        Per channel, in 0–255 units; without ``std`` the pixels keep their scale, as in the paper.

    Returns
    -------
    Tensor, (..., C, H, W), floating point
    """
    images = images if images.is_floating_point() else images.float()

    def column(values):
        return torch.as_tensor(values, device=images.device, dtype=images.dtype).view(-1, 1, 1)

    images = images - column(mean)
    return images if std is None else images.div_(column(std))


def rgb_pca(images: Tensor) -> tuple[Tensor, Tensor]:
    """Principal axes of the colours of a training set, for :class:`ColourShift`.

    Parameters
    ----------
    images : Tensor, (N, 3, H, W), uint8

    Returns
    -------
    eigenvalues : Tensor, (3,)
        Largest first, of the covariance of pixels scaled to [0, 1].
    eigenvectors : Tensor, (3, 3)
        One axis a column.
    """
    pixels = images.movedim(1, 0).reshape(3, -1).double() / 255  # (3, N·H·W)
    values, vectors = torch.linalg.eigh(torch.cov(pixels))
    return values.flip(0).float(), vectors.flip(1).float()


class ColourShift(nn.Module):
    """AlexNet's random RGB shift (Krizhevsky et al., 2012, §4.1), which VGG uses too (§3.1).

    To every pixel of an image the same colour Σ αᵢ λᵢ pᵢ is added, with λᵢ, pᵢ the eigenvalues and
    eigenvectors of the RGB covariance and αᵢ ~ N(0, std²) drawn anew for each image. λ is a
    *variance*, so the formula depends on the units of the pixels: with pixels in [0, 1] a shift is
    a few grey levels of 255, with pixels in 0–255 it would be hundreds. The former is meant.

    Parameters
    ----------
    eigenvalues, eigenvectors : Tensor, (3,) and (3, 3)
        As :func:`rgb_pca` returns them (pixels in [0, 1]); ImageNet's by default.
    std : float
        Standard deviation of α.
    """

    axes: Tensor

    def __init__(
        self,
        eigenvalues: Tensor = IMAGENET_RGB_PCA[0],
        eigenvectors: Tensor = IMAGENET_RGB_PCA[1],
        std: float = 0.1,
    ):
        super().__init__()
        if eigenvalues.shape != (3,) or eigenvectors.shape != (3, 3):
            raise ValueError(
                "ColourShift needs eigenvalues of shape (3,) and eigenvectors of shape (3, 3), got "
                f"{tuple(eigenvalues.shape)} and {tuple(eigenvectors.shape)}; rgb_pca makes them"
            )
        self.register_buffer("axes", 255 * eigenvectors * eigenvalues)  # (3, 3), 0–255 units
        self.std = checks.real("std", std, "[0, ∞)")

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Shift (3, H, W) or each image of (N, 3, H, W), floating point in 0–255 units."""
        batch = images.shape[:-3]
        alpha = torch.randn(*batch, 3, generator=generator, device=images.device) * self.std
        shift = alpha @ self.axes.to(images.device).T  # (..., 3)
        return images + shift[..., None, None].to(images.dtype)


def training_crop(
    scale: int | tuple[int, int] = 256,
    crop: int = 224,
    *,
    flip: bool = True,
    colour_shift: ColourShift | None = None,
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    std: Sequence[float] | None = None,
) -> v2.Compose:
    """The paper's training crop of a photograph (§3.1), from torchvision's transforms.

    Parameters
    ----------
    scale : int or (int, int)
        S, the shorter side in pixels after rescaling with the aspect ratio kept; a pair
        (S_min, S_max) draws S anew for each image ("scale jittering").
    crop : int
        Side of the square that is cut out, in pixels.
    flip : bool
        Mirror half of the crops.
    colour_shift : ColourShift, optional
    mean, std : three floats
        See :func:`normalise`.

    Returns
    -------
    torchvision.transforms.v2.Compose
        PIL image of any mode (or uint8 tensor) → float tensor (3, crop, crop).

    Raises
    ------
    ValueError
        If S is smaller than the crop, or a value is of another kind; the message says which.
    """
    low, high = _check_scale(scale, crop)
    resize = v2.RandomShortestSize(list(range(low, high + 1))) if high > low else v2.Resize(low)
    steps = [rgb, resize, v2.RandomCrop(int(crop))]
    if flip:
        steps.append(v2.RandomHorizontalFlip())
    steps += _to_pixels()
    if colour_shift is not None:
        steps.append(colour_shift)
    steps.append(_normalising(mean, std))
    return v2.Compose(steps)


def centre_crop(
    scale: int = 256,
    crop: int = 224,
    *,
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    std: Sequence[float] | None = None,
) -> v2.Compose:
    """The plain test crop: rescale the shorter side to ``scale``, cut the centre out, normalise.

    Parameters, result and errors as for :func:`training_crop`.
    """
    scale, _ = _check_scale(scale, crop)
    steps = [rgb, v2.Resize(scale), v2.CenterCrop(int(crop)), *_to_pixels()]
    return v2.Compose([*steps, _normalising(mean, std)])


def batch_crops(
    images: Tensor,
    size: int,
    *,
    scale: tuple[int, int] | None = None,
    pad: int = 0,
    flip: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Random training crops of a batch of small images, each image with its own draw.

    Rescaling, cropping and mirroring are one resampling of the batch on its device, so no image
    goes through Python by itself.

    Parameters
    ----------
    images : Tensor, (N, 3, H, H)
        Square images, uint8 or floating point.
    size : int
        Side of the crops in pixels.
    scale : (int, int), optional
        Each image is rescaled to a side drawn from S_min … S_max; without it none is rescaled.
    pad : int
        Pixels of zeros around the (rescaled) image from which the crop may also be cut: the usual
        choice for CIFAR-10 is 4. The paper does not pad.
    flip : bool
        Mirror half of the crops.
    generator : torch.Generator, optional
        On the device of the images.

    Returns
    -------
    Tensor, (N, 3, size, size), float32, in the units of the images

    Raises
    ------
    ValueError
        If the images are not square, or too small for the crop.
    """
    if images.ndim != 4 or images.shape[2] != images.shape[3]:
        raise ValueError(f"batch_crops takes square images (N, C, H, H), got {tuple(images.shape)}")
    count, side, device = len(images), images.shape[-1], images.device
    low, high = (side, side) if scale is None else _check_scale(scale, size)
    if low + 2 * pad < size:
        raise ValueError(
            f"crops of {size} px do not fit into images of {low} px padded by {pad}; "
            "make pad or scale larger, or the crop smaller"
        )

    def uniform(*shape):
        return torch.rand(*shape, generator=generator, device=device)

    rescaled = low + torch.floor(uniform(count) * (high - low + 1))  # (N,), S of each image
    room = rescaled + 2 * pad - size
    offset = torch.floor(uniform(2, count) * (room + 1)) - pad  # (2, N), in rescaled pixels
    mirrored = uniform(count) < 0.5 if flip else None
    if low == high == side:  # nothing to resample: each crop is a window of its padded image
        windows = F.pad(images, (pad,) * 4).unfold(2, size, 1).unfold(3, size, 1)
        top, left = (offset + pad).long()
        crops = windows[torch.arange(count, device=device), :, top, left]  # (N, 3, size, size)
        if mirrored is not None:
            crops = torch.where(mirrored[:, None, None, None], crops.flip(3), crops)
        return crops.float()
    # Where each pixel centre of the crop lies in the source, from −1 to 1 as grid_sample counts.
    pixel = torch.arange(size, device=device) + 0.5  # (size,)
    place = (pixel + offset[..., None]) / rescaled[:, None] * 2 - 1  # (2, N, size)
    rows, columns = place
    if mirrored is not None:
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    grid = torch.stack(
        [columns[:, None, :].expand(-1, size, -1), rows[:, :, None].expand(-1, -1, size)], dim=-1
    )  # (N, size, size, 2)
    return F.grid_sample(images.float(), grid, mode="bilinear", align_corners=False)


def cutout(images: Tensor, side: int, fill: Tensor, *, centres: Tensor | None = None) -> Tensor:
    """Cover a random square of each image (DeVries & Taylor, 2017); not in the paper.

    Parameters
    ----------
    images : Tensor, (N, C, H, W)
    side : int
        Of the square in pixels. Part of it may lie outside of the image.
    fill : Tensor, (C,)
        Colour of the square.
    centres : Tensor, (2, N), optional
        Row and column of each square's centre as fractions of the image, from 0 to less than 1;
        drawn if left out.

    Returns
    -------
    Tensor, (N, C, H, W)
    """
    height, width = images.shape[2:]
    draw = torch.rand(2, len(images)) if centres is None else centres
    draw = draw.to(images.device)[:, :, None]
    rows, columns = (
        # From −side/2 to side/2 around the centre: exactly `side` pixels where all lie inside.
        ((torch.arange(length, device=images.device) - (place * length).floor()) + side // 2)
        .div(side)
        .floor()
        == 0
        for place, length in zip(draw, (height, width), strict=True)
    )  # (N, H), (N, W)
    covered = (rows[:, :, None] & columns[:, None, :])[:, None]  # (N, 1, H, W)
    return torch.where(covered, fill.to(images).view(-1, 1, 1), images)


def _check_scale(scale: int | tuple[int, int], crop: int) -> tuple[int, int]:
    return checks.span("scale", scale, checks.whole("crop", crop))


def _normalising(mean: Sequence[float], std: Sequence[float] | None) -> v2.Normalize:
    std = (1.0,) * 3 if std is None else checks.channels("std", std, 3, positive=True)
    return v2.Normalize(list(checks.channels("mean", mean, 3)), list(std))


def _to_pixels() -> list[nn.Module]:
    """PIL image → float tensor in 0–255, the units in which the paper subtracts its mean."""
    return [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=False)]
