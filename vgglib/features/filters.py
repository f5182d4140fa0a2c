"""What do the filters of the first layer look like? (chapter 6)"""

from __future__ import annotations

from torch import Tensor, nn


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
        raise ValueError(
            f"first_filters shows the filters of a net's first Conv2d, and "
            f"{type(model).__name__} has none"
        )
    weights = conv.weight.detach()
    largest = weights.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12)
    return 0.5 + weights / (2 * largest)
