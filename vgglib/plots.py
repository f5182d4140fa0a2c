"""How is it shown? The figures that the chapters share.

Every function returns a matplotlib ``Figure`` in one style: colours that colour-blind readers can
tell apart, type that is still readable on a phone, no more frame than needed. The figures are not
known to pyplot, so a notebook shows them once, where :func:`show` puts them, with alt text.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator, NullFormatter, PercentFormatter
from PIL import Image
from torch import Tensor

from .configs import Config, Conv
from .model import VGG, _resolve

#: Okabe and Ito's palette, in the order in which the figures use it.
COLOURS: MappingProxyType[str, str] = MappingProxyType(
    {
        "blue": "#0072B2",
        "vermilion": "#D55E00",
        "green": "#009E73",
        "purple": "#CC79A7",
        "orange": "#E69F00",
        "sky": "#56B4E9",
        "black": "#000000",
        "yellow": "#F0E442",
    }
)
_CYCLE = tuple(COLOURS.values())
_DASHES = ("-", "--", "-.", ":")
_GREY = "#666666"
WIDTH = 6.4  #: Width of a figure in inches; at 12 pt the type survives the width of a phone.


def style() -> AbstractContextManager:
    """The style of the figures, for drawing your own: ``with plots.style(): ...``."""
    return mpl.rc_context(
        {
            "axes.prop_cycle": mpl.cycler(color=_CYCLE),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 12,
            "axes.titlelocation": "left",
            "figure.constrained_layout.use": True,
            "figure.facecolor": "white",  # dark pages too: the labels are black
            "font.size": 12,
            "legend.frameon": False,
            "lines.linewidth": 2,
            "xtick.labelsize": 11,
            "ytick.labelsize": 11,
        }
    )


@style()
def subplots(rows: int = 1, columns: int = 1, *, width: float = WIDTH, height: float = 4, **kwargs):
    """An empty figure in the style: ``fig, ax = plots.subplots()``.

    Parameters
    ----------
    rows, columns : int
    width, height : float
        Of the whole figure, in inches.
    **kwargs
        For ``Figure.subplots``, e.g. ``sharey=True``.

    Returns
    -------
    (Figure, Axes or array of Axes)
    """
    fig = Figure(figsize=(width, height))
    FigureCanvasAgg(fig)
    return fig, fig.subplots(rows, columns, **kwargs)


def png(fig: Figure, alt: str, *, dpi: int = 100) -> bytes:
    """A figure as a small PNG; the text that stands for it where it can't be seen is checked.

    Parameters
    ----------
    fig : Figure
    alt : str
        What a reader who does not see the figure should know: a sentence of 20 characters or more.
    dpi : int
        Pixels per inch; 100 keeps a chapter's file small.

    Returns
    -------
    bytes

    Raises
    ------
    ValueError
        If ``alt`` is not such a sentence.
    """
    if not isinstance(alt, str) or len(alt.strip()) < 20 or " " not in alt.strip():
        raise ValueError(
            f"alt must be a sentence of at least 20 characters that says what the figure shows, "
            f"got {alt!r}"
        )
    data = io.BytesIO()
    with style():  # matplotlib makes tick labels while it draws
        fig.savefig(data, format="png", dpi=dpi, metadata={"Software": None})
    plt.close(fig)  # a figure made with pyplot would otherwise be shown a second time
    picture = Image.open(data).convert("RGB")
    if picture.getcolors(4096) is None:  # photographs: 256 chosen colours take a third of the bytes
        data = io.BytesIO()
        picture.quantize(256, method=Image.Quantize.FASTOCTREE).save(data, "png", optimize=True)
    return data.getvalue()


def show(fig: Figure, alt: str, *, dpi: int = 100) -> None:
    """Display a figure in a notebook, with the text that stands for it where it can't be seen.

    Parameters
    ----------
    fig, alt, dpi
        As for :func:`png`.

    Raises
    ------
    ValueError
        If ``alt`` is not a sentence.
    """
    from IPython.display import display  # here: drawing to a file needs no IPython

    bundle, metadata = _as_output(fig, alt, dpi=dpi)
    display(bundle, metadata=metadata, raw=True)


def _as_output(fig: Figure, alt: str, dpi: int = 100) -> tuple[dict, dict]:
    """A figure's picture and text by MIME type, and the metadata with its alt text."""
    picture = base64.b64encode(png(fig, alt, dpi=dpi)).decode()
    return {"image/png": picture, "text/plain": alt}, {"image/png": {"alt": alt}}


