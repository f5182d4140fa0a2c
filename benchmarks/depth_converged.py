"""Does depth help once the nets have converged? Table 3's depth line at length (chapter 2).

The nets of Table 1, B with each pair of 3×3 convolutions replaced by one 5×5 (§4.1), and a net A
so much wider that it costs as many multiply-adds as D, which tells depth from compute. A quarter
of the paper's width, all 50,000 training images of CIFAR-10, flips and crops of padded images;
training and test accuracy after every epoch; with batch norm and without. No dropout: with batch
norm it is not used, and without it would hide how far a net has come.

One rate is not right for all depths. Each net gets the best of three, found on 5,000 training
images that are held out, in a short training of its own (the record ``depth_rates``).

C against D asks what *spatial context* is worth, and at 32 pixels the last stage of either net sees
a map of 2×2. So both are also trained, narrower, without the first pool: there it sees 4×4.
"""

import dataclasses
import functools

import torch
from record import Job, Plan, noted, trained

import vgglib
from vgglib import CONFIGS, Config, Conv, Recipe

WIDTH = 0.25
EPOCHS = {True: 24, False: 40}  # with batch norm, without
RATES = {True: (0.05, 0.1, 0.2), False: (0.01, 0.02, 0.05)}
SEARCH_EPOCHS, HELD_OUT = 4, 0.1
SEEDS = 3


@dataclasses.dataclass(frozen=True)
class Net:
    """One net of the comparison."""

    label: str
    config: Config
    batch_norm: bool
    width: float = WIDTH

    def built(self, seed):
        torch.manual_seed(seed)
        options = dict(num_classes=10, image_size=32, width=self.width, init="he", dropout=0.0)
        return vgglib.vgg(self.config, batch_norm=self.batch_norm, **options)

    @functools.cached_property
    def macs(self):
        with torch.device("meta"):
            options = dict(num_classes=10, image_size=32, width=self.width, init=None)
            return int(vgglib.anatomy(vgglib.vgg(self.config, **options)).macs.sum())


def with_5x5(config):
    """§4.1: every stage of two 3×3 convolutions becomes one 5×5 convolution."""
    stages = tuple((Conv(stage[-1].channels, kernel=5),) for stage in config.stages)
    return Config(f"{config.name}-5x5", stages)


def without_first_pool(config):
    """The first two stages become one."""
    first, second, *rest = config.stages
    return Config(f"{config.name}, 4 pools", (first + second, *rest))


@functools.cache
def nets():
    """All nets, by the comparison that they belong to."""
    wide = min(
        (Net("A, wide", CONFIGS["A"], True, step / 256) for step in range(64, 129)),
        key=lambda net: abs(net.macs - Net("D", CONFIGS["D"], True).macs),
    ).width
    chosen = {
        "depth": [(name, CONFIGS[name], WIDTH) for name in "ABDE"],
        "controls": [
            ("C", CONFIGS["C"], WIDTH),
            ("B-5x5", with_5x5(CONFIGS["B"]), WIDTH),
            ("A, wide", CONFIGS["A"], wide),
            ("A-LRN", CONFIGS["A-LRN"], WIDTH),
        ],
    }
    found = {
        f"{part}{' + batch norm' * norm}": [
            Net(f"{label}{' + batch norm' * norm}", config, norm, width)
            for label, config, width in rows
        ]
        for norm in (True, False)
        for part, rows in chosen.items()
    }
    found["controls + batch norm"] += [
        Net(f"{name}, 4 pools + batch norm", without_first_pool(CONFIGS[name]), True, WIDTH / 2)
        for name in "CD"
    ]
    return found


@functools.cache
def cifar10():
    return vgglib.data.load("cifar10")


def search(net, rate, folder):
    """Accuracy on held-out training images after a short training at one rate."""
    recipe = Recipe.small(epochs=SEARCH_EPOCHS, lr=rate, holdout=HELD_OUT)
    history = vgglib.train(net.built(0), cifar10(), recipe, out=folder, resume=True, progress=False)
    # A rate at which the loss stops being finite is none, whatever the net could do before.
    lost = "finite" in history.attrs["stopped"]
    return {"held_out_accuracy": 0.0 if lost else float(history.val_accuracy.iloc[-1])}


def rate_label(net, rate):
    return f"{net.label}, lr {rate}"


def plans():
    settings = {
        "images": 50_000,
        "width": WIDTH,
        "data": "cifar10",
        "recipe": noted(Recipe.small()),
    }
    searched = {"epochs": SEARCH_EPOCHS, "held out": HELD_OUT, **settings}
    every = {net.label: (part, net) for part, found in nets().items() for net in found}
    minutes = {
        label: Job.guess(6 * net.macs * 50_000 * EPOCHS[net.batch_norm])
        for label, (_, net) in every.items()
    }
    rates = Plan(
        "depth_rates",
        searched,
        [
            Job(
                rate_label(net, rate),
                0,
                lambda folder, n=net, r=rate: search(n, r, folder),
                part,
                minutes[label] * SEARCH_EPOCHS / EPOCHS[net.batch_norm],
            )
            for label, (part, net) in every.items()
            for rate in RATES[net.batch_norm]
        ],
    )

    def rate_of(net):
        """The best of the three, or None as long as one of them is missing."""
        found = {run["label"]: run["held_out_accuracy"] for run in rates.recorded()["runs"]}
        tried = [(found.get(rate_label(net, rate)), rate) for rate in RATES[net.batch_norm]]
        return None if any(value is None for value, _ in tried) else max(tried)[1]

    def run(net, seed, folder):
        rate = rate_of(net)
        recipe = Recipe.small(epochs=EPOCHS[net.batch_norm], lr=rate, seed=seed)
        return {"lr": rate, **trained(net.built(seed), cifar10(), recipe, folder)}

    jobs = [
        Job(
            label,
            seed,
            lambda folder, n=net, s=seed: run(n, s, folder),
            part,
            minutes[label],
            lambda n=net: rate_of(n) is not None,
        )
        for seed in range(SEEDS)
        for label, (part, net) in every.items()
    ]
    settings["rates"] = {"with batch norm": RATES[True], "without": RATES[False]}
    epochs = {"epochs": EPOCHS[True], "epochs without batch norm": EPOCHS[False]}
    return [rates, Plan("depth_converged", {**epochs, **settings}, jobs)]
