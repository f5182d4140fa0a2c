"""How does a configuration become a network?

One class and one builder for every column of Table 1 (§2.1–2.2, chapter 1). The names in the
``state_dict`` are torchvision's, so weights move freely in both directions.
"""

from __future__ import annotations

import math
import os
import pickle
from collections.abc import Mapping
from numbers import Real
from pathlib import Path

import torch
from torch import Tensor, nn

from .configs import ALIASES, CONFIGS, LRN, Config, resolve
from .initialise import initialise


class VGG(nn.Module):
    """A VGG network (§2.1): stages of convolutions, then fully connected layers.

    Build one with :func:`vgg`. The modules are ``features`` (convolutions, ReLUs, pools) and
    ``classifier`` (fully connected layers, ReLUs, dropout), numbered as in torchvision.

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
    ):
        super().__init__()
        if not isinstance(config, Config):
            raise TypeError(f"VGG takes a Config, got {config!r}; vgg(…) takes names as well")
        smallest = 2 ** len(config.stages)
        if not isinstance(image_size, int) or image_size < smallest:
            raise ValueError(
                f"image_size must be an integer of at least {smallest} (each of the "
                f"{len(config.stages)} stages halves the image), got {image_size!r}"
            )
        if not isinstance(num_classes, int) or isinstance(num_classes, bool) or num_classes < 1:
            raise ValueError(f"num_classes must be a positive integer, got {num_classes!r}")
        if not isinstance(width, Real) or not 0 < width < math.inf:
            raise ValueError(f"width must be a positive number such as 0.25 or 1.0, got {width!r}")
        if not isinstance(dropout, Real) or not 0 <= dropout < 1:
            raise ValueError(f"dropout must be a number in [0, 1), got {dropout!r}")
        self.config, self.num_classes, self.image_size = config, num_classes, image_size
        self.width, self.batch_norm = width, batch_norm

        def scaled(units: int) -> int:
            return max(1, round(min(units * width, 2**62)))

        def check_weights(*sides: int) -> None:
            if math.prod(sides) >= 2**60:  # torch counts bytes in 64 bits
                raise ValueError(
                    f"a layer of {math.prod(sides):,} weights fits into no memory; choose smaller "
                    f"values than width={width}, image_size={image_size} and "
                    f"num_classes={num_classes}"
                )

        layers: list[nn.Module] = []
        channels = 3
        for stage in config.stages:
            for layer in stage:
                if isinstance(layer, LRN):
                    layers.append(
                        nn.LocalResponseNorm(layer.size, layer.torch_alpha, layer.beta, layer.k)
                    )
                    continue
                out = scaled(layer.channels)
                check_weights(out, channels, layer.kernel, layer.kernel)
                layers.append(nn.Conv2d(channels, out, layer.kernel, padding=layer.kernel // 2))
                if batch_norm:
                    layers.append(nn.BatchNorm2d(out))
                # Not in place: an in-place ReLU overwrites the convolution's output, and whoever
                # looks at "the conv layer's feature map" sees rectified values without knowing it.
                layers.append(nn.ReLU())
                channels = out
            layers.append(nn.MaxPool2d(2, stride=2))
        self.features = nn.Sequential(*layers)

        # The classifier takes the last map as it is: 512 × 7 × 7 = 25,088 values at 224 px, 512 at
        # 32 px. (torchvision averages or repeats it to 7 × 7 whatever the image, so that at 32 px
        # fc6 sees each value 49 times.)
        units = channels * (image_size // smallest) ** 2
        layers = []
        for hidden in map(scaled, config.hidden):
            check_weights(hidden, units)
            layers += [nn.Linear(units, hidden), nn.ReLU(), nn.Dropout(dropout)]
            units = hidden
        check_weights(num_classes, units)
        self.classifier = nn.Sequential(*layers, nn.Linear(units, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """Class scores before the soft-max.

        Parameters
        ----------
        images : Tensor, (N, 3, image_size, image_size)
            Normalised images.

        Returns
        -------
        Tensor, (N, num_classes)

        Raises
        ------
        ValueError
            If the images have another shape.
        """
        expected = (3, self.image_size, self.image_size)
        if images.ndim != 4 or tuple(images.shape[1:]) != expected:
            raise ValueError(
                f"this net takes images of shape (N, {', '.join(map(str, expected))}), got "
                f"{tuple(images.shape)}; resize the images or build the net with image_size=…"
            )
        x = self.features(images)  # (N, 512, 7, 7) at 224 px and width 1
        x = torch.flatten(x, 1)  # (N, 25088)
        return self.classifier(x)  # (N, num_classes)

    @property
    def layer_names(self) -> dict[str, str]:
        """Names as the literature writes them → names of the modules.

        ``"conv3_2"`` is the second convolution of stage 3; ``"relu3_2"``, ``"pool3"``, ``"fc6"``
        (numbered after the stages) and so on follow the same scheme.
        """
        names, index = {}, 0
        modules = list(self.features)
        for number, stage in enumerate(self.config.stages, start=1):
            position = 0
            for layer in stage:
                if isinstance(layer, LRN):
                    names[f"lrn{number}_{position}"] = f"features.{index}"
                    index += 1
                    continue
                position += 1
                names[f"conv{number}_{position}"] = f"features.{index}"
                index += 1
                if isinstance(modules[index], nn.BatchNorm2d):
                    names[f"bn{number}_{position}"] = f"features.{index}"
                    index += 1
                names[f"relu{number}_{position}"] = f"features.{index}"
                index += 1
            names[f"pool{number}"] = f"features.{index}"
            index += 1
        fc = len(self.config.stages)
        for index, module in enumerate(self.classifier):
            if isinstance(module, nn.Linear):
                fc += 1
                names[f"fc{fc}"] = f"classifier.{index}"
            elif isinstance(module, nn.ReLU):
                names[f"relu{fc}"] = f"classifier.{index}"
            else:
                names[f"dropout{fc}"] = f"classifier.{index}"
        return names

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
    init: str | None = "xavier",
    weights: str | os.PathLike | None = None,
) -> VGG:
    """Build one of the paper's networks, or one of your own.

    Parameters
    ----------
    name : str or Config
        A column of Table 1 (``"A"``, ``"A-LRN"``, ``"B"`` … ``"E"``), torchvision's name for it
        (``"vgg16"``, ``"vgg16_bn"``), or a :class:`~vgglib.Config` of your own.
    num_classes, image_size, width, batch_norm, dropout
        See :class:`VGG`.
    init : {"xavier", "he", "normal", None}
        Scheme of :func:`~vgglib.initialise`; ``None`` leaves PyTorch's default. Xavier is what the
        authors recommend in hindsight (§3.1).
    weights : str or path, optional
        ``"IMAGENET1K_V1"`` (trained by torchvision) or ``"IMAGENET1K_FEATURES"`` (net D, the
        paper's own convolutions; the classifier keeps its initialisation), fetched by torchvision
        with their checksum; or a ``.pth`` or ``.safetensors`` file with weights of this very net.

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
    net = VGG(
        config,
        num_classes=num_classes,
        image_size=image_size,
        width=width,
        batch_norm=batch_norm,
        dropout=dropout,
    )
    if init is not None:
        initialise(net, init)
    if weights is not None:
        load_weights(net, weights)
    return net


def load_weights(model: VGG, weights: str | os.PathLike | Mapping[str, Tensor]) -> VGG:
    """Load weights into a network, in place; either all of them fit or nothing is changed.

    Parameters
    ----------
    model : VGG
    weights : str, path or mapping
        As ``weights`` of :func:`vgg`, or a ``state_dict``.

    Returns
    -------
    VGG
        The same model.

    Raises
    ------
    ValueError
        If names or shapes differ from the model's (the first differences are listed), a value is
        not finite, torchvision has no such weights for this net, or the file can not be read as
        weights. Files are never unpickled into code.
    FileNotFoundError
        If the path does not exist.
    OSError
        If torchvision's weights can not be fetched.
    """
    parts = ("features", "classifier")
    if isinstance(weights, Mapping):
        state, source = weights, "the given state_dict"
    elif str(weights).upper() in ("IMAGENET1K_V1", "IMAGENET1K_FEATURES"):
        source = str(weights).upper()
        parts = ("features",) if source.endswith("FEATURES") else parts
        state = _torchvision_weights(model, source, parts)
    else:
        state, source = _read(Path(weights)), f"{weights}"
    state = _fitting(model, state, source, parts)
    broken = [k for k, v in state.items() if not torch.isfinite(v).all()]
    if broken:
        raise ValueError(f"{source} holds values that are not finite in {', '.join(broken[:3])}")
    model.load_state_dict(state, strict=len(parts) == 2)
    return model


def _fitting(
    model: VGG, state: Mapping[str, Tensor], source: str, parts: tuple[str, ...]
) -> dict[str, Tensor]:
    """What ``state`` holds for these parts of the model, if names and shapes are the model's."""
    own = {k: v for k, v in model.state_dict().items() if k.split(".")[0] in parts}
    given = {k: v for k, v in state.items() if k.split(".")[0] in parts or len(parts) == 2}
    foreign = [k for k, v in given.items() if not isinstance(v, Tensor)]
    if foreign:
        raise ValueError(
            f"{source} holds {foreign[0]!r} of type {type(given[foreign[0]]).__name__} where a "
            "state_dict has tensors; a checkpoint often holds the state_dict under a key of its "
            "own: give load_weights that part"
        )
    wrong = [f"{k} is missing" for k in own if k not in given]
    wrong += [f"{k} has no place in the net" for k in given if k not in own]
    wrong += [
        f"{k} has shape {tuple(given[k].shape)} where the net has {tuple(own[k].shape)}"
        for k in own
        if k in given and given[k].shape != own[k].shape
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(
            f"{source} holds weights of another net than {model.config.name} "
            f"(image_size={model.image_size}, width={model.width}, "
            f"num_classes={model.num_classes}, batch_norm={model.batch_norm}): "
            f"{'; '.join(wrong[:3])}{more}. Build the net that the weights were trained in."
        )
    return given


def _torchvision_weights(model: VGG, name: str, parts: tuple[str, ...]) -> Mapping[str, Tensor]:
    """torchvision's state_dict for the net that ``model`` is, checked against its hash."""
    from torchvision.models import get_model, get_model_weights

    alias = {letter: alias for alias, letter in ALIASES.items()}.get(model.config.name)
    if alias is None or model.config != CONFIGS[model.config.name]:
        net = model.config.name
        if alias is not None:
            net = f"a Config that is called {net} and differs from CONFIGS[{net!r}]"
        raise ValueError(
            f"torchvision has no weights for {net}; it has them for "
            f"{', '.join(f'{letter} ({alias})' for alias, letter in ALIASES.items())}"
        )
    alias += "_bn" if model.batch_norm else ""
    offered = get_model_weights(alias)
    if name not in offered.__members__:
        raise ValueError(
            f"torchvision has no {name} for {alias}; it has {', '.join(offered.__members__)}"
        )
    with torch.device("meta"):  # does it fit? Better known before half a gigabyte is fetched
        _fitting(model, get_model(alias).state_dict(), name, parts)
    options = {"map_location": "cpu", "weights_only": True}
    try:
        return offered[name].get_state_dict(progress=True, check_hash=True, **options)
    except (OSError, RuntimeError) as error:
        raise OSError(
            f"{name} of {alias} can not be had from {offered[name].url}: {error}. Put the file "
            f"into {Path(torch.hub.get_dir(), 'checkpoints')} by other means, or go on without"
        ) from error


def _read(path: Path) -> Mapping[str, Tensor]:
    """Tensors by name from a .safetensors file or a torch file, without unpickling code."""
    if not path.is_file():
        raise FileNotFoundError(
            f"no weights at {path}; accepted are IMAGENET1K_V1, IMAGENET1K_FEATURES, "
            "or the path of a .pth or .safetensors file"
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own message advises to load without the check, which may run the file's code.
        raise ValueError(
            f"{path} can not be read as weights: it is damaged, or holds Python objects besides "
            "tensors, which could run code when loaded; accepted is torch.save(net.state_dict(), …)"
        ) from error
    except Exception as error:
        raise ValueError(
            f"{path} can not be read as weights, it is damaged or not what torch.save(…) or "
            f"safetensors.torch.save_file(…) wrote: {error!r}"
        ) from error
    if not isinstance(state, Mapping):
        raise ValueError(
            f"{path} holds no state_dict (names → tensors) but {type(state).__name__}; "
            "torch.save(net.state_dict(), …) writes one"
        )
    return state