# ----------------------------------------------------------------------------------- numbers


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
        colour = _CYCLE[number % 8]
        mean, spread = table.mean(axis=1, skipna=False), table.std(axis=1, skipna=False)
        if table.shape[1] > 1:
            ax.plot(table.index, table.to_numpy(), color=colour, linewidth=0.7, alpha=0.5)
            ax.fill_between(
                table.index, mean - spread, mean + spread, color=colour, alpha=0.2, lw=0
            )
        dashes = "-" if direct else _DASHES[number % len(_DASHES)]
        ax.plot(mean.index, mean, dashes, color=colour, label=label)
    ax.set(xlabel=x_label or x, ylabel=y_label, title=title)
    if x == "epoch":
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))  # there is no epoch 1.25
    _vertical(ax, percent=percent, log=log, limits=limits, reference=reference)
    _label_ends(ax, [*(histories if direct else ()), *(reference or ())])
    if not direct:
        lines = [line for line in ax.get_lines() if line.get_label() in histories]
        ax.legend(handles=lines, fontsize=10, ncols=2)
    return fig


def _by_seed(label: str, runs: object, x: str, y: str) -> pd.DataFrame:
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
        raise ValueError(f"curves: {label!r} has no history")
    return pd.concat(columns, axis=1).sort_index()


def _vertical(ax: Axes, *, percent=False, log=False, limits=None, reference=None) -> None:
    """Scale, limits, number format and reference lines of the vertical axis."""
    if log:
        ax.set_yscale("log")
    if limits:
        ax.set_ylim(limits)
    if percent:
        ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    for name, height in (reference or {}).items():
        ax.axhline(height, color=_GREY, linestyle=":", linewidth=1.5, label=name)


def _label_ends(ax: Axes, labels: Sequence[str]) -> None:
    """Write each line's label beside its right end, pushed apart where two would overlap."""
    ax.figure.draw_without_rendering()  # settles the limits, so that pixels can be computed
    ends = []
    for line in ax.get_lines():
        points = np.column_stack(line.get_data()).astype(float)
        points = points[np.isfinite(points).all(axis=1)]
        if line.get_label() in labels and len(points):
            pixels = line.get_transform().transform(points[-1])
            ends.append((pixels[1] * 72 / ax.figure.dpi, points[-1], line))
    lowest = -np.inf
    for height, point, line in sorted(ends, key=lambda end: end[0]):
        lowest = max(height, lowest + 13)  # in points: a line of 11 pt and some air
        ax.annotate(
            line.get_label(), point, (6, lowest - height), xycoords=line.get_transform(),
            textcoords="offset points", color=line.get_color(), va="center", fontsize=11,
            annotation_clip=False,
        )  # fmt: skip


#: How the figures call the two sets of images that a training is measured on.
KINDS: MappingProxyType[str, str] = MappingProxyType(
    {"train": "training crops", "val": "validation"}
)


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
    _vertical(axes[1], percent=True)
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
        self.title, self.rows, self.handle = title, [], None

    def __call__(self, row: Mapping[str, float]) -> None:
        """Add an epoch's row and draw."""
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
        bundle, metadata = _as_output(figure, alt)
        if self.handle is None:
            self.handle = display(bundle, metadata=metadata, raw=True, display_id=True)
        else:
            self.handle.update(bundle, metadata=metadata, raw=True)


