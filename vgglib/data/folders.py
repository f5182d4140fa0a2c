"""How does a folder of pictures become a data set?

A folder a class, as ImageNet is laid out, and most photographs that somebody sorted by hand.
"""

from __future__ import annotations

import os
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch.utils.data import Subset
from torchvision import datasets
from torchvision.datasets.folder import IMG_EXTENSIONS, has_file_allowed_extension

from .. import pictures
from ..checks import channels, real
from ..pictures import Pictures
from .sets import IMAGENET_MEAN, IMAGENET_STD, Data

#: Names of the folder beside ``train/`` on which one validates; the first that is there counts.
VALIDATION = ("val", "valid", "validation", "test")
#: Names that no class has.
PARTS = {"train", "training", "testing", *VALIDATION}

SORT = """\
Kaggle's ImageNet has the classes of its validation pictures in LOC_val_solution.csv; this sorts
them:

import csv, pathlib
for row in csv.DictReader(open("LOC_val_solution.csv")):
    name, folder = row["ImageId"] + ".JPEG", pathlib.Path({folder!r}, row["PredictionString"][:9])
    folder.mkdir(exist_ok=True)
    folder.with_name(name).rename(folder / name)
"""


#: Endings of pictures: torchvision's, and two more that PIL reads.
ENDINGS = (*IMG_EXTENSIONS, ".gif", ".jfif")


#: What macOS, a network drive and Windows put among pictures, copies of them in small among it.
MADE_BY_SYSTEMS = {"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information"}


def _is_picture(name: str) -> bool:
    return has_file_allowed_extension(name, ENDINGS)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in MADE_BY_SYSTEMS


class ClassFolders(datasets.ImageFolder):
    """torchvision's ``ImageFolder`` without hidden files and folders, every picture in RGB.

    Hidden are names that begin with a dot, and folders that a file system made for itself.

    Raises
    ------
    FileNotFoundError
        If there is no folder of a class, or one without a picture.
    """

    def __init__(self, root: str | os.PathLike):
        # Inside a hidden folder, such as a cache, nothing is hidden by that.
        start = len(str(root))
        super().__init__(
            root,
            loader=pictures.read,
            is_valid_file=lambda path: (
                _is_picture(path) and not any(map(_is_hidden, path[start:].split(os.sep)))
            ),
            allow_empty=True,
        )
        empty = sorted(set(self.classes) - {self.classes[label] for label in self.targets})
        if empty:
            raise FileNotFoundError(
                f"there is no picture in {root}/{empty[0]}; each class needs at least one (.jpg, "
                ".jpeg, .png, .tif, .webp …): add some, or remove the folder"
            )

    def find_classes(self, directory):
        """The folders, sorted by name; a hidden one (.ipynb_checkpoints) is no class."""
        entries = [entry for entry in os.scandir(directory) if not _is_hidden(entry.name)]
        classes = sorted(entry.name for entry in entries if entry.is_dir())
        if not classes:
            loose = sum(_is_picture(entry.name) for entry in entries)
            raise FileNotFoundError(
                f"{directory} holds {loose} pictures and no folders of classes; a picture has to "
                f"lie in {directory}/<class>/. "
                + (SORT.format(folder=str(directory)) * bool(loose))
            )
        return classes, {name: number for number, name in enumerate(classes)}


def folder(
    root: str | os.PathLike,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    name: str | None = None,
    holdout: float = 0.1,
) -> Data:
    """Any folder of pictures that lie in a folder a class.

    Either ``root/train/<class>/`` and ``root/val/<class>/`` (or ``valid``, ``validation``,
    ``test``), or one folder of classes, ``root/train/<class>/`` or ``root/<class>/``, from which a
    share is held out for validation. Hidden files and folders are left out; a picture becomes RGB
    as by ``vgglib.pictures.rgb``.

    Parameters
    ----------
    root : path
    mean, std : three floats, optional
        Of the training pixels, 0–255; measured where they are not given (see :class:`Data`). For a
        net that starts from trained weights, give those of the weights.
    name : str, optional
        What to call it; the folder's name by default.
    holdout : float
        Share of each class to validate on, where there is no folder of it. The pictures' names
        alone decide which: one more or less moves hardly any other.

    Returns
    -------
    Data

    Raises
    ------
    FileNotFoundError
        If a folder is missing, or has no pictures.
    ValueError
        If the splits differ in their classes, nothing is left to validate on, or an argument is
        out of range.
    """
    root, holdout = Path(os.path.expanduser(root)), real("holdout", holdout, "(0, 1)")
    mean = mean if mean is None else channels("mean", mean, 3)
    std = std if std is None else channels("std", std, 3, positive=True)
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}; root= names one of class folders")
    several = (root / "train").is_dir()
    train = ClassFolders(root / "train" if several else root)
    classes = tuple(train.classes)
    beside = [root / split for split in VALIDATION if several and (root / split).is_dir()]
    if not several and {name.lower() for name in classes} <= PARTS:
        raise ValueError(
            f"{root} holds {', '.join(classes)}, which look like the parts of a set and not like "
            f"classes; name them train and one of {', '.join(VALIDATION)}"
        )
    # A contest's test pictures lie in one heap, as nobody is to know their classes.
    beside = [s for s in beside if s.name != "test" or any(path.is_dir() for path in s.iterdir())]
    if beside:
        test = ClassFolders(beside[0])
        differ = sorted(set(classes) ^ set(test.classes))
        if differ:
            raise ValueError(
                f"{train.root} and {test.root} hold different classes; {len(differ)} are in one "
                f"of them only: {', '.join(differ[:5])}{' …' * (len(differ) > 5)}"
            )
        splits: tuple[Pictures, Pictures] = train, test
    else:
        splits = _held_out(train, holdout)
    name = name or root.resolve().name
    made = Data(name, *splits, classes, f"the pictures in {root}, not verified")
    if mean is None and std is None:
        return made
    return replace(made, moments=(mean or made.mean, std or made.std))


def _held_out(whole: ClassFolders, share: float) -> tuple[Subset, Subset]:
    """Training and validation pictures: of each class, those come first whose names hash lowest."""
    members = defaultdict(list)
    for index, (path, label) in enumerate(whole.samples):
        members[label].append((zlib.crc32(os.fsencode(os.path.basename(path))), index))
    held = set()
    for ranked in members.values():
        count = min(max(1, round(share * len(ranked))), len(ranked) - 1)
        held |= {index for _, index in sorted(ranked)[:count]}
    if not held:
        raise ValueError(
            f"{whole.root} has one picture a class, and none to validate on; add pictures, or make "
            "folders train/ and val/ in it"
        )
    rest = [index for index in range(len(whole)) if index not in held]
    return Subset(whole, rest), Subset(whole, sorted(held))


def imagenet(root: str | os.PathLike) -> Data:
    """ILSVRC-2012, the reader's own copy."""
    root = Path(os.path.expanduser(root))
    for split in ("train", "val"):
        if not (root / split).is_dir():
            raise FileNotFoundError(
                f"load: there is no folder {root / split}; imagenet is expected as "
                f"{root}/train/<wnid>/*.JPEG and {root}/val/<wnid>/*.JPEG, a folder a class "
                "(n01440764, …) in both. The images come from image-net.org, after registration"
            )
    data = folder(root, mean=IMAGENET_MEAN, std=IMAGENET_STD, name="imagenet")
    source = "ILSVRC-2012 (Russakovsky et al., 2015), the reader's own copy, not verified"
    return replace(data, source=source)
