"""What does a net say of an image larger than its own? (§3.2, chapter 7).

The front end runs the stand-in net over the whole photo, as :func:`vgglib.dense` does, and
a test holds the two equal.
"""

from __future__ import annotations

import io

import torch
import traitlets
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as tvf

from .. import plots
from ..augment import normalise
from ..evaluate import dense
from ..standin import WEIGHTS, standin
from .base import PageWidget, picture
from .receptive import jpeg_of_cat

WINDOW = 32  #: Side in pixels of the images that the net was trained on.
STEP = 8  #: Pixels between two places of its class map: three pools.
SCALES = (WINDOW, 128)  #: Least and largest Q.


class DenseMap(
    PageWidget,
    front="dense_map",
    to_try="Enlarge the cat: at which Q does the map see an ear, and no cat any more?",
    example="Q=96",
):
    """A photo at a test scale Q, the map of class scores that a net makes of it, and their mean.

    The net is :func:`vgglib.standin`, its fully connected layer read as a convolution.

    Parameters
    ----------
    Q : int
        Side of the rescaled photo in pixels, 32 to 128, a multiple of 8.
    class_name : str
        The class whose probability the map shows.
    place : (int, int)
        Row and column of the chosen place of the map; beyond its edge, the last one is meant.

    Raises
    ------
    traitlets.TraitError
        If a value is out of its range.
    """

    Q = traitlets.Int(64, min=SCALES[0], max=SCALES[1]).tag(sync=True)
    class_name = traitlets.Unicode("cat").tag(sync=True)
    place = traitlets.Tuple(traitlets.Int(min=0), traitlets.Int(min=0), default_value=(0, 0)).tag(
        sync=True
    )

    photo = traitlets.Bytes(read_only=True).tag(sync=True, file="chelsea.jpg")
    weights = traitlets.Bytes(read_only=True).tag(sync=True, file=WEIGHTS.name)
    scales = traitlets.List(traitlets.Int(), list(SCALES), read_only=True).tag(sync=True)
    step = traitlets.Int(STEP, read_only=True).tag(sync=True)

    @traitlets.default("photo")
    def _photo(self):
        return jpeg_of_cat()

    @traitlets.default("weights")
    def _weights(self):
        return WEIGHTS.read_bytes()

    @traitlets.validate("Q")
    def _halved_by_every_pool(self, proposal):
        if proposal.value % STEP:
            raise traitlets.TraitError(
                f"Q must be a multiple of {STEP}, which three pools halve evenly, got "
                f"{proposal.value}"
            )
        return proposal.value

    @traitlets.validate("class_name")
    def _known_class(self, proposal):
        classes = _classes()
        if proposal.value not in classes:
            raise traitlets.TraitError(
                f"class_name must be one of {', '.join(classes)}, got {proposal.value!r}"
            )
        return proposal.value

    def rescaled(self) -> Tensor:
        """The photo at Q: (3, Q, Q), uint8."""
        photo = Image.open(io.BytesIO(self.photo)).convert("RGB")
        return tvf.pil_to_tensor(tvf.resize(photo, [self.Q, self.Q]))

    def scores(self) -> Tensor:
        """The map of class scores: (classes, places, places)."""
        net = standin()
        known = net.training_data
        with torch.no_grad():
            return dense(net)(normalise(self.rescaled()[None], known["mean"], known["std"]))[0]

    def answer(self) -> dict[str, float]:
        """Class → probability, of the mean scores."""
        chances = self.scores().mean((1, 2)).softmax(0)
        return dict(zip(_classes(), chances.tolist(), strict=True))

    def fallback(self) -> str:
        """The photo with one window, the map over it, and the mean's answer."""
        image, answer = self.rescaled().permute(1, 2, 0), self.answer()
        chances = self.scores().softmax(0)[_classes().index(self.class_name)]
        count = len(chances)
        fig, axes = plots.subplots(1, 2, height=3.7)
        for ax in axes:
            ax.imshow(image, extent=(0, self.Q, self.Q, 0))
            ax.set(xticks=[], yticks=[])
        row, column = (STEP * min(place, count - 1) for place in self.place)
        axes[0].add_patch(Rectangle((column, row), WINDOW, WINDOW, fill=False, lw=2, ec="white"))
        first, last = WINDOW / 2 - STEP / 2, WINDOW / 2 - STEP / 2 + STEP * count
        box = (first, last, last, first)
        axes[1].imshow(chances, extent=box, cmap="cividis", vmin=0, vmax=1, alpha=0.8)
        axes[1].set(xlim=(0, self.Q), ylim=(self.Q, 0))
        axes[0].set_title(f"Q = {self.Q}; white: one place's window", loc="center")
        axes[1].set_title(
            f"probability of {self.class_name}, {count} × {count} places", loc="center"
        )
        best = max(answer, key=lambda name: answer[name])
        alt = (
            f"A cat's face at {self.Q} pixels, and over it a map of {count} by {count} places with "
            f"the probability of {self.class_name}, from {chances.min():.0%} to "
            f"{chances.max():.0%}. The mean scores say {best}, {answer[best]:.0%}."
        )
        return picture(fig, alt)


def _classes() -> list[str]:
    """What the net can say."""
    return standin().training_data["classes"]
