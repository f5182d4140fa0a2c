"""How much does each pixel of the receptive field matter? (§2.3, chapter 2)"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import checks
from .layers import activations, as_batch


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
    checks.whole("batch_size", batch_size)
    images = as_batch(model, images)
    total = torch.zeros(images.shape[2:], device=images.device)
    for part in images.split(batch_size):
        part = part.detach().clone().requires_grad_()
        maps = activations(model, part, layer, grad=True)[layer]
        if maps.ndim != 4:
            raise ValueError(f"{layer} has no feature map; choose a layer of net.features")
        middle = maps[:, :, maps.shape[2] // 2, maps.shape[3] // 2].sum()
        (slope,) = torch.autograd.grad(middle, [part])
        total += slope.abs().mean(dim=1).sum(dim=0)
    return (total / total.max().clamp_min(torch.finfo(total.dtype).tiny)).cpu()
