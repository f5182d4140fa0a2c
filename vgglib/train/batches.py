"""Where do the training batches come from?

Two input pipelines with one face. Small sets live on the device as uint8 and are cropped there in
batches; folders of photos are read and cropped by worker processes.

Order and crops are functions of (seed, epoch, step) or (seed, epoch, image), never of a generator
that runs along. So a run can be resumed in the middle of an epoch, and each of several processes
can make its own part of the same batch.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..augment import ColourShift, batch_crops, cutout, rgb_pca, training_crop
from ..data import Data, ImageSet, labels_of
from ..data.sets import Pictures, Split, part_of
from ..devices import Place
from ..evaluate.centre import Transformed, check_labels
from ..pixels import Pixels
from .interrupts import leave_ctrl_c_to_the_first
from .recipe import Recipe


def seed_of(*keys: int) -> int:
    """A seed that belongs to these numbers alone (sums and products of them would collide)."""
    digest = hashlib.blake2b(repr(keys).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1  # generators take 63 bits


def split(data: Data, recipe: Recipe) -> tuple[Split, Split | None]:
    """Training and validation images, by ``recipe.holdout``."""
    if recipe.holdout == 0:
        return data.train, data.test  # None: nothing is validated
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(recipe.seed))
    held = round(recipe.holdout * len(order))
    if not 0 < held < len(order):
        raise ValueError(
            f"holdout={recipe.holdout} of {len(order)} training images leaves {held} for "
            f"validation and {len(order) - held} for training; both need at least one"
        )
    return part_of(data.train, order[held:].tolist()), part_of(data.train, order[:held].tolist())


def check_size(split: ImageSet, model) -> None:
    """Raise a ValueError if the images are not of the net's size."""
    height, width = split.images.shape[-2:]
    size = size_of(model, split)
    if (height, width) != (size, size):
        raise ValueError(
            f"the images are {height} × {width} px and the net takes {size} px; build "
            f"it with image_size={width} (--image-size {width})"
        )


def check_data(data: Data, recipe: Recipe, model) -> None:
    """Raise a ValueError if the data cannot train and test the net, before anything is done."""
    if not isinstance(data, Data):
        raise ValueError(
            f"train takes a Data, such as vgglib.data.load gives, got {type(data).__name__}; "
            "Data(name, train, test, classes, source) makes one of two sets of images"
        )
    classes = classes_of(model) or len(data.classes)
    if len(data.classes) != classes:
        raise ValueError(
            f"{data.name} has {len(data.classes)} classes and the net tells {classes} "
            f"apart; build it with num_classes={len(data.classes)}"
        )
    used: dict[str, Split] = {"training": data.train}
    if data.test is not None and not recipe.holdout:
        used["validation"] = data.test
    elif not recipe.holdout and recipe.schedule == "plateau":
        raise ValueError(
            f"{data.name} has no validation images, which schedule='plateau' looks at; take "
            "another schedule, or hold some out (holdout=0.1)"
        )
    for what, images in used.items():
        if not isinstance(images, ImageSet | Dataset):
            raise ValueError(
                f"the {what} images must be an ImageSet or a Dataset of (PIL image, class), got "
                f"{type(images).__name__}"
            )
        if not len(images):
            raise ValueError(
                f"{data.name} has 0 {what} images; its train= needs some, and test=, too, unless "
                "part of train= is held out for validation (holdout=0.1)"
            )
        labels = labels_of(images)
        if labels is not None:
            check_labels(labels, classes)


@contextlib.contextmanager
def told_of_shared_memory() -> Iterator[None]:
    """An error of processes that read images, if it is of their shared memory, says what helps."""
    try:
        yield
    except (RuntimeError, OSError) as error:
        if not re.search(r"shared memory|</torch_|Bus error", str(error)):
            raise
        raise OSError(
            "the processes that read images have too little shared memory (/dev/shm) to hand them "
            "over: take workers=0 (--workers 0), fewer workers, or a machine or container with "
            "more of it (docker run --shm-size=2g)"
        ) from error


