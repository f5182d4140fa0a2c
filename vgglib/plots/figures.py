"""What do all figures have in common? Style, size, and how one gets into a notebook with alt text.

The figures are not known to pyplot, so a notebook shows them once, where :func:`show` puts them.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from types import MappingProxyType

import matplotlib as mpl
from cycler import cycler
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from ..extras import extra

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
CYCLE = tuple(COLOURS.values())  # one series after the other
DASHES = ("-", "--", "-.", ":")
GREY = "#666666"
WIDTH = 6.4  #: Width of a figure in inches; at 12 pt the type survives the width of a phone.
TITLE = 0.35  #: Height in inches of a title above a figure whose height follows from its pictures.


@contextmanager
def style() -> Iterator[None]:
    """The style of the figures, for drawing your own: ``with plots.style(): ...``."""
    settings: dict = {
        "axes.prop_cycle": cycler(color=CYCLE),
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
    with mpl.rc_context(settings):
        yield


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
    with extra("widgets"):  # here: drawing to a file needs no IPython
        from IPython.display import display

    bundle, metadata = as_output(fig, alt, dpi=dpi)
    display(bundle, metadata=metadata, raw=True)


def as_output(fig: Figure, alt: str, dpi: int = 100) -> tuple[dict, dict]:
    """A figure's picture and text by MIME type, and the metadata with its alt text."""
    picture = base64.b64encode(png(fig, alt, dpi=dpi)).decode()
    return {"image/png": picture, "text/plain": alt}, {"image/png": {"alt": alt}}
