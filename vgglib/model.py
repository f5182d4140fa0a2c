"""How does a configuration become a network?

One class and one builder for every column of Table 1 (§2.1–2.2, chapter 1). The names in the
``state_dict`` are torchvision's, so weights move freely in both directions.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Mapping
from enum import Enum

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from . import checks
from .augment import centre_crop
from .configs import LRN, Config, resolve
from .initialise import initialise
from .pixels import Pixels, check_pixels, pixels_of
from .weights import HEADS, KEY, load_weights


class ResponseNorm(nn.LocalResponseNorm):
    """Local response normalisation in 32 bits: torch has no kernel for bf16 on a CPU."""

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (N, C, H, W) of any precision, and the same shape and precision back."""
        wide = maps if maps.dtype == torch.float64 else maps.float()
        normed = F.local_response_norm(wide, self.size, self.alpha, self.beta, self.k)
        return normed.to(maps.dtype)

    def _get_name(self) -> str:
        return "LocalResponseNorm"  # printed as the layer that it is


class VGG(nn.Module):
    """A VGG network (§2.1): stages of convolutions, then fully connected layers.

    Build one with :func:`vgg`. The modules are ``features`` (convolutions, ReLUs, pools) and
    ``classifier`` (fully connected layers, ReLUs, dropout), numbered as in torchvision.

    Attributes
    ----------
    layer_names : dict of str to str
        Names as the literature writes them → names of the modules: ``"conv3_2"`` is the second
        convolution of stage 3; ``"relu3_2"``, ``"pool3"``, ``"fc6"`` (numbered after the stages)
        and so on follow the same scheme.
    pixels : Pixels or None
        How images are normalised for the weights that the net holds; training and
        :func:`~vgglib.load_weights` set it, it travels with the ``state_dict``, and what is given
        no ``mean`` and ``std`` takes it. The ``state_dict`` of a net that knows none makes it None;
        a plain dict of tensors, such as an average of weights, leaves it.
    classes : tuple of str or None
        Name of each class, if the weights came with them.

    Parameters
    ----------
    config : Config
        The layers.
    num_classes : int
        Length of the output.
    image_size : int
        Height and width of the images in pixels; at least 2 to the number of stages (32 for the
        paper's five), because each stage halves them.
    width : float
        Multiplies the channels of every convolution and the units of every hidden FC layer.
    batch_norm : bool
        Batch normalisation between each convolution and its ReLU. Not in the paper.
    dropout : float
        Probability with which a unit of a hidden FC layer is zeroed in training (§3.1: 0.5).
    in_channels : int
        Channels of an image: 3 for colours.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of its range; the message names the range.
    """

    def __init__(
        self,
        config: Config,
        *,
        num_classes: int = 1000,
        image_size: int = 224,
        width: float = 1.0,
        batch_norm: bool = False,
        dropout: float = 0.5,
        in_channels: int = 3,
    ):
        super().__init__()
        if not isinstance(config, Config):
            raise TypeError(f"VGG takes a Config, got {config!r}; vgg(…) takes names as well")
        smallest = 2 ** len(config.stages)
        why = f"each of the {len(config.stages)} stages halves the image"
        self.image_size = checks.whole("image_size", image_size, smallest, why)
        self.num_classes = checks.whole("num_classes", num_classes)
        self.in_channels = checks.whole("in_channels", in_channels)
        self.width = checks.real("width", width, "(0, ∞)", such_as="0.25 or 1.0")
        dropout = checks.real("dropout", dropout, "[0, 1)")
        self.config, self.batch_norm = config, bool(batch_norm)
        self.pixels: Pixels | None = None
        self.classes: tuple[str, ...] | None = None
        self.layer_names: dict[str, str] = {}
        self.training_data: dict = {}  # of the stand-in

        def scaled(units: int) -> int:
            return max(1, round(min(units * width, 2**62)))

        def check_weights(*sides: int) -> None:
            if math.prod(sides) >= 2**60:  # torch counts bytes in 64 bits
                raise ValueError(
                    f"a layer of {math.prod(sides):,} weights fits into no memory; choose smaller "
                    f"values than width={width}, image_size={image_size} and "
                    f"num_classes={num_classes}"
                )

        def add(part: nn.Sequential, name: str, layer: nn.Module) -> None:
            path = "features" if part is features else "classifier"
            self.layer_names[name] = f"{path}.{len(part)}"
            part.append(layer)

        features, classifier = nn.Sequential(), nn.Sequential()
        channels = in_channels
        for number, stage in enumerate(config.stages, start=1):
            position = 0
            for layer in stage:
                if isinstance(layer, LRN):
                    norm = ResponseNorm(layer.size, layer.torch_alpha, layer.beta, layer.k)
                    add(features, f"lrn{number}_{position}", norm)
                    continue
                position += 1
                out, here = scaled(layer.channels), f"{number}_{position}"
                check_weights(out, channels, layer.kernel, layer.kernel)
                convolution = nn.Conv2d(channels, out, layer.kernel, padding=layer.kernel // 2)
                add(features, f"conv{here}", convolution)
                if batch_norm:
                    add(features, f"bn{here}", nn.BatchNorm2d(out))
                # Not in place: an in-place ReLU overwrites the convolution's output, and whoever
                # looks at "the conv layer's feature map" sees rectified values without knowing it.
                add(features, f"relu{here}", nn.ReLU())
                channels = out
            add(features, f"pool{number}", nn.MaxPool2d(2, stride=2))

        # The classifier takes the last map as it is: 512 × 7 × 7 = 25,088 values at 224 px, 512 at
        # 32 px. (torchvision averages or repeats it to 7 × 7 whatever the image, so that at 32 px
        # fc6 sees each value 49 times.)
        units = channels * (self.image_size // smallest) ** 2
        for number, wide in enumerate(map(scaled, config.hidden), start=len(config.stages) + 1):
            check_weights(wide, units)
            add(classifier, f"fc{number}", nn.Linear(units, wide))
            add(classifier, f"relu{number}", nn.ReLU())
            add(classifier, f"dropout{number}", nn.Dropout(dropout))
            units = wide
        check_weights(num_classes, units)
        last = len(config.stages) + len(config.hidden) + 1
        add(classifier, f"fc{last}", nn.Linear(units, self.num_classes))
        self.features, self.classifier = features, classifier
        # Not in forward, where it would keep torch.fx and TorchScript from reading the net.
        self.register_forward_pre_hook(_check_images, with_kwargs=True)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores before the soft-max.

        Parameters
        ----------
        images : Tensor, (N, in_channels, image_size, image_size)
            Normalised images.

        Returns
        -------
        Tensor, (N, num_classes)

        Raises
        ------
        ValueError
            If the images have another shape.
        """
        x = self.features(images)  # (N, 512, 7, 7) at 224 px and width 1
        x = torch.flatten(x, 1)  # (N, 25088)
        return self.classifier(x)  # (N, num_classes)

    def transforms(self, image_size: int | None = None) -> v2.Compose:
        """How a picture becomes what this net takes: the transform of torchvision for it.

        Parameters
        ----------
        image_size : int, optional
            Side of the centre crop in pixels, the net's own by default; the shorter side is
            rescaled to 256/224 of it first.

        Returns
        -------
        torchvision.transforms.v2.Compose
            PIL image (or uint8 tensor) → Tensor (3, image_size, image_size).

        Raises
        ------
        ValueError
            If the net knows no ``pixels``.
        """
        known = pixels_of(self)
        size = self.image_size if image_size is None else checks.whole("image_size", image_size)
        crop = centre_crop(round(size * 256 / 224), size)
        grey = [v2.Grayscale()] if self.in_channels == 1 else []
        std = known.std or [1.0] * len(known.mean)
        return v2.Compose([*crop.transforms[:-1], *grey, v2.Normalize(list(known.mean), list(std))])

    def reset_classifier(self, num_classes: int) -> VGG:
        """Put a new last layer in the place of the old one, for other classes.

        Parameters
        ----------
        num_classes : int
            Length of the output; 0 is refused: ``net.features`` gives what lies before.

        Returns
        -------
        VGG
            The net; the new layer's weights are drawn by Xavier's scheme, its biases are 0.
        """
        old = self.classifier[-1]
        if not isinstance(old, nn.Linear):
            raise ValueError(
                f"reset_classifier puts a new linear layer in the place of the last one, which is "
                f"{old} here; take that away first"
            )
        self.num_classes, self.classes = checks.whole("num_classes", num_classes), None
        new = nn.Linear(old.in_features, self.num_classes).to(old.weight)
        self.classifier[-1] = initialise(new, "xavier")
        return self

    def __setattr__(self, name: str, value) -> None:
        if name == "pixels" and value is not None:
            check_pixels(value, self.in_channels)
        super().__setattr__(name, value)

    def state_dict(self, *args, **options):
        """As in torch; its metadata say how images are normalised and what the classes are."""
        state = super().state_dict(*args, **options)
        about = getattr(state, "_metadata", {}).get(options.get("prefix", "")[:-1])
        if self.pixels is not None and about is not None:
            about[KEY] = self.pixels.to_json(self.classes)
        return state

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *rest) -> None:
        if KEY in local_metadata:
            pixels, classes = Pixels.from_json(local_metadata[KEY])
            if len(pixels.mean) == self.in_channels:  # else torch says which weights do not fit
                self.pixels = pixels
            whole = f"{prefix}{list(self.layer_names.values())[-1]}.weight" in state_dict
            if whole and classes and len(classes) == self.num_classes:
                self.classes = classes
        elif "version" in local_metadata and f"{prefix}features.0.weight" in state_dict:
            self.pixels = self.classes = None  # of a net that knew none
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)

    def __prepare_scriptable__(self) -> VGG:
        """What ``torch.jit.script`` reads: TorchScript has no words for the check of the images."""
        plain = copy.copy(self)
        kept = {k: h for k, h in self._forward_pre_hooks.items() if h is not _check_images}
        plain._forward_pre_hooks = type(self._forward_pre_hooks)(kept)
        return plain

    def extra_repr(self) -> str:
        return (
            f"{self.config.name}, image_size={self.image_size}, width={self.width}, "
            f"batch_norm={self.batch_norm}"
        )


def vgg(
    name: str | Config,
    *,
    num_classes: int = 1000,
    image_size: int = 224,
    width: float = 1.0,
    batch_norm: bool = False,
    dropout: float = 0.5,
    in_channels: int = 3,
    init: str | None = "xavier",
    weights: str | os.PathLike | Enum | Mapping[str, Tensor] | None = None,
    head: str = "load",
) -> VGG:
    """Build one of the paper's networks, or one of your own.

    Parameters
    ----------
    name : str or Config
        A column of Table 1 (``"A"``, ``"A-LRN"``, ``"B"`` … ``"E"``), torchvision's name for it
        (``"vgg16"``, ``"vgg16_bn"``), or a :class:`~vgglib.Config` of your own.
    num_classes, image_size, width, batch_norm, dropout, in_channels
        See :class:`VGG`.
    init : {"xavier", "he", "normal", None}
        Scheme of :func:`~vgglib.initialise`; ``None`` leaves PyTorch's default. Xavier is what the
        authors recommend in hindsight (§3.1).
    weights : str, path, enum or mapping, optional
        ``"IMAGENET1K_V1"`` (trained by torchvision) or ``"IMAGENET1K_FEATURES"`` (net D, the
        paper's own convolutions; the classifier keeps its initialisation), also by their full
        names in torchvision and timm (``"VGG16_Weights.IMAGENET1K_V1"``, ``"vgg16.tv_in1k"``),
        fetched by torchvision with their checksum; the folder or a checkpoint of a run; a ``.pth``
        or ``.safetensors`` file with weights of this very net; or a ``state_dict``.
    head : {"load", "new"}
        ``"new"``: the last layer keeps its initialisation, so that ``num_classes`` may be another
        than that of the weights.

    Returns
    -------
    VGG
        On the CPU, in training mode.

    Raises
    ------
    ValueError
        For an unknown name or scheme, or weights that do not fit; the message names what is
        accepted.
    FileNotFoundError
        If ``weights`` is a path with nothing there.
    """
    config, batch_norm = resolve(name, batch_norm)
    checks.choice("head", head, HEADS)
    net = VGG(
        config,
        num_classes=num_classes,
        image_size=image_size,
        width=width,
        batch_norm=batch_norm,
        dropout=dropout,
        in_channels=in_channels,
    )
    if init is not None:
        initialise(net, init)
    if weights is not None:
        load_weights(net, weights, head=head)
    return net


def _check_images(net: VGG, inputs: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> None:
    """Raise a ValueError that says what the net takes, before torch's own about some product."""
    expected = (net.in_channels, net.image_size, net.image_size)
    images = inputs[0] if inputs else named.get("images")
    if images is not None and (images.ndim != 4 or tuple(images.shape[1:]) != expected):
        raise ValueError(
            f"this net takes images of shape (N, {', '.join(map(str, expected))}), got "
            f"{tuple(images.shape)}; resize the images or build the net with image_size=…"
        )
