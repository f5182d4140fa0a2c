"""Why does a training step take longer on a CPU than its sums do, and what helps?

At 32 pixels the convolutions of stage 5 work on 2×2 maps, on which oneDNN's backward pass reaches
a small part of the machine's rate (``benchmarks/profile_step.py``). Written as one matrix product
of all patches with all filters, the same sums take half the time.

A C library that frees a block of tens of megabytes gives it back to the system, and the next step's
map of that size arrives page by page anew, each filled with zeros first. For VGG-16 at 32 px and
batch 128 these are 150,000 page faults a step.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Height and width up to which the product is the faster way; at 4×4 the convolution is.
LARGEST = 2
# Options of mallopt(3), from malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


@contextlib.contextmanager
def small_maps_as_products(model: nn.Module) -> Iterator[None]:
    """While it is open, a training step on the CPU convolves small maps by a matrix product.

    The result is the convolution's but for rounding. Passes without gradients are left as they are:
    forwards the convolution is no slower. Strided, dilated and grouped convolutions, and those that
    pad with something else than zeros, are not touched.
    """
    chosen = [m for m in model.modules() if type(m) is nn.Conv2d and _plain(m)]
    for convolution in chosen:
        convolution.forward = partial(_forward, convolution)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for convolution in chosen:
            del convolution.forward


def _plain(convolution: nn.Conv2d) -> bool:
    ones = (1, 1)
    return (
        convolution.stride == convolution.dilation == ones
        and convolution.groups == 1
        and convolution.padding_mode == "zeros"
        and isinstance(convolution.padding, tuple)
        and "forward" not in vars(convolution)  # somebody's own, as of an adapter
    )


def _forward(convolution: nn.Conv2d, maps: Tensor) -> Tensor:
    """Shapes (N, C, H, W) to (N, C', H', W')."""
    small = max(maps.shape[-2:]) <= LARGEST and maps.device.type == "cpu"
    if not small or not torch.is_grad_enabled():
        return nn.Conv2d.forward(convolution, maps)
    kernel, padding = convolution.kernel_size, convolution.padding
    assert isinstance(padding, tuple)  # as _plain has seen to
    height, width = (
        side + 2 * p - k + 1 for side, p, k in zip(maps.shape[-2:], padding, kernel, strict=True)
    )
    patches = F.unfold(maps, kernel, padding=padding)  # (N, C·k·k, H'·W')
    rows = patches.transpose(1, 2).flatten(0, 1)  # (N·H'·W', C·k·k)
    sums = F.linear(rows, convolution.weight.flatten(1), convolution.bias)
    return sums.view(len(maps), height, width, -1).permute(0, 3, 1, 2)


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, for its own next use, until it ends.

    The process's memory then stays at its peak, where every step takes it anyway. It is for a
    process of vgglib's own; a caller's notebook may want its memory back. False where it can't be:
    glibc takes the options, other C libraries do not have them.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (TypeError, OSError, AttributeError):  # Windows; macOS and musl
        return False
    # No block from a mapping of its own, nothing given back from the top of the heap.
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1))
