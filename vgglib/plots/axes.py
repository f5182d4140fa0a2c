"""How are axes and lines labelled? What the figures of numbers share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from .figures import GREY


def vertical(ax: Axes, *, percent=False, log=False, limits=None, reference=None) -> None:
    """Scale, limits, number format and reference lines of the vertical axis."""
    if log:
        ax.set_yscale("log")
    if limits:
        ax.set_ylim(limits)
    if percent:
        ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    for name, height in (reference or {}).items():
        ax.axhline(height, color=GREY, linestyle=":", linewidth=1.5, label=name)


def label_ends(ax: Axes, labels: Sequence[str]) -> None:
    """Write each line's label beside its right end, pushed apart where two would overlap."""
    figure = ax.figure
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()  # settles the limits, so that pixels can be computed
    ends = []
    for line in ax.get_lines():
        points = np.column_stack(line.get_data()).astype(float)
        points = points[np.isfinite(points).all(axis=1)]
        if line.get_label() in labels and len(points):
            pixels = line.get_transform().transform(points[-1])
            ends.append((pixels[1] * 72 / figure.dpi, points[-1], line))
    lowest = -np.inf
    for height, point, line in sorted(ends, key=lambda end: end[0]):
        lowest = max(height, lowest + 13)  # in points: a line of 11 pt and some air
        ax.annotate(
            str(line.get_label()), point, (6, lowest - height), xycoords=line.get_transform(),
            textcoords="offset points", color=line.get_color(), va="center", fontsize=11,
            annotation_clip=False,
        )  # fmt: skip
