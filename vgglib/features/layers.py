"""What does a layer put out, by its name? (chapter 6)"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from ..model import VGG
from ..modes import as_it_was


def activations(
    model: nn.Module, images: Tensor, layers: str | Sequence[str], *, grad: bool = False
) -> dict[str, Tensor]:
    """Feature maps by the name of their layer (chapter 6).

    They are what the layer itself put out: an in-place ReLU behind it, as in torchvision's nets,
    does not reach them. Dropout is off and batch norm uses its running statistics.

    Parameters
    ----------
    model : nn.Module
        A net of :func:`~vgglib.vgg`, or any other.
    images : Tensor, (N, 3, H, W) or (3, H, W)
        Normalised, and of as many channels as the net takes (``in_channels``). Of a size other than
        the net's if all layers lie in its convolutional part.
    layers : str or sequence of str
        ``"conv3_2"``, ``"relu5_3"``, ``"pool4"``, ``"fc6"`` … for a VGG (see
        ``VGG.layer_names``), or module names such as ``"features.0"`` for any net.
    grad : bool
        Keep the graph, to differentiate a feature map.

    Returns
    -------
    dict
        Name → Tensor (N, channels, height, width), or (N, units) for a fully connected layer, on
        the net's device.

    Raises
    ------
    ValueError
        For an unknown layer (the message lists the known ones) or images of a wrong shape.
    """
    layers = [layers] if isinstance(layers, str) else list(layers)
    paths = {name: path_of(model, name) for name in layers}
    images = as_batch(model, images)
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable:
        # A copy, or a later in-place operation would change it.
        return lambda module, inputs, output: found.update({name: output.clone()})

    with as_it_was(model), torch.set_grad_enabled(grad), ExitStack() as held:
        for name, path in paths.items():
            held.enter_context(model.get_submodule(path).register_forward_hook(keep(name)))
        shortest(model, list(paths.values()))(images)
    return {name: found[name] for name in layers}


def path_of(model: nn.Module, layer: str) -> str:
    """The module name of a layer called by its paper-style or its module name."""
    names = model.layer_names if isinstance(model, VGG) else {}
    modules = dict(model.named_modules())
    path = names.get(layer, layer)
    if not layer or path not in modules:
        leaves = names or [name for name, part in modules.items() if not list(part.children())]
        raise ValueError(f"the net has no layer {layer!r}; it has {', '.join(leaves)}")
    return path


def shortest(model: nn.Module, paths: Sequence[str]) -> nn.Module:
    """The part of the net that has to run to reach all these layers.

    Up to the last convolutional layer asked for, a VGG takes images of any size.
    """
    parts = [path.split(".") for path in paths]
    features = getattr(model, "features", None)
    convolutional = all(part[0] == "features" and len(part) == 2 for part in parts)
    if convolutional and isinstance(features, nn.Sequential):
        return features[: 1 + max(int(part[1]) for part in parts)]
    return model


def as_batch(model: nn.Module, images: Tensor) -> Tensor:
    """Images as a batch on the net's device."""
    if not isinstance(images, Tensor) or not images.is_floating_point():
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(
            f"images must be a normalised floating-point tensor, got {kind}; "
            "features.preprocess makes one of a photo, augment.normalise of uint8 pixels"
        )
    images = images[None] if images.ndim == 3 else images
    channels = getattr(model, "in_channels", 3)
    if images.ndim != 4 or images.shape[1] != channels:
        raise ValueError(
            f"images must have the shape (N, {channels}, H, W) or ({channels}, H, W), got "
            f"{tuple(images.shape)}"
        )
    parameter = next(model.parameters())
    return images.to(parameter.device, parameter.dtype)


def channel_score(model: nn.Module, image: Tensor, layer: str, channel: int) -> Callable:
    """The function (N, 3, H, W) → (N,): mean of a channel over its positions."""
    channels = activations(model, image, layer)[layer].shape[1]
    if not 0 <= channel < channels:
        raise ValueError(f"{layer} has channels 0 to {channels - 1}, got {channel!r}")

    def score(images: Tensor) -> Tensor:
        maps = activations(model, images, layer, grad=torch.is_grad_enabled())[layer]
        return maps[:, channel].flatten(1).mean(dim=1) if maps.ndim == 4 else maps[:, channel]

    return score