@style()
def bars(
    values: Mapping[str, object],
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
        If there is nothing to draw.
    """
    if not values or not all(v if isinstance(v, Mapping) else np.size(v) for v in values.values()):
        raise ValueError("bars: nothing to draw; pass a dict of label → number or list of numbers")
    groups = {k: v if isinstance(v, Mapping) else {"": v} for k, v in values.items()}
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
            _bar(ax, x, seeds, error, wide, _CYCLE[index % 8], cut)
            if number:
                top = max(seeds.max(), seeds.mean() + (error or 0))
                ax.annotate(
                    format(seeds.mean(), number), (x, top), (0, 5), textcoords="offset points",
                    ha="center", fontsize=10,
                )  # fmt: skip
    longest = max(map(len, groups))
    ax.set_xticks(range(len(groups)), groups, rotation=45 if longest * len(groups) > 50 else 0)
    if longest * len(groups) > 50:
        plt.setp(ax.get_xticklabels(), ha="right", rotation_mode="anchor")
    ax.set(ylabel=y_label, xlabel=x_label, title=title)
    _vertical(ax, percent=percent, log=log, limits=limits, reference=reference)
    _label_ends(ax, list(reference or ()))
    if series != [""]:
        handles = [Patch(color=_CYCLE[i % 8], label=name) for i, name in enumerate(series)]
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
            raise ValueError(f"signal: the table {label!r} has no column {sorted(missing)}")
    layers = list(max(tables.values(), key=len)["layer"])
    fig, axes = subplots(2, 1, height=5.6, sharex=True)
    for number, (label, table) in enumerate(tables.items()):
        unknown = [layer for layer in table["layer"] if layer not in layers]
        if unknown:
            raise ValueError(f"signal: {label!r} has {unknown[0]}, which the deepest net has not")
        places = [layers.index(layer) for layer in table["layer"]]
        for ax, column in zip(axes, ("activation_std", "gradient_std"), strict=True):
            values = table[column].where(np.isfinite(table[column]) & (table[column] > 0))
            ax.plot(
                places, values, "os^D"[number % 4] + _DASHES[number % 4], color=_CYCLE[number % 8],
                label=label, markersize=5,
            )  # fmt: skip
    for ax, what in zip(axes, ("activations", "gradients"), strict=True):
        ax.set(yscale="log", ylabel=f"std of {what}")
        low, high = np.log10(ax.get_ylim())
        ax.set_ylim(
            10 ** np.floor(low), 10 ** np.ceil(high)
        )  # whole decades, so that two are named
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.grid(axis="y", color="#dddddd")
    axes[1].set_xticks(range(len(layers)), layers, rotation=90)
    axes[0].set_title(title)
    if list(tables) != [""]:
        fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return fig


# ---------------------------------------------------------------------------------- networks


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
        net, image_size, classes, width = net.config, net.image_size, net.num_classes, net.width
    config, _ = _resolve(net, False)
    fig, ax = subplots(height=3.4)
    x, side, legend = 0.0, image_size, {}
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


# ---------------------------------------------------------------------------------- pictures


@style()
def image_grid(
    images: object,
    titles: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    title: str = "",
) -> Figure:
    """Pictures side by side.

    Parameters
    ----------
    images : Tensor (N, 3, H, W), or a sequence of pictures
        A picture is a PIL image, a uint8 tensor (3, H, W) or array (H, W, 3), or a float tensor
        in 0..1; one channel, (H, W) or (1, H, W), is shown in grey.
    titles : sequence of str, optional
        One a picture.
    columns : int, optional
        Default: up to five.
    mean, std : three floats, optional
        Undo a normalisation first: pixels = ``image * std + mean`` in 0–255. ``std`` defaults to 1.
    title : str
        Above all of them.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there are no pictures, the titles do not match, or a float picture leaves 0..1.
    """
    pictures = [_picture(image, mean, std) for image in images]
    if not pictures:
        raise ValueError("image_grid: no images given")
    if titles is not None and len(titles) != len(pictures):
        raise ValueError(f"image_grid: {len(pictures)} images but {len(titles)} titles")
    columns = min(columns or 5, len(pictures))
    rows = -(-len(pictures) // columns)
    shape = max(picture.shape[0] / picture.shape[1] for picture in pictures)
    line = 0.13 + 0.17 * (1 + max(text.count("\n") for text in titles)) if titles else 0.05
    height = rows * (WIDTH / columns * shape + line) + (0.35 if title else 0)
    fig, axes = subplots(rows, columns, height=height, squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for index, (ax, picture) in enumerate(zip(axes.flat, pictures, strict=False)):
        _imshow(ax, picture)
        if titles is not None:
            ax.set_title(titles[index], loc="center", fontsize=11)
    if title:
        fig.suptitle(title, x=0.01, ha="left", fontsize=12)
    return fig


@style()
def filters(weights: Tensor, *, columns: int = 16, title: str = "") -> Figure:
    """Convolution kernels as little pictures, side by side (chapter 6).

    Parameters
    ----------
    weights : Tensor, (filters, 3 or 1, height, width), 0 to 1
        From :func:`vgglib.features.first_filters`.
    columns : int
    title : str

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If the weights have another shape or range.
    """
    if weights.ndim != 4:
        raise ValueError(
            f"filters takes (filters, channels, height, width), got {weights.ndim} axes"
        )
    tiles = np.stack([_picture(weight) for weight in weights])
    sheet, _ = _sheet(tiles, columns, blank=1.0)
    fig, ax = subplots(height=WIDTH * sheet.shape[0] / sheet.shape[1] + (0.35 if title else 0))
    ax.imshow(sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.axis("off")
    ax.set_title(title)
    return fig


@style()
def feature_maps(
    activation: Tensor,
    channels: Sequence[int] | int = 16,
    *,
    columns: int = 8,
    title: str = "",
) -> Figure:
    """Channels of a feature map side by side, each on its own scale from its least to its most.

    Parameters
    ----------
    activation : Tensor, (1, C, H, W) or (C, H, W)
        From :func:`vgglib.features.activations`.
    channels : sequence of int, or int
        Which; a number means that many with the highest mean. Each is labelled with its number.
    columns : int
    title : str

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If the tensor is no feature map of one image, or has no such channel.
    """
    maps = activation.detach().float().cpu()
    maps = maps[0] if maps.ndim == 4 and len(maps) == 1 else maps
    if maps.ndim != 3:
        raise ValueError(
            f"feature_maps takes one image's map, (C, H, W), got {tuple(activation.shape)}"
        )
    if isinstance(channels, int):
        strongest = maps.mean(dim=(1, 2)).argsort(descending=True, stable=True)
        channels = strongest[:channels].tolist()
    if not channels or not all(0 <= channel < len(maps) for channel in channels):
        raise ValueError(f"channels must lie in 0 to {len(maps) - 1}, got {channels}")
    tiles = maps[list(channels)].numpy()
    low, high = tiles.min(axis=(1, 2), keepdims=True), tiles.max(axis=(1, 2), keepdims=True)
    tiles = (tiles - low) / np.maximum(high - low, 1e-12)
    sheet, corners = _sheet(tiles, columns, blank=np.nan)
    fig, ax = subplots(height=WIDTH * sheet.shape[0] / sheet.shape[1] + (0.35 if title else 0))
    ax.imshow(sheet, cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
    for channel, (top, left) in zip(channels, corners, strict=True):
        ax.text(
            left, top, f" {channel}", color="white", va="top", fontsize=9,
            path_effects=[withStroke(linewidth=2, foreground="black")],
        )  # fmt: skip
    ax.axis("off")
    ax.set_title(title)
    return fig


def _sheet(tiles: np.ndarray, columns: int, blank: float) -> tuple[np.ndarray, list]:
    """Tiles (N, H, W[, 3]) on one sheet with gaps, and (top, left) of each."""
    n, height, width = tiles.shape[:3]
    columns = min(columns, n)
    gap = max(1, height // 16)
    rows = -(-n // columns)
    size = (rows * (height + gap) - gap, columns * (width + gap) - gap)
    sheet = np.full(size + tiles.shape[3:], blank, dtype=float)
    corners = [(i // columns * (height + gap), i % columns * (width + gap)) for i in range(n)]
    for tile, (top, left) in zip(tiles, corners, strict=True):
        sheet[top : top + height, left : left + width] = tile
    return sheet, corners


@style()
def heatmap_over(
    image: object,
    maps: Tensor | Mapping[str, Tensor],
    *,
    label: str,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    title: str = "",
) -> Figure:
    """A picture, and beside it the picture in grey under a map of what matters (chapter 6).

    Parameters
    ----------
    image : picture
        As for :func:`image_grid`, with ``mean`` and ``std`` likewise.
    maps : Tensor (H, W), or mapping of title → Tensor
        From :func:`vgglib.features.saliency` and its kin. Each is divided by the 99.5th percentile
        of its absolute values; negative values get a second colour.
    label : str
        What the colours stand for; the bar beneath reads "LABEL (1 = the strongest 0.5 %)".
    title : str

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is no map, or one has another size than the picture.
    """
    maps = {"": maps} if isinstance(maps, Tensor) else dict(maps)
    picture = _picture(image, mean, std)
    scaled = {}
    for name, values in maps.items():
        values = values.detach().float().cpu().numpy()
        if values.shape != picture.shape[:2]:
            raise ValueError(
                f"the map {name!r} has shape {values.shape}, the picture {picture.shape[:2]}"
            )
        # One pixel far above the others, as gradients have them, must not leave the rest dark.
        most = np.quantile(np.abs(values), 0.995) or np.abs(values).max() or 1.0
        scaled[name] = (values / most).clip(-1, 1)
    if not scaled:
        raise ValueError("heatmap_over: no map given")
    signed = any(values.min() < 0 for values in scaled.values())
    bright = picture / 255 if picture.dtype == np.uint8 else picture
    bright = bright.mean(axis=2) if bright.ndim == 3 else bright
    columns = min(1 + len(scaled), 2 if len(scaled) in (1, 3) else 3)
    rows = -(-(1 + len(scaled)) // columns)
    shape = picture.shape[0] / picture.shape[1]
    height = rows * (WIDTH / columns * shape + (0.3 if any(scaled) else 0)) + 0.8  # and the bar
    if title:
        height += 0.35
    fig, axes = subplots(rows, columns, height=height, squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    _imshow(axes.flat[0], picture)
    for ax, (name, values) in zip(axes.flat[1:], scaled.items(), strict=False):
        ax.imshow(0.5 + bright / 2, cmap="gray", vmin=0, vmax=1)
        overlay = ax.imshow(
            values, cmap="RdBu_r" if signed else "magma", vmin=-1 if signed else 0, vmax=1,
            alpha=np.abs(values) ** 0.5 * 0.9,
        )  # fmt: skip
        ax.set_title(name, loc="center", fontsize=11)
    bar = mpl.cm.ScalarMappable(overlay.norm, overlay.cmap)
    fig.colorbar(
        bar, ax=axes, location="bottom", aspect=40, label=f"{label} (1 = the strongest 0.5 %)"
    )
    if title:
        fig.suptitle(title, x=0.01, ha="left", fontsize=12)
    return fig


@style()
def receptive_fields(
    image: object, fields: pd.DataFrame | Mapping[str, int], *, title: str = ""
) -> Figure:
    """How much of a picture one value of a layer sees: squares around its middle (chapter 1).

    Parameters
    ----------
    image : picture
        As for :func:`image_grid`.
    fields : mapping of layer → side in pixels, or DataFrame
        A table with the columns ``layer`` and ``receptive_field`` (a selection of
        :func:`vgglib.anatomy`'s rows) is taken whole. Squares that are larger than the picture
        reach into the zero padding, drawn grey.
    title : str

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is nothing to draw.
    """
    if isinstance(fields, pd.DataFrame):
        fields = dict(zip(fields["layer"], fields["receptive_field"], strict=True))
    if not fields:
        raise ValueError("receptive_fields: no layers given")
    picture = _picture(image)
    height, width = picture.shape[:2]
    reach = max(max(fields.values()) / 2, height / 2, width / 2) * 1.02
    fig, ax = subplots(height=4.6 + (0.35 if title else 0))
    ax.set_facecolor("#dddddd")
    ax.imshow(picture, extent=(-width / 2, width / 2, height / 2, -height / 2), cmap="gray")
    height = 0.0
    for number, (layer, side) in enumerate(sorted(fields.items(), key=lambda item: item[1])):
        half, colour = side / 2, _ON_PHOTO[number % len(_ON_PHOTO)]
        ax.add_patch(
            Rectangle(
                (-half, -half), side, side, fill=False, edgecolor=colour, linewidth=2, label=layer,
                path_effects=[withStroke(linewidth=4, foreground="black")],
            )
        )  # fmt: skip
        height = max(height + 0.11 * reach, half)  # of the label: beside the square, but readable
        ax.annotate(
            f"{layer}: {side} px", (half, -half), (1.06 * reach, -height), fontsize=11, va="center",
            annotation_clip=False, arrowprops={"arrowstyle": "-", "color": _GREY, "lw": 0.8},
        )  # fmt: skip
    ax.set(xlim=(-reach, reach), ylim=(reach, -reach), title=title)
    ax.set(xlabel="pixels from the middle", ylabel="pixels from the middle")
    return fig


_ON_PHOTO = (COLOURS["yellow"], COLOURS["sky"], COLOURS["orange"], "#FFFFFF")


def _imshow(ax: Axes, picture: np.ndarray) -> None:
    """Show one picture; small ones with visible pixels instead of a blur."""
    small = max(picture.shape[:2]) <= 64
    ax.imshow(
        picture, cmap="gray", vmin=0, vmax=255 if picture.dtype == np.uint8 else 1,
        interpolation="nearest" if small else "antialiased",
    )  # fmt: skip


def _picture(image: object, mean=None, std=None) -> np.ndarray:
    """Any picture as an array (H, W, 3) or (H, W): uint8, or float in 0..1."""
    if isinstance(image, Tensor):
        array = image.detach().cpu()
        array = array.float().numpy() if array.is_floating_point() else array.numpy()
        if array.ndim == 3:
            array = array.transpose(1, 2, 0)  # (H, W, C)
    else:
        array = np.asarray(image)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise ValueError(
            f"a picture has one or three channels, got (height, width, channels) {array.shape}"
        )
    if mean is not None:
        scale = np.asarray(1.0 if std is None else std, dtype=np.float32)
        array = (array * scale + np.asarray(mean, dtype=np.float32)) / 255
        array = array.clip(0, 1)  # rounding, and colour shifts beyond what a screen can show
    if array.dtype == np.uint8:
        return array
    low, high = float(array.min()), float(array.max())
    if not (low >= -1e-4 and high <= 1 + 1e-4):
        raise ValueError(
            f"a float picture must lie in 0..1, this one spans {low:.3g} to {high:.3g}; "
            "pass mean=… (and std=…) to undo the normalisation"
        )
    return array.clip(0, 1)
