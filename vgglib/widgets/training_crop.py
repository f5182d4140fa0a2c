"""What is a training crop? The recipe's random choices made by hand (§3.1, chapter 3).

The front end rescales, cuts, mirrors and shifts in the page; :meth:`TrainingCrop.crop` does the
same with torchvision, and a test holds the two equal.
"""

from __future__ import annotations

import io
import struct

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from traitlets import Bool, Bytes, Dict, Enum, Float, Int, List, default

from .. import augment, plots
from ..data import IMAGENET_MEAN, PHOTO_CREDITS, photos
from .base import PageWidget, picture

CROP = 224
SCALES = (256, 512)
PHOTOS = ("coffee", "chelsea", "astronaut", "rocket")


class TrainingCrop(
    PageWidget,
    front="training_crop",
    to_try="Cut a training crop of this cup that shows nothing of the cup.",
    example="scale=512,x=0,y=0",
):
    """A photo and the crop that a net would be given, every random choice made by hand.

    Parameters
    ----------
    photo : {"coffee", "chelsea", "astronaut", "rocket"}
    scale : int, 256 to 512
        S, the shorter side of the rescaled photo in pixels.
    x, y : float, 0 to 1
        Where the crop lies: 0 is the left (upper) end of its way, 1 the right (lower) one.
    flip : bool
        Mirror the crop.
    alpha : three floats, -3 to 3
        Of the colour shift along ImageNet's three axes. The recipe draws them from N(0, 0.1²).
    subtract_mean : bool
        Subtract ImageNet's mean colour, as the net is given it.

    Raises
    ------
    traitlets.TraitError
        If a value is out of its range.
    """

    photo = Enum(PHOTOS, "coffee").tag(sync=True)
    scale = Int(256, min=SCALES[0], max=SCALES[1]).tag(sync=True)
    x = Float(0.5, min=0, max=1).tag(sync=True)
    y = Float(0.5, min=0, max=1).tag(sync=True)
    flip = Bool(False).tag(sync=True)
    alpha = List(Float(min=-3, max=3), [0.0, 0.0, 0.0], minlen=3, maxlen=3).tag(sync=True)
    subtract_mean = Bool(False).tag(sync=True)

    photos = Dict(read_only=True).tag(sync=True)  # name → credit, in the order of the files
    jpegs = Bytes(read_only=True).tag(sync=True, file="training_crop.bin")  # each after its length
    axes = List(List(Float()), read_only=True).tag(sync=True)  # (3, 3), an axis a column, 0–255
    spread = Float(read_only=True).tag(sync=True)  # standard deviation of alpha in the recipe
    mean = List(list(IMAGENET_MEAN), read_only=True).tag(sync=True)
    size = Int(CROP, read_only=True).tag(sync=True)
    scales = List(Int(), list(SCALES), read_only=True).tag(sync=True)

    @default("photos")
    def _credits(self):
        credits = (PHOTO_CREDITS[name] for name in PHOTOS)
        return {n: f"{c.author}, {c.licence}" for n, c in zip(PHOTOS, credits, strict=True)}

    @default("jpegs")
    def _jpegs(self):
        files = (_jpeg(name) for name in PHOTOS)
        return b"".join(struct.pack("<I", len(file)) + file for file in files)

    @default("axes")
    def _axes(self):
        return [[round(value, 4) for value in row] for row in augment.ColourShift().axes.tolist()]

    @default("spread")
    def _spread(self):
        return augment.ColourShift().std

    def rescaled(self) -> Tensor:
        """The whole photo at S: (3, height, width), uint8."""
        return v2.functional.pil_to_tensor(v2.functional.resize(_photo(self.photo), [self.scale]))

    def corner(self) -> tuple[int, int]:
        """Top and left of the crop in the rescaled photo, in pixels."""
        room = (side - CROP for side in self.rescaled().shape[1:])
        top, left = (int(at * way + 0.5) for at, way in zip((self.y, self.x), room, strict=True))
        return top, left

    def shift(self) -> Tensor:
        """What is added to red, green and blue, in 0–255 units: (3,)."""
        return torch.tensor(self.axes) @ torch.tensor(self.alpha)

    def crop(self) -> Tensor:
        """What the net is given: (3, 224, 224), floating point, in 0–255 units."""
        crop = v2.functional.crop(self.rescaled(), *self.corner(), CROP, CROP)
        crop = crop.flip(2) if self.flip else crop
        mean = self.mean if self.subtract_mean else [0.0] * 3
        return augment.normalise(crop + self.shift()[:, None, None], mean)

    def fallback(self) -> str:
        """The rescaled photo and the crop, side by side."""
        crop, (top, left) = self.crop(), self.corner()
        if self.subtract_mean:
            crop = crop / 2 + 127  # zero becomes middle grey
        whole = self.rescaled()
        pictures = [whole, crop.clamp(0, 255).byte()]
        titles = [f"rescaled, S = {self.scale}", "what the net is given"]
        alt = (
            f"The photo {self.photo}, rescaled to {whole.shape[2]} by {whole.shape[1]} pixels, and "
            f"the crop of {CROP} by {CROP} pixels whose corner lies {left} pixels from the left "
            f"and {top} from the top{', mirrored' if self.flip else ''}."
        )
        seen = CROP**2 / (whole.shape[1] * whole.shape[2])
        return (
            f"{picture(plots.image_grid(pictures, titles, columns=2), alt)}"
            f"<p>The crop sees {seen:.0%} of the photo.</p>"
        )


def _photo(name: str) -> Image.Image:
    """A photo as the front end has it, after JPEG."""
    return Image.open(io.BytesIO(_jpeg(name))).convert("RGB")


def _jpeg(name: str) -> bytes:
    """A photo as JPEG, its colours not subsampled, so that all decoders agree on it."""
    file = io.BytesIO()
    photos()[name].save(file, "jpeg", quality=82, subsampling=0, optimize=True)
    return file.getvalue()
