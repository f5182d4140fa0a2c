"""What a figure shows of its data; in a kernel of nbval, each figure of a chapter is asked."""

import numpy as np
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle


def points(artist, ax):
    """The data of a line, of bars, dots or error bars as rows (x, y); none of other things."""
    if isinstance(artist, PathCollection):
        return np.asarray(artist.get_offsets())
    if isinstance(artist, Rectangle) and artist.get_data_transform() == ax.transData:
        return np.array(artist.get_bbox())  # no band across all of the axes
    if artist.get_transform() == ax.transData:  # not a line across all of the axes
        if isinstance(artist, Line2D):
            return artist.get_xydata()
        if isinstance(artist, LineCollection):
            return np.concatenate([np.empty((0, 2)), *artist.get_segments()])
    return np.empty((0, 2))


def outside(fig):
    """The data that lie beyond the axes they are drawn in, where no reader sees them."""
    found = []
    for ax in fig.axes:
        for artist in (*ax.get_lines(), *ax.collections, *ax.patches):
            rows = points(artist, ax)
            if len(rows) and not ax.images:  # over a photo, what is drawn may be cut
                place = ax.transLimits.transform(ax.transScale.transform(rows))
                beyond = ((place < -1e-6) | (place > 1 + 1e-6)).any(axis=1)
                found += rows[beyond & np.isfinite(place).all(axis=1)].tolist()
    return found


def ask_each(plots):
    """From now on ``plots.show`` is an error where a datum lies beyond its axes."""
    show = plots.show

    def asked(fig, alt, **options):
        show(fig, alt, **options)
        beyond = outside(fig)
        assert not beyond, f"data beyond their axes, where no reader sees them: {beyond[:5]}"

    plots.show = asked
