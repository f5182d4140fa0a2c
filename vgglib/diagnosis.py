"""Why does this net not train? What one batch and the net's own state tell (chapters 3 to 5).

Each check compares one number with a limit. Those of the start were measured on recorded starts,
those of rate and dropout rest on argument; ``benchmarks/limits.py`` measures all. A cause has
effects: unnormalised images blow up the signal. So what follows from a finding is none of its own:
signal and step are measured as they would be with the images mended and batch norm at work.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from .augment import centre_crop
from .data import Data, ImageSet
from .devices import random_state_kept
from .pictures import read_image
from .pixels import Pixels
from .prepared import preparation
from .train.recipe import Recipe

#: Images that are looked at, at most, and pixels of them all: a plain D at 224 px keeps 70 MiB an
#: image for its backward pass.
MOST_IMAGES, MOST_PIXELS = 128, 800_000
SEVERITIES = ("stops", "slows", "look")

#: Gradient against weight decay, |g| / (λ·|w|), the median of the weight layers. Below the second
#: number the decay takes more than the gradient gives (chapter 4). Of the recorded random starts
#: the 20 above it all learned (the least had 1.4), the 23 below the first number did not, and of
#: the 11 between them 3 did.
FADES, BALANCES = 0.1, 1.0
#: Without decay: |g| / |w| below half of the paper's λ.
STARVES = 2.5e-4
#: Loss at the start as a multiple of ln K, the loss of guessing. Recorded starts that learned had
#: up to 1.7 times it, those that ended in NaN at least 17 times.
SURE_AND_WRONG = 5.0
#: The same of a net that was trained: on its own labels it is below 1.
WORSE = 1.2
#: |lr·g| / |w|, the median of the weight layers. Wide limits, by argument: a thousand steps of the
#: first, tenfold by momentum, move the weights by a hundredth; one of the last replaces a third of
#: them. The recorded starts with a balance above 1 had 7e-6 to 4.5e-3.
CRAWLS, LEAPS = 1e-6, 0.3
#: Share of a layer's channels, or units, that no image of the batch makes fire. Of nets at their
#: start it was 0.39 at most, of trained ones 0.51, in narrow FC layers.
DEAD = 0.8
#: Probability of dropout. By argument: where 1 unit in 5 is left, the noise of the mask is twice as
#: large as what it is added to, sqrt(p / (1 - p)); the paper's half makes them equal.
DROPS = 0.8
#: Of a net that has learned: its loss is below this share of ln K.
KNOWS = 0.75
#: Entropy of the net's answers as a share of that of the labels, from which it tells images apart.
TELLS_APART = 0.7
#: Standard errors by which a difference between two losses of the same images counts.
CLEAR = 4.0


@dataclass(frozen=True)
class Finding:
    """One cause, why it is held for one, and what mends it.

    Attributes
    ----------
    cause : str
        In a few words, such as ``"start too small"``.
    severity : {"stops", "slows", "look"}
        Nothing is learned; less than could be; perhaps meant so.
    figure : str
        What was measured.
    limit : str
        What it is compared with, and why.
    remedy : str
        A line of code.
    chapter : int
        Of the book, where it is explained.
    """

    cause: str
    severity: str
    figure: str
    limit: str
    remedy: str
    chapter: int


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """What :func:`diagnose` found; printed, or the last line of a notebook's cell, it is a table.

    Attributes
    ----------
    findings : tuple of Finding
        The most severe first, of these a cause before its effects; empty if there is nothing.
    loss, chance : float
        Cross-entropy of the batch with mended images (NaN if it could not be measured), and that
        of guessing, ln K.
    layers : DataFrame
        A row a weight layer: ``layer``, ``activation_std``, ``gradient_over_decay``,
        ``relative_step`` and ``trained``; empty if nothing could be measured.
    unseen : tuple of str
        What a batch cannot show, or could not of this net.
    """

    findings: tuple[Finding, ...]
    loss: float
    chance: float
    layers: pd.DataFrame
    unseen: tuple[str, ...]

    @property
    def cause(self) -> str | None:
        """The most likely one, in a few words; None if nothing was found."""
        return self.findings[0].cause if self.findings else None

    @property
    def table(self) -> pd.DataFrame:
        """A row a finding."""
        names = [name for name in Finding.__dataclass_fields__]
        return pd.DataFrame([vars(finding) for finding in self.findings], columns=names)

    @property
    def _head(self) -> str:
        found = {0: "nothing found", 1: "1 finding"}
        count = found.get(len(self.findings), f"{len(self.findings)} findings")
        return f"{count}; loss {self.loss:.4g}, guessing has {self.chance:.4g}"

    def __repr__(self) -> str:
        lines = [self._head]
        for number, one in enumerate(self.findings, start=1):
            lines += [
                f"{number}. {one.cause} ({one.severity} the training; chapter {one.chapter})"
                if one.severity != "look"
                else f"{number}. {one.cause} (meant so? chapter {one.chapter})",
                f"   seen:   {one.figure}",
                f"   limit:  {one.limit}",
                f"   remedy: {one.remedy}",
            ]
        return "\n".join([*lines, *(f"Not seen: {text}" for text in self.unseen)])

    def _repr_html_(self) -> str:
        table = self.table.assign(
            remedy=[f"<code>{html.escape(r)}</code>" for r in self.table.remedy]
        )
        for name in ("cause", "figure", "limit"):
            table[name] = [html.escape(text) for text in table[name]]
        rows = table.to_html(index=False, escape=False, border=0) if self.findings else ""
        notes = "".join(f"<li>{html.escape(text)}</li>" for text in self.unseen)
        return f"<p>{html.escape(self._head)}</p>{rows}<p>Not seen:</p><ul>{notes}</ul>"


@dataclass(frozen=True)
class _Rates:
    """The step that an optimiser would take first, a rate a weight."""

    of: dict[str, float]
    decay: float
    adaptive: bool

    @property
    def largest(self) -> float:
        return max(self.of.values())

    def step(self, name: str, gradient: Tensor) -> Tensor:
        return self.of[name] * (gradient.sign() if self.adaptive else gradient)


def diagnose(
    net: nn.Module,
    data: Data | ImageSet | tuple[Tensor, Tensor] | Iterable,
    recipe: Recipe | torch.optim.Optimizer | None = None,
) -> Diagnosis:
    """Name the most likely cause why a net does not train, from one batch.

    Net, modes, gradients, averages of batch norm and random numbers are afterwards what they were.

    Parameters
    ----------
    net : nn.Module
        Maps images (N, C, H, W) to class scores (N, K); on any device.
    data : Data, ImageSet, (images, labels), or an iterable of such pairs
        One batch is taken: of a set of this package up to 128 images, drawn; of a
        DataLoader or another iterable its first batch. Float images are taken as the net gets
        them; uint8 pixels are normalised as :func:`vgglib.train` would, where the net or the set
        knows how. Labels are class numbers (N,) or shares of the classes (N, K).
    recipe : Recipe or Optimizer, optional
        The rate, weight decay and momentum; those of ``Recipe.paper()`` if left out.

    Returns
    -------
    Diagnosis

    Raises
    ------
    TypeError, ValueError
        If the net or the data is of another kind, or there are fewer than 2 images.

    Examples
    --------
    >>> print(vgglib.diagnose(net, data, recipe))
    >>> print(vgglib.diagnose(model, loader, optimizer))
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"diagnose takes a torch.nn.Module, got {type(net).__name__}")
    net = getattr(net, "_orig_mod", net)  # of torch.compile
    some = next((p for p in net.parameters() if p.is_floating_point()), None)
    if some is None:
        raise ValueError("diagnose needs a net with weights, and this one has none")
    rates = _rates(net, recipe)
    with random_state_kept(some.device):
        images, labels, own, likely = _batch(net, data, recipe)
        images, labels = images.to(some.device, some.dtype), labels.to(some.device)
        case = _Case(net, images, labels, rates, own, likely)
        found = sorted(case.findings(), key=lambda one: SEVERITIES.index(one.severity))
    return Diagnosis(
        tuple(found),
        case.seen.loss if case.seen else math.nan,
        case.chance,
        case.seen.layers if case.seen else pd.DataFrame(columns=_LAYERS),
        tuple(case.unseen),
    )


