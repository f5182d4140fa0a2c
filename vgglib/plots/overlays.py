"""What matters in a picture? Maps over it, and squares in it (chapters 1 and 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor

from .figures import COLOURS, GREY, TITLE, WIDTH, style, subplots
from .pictures import picture_of, show_picture

_ON_PHOTO = (COLOURS["yellow"], COLOURS["sky"], COLOURS["orange"], "#FFFFFF")


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
    picture = picture_of(image, mean, std)
    scaled = {}
    for name, given in maps.items():
        values = given.detach().float().cpu().numpy()
        if values.shape != picture.shape[:2]:
            raise ValueError(
                f"the map {name!r} has shape {values.shape}, the picture {picture.shape[:2]}"
            )
        # One pixel far above the others, as gradients have them, must not leave the rest dark.
        most = np.quantile(np.abs(values), 0.995) or np.abs(values).max() or 1.0
        scaled[name] = (values / most).clip(-1, 1)
    if not scaled:
        raise ValueError("heatmap_over needs at least 1 map, got 0")
    signed = any(values.min() < 0 for values in scaled.values())
    bright = picture / 255 if picture.dtype == np.uint8 else picture
    bright = bright.mean(axis=2) if bright.ndim == 3 else bright
    columns = min(1 + len(scaled), 2 if len(scaled) in (1, 3) else 3)
    rows = -(-(1 + len(scaled)) // columns)
    shape = picture.shape[0] / picture.shape[1]
    height = rows * (WIDTH / columns * shape + (0.3 if any(scaled) else 0)) + 0.8  # and the bar
    height += TITLE if title else 0
    fig, axes = subplots(rows, columns, height=height, squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    show_picture(axes.flat[0], picture)
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
        raise ValueError("receptive_fields needs at least 1 layer, got 0")
    picture = picture_of(image)
    height, width = picture.shape[:2]
    reach = max(max(fields.values()) / 2, height / 2, width / 2) * 1.02
    fig, ax = subplots(height=4.6 + (TITLE if title else 0))
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
            annotation_clip=False, arrowprops={"arrowstyle": "-", "color": GREY, "lw": 0.8},
        )  # fmt: skip
    ax.set(xlim=(-reach, reach), ylim=(reach, -reach), title=title)
    ax.set(xlabel="pixels from the middle", ylabel="pixels from the middle")
    return fig
