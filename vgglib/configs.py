"""Which layers does each of the six networks have?

Table 1 of Simonyan & Zisserman (ICLR 2015) as data, and nothing else. Chapter 1 reads it aloud.
A network is a sequence of *stages*; a stage is a sequence of convolutions (each followed by a
ReLU) and ends in a 2×2 max-pool of stride 2, which is therefore not written down. After the last
stage come two hidden fully connected layers and the classifier.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from types import MappingProxyType

from . import checks


@dataclass(frozen=True)
class Conv:
    """One convolution of stride 1, padded so that height and width stay the same (§2.1).

    Parameters
    ----------
    channels : int
        Output channels at width 1.0.
    kernel : int
        Side of the square kernel in pixels; odd, so that "same" padding exists.
    """

    channels: int
    kernel: int = 3

    def __post_init__(self):
        object.__setattr__(self, "channels", checks.whole("Conv: channels", self.channels))
        if not isinstance(self.kernel, Integral) or self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(
                f"Conv: kernel must be a positive odd integer (1, 3, 5, …), got {self.kernel!r}; "
                "an even kernel has no padding that keeps the image size"
            )

        object.__setattr__(self, "kernel", int(self.kernel))

    def __str__(self) -> str:
        return f"conv{self.kernel}-{self.channels}"  # the notation of Table 1


@dataclass(frozen=True)
class LRN:
    """Local response normalisation with AlexNet's constants (§2.1, net A-LRN).

    AlexNet divides by ``(k + α Σ a²)^β`` over ``size`` neighbouring channels; PyTorch averages
    over the neighbours instead of summing, so its ``alpha`` has to be ``size`` times as large.
    """

    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 2.0

    @property
    def torch_alpha(self) -> float:
        """The ``alpha`` that makes ``torch.nn.LocalResponseNorm`` the paper's operation."""
        return self.alpha * self.size

    def __str__(self) -> str:
        return "LRN"


@dataclass(frozen=True)
class Config:
    """A network as data: stages of convolutions, then the widths of the hidden FC layers.

    Parameters
    ----------
    name : str
        What the network is called, e.g. ``"D"``.
    stages : tuple of tuples of Conv or LRN
        One inner tuple per stage; a 2×2 max-pool of stride 2 ends each.
    hidden : tuple of int
        Widths of the hidden fully connected layers; ``()`` leaves only the classifier.

    Raises
    ------
    ValueError, TypeError
        If a stage is empty, holds something other than Conv and LRN, or an LRN that follows no
        convolution; if ``hidden`` is not a tuple of positive integers.
    """

    name: str
    stages: tuple[tuple[Conv | LRN, ...], ...]
    hidden: tuple[int, ...] = (4096, 4096)

    def __post_init__(self):
        if not isinstance(self.stages, tuple) or not self.stages:
            raise ValueError(
                f"Config {self.name!r}: stages must be a non-empty tuple of tuples such as "
                f"((Conv(64),), (Conv(128),)), got {self.stages!r}"
            )
        for number, stage in enumerate(self.stages, start=1):
            if not isinstance(stage, tuple) or not stage:
                raise ValueError(
                    f"Config {self.name!r}: stage {number} must be a non-empty tuple such as "
                    f"(Conv(64),), got {stage!r}"
                )
            for layer in stage:
                if not isinstance(layer, Conv | LRN):
                    raise TypeError(
                        f"Config {self.name!r}, stage {number}: got {layer!r}; write Conv(64) for "
                        "a 3×3 convolution with 64 channels, LRN() for response normalisation"
                    )
            for before, layer in zip((None, *stage), stage, strict=False):
                if isinstance(layer, LRN) and not isinstance(before, Conv):
                    raise ValueError(
                        f"Config {self.name!r}, stage {number}: LRN() follows "
                        f"{before or 'nothing'}; it normalises the output of a convolution, so "
                        "put it after a Conv(…)"
                    )
        if not isinstance(self.hidden, tuple) or any(
            not isinstance(units, Integral) or units < 1 for units in self.hidden
        ):
            raise ValueError(
                f"Config {self.name!r}: hidden must be a tuple of positive integers such as "
                f"(4096, 4096), or () for none, got {self.hidden!r}"
            )
        object.__setattr__(self, "hidden", tuple(map(int, self.hidden)))

    @property
    def convs(self) -> tuple[Conv, ...]:
        """All convolutions, first to last."""
        return tuple(layer for stage in self.stages for layer in stage if isinstance(layer, Conv))

    @property
    def weight_layers(self) -> int:
        """Layers that hold weights: convolutions, hidden FC layers and the classifier (Table 1)."""
        return len(self.convs) + len(self.hidden) + 1

    def __str__(self) -> str:
        stages = [" ".join(map(str, stage)) for stage in self.stages]
        hidden = " ".join(f"FC-{units}" for units in self.hidden)
        return f"{self.name}: " + " | ".join([*stages, hidden] if hidden else stages)


def _config(name: str, *stages: list[int | Conv | LRN]) -> Config:
    """A Config in shorthand: a bare integer is a 3×3 convolution with that many channels."""
    return Config(
        name,
        tuple(
            tuple(Conv(layer) if isinstance(layer, int) else layer for layer in stage)
            for stage in stages
        ),
    )


#: The six networks of Table 1, by the letter of their column.
CONFIGS: MappingProxyType[str, Config] = MappingProxyType(
    {
        config.name: config
        for config in (
            _config("A", [64], [128], [256] * 2, [512] * 2, [512] * 2),
            _config("A-LRN", [64, LRN()], [128], [256] * 2, [512] * 2, [512] * 2),
            _config("B", [64] * 2, [128] * 2, [256] * 2, [512] * 2, [512] * 2),
            _config(
                "C",
                [64] * 2,
                [128] * 2,
                [256, 256, Conv(256, kernel=1)],
                [512, 512, Conv(512, kernel=1)],
                [512, 512, Conv(512, kernel=1)],
            ),
            _config("D", [64] * 2, [128] * 2, [256] * 3, [512] * 3, [512] * 3),
            _config("E", [64] * 2, [128] * 2, [256] * 4, [512] * 4, [512] * 4),
        )
    }
)

#: torchvision's names for the columns it has.
ALIASES: MappingProxyType[str, str] = MappingProxyType(
    {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}
)


def resolve(name: str | Config, batch_norm: bool = False) -> tuple[Config, bool]:
    """The configuration that a name stands for, and whether the net has batch norm.

    Names are those of Table 1's columns and torchvision's; what one without ``_bn`` leaves open,
    ``batch_norm`` says. Another one is a ValueError or a TypeError that lists them.
    """
    if isinstance(name, Config):
        return name, batch_norm
    accepted = [*CONFIGS, *ALIASES, *(f"{alias}_bn" for alias in ALIASES)]
    if not isinstance(name, str):
        raise TypeError(
            f"a net is named by a string ({', '.join(accepted)}) or given as a Config, "
            f"got {type(name).__name__}"
        )
    if name not in accepted:
        raise ValueError(f"unknown net {name!r}; accepted are {', '.join(accepted)} or a Config")
    if name.endswith("_bn"):
        name, batch_norm = name.removesuffix("_bn"), True
    return CONFIGS[ALIASES.get(name, name)], batch_norm
