"""The picture that is shown where a page of the book is linked: 1200 × 630 pixels.

It is drawn when the book is built, from the book's logo and the title and tagline in `_config.yml`.
"""

import re
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

WIDTH, HEIGHT = 1200, 630
BACKGROUND, INK, PALE = "#10181f", "#ffffff", "#b9cbd8"
PATH = re.compile(r'<path fill="(#\w+)" d="([^"]+)"')
SQUARE = re.compile(r"M([\d.]+) ([\d.]+)h([\d.]+)")


def squares(svg):
    """The logo's squares: ``(x, y, side, colour)`` in the units of the drawing, y downwards."""
    for colour, path in PATH.findall(svg):
        for x, y, side in SQUARE.findall(path):
            yield float(x), float(y), float(side), colour


def draw(svg, title, tagline):
    """The card as a matplotlib figure, one unit a pixel.

    Parameters
    ----------
    svg : str
        The logo, of 96 × 96 units.
    title, tagline : str
    """
    figure = Figure(figsize=(WIDTH / 100, HEIGHT / 100), dpi=100, facecolor=BACKGROUND)
    ax = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(HEIGHT, 0))
    ax.axis("off")
    scale, left, top = 400 / 96, 90, 115
    for x, y, side, colour in squares(svg):
        corner = (left + scale * x, top + scale * y)
        ax.add_patch(Rectangle(corner, scale * side, scale * side, color=colour, linewidth=0))
    ax.text(560, 285, title, fontsize=66, weight="bold", color=INK, va="baseline")
    ax.text(
        564, 335, tagline.replace(". ", ".\n"), fontsize=20, color=PALE, va="top", linespacing=1.6
    )
    return figure


def write_card(app, exception):
    """Write the card beside the pages (Sphinx's ``build-finished`` event)."""
    if exception or app.builder.format != "html":
        return
    svg = Path(app.srcdir, app.config.html_favicon).read_text(encoding="utf-8")
    context = app.config.html_context
    draw(svg, context["book_title"], context["tagline"]).savefig(
        Path(app.outdir, "_static", "social.png")
    )


def setup(app):
    app.connect("build-finished", write_card)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
