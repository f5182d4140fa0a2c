"""How is a box written down, and when is it right?

Boxes are (x₁, y₁, x₂, y₂) in pixels, as in torchvision.ops. The net predicts the paper's 4-D vector
instead: centre, width and height (appendix A.1).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_convert, box_iou


def check_boxes(boxes: Tensor, name: str = "boxes") -> None:
    """Raise an error if ``boxes`` are no boxes (..., 4) with x₁ < x₂ and y₁ < y₂."""
    if not isinstance(boxes, Tensor) or not boxes.is_floating_point():
        kind = boxes.dtype if isinstance(boxes, Tensor) else type(boxes).__name__
        raise TypeError(
            f"{name} must be a tensor of floats, got {kind}; torch.as_tensor({name}, "
            "dtype=torch.float) makes it one"
        )
    if boxes.ndim < 1 or boxes.shape[-1] != 4:
        raise ValueError(
            f"{name} must have the shape (N, 4), a row (x1, y1, x2, y2) each, got "
            f"{tuple(boxes.shape)}"
        )
    flat = boxes.reshape(-1, 4)
    good = flat.isfinite().all(1) & (flat[:, 0] < flat[:, 2]) & (flat[:, 1] < flat[:, 3])
    if not good.all():
        place = int((~good).nonzero()[0])
        raise ValueError(
            f"{name}: row {place} is {[round(v, 2) for v in flat[place].tolist()]}; a box is "
            "(x1, y1, x2, y2) with x1 < x2 and y1 < y2, all of them finite. Boxes given by centre "
            "or corner with width and height are turned by torchvision.ops.box_convert"
        )


def encode(boxes: Tensor, size: float) -> Tensor:
    """The vectors that the net is to predict (appendix A.1).

    The paper does not say in which units its coordinates are; here they are fractions of the side
    of the crop, so that they are the same at every scale.

    Parameters
    ----------
    boxes : Tensor, (..., 4)
        (x₁, y₁, x₂, y₂) in pixels of the crop. They may leave it: an object that the crop cuts off
        keeps its whole box.
    size : float
        Side of the crop in pixels.

    Returns
    -------
    Tensor, (..., 4)
        Centre x, centre y, width, height.

    Raises
    ------
    TypeError, ValueError
        If they are no boxes.
    """
    check_boxes(boxes)
    return box_convert(boxes, "xyxy", "cxcywh") / size


def decode(codes: Tensor, size: float) -> Tensor:
    """The boxes (..., 4) in pixels that vectors stand for: the inverse of :func:`encode`.

    Nothing keeps a net from predicting a negative width; it is read as 0.
    """
    codes = torch.cat([codes[..., :2], codes[..., 2:].clamp(min=0)], dim=-1)
    return box_convert(codes * size, "cxcywh", "xyxy")


def iou(predicted: Tensor, true: Tensor) -> Tensor:
    """Intersection over union of each predicted box with the true one in the same row.

    Parameters
    ----------
    predicted, true : Tensor, (N, 4)
        A predicted box may be empty; its IoU is 0.

    Returns
    -------
    Tensor, (N,)
        From 0 to 1.

    Raises
    ------
    TypeError, ValueError
        If ``true`` are no boxes, or the shapes differ.
    """
    check_boxes(true, "the true boxes")
    if predicted.shape != true.shape or true.ndim != 2:
        raise ValueError(
            f"iou compares boxes row by row, (N, 4) with (N, 4), got {tuple(predicted.shape)} and "
            f"{tuple(true.shape)}"
        )
    # torchvision compares all with all; in parts, so that the table of pairs stays small.
    parts = zip(predicted.split(256), true.split(256), strict=True)
    return torch.cat([box_iou(*part).diagonal() for part in parts] or [true.new_zeros(0)])


def error(
    boxes: Tensor,
    true_boxes: Tensor,
    labels: Tensor | None = None,
    true_labels: Tensor | None = None,
    *,
    threshold: float = 0.5,
) -> float:
    """Localisation error (appendix A.2): the share of images whose object is not found.

    An image counts as right if one of its boxes has an IoU *above* 0.5 with the true box, and the
    true class. Without labels the boxes are taken to be of the true class, as in the paper's
    Table 8.

    Parameters
    ----------
    boxes : Tensor, (N, 4) or (N, k, 4)
        One box an image, or one for each of the k classes named.
    true_boxes : Tensor, (N, 4)
    labels : Tensor, (N, k), optional
        The class of each box; five of them make the ILSVRC's "top-5".
    true_labels : Tensor, (N,), optional
    threshold : float

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    TypeError, ValueError
        If there is no image, shapes do not match, or boxes are none.
    """
    if not len(true_boxes):
        raise ValueError("error needs at least 1 image, got 0")
    if (labels is None) != (true_labels is None):
        given, lacking = "labels", "true_labels"
        if labels is None:
            given, lacking = lacking, given
        raise ValueError(f"error takes {given}= together with {lacking}=, or neither of them")
    boxes = boxes[:, None] if boxes.ndim == 2 else boxes  # (N, k, 4)
    count, k = boxes.shape[:2]
    found = iou(boxes.flatten(0, 1), true_boxes.repeat_interleave(k, 0)).view(count, k) > threshold
    if labels is not None and true_labels is not None:
        if labels.shape != (count, k) or true_labels.shape != (count,):
            raise ValueError(
                f"{count} images with {k} boxes each need labels ({count}, {k}) and true labels "
                f"({count},), got {tuple(labels.shape)} and {tuple(true_labels.shape)}"
            )
        found = found & (labels == true_labels[:, None])
    return 1 - int(found.any(1).sum()) / count
