"""What did it learn? Filters, feature maps, and what in an image a unit answers to.

The tools of chapter 6 (and, for the receptive field, of chapter 2). All take images that are
already normalised as the net expects them, see :func:`preprocess`, and leave the net as it was.
Attributions come from captum; saliency maps are the authors' own (Simonyan, Vedaldi & Zisserman,
2014).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import trange

from .augment import IMAGENET_RGB_PCA, centre_crop, normalise
from .model import VGG

#: Mean colour in 0–255 that the authors' ImageNet weights (IMAGENET1K_FEATURES) expect subtracted.
IMAGENET_MEAN = (0.48235 * 255, 0.45882 * 255, 0.40784 * 255)


def preprocess(
    image: object,
    size: int = 224,
    *,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] | None = None,
) -> Tensor:
    """A photo as a net wants it: shorter side to ``size``, centre cut out, mean subtracted (§2.1).

    Parameters
    ----------
    image : PIL image or uint8 Tensor (3, H, W)
    size : int
        Side of the result in pixels.
    mean, std : three floats
        Per channel, in 0–255; the defaults are those of ``weights="IMAGENET1K_FEATURES"``.

    Returns
    -------
    Tensor, (3, size, size)
    """
    return centre_crop(size, size, mean=mean, std=std)(image)


# ------------------------------------------------------------------------- filters and activations


def first_filters(model: nn.Module) -> Tensor:
    """The kernels of the first convolution as little pictures (chapter 6).

    Parameters
    ----------
    model : nn.Module

    Returns
    -------
    Tensor, (filters, channels, height, width), 0 to 1
        Each filter divided by its largest absolute weight, and a weight of zero drawn mid-grey
        (0.5): colours compare within a filter, not between filters.

    Raises
    ------
    ValueError
        If the net has no convolution.
    """
    conv = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    if conv is None:
        raise ValueError(f"{type(model).__name__} has no convolution whose filters could be shown")
    weights = conv.weight.detach()
    largest = weights.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12)
    return 0.5 + weights / (2 * largest)


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
        Normalised. Of a size other than the net's if all layers lie in its convolutional part.
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
    paths = {name: _path(model, name) for name in layers}
    images = _batch(model, images)
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable:
        def hook(module, inputs, output):
            found[name] = output.clone()  # or a later in-place operation would change it

        return hook

    hooks = [
        model.get_submodule(path).register_forward_hook(keep(name)) for name, path in paths.items()
    ]
    try:
        with _as_it_was(model), torch.set_grad_enabled(grad):
            _shortest(model, list(paths.values()))(images)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: found[name] for name in layers}


def _path(model: nn.Module, layer: str) -> str:
    """The module name of a layer called by its paper-style or its module name."""
    names = model.layer_names if isinstance(model, VGG) else {}
    modules = dict(model.named_modules())
    path = names.get(layer, layer)
    if not layer or path not in modules:
        leaves = names or [name for name, part in modules.items() if not list(part.children())]
        raise ValueError(f"the net has no layer {layer!r}; it has {', '.join(leaves)}")
    return path


def _shortest(model: nn.Module, paths: Sequence[str]) -> nn.Module:
    """The part of the net that has to run to reach all these layers.

    Up to the last convolutional layer asked for, a VGG takes images of any size.
    """
    parts = [path.split(".") for path in paths]
    convolutional = isinstance(getattr(model, "features", None), nn.Sequential)
    if convolutional and all(part[0] == "features" and len(part) == 2 for part in parts):
        return model.features[: 1 + max(int(part[1]) for part in parts)]
    return model


def _batch(model: nn.Module, images: Tensor) -> Tensor:
    """Images as a batch on the net's device."""
    if not isinstance(images, Tensor) or not images.is_floating_point():
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(
            f"images must be a normalised floating-point tensor, got {kind}; "
            "features.preprocess makes one of a photo, augment.normalise of uint8 pixels"
        )
    images = images[None] if images.ndim == 3 else images
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(
            f"images must have the shape (N, 3, H, W) or (3, H, W), got {tuple(images.shape)}"
        )
    parameter = next(model.parameters())
    return images.to(parameter.device, parameter.dtype)


