"""What does each layer cost, and what does it see?

Shapes, parameters, multiply–accumulates, memory and receptive fields of the networks of Table 1
(§2.1–2.3, chapters 1 and 2), worked out from the layers alone: nothing is computed on images.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral
from typing import Any

import pandas as pd
import torch
from torch import nn

from .configs import Config
from .model import VGG, vgg

FP32, INT64 = 4, 8  # bytes

#: Layers that keep their input until the backward pass, because a gradient is computed from it.
_KEEPS_INPUT = (nn.Conv2d, nn.BatchNorm2d, nn.LocalResponseNorm, nn.MaxPool2d, nn.Linear)


def anatomy(net_or_name: VGG | Config | str, image_size: int | None = None) -> pd.DataFrame:
    """Shape, cost and receptive field of a network, a row a layer (§2.1–2.3, chapter 1).

    Parameters
    ----------
    net_or_name : VGG, Config or str
        A built net, or what :func:`~vgglib.vgg` takes as its first argument: ``"D"``,
        ``"vgg16_bn"``, a :class:`~vgglib.Config`. Names and configurations take no memory; to look
        at another width or number of classes without any, build the net under
        ``with torch.device("meta"):``.
    image_size : int, optional
        Height and width of the images in pixels: 224 for names and configurations if not given. A
        built net has a size of its own.

    Returns
    -------
    DataFrame
        One row for the image, one for each layer of ``VGG.layer_names`` in the order of
        computation, one for the flatten in between. Columns:

        - ``layer``: ``"conv3_2"``, ``"fc6"`` …; ``kind``: ``"input"``, ``"conv"``, ``"bn"``,
          ``"lrn"``, ``"relu"``, ``"pool"``, ``"flatten"``, ``"fc"`` or ``"dropout"``.
        - ``output_shape``: (channels, height, width) or (units,), without the batch.
        - ``params``: trainable values.
        - ``macs``: multiply–accumulates of convolutions and fully connected layers per image.
          Biases, batch norm, LRN, ReLU and pooling count as 0, as is customary.
        - ``activation_bytes``: what has to stay in memory per image from this layer until the
          backward pass of a training step in fp32 (see Notes).
        - ``receptive_field``: side in pixels of the square of the image (its zero padding
          included) that one output value depends on. The first fully connected layer covers the
          whole last map, like a convolution with a kernel of that size; the next ones see the same.
        - ``stride``: pixels of the image between neighbouring output values.

    Raises
    ------
    ValueError
        For an unknown name, an image that is too small, or another size than the built net's.
    TypeError
        If a layer of the net was replaced by one of another kind than those above.

    Notes
    -----
    Each stored tensor counts once, in the row of the layer that makes it. A convolution, a fully
    connected layer, a batch norm and a pool keep their input; a ReLU keeps its output; a pool keeps
    the position of each maximum besides (int64); dropout keeps its mask (fp32 on a CPU, a byte a
    value on a GPU); LRN keeps its padded squares, its denominator and the base of its power. So a
    convolution's own output is let go, unless batch norm follows. Parameters, the statistics of
    batch norm (one set per batch) and what the loss keeps are left out. torchvision's nets keep
    25,088 values more, the copy that their average pool makes of the last map.
    """
    net = _built(net_or_name, image_size)
    names = net.layer_names
    modules = [net.get_submodule(path) for path in names.values()]
    shape: tuple[int, ...] = (net.in_channels, net.image_size, net.image_size)
    windows: list[tuple[int, int]] = []  # (kernel, stride) of the layers so far
    rows = []

    def add(layer: str, *, params: int = 0, macs: int = 0, kept: int = 0) -> None:
        rows.append(
            {
                "layer": layer,
                "kind": layer.rstrip("0123456789_"),
                "output_shape": shape,
                "params": params,
                "macs": macs,
                "activation_bytes": kept,
                "receptive_field": receptive_field(windows),
                "stride": math.prod(stride for _, stride in windows),
            }
        )

    add("input", kept=FP32 * math.prod(shape))
    module: Any
    for name, module, following in zip(names, modules, [*modules[1:], None], strict=True):
        extra = 0  # bytes kept besides the output
        if isinstance(module, nn.Conv2d):
            windows.append((module.kernel_size[0], 1))
            shape = (module.out_channels, *shape[1:])  # padded: height and width stay
        elif isinstance(module, nn.MaxPool2d):
            pool: Any = module  # torch's own type allows pairs, too
            windows.append((pool.kernel_size, pool.stride))
            shape = (shape[0], *(side // pool.stride for side in shape[1:]))
            extra = INT64 * math.prod(shape)
        elif isinstance(module, nn.LocalResponseNorm):
            channels, height, width = shape
            extra = FP32 * (3 * channels + module.size - 1) * height * width
        elif isinstance(module, nn.Linear):
            if len(shape) == 3:
                side = shape[1]
                shape = (math.prod(shape),)
                add("flatten")
                windows.append((side, 1))
            shape = (module.out_features,)
        elif isinstance(module, nn.Dropout):
            extra = FP32 * math.prod(shape)
        elif not isinstance(module, nn.BatchNorm2d | nn.ReLU):
            raise TypeError(
                f"anatomy does not know {name}, a {type(module).__name__}; it knows the layers "
                "that vgg() builds: convolution, batch norm, LRN, ReLU, max-pool, linear, dropout"
            )
        has_weights = isinstance(module, nn.Conv2d | nn.Linear)
        positions = math.prod(shape[1:])  # places where each weight is used; 1 for a linear layer
        output_is_kept = isinstance(module, nn.ReLU) or isinstance(following, _KEEPS_INPUT)
        if isinstance(module, nn.Dropout) and module.p == 0:
            output_is_kept, extra = False, 0  # hands on its input, which the ReLU keeps
        add(
            name,
            params=sum(parameter.numel() for parameter in module.parameters()),
            macs=module.weight.numel() * positions if has_weights else 0,
            kept=output_is_kept * FP32 * math.prod(shape) + extra,
        )
    return pd.DataFrame(rows)


def receptive_field(layers: Iterable[tuple[int, int]]) -> int:
    """Side of the square of the input that one output value of a stack of layers sees (§2.3).

    Parameters
    ----------
    layers : iterable of (kernel, stride)
        Convolutions and pools from first to last, sides in pixels of their own input.

    Returns
    -------
    int
        Pixels: ``receptive_field([(3, 1), (3, 1)])`` is 5, as of a single 5×5 convolution.

    Raises
    ------
    ValueError
        If a kernel or a stride is not a positive integer.
    """
    size, stride = 1, 1
    for kernel, step in layers:
        if any(not isinstance(value, Integral) or value < 1 for value in (kernel, step)):
            raise ValueError(
                f"layers must be pairs of positive integers (kernel, stride), got {(kernel, step)}"
            )
        size += (kernel - 1) * stride  # neighbouring inputs of this layer lie `stride` pixels apart
        stride *= step
    return int(size)


def _built(net_or_name: VGG | Config | str, image_size: int | None) -> VGG:
    """The net itself, or one without memory for its values."""
    if not isinstance(net_or_name, VGG):
        with torch.device("meta"):
            return vgg(net_or_name, image_size=224 if image_size is None else image_size, init=None)
    if image_size not in (None, net_or_name.image_size):
        raise ValueError(
            f"this net was built for images of {net_or_name.image_size} px, not {image_size!r}; "
            "leave image_size out, or give the net's name or Config with another image_size"
        )
    return net_or_name
