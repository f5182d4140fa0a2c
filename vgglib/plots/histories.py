"""What happened in a training, epoch by epoch? (chapters 2 to 5)"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..extras import extra
from .axes import label_ends, vertical
from .figures import CYCLE, DASHES, as_output, style, subplots

#: How the figures call the two sets of images that a training is measured on.
KINDS: MappingProxyType[str, str] = MappingProxyType(
    {"train": "training crops", "val": "validation"}
)


@style()
def curves(
    histories: Mapping[str, object],
    *,
    y: str,
    y_label: str,
    x: str = "epoch",
    x_label: str | None = None,
    percent: bool = False,
    log: bool = False,
    limits: tuple[float, float] | None = None,
    reference: Mapping[str, float] | None = None,
    title: str = "",
) -> Figure:
    """Learning curves: the mean over seeds, a band of ± 1 standard deviation, each seed thin.

    Parameters
    ----------
    histories : mapping
        Label → one history, or a list of them (one a seed). A history is a DataFrame, or whatever
        ``pandas.DataFrame`` turns into one, with the columns ``x`` and ``y``. Mean and band are
        drawn where all seeds have a value.
    y, y_label : str
        Column, and what the axis calls it, with its unit.
    x, x_label : str
        The same for the horizontal axis; ``x_label`` defaults to ``x``.
    percent : bool
        Write fractions as per cent.
    log : bool
        Logarithmic vertical axis.
    limits : (float, float), optional
        Of the vertical axis.
    reference : mapping, optional
        Name → height of a dotted line, e.g. ``{"chance": 0.1}``.
    title : str

    Returns
    -------
    Figure
        Up to four labels stand at the ends of their lines, more in a legend.

    Raises
    ------
    ValueError
        If there is nothing to draw, or a history lacks a column.
    """
    if not histories:
        raise ValueError("curves: nothing to draw; pass a dict of label → history or histories")
    direct = len(histories) <= 4
    fig, ax = subplots()
    for number, (label, runs) in enumerate(histories.items()):
        table = _by_seed(label, runs, x, y)  # (epochs, seeds)
        colour = CYCLE[number % 8]
        mean, spread = table.mean(axis=1, skipna=False), table.std(axis=1, skipna=False)
        if table.shape[1] > 1:
            ax.plot(table.index, table.to_numpy(), color=colour, linewidth=0.7, alpha=0.5)
            ax.fill_between(
                table.index, mean - spread, mean + spread, color=colour, alpha=0.2, lw=0
            )
        dashes = "-" if direct else DASHES[number % len(DASHES)]
        ax.plot(mean.index, mean, dashes, color=colour, label=label)
    ax.set(xlabel=x_label or x, ylabel=y_label, title=title)
    if x == "epoch":
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))  # there is no epoch 1.25
    vertical(ax, percent=percent, log=log, limits=limits, reference=reference)
    label_ends(ax, [*(histories if direct else ()), *(reference or ())])
    if not direct:
        lines = [line for line in ax.get_lines() if line.get_label() in histories]
        ax.legend(handles=lines, fontsize=10, ncols=2)
    return fig


def _by_seed(label: str, runs: Any, x: str, y: str) -> pd.DataFrame:
    """The histories of one label as a table: ``x`` down, a column a seed."""
    rows = isinstance(runs, list) and bool(runs) and isinstance(runs[0], Mapping)
    rows = rows and np.isscalar(next(iter(runs[0].values()), None))  # one history, row by row
    several = isinstance(runs, Sequence) and not rows
    columns = []
    for run in runs if several else [runs]:
        table = pd.DataFrame(run)
        missing = [name for name in (x, y) if name not in table]
        if missing:
            raise ValueError(
                f"curves: the history of {label!r} has no column {missing[0]!r}; it has "
                f"{', '.join(map(repr, table.columns)) or 'none'}"
            )
        columns.append(table.set_index(x)[y].astype(float))
    if not columns:
        raise ValueError(f"curves: {label!r} has no history; give a DataFrame or several of them")
    return pd.concat(columns, axis=1).sort_index()


@style()
def training(history: pd.DataFrame, *, rate: bool = False, title: str = "") -> Figure:
    """One training: loss and accuracy by epoch, of the training crops and in validation.

    Parameters
    ----------
    history : DataFrame
        As :func:`vgglib.train` returns it. Values that are not finite leave a gap.
    rate : bool
        Draw the learning rate, too.
    title : str

    Returns
    -------
    Figure
        The panels one above the other.
    """
    fig, axes = subplots(2 + rate, height=2.5 * (2 + rate), sharex=True)
    for (kind, label), dashes in zip(KINDS.items(), ("--", "-"), strict=True):
        # A point shows an epoch that has no neighbours yet.
        line = dict(linestyle=dashes, marker=".", label=label)
        axes[0].plot(history.epoch, history[f"{kind}_loss"].where(np.isfinite), **line)
        axes[1].plot(history.epoch, history[f"{kind}_accuracy"].where(np.isfinite), **line)
    axes[0].set(ylabel="cross-entropy (nats)", title=title)
    axes[1].set(ylabel="accuracy")
    axes[0].legend()
    vertical(axes[1], percent=True)
    if rate:
        axes[2].semilogy(history.epoch, history.lr, marker=".", drawstyle="steps-mid")
        axes[2].set(ylabel="learning rate")
    axes[-1].set(xlabel="epoch")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return fig


class Live:
    """The figure of a training that is going on: one output, drawn anew after each epoch.

    ``vgglib.train(net, data, recipe, on_epoch=plots.Live())``. A notebook that is stored keeps the
    last drawing, with its alt text.

    Parameters
    ----------
    title : str
    """

    def __init__(self, title: str = ""):
        self.title, self.handle = title, None
        self.rows: list[Mapping[str, float]] = []

    def __call__(self, row: Mapping[str, float]) -> None:
        """Add an epoch's row and draw."""
        with extra("widgets"):
            from IPython.display import display
        self.rows.append(row)
        losses, accuracies = (
            " and ".join(format(row[f"{kind}_{what}"], form) for kind in KINDS)
            for what, form in (("loss", ".2f"), ("accuracy", ".0%"))
        )
        alt = (
            f"Loss and accuracy by epoch, of {' and in '.join(KINDS.values())}; after epoch "
            f"{row['epoch']} the loss is {losses}, the accuracy {accuracies}."
        )
        figure = training(pd.DataFrame(self.rows), title=self.title)
        bundle, metadata = as_output(figure, alt)
        if self.handle is None:
            self.handle = display(bundle, metadata=metadata, raw=True, display_id=True)
        else:
            self.handle.update(bundle, metadata=metadata, raw=True)
