"""How is a network trained?

The paper's recipe as a dataclass and one training loop (§3.1, chapters 3 and 5): mini-batch
gradient descent with momentum, L2 and dropout, and a learning rate that is divided by ten whenever
the validation accuracy stops improving.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm.auto import tqdm

from .augment import ColourShift, batch_crops, normalise, rgb_pca, training_crop
from .data import Data, ImageSet
from .evaluate import Transformed, check_labels, evaluate
from .model import VGG


@dataclass(frozen=True)
class Recipe:
    """Everything that decides how a net is trained; the defaults are the paper's (§3.1).

    Parameters
    ----------
    batch_size : int
        Images a step.
    epochs : int
        At most so many passes over the training images; 74 in the paper.
    lr, momentum, weight_decay : float
        Of stochastic gradient descent; weight_decay is the L2 penalty multiplier.
    dropout : float or None
        Probability for the hidden FC layers; None keeps what the net was built with.
    schedule : {"plateau", "one-cycle", "constant"}
        ``"plateau"``: divide as the paper does. ``"one-cycle"``: up to ``lr`` and down to nearly 0
        within ``epochs``, for short runs; not in the paper.
    lr_factor, patience, max_drops : float, int, int
        Plateau: multiply the rate by ``lr_factor`` when more than ``patience`` epochs in a row
        brought no better validation accuracy; training ends when that is due once more after
        ``max_drops`` drops.
    scale : int or (int, int) or None
        S, or (S_min, S_max) for jitter, for crops of 224 px; smaller nets keep the ratio S/224.
        None: images keep their size (small sets only).
    pad : int
        Zero padding before the crop, in pixels (small sets only; see ``batch_crops``).
    flip, colour_shift : bool
        Random mirroring; random RGB shift along the training set's principal colour axes.
    normalise : {"mean", "mean-std"}
        Subtract the mean colour; also divide by the standard deviation.
    holdout : float
        Fraction of the training images kept aside for validation. 0: validate on ``data.test``,
        as the paper does on ILSVRC's validation set.
    precision : {"fp32", "bf16"}
        bf16 uses ``torch.autocast``; weights and optimiser stay in fp32.
    channels_last : bool
        Store images as (N, H, W, C), which convolution kernels prefer.
    seed : int
        Seeds the order of the images, the crops, dropout and the choice of the held-out images.
        The weights are drawn when the net is built: call ``torch.manual_seed`` before.

    Raises
    ------
    ValueError
        If a value is out of its range; the message names the range.
    """

    batch_size: int = 256
    epochs: int = 74
    lr: float = 1e-2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    dropout: float | None = 0.5
    schedule: str = "plateau"
    lr_factor: float = 0.1
    patience: int = 3
    max_drops: int = 3
    scale: int | tuple[int, int] | None = 256
    pad: int = 0
    flip: bool = True
    colour_shift: bool = True
    normalise: str = "mean"
    holdout: float = 0.0
    precision: str = "fp32"
    channels_last: bool = True
    seed: int = 0

    @classmethod
    def paper(cls, **changes) -> Recipe:
        """The recipe of §3.1 for S = 256; keyword arguments change single fields.

        ``patience`` is ours: the paper says only that the validation accuracy stopped improving.
        """
        return cls(**changes)

    @classmethod
    def small(cls, **changes) -> Recipe:
        """Our quick recipe for 32-px images on a CPU: short, one-cycle, bf16, pad-and-crop."""
        ours = dict(
            batch_size=128,
            epochs=8,
            lr=0.02,
            dropout=None,
            schedule="one-cycle",
            scale=None,
            pad=4,
            colour_shift=False,
            normalise="mean-std",
            precision="bf16",
        )
        return cls(**(ours | changes))

    def __post_init__(self):
        def check(name: str, fine: bool, accepted: str):
            if not fine:
                raise ValueError(f"Recipe: {name} must be {accepted}, got {getattr(self, name)!r}")

        for name in ("batch_size", "epochs"):
            value = getattr(self, name)
            check(name, isinstance(value, int) and value > 0, "a positive integer")
        for name in ("patience", "max_drops", "pad", "seed"):
            value = getattr(self, name)
            check(name, isinstance(value, int) and value >= 0, "an integer of at least 0")
        check("lr", 0 < self.lr < float("inf"), "a positive number")
        check("momentum", 0 <= self.momentum < 1, "in [0, 1)")
        check("weight_decay", 0 <= self.weight_decay < float("inf"), "a number of at least 0")
        check("dropout", self.dropout is None or 0 <= self.dropout < 1, "None or in [0, 1)")
        check("lr_factor", 0 < self.lr_factor < 1, "between 0 and 1")
        check("holdout", 0 <= self.holdout < 1, "in [0, 1)")
        for name, accepted in _CHOICES.items():
            check(name, getattr(self, name) in accepted, f"one of {', '.join(accepted)}")
        if self.scale is not None:
            low, high = self._scale
            check("scale", 224 <= low <= high, "None, S or (S_min, S_max) with 224 ≤ S_min ≤ S_max")

    @property
    def _scale(self) -> tuple[int, int]:
        return (self.scale, self.scale) if isinstance(self.scale, int) else tuple(self.scale)

    def scale_for(self, image_size: int) -> tuple[int, int] | None:
        """(S_min, S_max) in pixels for crops of ``image_size``: 256 at 224 px is 37 at 32 px."""
        if self.scale is None:
            return None
        low, high = self._scale
        return round(low * image_size / 224), round(high * image_size / 224)

    def normalisation(self, data: Data) -> tuple[tuple[float, ...], tuple[float, ...] | None]:
        """(mean, std) of a data set as this recipe uses them; std is None for ``"mean"``."""
        mean = tuple(float(value) for value in data.mean)
        std = tuple(float(value) for value in data.std)
        return (mean, std) if self.normalise == "mean-std" else (mean, None)

    def changed(self, **changes) -> Recipe:
        """A copy with some fields changed; an unknown field is a TypeError that lists them all."""
        known = [f.name for f in fields(self)]
        unknown = sorted(set(changes) - set(known))
        if unknown:
            raise TypeError(f"Recipe has no {', '.join(unknown)}; it has {', '.join(known)}")
        return replace(self, **changes)


_CHOICES = {
    "schedule": ("plateau", "one-cycle", "constant"),
    "normalise": ("mean", "mean-std"),
    "precision": ("fp32", "bf16"),
}


def train(
    model: VGG,
    data: Data,
    recipe: Recipe,
    *,
    device: str | torch.device | None = None,
    progress: bool = True,
    on_epoch: Callable[[dict], object] | None = None,
    workers: int = 4,
) -> pd.DataFrame:
    """Train a network, in place (§3.1).

    In-memory sets are moved to the device once, as uint8, and their crops are made there in
    batches; datasets of PIL images go through ``training_crop`` in worker processes.

    Parameters
    ----------
    model : VGG
        Moved to ``device`` and left there, in evaluation mode.
    data : Data
        From ``vgglib.data.load``.
    recipe : Recipe
    device : str or torch.device, optional
        The GPU where there is one, else the CPU.
    progress : bool
        Show a tqdm bar.
    on_epoch : callable, optional
        Called after each epoch with the epoch's row as a dict; training ends if it returns True.
    workers : int
        Processes that read and crop images from disk.

    Returns
    -------
    DataFrame
        A row an epoch: ``epoch`` (from 1), ``lr``, ``train_loss`` and ``train_accuracy`` (on the
        augmented crops, with dropout), ``val_loss``, ``val_accuracy``, ``seconds`` (of training,
        without validation). Accuracies are fractions. ``attrs["stopped"]`` says why it ended.

    Raises
    ------
    ValueError
        If the data does not suit the net or the recipe; the message says what to change.

    Warns
    -----
    RuntimeWarning
        If the loss stops being finite, which ends the training.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    training, validation = _split(data, recipe)
    mean, std = recipe.normalisation(data)
    if recipe.dropout is not None:
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = recipe.dropout
    torch.manual_seed(recipe.seed)
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    model.to(device, memory_format=layout)
    source = (_DeviceBatches if isinstance(training, ImageSet) else _LoaderBatches)(
        training, model, recipe, mean, std, device, workers
    )
    optimiser = torch.optim.SGD(
        model.parameters(),
        recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        fused=device.type in ("cpu", "cuda"),
    )
    scheduler = _scheduler(optimiser, recipe, len(source))
    rows, drops, stopped = [], 0, "all epochs done"
    bar = tqdm(range(1, recipe.epochs + 1), desc=model.config.name, disable=not progress)
    for epoch in bar:
        start, lr = time.perf_counter(), optimiser.param_groups[0]["lr"]
        loss, accuracy = _epoch(model, source, optimiser, scheduler, recipe, device, layout)
        seconds = time.perf_counter() - start
        tested = evaluate(model, validation, mean, std, precision=recipe.precision, workers=workers)
        row = {
            "epoch": epoch,
            "lr": lr,
            "train_loss": loss,
            "train_accuracy": accuracy,
            "val_loss": tested["loss"],
            "val_accuracy": tested["top1"],
            "seconds": seconds,
        }
        rows.append(row)
        bar.set_postfix(loss=f"{loss:.3f}", val=f"{tested['top1']:.1%}", lr=f"{lr:.0e}")
        if not loss < float("inf"):  # also true for NaN
            stopped = f"the loss became {loss} in epoch {epoch}"
            warnings.warn(
                f"{model.config.name}: {stopped}; the usual causes are an initialisation that lets "
                "the signal grow from layer to layer (see vgglib.signal) or a learning rate that "
                f"is too high (here {lr:g})",
                RuntimeWarning,
                stacklevel=2,
            )
            break
        if recipe.schedule == "plateau":
            scheduler.step(tested["top1"])
            if optimiser.param_groups[0]["lr"] < lr:
                drops += 1
                if drops > recipe.max_drops:
                    stopped = f"no better validation accuracy after {recipe.max_drops} drops"
                    break
        if on_epoch is not None and on_epoch(row) is True:
            stopped = "on_epoch asked for it"
            break
    model.eval()
    history = pd.DataFrame(rows)
    history.attrs["stopped"] = stopped
    return history