OTHER_LABELS = "labels of other images"
_CAUSES = {
    "unknown": "not centred",
    "wrong range": "in the wrong range",
    "other constants": "normalised otherwise",
}
_LAYERS = ["layer", "activation_std", "gradient_over_decay", "relative_step", "trained"]


@dataclass
class _Seen:
    """What one forward and one backward pass show, and a trial step."""

    scores: Tensor  # (N, K)
    each: Tensor  # (N,) losses
    layers: pd.DataFrame
    dead: dict[str, float]  # ReLU → share that never fires
    after: float  # loss after the trial step

    @property
    def loss(self) -> float:
        return self.each.mean().item()

    def median(self, column: str) -> float:
        values = self.layers[column][self.layers["trained"]]
        return float(values.median()) if len(values) else math.nan


@dataclass
class _Case:
    """A net, its batch, and the checks in the order in which one explains the next."""

    net: nn.Module
    images: Tensor
    labels: Tensor
    rates: _Rates
    own: Pixels | None  # that prepared images have to be of
    likely: tuple[Pixels, ...]
    seen: _Seen | None = None
    chance: float = math.nan
    unseen: list[str] = field(
        default_factory=lambda: [
            "labels that belong to other images, as long as the net has learned nothing: it finds "
            "any labels equally hard (train on 50 images: they should be learned by heart)",
            "what shows only later: a rate that suits the start and not the end, overfitting",
        ]
    )

    def findings(self) -> Iterator[Finding]:
        if finding := self._not_finite():
            yield finding
            return  # nothing can be measured
        with _as_in_training(self.net), torch.no_grad():
            scores = functional_call(self.net, _state(self.net), (self.images,))
        if not isinstance(scores, Tensor) or scores.ndim != 2 or len(scores) != len(self.images):
            got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise ValueError(
                f"diagnose takes a net whose output is scores (N, classes), got {got} for "
                f"{len(self.images)} images"
            )
        self.chance = math.log(max(2, scores.shape[1]))
        if finding := self._labels_fit(scores.shape[1]):
            yield finding
            return
        yield from self._labels_vary()
        yield from self._trained()
        yield from self._batch_norm()
        if finding := _soft_max(scores):
            yield finding
            return  # it starves every layer
        finding, mended = self._preparation()
        self.seen = _look(self.net, mended, self.labels, self.rates)
        troubles = list(self._start_and_step(self.seen))
        if finding:
            given = self._start_and_step(_look(self.net, self.images, self.labels, self.rates))
            causes = {one.cause for one in given}
            if causes - {one.cause for one in troubles}:  # they go with it
                finding = replace(finding, severity="stops")
            yield finding
            troubles = [one for one in troubles if one.cause in causes]
        turned = list(self._reversed(mended))
        yield from (one for one in troubles if not turned or one.cause != OTHER_LABELS)
        yield from turned
        yield from self._dropout()

    # The state ----------------------------------------------------------------------------

    def _not_finite(self) -> Finding | None:
        named = [*self.net.named_parameters(), *self.net.named_buffers()]
        bad = [n for n, v in named if v.is_floating_point() and not torch.isfinite(v).all()]
        if bad:
            return Finding(
                "weights not finite",
                "stops",
                f"NaN or infinite: {', '.join(bad[:3])}{' …' * (len(bad) > 3)}",
                "none may be: a NaN reaches every score, and no step takes it away",
                "net.load_state_dict(start)  # from before, then a smaller rate, or clip=1.0",
                5,
            )
        if not torch.isfinite(self.images).all():
            share = 1 - torch.isfinite(self.images).float().mean().item()
            return Finding(
                "images not finite",
                "stops",
                f"{share:.2g} of the values are NaN or infinite",
                "none may be; a channel of one colour divided by its deviation of 0 is",
                "images = torch.nan_to_num(images)  # or divide by std.clamp(min=1e-3)",
                3,
            )
        return None

    def _labels_fit(self, classes: int) -> Finding | None:
        if self.labels.ndim == 2:
            return None
        low, high = int(self.labels.min()), int(self.labels.max())
        if low >= 0 and high < classes:
            return None
        return Finding(
            "labels do not fit",
            "stops",
            f"labels from {low} to {high}, and {classes} scores",
            f"class numbers go from 0 to {classes - 1}, one for each score",
            "labels = labels - 1"
            if low >= 1 and high == classes
            else f"net.reset_classifier({high + 1})  # or number the classes from 0",
            1,
        )

    def _labels_vary(self) -> Iterator[Finding]:
        classes = self.labels.argmax(1) if self.labels.ndim == 2 else self.labels
        count = len(classes.unique())
        if count == 1 and len(classes) >= 8:
            yield Finding(
                "labels constant",
                "stops",
                f"all {len(classes)} labels of the batch are {int(classes[0])}",
                "mixed classes of equal size give that once in 10^"
                f"{int((len(classes) - 1) * self.chance / math.log(10))} batches: the labels are "
                "wrong, or the images come sorted by class",
                "loader = DataLoader(dataset, batch_size=128, shuffle=True)",
                3,
            )

    def _trained(self) -> Iterator[Finding]:
        sizes = {name: p.numel() for name, p in self.net.named_parameters()}
        trained = {n for n, p in self.net.named_parameters() if p.requires_grad}
        moved = {n for n in trained if self.rates.of[n] > 0}
        held = 1 - sum(sizes[n] for n in moved) / sum(sizes.values())
        why = "have requires_grad=False" if moved == trained else "are not in the optimiser"
        remedy = (
            "net.requires_grad_(True)"
            if moved == trained
            else "optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)"
        )
        if not moved:
            yield Finding(
                "nothing is trained", "stops", f"all weights {why}", "some have to move", remedy, 5
            )
        elif held > 0 and getattr(self.net, "pixels", None) is None:
            yield Finding(
                "weights frozen",
                "look",
                f"{held:.0%} of the weights {why}",
                "right for weights that somebody has trained; random ones stay random",
                remedy,
                8,
            )

    def _batch_norm(self) -> Iterator[Finding]:
        norms = [m for m in self.net.modules() if isinstance(m, _BatchNorm) and _adapts(m)]
        still = [m for m in norms if not m.training]
        fresh = [
            m for m in still if m.num_batches_tracked is not None and m.num_batches_tracked == 0
        ]
        # A net that is evaluated between two epochs is in eval mode as a whole, and has averages.
        if still and (fresh or self.net.training):
            state = "as they were made, mean 0 and variance 1" if fresh else "of earlier batches"
            yield Finding(
                "batch norm in eval mode",
                "slows",
                f"{len(still)} of {len(norms)} batch norms use averages, {state}",
                "in training each uses its batch; averages that no batch has touched normalise "
                "nothing",
                "net.train()  # before each epoch",
                4,
            )

    # The images ---------------------------------------------------------------------------

    def _preparation(self) -> tuple[Finding | None, Tensor]:
        """What is wrong with the images' values, and the images as they should be."""
        found = preparation(self.images, self.own, self.likely)
        mean, std = self.images.mean((0, 2, 3)), self.images.std((0, 2, 3))
        unknown = found.name == "unknown"
        if found.name == "normalised" or (unknown and (mean.abs() <= std).all()):
            return None, self.images
        limits = {
            "unknown": "the mean is larger than the deviation: that is no centre",
            "not normalised": "no value is below 0; every common normalisation makes some",
            "normalised twice": "undone once they are no pixels, undone twice they are",
            "wrong range": "undone with its own range, a preparation gives pixels that fill 0–255",
            "other constants": "weights are worth little with other pixels than their own",
        }
        centred = (self.images - mean.view(-1, 1, 1)) / std.clamp(min=1e-6).view(-1, 1, 1)
        finding = Finding(
            f"images {_CAUSES.get(found.name, found.name)}",
            "slows",
            f"{found.said}; mean {_listed(mean)}, std {_listed(std)}, from "
            f"{self.images.min().item():.3g} to {self.images.max().item():.3g}",
            limits[found.name],
            "images = net.pixels(pixels)  # of 0–255, once"
            if self.own
            else "images = vgglib.Pixels(mean, std)(pixels)  # of 0–255, once",
            3,
        )
        if self.own is not None and found.pixels is not None:
            return finding, self.own(found.pixels)
        return finding, centred

    def _reversed(self, images: Tensor) -> Iterator[Finding]:
        seen = self.seen
        if images.shape[1] != 3 or seen is None:
            return
        turned = _look(self.net, images.flip(1), self.labels, self.rates, trial=False)
        gain = seen.each - turned.each
        errors = gain.mean() / (gain.std() / math.sqrt(len(gain))).clamp(min=1e-12)
        if errors > CLEAR and turned.loss < KNOWS * self.chance:
            yield Finding(
                "channels reversed (BGR)",
                "slows",
                f"loss {seen.loss:.3g}; with the channels turned round {turned.loss:.3g}",
                f"a difference of {errors:.1f} standard errors; {CLEAR:g} are no chance",
                "images = images.flip(1)  # BGR to RGB, before the normalisation",
                3,
            )
        elif min(turned.loss, seen.loss) >= KNOWS * self.chance:
            self.unseen.append(
                "red and blue interchanged: only a net that has learned minds; from random weights "
                "either order trains alike"
            )

    # Signal and step ----------------------------------------------------------------------

    def _start_and_step(self, seen: _Seen) -> Iterator[Finding]:
        dead = {name: share for name, share in seen.dead.items() if share > DEAD}
        if not seen.dead:
            self._note("units that never fire: the net has no nn.ReLU among its modules")
        if dead:
            worst = max(dead, key=lambda name: dead[name])
            yield Finding(
                "dead units",
                "stops" if dead[worst] > 0.99 else "slows",
                f"{dead[worst]:.0%} of {worst} fire for no image; {len(dead)} of "
                f"{len(seen.dead)} ReLUs have more than {DEAD:.0%} of such",
                f"{DEAD:.0%}; a unit that never fires has no gradient and stays dead",
                'vgglib.initialise(net, "he")  # then a smaller rate: a step too large did it',
                4,
            )
            return
        trained = _has_learned(self.net) and _tells_apart(seen.scores, self.labels)
        large = seen.loss > SURE_AND_WRONG * self.chance or not math.isfinite(seen.loss)
        if trained and seen.loss > WORSE * self.chance:
            yield Finding(
                OTHER_LABELS,
                "stops",
                f"a trained net has the loss {seen.loss:.3g}",
                f"{WORSE:g} times that of guessing, {self.chance:.3g}: it is sure and wrong",
                "print(net.classes, labels[:8])  # are they the classes it was trained for?",
                3,
            )
        elif large:
            yield Finding(
                "start too large",
                "stops",
                f"loss {seen.loss:.3g} at the start; the scores' deviation is "
                f"{seen.scores.std().item():.3g}",
                f"{SURE_AND_WRONG:g} times the loss of guessing, ln {seen.scores.shape[1]} = "
                f"{self.chance:.3g}: the soft-max is sure of a random class",
                'vgglib.initialise(net, "xavier")  # or divide the pixels by their deviation',
                4,
            )
        else:
            yield from self._step(seen)

    def _step(self, seen: _Seen) -> Iterator[Finding]:
        if not seen.layers["trained"].any():
            return
        step, balance = seen.median("relative_step"), seen.median("gradient_over_decay")
        learned = seen.loss < KNOWS * self.chance
        if balance < BALANCES and not learned and not self.rates.adaptive:
            decay = "the decay's" if self.rates.decay else f"the weight times {STARVES:g}"
            yield Finding(
                "start too small",
                "stops" if balance < FADES else "slows",
                f"the gradient's step is {balance:.2g} of {decay}, the median of the layers; the "
                f"scores differ between images by {seen.scores.std(0).max().item():.2g}",
                f"{BALANCES:g}; below it weight decay shrinks the net faster than the gradient "
                f"builds it; between {FADES:g} and {BALANCES:g} it depends on the draw",
                'vgglib.initialise(net, "he")',
                4,
            )
            return
        wild = seen.after > SURE_AND_WRONG * max(seen.loss, self.chance)
        if wild or not math.isfinite(seen.after) or step > LEAPS:
            yield Finding(
                "learning rate too large",
                "stops",
                f"a trial step takes the loss from {seen.loss:.3g} to {seen.after:.3g}; it is "
                f"{step:.2g} of the weights, the median of the layers",
                f"the loss of the same batch has to fall, and a step of {LEAPS:g} leaves little of "
                "the weights",
                f"recipe = recipe.changed(lr={_rounded(self.rates.largest / 10)})",
                5,
            )
        elif step < CRAWLS and not learned:
            yield Finding(
                "learning rate too small",
                "slows",
                f"a step is {step:.2g} of the weights, the median of the layers",
                f"{CRAWLS:g}: with momentum 1,000 such steps move the weights by a hundredth",
                f"recipe = recipe.changed(lr={_rounded(self.rates.largest * 100)})",
                5,
            )

    def _dropout(self) -> Iterator[Finding]:
        strong = [
            (n, m.p)
            for n, m in self.net.named_modules()
            if isinstance(m, _DropoutNd) and m.p > DROPS
        ]
        if strong:
            name, p = max(strong, key=lambda one: one[1])
            yield Finding(
                "dropout too strong",
                "slows",
                f"{name} drops {p:.0%} of its units",
                f"{DROPS:.0%}; the paper drops 50 %",
                f"net.get_submodule({name!r}).p = 0.5",
                3,
            )

    def _note(self, text: str) -> None:
        if text not in self.unseen:
            self.unseen.append(text)


