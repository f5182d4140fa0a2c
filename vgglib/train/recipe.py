"""How is a network trained, in numbers?

The paper's recipe as a dataclass (§3.1, chapters 3 and 5).
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real

from ..data import Data
from ..precision import PRECISIONS


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
    precision : {"fp32", "bf16", "auto"}
        bf16 uses ``torch.autocast``; weights and optimiser stay in fp32. ``"auto"``: bf16 where the
        device computes in it, else fp32.
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
        def check(name: str, fine: bool, accepted: str):
            if not fine:
                raise ValueError(f"Recipe: {name} must be {accepted}, got {getattr(self, name)!r}")

        def whole(value: object) -> bool:
            return isinstance(value, Integral) and not isinstance(value, bool)

        for name in ("batch_size", "epochs"):
            value = getattr(self, name)
            check(name, whole(value) and value > 0, "a positive integer")
        for name in ("patience", "max_drops", "pad", "seed"):
            value = getattr(self, name)
            check(name, whole(value) and value >= 0, "an integer of at least 0")
        check("seed", self.seed < 2**63, "less than 2 to the power of 63")
        for name in ("flip", "colour_shift", "channels_last"):
            check(name, isinstance(getattr(self, name), bool), "True or False")
        for name in ("lr", "momentum", "weight_decay", "lr_factor", "holdout", "dropout"):
            value = getattr(self, name)
            number = isinstance(value, Real) and not isinstance(value, bool)
            check(name, number or (name == "dropout" and value is None), "a number")
        check("lr", 0 < self.lr < float("inf"), "a positive number")
        check("momentum", 0 <= self.momentum < 1, "in [0, 1)")
        check("weight_decay", 0 <= self.weight_decay < float("inf"), "a number of at least 0")
        check("dropout", self.dropout is None or 0 <= self.dropout < 1, "None or in [0, 1)")
        check("lr_factor", 0 < self.lr_factor < 1, "between 0 and 1")
        check("holdout", 0 <= self.holdout < 1, "in [0, 1)")
        for name, accepted in _CHOICES.items():
            check(name, getattr(self, name) in accepted, f"one of {', '.join(accepted)}")
        if self.scale is not None:
            pair = self.scale if isinstance(self.scale, (tuple, list)) else (self.scale,) * 2
            fine = len(pair) == 2 and all(map(whole, pair)) and 224 <= pair[0] <= pair[1]
            check("scale", fine, "None, S or (S_min, S_max), integers with 224 ≤ S_min ≤ S_max")

    @property
    def _scale(self) -> tuple[int, int]:
        return (self.scale, self.scale) if isinstance(self.scale, Integral) else tuple(self.scale)

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

    def with_settings(self, settings: Iterable[str]) -> Recipe:
        """A copy with fields changed by ``"key=value"`` strings, as a command line has them.

        Raises
        ------
        ValueError
            If a setting has no ``=``, names no field, or its value is not one of the field's.
        """
        changes = {}
        for setting in settings:
            key, equals, text = setting.partition("=")
            if not equals:
                raise ValueError(
                    f"a setting is written key=value, such as lr=0.02; got {setting!r}"
                )
            key, text = key.strip().replace("-", "_"), text.strip()
            if text.lower() in ("none", "true", "false"):
                text = text.capitalize()
            try:
                value = ast.literal_eval(text)
            except (SyntaxError, ValueError):
                value = text  # a word, such as plateau
            changes[key] = value
        try:
            return self.changed(**changes)
        except TypeError as error:
            raise ValueError(str(error)) from None


_CHOICES = {
    "schedule": ("plateau", "one-cycle", "constant"),
    "normalise": ("mean", "mean-std"),
    "precision": PRECISIONS,
}
