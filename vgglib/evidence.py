"""Does a recorded run decide a claim?

The rule of the course's verdicts. Runs of two settings that share a seed make a pair, and what
counts is the mean of the paired differences with its 95 % t-interval: a claim *holds at our scale*
if the whole interval lies on its side of zero, is *contrary at our scale* if it lies on the other,
and is *undecided* if it holds zero or there are fewer than three pairs. Seeds cover the start, the
order of the images and the crops; most records share their test images between all seeds, whose
choice is not covered then.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from .checks import choice, real
from .extras import extra
from .recorded import recorded

#: What a claim can be said to be, from the first to the last kind of certainty.
VERDICTS = (
    "holds",
    "holds at our scale",
    "refuted",
    "contrary at our scale",
    "undecided",
    "not run",
)
#: Two differences that happen to be equal, as two of 200 test images often are, have no spread.
FEWEST_SEEDS = 3
_MOST_SEEDS = 1000


@dataclass(frozen=True)
class Comparison:
    """Two settings of a recorded run, and the claim that one exceeds the other.

    Attributes
    ----------
    first, second : str
        Labels of the runs.
    claim : {"<", ">"}
        ``first`` is claimed to be below, or above, ``second``.
    slack : float
        Points that are allowed to the other side.
    values : tuple of (float, float)
        Both settings' values for each seed that they share, in points (per cent of the images).
    measure : str
        What the values are, as the record names it.
    """

    first: str
    second: str
    claim: str
    slack: float
    values: tuple[tuple[float, float], ...]
    measure: str = "test_accuracy"

    @property
    def differences(self) -> list[float]:
        """``first`` minus ``second``, a number a seed."""
        return [a - b for a, b in self.values]

    @property
    def mean(self) -> float:
        """The mean difference in points; NaN without a shared seed."""
        return statistics.mean(self.differences) if self.values else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % t-interval of the mean difference; of fewer than two seeds it is unbounded."""
        half = _half(self.differences, len(self.values))
        return self.mean - half, self.mean + half

    @property
    def verdict(self) -> str:
        """One of :data:`VERDICTS`, by the rule."""
        if not self.values:
            return "not run"
        if len(self.values) < FEWEST_SEEDS:
            return "undecided"
        low, high = (bound - self._limit for bound in self.interval)
        if self.claim == "<":
            low, high = -high, -low
        return (
            "holds at our scale"
            if low > 0
            else "contrary at our scale"
            if high < 0
            else "undecided"
        )

    @property
    def _limit(self) -> float:
        return (self.slack if self.claim == "<" else -self.slack) or 0.0  # no minus zero

    def seeds_to_decide(self) -> int | None:
        """How many seeds would, if mean and spread stay as they are; None: more than a thousand.

        Of new runs as many decide about every second time, as their mean is another one.
        """
        distance = abs(self.mean - self._limit)
        counts = range(FEWEST_SEEDS, _MOST_SEEDS + 1)
        return next((n for n in counts if _half(self.differences, n) < distance), None)

    def __str__(self) -> str:
        if not self.values:
            return f"{self.first} {self.claim} {self.second}: not run with a seed in common"
        width = max(map(len, (self.first, self.second)))
        means = [statistics.mean(column) for column in zip(*self.values, strict=True)]
        seeds = f"mean of {len(self.values)} seeds" if len(self.values) > 1 else "one seed"
        lines = [f"{self.measure.replace('_', ' ')} in per cent, {seeds}"]
        lines += [
            f"{label:{width}s} {mean:5.1f}"
            for label, mean in zip((self.first, self.second), means, strict=True)
        ]
        text = f"difference {self.mean:+.1f} points"
        if len(self.values) > 1:
            low, high = self.interval
            text += f", 95 % interval {low:+.1f} to {high:+.1f}"
        word = "above" if self.claim == ">" else "below"
        lines += [text, f"claimed {word} {self._limit:g}: {self.verdict}"]
        if self.verdict == "undecided" and len(self.values) > 1:
            enough = self.seeds_to_decide()
            more = f"{enough} seeds" if enough else f"more than {_MOST_SEEDS:,} seeds"
            lines.append(f"a difference of this size is decided by {more} in one case of two")
        return "\n".join(lines)


def _half(differences: list[float], count: int) -> float:
    """Half the width of the 95 % t-interval, if there were ``count`` of these differences."""
    if len(differences) < 2:
        return math.inf
    with extra("inside"):
        from scipy.stats import t

    return float(t.ppf(0.975, count - 1)) * statistics.stdev(differences) / math.sqrt(count)


def compare(
    record: str,
    first: str,
    claim: str,
    second: str,
    *,
    measure: str = "test_accuracy",
    slack: float = 0.0,
) -> Comparison:
    """Compare two settings of a recorded run, seed by seed.

    Parameters
    ----------
    record : str
        As for :func:`vgglib.recorded`. A run that nobody has recorded gives ``"not run"``.
    first, second : str
        Labels of the run.
    claim : {"<", ">"}
        That ``first`` is below, or above, ``second``.
    measure : str
        What is compared, a fraction of the images; of an error less is better, so turn ``claim``.
    slack : float
        "Not better" needs a size below which nobody would care: with ``"<"`` and 0.5, ``first`` is
        claimed to be less than half a point above ``second``.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        If ``claim`` is neither of the two, the labels are one, or a run of them lacks ``measure``,
        has something else there than a finite number, or is recorded twice.

    Examples
    --------
    >>> print(vgglib.compare("depth_converged", "B + batch norm", ">", "A + batch norm"))
    """
    choice("claim", claim, ("<", ">"))
    slack = real("slack", slack)
    if first == second:
        raise ValueError(f"compare takes two settings, got {first!r} twice")
    found: dict[str, dict[int, float]] = {first: {}, second: {}}
    run = recorded(record) or {"runs": []}
    for one in run["runs"]:
        if one["label"] in found:
            if measure not in one:
                raise ValueError(f"{record} has no {measure!r}, only {sorted(one)}")
            label, seed = one["label"], one["seed"]
            if seed in found[label]:
                raise ValueError(f"{record} holds {label!r} with seed {seed} twice")
            what = f"{record}: {measure} of {label!r} with seed {seed}"
            found[label][seed] = 100 * real(what, one[measure])
    shared = sorted(found[first].keys() & found[second].keys())
    pairs = tuple((found[first][seed], found[second][seed]) for seed in shared)
    return Comparison(first, second, claim, slack, pairs, measure)
