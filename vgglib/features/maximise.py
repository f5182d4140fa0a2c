"""What picture would a channel answer to most? (chapter 6)"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from tqdm import trange

from .. import checks
from ..augment import IMAGENET_RGB_PCA
from ..pixels import Pixels, known_to
from .layers import channel_score, path_of
from .photos import AUTHORS_MEAN


def maximise(
    model: nn.Module,
    layer: str,
    channel: int,
    *,
    size: int | None = None,
    steps: int = 100,
    lr: float = 0.05,
    jitter: int = 8,
    mean: Sequence[float] | None = None,
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
        Normalisation of the net's images, in 0–255; by default the net's own (``net.pixels``), else
        that of :func:`preprocess`.
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
            if path_of(model, layer).startswith("features.")
            else getattr(model, "image_size", 224)
        )
    checks.whole("steps", steps, 0), checks.whole("size", size)
    known = known_to(model) or Pixels(AUTHORS_MEAN)
    pixels = known if mean is None else Pixels(mean, std)
    generator = torch.Generator().manual_seed(seed)
    spectrum = 0.01 * torch.randn(3, size, size // 2 + 1, 2, generator=generator)
    spectrum.requires_grad_()
    optimiser = torch.optim.Adam([spectrum], lr)

    def shown() -> Tensor:
        return pixels(255 * _from_spectrum(spectrum, size))[None]

    score = channel_score(model, shown().detach(), layer, channel)
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
