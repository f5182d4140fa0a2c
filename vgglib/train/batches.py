"""Where do the training batches come from?

Two input pipelines with one face. Small sets live on the device as uint8 and are cropped there in
batches; folders of photos are read and cropped by worker processes.

Order and crops are functions of (seed, epoch, step) or (seed, epoch, image), never of a generator
that runs along. So a run can be resumed in the middle of an epoch, and each of several processes
can make its own part of the same batch.
"""

from __future__ import annotations

import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from ..augment import ColourShift, batch_crops, normalise, rgb_pca, training_crop
from ..data import Data, ImageSet
from ..devices import Place
from ..evaluate import check_labels, read_image
from .recipe import Recipe


def seed_of(*keys: int) -> int:
    """A seed that belongs to these numbers alone (sums and products of them would collide)."""
    digest = hashlib.blake2b(repr(keys).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1  # generators take 63 bits


def split(data: Data, recipe: Recipe) -> tuple[ImageSet | Dataset, ImageSet | Dataset]:
    """Training and validation images, by ``recipe.holdout``."""
    if recipe.holdout == 0:
        return data.train, data.test
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(recipe.seed))
    held = round(recipe.holdout * len(order))
    if not 0 < held < len(order):
        raise ValueError(
            f"holdout={recipe.holdout} of {len(order)} training images leaves {held} for "
            f"validation and {len(order) - held} for training; both need at least one"
        )
    parts = order[held:], order[:held]
    if isinstance(data.train, ImageSet):
        return tuple(data.train[part] for part in parts)
    return tuple(Subset(data.train, part.tolist()) for part in parts)


def check_size(split: ImageSet, model) -> None:
    """Raise a ValueError if the images are not of the net's size."""
    height, width = split.images.shape[-2:]
    if (height, width) != (model.image_size, model.image_size):
        raise ValueError(
            f"the images are {height} × {width} px and the net takes {model.image_size} px; build "
            f"it with image_size={width} (--image-size {width})"
        )


class Batches(ABC):
    """What both pipelines share: the order of an epoch, in whole batches, and this process's part.

    Parameters
    ----------
    split : ImageSet or Dataset
        The training images.
    recipe : Recipe
        ``batch_size`` images make a step, over all processes together.
    place : Place
        The device, and which part of each batch is this process's.
    """

    def __init__(self, split: ImageSet | Dataset, recipe: Recipe, place: Place):
        if len(split) == 0:
            raise ValueError("there are no training images")
        self.count, self.recipe, self.place = len(split), recipe, place
        self.batch = min(recipe.batch_size, self.count)
        if self.batch % place.world:
            raise ValueError(
                f"a batch of {self.batch} images cannot be shared equally by {place.world} "
                f"processes; take a batch_size that {place.world} divides"
            )

    def __len__(self) -> int:
        return self.count // self.batch  # whole batches only

    def order(self, epoch: int) -> Tensor:
        """(steps, batch): the images of each step of an epoch."""
        generator = torch.Generator().manual_seed(seed_of(self.recipe.seed, epoch))
        order = torch.randperm(self.count, generator=generator)
        return order[: len(self) * self.batch].view(len(self), self.batch)

    @property
    def mine(self) -> slice:
        """This process's part of a batch."""
        share = self.batch // self.place.world
        return slice(self.place.rank * share, (self.place.rank + 1) * share)

    @abstractmethod
    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch from step ``start`` on: images (n, 3, H, W), labels (n,)."""

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

    def __init__(self, split: ImageSet, model, recipe: Recipe, mean, std, place: Place):
        super().__init__(split, recipe, place)
        check_labels(split.labels, model)
        self.images, self.labels = split.images.to(place.device), split.labels.to(place.device)
        self.size, self.mean, self.std = model.image_size, mean, std
        self.scale = recipe.scale_for(self.size)
        self.shift = ColourShift(*rgb_pca(split.images[:10_000])) if recipe.colour_shift else None

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        order = self.order(epoch).to(self.place.device)
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
            yield normalise(images[mine], self.mean, self.std), self.labels[part[mine]]


class LoaderBatches(Batches):
    """A dataset of PIL images, read and cropped by worker processes ahead of their use."""

    def __init__(self, split: Dataset, model, recipe: Recipe, mean, std, place: Place, workers):
        if recipe.scale is None:
            raise ValueError(
                "images read from disk have no common size: the recipe needs a scale, such as "
                "scale=256 or scale=(256, 512)"
            )
        if recipe.pad:
            raise ValueError(f"pad={recipe.pad} is for small in-memory sets; set pad=0")
        super().__init__(split, recipe, place)
        crop = training_crop(
            recipe.scale_for(model.image_size),
            model.image_size,
            flip=recipe.flip,
            colour_shift=ColourShift() if recipe.colour_shift else None,
            mean=mean,
            std=std,
        )
        self.wanted: list[list[tuple[int, int]]] = []
        self.loader = DataLoader(
            _Keyed(split, crop, recipe.seed),
            batch_sampler=_Wanted(self),
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=place.device.type == "cuda",
            # Its own generator: the default would draw from the one that dropout draws from.
            generator=torch.Generator().manual_seed(recipe.seed),
        )

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        steps = self.order(epoch)[start:, self.mine].tolist()
        self.wanted = [[(epoch, index) for index in step] for step in steps]
        for images, labels in self.loader:
            yield (
                images.to(self.place.device, non_blocking=True),
                labels.to(self.place.device, non_blocking=True),
            )


class _Wanted:
    """The batch sampler: whatever the pipeline wants in this epoch."""

    def __init__(self, batches: LoaderBatches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches.wanted)

    def __len__(self) -> int:
        return len(self.batches.wanted)


class _Keyed(Dataset):
    """Training crops by (epoch, index): the same crop in whichever process it is made."""

    def __init__(self, dataset: Dataset, transform, seed: int):
        self.dataset, self.transform, self.seed = dataset, transform, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        epoch, index = key
        image, label = read_image(self.dataset, index)
        with torch.random.fork_rng(devices=[]):  # transforms draw from torch's own generator
            torch.manual_seed(seed_of(self.seed, epoch, index))
            return self.transform(image), label


def pipeline(split: ImageSet | Dataset, model, recipe: Recipe, mean, std, place: Place, workers):
    """The pipeline that suits a set of training images."""
    if isinstance(split, ImageSet):
        return DeviceBatches(split, model, recipe, mean, std, place)
    return LoaderBatches(split, model, recipe, mean, std, place, workers)