class Batches(ABC):
    """What both pipelines share: the order of an epoch, in whole batches, and this process's part.

    ``recipe.batch_size`` images make a step, over all processes together. ``transform`` makes
    images and targets of images (n, C, H, W) of 0–255 and labels (n,). Unless the batches are to be
    ``whole``, an epoch ends with a smaller one and leaves no image out.
    """

    def __init__(self, split, recipe, place: Place, pixels: Pixels, transform=None, whole=True):
        if len(split) == 0:
            raise ValueError("there are no training images")
        self.pixels, self.transform, self.whole = pixels, transform, whole
        self.normalise = pixels.on(place.device)
        self.count, self.recipe, self.place = len(split), recipe, place
        self.batch = min(recipe.batch_size, self.count)
        if self.batch % place.world:
            raise ValueError(
                f"a batch of {self.batch} images cannot be shared equally by {place.world} "
                f"processes; take a batch_size that {place.world} divides"
            )

    def __len__(self) -> int:
        return self.count // self.batch if self.whole else -(-self.count // self.batch)

    def order(self, epoch: int) -> tuple[Tensor, ...]:
        """The images of each step of an epoch, (batch,) each."""
        generator = torch.Generator().manual_seed(seed_of(self.recipe.seed, epoch))
        order = torch.randperm(self.count, generator=generator)
        return order[: len(self) * self.batch].split(self.batch)

    @property
    def mine(self) -> slice:
        """This process's part of a batch."""
        share = self.batch // self.place.world
        return slice(self.place.rank * share, (self.place.rank + 1) * share)

    def finished(self, images: Tensor, labels: Tensor, *keys: int) -> tuple[Tensor, Tensor]:
        """What comes after the crop, the same for both pipelines; ``keys``: of the step."""
        if self.transform is not None:
            made = self.transform(images, labels)
            pair = isinstance(made, tuple | list) and len(made) == 2
            if not pair or not all(isinstance(part, Tensor) for part in made):
                raise ValueError(
                    "transform(images, labels) must give both back, as a tuple of two tensors, got "
                    f"{type(made).__name__}"
                )
            images, labels = made
        if self.recipe.cutout:
            draws = torch.Generator().manual_seed(seed_of(self.recipe.seed, *keys, 1))
            # Of the whole batch, so that they do not depend on the number of processes.
            centres = torch.rand(2, len(images) * self.place.world, generator=draws)[:, self.mine]
            mean = torch.tensor(self.pixels.mean)
            images = cutout(images, self.recipe.cutout, mean, centres=centres[:, : len(images)])
        return self.normalise(images), labels

    @abstractmethod
    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch from step ``start`` on: images (n, 3, H, W), labels (n,)."""

    def close(self) -> None:  # noqa: B027
        """End the processes that read images."""

    def rate(self, seconds: float = 1.0) -> float:
        """Images a second that this process's pipeline makes when nobody trains on them."""
        batches = self.epoch(0)
        next(batches, None)  # workers start
        self.place.synchronise()
        begin, made = time.perf_counter(), 0
        while time.perf_counter() - begin < seconds:
            batch = next(batches, None)
            if batch is None:
                batches = self.epoch(0)
                continue
            self.place.synchronise()
            made += len(batch[1])
        return made / (time.perf_counter() - begin)