@contextmanager
def _as_it_was(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards every module is in the mode in which it was before."""
    training = {module: module.training for module in model.modules()}
    try:
        model.eval()
        yield
    finally:
        for module, flag in training.items():
            module.training = flag


# ----------------------------------------------------------------------------------- attributions


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
    with _as_it_was(model):
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
    with _as_it_was(model):
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
    path = _relu_before(model, unit) if layer is None else _path(model, layer)
    maps = activations(model, image, [path])[path]
    if maps.ndim != 4:
        raise ValueError(f"grad_cam needs a layer with feature maps; {layer} has none")
    if unit is not None and not _comes_before(model, path, _path(model, unit[0])):
        raise ValueError(f"grad_cam: {unit[0]} does not depend on {layer}; choose an earlier layer")
    with _as_it_was(model):
        score = _score(model, image, target, unit)
        method = LayerGradCam(score, model.get_submodule(path))
        strength = method.attribute(image, relu_attributions=True)  # (1, 1, height, width)
        large = LayerAttribution.interpolate(strength, image.shape[2:], "bilinear")
    return large[0, 0].detach().cpu()


def _one(model: nn.Module, image: Tensor) -> Tensor:
    """One image as a batch that the caller may change."""
    image = _batch(model, image)
    if len(image) != 1:
        raise ValueError(f"one image at a time, please: (3, H, W), got {tuple(image.shape)}")
    return image.detach().clone()


def _score(
    model: nn.Module, image: Tensor, target: int | None, unit: tuple[str, int] | None
) -> Callable[[Tensor], Tensor]:
    """The function (N, 3, H, W) → (N,) that an attribution explains."""
    if unit is not None:
        if target is not None:
            raise ValueError("give either target (a class) or unit (a channel), not both")
        return _channel(model, image, *unit)
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


def _channel(model: nn.Module, image: Tensor, layer: str, channel: int) -> Callable:
    """The function (N, 3, H, W) → (N,): mean of a channel over its positions."""
    channels = activations(model, image, layer)[layer].shape[1]
    if not 0 <= channel < channels:
        raise ValueError(f"{layer} has channels 0 to {channels - 1}, got {channel!r}")

    def score(images: Tensor) -> Tensor:
        maps = activations(model, images, layer, grad=torch.is_grad_enabled())[layer]
        return maps[:, channel].flatten(1).mean(dim=1) if maps.ndim == 4 else maps[:, channel]

    return score


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
        path = _path(model, unit[0])
        relus = [relu for relu in relus if _comes_before(model, relu, path)]
    if not relus:
        raise ValueError("grad_cam finds no ReLU to look at by itself; name one with layer=…")
    return relus[-1]


# ------------------------------------------------------------------------ what a channel looks for


def maximise(
    model: nn.Module,
    layer: str,
    channel: int,
    *,
    size: int | None = None,
    steps: int = 100,
    lr: float = 0.05,
    jitter: int = 8,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] | None = None,
    seed: int = 0,
    progress: bool = False,
) -> tuple[Tensor, list[float]]:
    """An image made to excite a channel as much as possible (Erhan et al., 2009; chapter 6).

    Gradient ascent on the channel's mean. Two things keep it from noise that only the net can see:
    the image is written in frequencies, low ones first, with the colour statistics of photos (Olah
    et al., 2017), and it is moved a few pixels at random before each step.

    Parameters
    ----------
    model : nn.Module
    layer, channel : str, int
        What to excite. Only the part of the net up to there is run.
    size : int, optional
        Side of the image in pixels; default: 128, or the net's own for a fully connected layer.
    steps : int
        Of gradient ascent with Adam.
    lr : float
        Its learning rate.
    jitter : int
        Largest shift in pixels.
    mean, std : three floats
        Normalisation of the net's images, in 0–255; as for :func:`preprocess`.
    seed : int
        Of the first image and the shifts.
    progress : bool
        Show a progress bar.

    Returns
    -------
    image : Tensor, (3, size, size), 0 to 1
    history : list of float
        The channel's mean at each step, as jittered, and at the end: ``steps + 1`` values.

    Raises
    ------
    ValueError
        For an unknown layer or channel.
    """
    if size is None:
        size = (
            128
            if _path(model, layer).startswith("features.")
            else getattr(model, "image_size", 224)
        )
    generator = torch.Generator().manual_seed(seed)
    spectrum = 0.01 * torch.randn(3, size, size // 2 + 1, 2, generator=generator)
    spectrum.requires_grad_()
    optimiser = torch.optim.Adam([spectrum], lr)

    def shown() -> Tensor:
        return normalise(255 * _from_spectrum(spectrum, size), mean, std)[None]

    score = _channel(model, shown().detach(), layer, channel)
    history = []
    for _ in trange(steps, disable=not progress, desc=f"{layer}, channel {channel}"):
        shift = torch.randint(-jitter, jitter + 1, (2,), generator=generator).tolist()
        value = score(shown().roll(shift, dims=(2, 3))).sum()
        history.append(value.item())
        (spectrum.grad,) = torch.autograd.grad(-value, [spectrum])
        optimiser.step()
    with torch.no_grad():
        history.append(score(shown()).item())
    return _from_spectrum(spectrum.detach(), size), history


def _from_spectrum(spectrum: Tensor, size: int) -> Tensor:
    """Fourier coefficients (3, size, size // 2 + 1, 2) → an image (3, size, size) in 0 to 1.

    Coefficients are divided by their frequency, as those of photos fall off, and the three planes
    are mixed into colours along the principal axes of photos' colours, brightness most of all.
    """
    frequency = torch.hypot(torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size))
    scale = size / frequency.clamp_min(1 / size) / 4
    planes = torch.fft.irfft2(torch.view_as_complex(spectrum) * scale, s=(size, size))
    variances, axes = IMAGENET_RGB_PCA
    colours = axes * (variances / variances[0]).sqrt()  # (RGB, plane)
    return torch.sigmoid(torch.einsum("cp,phw->chw", colours, planes))


def top_patches(
    model: nn.Module, images: Tensor, layer: str, channel: int, k: int = 9, *, batch_size: int = 32
) -> tuple[Tensor, pd.DataFrame]:
    """The pieces of real images to which a channel answers most (Zeiler & Fergus, 2014; chapter 6).

    A piece is the receptive field of one value of the feature map, moved inside where it hangs over
    the image's edge, and no larger than the image. In one image, fields lie at least a side apart,
    so that nine pieces are not nine times the same.

    Parameters
    ----------
    model : nn.Module
        A VGG of vgglib or torchvision.
    images : Tensor, (N, 3, H, W)
        Normalised.
    layer, channel : str, int
        A layer of the convolutional part.
    k : int
        Number of pieces; fewer come back if no more fit.
    batch_size : int
        Images that run at once.

    Returns
    -------
    patches : Tensor, (k, 3, side, side)
        Still normalised, strongest first.
    table : DataFrame
        Their ``image`` (index), ``row`` and ``column`` on the feature map, ``value`` there, and the
        piece's ``top``, ``left`` and ``side`` in pixels.

    Raises
    ------
    ValueError
        For an unknown layer or channel, or a layer without a feature map.
    """
    images = _batch(model, images)
    field, step, start = _geometry(model, layer)
    _channel(model, images[:1], layer, channel)  # raises if there is no such channel
    maps = torch.cat(
        [
            activations(model, part, layer)[layer][:, channel].cpu()
            for part in images.split(batch_size)
        ]
    )  # (N, height, width)
    height, width = images.shape[2:]
    side = min(field, height, width)
    apart = -(-side // step)  # positions on the map
    rows, patches = [], []
    while len(rows) < k and maps.isfinite().any():
        n, row, column = (int(i) for i in torch.unravel_index(maps.argmax(), maps.shape))
        centre = start + (field - side) // 2
        top = min(max(row * step + centre, 0), height - side)
        left = min(max(column * step + centre, 0), width - side)
        value = maps[n, row, column].item()
        rows.append((n, row, column, value, top, left, side))
        patches.append(images[n, :, top : top + side, left : left + side].cpu())
        around = (slice(max(0, i - apart + 1), i + apart) for i in (row, column))
        maps[n][tuple(around)] = -torch.inf
    names = ["image", "row", "column", "value", "top", "left", "side"]
    return torch.stack(patches), pd.DataFrame(rows, columns=names)


def _geometry(model: nn.Module, layer: str) -> tuple[int, int, int]:
    """Receptive field, stride, and where the field of map position 0 starts (≤ 0), in pixels."""
    path = _path(model, layer)
    if not path.startswith("features.") or path.count(".") != 1:
        raise ValueError(f"{layer} has no feature map; choose a layer of the convolutional part")
    field, step, start = 1, 1, 0
    for module in _shortest(model, [path]):
        kernel, stride, padding = (
            value[0] if isinstance(value, tuple) else value
            for value in (getattr(module, n, d) for n, d in _WINDOW.items())
        )
        field, start = field + (kernel - 1) * step, start - padding * step
        step *= stride
    return field, step, start


#: What a layer without a window (ReLU, batch norm, LRN) counts as.
_WINDOW = {"kernel_size": 1, "stride": 1, "padding": 0}


def effective_receptive_field(
    model: nn.Module, images: Tensor, layer: str, *, batch_size: int = 16
) -> Tensor:
    """How much does each pixel really matter to the unit in the middle? (§2.3; Luo et al., 2016)

    The receptive field says which pixels *can* matter; this is the mean over images and colours of
    ``|∂(sum of the channels in the middle of the feature map)/∂pixel|``.

    Parameters
    ----------
    model : nn.Module
    images : Tensor, (N, 3, H, W)
        Normalised.
    layer : str
        A layer with a feature map; its middle is position (height // 2, width // 2).
    batch_size : int
        Images that run at once.

    Returns
    -------
    Tensor, (H, W)
        Divided by its maximum: 0 to 1, and exactly 0 outside the receptive field. All 0 if the
        gradient is.

    Raises
    ------
    ValueError
        For an unknown layer, or one without a feature map.
    """
    images = _batch(model, images)
    total = torch.zeros(images.shape[2:], device=images.device)
    for part in images.split(batch_size):
        part = part.detach().clone().requires_grad_()
        maps = activations(model, part, layer, grad=True)[layer]
        if maps.ndim != 4:
            raise ValueError(
                f"{layer} has no feature map; choose a layer of the convolutional part"
            )
        middle = maps[:, :, maps.shape[2] // 2, maps.shape[3] // 2].sum()
        (slope,) = torch.autograd.grad(middle, [part])
        total += slope.abs().mean(dim=1).sum(dim=0)
    return (total / total.max().clamp_min(torch.finfo(total.dtype).tiny)).cpu()
