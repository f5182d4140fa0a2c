"""Which causes are found, in the order in which one explains the next?

A cause has effects: unnormalised images blow up the signal. So what follows from a finding is none
of its own: signal and step are measured as they would be with the images mended and batch norm at
work.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from ..pixels import Pixels
from .findings import Finding
from .limits import (
    BALANCES,
    CLEAR,
    CRAWLS,
    DEAD,
    DROPS,
    FADES,
    KNOWS,
    LEAPS,
    STARVES,
    SURE_AND_WRONG,
    TELLS_APART,
    WORSE,
)  # fmt: skip
from .passes import Rates, Seen, adapts, as_in_training, look, state_of
from .prepared import preparation

OTHER_LABELS = "labels of other images"
_CAUSES = {
    "unknown": "not centred",
    "wrong range": "in the wrong range",
    "other constants": "normalised otherwise",
}


@dataclass
class Case:
    """A net, its batch, and the checks in the order in which one explains the next."""

    net: nn.Module
    images: Tensor
    labels: Tensor
    rates: Rates
    own: Pixels | None  # that prepared images have to be of
    likely: tuple[Pixels, ...]
    seen: Seen | None = None
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
        with as_in_training(self.net), torch.no_grad():
            scores = functional_call(self.net, state_of(self.net), (self.images,))
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
        self.seen = look(self.net, mended, self.labels, self.rates)
        troubles = list(self._start_and_step(self.seen))
        if finding:
            given = self._start_and_step(look(self.net, self.images, self.labels, self.rates))
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
        norms = [m for m in self.net.modules() if isinstance(m, _BatchNorm) and adapts(m)]
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
        turned = look(self.net, images.flip(1), self.labels, self.rates, trial=False)
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

    def _start_and_step(self, seen: Seen) -> Iterator[Finding]:
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

    def _step(self, seen: Seen) -> Iterator[Finding]:
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


def _listed(values: Tensor) -> str:
    return "(" + ", ".join(f"{value:.3g}" for value in values.tolist()) + ")"


def _rounded(rate: float) -> str:
    return f"{rate:.1g}"
