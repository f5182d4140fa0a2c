"""Pictures with one object whose box is known.

ILSVRC's boxes were drawn by people; ours are known because we put the object there: a piece of
clothing from Fashion-MNIST, at a random scale and place, before a part of a photo (chapter 9).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageEnhance
from torch import Tensor
from torchvision.ops import masks_to_boxes
from torchvision.transforms.v2 import functional as tvf

from .. import checks
from ..data import ImageSet
from ..pictures import rgb
from .boxes import check_boxes

#: Grey level from which on a pixel of Fashion-MNIST belongs to the piece; below it, fringes.
VISIBLE = 24
#: Black cloth becomes this grey, white stays white; else it would vanish in a dark photo.
DARKEST = 90


@dataclass(frozen=True, eq=False)
class Scenes:
    """Square images with an object each; ``s[:100]`` are scenes again.

    Parameters
    ----------
    images : Tensor, (N, 3, S, S), uint8
    labels : Tensor, (N,), int64
    boxes : Tensor, (N, 4), float
        (x₁, y₁, x₂, y₂) in pixels.

    Raises
    ------
    TypeError, ValueError
        If a shape, a type or a box is wrong, or a box leaves its image.
    """

    images: Tensor
    labels: Tensor
    boxes: Tensor

    def __post_init__(self):
        ImageSet(self.images, self.labels)  # it says what is wrong with either
        if self.images.shape[2] != self.images.shape[3]:
            raise ValueError(
                f"scenes are square, (N, 3, H, H), got images of shape {tuple(self.images.shape)}"
            )
        check_boxes(self.boxes)
        if self.boxes.shape != (len(self.labels), 4):
            raise ValueError(
                f"{len(self.labels)} scenes need boxes of shape ({len(self.labels)}, 4), got "
                f"{tuple(self.boxes.shape)}"
            )
        if len(self) and not 0 <= self.boxes.min() <= self.boxes.max() <= self.size:
            raise ValueError(
                f"a box reaches from {self.boxes.min():.1f} to {self.boxes.max():.1f}, beyond its "
                f"image of {self.size} px"
            )

    @property
    def size(self) -> int:
        """Side of the images in pixels."""
        return self.images.shape[-1]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index) -> Scenes:
        return Scenes(self.images[index], self.labels[index], self.boxes[index])

    def rescaled(self, size: int) -> Scenes:
        """The same scenes at another S, boxes and all."""
        images = tvf.resize(self.images, [size], antialias=True)
        return Scenes(images, self.labels, self.boxes * (size / self.size))

    def centre(self, crop: int) -> Tensor:
        """The central crops of the images, (N, 3, crop, crop), and nothing else."""
        return tvf.center_crop(self.images, [crop])

    def random_crops(
        self, crop: int, generator: torch.Generator, *, flip: bool = True, tries: int = 8
    ) -> tuple[Tensor, Tensor]:
        """Training crops, each with its box seen from the crop.

        As in OverFeat (Sermanet et al., 2014), the net is not trained on crops that hold less than
        half of the object. Of so many draws the first that holds half is taken, else the best.

        Parameters
        ----------
        crop : int
            Side in pixels.
        generator : torch.Generator
        flip : bool
            Mirror half of the crops, boxes and all.
        tries : int

        Returns
        -------
        images : Tensor, (N, 3, crop, crop), uint8
        boxes : Tensor, (N, 4)
            In pixels of the crop; where it cuts the object off, the box leaves it.

        Raises
        ------
        ValueError
            If the scenes are smaller than the crop.
        """
        room = self.size - crop
        if room < 0:
            raise ValueError(
                f"crops of {crop} px do not fit into scenes of {self.size} px; rescaled({crop}) "
                "makes larger ones of them"
            )
        count = len(self)
        drawn = torch.randint(room + 1, (count, tries, 2), generator=generator)  # x, y
        boxes = self.boxes[:, None] - drawn.repeat(1, 1, 2)  # (N, tries, 4)
        seen = (boxes.clamp(0, crop)[..., 2:] - boxes.clamp(0, crop)[..., :2]).prod(-1)
        share = seen / (boxes[..., 2:] - boxes[..., :2]).prod(-1)  # (N, tries), of the object
        # argmax takes the first of equals: the first draw that is good enough.
        best = share.clamp(max=0.5).argmax(1)
        each = torch.arange(count)
        boxes, (x, y) = boxes[each, best], drawn[each, best].T
        columns, rows = (start[:, None] + torch.arange(crop) for start in (x, y))  # (N, crop)
        if flip:
            mirrored = torch.rand(count, generator=generator) < 0.5
            columns = torch.where(mirrored[:, None], columns.flip(1), columns)
            x1, y1, x2, y2 = boxes.unbind(1)
            boxes = torch.where(
                mirrored[:, None], torch.stack([crop - x2, y1, crop - x1, y2], 1), boxes
            )
        channels = torch.arange(3)[:, None, None]
        images = self.images[
            each[:, None, None, None], channels, rows[:, None, :, None], columns[:, None, None, :]
        ]
        return images, boxes


def compose(
    items: ImageSet,
    photos: Sequence[Image.Image],
    count: int,
    *,
    size: int = 96,
    span: tuple[float, float] = (0.4, 0.8),
    light: float = 0.5,
    seed: int = 0,
) -> Scenes:
    """Paste items before parts of photos.

    Parameters
    ----------
    items : ImageSet
        Grey things on black, such as Fashion-MNIST's; each scene takes the next one, from the
        front again when there are more scenes than items.
    photos : sequence of PIL images
        Each background is a square part of one of them, drawn at random.
    count : int
        Scenes to make.
    size : int
        Their side S in pixels.
    span : (float, float)
        The object's longer side, as a share of S, is drawn between these two.
    light : float
        Brightness of the backgrounds, from 0 (black) to 1 (the photos as they are). Darker ones
        make the task easier, and a small net learn it from few scenes.
    seed : int

    Returns
    -------
    Scenes
        Objects have a random tint; their whole box lies in the image.

    Raises
    ------
    ValueError
        If there are no items or photos, one is too small or empty, or a number is out of its range.
    """
    if not len(items) or not photos or count < 1:
        raise ValueError(
            f"compose needs items, photos and a count of at least 1, got {len(items)} items, "
            f"{len(photos)} photos, count={count!r}"
        )
    if not 0 < span[0] <= span[1] <= 1:
        raise ValueError(f"span must be two shares with 0 < low ≤ high ≤ 1, got {span!r}")
    checks.real("light", light, "[0, 1]")
    photos = [rgb(photo) for photo in photos]
    smallest = min(min(photo.size) for photo in photos)
    if smallest < size:
        raise ValueError(
            f"a photo has a side of {smallest} px, too small for scenes of {size} px; leave it "
            "out, or take a smaller size="
        )
    generator = torch.Generator().manual_seed(seed)

    def between(low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=generator).item()

    canvases, boxes = [], []
    chosen = torch.arange(count) % len(items)
    for index in chosen.tolist():
        photo = photos[torch.randint(len(photos), (), generator=generator)]
        side = between(size, min(photo.size))
        left, top = (between(0, length - side) for length in photo.size)
        canvas = photo.resize((size, size), box=(left, top, left + side, top + side))
        canvas = ImageEnhance.Brightness(canvas).enhance(light)
        grey, mask = _cut_out(items.images[index, 0], int(index))
        scale = size * between(*span) / max(grey.size)
        width, height = (max(1, round(length * scale)) for length in grey.size)
        x, y = (int(between(0, size - length + 1)) for length in (width, height))
        tint = torch.tensor([between(0.5, 1) for _ in range(3)])
        piece = tvf.pil_to_tensor(grey.resize((width, height))).float()  # (1, height, width)
        piece = (DARKEST + piece * (1 - DARKEST / 255)) * tint[:, None, None]
        piece = tvf.to_pil_image(piece.byte())
        canvas.paste(piece, (x, y), mask.resize((width, height)))
        canvases.append(tvf.pil_to_tensor(canvas))
        boxes.append((x, y, x + width, y + height))
    return Scenes(torch.stack(canvases), items.labels[chosen], torch.tensor(boxes).float())


def _cut_out(grey: Tensor, index: int) -> tuple[Image.Image, Image.Image]:
    """The tight part of a picture (H, W) that is not black, and its mask."""
    visible = grey >= VISIBLE
    if not visible.any():
        raise ValueError(f"item {index} is black: none of its pixels reaches grey level {VISIBLE}")
    x1, y1, x2, y2 = masks_to_boxes(visible[None])[0].int().tolist()  # the last pixel included
    tight = slice(y1, y2 + 1), slice(x1, x2 + 1)
    return tuple(tvf.to_pil_image(part[tight][None]) for part in (grey, visible.byte() * 255))
