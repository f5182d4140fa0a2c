"""Is a deep net better for having begun as a shallow one? §3.1's purpose (chapter 4).

Net A is trained properly first. Then D goes on from A's layers, the others drawn from N(0, σ²), and
beside it D is trained from N(0, σ²) alone, from Xavier's start, from He's, and from He's with batch
norm: each for as many multiply-adds as A and D from A have cost together. A quarter of the width,
all of CIFAR-10, §3.1's rate divided by ten at fixed epochs. Each start gets the pixels for which it
is made: those of 0-255 the paper's and Xavier's, divided by their deviation He's (chapter 4).

A start that has not left the loss of guessing after a quarter of its epochs is given up.
"""

import functools
import math

import torch
from record import RUNS, Job, Plan, alone, flops, noted, trained

import vgglib
from vgglib import Recipe

WIDTH, EPOCHS, SEEDS = 0.25, 24, 3
STD = 0.03  # from which A starts with pixels of 0-255, and D does not (pre_init_pixels)
CHANCE = math.log(10)


@functools.cache
def cifar10():
    return vgglib.data.load("cifar10")


def built(name, seed, scheme, batch_norm=False):
    torch.manual_seed(seed)
    options = dict(num_classes=10, image_size=32, width=WIDTH, init=None, batch_norm=batch_norm)
    net = vgglib.vgg(name, dropout=0.0, **options)
    return vgglib.initialise(net, scheme, std=STD)


def recipe(seed, epochs, scheme):
    """The rate falls by ten after a half, three quarters and nine tenths of the epochs."""
    pixels = "mean-std" if scheme == "he" else "mean"
    milestones = tuple(round(share * epochs) for share in (0.5, 0.75, 0.9))
    schedule = {"schedule": "step", "milestones": milestones}
    return Recipe.small(
        epochs=epochs, lr=0.01, batch_size=64, normalise=pixels, seed=seed, **schedule
    )


def hopeless(epochs):
    """Asks after each epoch: still guessing after a quarter of them?"""
    return lambda row: row["epoch"] >= epochs / 4 and row["train_loss"] > CHANCE - 0.005


def first_a(seed):
    """A, trained; and what came out."""
    net, folder = built("A", seed, "normal"), RUNS / "from_a" / f"donor-{seed}"
    with alone(folder):
        outcome = trained(net, cifar10(), recipe(seed, EPOCHS, "normal"), folder)
    return net, outcome


def from_a(seed, folder):
    net = built("D", seed, "normal")
    vgglib.pre_initialise(net, first_a(seed)[0])
    return trained(net, cifar10(), recipe(seed, EPOCHS, "normal"), folder, [hopeless(EPOCHS)])


def from_scratch(seed, scheme, batch_norm, epochs, folder):
    net = built("D", seed, scheme, batch_norm)
    return trained(net, cifar10(), recipe(seed, epochs, scheme), folder, [hopeless(epochs)])


def plans():
    cost_a, cost_d = (flops(built(name, 0, "he"), 50_000, EPOCHS) for name in "AD")
    epochs = round(EPOCHS * (cost_a + cost_d) / cost_d)
    whole = Job.guess(cost_a + cost_d)
    runs = {
        "A, random": (lambda seed, _: first_a(seed)[1], Job.guess(cost_a)),
        "D, from A": (from_a, Job.guess(cost_d)),
        "D, random": (lambda s, f: from_scratch(s, "normal", False, epochs, f), whole / 4),
        "D, Xavier": (lambda s, f: from_scratch(s, "xavier", False, epochs, f), whole),
        "D, He": (lambda s, f: from_scratch(s, "he", False, epochs, f), whole),
        "D, He, batch norm": (lambda s, f: from_scratch(s, "he", True, epochs, f), whole),
    }
    jobs = [
        Job(label, seed, functools.partial(run, seed), "", minutes)
        for seed in range(SEEDS)
        for label, (run, minutes) in runs.items()
    ]
    settings = {
        "images": 50_000,
        "width": WIDTH,
        "epochs": EPOCHS,
        "epochs from scratch": epochs,
        "recipe": noted(recipe(0, EPOCHS, "normal")),
        "recipe from He": noted(recipe(0, epochs, "he")),
        "σ": STD,
        "data": "cifar10",
    }
    return [Plan("from_a", settings, jobs)]
