"""The network explorer: the anatomy of any of the six nets as its settings change (chapter 1)."""

from __future__ import annotations

from dataclasses import asdict

import pandas as pd
import torch
from traitlets import Bool, Dict, Enum, Float, Int, TraitError, Unicode, default, observe, validate

from .. import plots
from ..anatomy import anatomy
from ..configs import CONFIGS
from ..model import VGG
from .base import PageWidget, picture

#: Largest values of the settings; beyond them a browser's numbers would lose digits.
LARGEST = {"image_size": 2048, "width": 8.0, "num_classes": 100_000}


class NetworkExplorer(
    PageWidget,
    front="network",
    to_try="Shrink the image to 32 pixels: two of the three mountains move, one stays.",
    example="image_size=32,layer=fc6",
):
    """A column of Table 1 with its layers' shapes, costs and receptive fields (§2.1–2.3).

    Parameters
    ----------
    net : str
        Column of Table 1: ``"A"``, ``"A-LRN"``, ``"B"`` … ``"E"``.
    batch_norm : bool
        Batch normalisation after each convolution.
    image_size : int
        Side of the images in pixels, 32 to 2048.
    width : float
        Multiplies all channels and hidden units; at most 8.
    num_classes : int
        Length of the output, at most 100,000.
    layer : str
        The chosen layer, such as ``"conv3_2"``; ``""`` for none.

    Raises
    ------
    traitlets.TraitError
        If a value is out of its range or the net has no such layer.
    """

    net = Enum(list(CONFIGS), "D").tag(sync=True)
    batch_norm = Bool(False).tag(sync=True)
    image_size = Int(224).tag(sync=True)
    width = Float(1.0).tag(sync=True)
    num_classes = Int(1000).tag(sync=True)
    layer = Unicode("").tag(sync=True)

    configs = Dict(read_only=True).tag(sync=True)  #: Table 1, for the front end.
    largest = Dict(LARGEST, read_only=True).tag(sync=True)

    @default("configs")
    def _table_1(self):
        return {
            name: {"stages": [list(map(asdict, s)) for s in config.stages], "hidden": config.hidden}
            for name, config in CONFIGS.items()
        }

    @validate("image_size", "width", "num_classes")
    def _possible(self, proposal):
        name, value = proposal["trait"].name, proposal["value"]
        try:
            with torch.device("meta"):
                VGG(CONFIGS[self.net], **{name: value})
        except ValueError as error:
            raise TraitError(str(error)) from None
        if value > LARGEST[name]:
            raise TraitError(f"{name} can be {LARGEST[name]} at most here, got {value!r}")
        return value

    @validate("layer")
    def _one_of_the_net(self, proposal):
        names = ["", *self.table()["layer"]]
        if proposal["value"] not in names:
            raise TraitError(
                f"net {self.net} has no layer {proposal['value']!r}; it has {', '.join(names[1:])}"
            )
        return proposal["value"]

    @observe("net", "batch_norm")
    def _choose_none_that_is_gone(self, _):
        if self.layer not in ["", *self.table()["layer"]]:
            self.layer = ""

    def built(self) -> VGG:
        """The net, without memory for its weights."""
        settings = ("num_classes", "image_size", "width", "batch_norm")
        with torch.device("meta"):
            return VGG(CONFIGS[self.net], **{name: getattr(self, name) for name in settings})

    def table(self) -> pd.DataFrame:
        """:func:`vgglib.anatomy` of what is shown."""
        return anatomy(self.built())

    def fallback(self) -> str:
        """The drawing of the net, and the sums of its costs."""
        table, config = self.table(), CONFIGS[self.net]
        alt = (
            f"Net {self.net} drawn layer by layer for images of {self.image_size} pixels: "
            f"{len(config.convs)} convolutions in {len(config.stages)} stages, each closed by a "
            f"max-pool, and {len(config.hidden) + 1} fully connected layers."
        )
        return (
            f"{picture(plots.network(self.built()), alt)}\n"
            f"<p>{table['params'].sum():,} parameters; {table['macs'].sum():,} "
            f"multiply–accumulates and {table['activation_bytes'].sum():,} bytes of activations "
            "per image.</p>"
        )