def _split(data: Data, recipe: Recipe) -> tuple[ImageSet | Dataset, ImageSet | Dataset]:
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


def _scheduler(optimiser, recipe: Recipe, steps: int):
    if recipe.schedule == "plateau":
        return torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimiser,
            mode="max",
            factor=recipe.lr_factor,
            patience=recipe.patience,
            threshold=0,
            eps=0,  # torch's default leaves out drops of less than 1e-8
        )
    if recipe.schedule == "one-cycle":
        return torch.optim.lr_scheduler.OneCycleLR(
            optimiser, recipe.lr, total_steps=recipe.epochs * steps, cycle_momentum=False
        )
    return None


def _epoch(model, source, optimiser, scheduler, recipe, device, layout) -> tuple[float, float]:
    """One pass over the training images; returns mean loss and accuracy."""
    model.train()
    loss_sum = torch.zeros((), device=device)
    hits = torch.zeros((), dtype=torch.long, device=device)
    count = 0
    for images, labels in source:
        images = images.contiguous(memory_format=layout)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            scores = model(images)
        loss = F.cross_entropy(scores.float(), labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if recipe.schedule == "one-cycle":
            scheduler.step()
        # Summed on the device: reading a number each step would make the GPU wait for the CPU.
        loss_sum += loss.detach() * len(labels)
        hits += (scores.argmax(1) == labels).sum()
        count += len(labels)
    return loss_sum.item() / count, hits.item() / count


class _DeviceBatches:
    """Shuffled, augmented batches of an in-memory set, made on the device."""

    def __init__(self, split: ImageSet, model, recipe, mean, std, device, workers):
        if len(split) == 0:
            raise ValueError("there are no training images")
        check_labels(split.labels, model)
        self.images, self.labels = split.images.to(device), split.labels.to(device)
        self.size, self.recipe, self.mean, self.std = model.image_size, recipe, mean, std
        self.batch = min(recipe.batch_size, len(split))
        self.order = torch.Generator().manual_seed(recipe.seed)
        self.draws = torch.Generator(device).manual_seed(recipe.seed)
        self.shift = ColourShift(*rgb_pca(split.images[:10_000])) if recipe.colour_shift else None
        side, scale = split.images.shape[-1], recipe.scale_for(model.image_size)
        if scale is None and side + 2 * recipe.pad < model.image_size:
            raise ValueError(
                f"the images are {side} px and the net takes {model.image_size} px; build it with "
                f"image_size={side}, or let the recipe rescale (scale=256)"
            )

    def __len__(self) -> int:
        return len(self.images) // self.batch  # whole batches only

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.images), generator=self.order).to(self.images.device)
        for part in order[: len(self) * self.batch].split(self.batch):
            images = batch_crops(
                self.images[part],
                self.size,
                scale=self.recipe.scale_for(self.size),
                pad=self.recipe.pad,
                flip=self.recipe.flip,
                generator=self.draws,
            )
            if self.shift is not None:
                images = self.shift(images, self.draws)
            yield normalise(images, self.mean, self.std), self.labels[part]


class _LoaderBatches:
    """Shuffled, augmented batches of a dataset of PIL images, made by worker processes."""

    def __init__(self, split: Dataset, model, recipe, mean, std, device, workers):
        if recipe.scale is None:
            raise ValueError(
                "images read from disk have no common size: the recipe needs a scale, such as "
                "scale=256 or scale=(256, 512)"
            )
        if recipe.pad:
            raise ValueError(f"pad={recipe.pad} is for small in-memory sets; set pad=0")
        low, high = recipe.scale_for(model.image_size)
        crop = training_crop(
            (low, high),
            model.image_size,
            flip=recipe.flip,
            colour_shift=ColourShift() if recipe.colour_shift else None,
            mean=mean,
            std=std,
        )
        self.device = device
        self.loader = DataLoader(
            Transformed(split, crop),
            batch_size=min(recipe.batch_size, len(split)),
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
            generator=torch.Generator().manual_seed(recipe.seed),
        )

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in self.loader:
            yield (
                images.to(self.device, non_blocking=True),
                labels.to(self.device, non_blocking=True),
            )
