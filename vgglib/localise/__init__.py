"""Where in the image is the object?

The paper's appendix A (chapter 9): the net's last layer predicts a box in place of class scores,
the net runs over the whole image, and the boxes that its windows predict are merged.
"""

from .boxes import decode, encode, error, iou
from .merging import candidates, final_boxes, merge
from .regression import boxes_of, centre_boxes, euclidean_loss, regressor, train_boxes
from .scenes import Scenes, compose

__all__ = [
    "Scenes",
    "boxes_of",
    "candidates",
    "centre_boxes",
    "compose",
    "decode",
    "encode",
    "error",
    "euclidean_loss",
    "final_boxes",
    "iou",
    "merge",
    "regressor",
    "train_boxes",
]
