"""Does a net start? Its signal at step 0, computed where the reader is (§3.1, chapter 4).

The front end draws weights, sends two pictures through the net and the gradient back.
:meth:`StartupLab.build` makes the same net with the same weights in PyTorch, so whatever the widget
shows can be taken up in the next cell.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torchvision.transforms import v2
from traitlets import Bool, Bytes, Dict, Enum, Float, Int, List, default

from .. import augment, plots
from ..data import photos
from ..initialise import SCHEMES
from ..model import VGG, vgg
from ..signal import signal
from .base import PageWidget, picture

#: The nets of this size are those of chapter 4: small enough for a tenth of a second a pass.
SIZE: dict[str, Any] = {"num_classes": 10, "image_size": 32, "width": 0.25}
NETS = ("A", "B", "C", "D", "E")
PHOTOS = ("chelsea", "coffee")
LEARNING_RATE = 0.01  # §3.1

#: By what share of their size one step at the learning rate changes the weights (the median of the
#: layers): below the first number the signal dies, above the last it explodes, between the first
#: two it depends on the draw. Chosen such that the recorded runs of chapter 4 are told apart.
#: The share that weight decay takes in a step, lr·λ = 5e-6, lies between them (§3.1).
LIMITS = (2.5e-6, 2e-5, 0.05)
#: Scores of this standard deviation explode as well, for the soft-max is certain of a class then.
CERTAIN = 30.0
VERDICTS = ("dies", "is at the edge", "lives", "explodes")


class StartupLab(
    PageWidget,
    front="startup_lab",
    to_try="Turn σ up until the deepest net lives, and on until it explodes.",
    example="net=E,sigma=0.04",
):
    """A net and a start: activations and gradients of every layer before the first step.

    The nets have a quarter of the paper's width, 32-pixel pictures and ten classes, as in
    chapter 4. Weights follow from ``seed`` alone and are multiplied by the standard deviation, so
    turning σ scales one draw.

    Parameters
    ----------
    net : {"A", "B", "C", "D", "E"}
    scheme : {"normal", "xavier", "he"}
        As for :func:`vgglib.initialise`.
    sigma : float, 0.003 to 0.3
        Standard deviation of all weights under ``"normal"``.
    unit_variance : bool
        Divide the pixels by their standard deviation. The paper only subtracts the mean.
    seed : int, 0 to 9999

    Raises
    ------
    traitlets.TraitError
        If a value is out of its range.
    """

    net = Enum(NETS, "D").tag(sync=True)
    scheme = Enum(SCHEMES, "normal").tag(sync=True)
    sigma = Float(0.025, min=0.003, max=0.3).tag(sync=True)
    unit_variance = Bool(False).tag(sync=True)
    seed = Int(0, min=0, max=9999).tag(sync=True)

    nets = Dict(read_only=True).tag(sync=True)  # net → its weight layers, see _weight_layers
    full_size = Dict(read_only=True).tag(sync=True)  # net → σ here / σ of equal gain in full size
    pixels = Bytes(read_only=True).tag(sync=True, file="startup_lab.bin")  # (3, 2, 32, 32), uint8
    mean = List(Float(), read_only=True).tag(sync=True)  # of the pictures, per channel, 0–255
    std = List(Float(), read_only=True).tag(sync=True)
    learning_rate = Float(LEARNING_RATE, read_only=True).tag(sync=True)
    limits = List(Float(), list(LIMITS), read_only=True).tag(sync=True)
    certain = Float(CERTAIN, read_only=True).tag(sync=True)

    @default("nets")
    def _nets(self):
        return {name: _weight_layers(_shapes(name, **SIZE)) for name in NETS}

    @default("full_size")
    def _full_size(self):
        return {name: _full_size_ratio(name) for name in NETS}

    @default("pixels")
    def _pixels(self):
        return _pictures().movedim(1, 0).contiguous().numpy().tobytes()

    @default("mean")
    def _mean(self):
        return _rounded(_pictures().float().mean((0, 2, 3)))

    @default("std")
    def _std(self):
        return _rounded(_pictures().float().std((0, 2, 3)))

    def build(self) -> VGG:
        """The widget's net, weights included, in PyTorch."""
        net = vgg(self.net, init=None, **SIZE)
        kind = "uniform" if self.scheme == "xavier" else "normal"
        with torch.no_grad():
            for index, layer in enumerate(self.nets[self.net]):
                module: Any = net.get_submodule(net.layer_names[layer["name"]])
                weights = draw(kind, self.seed, index, module.weight.numel())
                module.weight.copy_(torch.from_numpy(weights).view_as(module.weight))
                module.weight *= self.deviation(layer)
                module.bias.zero_()
        return net

    def batch(self) -> tuple[Tensor, Tensor]:
        """Two normalised pictures, (2, 3, 32, 32), and their classes (2,)."""
        std = self.std if self.unit_variance else None
        return augment.normalise(_pictures(), self.mean, std), torch.arange(len(PHOTOS))

    def deviation(self, layer: dict) -> float:
        """Standard deviation of the weights of a layer, an entry of ``nets``."""
        area = layer["kernel"] ** 2
        if self.scheme == "he":
            return math.sqrt(2 / (layer["inputs"] * area))
        if self.scheme == "xavier":
            return math.sqrt(2 / ((layer["inputs"] + layer["outputs"]) * area))
        return self.sigma

    def table(self) -> pd.DataFrame:
        """What the widget shows, computed by PyTorch.

        Returns
        -------
        DataFrame
            :func:`vgglib.signal` of the net with two more columns: ``gain``, by which the layer is
            expected to multiply the signal, σ·√(n/2), and ``step``, by what share of their standard
            deviation a step at the learning rate changes the weights.
        """
        net, (images, labels) = self.build().double(), self.batch()
        table = signal(net, images.double(), labels)
        layers = self.nets[self.net]
        deviations = [self.deviation(layer) for layer in layers]
        table["gain"] = [layer["gain"] * std for layer, std in zip(layers, deviations, strict=True)]
        table["step"] = LEARNING_RATE * table["gradient_std"] / deviations
        return table

    @property
    def verdict(self) -> str:
        """``"dies"``, ``"is at the edge"``, ``"lives"`` or ``"explodes"``; see :data:`LIMITS`."""
        return verdict_on(self.table())

    def fallback(self) -> str:
        """Chapter 4's figure of this net and start, and the verdict."""
        table = self.table()
        scheme = {"normal": f"σ = {self.sigma:g}", "xavier": "Xavier", "he": "He"}[self.scheme]
        units = "of unit variance" if self.unit_variance else "in 0–255 units"
        title = f"Net {self.net} at a quarter of the width, {scheme}, pixels {units}"
        first, last = table.iloc[0], table.iloc[-1]
        verdict = f"The signal {verdict_on(table)}."
        alt = (
            f"{title}: standard deviations by layer on logarithmic axes. Activations go from "
            f"{first['activation_std']:.1g} at {first['layer']} to {last['activation_std']:.1g} at "
            f"{last['layer']}, gradients from {first['gradient_std']:.1g} to "
            f"{last['gradient_std']:.1g}. {verdict}"
        )
        return picture(plots.signal(table, title=title), alt) + f"<p>{verdict}</p>"


