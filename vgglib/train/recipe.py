"""How is a network trained, in numbers?

The paper's recipe as a dataclass (§3.1, chapters 3 and 5).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ..checks import choice, real, span, whole
from ..data import Data
from ..precision import PRECISIONS

SCHEDULES = ("plateau", "one-cycle", "constant", "cosine", "step")
#: Schedules that end with the last epoch: another number of epochs is another schedule.
MADE_FOR_EPOCHS = ("one-cycle", "cosine")


def _checked(default: object, check: Callable, accepted: object) -> Any:
    """A field with its default, and the check and the range of what it may be."""
    return field(default=default, metadata={"check": check, "accepted": accepted})


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
    optimizer : {"sgd", "adamw"}
        Gradient descent with momentum and L2, as in the paper; or AdamW, whose ``weight_decay`` is
        decoupled from the gradient (Loshchilov & Hutter, 2019) and which needs no ``momentum``.
    schedule : {"plateau", "one-cycle", "constant", "cosine", "step"}
        ``"plateau"``: divide as the paper does. The others are not in the paper. ``"one-cycle"``:
        up to ``lr`` and down to nearly 0 within ``epochs``, for short runs. ``"cosine"``: down to 0
        along half a cosine. ``"step"``: times ``lr_factor`` after each epoch of ``milestones``.
    warmup : float
        Epochs in which the rate rises from 0 to ``lr`` first; not with ``"plateau"`` and
        ``"one-cycle"``.
    milestones : tuple of int
        Of the schedule ``"step"``.
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
    cutout : int
        Side in pixels of a square of each crop that is covered by the mean colour; 0 for none, as
        in the paper.
    label_smoothing : float
        Share of the target that is spread over all classes; 0 in the paper.
    clip : float or None
        Largest norm of the gradient of all weights together; None, as in the paper, for no limit.
    normalise : {"mean", "mean-std"}
        Subtract the mean colour; also divide by the standard deviation. A net that knows how its
        images are normalised (``net.pixels``), as trained ones do, goes on with that.
    holdout : float
        Fraction of the training images kept aside for validation. 0: validate on ``data.test``,
        as the paper does on ILSVRC's validation set.
    precision : {"fp32", "tf32", "bf16", "fp16", "auto"}
        Of the products; weights and optimiser stay in fp32. fp16 comes with a scaled loss, and
        ``"auto"`` is bf16, fp16 or fp32 by the device: see :mod:`vgglib.precision`.
    channels_last : bool
        Store images as (N, H, W, C), which convolution kernels prefer on a GPU and in bf16. A CPU
        that computes in 32 bits keeps (N, C, H, W), in which its backward pass is faster.
    seed : int
        Seeds the order of the images, the crops, dropout and the choice of the held-out images.
        The weights are drawn when the net is built: call ``torch.manual_seed`` before.

    Raises
    ------
    ValueError
        If a value is out of its range; the message names the range.
    """

    batch_size: int = _checked(256, whole, 1)
    epochs: int = _checked(74, whole, 1)
    lr: float = _checked(1e-2, real, "(0, ∞)")
    momentum: float = _checked(0.9, real, "[0, 1)")
    weight_decay: float = _checked(5e-4, real, "[0, ∞)")
    dropout: float | None = _checked(0.5, real, "[0, 1)")
    optimizer: str = _checked("sgd", choice, ("sgd", "adamw"))
    schedule: str = _checked("plateau", choice, SCHEDULES)
    warmup: float = _checked(0.0, real, "[0, ∞)")
    milestones: tuple[int, ...] = ()
    lr_factor: float = _checked(0.1, real, "(0, 1)")
    patience: int = _checked(3, whole, 0)
    max_drops: int = _checked(3, whole, 0)
    scale: int | tuple[int, int] | None = 256
    pad: int = _checked(0, whole, 0)
    flip: bool = True
    colour_shift: bool = True
    cutout: int = _checked(0, whole, 0)
    label_smoothing: float = _checked(0.0, real, "[0, 1)")
    clip: float | None = _checked(None, real, "(0, ∞)")
    normalise: str = _checked("mean", choice, ("mean", "mean-std"))
    holdout: float = _checked(0.0, real, "[0, 1)")
    precision: str = _checked("fp32", choice, PRECISIONS)
    channels_last: bool = True
    seed: int = _checked(0, whole, 0)

    @classmethod
    def paper(cls, **changes) -> Recipe:
        """The recipe of §3.1 for S = 256; keyword arguments change single fields.

        ``patience`` is ours: the paper says only that the validation accuracy stopped improving.
        """
        return cls(**changes)

    @classmethod
    def small(cls, **changes) -> Recipe:
        """Our quick recipe for 32-px images on a CPU: short, one-cycle, pad-and-crop."""
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
            precision="auto",
        )
        return cls(**(ours | changes))

    def __post_init__(self):
        for one in fields(self):
            name, value = one.name, getattr(self, one.name)
            if one.metadata and not (value is None and name in ("dropout", "clip")):
                # As a plain Python value: a checkpoint writes it as JSON.
                plain = one.metadata["check"](f"Recipe: {name}", value, one.metadata["accepted"])
                object.__setattr__(self, name, plain)
        for name in ("flip", "colour_shift", "channels_last"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(
                    f"Recipe: {name} must be True or False, got {getattr(self, name)!r}"
                )
        if self.warmup and self.schedule in ("plateau", "one-cycle"):
            raise ValueError(
                f"Recipe: warmup must be 0 with schedule={self.schedule!r}, got {self.warmup!r}; "
                "take cosine, step or constant"
            )
        if (self.schedule == "step") != bool(self.milestones):
            raise ValueError(
                "Recipe: milestones, the epochs after which the rate falls, belong to "
                f"schedule='step', got {self.milestones!r} with {self.schedule!r}"
            )
        given = self.milestones if isinstance(self.milestones, tuple | list) else (self.milestones,)
        epochs = tuple(whole("Recipe: milestones", epoch) for epoch in given)
        object.__setattr__(self, "milestones", epochs)
        if self.seed >= 2**63:
            raise ValueError(
                f"Recipe: seed must be less than 2 to the power of 63, got {self.seed!r}"
            )
        if self.scale is not None:
            low, high = span("Recipe: scale, if not None,", self.scale, 224)
            pair = isinstance(self.scale, tuple | list)
            object.__setattr__(self, "scale", (low, high) if pair else low)

    def scale_for(self, image_size: int) -> tuple[int, int] | None:
        """(S_min, S_max) in pixels for crops of ``image_size``: 256 at 224 px is 37 at 32 px."""
        if self.scale is None:
            return None
        low, high = span("scale", self.scale, 224)
        return round(low * image_size / 224), round(high * image_size / 224)

    def normalisation(self, data: Data) -> tuple[tuple[float, ...], tuple[float, ...] | None]:
        """(mean, std) of a data set as this recipe uses them; std is None for ``"mean"``."""
        std = tuple(map(float, data.std)) if self.normalise == "mean-std" else None
        return tuple(map(float, data.mean)), std

    def changed(self, **changes) -> Recipe:
        """A copy with some fields changed; an unknown field is a TypeError that lists them all."""
        known = [f.name for f in fields(self)]
        unknown = sorted(set(changes) - set(known))
        if unknown:
            raise TypeError(f"Recipe has no {', '.join(unknown)}; it has {', '.join(known)}")
        return replace(self, **changes)

    def changed_in_a_run(self, change: Mapping[str, object]) -> Recipe:
        """A copy with fields changed that may change in the middle of a run; a ValueError else."""
        allowed = {"momentum", "weight_decay"}
        why = f"a {self.schedule} schedule is made for its epochs and its lr, and "
        if self.schedule not in MADE_FOR_EPOCHS:
            allowed, why = allowed | {"epochs", "lr", "max_drops"}, ""
        wrong = sorted(set(change) - allowed)
        if wrong:
            raise ValueError(
                f"change takes {', '.join(sorted(allowed))}, got {', '.join(wrong)}: {why}with "
                "other fields the rest would be another run; start one in another folder, out= "
                "(--out), from these weights (--weights)"
            )
        return self.changed(**change)

    def with_settings(self, settings: Iterable[str]) -> Recipe:
        """A copy with fields changed by ``"key=value"`` strings, as a command line has them.

        Raises
        ------
        ValueError
            If a setting has no ``=``, names no field, or its value is not one of the field's.
        """
        try:
            return self.changed(**parsed(settings))
        except TypeError as error:
            raise ValueError(str(error)) from None


def parsed(settings: Iterable[str]) -> dict[str, object]:
    """``"key=value"`` strings as names and Python values; a ValueError if one has no ``=``."""
    values = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"a setting is written key=value, such as lr=0.02; got {setting!r}")
        key, text = key.strip().replace("-", "_"), text.strip()
        if text.lower() in ("none", "true", "false"):
            text = text.capitalize()
        try:
            value = ast.literal_eval(text)
        except (SyntaxError, ValueError):
            value = text  # a word, such as plateau
        values[key] = value
    return values