# Measuring --------------------------------------------------------------------------------


def _look(
    net: nn.Module, images: Tensor, labels: Tensor, rates: _Rates, trial: bool = True
) -> _Seen:
    """One pass through copies of what training would change; with a trial step also back."""
    state = weights, _ = _state(net)
    for weight in weights.values():
        weight.requires_grad_(weight.is_floating_point())
    own = {path: name for name, path in getattr(net, "layer_names", {}).items()}
    layers = {
        path: module
        for path, module in net.named_modules()
        if f"{path}.weight" in weights and weights[f"{path}.weight"].ndim > 1
    }
    spread: dict[str, float] = {}
    dead: dict[str, float] = {}

    def keep(path):
        return lambda module, inputs, output: spread.update({path: output.std().item()})

    def count(path):
        def hook(module, inputs, output):
            fires = (output > 0).flatten(2).any(2) if output.ndim > 2 else output > 0  # (N, C)
            again = sum(name.split(", call")[0] == path for name in dead)  # one module, two places
            dead[f"{path}, call {again + 1}" if again else path] = (
                1 - fires.any(0).float().mean().item()
            )

        return hook

    relus = {p: m for p, m in net.named_modules() if isinstance(m, (nn.ReLU, nn.ReLU6))}
    hooks = [module.register_forward_hook(keep(path)) for path, module in layers.items()]
    hooks += [module.register_forward_hook(count(own.get(p, p))) for p, module in relus.items()]
    try:
        with _as_in_training(net), torch.set_grad_enabled(trial):
            scores = functional_call(net, state, (images,)).float()
            each = F.cross_entropy(scores, labels, reduction="none")
            loss = each.mean()
    finally:
        for hook in hooks:
            hook.remove()
    scores, losses = scores.detach(), each.detach()
    if not trial:
        return _Seen(scores, losses, pd.DataFrame(columns=_LAYERS), dead, math.nan)
    which = [name for name, weight in weights.items() if weight.requires_grad]
    found = torch.autograd.grad(loss, [weights[n] for n in which], allow_unused=True)
    gradients = {
        n: torch.zeros_like(weights[n]) if g is None else g
        for n, g in zip(which, found, strict=True)
    }
    rows = []
    with torch.no_grad():
        for path in layers:
            name = f"{path}.weight"
            gradient, size = gradients[name], weights[name].norm().item() or math.nan
            rows.append(
                {
                    "layer": own.get(path, path),
                    "activation_std": spread.get(path, math.nan),
                    "gradient_over_decay": gradient.norm().item() / size / (rates.decay or STARVES),
                    "relative_step": rates.step(name, gradient).norm().item() / size,
                    "trained": rates.of[name] > 0,
                }
            )
        moved = {n: weights[n] - rates.step(n, gradients[n]) for n in which if rates.of[n] > 0}
        with _as_in_training(net):
            after = functional_call(net, (weights | moved, _state(net)[1]), (images,)).float()
        trial_loss = F.cross_entropy(after, labels).item()
    return _Seen(scores, losses, pd.DataFrame(rows, columns=_LAYERS), dead, trial_loss)