def verdict_on(table: pd.DataFrame) -> str:
    """What becomes of a net with this signal, one of ``VERDICTS``.

    Parameters
    ----------
    table : DataFrame
        As :meth:`StartupLab.table` returns it; ``activation_std`` and ``step`` are read.
    """
    step = table["step"].median()
    if step > LIMITS[-1] or table["activation_std"].iloc[-1] > CERTAIN:
        return VERDICTS[-1]
    return VERDICTS[sum(step >= limit for limit in LIMITS)]


def draw(kind: str, seed: int, layer: int, count: int) -> np.ndarray:
    """Random numbers of mean 0 and standard deviation 1 that JavaScript can draw as well.

    PyTorch's generator has no counterpart there. Each number is a hash of its place, so that the
    order of drawing does not matter; ``draw`` in ``front/signal.js`` is the same function.

    Parameters
    ----------
    kind : {"normal", "uniform"}
    seed, layer, count : int

    Returns
    -------
    ndarray, (count,), float32
    """
    key = _scramble(_scramble(np.array([seed], np.uint32)) + np.uint32(layer))
    bits = _scramble(key + np.arange(count + count % 2, dtype=np.uint32))
    uniform = (bits + 0.5) / 2**32  # in (0, 1), float64
    if kind == "uniform":
        return (math.sqrt(12) * (uniform[:count] - 0.5)).astype(np.float32)
    # Box and Muller: two uniform numbers become two normal ones.
    radius, angle = np.sqrt(-2 * np.log(uniform[::2])), 2 * np.pi * uniform[1::2]
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return pairs.ravel()[:count].astype(np.float32)


def _scramble(x: np.ndarray) -> np.ndarray:
    """Chris Wellons' lowbias32: every bit of the result depends on all 32 bits of x."""
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x21F0AAAD)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0xD35A2D97)
    return x ^ (x >> np.uint32(15))


def _pictures() -> Tensor:
    """Two photos as (2, 3, 32, 32), uint8."""
    small = v2.Compose([v2.PILToTensor(), v2.Resize(32), v2.CenterCrop(32)])
    pictures = photos()
    return torch.stack([small(pictures[name]) for name in PHOTOS])


def _rounded(values: Tensor) -> list[float]:
    """To what is the same on every processor."""
    return [round(value, 3) for value in values.tolist()]


def _shapes(name: str, **size) -> VGG:
    """A net without numbers in its weights."""
    with torch.device("meta"):
        return vgg(name, init=None, **size)


def _weight_layers(net: VGG) -> list[dict]:
    """The layers with weights as the front end computes them.

    Each has ``name``, ``inputs``, ``outputs``, ``kernel``, ``side`` (of the map), ``pooled``
    (whether a max-pool follows) and ``gain``: the factor on the signal at σ = 1, chapter 4's
    √(n/2) with the taps that fall on the zero padding left out.
    """
    layers: list[dict] = []
    side = net.image_size
    for name, path in net.layer_names.items():
        if name.startswith("pool"):
            layers[-1]["pooled"] = True
            side //= 2
        elif name.startswith(("conv", "fc")):
            weight: Any = net.get_submodule(path).weight
            kernel = weight.shape[-1] if weight.ndim == 4 else 1
            place = side if weight.ndim == 4 else 1
            halved = 2 if layers else 1  # the pixels went through no ReLU
            inside = 1 - (kernel // 2) * (kernel // 2 + 1) / (kernel * place)
            layers.append(
                {
                    "name": name,
                    "inputs": weight.shape[1],
                    "outputs": weight.shape[0],
                    "kernel": kernel,
                    "side": place,
                    "pooled": False,
                    "gain": math.sqrt(weight[0].numel() / halved) * inside,
                }
            )
    return layers


def _full_size_ratio(name: str) -> float:
    """By what σ must be larger here than in the full-size net for the same product of gains."""
    here, there = (
        [layer["gain"] for layer in _weight_layers(_shapes(name, **size))] for size in (SIZE, {})
    )
    return (math.prod(there) / math.prod(here)) ** (1 / len(here))
