"""How does a net look at a whole image, whatever its size?

Its fully connected layers become convolutions (§3.2, chapter 7): fc6 one that covers the last map
of a training image (7×7), the others 1×1. A larger image then gives a map of class scores, one
column for each place at which the net would have fitted.
"""

from __future__ import annotations

import copy

from torch import Tensor, nn

from ..model import VGG


class DenseVGG(nn.Module):
    """A VGG as a fully convolutional net; :func:`dense` makes one.

    Attributes
    ----------
    features, head : nn.Module
        The convolutions of the net, and its fully connected layers as convolutions.
    num_classes : int
    smallest : int
        Side in pixels of the smallest image that it takes: one place for fc6.
    """

    def __init__(self, features: nn.Module, head: nn.Module, num_classes: int, smallest: int):
        super().__init__()
        self.features, self.head = features, head
        self.num_classes, self.smallest = num_classes, smallest

    def forward(self, images: Tensor) -> Tensor:
        """Map of class scores, before the soft-max.

        Parameters
        ----------
        images : Tensor, (N, 3, H, W)
            Normalised images, both sides of at least ``smallest`` pixels.

        Returns
        -------
        Tensor, (N, num_classes, h, w)
            1×1 where the plain net would have fitted exactly; 2×2 for 256 px (§4).

        Raises
        ------
        ValueError
            If the images have another shape or are too small.
        """
        channels = next(self.features.parameters()).shape[1]  # of the first kernels
        if images.ndim != 4 or images.shape[1] != channels:
            raise ValueError(f"a dense net takes (N, {channels}, H, W), got {tuple(images.shape)}")
        if min(images.shape[2:]) < self.smallest:
            raise ValueError(
                f"images of {images.shape[2]}×{images.shape[3]} px are too small: fc6 fits into "
                f"the last map from {self.smallest}×{self.smallest} px on; give "
                "larger ones, or larger scales"
            )
        return self.head(self.features(images))

    def scores(self, images: Tensor) -> Tensor:
        """Class scores of each image: its map averaged over all places (§3.2), (N, classes)."""
        return self(images).mean((2, 3))


def dense(model: VGG) -> DenseVGG:
    """The same net for images of any size (§3.2, "dense evaluation").

    Parameters
    ----------
    model : VGG

    Returns
    -------
    DenseVGG
        In evaluation mode, with the very tensors of ``model``, the fully connected ones seen in
        another shape: it takes no further memory and follows when the model is trained on.

    Raises
    ------
    TypeError
        If ``model`` is no VGG of this package.
    ValueError
        If a layer of its classifier has no spatial form.
    """
    if not isinstance(model, VGG):
        raise TypeError(
            f"dense takes a net of vgglib.vgg(…), got {type(model).__name__}; the weights of "
            "torchvision's VGGs fit into one: load_weights(vgg('D'), theirs.state_dict())"
        )
    stages = len(model.config.stages)
    window = model.image_size // 2**stages  # side of the map that fc6 covers
    layers: list[nn.Module] = []
    for index, layer in enumerate(model.classifier):
        if isinstance(layer, nn.Linear):
            side = window if not any(isinstance(m, nn.Conv2d) for m in layers) else 1
            if layer.in_features % side**2:
                raise ValueError(
                    f"classifier.{index} takes {layer.in_features} values, which are no "
                    f"{side}×{side} map; dense needs the classifier that vgg(…) builds"
                )
            layers.append(_as_convolution(layer, side))
        elif isinstance(layer, nn.ReLU | nn.Dropout):
            layers.append(copy.deepcopy(layer))
        else:
            raise ValueError(
                f"classifier.{index}, a {type(layer).__name__}, has no spatial form; dense knows "
                "Linear, ReLU and Dropout, the layers of the classifier that vgg(…) builds"
            )
    # New modules around the same tensors: to put this net into evaluation mode leaves the model's
    # own mode alone.
    tensors = [*model.features.parameters(), *model.features.buffers()]
    features = copy.deepcopy(model.features, {id(tensor): tensor for tensor in tensors})
    smallest = window * 2**stages
    return DenseVGG(features, nn.Sequential(*layers), model.num_classes, smallest).eval()


def _as_convolution(linear: nn.Linear, side: int) -> nn.Conv2d:
    """The convolution that does at each place what ``linear`` does to one flattened map."""
    channels = linear.in_features // side**2
    convolution = nn.Conv2d(channels, linear.out_features, side, device="meta")
    # flatten() puts the channel first, then the row, then the column: the order of a kernel.
    shape = (linear.out_features, channels, side, side)
    convolution.weight = nn.Parameter(linear.weight.detach().view(shape), requires_grad=False)
    convolution.bias = nn.Parameter(linear.bias.detach(), requires_grad=False)
    return convolution