def _soft_max(scores: Tensor) -> Finding | None:
    """Does the net end with a soft-max?"""
    sums = scores.float().sum(1)
    if scores.min() < 0 or not torch.allclose(sums, torch.ones_like(sums), atol=1e-2):
        return None
    return Finding(
        "soft-max twice",
        "slows",
        "the net's output is not negative and sums to 1 in each row",
        "the loss applies the soft-max itself, and probabilities differ by 1 at most",
        "net = net[:-1]  # the net ends with its last linear layer",
        1,
    )


def _state(net: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights that know nothing of the net's gradients, and copies of its buffers."""
    weights = {name: weight.detach() for name, weight in net.named_parameters()}
    return weights, {name: value.clone() for name, value in net.named_buffers()}


@contextmanager
def _as_in_training(net: nn.Module) -> Iterator[None]:
    """Training mode but for dropout, whose masks are no matter of the net's; afterwards as before.

    A batch norm whose weights are frozen, as fine-tuning has it, stays as it is.
    """
    before = {module: module.training for module in net.modules()}
    try:
        for module in before:
            if isinstance(module, _DropoutNd):
                module.training = False
            elif not isinstance(module, _BatchNorm) or _adapts(module):
                module.training = True
        yield
    finally:
        for module, training in before.items():
            module.training = training


def _adapts(norm: _BatchNorm) -> bool:
    """Is a batch norm trained, or without weights that could be?"""
    return norm.weight is None or norm.weight.requires_grad


def _has_learned(net: nn.Module) -> bool:
    """Has somebody trained it, as far as it shows?"""
    norms = (m for m in net.modules() if isinstance(m, _BatchNorm))
    counts = (m.num_batches_tracked for m in norms if m.num_batches_tracked is not None)
    return getattr(net, "pixels", None) is not None or any(count > 0 for count in counts)


def _tells_apart(scores: Tensor, labels: Tensor) -> bool:
    """Do the net's answers differ between images about as much as the labels do?

    A trained net's do, whatever the labels; one that exploded gives nearly all images one class.
    """

    def entropy(classes: Tensor) -> float:
        shares = torch.bincount(classes.flatten()).float() / classes.numel()
        return -(shares * shares.clamp(min=1e-9).log()).sum().item()

    wanted = entropy(labels.argmax(1) if labels.ndim == 2 else labels)
    return wanted > 0 and entropy(scores.argmax(1)) > TELLS_APART * wanted


# What is given ----------------------------------------------------------------------------


def _rates(net: nn.Module, recipe: Recipe | torch.optim.Optimizer | None) -> _Rates:
    """Rate of each weight by its name, 0 for one that is not trained."""
    named = dict(net.named_parameters())
    if isinstance(recipe, torch.optim.Optimizer):
        group = recipe.param_groups[0]
        rate = {id(p): float(g["lr"]) for g in recipe.param_groups for p in g["params"]}
        decay = float(group.get("weight_decay", 0.0))
        adaptive = not isinstance(recipe, torch.optim.SGD)
    elif recipe is None or isinstance(recipe, Recipe):
        recipe = recipe or Recipe.paper()
        rate = {id(p): recipe.lr for p in named.values()}
        decay, adaptive = recipe.weight_decay, recipe.optimizer != "sgd"
    else:
        raise TypeError(
            "recipe is a vgglib.Recipe or a torch.optim.Optimizer, got "
            f"{type(recipe).__name__}; vgglib.Recipe.paper(lr=0.01) makes one"
        )
    return _Rates(
        {n: rate.get(id(p), 0.0) * p.requires_grad for n, p in named.items()}, decay, adaptive
    )


def _batch(
    net: nn.Module, data: Any, recipe: Any
) -> tuple[Tensor, Tensor, Pixels | None, tuple[Pixels, ...]]:
    """Images as the net gets them, their labels, and by which constants they may be normalised."""
    own = getattr(net, "pixels", None)
    if isinstance(data, ImageSet):
        names = tuple(map(str, range(int(data.labels.max()) + 1)))
        data = Data("images", data, None, names, "given")
    if isinstance(data, Data):
        likely = (Pixels(data.mean, data.std),)
        wanted = (recipe if isinstance(recipe, Recipe) else Recipe.paper()).normalisation(data)
        images, labels = _of_set(data, getattr(net, "image_size", None))
        return (own or Pixels(*wanted))(images), labels, None, likely
    pair = data
    if not (isinstance(data, (tuple, list)) and len(data) == 2 and isinstance(data[0], Tensor)):
        pair = next(iter(data), None) if isinstance(data, Iterable) else None
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise TypeError(
            "data is a set of vgglib.data, a pair (images, labels), or a DataLoader of such pairs; "
            f"got {type(data).__name__}"
            + ("" if pair is data or pair is None else f" of {type(pair).__name__}")
        )
    images, labels = (torch.as_tensor(one) for one in pair)
    if images.ndim != 4 or len(labels) != len(images) or labels.ndim not in (1, 2):
        raise ValueError(
            "a batch is images (N, C, H, W) and labels (N,), or shares of the classes (N, K); got "
            f"{tuple(images.shape)} and {tuple(labels.shape)}; a DataLoader makes batches"
        )
    count = _how_many(images.shape[-2:])
    images, labels = images[:count], labels[:count]
    if len(images) < 2:
        raise ValueError(f"diagnose needs at least 2 images, better 64; got {len(images)}")
    labels = labels.long() if labels.ndim == 1 else labels.float()
    if images.is_floating_point():
        return images, labels, own, ()
    return (own(images) if own else images.float()), labels, None, ()


def _of_set(data: Data, side: int | None) -> tuple[Tensor, Tensor]:
    """Pixels of 0–255 and labels of some images of the training set, always the same ones."""
    memory = data.train if isinstance(data.train, ImageSet) else None
    side = side or (memory.images.shape[-1] if memory else 224)
    # Drawn, for labels may follow a pattern.
    mixed = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    chosen = mixed[: _how_many((side, side))].tolist()
    crop = centre_crop(round(side * 256 / 224), side)
    if memory:
        few = memory[chosen]
        fits = few.images.shape[-2:] == (side, side)
        return few.images if fits else torch.stack([crop(i) for i in few.images]), few.labels
    read = [read_image(data.train, index) for index in chosen]
    images = torch.stack([crop(image) for image, _ in read])
    return images, torch.tensor([label for _, label in read])


def _how_many(sides) -> int:
    return max(8, min(MOST_IMAGES, MOST_PIXELS // math.prod(sides)))


def _listed(values: Tensor) -> str:
    return "(" + ", ".join(f"{value:.3g}" for value in values.tolist()) + ")"


def _rounded(rate: float) -> str:
    return f"{rate:.1g}"
