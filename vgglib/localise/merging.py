"""What do all windows of an image together say?

Run over the whole image, a regressor predicts a box for each place of its map, as a classifier
gives class scores (appendix A.1, chapter 9). OverFeat's greedy procedure (Sermanet et al., 2014)
makes one of them: boxes that lie close are averaged, and the merged box whose windows are surest
of the class wins.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import box_convert, box_iou
from torchvision.transforms.v2 import functional as tvf

from ..evaluate.dense import dense
from ..model import VGG
from ..pixels import pixels_of
from .boxes import decode

#: Boxes with a larger match distance are not merged.
LIMIT = 0.75


@torch.no_grad()
def candidates(
    boxes_net: VGG,
    classes_net: VGG,
    images: Tensor,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    *,
    scale: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Boxes and class probabilities of every window of the images.

    Those of several scales, or of several pairs of nets, are united with ``torch.cat(…, dim=1)``.

    Parameters
    ----------
    boxes_net, classes_net : VGG
        A trained regressor, and the classification net that rates its boxes; both for images of
        one size.
    images : Tensor, (N, 3, S, S), uint8
    mean, std : a float a channel, optional
        In 0–255 units; the net's own (``net.pixels``) if they are left out.
    scale : int, optional
        Q in pixels, to which the images are rescaled first.

    Returns
    -------
    boxes : Tensor, (N, windows, classes, 4)
        As fractions of the image's side, so that they are the same at every scale. Of single-class
        regression, the same for all classes.
    probabilities : Tensor, (N, windows, classes)

    Raises
    ------
    ValueError
        If the two nets do not belong together, or the images are too small.
    """
    classes = classes_net.num_classes
    if boxes_net.num_classes not in (4, 4 * classes):
        raise ValueError(
            f"a net of {classes} classes goes with a regressor of 4 or {4 * classes} outputs, "
            f"got {boxes_net.num_classes}; regressor(net) makes one"
        )
    shapes = [(net.image_size, len(net.config.stages)) for net in (boxes_net, classes_net)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"the two nets must have the same windows, got {shapes[0][0]} px with {shapes[0][1]} "
            f"stages and {shapes[1][0]} px with {shapes[1][1]}; build both with one "
            "image_size and as many stages"
        )
    if scale is not None:
        images = tvf.resize(images, [scale], antialias=True)
    device = next(boxes_net.parameters()).device
    for_boxes, for_classes = (pixels_of(net, mean, std) for net in (boxes_net, classes_net))
    whole_boxes, whole_classes = dense(boxes_net), dense(classes_net)
    found, rated = [], []
    for part in images.split(64):
        part = part.to(device)
        codes = whole_boxes(for_boxes(part)).cpu()  # (N, 4 · classes or 4, h, w)
        found.append(codes.flatten(2).movedim(2, 1).unflatten(2, (-1, 4)))
        rated.append(whole_classes(for_classes(part)).softmax(1).flatten(2).movedim(2, 1).cpu())
    # Where each window begins: one step of the last map is the product of the strides.
    step, (height, width) = 2 ** shapes[0][1], codes.shape[2:]
    y, x = torch.meshgrid(step * torch.arange(height), step * torch.arange(width), indexing="ij")
    start = torch.stack([x, y, x, y], dim=-1).flatten(0, 1)[:, None]  # (windows, 1, 4)
    boxes = (decode(torch.cat(found), boxes_net.image_size) + start) / images.shape[-1]
    return boxes.expand(-1, -1, classes, -1), torch.cat(rated)


def match_distance(boxes: Tensor) -> Tensor:
    """How far apart two boxes are, for each pair: the smaller, the better they match.

    OverFeat takes "the sum of the distance between centers and the intersection area", which read
    to the letter keeps apart what overlaps most. Ours is the distance of the centres, in units of
    the mean diagonal, plus 1 − IoU.

    Parameters
    ----------
    boxes : Tensor, (n, 4)

    Returns
    -------
    Tensor, (n, n)
        Symmetric, 0 between equal boxes.
    """
    centres, sides = box_convert(boxes, "xyxy", "cxcywh").split(2, dim=1)
    diagonals = sides.norm(dim=1)
    unit = (diagonals[:, None] + diagonals) / 2
    overlap = box_iou(boxes, boxes).nan_to_num(0)  # of two empty boxes
    return torch.cdist(centres, centres) / unit.clamp(min=1e-9) + 1 - overlap


def merge(boxes: Tensor, scores: Tensor, *, limit: float = LIMIT) -> tuple[Tensor, Tensor]:
    """Merge the two closest boxes until no two are close (Sermanet et al., 2014).

    A merged box is the mean of all that went into it, its score their sum: many windows that agree
    count more than one that is sure.

    Parameters
    ----------
    boxes : Tensor, (n, 4)
    scores : Tensor, (n,)
        Probability of the class in each box's window.
    limit : float
        Largest :func:`match_distance` of two boxes that are merged.

    Returns
    -------
    boxes : Tensor, (m, 4)
        The box with the highest score first.
    scores : Tensor, (m,)

    Raises
    ------
    ValueError
        If there are no boxes, or not as many scores.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes) or scores.shape != boxes.shape[:1]:
        raise ValueError(
            f"merge takes boxes (n, 4) with a score each, n at least 1, got {tuple(boxes.shape)} "
            f"and {tuple(scores.shape)}"
        )
    boxes, scores, members = boxes.clone(), scores.clone(), torch.ones(len(boxes), 1)
    while len(boxes) > 1:
        distance = match_distance(boxes).fill_diagonal_(torch.inf)
        first, second = divmod(int(distance.argmin()), len(boxes))
        if distance[first, second] > limit:
            break
        weighted = members[first] * boxes[first] + members[second] * boxes[second]
        members[first] += members[second]
        boxes[first] = weighted / members[first]
        scores[first] += scores[second]
        kept = torch.arange(len(boxes)) != second
        boxes, scores, members = boxes[kept], scores[kept], members[kept]
    order = scores.argsort(descending=True, stable=True)
    return boxes[order], scores[order]


def final_boxes(
    boxes: Tensor, probabilities: Tensor, labels: Tensor, *, limit: float = LIMIT
) -> Tensor:
    """The box of each image for each of the classes named: of the merged ones, the best rated.

    Parameters
    ----------
    boxes, probabilities : Tensor
        From :func:`candidates`.
    labels : Tensor, (N, k)
        The classes of each image that a box is wanted for.
    limit : float
        As for :func:`merge`.

    Returns
    -------
    Tensor, (N, k, 4)
        In the units of the boxes.

    Raises
    ------
    ValueError
        If there are not k labels for each image.
    """
    if labels.ndim != 2 or len(labels) != len(boxes):
        raise ValueError(
            f"{len(boxes)} images need labels of shape ({len(boxes)}, k), got {tuple(labels.shape)}"
        )
    return torch.stack(
        [
            torch.stack([merge(b[:, k], p[:, k], limit=limit)[0][0] for k in wanted.tolist()])
            for b, p, wanted in zip(boxes, probabilities, labels, strict=True)
        ]
    )
