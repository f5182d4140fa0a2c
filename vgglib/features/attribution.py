"""What in an image made a unit answer? (chapter 6)

Saliency maps are the authors' own (Simonyan, Vedaldi & Zisserman, 2014). The arithmetic is
captum's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..extras import extra
from ..modes import as_it_was
from .layers import activations, as_batch, channel_score, path_of


def saliency(
    model: nn.Module,
    image: Tensor,
    target: int | Sequence[int] | None = None,
    *,
    unit: tuple[str, int] | None = None,
) -> Tensor:
    """Which pixels, changed a little, change the score most? (Simonyan et al., 2014; chapter 6)

    Parameters
    ----------
    model : nn.Module
    image : Tensor, (3, H, W) or (N, 3, H, W)
        Normalised.
    target : int or N of them, optional
        Class whose score (before the soft-max) is explained, one for all images or one each;
        default: the class that wins in each image.
    unit : (str, int), optional
        Explain a channel of a layer instead, ``("conv5_3", 42)``: its mean over all positions.
        The way for nets whose classifier means nothing, as with ``"IMAGENET1K_FEATURES"``.

    Returns
    -------
    Tensor, (H, W) or (N, H, W)
        The largest of the three colours' ``|∂score/∂pixel|``; at least 0, in units of score per
        unit of the normalised image.

    Raises
    ------
    ValueError
        For an unknown class, layer or channel, for both ``target`` and ``unit``, or if the
        winning class is asked for and the scores are not finite.
    """
    with extra("inside"):
        from captum.attr import Saliency

    images = as_batch(model, image).detach().clone().requires_grad_()
    with as_it_was(model):
        score, targets = _explained(model, images, target, unit)
        slope = Saliency(score).attribute(images, target=targets, abs=True)  # (N, 3, H, W)
    return _like(image, slope.amax(dim=1))


def occlusion(
    model: nn.Module,
    image: Tensor,
    target: int | Sequence[int] | None = None,
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
    Tensor, (H, W) or (N, H, W)
        Score of the whole image minus score of the covered one, averaged over the squares that
        cover a pixel. Positive: what is there speaks for the target; negative: against it.

    Raises
    ------
    ValueError
        As for :func:`saliency`, and for a window or stride that leaves parts uncovered.
    """
    with extra("inside"):
        from captum.attr import Occlusion

    images = as_batch(model, image)
    shortest = min(images.shape[2:])
    window = max(1, round(shortest / 7)) if window is None else window
    stride = max(1, window // 2) if stride is None else stride
    if not 1 <= stride <= window <= shortest:
        raise ValueError(
            f"occlusion needs 1 <= stride <= window <= {shortest} (the image), "
            f"got stride={stride}, window={window}"
        )
    with as_it_was(model):
        score, targets = _explained(model, images, target, unit)
        lost = Occlusion(score).attribute(
            images,
            target=targets,
            sliding_window_shapes=(images.shape[1], window, window),
            strides=(images.shape[1], stride, stride),
            baselines=0,
            perturbations_per_eval=8,
        )  # (N, 3, H, W), the same for the three colours
    return _like(image, lost[:, 0])


def grad_cam(
    model: nn.Module,
    image: Tensor,
    target: int | Sequence[int] | None = None,
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
    Tensor, (H, W) or (N, H, W)
        At least 0; activation × gradient, hence in units of the score.

    Raises
    ------
    ValueError
        As for :func:`saliency`, or if ``layer`` has no feature maps or the target does not depend
        on it.
    """
    with extra("inside"):
        from captum.attr import LayerAttribution, LayerGradCam

    images = as_batch(model, image)
    path = _relu_before(model, unit) if layer is None else path_of(model, layer)
    maps = activations(model, images[:1], [path])[path]
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
        score, targets = _explained(model, images, target, unit)
        method = LayerGradCam(score, model.get_submodule(path))
        strength = method.attribute(images, targets, relu_attributions=True)  # (N, 1, h, w)
        large = LayerAttribution.interpolate(strength, images.shape[2:], "bilinear")
    return _like(image, large[:, 0])


def _like(image: Tensor, maps: Tensor) -> Tensor:
    """The maps (N, H, W), or the only one of them if a single image was given."""
    maps = maps.detach().cpu()
    return maps[0] if image.ndim == 3 else maps


def _explained(
    model: nn.Module,
    images: Tensor,
    target: int | Sequence[int] | None,
    unit: tuple[str, int] | None,
) -> tuple[Callable[[Tensor], Tensor], Tensor | None]:
    """What an attribution explains: a function of images, and which of its columns (None: all)."""
    if unit is not None:
        if target is not None:
            raise ValueError(
                f"give either target= (a class) or unit= (a channel), got target={target!r} and "
                f"unit={unit!r}"
            )
        return channel_score(model, images[:1], *unit), None
    with torch.no_grad():
        scores = model(images)  # (N, classes)
    if target is None:
        if not torch.isfinite(scores).all():
            raise ValueError(
                "the class scores are not finite, so no class wins (IMAGENET1K_FEATURES brings no "
                'classifier); explain a channel instead, e.g. unit=("conv5_3", 42)'
            )
        return model, scores.argmax(1)
    targets, classes = torch.as_tensor(target, device=scores.device), scores.shape[1]
    fine = targets.ndim == 0 or targets.shape == (len(images),)
    if not fine or not 0 <= int(targets.min()) <= int(targets.max()) < classes:
        raise ValueError(
            f"target must be a class from 0 to {classes - 1}, or one for each of the "
            f"{len(images)} images; got {target!r}"
        )
    return model, targets.expand(len(images))


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
