"""Where do images come from, and are they intact?

The sets a course on VGG needs, each under one name: ``load("cifar10")``; and any folder of
pictures: ``folder("photos")``. Files are fetched once, compared with the md5 sums their authors
publish (:mod:`vgglib.fetch`), and kept in the user's cache folder (or in ``$VGGLIB_DATA``, or in
``root=``). A set that cannot be had raises an error that says what was tried; it is never swapped
for another one unless the caller names the other one. Serves chapters 2 to 6; the paper's own data,
ILSVRC-2012, is described in its §4.
"""

from __future__ import annotations

import os
import warnings

from ..checks import choice
from ..fetch import DataUnavailableError
from . import sources
from .figures import PHOTO_CREDITS, Credit, photos
from .folders import folder, imagenet
from .sets import IMAGENET_MEAN, IMAGENET_STD, Data, ImageSet, labels_of
from .sources import ASSETS, EMBEDDED

__all__ = [
    "ASSETS",
    "EMBEDDED",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "PHOTO_CREDITS",
    "Credit",
    "Data",
    "DataUnavailableError",
    "ImageSet",
    "folder",
    "labels_of",
    "load",
    "photos",
]

#: Name → a function of (root, progress).
LOADERS = {
    "cifar10": sources.cifar10,
    "fashion-mnist": sources.fashion_mnist,
    EMBEDDED: sources.fashion_mnist_mini,
    "imagenette": sources.imagenette,
    "imagenet": lambda root, _: imagenet(root),
    "folder": lambda root, _: folder(root),
}


def load(
    name: str,
    *,
    root: str | os.PathLike | None = None,
    offline: str | None = None,
    progress: bool = True,
) -> Data:
    """Load a data set by name, fetching it first where necessary.

    ==================== ======================================= ===================== ============
    name                 what                                    images                fetches
    ==================== ======================================= ===================== ============
    cifar10              10 kinds of animals and vehicles        50,000 + 10,000       163 MB
    fashion-mnist        10 kinds of clothes, grey               60,000 + 10,000       31 MB
    fashion-mnist-mini   its first 200 + 50 of each class        2,000 + 500           nothing
    imagenette           10 easy classes of ImageNet, 320 px     9,469 + 3,925         342 MB
    imagenet             ILSVRC-2012, from your own copy         1,281,167 + 50,000    nothing
    folder               your own pictures, see :func:`folder`   yours                 nothing
    ==================== ======================================= ===================== ============

    The first three are in memory, (N, 3, 32, 32) bytes; Fashion-MNIST's grey 28×28 images get a
    border of two zeros on each side and the same values in all three channels. The others are
    folders of files, given as PIL images of any size. Every file that is fetched must have the
    md5 sum its authors published, and the 32-pixel sets are verified again at each load; a damaged
    one is fetched anew. Several processes may load the same set at once.

    Parameters
    ----------
    name : str
        One of the names above.
    root : path, optional
        Folder that holds (or is to hold) the data, instead of ``$VGGLIB_DATA`` or the user's cache
        folder. Required for folder, and for imagenet, whose images must lie in
        ``root/train/<wnid>/`` and ``root/val/<wnid>/``.
    offline : str, optional
        ``"fashion-mnist-mini"``: go on with that, and say so in a warning, where the set cannot be
        had.
    progress : bool
        Show a bar while fetching.

    Returns
    -------
    Data

    Raises
    ------
    ValueError
        Unknown ``name`` or ``offline``, or imagenet or folder without ``root``.
    DataUnavailableError
        No source answered, or there is no place for the files; the message says what to do. It is
        an OSError.
    FileNotFoundError
        Folders of imagenet or folder are missing.
    """
    choice("name (--data)", name, tuple(LOADERS))
    if offline not in (None, EMBEDDED):
        raise ValueError(f"load: offline must be None or {EMBEDDED!r}, got {offline!r}")
    if root is None and name in ("imagenet", "folder"):
        raise ValueError(
            f"{name} needs root= (--root), the folder that holds train/ and val/, or the classes"
        )
    try:
        return LOADERS[name](root, progress)
    except (DataUnavailableError, FileNotFoundError):
        if offline is None:
            raise
        warnings.warn(
            f"{name} could not be had; {offline} takes its place "
            "(without offline=, the error lists what was tried)",
            stacklevel=2,
        )
        return LOADERS[offline](root, progress)
