"""The receptive field explorer: what a unit behind a stack of layers sees (chapter 2)."""

from __future__ import annotations

import io
from functools import cache

from PIL import Image
from traitlets import (
    Bytes,
    Dict,
    Enum,
    Int,
    List,
    TraitError,
    Tuple,
    Unicode,
    default,
    observe,
    validate,
)

from .. import plots
from ..anatomy import receptive_field
from ..configs import CONFIGS, Conv
from ..data import photos
from .base import PageWidget, picture

SIDE = 224  #: Side of the photo in pixels, the paper's.
LONGEST = 40  #: Layers of a stack at most.


def _presets() -> dict[str, list[tuple[str, int, int]]]:
    """Stacks to start from: §2.3's, AlexNet's beginning, and the nets up to their pools."""
    presets = {
        "two 3×3": [("conv", 3, 1)] * 2,
        "three 3×3": [("conv", 3, 1)] * 3,
        "one 5×5": [("conv", 5, 1)],
        "one 7×7": [("conv", 7, 1)],
        "AlexNet's first two layers": [("conv", 11, 4), ("pool", 3, 2)],
    }
    for name in ("A", "B", "C", "D", "E"):
        layers = []
        for number, stage in enumerate(CONFIGS[name].stages, start=1):
            layers += [("conv", conv.kernel, 1) for conv in stage if isinstance(conv, Conv)]
            layers += [("pool", 2, 2)]
            if name == "D" or number == len(CONFIGS[name].stages):
                presets[f"net {name} to pool{number}"] = list(layers)
    return presets


class ReceptiveFieldExplorer(
    PageWidget,
    front="receptive",
    to_try="Stack 3×3 layers until one value sees the cat's whole eye; then put pools between.",
    example="layers=conv_3_1;conv_3_1;pool_2_2;conv_3_1;conv_3_1;pool_2_2,depth=6",
):
    """Layers stacked on a photo, and the part of it that one unit behind them sees (§2.3).

    Convolutions are padded with (kernel - 1) / 2 zeros on every side, pools are not.

    Parameters
    ----------
    layers : list of (str, int, int)
        ``("conv", kernel, stride)`` or ``("pool", kernel, stride)``, first to last; 1 to 40 of
        them. Kernels of convolutions are odd and at most 15, those of pools 2 to 15; a stride is at
        most the kernel, or pixels would be skipped.
    depth : int
        The unit lies behind so many of the layers; all of them if not given.
    position : (int, int)
        Row and column of the photo, 0 to 223: the unit whose middle is nearest is meant. (85, 84),
        where it begins, is the cat's eye.
    channels : int
        Channels that each layer reads and writes, for the weights; 1 to 4096.

    Raises
    ------
    traitlets.TraitError
        If a value is out of its range, or a layer has nothing left to read.
    """

    layers = List(Tuple(Enum(["conv", "pool"]), Int(), Int())).tag(sync=True)
    depth = Int(1).tag(sync=True)
    position = Tuple(Int(), Int(), default_value=(85, 84)).tag(sync=True)
    channels = Int(64, min=1, max=4096).tag(sync=True)

    side = Int(SIDE, read_only=True).tag(sync=True)
    longest = Int(LONGEST, read_only=True).tag(sync=True)
    presets = Dict(_presets(), read_only=True).tag(sync=True)
    photo = Bytes(read_only=True).tag(sync=True, file="chelsea.jpg")
    photo_name = Unicode("a cat's face", read_only=True).tag(sync=True)

    def __init__(self, **traits):
        traits.setdefault("layers", self.presets["three 3×3"])
        traits.setdefault("depth", max(1, len(traits["layers"])))
        super().__init__(**traits)

    @default("photo")
    def _photo(self):
        return jpeg_of_cat()

    @validate("layers")
    def _readable(self, proposal):
        layers = proposal["value"]
        if not 1 <= len(layers) <= LONGEST:
            raise TraitError(f"layers must be 1 to {LONGEST} layers, got {len(layers)}")
        side = SIDE
        for number, (kind, kernel, stride) in enumerate(layers, start=1):
            if not (2 <= kernel <= 15 if kind == "pool" else kernel in range(1, 16, 2)):
                accepted = "2 to 15" if kind == "pool" else "odd and at most 15"
                raise TraitError(f"layer {number}: the kernel of a {kind} is {accepted}: {kernel}")
            if not 1 <= stride <= kernel:
                raise TraitError(
                    f"layer {number}: the stride is 1 to the kernel's {kernel}, got {stride}"
                )
            padding = (kernel - 1) // 2 if kind == "conv" else 0
            if kernel > side + 2 * padding:
                raise TraitError(
                    f"layer {number}: a {kernel}×{kernel} {kind} does not fit into a map of "
                    f"{side}×{side}"
                )
            side = (side + 2 * padding - kernel) // stride + 1
        return layers

    @observe("layers")
    def _stay_at_the_end(self, change):
        was_at_the_end = change.old and self.depth == len(change.old)
        if was_at_the_end or self.depth > len(self.layers):
            self.depth = len(self.layers)

    @validate("depth")
    def _within(self, proposal):
        deepest = max(1, len(self.layers))  # an empty stack is refused as such
        if not 1 <= proposal["value"] <= deepest:
            raise TraitError(f"depth must be 1 to {deepest}, got {proposal['value']}")
        return proposal["value"]

    @validate("position")
    def _on_the_photo(self, proposal):
        if not all(0 <= pixel < SIDE for pixel in proposal["value"]):
            raise TraitError(f"position must be two of 0 to {SIDE - 1}, got {proposal['value']}")
        return proposal["value"]

    @property
    def field(self) -> int:
        """Side in pixels of what a unit after ``depth`` layers can see, padding included."""
        return receptive_field((kernel, stride) for _, kernel, stride in self.layers[: self.depth])

    def fallback(self) -> str:
        """The fields of the layers on the part of the photo that the unit sees."""
        fields = {
            f"{number}: {kind} {kernel}×{kernel}": receptive_field(
                (k, s) for _, k, s in self.layers[:number]
            )
            for number, (kind, kernel, _) in enumerate(self.layers[: self.depth], start=1)
        }
        half = min(SIDE, max(24, round(1.2 * self.field))) // 2
        middle = [min(max(pixel, half), SIDE - half) for pixel in self.position]
        top, left = (pixel - half for pixel in middle)
        part = square_cat().crop((left, top, left + 2 * half, top + 2 * half))
        sides = ", ".join(f"{side} px" for side in fields.values())
        alt = (
            f"Squares on {self.photo_name}, what one value sees after each of {len(fields)} "
            f"layers: {sides}."
        )
        return picture(plots.receptive_fields(part, fields), alt, dpi=60)


@cache
def square_cat() -> Image.Image:
    """The photo: a cat's face, 224 × 224."""
    photo = photos()["chelsea"]
    width, height = photo.size
    left = (width - height) // 2
    return photo.crop((left, 0, left + height, height)).resize((SIDE, SIDE))


@cache
def jpeg_of_cat() -> bytes:
    """The same as the front ends are given it."""
    data = io.BytesIO()
    square_cat().save(data, "jpeg", quality=88)
    return data.getvalue()
