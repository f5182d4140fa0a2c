"""What in an image made a unit answer? (chapter 6)

Saliency maps are the authors' own (Simonyan, Vedaldi & Zisserman, 2014). The arithmetic is
captum's.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .layers import activations, as_batch, as_it_was, channel_score, path_of


def saliency(
    model: nn.Module,
    image: Tensor,
    target: int | None = None,
    *,
    unit: tuple[str, int] | None = None,
) -> Tensor:
    """Which pixels, changed a little, change the score most? (Simonyan et al., 2014; chapter 6)

    Parameters
    ----------
    model : nn.Module
    image : Tensor, (3, H, W)
        Normalised.
    target : int, optional
        Class whose score (before the soft-max) is explained; default: the class that wins.
    unit : (str, int), optional
        Explain a channel of a layer instead, ``("conv5_3", 42)``: its mean over all positions.
        The way for nets whose classifier means nothing, as with ``"IMAGENET1K_FEATURES"``.

    Returns
    -------
    Tensor, (H, W)
        The largest of the three colours' ``|∂score/∂pixel|``; at least 0, in units of score per
        unit of the normalised image.

    Raises
    ------
    ValueError
        For an unknown class, layer or channel, for both ``target`` and ``unit``, or if the
        winning class is asked for and the scores are not finite.
    """
    from captum.attr import Saliency

    image = _one(model, image).requires_grad_()
    with as_it_was(model):
        score = _score(model, image, target, unit)
        slope = Saliency(score).attribute(image, abs=True)  # (1, 3, H, W)
    return slope[0].amax(dim=0).detach().cpu()


def occlusion(
    model: nn.Module,
    image: Tensor,
    target: int | None = None,
    *,
    unit: tuple[str, int] | None = None,
    window: int | None = None,
    stride: int | None = None,
) -> Tensor:
    """How much is lost when a square of the image is covered? (Zeiler & Fergus, 2014; chapter 6)

    Parameters
    ----------
    model, image, target, unit
        As for :func:`saliency`.
    window : int, optional
        Side in pixels of the grey square, filled with 0, the mean colour; default: a seventh of
        the image.
    stride : int, optional
        Pixels between its positions; default: half of ``window``. Each costs a forward pass, about
        170 at the defaults.

    Returns
    -------
    Tensor, (H, W)
        Score of the whole image minus score of the covered one, averaged over the squares that
        cover a pixel. Positive: what is there speaks for the target; negative: against it.

    Raises
    ------
    ValueError
        As for :func:`saliency`, and for a window or stride that leaves parts uncovered.
    """
    from captum.attr import Occlusion

    image = _one(model, image)
    shortest = min(image.shape[2:])
    window = max(1, round(shortest / 7)) if window is None else window
    stride = max(1, window // 2) if stride is None else stride
    if not 1 <= stride <= window <= shortest:
        raise ValueError(
            f"occlusion needs 1 <= stride <= window <= {shortest} (the image), "
            f"got stride={stride}, window={window}"
        )
    with as_it_was(model):
        lost = Occlusion(_score(model, image, target, unit)).attribute(
            image,
            sliding_window_shapes=(3, window, window),
            strides=(3, stride, stride),
            baselines=0,
            perturbations_per_eval=8,
        )  # (1, 3, H, W), the same for the three colours
    return lost[0, 0].detach().cpu()


def grad_cam(
    model: nn.Module,
    image: Tensor,
    target: int | None = None,
    *,
    unit: tuple[str, int] | None = None,
    layer: str | None = None,
) -> Tensor:
    """Where are the feature maps that speak for the target? (Selvaraju et al., 2017; chapter 6)

    Each map of ``layer`` is weighted by the mean of its gradient; the positive part of their sum
    is enlarged to the image.

    Parameters
    ----------
    model, image, target, unit
        As for :func:`saliency`.
    layer : str, optional
        A layer with feature maps; default: the last ReLU of the convolutional part, or with
        ``unit`` the last one before the unit's layer.

    Returns
    -------
    Tensor, (H, W)
        At least 0; activation × gradient, hence in units of the score.

    Raises
    ------
    ValueError
        As for :func:`saliency`, or if ``layer`` has no feature maps or the target does not depend
        on it.
    """
    from captum.attr import LayerAttribution, LayerGradCam

    image = _one(model, image)
    path = _relu_before(model, unit) if layer is None else path_of(model, layer)
    maps = activations(model, image, [path])[path]
    if maps.ndim != 4:
        raise ValueError(
            f"grad_cam needs a layer with feature maps; {layer} has none; choose one of "
            "net.features"
        )
    if unit is not None and not _comes_before(model, path, path_of(model, unit[0])):
        raise ValueError(
            f"grad_cam: {unit[0]} does not depend on {layer}; name an earlier one with layer="
        )
    with as_it_was(model):
        score = _score(model, image, target, unit)
        method = LayerGradCam(score, model.get_submodule(path))
        strength = method.attribute(image, relu_attributions=True)  # (1, 1, height, width)
        large = LayerAttribution.interpolate(strength, image.shape[2:], "bilinear")
    return large[0, 0].detach().cpu()


def _one(model: nn.Module, image: Tensor) -> Tensor:
    """One image as a batch that the caller may change."""
    image = as_batch(model, image)
    if len(image) != 1:
        raise ValueError(f"one image at a time, please: (3, H, W), got {tuple(image.shape)}")
    return image.detach().clone()


def _score(
    model: nn.Module, image: Tensor, target: int | None, unit: tuple[str, int] | None
) -> Callable[[Tensor], Tensor]:
    """The function (N, 3, H, W) → (N,) that an attribution explains."""
    if unit is not None:
        if target is not None:
            raise ValueError(
                f"give either target= (a class) or unit= (a channel), got target={target!r} and "
                f"unit={unit!r}"
            )
        return channel_score(model, image, *unit)
    with torch.no_grad():
        scores = model(image)[0]
    if target is None:
        if not torch.isfinite(scores).all():
            raise ValueError(
                "the class scores are not finite, so no class wins (IMAGENET1K_FEATURES brings no "
                'classifier); explain a channel instead, e.g. unit=("conv5_3", 42)'
            )
        target = int(scores.argmax())
    if not 0 <= target < len(scores):
        raise ValueError(f"target must be a class from 0 to {len(scores) - 1}, got {target!r}")
    return lambda images: model(images)[:, target]


def _comes_before(model: nn.Module, first: str, second: str) -> bool:
    """Is a layer listed before another? (In a VGG the order of the list is that of computation.)"""
    order = [name for name, _ in model.named_modules()]
    return order.index(first) < order.index(second)


def _relu_before(model: nn.Module, unit: tuple[str, int] | None) -> str:
    """The last ReLU of the convolutional part, or the last one there before the unit's layer."""
    relus = [
        name
        for name, module in model.named_modules()
        if name.startswith("features.") and isinstance(module, nn.ReLU)
    ]
    if unit is not None:
        path = path_of(model, unit[0])
        relus = [relu for relu in relus if _comes_before(model, relu, path)]
    if not relus:
        before = f" before {unit[0]}" if unit else ""
        raise ValueError(f"grad_cam finds no ReLU{before}; name a layer with layer=…")
    return relus[-1]
