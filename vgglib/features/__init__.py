"""What did it learn? Filters, feature maps, and what in an image a unit answers to.

The tools of chapter 6 (and, for the receptive field, of chapter 2). All take images that are
already normalised as the net expects them, see :func:`preprocess`, and leave the net as it was.
"""

from .attribution import grad_cam, occlusion, saliency
from .filters import first_filters
from .layers import activations
from .maximise import maximise
from .patches import top_patches
from .photos import AUTHORS_MEAN, IMAGENET_MEAN, preprocess
from .receptive import effective_receptive_field

__all__ = [
    "AUTHORS_MEAN",
    "IMAGENET_MEAN",
    "activations",
    "effective_receptive_field",
    "first_filters",
    "grad_cam",
    "maximise",
    "occlusion",
    "preprocess",
    "saliency",
    "top_patches",
]
