"""How does a batch norm vanish into its convolution? And three branches into one? (chapter 10).

The front end computes a layer both ways, from one grey picture; a test holds both equal to
PyTorch's ``fuse_conv_bn_weights`` and to the layers themselves.
"""

from __future__ import annotations

import base64
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.transforms.v2 import functional as tvf
from traitlets import Bool, Dict, Float, Int, List, TraitError, Unicode, default, validate

from .. import plots
from .base import PageWidget, picture
from .receptive import square_cat

SIDE = 64
EPSILON = 1e-5  # PyTorch's
SMALLEST = 0.05  #: Least running variance; each slider stands on it at its left end.
BRANCHES = ("3×3", "1×1", "identity")
KERNELS = {
    "vertical edges": [-1.0, 0.0, 1.0, -2.0, 0.0, 2.0, -1.0, 0.0, 1.0],
    "blur": [0.1, 0.1, 0.1, 0.1, 0.2, 0.1, 0.1, 0.1, 0.1],
    "corners and dots": [0.0, -1.0, 0.0, -1.0, 4.0, -1.0, 0.0, -1.0, 0.0],
    "shift to the left": [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0],
}


class BatchNormFolding(
    PageWidget,
    front="folding",
    to_try="Switch on all three branches of RepVGG, and watch one 3×3 kernel take them in.",
    example="used=true;true;true",
):
    """A layer of up to three branches, each with its batch norm, and the one 3×3 convolution.

    One channel in, one out. With the first branch alone it is VGG's layer with batch norm; with all
    three it is RepVGG's (Ding et al., 2021), before the ReLU.

    Parameters
    ----------
    kernel : nine floats, -9 to 9
        Weights of the 3×3 convolution, row by row.
    point : float, -9 to 9
        Weight of the 1×1 convolution.
    used : three bools
        Which of 3×3, 1×1 and identity take part.
    norms : three times four floats
        γ, β, the running mean μ and the running variance σ² of each branch's batch norm: -3 to 3,
        but σ² 0.05 to 9.

    Raises
    ------
    traitlets.TraitError
        If a value is out of its range.
    """

    kernel = List(Float(min=-9, max=9), minlen=9, maxlen=9).tag(sync=True)
    point = Float(0.5, min=-9, max=9).tag(sync=True)
    used = List(Bool(), [True, False, False], minlen=3, maxlen=3).tag(sync=True)
    norms = List(List(Float(min=-3, max=9), minlen=4, maxlen=4), minlen=3, maxlen=3).tag(sync=True)

    presets = Dict(KERNELS, read_only=True).tag(sync=True)
    branches = List(Unicode(), list(BRANCHES), read_only=True).tag(sync=True)
    grey = Unicode(read_only=True).tag(sync=True)  #: bytes of the picture, row by row, in base64
    side = Int(SIDE, read_only=True).tag(sync=True)
    epsilon = Float(EPSILON, read_only=True).tag(sync=True)

    @validate("norms")
    def _possible(self, proposal):
        for name, (*others, variance) in zip(BRANCHES, proposal["value"], strict=True):
            if variance < SMALLEST or max(others) > 3:
                raise TraitError(
                    f"norms: γ, β and μ go from -3 to 3 and σ² from {SMALLEST} to 9; for {name} "
                    f"they are {[*others, variance]}"
                )
        return proposal["value"]

    @default("kernel")
    def _kernel(self):
        return list(KERNELS["vertical edges"])

    @default("norms")
    def _norms(self):
        return [[1.5, 0.2, 0.1, 0.5], [1.0, 0.0, 0.3, 0.1], [-0.8, 0.0, 0.4, 0.2]]

    @default("grey")
    def _grey(self):
        return base64.b64encode(_grey_cat().numpy().tobytes()).decode()

    def image(self) -> Tensor:
        """The picture, (1, 1, 64, 64), from 0 to 1, in double precision."""
        return _grey_cat().double()[None] / 255

    def _layers(self) -> list[tuple[Tensor, tuple[Tensor, ...]]]:
        """Weight and (γ, β, μ, σ²) of each branch that takes part."""
        three = [self.kernel[row : row + 3] for row in (0, 3, 6)]
        weights = [three, [[self.point]], [[1.0]]]  # the identity is a 1×1 convolution by 1
        layers = zip(weights, self.norms, self.used, strict=True)
        double = partial(torch.tensor, dtype=torch.double)
        return [
            (double(weight)[None, None], tuple(double([value]) for value in norm))
            for weight, norm, used in layers
            if used
        ]

    def branched(self) -> Tensor:
        """The branches' outputs, each behind its batch norm, added: (1, 1, 64, 64)."""
        image = self.image()
        total = torch.zeros_like(image)
        for weight, (gamma, beta, mean, variance) in self._layers():
            out = F.conv2d(image, weight, padding=weight.shape[-1] // 2)
            total += F.batch_norm(out, mean, variance, gamma, beta, eps=EPSILON)
        return total

    def folded(self) -> tuple[Tensor, Tensor]:
        """Kernel (1, 1, 3, 3) and bias (1,) of the one convolution that does the same."""
        kernel, bias = torch.zeros(1, 1, 3, 3, dtype=torch.double), torch.zeros(1).double()
        for weight, (gamma, beta, mean, variance) in self._layers():
            one, shift = fuse_conv_bn_weights(weight, None, mean, variance, EPSILON, gamma, beta)
            kernel += F.pad(one, [(3 - one.shape[-1]) // 2] * 4)
            bias += shift
        return kernel.detach(), bias.detach()

    def fallback(self) -> str:
        """The picture, both outputs, and the folded kernel."""
        kernel, bias = self.folded()
        outputs = [self.branched(), F.conv2d(self.image(), kernel, bias, padding=1)]
        apart = (outputs[0] - outputs[1]).abs().max().item()
        low, high = outputs[0].min(), outputs[0].max()
        shown = [self.image(), *((out - low) / (high - low).clamp(min=1e-9) for out in outputs)]
        titles = ["input", "with batch norm", "one convolution"]
        pictures = [image[0].float().clamp(0, 1) for image in shown]
        names = [name for name, used in zip(BRANCHES, self.used, strict=True) if used]
        rows = "".join(
            f"<tr>{''.join(f'<td>{value:.3f}</td>' for value in row)}</tr>"
            for row in kernel[0, 0].tolist()
        )
        alt = (
            f"A cat's face in grey, the output of {' and '.join(names) or 'no branch'} with batch "
            "norm, and that of one convolution: the two outputs are equal."
        )
        return (
            f"{picture(plots.image_grid(pictures, titles), alt)}"
            f"<table><caption>The folded kernel; its bias is {bias.item():.3f}. The outputs differ "
            f"by {'less than 1e-12' if apart < 1e-12 else f'{apart:.0e}'}.</caption>"
            f"<tbody>{rows}</tbody></table>"
        )


def _grey_cat() -> Tensor:
    """The picture's bytes, (1, 64, 64)."""
    return tvf.pil_to_tensor(square_cat().resize((SIDE, SIDE)).convert("L"))
