"""How large is it, beside the others? Bars with their seeds, and a signal layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter

from .axes import label_ends, vertical
from .figures import CYCLE, DASHES, style, subplots


@style()
def bars(
    values: Mapping[str, Any],
    *,
    y_label: str,
    x_label: str = "",
    errors: Mapping[str, float] | None = None,
    percent: bool = False,
    log: bool = False,
    limits: tuple[float, float] | None = None,
    reference: Mapping[str, float] | None = None,
    number: str | None = None,
    title: str = "",
) -> Figure:
    """Bars with ± 1 standard deviation, and a dot for each seed.

    Parameters
    ----------
    values : mapping
        Label → a number, or a list of numbers (one a seed; the bar is their mean). For groups of
        bars: label → {series → number or list}.
    y_label, x_label : str
        What is drawn, with its unit; what the labels are.
    errors : mapping, optional
        Label → half length of the error bar, where ``values`` holds single numbers.
    percent, log, limits, reference
        As in :func:`curves`. With limits that leave out zero (or a logarithmic axis) points are
        drawn instead of bars, since the length of a cut bar means nothing.
    number : str, optional
        Format in which the value is written above its bar, e.g. ``".1f"`` or ``".1%"``.
    title : str

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is nothing to draw, or a value lies outside the limits.
    """
    if not values or not all(v if isinstance(v, Mapping) else np.size(v) for v in values.values()):
        raise ValueError("bars: nothing to draw; pass a dict of label → number or list of numbers")
    groups = {k: v if isinstance(v, Mapping) else {"": v} for k, v in values.items()}
    drawn = np.hstack([np.ravel(value) for group in groups.values() for value in group.values()])
    outside = 0 if limits is None else int(((drawn < limits[0]) | (drawn > limits[1])).sum())
    if outside:
        raise ValueError(
            f"bars: {outside} of {drawn.size} values lie outside limits={limits}; they go from "
            f"{drawn.min():.3g} to {drawn.max():.3g}"
        )
    series = list(dict.fromkeys(name for group in groups.values() for name in group))
    cut = log or (limits is not None and limits[0] > 0)
    wide = 0.8 / len(series)
    fig, ax = subplots()
    for place, (label, group) in enumerate(groups.items()):
        for name, value in group.items():
            index = series.index(name)
            x = place + (index - (len(series) - 1) / 2) * wide
            seeds = np.atleast_1d(np.asarray(value, dtype=float))
            error = seeds.std(ddof=1) if len(seeds) > 1 else (errors or {}).get(label)
            _bar(ax, x, seeds, error, wide, CYCLE[index % 8], cut)
            if number:
                top = max(seeds.max(), seeds.mean() + (error or 0))
                ax.annotate(
                    format(seeds.mean(), number), (x, top), (0, 7), textcoords="offset points",
                    ha="center", fontsize=10,
                    bbox={"fc": "white", "ec": "none", "pad": 0.5},  # a line stays behind it
                )  # fmt: skip
    if number and not limits:
        ax.margins(y=0.1)  # room for the number of the highest
    if cut:
        ax.set_xlim(-0.5, len(groups) - 0.5)  # points have no width that keeps their numbers inside
    longest = max(map(len, groups))
    ax.set_xticks(range(len(groups)), groups, rotation=45 if longest * len(groups) > 50 else 0)
    if longest * len(groups) > 50:
        plt.setp(ax.get_xticklabels(), ha="right", rotation_mode="anchor")
    ax.set(ylabel=y_label, xlabel=x_label, title=title)
    vertical(ax, percent=percent, log=log, limits=limits, reference=reference)
    label_ends(ax, list(reference or ()))
    if series != [""]:
        handles = [Patch(color=CYCLE[i % 8], label=name) for i, name in enumerate(series)]
        fig.legend(handles=handles, loc="outside upper center", ncols=3, fontsize=10)
    return fig


def _bar(ax: Axes, x: float, seeds: np.ndarray, error, wide: float, colour: str, cut: bool) -> None:
    """One bar (or point, where the axis is cut), its error bar and its seeds."""
    if cut:
        ax.plot([x], [seeds.mean()], "D", color=colour, markersize=8)
    else:
        ax.bar(x, seeds.mean(), wide * 0.9, color=colour, alpha=0.75)
    if error is not None:
        ax.errorbar(x, seeds.mean(), error, color="black", capsize=4, linewidth=1.5)
    if len(seeds) > 1:
        around = x + np.linspace(-0.2, 0.2, len(seeds)) * wide
        ax.plot(around, seeds, "o", color="white", markeredgecolor="black", markersize=4.5)


@style()
def signal(tables: pd.DataFrame | Mapping[str, pd.DataFrame], *, title: str = "") -> Figure:
    """Strength of activations and of gradients, layer by layer, on logarithmic axes (chapter 4).

    Parameters
    ----------
    tables : DataFrame or mapping
        What :func:`vgglib.signal` returns, or label → such a table. Nets of different depth share
        the axis of the deepest, matched by the names of the layers. Zeros and values that are not
        finite are left out: a logarithmic axis has no place for them.
    title : str

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If a table lacks a column, or has a layer that the deepest net has not.
    """
    tables = {"": tables} if isinstance(tables, pd.DataFrame) else dict(tables)
    for label, table in tables.items():
        missing = {"layer", "activation_std", "gradient_std"} - set(table)
        if missing:
            raise ValueError(
                f"signal: the table {label!r} has no column {sorted(missing)}; vgglib.signal makes "
                "such tables"
            )
    layers = list(max(tables.values(), key=len)["layer"])
    fig, axes = subplots(2, 1, height=5.6, sharex=True)
    for number, (label, table) in enumerate(tables.items()):
        unknown = [layer for layer in table["layer"] if layer not in layers]
        if unknown:
            raise ValueError(
                f"signal: {label!r} has {unknown[0]}, but the deepest net has only "
                f"{', '.join(layers)}"
            )
        places = [layers.index(layer) for layer in table["layer"]]
        for ax, column in zip(axes, ("activation_std", "gradient_std"), strict=True):
            values = table[column].where(np.isfinite(table[column]) & (table[column] > 0))
            ax.plot(
                places, values, "os^D"[number % 4] + DASHES[number % 4], color=CYCLE[number % 8],
                label=label, markersize=5,
            )  # fmt: skip
    for ax, what in zip(axes, ("before the ReLU", "of gradients"), strict=True):
        ax.set(yscale="log", ylabel=f"std {what}")
        low, high = np.log10(ax.get_ylim())
        # Whole decades, so that at least two ticks have a number.
        ax.set_ylim(10 ** np.floor(low), 10 ** np.ceil(high))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.grid(axis="y", color="#dddddd")
    axes[1].set_xticks(range(len(layers)), layers, rotation=90)
    axes[0].set_title(title)
    if list(tables) != [""]:
        fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return fig
