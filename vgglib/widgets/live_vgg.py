"""What does a trained VGG see in this picture? The stand-in net, run in the reader's own page.

The front end computes everything itself, from the weights of :func:`vgglib.standin` as the package
ships them; a notebook sends the file with the widget, a page fetches it. See chapter 6.
"""

from __future__ import annotations

import base64
import html
import io
from functools import cache
from pathlib import Path
from typing import Any

import torch
import traitlets
from PIL import Image

from ..augment import normalise
from ..data import PHOTO_CREDITS, Credit
from ..standin import WEIGHTS, standin
from .base import PageWidget

SIZE = 32  # pixels of an image's side
COVER = 10  # pixels of the cover's side
STRIP = Path(__file__).parent.parent / "assets" / "live_samples.png"
YOURS = "your own picture"

#: Name → (credit, right class or None): CIFAR-10 has no class for most of what there is to see.
SAMPLES = {
    "cat": (PHOTO_CREDITS["chelsea"], "cat"),
    "moose": (Credit("Male moose", "Ryan Hagerty, USFWS", "public domain"), "deer"),
    "rocket": (PHOTO_CREDITS["rocket"], None),
    "coffee": (PHOTO_CREDITS["coffee"], None),
    "astronaut": (PHOTO_CREDITS["astronaut"], None),
    "temple": (PHOTO_CREDITS["china"], None),
    "flower": (PHOTO_CREDITS["flower"], None),
}


def sample_images() -> torch.Tensor:
    """The samples as the net gets them, (7, 3, 32, 32) bytes."""
    with Image.open(STRIP) as strip:
        pixels = torch.tensor(list(strip.convert("RGB").tobytes()), dtype=torch.uint8)
    pixels = pixels.view(SIZE, len(SAMPLES), SIZE, 3)  # row, sample, column, colour
    return pixels.permute(1, 3, 0, 2).contiguous()


def _samples() -> list[dict]:
    """What the front end needs to know of each sample."""
    return [
        {
            "name": name,
            "credit": f"{credit.title}, {credit.author}, {credit.licence}",
            "right": right,
            "pixels": base64.b64encode(image.permute(1, 2, 0).numpy().tobytes()).decode(),
        }
        for (name, (credit, right)), image in zip(SAMPLES.items(), sample_images(), strict=True)
    ]


@cache
def _answers() -> list[dict[str, float]]:
    """The probability of each class for each sample, by PyTorch."""
    net = standin()
    images = normalise(sample_images(), net.training_data["mean"], net.training_data["std"])
    with torch.no_grad():
        rows = net(images).softmax(1).tolist()
    return [dict(zip(net.training_data["classes"], row, strict=True)) for row in rows]


def _likeliest(answers: dict[str, float]) -> list[tuple[str, float]]:
    """The three likeliest classes."""
    return sorted(answers.items(), key=lambda answer: -answer[1])[:3]


