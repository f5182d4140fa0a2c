"""What does a network look like, drawn layer by layer? (Table 1, chapter 1)"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from ..configs import Config, Conv, resolve
from ..model import VGG
from .figures import COLOURS, style, subplots


@style()
def network(net: str | Config | VGG, image_size: int = 224, *, title: str | None = None) -> Figure:
    """A network drawn layer by layer: the larger the map the higher, the more channels the wider.

    Heights grow with the square root of the side and widths with the cube root of the channels:
    to scale, 7 px would vanish beside 224, and 64 channels beside 4096.

    Parameters
    ----------
    net : str, Config or VGG
        A name such as ``"D"`` or ``"vgg16"``, a configuration, or a network.
    image_size : int
        Side of the input in pixels; a ``VGG`` brings its own.
    title : str, optional
        Default: the name and the number of weight layers.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        For an unknown name.
    """
    classes, width = 1000, 1.0
    if isinstance(net, VGG):
        image_size, classes, width = net.image_size, net.num_classes, net.width
        net = net.config
    config, _ = resolve(net)
    fig, ax = subplots(height=3.4)
    x, side = 0.0, image_size
    legend: dict = {}
    for number, stage in enumerate(config.stages, start=1):
        start = x
        for layer in stage:
            if isinstance(layer, Conv):
                channels = max(1, round(layer.channels * width))
                x = _block(ax, x, side, channels, f"conv {layer.kernel}×{layer.kernel}", legend)
            else:
                x = _block(ax, x, side, 4, "LRN", legend)
        _caption(ax, (start + x - 2) / 2, side, f"conv{number}", f"{side}²\n×{channels}")
        side //= 2
        x = _block(ax, x, side, 4, "max-pool", legend) + 6
    hidden = [max(1, round(units * width)) for units in config.hidden]
    for number, units in enumerate([*hidden, classes], start=len(config.stages) + 1):
        start, x = x, _block(ax, x, 1, units, "fully connected", legend) + 6
        _caption(ax, (start + x - 8) / 2, 1, f"fc{number}", f"{units}")
    tall = np.sqrt(image_size)
    ax.set(xlim=(-2, x), ylim=(-0.78 * tall, 0.62 * tall))
    ax.axis("off")
    ax.set_title(f"{config.name}: {config.weight_layers} weight layers" if title is None else title)
    fig.legend(handles=list(legend.values()), loc="outside lower center", ncols=3, fontsize=10)
    return fig


_KINDS = {
    "conv 3×3": COLOURS["blue"],
    "conv 1×1": COLOURS["orange"],
    "conv 5×5": COLOURS["green"],
    "LRN": COLOURS["purple"],
    "max-pool": "#BBBBBB",
    "fully connected": COLOURS["vermilion"],
}


def _block(ax: Axes, x: float, side: int, channels: int, kind: str, legend: dict) -> float:
    """Draw one layer at ``x``, note its colour for the legend, return where the next one starts."""
    wide, tall = 2.5 * np.cbrt(channels), np.sqrt(side)
    colour = _KINDS.get(kind, COLOURS["sky"])
    ax.add_patch(Rectangle((x, -tall / 2), wide, tall, facecolor=colour, label=kind))
    legend.setdefault(kind, Patch(color=colour, label=kind))
    return x + wide + 2


def _caption(ax: Axes, x: float, side: int, above: str, below: str) -> None:
    """Name above a group of blocks, size below it."""
    half = np.sqrt(side) / 2
    ax.text(x, half + 0.3, above, ha="center", va="bottom", fontsize=10)
    ax.text(x, -half - 0.3, below, ha="center", va="top", fontsize=9, linespacing=1.1)
