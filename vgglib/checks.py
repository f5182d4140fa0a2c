"""Is an argument what it has to be? One place for each kind of check.

Each function returns the value as a plain Python one, or raises a ValueError that names the
argument, what is accepted and what was given.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from numbers import Integral, Real
from typing import Any


def whole(name: str, value: object, least: int = 1, why: str = "") -> int:
    """A whole number of at least ``least``, of Python's or of NumPy's types."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        accepted = "a positive integer" if least == 1 else f"an integer of at least {least}"
        accepted += why and f" ({why})"
        raise ValueError(f"{name} must be {accepted}, got {value!r}")
    return int(value)


def span(name: str, value: Any, least: int) -> tuple[int, int]:
    """A scale S, or (S_min, S_max), as a pair of whole numbers of at least ``least``."""
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    try:
        low, high = (whole(name, side, least) for side in pair)
        return low, whole(name, high, low)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name} must be S or (S_min, S_max), whole numbers with {least} ≤ S_min ≤ S_max, got "
            f"{value!r}"
        ) from None


def real(name: str, value: Any, interval: str = "(-∞, ∞)", such_as: str = "") -> float:
    """A number in an interval such as ``"[0, 1)"``; a round bracket leaves the end out."""
    low, high = (float(end.replace("∞", "inf")) for end in interval[1:-1].split(","))
    fine = isinstance(value, Real) and not isinstance(value, bool)
    fine = fine and low <= value <= high
    if fine and value in (low, high):
        fine = interval[0 if value == low else -1] in "[]"
    if not fine:
        kind = {"(-∞, ∞)": "a finite number", "(0, ∞)": "a positive number"}
        accepted = kind.get(interval, f"a number in {interval}") + (
            such_as and f" such as {such_as}"
        )
        raise ValueError(f"{name} must be {accepted}, got {value!r}")
    return float(value)


def choice(name: str, value: Any, accepted: Collection[str]) -> str:
    """One of several words."""
    if value not in accepted:
        raise ValueError(f"{name} must be one of {', '.join(accepted)}, got {value!r}")
    return value


def labels(values: Any, classes: int, what: str, remedy: str) -> None:
    """Class numbers, if any, in a tensor; ``{}`` in the remedy is how many classes they need."""
    if not len(values):
        return
    low, high = int(values.min()), int(values.max())
    if not 0 <= low <= high < classes:
        raise ValueError(
            f"{what} holds the classes {low} … {high}, where there are 0 … {classes - 1}; "
            + remedy.format(high + 1)
        )


def channels(
    name: str, values: Any, number: int | None = None, *, positive: bool = False
) -> tuple[float, ...]:
    """A finite number for each channel, as a mean or a standard deviation has."""
    try:
        found = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        found = ()
    wrong = not found or (number is not None and len(found) != number)
    if wrong or not all(map(math.isfinite, found)) or (positive and min(found) <= 0):
        wanted = f"{number or 'finite'} {'positive ' * positive}numbers"
        raise ValueError(f"{name} must be {wanted}, one a channel, got {values!r}")
    return found
