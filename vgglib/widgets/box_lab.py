"""When is a box right, and what do many boxes say together? (appendix A, chapter 9).

The front end computes intersection over union and OverFeat's merging itself; tests hold both equal
to :mod:`vgglib.localise`.
"""

from __future__ import annotations

import base64
import io
import json
from functools import cache
from pathlib import Path

import torch
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor
from traitlets import Dict, Enum, Float, Int, List, TraitError, default, observe, validate

from .. import localise, plots
from ..localise.merging import LIMIT
from .base import PageWidget, picture

FILE = Path(__file__).parent.parent / "assets" / "window_boxes.json"
PARTS = ("two boxes", "merging")
SMALLEST = 2.0  #: Least side of a box in pixels.


@cache
def _made() -> dict:
    return json.loads(FILE.read_text(encoding="utf-8"))


SIZE = _made()["size"]  #: Side of a scene in pixels.
SCENES = tuple(_made()["scenes"])


def _surest(scene: str) -> list[float]:
    """The box of the window that is surest of the scene's class, kept within the scene."""
    made = _made()["scenes"][scene]
    box = made["boxes"][max(range(len(made["scores"])), key=made["scores"].__getitem__)]
    return [min(max(value, 0.0), float(SIZE)) for value in box]


class BoxLab(
    PageWidget,
    front="box_lab",
    to_try="Drag a box until it counts as right; then merge the boxes of 36 windows step by step.",
    example="limit=0.5",
):
    """Two boxes to drag, with their intersection over union; or many, merged pair by pair.

    The scenes are chapter 9's, clothes before parts of photos; the many boxes are what a small net
    predicted from each of their windows (``tools/make_window_boxes.py``).

    Parameters
    ----------
    part : {"two boxes", "merging"}
        Which of the two is shown.
    scene : str
        A name of ``widgets.box_lab.SCENES``, the class of its object. A new scene brings its boxes.
    true_box, guess : list of float
        (x₁, y₁, x₂, y₂) in pixels of the scene, 0 to 48, each side 2 pixels at least.
    limit : float, 0 to 2
        Boxes with a larger match distance are not merged.
    merges : int
        So many merges are done; those that the limit forbids are not.

    Raises
    ------
    traitlets.TraitError
        If a value is out of its range.
    """

    part = Enum(PARTS, PARTS[0]).tag(sync=True)
    scene = Enum(SCENES, SCENES[0]).tag(sync=True)
    true_box = List(Float(min=0, max=SIZE), minlen=4, maxlen=4).tag(sync=True)
    guess = List(Float(min=0, max=SIZE), minlen=4, maxlen=4).tag(sync=True)
    limit = Float(LIMIT, min=0, max=2).tag(sync=True)
    merges = Int(0, min=0).tag(sync=True)

    scenes = Dict(read_only=True).tag(sync=True)
    size = Int(SIZE, read_only=True).tag(sync=True)
    smallest = Float(SMALLEST, read_only=True).tag(sync=True)

    def __init__(self, **traits):
        super().__init__(**traits)
        for name in ("true_box", "guess", "merges"):  # what is given outlives the scene's own
            if name in traits:
                self.set_trait(name, traits[name])

    @default("scenes")
    def _scenes(self):
        scenes = _made()["scenes"]
        return {name: scenes[name] | {"surest": _surest(name)} for name in SCENES}

    @default("true_box")
    def _true_box(self):
        return list(_made()["scenes"][self.scene]["true"])

    @default("guess")
    def _guess(self):
        return _surest(self.scene)

    @validate("true_box", "guess")
    def _a_box(self, proposal):
        x1, y1, x2, y2 = proposal["value"]
        if min(x2 - x1, y2 - y1) < SMALLEST:
            raise TraitError(
                f"{proposal['trait'].name} must be (x1, y1, x2, y2) with sides of at least "
                f"{SMALLEST:g} pixels, got {proposal['value']}"
            )
        return proposal["value"]

    @observe("scene")
    def _its_boxes(self, _):
        self.true_box, self.guess, self.merges = self._true_box(), self._guess(), 0

    def iou(self) -> float:
        """:func:`vgglib.localise.iou` of the two boxes."""
        return localise.iou(*(torch.tensor([box]) for box in (self.guess, self.true_box))).item()

    def windows(self) -> tuple[Tensor, Tensor]:
        """Boxes (36, 4) in pixels and probabilities (36,) of the scene's windows."""
        made = _made()["scenes"][self.scene]
        boxes, scores = (torch.tensor(made[n], dtype=torch.double) for n in ("boxes", "scores"))
        return boxes, scores

    def merged(self) -> tuple[Tensor, Tensor]:
        """:func:`vgglib.localise.merge` of the windows' boxes, until none are close."""
        return localise.merge(*self.windows(), limit=self.limit)

    def fallback(self) -> str:
        """The scene with its boxes; of the windows', before and after the merging."""
        return self._still_pair() if self.part == PARTS[0] else self._still_merging()

    def _still_pair(self) -> str:
        fig, ax = plots.subplots(width=3.4, height=3.4)
        self._draw(ax, [self.guess], true=self.true_box)
        shared = 1.0
        for low, high in ((0, 2), (1, 3)):
            ends = [(box[low], box[high]) for box in (self.true_box, self.guess)]
            shared *= max(0.0, min(e for _, e in ends) - max(s for s, _ in ends))
        areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (self.true_box, self.guess)]
        alt = (
            f"A scene with a {self.scene.lower()}, the true box in yellow and a predicted one, "
            f"white and dashed. Their intersection over union is {self.iou():.2f}."
        )
        return (
            f"{picture(fig, alt)}<p>Intersection {shared:.1f}, union "
            f"{sum(areas) - shared:.1f} square pixels: IoU {self.iou():.3f}.</p>"
        )

    def _still_merging(self) -> str:
        fig, axes = plots.subplots(1, 2, height=3.6)
        boxes, scores = self.windows()
        found, ratings = self.merged()
        true = _made()["scenes"][self.scene]["true"]
        for ax, shown, trust in ((axes[0], boxes, scores), (axes[1], found, ratings)):
            self._draw(ax, shown.tolist(), (trust / trust.max()).tolist(), true=true)
        axes[0].set_title(f"{len(boxes)} windows", loc="center")
        axes[1].set_title(f"merged: {len(found)}", loc="center")
        best = localise.iou(found[:1], torch.tensor([true], dtype=found.dtype)).item()
        alt = (
            f"A scene with a {self.scene.lower()}: on the left the boxes of its {len(boxes)} "
            f"windows, on the right the {len(found)} that are left after merging. The best rated "
            f"has an intersection over union of {best:.2f} with the true box, in yellow."
        )
        return picture(fig, alt)

    def _draw(self, ax, boxes, trust=(1.0,), *, true) -> None:
        """The scene, boxes as bright as they are trusted, and the true box."""
        file = io.BytesIO(base64.b64decode(_made()["scenes"][self.scene]["picture"]))
        ax.imshow(Image.open(file), extent=(0, SIZE, SIZE, 0))
        for (x1, y1, x2, y2), share in zip(boxes, trust, strict=True):
            look = {"fill": False, "ec": "white", "ls": "--", "lw": 1.5, "alpha": 0.1 + 0.9 * share}
            ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, **look))
        x1, y1, x2, y2 = true
        yellow = plots.COLOURS["yellow"]
        ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=yellow, lw=2))
        ax.set(xticks=[], yticks=[], xlim=(0, SIZE), ylim=(SIZE, 0))