class LiveVGG(
    PageWidget,
    front="live_vgg",
    to_try="Cover the cat's face: which class takes over? Then give it a picture of your own.",
    example="covered=true,cover_x=11,cover_y=11",
):
    """A trained VGG that answers in the page: class probabilities, feature maps, a cover to move.

    The net is :func:`vgglib.standin`: 32-64-128 channels, two convolutions a stage, trained on
    CIFAR-10. A picture of the reader's own stays in the browser.

    Parameters
    ----------
    sample : str
        A name of :data:`SAMPLES`.
    layer : str
        ``"conv1_1"`` … ``"pool3"``; convolutions are shown behind batch norm and ReLU.
    channel : int
        Of that layer, from 0.
    covered : bool
        Lay a grey square of 10×10 pixels over the picture?
    cover_x, cover_y : int
        Its left and upper edge in pixels, 0 to 22.

    Attributes
    ----------
    probabilities : list of float
        What the front end computed, in the order of ``vgglib.standin().training_data["classes"]``;
        empty until it has.
    """

    sample = traitlets.Enum([*SAMPLES, YOURS], "cat").tag(sync=True, unshared=(YOURS,))
    layer = traitlets.Unicode("conv1_2").tag(sync=True)
    channel = traitlets.Int(0, min=0).tag(sync=True)
    covered = traitlets.Bool(False).tag(sync=True)
    cover_x = traitlets.Int(11, min=0, max=SIZE - COVER).tag(sync=True)
    cover_y = traitlets.Int(11, min=0, max=SIZE - COVER).tag(sync=True)
    probabilities = traitlets.List(traitlets.Float(), read_only=True).tag(sync=True)
    samples = traitlets.List(traitlets.Dict(), read_only=True).tag(sync=True)
    weights = traitlets.Bytes(read_only=True).tag(sync=True, file=WEIGHTS.name)

    @traitlets.default("samples")
    def _default_samples(self):
        return _samples()

    @traitlets.default("weights")
    def _default_weights(self):
        return WEIGHTS.read_bytes()

    @traitlets.validate("layer")
    def _known_layer(self, proposal):
        channels = self.channels()
        if proposal.value not in channels:
            raise traitlets.TraitError(
                f"layer must be one of {', '.join(channels)}, got {proposal.value!r}"
            )
        return proposal.value

    @traitlets.validate("channel")
    def _channel_in_layer(self, proposal):
        count = self.channels()[self.layer]
        if proposal.value >= count:
            raise traitlets.TraitError(
                f"{self.layer} has channels 0 to {count - 1}, got {proposal.value}"
            )
        return proposal.value

    @traitlets.observe("layer")
    def _channel_of_new_layer(self, change):
        self.channel = min(self.channel, self.channels()[self.layer] - 1)

    @staticmethod
    @cache
    def channels() -> dict[str, int]:
        """Number of channels of each layer that can be looked at."""
        net, counts = standin(), {}
        for name, path in net.layer_names.items():
            if name.startswith("conv"):
                layer: Any = net.get_submodule(path)
                counts[name] = last = layer.out_channels
            elif name.startswith("pool"):
                counts[name] = last
        return counts

    def poster(self) -> str:
        """The sample and its ten probabilities at rest, for a page that starts it when asked."""
        index = list(SAMPLES).index(self.sample)
        credit, _ = SAMPLES[self.sample]
        file, answers = io.BytesIO(), _answers()[index]
        pixels = sample_images()[index].permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(file, "png", optimize=True)
        best = max(answers, key=lambda name: answers[name])
        rows = "".join(
            f"<tr{' class=vgg-best' if name == best else ''}><th scope=row>{name}</th>"
            f'<td class=vgg-track><span class=vgg-bar style="width:{value:.1%}"></span></td>'
            f"<td class=vgg-value>{_percent(value)}</td></tr>"
            for name, value in answers.items()
        )
        return (
            '<div class="vgg vgg-poster"><div class="vgg-pair"><div>'
            '<img class="vgg-picture" width="256" height="256" '
            f'src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}" '
            f'alt="The {self.sample} at {SIZE} by {SIZE} pixels, as the net sees it.">'
            f"<p class=vgg-note>Photo: {html.escape(credit.title)}, {html.escape(credit.author)}, "
            f"{html.escape(credit.licence)}.</p></div><div><table class=vgg-bars>"
            f"<caption>Probability of each class</caption><tbody>{rows}</tbody></table>"
            "<p class=vgg-begin></p></div></div>"
            "</div>"
        )

    def fallback(self) -> str:
        """The net's answers for the samples, as a table."""
        strip = base64.b64encode(STRIP.read_bytes()).decode()
        rows = "".join(
            f"<tr><th scope=row>{html.escape(name)}</th>"
            + "".join(f"<td>{label} {value:.0%}</td>" for label, value in _likeliest(answers))
            + "</tr>"
            for name, answers in zip(SAMPLES, _answers(), strict=True)
        )
        return (
            f'<img src="data:image/png;base64,{strip}" width="560" height="80" '
            'style="image-rendering:pixelated" '
            f'alt="The samples at 32 by 32 pixels, from the left: {", ".join(SAMPLES)}.">'
            "<table><caption>What a small VGG trained on CIFAR-10 takes them for</caption>"
            "<thead><tr><th scope=col>picture</th><th scope=col>first</th>"
            f"<th scope=col>second</th><th scope=col>third</th></tr></thead><tbody>{rows}</tbody>"
            "</table>"
        )


def _percent(value: float) -> str:
    """0.873 as "87 %", and 0.0123 as "1.2 %", as the front end writes it."""
    return f"{100 * value:.{1 if value < 0.0995 else 0}f} %"
