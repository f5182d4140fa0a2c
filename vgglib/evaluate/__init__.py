"""How is a network tested?

From one centre crop to what the paper submitted (§3.2, §4, chapter 7): a *test* turns images of any
size into class probabilities, several tests fuse into one, and :func:`top_k_error` counts what it
gets wrong.
"""

from .centre import check_labels, evaluate, read_image
from .dense import DenseVGG, dense
from .error import top_k_error
from .views import Dense, Fusion, MultiCrop, test_scales

__all__ = [
    "Dense",
    "DenseVGG",
    "Fusion",
    "MultiCrop",
    "check_labels",
    "dense",
    "evaluate",
    "read_image",
    "test_scales",
    "top_k_error",
]
