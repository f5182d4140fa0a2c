"""Which pieces of real images does a channel answer to most? (chapter 6)"""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor, nn

from .. import checks
from .layers import activations, as_batch, channel_score, path_of, shortest

#: What a layer without a window (ReLU, batch norm, LRN) counts as.
_WINDOW = {"kernel_size": 1, "stride": 1, "padding": 0}


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
    checks.whole("k", k), checks.whole("batch_size", batch_size)
    images = as_batch(model, images)
    field, step, start = geometry(model, layer)
    channel_score(model, images[:1], layer, channel)  # raises if there is no such channel
    maps = torch.cat(
        [
            activations(model, part, layer)[layer][:, channel].cpu()
            for part in images.split(batch_size)
        ]
    )  # (N, height, width)
    height, width = images.shape[2:]
    side = min(field, height, width)
    apart = -(-side // step)  # positions on the map
    rows: list[tuple] = []
    patches: list[Tensor] = []
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


def geometry(model: nn.Module, layer: str) -> tuple[int, int, int]:
    """Receptive field, stride, and where the field of map position 0 starts (≤ 0), in pixels."""
    path = path_of(model, layer)
    if not path.startswith("features.") or path.count(".") != 1:
        raise ValueError(f"{layer} has no feature map; choose a layer of net.features")
    field, step, start = 1, 1, 0
    layers = shortest(model, [path])
    assert isinstance(layers, nn.Sequential)
    for module in layers:
        kernel, stride, padding = (
            value[0] if isinstance(value, tuple) else value
            for value in (getattr(module, n, d) for n, d in _WINDOW.items())
        )
        field, start = field + (kernel - 1) * step, start - padding * step
        step *= stride
    return field, step, start
