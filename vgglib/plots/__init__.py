"""How is it shown? The figures that the chapters share.

Every function returns a matplotlib ``Figure`` in one style: colours that colour-blind readers can
tell apart, type that is still readable on a phone, no more frame than needed. :func:`show` puts a
figure into a notebook, with alt text.
"""

from ..extras import extra

with extra("plots"):
    from .comparisons import bars, signal
    from .figures import COLOURS, WIDTH, png, show, style, subplots
    from .histories import KINDS, Live, curves, training
    from .networks import network
    from .overlays import heatmap_over, receptive_fields
    from .pictures import feature_maps, filters, image_grid

__all__ = [
    "COLOURS",
    "KINDS",
    "WIDTH",
    "Live",
    "bars",
    "curves",
    "feature_maps",
    "filters",
    "heatmap_over",
    "image_grid",
    "network",
    "png",
    "receptive_fields",
    "show",
    "signal",
    "style",
    "subplots",
    "training",
]