class DeviceBatches(Batches):
    """An in-memory set, moved to the device once; crops are made there.

    Every process makes the crops of the whole batch and keeps its part: for images this small that
    costs less than it would to explain why the crops depend on the number of processes.
    """

    def __init__(
        self, split: ImageSet, model, recipe, mean, std, place, transform=None, whole=True
    ):
        super().__init__(split, recipe, place, Pixels(mean, std), transform, whole)
        self.size = size_of(model, split)
        self.images, self.labels = split.images.to(place.device), split.labels.to(place.device)
        self.scale = recipe.scale_for(self.size)
        self.shift = None
        if recipe.colour_shift:
            axes = rgb_pca(split.images[:10_000].cpu())
            self.shift = ColourShift(*axes).to(place.device)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        order = [part.to(self.place.device) for part in self.order(epoch)]
        draws = torch.Generator(self.place.device)
        for step in range(start, len(self)):
            draws.manual_seed(seed_of(self.recipe.seed, epoch, step))
            part = order[step]
            images = batch_crops(
                self.images[part],
                self.size,
                scale=self.scale,
                pad=self.recipe.pad,
                flip=self.recipe.flip,
                generator=draws,
            )
            if self.shift is not None:
                images = self.shift(images, draws)
            mine = self.mine
            yield self.finished(images[mine], self.labels[part[mine]], epoch, step)


class LoaderBatches(Batches):
    """A dataset of PIL images, read and cropped by worker processes ahead of their use."""

    def __init__(
        self, split: Pictures, model, recipe: Recipe, mean, std, place, workers, transform=None
    ):
        size = size_of(model, split)
        scale = recipe.scale_for(size)
        if scale is None:
            raise ValueError(
                "images read from disk have no common size: the recipe needs a scale, such as "
                "scale=256 or scale=(256, 512)"
            )
        if recipe.pad:
            raise ValueError(f"pad={recipe.pad} is for small in-memory sets; set pad=0")
        super().__init__(split, recipe, place, Pixels(mean, std), transform)
        crop = training_crop(
            scale,
            size,
            flip=recipe.flip,
            colour_shift=ColourShift() if recipe.colour_shift else None,
        )
        self.classes = classes_of(model)
        self.wanted: list[list[tuple[int, int]]] = []  # the (epoch, index)s of an epoch's steps
        self.loader: DataLoader | None = DataLoader(
            _Keyed(split, crop, recipe.seed),
            batch_sampler=self.wanted,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=place.device.type == "cuda",
            # Its own generator: the default would draw from the one that dropout draws from.
            generator=torch.Generator().manual_seed(recipe.seed),
            worker_init_fn=leave_ctrl_c_to_the_first,
        )

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        steps = [step[self.mine].tolist() for step in self.order(epoch)[start:]]
        self.wanted[:] = [[(epoch, index) for index in step] for step in steps]
        assert self.loader is not None  # not closed
        with told_of_shared_memory():
            for step, (images, labels) in enumerate(self.loader, start):
                if self.classes:
                    check_labels(labels, self.classes)
                images, labels = (
                    values.to(self.place.device, non_blocking=True) for values in (images, labels)
                )
                yield self.finished(images, labels, epoch, step)

    def close(self) -> None:
        self.loader = None  # with it goes its iterator, which ends the processes


class _Keyed(Transformed):
    """Training crops by (epoch, index): the same crop in whichever process it is made."""

    def __init__(self, dataset: Pictures, transform, seed: int):
        super().__init__(dataset, transform)
        self.seed = seed

    def __getitem__(self, key) -> tuple[Tensor, int]:
        epoch, index = key
        with torch.random.fork_rng(devices=[]):  # transforms draw from torch's own generator
            torch.manual_seed(seed_of(self.seed, epoch, index))
            return super().__getitem__(index)


def pipeline(split: Split, model, recipe, pixels, place, workers, transform=None):
    """The pipeline that suits a set of training images."""
    common = (model, recipe, pixels.mean, pixels.std, place)
    if isinstance(split, ImageSet):
        return DeviceBatches(split, *common, transform)
    return LoaderBatches(split, *common, workers, transform)


def size_of(model, split: Split) -> int:
    """Side in pixels of the crops: the net's, else that of the images in memory, else 224."""
    images = split.images.shape[-1] if isinstance(split, ImageSet) else 224
    return getattr(model, "image_size", images)


def classes_of(model) -> int | None:
    """How many classes a net tells apart, if it says so."""
    return getattr(model, "num_classes", None)
